//! Batches as bytes: sealed from pending records, handed to the transport, cut, or put aside.

use std::time::Duration;

use crate::checkpoint::commit::Committer;
use crate::forward::body::{Body, Payload, Run};
use crate::forward::outbox::{Effect, Gathered, Group};
use crate::forward::rows::{BatchPlace, BatchRow, PartRow, batch_place, half_place};
use crate::forward::{Forwarder, Request, Transport};
use crate::sink::delivery::{Answer, BatchKey, CircuitState, Outcome, Part, Plan};
use crate::sys::Os;
use crate::telemetry::sinks::SinkGoing;

/// What /status tells may be so old.
const REPORT_PERIOD: Duration = Duration::from_millis(200);

/// A batch that is not durably retired.
pub(super) struct Sealed {
    pub place: BatchPlace,
    pub row: BatchRow,
    /// Of its row in the store.
    pub n_parts: usize,
    pub content: Content,
}

pub(super) enum Content {
    /// Of an earlier life: its records are read again. One payload a part.
    Gathering(Vec<Option<Payload>>),
    Whole(Body),
    /// Delivered.
    Done,
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    /// Seals what is full or old enough, and has its bounds stored.
    pub(super) fn plan(&mut self, now: Duration) {
        while let Some(plan) = self.delivery.poll_plan(now) {
            let payload = self.take_payload(&plan.parts);
            let place = batch_place(self.next_place);
            self.next_place += 1;
            let mut changes = self.seal(plan.key, place, &plan.parts, payload);
            // A container's first batch says where it began.
            let mut gathered = Gathered::default();
            for part in &plan.parts {
                if self.slots.get(&part.lane).is_some_and(|slot| slot.row.is_none()) {
                    self.gather_row(part.lane, &mut gathered);
                }
            }
            let Gathered { changes: mut row_changes, rows } = self.leave_room(gathered, changes.len());
            changes.append(&mut row_changes);
            self.outbox.push(Group { changes, effect: Effect::Planned(vec![plan.key], rows) });
        }
    }

    fn take_payload(&mut self, parts: &[Part]) -> Payload {
        let mut payload = Payload::default();
        for part in parts {
            let slot = self.slots.get_mut(&part.lane).expect("a lane with records has its container");
            assert!(slot.cursor.pending().first() == part.first, "batches take records in order");
            let n = part.n as usize;
            slot.cursor.pending_mut().take(n, &mut payload.bytes, &mut payload.ends, &mut payload.marks);
            slot.cursor.pending_mut().give_room(&mut self.room);
            payload.runs.push(Run { container: slot.facts.metadata.id.clone(), n });
            if let Some(mark) = payload.marks.last() {
                slot.part_ends.push_back((part.end(), *mark));
            }
        }
        payload
    }

    /// Makes the batch's body and its row. Gives the changes that store the row.
    fn seal(
        &mut self,
        key: BatchKey,
        place: BatchPlace,
        parts: &[Part],
        payload: Payload,
    ) -> Vec<crate::checkpoint::codec::Change> {
        let part_row = |part: &Part| {
            let slot = &self.slots[&part.lane];
            PartRow {
                container: slot.facts.metadata.id.clone(),
                first: part.first,
                n: part.n,
                decisions: slot.cursor.decisions_in(part.first..part.end()),
            }
        };
        let parts = parts.iter().map(part_row).collect();
        let body = payload.into_body(self.parts.settings.form);
        let row = BatchRow { settings: self.settings_hash, id: body.id.clone(), bytes: body.plain_bytes, parts };
        let (changes, n_parts) = self.keys.put_batch(&place, &row);
        self.sealed.insert(key, Sealed { place, row, n_parts, content: Content::Whole(body) });
        changes
    }

    pub(super) fn send(&mut self, now: Duration) {
        if self.parts.transport.is_closed() {
            return;
        }
        while let Some((key, n_try)) = self.delivery.poll_send(now) {
            let Some(Sealed { content: Content::Whole(body), .. }) = self.sealed.get(&key) else {
                unreachable!("what may be sent is whole");
            };
            let request = Request { key, id: body.id.clone(), body: body.wire.clone(), n_records: body.n_records() };
            self.parts.meters.requests.inc();
            if n_try > 1 {
                self.parts.meters.retries.inc();
            }
            self.parts.transport.send(request);
        }
    }

    pub(super) fn take_answers(&mut self, now: Duration) {
        while let Some((key, answer)) = self.parts.transport.poll() {
            if !matches!(self.sealed.get(&key), Some(Sealed { content: Content::Whole(_), .. })) {
                continue; // Of a life before this one.
            }
            self.count_answer(key, &answer);
            self.say_answer(&answer, now);
            match self.delivery.handle_answer(key, answer, now) {
                Outcome::Nothing => {}
                Outcome::Split { parent, halves } => self.split(parent, halves),
                Outcome::Bury { key, why } => self.bury(key, &why, now),
            }
            self.take_retired();
        }
    }

    fn count_answer(&self, key: BatchKey, answer: &Answer) {
        let meters = &self.parts.meters;
        match answer {
            Answer::Accepted => {
                if let Some(Sealed { content: Content::Whole(body), .. }) = self.sealed.get(&key) {
                    meters.records_delivered.inc_by(body.n_records() as u64);
                    meters.bytes_sent.inc_by(body.wire.len() as u64);
                }
            }
            Answer::Rejected(_) => meters.errors_rejected.inc(),
            Answer::TooLarge(_) => meters.errors_too_large.inc(),
            Answer::Refused(_) => meters.errors_refused.inc(),
            Answer::Later { .. } => meters.errors_later.inc(),
        }
    }

