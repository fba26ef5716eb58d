//! One line of a json-file log: a hand-written scan of exactly what dockerd writes, serde_json for everything else.
//! Owns the escapes; knows nothing of files, and joins no fragments.
//! Surprising: the scan starts at the end, where the fields have fixed places, and the text is what is left over.

use std::borrow::Cow;

use memchr::{memchr, memrchr};
use serde::Deserialize;
use serde_json::value::RawValue;
use wide::u8x16;

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
        let text = match found.text.place {
            Place::Line(text) => text,
            Place::Scratch(n_bytes) => &self.scratch[..n_bytes],
        };
        Decoded::Entry(Entry {
            stream: found.stream,
            time: found.time,
            text,
            ends_line: found.text.ends_line,
            // The escape became three bytes of text and stands for one that the container wrote.
            raw_bytes: (text.len() + usize::from(found.text.ends_line) - 2 * found.text.n_replaced) as u64,
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
        let kinds = kinds(head);
        if kinds & CONTROL != 0 || kinds & HIGH != 0 && simdutf8::basic::from_utf8(head).is_err() {
            return None;
        }
        if kinds & QUOTE_OR_BACKSLASH == 0 {
            return Some(Text { place: Place::Line(head), ends_line, n_replaced: 0 });
        }
        // The backslash of `\n` may itself be escaped: from here on the text is taken whole.
        self.scratch.clear();
        self.scratch.reserve(n_bytes);
        let n_replaced = unescape_into(&line[start..], n_bytes, &mut self.scratch)?;
        let ends_line = self.scratch.ends_with(b"\n");
        let n_bytes = self.scratch.len() - usize::from(ends_line);
        Some(Text { place: Place::Scratch(n_bytes), ends_line, n_replaced })
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

const CONTROL: u8 = 1;
const QUOTE_OR_BACKSLASH: u8 = 2;
const HIGH: u8 = 0x80;

/// Which kinds of byte occur. Looks at every byte, and has no branch on what it sees.
#[inline]
fn kinds(text: &[u8]) -> u8 {
    let mut seen = Seen { lowest: u8x16::MAX, special: u8x16::ZERO, any: u8x16::ZERO };
    // Four vectors a turn: the compiler is not asked to unroll loops.
    let (blocks, rest) = text.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        let (vectors, _) = block.as_chunks::<LANES>();
        seen.add(&vectors[0]);
        seen.add(&vectors[1]);
        seen.add(&vectors[2]);
        seen.add(&vectors[3]);
    }
    rest.as_chunks::<LANES>().0.iter().for_each(|vector| seen.add(vector));
    if let Some(last) = text.last_chunk::<LANES>() {
        seen.add(last); // overlaps: seeing a byte twice does no harm
    } else {
        let mut padded = [b' '; LANES];
        padded[..text.len()].copy_from_slice(text);
        seen.add(&padded);
    }
    let flag = |lanes: u8x16, kind: u8| if lanes.to_bitmask() == 0 { 0 } else { kind };
    let control = seen.lowest.simd_le(u8x16::splat(0x1f));
    flag(control, CONTROL) | flag(seen.special, QUOTE_OR_BACKSLASH) | flag(seen.any, HIGH)
}

const LANES: usize = 16;

/// Of each lane.
struct Seen {
    lowest: u8x16,
    special: u8x16,
    /// All of them or-ed.
    any: u8x16,
}

impl Seen {
    #[inline(always)]
    fn add(&mut self, bytes: &[u8; LANES]) {
        let bytes = u8x16::new(*bytes);
        self.lowest = self.lowest.min(bytes);
        self.special |= bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
        self.any |= bytes;
    }
}

/// What is copied at once, also when fewer bytes are wanted: what is too much is overwritten by what comes next.
const COPY_BYTES: usize = 16;
/// Bytes of a bit mask.
const BLOCK_BYTES: usize = 64;
/// A block with what one copy, or the rest of an escape, may take beyond it.
const WINDOW_BYTES: usize = BLOCK_BYTES + COPY_BYTES;

/// Appends `text[..end]` to `out`, its escapes resolved; gives how many `\ufffd` there were. `text` goes on behind `end`.
/// Surrogates are rare enough for serde_json.
///
/// A block at a time: where its escapes begin is known before the first is resolved, so that none waits for the one
/// before it, and in arrays of a fixed size no access has to be checked.
fn unescape_into(text: &[u8], end: usize, out: &mut Vec<u8>) -> Option<usize> {
    let mut n_replaced = 0;
    let mut is_escaped = false;
    // Bytes of the block that belong to the last escape of the one before it.
    let mut n_taken = 0;
    let mut start = 0;
    while start < end {
        let n_bytes = BLOCK_BYTES.min(end - start);
        let mut window = [b' '; WINDOW_BYTES];
        match text[start..].first_chunk() {
            Some(bytes) => window = *bytes,
            None => window[..n_bytes].copy_from_slice(&text[start..end]),
        }
        let (mut escapes, has_raw_quote) = Special::find(&window, n_bytes).escapes(&mut is_escaped);
        // The last byte's escape would take the quote that ends the text.
        let is_cut = start + n_bytes == end && escapes >> (n_bytes - 1) != 0;
        if has_raw_quote || is_cut {
            return None;
        }
        // `window[..from]` is in `block[..to]`.
        let mut block = [0; WINDOW_BYTES];
        let (mut from, mut to) = (n_taken, 0);
        while escapes != 0 {
            let at = escapes.trailing_zeros() as usize;
            escapes &= escapes - 1;
            copy(&window, from, at, &mut block, to);
            to += at - from;
            let code = window[(at & MASK) + 1];
            from = at + 1; // A quote stands for itself, and begins what is copied next.
            if matches!(code, b'"' | b'\\' | b'/') {
                continue;
            }
            let short = SHORT_ESCAPES[usize::from(code)];
            if short != 0 {
                block[to & MASK] = short;
                to += 1;
                from = at + 2;
            } else if code == b'u' {
                let code = hex4(text[start + at + 2..end].first_chunk()?)?;
                n_replaced += usize::from(code == 0xfffd);
                out.extend_from_slice(&block[..to]);
                to = 0;
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                from = at + 6;
            } else {
                return None;
            }
        }
        copy(&window, from, n_bytes, &mut block, to);
        to += n_bytes.saturating_sub(from);
        n_taken = from.saturating_sub(n_bytes);
        out.extend_from_slice(&block[..to]);
        start += BLOCK_BYTES;
    }
    Some(n_replaced)
}

/// Of a place in a block.
const MASK: usize = BLOCK_BYTES - 1;

/// Copies `window[from..end]` to `block[to..]`, in pieces of a fixed size. Nothing when `from` is beyond `end`.
#[inline(always)]
fn copy(window: &[u8; WINDOW_BYTES], mut from: usize, end: usize, block: &mut [u8; WINDOW_BYTES], mut to: usize) {
    while from < end {
        let piece: [u8; COPY_BYTES] = *window[from & MASK..].first_chunk().expect("a window is longer than a block");
        *block[to & MASK..].first_chunk_mut().expect("a window is longer than a block") = piece;
        (from, to) = (from + COPY_BYTES, to + COPY_BYTES);
    }
}

/// Places of quotes and backslashes in a block: a bit a byte.
struct Special {
    quotes: u64,
    backslashes: u64,
}

impl Special {
    /// In the first `n_bytes`.
    #[inline(always)]
    fn find(window: &[u8; WINDOW_BYTES], n_bytes: usize) -> Special {
        let (mut quotes, mut backslashes) = (0, 0);
        for (ix, bytes) in window.as_chunks::<16>().0.iter().take(BLOCK_BYTES / 16).enumerate() {
            let bytes = u8x16::new(*bytes);
            quotes |= u64::from(bytes.simd_eq(u8x16::splat(b'"')).to_bitmask()) << (16 * ix);
            backslashes |= u64::from(bytes.simd_eq(u8x16::splat(b'\\')).to_bitmask()) << (16 * ix);
        }
        let kept = u64::MAX >> (BLOCK_BYTES - n_bytes);
        Special { quotes: quotes & kept, backslashes: backslashes & kept }
    }

    /// Where escapes begin, and whether there is a quote that none of them holds. `is_escaped`: the first byte is the
    /// second of an escape; afterwards, whether the next block's is.
    #[inline(always)]
    fn escapes(&self, is_escaped: &mut bool) -> (u64, bool) {
        // In a run of backslashes every second one begins an escape. Adding the run's first bit to it carries to the
        // bit behind the run, whatever its length (simdjson, find_escaped_branchless).
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let escaped_first = u64::from(*is_escaped);
        let backslashes = self.backslashes & !escaped_first;
        let follows = backslashes << 1 | escaped_first;
        let odd_starts = backslashes & !EVEN & !follows;
        let (carried, overflowed) = odd_starts.overflowing_add(backslashes);
        let escaped = (EVEN ^ (carried << 1)) & follows;
        *is_escaped = overflowed;
        (backslashes & !escaped, self.quotes & !escaped != 0)
    }
}

/// What a letter behind a backslash stands for; 0: nothing, or more than it.
const SHORT_ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let pairs = [b"n\n", b"r\r", b"t\t", b"b\x08", b"f\x0c"];
    let mut ix = 0;
    while ix < pairs.len() {
        table[pairs[ix][0] as usize] = pairs[ix][1];
        ix += 1;
    }
    table
};

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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
