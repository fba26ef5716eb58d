//! The audit's own joiner: pieces of 16 KiB into whole messages. Remembers the pieces, because a message that no byte
//! ended may have been ended by decision after any of them. A line that outgrows memory comes as several messages, each
//! with whole records, whatever the length is at which the settings end one.

use std::ops::Range;
use std::rc::Rc;

use crate::config::limits::{MAX_LINE_BYTES_MAX, MAX_LINE_BYTES_MIN};
use crate::decode::{RecordView, Stream, Timestamp};
use crate::filter::Redacted;
use crate::format::Formatter;
use crate::shape::Shape;
use crate::verify::decode::Entry;

/// A shorter piece without a newline is the last one of its line (docker.md section 1).
const PIECE_RAW_BYTES: usize = 16_384;

/// A message that got so many bytes goes on as another one. Where a decision ended a line, only a message that has all of
/// it shows that, so this is as much as memory likes.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
const _: () = assert!(TEXT_BYTES_MAX > MAX_LINE_BYTES_MAX, "a message has a whole record of each length");

/// Room for what a layout adds to a text, most of the time: its time, a name.
const LAYOUT_BYTES: usize = 64;

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

/// The records of a long line that one of its messages has, under one length of records. Others end elsewhere, so
/// what is no record yet under one length may be in the message before and in the one behind.
#[derive(Clone, Debug)]
struct Share {
    bytes_max: usize,
    start: usize,
    /// `None`: to the end of the text.
    end: Option<usize>,
}

