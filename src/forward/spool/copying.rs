//! The copy of one deleted incarnation, made a piece at a time.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{Create, Os};
use crate::tail::Source;
use crate::tail::spooled::{End, FRAME_TEXT_BYTES, append_end, append_frame};

/// Text in a step: some milliseconds.
const STEP_FRAMES: usize = 16;
/// What a power loss may take of a copy on its way.
const UNSYNCED_BYTES_MAX: u64 = 8 * 1024 * 1024;
const MODE: u32 = 0o600;

pub(in crate::forward) struct Copying<O: Os> {
    source: Source<O>,
    path: PathBuf,
    number: u64,
    /// Of the text.
    offset: u64,
    /// `None` until the first step.
    file: Option<O::File>,
    written: u64,
    unsynced: u64,
}

impl<O: Os> Copying<O> {
    /// From `first` of the incarnation's text on.
    pub fn new(source: Source<O>, path: PathBuf, number: u64, first: u64) -> Copying<O> {
        Copying { source, path, number, offset: first, file: None, written: 0, unsynced: 0 }
    }

    /// Bytes of the file so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Copies on. True: it is whole and durable.
    pub fn step(&mut self, os: &O) -> io::Result<bool> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.create(os)?,
        };
        let mut frames = Vec::new();
        let mut ended = false;
        let mut text = vec![0; FRAME_TEXT_BYTES];
        for _ in 0..STEP_FRAMES {
            let n_bytes = self.source.read_at(os, self.offset, &mut text)?;
            if n_bytes > 0 {
                append_frame(self.number, self.offset, &text[..n_bytes], &mut frames);
                self.offset += n_bytes as u64;
            }
            if n_bytes < text.len() {
                self.source.check_short(os, self.offset, true)?;
                let end = End { at: self.offset, damage: self.source.damage().map(str::to_owned) };
                append_end(self.number, &end, &mut frames);
                ended = true;
                break;
            }
        }
        let mut done = 0;
        while done < frames.len() {
            let n_bytes = os.write_at(&file, self.written, &frames[done..])?;
            done += n_bytes;
            self.written += n_bytes as u64;
        }
        self.unsynced += frames.len() as u64;
        if ended || self.unsynced >= UNSYNCED_BYTES_MAX {
            os.sync(&file)?;
            self.unsynced = 0;
        }
        Ok(ended)
    }

    fn create(&mut self, os: &O) -> io::Result<O::File> {
        let directory = self.path.parent().expect("it is below the state directory").to_owned();
        os.create_directories(&directory)?;
        let file = os.open_output(&self.path, MODE, Create::New)?;
        // Its name, that of the sink's directory, and that of the spool.
        for directory in directory.ancestors().take(3) {
            os.sync_directory(directory)?;
        }
        self.file = Some(file.clone());
        Ok(file)
    }
}

/// Removes a copy; one that isn't there is no error.
pub(super) fn remove<O: Os>(os: &O, path: &Path) -> io::Result<()> {
    match os.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
