//! `.longshore/outputs.jsonl` in log-path: who wrote which output under which settings, from which place, and where in
//! the source a container began. What a lost store can't tell stands here; append-only, one JSON object a line.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Shapes, is_below};
use crate::config::limits::JOURNAL_BYTES_MAX;
use crate::shape::Shape;
use crate::sink::Place;
use crate::sys::{Create, Os};
use crate::tail::Fingerprint;

/// The directory of ours below log-path.
pub const DIRECTORY: &str = ".longshore";
const FILE: &str = "outputs.jsonl";
/// The shorter one, until it takes the place of the long one.
const SHORTENED: &str = "outputs.jsonl.new";
/// More than this is never read.
const READ_BYTES_MAX: u64 = 16 * JOURNAL_BYTES_MAX;

/// A container begins, or goes on under other settings, at a place of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub id: String,
    pub name: String,
    pub route: String,
    pub place: Place,
    pub shape: Arc<Shape>,
    /// Where the container's log was first read from; `None`: its beginning.
    pub began: Option<Began>,
    /// Labels that say how its rotated outputs are kept, for when the container is gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keeping: BTreeMap<String, String>,
    /// Which line of the journal it is: of those that begin at one place, the later one had it.
    #[serde(skip)]
    pub line: usize,
}

/// The first position of a container that did not begin at the beginning: `--from end`, or it came from another output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    pub head: Option<Fingerprint>,
    pub offset: u64,
    /// The bytes before `offset`.
    #[serde(default)]
    pub tail: Option<Fingerprint>,
}

/// What the journal of a log-path tells, by container id: its notes in order.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub notes: HashMap<String, Vec<Note>>,
    /// It is there and couldn't be read: an output may have been written that no note tells of.
    pub unread: bool,
}

pub fn path(log_path: &Path) -> PathBuf {
    log_path.join(DIRECTORY).join(FILE)
}

impl Journal {
    /// Reads it; lines that are no notes (a torn last one) are passed over.
    pub fn load<O: Os>(os: &O, log_path: &Path) -> io::Result<Journal> {
        let (mut journal, mut shapes) = (Journal::default(), Shapes::default());
        let file = match os.open(&path(log_path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
            Err(error) => return Err(error),
        };
        // The newest notes count: of a file that is far too long, its end.
        let size = os.stat_open(&file)?.size;
        let start = size.saturating_sub(READ_BYTES_MAX);
        let mut bytes = vec![0; (size - start) as usize];
        let read = os.read_at(&file, start, &mut bytes)?;
        if read < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does"));
        }
        for (ix, line) in bytes[..read].split(|byte| *byte == b'\n').enumerate() {
            if let Ok(mut note) = serde_json::from_slice::<Note>(line)
                && is_below(&note.route)
            {
                note.line = ix;
                note.shape = shapes.share(note.shape);
                // Most containers have one.
                journal.notes.entry(note.id.clone()).or_insert_with(|| Vec::with_capacity(1)).push(note);
            }
        }
        Ok(journal)
    }

    /// What `id` wrote to `route`, the latest note last.
    pub fn of(&self, id: &str, route: &str) -> Vec<&Note> {
        self.notes.get(id).into_iter().flatten().filter(|note| note.route == route).collect()
    }
}

/// Writes a journal that grew too long anew: every note of a container that `is_known`, and of the others the last one
/// of each output, which tells its segment numbers. To be called at start, before anything is appended.
pub fn shorten<O: Os>(os: &O, log_path: &Path, is_known: impl Fn(&str) -> bool) -> io::Result<()> {
    let (full, short) = (path(log_path), log_path.join(DIRECTORY).join(SHORTENED));
    match os.stat(&full) {
        Ok(stat) if stat.size <= JOURNAL_BYTES_MAX => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Cut off between the removal and the rename.
            return if os.stat(&short).is_ok() { os.rename_new(&short, &full) } else { Ok(()) };
        }
        Err(error) => return Err(error),
    }
    let mut kept = Vec::new();
    let mut of_routes: HashMap<String, Note> = HashMap::new();
    for note in Journal::load(os, log_path)?.notes.into_values().flatten() {
        if is_known(&note.id) {
            kept.push(note);
        } else if of_routes.get(&note.route).is_none_or(|other| other.place < note.place) {
            of_routes.insert(note.route.clone(), note);
        }
    }
    kept.extend(of_routes.into_values());
    kept.sort_by_cached_key(|note| note.line);
    match os.remove(&short) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    append_lines(os, &short, &kept)?;
    os.remove(&full)?;
    os.rename_new(&short, &full)?;
    os.sync_directory(&log_path.join(DIRECTORY))
}

/// Appends notes, on the disk when this returns.
pub fn append<O: Os>(os: &O, log_path: &Path, notes: &[Note]) -> io::Result<()> {
    let directory = log_path.join(DIRECTORY);
    os.create_directories(&directory)?;
    let size = append_lines(os, &directory.join(FILE), notes)?;
    if size == 0 {
        os.sync_directory(&directory)?;
        os.sync_directory(log_path)?;
    }
    Ok(())
}

/// Appends to a file, a JSON object a line, and syncs it. Gives the size it had.
pub(super) fn append_lines<O: Os>(os: &O, path: &Path, notes: &[impl Serialize]) -> io::Result<u64> {
    let file = os.open_output(path, 0o600, Create::IfMissing)?;
    let size = os.stat_open(&file)?.size;
    // A newline first: a line that a crash tore stays alone.
    let mut bytes = vec![b'\n'];
    for note in notes {
        serde_json::to_writer(&mut bytes, note).map_err(io::Error::other)?;
        bytes.push(b'\n');
    }
    let mut written = 0;
    while written < bytes.len() {
        written += os.write_at(&file, size + written as u64, &bytes[written..])?;
    }
    os.sync(&file)?;
    Ok(size)
}

#[cfg(test)]
mod tests;
