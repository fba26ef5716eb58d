//! One container's turn: open its log, read it on while there is room, hand its records over.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::agent::container::Facts;
use crate::agent::inbox::Hints;
use crate::agent::schedule::retry_pause;
use crate::checkpoint::commit::Committer;
use crate::config::limits::{POLL_MAX, SWEEP_PERIOD_WATCHED, UNWATCHED_PERIOD};
use crate::forward::cursor::{Cursor, Met, Went};
use crate::forward::mark::Mark;
use crate::forward::rows::LaneRow;
use crate::forward::{Forwarder, Transport};
use crate::loss::{Loss, Reason};
use crate::sink::delivery::{BatchKey, LaneId};
use crate::sys::{Os, Stat};
use crate::tail::Look;

/// A log that can't be read after so many tries holds up no end.
const TRIES_MAX: u32 = 6;
/// A log without news for so long is looked at once a second.
const COOLS_AFTER: Duration = Duration::from_secs(2);
/// Stalled lanes that are asked in a step whether they want to go on.
const STALLED_ASKED_MAX: usize = 64;
/// Turns of one lane in a step: it reads on while nothing else is due, but not for ever.
const TURNS_MAX: usize = 8;

/// A part of a batch of an earlier life: the lane's next records are its.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub key: BatchKey,
    pub part_ix: usize,
    pub n: usize,
}

pub(super) struct Slot<O: Os> {
    pub cursor: Cursor<O>,
    pub facts: Facts,
    pub signature: Option<Stat>,
    pub facts_at: Duration,
    pub selected: bool,
    /// Its directory is gone.
    pub removed: bool,
    /// It was there when the sink was new.
    pub first: bool,
    pub opened: bool,
    /// The place of its row was found.
    pub is_whole: bool,
    /// A batch of an earlier life has a part of it: nothing is read before that is settled.
    pub awaits_claims: bool,
    pub claims: VecDeque<Claim>,
    pub due: Duration,
    pub retry_at: Duration,
    pub n_failures: u32,
    pub moved_at: Duration,
    /// Before the last look, too: what came since is hinted.
    pub watched: bool,
    /// There was nothing new when it was last looked at.
    pub quiet: bool,
    pub quiet_since_stop: bool,
    /// Its settings changed.
    pub unsettled: bool,
    /// Of the log while nothing is read.
    pub size_seen: u64,
    /// The number of the next record for the delivery.
    pub pushed: u64,
    /// Records before it are delivered, and said to be so by the row that is made next.
    pub delivered: u64,
    pub mark: Option<Mark>,
    /// Where parts of batches end, and the last record's mark.
    pub part_ends: VecDeque<(u64, Mark)>,
    /// As it is durable, and how many parts of the store it takes.
    pub row: Option<LaneRow>,
    pub n_parts: usize,
    /// Its row is on its way out of the store.
    pub leaving: bool,
}

impl<O: Os> Slot<O> {
    pub fn is_quiet_for_end(&self) -> bool {
        !self.selected || self.quiet_since_stop || self.leaving || self.n_failures > TRIES_MAX
    }

    /// It doesn't run, and all of its log is delivered.
    pub fn is_settled(&self) -> bool {
        let next = self.cursor.pending().next();
        self.quiet && !self.facts.running && self.delivered == next && !self.cursor.has_open_line()
    }

    pub fn name(&self) -> &str {
        &self.facts.metadata.name
    }

    pub fn id(&self) -> &str {
        &self.facts.metadata.id
    }
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    pub(super) fn reschedule(&mut self, lane: LaneId, due: Duration) {
        if let Some(slot) = self.slots.get_mut(&lane) {
            self.due.remove(&(slot.due, lane));
            slot.due = due;
            self.due.insert((due, lane));
        }
    }

    pub(super) fn take_hints(&mut self, hints: &Hints, now: Duration) {
        if hints.rescan {
            self.root_modified = None;
            self.look_everywhere(now);
        }
        if hints.root {
            self.root_modified = None;
        }
        for name in &hints.directories {
            match name.to_str().and_then(|name| self.by_id.get(name)).copied() {
                Some(lane) => self.reschedule(lane, now),
                None => self.root_modified = None,
            }
        }
    }

    pub(super) fn look_everywhere(&mut self, now: Duration) {
        let all: Vec<LaneId> = self.slots.keys().copied().collect();
        all.into_iter().for_each(|lane| self.reschedule(lane, now));
    }

