//! A machine in memory that implements [`Os`]: files, directories, clocks, and every way they fail.
//!
//! The agent calls it through the trait; those calls are numbered and can be made to fail. The simulated engine and the
//! tests use the inherent methods, which always work. A handle belongs to one life of the agent: after [`SimOs::restart`]
//! the old ones stay dead, so that a thread left over from before a crash changes nothing.

mod content;
mod disk;
mod driver;
mod engine;
mod faults;
mod power;
#[cfg(test)]
mod tests;

pub use content::PAGE_BYTES;
pub use disk::NodeKey;
pub use faults::{Crash, Errno, Fault, FaultPlan, Hidden, When};

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::random::Random;
use crate::sys::{Create, FileId, Kind, Os, Space, Stat};
use disk::{Body, Disk, not_found, shuffled};

/// How long a machine has been up when the agent is started.
const BOOT_TIME: Duration = Duration::from_secs(30);
/// The size of a file system without a set capacity.
const UNLIMITED_BYTES: u64 = 1 << 40;
/// Calls that [`SimOs::last_calls`] remembers.
const TRACE_MAX: usize = 64;

/// How often each rare thing happened.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

#[derive(Clone)]
pub struct SimOs {
    world: Arc<Mutex<World>>,
    /// The life of the agent that may use the trait through this handle.
    life: u64,
}

/// A descriptor. The inode lives until the last clone is dropped, or the life it was opened in ends.
#[derive(Clone)]
pub struct File(Arc<Descriptor>);

impl File {
    pub fn node(&self) -> NodeKey {
        self.0.node
    }
}

struct Descriptor {
    world: Arc<Mutex<World>>,
    node: NodeKey,
    /// Where it was opened: what persistent failures look at.
    path: PathBuf,
    owner: Owner,
}

/// Whose descriptor, and until when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Agent { life: u64 },
    Engine { boot: u64 },
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        if !world.is_valid(self.owner) {
            return;
        }
        let node = world.disk.node_mut(self.node);
        match self.owner {
            Owner::Agent { .. } => node.agent_opens -= 1,
            Owner::Engine { .. } => node.engine_opens -= 1,
        }
        world.disk.release(self.node);
    }
}

type Act = Box<dyn FnOnce() + Send>;

struct World {
    disk: Disk,
    random: Random,
    life: u64,
    boot: u64,
    /// How the present life ended.
    dead: Option<Crash>,
    monotonic: Duration,
    wall_ns: i64,
    /// `None`: calls are neither counted nor failed.
    plan: Option<FaultPlan>,
    /// The name of each call since the plan was armed; its index is its number.
    calls: Vec<&'static str>,
    read_bytes: u64,
    /// What others do before a call, by its number, in their order.
    acts: BTreeMap<u64, Vec<Act>>,
    trace: VecDeque<String>,
    capacities: BTreeMap<PathBuf, u64>,
    failing: BTreeMap<PathBuf, Errno>,
    hidden: BTreeMap<PathBuf, Hidden>,
    open_files_max: Option<u64>,
    coverage: Coverage,
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // A test that failed elsewhere is no reason to fail in a destructor.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn crashed() -> io::Error {
    io::Error::other("crashed")
}

impl World {
    fn is_valid(&self, owner: Owner) -> bool {
        match owner {
            Owner::Agent { life } => life == self.life && self.dead.is_none(),
            Owner::Engine { boot } => boot == self.boot,
        }
    }

    fn die(&mut self, kind: Crash, random: &mut Random) {
        self.coverage.count(match kind {
            Crash::Process => "process_crashes",
            Crash::Power => "power_losses",
        });
        self.dead = Some(kind);
        self.close_agent();
        if kind == Crash::Power {
            self.boot += 1;
            self.monotonic = BOOT_TIME;
            power::lose(&mut self.disk, random, &mut self.coverage);
        }
    }

