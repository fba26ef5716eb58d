//! Fixtures: NAME.log is what is in the file, NAME.expected one line for each piece of it. `BLESS=1` rewrites them.

#![allow(clippy::disallowed_methods, reason = "fixtures are read from their files")]

use std::{fmt::Write as _, fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::decode::{Piece, resync};

const TIME: &str = "2026-11-25T16:09:50.123456789Z";

/// The text with its newline.
fn whole(entry: &Entry<'_>) -> Vec<u8> {
    let newline: &[u8] = if entry.ends_line { b"\n" } else { b"" };
    assert!(!entry.record.text.ends_with(b"\n") || entry.ends_line, "the newline at the end is cut off");
    [entry.record.text, newline].concat()
}

/// How an entry reads in an .expected file.
fn show(entry: &Entry<'_>) -> String {
    let text = String::from_utf8(whole(entry)).unwrap();
    let mut shown = format!("entry {} {} raw={} ", entry.record.stream.name(), entry.record.time, entry.raw_bytes);
    match text.char_indices().nth(200) {
        Some(_) => write!(shown, "{:?}… of {}", text.chars().take(20).collect::<String>(), text.len()).unwrap(),
        None => write!(shown, "{text:?}").unwrap(),
    }
    if let Some(attrs) = entry.record.attrs {
        write!(shown, " attrs={}", std::str::from_utf8(attrs).unwrap()).unwrap();
    }
    shown
}

/// As the agent does it: decode, else take the line apart.
fn show_line(decoder: &mut Decoder, line: &[u8]) -> Vec<String> {
    if let Decoded::Entry(entry) = decoder.decode(line) {
        return vec![show(&entry)];
    }
    let show_piece = |piece| match piece {
        Piece::Torn { start, end, fault } => format!("torn {start}..{end} {fault:?}"),
        Piece::Entry { start, end } => match decoder.decode(&line[start..end]) {
            Decoded::Entry(entry) => show(&entry),
            Decoded::Malformed(fault) => panic!("piece {start}..{end} does not decode: {fault:?}"),
        },
    };
    resync(line).into_iter().map(show_piece).collect()
}

#[test]
fn fixtures() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/decode");
    let mut n_cases = 0;
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        n_cases += 1;
        let log = fs::read(&path).unwrap();
        let mut decoder = Decoder::new();
        let lines = log.strip_suffix(b"\n").unwrap_or(&log).split(|byte| *byte == b'\n');
        let shown: Vec<String> = lines.flat_map(|line| show_line(&mut decoder, line)).collect();
        let shown = shown.join("\n") + "\n";
        let expected_path = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_path, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&expected_path).unwrap(), "{}", path.display());
    }
    assert!(n_cases >= 20, "fixtures are missing from {}", dir.display());
}

/// moby's jsonlog marshalling, from the bytes that a container wrote.
fn docker_line(raw: &[u8], stream: &str, attrs: Option<&str>, time: &str) -> Vec<u8> {
    let mut log = String::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let (valid, n_invalid) = match std::str::from_utf8(rest) {
            Ok(text) => (text, 0),
            Err(error) => (std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap(), 1),
        };
        for char in valid.chars() {
            match char {
                '"' | '\\' => log.extend(['\\', char]),
                '\n' => log.push_str("\\n"),
                '\r' => log.push_str("\\r"),
                '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(log, "\\u{:04x}", char as u32).unwrap(),
                _ => log.push(char),
            }
        }
        log.push_str(&"\\ufffd".repeat(n_invalid));
        rest = &rest[valid.len() + n_invalid..];
    }
    let attrs = attrs.map_or(String::new(), |attrs| format!("\"attrs\":{attrs},"));
    format!("{{\"log\":\"{log}\",\"stream\":\"{stream}\",{attrs}\"time\":\"{time}\"}}").into_bytes()
}

const SPECIAL: &[&str] = &["\n", "\\n", "\\", "\"", "\u{fffd}", "\u{2028}", "{\"log\":\"", "\",\"time\":\""];

/// What a container writes: mostly text, with the bytes that hurt.
fn raw_text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[ -~]{0,40}".prop_map(String::into_bytes),
        2 => "\\PC{0,8}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => prop::sample::select(SPECIAL).prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn attrs() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        None,
        Some("{\"log\":\"x\"}"),
        Some("{\"a\":\"\\u003cb\",\"tag\":\"ü\"}"),
        Some("{}"),
    ])
}

