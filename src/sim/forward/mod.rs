//! Forwarding on a simulated host: the real forwarder, a store, an engine that rotates, and a receiver with moods.
//! Delivered, put aside, or in the ledger is what was written; and what comes twice is a batch that came twice.

mod crowd;
mod receiver;
mod spool;
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::inbox::{Hints, Watched};
use crate::checkpoint::codec::Change;
use crate::checkpoint::commit::{Committer, Item, Outcome, execute};
use crate::checkpoint::store::{MemoryStore, Store, StoreError};
use crate::config::From;
use crate::config::current::Current;
use crate::decode::Stream;
use crate::discover::Selection;
use crate::filter::{Redaction, TextFilter};
use crate::forward::body::{Compression, Form, Framing};
use crate::forward::cursor::Sieve;
use crate::forward::dead_letters::DeadLetters;
use crate::forward::rendering::{Look, Value};
use crate::forward::rows::Keys;
use crate::forward::{Forwarder, OnOverflow, Parts, Settings, Surroundings};
use crate::loss::{Ledger, Loss, entries};
use crate::sim::docker::{EngineKind, Options, SimDocker};
use crate::sim::forward::receiver::{Moods, Receiver, SimTransport};
use crate::sim::os::{Crash, SimOs};
use crate::sim::random::Random;
use crate::sim::world::config;
use crate::sink::delivery::{Backoff, Order, Rules};
use crate::sys::Os;
use crate::telemetry::sinks::{SinkFamilies, SinkMeters};
use crate::telemetry::{Counters, Health};

const CONTAINERS: &str = "/docker/containers";
const STATE: &str = "/state";
const STORE: &str = "/state/store";
const SINK: &str = "sim";

pub struct ForwardWorld {
    pub os: SimOs,
    pub docker: SimDocker,
    pub current: Current,
    watched: Watched,
    pub store: MemoryStore,
    pub receiver: Receiver,
    pub random: Random,
    pub settings: Settings,
    forwarder: Option<SimForwarder>,
    meters: SinkMeters,
    health: Health,
    last_time_ns: i64,
    n_lines: u64,
    /// By container, the lines that were written, in order.
    pub written: BTreeMap<String, Vec<String>>,
    /// What the engine wrote may be gone, or there again.
    pub lost_power: bool,
    pub lives: u32,
    pub rebuilds: u32,
    begins_again: bool,
}

type SimForwarder = Forwarder<SimOs, SimCommitter, SimTransport>;

pub fn settings() -> Settings {
    let value = |typed| Value::parse(typed).expect("a template");
    Settings {
        name: SINK.to_owned(),
        selection: Selection::default(),
        sieve: Sieve {
            filter: TextFilter::default(),
            max_line_bytes: 1 << 20,
            since_ns: None,
            redaction: Redaction::default(),
        },
        look: Look::Json(vec![("id".into(), value("{record}")), ("line".into(), value("{log}"))]),
        form: Form { framing: Framing::Array, compression: Compression::None },
        rules: Rules {
            batch_records: 8,
            batch_bytes: 4_000,
            wait: Duration::from_millis(500),
            window: 3,
            planned_max: 12,
            queue_bytes: 100_000,
            order: Order::Strict,
            backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) },
            records_per_second: None,
            bytes_per_second: None,
        },
        from: From::Beginning,
        held_max: Some(1 << 30),
        on_overflow: OnOverflow::DropOldest,
        spool_max: None,
    }
}

impl ForwardWorld {
    pub fn new(kind: EngineKind, seed: u64, moods: Moods) -> ForwardWorld {
        let os = SimOs::new(seed);
        for directory in [STATE, STORE] {
            os.engine_mkdir(directory).expect("an empty disk takes directories");
            os.settle(directory);
        }
        let docker = SimDocker::new(&os, CONTAINERS, kind, seed ^ 0xd0c);
        let mut random = Random::new(seed ^ 0xf0);
        let receiver = Receiver::new(&os, random.fork(), moods);
        let counters = Counters::new(0);
        ForwardWorld {
            docker,
            current: Current::new(config("")),
            watched: Watched::default(),
            store: MemoryStore::new(),
            receiver,
            random,
            settings: settings(),
            forwarder: None,
            meters: SinkFamilies::new(&counters).of(SINK),
            health: Health::new(os.monotonic()),
            last_time_ns: os.wall_ns(),
            n_lines: 0,
            written: BTreeMap::new(),
            lost_power: false,
            lives: 0,
            rebuilds: 0,
            begins_again: false,
            os,
        }
    }

