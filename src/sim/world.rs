//! One simulated host: a machine, an engine, a store, and the real agent with its threads folded into one.
//! The agent dies and comes back as the fault plan says; what a story does goes on meanwhile.

mod meanwhile;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;

use self::meanwhile::Meanwhile;
use super::docker::{EngineKind, Options, SimDocker};
use super::os::{Crash, Errno, Fault, FaultPlan, SimOs};
use super::random::Random;
use super::scenarios::scene;
use crate::agent::commits::FIRST_LISTING_KEY;
use crate::agent::inbox::Hints;
use crate::agent::{Agent, Mode, Parts, remember};
use crate::checkpoint::codec::Change;
use crate::checkpoint::commit::{Committer, Item, Outcome, execute};
use crate::checkpoint::store::{MemoryStore, Store, StoreError};
use crate::cli::{Cli, Command};
use crate::config::limits::DRAIN_MAX;
use crate::config::{Config, Format, Host};
use crate::decode::Stream;
use crate::sink::journal;
use crate::sink::pruned::Pruned;
use crate::sink::tidy::{Chore, Tidied, Tidier};
use crate::sys::Os;
use crate::sys::watch::NoWatch;
use crate::telemetry::{Counters, Health};

pub const CONTAINERS: &str = "/docker/containers";
pub const OUT: &str = "/out";
const STATE: &str = "/state";
/// Where the store's own calls are counted: one before a commit takes effect, one after.
const STORE: &str = "/state/store";
/// What a full disk keeps from taking effect; reading goes on.
const STORE_WRITES: &str = "/state/store/writes";
/// Steps without any news after which a world is quiet. Each takes a second.
const QUIET_STEPS: u32 = 5;
const STEPS_MAX: u32 = 3_000;
const STEP: Duration = Duration::from_millis(5);

/// When a commit's work is done, and when the agent hears of it. The real one has a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// At once.
    Now,
    /// The rows are durable at once; the agent hears of it after its next step.
    OutcomeLater,
    /// Both after the next step, so that bytes are appended while a commit waits.
    WorkLater,
}

/// How lines look that a life wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// By a template.
    Text(String),
    Json,
    Docker,
}

/// What the oracle expects of a message in place of exactly one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No line: it was there before `--from end` looked.
    Skipped,
    /// One line at most: somebody else had his hands in the output.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    DayBack,
    DayAhead,
}

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// The fault of one run: what happens at which call, counted over all lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub call: u64,
    pub fault: Fault,
}

pub struct World {
    pub os: SimOs,
    pub docker: SimDocker,
    pub store: MemoryStore,
    pub counters: Counters,
    pub random: Random,
    timing: Timing,
    agent: Option<SimAgent>,
    jobs: Jobs,
    pruned: Pruned,
    /// Whether a store is there: the first life makes it.
    store_made: bool,
    /// Flags of the present life, and every one there ever was.
    flags: String,
    config: Arc<Config>,
    pub looks: Vec<Look>,
    pub max_line_bytes: usize,
    mode: Mode,
    health: Option<Health>,
    /// What is judged otherwise: by container, the messages before such a number.
    pub marks: BTreeMap<String, (usize, Mark)>,
    planned: VecDeque<Planned>,
    /// What the engine does during the next step of the agent, each before so many calls of that step.
    meanwhile: Vec<(u64, Meanwhile)>,
    /// Calls of earlier lives.
    calls_before: u64,
    earlier_calls: Vec<&'static str>,
    last_time_ns: i64,
    n_lines: u64,
    /// Containers that the engine starts again after it died.
    wanted: BTreeSet<String>,
    removed: BTreeSet<String>,
    pub power_losses: u32,
    /// When the last one was.
    pub power_lost_ns: Option<i64>,
    /// A power loss took the engine's renames back out of order, so that its names tell nothing any more. Journals of
    /// ext4 and xfs keep their order.
    pub scrambled: bool,
    pub store_losses: u32,
    pub lives: u32,
    /// Every call is shown: for a replay.
    traced: bool,
    shown: String,
    /// The last calls before each death.
    pub obituary: Vec<String>,
}

type SimAgent = Agent<SimOs, InlineCommitter, InlineTidier, NoWatch>;

