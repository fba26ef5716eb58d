//! Batches on their way to a receiver: when they are sealed, sent, tried again, cut, and done. No clock, no thread, no
//! bytes: records are numbers and lengths here, and whoever drives it holds the rest.
//!
//! A lane is one container. Records of a lane are numbered without gaps; what is retired of a lane is always a prefix
//! of them. A batch is sent only when somebody said that its bounds are durable: so it is the same batch after any death.

mod answer;
mod batch;
mod circuit;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::limits::BATCH_PARTS_MAX;

pub use answer::Answer;
use batch::{Batch, State, halves};
pub use batch::{Order, Outcome, Part, Plan, Retired, Rules};
pub use circuit::{Circuit, CircuitState};
pub use pace::{Backoff, Bucket, Dice};

pub type LaneId = u32;
pub type BatchKey = u64;

/// Records put aside in a row, with none accepted between: then it isn't the records.
const BURIED_IN_A_ROW_MAX: u32 = 100;

#[derive(Clone, Debug, Default)]
struct Lane {
    /// Length and arrival of each record that is in no batch.
    pending: VecDeque<(u32, Duration)>,
    pending_bytes: u64,
    /// The number of the first of them.
    next: u64,
    /// Batches that hold a part of it and are not retired, in order.
    planned: VecDeque<BatchKey>,
}

#[derive(Debug)]
pub struct Delivery {
    rules: Rules,
    dice: Dice,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes with pending records, by the arrival of the first.
    waiting: BTreeSet<(Duration, LaneId)>,
    batches: VecDeque<Batch>,
    retired: VecDeque<Retired>,
    next_key: BatchKey,
    circuit: Circuit,
    n_in_flight: usize,
    held_bytes: u64,
    /// Records of all lanes that are in no batch.
    n_pending: usize,
    records: Option<Bucket>,
    bytes: Option<Bucket>,
    n_buried_in_a_row: u32,
    draining: bool,
}

impl Delivery {
    pub fn new(rules: Rules, dice: Dice, now: Duration) -> Delivery {
        let records = rules.records_per_second.map(|rate| Bucket::new(rate, now));
        let bytes = rules.bytes_per_second.map(|rate| Bucket::new(rate, now));
        Delivery {
            rules,
            dice,
            lanes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            batches: VecDeque::new(),
            retired: VecDeque::new(),
            next_key: 0,
            circuit: Circuit::default(),
            n_in_flight: 0,
            held_bytes: 0,
            n_pending: 0,
            records,
            bytes,
            n_buried_in_a_row: 0,
            draining: false,
        }
    }

    /// So that answers to an earlier life's requests are nobody's.
    pub fn begin_keys_above(&mut self, key: BatchKey) {
        self.next_key = self.next_key.max(key);
    }

    pub fn last_key(&self) -> BatchKey {
        self.next_key
    }

    /// A lane whose first record has this number.
    pub fn open_lane(&mut self, lane: LaneId, next: u64) {
        self.lanes.insert(lane, Lane { next, ..Lane::default() });
    }

    /// Nothing of it is held: it may go.
    pub fn is_lane_idle(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_none_or(|lane| lane.pending.is_empty() && lane.planned.is_empty())
    }

    pub fn close_lane(&mut self, lane: LaneId) {
        assert!(self.is_lane_idle(lane), "a lane goes when nothing of it is held");
        self.lanes.remove(&lane);
    }

    /// The next record of a lane; one after the other, without gaps.
    pub fn push(&mut self, lane_id: LaneId, bytes: u32, now: Duration) {
        let lane = self.lanes.get_mut(&lane_id).expect("records come on open lanes");
        if lane.pending.is_empty() {
            self.waiting.insert((now, lane_id));
        }
        lane.pending.push_back((bytes, now));
        self.n_pending += 1;
        lane.pending_bytes += u64::from(bytes);
        self.held_bytes += u64::from(bytes);
    }

    /// Whether the lane should be read on: enough for a batch of its own isn't there, and the queue has room.
    pub fn wants(&self, lane: LaneId) -> bool {
        let Some(lane) = self.lanes.get(&lane) else { return false };
        let is_busy = !lane.planned.is_empty();
        let queue_bytes = self.rules.queue_bytes / if is_busy { 2 } else { 1 };
        let has_room = self.held_bytes < queue_bytes && self.may_plan(is_busy);
        has_room && !self.is_full(lane.pending.len(), lane.pending_bytes)
    }

