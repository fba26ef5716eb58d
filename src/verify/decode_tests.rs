//! The fixtures of the agent's decoder, read by this one: it may only disagree where it is written down.

#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

use std::fmt::Write as _;
use std::path::Path;

use super::*;

/// As the fixtures show an entry.
fn show(entry: &Entry) -> String {
    let mut shown = format!("entry {} {} raw={} ", entry.stream.name(), entry.time, entry.raw_bytes);
    match entry.text.char_indices().nth(200) {
        Some(_) => {
            let beginning: String = entry.text.chars().take(20).collect();
            write!(shown, "{beginning:?}… of {}", entry.text.len()).unwrap();
        }
        None => write!(shown, "{:?}", entry.text).unwrap(),
    }
    if let Some(attrs) = &entry.attrs {
        write!(shown, " attrs={attrs}").unwrap();
    }
    shown
}

/// This decoder tells NULs from the rest, and gives no further reason. Within a range it doesn't look for NULs.
fn show_part(part: Part) -> String {
    match part {
        Part::Entry(entry) => show(&entry),
        Part::Waste { range, .. } => format!("torn {}..{}", range.start, range.end),
    }
}

#[test]
fn fixtures_are_read_as_the_agent_reads_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/decode");
    let mut n_cases = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        n_cases += 1;
        let log = std::fs::read(&path).unwrap();
        let mut shown = Vec::new();
        for line in log.strip_suffix(b"\n").unwrap_or(&log).split(|byte| *byte == b'\n') {
            decode(line, &mut |part| shown.push(show_part(part)));
        }
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
        // Why a range is torn is the agent's to say.
        let expected: Vec<String> = expected
            .lines()
            .map(|line| match line.strip_prefix("torn ").and_then(|rest| rest.split_once(' ')) {
                Some((range, _fault)) => format!("torn {range}"),
                None => line.to_owned(),
            })
            .collect();
        assert_eq!(shown, expected, "{}", path.display());
    }
    assert!(n_cases >= 20, "{n_cases}");
}

#[test]
fn an_escaped_replacement_counts_as_one_byte() {
    assert_eq!(n_replaced(r#""\ufffd\\ufffd\\\uFFFD""#), 2);
    assert_eq!(n_replaced(r#""\"#), 0, "no panic at the end");
}
