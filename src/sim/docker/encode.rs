//! Records as dockerd writes them, byte for byte. Its own encoder and calendar: it shares nothing with the decoder it tests.

use std::collections::BTreeMap;

const SECOND_NS: i64 = 1_000_000_000;

/// One line of the file, with its newline. `text` ends with `\n` unless it is a piece or an unfinished tail.
pub fn record(text: &[u8], stream: &str, attrs: &BTreeMap<String, String>, time: &str) -> Vec<u8> {
    let mut line = b"{".to_vec();
    if !text.is_empty() {
        line.extend_from_slice(b"\"log\":");
        quote(text, Dialect::Jsonlog, &mut line);
        line.push(b',');
    }
    if !stream.is_empty() {
        line.extend_from_slice(b"\"stream\":");
        quote(stream.as_bytes(), Dialect::Jsonlog, &mut line);
        line.push(b',');
    }
    if !attrs.is_empty() {
        line.extend_from_slice(b"\"attrs\":{");
        for (ix, (key, value)) in attrs.iter().enumerate() {
            line.extend_from_slice(if ix == 0 { b"" } else { b"," });
            quote(key.as_bytes(), Dialect::Go, &mut line);
            line.push(b':');
            quote(value.as_bytes(), Dialect::Go, &mut line);
        }
        line.extend_from_slice(b"},");
    }
    line.extend_from_slice(format!("\"time\":\"{time}\"}}\n").as_bytes());
    line
}

/// What a reader gets of `raw`: each byte that is no UTF-8 is U+FFFD.
pub fn as_read(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            text.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    text
}

/// UTC, with the zeros at the fraction's end cut: as in the log.
pub fn rfc3339(ns: i64) -> String {
    let padded = rfc3339_padded(ns);
    format!("{}Z", padded.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

/// UTC, with nine digits: as the agent renders it.
pub fn rfc3339_padded(ns: i64) -> String {
    let (seconds, fraction) = (ns.div_euclid(SECOND_NS), ns.rem_euclid(SECOND_NS));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// The date so many days after 1970-01-01, by counting: slow, and plain to see.
fn civil(mut days: i64) -> (i64, usize, i64) {
    assert!((0..200_000).contains(&days), "the simulator lives after 1970");
    let mut year = 1970;
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let february = year_days(year) - 337;
    let mut month = 0;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

fn year_days(year: i64) -> i64 {
    if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// moby's own encoder, for `log` and `stream`: only LF and CR have short escapes.
    Jsonlog,
    /// Go's encoding/json, for `attrs`: TAB has one, too.
    Go,
}

fn quote(bytes: &[u8], dialect: Dialect, line: &mut Vec<u8>) {
    line.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' if dialect == Dialect::Go => line.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    line.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                }
                other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            line.extend_from_slice(b"\\ufffd");
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::random::Random;

    const TIME: &str = "2026-01-02T03:04:05.6Z";

    fn encoded(text: &[u8]) -> String {
        String::from_utf8(record(text, "stdout", &BTreeMap::new(), TIME)).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        let text = b"\"\\\n\r\t\0\x7f/'<>&\xe2\x80\xa8\xf0\x9f\x98\x80\xef\xbf\xbd\xff\xe2\x82";
        let expected = "{\"log\":\"\\\"\\\\\\n\\r\\u0009\\u0000\x7f/'\\u003c\\u003e\\u0026\\u2028\u{1f600}\u{fffd}\\ufffd\\ufffd\\ufffd\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.6Z\"}\n";
        assert_eq!(encoded(text), expected);
    }

    #[test]
    fn leaves_out_what_is_empty_and_sorts_attrs() {
        assert_eq!(record(b"", "", &BTreeMap::new(), TIME), format!("{{\"time\":\"{TIME}\"}}\n").into_bytes());
        let attrs = [("log", "<a>"), ("b", "\t")].map(|(key, value)| (key.to_string(), value.to_string())).into();
        let line = String::from_utf8(record(b"x\n", "stderr", &attrs, TIME)).unwrap();
        assert!(line.contains(r#","attrs":{"b":"\t","log":"\u003ca\u003e"},"time""#), "{line}");
    }

    #[test]
    fn overhead_is_69_bytes() {
        let line = record(b"", "stdout", &BTreeMap::new(), "2026-01-02T03:04:05.678912345Z");
        assert_eq!(line.len() + "\"log\":\"\",".len(), 69);
    }

    #[test]
    fn serde_json_reads_back_what_was_written() {
        let mut random = Random::new(42);
        for _ in 0..2000 {
            let n_bytes = random.below(40);
            let text: Vec<u8> = (0..n_bytes)
                .map(|_| {
                    random.pick(b"a\"\\\n\r\t\0\x1f\x7f<>&\xc3\xa9\xf0\x9f\x98\x80\xff\xe2\x80\xa8\xed\xa0").to_owned()
                })
                .collect();
            let attrs = BTreeMap::from([(String::from_utf8_lossy(&text).into_owned(), "v".to_string())]);
            let line = record(&text, "stdout", &attrs, TIME);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let log = value.get("log").map_or("", |log| log.as_str().unwrap());
            assert_eq!(log.as_bytes(), as_read(&text));
            assert_eq!(value["attrs"][String::from_utf8_lossy(&text).as_ref()], "v");
            assert_eq!((&value["stream"], &value["time"]), (&"stdout".into(), &TIME.into()));
        }
    }

    #[test]
    fn times_have_the_digits_they_need() {
        let cases = [
            (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_100_000_000, "2000-02-29T00:00:00.1Z", "2000-02-29T00:00:00.100000000Z"),
            (1_798_761_599_000_000_010, "2026-12-31T23:59:59.00000001Z", "2026-12-31T23:59:59.000000010Z"),
            (1_798_761_600_000_000_000, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00.000000000Z"),
        ];
        for (ns, trimmed, padded) in cases {
            assert_eq!((rfc3339(ns).as_str(), rfc3339_padded(ns).as_str()), (trimmed, padded));
        }
    }
}