    /// Whether one more batch may be sealed. Lanes with a batch under way take half of the room at most: what the receiver
    /// doesn't take of one leaves some to the others.
    fn may_plan(&self, is_busy: bool) -> bool {
        self.batches.len() < if is_busy { self.rules.planned_max.div_ceil(2) } else { self.rules.planned_max }
    }

    /// When the first of the lanes that may be sealed has waited long enough.
    fn sealing_due(&self) -> Option<Duration> {
        if !self.may_plan(false) {
            return None;
        }
        let first = self.waiting.iter().find(|(_, lane)| self.may_plan(!self.lanes[lane].planned.is_empty()));
        first.map(|(at, _)| *at + self.rules.wait)
    }

    fn is_full(&self, n_records: usize, bytes: u64) -> bool {
        n_records >= self.rules.batch_records || bytes >= self.rules.batch_bytes
    }

    /// A batch of an earlier life, whose bounds are durable; its lanes' next records are in it. It is sent after
    /// [`Delivery::ready`].
    pub fn restore(&mut self, parts: Vec<Part>, bytes: u64) -> BatchKey {
        for part in &parts {
            let lane = self.lanes.get_mut(&part.lane).expect("a batch is restored on open lanes");
            assert!(lane.next == part.first && lane.pending.is_empty(), "batches are restored in order");
            lane.next = part.end();
        }
        self.held_bytes += bytes;
        self.seal(parts, bytes)
    }

    fn seal(&mut self, parts: Vec<Part>, bytes: u64) -> BatchKey {
        let key = self.new_key();
        for part in &parts {
            self.lanes.get_mut(&part.lane).expect("parts are of open lanes").planned.push_back(key);
        }
        self.batches.push_back(Batch::new(key, parts, bytes));
        key
    }

    fn new_key(&mut self) -> BatchKey {
        self.next_key += 1;
        self.next_key
    }

    /// Seals a batch if one is full, old enough, or wanted by a drain.
    pub fn poll_plan(&mut self, now: Duration) -> Option<Plan> {
        // Lanes with a batch under way go with their like, so that a lane which waits for a retry holds up no other.
        let busy_first = self.waiting.first().map(|(_, lane)| !self.lanes[lane].planned.is_empty())?;
        for busy in [busy_first, !busy_first] {
            if !self.may_plan(busy) {
                continue;
            }
            if let Some(lanes) = self.sealable(busy, now) {
                return Some(self.plan(&lanes));
            }
        }
        None
    }

    fn sealable(&self, busy: bool, now: Duration) -> Option<Vec<LaneId>> {
        let (mut n_records, mut bytes, mut lanes, mut oldest) = (0, 0, Vec::new(), None);
        for (at, lane_id) in &self.waiting {
            let lane = &self.lanes[lane_id];
            if lane.planned.is_empty() == busy {
                continue;
            }
            oldest = oldest.or(Some(*at));
            n_records += lane.pending.len();
            bytes += lane.pending_bytes;
            lanes.push(*lane_id);
            if self.is_full(n_records, bytes) || lanes.len() >= BATCH_PARTS_MAX {
                return Some(lanes);
            }
        }
        oldest.filter(|oldest| self.draining || now >= *oldest + self.rules.wait).map(|_| lanes)
    }

    fn plan(&mut self, lanes: &[LaneId]) -> Plan {
        let (mut parts, mut n_records, mut bytes) = (Vec::new(), 0, 0);
        for lane_id in lanes {
            let lane = self.lanes.get_mut(lane_id).expect("waiting lanes are open");
            let (first, at) = (lane.next, lane.pending[0].1);
            let mut n = 0;
            while let Some((record_bytes, _)) = lane.pending.front() {
                let larger = bytes + u64::from(*record_bytes);
                if n_records >= self.rules.batch_records || n_records > 0 && larger > self.rules.batch_bytes {
                    break;
                }
                lane.pending_bytes -= u64::from(*record_bytes);
                lane.pending.pop_front();
                bytes = larger;
                n_records += 1;
                n += 1;
            }
            if n == 0 {
                break;
            }
            lane.next += u64::from(n);
            self.n_pending -= n as usize;
            self.waiting.remove(&(at, *lane_id));
            match lane.pending.front() {
                Some((_, at)) => _ = self.waiting.insert((*at, *lane_id)),
                None => lane.pending = VecDeque::new(), // Thousands of lanes may never have so many again.
            }
            parts.push(Part { lane: *lane_id, first, n });
        }
        let key = self.seal(parts.clone(), bytes);
        Plan { key, parts }
    }

