//! One incarnation: where it is read from, what proves that it is still itself, and its next bytes.

use std::io;
use std::ops::Range;

use memchr::memrchr;

use crate::config::limits::{LINE_BYTES_MAX, QUANTUM_BYTES};
use crate::sys::{FileId, Os, Stat};
use crate::tail::{Fingerprint, Source};

/// One inode in a log's life, from where it is still to be read.
pub struct Generation<O: Os> {
    pub(super) source: Source<O>,
    pub id: FileId,
    /// `None` while the file holds no whole line.
    pub head: Option<Fingerprint>,
    /// Everything before it is decided; the start of a line, or of what follows NULs.
    pub offset: u64,
    /// The bytes before `offset` as they were read: the end of the last line.
    pub(super) proof: Vec<u8>,
    /// Where its text ended when it was last read up to there.
    pub(super) end: Option<End>,
    /// Size and time of the file when it was last looked at without being read.
    pub(super) waited_at: Option<(u64, i64)>,
    /// The most bytes the file was seen to hold.
    pub(super) size_max: u64,
    /// The rest of an over-long line is being passed over.
    skipping: bool,
    /// It held no whole line when it was opened, or cut.
    pub(super) headless: bool,
}

/// The end of an incarnation's text, and what its file looked like then: while it looks like that there is no more.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Of the file, in bytes.
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    /// Of the text, which isn't that of the file when it is compressed.
    text: u64,
    /// Behind its last whole line.
    lines: u64,
}

impl<O: Os> Generation<O> {
    pub(super) fn new(source: Source<O>, stat: Stat) -> Generation<O> {
        Generation {
            source,
            id: stat.id,
            head: None,
            offset: 0,
            proof: Vec::new(),
            end: None,
            waited_at: None,
            size_max: stat.size,
            skipping: false,
            headless: true,
        }
    }

    /// The same file from its beginning.
    pub(super) fn anew(&self, source: Source<O>, stat: Stat) -> Generation<O> {
        Generation { head: self.head, ..Generation::new(source, stat) }
    }

    pub fn tail(&self) -> Option<Fingerprint> {
        (!self.proof.is_empty()).then(|| Fingerprint::of(&self.proof))
    }

    pub fn stat(&self, os: &O) -> io::Result<Stat> {
        self.source.stat(os)
    }

    /// It stands as the engine wrote it, so it may still change.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.source, Source::Plain(_))
    }

    pub fn is_compressed(&self) -> bool {
        matches!(self.source, Source::Gzip(_))
    }

    pub fn damage(&self) -> Option<&str> {
        self.source.damage()
    }

    /// Fingerprint of the first whole line; read when it isn't known yet.
    pub fn learn_head(&mut self, os: &O) -> io::Result<Option<Fingerprint>> {
        if self.head.is_none() {
            self.head = self.source.head(os)?;
        }
        Ok(self.head)
    }

    /// The file was cut: what it held before is not in it.
    pub(super) fn forget_text(&mut self, head: Option<Fingerprint>) {
        self.head = head;
        self.offset = 0;
        self.proof.clear();
        self.end = None;
        self.waited_at = None;
        self.skipping = false;
        self.headless = head.is_none();
    }

    /// Whether the bytes before `offset` are those that `tail` stands for.
    pub fn proves(&mut self, os: &O, offset: u64, tail: Option<Fingerprint>) -> io::Result<bool> {
        match tail {
            None => Ok(true),
            Some(tail) => self.source.ends_with(os, offset, tail),
        }
    }

    /// Goes on from `offset`, whose `tail` was proved.
    pub(super) fn resume_at(&mut self, os: &O, offset: u64, tail: Option<Fingerprint>) -> io::Result<()> {
        let offset = offset.max(self.source.first_line());
        self.proof = vec![0; tail.map_or(0, |tail| tail.bytes as usize)];
        let read = self.source.read_at(os, offset - self.proof.len() as u64, &mut self.proof)?;
        if read < self.proof.len() {
            self.proof.clear();
            return Err(ended_early()); // A part of a proof proves nothing.
        }
        self.offset = offset;
        self.end = None;
        Ok(())
    }
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Whole lines in the buffer, the first of which starts at `offset` of the file.
    Lines { offset: u64, bytes: Range<usize> },
    /// These bytes of the file hold no line: NULs, or a part of a line longer than any engine writes.
    Waste { offset: u64, bytes: u64, nul: bool },
    /// Nothing beyond what was read before; `rest` bytes of a line that has no end yet.
    Quiet { rest: u64 },
    /// The file was cut or written anew; it goes on as a new incarnation. `lost`: bytes seen there and never read.
    Rewritten { lost: Range<u64> },
}

impl End {
    fn new(stat: Stat, text: u64, lines: u64) -> End {
        End { size: stat.size, modified_ns: stat.modified_ns, text, lines }
    }
}

impl<O: Os> Generation<O> {
    /// The bytes behind the last whole line, if all lines were taken and the file still looks as it did at its end.
    pub(super) fn rest_behind_lines(&self, now: Option<Stat>) -> Option<u64> {
        let end = self.end.filter(|end| self.offset >= end.lines && self.offset <= end.text)?;
        let is_same = now.is_none_or(|now| (now.size, now.modified_ns) == (end.size, end.modified_ns));
        is_same.then_some(end.text - self.offset)
    }