impl World {
    pub fn new(kind: EngineKind, flags: &str, timing: Timing, seed: u64, counters: &Counters) -> World {
        let os = SimOs::new(seed);
        for directory in [OUT, STORE, STORE_WRITES] {
            os.engine_mkdir(directory).expect("an empty disk takes directories");
            os.settle(directory);
        }
        let docker = SimDocker::new(&os, CONTAINERS, kind, seed ^ 0xd0c);
        let mut world = World {
            os: os.clone(),
            docker,
            store: MemoryStore::new(),
            counters: counters.clone(),
            random: Random::new(seed),
            timing,
            agent: None,
            jobs: Jobs::default(),
            pruned: Pruned::new(Path::new(OUT)),
            store_made: false,
            flags: String::new(),
            config: config(""),
            looks: Vec::new(),
            max_line_bytes: 0,
            mode: Mode::Run,
            health: None,
            marks: BTreeMap::new(),
            planned: VecDeque::new(),
            meanwhile: Vec::new(),
            calls_before: 0,
            earlier_calls: Vec::new(),
            last_time_ns: 0,
            n_lines: 0,
            wanted: BTreeSet::new(),
            removed: BTreeSet::new(),
            power_losses: 0,
            power_lost_ns: None,
            scrambled: false,
            store_losses: 0,
            lives: 0,
            traced: crate::sys::places::variable("LONGSHORE_SIM_TRACE").is_some(),
            obituary: Vec::new(),
            shown: String::new(),
        };
        world.set_flags(flags);
        world
    }

    /// Counts calls from 0, over all lives to come.
    pub fn plan(&mut self, planned: impl IntoIterator<Item = Planned>) {
        self.planned = planned.into_iter().collect();
        self.calls_before = 0;
        self.earlier_calls.clear();
        self.arm();
    }

    pub fn disarm(&mut self) {
        self.planned.clear();
        self.arm();
    }

    /// Whether anything was to go wrong beside what the story tells.
    pub fn is_disturbed(&self) -> bool {
        !self.planned.is_empty()
    }

    fn arm(&self) {
        let mut plan = FaultPlan::none();
        for planned in &self.planned {
            if let Some(call) = planned.call.checked_sub(self.calls_before) {
                plan = plan.and(call, planned.fault);
            }
        }
        self.os.arm(plan);
    }

    /// The names of all calls since [`World::plan`].
    pub fn all_calls(&self) -> Vec<&'static str> {
        [self.earlier_calls.clone(), self.os.calls()].concat()
    }

    fn count_calls(&mut self) {
        let calls = self.os.calls();
        self.calls_before += calls.len() as u64;
        self.earlier_calls.extend(calls);
    }
}

// The agent.
impl World {
    /// What the next life is started with.
    pub fn set_flags(&mut self, flags: &str) {
        self.flags = flags.to_owned();
        self.config = config(flags);
        self.max_line_bytes = self.config.base.max_line_bytes;
        let look = match self.config.base.format {
            Format::Text => Look::Text(self.config.base.template.to_string()),
            Format::Json => Look::Json,
            Format::Docker => Look::Docker,
        };
        if !self.looks.contains(&look) {
            self.looks.push(look);
        }
    }

    /// SIGHUP: the running agent takes other settings, and so does every life to come.
    pub fn reload(&mut self, flags: &str) {
        self.set_flags(flags);
        self.os.count("reloads");
        if let Some(agent) = &mut self.agent {
            agent.reload(self.config.clone());
        }
    }

