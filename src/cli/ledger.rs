//! `longshore ledger`: what could not be delivered, from a running agent or from its store.

use crate::cli::stored::{ask_for, json, pairs, table};
use crate::cli::{Exit, Failure, print};
use crate::config::Places;
use crate::loss::{self, Loss};

pub fn ledger(places: &Places, as_json: bool) -> Result<Exit, Failure> {
    let entries = match ask_for(&places.state_dir, "ledger")? {
        Some(entries) => entries,
        None => loss::entries(&pairs(&places.state_dir)?),
    };
    let text = if as_json { json(&entries)? } else { render(&entries) };
    print(text.as_bytes());
    Ok(Exit::Done)
}

fn render(entries: &[Loss]) -> String {
    const HEAD: [&str; 8] = ["NAME", "SINK", "FILE", "BYTES", "FIRST TIME", "LAST TIME", "REASON", "DETAIL"];
    let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let row = |loss: &Loss| {
        vec![
            loss.name.clone(),
            loss.sink.clone().unwrap_or_else(|| "-".to_owned()),
            loss.file.clone(),
            if loss.start.is_none() && loss.end.is_none() {
                "-".to_owned()
            } else {
                format!("{}..{}", known(loss.start), known(loss.end))
            },
            loss.first_time.clone().unwrap_or_else(|| "-".to_owned()),
            loss.last_time.clone().unwrap_or_else(|| "-".to_owned()),
            loss.reason.name().to_owned(),
            loss.detail.clone(),
        ]
    };
    table(&HEAD, entries.iter().map(row).collect())
}
