//! What a batch is, by numbers and lengths; and what is asked of whoever drives the delivery.

use std::time::Duration;

use super::{Backoff, BatchKey, LaneId};

/// Whether several batches of one container may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other: its records arrive in file order.
    Strict,
    /// As many as there are requests: faster over a long line, and retries may change the order.
    Relaxed,
}

#[derive(Clone, Debug)]
pub struct Rules {
    /// A batch is sealed at so many records or bytes, or when its oldest record waited so long.
    pub batch_records: usize,
    pub batch_bytes: u64,
    pub wait: Duration,
    /// Requests in flight.
    pub window: usize,
    /// Sealed batches that are not done.
    pub planned_max: usize,
    /// Bytes of records that are held.
    pub queue_bytes: u64,
    pub order: Order,
    pub backoff: Backoff,
    pub records_per_second: Option<u64>,
    pub bytes_per_second: Option<u64>,
}

/// Records of one lane in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub lane: LaneId,
    pub first: u64,
    pub n: u32,
}

impl Part {
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.n)
    }
}

/// A batch to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub key: BatchKey,
    pub parts: Vec<Part>,
}

/// A batch that is done: its parts are the next ones of their lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    pub key: BatchKey,
    pub parts: Vec<Part>,
}

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// Two batches take its place, to be made durable together.
    Split {
        parent: BatchKey,
        halves: [Plan; 2],
    },
    /// Its one record can't be delivered: put it aside, then say `Delivery::buried`.
    Bury {
        key: BatchKey,
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not durable yet.
    Planned,
    Ready,
    InFlight,
    Burying,
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub key: BatchKey,
    pub parts: Vec<Part>,
    pub n_records: usize,
    pub bytes: u64,
    pub state: State,
    pub n_failures: u32,
    pub not_before: Duration,
}

impl Batch {
    pub fn new(key: BatchKey, parts: Vec<Part>, bytes: u64) -> Batch {
        let n_records = parts.iter().map(|part| part.n as usize).sum();
        Batch { key, parts, n_records, bytes, state: State::Planned, n_failures: 0, not_before: Duration::ZERO }
    }
}

/// The first `n` records, and the rest.
pub(super) fn halves(parts: &[Part], n: usize) -> (Vec<Part>, Vec<Part>) {
    let (mut left, mut right, mut room) = (Vec::new(), Vec::new(), n as u32);
    for part in parts {
        let taken = part.n.min(room);
        room -= taken;
        if taken > 0 {
            left.push(Part { n: taken, ..*part });
        }
        if taken < part.n {
            right.push(Part { lane: part.lane, first: part.first + u64::from(taken), n: part.n - taken });
        }
    }
    (left, right)
}
