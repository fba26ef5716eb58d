//! What is to be durable, in the order in which it must be: bounds of batches before they are sent, positions when
//! batches are done.

use std::collections::{BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::time::Duration;

use crate::agent::schedule::retry_pause;
use crate::checkpoint::codec::Change;
use crate::checkpoint::commit::{CommitError, Committer, Item};
use crate::config::limits::{COMMIT_CHANGES_MAX, COMMIT_PERIOD, COPIES_RELEASED_MAX};
use crate::forward::rows::{LaneRow, Stored};
use crate::forward::{Forwarder, Transport};
use crate::loss::Loss;
use crate::sink::delivery::{BatchKey, LaneId};
use crate::sys::Os;

/// Rows that go along with whatever is committed anyway.
const ROWS_BESIDE_MAX: usize = 64;

/// What is true once a group of changes is durable.
pub(super) enum Effect {
    /// These batches may be sent.
    Planned(Vec<BatchKey>, Vec<NewRow>),
    /// These positions are stored, these batches gone, these losses told.
    Rows {
        rows: Vec<NewRow>,
        gone: Vec<BatchKey>,
        losses: Vec<Loss>,
    },
    /// The container's row is gone, and those of its copies in the spool.
    Removed(LaneId, Vec<u64>),
    /// A copy is named, and may be made.
    SpoolNamed(u64, Vec<NewRow>),
    /// Copies are named no more.
    SpoolGone(Vec<u64>),
    FirstListing,
    Nothing,
}

pub(super) struct NewRow {
    pub lane: LaneId,
    pub row: LaneRow,
    pub n_parts: usize,
    /// Copies in the spool that it names no more.
    pub released: Vec<u64>,
}

pub(super) struct Group {
    pub changes: Vec<Change>,
    pub effect: Effect,
}

/// Rows on their way into a group.
#[derive(Default)]
pub(super) struct Gathered {
    pub changes: Vec<Change>,
    pub rows: Vec<NewRow>,
}

impl Gathered {
    fn into_group(self) -> Group {
        let Gathered { changes, rows } = self;
        Group { changes, effect: Effect::Rows { rows, gone: Vec::new(), losses: Vec::new() } }
    }
}

pub(super) struct Outbox<O: Os> {
    waiting: VecDeque<Group>,
    in_flight: VecDeque<Group>,
    retry_at: Duration,
    n_failures: u32,
    committed_at: Duration,
    /// Whether something waits that the next period commits.
    wants_period: bool,
    /// It doesn't wait for the period.
    pub urgent: bool,
    /// Where the rows of dirty lanes go on, if a commit didn't take all.
    round_from: LaneId,
    machine: PhantomData<O>,
}

impl<O: Os> Default for Outbox<O> {
    fn default() -> Self {
        Outbox {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            retry_at: Duration::ZERO,
            n_failures: 0,
            committed_at: Duration::ZERO,
            wants_period: false,
            urgent: false,
            round_from: 0,
            machine: PhantomData,
        }
    }
}

impl<O: Os> Outbox<O> {
    pub fn push(&mut self, group: Group) {
        self.waiting.push_back(group);
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    /// When a commit is due by time.
    pub(super) fn commit_due(&self) -> Option<Duration> {
        if !self.outbox.in_flight.is_empty() {
            return None; // Its end wakes us.
        }
        if !self.outbox.waiting.is_empty() {
            return Some(self.outbox.retry_at);
        }
        self.outbox.wants_period.then(|| (self.outbox.committed_at + COMMIT_PERIOD).max(self.outbox.retry_at))
    }

    pub(super) fn submit(&mut self, now: Duration) {
        self.outbox.wants_period = !self.dirty.is_empty() || !self.retired.is_empty() || !self.losses.is_empty();
        if !self.parts.committer.is_idle() || now < self.outbox.retry_at {
            return;
        }
        // What failed goes first. Each try would queue the rows once more, as they are then.
        let fails = self.outbox.n_failures > 0 && !self.outbox.waiting.is_empty();
        if self.outbox.wants_period && !fails {
            self.store_what_is_due(now);
        }
        self.note_first_listing();
        let mut n_changes = 0;
        let mut items = Vec::new();
        while let Some(group) = self.outbox.waiting.front() {
            if n_changes > 0 && n_changes + group.changes.len() > COMMIT_CHANGES_MAX {
                break;
            }
            let group = self.outbox.waiting.pop_front().expect("it was just looked at");
            n_changes += group.changes.len();
            let changes = group.changes.clone();
            items.push(Item { id: String::new(), rotate: None, sync: None, note: None, changes });
            self.outbox.in_flight.push_back(group);
        }
        if !items.is_empty() {
            self.parts.committer.submit(items);
        }
    }

    fn store_what_is_due(&mut self, now: Duration) {
        let periodic =
            self.stopping || std::mem::take(&mut self.outbox.urgent) || now >= self.outbox.committed_at + COMMIT_PERIOD;
        let beside = !self.outbox.waiting.is_empty() && self.dirty.len() <= ROWS_BESIDE_MAX;
        let many = self.retired.len() >= self.parts.settings.rules.planned_max;
        if periodic || beside || many {
            // One that is cut short goes on as soon as this is stored: the next second begins when all had their turn.
            let is_over = self.store_positions();
            if is_over || !periodic {
                self.outbox.committed_at = now;
            }
            self.outbox.urgent |= periodic && !is_over;
        }
    }

    /// Batches that are done leave the store with the new positions of their containers, or behind them where those are
    /// too much for one commit. As much as one commit takes; false if the rest waits for the next.
    fn store_positions(&mut self) -> bool {
        let mut removals = Vec::new();
        let mut gone = Vec::new();
        let mut lanes: BTreeSet<LaneId> = BTreeSet::new();
        while let Some(retired) = self.retired.front() {
            if !gone.is_empty() && lanes.len() + gone.len() + retired.parts.len() > COMMIT_CHANGES_MAX / 2 {
                break;
            }
            let retired = self.retired.pop_front().expect("it was just looked at");
            for part in &retired.parts {
                self.advance(part.lane, part.end());
                lanes.insert(part.lane);
            }
            let sealed = self.sealed.get(&retired.key).expect("it is remembered until its row is gone");
            removals.extend(self.keys.remove_batch(&sealed.place, sealed.n_parts));
            gone.push(retired.key);
        }
        let mut gathered = Gathered::default();
        let mut n_changes = removals.len();
        for lane in lanes {
            n_changes += self.gather_row(lane, &mut gathered);
        }
        // Each has its turn before any has a second one.
        if self.dirty.range(self.outbox.round_from..).next().is_none() {
            self.outbox.round_from = 0;
        }
        let dirty: Vec<LaneId> = self.dirty.range(self.outbox.round_from..).copied().collect();
        let mut goes_on_from = None;
        for lane in dirty {
            if n_changes >= COMMIT_CHANGES_MAX / 2 {
                goes_on_from = Some(lane);
                break;
            }
            n_changes += self.gather_row(lane, &mut gathered);
        }
        self.outbox.round_from = goes_on_from.unwrap_or(0);
        let Gathered { mut changes, rows } = self.leave_room(gathered, removals.len());
        changes.append(&mut removals);
        let mut losses = Vec::new();
        while changes.len() + 2 <= COMMIT_CHANGES_MAX
            && let Some(loss) = self.losses.pop()
        {
            changes.extend(self.parts.ledger.add(&loss));
            losses.push(loss);
        }
        self.outbox.push(Group { changes, effect: Effect::Rows { rows, gone, losses } });
        goes_on_from.is_none() && self.losses.is_empty() && self.retired.is_empty()
    }

    /// Adds a lane's row, as so many changes. What has no room beside it goes before it.
    pub(super) fn gather_row(&mut self, lane: LaneId, gathered: &mut Gathered) -> usize {
        let Some((new, mut changes)) = self.new_row(lane) else { return 0 };
        let n_changes = changes.len();
        *gathered = self.leave_room(std::mem::take(gathered), n_changes);
        gathered.changes.append(&mut changes);
        gathered.rows.push(new);
        n_changes
    }

    /// What is gathered, unless so many more changes don't fit into one commit with it: then it goes before them.
    pub(super) fn leave_room(&mut self, gathered: Gathered, n_changes: usize) -> Gathered {
        if gathered.changes.is_empty() || gathered.changes.len() + n_changes <= COMMIT_CHANGES_MAX {
            return gathered;
        }
        self.outbox.push(gathered.into_group());
        Gathered::default()
    }

    fn advance(&mut self, lane: LaneId, end: u64) {
        let Some(slot) = self.slots.get_mut(&lane) else { return };
        slot.delivered = slot.delivered.max(end);
        while let Some((_, mark)) = slot.part_ends.front().copied().filter(|(part_end, _)| *part_end <= end) {
            slot.mark = Some(mark);
            slot.part_ends.pop_front();
        }
    }

    /// A lane's row as it is true now, unless it can't be told, or nothing changed.
    pub(super) fn new_row(&mut self, lane: LaneId) -> Option<(NewRow, Vec<Change>)> {
        self.dirty.remove(&lane);
        let slot = self.slots.get_mut(&lane).filter(|slot| slot.opened && !slot.leaving)?;
        let (resume, decisions) = match slot.cursor.resume_for(&self.parts.os, slot.delivered) {
            Ok(place) => place,
            Err(_) => {
                self.dirty.insert(lane);
                return None;
            }
        };
        let row = LaneRow {
            id: slot.facts.metadata.id.clone(),
            name: slot.facts.metadata.name.clone(),
            delivered: slot.delivered,
            mark: slot.mark,
            boot: self.boot.clone(),
            resume,
            decisions,
            drained: slot.cursor.delivered_heads(),
            settled: slot.is_settled(),
            absent_since_ns: None,
        };
        let needed = slot.cursor.spool_numbers();
        let (mut releases, released) = self.spool.release(&self.keys, &row.id, |number| needed.contains(&number));
        if released.len() == COPIES_RELEASED_MAX {
            self.dirty.insert(lane); // There may be more.
        }
        if slot.row.as_ref() == Some(&row) && released.is_empty() {
            return None;
        }
        let (mut changes, n_parts) = self.keys.put_lane(&row, slot.n_parts);
        changes.append(&mut releases);
        // Parts are only taken away once the shorter row is durable, so the longer count stays until then.
        slot.n_parts = slot.n_parts.max(n_parts);
        Some((NewRow { lane, row, n_parts, released }, changes))
    }

    pub(super) fn take_outcomes(&mut self, now: Duration) {
        while let Some(outcomes) = self.parts.committer.poll() {
            let mut failed = Vec::new();
            let mut reset = false;
            for outcome in outcomes {
                let group = self.outbox.in_flight.pop_front().expect("each outcome is of a group in flight");
                match outcome.result {
                    Ok(()) => self.take_effect(group.effect),
                    Err(error) => {
                        reset |= matches!(error, CommitError::StoreReset(_));
                        if self.said.say("state", &self.parts.settings.name, now).is_some() {
                            tracing::error!(sink = %self.parts.settings.name, %error, "cannot commit; trying again");
                        }
                        failed.push(group);
                    }
                }
            }
            if failed.is_empty() {
                self.outbox.n_failures = 0;
                self.said.healed("state", &self.parts.settings.name);
                continue;
            }
            self.outbox.retry_at = now + retry_pause(self.outbox.n_failures);
            self.outbox.n_failures += 1;
            for group in failed.into_iter().rev() {
                self.outbox.waiting.push_front(group);
            }
            if reset {
                self.write_every_row_again();
            }
        }
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Planned(keys, rows) => {
                keys.into_iter().for_each(|key| self.delivery.ready(key));
                self.rows_stored(rows);
            }
            Effect::Rows { rows, gone, losses } => {
                self.rows_stored(rows);
                gone.iter().for_each(|key| drop(self.sealed.remove(key)));
                self.parts.meters.losses.inc_by(losses.len() as u64 + self.losses.take_gone());
                self.parts.ledger.committed(losses);
            }
            Effect::Removed(lane, copies) => {
                self.spool.remove_files(&self.parts.os, copies);
                self.forget(lane);
            }
            Effect::SpoolNamed(number, rows) => {
                self.spool_named(number);
                self.rows_stored(rows);
            }
            Effect::SpoolGone(copies) => self.spool.remove_files(&self.parts.os, copies),
            Effect::FirstListing => self.first_listing_stored = true,
            Effect::Nothing => {}
        }
    }

    fn rows_stored(&mut self, rows: Vec<NewRow>) {
        for new in rows {
            self.spool.remove_files(&self.parts.os, new.released);
            if let Some(slot) = self.slots.get_mut(&new.lane) {
                slot.n_parts = new.n_parts;
                slot.row = Some(new.row);
                self.leave_if_finished(new.lane);
            }
        }
    }

    /// The store lost its rows; what is in memory is newer than any backup.
    fn write_every_row_again(&mut self) {
        for (lane, slot) in &mut self.slots {
            slot.row = None;
            self.dirty.insert(*lane);
        }
        let mut changes = Vec::new();
        for sealed in self.sealed.values_mut() {
            let (put, n_parts) = self.keys.put_batch(&sealed.place, &sealed.row);
            sealed.n_parts = n_parts;
            changes.extend(put);
        }
        changes.extend(self.spool.put_every_row(&self.keys));
        for part in changes.chunks(COMMIT_CHANGES_MAX) {
            self.outbox.push(Group { changes: part.to_vec(), effect: Effect::Nothing });
        }
        self.first_listing_stored = false;
    }

    /// What the store holds now, less the batches that can't be put together.
    pub(super) fn remembered(&mut self) -> Stored {
        let mut stored = Stored { first_listing: self.first_listing_stored, ..Stored::default() };
        stored.lanes = std::mem::take(&mut self.absent);
        stored.spool = self.spool.rows();
        for slot in self.slots.values() {
            if let Some(row) = &slot.row {
                stored.lanes.insert(row.id.clone(), (row.clone(), slot.n_parts));
            }
        }
        for sealed in self.sealed.values() {
            stored.batches.insert(sealed.place.clone(), (sealed.row.clone(), sealed.n_parts));
        }
        stored
    }

    /// Once all containers of the first listing are stored: `from = "end"` is over.
    fn note_first_listing(&mut self) {
        if self.first_listing_stored || !self.root_listed {
            return;
        }
        let pending = self
            .slots
            .values()
            .any(|slot| slot.first && slot.selected && slot.n_failures == 0 && !(slot.opened && slot.row.is_some()));
        let is_on_its_way = |group: &Group| matches!(group.effect, Effect::FirstListing);
        let on_its_way = self.outbox.waiting.iter().chain(&self.outbox.in_flight).any(is_on_its_way);
        if !pending && !on_its_way {
            let changes = vec![(self.keys.first_listing(), Some(b"1".to_vec()))];
            self.outbox.push(Group { changes, effect: Effect::FirstListing });
        }
    }
}
