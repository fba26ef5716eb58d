//! What sinks remember, for `longshore state`.

use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use super::{ID_DIGITS_MIN, Listed};
use crate::checkpoint::codec::Change;
use crate::checkpoint::store::CHANGES_MAX;
use crate::cli::stored::{Held, Pairs, printable, table};
use crate::cli::{Exit, Failure};
use crate::config::sinks::check_name;
use crate::discover::listing::is_container_id;
use crate::forward::removed;
use crate::forward::rows::{BatchPlace, BatchRow, Keys, LaneRow, Stored, is_batch_place};
use crate::sys::Os;
use crate::sys::unix::Unix;

/// One sink in an export. Copies of deleted logs are files, and no part of it.
#[derive(Serialize, Deserialize)]
pub struct ExportedSink {
    name: String,
    first_listing_stored: bool,
    containers: Vec<LaneRow>,
    batches: Vec<(BatchPlace, BatchRow)>,
}

/// A sink's row of one container, in words.
#[derive(Serialize)]
pub struct ListedSink {
    sink: String,
    name: String,
    id: String,
    /// Records that the receiver has.
    delivered: u64,
    head_known: bool,
    log_offset: u64,
    /// Sealed and not delivered.
    batches: usize,
    /// Copies of deleted logs.
    copies: usize,
    absent: bool,
}

/// The rows of the files, and behind them those of the sinks, which say so.
pub struct Both {
    pub rows: Vec<Listed>,
    pub sinks: Vec<ListedSink>,
}

impl Serialize for Both {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum One<'a> {
            Row(&'a Listed),
            Sink(&'a ListedSink),
        }
        serializer.collect_seq(self.rows.iter().map(One::Row).chain(self.sinks.iter().map(One::Sink)))
    }
}

fn stored(pairs: &Pairs) -> impl Iterator<Item = (String, Stored)> + '_ {
    removed::names(pairs).into_iter().map(|name| {
        let stored = Keys::new(&name).load(pairs);
        (name, stored)
    })
}

pub fn listed(pairs: &Pairs) -> Vec<ListedSink> {
    let mut listed = Vec::new();
    for (sink, stored) in stored(pairs) {
        let first = listed.len();
        for (row, _) in stored.lanes.values() {
            let parts = stored.batches.values().flat_map(|(batch, _)| &batch.parts);
            listed.push(ListedSink {
                sink: sink.clone(),
                name: row.name.clone(),
                id: row.id.clone(),
                delivered: row.delivered,
                head_known: row.resume.head.is_some(),
                log_offset: row.resume.offset,
                batches: parts.filter(|part| part.container == row.id).count(),
                copies: stored.spool.values().filter(|(copy, _)| copy.metadata.id == row.id).count(),
                absent: row.absent_since_ns.is_some(),
            });
        }
        listed[first..].sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
        for (name, error) in &stored.bad {
            eprintln!("error: row {} of sink {sink} can't be used: {error}", printable(name));
        }
    }
    listed
}

pub fn render(listed: &[ListedSink]) -> String {
    if listed.is_empty() {
        return String::new();
    }
    const HEAD: [&str; 8] = ["SINK", "NAME", "ID", "DELIVERED", "LOG HEAD", "LOG BYTES", "BATCHES", "COPIES"];
    let row = |row: &ListedSink| {
        vec![
            row.sink.clone(),
            row.name.clone(),
            row.id.chars().take(ID_DIGITS_MIN).collect(),
            row.delivered.to_string(),
            if row.head_known { "known" } else { "none yet" }.to_owned(),
            row.log_offset.to_string(),
            row.batches.to_string(),
            row.copies.to_string(),
        ]
    };
    format!("\n{}", table(&HEAD, listed.iter().map(row).collect()))
}

pub fn n_copies(pairs: &Pairs) -> usize {
    stored(pairs).map(|(_, stored)| stored.spool.len()).sum()
}

pub fn exported(pairs: &Pairs) -> Vec<ExportedSink> {
    let exported = |(name, stored): (String, Stored)| ExportedSink {
        name,
        first_listing_stored: stored.first_listing,
        containers: stored.lanes.into_values().map(|(row, _)| row).collect(),
        batches: stored.batches.into_iter().map(|(place, (row, _))| (place, row)).collect(),
    };
    stored(pairs).map(exported).collect()
}