    fn say_answer(&mut self, answer: &Answer, now: Duration) {
        let sink = self.parts.settings.name.clone();
        match answer {
            Answer::Accepted => {
                if self.said.healed("receiver", &sink).is_some() {
                    tracing::info!(%sink, "the receiver accepts again");
                }
            }
            Answer::Refused(why) => {
                if self.said.say("receiver", &sink, now).is_some() {
                    tracing::error!(%sink, %why, "the receiver refuses the sink; nothing is lost while the engine keeps the logs");
                }
            }
            Answer::Later { why, .. } => {
                if self.said.say("receiver", &sink, now).is_some() {
                    tracing::warn!(%sink, %why, "cannot deliver; trying again");
                }
            }
            Answer::Rejected(_) | Answer::TooLarge(_) => {}
        }
    }

    pub(super) fn take_retired(&mut self) {
        while let Some(retired) = self.delivery.poll_retired() {
            if let Some(sealed) = self.sealed.get_mut(&retired.key) {
                sealed.content = Content::Done;
            }
            self.retired.push_back(retired);
        }
    }

    /// Two batches take its place, in the store as well before they are sent.
    fn split(&mut self, parent: BatchKey, halves: [Plan; 2]) {
        let Some(whole) = self.sealed.remove(&parent) else { return };
        let Content::Whole(body) = whole.content else { return };
        let payload = match body.payload(self.parts.settings.form) {
            Ok(payload) => payload,
            Err(error) => unreachable!("what was compressed here can be read: {error}"),
        };
        let n_left = halves[0].parts.iter().map(|part| part.n as usize).sum();
        let (left, right) = payload.split(n_left);
        let mut changes = self.keys.remove_batch(&whole.place, whole.n_parts);
        let keys = halves.iter().map(|half| half.key).collect();
        for (ix, (half, payload)) in halves.iter().zip([left, right]).enumerate() {
            if let (Some(part), Some(mark)) = (half.parts.last(), payload.marks.last()) {
                self.note_part_end(part, *mark);
            }
            changes.extend(self.seal(half.key, half_place(&whole.place, ix), &half.parts, payload));
        }
        tracing::debug!(sink = %self.parts.settings.name, batch = %body.id, "a batch is cut in two");
        self.outbox.push(Group { changes, effect: Effect::Planned(keys, Vec::new()) });
    }

    /// Where the cut went through a container's records there is one more end.
    fn note_part_end(&mut self, part: &Part, mark: crate::forward::mark::Mark) {
        let Some(slot) = self.slots.get_mut(&part.lane) else { return };
        let at = slot.part_ends.partition_point(|(end, _)| *end < part.end());
        if slot.part_ends.get(at).is_none_or(|(end, _)| *end != part.end()) {
            slot.part_ends.insert(at, (part.end(), mark));
        }
    }

    /// Puts a record aside that the receiver will never take.
    fn bury(&mut self, key: BatchKey, why: &str, now: Duration) {
        let Some(Sealed { content: Content::Whole(body), row, .. }) = self.sealed.get(&key) else { return };
        let form = self.parts.settings.form;
        let record = body.payload(form).map(|payload| payload.bytes).unwrap_or_default();
        let container = row.parts.first().map(|part| part.container.clone()).unwrap_or_default();
        let id = body.first_record();
        let letter = crate::forward::dead_letters::Letter { container: &container, id: &id, why, record: &record };
        match self.parts.dead_letters.add(&self.parts.os, &letter) {
            Ok(()) => {
                self.parts.meters.dead_letters.inc();
                if self.said.say("dead letter", &self.parts.settings.name, now).is_some() {
                    let file = self.parts.dead_letters.path().display().to_string();
                    tracing::error!(sink = %self.parts.settings.name, record = %id, %why, %file, "a record is refused and put aside");
                }
                self.delivery.buried(key);
            }
            Err(error) => {
                if self.said.say("dead letters", &self.parts.settings.name, now).is_some() {
                    tracing::error!(sink = %self.parts.settings.name, %error, "cannot put a refused record aside; it is tried again");
                }
                self.delivery.not_buried(key, now);
            }
        }
    }

    /// The gauges, and the fault that /status shows.
    pub(super) fn report(&mut self, now: Duration) {
        let circuit = self.delivery.circuit();
        let state = circuit.state();
        let meters = &self.parts.meters;
        meters.circuit(state);
        meters.queue_bytes.set(i64::try_from(self.delivery.held_bytes()).unwrap_or(i64::MAX));
        meters.in_flight.set(self.delivery.n_in_flight() as i64);
        if now >= self.reported_at + REPORT_PERIOD || self.reported_at == Duration::ZERO {
            self.reported_at = now;
            self.parts.health.sink(SinkGoing {
                circuit: state.name().to_owned(),
                why: circuit.why().map(str::to_owned),
                queue_records: self.delivery.n_records() as u64,
                ..meters.going(&self.parts.settings.name)
            });
        }
        match circuit.why().filter(|_| state != CircuitState::Closed) {
            Some(why) => self.parts.health.set(self.fault, format!("circuit {}: {why}", state.name())),
            None => self.parts.health.clear(self.fault),
        }
    }
}
