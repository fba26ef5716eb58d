//! Which containers there are: the root's listing, each one's metadata, and what became of those that left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::container::{Container, Facts};
use crate::agent::gauges::Counted;
use crate::agent::pace::Pace;
use crate::agent::rest::{CONFIG, HOST_CONFIG, Signature};
use crate::agent::schedule::Activity;
use crate::agent::{Agent, Mode, Slot};
use crate::checkpoint::commit::Committer;
use crate::config::limits::{
    CONFIG_BYTES_MAX, NAME_PATIENCE, ROOT_PERIOD, ROW_ABSENT_MAX, SWEEP_PERIOD, UNWATCHED_PERIOD,
};
use crate::config::treatment::Treatment;
use crate::discover::listing::{ContainerId, is_among, listed_ids, log_file_name};
use crate::discover::{ContainerConfig, LogOptions, Needed};
use crate::format::Metadata;
use crate::sink::tidy::Tidier;
use crate::sys::watch::Watcher;
use crate::sys::{Kind, Os};

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Lists the root when its mtime moved, when somebody hinted at it, and every sweep.
    pub(super) fn look_at_root(&mut self, now: Duration) {
        let overdue = now >= self.root_looked_at + ROOT_PERIOD;
        let asked = self.root_modified.is_none() && self.first_listing_seen;
        if self.first_listing_seen && !overdue && !asked {
            return;
        }
        self.root_looked_at = now;
        let root = self.config.places.containers_dir.clone();
        // Through a link if the whole root is one.
        let modified = match self.os.stat(&root.join(".")) {
            Ok(stat) => stat.modified_ns,
            Err(error) => return self.root_unreadable(error, now),
        };
        let due = self.root_modified != Some(modified)
            || now >= self.root_listed_at + SWEEP_PERIOD
            || !self.awaited.is_empty()
            || self.owes_absent;
        if !due && self.first_listing_seen {
            return;
        }
        if !self.root_watched && self.mode == Mode::Run {
            self.root_watched = self.watcher.watch_root(&root).is_ok();
        }
        match listed_ids(&self.os, &root) {
            Err(error) => self.root_unreadable(error, now),
            Ok(ids) => {
                self.root_modified = Some(modified);
                self.root_listed_at = now;
                if std::mem::take(&mut self.root_missing) {
                    tracing::info!(containers_dir = %root.display(), "the containers-dir is there");
                    self.health.clear("containers-dir");
                }
                self.listed(&root, &ids, now);
            }
        }
    }

    fn root_unreadable(&mut self, error: io::Error, now: Duration) {
        self.root_watched = false;
        self.root_modified = Some(0);
        let root = self.config.places.containers_dir.display().to_string();
        if !self.root_missing {
            self.root_missing = true;
            tracing::warn!(containers_dir = %root, %error, "cannot list the containers-dir; waiting for it");
            self.health.set("containers-dir", format!("cannot list {root}: {error}"));
        }
        self.root_listed_at = now;
    }

    /// `ids` are in order.
    fn listed(&mut self, root: &Path, ids: &[ContainerId], now: Duration) {
        let first = !self.first_listing_seen;
        for id in ids {
            if self.by_id.contains_key(id) {
                continue;
            }
            let id = &id.to_string();
            let directory = root.join(id);
            match self.os.stat(&directory) {
                Ok(stat) if stat.kind == Kind::Directory => self.admit(id, directory, first, now),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    self.root_modified = None; // Who can't be looked at now is not forgotten until the next sweep.
                    self.note_unread(id, first);
                }
            }
        }
        self.awaited.retain(|id, _| is_among(ids, id));
        let came_or_went = |(id, ix): (&ContainerId, &usize)| {
            let removed = ids.binary_search(id).is_err();
            (removed != self.removed.contains(ix)).then_some((*ix, removed))
        };
        let mut changed: Vec<(usize, bool)> = self.by_id.iter().filter_map(came_or_went).collect();
        changed.sort_unstable();
        for (ix, removed) in changed {
            if removed {
                self.removed.insert(ix)
            } else {
                self.removed.remove(&ix)
            };
            if let Some(slot) = self.slots.get_mut(&ix) {
                slot.container.removed = removed;
            }
            self.reschedule(ix, now);
        }
        self.first_listing_seen = true;
        self.settle_absent();
        if !ids.is_empty() {
            self.note_absent(ids);
        }
    }

    /// Rows whose container no listing has shown for days are dropped. A late mount is no removal: only listings that
    /// show containers count.
    fn note_absent(&mut self, ids: &[ContainerId]) {
        let now_ns = self.os.wall_ns();
        let mut changed = Vec::new();
        for (id, stored) in &mut self.stored {
            let Some(row) = &mut stored.row else {
                continue;
            };
            match (is_among(ids, id), row.absent_since_ns) {
                (true, Some(_)) => row.absent_since_ns = None,
                (false, None) => row.absent_since_ns = Some(now_ns),
                (false, Some(since)) if now_ns - since > ROW_ABSENT_MAX.as_nanos() as i64 => {}
                _ => continue,
            }
            changed.push(id.clone());
        }
        self.absent.extend(changed);
    }

    fn admit(&mut self, id: &str, directory: PathBuf, first: bool, now: Duration) {
        let Some(key) = ContainerId::parse(id) else {
            return;
        };
        if self.share.as_ref().is_some_and(|share| share.is_others(id)) {
            return;
        }
        let ix = self.next_slot;
        let read = self.read_facts(id, &directory, now);
        if read.facts.is_none() && read.wait {
            if read.unreadable {
                self.note_unread(id, first);
            }
            self.await_files(id, now); // Made just now: its files are on their way.
            return;
        }
        self.awaited.remove(id);
        let facts = read.facts.unwrap_or_else(|| nameless(id, &self.config.hostname));
        let route = self.config.path_template.route(&facts.metadata);
        if self.share.as_ref().is_some_and(|share| !share.takes(id, &route)) {
            return;
        }
        let treatment = self.treatment(&facts.metadata, now);
        let shape = self.shapes.share(treatment.shape(&facts.metadata, self.config.window.since_ns));
        let selected = self.config.selection.selects(&facts.metadata);
        let mut container = Container::new(id, directory, facts, route, shape, self.config.window.until_ns);
        container.removed = false;
        self.next_slot += 1;
        self.by_id.insert(key, ix);
        self.slots.insert(
            ix,
            Box::new(Slot {
                container,
                activity: Activity::new(now),
                signature: read.signature,
                facts_at: now,
                selected,
                unsettled: false,
                leaves_after: 0,
                treatment,
                first: first && !self.first_listing_stored || self.first_unread.remove(id),
                n_failures: 0,
                retry_at: Duration::ZERO,
                trouble: None,
                last_error: None,
                losses: Vec::new(),
                losses_in_flight: Vec::new(),
                leaving: false,
                pace: Pace::new(now),
                counted: Counted::default(),
                quiet_since_stop: false,
            }),
        );
        self.timetable.set(ix, now);
        self.hot.insert(ix);
        let route = self.slots[&ix].container.route.clone();
        self.share_route(ix, &route);
    }

    /// It was there when the state was made, even though it is admitted later.
    fn note_unread(&mut self, id: &str, first: bool) {
        if first && !self.first_listing_stored {
            self.first_unread.insert(id.to_owned());
        }
    }

    /// A directory without files: looked at as often as a hot log at first, then once a second.
    fn await_files(&mut self, id: &str, now: Duration) {
        let since = *self.awaited.entry(id.to_owned()).or_insert(now);
        if now < since + UNWATCHED_PERIOD {
            self.root_modified = None;
        }
    }

    /// How the container is treated. Labels that are no good are named once, and left aside.
    pub(super) fn treatment(&mut self, metadata: &Metadata, now: Duration) -> Arc<Treatment> {
        let (treatment, bad) = self.config.treatment(metadata);
        if !bad.is_empty() && self.said.say("label", &metadata.id, now).is_some() {
            tracing::warn!(container = %metadata.name, labels = %bad.join("; "), "labels that can't be used are ignored");
        }
        match &self.treated {
            Some(treated) if **treated == treatment => treated.clone(),
            _ => self.treated.insert(Arc::new(treatment)).clone(),
        }
    }

    /// Reads the metadata again when its file changed, was hinted at, or wasn't looked at for a while.
    pub(super) fn refresh_facts(&mut self, ix: usize, now: Duration) {
        let Some(slot) = self.slots.get(&ix) else {
            return;
        };
        if slot.container.removed {
            if slot.unsettled {
                let facts = slot.container.facts.clone();
                self.settle_facts(ix, facts, now);
            }
            return;
        }
        if now < slot.facts_at + UNWATCHED_PERIOD && !slot.unsettled {
            return;
        }
        let directory = slot.container.lineage.directory().to_owned();
        let id = slot.container.id.clone();
        let signature = Signature::of(&self.os, &directory);
        let same = signature == slot.signature && !slot.unsettled;
        let read = if same { None } else { Some(self.read_facts(&id, &directory, now)) };
        let slot = self.slots.get_mut(&ix).expect("looked up above");
        slot.facts_at = now;
        let Some(read) = read else {
            return;
        };
        slot.signature = read.signature;
        let facts = match read.facts {
            Some(facts) if facts != slot.container.facts || slot.unsettled => facts,
            None if slot.unsettled => slot.container.facts.clone(),
            _ => return,
        };
        self.settle_facts(ix, facts, now);
    }

    fn read_facts(&mut self, id: &str, directory: &Path, now: Duration) -> ReadFacts {
        let signature = Signature::of(&self.os, directory);
        let (facts, named) = read_facts(&self.os, &self.config.hostname, &self.config.needed, id, directory);
        match named {
            Named::Yes => ReadFacts { facts: Some(facts), wait: false, unreadable: false, signature },
            Named::NotYet => ReadFacts { facts: None, wait: self.mode == Mode::Run, unreadable: false, signature },
            Named::Later(error) => {
                if self.said.say("config", id, now).is_some() {
                    tracing::warn!(container = %&id[..12], %error, "cannot read config.v2.json now; its lines wait for its name");
                }
                ReadFacts { facts: None, wait: true, unreadable: true, signature: Signature::UNREAD }
            }
            // Whoever writes it may not write it at one stroke, and a refusal may be one of the moment.
            Named::No { .. } if self.slot_of(id).is_none() && !self.waited_for_name(id, now) => {
                ReadFacts { facts: None, wait: true, unreadable: true, signature: Signature::UNREAD }
            }
            Named::No { error, unread } => {
                if self.said.say("config", id, now).is_some() {
                    tracing::warn!(container = %&id[..12], %error, "cannot read config.v2.json: the short id is its name");
                }
                // What couldn't be read is read again, also when it doesn't change.
                let signature = if unread { Signature::UNREAD } else { signature };
                ReadFacts { facts: None, wait: false, unreadable: true, signature }
            }
        }
    }

    fn waited_for_name(&self, id: &str, now: Duration) -> bool {
        self.awaited.get(id).is_some_and(|since| now >= *since + NAME_PATIENCE)
    }

    /// Forgets a container that is gone and of which everything is in its output and in the store.
    pub(super) fn leave_if_finished(&mut self, ix: usize) {
        let Some(slot) = self.slots.get_mut(&ix) else {
            return;
        };
        let container = &slot.container;
        let never_opened = !container.is_open() && container.removed && container.lineage.is_empty();
        if never_opened && !self.stored.contains_key(&container.id) {
            self.forget(ix);
        } else if container.is_finished() && container.is_committed() && !slot.leaving {
            slot.leaving = true;
            self.wanting.insert(ix);
        }
    }

    pub(super) fn forget(&mut self, ix: usize) {
        let Some(slot) = self.slots.remove(&ix) else {
            return;
        };
        self.timetable.remove(ix);
        self.at_rest.remove(&ix);
        self.removed.remove(&ix);
        self.hot.remove(&ix);
        self.wanting.remove(&ix);
        self.busy.forget(ix, slot.counted);
        if let Some(key) = ContainerId::parse(&slot.container.id) {
            self.by_id.remove(&key);
        }
        self.said.forget(&slot.container.id);
        self.watcher.unwatch(slot.container.lineage.directory());
        self.leave_route(ix, &slot.container);
        self.counters.containers.set(self.slots.len() as i64);
    }
}

