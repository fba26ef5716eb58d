//! `.longshore/pruned.jsonl` in log-path: up to which segment retention removed each output's. Noted before they go, so
//! that a segment that somebody else removed isn't taken for one of them. Append-only, one JSON object a line.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::limits::JOURNAL_BYTES_MAX;
use crate::sink::journal::{DIRECTORY, append_lines};
use crate::sys::Os;

const FILE: &str = "pruned.jsonl";
/// The shorter one, until it takes the place of the long one.
const SHORTENED: &str = "pruned.jsonl.new";

#[derive(Serialize, Deserialize)]
struct Note {
    /// The output below log-path.
    route: String,
    /// No segment up to this one is kept.
    through: u64,
}

/// By output: the newest segment that retention removed, 0 for none; nothing when nobody noted it.
pub type Through = HashMap<String, u64>;

/// The notes of one log-path. Clones write together.
#[derive(Clone, Debug)]
pub struct Pruned {
    log_path: PathBuf,
    /// `None`: not read yet.
    known: Arc<Mutex<Option<Through>>>,
}

impl Pruned {
    pub fn new(log_path: &Path) -> Pruned {
        Pruned { log_path: log_path.to_owned(), known: Arc::default() }
    }

    /// An output whose oldest segment is this one and that no note tells of: all before it count as removed by retention.
    pub fn begin<O: Os>(&self, os: &O, current: &Path, oldest: u64) -> io::Result<()> {
        self.write(os, current, |known| known.is_none().then_some(oldest.saturating_sub(1)))
    }

    /// The segments up to this one are about to go.
    pub fn note<O: Os>(&self, os: &O, current: &Path, through: u64) -> io::Result<()> {
        self.write(os, current, |known| known.is_none_or(|known| known < through).then_some(through))
    }

    fn write<O: Os>(&self, os: &O, current: &Path, through: impl Fn(Option<u64>) -> Option<u64>) -> io::Result<()> {
        let Some(route) = current.strip_prefix(&self.log_path).ok().and_then(Path::to_str) else {
            return Ok(());
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *known {
            Some(known) => known,
            unread => unread.insert(load(os, &self.log_path)?),
        };
        let Some(through) = through(known.get(route).copied()) else {
            return Ok(());
        };
        let path = path(&self.log_path);
        let size = append_lines(os, &path, &[Note { route: route.to_owned(), through }])?;
        if size == 0 {
            os.sync_directory(&self.log_path.join(DIRECTORY))?;
        }
        known.insert(route.to_owned(), through);
        if size > JOURNAL_BYTES_MAX.max(256 * known.len() as u64) { shorten(os, &self.log_path, known) } else { Ok(()) }
    }
}

fn path(log_path: &Path) -> PathBuf {
    log_path.join(DIRECTORY).join(FILE)
}

/// Reads them; the last note of an output counts, and a torn one is passed over.
pub fn load<O: Os>(os: &O, log_path: &Path) -> io::Result<Through> {
    let mut through = Through::new();
    // A shortening that was cut off leaves the notes under the other name.
    for path in [log_path.join(DIRECTORY).join(SHORTENED), path(log_path)] {
        let file = match os.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(os.stat_open(&file)?.size.min(16 * JOURNAL_BYTES_MAX)).unwrap_or(0)];
        if os.read_at(&file, 0, &mut bytes)? < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does"));
        }
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(note) = serde_json::from_slice::<Note>(line) {
                let newest = through.entry(note.route).or_default();
                *newest = note.through.max(*newest);
            }
        }
    }
    Ok(through)
}

