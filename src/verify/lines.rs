//! Lines of a file or of an inflated one, with their offsets, in bounded memory.

use std::io::{self, Read};
use std::ops::Range;

use crate::sys::Os;
use crate::sys::unix::Unix;

const STEP_BYTES: usize = 128 * 1024;

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A line; its text is [`Lines::text`]. Not `whole`: the file ends before its newline.
    Line {
        offset: u64,
        whole: bool,
    },
    /// NULs where a line should begin.
    Nuls {
        offset: u64,
        bytes: u64,
    },
    /// A part of a line longer than any we take.
    Long {
        offset: u64,
        bytes: u64,
    },
    End,
}

/// Whether NULs at the beginning of a line are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nuls {
    Apart,
    Text,
}

pub struct Lines {
    reader: Box<dyn Read>,
    nuls: Nuls,
    bytes_max: usize,
    buffer: Vec<u8>,
    /// `buffer[start..end]` isn't given out yet and stands at `offset`; what is behind it is room.
    start: usize,
    end: usize,
    offset: u64,
    text: Range<usize>,
    ended: bool,
    /// The rest of an over-long line is being passed over.
    skipping: bool,
    /// Why it ended early.
    pub damage: Option<String>,
}

impl Lines {
    pub fn new(reader: Box<dyn Read>, offset: u64, bytes_max: usize, nuls: Nuls) -> Lines {
        Lines {
            reader,
            nuls,
            bytes_max,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset,
            text: 0..0,
            ended: false,
            skipping: false,
            damage: None,
        }
    }

    /// The line that was given last, without its newline.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.text.clone()]
    }

    /// Where the next line will stand.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn next(&mut self) -> io::Result<Got> {
        let mut scanned = 0;
        loop {
            let rest = &self.buffer[self.start..self.end];
            if self.nuls == Nuls::Apart && rest.first() == Some(&0) && !self.skipping {
                let n = rest.iter().take_while(|byte| **byte == 0).count();
                return Ok(Got::Nuls { offset: self.take(n), bytes: n as u64 });
            }
            if let Some(at) = memchr::memchr(b'\n', &rest[scanned..]) {
                let length = scanned + at;
                if std::mem::take(&mut self.skipping) {
                    return Ok(Got::Long { offset: self.take(length + 1), bytes: length as u64 + 1 });
                }
                self.text = self.start..self.start + length;
                return Ok(Got::Line { offset: self.take(length + 1), whole: true });
            }
            scanned = rest.len();
            if scanned > self.bytes_max {
                self.skipping = true;
                return Ok(Got::Long { offset: self.take(scanned), bytes: scanned as u64 });
            }
            if !self.ended {
                self.fill()?;
            } else if scanned == 0 {
                return Ok(Got::End);
            } else if self.skipping {
                return Ok(Got::Long { offset: self.take(scanned), bytes: scanned as u64 });
            } else {
                self.text = self.start..self.start + scanned;
                return Ok(Got::Line { offset: self.take(scanned), whole: false });
            }
        }
    }

    /// Passes over `n` bytes; gives where they stood.
    fn take(&mut self, n: usize) -> u64 {
        let offset = self.offset;
        self.start += n;
        self.offset += n as u64;
        offset
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        self.text = 0..0;
        if self.buffer.len() < self.end + STEP_BYTES {
            self.buffer.resize(self.end + STEP_BYTES, 0);
        }
        let read = self.reader.read(&mut self.buffer[self.end..]);
        self.end += *read.as_ref().unwrap_or(&0);
        match read {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Not the kernel's word but the decompressor's: what came so far is all there is.
            Err(error) if error.raw_os_error().is_none() => {
                self.ended = true;
                self.damage = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A range of an open file. Reads on in the descriptor, whatever its name is by now.
pub struct FileReader {
    pub file: <Unix as Os>::File,
    pub position: u64,
    pub end: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.end.saturating_sub(self.position).min(buffer.len() as u64) as usize;
        let read = Unix.read_at(&self.file, self.position, &mut buffer[..wanted])?;
        self.position += read as u64;
        Ok(read)
    }
}
