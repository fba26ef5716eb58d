//! One commit: what an output needs on the disk first, then one atomic batch of rows.
//! Straight-line code that blocks; a thread of its own runs it, so that a slow disk doesn't stop the reading.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::codec::Change;
use crate::checkpoint::store::{Store, StoreError};
use crate::config::limits::COMMIT_CHANGES_MAX;
use crate::sink::journal::{self, Note};
use crate::sink::rotate::{Rotate, Rotated};
use crate::sys::{Create, Os};

/// What one container wants made durable, all or nothing.
pub struct Item<O: Os> {
    pub id: String,
    /// Ends the current segment and begins the next one.
    pub rotate: Option<Rotate<O>>,
    /// An output that must be on the disk before the row says so.
    pub sync: Option<Sync<O>>,
    /// What the output's journal must tell before the first byte under these settings: log-path, and the note.
    pub note: Option<(PathBuf, Note)>,
    pub changes: Vec<Change>,
}

/// What makes an output durable.
pub struct Sync<O: Os> {
    /// `None`: it rests, and is opened again by its path.
    pub file: Option<O::File>,
    pub path: PathBuf,
    /// The directory, while the file's name in it may not be on the disk yet.
    pub directory: Option<PathBuf>,
}

/// What became of an item.
pub struct Outcome<O: Os> {
    pub id: String,
    pub rotated: Option<Rotated<O>>,
    pub result: Result<(), CommitError>,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The output can't be made durable or rotated.
    #[error("output: {0}")]
    Output(#[from] io::Error),
    /// Another file has the number the segment was to get; nothing was renamed. The number is free.
    #[error("number taken; {0} is free")]
    NumberTaken(u64),
    #[error("state store: {0}")]
    Store(String),
    /// The store was made anew while it was open: every row is to be written again.
    #[error("state store: {0}")]
    StoreReset(String),
}

/// Runs the items' steps, then writes the rows of those that went well.
pub fn execute<O: Os>(os: &O, store: &mut dyn Store, items: Vec<Item<O>>) -> Vec<Outcome<O>> {
    let mut outcomes: Vec<Outcome<O>> = Vec::with_capacity(items.len());
    let mut groups: Vec<(usize, Vec<Change>)> = Vec::new();
    let mut notes: Vec<(usize, PathBuf, Note)> = Vec::new();
    for item in items {
        let ix = outcomes.len();
        let (rotated, result) = prepare(os, item.rotate, item.sync);
        if result.is_ok() {
            groups.push((ix, item.changes));
            notes.extend(item.note.map(|(log_path, note)| (ix, log_path, note)));
        }
        outcomes.push(Outcome { id: item.id, rotated, result });
    }
    write_notes(os, notes, &mut outcomes);
    groups.retain(|(ix, _)| outcomes[*ix].result.is_ok());
    write_groups(store, groups, &mut outcomes);
    outcomes
}

/// All notes of a job with one sync: a first start has thousands.
fn write_notes<O: Os>(os: &O, notes: Vec<(usize, PathBuf, Note)>, outcomes: &mut [Outcome<O>]) {
    let Some(log_path) = notes.first().map(|(_, log_path, _)| log_path.clone()) else {
        return;
    };
    let (members, notes): (Vec<usize>, Vec<Note>) = notes.into_iter().map(|(ix, _, note)| (ix, note)).unzip();
    if let Err(error) = journal::append(os, &log_path, &notes) {
        for ix in members {
            let error = io::Error::new(error.kind(), error.to_string());
            outcomes[ix].result = Err(CommitError::Output(error));
        }
    }
}

fn prepare<O: Os>(
    os: &O,
    rotate: Option<Rotate<O>>,
    sync: Option<Sync<O>>,
) -> (Option<Rotated<O>>, Result<(), CommitError>) {
    if let Some(sync) = sync
        && let Err(error) = sync.run(os)
    {
        return (None, Err(error.into()));
    }
    match rotate.map(|rotate| rotate.run(os)) {
        None => (None, Ok(())),
        Some(Ok(rotated)) => (Some(rotated), Ok(())),
        Some(Err(error)) => (None, Err(error)),
    }
}

impl<O: Os> Sync<O> {
    fn run(&self, os: &O) -> io::Result<()> {
        match &self.file {
            Some(file) => os.sync(file)?,
            None => match os.open_output(&self.path, 0, Create::Never) {
                Ok(file) => os.sync(&file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // The operator removed it.
                Err(error) => return Err(error),
            },
        }
        match &self.directory {
            Some(directory) => os.sync_directory(directory),
            None => Ok(()),
        }
    }
}

/// As few batches as the store's limit allows; one container's changes are never parted.
fn write_groups<O: Os>(store: &mut dyn Store, groups: Vec<(usize, Vec<Change>)>, outcomes: &mut [Outcome<O>]) {
    let mut batch: Vec<Change> = Vec::new();
    let mut members: Vec<usize> = Vec::new();
    for (ix, changes) in groups {
        if !batch.is_empty() && batch.len() + changes.len() > COMMIT_CHANGES_MAX {
            write_batch(store, &mut batch, &mut members, outcomes);
        }
        batch.extend(changes);
        members.push(ix);
    }
    write_batch(store, &mut batch, &mut members, outcomes);
}

fn write_batch<O: Os>(
    store: &mut dyn Store,
    batch: &mut Vec<Change>,
    members: &mut Vec<usize>,
    outcomes: &mut [Outcome<O>],
) {
    let result: Result<(), StoreError> = if batch.is_empty() { Ok(()) } else { store.commit(batch) };
    if let Err(error) = result {
        for ix in members.iter() {
            outcomes[*ix].result = Err(match &error {
                StoreError::Reset { .. } => CommitError::StoreReset(error.to_string()),
                _ => CommitError::Store(error.to_string()),
            });
        }
    }
    batch.clear();
    members.clear();
}

/// Takes jobs one at a time and gives their outcomes back later.
pub trait Committer<O: Os> {
    /// Only when [`Committer::is_idle`].
    fn submit(&mut self, items: Vec<Item<O>>);
    fn is_idle(&self) -> bool;
    fn poll(&mut self) -> Option<Vec<Outcome<O>>>;
}

#[cfg(test)]
mod tests;
