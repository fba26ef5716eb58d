//! The rows of the checkpoint on the disk: sled behind a trait of two verbs.
//! Trusts sled with atomic batches and with nothing else: it opens what is damaged with `Ok`, and is then empty, or
//! serves rows of an hour ago. So each commit also writes its number and a sum of the whole table into the batch, and
//! the number once more beside the store.
//!
//! Layout of the state directory:
//!
//! ```text
//! store.json                     the marker: a store was made here, which one, and how many rows it had
//! store.commits                  the number of the last commit; not synced, so it may be an older one
//! sled/                          the store
//! sled.before-open/              a copy from before a suspicious open; only while that lasts
//! sled.corrupt-<unix seconds>/   damaged stores, the newest two
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "the store lives beside sled's own files, outside of the simulated machine"
)]

mod aside;
mod db;
mod directory;
mod marker;
mod memory;
mod place;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use self::db::{Db, close, panic_text};
use self::marker::Marker;
pub use self::memory::{Fate, MemoryStore};
use self::place::Place;
use crate::config::limits::{COMMIT_CHANGES_MAX, VALUE_BYTES_MAX};
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::telemetry::RecoveryReason;

/// sled leaks memory and disk from about 1,000 entries a batch on. Commits are cut at `COMMIT_CHANGES_MAX`, but the
/// changes of one container are never parted.
pub const CHANGES_MAX: usize = 800;
/// A container's id with its number, and room.
pub const KEY_BYTES_MAX: usize = 1024;
/// Names of this format; a store with a higher one is left alone.
pub const SCHEMA: u32 = 1;

const _: () = assert!(COMMIT_CHANGES_MAX <= CHANGES_MAX);

/// A key, and its new value; `None` removes the row.
type Change = (Vec<u8>, Option<Vec<u8>>);
type Row = (Vec<u8>, Vec<u8>);

/// Where rows are kept.
pub trait Store: Send + 'static {
    /// All rows, in the order of their keys.
    fn load(&mut self) -> Result<Vec<Row>, StoreError>;
    /// Makes all the changes or none, durable when it returns. After an error either is possible, but what an earlier
    /// commit acknowledged is still there, unless it is [`StoreError::Reset`]. At most [`CHANGES_MAX`] changes, of
    /// `VALUE_BYTES_MAX`; a key isn't empty and doesn't begin with NUL. What is beyond that is refused.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// What was found where the store should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    Existing,
    /// There was none.
    Fresh,
    /// There was one, and it can't be trusted; this is a new one.
    Recovered {
        cause: RecoveryReason,
        reason: String,
        /// Where the damaged one is now, if there was anything to keep.
        moved_to: Option<PathBuf>,
        /// Rows that could be read and were taken over. They may be older than what was acknowledged.
        n_rows_saved: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open checkpoint store {}: locked", path.display())]
    Locked { path: PathBuf },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("checkpoint store {} has format {found}, this version knows {SCHEMA}", path.display())]
    Newer { path: PathBuf, found: u32 },
    /// sled said no, or panicked. The next call opens it again.
    #[error("cannot {doing} checkpoint store: {reason}")]
    Failed { doing: &'static str, reason: String },
    /// Only looked at, so nothing was moved or made.
    #[error("checkpoint store {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// The store was damaged while it was closed after an error, and is a new one now: write every row again.
    #[error("checkpoint store was made anew: {reason}")]
    Reset { cause: RecoveryReason, reason: String, moved_to: Option<PathBuf> },
}

impl StoreError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::Locked { .. } => {
                Some("another agent is running on this node; the old pod may still be stopping")
            }
            StoreError::Newer { .. } => Some("a newer version wrote it; run that one, or give another --state-dir"),
            StoreError::Damaged { .. } => {
                Some("start the agent: it moves the damaged store aside and finds its places again in the outputs")
            }
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the file system of --state-dir")
            }
            _ => None,
        }
    }
}

/// The real store. One thread owns it; every call blocks.
pub struct SledStore {
    place: Place,
    marker: Marker,
    /// `None` after an error: sled's handle is dead after its first one.
    db: Option<Db>,
}

impl SledStore {
    /// Opens the store in a state directory, which the caller has locked, or makes one.
    pub fn open(state_directory: &Path, now_unix_seconds: u64) -> Result<(SledStore, Opened), StoreError> {
        let place = Place { state: state_directory.to_owned() };
        let (db, marker, opened) = place.open(now_unix_seconds)?;
        Ok((SledStore { place, marker, db: Some(db) }, opened))
    }

    /// Opens the store that is there for somebody who only looks, or changes a row: a damaged one stays where it is, for
    /// the agent to find. `None`: there is none.
    pub fn open_existing(state_directory: &Path) -> Result<Option<SledStore>, StoreError> {
        let place = Place { state: state_directory.to_owned() };
        let opened = place.open_undamaged()?;
        Ok(opened.map(|(db, marker)| SledStore { place, marker, db: Some(db) }))
    }

    fn reopened(&mut self) -> Result<&mut Db, StoreError> {
        if self.db.as_ref().is_some_and(Db::is_removed) {
            close(self.db.take());
        }
        if self.db.is_none() {
            let now = u64::try_from(Unix.wall_ns() / 1_000_000_000).unwrap_or(0);
            let (db, marker, opened) = self.place.open(now)?;
            self.db = Some(db);
            self.marker = marker;
            match opened {
                Opened::Existing => {}
                Opened::Fresh => {
                    let reason = "its directory and its marker were removed".to_owned();
                    return Err(StoreError::Reset { cause: RecoveryReason::Missing, reason, moved_to: None });
                }
                Opened::Recovered { cause, reason, moved_to, .. } => {
                    return Err(StoreError::Reset { cause, reason, moved_to });
                }
            }
        }
        Ok(self.db.as_mut().expect("it was opened above"))
    }

    /// Runs sled's code; whatever goes wrong costs the handle, and only that.
    fn with_db<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let db = self.reopened()?;
        let reason = match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("sled panicked: {}", panic_text(&*panic)),
        };
        close(self.db.take());
        Err(StoreError::Failed { doing, reason })
    }
}

impl Store for SledStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        self.with_db("read", |db| db.rows())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        check_bounds(changes)?;
        self.with_db("write", |db| db.apply(changes))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            let n_rows = db.meta.rows;
            close(db);
            if n_rows != self.marker.rows {
                self.marker.rows = n_rows;
                let _only_for_the_message = self.place.write_marker(&self.marker);
            }
        }
    }
}

/// A mistake of the caller. Whoever made it is told so, for the thread that commits serves others, too.
fn check_bounds(changes: &[Change]) -> Result<(), StoreError> {
    let fault = |reason| Err(StoreError::Failed { doing: "write to", reason });
    if changes.len() > CHANGES_MAX {
        return fault(format!("{} changes in one commit, more than {CHANGES_MAX}", changes.len()));
    }
    for (key, value) in changes {
        let name = key.escape_ascii();
        if key.first().is_none_or(|first| *first == 0) {
            return fault(format!("\"{name}\" is no key of a row"));
        }
        if key.len() > KEY_BYTES_MAX {
            return fault(format!("a key of {} bytes, more than {KEY_BYTES_MAX}", key.len()));
        }
        if let Some(value) = value.as_ref().filter(|value| value.len() > VALUE_BYTES_MAX) {
            return fault(format!("a value of {} bytes at {name}, more than {VALUE_BYTES_MAX}", value.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