/// Whether a container's own files told its name.
pub(crate) enum Named {
    Yes,
    /// Its directory is there before its files: without a log there is nothing to name yet.
    NotYet,
    /// The machine is short of something, or the disk failed: trying again may tell.
    Later(String),
    /// Why not.
    No {
        error: String,
        unread: bool,
    },
}

/// Reads config.v2.json and hostconfig.json. Without a name the short id takes its place.
pub(crate) fn read_facts<O: Os>(os: &O, hostname: &str, needed: &Needed, id: &str, directory: &Path) -> (Facts, Named) {
    let config = match read_whole(os, &directory.join(CONFIG)) {
        Ok(bytes) => ContainerConfig::parse(id, hostname, needed, &bytes).map_err(|error| (error.to_string(), false)),
        Err(error) => {
            let has_log = os.stat(&directory.join(log_file_name(id))).is_ok();
            if error.kind() == io::ErrorKind::NotFound && !has_log {
                return (nameless(id, hostname), Named::NotYet);
            }
            if may_pass(&error) {
                return (nameless(id, hostname), Named::Later(error.to_string()));
            }
            Err((error.to_string(), true))
        }
    };
    let options =
        read_whole(os, &directory.join(HOST_CONFIG)).map(|bytes| LogOptions::parse(&bytes).unwrap_or_default());
    match config {
        Ok(config) => {
            let facts = Facts {
                running: config.state.is_running(),
                state: config.state.name(),
                created_ns: config.created_ns().unwrap_or(0),
                metadata: config.metadata,
                non_blocking: options.unwrap_or_default().non_blocking,
            };
            (facts, Named::Yes)
        }
        Err((error, unread)) => (nameless(id, hostname), Named::No { error, unread }),
    }
}

/// Whether the same read may go well a little later.
fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::STALE];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

struct ReadFacts {
    facts: Option<Facts>,
    /// The container is only being made, or can't be read now.
    wait: bool,
    unreadable: bool,
    signature: Signature,
}

pub(crate) fn nameless(id: &str, hostname: &str) -> Facts {
    let name = id[..12].to_owned();
    let metadata = Metadata { name, id: id.to_owned(), hostname: hostname.to_owned(), ..Metadata::default() };
    Facts { metadata, state: "unknown", ..Facts::default() }
}

/// At most `CONFIG_BYTES_MAX` and one more, by which the parser knows that there is too much.
fn read_whole<O: Os>(os: &O, path: &Path) -> io::Result<Vec<u8>> {
    let file = os.open(path)?;
    let size = os.stat_open(&file)?.size.min(CONFIG_BYTES_MAX as u64 + 1) as usize;
    let mut bytes = vec![0; size];
    // A read that ends early once is taken up again: the file itself is never cut.
    let mut read = 0;
    while read < size {
        match os.read_at(&file, read as u64, &mut bytes[read..])? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does")),
            more => read += more,
        }
    }
    Ok(bytes)
}