    fn close_agent(&mut self) {
        let opened: Vec<NodeKey> =
            self.disk.nodes.iter().filter(|(_, node)| node.agent_opens > 0).map(|(key, _)| *key).collect();
        for key in opened {
            self.disk.node_mut(key).agent_opens = 0;
            self.disk.release(key);
        }
    }

    fn agent_opens(&self) -> u64 {
        self.disk.nodes.values().map(|node| node.agent_opens).sum()
    }

    fn fail(&mut self, errno: Errno) -> io::Error {
        self.coverage.count(errno.counter());
        errno.error()
    }

    /// What stands in the way of any call on `path`.
    fn admit(&mut self, path: &Path, is_open: bool) -> io::Result<()> {
        let failing = self.failing.iter().find(|(failing, _)| path.starts_with(failing)).map(|(_, errno)| *errno);
        if let Some(errno) = failing.filter(|errno| !is_open || *errno != Errno::Access) {
            return Err(self.fail(errno));
        }
        if is_open {
            return Ok(());
        }
        for (root, hidden) in &self.hidden {
            if path.starts_with(root) && (path != root || *hidden == Hidden::Missing) {
                self.coverage.count("hidden_paths");
                return Err(not_found());
            }
        }
        Ok(())
    }

    fn is_empty_mount_point(&mut self, path: &Path) -> bool {
        let found = self.hidden.get(path) == Some(&Hidden::Empty);
        if found {
            self.coverage.count("empty_roots");
        }
        found
    }

    fn opened(&mut self, key: NodeKey) -> io::Result<NodeKey> {
        if self.open_files_max.is_some_and(|max| self.agent_opens() >= max) {
            return Err(self.fail(Errno::TooManyFiles));
        }
        match &self.disk.node(key).body {
            Body::File { .. } => {}
            Body::Directory { .. } | Body::Special => return Err(io::ErrorKind::InvalidInput.into()),
        }
        self.disk.node_mut(key).agent_opens += 1;
        Ok(key)
    }

    fn stat(&self, key: NodeKey) -> Stat {
        let node = self.disk.node(key);
        let (kind, size, disk_bytes) = match &node.body {
            Body::File { written, .. } => (Kind::File, written.size(), written.allocated_bytes()),
            Body::Directory { .. } => (Kind::Directory, PAGE_BYTES, PAGE_BYTES),
            Body::Special => (Kind::Other, 0, 0),
        };
        let id = FileId { device: 1, inode: node.number };
        Stat { id, kind, size, disk_bytes, modified_ns: node.modified_ns, links: node.links }
    }

    /// Free and total bytes where files made at `born` are counted.
    fn space(&self, born: &Path) -> Space {
        let governing = |path: &Path| {
            let found = self.capacities.iter().filter(|(under, _)| path.starts_with(under));
            found.max_by_key(|(under, _)| under.components().count()).map(|(under, bytes)| (under.clone(), *bytes))
        };
        let volume = governing(born);
        let total = volume.as_ref().map_or(UNLIMITED_BYTES, |(_, bytes)| *bytes);
        let mut used = 0;
        for node in self.disk.nodes.values().filter(|node| node.number != 0) {
            if let Body::File { written, .. } = &node.body
                && governing(&node.born) == volume
            {
                used += written.allocated_bytes();
            }
        }
        Space { free: total.saturating_sub(used), total }
    }

    fn write(&mut self, key: NodeKey, offset: u64, bytes: &[u8], limit: Option<usize>) -> io::Result<usize> {
        let mut n_bytes = bytes.len().min(limit.unwrap_or(usize::MAX).max(1));
        if n_bytes < bytes.len() {
            self.coverage.count("short_writes");
        }
        if !self.capacities.is_empty() {
            let free_pages = self.space(&self.disk.node(key).born).free / PAGE_BYTES;
            let fitting = self.disk.content(key)?.fitting(offset, n_bytes, free_pages);
            if fitting == 0 && n_bytes > 0 {
                return Err(self.fail(Errno::NoSpace));
            }
            if fitting < n_bytes {
                self.coverage.count("short_writes");
                n_bytes = fitting;
            }
        }
        self.disk.write(key, offset, &bytes[..n_bytes], self.wall_ns, &mut self.coverage);
        Ok(n_bytes)
    }

