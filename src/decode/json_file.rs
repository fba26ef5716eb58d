//! One line of a json-file log: a hand-written scan of exactly what dockerd writes, serde_json for everything else.
//! Owns the escapes and the resync after a torn write; knows nothing of files, and joins no fragments.
//! Surprising: the scan starts at the end, where the fields have fixed places, and the text is what is left over.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem, memrchr};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Entry, Stream, Timestamp};

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
#[derive(Default)]
pub struct Decoder {
    /// The text of the line at hand, if it had escapes.
    scratch: Vec<u8>,
    /// An `attrs` object that serde_json found valid. Docker repeats it on every record of a container, so comparing
    /// replaces parsing. Empty: none yet.
    attrs: Vec<u8>,
}

const TIME_FIELD: &[u8; 9] = b",\"time\":\"";

/// An entry but for its text, which is either a part of the line or in the scratch.
struct Found<'l> {
    stream: Stream,
    time: Timestamp,
    /// None: in `scratch`.
    text: Option<&'l [u8]>,
    n_replaced: usize,
    attrs: Option<&'l [u8]>,
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

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// `line` without its newline. The entry lives until the next call.
    pub fn decode<'a>(&'a mut self, line: &'a [u8]) -> Decoded<'a> {
        let found = match self.scan(line) {
            Some(found) => found,
            None => match self.parse(line) {
                Ok(found) => found,
                Err(fault) => return Decoded::Malformed(fault),
            },
        };
        let text = found.text.unwrap_or(&self.scratch);
        Decoded::Entry(Entry {
            stream: found.stream,
            time: found.time,
            text,
            // The escape became three bytes of text and stands for one that the container wrote.
            raw_bytes: (text.len() - 2 * found.n_replaced) as u64,
            attrs: found.attrs,
            line,
        })
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
        let rest = rest.strip_prefix(b"{\"log\":\"")?;
        let (text, stream) = if let Some(text) = rest.strip_suffix(b"\",\"stream\":\"stdout\"") {
            (text, Stream::Stdout)
        } else {
            (rest.strip_suffix(b"\",\"stream\":\"stderr\"")?, Stream::Stderr)
        };
        let (text, n_replaced) = self.unescape(text)?;
        Some(Found { stream, time, text, n_replaced, attrs })
    }

    /// The text and how many of its characters replace a byte; None: not the inside of one JSON string, or beyond us.
    #[inline]
    fn unescape<'l>(&mut self, text: &'l [u8]) -> Option<(Option<&'l [u8]>, usize)> {
        let (head, has_newline) = match text.strip_suffix(b"\\n") {
            Some(head) => (head, true),
            None => (text, false),
        };
        let kinds = kinds(head);
        if kinds & CONTROL != 0 || kinds & HIGH != 0 && std::str::from_utf8(head).is_err() {
            return None;
        }
        if kinds & QUOTE_OR_BACKSLASH == 0 {
            if !has_newline {
                return Some((Some(head), 0));
            }
            self.scratch.clear();
            self.scratch.extend_from_slice(head);
            self.scratch.push(b'\n');
            return Some((None, 0));
        }
        // The backslash of `\n` may itself be escaped: from here on the text is taken whole.
        self.scratch.clear();
        self.scratch.reserve(text.len());
        let n_replaced = unescape_into(text, &mut self.scratch)?;
        Some((None, n_replaced))
    }

    /// Any JSON, by serde_json.
    #[cold]
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
        let (text, n_replaced) = match fields.log.map_or("\"\"", RawValue::get) {
            log if log.contains('\\') => {
                let text: String = serde_json::from_str(log).map_err(|_| Fault::NotJson)?;
                self.scratch.clear();
                self.scratch.extend_from_slice(text.as_bytes());
                (None, count_replaced(log.as_bytes()))
            }
            log => {
                let text = log.strip_prefix('"').and_then(|log| log.strip_suffix('"')).ok_or(Fault::NotJson)?;
                (Some(text.as_bytes()), 0)
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
        Ok(Found { stream, time, text, n_replaced, attrs })
    }
}

const CONTROL: u8 = 1;
const QUOTE_OR_BACKSLASH: u8 = 2;
const HIGH: u8 = 0x80;

