//! One sink's way through one container's log: lines into numbered, rendered records, and the place to begin again from
//! for each of them.

mod held;
mod places;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use crate::agent::container::Facts;
use crate::assemble::{Assembler, Joining, LatePieces, Unfinished};
use crate::config::limits::{QUANTUM_BYTES, SILENCE, SILENCE_NON_BLOCKING, SILENCE_STOPPED};
use crate::decode::{Decoded, Decoder, RecordView};
use crate::filter::{Redacted, Redaction, TextFilter};
use crate::forward::mark::{Mark, generation};
use crate::forward::pending::Pending;
use crate::forward::rendering::Rendering;
use crate::sys::Os;
use crate::tail::{Chunk, Damage, Fingerprint, Generation, Lineage, Look};

pub use held::{Shed, ToSpool};

/// A place in the log from which reading can begin again, and the number of the next record from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub no: u64,
    pub head: Option<Fingerprint>,
    pub offset: u64,
    pub tail: Option<Fingerprint>,
    pub unfinished: Unfinished,
}

/// A place, and the number of the incarnation in which it is.
#[derive(Clone, Debug)]
struct Place {
    generation: u64,
    resume: Resume,
}

/// Open lines were ended here because they stayed silent. Nothing in the log shows it, so it is remembered and repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The number of the next record then.
    pub no: u64,
    pub generation: u64,
    pub offset: u64,
}

/// What decides which records there are. Another one makes other records of the same log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sieve {
    pub filter: TextFilter,
    pub max_line_bytes: usize,
    pub since_ns: Option<i128>,
    /// What is replaced in the text of those that pass.
    pub redaction: Redaction,
}

/// How a turn went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    Moved,
    Quiet,
    /// The container is gone and everything of it was read.
    Finished,
}

/// Where a cursor goes on after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Where it stood.
    Same,
    /// The file is there without the bytes that were read last: before them, so that records come again with their ids.
    Earlier,
    /// The file is gone, and whatever was between it and the oldest that is there.
    Gap,
}

/// What a turn met on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Bytes of a file that was cut or written anew before they were read.
    pub lost: Vec<Range<u64>>,
    /// What couldn't be read of an incarnation.
    pub damage: Vec<Damage>,
    pub bytes: u64,
    pub filtered: u64,
    pub unparsed: u64,
    pub redacted: Redacted,
}

pub struct Cursor<O: Os> {
    pub lineage: Lineage<O>,
    decoder: Decoder,
    assembler: Assembler,
    output: Output,
    places: VecDeque<Place>,
    /// Incarnations that were read to their ends and hold what is not delivered, with their numbers: after a death they
    /// are read again, so they are held while a place lies in them or before them.
    behind: VecDeque<(u64, Generation<O>)>,
    decisions: VecDeque<Decision>,
    /// Of an earlier life.
    to_repeat: VecDeque<Decision>,
    moved_at: Duration,
    finished: bool,
}

impl<O: Os> Cursor<O> {
    pub fn new(directory: &Path, id: &str, sieve: Sieve, rendering: Rendering) -> Cursor<O> {
        Cursor {
            lineage: Lineage::new(directory, id, []),
            decoder: Decoder::new(),
            assembler: Assembler::new(joining(&sieve)),
            output: Output { sieve, rendering, skip: None, pending: Pending::default(), scratch: Vec::new() },
            places: VecDeque::new(),
            behind: VecDeque::new(),
            decisions: VecDeque::new(),
            to_repeat: VecDeque::new(),
            moved_at: Duration::ZERO,
            finished: false,
        }
    }

    /// From the next record on.
    pub fn set_shape(&mut self, sieve: Sieve, rendering: Rendering) {
        self.assembler.set_joining(joining(&sieve));
        self.output.sieve = sieve;
        self.output.rendering = rendering;
    }

    /// Records that are read and in no batch yet.
    pub fn pending(&self) -> &Pending {
        &self.output.pending
    }

    pub fn pending_mut(&mut self) -> &mut Pending {
        &mut self.output.pending
    }