fn docker_lines() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop::sample::select(vec!["stdout", "stderr", "stdin", ""]);
    let time =
        prop::sample::select(vec![TIME, "2026-11-25T16:09:50.1Z", "2026-11-25T16:09:50Z", "2026-02-30T00:00:00Z"]);
    (raw_text(), stream, attrs(), time).prop_map(|(raw, stream, attrs, time)| docker_line(&raw, stream, attrs, time))
}

/// Overwrites, inserts or deletes at a few places: mostly what a JSON parser cares about.
fn mutated_lines() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\"\\{}:,un\n\t\0 0fF".to_vec()), any::<u8>(),];
    let edit = (any::<prop::sample::Index>(), 0..3u8, byte);
    (docker_lines(), prop::collection::vec(edit, 1..4)).prop_map(|(mut line, edits)| {
        for (place, kind, byte) in edits {
            let at = place.index(line.len());
            match kind {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                _ => drop(line.remove(at)),
            }
        }
        line
    })
}

/// The scan takes a line only if serde_json takes it, and then as the same entry.
fn check_scan(attrs_seen: &[u8], line: &[u8]) -> bool {
    let decoder = || Decoder { attrs: attrs_seen.to_vec(), ..Decoder::new() };
    let (mut fast, mut slow) = (decoder(), decoder());
    let Some(found) = fast.scan(line) else { return false };
    let oracle = slow.parse(line).unwrap_or_else(|fault| panic!("{fault:?}: {:?}", line.escape_ascii().to_string()));
    assert_eq!((found.stream, found.time, found.attrs), (oracle.stream, oracle.time, oracle.attrs));
    assert_eq!((found.text.ends_line, found.text.n_replaced), (oracle.text.ends_line, oracle.text.n_replaced));
    let text = |place: Place<'_>, decoder: &Decoder| match place {
        Place::Line(text) => text.to_vec(),
        Place::Scratch(n_bytes) => decoder.scratch[..n_bytes].to_vec(),
    };
    assert_eq!(text(found.text.place, &fast), text(oracle.text.place, &slow));
    true
}

fn check_tiles(line: &[u8]) {
    let mut decoder = Decoder::new();
    let mut covered = 0;
    for piece in resync(line) {
        let (start, end) = match piece {
            Piece::Entry { start, end } => {
                assert!(matches!(decoder.decode(&line[start..end]), Decoded::Entry(_)));
                (start, end)
            }
            Piece::Torn { start, end, .. } => (start, end),
        };
        assert!(start == covered && start < end, "{piece:?} after {covered}");
        covered = end;
    }
    assert_eq!(covered, line.len());
}

#[test]
fn scan_takes_what_docker_writes() {
    for raw in ["\n", "abc\n", "abc", "", "a\tb\\\n", "C:\\n\n", "ü\u{2028}\u{1f600}\n", "say \"<hi>\" & go\r\n"] {
        for stream in ["stdout", "stderr"] {
            for attrs in [None, Some("{\"a\":\"b\"}")] {
                for time in [TIME, "2026-11-25T16:09:50.12345678Z", "2026-11-25T16:09:50Z"] {
                    let line = docker_line(raw.as_bytes(), stream, attrs, time);
                    assert!(check_scan(b"{\"a\":\"b\"}", &line), "{}", line.escape_ascii());
                }
            }
        }
    }
}

/// Every code unit, alone and doubled: escapes are as serde_json has them.
#[test]
fn every_escape() {
    for unit in 0..=0xffffu32 {
        check_scan(b"", format!("{{\"log\":\"\\u{unit:04x}\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}").as_bytes());
    }
    for byte in 0..=255u8 {
        for text in [vec![byte], vec![b'\\', byte], vec![b'\\', b'\\', byte], [b"\\u00", &[byte, b'1'][..]].concat()] {
            let mut line = b"{\"log\":\"".to_vec();
            line.extend(text);
            line.extend(format!("\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}").bytes());
            check_scan(b"", &line);
        }
    }
}

/// Escapes are found a block at a time: each kind at each place of two blocks, alone and in runs.
#[test]
fn escapes_at_every_place() {
    for raw in ["\"", "\\", "\r", "<", "\u{2028}", "\\\\\\", "\"\\\"", "\\n", "<\r\""] {
        for n_before in 0..136 {
            for n_behind in [0, 1, 30, 80] {
                let text = ["a".repeat(n_before), raw.to_owned(), "z".repeat(n_behind)].concat();
                assert!(check_scan(b"", &docker_line(text.as_bytes(), "stdout", None, TIME)));
                let cut = format!("{{\"log\":\"{text}\\\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}");
                check_scan(b"", cut.as_bytes());
            }
        }
    }
}

