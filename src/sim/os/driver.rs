//! What the driver of a test does to the machine: arms faults, ends lives, moves clocks, asks what happened.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::disk::Disk;
use super::{BOOT_TIME, Coverage, Crash, Errno, FaultPlan, Hidden, SimOs, World, lock};
use crate::sim::random::Random;

/// 2026-01-01T00:00:00Z.
const FIRST_WALL_NS: i64 = 1_767_225_600 * 1_000_000_000;

impl SimOs {
    /// The seed decides what a planned power loss keeps.
    pub fn new(seed: u64) -> SimOs {
        let world = World {
            disk: Disk::new(),
            random: Random::new(seed),
            life: 0,
            boot: 0,
            dead: None,
            monotonic: BOOT_TIME,
            wall_ns: FIRST_WALL_NS,
            plan: None,
            calls: Vec::new(),
            read_bytes: 0,
            acts: BTreeMap::new(),
            trace: VecDeque::new(),
            capacities: BTreeMap::new(),
            failing: BTreeMap::new(),
            hidden: BTreeMap::new(),
            open_files_max: None,
            coverage: Coverage::default(),
        };
        SimOs { world: Arc::new(Mutex::new(world)), life: 0 }
    }

    /// From now on calls are counted from 0, and fail as planned.
    pub fn arm(&self, plan: FaultPlan) {
        let mut world = lock(&self.world);
        world.plan = Some(plan);
        world.calls.clear();
    }

    pub fn disarm(&self) {
        lock(&self.world).plan = None;
    }

    /// Something that others do right before call `call` of an armed plan, which the agent can't see coming.
    pub fn act_before(&self, call: u64, act: impl FnOnce(&SimOs) + Send + 'static) {
        let (world, life) = (Arc::downgrade(&self.world), self.life);
        let act = move || {
            if let Some(world) = world.upgrade() {
                act(&SimOs { world, life });
            }
        };
        lock(&self.world).acts.entry(call).or_default().push(Box::new(act));
    }

    /// What was to be done before calls that didn't come is done now, unless a power loss came first.
    pub fn act_out(&self) {
        let acts = std::mem::take(&mut lock(&self.world).acts);
        if self.crashed() == Some(Crash::Power) {
            return;
        }
        acts.into_values().flatten().for_each(|act| act());
    }

    /// The name of each call since [`SimOs::arm`], by number: `calls()[k]` is what call `k` was.
    pub fn calls(&self) -> Vec<&'static str> {
        lock(&self.world).calls.clone()
    }

    /// What the agent read so far.
    pub fn read_bytes(&self) -> u64 {
        lock(&self.world).read_bytes
    }

    /// The last few calls with their paths and outcomes, for the message of a failed test.
    pub fn last_calls(&self) -> Vec<String> {
        lock(&self.world).trace.iter().cloned().collect()
    }

    /// Ends the agent's life here and now.
    pub fn crash(&self, kind: Crash, random: &mut Random) {
        lock(&self.world).die(kind, random);
    }

    /// How the life of this handle ended, if it did.
    pub fn crashed(&self) -> Option<Crash> {
        let world = lock(&self.world);
        if world.life == self.life { world.dead } else { Some(Crash::Process) }
    }

    /// A new life. Handles of the old one stay dead; its descriptors are closed. Nothing is armed.
    #[must_use = "the old handle stays dead"]
    pub fn restart(&self) -> SimOs {
        let mut world = lock(&self.world);
        world.close_agent();
        world.life += 1;
        world.dead = None;
        world.plan = None;
        SimOs { world: Arc::clone(&self.world), life: world.life }
    }

    /// Bytes that files made at or below `under` may occupy together, in whole pages. The deepest such directory counts.
    pub fn set_capacity(&self, under: impl AsRef<Path>, bytes: Option<u64>) {
        set(&mut lock(&self.world).capacities, under.as_ref(), bytes);
    }

    /// Every call on a path at or below `path` fails. `Errno::Access` spares descriptors that are open already.
    pub fn set_failing(&self, path: impl AsRef<Path>, errno: Option<Errno>) {
        set(&mut lock(&self.world).failing, path.as_ref(), errno);
    }

    /// Hides what is below `directory` from the agent, as before its file system is mounted.
    pub fn set_hidden(&self, directory: impl AsRef<Path>, hidden: Option<Hidden>) {
        set(&mut lock(&self.world).hidden, directory.as_ref(), hidden);
    }

    /// How many descriptors the agent may have.
    pub fn set_open_files_max(&self, max: Option<u64>) {
        lock(&self.world).open_files_max = max;
    }

    pub fn open_files(&self) -> u64 {
        lock(&self.world).agent_opens()
    }

    /// Both clocks go on.
    pub fn advance(&self, by: Duration) {
        let mut world = lock(&self.world);
        world.monotonic += by;
        world.wall_ns += by.as_nanos() as i64;
    }

    /// Only the wall clock jumps, either way.
    pub fn step_wall(&self, by_ns: i64) {
        let mut world = lock(&self.world);
        world.wall_ns += by_ns;
        world.coverage.count(if by_ns < 0 { "wall_steps_back" } else { "wall_steps_ahead" });
    }

    pub fn coverage(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.world).coverage.0.clone()
    }

    /// For counters of those who simulate on top of this machine.
    pub fn count(&self, what: &'static str) {
        lock(&self.world).coverage.count(what);
    }
}

fn set<T>(map: &mut BTreeMap<PathBuf, T>, path: &Path, value: Option<T>) {
    match value {
        Some(value) => map.insert(path.to_owned(), value),
        None => map.remove(path),
    };
}