    pub fn run(&mut self, name: &str, options: Options) -> String {
        let id = self.docker.create(name, options);
        self.docker.start(&id);
        self.os.settle(self.docker.directory(&id));
        self.written.entry(id.clone()).or_default();
        self.watched.add(id.as_ref()); // And each line is hinted.
        id
    }

    /// Lines unlike all others.
    pub fn say(&mut self, id: &str, n: u64, n_bytes: usize, mark: &str) {
        for _ in 0..n {
            if self.docker.is_removed(id) {
                return; // A power loss took it.
            }
            self.n_lines += 1;
            let mut text = format!("line {} {mark}", self.n_lines);
            text.extend(std::iter::repeat_n('x', n_bytes));
            let stream = if self.random.one_in(5) { Stream::Stderr } else { Stream::Stdout };
            let time_ns = self.tick();
            self.docker.log(id, stream, text.as_bytes(), time_ns);
            self.written.get_mut(id).expect("it runs").push(text);
            // An idle log is watched, and a rotation or two later its first line would be gone.
            let mut hints = Hints::default();
            hints.directories.insert(id.into());
            self.step(&hints);
        }
    }

    fn tick(&mut self) -> i64 {
        self.last_time_ns = (self.last_time_ns + 1_003).max(self.os.wall_ns());
        self.last_time_ns
    }

    pub fn rm(&mut self, id: &str) {
        let time_ns = self.tick();
        self.docker.rm(id, time_ns);
    }

    fn start(&mut self) {
        self.lives += 1;
        let Ok(pairs) = (SimStore { os: self.os.clone(), rows: self.store.clone() }).load() else { return };
        let parts = Parts {
            os: self.os.clone(),
            committer: SimCommitter {
                os: self.os.clone(),
                store: SimStore { os: self.os.clone(), rows: self.store.clone() },
                told: VecDeque::new(),
                told_at: self.os.monotonic(),
            },
            transport: self.receiver.transport(&self.os),
            settings: Arc::new(self.settings.clone()),
            surroundings: Surroundings {
                current: self.current.clone(),
                seed: self.random.draw(),
                watched: self.watched.clone(),
            },
            dead_letters: DeadLetters::new(Path::new(STATE), SINK),
            spool_dir: Path::new(STATE).join("spool").join(SINK),
            ledger: Ledger::resume(&pairs),
            meters: self.meters.clone(),
            health: self.health.clone(),
            last_key: 0,
        };
        self.forwarder = Some(Forwarder::new(parts, Keys::new(SINK).load(&pairs)));
    }

