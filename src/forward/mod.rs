//! A sink beside the files: reads the same logs with cursors of its own, so that a receiver that is away holds up
//! nothing else. The log on disk is its queue; what it remembers is in rows of its own.
//!
//! Straight-line like the agent: one thread steps it, nothing in a step waits. Requests and commits are handed out and
//! their answers collected. A batch's bounds are durable before it is sent, so after any death it is sent again as it was.

pub mod body;
pub mod cursor;
pub mod dead_letters;
pub mod mark;
pub mod pending;
pub mod removed;
pub mod rendering;
pub mod rows;
pub mod thread;

mod lanes;
mod opening;
mod outbox;
mod requests;
mod restore;
mod roster;
mod spool;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;

use crate::agent::inbox::{Hints, Watched};
use crate::checkpoint::commit::Committer;
use crate::config::current::Current;
use crate::config::limits::{POLL_MAX, ROOT_PERIOD};
use crate::config::{Config, From};
use crate::discover::Selection;
use crate::forward::body::Form;
use crate::forward::cursor::Sieve;
use crate::forward::dead_letters::DeadLetters;
use crate::forward::lanes::Slot;
use crate::forward::outbox::Outbox;
use crate::forward::pending::Pending;
use crate::forward::rendering::Look;
use crate::forward::requests::Sealed;
use crate::forward::restore::Restoring;
use crate::forward::rows::{Keys, Stored};
pub use crate::forward::spool::OnOverflow;
use crate::forward::spool::Spool;
use crate::loss::{Ledger, Untold};
use crate::sink::delivery::{Answer, BatchKey, CircuitState, Delivery, Dice, LaneId, Rules};
use crate::sys::Os;
use crate::telemetry::Health;
use crate::telemetry::said::Said;
use crate::telemetry::sinks::SinkMeters;

/// What a sink's operator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub selection: Selection,
    pub sieve: Sieve,
    pub look: Look,
    pub form: Form,
    pub rules: Rules,
    /// Where to begin in logs that are there when the sink is new.
    pub from: From,
    /// Bytes of deleted logs that may be held open.
    /// `None`: as much as the files may hold.
    pub held_max: Option<u64>,
    /// What becomes of them beyond it.
    pub on_overflow: OnOverflow,
    /// Bytes of copies in the state directory. `None`: a part of its file system.
    pub spool_max: Option<u64>,
}

/// What a sink has to know of its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Of the whole agent: where logs are, which containers it may read at all, and what is replaced in their texts.
    pub current: Current,
    pub seed: u64,
    /// Which logs need no look before a hint, or a sweep.
    pub watched: Watched,
}

/// A batch to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub key: BatchKey,
    /// The batch's id.
    pub id: String,
    pub body: Bytes,
    pub n_records: usize,
}

/// What carries requests to the receiver.
pub trait Transport: Send {
    /// Starts a request; never blocks. As many at a time as the rules' window allows.
    fn send(&mut self, request: Request);
    /// An answer that came.
    fn poll(&mut self) -> Option<(BatchKey, Answer)>;
    /// The receiver will never take anything again, such as a closed pipe.
    fn is_closed(&self) -> bool {
        false
    }
}

/// What a forwarder is made of.
pub struct Parts<O: Os, C, T> {
    pub os: O,
    pub committer: C,
    pub transport: T,
    pub settings: Arc<Settings>,
    pub surroundings: Surroundings,
    pub dead_letters: DeadLetters,
    /// `STATE_DIR/spool/NAME`.
    pub spool_dir: PathBuf,
    pub ledger: Ledger,
    pub meters: SinkMeters,
    pub health: Health,
    /// Keys of batches begin above it.
    pub last_key: BatchKey,
}