    /// SIGUSR1.
    pub fn reopen(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.reopen_outputs();
        }
    }

    fn start_agent(&mut self) {
        self.lives += 1;
        if self.os.create_directories(&Path::new(OUT).join(journal::DIRECTORY)).is_err() {
            return; // It ends with an error, and is started again.
        }
        let fresh = !std::mem::replace(&mut self.store_made, true);
        let mut store = SimStore { os: self.os.clone(), rows: self.store.clone() };
        let Ok(remembered) = remember(&self.os, &mut store, fresh, Path::new(OUT)) else {
            return;
        };
        let sequence = remembered.next_sequence();
        self.jobs = Jobs::default();
        self.pruned = Pruned::new(Path::new(OUT));
        let config = self.config.clone();
        let health = Health::new(self.os.monotonic());
        self.health = Some(health.clone());
        let parts = Parts {
            os: self.os.clone(),
            committer: InlineCommitter {
                os: self.os.clone(),
                store,
                timing: self.timing,
                jobs: self.jobs.clone(),
                busy: false,
            },
            tidier: InlineTidier {
                os: self.os.clone(),
                pruned: self.pruned.clone(),
                jobs: self.jobs.clone(),
                timing: self.timing,
            },
            watcher: NoWatch,
            config,
            counters: self.counters.clone(),
            ledger: crate::loss::Ledger::resume(&remembered.pairs),
            health,
            sequence,
        };
        self.agent = Some(Agent::new(parts, self.mode, remembered, None));
    }

    /// One step of the agent, which is started when it isn't there. True if anything moved.
    pub fn step(&mut self) -> bool {
        self.step_with(&Hints::default())
    }

    /// What is on the disk and in the store, when it isn't what was shown last.
    fn show_scene(&mut self) {
        let scene = scene(self);
        if scene != self.shown {
            eprintln!("{scene}");
            self.shown = scene;
        }
    }

    /// Says what comes next, for a replay.
    pub fn note(&self, what: impl std::fmt::Display) {
        if self.traced {
            eprintln!("# {what}");
        }
    }

    fn step_with(&mut self, hints: &Hints) -> bool {
        if self.traced {
            self.show_scene();
        }
        let n_before = self.os.calls().len();
        let moved = self.step_unseen(hints);
        if self.traced {
            let trace = self.os.last_calls();
            let n_new = self.os.calls().len().saturating_sub(n_before).min(trace.len());
            eprintln!("  step, moved: {moved}\n    {}", trace[trace.len() - n_new..].join("\n    "));
            self.show_scene();
        }
        moved
    }

    fn step_unseen(&mut self, hints: &Hints) -> bool {
        let before = self.progress();
        if self.agent.is_none() {
            self.start_agent();
        }
        self.jobs.tell();
        let engine = self.let_engine_act();
        if let Some(agent) = &mut self.agent {
            agent.step(hints);
        }
        if let Some(engine) = engine {
            self.take_engine_back(engine);
        }
        self.jobs.work(&self.os, &self.pruned);
        if let Some(kind) = self.os.crashed() {
            self.revive(kind);
            return true;
        }
        self.progress() != before
    }

    fn progress(&self) -> [u64; 4] {
        let counters = &self.counters;
        [
            counters.bytes_read.get(),
            counters.bytes_written.get(),
            counters.checkpoint_commits.get(),
            counters.compressed.get(),
        ]
    }

    /// The agent died. Its descriptors are closed, and after a power loss the engine starts what ran before.
    fn revive(&mut self, kind: Crash) {
        self.note(format_args!("the agent dies: {kind:?}"));
        self.agent = None;
        self.obituary = self.os.last_calls();
        self.count_calls();
        self.os = self.os.restart();
        self.arm();
        if kind == Crash::Power {
            self.power_losses += 1;
            self.power_lost_ns = Some(self.os.wall_ns());
            let ids = self.docker.ids();
            let before: Vec<u64> = ids.iter().map(|id| self.docker.generation(id)).collect();
            self.docker.power_lost();
            self.restart_engine();
            for (id, before) in ids.iter().zip(before) {
                self.scrambled |= self.docker.generation(id) < before || !self.in_order(id);
            }
        }
    }

    /// Whether the names of a log's files tell their order: by the numbers of their first lines.
    fn in_order(&self, id: &str) -> bool {
        let directory = self.docker.directory(id);
        let log = format!("{id}-json.log");
        let mut first_lines = Vec::new();
        for name in self.os.engine_list(&directory).unwrap_or_default() {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&log)) else { continue };
            let number = rest.trim_start_matches('.').trim_end_matches(".gz");
            let Ok(mut bytes) = self.os.engine_read(directory.join(&name)) else { continue };
            if rest.ends_with(".gz") {
                let mut inflated = Vec::new();
                let _ = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut inflated);
                bytes = inflated;
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let line = text.split("line ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            first_lines.push((std::cmp::Reverse(number.parse::<u64>().unwrap_or(0)), line));
        }
        first_lines.sort();
        let lines: Vec<u64> = first_lines.into_iter().filter_map(|(_, line)| line).collect();
        lines.is_sorted()
    }

    fn restart_engine(&mut self) {
        let time_ns = self.tick();
        for id in self.docker.ids() {
            if self.docker.is_removed(&id) || self.docker.is_running(&id) {
                continue;
            }
            if self.removed.contains(&id) {
                self.docker.rm(&id, time_ns);
            } else if self.wanted.contains(&id) {
                self.docker.start(&id);
            }
        }
    }

    /// So many steps, close together.
    pub fn turns(&mut self, n: u32) {
        for _ in 0..n {
            self.step();
            self.os.advance(STEP);
        }
    }

    pub fn seconds(&mut self, n: u32) {
        for _ in 0..n {
            self.step();
            self.os.advance(Duration::from_secs(1));
        }
    }

    /// Until the store says that all containers of the first listing are in it.
    pub fn until_listed(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.store.rows().contains_key(FIRST_LISTING_KEY) {
                return;
            }
            self.seconds(1);
        }
        panic!("the first listing is not stored");
    }

    /// Steps until nothing moves any more. I8: that is soon.
    pub fn quiet(&mut self) {
        let mut n_quiet = 0;
        for _ in 0..STEPS_MAX {
            let moved = self.step();
            n_quiet = if moved { 0 } else { n_quiet + 1 };
            if n_quiet >= QUIET_STEPS {
                return;
            }
            self.os.advance(if moved { STEP } else { Duration::from_secs(1) });
        }
        panic!("still moving after {STEPS_MAX} steps");
    }

    /// SIGTERM: it ends by itself, soon. False if something kept it from that, and its time was over.
    pub fn drain(&mut self) -> bool {
        let lives = self.lives;
        let hints = Hints { stop: true, ..Hints::default() };
        let deadline = self.os.monotonic() + DRAIN_MAX;
        while self.os.monotonic() < deadline {
            let moved = self.step_with(&hints);
            if self.lives != lives || self.agent.is_none() {
                break; // It crashed instead.
            }
            if self.agent.as_ref().is_some_and(Agent::is_done) {
                break;
            }
            self.os.advance(if moved { STEP } else { STEP * 20 });
        }
        let ended = self.agent.as_ref().is_none_or(|agent| self.lives != lives || agent.is_done());
        self.end_life();
        ended
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut random = self.random.fork();
        self.os.crash(Crash::Process, &mut random);
        self.revive(Crash::Process);
    }

    /// The plug is pulled.
    pub fn power_loss(&mut self) {
        let mut random = self.random.fork();
        self.os.crash(Crash::Power, &mut random);
        self.revive(Crash::Power);
    }

    /// `longshore backfill`, again and again until it ends by itself.
    pub fn backfill(&mut self) {
        self.end_life();
        self.mode = Mode::Backfill;
        for _ in 0..STEPS_MAX {
            let moved = self.step();
            if self.agent.as_ref().is_some_and(Agent::is_done) {
                self.end_life();
                self.mode = Mode::Run;
                return;
            }
            self.os.advance(if moved { STEP } else { Duration::from_secs(1) });
        }
        panic!("the backfill doesn't end");
    }

    /// What /healthz tells.
    pub fn faults(&self) -> Vec<String> {
        self.health.as_ref().map_or_else(Vec::new, Health::faults)
    }

    fn end_life(&mut self) {
        self.agent = None;
        if self.os.crashed().is_none() {
            self.count_calls();
            self.os = self.os.restart();
            self.arm();
        }
    }

    /// The state is gone; the next life makes it anew.
    pub fn lose_store(&mut self) {
        self.note("the store is lost");
        self.kill();
        self.store.clear();
        self.store_made = false;
        self.store_losses += 1;
    }
}

