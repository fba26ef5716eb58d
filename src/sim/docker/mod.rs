//! A container engine that writes json-file logs as each generation of dockerd does, and remembers what it wrote.
//!
//! It shares no code with the agent. Its files are those of a [`SimOs`]; it is never interrupted, so a driver puts its
//! acts between the steps of the agent, or between two calls of one ([`SimOs::act_before`]). Times are given by the
//! caller, as they need not be those of the clock.

mod compress;
mod damage;
mod encode;
mod holders;
mod metadata;
mod rotate;
#[cfg(test)]
mod tests;
mod truth;

pub use encode::{as_read, record, rfc3339, rfc3339_padded};
pub use truth::{Ending, Span, Truth};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::os::{File, NodeKey, SimOs};
use super::random::{Random, hash};
use crate::decode::Stream;
use crate::sys::Os;
use truth::Truths;

/// Docker cuts lines here (moby copier.go).
pub const PIECE_BYTES: usize = 16_384;

/// What an engine does at max-file=1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Up to 19.03: truncates in place. A failed rotation costs the record.
    V19,
    /// 20.10: renames to `.1`, which it never reads. A failed rotation truncates in place.
    V20,
    /// From 23.0: unlinks. A failed rotation truncates in place.
    V23,
}

/// What `docker create` is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// What every record carries.
    pub attrs: BTreeMap<String, String>,
    /// `None`: never rotated.
    pub max_size: Option<u64>,
    pub max_file: u32,
    pub compress: bool,
    pub non_blocking: bool,
    pub tty: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            image: "busybox:latest".to_string(),
            labels: BTreeMap::new(),
            attrs: BTreeMap::new(),
            max_size: None,
            max_file: 1,
            compress: false,
            non_blocking: false,
            tty: false,
        }
    }
}

pub struct SimDocker {
    os: SimOs,
    root: PathBuf,
    kind: EngineKind,
    random: Random,
    containers: BTreeMap<String, Container>,
    /// In the order of creation, removed ones included.
    order: Vec<String>,
}

struct Container {
    name: String,
    options: Options,
    created_ns: i64,
    /// The log exists since then.
    started_ns: Option<i64>,
    life: Life,
    /// `None` while stopped, and after a rotation that failed on an old engine.
    handle: Option<File>,
    writing: Writing,
    /// The engine's own count of the file's bytes: outside truncation doesn't change it.
    counted_bytes: u64,
    generation: u64,
    n_generations: u64,
    /// Whether the file being written has a name.
    named: bool,
    /// Of the last record since the log was opened.
    last_time: Option<String>,
    /// A rotation has left `.1` to be compressed; its last time.
    compressing: Option<String>,
    /// The file ends within a record.
    torn: bool,
    /// Bytes without a newline that the engine holds back, by stream.
    held: BTreeMap<Stream, Vec<u8>>,
    truths: Truths,
    /// Which generations each file has held, the youngest last.
    holders: BTreeMap<NodeKey, holders::Holder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Stopped,
    Running,
    Removed,
}

/// Where the engine's writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// `O_APPEND`, from a container's start to its first rotation.
    AtEnd,
    /// The descriptor's own position, whatever others did to the file.
    At(u64),
}

// Lives of containers.
impl SimDocker {
    /// `root` is the directory `containers`.
    pub fn new(os: &SimOs, root: impl AsRef<Path>, kind: EngineKind, seed: u64) -> SimDocker {
        let root = root.as_ref().to_owned();
        os.engine_mkdir(&root).expect("the root can be made");
        os.settle(&root);
        let (containers, order) = (BTreeMap::new(), Vec::new());
        SimDocker { os: os.clone(), root, kind, random: Random::new(seed), containers, order }
    }

    /// Makes the directory and the metadata; the log comes with the start. Gives the ID.
    pub fn create(&mut self, name: &str, options: Options) -> String {
        let id: String = (0..4).map(|_| format!("{:016x}", self.random.draw())).collect();
        let container = Container {
            name: name.to_string(),
            options,
            created_ns: self.os.wall_ns(),
            started_ns: None,
            life: Life::Stopped,
            handle: None,
            writing: Writing::AtEnd,
            counted_bytes: 0,
            generation: 0,
            n_generations: 0,
            named: false,
            last_time: None,
            compressing: None,
            torn: false,
            held: BTreeMap::new(),
            truths: Truths::default(),
            holders: BTreeMap::new(),
        };
        self.containers.insert(id.clone(), container);
        self.order.push(id.clone());
        self.os.engine_mkdir(self.directory(&id)).expect("the root is there");
        self.write_host_config(&id);
        self.write_config(&id);
        self.write_config(&id);
        // A container that a power loss undoes altogether is no case worth a test.
        self.os.settle(self.directory(&id));
        id
    }