    /// The batch's bounds are durable and its bytes are at hand: it may be sent.
    pub fn ready(&mut self, key: BatchKey) {
        let batch = self.batch(key);
        assert!(batch.state == State::Planned, "a batch gets ready once");
        batch.state = State::Ready;
    }

    /// The next request, if one may start now. The number is that of the try, from 1.
    pub fn poll_send(&mut self, now: Duration) -> Option<(BatchKey, u32)> {
        if self.n_in_flight >= self.rules.window || !self.circuit.may_send(now, self.n_in_flight) {
            return None;
        }
        if !self.rate_wait(now).is_zero() {
            return None;
        }
        let ix = self.next_to_start(now)?;
        let batch = &mut self.batches[ix];
        batch.state = State::InFlight;
        self.n_in_flight += 1;
        let (n_records, bytes) = (batch.n_records as u64, batch.bytes);
        self.records.iter_mut().for_each(|bucket| bucket.take(n_records));
        self.bytes.iter_mut().for_each(|bucket| bucket.take(bytes));
        Some((batch.key, batch.n_failures + 1))
    }

    fn next_to_start(&self, now: Duration) -> Option<usize> {
        let may_start = |batch: &Batch| self.may_start(batch) && now >= batch.not_before;
        let mut startable = self.batches.iter().enumerate().filter(|(_, batch)| may_start(batch));
        let found = match self.circuit.state() {
            CircuitState::Closed => startable.next(),
            // Tries are few, and one container's records may be all that is wrong: each lane has its turn.
            CircuitState::Open | CircuitState::Held => startable.min_by_key(|(_, batch)| batch.not_before),
        };
        found.map(|(ix, _)| ix)
    }

    fn may_start(&self, batch: &Batch) -> bool {
        // A lane's first alone is tried where tries are few.
        let may_overtake = self.rules.order == Order::Relaxed && self.circuit.state() == CircuitState::Closed;
        batch.state == State::Ready && (may_overtake || self.is_first(batch))
    }

    /// Whether nothing of its lanes is before it.
    fn is_first(&self, batch: &Batch) -> bool {
        batch.parts.iter().all(|part| self.lanes[&part.lane].planned.front() == Some(&batch.key))
    }

