//! What the agent remembers, for the commands that only look: from the agent that runs, or from its store when none
//! does. A look must not make a store.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent::control::{AskError, ask};
use crate::checkpoint::codec;
use crate::checkpoint::position::Position;
use crate::checkpoint::store::{SledStore, Store, StoreError};
use crate::cli::{Exit, Failure};
use crate::loss::{self, Loss};
use crate::sys::Os;
use crate::sys::lock::{DirectoryLock, LockError};
use crate::sys::unix::Unix;

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a command is told.
#[derive(Debug, Default)]
pub struct Told {
    pub positions: Vec<Position>,
    pub ledger: Vec<Loss>,
    /// An agent runs, and may be further by now.
    pub beside_agent: bool,
}

pub fn ask_or_read(state_dir: &Path) -> Result<Told, Failure> {
    if let Some(positions) = ask_for(state_dir, "rows")? {
        let ledger = ask_for(state_dir, "ledger")?.unwrap_or_default();
        return Ok(Told { positions, ledger, beside_agent: true });
    }
    let pairs = pairs(state_dir)?;
    let positions = codec::rows(&pairs).0.iter().filter_map(|(row, _)| Position::of_row(row)).collect();
    Ok(Told { positions, ledger: loss::entries(&pairs), beside_agent: false })
}

/// The running agent's answer; `None` when none runs.
pub fn ask_for<T: DeserializeOwned>(state_dir: &Path, what: &str) -> Result<Option<T>, Failure> {
    check_directory(state_dir)?;
    let mut answer = match ask(state_dir, &serde_json::json!({ "ask": what })) {
        Ok(answer) => answer,
        Err(AskError::NotRunning) => return Ok(None),
        Err(error) => return Err(Failure::new(Exit::Failed, "cannot ask the running agent").caused_by(&error)),
    };
    serde_json::from_value(answer[what].take())
        .map(Some)
        .map_err(|error| Failure::new(Exit::Failed, format!("the running agent gave no {what}")).caused_by(&error))
}

/// All that the store holds; nothing when there is no store.
pub fn pairs(state_dir: &Path) -> Result<Pairs, Failure> {
    Ok(Held::open_existing(state_dir)?.map(|held| held.pairs).unwrap_or_default())
}

/// The store, opened and locked.
pub struct Held {
    pub store: SledStore,
    pub pairs: Pairs,
    _lock: DirectoryLock,
}

impl Held {
    /// A damaged store is left to the agent, which says what it found and searches: were it made anew here, the agent
    /// would take the empty one for its own.
    pub fn open_existing(state_dir: &Path) -> Result<Option<Held>, Failure> {
        check_directory(state_dir)?;
        // A look must not make a directory's lock either.
        if !is_there(&state_dir.join("store.json"))? && !is_there(&state_dir.join("sled"))? {
            return Ok(None);
        }
        let lock = lock(state_dir)?;
        let Some(store) = SledStore::open_existing(state_dir).map_err(|error| failure(&error))? else {
            return Ok(None);
        };
        Held::load(store, lock).map(Some)
    }

    /// Makes the store where there is none.
    pub fn open(state_dir: &Path) -> Result<Held, Failure> {
        if let Some(held) = Held::open_existing(state_dir)? {
            return Ok(held);
        }
        let lock = lock(state_dir)?;
        let now_seconds = u64::try_from(Unix.wall_ns() / 1_000_000_000).unwrap_or(0);
        let (store, _) = SledStore::open(state_dir, now_seconds).map_err(|error| failure(&error))?;
        Held::load(store, lock)
    }

    fn load(mut store: SledStore, lock: DirectoryLock) -> Result<Held, Failure> {
        let pairs = store.load().map_err(|error| failure(&error))?;
        Ok(Held { store, pairs, _lock: lock })
    }

    pub fn commit(&mut self, changes: &[codec::Change]) -> Result<(), Failure> {
        self.store.commit(changes).map_err(|error| failure(&error))
    }
}

/// Something else under that name is a mistake, and no empty state.
fn check_directory(state_dir: &Path) -> Result<(), Failure> {
    match Unix.stat(&state_dir.join(".")) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Failure::new(Exit::Failed, format!("state-dir {} is not a directory", state_dir.display()))
                .hint("--state-dir names the directory that `longshore run` keeps its state in"))
        }
        _ => Ok(()), // Whoever reads in it says what else is wrong.
    }
}

/// What can't be looked at is no empty store.
fn is_there(path: &Path) -> Result<bool, Failure> {
    match Unix.stat(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot look at {}", path.display()))
            .caused_by(&error)
            .hint("--state-dir names a directory that this user may read")),
    }
}

fn lock(state_dir: &Path) -> Result<DirectoryLock, Failure> {
    DirectoryLock::acquire(state_dir, "lock").map_err(|error| match &error {
        LockError::Held { .. } => Failure::new(Exit::Held, error.to_string())
            .hint("stop the agent or the backfill first, or wait for its end"),
        LockError::Io { .. } => Failure::new(Exit::Failed, error.to_string()),
    })
}

fn failure(error: &StoreError) -> Failure {
    let code = if matches!(error, StoreError::Locked { .. }) { Exit::Held } else { Exit::Failed };
    let failure = Failure::new(code, error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

pub fn read_whole(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = Unix.open(path)?;
    let size = Unix.stat_open(&file)?.size.min(bytes_max as u64) as usize;
    let mut bytes = vec![0; size];
    let read = Unix.read_at(&file, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Pretty, with a newline.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::Failed, "cannot write JSON").caused_by(&error))
}

/// Columns as wide as their longest cell.
pub fn table<const N: usize>(head: &[&str; N], rows: Vec<Vec<String>>) -> String {
    const CELL_CHARS_MAX: usize = 80;
    let shown = |cell: &String| printable(cell).chars().take(CELL_CHARS_MAX).collect();
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    all.extend(rows.iter().map(|row| row.iter().map(shown).collect()));
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &all {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names come from files that others write: no control character of theirs reaches a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