    /// One turn: at most a quantum of bytes.
    pub fn turn(
        &mut self,
        os: &O,
        buffer: &mut Vec<u8>,
        now: Duration,
        facts: &Facts,
        removed: bool,
        met: &mut Met,
    ) -> io::Result<Went> {
        if self.finished {
            return Ok(Went::Finished);
        }
        let missing = self.lineage.look(os)? == Look::Missing;
        let mut moved = false;
        loop {
            match self.lineage.read(os, buffer, QUANTUM_BYTES)? {
                Chunk::Lines { offset, bytes } => {
                    self.note_place(os)?;
                    self.lines(os, buffer, offset, bytes, met)?;
                    self.take_damage(false, met);
                    self.moved_at = now;
                    return Ok(Went::Moved);
                }
                Chunk::Waste { offset, bytes, .. } => {
                    self.lineage.pass_over(os, offset, bytes)?;
                    met.unparsed += 1;
                }
                Chunk::Rewritten { lost } => {
                    if !lost.is_empty() {
                        met.lost.push(lost);
                    }
                    self.check_skip();
                }
                Chunk::Quiet { rest } => {
                    let is_repeated = self.repeat_decision(os, met)?;
                    if !is_repeated && !self.end_generation(os, buffer, rest, removed && missing, met)? {
                        self.end_silent_lines(os, now, facts, met)?;
                        return Ok(match (moved, self.finished) {
                            (_, true) => Went::Finished,
                            (true, _) => Went::Moved,
                            _ => Went::Quiet,
                        });
                    }
                    if self.finished {
                        return Ok(Went::Finished);
                    }
                }
            }
            moved = true;
        }
    }

    fn lines(&mut self, os: &O, buffer: &[u8], offset: u64, bytes: Range<usize>, met: &mut Met) -> io::Result<()> {
        let text = &buffer[bytes];
        let generation = generation(self.lineage.head(os)?);
        let (mut start, mut last) = (0, 0..0);
        for newline in memchr_iter(b'\n', text) {
            let at = offset + start as u64;
            if self.is_decided(generation, at) {
                self.decide(generation, at, met);
            }
            self.line(&text[start..newline], Mark::line(generation, at), met);
            last = start..newline + 1;
            start = newline + 1;
        }
        met.bytes += start as u64;
        self.lineage.advance(offset + start as u64, &text[last]);
        Ok(())
    }

    /// One line, without its newline.
    fn line(&mut self, line: &[u8], mark: Mark, met: &mut Met) {
        let mut emit = Emit { to: &mut self.output, mark, met };
        match self.decoder.decode(line) {
            Decoded::Entry(entry) => self.assembler.push(&entry, &mut |record| emit.record(record)),
            Decoded::Malformed(_) => self.decoder.each_piece(line, |_, _, decoded| match decoded {
                Decoded::Entry(entry) => self.assembler.push(&entry, &mut |record| emit.record(record)),
                Decoded::Malformed(_) => emit.met.unparsed += 1,
            }),
        }
    }

    /// The oldest incarnation gives no more. True if something moved.
    fn end_generation(
        &mut self,
        os: &O,
        buffer: &mut Vec<u8>,
        rest: u64,
        gone: bool,
        met: &mut Met,
    ) -> io::Result<bool> {
        let Some(front) = self.lineage.front() else {
            self.finished = gone;
            return Ok(false);
        };
        let is_last = self.lineage.len() == 1;
        let gone = gone && front.stat(os)?.links == 0;
        let is_copy = front.spool_number().is_some(); // Made when its end was final.
        if !gone && (is_last || !is_copy && !self.lineage.successor_is_filled(os)?) {
            return Ok(false);
        }
        let here = generation(self.lineage.head(os)?);
        if rest > 0 {
            let (offset, range) = self.lineage.rest(os, buffer, rest)?;
            if !range.is_empty() {
                let text = std::mem::take(buffer);
                self.line(&text[range.clone()], Mark::line(here, offset), met);
                self.lineage.advance(offset + range.len() as u64, &text[range]);
                *buffer = text;
            }
        }
        self.take_damage(true, met);
        if gone && is_last {
            let offset = self.lineage.front().map_or(0, |front| front.offset);
            self.end_open_lines(Mark::decision(here, offset), LatePieces::Impossible, met);
            self.finished = true;
        }
        let number = self.lineage.passed();
        if let Some(read) = self.lineage.take_oldest(os)? {
            self.behind.push_back((number, read));
        }
        self.output.skip = self.output.skip.filter(|skip| skip.generation != here);
        self.to_repeat.retain(|decision| decision.generation != here);
        Ok(true)
    }

