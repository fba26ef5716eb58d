//! One container's lines into rendered records: decode, assemble, filter, format. No files.

use std::sync::Arc;

use crate::assemble::{Assembler, Joining, LatePieces, Unfinished};
use crate::batch::Batch;
use crate::decode::{Decoded, Decoder, Entry, Fault, RecordView, Stream, Timestamp};
use crate::filter::Redacted;
use crate::format::Formatter;
use crate::shape::Shape;

/// A range of a source file that held no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    pub start: u64,
    pub end: u64,
    pub fault: Fault,
    /// The time of the last record before it.
    pub after: Option<Timestamp>,
}

/// What a turn counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub lines: u64,
    pub bytes: u64,
    pub records: u64,
    pub filtered: u64,
    /// Left out because they are older than `--since`.
    pub early: u64,
    /// Replaced in texts.
    pub redacted: Redacted,
    /// Records that ended at the longest line with more to come.
    pub split: u64,
    /// Pieces of a line that was ended by decision.
    pub late: u64,
    pub written_bytes: u64,
    /// Times the log was cut or written anew in place.
    pub rewritten: u64,
    pub unparsed: Vec<Unparsed>,
}

/// Whether to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Go,
    /// This line and all after it are left for a later run (`--until`).
    Later,
}

pub struct Pipe {
    decoder: Decoder,
    pub assembler: Assembler,
    shape: Arc<Shape>,
    until_ns: Option<i128>,
    /// The time of the last record decided.
    pub last_time: Option<Timestamp>,
}

impl Pipe {
    pub fn new(shape: Arc<Shape>, unfinished: Unfinished, until_ns: Option<i128>) -> Pipe {
        let assembler = Assembler::resume(joining(&shape), unfinished);
        Pipe { decoder: Decoder::new(), assembler, shape, until_ns, last_time: None }
    }

    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The settings that the next record gets of those that are wanted: its own, while it can't take them.
    pub fn next_shape<'a>(&'a self, wanted: &'a Arc<Shape>) -> &'a Arc<Shape> {
        if self.can_take(wanted) { wanted } else { &self.shape }
    }

    /// From the next record on; false: not yet.
    pub fn take_shape(&mut self, shape: &Arc<Shape>) -> bool {
        let can = self.can_take(shape);
        if can {
            self.assembler.set_joining(joining(shape));
            self.shape = shape.clone();
        }
        can
    }

    /// Takes the place of another one that took the same lines: its open lines are what is owed.
    pub fn go_on_from(&mut self, other: &Pipe) {
        self.assembler = Assembler::resume(joining(&self.shape), other.assembler.unfinished().clone());
        (self.until_ns, self.last_time) = (other.until_ns, other.last_time);
    }

    /// The open lines, as far as they came: what changes in it went through them.
    pub fn open_lines(&self) -> Vec<(Stream, Timestamp, usize)> {
        let chains = &self.assembler.unfinished().chains;
        chains.iter().map(|chain| (chain.stream, chain.time, chain.text.len())).collect()
    }

    /// Whether both make the same records of the same lines, whatever they look like.
    pub fn joins_as(&self, other: &Pipe) -> bool {
        joining(&self.shape) == joining(&other.shape)
    }

    /// Whether the next record may have this shape: what was joined of a line is no entry that could be kept.
    pub fn can_take(&self, shape: &Shape) -> bool {
        !self.assembler.has_open_chain() || joins(shape)
    }

    /// Takes one line, without its newline, that starts at `offset` of its file.
    pub fn line(&mut self, line: &[u8], offset: u64, batch: &mut Batch, tally: &mut Tally) -> Flow {
        // By reference: an entry is not copied for each line.
        match &self.decoder.decode(line) {
            Decoded::Entry(entry) => {
                if is_later(entry.record.time, self.until_ns) {
                    return Flow::Later;
                }
                let render = Render { shape: &self.shape, batch, tally };
                self.last_time = Some(entry.record.time);
                push(&mut self.assembler, entry, render);
                self.count_joined(tally);
            }
            Decoded::Malformed(_) => {
                if self.begins_later(line) {
                    return Flow::Later;
                }
                self.pieces(line, offset, batch, tally);
            }
        }
        tally.lines += 1;
        tally.bytes += line.len() as u64 + 1;
        Flow::Go
    }

    /// Whether the first record in it is one for a later run. With an earlier one before it the line is taken as a whole: a
    /// later run begins with a line.
    fn begins_later(&mut self, line: &[u8]) -> bool {
        if self.until_ns.is_none() {
            return false;
        }
        let mut first = None;
        self.decoder.each_piece(line, |_, _, decoded| {
            if let Decoded::Entry(entry) = decoded {
                first = first.or(Some(entry.record.time));
            }
        });
        first.is_some_and(|time| is_later(time, self.until_ns))
    }

    /// A line that is no record: perhaps a torn one with a whole one glued to it.
    fn pieces(&mut self, line: &[u8], offset: u64, batch: &mut Batch, tally: &mut Tally) {
        let Pipe { decoder, assembler, shape, last_time, .. } = self;
        decoder.each_piece(line, |start, end, decoded| match decoded {
            Decoded::Entry(entry) => {
                *last_time = Some(entry.record.time);
                push(assembler, &entry, Render { shape, batch, tally });
            }
            Decoded::Malformed(fault) => {
                let (start, end) = (offset + start as u64, offset + end as u64);
                tally.unparsed.push(Unparsed { start, end, fault, after: *last_time });
            }
        });
    }