fn shorten<O: Os>(os: &O, log_path: &Path, known: &Through) -> io::Result<()> {
    let (full, short) = (path(log_path), log_path.join(DIRECTORY).join(SHORTENED));
    let notes: Vec<Note> =
        known.iter().map(|(route, through)| Note { route: route.clone(), through: *through }).collect();
    match os.remove(&short) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    append_lines(os, &short, &notes)?;
    os.sync_directory(&log_path.join(DIRECTORY))?;
    os.remove(&full)?;
    os.rename_new(&short, &full)?;
    os.sync_directory(&log_path.join(DIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::os::{Crash, Errno, Fault, FaultPlan, SimOs};
    use crate::sim::random::Random;
    use crate::sys::Create;
    use crate::sys::unix::Unix;

    #[test]
    fn the_newest_note_of_each_output_counts_in_every_life() {
        let place = tempfile::tempdir().unwrap();
        Unix.create_directories(&place.path().join(DIRECTORY)).unwrap();
        let (web, db) = (place.path().join("web/web.log"), place.path().join("db.log"));
        let pruned = Pruned::new(place.path());
        pruned.begin(&Unix, &web, 3).unwrap();
        pruned.begin(&Unix, &web, 9).unwrap();
        pruned.begin(&Unix, &db, 1).unwrap();
        assert_eq!(
            load(&Unix, place.path()).unwrap(),
            HashMap::from([("web/web.log".into(), 2), ("db.log".into(), 0)])
        );
        pruned.note(&Unix, &web, 7).unwrap();
        pruned.note(&Unix, &web, 5).unwrap();
        let later = Pruned::new(place.path());
        later.begin(&Unix, &web, 20).unwrap();
        assert_eq!(load(&Unix, place.path()).unwrap()["web/web.log"], 7);
    }

    #[test]
    fn a_long_file_is_shortened_and_a_torn_note_passed_over() {
        let place = tempfile::tempdir().unwrap();
        Unix.create_directories(&place.path().join(DIRECTORY)).unwrap();
        let web = place.path().join("web.log");
        let pruned = Pruned::new(place.path());
        let many: Vec<Note> =
            (1..JOURNAL_BYTES_MAX / 20).map(|through| Note { route: "web.log".into(), through }).collect();
        append_lines(&Unix, &path(place.path()), &many).unwrap();
        let newest = many.len() as u64 + 1;
        pruned.note(&Unix, &web, newest).unwrap();
        let file = Unix.open_output(&path(place.path()), 0o600, Create::Never).unwrap();
        assert!(Unix.stat_open(&file).unwrap().size < 100);
        assert_eq!(load(&Unix, place.path()).unwrap()["web.log"], newest);
        pruned.note(&Unix, &web, newest + 1).unwrap();
        Unix.truncate(&file, Unix.stat_open(&file).unwrap().size - 3).unwrap();
        assert_eq!(load(&Unix, place.path()).unwrap()["web.log"], newest);
    }

    fn disk() -> (SimOs, PathBuf) {
        let os = SimOs::new(1);
        os.engine_mkdir(Path::new("/out").join(DIRECTORY)).unwrap();
        os.settle("/");
        (os, PathBuf::from("/out"))
    }

    #[test]
    fn a_note_is_on_the_disk_when_it_is_written_and_written_once() {
        for seed in 0..8 {
            let (os, log_path) = disk();
            let pruned = Pruned::new(&log_path);
            pruned.note(&os, &log_path.join("web.log"), 7).unwrap();
            let size = os.stat(&path(&log_path)).unwrap().size;
            pruned.note(&os, &log_path.join("web.log"), 7).unwrap();
            assert_eq!(os.stat(&path(&log_path)).unwrap().size, size);
            os.crash(Crash::Power, &mut Random::new(seed));
            assert_eq!(load(&os.restart(), &log_path).unwrap()["web.log"], 7);
        }
    }

    #[test]
    fn whatever_fails_is_told_and_loses_no_note() {
        for call in 0.. {
            let (os, log_path) = disk();
            let web = log_path.join("web.log");
            Pruned::new(&log_path).note(&os, &web, 5).unwrap();
            let file = os.engine_open(path(&log_path)).unwrap();
            os.engine_append(&file, &vec![b'x'; JOURNAL_BYTES_MAX as usize]);
            os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
            let noted = Pruned::new(&log_path).note(&os, &web, 9);
            let n_calls = os.calls().len() as u64;
            os.disarm();
            let through = load(&os, &log_path).unwrap()["web.log"];
            if call >= n_calls {
                assert_eq!((noted.unwrap(), through), ((), 9));
                return;
            }
            assert!(noted.is_err() && through >= 5, "call {call} of {n_calls}: {noted:?}, {through}");
        }
    }

    #[test]
    fn a_file_that_can_t_be_read_whole_is_no_empty_one() {
        let (os, log_path) = disk();
        Pruned::new(&log_path).note(&os, &log_path.join("web.log"), 5).unwrap();
        let unread = |call: u64, fault: Fault| {
            os.arm(FaultPlan::at(call, fault));
            load(&os, &log_path).is_err()
        };
        // Calls: open of the shorter one, open, stat, read.
        assert!((0..4).all(|call| unread(call, Fault::Errno(Errno::Io))));
        assert!(unread(3, Fault::ShortRead(9)));
    }
}
