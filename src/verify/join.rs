//! The audit's own joiner: pieces of 16 KiB into whole messages. Remembers the pieces, because a message that no byte
//! ended may have been ended by decision after any of them.

use std::rc::Rc;

use crate::checkpoint::Shape;
use crate::decode::{Stream, Timestamp};
use crate::filter::Redacted;
use crate::format::{Formatter, RecordView};
use crate::verify::decode::Entry;

/// A shorter piece without a newline is the last one of its line (docker.md section 1).
const PIECE_RAW_BYTES: usize = 16_384;

/// Where an entry's line stands in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The generation's index, the oldest is 0.
    pub generation: usize,
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Debug)]
pub struct Piece {
    pub spot: Spot,
    /// Where it ends in the message's text.
    text_end: usize,
    /// The source line, kept only when some output has lines unchanged.
    line: Option<Vec<u8>>,
}

/// One whole message, or an entry on its own.
#[derive(Clone, Debug)]
pub struct Message {
    pub stream: Stream,
    pub time: Timestamp,
    text: Vec<u8>,
    attrs: Option<String>,
    pub pieces: Vec<Piece>,
    /// A byte showed its end: its newline, or a piece that wasn't full.
    pub ended: bool,
    /// The first of its stream: pieces before it may be gone with an older generation.
    pub headless: bool,
    /// Counts messages, so that neighbours are known.
    pub number: u64,
}

impl Message {
    pub fn first(&self) -> Spot {
        self.pieces.first().map(|piece| piece.spot).unwrap_or_default()
    }

    pub fn last(&self) -> Spot {
        self.pieces.last().map(|piece| piece.spot).unwrap_or_default()
    }

    pub fn is_filtered(&self, shape: &Shape) -> bool {
        shape.since_ns.is_some_and(|since| self.time.unix_ns() < since)
            || !shape.filter.is_open() && self.lines(shape).is_empty()
    }

    /// The output lines of the whole message, each with its newline. A text may hold newlines of its own.
    pub fn lines(&self, shape: &Shape) -> Vec<Vec<u8>> {
        self.lines_of(shape, 0..self.pieces.len())
    }

    /// As if only these pieces had come.
    pub fn lines_of(&self, shape: &Shape, pieces: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if shape.formatter == Formatter::Docker {
            let mut start = pieces.start.checked_sub(1).map_or(0, |before| self.pieces[before].text_end);
            for piece in &self.pieces[pieces] {
                let text = &self.text[start..piece.text_end.max(start)];
                start = piece.text_end;
                if !shape.filter.passes(self.stream, text) {
                    continue;
                }
                out.extend_from_slice(piece.line.as_deref().unwrap_or_default());
                out.push(b'\n');
            }
        } else {
            let start = pieces.start.checked_sub(1).map_or(0, |before| self.pieces[before].text_end);
            let end = pieces.end.checked_sub(1).map_or(0, |last| self.pieces[last].text_end);
            let text = &self.text[start..end.max(start)];
            if pieces.start > 0 && text.is_empty() {
                return Vec::new(); // The newline of a line that was ended before.
            }
            let passing = |part: &&[u8]| shape.filter.passes(self.stream, part);
            for part in parts(text, shape.max_line_bytes as usize).into_iter().filter(passing) {
                let text = shape.redaction.apply(part, &mut Redacted::default());
                shape.formatter.append(&self.view(&text), &mut out);
            }
        }
        out.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    fn view<'a>(&'a self, text: &'a [u8]) -> RecordView<'a> {
        let attrs = self.attrs.as_deref().map(str::as_bytes);
        RecordView { stream: self.stream, time: self.time, text, attrs, line: &[] }
    }
}

/// Cuts a text that is longer than a record may be, between characters.
fn parts(text: &[u8], bytes_max: usize) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while bytes_max > 4 && rest.len() > bytes_max {
        let is_inside = |at: usize| rest[at] & 0b1100_0000 == 0b1000_0000;
        let at = (bytes_max - 4..=bytes_max).rev().find(|at| !is_inside(*at)).unwrap_or(bytes_max - 4);
        let (part, after) = rest.split_at(at);
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// What an output's format asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    Messages {
        keep_lines: bool,
    },
    /// Every shape of the container has source lines unchanged: nothing is joined.
    Entries,
}

#[derive(Clone, Debug)]
pub struct Joiner {
    joining: Joining,
    open: Vec<Message>,
    seen: Vec<Stream>,
    number: u64,
}

impl Joiner {
    pub fn new(joining: Joining) -> Joiner {
        Joiner { joining, open: Vec::new(), seen: Vec::new(), number: 0 }
    }

    pub fn push(&mut self, entry: Entry, line: &[u8], spot: Spot, take: &mut impl FnMut(Rc<Message>)) {
        let terminated = entry.text.ends_with('\n');
        let ends = terminated || entry.raw_bytes < PIECE_RAW_BYTES || self.joining == Joining::Entries;
        let mut open = self.open.iter().position(|message| message.stream == entry.stream);
        if let Some(ix) = open
            && self.open[ix].time != entry.time
        {
            let message = self.open.remove(ix);
            take(self.numbered(message));
            open = None;
        }
        let mut message = match open {
            Some(ix) => self.open.remove(ix),
            None => self.begin(&entry),
        };
        let text = entry.text.as_bytes();
        message.text.extend_from_slice(if terminated { &text[..text.len() - 1] } else { text });
        let keep = self.joining != Joining::Messages { keep_lines: false };
        let line = keep.then(|| line[entry.range.clone()].to_vec());
        message.pieces.push(Piece { spot, text_end: message.text.len(), line });
        message.ended = ends;
        if ends {
            take(self.numbered(message));
        } else {
            self.open.push(message);
        }
    }

    /// The log ends here for now.
    pub fn finish(&mut self, take: &mut impl FnMut(Rc<Message>)) {
        for message in std::mem::take(&mut self.open) {
            take(self.numbered(message));
        }
    }

    fn begin(&mut self, entry: &Entry) -> Message {
        let headless = !self.seen.contains(&entry.stream);
        if headless {
            self.seen.push(entry.stream);
        }
        Message {
            stream: entry.stream,
            time: entry.time,
            text: Vec::new(),
            attrs: entry.attrs.clone(),
            pieces: Vec::new(),
            ended: false,
            headless,
            number: 0,
        }
    }

    fn numbered(&mut self, mut message: Message) -> Rc<Message> {
        message.number = self.number;
        self.number += 1;
        Rc::new(message)
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