impl ExportedSink {
    pub fn check(&self) -> Result<(), Failure> {
        check_name(&self.name).map_err(Failure::usage)?;
        let keys = Keys::new(&self.name);
        let ids = self.containers.iter().map(|row| &row.id);
        let mut ids = ids.chain(self.batches.iter().flat_map(|(_, row)| row.parts.iter().map(|part| &part.container)));
        if !ids.all(|id| is_container_id(id)) {
            return Err(Failure::usage(format!("a row of sink {} has no container id", self.name)));
        }
        if !self.batches.iter().all(|(place, _)| is_batch_place(place)) {
            return Err(Failure::usage(format!("a batch of sink {} has no number", self.name)));
        }
        let n_parts = self.containers.iter().map(|row| keys.put_lane(row, 0).1);
        let mut n_parts = n_parts.chain(self.batches.iter().map(|(place, row)| keys.put_batch(place, row).1));
        match n_parts.any(|n_parts| n_parts > CHANGES_MAX) {
            true => Err(Failure::usage(format!("a row of sink {} is longer than any agent writes", self.name))),
            false => Ok(()),
        }
    }

    pub fn put(&self, held: &mut Held) -> Result<(), Failure> {
        let keys = Keys::new(&self.name);
        for row in &self.containers {
            held.commit(&keys.put_lane(row, 0).0)?;
        }
        for (place, row) in &self.batches {
            held.commit(&keys.put_batch(place, row).0)?;
        }
        if self.first_listing_stored {
            held.commit(&[(keys.first_listing(), Some(b"1".to_vec()))])?;
        }
        Ok(())
    }
}

/// All of a sink.
pub fn forget(held: &mut Held, state_dir: &Path, sink: &str) -> Result<(), Failure> {
    commit(held, &removed::forget(&held.pairs, sink))?;
    for file in removed::spool_files(&held.pairs, state_dir, sink) {
        let _ = Unix.remove(&file); // Often it was never made; what stays is removed when the sink starts again.
    }
    Ok(())
}

fn commit(held: &mut Held, changes: &[Change]) -> Result<(), Failure> {
    changes.chunks(CHANGES_MAX).try_for_each(|part| held.commit(part))
}

pub fn not_known(sink: &str) -> Failure {
    Failure::new(Exit::Failed, format!("no row of sink '{}'", printable(sink))).hint("longshore state list shows all")
}

/// `forget --sink`, with a container or without.
pub fn forget_of(held: &mut Held, state_dir: &Path, sink: &str, container: Option<&str>) -> Result<Exit, Failure> {
    if !removed::names(&held.pairs).contains(sink) {
        return Err(not_known(sink));
    }
    let Some(wanted) = container else {
        forget(held, state_dir, sink)?;
        eprintln!("forgot all that sink {sink} remembered");
        return Ok(Exit::Done);
    };
    let keys = Keys::new(sink);
    let stored = keys.load(&held.pairs);
    let is_wanted = |row: &LaneRow| {
        is_container_id(&row.id) && (row.name == wanted || wanted.len() >= ID_DIGITS_MIN && row.id.starts_with(wanted))
    };
    let found: Vec<&(LaneRow, usize)> = stored.lanes.values().filter(|(row, _)| is_wanted(row)).collect();
    let [(row, n_parts)] = found.as_slice() else {
        let n_found = found.len();
        let text = format!("{n_found} containers of sink {sink} are called '{}'", printable(wanted));
        return Err(Failure::new(Exit::Failed, text).hint("longshore state list shows all; give the id of one"));
    };
    // Batches with its records are made anew: their bounds are of the old numbers.
    let mut changes = keys.remove_lane(&row.id, *n_parts);
    for (place, (batch, n_parts)) in &stored.batches {
        if batch.parts.iter().any(|part| part.container == row.id) {
            changes.extend(keys.remove_batch(place, *n_parts));
        }
    }
    for (number, (copy, n_parts)) in &stored.spool {
        if copy.metadata.id == row.id {
            changes.extend(keys.remove_spool(*number, *n_parts));
        }
    }
    commit(held, &changes)?;
    eprintln!("forgot what sink {sink} remembered of {} ({})", row.name, &row.id[..ID_DIGITS_MIN]);
    Ok(Exit::Done)
}