    pub fn step(&mut self, hints: &Hints) {
        if self.forwarder.is_none() {
            self.start();
        }
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.step(hints);
        }
        self.begins_again = self.forwarder.as_ref().is_some_and(Forwarder::is_broken);
        if self.begins_again {
            self.rebuilds += 1;
            self.forwarder = self.forwarder.take().map(Forwarder::begin_again);
        }
        if let Some(crash) = self.os.crashed() {
            self.revive(crash);
        }
        self.os.advance(Duration::from_millis(5));
    }

    pub fn turns(&mut self, n: u64) {
        (0..n).for_each(|_| self.step(&Hints::default()));
    }

    pub fn kill(&mut self) {
        self.die(Crash::Process);
    }

    pub fn die(&mut self, crash: Crash) {
        self.os.crash(crash, &mut self.random);
        self.revive(crash);
    }

    fn revive(&mut self, crash: Crash) {
        self.forwarder = None;
        self.os = self.os.restart();
        if crash == Crash::Power {
            self.lost_power = true;
            self.docker.power_lost();
            for id in self.docker.ids() {
                if self.written.contains_key(&id) && !self.docker.is_removed(&id) && !self.docker.is_running(&id) {
                    self.docker.start(&id);
                }
            }
        }
    }

    /// One that has just begun again has looked at nothing yet.
    fn is_done(&self) -> bool {
        !self.begins_again && self.forwarder.as_ref().is_some_and(Forwarder::is_done)
    }

    /// Until everything is delivered and stored. False: not within a simulated hour.
    pub fn settle(&mut self) -> bool {
        let stop = Hints { stop: true, ..Hints::default() };
        for _ in 0..720_000 / 5 {
            self.step(&stop);
            self.os.advance(Duration::from_millis(20));
            if self.is_done() && self.forwarder.as_ref().is_some_and(|forwarder| forwarder.left().is_none()) {
                return true;
            }
        }
        false
    }

    /// A stop that doesn't wait for the receiver. False: it didn't come to an end.
    pub fn stop(&mut self) -> bool {
        let stop = Hints { stop: true, ..Hints::default() };
        for _ in 0..2_000 {
            self.step(&stop);
            if self.is_done() {
                self.kill();
                return true;
            }
        }
        false
    }

    pub fn spool_files(&self) -> Vec<String> {
        let directory = Path::new(STATE).join("spool").join(SINK);
        let names = self.os.engine_list(directory).unwrap_or_default();
        names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    pub fn damage_spool(&mut self, name: &str) {
        let path = Path::new(STATE).join("spool").join(SINK).join(name);
        let mut bytes = self.os.engine_read(&path).expect("it is there");
        let at = bytes.len() / 2;
        bytes[at] ^= 0x55;
        self.put_spool_file(name, &bytes);
    }

    pub fn put_spool_file(&self, name: &str, bytes: &[u8]) {
        let directory = Path::new(STATE).join("spool").join(SINK);
        self.os.engine_mkdir(&directory).expect("the state directory is there");
        self.os.engine_write_whole(directory.join(name), bytes).expect("it can be written");
    }

    pub fn held_bytes(&self) -> u64 {
        u64::try_from(self.meters.held_bytes.get()).unwrap_or(0)
    }

    pub fn faults(&self) -> Vec<String> {
        self.health.faults()
    }

    pub fn left(&self) -> Option<String> {
        self.forwarder.as_ref().and_then(Forwarder::left)
    }

    pub fn losses(&self) -> Vec<Loss> {
        let pairs: Vec<_> = self.store.rows().into_iter().collect();
        entries(&pairs)
    }

    /// Ids of the records that were put aside, as often as they were.
    pub fn dead_letters(&self) -> Vec<(String, String)> {
        let path = DeadLetters::new(Path::new(STATE), SINK).path().to_owned();
        let text = String::from_utf8(self.os.engine_read(path).unwrap_or_default()).expect("text");
        let line = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            let field = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
            (field(&value["id"]), field(&value["record"]["line"]))
        };
        text.lines().map(line).collect()
    }
}

/// The store behind the machine's calls, so that a planned crash falls on either side of a commit.
struct SimStore {
    os: SimOs,
    rows: MemoryStore,
}

impl SimStore {
    fn call(&self, doing: &'static str) -> Result<(), StoreError> {
        let called = self.os.stat(Path::new(STORE));
        called.map(drop).map_err(|error| StoreError::Failed { doing, reason: error.to_string() })
    }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.call("read")?;
        self.rows.load()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.call("write")?;
        self.rows.commit(changes)?;
        self.call("sync")
    }
}

/// Durable at once, told in a later step.
struct SimCommitter {
    os: SimOs,
    store: SimStore,
    told: VecDeque<Vec<Outcome<SimOs>>>,
    told_at: Duration,
}

impl Committer<SimOs> for SimCommitter {
    fn submit(&mut self, items: Vec<Item<SimOs>>) {
        assert!(self.told.is_empty(), "one job at a time");
        self.told.push_back(execute(&self.os, &mut self.store, items));
        self.told_at = self.os.monotonic();
    }

    fn is_idle(&self) -> bool {
        self.told.is_empty()
    }

    fn poll(&mut self) -> Option<Vec<Outcome<SimOs>>> {
        if self.os.monotonic() == self.told_at {
            return None;
        }
        self.told.pop_front()
    }
}