    /// True if bytes moved.
    pub(super) fn serve_due(&mut self, now: Duration) -> bool {
        let resumed: Vec<LaneId> =
            self.stalled.iter().copied().filter(|lane| self.delivery.wants(*lane)).take(STALLED_ASKED_MAX).collect();
        for lane in resumed {
            self.stalled.remove(&lane);
            self.reschedule(lane, now);
        }
        let lanes: Vec<LaneId> = self.due.range(..=(now, LaneId::MAX)).map(|(_, lane)| *lane).collect();
        let mut moved = false;
        for lane in lanes {
            moved |= self.serve(lane, now);
        }
        moved
    }

    fn serve(&mut self, lane: LaneId, now: Duration) -> bool {
        self.minded.insert(lane);
        // Before anything is looked at: what comes afterwards is hinted.
        let watched = self.parts.surroundings.watched.contains(self.slots[&lane].id());
        self.refresh_facts(lane, now);
        self.slots.get_mut(&lane).expect("it is due").watched = watched;
        let slot = &self.slots[&lane];
        if slot.leaving || !slot.selected || self.parts.transport.is_closed() {
            self.rest(lane, now);
            return false;
        }
        if now < slot.retry_at {
            self.reschedule(lane, slot.retry_at);
            return false;
        }
        match self.try_turns(lane, now) {
            Ok(moved) => {
                let slot = self.slots.get_mut(&lane).expect("it was served");
                if std::mem::take(&mut slot.n_failures) > 0 {
                    self.said.healed("source", &self.parts.settings.name);
                }
                moved
            }
            Err(error) => {
                self.troubled(lane, &error, now);
                false
            }
        }
    }

    fn try_turns(&mut self, lane: LaneId, now: Duration) -> io::Result<bool> {
        if !self.slots[&lane].opened && !self.open(lane, now)? {
            self.slots.get_mut(&lane).expect("it is served").quiet_since_stop |= self.stopping;
            let removed = self.slots[&lane].removed;
            if removed && self.slots[&lane].row.is_none() {
                self.forget(lane);
                return Ok(false);
            }
            self.reschedule(lane, now + if removed { UNWATCHED_PERIOD } else { POLL_MAX * 4 });
            return Ok(false);
        }
        let mut moved = false;
        for _ in 0..TURNS_MAX {
            if !self.may_read(lane) {
                self.stalled.insert(lane);
                self.hold(lane, now)?;
                return Ok(moved);
            }
            match self.turn(lane, now)? {
                Went::Moved => moved = true,
                Went::Quiet => {
                    let slot = self.slots.get_mut(&lane).expect("it is served");
                    slot.quiet_since_stop |= self.stopping;
                    if slot.row.as_ref().is_some_and(|row| row.settled != slot.is_settled()) {
                        self.dirty.insert(lane);
                    }
                    self.rest(lane, now);
                    return Ok(moved);
                }
                Went::Finished => {
                    self.slots.get_mut(&lane).expect("it is served").quiet_since_stop |= self.stopping;
                    self.leave_if_finished(lane);
                    self.reschedule(lane, now + UNWATCHED_PERIOD);
                    return Ok(moved);
                }
            }
        }
        self.reschedule(lane, now);
        Ok(moved)
    }

    /// The engine's rotation doesn't wait: what is new is held, and looked for as often as the log grows.
    fn hold(&mut self, lane: LaneId, now: Duration) -> io::Result<()> {
        let slot = self.slots.get_mut(&lane).expect("it is served");
        let mut met = Met::default();
        let looked = slot.cursor.look_only(&self.parts.os, &mut met);
        let size = self.parts.os.stat(&slot.cursor.lineage.log()).map_or(0, |stat| stat.size);
        let before = std::mem::replace(&mut slot.size_seen, size);
        let has_news =
            size != before || looked.as_ref().is_ok_and(|looked| *looked != Look::Same) || met != Met::default();
        if has_news {
            slot.moved_at = now;
        }
        self.count(lane, met);
        looked?;
        if has_news {
            self.note_head(lane)?;
        }
        self.rest(lane, now);
        Ok(())
    }

    /// The row says by which first line its place is known. Without one, what comes and goes behind a death leaves no
    /// trace, so the first one is stored at once.
    fn note_head(&mut self, lane: LaneId) -> io::Result<()> {
        let slot = self.slots.get_mut(&lane).expect("it is served");
        self.dirty.insert(lane);
        let is_new = slot.row.as_ref().is_some_and(|row| row.resume.head.is_none());
        if is_new && slot.cursor.lineage.head(&self.parts.os)?.is_some() {
            self.outbox.urgent = true;
        }
        Ok(())
    }