    /// The open lines as records, as if they ended here.
    pub fn ended_lines(&self) -> Batch {
        let mut batch = Batch::default();
        let mut assembler = Assembler::resume(joining(&self.shape), self.assembler.unfinished().clone());
        let mut render = Render { shape: &self.shape, batch: &mut batch, tally: &mut Tally::default() };
        assembler.end_all(LatePieces::Impossible, &mut |record| render.record(record));
        batch
    }

    fn count_joined(&mut self, tally: &mut Tally) {
        let counted = std::mem::take(&mut self.assembler.counted);
        tally.split += counted.split;
        tally.late += counted.late;
    }

    /// Ends the open lines: a decision, to be committed before it is written.
    pub fn end_open_lines(&mut self, late: LatePieces, batch: &mut Batch, tally: &mut Tally) {
        let mut render = Render { shape: &self.shape, batch, tally };
        self.assembler.end_all(late, &mut |record| render.record(record));
    }
}

#[inline]
fn push(assembler: &mut Assembler, entry: &Entry<'_>, mut render: Render<'_>) {
    assembler.push(entry, &mut |record| render.record(record));
}

struct Render<'a> {
    shape: &'a Shape,
    batch: &'a mut Batch,
    tally: &'a mut Tally,
}

impl Render<'_> {
    fn record(&mut self, record: &RecordView<'_>) {
        if is_early(record.time, self.shape.since_ns) {
            self.tally.early += 1;
            return;
        }
        if !self.shape.filter.passes(record.stream, record.text) {
            self.tally.filtered += 1;
            return;
        }
        self.tally.records += 1;
        if self.shape.redaction.is_empty() {
            self.shape.formatter.append(record, self.batch.buffer());
        } else {
            self.redacted(record);
        }
        self.batch.seal();
    }

    #[inline(never)]
    fn redacted(&mut self, record: &RecordView<'_>) {
        let text = self.shape.redaction.apply(record.text, &mut self.tally.redacted);
        self.shape.formatter.append(&RecordView { text: &text, ..*record }, self.batch.buffer());
    }
}

/// Before the window (`--since`, which belongs to it): decided, counted, never delivered.
fn is_early(time: Timestamp, since_ns: Option<i128>) -> bool {
    since_ns.is_some_and(|since| time.unix_ns() < since)
}

/// At or after the end of the window (`--until`): left for a later run. Nothing after it in this container may be delivered
/// now, or the order of the file would be lost.
fn is_later(time: Timestamp, until_ns: Option<i128>) -> bool {
    until_ns.is_some_and(|until| time.unix_ns() >= until)
}

/// Whether fragments are joined; otherwise entries are kept, and no line is ever open.
pub fn joins(shape: &Shape) -> bool {
    joining(shape) != Joining::Entries
}

fn joining(shape: &Shape) -> Joining {
    match shape.formatter {
        Formatter::Docker => Joining::Entries,
        _ => Joining::Lines { bytes_max: shape.max_line_bytes as usize },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = br#"{"log":"one\n","stream":"stdout","time":"2026-11-25T16:00:01Z"}"#;
    const SECOND: &[u8] = br#"{"log":"two\n","stream":"stdout","time":"2026-11-25T16:00:02Z"}"#;
    const TORN: &[u8] = br#"{"log":"thr"#;

    #[test]
    fn since_is_inside_and_until_outside() {
        let times = [9, 10, 15, 20, 21].map(|ns| Timestamp::from_unix_ns(ns).expect("a time"));
        assert_eq!(times.map(|time| is_early(time, Some(10))), [true, false, false, false, false]);
        assert_eq!(times.map(|time| is_later(time, Some(20))), [false, false, false, true, true]);
        assert!(!times.into_iter().any(|time| is_early(time, None) || is_later(time, None)));
        let before_1970 = [-6, -5].map(|ns| Timestamp::from_unix_ns(ns).expect("a time"));
        assert_eq!(before_1970.map(|time| is_early(time, Some(-5))), [true, false]);
    }

    #[test]
    fn a_line_whose_first_record_is_for_a_later_run_is_left_as_a_whole() {
        let until = Timestamp::parse(b"2026-11-25T16:00:02Z").expect("a time").unix_ns();
        for (line, flow, n_records, n_unparsed) in [
            (FIRST.to_vec(), Flow::Go, 1, 0),
            (SECOND.to_vec(), Flow::Later, 0, 0),
            ([TORN, FIRST].concat(), Flow::Go, 1, 1),
            ([TORN, SECOND].concat(), Flow::Later, 0, 0),
            ([FIRST, SECOND].concat(), Flow::Go, 2, 0),
            (TORN.to_vec(), Flow::Go, 0, 1),
        ] {
            let shape = Shape {
                formatter: Formatter::Docker,
                max_line_bytes: 1 << 20,
                since_ns: None,
                filter: Default::default(),
                redaction: Default::default(),
            };
            let mut pipe = Pipe::new(shape.into(), Unfinished::default(), Some(until));
            let (mut batch, mut tally) = (Batch::default(), Tally::default());
            assert_eq!(pipe.line(&line, 0, &mut batch, &mut tally), flow);
            assert_eq!((batch.records().count(), tally.unparsed.len()), (n_records, n_unparsed));
            let n_bytes = if flow == Flow::Go { line.len() as u64 + 1 } else { 0 };
            assert_eq!((tally.lines, tally.bytes), (n_bytes.min(1), n_bytes));
        }
    }
}
