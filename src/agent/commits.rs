//! Commits: which containers go into the next one, and what their outcomes set free.

use std::time::Duration;

use crate::agent::container::{Commit, Trouble};
use crate::agent::schedule::retry_pause;
use crate::agent::{Agent, Mode, Stored};
use crate::checkpoint::commit::{CommitError, Committer, Item, Outcome};
use crate::checkpoint::{Row, codec};
use crate::config::Durability;
use crate::config::labels;
use crate::config::limits::{COMMIT_BYTES_MAX, COMMIT_ITEMS_MAX, COMMIT_PERIOD, LADDER_SPAN, LOSSES_PENDING_MAX};
use crate::loss::Loss;
use crate::sink::journal::Note;
use crate::sink::tidy::{Chore, Tidier};
use crate::sys::Os;
use crate::sys::watch::Watcher;

/// Set when every container of the first listing has its row: `--from end` is over then.
pub const FIRST_LISTING_KEY: &[u8] = b"agent/first-listing";
/// Items without a container of their own.
const NOBODY: &str = "";

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Starts a commit when something waits for one, and once a second for the rest.
    pub(super) fn submit_commits(&mut self, now: Duration) {
        if !self.committer.is_idle() || now < self.commit_retry_at {
            return;
        }
        // A backfill that has read everything doesn't wait for the second to pass.
        let read_all = self.mode == Mode::Backfill && self.hot_moved_at < now;
        let periodic = self.stopping || read_all || now >= self.committed_at + COMMIT_PERIOD;
        let mut items = Vec::new();
        let mut bytes = 0;
        // One that is cut short goes on as soon as this is stored: the next second begins when all had their turn.
        let mut goes_on_from = None;
        let (waiting, others) = self.next_to_commit(periodic, now);
        for (n, ix) in waiting.iter().chain(&others).copied().enumerate() {
            if items.len() >= COMMIT_ITEMS_MAX || bytes >= COMMIT_BYTES_MAX {
                goes_on_from = Some(if n < waiting.len() { self.round_from } else { ix });
                break;
            }
            self.wanting.remove(&ix);
            let item = if self.slots[&ix].leaving { Some(self.removal(ix)) } else { self.item(ix, now) };
            bytes += item.as_ref().map_or(0, changed_bytes);
            items.extend(item);
        }
        items.extend(self.listing_item());
        items.extend(self.absence_items());
        if periodic {
            // Also when those that want one can't have it yet: they are asked again in a second, and not without a pause.
            let is_over = goes_on_from.is_none() && (self.round_from == 0 || !items.is_empty());
            if is_over && (!items.is_empty() || !self.wanting.is_empty()) {
                self.committed_at = now;
            }
            self.round_from = goes_on_from.unwrap_or(0);
        }
        if items.is_empty() {
            return;
        }
        self.commit_began_at = now;
        self.committer.submit(items);
    }

    /// Those that wait for it first. Of the others each has its turn before any has a second one, however many they are.
    fn next_to_commit(&mut self, periodic: bool, now: Duration) -> (Vec<usize>, Vec<usize>) {
        let mut waiting = Vec::new();
        let mut others = Vec::new();
        self.wanting.retain(|ix| {
            let Some(slot) = self.slots.get(ix).filter(|slot| slot.leaving || slot.container.wants_commit()) else {
                return false;
            };
            if now < slot.retry_at {
                return true;
            }
            if slot.leaving || slot.container.waits_for_commit() {
                waiting.push(*ix);
            } else if periodic && *ix >= self.round_from {
                others.push(*ix);
            }
            true
        });
        (waiting, others)
    }

    fn item(&mut self, ix: usize, now: Duration) -> Option<Item<O>> {
        let sync_after = match self.config.durability {
            Durability::Synced => Duration::ZERO,
            Durability::Relaxed => LADDER_SPAN / 2,
        };
        if let Some(meddling) = self.slots.get_mut(&ix)?.container.check_output_name(&self.os) {
            self.say_meddled(ix, meddling, now);
        }
        let slot = self.slots.get_mut(&ix)?;
        let commit = match slot.container.begin_commit(&self.os, now, sync_after) {
            Ok(commit) => commit,
            Err(trouble) => {
                self.wanting.insert(ix);
                self.troubled(ix, trouble, now);
                return None;
            }
        };
        let container = &slot.container;
        let note = commit.epoch.as_ref().map(|epoch| Note {
            id: container.id.clone(),
            name: container.facts.metadata.name.clone(),
            route: container.ladder_route.clone(),
            place: epoch.from,
            shape: epoch.shape.clone(),
            began: commit.began,
            keeping: labels::keeping(&container.facts.metadata),
            line: 0,
        });
        let note = note.map(|note| (self.config.places.log_path.clone(), note));
        let row = self.row(ix, &commit);
        let stored =
            self.stored.entry(row.id.clone()).or_insert(Stored { row: None, n_parts: 0, n_parts_next: 0, sequence: 0 });
        stored.sequence = row.sequence;
        let (mut changes, n_parts) = codec::put(&row, stored.n_parts);
        // Parts are only taken away once the shorter row is durable, so the longer count stays until then.
        stored.n_parts = stored.n_parts.max(n_parts);
        stored.n_parts_next = n_parts;
        let slot = self.slots.get_mut(&ix)?;
        slot.losses_in_flight = std::mem::take(&mut slot.losses);
        for loss in &slot.losses_in_flight {
            changes.extend(self.ledger.add(loss));
        }
        Some(Item { id: row.id, rotate: commit.rotate, sync: commit.sync, note, changes })
    }

    fn row(&self, ix: usize, commit: &Commit<O>) -> Row {
        let container = &self.slots[&ix].container;
        Row {
            id: container.id.clone(),
            name: container.facts.metadata.name.clone(),
            route: container.ladder_route.clone(),
            sequence: self.sequence.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            boot: self.boot.clone(),
            ladder: commit.ladder.clone(),
            drained: container.lineage.drained().collect(),
            absent_since_ns: None,
        }
    }

    /// Takes the row of a container that is gone out of the store: its log was unlinked and everything of it is in the
    /// output, which is on the disk first.
    fn removal(&mut self, ix: usize) -> Item<O> {
        let slot = self.slots.get_mut(&ix).expect("it is leaving");
        let n_parts = self.stored.get(&slot.container.id).map_or(0, |stored| stored.n_parts);
        let sync = slot.container.output().filter(|output| output.is_unsynced()).map(|output| output.sync());
        let mut changes = codec::remove(&slot.container.id, n_parts);
        slot.losses_in_flight = std::mem::take(&mut slot.losses);
        for loss in &slot.losses_in_flight {
            changes.extend(self.ledger.add(loss));
        }
        Item { id: slot.container.id.clone(), rotate: None, sync, note: None, changes }
    }

    /// Once all containers of the first listing are stored.
    fn listing_item(&mut self) -> Option<Item<O>> {
        if self.first_listing_stored
            || !self.first_listing_seen
            || self.share.as_ref().is_some_and(|share| share.ix > 0)
        {
            return None;
        }
        let pending = self.slots.values().any(|slot| {
            slot.first
                && slot.selected
                && slot.trouble.is_none()
                && !(slot.container.is_open() && slot.container.is_stored())
        });
        if pending {
            return None;
        }
        self.first_listing_stored = true;
        let changes = vec![(FIRST_LISTING_KEY.to_vec(), Some(b"1".to_vec()))];
        Some(Item { id: NOBODY.to_owned(), rotate: None, sync: None, note: None, changes })
    }

    /// Rows of containers that no listing shows: since when, and at last their end.
    fn absence_items(&mut self) -> Vec<Item<O>> {
        const ABSENCES_MAX: usize = 64;
        let now_ns = self.os.wall_ns();
        let at = self.absent.len().saturating_sub(ABSENCES_MAX);
        let ids = self.absent.split_off(at);
        let mut items = Vec::new();
        for id in ids {
            let Some(Stored { row: Some(row), n_parts, .. }) = self.stored.get(&id) else {
                continue;
            };
            let over = row
                .absent_since_ns
                .is_some_and(|since| now_ns - since > crate::config::limits::ROW_ABSENT_MAX.as_nanos() as i64);
            let changes = if over { codec::remove(&id, *n_parts) } else { codec::put(row, *n_parts).0 };
            if over {
                self.stored.remove(&id);
            }
            items.push(Item { id: NOBODY.to_owned(), rotate: None, sync: None, note: None, changes });
        }
        items
    }

    pub(super) fn take_commits(&mut self, now: Duration) {
        while let Some(outcomes) = self.committer.poll() {
            // A store that fails holds up everyone, an output that fails only itself.
            let failed = outcomes
                .iter()
                .any(|outcome| matches!(outcome.result, Err(CommitError::Store(_) | CommitError::StoreReset(_))));
            if outcomes.iter().any(|outcome| matches!(outcome.result, Err(CommitError::StoreReset(_)))) {
                self.write_every_row_again();
            }
            for outcome in outcomes {
                self.take_outcome(outcome, now);
            }
            if failed {
                self.commit_retry_at = now + retry_pause(self.n_commit_failures);
                self.n_commit_failures += 1;
            } else {
                self.n_commit_failures = 0;
                self.counters.committed(now.saturating_sub(self.commit_began_at), self.os.wall_ns());
                self.commit_healed();
            }
        }
    }

    /// The store lost its rows; what is in memory is newer than any backup.
    fn write_every_row_again(&mut self) {
        self.counters.checkpoint_recoveries.of(crate::telemetry::RecoveryReason::Corrupt).inc();
        for (ix, slot) in &mut self.slots {
            slot.container.commit_again();
            self.wanting.insert(*ix);
        }
        self.absent.extend(self.stored.iter().filter(|(_, stored)| stored.row.is_some()).map(|(id, _)| id.clone()));
        self.first_listing_stored = false;
    }

    fn take_outcome(&mut self, outcome: Outcome<O>, now: Duration) {
        let Some(ix) = self.slot_of(&outcome.id) else {
            if let Err(error) = &outcome.result {
                self.say_commit_failed(error, now);
                // The item of the first listing is nobody's as well: it goes with the next commit.
                self.first_listing_stored &= outcome.id != NOBODY;
            }
            return;
        };
        let slot = self.slots.get_mut(&ix).expect("by_id names slots");
        if slot.leaving {
            match outcome.result {
                Ok(()) => {
                    self.ledger.committed(slot.losses_in_flight.drain(..));
                    self.stored.remove(&outcome.id);
                    self.forget(ix);
                }
                Err(error) => {
                    slot.losses.append(&mut slot.losses_in_flight);
                    self.wanting.insert(ix);
                    self.say_commit_failed(&error, now);
                }
            }
            return;
        }
        match outcome.result {
            Ok(()) => {
                self.ledger.committed(slot.losses_in_flight.drain(..));
                if let Some(stored) = self.stored.get_mut(&outcome.id) {
                    stored.n_parts = stored.n_parts_next;
                }
                let rotated = outcome.rotated.is_some();
                let segment = slot.container.place().map_or(0, |place| place.segment);
                let barrier = slot.container.committed(now, outcome.rotated);
                let path = slot.container.output().map(|output| output.path().to_owned());
                if rotated && let Some(path) = path {
                    self.counters.outputs_rotated.inc();
                    let retention = self.slots[&ix].treatment.retention();
                    self.tidier.submit(Chore::Output(path, retention));
                }
                if barrier.is_some_and(|barrier| barrier.release) {
                    self.release_route(ix, segment);
                    if self.slots.get(&ix).is_some_and(|slot| !slot.selected && !slot.unsettled) {
                        self.set_aside(ix);
                    }
                }
            }
            Err(CommitError::NumberTaken(free)) => {
                slot.losses.append(&mut slot.losses_in_flight);
                slot.container.renumber(free);
            }
            Err(error) => {
                slot.losses.append(&mut slot.losses_in_flight);
                slot.container.commit_failed(outcome.rotated);
                match error {
                    CommitError::Output(error) => {
                        let path = slot.container.output().map(|output| output.path().to_owned()).unwrap_or_default();
                        self.counters.checkpoint_commit_failures.inc();
                        self.wanting.insert(ix);
                        self.troubled(ix, Trouble::Output(path, error), now);
                        return;
                    }
                    error => self.say_commit_failed(&error, now),
                }
            }
        }
        if self.slots.get(&ix).is_some_and(|slot| slot.container.wants_commit()) {
            self.wanting.insert(ix);
        }
        self.reschedule(ix, now);
    }

    fn say_commit_failed(&mut self, error: &CommitError, now: Duration) {
        self.counters.checkpoint_commit_failures.inc();
        self.health.set("state", error.to_string());
        if self.said.say("state", NOBODY, now).is_some() {
            tracing::error!(%error, "cannot commit; trying again");
        }
    }

    fn commit_healed(&mut self) {
        if let Some(suppressed) = self.said.healed("state", NOBODY) {
            tracing::info!(suppressed, "commits go through again");
        }
        self.health.clear("state");
    }
}

/// Adds a loss to those that wait for a commit. A flood of one kind becomes one entry with a range.
pub(super) fn merge_loss(losses: &mut Vec<Loss>, loss: Loss) {
    let many = losses.len() >= LOSSES_PENDING_MAX;
    if let Some(last) = losses.last_mut()
        && last.reason == loss.reason
        && last.file == loss.file
        && (many || last.end.is_some() && last.end == loss.start)
    {
        last.end = loss.end.or(last.end);
        last.bytes = last.bytes.map(|bytes| bytes + loss.bytes.unwrap_or(0)).or(loss.bytes);
        last.last_time = loss.last_time.or(loss.first_time).or(last.last_time.take());
        return;
    }
    if losses.len() < LOSSES_PENDING_MAX * 4 {
        losses.push(loss);
    }
}

fn changed_bytes<O: Os>(item: &Item<O>) -> usize {
    item.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
}
