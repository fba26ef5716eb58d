//! A container's commits: the rung it stands for right now, and what becomes of it once that is durable or failed.

use std::time::Duration;

use crate::agent::container::{Barrier, Commit, Container, InFlight, Stage, Trouble};
use crate::checkpoint::{Epoch, Rung};
use crate::sink::Place;
use crate::sink::file::Meddling;
use crate::sink::rotate::Rotated;
use crate::sys::Os;

/// Commits: what a container stands for right now, and what became of it.
impl<O: Os> Container<O> {
    /// Whether a commit would tell something new, and none is on its way.
    pub fn wants_commit(&self) -> bool {
        let ready = matches!(self.stage, Stage::Appending { .. });
        ready && self.in_flight.is_none() && (self.barrier.is_some() || self.dirty)
    }

    /// The store forgot the row.
    pub fn commit_again(&mut self) {
        self.dirty |= self.stored;
    }

    /// Whether somebody moved the output away. Asked once a commit.
    pub fn check_output_name(&mut self, os: &O) -> Option<Meddling> {
        let Stage::Appending { output } = &mut self.stage else {
            return None;
        };
        if self.barrier.is_some_and(|barrier| barrier.rotate) {
            return None; // An earlier try may have renamed it itself; the next one looks.
        }
        let meddling = output.check_name(os).unwrap_or(None)?;
        self.batch.rewind_record();
        // Nothing goes into the new file before a rung lies in it: it would be written again after a death.
        self.barrier.get_or_insert_default();
        Some(meddling)
    }

    /// Makes the next rung. `sync_after`: an output that wasn't on the disk for so long is synced with it.
    pub fn begin_commit(&mut self, os: &O, now: Duration, sync_after: Duration) -> Result<Commit<O>, Trouble> {
        let barrier = self.barrier;
        let Barrier { rotate, release } = barrier.unwrap_or_default();
        let head = self.lineage.head(os).map_err(|error| self.source_trouble(error))?;
        let Stage::Appending { output } = &mut self.stage else {
            unreachable!("only an appending container commits");
        };
        let rotation = if rotate { output.rotate() } else { None };
        let place = match &rotation {
            Some(rotation) => Place { segment: rotation.number + 1, offset: 0 },
            None => output.place(),
        };
        let overdue = now >= self.synced_at + sync_after || self.ladder.rungs.is_empty() || release || self.sync_next;
        let sync = if output.is_unsynced() && overdue && rotation.is_none() { Some(output.sync()) } else { None };
        let synced = sync.is_some() || rotation.is_some() || !output.is_unsynced();
        let in_place = output.place();
        // Not the last one: behind a file that was taken away the place is below where that began.
        let epoch = (self.ladder.shape_at(place) != Some(self.pipe.shape()))
            .then(|| Epoch { shape: self.pipe.shape().clone(), from: place });
        let mut ladder = self.ladder.clone();
        ladder.epochs.extend(epoch.clone());
        let epoch = epoch.or_else(|| ladder.epochs.last().filter(|_| !self.noted).cloned());
        let (offset, tail) = self.lineage.front().map_or((0, None), |front| (front.offset, front.tail()));
        // Without a whole line, a record that lacks its newline may have been taken, and tells the place.
        let is_told = head.is_some() || tail.is_some_and(|tail| !tail.is_of_nuls());
        ladder.push(Rung {
            at_ms: (os.wall_ns() / 1_000_000).max(0) as u64,
            head,
            offset: if is_told { offset } else { 0 },
            tail: tail.filter(|_| is_told),
            unfinished: self.pipe.assembler.unfinished().clone(),
            place,
            owed: self.batch.unwritten().to_vec(),
            owed_mid_record: self.batch.is_mid_record(),
            synced,
        });
        self.dirty = false;
        self.sync_next = false;
        self.in_flight = Some(InFlight { ladder: ladder.clone(), barrier, place: in_place, synced: sync.is_some() });
        Ok(Commit { ladder, rotate: rotation, sync, epoch, began: self.began })
    }

    /// The commit is durable: what waited for it may go on.
    pub fn committed(&mut self, now: Duration, rotated: Option<Rotated<O>>) -> Option<Barrier> {
        let in_flight = self.in_flight.take().expect("a commit ends once");
        self.ladder = in_flight.ladder;
        if let Stage::Appending { output } = &mut self.stage {
            if let Some(rotated) = rotated {
                output.rotated(rotated);
                self.synced_at = now;
            }
            if in_flight.synced {
                self.synced_at = now;
                output.set_synced(output.place() == in_flight.place);
            }
        }
        if in_flight.barrier.is_some() {
            self.barrier = None;
            self.undecided = false;
        }
        if in_flight.barrier.is_some_and(|barrier| barrier.release) {
            self.stage = Stage::Waiting;
            self.released = true;
        }
        self.stored = true;
        self.noted = true;
        in_flight.barrier
    }

    /// Nothing was committed; it will be tried again.
    pub fn commit_failed(&mut self, rotated: Option<Rotated<O>>) {
        self.in_flight = None;
        self.dirty = true;
        if let Stage::Appending { output } = &mut self.stage
            && let Some(rotated) = rotated
        {
            // The segment is ended all the same: only the row is missing.
            output.rotated(rotated);
            if let Some(barrier) = &mut self.barrier {
                barrier.rotate = false;
            }
        }
    }

    /// The number the segment was to get belongs to a file that isn't ours: it takes the next free one.
    pub fn renumber(&mut self, free: u64) {
        self.commit_failed(None);
        if let Stage::Appending { output } = &mut self.stage {
            let old = output.place().segment;
            output.renumber(free);
            for rung in self.ladder.rungs.iter_mut().filter(|rung| rung.place.segment == old) {
                rung.place.segment = free;
            }
            for epoch in self.ladder.epochs.iter_mut().filter(|epoch| epoch.from.segment == old) {
                epoch.from.segment = free;
            }
            self.noted = false; // The journal names the old number.
            // First a commit under the new number, then the rename.
            self.barrier = Some(Barrier::default());
        }
    }
}
