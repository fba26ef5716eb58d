//! The decoder against serde_json and jiff: the same answer, or a refusal by both. Whatever is refused is taken apart
//! into pieces that tile the line.
#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use longshore::decode::{Decoded, Decoder, Entry, Fault, Piece, Stream, Timestamp, resync};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    // One decoder for all lines: what it remembers of one must not change the next.
    let mut decoder = Decoder::new();
    for line in input.split(|byte| *byte == b'\n') {
        let expected = oracle(line);
        match (decoder.decode(line), &expected) {
            (Decoded::Entry(entry), Some(expected)) => check(line, &entry, expected),
            (Decoded::Malformed(fault), None) => assert_eq!(fault == Fault::Nul, line.contains(&0)),
            (decoded, _) => panic!("{decoded:?}, expected {expected:?}, from {}", line.escape_ascii()),
        }
        if expected.is_none() {
            check_pieces(line);
        }
    }
});

#[derive(Debug)]
struct Expected {
    text: String,
    n_replaced: usize,
    stream: Stream,
    time: Timestamp,
    attrs: Option<String>,
}

fn oracle(line: &[u8]) -> Option<Expected> {
    let line = std::str::from_utf8(line).ok().filter(|line| !line.contains('\0'))?;
    let Members(members) = serde_json::from_str(line).ok()?;
    // `Some(None)`: not there, or null. `None`: there twice.
    let member = |name: &str| {
        let mut values = members.iter().filter(|(key, _)| key == name).map(|(_, value)| value.get());
        let first = values.next().filter(|value| *value != "null");
        values.next().is_none().then_some(first)
    };
    let string = |json: &str| serde_json::from_str::<String>(json).ok();
    let (log, stream, attrs, time) = (member("log")?, member("stream")?, member("attrs")?, member("time")?);
    let stream = stream.map(string);
    let attrs = attrs.map(str::to_owned);
    if stream == Some(None) || attrs.as_ref().is_some_and(|attrs| !attrs.starts_with('{')) {
        return None;
    }
    Some(Expected {
        text: string(log.unwrap_or("\"\""))?,
        n_replaced: n_replaced(log.unwrap_or_default()),
        stream: match stream.flatten().as_deref() {
            Some("stdout") => Stream::Stdout,
            Some("stderr") => Stream::Stderr,
            _ => Stream::Other,
        },
        time: checked_time(&string(time?)?)?,
        attrs,
    })
}

fn checked_time(text: &str) -> Option<Timestamp> {
    let time = Timestamp::parse(text.as_bytes()).ok()?;
    assert_eq!(Timestamp::from_unix_ns(time.unix_ns()), Ok(time));
    let other: jiff::Timestamp = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(time.unix_ns(), other.as_nanosecond(), "{text}");
    Some(time)
}

/// How many escapes of U+FFFD stand in a valid JSON string.
fn n_replaced(json: &str) -> usize {
    let mut n_replaced = 0;
    let mut characters = json.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next() == Some('u') {
            let code: String = characters.by_ref().take(4).collect();
            n_replaced += usize::from(code.eq_ignore_ascii_case("fffd"));
        }
    }
    n_replaced
}

fn check(line: &[u8], entry: &Entry<'_>, expected: &Expected) {
    assert_eq!(entry.record.line, line);
    let text = expected.text.strip_suffix('\n').unwrap_or(&expected.text);
    assert_eq!((entry.record.text, entry.ends_line), (text.as_bytes(), text.len() < expected.text.len()));
    assert_eq!(entry.raw_bytes as usize, expected.text.len() - 2 * expected.n_replaced);
    assert_eq!((entry.record.stream, entry.record.time), (expected.stream, expected.time));
    assert_eq!(entry.record.attrs, expected.attrs.as_deref().map(str::as_bytes));
}

fn check_pieces(line: &[u8]) {
    let mut at = 0;
    for piece in resync(line) {
        let (Piece::Entry { start, end } | Piece::Torn { start, end, .. }) = piece;
        assert!(start == at && start < end, "{piece:?} follows {at} in {}", line.escape_ascii());
        let mut decoder = Decoder::new();
        match (piece, decoder.decode(&line[start..end])) {
            (Piece::Entry { .. }, Decoded::Entry(entry)) => {
                check(&line[start..end], &entry, &oracle(&line[start..end]).expect("the decoder took it"));
            }
            (Piece::Torn { fault, .. }, Decoded::Malformed(found)) => assert_eq!(fault, found),
            (_, decoded) => panic!("{piece:?} gives {decoded:?} in {}", line.escape_ascii()),
        }
        at = end;
    }
    assert_eq!(at, line.len(), "the pieces tile the line");
}

/// An object's members in order, doubled ones too.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