    /// Reads on by `wanted` bytes, by more where a line is longer. `None`: the bytes before the offset aren't those that were
    /// read.
    pub(super) fn fill(
        &mut self,
        os: &O,
        buffer: &mut Vec<u8>,
        mut wanted: usize,
        stat: Stat,
    ) -> io::Result<Option<Chunk>> {
        // A copy of ours doesn't change, but a damaged part of it proves nothing.
        let overlap = if self.spool_number().is_some() { 0 } else { self.proof.len() };
        loop {
            // What comes meanwhile is the next look's: asking for it would cost a call that says there is none.
            let unread = if self.is_plain() { stat.size.saturating_sub(self.offset) } else { u64::MAX };
            let length = overlap + usize::try_from(unread).unwrap_or(usize::MAX).min(wanted);
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let window = &mut buffer[..length];
            let read = self.source.read_at(os, self.offset - overlap as u64, window)?;
            if read < overlap && self.source.stat(os)?.size >= self.offset && self.is_plain() {
                // The file isn't shorter: the read was. Bytes that were not seen prove nothing.
                return Err(ended_early());
            }
            if read < overlap || window[..overlap] != self.proof[..overlap] {
                return Ok(None);
            }
            self.size_max = self.size_max.max(stat.size).max(self.offset + (read - overlap) as u64);
            let fresh = overlap..read;
            let ended = read < window.len() || fresh.len() as u64 == unread;
            if read < window.len() && self.is_plain() {
                return Err(ended_early());
            }
            let text_end = self.offset + fresh.len() as u64;
            if self.offset == 0 && !self.begins_with_head(&window[fresh.clone()], ended) {
                return Ok(None); // Nothing was read yet, so no proof tells; what was seen first does.
            }
            if window[fresh.clone()].first() == Some(&0) && !self.skipping {
                if wanted < QUANTUM_BYTES && !ended {
                    wanted = QUANTUM_BYTES; // Nothing but NULs may be what the end of the file is still to become.
                    continue;
                }
                return self.nuls(os, &buffer[fresh], ended, stat).map(Some);
            }
            if let Some(last) = memrchr(b'\n', &window[fresh.clone()]) {
                if self.skipping {
                    let first = memchr::memchr(b'\n', &window[fresh]).unwrap_or(last);
                    self.skipping = false;
                    return Ok(Some(Chunk::Waste { offset: self.offset, bytes: first as u64 + 1, nul: false }));
                }
                self.end = ended.then(|| End::new(stat, text_end, self.offset + last as u64 + 1));
                if self.offset == 0 && self.head.is_none() {
                    let first = memchr::memchr(b'\n', &window[fresh]).unwrap_or(last);
                    self.head = Some(Fingerprint::of(&window[..=first])); // A copy of it is known by it.
                }
                let bytes = overlap..overlap + last + 1;
                return Ok(Some(Chunk::Lines { offset: self.offset, bytes }));
            }
            let rest = (read - overlap) as u64;
            if ended {
                self.end = Some(End::new(stat, text_end, self.offset));
                return Ok(Some(Chunk::Quiet { rest }));
            }
            if self.skipping || wanted >= LINE_BYTES_MAX {
                self.skipping = true;
                return Ok(Some(Chunk::Waste { offset: self.offset, bytes: rest, nul: false }));
            }
            wanted = (wanted * 4).min(LINE_BYTES_MAX);
        }
    }

    /// Whether `text`, the beginning of the file, has the first line that was seen there before, as far as it shows.
    fn begins_with_head(&self, text: &[u8], ended: bool) -> bool {
        let Some(head) = self.head else {
            return true;
        };
        match memchr::memchr(b'\n', text) {
            _ if text.first() == Some(&0) => true,
            Some(newline) => Fingerprint::of(&text[..=newline]) == head,
            None if text.len() >= LINE_BYTES_MAX => Fingerprint::of(&text[..LINE_BYTES_MAX]) == head, // As `Source::head` does.
            None => !ended,
        }
    }

    /// The line begins with NULs: a hole behind a truncation, or a block that a power loss left.
    fn nuls(&mut self, os: &O, fresh: &[u8], ended: bool, stat: Stat) -> io::Result<Chunk> {
        let mut n_nuls = fresh.iter().take_while(|byte| **byte == 0).count() as u64;
        if n_nuls == fresh.len() as u64 {
            if let Source::Plain(file) = &self.source {
                let data = os.data_at(file, self.offset)?;
                n_nuls = n_nuls.max(data.saturating_sub(self.offset));
            }
            if ended && self.offset + n_nuls >= stat.size && self.is_plain() {
                // Nothing but NULs up to the end: the text that belongs there may still come.
                self.end = Some(End::new(stat, stat.size, self.offset));
                return Ok(Chunk::Quiet { rest: stat.size - self.offset });
            }
        }
        Ok(Chunk::Waste { offset: self.offset, bytes: n_nuls, nul: true })
    }

    /// The bytes behind the last line's end, when no more will come: a torn record, or a whole one without its newline.
    pub(super) fn rest(&mut self, os: &O, buffer: &mut Vec<u8>, rest: u64) -> io::Result<Range<usize>> {
        let wanted = rest.min(LINE_BYTES_MAX as u64) as usize;
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let read = self.source.read_at(os, self.offset, &mut buffer[..wanted])?;
        self.source.check_short(os, self.offset + read as u64, read < wanted)?;
        Ok(0..read)
    }
}

pub(super) fn ended_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does")
}
