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
