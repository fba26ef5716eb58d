//! The current file of one output: opened with its first line, appended to at a known place, watched for what others
//! do to it.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::commit::Sync;
use crate::sink::Place;
use crate::sink::rolling::Segments;
use crate::sink::rotate::{Rotate, Rotated};
use crate::sys::{Create, FileId, Os};

/// What somebody else did to the output since we last wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// It was removed or replaced; a new file goes on in its place.
    Removed,
    /// It is shorter than what we wrote.
    Shortened { bytes: u64 },
    /// Somebody appends to it as well.
    Lengthened { bytes: u64 },
}

pub struct Output<O: Os> {
    /// The path of the current file.
    path: PathBuf,
    mode: u32,
    /// Bytes; a line that would exceed it goes into the next segment.
    limit: u64,
    current: Option<(O::File, FileId)>,
    /// Where the next byte goes.
    place: Place,
    /// Written since it was last on the disk.
    unsynced: bool,
    /// The current file's name is on the disk.
    named: bool,
    /// What somebody did and wasn't told yet, because a new file couldn't be made then.
    untold: Option<Meddling>,
}

impl<O: Os> Output<O> {
    /// Finds where an output ends. Numbering goes on above `segment_min`, also when all rotated files are gone.
    pub fn find(os: &O, path: &Path, mode: u32, limit: u64, segment_min: u64) -> io::Result<Output<O>> {
        let directory = path.parent().expect("an output lies in a directory");
        let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = match os.list(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let newest = Segments::among(stem, &names).newest().unwrap_or(0);
        let mut output = Output::unopened(path, mode, limit);
        output.place.segment = segment_min.max(newest + 1);
        match os.open_output(path, mode, Create::Never) {
            Ok(file) => {
                let stat = os.stat_open(&file)?;
                output.current = Some((file, stat.id));
                output.place.offset = stat.size;
                output.unsynced = true;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(output)
    }

    /// An output that nobody looked for.
    pub fn unopened(path: &Path, mode: u32, limit: u64) -> Output<O> {
        Output {
            path: path.to_owned(),
            mode,
            limit,
            current: None,
            place: Place { segment: 1, offset: 0 },
            unsynced: false,
            named: false,
            untold: None,
        }
    }

    /// From now on; what is longer already is ended before the next line.
    pub fn set_limit(&mut self, limit: u64, mode: u32) {
        self.limit = limit;
        self.mode = mode;
    }

    /// Bytes that still go into the current segment.
    pub fn room(&self) -> u64 {
        self.limit.saturating_sub(self.place.offset)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn file(&self) -> Option<&O::File> {
        self.current.as_ref().map(|(file, _)| file)
    }

    /// Whether the last line of the current file has no newline.
    pub fn ends_torn(&self, os: &O) -> io::Result<bool> {
        let (Some(file), Some(last)) = (self.file(), self.place.offset.checked_sub(1)) else {
            return Ok(false);
        };
        let mut byte = [b'\n'];
        os.read_at(file, last, &mut byte)?;
        Ok(byte != [b'\n'])
    }

    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// What makes everything up to here durable.
    pub fn sync(&self) -> Sync<O> {
        let directory = if self.named { None } else { self.path.parent().map(Path::to_owned) };
        Sync { file: self.file().cloned(), path: self.path.clone(), directory }
    }

    /// A sync is through. `all`: nothing was written since it was asked for.
    pub fn set_synced(&mut self, all: bool) {
        self.named = true;
        self.unsynced &= !all;
    }

    /// How many bytes of whole lines, whose ends are `line_ends`, still go into the current segment: a line that would
    /// exceed the limit starts the next one, and a longer single line is written whole.
    pub fn fitting(&self, line_ends: &[usize]) -> usize {
        let room = self.room();
        let n_fit = line_ends.partition_point(|end| *end as u64 <= room);
        match (n_fit, line_ends.first()) {
            // A newline alone may end a torn line, and belongs behind that.
            (0, Some(first)) if self.place.offset == 0 || *first == 1 => *first,
            (0, _) => 0,
            (n_fit, _) => line_ends[n_fit - 1],
        }
    }

    /// Looks whether somebody touched the file; what it says is in force afterwards. Creates it if needed.
    pub fn prepare(&mut self, os: &O) -> io::Result<Option<Meddling>> {
        self.untold = self.check(os)?.or(self.untold.take());
        if self.current.is_none() {
            let directory = self.path.parent().expect("an output lies in a directory");
            let n_made = missing_directories(os, directory);
            os.create_directories(directory)?;
            let file = os.open_output(&self.path, self.mode, Create::IfMissing)?;
            let stat = os.stat_open(&file)?;
            // Its entry, and those of the directories that were made for it: a name must not vanish with the power.
            for directory in directory.ancestors().take(1 + n_made) {
                os.sync_directory(directory)?;
            }
            self.place.offset = stat.size;
            self.current = Some((file, stat.id));
        }
        Ok(self.untold.take())
    }

    /// Whether the file still stands under its name; if not, it is let go. To be asked now and then: a moved file can't
    /// be told by its descriptor.
    pub fn check_name(&mut self, os: &O) -> io::Result<Option<Meddling>> {
        let Some((_, id)) = &self.current else {
            return Ok(None);
        };
        match os.stat(&self.path) {
            Ok(stat) if stat.id == *id => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.current = None;
        self.place.offset = 0;
        Ok(Some(Meddling::Removed))
    }

    fn check(&mut self, os: &O) -> io::Result<Option<Meddling>> {
        let Some((file, _)) = &self.current else {
            return Ok(None);
        };
        let stat = os.stat_open(file)?;
        if stat.links == 0 {
            self.current = None;
            self.place.offset = 0;
            return Ok(Some(Meddling::Removed));
        }
        let expected = self.place.offset;
        if stat.size < expected {
            self.place.offset = stat.size;
            return Ok(Some(Meddling::Shortened { bytes: expected - stat.size }));
        }
        if stat.size > expected {
            self.place.offset = stat.size;
            return Ok(Some(Meddling::Lengthened { bytes: stat.size - expected }));
        }
        Ok(None)
    }

    /// Appends as much as the disk takes. Gives the bytes written, and why it stopped.
    pub fn append(&mut self, os: &O, bytes: &[u8]) -> (usize, io::Result<()>) {
        let (file, _) = self.current.as_ref().expect("prepared before");
        let mut written = 0;
        let mut result = Ok(());
        while written < bytes.len() {
            match os.write_at(file, self.place.offset, &bytes[written..]) {
                Ok(n_bytes) => {
                    written += n_bytes;
                    self.place.offset += n_bytes as u64;
                    self.unsynced = true;
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        (written, result)
    }

    /// What ends the current segment; `None` when there is no file yet.
    pub fn rotate(&self) -> Option<Rotate<O>> {
        let (file, id) = self.current.as_ref()?;
        Some(Rotate {
            file: file.clone(),
            id: *id,
            path: self.path.clone(),
            number: self.place.segment,
            mode: self.mode,
        })
    }

    pub fn rotated(&mut self, rotated: Rotated<O>) {
        self.current = Some((rotated.file, rotated.id));
        self.place = Place { segment: rotated.number + 1, offset: 0 };
        self.unsynced = false;
        self.named = true;
    }

    pub fn renumber(&mut self, segment: u64) {
        self.place.segment = segment;
    }

    /// Closes the descriptor of an output that rests; it is opened again with the next line.
    pub fn rest(&mut self) {
        self.current = None;
    }

    /// Opens the file that [`Output::rest`] closed. If it isn't there any more, [`Output::prepare`] tells.
    pub fn wake(&mut self, os: &O) -> io::Result<()> {
        if self.current.is_none() && self.place.offset > 0 {
            match os.open_output(&self.path, self.mode, Create::Never) {
                Ok(file) => {
                    let id = os.stat_open(&file)?.id;
                    self.current = Some((file, id));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.place.offset = 0;
                    self.untold = Some(Meddling::Removed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How many directories on the way have to be made; one at least may have been made just now by a life that was cut off.
fn missing_directories<O: Os>(os: &O, directory: &Path) -> usize {
    let missing = |directory: &Path| os.stat(directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    directory.ancestors().take_while(|directory| missing(directory)).count().max(1)
}

#[cfg(test)]
mod tests;
