//! `longshore status`: how a running agent gets on, asked over its socket.

use bytesize::ByteSize;

use crate::agent::control::{AskError, ask};
use crate::agent::status::{Going, LastError};
use crate::cli::table::{aligned, printable};
use crate::cli::{Exit, Failure, print};
use crate::config::Places;
use crate::telemetry::sinks::SinkGoing;

pub fn status(places: &Places, json: bool) -> Result<Exit, Failure> {
    let going = going(places)?;
    let text = if json {
        serde_json::to_string_pretty(&going).expect("a status is plain data") + "\n"
    } else {
        render(&going)
    };
    print(text.as_bytes());
    Ok(Exit::Done)
}

/// Asks the agent that runs on this state directory.
pub fn going(places: &Places) -> Result<Going, Failure> {
    let answer = ask(&places.state_dir, &serde_json::json!({ "ask": "status" })).map_err(|error| match error {
        AskError::NotRunning => {
            Failure::new(Exit::Failed, format!("no agent is running on {}", places.state_dir.display()))
                .hint("--state-dir must be that of the agent; `longshore containers` reads the files without one")
        }
        error => Failure::new(Exit::Failed, "cannot ask the running agent").caused_by(&error),
    })?;
    serde_json::from_value(answer)
        .map_err(|error| Failure::new(Exit::Failed, "the running agent gave no status").caused_by(&error))
}

fn render(going: &Going) -> String {
    const HEAD: [&str; 9] = ["NAME", "ID", "STATE", "RATE", "LAG", "BEHIND", "HELD", "OPEN", "LAST ERROR"];
    let mut rows = vec![HEAD.map(str::to_owned)];
    for container in &going.containers {
        rows.push([
            printable(&container.name),
            container.id.chars().take(12).collect(),
            container.state.clone(),
            rate(container.bytes_per_second),
            ByteSize(container.lag_bytes).to_string(),
            format!("{:.0} s", container.lag_seconds),
            ByteSize(container.held_bytes).to_string(),
            container.open_fragments.to_string(),
            match &container.last_error {
                Some(error) => error_words(error, container.trouble.is_some()),
                None => "-".to_owned(),
            },
        ]);
    }
    let mut text = aligned(&rows);
    text.push_str(&sinks(&going.sinks));
    for fault in &going.faults {
        text.push_str(&format!("! {}\n", one_line(fault)));
    }
    text
}

/// A table of its own, where there are sinks.
fn sinks(sinks: &[SinkGoing]) -> String {
    if sinks.is_empty() {
        return String::new();
    }
    const HEAD: [&str; 9] =
        ["SINK", "CIRCUIT", "DELIVERED", "QUEUE", "LAG", "HELD", "SPOOL", "RETRIES", "DEAD LETTERS"];
    let mut rows = vec![HEAD.map(str::to_owned)];
    for sink in sinks {
        rows.push([
            printable(&sink.name),
            sink.circuit.clone(),
            sink.records_delivered.to_string(),
            sink.queue_records.to_string(),
            ByteSize(sink.lag_bytes).to_string(),
            ByteSize(sink.held_bytes).to_string(),
            ByteSize(sink.spool_bytes).to_string(),
            sink.retries.to_string(),
            sink.dead_letters.to_string(),
        ]);
    }
    format!("\n{}", aligned(&rows))
}

/// An error in one line, and how long ago it was if it is over.
pub(super) fn error_words(error: &LastError, lasts: bool) -> String {
    let text = one_line(&error.text);
    if lasts { text } else { format!("{text} ({:.0} s ago)", error.age_seconds) }
}

pub(super) fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", ByteSize(bytes_per_second as u64))
}

pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::ContainerGoing;
    use crate::telemetry::sinks::SinkGoing;

    #[test]
    fn a_table_with_the_last_errors_and_faults_below() {
        let going = Going {
            version: "1".into(),
            start_time_seconds: 1.0,
            last_commit_timestamp_seconds: 2.0,
            draining: false,
            lines_read: 0,
            bytes_read: 0,
            records_written: 0,
            lost_bytes: 0,
            faults: vec!["state: disk full".into()],
            sinks: vec![SinkGoing {
                name: "loki".into(),
                circuit: "held".into(),
                why: Some("status 401".into()),
                ..SinkGoing::default()
            }],
            containers: vec![
                ContainerGoing {
                    name: "we\u{1b}b".into(),
                    id: "0123456789abcdef".into(),
                    state: "running".into(),
                    bytes_per_second: 2048.0,
                    lag_bytes: 100,
                    lag_seconds: 3.2,
                    held_bytes: 0,
                    open_fragments: 1,
                    trouble: Some("cannot write\nx".into()),
                    last_error: Some(LastError { text: "cannot write\nx".into(), age_seconds: 1.0 }),
                },
                ContainerGoing {
                    name: "db".into(),
                    id: "f".into(),
                    state: "exited".into(),
                    bytes_per_second: 0.0,
                    lag_bytes: 0,
                    lag_seconds: 0.0,
                    held_bytes: 0,
                    open_fragments: 0,
                    trouble: None,
                    last_error: Some(LastError { text: "cannot read x".into(), age_seconds: 61.4 }),
                },
            ],
        };
        let text = render(&going);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME  ID            STATE    RATE       LAG    BEHIND  HELD  OPEN  LAST ERROR");
        assert_eq!(lines[1], "we?b  0123456789ab  running  2.0 KiB/s  100 B  3 s     0 B   1     cannot write x");
        assert_eq!(
            lines[2],
            "db    f             exited   0 B/s      0 B    0 s     0 B   0     cannot read x (61 s ago)"
        );
        assert_eq!(lines[3..5], ["", "SINK  CIRCUIT  DELIVERED  QUEUE  LAG  HELD  SPOOL  RETRIES  DEAD LETTERS"]);
        assert_eq!(lines[5], "loki  held     0          0      0 B  0 B   0 B    0        0");
        assert_eq!(lines[6..], ["! state: disk full"]);
    }
}
