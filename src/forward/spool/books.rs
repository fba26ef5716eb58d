//! What is in a sink's spool: by the rows that name the copies, and by their files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::codec::Change;
use crate::config::limits::COPIES_RELEASED_MAX;
use crate::forward::rows::{Keys, SpoolRow, spool_name};
use crate::forward::spool::BLOCK_BYTES;
use crate::forward::spool::copying::{Copying, remove};
use crate::ordered;
use crate::sink::delivery::LaneId;
use crate::sys::{FileId, Os};
use crate::tail::Spooled;

/// The copies of one sink.
pub(in crate::forward) struct Spool<O: Os> {
    pub directory: PathBuf,
    /// By container and number.
    pub kept: BTreeMap<(String, u64), Kept>,
    pub last_number: u64,
    pub job: Option<Job<O>>,
    /// Files that no row names are gone.
    pub is_tidy: bool,
    /// Deleted logs held more than `held_max` when they were measured last.
    pub is_over: bool,
    pub looked_at: Duration,
    pub retry_at: Duration,
    pub n_failures: u32,
    /// There was nothing more to copy.
    pub settled: bool,
    /// By lane, the log whose copy ran out of room, and what the copy took by then: it needs more.
    pub too_long: BTreeMap<LaneId, (FileId, u64)>,
}

pub struct Kept {
    pub row: SpoolRow,
    pub n_parts: usize,
    /// Of its file.
    pub bytes: u64,
}

/// A copy on its way. Its row is durable before its file is made, so that what a death leaves of it is known.
pub struct Job<O: Os> {
    pub lane: LaneId,
    pub number: u64,
    pub id: FileId,
    pub is_named: bool,
    pub copying: Copying<O>,
}

impl<O: Os> Spool<O> {
    pub fn new(directory: PathBuf, stored: BTreeMap<u64, (SpoolRow, usize)>, now: Duration) -> Spool<O> {
        let keep = |(number, (row, n_parts)): (u64, (SpoolRow, usize))| {
            ((row.metadata.id.clone(), number), Kept { row, n_parts, bytes: 0 })
        };
        Spool {
            last_number: stored.keys().copied().max().unwrap_or(0),
            kept: ordered::map(stored.into_iter().map(keep)),
            directory,
            job: None,
            is_tidy: false,
            is_over: false,
            looked_at: now,
            retry_at: Duration::ZERO,
            n_failures: 0,
            settled: false,
            too_long: BTreeMap::new(),
        }
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.directory.join(spool_name(number))
    }

    /// The copies of one container, the oldest first.
    fn of(&self, container: &str) -> impl Iterator<Item = (u64, &Kept)> {
        let range = (container.to_owned(), 0)..=(container.to_owned(), u64::MAX);
        self.kept.range(range).map(|((_, number), kept)| (*number, kept))
    }

    /// What a start finds of a container.
    pub fn found(&self, os: &O, container: &str) -> Vec<(Spooled<O>, SpoolRow)> {
        let spooled = |number| {
            let row: &Kept = &self.kept[&(container.to_owned(), number)];
            (Spooled::new(os, self.path(number), number, row.row.extent.clone()), row.row.clone())
        };
        self.of(container).map(|(number, _)| spooled(number)).collect()
    }

    /// Containers with copies, and what is known of them.
    pub fn containers(&self) -> BTreeMap<&str, &SpoolRow> {
        ordered::map(self.kept.iter().map(|((id, _), kept)| (id.as_str(), &kept.row)))
    }

    pub fn bytes(&self) -> u64 {
        self.kept.values().map(|kept| kept.bytes.next_multiple_of(BLOCK_BYTES)).sum()
    }

    pub fn rows(&self) -> BTreeMap<u64, (SpoolRow, usize)> {
        ordered::map(self.kept.iter().map(|((_, number), kept)| (*number, (kept.row.clone(), kept.n_parts))))
    }

    /// Files whose rows are gone go, and those that are there are measured.
    pub fn tidy(&mut self, os: &O) -> io::Result<()> {
        let names = match os.list(&self.directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let numbers = ordered::map(self.kept.keys().map(|key| (spool_name(key.1), key.clone())));
        for name in names {
            let Some(name) = name.to_str() else { continue };
            let path = self.directory.join(name);
            match numbers.get(name) {
                Some(key) => self.kept.get_mut(key).expect("just listed").bytes = os.stat(&path)?.size,
                None if name.parse::<u64>().is_ok() => remove(os, &path)?,
                None => {} // Nothing of ours.
            }
        }
        self.is_tidy = true;
        Ok(())
    }

    /// What a copy of this log takes at least.
    pub fn least_bytes(&self, lane: LaneId, id: FileId) -> u64 {
        let too_long = self.too_long.get(&lane).filter(|(log, _)| *log == id);
        too_long.map_or(BLOCK_BYTES, |(_, bytes)| bytes.next_multiple_of(BLOCK_BYTES))
    }

    fn is_busy_with(&self, number: u64) -> bool {
        self.job.as_ref().is_some_and(|job| job.number == number)
    }

    pub fn is_copying(&self) -> bool {
        self.job.is_some()
    }

    /// Removes these copies' files; a death before it leaves them to the next start.
    pub fn remove_files(&self, os: &O, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            if let Err(error) = remove(os, &self.path(number)) {
                tracing::warn!(file = %self.path(number).display(), %error, "cannot remove a copy; the next start will");
            }
        }
    }

    /// Takes copies that a container doesn't need any more out of the books, the oldest first and at most
    /// `COPIES_RELEASED_MAX`: the changes, and their numbers.
    pub fn release(
        &mut self,
        keys: &Keys,
        container: &str,
        is_needed: impl Fn(u64) -> bool,
    ) -> (Vec<Change>, Vec<u64>) {
        let is_over = |number: &u64| !is_needed(*number) && !self.is_busy_with(*number);
        let numbers: Vec<u64> =
            self.of(container).map(|(number, _)| number).filter(is_over).take(COPIES_RELEASED_MAX).collect();
        let mut changes = Vec::new();
        for number in &numbers {
            if let Some(kept) = self.kept.remove(&(container.to_owned(), *number)) {
                changes.extend(keys.remove_spool(*number, kept.n_parts));
            }
        }
        (changes, numbers)
    }

    /// Takes a container's oldest copy out of the books.
    pub fn take_oldest(&mut self, container: &str) -> Option<(u64, Kept)> {
        let number = self.of(container).map(|(number, _)| number).find(|number| !self.is_busy_with(*number))?;
        self.kept.remove(&(container.to_owned(), number)).map(|kept| (number, kept))
    }

    /// The store lost its rows.
    pub fn put_every_row(&mut self, keys: &Keys) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((_, number), kept) in &mut self.kept {
            let (put, n_parts) = keys.put_spool(*number, &kept.row, 0);
            kept.n_parts = n_parts;
            changes.extend(put);
        }
        changes
    }
}
