//! What the engine deletes before a sink has delivered it: held by its descriptor up to a budget, then copied aside into
//! files of the state directory, and beyond that budget let go, with an entry in the ledger.

mod books;
mod copying;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::agent::schedule::retry_pause;
use crate::checkpoint::commit::Committer;
use crate::config::limits::{
    GENERATIONS_HELD_MAX, HELD_BYTES_DEFAULT, HELD_PERCENT_DEFAULT, POLL_MAX, SPOOL_BYTES_DEFAULT, SPOOL_FILES_MAX,
    SPOOL_PERCENT_DEFAULT, UNWATCHED_PERIOD,
};
use crate::forward::outbox::{Effect, Group, NewRow};
use crate::forward::rows::SpoolRow;
pub(super) use crate::forward::spool::books::Spool;
use crate::forward::spool::books::{Job, Kept};
use crate::forward::spool::copying::Copying;
use crate::forward::{Forwarder, Transport};
use crate::loss::{Loss, Reason};
use crate::sink::delivery::LaneId;
use crate::sys::Os;

/// What a file takes at least.
const BLOCK_BYTES: u64 = 4096;
/// Failures behind which what can't be copied is let go.
const TRIES_MAX: u32 = 4;

/// What becomes of deleted logs that are not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverflow {
    /// They are copied aside at once, or what is beyond `held_max` where that is set. What `spool_max` has no room for is held
    /// up to `held_max`; then the oldest of the noisiest log is let go.
    #[default]
    Spool,
    /// Beyond `held_max` the oldest of the noisiest log is let go.
    DropOldest,
    /// They stay, whatever they hold, and the sink is in trouble until the receiver has them.
    Block,
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    /// Minds what deleted logs hold on the disk. True if it goes on at once.
    pub(super) fn mind_deleted(&mut self, now: Duration) -> bool {
        if !self.spool.is_tidy && now >= self.spool.retry_at {
            self.tidy(now);
        }
        let copied = self.copy_on(now);
        let period = if self.stopping { POLL_MAX } else { UNWATCHED_PERIOD };
        if self.spool.job.is_some() || now < self.spool.looked_at + period {
            return copied;
        }
        self.spool.looked_at = now;
        let mut held = self.measure();
        let sum: u64 = held.iter().map(|(bytes, _)| bytes).sum();
        let budget = self.held_max();
        self.spool.is_over = sum > budget;
        match self.parts.settings.on_overflow {
            OnOverflow::DropOldest => {
                self.shed_down(&mut held, sum, budget, "deleted logs held more than held_max", now)
            }
            OnOverflow::Block => self.tell_overflow(sum, budget),
            OnOverflow::Spool => self.spool_or_shed(&mut held, sum, budget, now),
        }
        self.mind_descriptors(now);
        copied
    }

    /// Bytes that each container's deleted logs hold, and the gauges.
    fn measure(&mut self) -> Vec<(u64, LaneId)> {
        let os = &self.parts.os;
        let mut held: Vec<(u64, LaneId)> = Vec::new();
        let mut lag = 0;
        self.minded.retain(|lane| {
            let Some(slot) = self.slots.get(lane) else { return false };
            // One that was just looked at and had nothing new isn't asked again.
            let may_lag = !slot.quiet || self.stalled.contains(lane);
            if may_lag {
                lag += slot.cursor.lineage.lag_bytes(os);
            }
            let may_hold = slot.cursor.holds_several() || slot.removed;
            if may_hold {
                held.push((slot.cursor.held_bytes(os), *lane));
            }
            may_lag || may_hold
        });
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.parts.meters.lag_bytes.set(gauge(lag));
        self.parts.meters.held_bytes.set(gauge(held.iter().map(|(bytes, _)| bytes).sum()));
        self.parts.meters.spool_bytes.set(gauge(self.spool.bytes()));
        held
    }

    fn held_max(&self) -> u64 {
        let space = self.parts.os.space(&self.config.places.containers_dir);
        let total = space.map_or(u64::MAX, |space| space.total);
        let default = HELD_BYTES_DEFAULT.min(total / 100 * HELD_PERCENT_DEFAULT);
        self.parts.settings.held_max.unwrap_or(default)
    }

    fn spool_max(&self) -> u64 {
        let state = self.spool.directory.ancestors().nth(2).unwrap_or(Path::new("/"));
        let total = self.parts.os.space(state).map_or(u64::MAX, |space| space.total);
        let default = SPOOL_BYTES_DEFAULT.min(total / 100 * SPOOL_PERCENT_DEFAULT);
        self.parts.settings.spool_max.unwrap_or(default)
    }

    /// Lets go of the noisiest log's oldest deleted incarnations until the rest is within the budget.
    fn shed_down(&mut self, held: &mut Vec<(u64, LaneId)>, mut sum: u64, budget: u64, why: &str, now: Duration) {
        while sum > budget {
            let Some((ix, (_, lane))) = held.iter().copied().enumerate().max_by_key(|(_, held)| *held) else { break };
            match self.shed(lane, why, now) {
                Ok(Some(freed)) => {
                    held[ix].0 = held[ix].0.saturating_sub(freed);
                    sum = sum.saturating_sub(freed.max(1));
                }
                _ => drop(held.swap_remove(ix)),
            }
        }
    }

    /// `block`: nothing is let go, and the sink is in trouble as long as it holds too much.
    fn tell_overflow(&mut self, sum: u64, budget: u64) {
        if sum <= budget {
            return self.parts.health.clear(self.held_fault);
        }
        let text =
            format!("deleted logs hold {sum} bytes, more than held_max ({budget}); they stay until they are sent");
        self.parts.health.set(self.held_fault, text);
    }

    fn spool_or_shed(&mut self, held: &mut Vec<(u64, LaneId)>, sum: u64, budget: u64, now: Duration) {
        if !self.spool.is_tidy {
            return;
        }
        self.learn_followers();
        // What only a descriptor holds dies with the process. So it is copied at once, unless somebody said how much may be held.
        let uncopied_max = self.parts.settings.held_max.filter(|_| !self.stopping).unwrap_or(0);
        self.spool.settled = true;
        let slots = &self.slots;
        self.spool.too_long.retain(|lane, (id, _)| slots.get(lane).is_some_and(|slot| slot.cursor.holds(*id)));
        if sum <= uncopied_max {
            return;
        }
        if now < self.spool.retry_at || self.spool.n_failures > TRIES_MAX {
            if self.spool.n_failures > TRIES_MAX && !self.stopping {
                self.shed_down(
                    held,
                    sum,
                    budget,
                    "deleted logs held more than held_max, and the spool can't be written",
                    now,
                );
            }
            if now < self.spool.retry_at {
                return;
            }
        }
        held.sort_unstable_by(|one, other| other.cmp(one));
        for (_, lane) in held.iter() {
            if self.begin_copy(*lane, now).unwrap_or(false) {
                self.spool.settled = false;
                return;
            }
        }
    }

    fn tidy(&mut self, now: Duration) {
        if let Err(error) = self.spool.tidy(&self.parts.os) {
            self.spool_failed(&error, now);
        }
    }

    fn spool_failed(&mut self, error: &io::Error, now: Duration) {
        self.spool.retry_at = now + retry_pause(self.spool.n_failures);
        self.spool.n_failures += 1;
        self.say_spool(error, now);
    }

    fn say_spool(&mut self, error: &io::Error, now: Duration) {
        let sink = self.parts.settings.name.clone();
        if self.said.say("spool", &sink, now).is_some() {
            let directory = self.spool.directory.display();
            tracing::error!(%sink, %directory, %error, "cannot copy deleted logs aside");
        }
    }

    /// Descriptors are bounded as well.
    fn mind_descriptors(&mut self, now: Duration) {
        let too_many = |slot: &crate::forward::lanes::Slot<O>| slot.cursor.n_descriptors() > GENERATIONS_HELD_MAX;
        let minded = self.minded.iter().copied();
        let lanes: Vec<LaneId> =
            minded.filter(|lane| self.slots.get(lane).is_some_and(|slot| too_many(slot))).collect();
        for lane in lanes {
            let spools = self.parts.settings.on_overflow == OnOverflow::Spool && self.spool.n_failures <= TRIES_MAX;
            let is_on_its_way = spools && (self.spool.job.is_some() || self.begin_copy(lane, now).unwrap_or(false));
            if !is_on_its_way {
                let _ = self.shed(lane, "too many deleted logs were held open", now);
            }
        }
    }

    /// Has a container's oldest deleted incarnation named in the store, to be copied then. False: it has none.
    fn begin_copy(&mut self, lane: LaneId, now: Duration) -> io::Result<bool> {
        let os = self.parts.os.clone();
        let Some(slot) = self.slots.get_mut(&lane).filter(|slot| slot.opened && !slot.leaving) else {
            return Ok(false);
        };
        let Some(found) = slot.cursor.to_spool(&os, slot.delivered, slot.removed)? else { return Ok(false) };
        let least_bytes = self.spool.least_bytes(lane, found.id);
        if self.spool.kept.len() >= SPOOL_FILES_MAX || !self.has_room(least_bytes, now) {
            return self.shed_of_full_spool(lane, now);
        }
        let slot = &self.slots[&lane];
        // No number comes twice, also when a power loss takes its row and brings its file back.
        let millis = u64::try_from(os.wall_ns() / 1_000_000).unwrap_or(0);
        let number = millis.max(self.spool.last_number + 1);
        self.spool.last_number = number;
        let row = SpoolRow { metadata: slot.facts.metadata.clone(), extent: found.extent.clone(), next: found.next };
        let (mut changes, n_parts) = self.keys.put_spool(number, &row, 0);
        let key = (slot.id().to_owned(), number);
        self.spool.kept.insert(key, Kept { row, n_parts, bytes: 0 });
        let copying = Copying::new(found.source, self.spool.path(number), number, found.extent.first);
        self.spool.job = Some(Job { lane, number, id: found.id, is_named: false, copying });
        // Where reading begins again lies in it or before it.
        let rows = match self.new_row(lane) {
            Some((new, mut row_changes)) => {
                changes.append(&mut row_changes);
                vec![new]
            }
            None => Vec::new(),
        };
        self.outbox.push(Group { changes, effect: Effect::SpoolNamed(number, rows) });
        Ok(true)
    }

    /// What the spool has no room for is held up to `held_max`, and stays with the process while that ends. True if it went.
    fn shed_of_full_spool(&mut self, lane: LaneId, now: Duration) -> io::Result<bool> {
        Ok(self.spool.is_over && !self.stopping && self.shed(lane, SPOOL_FULL, now)?.is_some())
    }

    pub(super) fn spool_named(&mut self, number: u64) {
        if let Some(job) = self.spool.job.as_mut().filter(|job| job.number == number) {
            job.is_named = true;
        }
    }

    /// A piece of the copy on its way.
    fn copy_on(&mut self, now: Duration) -> bool {
        let Some(job) = &self.spool.job else { return false };
        if !job.is_named {
            return false;
        }
        let (lane, number, id) = (job.lane, job.number, job.id);
        if !self.slots.get(&lane).is_some_and(|slot| slot.cursor.holds(id)) {
            self.drop_copy(); // It was delivered meanwhile.
            return true;
        }
        let Some(job) = &mut self.spool.job else { return false };
        let stepped = job.copying.step(&self.parts.os);
        let written = job.copying.written();
        let container = self.slots[&lane].id().to_owned();
        if let Some(kept) = self.spool.kept.get_mut(&(container.clone(), number)) {
            kept.bytes = written;
        }
        match stepped {
            Ok(_) if !self.has_room(0, now) => {
                self.spool.too_long.insert(lane, (id, written));
                self.drop_copy();
                let _ = self.shed_of_full_spool(lane, now);
            }
            Ok(true) => self.copied(lane, &container, now),
            Ok(false) => {}
            Err(error) => {
                self.drop_copy();
                self.spool_failed(&error, now);
            }
        }
        true
    }

    /// The copy is whole and durable: the descriptor goes.
    fn copied(&mut self, lane: LaneId, container: &str, now: Duration) {
        let Some(job) = self.spool.job.take() else { return };
        let found = self.spool.found(&self.parts.os, container).into_iter().map(|(spooled, _)| spooled);
        if let (Some(slot), Some(spooled)) =
            (self.slots.get_mut(&lane), found.into_iter().find(|spooled| spooled.id().inode == job.number))
        {
            slot.cursor.put_aside(job.id, spooled);
        }
        self.spool.n_failures = 0;
        self.said.healed("spool", &self.parts.settings.name);
        self.spool.looked_at = now.saturating_sub(UNWATCHED_PERIOD); // The next one at once.
    }

    pub(super) fn drop_copy_of(&mut self, lane: LaneId) {
        if self.spool.job.as_ref().is_some_and(|job| job.lane == lane) {
            self.drop_copy();
        }
    }

    /// Gives a copy on its way up, and takes its row and its file away.
    fn drop_copy(&mut self) {
        let Some(job) = self.spool.job.take() else { return };
        let kept = self.spool.kept.iter().find(|((_, number), _)| *number == job.number);
        let Some((key, _)) = kept.map(|(key, kept)| (key.clone(), kept.n_parts)) else { return };
        if let Some(kept) = self.spool.kept.remove(&key) {
            let changes = self.keys.remove_spool(job.number, kept.n_parts);
            self.outbox.push(Group { changes, effect: Effect::SpoolGone(vec![job.number]) });
        }
    }

    /// Whether so many bytes more are within the spool's budget, once the noisiest log's oldest copies are gone.
    fn has_room(&mut self, bytes: u64, now: Duration) -> bool {
        let budget = self.spool_max();
        if bytes > budget {
            return false; // It would cost every copy, for nothing.
        }
        while self.spool.bytes() + bytes > budget {
            if self.stopping || !self.spool.is_over || !self.shed_copy(now) {
                return false;
            }
        }
        true
    }

    /// Lets the oldest copy of the container go that has most in the spool: of those that nobody wants any more, if there are.
    fn shed_copy(&mut self, now: Duration) -> bool {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for ((id, _), kept) in &self.spool.kept {
            *sums.entry(id).or_default() += kept.bytes;
        }
        let lanes = sums.iter().filter_map(|(id, bytes)| Some((*bytes, *self.by_id.get(*id)?)));
        let mut lanes: Vec<(bool, u64, LaneId)> =
            lanes.map(|(bytes, lane)| (!self.slots[&lane].selected, bytes, lane)).collect();
        lanes.retain(|(_, bytes, lane)| *bytes > 0 && self.may_shed_copy(*lane));
        lanes.sort_unstable_by(|one, other| other.cmp(one));
        lanes.into_iter().any(|(_, _, lane)| match self.slots[&lane].opened {
            true => self.shed(lane, SPOOL_FULL, now).is_ok_and(|shed| shed.is_some()),
            false => self.shed_unopened(lane, now),
        })
    }

    fn may_shed_copy(&self, lane: LaneId) -> bool {
        let slot = &self.slots[&lane];
        match slot.opened {
            true => slot.cursor.oldest_is_spooled(),
            false => !slot.selected && !slot.leaving && slot.row.is_some(), // One that is selected will be opened.
        }
    }

    /// Lets the oldest copy of a container go that is selected no more. Nothing of it is open: by the books alone.
    fn shed_unopened(&mut self, lane: LaneId, now: Duration) -> bool {
        let slot = &self.slots[&lane];
        let (Some(row), n_parts) = (slot.row.clone(), slot.n_parts) else { return false };
        let Some((number, kept)) = self.spool.take_oldest(slot.id()) else { return false };
        let extent = kept.row.extent;
        // What was delivered since it was made is told by where the container's reading would go on.
        let is_here = row.resume.head.is_some() && row.resume.head == extent.head;
        let start = if is_here { extent.start.max(row.resume.offset) } else { extent.start };
        let is_delivered = extent.end.is_some_and(|end| start >= end);
        let loss = (!is_delivered).then(|| self.shed_loss(lane, start, extent.end, SPOOL_FULL, now));
        let losses: Vec<Loss> = loss.into_iter().collect();
        let mut changes = self.keys.remove_spool(number, kept.n_parts);
        changes.extend(losses.iter().flat_map(|loss| self.parts.ledger.add(loss)));
        let rows = vec![NewRow { lane, row, n_parts, released: vec![number] }];
        self.outbox.push(Group { changes, effect: Effect::Rows { rows, gone: Vec::new(), losses } });
        true
    }

    /// The ledger's entry, which is told and counted.
    fn shed_loss(&mut self, lane: LaneId, start: u64, end: Option<u64>, why: &str, now: Duration) -> Loss {
        let mut loss = self.loss(lane, Reason::HeldMax, why);
        (loss.start, loss.end) = (Some(start), end);
        if self.said.say("shed", &self.parts.settings.name, now).is_some() {
            let (sink, container) = (&self.parts.settings.name, &loss.name);
            tracing::error!(%sink, %container, why, "a deleted log goes before it is sent; the ledger has an entry");
        }
        self.parts.meters.shed_bytes.inc_by(end.map_or(0, |end| end.saturating_sub(start)));
        loss
    }

    /// Lets a container's oldest deleted incarnation go. The bytes it held; `None` if it can't let go of any.
    fn shed(&mut self, lane: LaneId, why: &str, now: Duration) -> io::Result<Option<u64>> {
        let slot = self.slots.get_mut(&lane).expect("it holds something");
        if !slot.opened || !slot.claims.is_empty() || slot.awaits_claims {
            return Ok(None);
        }
        let Some(shed) = slot.cursor.shed(&self.parts.os, slot.removed)? else { return Ok(None) };
        let id = slot.id().to_owned();
        if let Some(kept) = shed.spooled.and_then(|number| self.spool.kept.get_mut(&(id, number))) {
            kept.bytes = 0; // Its row goes with the lane's next one.
        }
        self.dirty.insert(lane);
        if !shed.unread.is_empty() {
            let loss = self.shed_loss(lane, shed.unread.start, Some(shed.unread.end), why, now);
            self.losses.push(loss);
        }
        Ok(Some(shed.held_bytes))
    }

    /// What follows a container's newest copy is stored as soon as it is known.
    fn learn_followers(&mut self) {
        let mut last: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for ((id, number), kept) in &self.spool.kept {
            last.insert(id, (*number, kept.row.next.is_none()));
        }
        let unknown: Vec<(LaneId, String, u64)> = last
            .into_iter()
            .filter(|(_, (_, is_unknown))| *is_unknown)
            .filter_map(|(id, (number, _))| Some((*self.by_id.get(id)?, id.to_owned(), number)))
            .collect();
        for (lane, id, number) in unknown {
            let Some(slot) = self.slots.get_mut(&lane).filter(|slot| slot.opened) else { continue };
            let Ok(Some(next)) = slot.cursor.follower(&self.parts.os, number) else { continue };
            let Some(kept) = self.spool.kept.get_mut(&(id, number)) else { continue };
            kept.row.next = Some(next);
            let (changes, n_parts) = self.keys.put_spool(number, &kept.row, kept.n_parts);
            kept.n_parts = n_parts;
            self.outbox.push(Group { changes, effect: Effect::Nothing });
        }
    }
}

const SPOOL_FULL: &str = "deleted logs held more than held_max, and the spool more than spool_max";