    /// What others do before the next call.
    fn acts_due(&mut self) -> Vec<Act> {
        let next = self.plan.as_ref().filter(|_| self.dead.is_none()).map(|_| self.calls.len() as u64);
        next.and_then(|next| self.acts.remove(&next)).unwrap_or_default()
    }

    /// Numbers a call; `Err` when it must not happen.
    fn number(&mut self, what: &'static str) -> io::Result<Option<Fault>> {
        let Some(plan) = &self.plan else { return Ok(None) };
        let fault = plan.get(self.calls.len() as u64);
        self.calls.push(what);
        match fault {
            Some(Fault::Crash(kind, When::Before)) => {
                self.die_as_planned(kind);
                Err(crashed())
            }
            Some(Fault::Errno(errno)) => Err(self.fail(errno)),
            other => Ok(other),
        }
    }

    fn die_as_planned(&mut self, kind: Crash) {
        let mut random = self.random.fork();
        self.die(kind, &mut random);
    }

    fn remember(&mut self, what: &str, path: &Path, outcome: Option<&io::Error>) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let number = self.calls.len().saturating_sub(1);
        let outcome = outcome.map_or("ok".to_string(), |error| format!("{:?}", error.kind()));
        self.trace.push_back(format!("call {number}: {what} {} -> {outcome}", path.display()));
    }
}

