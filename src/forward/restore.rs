//! Batches of an earlier life: put together again from the log, with the bounds that were stored, so that what is sent
//! again is what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::commit::Committer;
use crate::forward::body::{Payload, Run};
use crate::forward::cursor::Decision;
use crate::forward::lanes::Claim;
use crate::forward::outbox::{Effect, Group};
use crate::forward::requests::{Content, Sealed};
use crate::forward::rows::{BatchPlace, BatchRow};
use crate::forward::{Forwarder, Transport};
use crate::ordered;
use crate::sink::delivery::{BatchKey, LaneId, Part};
use crate::sys::Os;

/// How long a log that can't be opened is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Restoring {
    batches: BTreeMap<BatchPlace, (BatchRow, usize)>,
}

impl Restoring {
    /// `None`: nothing was under way.
    pub fn new(batches: BTreeMap<BatchPlace, (BatchRow, usize)>) -> Option<Restoring> {
        (!batches.is_empty()).then_some(Restoring { batches })
    }

    pub fn concerns(&self, container: &str) -> bool {
        self.batches.values().any(|(row, _)| row.parts.iter().any(|part| part.container == container))
    }

    /// What was decided among a container's records that are under way.
    pub fn decisions(&self, container: &str) -> Vec<Decision> {
        let parts = self.batches.values().flat_map(|(row, _)| &row.parts);
        parts.filter(|part| part.container == container).flat_map(|part| part.decisions.clone()).collect()
    }
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    /// Once the logs of all batches are open, or gone, they are taken up in order.
    pub(super) fn restore(&mut self, now: Duration) {
        let Some(restoring) = &self.restoring else { return };
        if !self.root_listed {
            return;
        }
        let parts = restoring.batches.values().flat_map(|(row, _)| &row.parts);
        let concerned = ordered::set(parts.map(|part| part.container.as_str()));
        let waits = concerned.iter().any(|id| {
            let slot = self.by_id.get(*id).map(|lane| &self.slots[lane]);
            slot.is_some_and(|slot| slot.selected && !slot.opened)
        });
        if waits && now < self.started_at + PATIENCE {
            return;
        }
        let restoring = self.restoring.take().expect("looked at above");
        for (place, (row, n_parts)) in restoring.batches {
            match self.parts_of(&row) {
                Some(parts) if parts.is_empty() => self.remove_batch_row(&place, n_parts), // Delivered in every part.
                Some(parts) => self.take_up(place, row, n_parts, parts),
                None => {
                    tracing::warn!(sink = %self.parts.settings.name, batch = %row.id, "a batch that was under way is made anew");
                    self.remove_batch_row(&place, n_parts);
                }
            }
        }
        let lanes: Vec<LaneId> = self.slots.keys().copied().collect();
        for lane in lanes {
            if std::mem::take(&mut self.slots.get_mut(&lane).expect("just listed").awaits_claims) {
                self.reschedule(lane, now);
            }
        }
    }

    /// The batch's parts on the lanes of now; `None` if the logs can't give them any more.
    fn parts_of(&self, row: &BatchRow) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        let mut n_done = 0;
        for part in &row.parts {
            let lane = *self.by_id.get(&part.container)?;
            let slot = &self.slots[&lane];
            let claimed: u64 = slot.claims.iter().map(|claim| claim.n as u64).sum();
            if part.first + u64::from(part.n) <= slot.delivered {
                n_done += 1;
                continue;
            }
            let fits = slot.opened && slot.is_whole && part.first == slot.pushed + claimed;
            if !fits {
                return None;
            }
            parts.push(Part { lane, first: part.first, n: part.n });
        }
        // Only a part of its positions is stored: it was delivered, and its records go again.
        (row.settings == self.settings_hash && (n_done == 0 || parts.is_empty())).then_some(parts)
    }

    fn take_up(&mut self, place: BatchPlace, row: BatchRow, n_parts: usize, parts: Vec<Part>) {
        let key = self.delivery.restore(parts.clone(), row.bytes);
        for (part_ix, part) in parts.iter().enumerate() {
            let slot = self.slots.get_mut(&part.lane).expect("its lanes are open");
            slot.claims.push_back(Claim { key, part_ix, n: part.n as usize });
        }
        let content = Content::Gathering(vec![None; parts.len()]);
        self.sealed.insert(key, Sealed { place, row, n_parts, content });
    }

    fn remove_batch_row(&mut self, place: &BatchPlace, n_parts: usize) {
        let changes = self.keys.remove_batch(place, n_parts);
        self.outbox.push(Group { changes, effect: Effect::Nothing });
    }

    /// A lane's new records go to the batches of an earlier life first.
    pub(super) fn fill_claims(&mut self, lane: LaneId) -> std::io::Result<()> {
        while let Some(claim) = self.slots[&lane].claims.front().copied() {
            let slot = self.slots.get_mut(&lane).expect("it is served");
            if slot.cursor.pending().next() - slot.cursor.pending().first() < claim.n as u64 {
                return Ok(());
            }
            slot.claims.pop_front();
            let mut payload = Payload::default();
            slot.cursor.pending_mut().take(claim.n, &mut payload.bytes, &mut payload.ends, &mut payload.marks);
            slot.cursor.pending_mut().give_room(&mut self.room);
            payload.runs.push(Run { container: slot.facts.metadata.id.clone(), n: claim.n });
            slot.pushed += claim.n as u64;
            if let Some(mark) = payload.marks.last() {
                slot.part_ends.push_back((slot.pushed, *mark));
            }
            let sealed = self.sealed.get_mut(&claim.key).expect("a claim is of a batch");
            if let Content::Gathering(parts) = &mut sealed.content {
                parts[claim.part_ix] = Some(payload);
                if parts.iter().all(Option::is_some) {
                    self.complete(claim.key);
                }
            }
        }
        Ok(())
    }

    fn complete(&mut self, key: BatchKey) {
        let sealed = self.sealed.get_mut(&key).expect("it is complete");
        let Content::Gathering(parts) = std::mem::replace(&mut sealed.content, Content::Done) else { return };
        let mut whole = Payload::default();
        for part in parts.into_iter().flatten() {
            whole.append(part);
        }
        let body = whole.into_body(self.parts.settings.form);
        if body.id != sealed.row.id {
            // The log holds other records than it did.
            tracing::warn!(sink = %self.parts.settings.name, batch = %sealed.row.id, "a batch that was under way is made anew");
            self.broken = true;
        }
        sealed.content = Content::Whole(body);
        if !self.broken {
            self.delivery.ready(key);
        }
    }

    /// The rows of batches that can't be put together go, and everything begins again.
    pub(super) fn drop_broken(&mut self) {
        let id_differs = |sealed: &Sealed| match &sealed.content {
            Content::Gathering(_) => true,
            Content::Whole(body) => body.id != sealed.row.id,
            Content::Done => false,
        };
        let broken: Vec<BatchKey> =
            self.sealed.iter().filter(|(_, sealed)| id_differs(sealed)).map(|(key, _)| *key).collect();
        for key in broken {
            if let Some(sealed) = self.sealed.remove(&key) {
                self.remove_batch_row(&sealed.place, sealed.n_parts);
            }
        }
    }
}