// The operator.
impl World {
    /// The store opens and holds nothing.
    pub fn empty_store(&mut self) {
        self.kill();
        self.store.clear();
        self.store_losses += 1;
    }

    /// `.longshore` is gone from log-path.
    pub fn lose_journal(&self) {
        let _ = self.os.engine_unlink(journal::path(Path::new(OUT)));
        self.os.count("journals_lost");
    }

    /// From here on the state's disk takes nothing, or does again.
    pub fn set_state_full(&self, full: bool) {
        self.os.set_failing(STORE_WRITES, full.then_some(Errno::NoSpace));
    }

    /// The last lines of an output are cut off, as an operator does. False if it has none.
    pub fn cut_output(&mut self, route: &str, n_lines: usize) -> bool {
        let path = Path::new(OUT).join(route);
        let Ok(bytes) = self.os.engine_read(&path) else { return false };
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let kept: usize = lines[..lines.len().saturating_sub(n_lines)].iter().map(|line| line.len()).sum();
        let file = self.os.engine_open(&path).expect("it was read");
        self.os.engine_truncate(&file, kept as u64);
        self.os.count("outputs_cut");
        self.mark(Mark::Optional);
        true
    }

    pub fn delete_output(&mut self, route: &str) -> bool {
        let deleted = self.os.engine_unlink(Path::new(OUT).join(route)).is_ok();
        if deleted {
            self.os.count("outputs_deleted");
            self.mark(Mark::Optional);
        }
        deleted
    }

