//! Ends the current segment of an output: its bytes on the disk, its number, a new current file, the directory on the
//! disk. May be run again after it failed half way.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::commit::CommitError;
use crate::sink::rolling::{Form, Segments, segment_path};
use crate::sys::{Create, FileId, Os};

pub struct Rotate<O: Os> {
    pub file: O::File,
    pub id: FileId,
    /// The current file's path.
    pub path: PathBuf,
    /// The number the finished segment gets.
    pub number: u64,
    pub mode: u32,
}

/// The new current file, empty.
pub struct Rotated<O: Os> {
    pub file: O::File,
    pub id: FileId,
    pub number: u64,
}

impl<O: Os> Rotate<O> {
    pub fn run(self, os: &O) -> Result<Rotated<O>, CommitError> {
        let directory = self.path.parent().expect("an output lies in a directory").to_owned();
        os.sync(&self.file)?;
        match os.stat(&self.path) {
            Ok(stat) if stat.id == self.id => self.rename(os)?,
            Ok(_) => {} // Renamed by an earlier try, or somebody put another file there: that one goes on being current.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let file = os.open_output(&self.path, self.mode, Create::IfMissing)?;
        let id = os.stat_open(&file)?.id;
        os.sync_directory(&directory)?;
        Ok(Rotated { file, id, number: self.number })
    }

    fn rename(&self, os: &O) -> Result<(), CommitError> {
        let directory = self.path.parent().expect("an output lies in a directory");
        let stem = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let segments = Segments::among(stem, &os.list(directory)?);
        if segments.forms.contains_key(&self.number) {
            return Err(CommitError::NumberTaken(segments.newest().unwrap_or(0).max(self.number) + 1));
        }
        match os.rename_new(&self.path, &segment_path(&self.path, self.number, Form::Plain)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CommitError::NumberTaken(self.number + 1))
            }
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::sim::os::{Errno, Fault, FaultPlan, SimOs};

    /// The machine, and what ends a current file that holds `now`, beside others.
    fn output(name: &[u8], others: &[&str]) -> (SimOs, impl Fn(u64) -> Rotate<SimOs>) {
        let os = SimOs::new(1);
        os.engine_mkdir("/out").unwrap();
        let path = PathBuf::from("/out").join(OsStr::from_bytes(name));
        os.engine_write_whole(&path, b"now\n").unwrap();
        for suffix in others {
            let mut other = path.clone().into_os_string();
            other.push(suffix);
            os.engine_write_whole(PathBuf::from(other), b"older\n").unwrap();
        }
        let file = os.open_output(&path, 0o640, Create::Never).unwrap();
        let id = os.stat_open(&file).unwrap().id;
        let rotate = move |number| Rotate { file: file.clone(), id, path: path.clone(), number, mode: 0o640 };
        (os, rotate)
    }

    fn taken(result: Result<Rotated<SimOs>, CommitError>) -> Option<u64> {
        match result {
            Err(CommitError::NumberTaken(free)) => Some(free),
            _ => None,
        }
    }

    #[test]
    fn a_finished_segment_gets_its_number_and_a_second_try_changes_nothing() {
        let (os, rotate) = output(b"web.log", &[".1"]);
        let rotated = rotate(2).run(&os).ok().unwrap();
        assert_eq!(os.engine_read("/out/web.log.2").unwrap(), b"now\n");
        assert_eq!(os.engine_read("/out/web.log").unwrap(), b"");
        assert_eq!((rotated.number, rotated.id), (2, os.stat("/out/web.log".as_ref()).unwrap().id));
        let again = rotate(2).run(&os).ok().unwrap();
        assert_eq!(again.id, rotated.id);
        assert_eq!(os.engine_read("/out/web.log.2").unwrap(), b"now\n");
    }

    #[test]
    fn what_somebody_else_put_there_stays_and_what_was_removed_is_made_again() {
        let (os, rotate) = output(b"web.log", &[]);
        os.engine_rename("/out/web.log", "/out/moved").unwrap();
        os.engine_write_whole("/out/web.log", b"theirs\n").unwrap();
        rotate(1).run(&os).ok().unwrap();
        assert_eq!(os.engine_read("/out/web.log").unwrap(), b"theirs\n");
        assert!(!os.engine_exists("/out/web.log.1"));
        os.engine_unlink("/out/web.log").unwrap();
        rotate(1).run(&os).ok().unwrap();
        assert_eq!(os.engine_read("/out/web.log").unwrap(), b"");
    }

    #[test]
    fn an_output_that_can_t_be_looked_at_is_not_rotated() {
        for call in 0..7 {
            let (os, rotate) = output(b"web.log", &[]);
            os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
            let result = rotate(1).run(&os);
            assert!(matches!(result, Err(CommitError::Output(_))), "call {call}");
            os.disarm();
            assert!(rotate(1).run(&os).is_ok(), "another try after call {call}");
            assert_eq!(os.engine_read("/out/web.log.1").unwrap(), b"now\n");
        }
    }

    #[test]
    fn a_number_that_is_taken_is_answered_with_one_that_is_free() {
        let (os, rotate) = output(b"web.log", &[".1", ".5.gz"]);
        assert_eq!(taken(rotate(1).run(&os)), Some(6));
        assert_eq!(taken(rotate(5).run(&os)), Some(6));
        assert_eq!(os.engine_read("/out/web.log").unwrap(), b"now\n");
        // No listing shows the numbers of such a name; the rename finds out.
        let (os, rotate) = output(b"\xff.log", &[".2"]);
        assert_eq!(taken(rotate(2).run(&os)), Some(3));
        assert!(rotate(3).run(&os).is_ok());
    }
}