/// Found by fuzz/fuzz_targets/decode.rs.
#[test]
fn an_array_of_the_fields_is_no_record() {
    let array = format!(r#"["a\n","stdout",null,"{TIME}"]"#);
    assert_eq!(Decoder::new().decode(array.as_bytes()), Decoded::Malformed(Fault::NotJson));
    let object = format!(r#" {{"log":"a\n","stream":"stdout","time":"{TIME}"}} "#);
    assert!(matches!(Decoder::new().decode(object.as_bytes()), Decoded::Entry(_)), "blanks around an object are JSON");
}

#[test]
fn hostile_lines_take_linear_time() {
    let started = std::time::Instant::now();
    for unit in [
        "{\"log\":\"",
        "{\"log\":\"\",\"x\":",
        "{\"x\":",
        "[",
        "{\"log\":\"\"}",
        "{\"log\":\"a\\u",
        "\0{",
        "{\"attrs\":",
    ] {
        let line = unit.repeat((1 << 20) / unit.len());
        check_tiles(line.as_bytes());
    }
    // Quadratic would take minutes.
    assert!(started.elapsed().as_secs() < 20);
}

proptest! {
    #[test]
    fn decodes_what_was_written(raw in raw_text(), attrs in attrs()) {
        let line = docker_line(&raw, "stderr", attrs, TIME);
        let mut decoder = Decoder::new();
        for _ in 0..2 {
            // The second time the attributes are known.
            let Decoded::Entry(entry) = decoder.decode(&line) else { panic!("{}", line.escape_ascii()) };
            prop_assert_eq!(entry.raw_bytes, raw.len() as u64);
            prop_assert_eq!(entry.record.attrs, attrs.map(str::as_bytes));
            prop_assert_eq!((entry.record.stream, &*entry.record.time.to_string(), entry.record.line), (Stream::Stderr, TIME, &line[..]));
            if std::str::from_utf8(&raw).is_ok() {
                prop_assert_eq!(whole(&entry), raw.clone());
            }
        }
    }

    #[test]
    fn scan_agrees_with_serde_json(line in docker_lines(), seen in attrs()) {
        check_scan(seen.unwrap_or("").as_bytes(), &line);
    }

    #[test]
    fn scan_agrees_on_damaged_lines(line in mutated_lines(), seen in attrs()) {
        check_scan(seen.unwrap_or("").as_bytes(), &line);
    }

    /// serde_json without our struct, so that its use is checked as well.
    #[test]
    fn parse_agrees_with_a_value(line in mutated_lines()) {
        let mut decoder = Decoder::new();
        let Decoded::Entry(entry) = decoder.decode(&line) else { return Ok(()) };
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(whole(&entry), value["log"].as_str().unwrap_or("").as_bytes());
        prop_assert_eq!(Timestamp::parse(value["time"].as_str().unwrap().as_bytes()), Ok(entry.record.time));
        let attrs: Option<serde_json::Value> = entry.record.attrs.map(|attrs| serde_json::from_slice(attrs).unwrap());
        prop_assert_eq!(attrs, value.get("attrs").cloned());
    }

    #[test]
    fn resync_tiles_any_bytes(line in prop::collection::vec(any::<u8>(), 0..200)) {
        check_tiles(&line);
    }

    #[test]
    fn resync_tiles_damaged_lines(lines in prop::collection::vec(mutated_lines(), 1..4)) {
        check_tiles(&lines.concat());
    }

    /// Cut anywhere but directly after `"attrs":`, a record costs only itself.
    #[test]
    fn resync_finds_the_record_after_a_torn_one(torn in docker_lines(), cut in any::<prop::sample::Index>(),
        nuls in 0usize..3, raw in raw_text(), attrs in attrs()) {
        let torn = &torn[..cut.index(torn.len())];
        prop_assume!(nuls > 0 || !torn.ends_with(b"\"attrs\":"));
        let whole = docker_line(&raw, "stdout", attrs, TIME);
        let line = [torn, &vec![0; nuls], &whole].concat();
        check_tiles(&line);
        let start = torn.len() + nuls;
        let pieces = resync(&line);
        prop_assert_eq!(*pieces.last().unwrap(), Piece::Entry { start, end: line.len() });
    }
}
