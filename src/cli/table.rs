//! `longshore containers`: asks a running agent, or reads the same from the directories when none runs.

use bytesize::ByteSize;

use crate::agent::control::{AskError, ask};
use crate::agent::status::{ContainerStatus, is_selected, read_status};
use crate::checkpoint::codec;
use crate::cli::stored::pairs;
use crate::cli::{Exit, Failure, print};
use crate::config::ContainersConfig;
use crate::sys::Os;
use crate::sys::unix::Unix;

pub fn containers(config: &ContainersConfig) -> Result<Exit, Failure> {
    let mut all = match ask(&config.places.state_dir, &serde_json::json!({ "ask": "containers" })) {
        Ok(answer) => serde_json::from_value(answer["containers"].clone())
            .map_err(|error| Failure::new(Exit::Failed, "the running agent gave no table").caused_by(&error))?,
        Err(AskError::NotRunning) => without_agent(config)?,
        Err(error) => return Err(Failure::new(Exit::Failed, "cannot ask the running agent").caused_by(&error)),
    };
    all.retain(|status: &ContainerStatus| is_selected(&Unix, config, status));
    let text = if config.json {
        serde_json::to_string_pretty(&all).expect("a table is plain data") + "\n"
    } else {
        render(&all)
    };
    print(text.as_bytes());
    Ok(Exit::Done)
}

fn without_agent(config: &ContainersConfig) -> Result<Vec<ContainerStatus>, Failure> {
    let os = Unix;
    let root = config.places.containers_dir.join(".");
    os.list(&root).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot list {}", config.places.containers_dir.display()))
            .caused_by(&error)
            .hint("--containers-dir names the directory that holds one directory a container")
    })?;
    Ok(read_status(&os, config, &rows(config)?))
}

/// What the store tells.
fn rows(config: &ContainersConfig) -> Result<Vec<crate::checkpoint::Row>, Failure> {
    let pairs = pairs(&config.places.state_dir)?;
    Ok(codec::rows(&pairs).0.into_iter().map(|(row, _)| row).collect())
}

fn render(all: &[ContainerStatus]) -> String {
    const HEAD: [&str; 8] = ["NAME", "ID", "IMAGE", "STATE", "LOG SIZE", "GENERATIONS", "POSITION", "LAG"];
    let mut rows: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    for status in all {
        rows.push([
            printable(&status.name),
            status.id.chars().take(12).collect(),
            printable(&status.image),
            match &status.trouble {
                Some(_) => format!("{} (trouble)", status.state),
                None => status.state.clone(),
            },
            ByteSize(status.log_bytes).to_string(),
            status.generations.to_string(),
            status.position.map_or_else(|| "-".to_owned(), |position| position.to_string()),
            ByteSize(status.lag_bytes).to_string(),
        ]);
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names come from a file that others write: no control character of theirs reaches a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(60).collect()
}
