//! `.longshore/outputs.jsonl` in log-path: who wrote which output under which settings, from which place, and where in
//! the source a container began. What a lost store can't tell stands here; append-only, one JSON object a line.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Shape;
use crate::config::limits::JOURNAL_BYTES_MAX;
use crate::sink::Place;
use crate::sys::{Create, Os};
use crate::tail::Fingerprint;

/// The directory of ours below log-path.
pub const DIRECTORY: &str = ".longshore";
const FILE: &str = "outputs.jsonl";

/// A container begins, or goes on under other settings, at a place of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub id: String,
    pub name: String,
    pub route: String,
    pub place: Place,
    pub shape: Shape,
    /// Where the container's log was first read from; `None`: its beginning.
    pub began: Option<Began>,
}

/// The first position of a container that did not begin at the beginning (`--from end`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    pub head: Option<Fingerprint>,
    pub offset: u64,
}

/// What the journal of a log-path tells, by container id: its notes in order.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub notes: HashMap<String, Vec<Note>>,
}

pub fn path(log_path: &Path) -> PathBuf {
    log_path.join(DIRECTORY).join(FILE)
}

impl Journal {
    /// Reads it; lines that are no notes (a torn last one) are passed over.
    pub fn load<O: Os>(os: &O, log_path: &Path) -> io::Result<Journal> {
        let mut journal = Journal::default();
        let file = match os.open(&path(log_path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
            Err(error) => return Err(error),
        };
        let size = os.stat_open(&file)?.size.min(2 * JOURNAL_BYTES_MAX);
        let mut bytes = vec![0; size as usize];
        let read = os.read_at(&file, 0, &mut bytes)?;
        for line in bytes[..read].split(|byte| *byte == b'\n') {
            if let Ok(note) = serde_json::from_slice::<Note>(line) {
                journal.notes.entry(note.id.clone()).or_default().push(note);
            }
        }
        Ok(journal)
    }

    /// What `id` wrote to `route`, the latest note last.
    pub fn of(&self, id: &str, route: &str) -> Vec<&Note> {
        self.notes.get(id).into_iter().flatten().filter(|note| note.route == route).collect()
    }
}

/// Appends notes, on the disk when this returns.
pub fn append<O: Os>(os: &O, log_path: &Path, notes: &[Note]) -> io::Result<()> {
    let directory = log_path.join(DIRECTORY);
    os.create_directories(&directory)?;
    let file = os.open_output(&directory.join(FILE), 0o600, Create::IfMissing)?;
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
    if size == 0 {
        os.sync_directory(&directory)?;
        os.sync_directory(log_path)?;
    }
    Ok(())
}