    fn take_damage(&mut self, at_end: bool, met: &mut Met) {
        if let Some(front) = self.lineage.generations_mut().next() {
            met.damage.append(&mut front.take_damage(at_end));
        }
    }

    fn end_open_lines(&mut self, mark: Mark, late: LatePieces, met: &mut Met) {
        let mut emit = Emit { to: &mut self.output, mark, met };
        self.assembler.end_all(late, &mut |record| emit.record(record));
    }

    /// A line that grows no more is ended after a silence: a decision.
    fn end_silent_lines(&mut self, os: &O, now: Duration, facts: &Facts, met: &mut Met) -> io::Result<()> {
        let silence = match (facts.running, facts.non_blocking) {
            (false, _) => SILENCE_STOPPED,
            (true, true) => SILENCE_NON_BLOCKING,
            (true, false) => SILENCE,
        };
        if self.assembler.has_open_chain() && now >= self.moved_at + silence {
            let (generation, offset) = self.here(os)?;
            self.decisions.push_back(Decision { no: self.output.pending.next(), generation, offset });
            self.decide(generation, offset, met);
        }
        Ok(())
    }

    fn decide(&mut self, generation: u64, offset: u64, met: &mut Met) {
        self.to_repeat.retain(|decision| (decision.generation, decision.offset) != (generation, offset));
        self.end_open_lines(Mark::decision(generation, offset), LatePieces::Possible, met);
    }

    fn is_decided(&self, generation: u64, offset: u64) -> bool {
        self.to_repeat.iter().any(|decision| (decision.generation, decision.offset) == (generation, offset))
    }

    fn repeat_decision(&mut self, os: &O, met: &mut Met) -> io::Result<bool> {
        if self.to_repeat.is_empty() {
            return Ok(false);
        }
        let (generation, offset) = self.here(os)?;
        let is_decided = self.is_decided(generation, offset);
        if is_decided {
            self.decide(generation, offset, met);
        }
        Ok(is_decided)
    }

    fn here(&mut self, os: &O) -> io::Result<(u64, u64)> {
        let head = self.lineage.head(os)?;
        Ok((generation(head), self.lineage.front().map_or(0, |front| front.offset)))
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    pub fn has_open_line(&self) -> bool {
        self.assembler.has_open_chain()
    }

    /// Silence is counted from here on.
    pub fn opened_at(&mut self, now: Duration) {
        self.moved_at = now;
    }
}

fn joining(sieve: &Sieve) -> Joining {
    Joining::Lines { bytes_max: sieve.max_line_bytes }
}

/// What becomes of records: left out, or rendered.
struct Output {
    sieve: Sieve,
    rendering: Rendering,
    /// Until this record, which is included, all were delivered.
    skip: Option<Mark>,
    pending: Pending,
    scratch: Vec<u8>,
}

/// Takes the records that come out at one place.
struct Emit<'a> {
    to: &'a mut Output,
    mark: Mark,
    met: &'a mut Met,
}

impl Emit<'_> {
    fn record(&mut self, record: &RecordView<'_>) {
        let mark = self.mark;
        self.mark = mark.next(); // Also of those that are left out: ids don't depend on the filter.
        let Output { sieve, rendering, skip, pending, scratch } = &mut *self.to;
        if let Some(delivered) = *skip {
            if mark.generation != delivered.generation || !mark.is_after(&delivered) {
                return;
            }
            *skip = None;
        }
        let early = sieve.since_ns.is_some_and(|since| record.time.unix_ns() < since);
        if early || !sieve.filter.passes(record.stream, record.text) {
            self.met.filtered += 1;
            return;
        }
        let text = sieve.redaction.apply(record.text, &mut self.met.redacted);
        let record = RecordView { text: &text, ..*record };
        rendering.append(&record, mark, scratch, pending.buffer());
        pending.seal(mark);
    }
}
