//! The audit's own decoder: serde_json for every line, and a plain search for what a torn write glued together.
//! Shares nothing with `crate::decode` but the two words it speaks in, [`Stream`] and [`Timestamp`]; times are read by
//! jiff. Where both decoders must agree, tests/fixtures/decode says so.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::{Stream, Timestamp};

/// One object of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub stream: Stream,
    pub time: Timestamp,
    pub text: String,
    /// Bytes the container wrote: an escaped U+FFFD stands for one that was no UTF-8.
    pub raw_bytes: usize,
    pub attrs: Option<String>,
    /// Where it stands in its line.
    pub range: Range<usize>,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Entry(Entry),
    /// No entry: the remains of one, or NULs.
    Waste {
        range: Range<usize>,
        nul: bool,
    },
}

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

/// Gives the parts of a line, without its newline, in order.
pub fn decode(line: &[u8], take: &mut impl FnMut(Part)) {
    if let Some(entry) = entry(line, 0..line.len()) {
        return take(Part::Entry(entry));
    }
    let mut done = 0;
    for start in starts(line) {
        if start < done {
            continue; // Inside of one that was taken.
        }
        let Some(end) = value_end(line, start) else { continue };
        let Some(entry) = entry(line, start..end) else { continue };
        waste(line, done..start, take);
        take(Part::Entry(entry));
        done = end;
    }
    waste(line, done..line.len(), take);
}

fn entry(line: &[u8], range: Range<usize>) -> Option<Entry> {
    let text = std::str::from_utf8(&line[range.clone()]).ok()?;
    let fields: Fields<'_> = serde_json::from_str(text).ok()?;
    let log = fields.log.map_or("\"\"", RawValue::get);
    let log_text: String = serde_json::from_str(log).ok()?;
    let attrs = fields.attrs.map(RawValue::get);
    if attrs.is_some_and(|attrs| !attrs.starts_with('{')) {
        return None;
    }
    Some(Entry {
        stream: match fields.stream.as_deref() {
            Some("stdout") => Stream::Stdout,
            Some("stderr") => Stream::Stderr,
            _ => Stream::Other,
        },
        time: time(&fields.time?)?,
        raw_bytes: log_text.len() - 2 * n_replaced(log),
        text: log_text,
        attrs: attrs.map(str::to_owned),
        range,
    })
}

/// jiff takes a leap second for the one before it; Docker writes none, so it is no time here either.
fn time(text: &str) -> Option<Timestamp> {
    if text.as_bytes().get(17..19) == Some(b"60") {
        return None;
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Timestamp::from_unix_ns(time.as_nanosecond()).ok()
}

/// How often `\ufffd` stands in a JSON string.
fn n_replaced(json: &str) -> usize {
    let mut rest = json.as_bytes();
    let mut n = 0;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escaped = &rest[at + 1..];
        n += usize::from(matches!(escaped, [b'u', b'f' | b'F', b'f' | b'F', b'f' | b'F', b'd' | b'D', ..]));
        rest = escaped.get(1..).unwrap_or_default(); // What is escaped can't begin an escape.
    }
    n
}

/// Where a record may begin: at the first byte that is no NUL, and wherever Docker's first field stands, unless it is
/// the first label of `attrs` (docker.md section 4).
fn starts(line: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    if let Some(first) = line.iter().position(|byte| *byte != 0)
        && line[first] == b'{'
    {
        starts.push(first);
    }
    for at in memchr::memmem::find_iter(line, b"{\"") {
        let field = &line[at + 1..];
        let is_first =
            [&b"\"log\":\""[..], b"\"stream\":\"", b"\"time\":\""].iter().any(|name| field.starts_with(name));
        if is_first && !line[..at].ends_with(b"\"attrs\":") && starts.last() != Some(&at) {
            starts.push(at);
        }
    }
    starts
}

/// The end of the JSON value at `start`. A record that follows a torn one may stand within its string, so the value
/// must end before bytes that are no JSON; serde_json stops there.
fn value_end(line: &[u8], start: usize) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(&line[start..]).into_iter::<serde::de::IgnoredAny>();
    values.next()?.ok()?;
    Some(start + values.byte_offset())
}

fn waste(line: &[u8], range: Range<usize>, take: &mut impl FnMut(Part)) {
    let bytes = &line[range.clone()];
    let text_start = bytes.iter().position(|byte| *byte != 0).map_or(range.end, |at| range.start + at);
    let text_end = bytes.iter().rposition(|byte| *byte != 0).map_or(range.end, |at| range.start + at + 1);
    for (part, nul) in [(range.start..text_start, true), (text_start..text_end, false), (text_end..range.end, true)] {
        if !part.is_empty() {
            take(Part::Waste { range: part, nul });
        }
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