    /// Opens the log first and tells in config.v2.json second, as dockerd does.
    pub fn start(&mut self, id: &str) {
        assert_eq!(self.container(id).life, Life::Stopped, "{id} can't be started");
        let path = self.log_path(id);
        let handle = match self.os.engine_open(&path) {
            Ok(handle) => {
                self.container_mut(id).counted_bytes = self.os.engine_size(&handle);
                let holder = self.container(id).holders.get(&handle.node());
                match holder.and_then(holders::Holder::youngest) {
                    Some(generation) => self.container_mut(id).generation = generation,
                    None => self.begin_generation(id, &handle),
                }
                handle
            }
            Err(_) => {
                let handle = self.os.engine_create(&path).expect("the directory is there");
                self.container_mut(id).counted_bytes = 0;
                self.begin_generation(id, &handle);
                handle
            }
        };
        let now_ns = self.os.wall_ns();
        let container = self.container_mut(id);
        container.handle = Some(handle);
        container.writing = Writing::AtEnd;
        container.named = true;
        container.last_time = None;
        container.life = Life::Running;
        container.started_ns = Some(now_ns);
        self.write_config(id);
    }

    /// What has no newline yet is written without one, at `time_ns` unless its line has a time already.
    pub fn stop(&mut self, id: &str, time_ns: i64) {
        self.assert_running(id);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.container_mut(id).held.remove(&stream).unwrap_or_default();
            let is_written = !rest.is_empty() && self.put_piece(id, stream, &rest, false, time_ns);
            let ending = if is_written { Ending::ShortPiece } else { Ending::Stopped };
            self.container_mut(id).truths.end(stream, ending);
        }
        let container = self.container_mut(id);
        container.truths.stopped();
        container.handle = None;
        container.life = Life::Stopped;
        self.write_config(id);
    }

    /// The same file goes on.
    pub fn restart(&mut self, id: &str, time_ns: i64) {
        self.stop(id, time_ns);
        self.start(id);
    }

    /// `docker rename`.
    pub fn rename(&mut self, id: &str, name: &str) {
        self.container_mut(id).name = name.to_string();
        self.write_config(id);
    }

    /// `docker rm -f`: the log goes before config.v2.json does, both before the directory.
    pub fn rm(&mut self, id: &str, time_ns: i64) {
        if self.is_running(id) {
            self.stop(id, time_ns);
        }
        self.finish_compression(id);
        self.container_mut(id).life = Life::Removed;
        self.write_config(id);
        let before = self.named_holders(id);
        let directory = self.directory(id);
        let config = directory.join("config.v2.json");
        for name in self.os.engine_list(&directory).expect("a container has a directory") {
            let path = directory.join(name);
            if path != config && self.os.engine_list(&path).is_err() {
                self.os.engine_unlink(&path).expect("it was listed");
            }
        }
        self.os.engine_rmdir(&directory).expect("it was listed");
        self.examine_since(id, &before);
    }

    /// As compose v2 does: a new container under a temporary name takes the place of the old one. Gives the new ID.
    pub fn recreate(&mut self, id: &str, time_ns: i64) -> String {
        let (name, options) = (self.container(id).name.clone(), self.container(id).options.clone());
        let new = self.create(&format!("{}_{name}", &id[..12]), options);
        self.rm(id, time_ns);
        self.rename(&new, &name);
        self.start(&new);
        new
    }
}

// What containers write.
impl SimDocker {
    /// One whole line; `text` without its newline.
    pub fn log(&mut self, id: &str, stream: Stream, text: &[u8], time_ns: i64) {
        self.write(id, stream, &[text, b"\n"].concat(), time_ns);
    }

    /// Bytes as the container's process writes them. Cut into lines and pieces; what is neither is held back.
    /// Lines of one call get times 1 ns apart.
    pub fn write(&mut self, id: &str, stream: Stream, bytes: &[u8], time_ns: i64) {
        self.assert_running(id);
        let mut held = self.container_mut(id).held.remove(&stream).unwrap_or_default();
        held.extend_from_slice(bytes);
        let mut start = 0;
        let mut time_ns = time_ns;
        while start < held.len() {
            let rest = &held[start..];
            let window = &rest[..rest.len().min(PIECE_BYTES)];
            let newline = window.iter().position(|byte| *byte == b'\n');
            if let Some(newline) = newline {
                self.put_piece(id, stream, &window[..newline], true, time_ns);
                start += newline + 1;
                time_ns += 1;
            } else if window.len() == PIECE_BYTES {
                self.put_piece(id, stream, window, false, time_ns);
                start += PIECE_BYTES;
            } else {
                break;
            }
        }
        held.drain(..start);
        self.container_mut(id).held.insert(stream, held);
    }

