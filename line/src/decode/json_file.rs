//! One line of a json-file log: a hand-written scan of exactly what dockerd writes, serde_json for everything else.
//! Owns the fields; knows nothing of files, and joins no fragments. What stands within a string is `escapes`'.
//! Surprising: the scan starts at the end, where the fields have fixed places, and the text is what is left over.

use std::borrow::Cow;

use fearless_simd::Level;
use memchr::{memchr, memrchr};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::escapes::{CONTROL, HIGH, QUOTE_OR_BACKSLASH, Unescaped, kinds, unescape};
use super::{Entry, RecordView, Stream, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    Entry(Entry<'a>),
    Malformed(Fault),
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    /// Not an object, or one whose fields have other types than Docker's.
    NotJson,
    NoTime,
    BadTime,
    NotUtf8,
    /// Holds raw NULs: a block lost with the power, or the hole of a truncated file.
    Nul,
    /// The beginning of an object, cut by the end of the line.
    Torn,
}

impl Fault {
    pub const ALL: [Fault; 6] =
        [Fault::NotJson, Fault::NoTime, Fault::BadTime, Fault::NotUtf8, Fault::Nul, Fault::Torn];

    /// The value of the metrics label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Fault::NotJson => "not_json",
            Fault::NoTime => "no_time",
            Fault::BadTime => "bad_time",
            Fault::NotUtf8 => "not_utf8",
            Fault::Nul => "nul",
            Fault::Torn => "torn",
        }
    }
}

/// Holds memory from line to line, and no state: a line's result depends on that line only.
pub struct Decoder {
    /// The vectors that the machine has.
    level: Level,
    /// Begins with the text of the line at hand, if it had escapes.
    scratch: Vec<u8>,
    /// An `attrs` object that serde_json found valid. Docker repeats it on every record of a container, so comparing
    /// replaces parsing. Empty: none yet.
    attrs: Vec<u8>,
}

const FIRST_FIELD: &[u8; 8] = b"{\"log\":\"";
const TIME_FIELD: &[u8; 9] = b",\"time\":\"";

/// An entry but for its text, which may be in the decoder.
struct Found<'l> {
    stream: Stream,
    time: Timestamp,
    text: Text<'l>,
    attrs: Option<&'l [u8]>,
}

/// Where the text of an entry is, with the newline that ends it cut off.
#[derive(Clone, Copy)]
struct Text<'l> {
    place: Place<'l>,
    ends_line: bool,
    /// How many of its characters replace a byte.
    n_replaced: usize,
}

#[derive(Clone, Copy)]
enum Place<'l> {
    /// A part of the line.
    Line(&'l [u8]),
    /// So many bytes of the scratch.
    Scratch(usize),
}