    /// As logrotate does before it sends SIGUSR1.
    pub fn move_output(&mut self, route: &str) {
        if self.os.engine_rename(Path::new(OUT).join(route), "/moved.log").is_ok() {
            self.os.count("outputs_moved");
            self.mark(Mark::Optional);
        }
    }

    /// Another, empty directory stands in its place.
    pub fn swap_outputs(&mut self) {
        self.os.engine_rename(OUT, "/elsewhere").expect("nothing has that name");
        self.os.engine_mkdir(OUT).expect("its name is free");
        self.os.settle(OUT);
        self.os.count("outputs_swapped");
        self.mark(Mark::Optional);
    }

    /// All messages so far are judged so.
    pub fn mark(&mut self, mark: Mark) {
        for id in self.docker.ids() {
            let n_messages = self.docker.messages(&id).len();
            self.marks.insert(id, (n_messages, mark));
        }
    }

    /// The wall clock jumps, and the times of later lines with it.
    pub fn step_clock(&mut self, by: Jump) {
        let by_ns = match by {
            Jump::DayBack => -DAY_NS,
            Jump::DayAhead => DAY_NS,
        };
        self.os.step_wall(by_ns);
        self.last_time_ns += by_ns;
    }
}

// The engine.
impl World {
    /// A container that runs.
    pub fn run(&mut self, name: &str, options: Options) -> String {
        let id = self.docker.create(name, options);
        self.docker.start(&id);
        self.wanted.insert(id.clone());
        id
    }

    /// A time later than all before.
    pub fn tick(&mut self) -> i64 {
        let now_ns = self.os.wall_ns();
        self.last_time_ns = (self.last_time_ns + 1_003).max(now_ns);
        self.last_time_ns
    }

    pub fn say(&mut self, id: &str, n_bytes: usize) {
        self.say_on(id, Stream::Stdout, n_bytes);
    }

    /// A line unlike all others, of so many bytes.
    pub fn say_on(&mut self, id: &str, stream: Stream, n_bytes: usize) {
        let text = self.text(n_bytes);
        self.write(id, stream, &[text.as_slice(), b"\n"].concat());
    }

    pub fn say_many(&mut self, id: &str, n_lines: usize, n_bytes: usize) {
        for _ in 0..n_lines {
            self.say(id, n_bytes);
        }
    }

    pub fn text(&mut self, n_bytes: usize) -> Vec<u8> {
        self.n_lines += 1;
        let mut text = format!("line {} ", self.n_lines).into_bytes();
        let filler = b"abcdefghijklmnopqrstuvwxyz"[(self.n_lines % 26) as usize];
        // Each piece of a long line says which it is, so that none looks like another.
        while text.len() < n_bytes {
            let mark = format!("<{}@{}>", self.n_lines, text.len());
            let room = n_bytes - text.len();
            if text.len() % 4_096 < 64 && room > mark.len() {
                text.extend_from_slice(mark.as_bytes());
            }
            text.extend(std::iter::repeat_n(filler, 64.min(n_bytes.saturating_sub(text.len()))));
        }
        text
    }

    /// Nothing if the container can't write.
    pub fn write(&mut self, id: &str, stream: Stream, bytes: &[u8]) {
        let time_ns = self.tick();
        if self.docker.is_running(id) {
            self.docker.write(id, stream, bytes, time_ns);
        }
    }

    pub fn stop(&mut self, id: &str) {
        let time_ns = self.tick();
        self.wanted.remove(id);
        if self.docker.is_running(id) {
            self.docker.stop(id, time_ns);
        }
    }

    pub fn start(&mut self, id: &str) {
        if !self.docker.is_running(id) && !self.docker.is_removed(id) {
            self.docker.start(id);
            self.wanted.insert(id.to_owned());
        }
    }

    pub fn rm(&mut self, id: &str) {
        let time_ns = self.tick();
        self.wanted.remove(id);
        if !self.docker.is_removed(id) {
            self.docker.rm(id, time_ns);
            self.removed.insert(id.to_owned());
        }
    }

    pub fn recreate(&mut self, id: &str) -> String {
        let time_ns = self.tick();
        self.wanted.remove(id);
        self.removed.insert(id.to_owned());
        let new = self.docker.recreate(id, time_ns);
        self.wanted.insert(new.clone());
        new
    }