/// Which kinds of byte occur. Looks at every byte, 32 at a time: no branch, so it compiles to vector instructions.
#[inline]
fn kinds(text: &[u8]) -> u8 {
    const LANES: usize = 32;
    #[inline(always)]
    fn kind(byte: u8) -> u8 {
        let is_control = u8::from(byte < 0x20) * CONTROL;
        let is_special = u8::from(byte == b'"' || byte == b'\\') * QUOTE_OR_BACKSLASH;
        is_control | is_special | (byte & HIGH)
    }
    let mut seen = [0u8; LANES];
    let mut add = |lanes: &[u8; LANES]| {
        for (seen, byte) in seen.iter_mut().zip(lanes) {
            *seen |= kind(*byte);
        }
    };
    let (whole, _) = text.as_chunks::<LANES>();
    whole.iter().for_each(&mut add);
    if let Some(last) = text.last_chunk::<LANES>() {
        add(last); // overlaps: seeing a byte twice does no harm
    } else {
        let mut padded = [b' '; LANES];
        padded[..text.len()].copy_from_slice(text);
        add(&padded);
    }
    seen.into_iter().fold(0, |all, seen| all | seen)
}

/// Returns how many `\ufffd` there were. Surrogates are rare enough for serde_json.
fn unescape_into(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut n_replaced = 0;
    let mut rest = text;
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (char, length) = match special {
            [b'\\', b'u', hex @ ..] => {
                let code = hex4(hex.first_chunk()?)?;
                n_replaced += usize::from(code == 0xfffd);
                (char::from_u32(code)?, 6)
            }
            [b'\\', short, ..] => (unescape_short(*short)?, 2),
            _ => return None,
        };
        if char.is_ascii() {
            out.push(char as u8);
        } else {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = &special[length..];
    }
    out.extend_from_slice(rest);
    Some(n_replaced)
}

fn unescape_short(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte as char,
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        _ => return None,
    })
}

fn hex4(digits: &[u8; 4]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | (*digit as char).to_digit(16)?))
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

/// A part of a line that is no entry as a whole; offsets within the line, `start < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Decodes.
    Entry { start: usize, end: usize },
    /// The remains of a record, or a run of NULs.
    Torn { start: usize, end: usize, fault: Fault },
}

/// Takes a line apart that did not decode. The pieces tile it. Time and memory are linear in its length.
///
/// After a torn write the next record stands on the same line. The raw bytes `{"log":"` can only begin a record, since
/// a quote within a string is escaped, but directly after `"attrs":` (docker.md section 4). So each object must end
/// before the next such place, and no byte is parsed for two of them.
pub fn resync(line: &[u8]) -> Vec<Piece> {
    let mut decoder = Decoder::new();
    let mut pieces = Vec::new();
    let mut torn_start = 0;
    let mut starts = record_starts(line).peekable();
    while let Some(start) = starts.next() {
        let limit = starts.peek().copied().unwrap_or(line.len());
        let Some(end) = object_end(&line[start..limit]).map(|length| start + length) else { continue };
        if let Decoded::Entry(_) = decoder.decode(&line[start..end]) {
            push_torn(&mut pieces, line, torn_start, start, &mut decoder);
            pieces.push(Piece::Entry { start, end });
            torn_start = end;
        }
    }
    push_torn(&mut pieces, line, torn_start, line.len(), &mut decoder);
    pieces
}

/// Where a record may begin, in order: the first byte that is no NUL, and each first field of Docker's that could not
/// be the first label of `attrs`.
fn record_starts(line: &[u8]) -> impl Iterator<Item = usize> {
    const FIRST_FIELDS: [&[u8]; 3] = [b"{\"log\":\"", b"{\"stream\":\"", b"{\"time\":\""];
    let first = line.iter().position(|byte| *byte != 0).filter(|start| line[*start] == b'{');
    let later = memmem::find_iter(line, b"{\"").filter(move |start| {
        Some(*start) != first
            && FIRST_FIELDS.iter().any(|field| line[*start..].starts_with(field))
            && !line[..*start].ends_with(b"\"attrs\":")
    });
    first.into_iter().chain(later)
}

/// The length of the one JSON value that `bytes` begin with.
fn object_end(bytes: &[u8]) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// Covers `start..end`, where no entry was found. Only the NULs around it get pieces of their own: one piece for each
/// run within would let a hostile line cost many times its length.
fn push_torn(pieces: &mut Vec<Piece>, line: &[u8], start: usize, end: usize, decoder: &mut Decoder) {
    let bytes = &line[start..end];
    let text_start = bytes.iter().position(|byte| *byte != 0).map_or(end, |at| start + at);
    let text_end = bytes.iter().rposition(|byte| *byte != 0).map_or(end, |at| start + at + 1);
    for (start, end) in [(start, text_start), (text_start, text_end), (text_end, end)] {
        if start == end {
            continue;
        }
        pieces.push(match decoder.decode(&line[start..end]) {
            Decoded::Malformed(fault) => Piece::Torn { start, end, fault },
            // An object that holds what looks like a record: Docker writes none, but it is whole.
            Decoded::Entry(_) => Piece::Entry { start, end },
        });
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
