//! A receiver with moods: slow, full, picky, or gone after it took a batch. Remembers what it took.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::forward::{Request, Transport};
use crate::sim::os::SimOs;
use crate::sim::random::Random;
use crate::sink::delivery::{Answer, BatchKey};
use crate::sys::Os;

/// Records with this in them are refused, by a receiver that is picky.
pub const POISON: &str = "poison";

/// What may come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moods {
    /// Of a hundred requests, so many are answered late, with errors, or not accepted.
    pub trouble_percent: u64,
    /// It takes the batch, and its answer is lost.
    pub forgets: bool,
    pub picky: bool,
    /// Batches of more records are too large.
    pub records_max: usize,
    /// It answers so many ms later at most.
    pub slow_ms: u64,
    /// 401 to everything.
    pub refuses: bool,
}

impl Moods {
    pub const WELL: Moods =
        Moods { trouble_percent: 0, forgets: false, picky: true, records_max: usize::MAX, slow_ms: 3, refuses: false };
}

#[derive(Clone)]
pub struct Receiver(Arc<Mutex<Inner>>);

struct Inner {
    os: SimOs,
    random: Random,
    moods: Moods,
    /// In order: batch id, record id, line.
    records: Vec<(String, String, String)>,
    batches: BTreeMap<String, Vec<u8>>,
    in_flight: usize,
    n_requests: u64,
    /// What it saw that must not be.
    faults: Vec<String>,
}

impl Receiver {
    pub fn new(os: &SimOs, random: Random, moods: Moods) -> Receiver {
        Receiver(Arc::new(Mutex::new(Inner {
            os: os.clone(),
            random,
            moods,
            records: Vec::new(),
            batches: BTreeMap::new(),
            in_flight: 0,
            n_requests: 0,
            faults: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_moods(&self, moods: Moods) {
        self.lock().moods = moods;
    }

    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    pub fn n_requests(&self) -> u64 {
        self.lock().n_requests
    }

    /// Batch, record and line of everything that was taken, repeats included.
    pub fn records(&self) -> Vec<(String, String, String)> {
        self.lock().records.clone()
    }

    /// For a new life of the agent.
    pub fn transport(&self, os: &SimOs) -> SimTransport {
        let mut inner = self.lock();
        inner.in_flight = 0;
        inner.os = os.clone();
        SimTransport { receiver: self.clone(), os: os.clone(), waiting: VecDeque::new() }
    }
}

impl Inner {
    fn take(&mut self, request: &Request) -> (Answer, Duration) {
        self.n_requests += 1;
        let late = Duration::from_millis(self.random.within(0..=self.moods.slow_ms));
        let lines: Vec<(String, String)> = serde_json::from_slice::<Vec<serde_json::Value>>(&request.body)
            .expect("a batch is an array")
            .iter()
            .map(|record| (text(record, "id"), text(record, "line")))
            .collect();
        assert_eq!(lines.len(), request.n_records);
        if self.moods.refuses {
            return (Answer::of_status(401, None, "who are you"), late);
        }
        if lines.len() > self.moods.records_max {
            return (Answer::of_status(413, None, ""), late);
        }
        if self.moods.picky && lines.iter().any(|(_, line)| line.contains(POISON)) {
            return (Answer::of_status(400, None, "no poison"), late);
        }
        let troubled = self.random.below(100) < self.moods.trouble_percent;
        let answer = match (troubled, self.random.below(4)) {
            (false, _) => Answer::Accepted,
            (_, 0) => Answer::of_status(503, Some(Duration::from_secs(self.random.below(5))), ""),
            (_, 1) => Answer::of_status(429, None, ""),
            _ => Answer::Later { why: "connection reset".into(), after: None },
        };
        if answer == Answer::Accepted || self.moods.forgets && self.random.coin() {
            self.commit(&request.id, &request.body, lines);
        }
        (answer, late)
    }

    fn commit(&mut self, id: &str, body: &[u8], lines: Vec<(String, String)>) {
        match self.batches.get(id) {
            Some(before) if before != body => self.faults.push(format!("batch {id} came again with other bytes")),
            Some(_) => {}
            None => drop(self.batches.insert(id.to_owned(), body.to_vec())),
        }
        self.records.extend(lines.into_iter().map(|(record, line)| (id.to_owned(), record, line)));
    }
}

fn text(record: &serde_json::Value, field: &str) -> String {
    record[field].as_str().expect("each record has it").to_owned()
}

pub struct SimTransport {
    receiver: Receiver,
    os: SimOs,
    waiting: VecDeque<(Duration, BatchKey, Answer)>,
}

impl Transport for SimTransport {
    fn send(&mut self, request: Request) {
        if self.os.crashed().is_some() {
            return; // Nothing leaves a dead process.
        }
        let (answer, late) = self.receiver.lock().take(&request);
        self.waiting.push_back((self.os.monotonic() + late, request.key, answer));
    }

    fn poll(&mut self) -> Option<(BatchKey, Answer)> {
        let now = self.os.monotonic();
        let ix = self.waiting.iter().position(|(at, ..)| *at <= now)?;
        self.waiting.remove(ix).map(|(_, key, answer)| (key, answer))
    }
}

/// The lines by record id, the first time each was taken; and a fault for an id that stood for two lines.
pub fn first_times(records: &[(String, String, String)]) -> (Vec<(String, String)>, Vec<String>) {
    let mut lines: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let (mut first, mut faults) = (Vec::new(), Vec::new());
    for (_, id, line) in records {
        if *lines.entry(id).or_insert(line) != line {
            faults.push(format!("record {id} stands for two lines"));
        }
        if seen.insert(id) {
            first.push((id.clone(), line.clone()));
        }
    }
    (first, faults)
}