    /// A power loss may have taken what was in the way.
    pub fn unblock_rotation(&mut self, id: &str) {
        let names = self.os.engine_list(self.docker.directory(id)).unwrap_or_default();
        let blocked = |name: &std::path::PathBuf| self.os.engine_list(self.docker.directory(id).join(name)).is_ok();
        if names.iter().any(blocked) {
            self.docker.unblock_rotation(id);
        }
    }

    /// `kill -9` of the engine, which comes back at once.
    pub fn kill_engine(&mut self) {
        self.note("the engine dies");
        self.docker.kill();
        self.restart_engine();
    }
}

pub(super) fn config(flags: &str) -> Arc<Config> {
    let line = format!("longshore run --containers-dir {CONTAINERS} --log-path {OUT} --state-dir {STATE}");
    // `~` stands for a blank within a word.
    let words = line.split_whitespace().chain(flags.split_whitespace()).map(|word| word.replace('~', " "));
    let host = Host {
        now_ns: 1_767_225_600_000_000_000,
        hostname: "node-1".into(),
        cores: 1,
        working_dir: "/".into(),
        own_id: None,
    };
    let Command::Run(flags) = Cli::parse_from(words).into_command() else { unreachable!("it says run") };
    Arc::new(Config::for_run(&flags, &host).unwrap_or_else(|failure| panic!("{failure}")))
}

/// The store behind the machine's calls: a commit is durable between two of them, so a planned crash falls on either
/// side of it, and a planned error leaves it undone or unheard of.
struct SimStore {
    os: SimOs,
    rows: MemoryStore,
}

impl SimStore {
    fn call(&self, doing: &'static str) -> Result<(), StoreError> {
        let path = if doing == "write" { STORE_WRITES } else { STORE };
        let called = self.os.stat(Path::new(path));
        called.map(|_| ()).map_err(|error| StoreError::Failed { doing, reason: error.to_string() })
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

/// What was handed in and isn't done, and what is done and wasn't told. The world turns the wheel between steps.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    commits: Vec<Vec<Item<SimOs>>>,
    store: Option<SimStore>,
    done: VecDeque<Vec<Outcome<SimOs>>>,
    told: VecDeque<Vec<Outcome<SimOs>>>,
    chores: Vec<Chore>,
    tidied: Vec<Tidied>,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let queues = &mut *self.lock();
        queues.told.append(&mut queues.done);
    }

    fn work(&self, os: &SimOs, pruned: &Pruned) {
        let queues = &mut *self.lock();
        for items in std::mem::take(&mut queues.commits) {
            let store = queues.store.as_mut().expect("set with the first job");
            queues.done.push_back(execute(os, store, items));
        }
        for chore in std::mem::take(&mut queues.chores) {
            queues.tidied.push(chore.run(os, pruned));
        }
    }
}

struct InlineCommitter {
    os: SimOs,
    store: SimStore,
    timing: Timing,
    jobs: Jobs,
    busy: bool,
}

impl Committer<SimOs> for InlineCommitter {
    fn submit(&mut self, items: Vec<Item<SimOs>>) {
        assert!(!self.busy, "one job at a time");
        self.busy = true;
        let queues = &mut *self.jobs.lock();
        match self.timing {
            Timing::Now => queues.told.push_back(execute(&self.os, &mut self.store, items)),
            Timing::OutcomeLater => queues.done.push_back(execute(&self.os, &mut self.store, items)),
            Timing::WorkLater => {
                queues.store = Some(SimStore { os: self.os.clone(), rows: self.store.rows.clone() });
                queues.commits.push(items);
            }
        }
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn poll(&mut self) -> Option<Vec<Outcome<SimOs>>> {
        let outcomes = self.jobs.lock().told.pop_front()?;
        self.busy = false;
        Some(outcomes)
    }
}

struct InlineTidier {
    os: SimOs,
    pruned: Pruned,
    jobs: Jobs,
    timing: Timing,
}

impl Tidier for InlineTidier {
    fn submit(&mut self, chore: Chore) {
        let queues = &mut *self.jobs.lock();
        if self.timing == Timing::Now {
            let tidied = chore.run(&self.os, &self.pruned);
            queues.tidied.push(tidied);
        } else {
            queues.chores.push(chore);
        }
    }

    fn poll(&mut self) -> Vec<Tidied> {
        std::mem::take(&mut self.jobs.lock().tidied)
    }
}