    fn may_read(&self, lane: LaneId) -> bool {
        let slot = &self.slots[&lane];
        !slot.awaits_claims && (!slot.claims.is_empty() || self.delivery.wants(lane))
    }

    fn turn(&mut self, lane: LaneId, now: Duration) -> io::Result<Went> {
        let slot = self.slots.get_mut(&lane).expect("it is served");
        let mut met = Met::default();
        slot.cursor.pending_mut().take_room(&mut self.room);
        let went = slot.cursor.turn(&self.parts.os, &mut self.buffer, now, &slot.facts, slot.removed, &mut met);
        slot.cursor.pending_mut().give_room(&mut self.room);
        // One lane that is filled and emptied at speed shouldn't be copied each time; a hundred that wait should be small.
        let waits_long = self.delivery.held_bytes() > self.parts.settings.rules.queue_bytes / 8;
        if waits_long && went.as_ref().is_ok_and(|went| *went == Went::Moved) {
            slot.cursor.pending_mut().settle(&mut self.room);
        }
        if went.as_ref().is_ok_and(|went| *went != Went::Quiet) || met != Met::default() {
            slot.moved_at = now;
            self.dirty.insert(lane);
        }
        self.count(lane, met);
        let went = went?;
        if went == Went::Moved {
            self.note_head(lane)?;
        }
        self.slots.get_mut(&lane).expect("it is served").quiet = went == Went::Quiet;
        self.fill_claims(lane)?;
        let slot = self.slots.get_mut(&lane).expect("it is served");
        if slot.claims.is_empty() {
            for length in slot.cursor.pending().lengths(slot.pushed) {
                self.delivery.push(lane, length, now);
            }
            slot.pushed = slot.cursor.pending().next();
        } else if went != Went::Moved {
            tracing::warn!(sink = %self.parts.settings.name, container = %slot.name(),
                "the log doesn't have the records of a batch that was under way; its batches are made anew");
            self.broken = true;
        }
        Ok(went)
    }

    fn rest(&mut self, lane: LaneId, now: Duration) {
        let slot = self.slots.get_mut(&lane).expect("it is served");
        let is_read = slot.selected && !slot.leaving;
        // A hint about the metadata may have come when it was too early to read them again.
        let is_known = slot.facts_at == now && !slot.unsettled && !slot.removed;
        let pause = if is_read && now < slot.moved_at + COOLS_AFTER {
            POLL_MAX
        } else if slot.watched && is_known && !slot.leaving && !slot.cursor.has_open_line() {
            SWEEP_PERIOD_WATCHED
        } else {
            UNWATCHED_PERIOD
        };
        self.reschedule(lane, now + pause);
    }

    fn count(&mut self, lane: LaneId, met: Met) {
        let meters = &self.parts.meters;
        meters.bytes_read.inc_by(met.bytes);
        meters.filtered.inc_by(met.filtered);
        for lost in met.lost {
            let mut loss = self.loss(lane, Reason::Truncated, "cut before it was read");
            (loss.start, loss.end) = (Some(lost.start), Some(lost.end));
            self.losses.push(loss);
        }
        for damage in met.damage {
            let mut loss = self.loss(lane, Reason::Damaged, &damage.why);
            (loss.start, loss.end) = (damage.start, damage.end);
            self.losses.push(loss);
        }
    }

    pub(super) fn loss(&self, lane: LaneId, reason: Reason, detail: &str) -> Loss {
        let slot = &self.slots[&lane];
        let file = slot.cursor.lineage.log();
        Loss {
            container: slot.id().to_owned(),
            name: slot.name().to_owned(),
            sink: Some(self.parts.settings.name.clone()),
            reason,
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            start: None,
            end: None,
            bytes: None,
            first_time: None,
            last_time: None,
            noticed_ns: self.parts.os.wall_ns(),
            detail: detail.to_owned(),
        }
    }

    fn troubled(&mut self, lane: LaneId, error: &io::Error, now: Duration) {
        let slot = self.slots.get_mut(&lane).expect("it is served");
        slot.retry_at = now + retry_pause(slot.n_failures);
        slot.n_failures += 1;
        let (retry_at, name, log) = (slot.retry_at, slot.name().to_owned(), slot.cursor.lineage.log());
        self.reschedule(lane, retry_at);
        if self.said.say("source", &self.parts.settings.name, now).is_some() {
            let sink = &self.parts.settings.name;
            tracing::warn!(%sink, container = %name, log = %log.display(), %error, "cannot read; trying again");
        }
    }
}
