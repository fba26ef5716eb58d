//! The bytes of one incarnation: as they stand, compressed by the engine, or copied aside by a sink.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use crate::config::limits::{LINE_BYTES_MAX, PROOF_BYTES};
use crate::sys::{Os, Stat};
use crate::tail::{Damage, Fingerprint, Spooled};

/// A file that can be read at any offset of its uncompressed text.
pub enum Source<O: Os> {
    Plain(O::File),
    Gzip(Box<Inflated<O>>),
    Spooled(Box<Spooled<O>>),
}

impl<O: Os> Source<O> {
    pub fn gzip(os: &O, file: O::File) -> Source<O> {
        Source::Gzip(Box::new(Inflated::new(os.clone(), file)))
    }

    /// Another source of the same text, by the same descriptor. `None`: it has none.
    pub fn again(&self, os: &O) -> Option<Source<O>> {
        match self {
            Source::Plain(file) => Some(Source::Plain(file.clone())),
            Source::Gzip(inflated) => Some(Source::gzip(os, inflated.file.clone())),
            Source::Spooled(_) => None,
        }
    }

    pub fn stat(&self, os: &O) -> io::Result<Stat> {
        match self {
            Source::Plain(file) => os.stat_open(file),
            Source::Gzip(inflated) => os.stat_open(&inflated.file),
            Source::Spooled(spooled) => Ok(spooled.stat()),
        }
    }

    /// Where its first line begins: a copy may leave out what was delivered.
    pub fn first_line(&self) -> u64 {
        match self {
            Source::Spooled(spooled) => spooled.extent.start,
            Source::Plain(_) | Source::Gzip(_) => 0,
        }
    }

    /// Reads at `offset` of the uncompressed text until `buffer` is full; fewer bytes mean the end.
    pub fn read_at(&mut self, os: &O, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(file) => os.read_at(file, offset, buffer),
            Source::Gzip(inflated) => inflated.read_at(offset, buffer),
            Source::Spooled(spooled) => spooled.read_at(offset, buffer),
        }
    }

    /// Why a compressed file ended early, if it did: dockerd writes it directly under its final name, so a crash
    /// leaves half of it.
    pub fn damage(&self) -> Option<&str> {
        match self {
            Source::Gzip(inflated) => inflated.damage.as_deref(),
            Source::Plain(_) | Source::Spooled(_) => None,
        }
    }

    /// What couldn't be read so far, told once for each place of a spooled one.
    pub fn take_damage(&mut self, at_end: bool) -> Vec<Damage> {
        match self {
            Source::Spooled(spooled) => spooled.take_damage(at_end),
            _ if !at_end => Vec::new(),
            _ => self.damage().map(|why| Damage { start: None, end: None, why: why.to_owned() }).into_iter().collect(),
        }
    }

    /// Fingerprint of the first whole line, NULs before it apart (a truncated log may begin with a hole); `None` while
    /// there is no whole line.
    pub fn head(&mut self, os: &O) -> io::Result<Option<Fingerprint>> {
        let mut start = match self {
            Source::Plain(file) => os.data_at(file, 0)?,
            Source::Gzip(_) => 0,
            Source::Spooled(spooled) => return Ok(spooled.extent.head), // The copy may begin behind it.
        };
        let mut buffer = vec![0; 4096];
        loop {
            let read = self.read_at(os, start, &mut buffer)?;
            self.check_short(os, start + read as u64, read < buffer.len())?;
            let text = &buffer[..read];
            let nuls = text.iter().take_while(|byte| **byte == 0).count();
            if nuls == read && read == buffer.len() {
                start += read as u64;
                if let Source::Plain(file) = self {
                    start = os.data_at(file, start)?; // A hole may follow the block.
                }
                continue;
            }
            if nuls > 0 {
                start += nuls as u64;
                if read == nuls {
                    return Ok(None);
                }
                continue;
            }
            if let Some(newline) = memchr::memchr(b'\n', text) {
                return Ok(Some(Fingerprint::of(&text[..=newline])));
            }
            if read < buffer.len() {
                return Ok(None);
            }
            if buffer.len() >= LINE_BYTES_MAX {
                return Ok(Some(Fingerprint::of(&buffer[..LINE_BYTES_MAX])));
            }
            let larger = (buffer.len() * 8).min(LINE_BYTES_MAX);
            buffer.resize(larger, 0);
        }
    }

    /// A read that ended where the file doesn't: what it didn't show is no proof of anything.
    pub(crate) fn check_short(&self, os: &O, end: u64, is_short: bool) -> io::Result<()> {
        match self {
            Source::Plain(file) if is_short && os.stat_open(file)?.size > end => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the bytes before `offset` are those of `tail`.
    pub fn ends_with(&mut self, os: &O, offset: u64, tail: Fingerprint) -> io::Result<bool> {
        let length = u64::from(tail.bytes);
        if length > offset || tail.bytes as usize > PROOF_BYTES {
            return Ok(false);
        }
        let mut buffer = vec![0; tail.bytes as usize];
        let read = self.read_at(os, offset - length, &mut buffer)?;
        self.check_short(os, offset - length + read as u64, read < buffer.len())?;
        Ok(read == buffer.len() && Fingerprint::of(&buffer) == tail)
    }
}

/// A gzip file inflated forward, with a look back as long as a proof. Going further back starts again.
pub struct Inflated<O: Os> {
    os: O,
    file: O::File,
    decoder: MultiGzDecoder<FileReader<O>>,
    /// Inflated bytes from `window_start` on.
    window: Vec<u8>,
    window_start: u64,
    ended: bool,
    damage: Option<String>,
}

const INFLATE_STEP: usize = 64 * 1024;

impl<O: Os> Inflated<O> {
    fn new(os: O, file: O::File) -> Inflated<O> {
        let reader = FileReader { os: os.clone(), file: file.clone(), position: 0 };
        Inflated {
            decoder: MultiGzDecoder::new(reader),
            os,
            file,
            window: Vec::new(),
            window_start: 0,
            ended: false,
            damage: None,
        }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset < self.window_start {
            *self = Inflated::new(self.os.clone(), self.file.clone());
        }
        let wanted_end = offset + buffer.len() as u64;
        while !self.ended && self.window_end() < wanted_end {
            self.let_go(offset);
            self.inflate()?;
        }
        let from = (offset - self.window_start).min(self.window.len() as u64) as usize;
        let length = buffer.len().min(self.window.len() - from);
        buffer[..length].copy_from_slice(&self.window[from..from + length]);
        Ok(length)
    }

    fn window_end(&self) -> u64 {
        self.window_start + self.window.len() as u64
    }

    fn let_go(&mut self, offset: u64) {
        let keep_from = offset.saturating_sub(PROOF_BYTES as u64);
        let surplus = keep_from.saturating_sub(self.window_start).min(self.window.len() as u64) as usize;
        if surplus >= INFLATE_STEP || surplus == self.window.len() {
            self.window.drain(..surplus);
            self.window_start += surplus as u64;
        }
    }

    fn inflate(&mut self) -> io::Result<()> {
        let filled = self.window.len();
        self.window.resize(filled + INFLATE_STEP, 0);
        let read = self.decoder.read(&mut self.window[filled..]);
        self.window.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if damaged(&error) => {
                self.ended = true;
                self.damage = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What flate2 reports for bytes that are no gzip, against what the kernel reports for a disk that can't be read.
pub(super) fn damaged(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
        && matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
}

struct FileReader<O: Os> {
    os: O,
    file: O::File,
    position: u64,
}

impl<O: Os> Read for FileReader<O> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.os.read_at(&self.file, self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}
