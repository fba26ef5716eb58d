//! sled, opened: its rows, and what it says of itself within.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::{Change, Row, SCHEMA};
use crate::ordered;

pub(super) const TREE: &[u8] = b"ckpt.v1";
/// The row in which the store describes itself. The agent's own keys never begin with NUL.
pub(super) const META_KEY: &[u8] = b"\0meta";
const NOTE_BYTES: usize = 16;

/// An open sled, with what is needed to write to it.
pub(super) struct Db {
    pub(super) db: sled::Db,
    pub(super) tree: sled::Tree,
    /// sled doesn't sync on Linux, it only starts the writing. This descriptor of its file does.
    pub(super) file: File,
    /// [`Place::commits`]. Without it a store that went back in time isn't noticed.
    pub(super) commits: Option<File>,
    /// What the meta row says, or will say when the next commit is done.
    pub(super) meta: Meta,
}

impl Db {
    /// Somebody removed its files. Writes to them still succeed, and nobody could read them again.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|now| now.nlink() == 0)
    }

    pub(super) fn rows(&self) -> Result<Vec<Row>, sled::Error> {
        let mut rows = Vec::new();
        for row in &self.tree {
            let (key, value) = row?;
            if key != META_KEY {
                rows.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(rows)
    }

    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        // One key may be changed twice: the last change counts.
        let last = ordered::map(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        let mut meta = self.meta.clone();
        for (key, value) in last {
            if let Some(before) = self.tree.get(key)? {
                meta.rows -= 1;
                meta.sum = meta.sum.wrapping_sub(row_sum(key, &before));
            }
            match value {
                Some(value) => {
                    meta.rows += 1;
                    meta.sum = meta.sum.wrapping_add(row_sum(key, value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        meta.commits += 1;
        batch.insert(META_KEY, meta.to_bytes());
        self.tree.apply_batch(batch)?;
        self.make_durable()?;
        if let Some(file) = &self.commits {
            // An older number there only notices less.
            let _unsynced = file.write_all_at(&meta.commits_note(), 0);
        }
        self.meta = meta;
        Ok(())
    }

    fn make_durable(&self) -> Result<(), sled::Error> {
        self.db.flush()?;
        self.file.sync_data()?;
        Ok(())
    }
}

/// sled's drop writes, and unwraps what that returns.
pub(super) fn close<T>(db: T) {
    let _panicked = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

/// What the store says of itself, within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) schema: u32,
    pub(super) id: String,
    /// Without this one.
    pub(super) rows: u64,
    /// Of all rows, in any order.
    pub(super) sum: u64,
    /// Since the store was made.
    pub(super) commits: u64,
}

impl Meta {
    pub(super) fn new(id: String) -> Meta {
        Meta { schema: SCHEMA, id, rows: 0, sum: 0, commits: 0 }
    }

    /// The number of commits, and a sum that ties it to this store.
    pub(super) fn commits_note(&self) -> [u8; NOTE_BYTES] {
        let mut note = [0; NOTE_BYTES];
        note[..8].copy_from_slice(&self.commits.to_le_bytes());
        note[8..].copy_from_slice(&row_sum(self.id.as_bytes(), &self.commits.to_le_bytes()).to_le_bytes());
        note
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and a string are JSON")
    }
}

pub(super) fn row_sum(key: &[u8], value: &[u8]) -> u64 {
    XxHash64::oneshot(XxHash64::oneshot(0, key), value)
}

/// The meta row, if there is one, and what it should say. Reads everything.
pub(super) fn examine(db: &Db) -> Result<Option<(sled::IVec, Meta)>, sled::Error> {
    let (mut meta, mut found) = (None, Meta::new(String::new()));
    for row in &db.tree {
        let (key, value) = row?;
        if key == META_KEY {
            meta = Some(value);
        } else {
            found.rows += 1;
            found.sum = found.sum.wrapping_add(row_sum(&key, &value));
        }
    }
    Ok(meta.map(|meta| (meta, found)))
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    // Some of sled's panics print whole pages.
    text.unwrap_or("no message").chars().take(200).collect()
}
