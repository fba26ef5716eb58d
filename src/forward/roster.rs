//! Which containers a sink has: those that its selection takes, those that left and are still owed, and rows whose
//! containers nobody has seen for long.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::container::Facts;
use crate::agent::roster::{Named, nameless, read_facts};
use crate::checkpoint::commit::Committer;
use crate::config::limits::{
    COPIES_RELEASED_MAX, POLL_MAX, ROOT_PERIOD, ROW_ABSENT_MAX, SWEEP_PERIOD, UNWATCHED_PERIOD,
};
use crate::discover::Needed;
use crate::discover::listing::{container_ids, log_file_name};
use crate::format::{Metadata, Tag};
use crate::forward::cursor::{Cursor, Sieve};
use crate::forward::lanes::Slot;
use crate::forward::outbox::{Effect, Group};
use crate::forward::rendering::Rendering;
use crate::forward::rows::LaneRow;
use crate::forward::{Forwarder, Transport};
use crate::loss::{Loss, Reason};
use crate::sink::delivery::LaneId;
use crate::sys::{Kind, Os};

const CONFIG: &str = "config.v2.json";
/// A container's metadata is looked at so often while its log is read.
const FACTS_PERIOD: Duration = Duration::from_secs(5);

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    pub(super) fn look_at_root(&mut self, now: Duration) {
        let asked = self.root_modified.is_none() && now >= self.root_looked_at + POLL_MAX;
        if self.root_listed && !asked && now < self.root_looked_at + ROOT_PERIOD {
            return;
        }
        self.root_looked_at = now;
        let root = self.config.places.containers_dir.join(".");
        // Whoever follows the files says it when the root can't be listed.
        let Ok(stat) = self.parts.os.stat(&root) else { return };
        let is_same = self.root_modified == Some(stat.modified_ns) && self.awaited.is_empty();
        if self.root_listed && is_same && now < self.root_listed_at + SWEEP_PERIOD {
            return;
        }
        let Ok(names) = self.parts.os.list(&root) else { return };
        self.root_modified = Some(stat.modified_ns);
        self.root_listed_at = now;
        self.listed(&container_ids(&names), now);
    }

    fn listed(&mut self, ids: &[String], now: Duration) {
        let first = !self.root_listed && !self.first_listing_stored;
        self.unseen = false;
        for id in ids {
            if self.by_id.contains_key(id) {
                continue;
            }
            let directory = self.config.places.containers_dir.join(id);
            match self.parts.os.stat(&directory) {
                Ok(stat) if stat.kind == Kind::Directory => self.admit(id, directory, first, now),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => self.look_again(),
            }
        }
        let there: HashSet<&str> = ids.iter().map(String::as_str).collect();
        self.awaited.retain(|id, _| there.contains(id.as_str()));
        let mut changed = Vec::new();
        for (lane, slot) in &mut self.slots {
            let removed = !there.contains(slot.id());
            if removed != slot.removed {
                slot.removed = removed;
                self.minded.insert(*lane);
                changed.push(*lane);
            }
        }
        changed.into_iter().for_each(|lane| self.reschedule(lane, now));
        self.root_listed = true;
        if !ids.is_empty() {
            self.admit_gone(&there, now);
            self.note_absent();
        }
    }

    /// Who can't be looked at now is not forgotten until the next sweep.
    fn look_again(&mut self) {
        self.unseen = true;
        self.root_modified = None;
    }

    fn admit(&mut self, id: &str, directory: PathBuf, first: bool, now: Duration) {
        let facts = match self.facts(id, &directory) {
            Ok(Some(facts)) => facts,
            Ok(None) => return self.await_files(id, now), // Made just now: its files are on their way.
            Err(()) => {
                self.unseen = true;
                return self.await_files(id, now);
            }
        };
        self.awaited.remove(id);
        self.admit_as(id, directory, facts, first, now);
    }

    /// A directory without files: looked at as often as a hot log at first, then once a second.
    fn await_files(&mut self, id: &str, now: Duration) {
        let since = *self.awaited.entry(id.to_owned()).or_insert(now);
        if now < since + UNWATCHED_PERIOD {
            self.root_modified = None;
        }
    }

    /// Containers that are gone, with copies in the spool.
    fn admit_gone(&mut self, there: &HashSet<&str>, now: Duration) {
        let gone = |id: &str| !there.contains(id) && !self.by_id.contains_key(id);
        let gone: Vec<Metadata> = self
            .spool
            .containers()
            .into_iter()
            .filter(|(id, _)| gone(id))
            .map(|(_, row)| row.metadata.clone())
            .collect();
        for metadata in gone {
            let id = metadata.id.clone();
            let directory = self.config.places.containers_dir.join(&id);
            self.admit_as(&id, directory, Facts { metadata, ..nameless(&id, &self.config.hostname) }, false, now);
            let lane = self.by_id[&id];
            self.slots.get_mut(&lane).expect("it was just admitted").removed = true;
            self.minded.insert(lane);
        }
    }

    fn admit_as(&mut self, id: &str, directory: PathBuf, facts: Facts, first: bool, now: Duration) {
        let selected = self.selects(&facts.metadata);
        let stored = self.absent.remove(id);
        let rendering = self.rendering(&facts.metadata, &directory);
        let sieve = self.sieve(&facts.metadata);
        let lane = self.next_lane;
        self.next_lane += 1;
        let (row, n_parts) = match stored {
            Some((row, n_parts)) => (Some(row), n_parts),
            None => (None, 0),
        };
        let slot = Slot {
            cursor: Cursor::new(&directory, id, sieve, rendering),
            facts,
            signature: self.parts.os.stat(&directory.join(CONFIG)).ok(),
            facts_at: now,
            selected,
            removed: false,
            first,
            opened: false,
            is_whole: false,
            awaits_claims: self.restoring.as_ref().is_some_and(|restoring| restoring.concerns(id)),
            claims: VecDeque::new(),
            due: now,
            retry_at: Duration::ZERO,
            n_failures: 0,
            moved_at: now,
            watched: false,
            quiet: false,
            quiet_since_stop: false,
            size_seen: 0,
            unsettled: false,
            pushed: 0,
            delivered: row.as_ref().map_or(0, |row| row.delivered),
            mark: row.as_ref().and_then(|row| row.mark),
            part_ends: VecDeque::new(),
            row,
            n_parts,
            leaving: false,
        };
        self.by_id.insert(id.to_owned(), lane);
        self.slots.insert(lane, Box::new(slot));
        self.due.insert((now, lane));
    }

    /// `None`: its files are not there yet. An error: they can't be read now.
    fn facts(&self, id: &str, directory: &Path) -> Result<Option<Facts>, ()> {
        let (facts, named) = read_facts(&self.parts.os, &self.config.hostname, &self.needed(), id, directory);
        match named {
            Named::NotYet => Ok(None),
            Named::Later(_) => Err(()),
            Named::Yes | Named::No { .. } => Ok(Some(facts)),
        }
    }

    fn selects(&self, metadata: &Metadata) -> bool {
        self.config.selection.selects(metadata) && self.parts.settings.selection.selects(metadata)
    }

    /// Labels and variables that somebody asks for.
    fn needed(&self) -> Needed {
        let settings = &self.parts.settings;
        let labels = settings.selection.labels().map(|label| Tag::Label(label.to_owned()));
        let tags: Vec<Tag> = settings.look.tags().into_iter().chain(labels).collect();
        self.config.needed.with(&tags)
    }

    /// The sink's own filter; what is replaced, and how long a line may be, is said of the container.
    fn sieve(&self, metadata: &Metadata) -> Sieve {
        let (treatment, _) = self.config.treatment(metadata);
        Sieve {
            max_line_bytes: treatment.max_line_bytes,
            redaction: treatment.redaction,
            ..self.parts.settings.sieve.clone()
        }
    }

    /// Settings that were changed while it runs: of each container before its next turn.
    pub(super) fn take_settings(&mut self, now: Duration) {
        let current = self.parts.surroundings.current.get();
        if Arc::ptr_eq(&current, &self.config) {
            return;
        }
        self.config = current;
        for slot in self.slots.values_mut() {
            slot.signature = None;
            slot.facts_at = Duration::ZERO;
            slot.unsettled = true;
        }
        self.look_everywhere(now);
    }

    fn rendering(&self, metadata: &Metadata, directory: &Path) -> Rendering {
        let log = directory.join(log_file_name(&metadata.id));
        self.parts.settings.look.resolve(metadata, &log.to_string_lossy())
    }

    /// A rename, or a container that stopped.
    pub(super) fn refresh_facts(&mut self, lane: LaneId, now: Duration) {
        let slot = &self.slots[&lane];
        if slot.removed || now < slot.facts_at + FACTS_PERIOD {
            return;
        }
        let directory = slot.cursor.lineage.directory().to_owned();
        let signature = self.parts.os.stat(&directory.join(CONFIG)).ok();
        let is_same = signature == slot.signature;
        let facts = if is_same { None } else { self.facts(slot.id(), &directory).ok().flatten() };
        let slot = self.slots.get_mut(&lane).expect("looked up above");
        slot.facts_at = now;
        let Some(facts) = facts else { return };
        slot.signature = signature;
        let was_unsettled = std::mem::take(&mut slot.unsettled);
        if facts == slot.facts && !was_unsettled {
            return;
        }
        let selected = self.selects(&facts.metadata);
        let rendering = self.rendering(&facts.metadata, &directory);
        let sieve = self.sieve(&facts.metadata);
        let slot = self.slots.get_mut(&lane).expect("looked up above");
        slot.cursor.set_shape(sieve, rendering);
        slot.facts = facts;
        slot.selected = selected;
    }

    /// A container that is gone, of which everything is delivered and stored.
    pub(super) fn leave_if_finished(&mut self, lane: LaneId) {
        let Some(slot) = self.slots.get(&lane) else { return };
        let is_over = slot.cursor.is_finished() && !slot.leaving && self.delivery.is_lane_idle(lane);
        let is_stored = slot.delivered == slot.cursor.pending().next() && slot.claims.is_empty();
        if is_over && is_stored {
            self.dirty.remove(&lane);
            self.drop_copy_of(lane);
            let slot = self.slots.get_mut(&lane).expect("looked up above");
            slot.leaving = true;
            let (mut released, mut copies) = self.spool.release(&self.keys, slot.id(), |_| false);
            while copies.len() == COPIES_RELEASED_MAX {
                self.outbox.push(Group { changes: released, effect: Effect::SpoolGone(copies) });
                (released, copies) = self.spool.release(&self.keys, slot.id(), |_| false);
            }
            let mut changes = self.keys.remove_lane(slot.id(), slot.n_parts);
            changes.append(&mut released);
            self.outbox.push(Group { changes, effect: Effect::Removed(lane, copies) });
        }
    }

    pub(super) fn forget(&mut self, lane: LaneId) {
        if let Some(slot) = self.slots.remove(&lane) {
            self.due.remove(&(slot.due, lane));
            self.stalled.remove(&lane);
            self.dirty.remove(&lane);
            self.by_id.remove(slot.id());
            self.delivery.close_lane(lane);
        }
    }

    /// Rows whose container no listing has shown for days are dropped. A late mount is no removal.
    fn note_absent(&mut self) {
        let now_ns = self.parts.os.wall_ns();
        let mut over = Vec::new();
        let mut groups = Vec::new();
        for (id, (row, n_parts)) in &mut self.absent {
            match row.absent_since_ns {
                None => {
                    row.absent_since_ns = Some(now_ns);
                    let (mut changes, n_parts_now) = self.keys.put_lane(row, *n_parts);
                    *n_parts = n_parts_now;
                    // With the row that says it was told, so that no death loses or repeats it.
                    let loss = (!row.settled).then(|| gone(row, &self.parts.settings.name, now_ns));
                    changes.extend(loss.iter().flat_map(|loss| self.parts.ledger.add(loss)));
                    let losses = loss.into_iter().collect();
                    groups.push(Group { changes, effect: Effect::Rows { rows: Vec::new(), gone: Vec::new(), losses } });
                }
                Some(since) if now_ns - since > ROW_ABSENT_MAX.as_nanos() as i64 => over.push(id.clone()),
                Some(_) => {}
            }
        }
        for id in over {
            if let Some((_, n_parts)) = self.absent.remove(&id) {
                let changes = self.keys.remove_lane(&id, n_parts);
                groups.push(Group { changes, effect: Effect::Nothing });
            }
        }
        groups.into_iter().for_each(|group| self.outbox.push(group));
    }
}

/// What is to be told of a container that went while nobody held its log.
fn gone(row: &LaneRow, sink: &str, now_ns: i64) -> Loss {
    Loss {
        container: row.id.clone(),
        name: row.name.clone(),
        sink: Some(sink.to_owned()),
        reason: Reason::RotatedAway,
        file: log_file_name(&row.id),
        start: Some(row.resume.offset),
        end: None,
        bytes: None,
        first_time: None,
        last_time: None,
        noticed_ns: now_ns,
        detail: "the container was removed before all of its log was delivered, as far as is known".to_owned(),
    }
}