    /// `mode=non-blocking`: the ring was full, and the rest of the stream's line is lost.
    pub fn drop_rest(&mut self, id: &str, stream: Stream) {
        let container = self.container_mut(id);
        container.held.remove(&stream);
        if container.truths.abandon(stream) {
            self.os.count("chains_abandoned");
        }
    }

    /// Writes one record; `raw` without its newline. All pieces of a line carry the time of the first. False if it was dropped.
    fn put_piece(&mut self, id: &str, stream: Stream, raw: &[u8], ended: bool, time_ns: i64) -> bool {
        let container = self.container(id);
        let open_time_ns = container.truths.open_time(stream);
        let time_ns = open_time_ns.unwrap_or(time_ns);
        let text = if ended { [raw, b"\n"].concat() } else { raw.to_vec() };
        let line = record(&text, stream.name(), &container.options.attrs, &rfc3339(time_ns));
        let generation = container.generation;
        let Some(span) = self.put(id, &line, time_ns) else {
            if ended {
                self.container_mut(id).truths.abandon(stream);
            }
            return false;
        };
        if open_time_ns.is_some() && span.generation != generation {
            self.os.count("chains_across_rotation");
        }
        let truths = &mut self.container_mut(id).truths;
        truths.piece(stream, time_ns, raw, span);
        if ended {
            truths.end(stream, Ending::Newline);
        }
        true
    }

    /// One write to the log, after a rotation if one is due. `None` if an old engine dropped the record.
    fn put(&mut self, id: &str, bytes: &[u8], time_ns: i64) -> Option<Span> {
        let container = self.container(id);
        let is_due = container.options.max_size.is_some_and(|max| container.counted_bytes >= max);
        if is_due && !self.rotate(id) {
            return None;
        }
        let (os, now_ns) = (self.os.clone(), self.os.wall_ns());
        let container = self.container_mut(id);
        let handle = container.handle.as_ref().expect("a running container has its log open");
        let start = match container.writing {
            Writing::AtEnd => os.engine_size(handle),
            Writing::At(position) => position,
        };
        if start > os.engine_size(handle) {
            os.count("sparse_logs");
        }
        if std::mem::take(&mut container.torn) {
            os.count("records_glued");
        }
        os.engine_write(handle, start, bytes);
        let end = start + bytes.len() as u64;
        if let Writing::At(position) = &mut container.writing {
            *position = end;
        }
        container.counted_bytes += bytes.len() as u64;
        container.last_time = Some(rfc3339(time_ns));
        let destroyed_ns = (!container.named).then_some(now_ns);
        Some(Span { generation: container.generation, start, end, hash: hash(bytes), destroyed_ns, came_back: false })
    }
}

// What the driver and the oracle ask.
impl SimDocker {
    /// In the order of creation, removed ones included.
    pub fn ids(&self) -> Vec<String> {
        self.order.clone()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    pub fn log_path(&self, id: &str) -> PathBuf {
        self.directory(id).join(format!("{id}-json.log"))
    }

    pub fn name(&self, id: &str) -> &str {
        &self.container(id).name
    }

    pub fn is_running(&self, id: &str) -> bool {
        self.container(id).life == Life::Running
    }

    pub fn is_removed(&self, id: &str) -> bool {
        self.container(id).life == Life::Removed
    }

    /// The generation that is being written.
    pub fn generation(&self, id: &str) -> u64 {
        self.container(id).generation
    }

    /// Every message, in the order of its first record; torn and unfinished ones too.
    pub fn messages(&self, id: &str) -> &[Truth] {
        &self.container(id).truths.messages
    }

    /// The complete messages, in the order in which they became complete.
    pub fn completed(&self, id: &str) -> impl Iterator<Item = &Truth> {
        let truths = &self.container(id).truths;
        truths.completed.iter().map(|ix| &truths.messages[*ix])
    }

    /// What `{time} {text}` makes of the complete messages, whether their source is still there or not.
    pub fn expected_lines(&self, id: &str) -> Vec<Vec<u8>> {
        self.completed(id).map(Truth::line).collect()
    }

    /// Of these, the ones that a reader who comes now can still find.
    pub fn readable_lines(&self, id: &str) -> Vec<Vec<u8>> {
        self.completed(id).filter(|truth| truth.is_readable()).map(Truth::line).collect()
    }

    fn container(&self, id: &str) -> &Container {
        self.containers.get(id).unwrap_or_else(|| panic!("no container {id}"))
    }

    fn container_mut(&mut self, id: &str) -> &mut Container {
        self.containers.get_mut(id).unwrap_or_else(|| panic!("no container {id}"))
    }

    fn assert_running(&self, id: &str) {
        assert!(self.is_running(id), "{id} isn't running");
    }
}