    fn rate_wait(&mut self, now: Duration) -> Duration {
        let records = self.records.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(now));
        let bytes = self.bytes.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(now));
        records.max(bytes)
    }

    pub fn handle_answer(&mut self, key: BatchKey, answer: Answer, now: Duration) -> Outcome {
        self.n_in_flight -= 1;
        let batch = self.batch(key);
        assert!(batch.state == State::InFlight, "what is answered was asked");
        batch.state = State::Ready;
        let is_one = batch.n_records == 1;
        match answer {
            Answer::Accepted => {
                batch.state = State::Done;
                self.circuit.accepted();
                self.n_buried_in_a_row = 0;
                self.retire();
            }
            Answer::Later { why, after } => {
                batch.n_failures = batch.n_failures.saturating_add(1);
                let n_failures = batch.n_failures;
                let pause = self.rules.backoff.pause(n_failures, &mut self.dice);
                self.batch(key).not_before = now + pause;
                self.circuit.failed(now, why, after, &self.rules.backoff, &mut self.dice);
            }
            Answer::Rejected(why) | Answer::TooLarge(why)
                if is_one && self.n_buried_in_a_row >= BURIED_IN_A_ROW_MAX =>
            {
                let why = format!("{why}; {BURIED_IN_A_ROW_MAX} records in a row were refused, so it isn't them");
                self.circuit.refused(now, why, &self.rules.backoff, &mut self.dice);
                // Unless it is one container's alone: the next try is another's.
                let until = self.circuit.until();
                self.batch(key).not_before = until;
            }
            Answer::Refused(why) => self.circuit.refused(now, why, &self.rules.backoff, &mut self.dice),
            Answer::Rejected(why) | Answer::TooLarge(why) if is_one => {
                self.batch(key).state = State::Burying;
                return Outcome::Bury { key, why };
            }
            Answer::Rejected(_) | Answer::TooLarge(_) => return self.split(key),
        }
        Outcome::Nothing
    }

    fn split(&mut self, key: BatchKey) -> Outcome {
        let ix = self.ix(key);
        let parent = self.batches.remove(ix).expect("it was just found");
        let (left, right) = halves(&parent.parts, parent.n_records / 2);
        let left_bytes = parent.bytes / 2;
        let mut plans = Vec::new();
        for (parts, bytes) in [(left, left_bytes), (right, parent.bytes - left_bytes)] {
            let child = self.new_key();
            self.batches.insert(ix + plans.len(), Batch::new(child, parts.clone(), bytes));
            plans.push(Plan { key: child, parts });
        }
        for part in &parent.parts {
            let planned = &mut self.lanes.get_mut(&part.lane).expect("its lanes are open").planned;
            let at = planned.iter().position(|other| *other == key).expect("the lane knows its batches");
            planned.remove(at);
            let children = plans.iter().filter(|plan| plan.parts.iter().any(|child| child.lane == part.lane));
            for (n, child) in children.enumerate() {
                planned.insert(at + n, child.key);
            }
        }
        let halves = plans.try_into().expect("two were made");
        Outcome::Split { parent: key, halves }
    }

    /// The record was put aside, durably.
    pub fn buried(&mut self, key: BatchKey) {
        let batch = self.batch(key);
        assert!(batch.state == State::Burying, "what is buried was to be buried");
        batch.state = State::Done;
        self.n_buried_in_a_row += 1;
        self.retire();
    }

    /// It couldn't be put aside: it is sent again later.
    pub fn not_buried(&mut self, key: BatchKey, now: Duration) {
        let pause = self.rules.backoff.max;
        let batch = self.batch(key);
        batch.state = State::Ready;
        batch.not_before = now + pause;
    }

    /// Batches that are done leave in the order of each of their lanes.
    fn retire(&mut self) {
        while let Some(ix) = self.batches.iter().position(|batch| batch.state == State::Done && self.is_first(batch)) {
            let batch = self.batches.remove(ix).expect("it was just found");
            for part in &batch.parts {
                self.lanes.get_mut(&part.lane).expect("its lanes are open").planned.pop_front();
            }
            self.held_bytes -= batch.bytes;
            self.retired.push_back(Retired { key: batch.key, parts: batch.parts });
        }
    }

    pub fn poll_retired(&mut self) -> Option<Retired> {
        self.retired.pop_front()
    }

    /// What is pending goes now; a receiver that is away is tried once more.
    pub fn drain(&mut self, now: Duration) {
        if !self.draining {
            self.draining = true;
            self.circuit.hurry(now);
            self.batches.iter_mut().for_each(|batch| batch.not_before = batch.not_before.min(now));
        }
    }

    /// When something may be due by time alone.
    pub fn next_due(&mut self, now: Duration) -> Option<Duration> {
        let sealing = self.sealing_due();
        // A receiver that is away is tried by one: behind it only its answer leads on.
        let free = self.n_in_flight < self.rules.window && self.circuit.lets_start(self.n_in_flight);
        let starting = self.batches.iter().filter(|batch| free && self.may_start(batch));
        let starting = starting.map(|batch| batch.not_before.max(self.circuit.until())).min();
        let starting = starting.map(|at| at.max(now + self.rate_wait(now)));
        sealing.into_iter().chain(starting).min()
    }

    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Neither pending nor under way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.batches.is_empty()
    }

    pub fn n_in_flight(&self) -> usize {
        self.n_in_flight
    }

    /// Bytes of records that are held, as they were rendered.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Records that are not retired.
    pub fn n_records(&self) -> usize {
        self.n_pending + self.batches.iter().map(|batch| batch.n_records).sum::<usize>()
    }

    fn ix(&self, key: BatchKey) -> usize {
        self.batches.iter().position(|batch| batch.key == key).expect("a key is of a batch that isn't retired")
    }

    fn batch(&mut self, key: BatchKey) -> &mut Batch {
        let ix = self.ix(key);
        &mut self.batches[ix]
    }
}