/// One whole message, an entry on its own, or a part of a line that is too long to be held.
#[derive(Clone, Debug)]
pub struct Message {
    pub stream: Stream,
    pub time: Timestamp,
    text: Vec<u8>,
    /// None: all of the text under every length.
    shares: Vec<Share>,
    /// So much of the text came with the message before.
    carried_bytes: usize,
    attrs: Option<String>,
    /// Where its text begins.
    first: Spot,
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
        self.first
    }

    pub fn last(&self) -> Spot {
        self.pieces.last().map(|piece| piece.spot).unwrap_or_default()
    }

    pub fn text_bytes(&self) -> usize {
        self.text.len()
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
    pub fn lines_of(&self, shape: &Shape, pieces: Range<usize>) -> Vec<Vec<u8>> {
        self.rendered(shape, pieces).into_iter().map(|(line, _)| line).collect()
    }

    /// Each line with the piece that it goes out with: what max-line-bytes cuts off doesn't wait for the end.
    pub fn rendered(&self, shape: &Shape, pieces: Range<usize>) -> Vec<(Vec<u8>, Spot)> {
        let mut lines = Vec::new();
        let before = pieces.start.checked_sub(1);
        if shape.formatter == Formatter::Docker {
            let mut start = before.map_or(self.carried_bytes, |before| self.pieces[before].text_end);
            for piece in &self.pieces[pieces] {
                let text = &self.text[start..piece.text_end.max(start)];
                start = piece.text_end;
                if shape.filter.passes(self.stream, text) {
                    let line = piece.line.as_deref().unwrap_or_default();
                    lines.push(([line, b"\n"].concat(), piece.spot));
                }
            }
            return lines;
        }
        let bytes_max = shape.max_line_bytes as usize;
        let share = self.share(bytes_max);
        let start = before.map_or(share.start, |before| self.pieces[before].text_end);
        let is_all = pieces.end == self.pieces.len();
        let end = pieces.end.checked_sub(1).map_or(0, |last| self.pieces[last].text_end);
        let end = if is_all { share.end } else { end };
        if pieces.start > 0 && start >= end {
            return lines; // The newline of a line that was ended before.
        }
        self.render_text(shape, start..end.max(start), pieces)
    }

    /// The lines behind so much of its text, which went out under other settings.
    pub fn rendered_behind(&self, shape: &Shape, start: usize) -> Vec<(Vec<u8>, Spot)> {
        let pieces = self.pieces.iter().take_while(|piece| piece.text_end <= start).count()..self.pieces.len();
        match shape.formatter {
            Formatter::Docker => self.rendered(shape, pieces),
            _ => {
                let end = self.share(shape.max_line_bytes as usize).end;
                if start < end { self.render_text(shape, start..end, pieces) } else { Vec::new() }
            }
        }
    }

    /// Where its last `n_left` lines under a shape begin in its text. `None`: all lines are left, or a filter keeps some
    /// from being counted.
    pub fn begin_of_last(&self, shape: &Shape, n_left: usize) -> Option<usize> {
        let n_lines = self.lines(shape).len();
        let n_before = n_lines.checked_sub(n_left).filter(|n_before| *n_before > 0)?;
        if shape.formatter == Formatter::Docker {
            return (n_lines == self.pieces.len()).then(|| self.pieces[n_before - 1].text_end);
        }
        let bytes_max = shape.max_line_bytes as usize;
        let share = self.share(bytes_max);
        let parts = parts(&self.text[share.clone()], bytes_max);
        (n_lines == parts.len()).then(|| share.start + parts[..n_before].iter().map(|part| part.len()).sum::<usize>())
    }

    fn render_text(&self, shape: &Shape, text: Range<usize>, pieces: Range<usize>) -> Vec<(Vec<u8>, Spot)> {
        let (mut start, bytes_max) = (text.start, shape.max_line_bytes as usize);
        let mut lines = Vec::new();
        for part in parts(&self.text[text], bytes_max) {
            let cut = self.pieces[pieces.clone()].iter().find(|piece| piece.text_end > start + bytes_max);
            let spot = cut.map_or(self.last(), |piece| piece.spot);
            start += part.len();
            if shape.filter.passes(self.stream, part) {
                let text = shape.redaction.apply(part, &mut Redacted::default());
                let mut out = Vec::with_capacity(text.len() + LAYOUT_BYTES);
                shape.formatter.append(&self.view(&text), &mut out);
                match memchr::memchr(b'\n', &out) {
                    // Nearly all of them are one line.
                    Some(at) if at + 1 == out.len() => lines.push((out, spot)),
                    _ => lines.extend(out.split_inclusive(|byte| *byte == b'\n').map(|line| (line.to_vec(), spot))),
                }
            }
        }
        lines
    }

    fn share(&self, bytes_max: usize) -> Range<usize> {
        let share = self.shares.iter().find(|share| share.bytes_max == bytes_max);
        share.map_or(0..self.text.len(), |share| share.start..share.end.unwrap_or(self.text.len()))
    }

    /// Ends it behind the last whole record of each length, and gives what begins with the rest. `keep`: pieces are lines.
    fn part(&mut self, lengths: &[usize], keep: bool) -> Message {
        self.shares = lengths
            .iter()
            .map(|bytes_max| {
                let start = self.share(*bytes_max).start;
                let mut end = start;
                while self.text.len() - end > *bytes_max {
                    end += split_point(&self.text[end..], *bytes_max);
                }
                Share { bytes_max: *bytes_max, start, end: Some(end) }
            })
            .collect();
        let ends = self.shares.iter().filter_map(|share| share.end);
        let from = ends.min().unwrap_or(self.text.len());
        let text = self.text[from..].to_vec();
        let after = |share: &Share| Share { start: share.end.unwrap_or_default() - from, end: None, ..*share };
        let rest = Message {
            carried_bytes: text.len(),
            text,
            shares: self.shares.iter().map(after).collect(),
            attrs: self.attrs.clone(),
            first: self.pieces.iter().find(|piece| piece.text_end > from).map_or(self.last(), |piece| piece.spot),
            pieces: Vec::new(),
            headless: false,
            ..*self
        };
        // Its length ended these records, no decision: only the last piece, which tells how far it reaches, is of use.
        self.ended = true;
        if !keep {
            self.pieces.drain(..self.pieces.len().saturating_sub(1));
        }
        rest
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
        let (part, after) = rest.split_at(split_point(rest, bytes_max));
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// The last place between characters at which a longer text may end.
fn split_point(text: &[u8], bytes_max: usize) -> usize {
    let is_inside = |at: usize| text[at] & 0b1100_0000 == 0b1000_0000;
    (bytes_max - 4..=bytes_max).rev().find(|at| !is_inside(*at)).unwrap_or(bytes_max - 4)
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

impl Joining {
    pub fn of(shapes: &[Shape]) -> Joining {
        let n_docker = shapes.iter().filter(|shape| shape.formatter == Formatter::Docker).count();
        if n_docker == shapes.len() { Joining::Entries } else { Joining::Messages { keep_lines: n_docker > 0 } }
    }
}

#[derive(Clone, Debug)]
pub struct Joiner {
    joining: Joining,
    /// The lengths at which the settings, all there were, end a record.
    lengths: Vec<usize>,
    open: Vec<Message>,
    seen: Vec<Stream>,
    number: u64,
}

impl Joiner {
    pub fn new(shapes: &[Shape]) -> Joiner {
        // No agent takes others; the journal may have been written by somebody else.
        let is_one = |length: &usize| (MAX_LINE_BYTES_MIN..=MAX_LINE_BYTES_MAX).contains(length);
        let mut lengths: Vec<usize> = shapes.iter().map(|shape| shape.max_line_bytes as usize).filter(is_one).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Joiner { joining: Joining::of(shapes), lengths, open: Vec::new(), seen: Vec::new(), number: 0 }
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
        let keep = self.joining != Joining::Messages { keep_lines: false };
        let mut message = match open {
            Some(ix) => self.open.remove(ix),
            None => self.begin(&entry, spot),
        };
        if message.text.len() - message.carried_bytes > TEXT_BYTES_MAX {
            let rest = message.part(&self.lengths, keep);
            take(self.numbered(std::mem::replace(&mut message, rest)));
        }
        let text = entry.text.as_bytes();
        message.text.extend_from_slice(if terminated { &text[..text.len() - 1] } else { text });
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

    fn begin(&mut self, entry: &Entry, spot: Spot) -> Message {
        let headless = !self.seen.contains(&entry.stream);
        if headless {
            self.seen.push(entry.stream);
        }
        Message {
            stream: entry.stream,
            time: entry.time,
            text: Vec::new(),
            shares: Vec::new(),
            carried_bytes: 0,
            first: spot,
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
