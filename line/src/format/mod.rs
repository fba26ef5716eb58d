//! Appends a record to a byte buffer, as the operator wants it to look. Knows nothing of files.

mod json;
mod metadata;
mod template;

use std::io::Write;

use serde::{Deserialize, Serialize};

pub use json::{append_string, append_text};
pub use metadata::{Metadata, VALUE_BYTES_MAX};
pub use template::{Part, Tag, Template, TemplateError};

use crate::decode::{RecordView, Timestamp};

/// How one container's records look. Stored with an epoch, so that old output can be rendered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Formatter {
    Text(Vec<Part>),
    /// Fields that are the same for every record, rendered, each with its leading comma.
    Json {
        constants: Vec<u8>,
    },
    /// The source line, unchanged.
    Docker,
}

impl Formatter {
    pub fn text(template: &Template, metadata: &Metadata) -> Formatter {
        Formatter::Text(template.resolve(metadata))
    }

    pub fn json(metadata: &Metadata) -> Formatter {
        Formatter::Json { constants: json::constants(metadata) }
    }

    /// Appends one record and its newline. Allocates nothing but room in `out`. Newlines within the text stay.
    #[inline]
    pub fn append(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        match self {
            Formatter::Text(parts) => parts.iter().for_each(|part| append_part(part, record, out)),
            Formatter::Json { constants } => json::append(record, constants, out),
            Formatter::Docker => out.extend_from_slice(record.line),
        }
        out.push(b'\n');
    }

    /// Whether each line tells its record's time: without it, equal lines are ambiguous to align.
    pub fn has_time(&self) -> bool {
        match self {
            Formatter::Text(parts) => parts.iter().any(|part| matches!(part, Part::Time | Part::Timestamp)),
            Formatter::Json { .. } | Formatter::Docker => true,
        }
    }
}

#[inline]
fn append_part(part: &Part, record: &RecordView<'_>, out: &mut Vec<u8>) {
    match part {
        Part::Literal(bytes) => out.extend_from_slice(bytes),
        Part::Log => out.extend_from_slice(record.text),
        Part::Time => record.time.append_to(out),
        Part::Timestamp => append_unix_time(record.time, out),
        Part::Stream => out.extend_from_slice(record.stream.name().as_bytes()),
    }
}

// Out of the loop over a template's parts, or it is worked out for each record ahead of it.
#[inline(never)]
fn append_unix_time(time: Timestamp, out: &mut Vec<u8>) {
    let (seconds, ns) = (time.unix_seconds(), time.subsecond_ns());
    // Seconds are rounded down and the fraction counts up: before 1970 both turn round.
    let (sign, seconds, ns) = match (seconds, ns) {
        (0.., _) => ("", seconds, ns),
        (_, 0) => ("-", -seconds, 0),
        _ => ("-", -seconds - 1, 1_000_000_000 - ns),
    };
    write!(out, "{sign}{seconds}.{ns:09}").expect("writing into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Stream;

    fn metadata() -> Metadata {
        Metadata { name: "web".into(), id: "0123456789abcdef".into(), image: "a\"b".into(), ..Metadata::default() }
    }

    fn record(text: &str) -> RecordView<'_> {
        let time = Timestamp::parse(b"2025-11-25T16:00:00.123456789Z").unwrap();
        RecordView { stream: Stream::Stderr, time, text: text.as_bytes(), attrs: None, line: b"{\"log\":\"x\"}" }
    }

    fn formatted(formatter: &Formatter, record: &RecordView<'_>) -> String {
        let mut out = b"before\n".to_vec();
        formatter.append(record, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    fn text(template: &str, record: &RecordView<'_>) -> String {
        formatted(&Formatter::text(&template.parse().unwrap(), &metadata()), record)
    }

    #[test]
    fn text_default_is_time_and_log() {
        let formatter = Formatter::text(&Template::default(), &metadata());
        assert_eq!(formatted(&formatter, &record("hi\tthere ")), "2025-11-25T16:00:00.123456789Z hi\tthere \n");
        assert_eq!(formatted(&formatter, &record("")), "2025-11-25T16:00:00.123456789Z \n");
    }

    #[test]
    fn text_tags() {
        assert_eq!(text("{timestamp} {stream} {name}: {log}", &record("hi")), "1764086400.123456789 stderr web: hi\n");
        assert_eq!(text("", &record("hi")), "\n");
    }

    #[test]
    fn unix_time_before_1970() {
        for (time, expected) in [
            ("0001-01-01T00:00:00Z", "-62135596800.000000000\n"),
            ("1969-12-31T23:59:59.75Z", "-0.250000000\n"),
            ("1969-12-31T23:59:58.75Z", "-1.250000000\n"),
            ("1970-01-01T00:00:00.000000001Z", "0.000000001\n"),
        ] {
            let record = RecordView { time: time.parse().unwrap(), ..record("") };
            assert_eq!(text("{timestamp}", &record), expected);
        }
    }

    #[test]
    fn json() {
        let formatter = Formatter::json(&metadata());
        let with_attrs = RecordView { attrs: Some(b"{\"tag\":\"t\"}"), ..record("say \"hi\"\n\u{1b}ž") };
        assert_eq!(
            formatted(&formatter, &with_attrs),
            "{\"time\":\"2025-11-25T16:00:00.123456789Z\",\"stream\":\"stderr\",\"log\":\"say \\\"hi\\\"\\n\\u001bž\",\
             \"name\":\"web\",\"id\":\"0123456789abcdef\",\"image\":\"a\\\"b\",\"attrs\":{\"tag\":\"t\"}}\n"
        );
        let not_utf8 = RecordView { text: b"\xff", ..record("") };
        assert!(formatted(&formatter, &not_utf8).contains("\"log\":\"\u{fffd}\""));
    }

    #[test]
    fn json_in_kubernetes() {
        let mut metadata = metadata();
        for (key, value) in [("pod.namespace", "shop"), ("pod.name", "web-1"), ("container.name", "nginx")] {
            metadata.labels.insert(format!("io.kubernetes.{key}"), value.into());
        }
        let line = formatted(&Formatter::json(&metadata), &record("hi"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["namespace"], &value["pod"], &value["container"]),
            (&"shop".into(), &"web-1".into(), &"nginx".into())
        );
    }

    #[test]
    fn docker_is_the_line() {
        assert_eq!(formatted(&Formatter::Docker, &record("x")), "{\"log\":\"x\"}\n");
    }

    #[test]
    fn has_time() {
        let has_time = |template: &str| Formatter::text(&template.parse().unwrap(), &metadata()).has_time();
        assert!(has_time("{time} {log}") && has_time("{timestamp}") && !has_time("{log}"));
        assert!(Formatter::Docker.has_time() && Formatter::json(&metadata()).has_time());
    }
}