// How the trait's calls get at the world.
impl SimOs {
    /// Runs one call of the agent: counted, failed as planned, or refused because the agent is dead.
    fn call<T>(
        &self,
        what: &'static str,
        path: &Path,
        file: Option<&File>,
        act: impl FnOnce(&mut World, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let acts = lock(&self.world).acts_due();
        if !acts.is_empty() {
            acts.into_iter().for_each(|act| act());
            let mut world = lock(&self.world);
            world.coverage.count("calls_overtaken");
            world.remember("others act before", path, None);
        }
        let mut world = lock(&self.world);
        let world = &mut *world;
        if world.life != self.life || world.dead.is_some() {
            return Err(crashed());
        }
        if let Some(file) = file {
            assert!(world.is_valid(file.0.owner), "a descriptor of {} outlived its process", path.display());
        }
        let outcome = world.number(what).and_then(|fault| {
            world.admit(path, file.is_some())?;
            let outcome = act(world, fault)?;
            match fault {
                Some(Fault::Crash(kind, When::After)) => {
                    world.die_as_planned(kind);
                    Err(crashed())
                }
                _ => Ok(outcome),
            }
        });
        world.remember(what, path, outcome.as_ref().err());
        outcome
    }

    fn call_file<T>(
        &self,
        what: &'static str,
        file: &File,
        act: impl FnOnce(&mut World, NodeKey, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(what, &file.0.path, Some(file), |world, fault| act(world, file.0.node, fault))
    }

    /// Outside the lock, which a descriptor takes when it is dropped.
    fn descriptor(&self, node: NodeKey, path: &Path, owner: Owner) -> File {
        File(Arc::new(Descriptor { world: Arc::clone(&self.world), node, path: path.to_owned(), owner }))
    }
}

impl Os for SimOs {
    type File = File;

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.call("list", directory, None, |world, _| {
            if world.is_empty_mount_point(directory) {
                return Ok(Vec::new());
            }
            let key = world.disk.find(directory)?;
            Ok(shuffled(world.disk.names(key)?.keys()))
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call("stat", path, None, |world, _| {
            if world.is_empty_mount_point(path) {
                let id = FileId { device: 2, inode: 2 };
                let size = PAGE_BYTES;
                return Ok(Stat { id, kind: Kind::Directory, size, disk_bytes: size, modified_ns: 0, links: 2 });
            }
            world.disk.find(path).map(|key| world.stat(key))
        })
    }

    fn stat_open(&self, file: &File) -> io::Result<Stat> {
        self.call_file("stat_open", file, |world, key, _| Ok(world.stat(key)))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let opened = self.call("open", path, None, |world, _| {
            let key = world.disk.find(path)?;
            world.opened(key)
        });
        Ok(self.descriptor(opened?, path, Owner::Agent { life: self.life }))
    }

    fn read_at(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.call_file("read_at", file, |world, key, fault| {
            let content = world.disk.content(key)?;
            let Some(Fault::ShortRead(limit)) = fault else {
                let n_bytes = content.read(offset, buffer);
                world.read_bytes += n_bytes as u64;
                return Ok(n_bytes);
            };
            let n_bytes = content.read(offset, &mut buffer[..]).min(limit);
            world.coverage.count("short_reads");
            Ok(n_bytes)
        })
    }

    fn data_at(&self, file: &File, offset: u64) -> io::Result<u64> {
        self.call_file("data_at", file, |world, key, _| Ok(world.disk.content(key)?.data_at(offset)))
    }

    fn forget(&self, _file: &File, _start: u64, _end: u64) {}

    fn create_directories(&self, directory: &Path) -> io::Result<()> {
        self.call("create_directories", directory, None, |world, _| {
            world.disk.create_directories(directory, world.wall_ns, &mut world.coverage)
        })
    }

    fn open_output(&self, path: &Path, _mode: u32, create: Create) -> io::Result<File> {
        let opened = self.call("open_output", path, None, |world, _| {
            let place = world.disk.place(path)?;
            match (world.disk.occupant(&place), create) {
                (Some(_), Create::New) => Err(io::ErrorKind::AlreadyExists.into()),
                (Some(key), Create::IfMissing | Create::Never) => world.opened(key),
                (None, Create::Never) => Err(not_found()),
                (None, Create::IfMissing | Create::New) => {
                    if world.open_files_max.is_some_and(|max| world.agent_opens() >= max) {
                        return Err(world.fail(Errno::TooManyFiles));
                    }
                    let key = world.disk.create(path, Body::file(), world.wall_ns, &mut world.coverage)?;
                    world.opened(key)
                }
            }
        });
        Ok(self.descriptor(opened?, path, Owner::Agent { life: self.life }))
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.call_file("write_at", file, |world, key, fault| {
            let limit = match fault {
                Some(Fault::ShortWrite(limit)) => Some(limit),
                _ => None,
            };
            world.write(key, offset, bytes, limit)
        })
    }

    fn truncate(&self, file: &File, size: u64) -> io::Result<()> {
        self.call_file("truncate", file, |world, key, _| {
            world.disk.truncate(key, size, world.wall_ns);
            Ok(())
        })
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call_file("sync", file, |world, key, _| {
            world.disk.sync(key);
            Ok(())
        })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.call("sync_directory", directory, None, |world, _| {
            let key = world.disk.find(directory)?;
            world.disk.sync_directory(key)
        })
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename_new", from, None, |world, _| {
            world.admit(to, false)?;
            let place = world.disk.place(to)?;
            world.disk.find(from)?;
            if world.disk.occupant(&place).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            world.disk.rename(from, to, world.wall_ns)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, None, |world, _| {
            let key = world.disk.find(path)?;
            if world.disk.names(key).is_ok() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            world.disk.remove(path, world.wall_ns)
        })
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.call("space", path, None, |world, _| {
            world.disk.find(path)?;
            Ok(world.space(path))
        })
    }

    fn monotonic(&self) -> Duration {
        lock(&self.world).monotonic
    }

    fn wall_ns(&self) -> i64 {
        lock(&self.world).wall_ns
    }

    fn boot_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", lock(&self.world).boot)
    }
}