/// The line as serde_json sees it: unknown fields are ignored, doubled ones refused.
#[derive(Deserialize)]
struct Fields<'l> {
    #[serde(borrow)]
    log: Option<&'l RawValue>,
    #[serde(borrow)]
    stream: Option<Cow<'l, str>>,
    #[serde(borrow)]
    attrs: Option<&'l RawValue>,
    #[serde(borrow)]
    time: Option<Cow<'l, str>>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { level: Level::new(), scratch: Vec::new(), attrs: Vec::new() }
    }

    /// `line` without its newline. The entry lives until the next call.
    pub fn decode<'a>(&'a mut self, line: &'a [u8]) -> Decoded<'a> {
        match self.scan(line) {
            Some(found) => Decoded::Entry(self.entry(line, found)),
            None => self.decode_other(line),
        }
    }

    /// Apart from what nearly every line takes, and so is what it keeps in registers.
    #[cold]
    #[inline(never)]
    fn decode_other<'a>(&'a mut self, line: &'a [u8]) -> Decoded<'a> {
        match self.parse(line) {
            Ok(found) => Decoded::Entry(self.entry(line, found)),
            Err(fault) => Decoded::Malformed(fault),
        }
    }

    #[inline(always)]
    fn entry<'a>(&'a self, line: &'a [u8], found: Found<'a>) -> Entry<'a> {
        let text = match found.text.place {
            Place::Line(text) => text,
            Place::Scratch(n_bytes) => &self.scratch[..n_bytes],
        };
        Entry {
            record: RecordView { stream: found.stream, time: found.time, text, attrs: found.attrs, line },
            ends_line: found.text.ends_line,
            // The escape became three bytes of text and stands for one that the container wrote.
            raw_bytes: (text.len() + usize::from(found.text.ends_line) - 2 * found.text.n_replaced) as u64,
        }
    }

    /// Docker's layout and nothing else: every line taken here means the same to [`Decoder::parse`].
    #[inline]
    fn scan<'l>(&mut self, line: &'l [u8]) -> Option<Found<'l>> {
        let rest = line.strip_suffix(b"\"}")?;
        // Nine lines of ten have all nine digits.
        let (rest, time) = match rest.split_last_chunk::<{ Timestamp::BYTES }>() {
            Some((rest, time)) if rest.ends_with(TIME_FIELD) => (rest, &time[..]),
            _ => rest.split_at(memrchr(b'"', rest)? + 1),
        };
        let time = Timestamp::parse(time).ok()?;
        let rest = rest.strip_suffix(TIME_FIELD)?;
        let (rest, attrs) = match rest.last()? {
            b'"' => (rest, None),
            // A text may end like the attributes, but not with raw quotes in it: they would end the text.
            _ if !self.attrs.is_empty() && rest.ends_with(&self.attrs) => {
                let (rest, attrs) = rest.split_at(rest.len() - self.attrs.len());
                (rest.strip_suffix(b",\"attrs\":")?, Some(attrs))
            }
            _ => return None,
        };
        let rest = rest.strip_prefix(FIRST_FIELD)?;
        let (text, stream) = if let Some(text) = rest.strip_suffix(b"\",\"stream\":\"stdout\"") {
            (text, Stream::Stdout)
        } else {
            (rest.strip_suffix(b"\",\"stream\":\"stderr\"")?, Stream::Stderr)
        };
        let text = self.unescape(line, FIRST_FIELD.len(), text.len())?;
        Some(Found { stream, time, text, attrs })
    }

    /// The text whose JSON takes `n_bytes` of the line from `start` on. None: not the inside of a string, or beyond us.
    #[inline]
    fn unescape<'l>(&mut self, line: &'l [u8], start: usize, n_bytes: usize) -> Option<Text<'l>> {
        let text = &line[start..start + n_bytes];
        let (head, ends_line) = match text.strip_suffix(b"\\n") {
            Some(head) => (head, true),
            None => (text, false),
        };
        let kinds = kinds(self.level, &line[start..], head.len());
        if kinds & CONTROL != 0 || kinds & HIGH != 0 && simdutf8::basic::from_utf8(head).is_err() {
            return None;
        }
        if kinds & QUOTE_OR_BACKSLASH == 0 {
            return Some(Text { place: Place::Line(head), ends_line, n_replaced: 0 });
        }
        // The backslash of `\n` may itself be escaped: from here on the text is taken whole.
        let Unescaped { n_bytes, n_replaced } = unescape(self.level, &line[start..], n_bytes, &mut self.scratch)?;
        let ends_line = self.scratch[..n_bytes].ends_with(b"\n");
        let n_bytes = n_bytes - usize::from(ends_line);
        Some(Text { place: Place::Scratch(n_bytes), ends_line, n_replaced })
    }

    /// Any JSON, by serde_json.
    fn parse<'l>(&mut self, line: &'l [u8]) -> Result<Found<'l>, Fault> {
        if memchr(0, line).is_some() {
            return Err(Fault::Nul);
        }
        let is_object = line.trim_ascii_start().starts_with(b"{");
        let json = std::str::from_utf8(line).map_err(|error| {
            // No error length: the line ends within a character.
            if is_object && error.error_len().is_none() { Fault::Torn } else { Fault::NotUtf8 }
        })?;
        // serde would take the fields from an array too, in their order.
        if !is_object {
            return Err(Fault::NotJson);
        }
        let fields: Fields<'l> =
            serde_json::from_str(json).map_err(|error| if error.is_eof() { Fault::Torn } else { Fault::NotJson })?;
        let attrs = fields.attrs.map(|attrs| attrs.get().as_bytes());
        if attrs.is_some_and(|attrs| !attrs.starts_with(b"{")) {
            return Err(Fault::NotJson);
        }
        let text = match fields.log.map_or("\"\"", RawValue::get) {
            log if log.contains('\\') => {
                let text: String = serde_json::from_str(log).map_err(|_| Fault::NotJson)?;
                let ends_line = text.ends_with('\n');
                self.scratch.clear();
                self.scratch.extend_from_slice(text.as_bytes());
                let n_bytes = text.len() - usize::from(ends_line);
                Text { place: Place::Scratch(n_bytes), ends_line, n_replaced: count_replaced(log.as_bytes()) }
            }
            log => {
                let text = log.strip_prefix('"').and_then(|log| log.strip_suffix('"')).ok_or(Fault::NotJson)?;
                Text { place: Place::Line(text.as_bytes()), ends_line: false, n_replaced: 0 }
            }
        };
        let time = fields.time.ok_or(Fault::NoTime)?;
        let time = Timestamp::parse(time.as_bytes()).map_err(|_| Fault::BadTime)?;
        let stream = match fields.stream.as_deref() {
            Some("stdout") => Stream::Stdout,
            Some("stderr") => Stream::Stderr,
            _ => Stream::Other,
        };
        if let Some(attrs) = attrs {
            self.attrs.clear();
            self.attrs.extend_from_slice(attrs);
        }
        Ok(Found { stream, time, text, attrs })
    }
}

/// How many `\ufffd` stand in a valid JSON string.
fn count_replaced(json: &[u8]) -> usize {
    let mut n_replaced = 0;
    let mut rest = json;
    while let Some(at) = memchr(b'\\', rest) {
        n_replaced += usize::from(rest[at + 1] == b'u' && rest[at + 2..at + 6].eq_ignore_ascii_case(b"fffd"));
        rest = &rest[at + 2..];
    }
    n_replaced
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