pub struct Forwarder<O: Os, C: Committer<O>, T: Transport> {
    parts: Parts<O, C, T>,
    /// As of the last step.
    config: Arc<Config>,
    keys: Keys,
    boot: String,
    /// Of what makes records: batches sealed under another one are sealed anew.
    settings_hash: u64,
    delivery: Delivery,
    /// Boxed: nodes of a tree that only grows at its end are half empty.
    slots: BTreeMap<LaneId, Box<Slot<O>>>,
    by_id: HashMap<String, LaneId>,
    next_lane: LaneId,
    due: BTreeSet<(Duration, LaneId)>,
    /// Lanes that may have something unread, or hold deleted logs: the others need no thought until they are served.
    minded: BTreeSet<LaneId>,
    /// Lanes that have enough for now.
    stalled: BTreeSet<LaneId>,
    /// Batches that are not durably retired.
    sealed: HashMap<BatchKey, Sealed>,
    next_place: u64,
    retired: VecDeque<crate::sink::delivery::Retired>,
    outbox: Outbox<O>,
    /// Lanes whose rows are older than what is true.
    dirty: BTreeSet<LaneId>,
    restoring: Option<Restoring>,
    /// Rows of containers that no listing has shown.
    absent: BTreeMap<String, (rows::LaneRow, usize)>,
    first_listing_stored: bool,
    root_listed: bool,
    /// Containers that the last listing showed and that couldn't be looked at.
    unseen: bool,
    /// Containers whose files are not there yet, or can't be read, since then.
    awaited: HashMap<String, Duration>,
    root_modified: Option<i64>,
    root_looked_at: Duration,
    root_listed_at: Duration,
    spool: Spool<O>,
    reported_at: Duration,
    losses: Untold,
    said: Said,
    buffer: Vec<u8>,
    /// The memory of records that are in no batch, for the lane that is read.
    room: Pending,
    fault: &'static str,
    /// Of deleted logs that hold too much.
    held_fault: &'static str,
    started_at: Duration,
    stopping: bool,
    stopped_at: Duration,
    /// A batch of an earlier life can't be put together again: everything begins from the rows.
    broken: bool,
}

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    pub fn new(parts: Parts<O, C, T>, stored: Stored) -> Self {
        let now = parts.os.monotonic();
        let settings = &parts.settings;
        let keys = Keys::new(&settings.name);
        let shape = format!("{:?} {:?} {:?}", settings.sieve, settings.look, settings.form);
        let dice = Dice::new(parts.surroundings.seed);
        let mut delivery = Delivery::new(settings.rules.clone(), dice, now);
        delivery.begin_keys_above(parts.last_key);
        for (name, error) in &stored.bad {
            tracing::error!(sink = %settings.name, row = %name, %error, "a row of the sink is damaged and left out");
        }
        let next_place = stored.batches.keys().map(|place| rows::batch_number(place) + 1).max().unwrap_or(0);
        let fault: &'static str = Box::leak(format!("sink {}", settings.name).into_boxed_str());
        let held_fault: &'static str = Box::leak(format!("deleted logs of sink {}", settings.name).into_boxed_str());
        Forwarder {
            config: parts.surroundings.current.get(),
            settings_hash: twox_hash::XxHash3_64::oneshot(shape.as_bytes()),
            keys,
            boot: parts.os.boot_id(),
            delivery,
            slots: BTreeMap::new(),
            by_id: HashMap::new(),
            next_lane: 0,
            due: BTreeSet::new(),
            minded: BTreeSet::new(),
            stalled: BTreeSet::new(),
            sealed: HashMap::new(),
            next_place,
            retired: VecDeque::new(),
            outbox: Outbox::default(),
            dirty: BTreeSet::new(),
            restoring: Restoring::new(stored.batches),
            absent: stored.lanes,
            first_listing_stored: stored.first_listing,
            root_listed: false,
            unseen: false,
            awaited: HashMap::new(),
            root_modified: None,
            root_looked_at: Duration::ZERO,
            root_listed_at: Duration::ZERO,
            spool: Spool::new(parts.spool_dir.clone(), stored.spool, now),
            reported_at: Duration::ZERO,
            losses: Untold::default(),
            said: Said::new(),
            buffer: Vec::new(),
            room: Pending::default(),
            fault,
            held_fault,
            started_at: now,
            stopping: false,
            stopped_at: Duration::ZERO,
            broken: false,
            parts,
        }
    }

    /// Everything that is due now. Gives how long nothing will be.
    pub fn step(&mut self, hints: &Hints) -> Duration {
        let now = self.parts.os.monotonic();
        if hints.stop && !self.stopping {
            self.stopping = true;
            self.stopped_at = now;
            self.root_modified = None; // A container that was just removed is no more written to.
            self.delivery.drain(now);
            self.look_everywhere(now);
        }
        self.take_outcomes(now);
        self.take_answers(now);
        if self.broken {
            self.drop_broken();
            self.submit(now);
            self.take_outcomes(now);
            return self.pause(now);
        }
        self.take_settings(now);
        self.take_hints(hints, now);
        self.look_at_root(now);
        self.restore(now);
        let moved = self.serve_due(now) | self.mind_deleted(now);
        self.plan(now);
        self.submit(now);
        self.take_outcomes(now);
        self.send(now);
        self.take_answers(now);
        self.report(now);
        if moved { Duration::ZERO } else { self.pause(now) }
    }

    fn pause(&mut self, now: Duration) -> Duration {
        let root_pause = if self.root_modified.is_none() { POLL_MAX } else { ROOT_PERIOD };
        let mut next = self.root_looked_at + root_pause;
        next = next.min(self.due.first().map_or(next, |(due, _)| *due));
        next = next.min(self.delivery.next_due(now).unwrap_or(next).max(now + Duration::from_millis(1)));
        if let Some(at) = self.commit_due() {
            next = next.min(at);
        }
        if self.restoring.is_some() {
            next = next.min(now + POLL_MAX);
        }
        next.saturating_sub(now)
    }

    /// To be asked behind a step. Everything that was there when it was last looked at is delivered and stored, or it can't be for now.
    pub fn is_done(&self) -> bool {
        if self.parts.transport.is_closed() {
            return self.outbox.is_idle();
        }
        let away = self.delivery.circuit().state() != CircuitState::Closed;
        let tried_in_vain = away && self.delivery.n_in_flight() == 0;
        let quiet = self.restoring.is_none() && self.slots.values().all(|slot| slot.is_quiet_for_end());
        let empty = self.delivery.is_empty() && self.retired.is_empty() && self.losses.is_empty();
        (self.root_listed || self.slots.is_empty())
            && self.root_looked_at >= self.stopped_at
            && !self.unseen
            && self.outbox.is_idle()
            && self.is_spooled()
            && (quiet && empty && self.dirty.is_empty() || tried_in_vain)
    }

    /// Nothing that only a descriptor holds can be copied aside.
    fn is_spooled(&self) -> bool {
        self.parts.settings.on_overflow != OnOverflow::Spool || self.spool.settled && !self.spool.is_copying()
    }

    /// What of it waits for a later life: records, and the reason.
    pub fn left(&self) -> Option<String> {
        let n_records = self.delivery.n_records();
        let why = self.delivery.circuit().why().unwrap_or("no time");
        (n_records > 0).then(|| format!("{n_records} records are not delivered yet: {why}"))
    }

    /// Whether it has to [`Forwarder::begin_again`].
    pub fn is_broken(&self) -> bool {
        self.broken && self.outbox.is_idle() && self.retired.is_empty()
    }

    /// From what is durable, without the batches that couldn't be put together.
    pub fn begin_again(mut self) -> Self {
        let stored = self.remembered();
        self.parts.last_key = self.delivery.last_key();
        Forwarder::new(self.parts, stored)
    }

    pub fn transport_is_closed(&self) -> bool {
        self.parts.transport.is_closed()
    }

    pub fn meters(&self) -> &SinkMeters {
        &self.parts.meters
    }

    /// What its trouble is called.
    pub fn fault(&self) -> &'static str {
        self.fault
    }
}
