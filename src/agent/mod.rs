//! The loop that drives it all: look, read, render, append, commit. One thread, no waiting inside a step.
//! Correct without any hint: they only shorten the wait.

pub mod container;
pub mod control;
pub mod inbox;
pub mod opening;
pub mod progress;
pub mod run;
pub mod schedule;

pub(crate) mod commits;
mod ending;
mod gauges;
mod held;
mod pace;
mod reload;
mod rest;
pub(crate) mod roster;
mod routes;
mod share;
pub mod status;
mod telling;
pub mod threads;
mod timetable;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::agent::container::{Container, Trouble, Turn, Went};
use crate::agent::inbox::Hints;
use crate::agent::schedule::{Activity, WatchChange};
use crate::batch::Batch;
use crate::checkpoint::commit::Committer;
use crate::checkpoint::store::Store;
use crate::checkpoint::{Shapes, codec};
use crate::config::Config;
use crate::config::limits::{
    COMMIT_PERIOD, POLL_MAX, ROOT_PERIOD, SWEEP_PERIOD, TIDY_PERIOD, TIDY_PERIOD_QUIET, UNWATCHED_PERIOD,
};
use crate::config::treatment::Treatment;
use crate::discover::listing::ContainerId;
use crate::loss::{Ledger, Loss};
use crate::pipe::Tally;
use crate::sink::journal::Journal;
use crate::sink::tidy::{Chore, Retention, Tidier};
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::telemetry::said::Said;
use crate::telemetry::{Counters, Health, RecoveryReason};

use self::gauges::{Busy, Counted};
use self::pace::Pace;
use self::rest::{AtRest, Signature};
use self::routes::Route;
pub use self::share::Share;
use self::timetable::Timetable;

/// A backfill gives up on what failed so often in a row.
const BACKFILL_TRIES: u32 = 6;

/// Follow for ever, or read what is there and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Run,
    Backfill,
}

/// What the state store held when it was opened.
#[derive(Clone)]
pub struct Remembered {
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The store was made anew: rows may be missing that once were there.
    pub fresh: bool,
    pub journal: Journal,
}

/// A container and what the loop knows about looking at it.
struct Slot<O: Os> {
    container: Container<O>,
    activity: Activity,
    /// config.v2.json and hostconfig.json as they were last read.
    signature: Signature,
    facts_at: Duration,
    /// Flags, sections and labels want it.
    selected: bool,
    /// The settings changed since its files were read.
    unsettled: bool,
    /// Bytes of its log that are still delivered although it isn't selected any more.
    leaves_after: u64,
    treatment: Arc<Treatment>,
    /// It was there when the state was first made.
    first: bool,
    n_failures: u32,
    /// What failed is not tried again before.
    retry_at: Duration,
    /// What it failed with, until that heals.
    trouble: Option<Trouble>,
    /// What it failed with last, and when.
    last_error: Option<(String, Duration)>,
    losses: Vec<Loss>,
    losses_in_flight: Vec<Loss>,
    /// Its row is on its way out of the store.
    leaving: bool,
    pace: Pace,
    /// What it counts for in the gauges.
    counted: Counted,
    /// Since the drain began it was seen quiet.
    quiet_since_stop: bool,
}

/// What the store holds of a container.
struct Stored {
    row: Option<Box<crate::checkpoint::Row>>,
    /// At least so many parts of the row are in the store.
    n_parts: usize,
    /// How many there are once the commit on its way is durable.
    n_parts_next: usize,
    /// Of the row as it was committed last.
    sequence: u64,
}

/// Where an agent's parts come from.
pub struct Parts<O: Os, C, T, W> {
    pub os: O,
    pub committer: C,
    pub tidier: T,
    pub watcher: W,
    pub config: Arc<Config>,
    pub counters: Counters,
    pub health: Health,
    /// Shared by all agents of one store, as is the ledger.
    pub sequence: Arc<AtomicU64>,
    pub ledger: Ledger,
}

pub struct Agent<O: Os, C: Committer<O>, T: Tidier, W: Watcher> {
    os: O,
    committer: C,
    tidier: T,
    watcher: W,
    config: Arc<Config>,
    counters: Counters,
    health: Health,
    mode: Mode,
    boot: String,
    /// Boxed: nodes of a map whose keys only grow are half empty, and a slot is large.
    slots: BTreeMap<usize, Box<Slot<O>>>,
    next_slot: usize,
    by_id: HashMap<ContainerId, usize>,
    timetable: Timetable,
    at_rest: BTreeMap<usize, AtRest>,
    shapes: Shapes,
    /// The one that was worked out last: most containers are treated alike.
    treated: Option<Arc<Treatment>>,
    /// Their directories are gone, as the slots know, too: a listing asks here, so as not to go through all of those.
    removed: BTreeSet<usize>,
    hot: BTreeSet<usize>,
    wanting: BTreeSet<usize>,
    stored: HashMap<String, Stored>,
    routes: HashMap<String, Route>,
    /// The slots that may write to an output.
    sharing: HashMap<String, BTreeSet<usize>>,
    journal: Journal,
    /// Outputs that the journal names.
    noted_routes: std::collections::HashSet<String>,
    store_fresh: bool,
    /// The store held no row at start: it was made just now, or its maker died before the first commit.
    store_bare: bool,
    /// Containers that were there when the state was first made have rows by now.
    first_listing_stored: bool,
    first_listing_seen: bool,
    ledger: Ledger,
    sequence: Arc<AtomicU64>,
    said: Said,
    buffer: Vec<u8>,
    /// The memory of one batch, for the container that is served.
    room: Batch,
    root_modified: Option<i64>,
    /// An output of a container that is gone couldn't be completed yet.
    owes_absent: bool,
    root_looked_at: Duration,
    root_listed_at: Duration,
    root_watched: bool,
    root_missing: bool,
    /// Container directories whose files are not there yet, and since when.
    awaited: HashMap<String, Duration>,
    /// Containers of the first listing that couldn't be looked at then.
    first_unread: std::collections::HashSet<String>,
    committed_at: Duration,
    /// Where the commit that comes once a second goes on, if it didn't take all.
    round_from: usize,
    commit_retry_at: Duration,
    n_commit_failures: u32,
    commit_began_at: Duration,
    held_looked_at: Duration,
    busy: Busy,
    /// When bytes last came from any log.
    hot_moved_at: Duration,
    tidied_at: Duration,
    /// Until the next round over all outputs.
    tidy_period: Duration,
    stopping: bool,
    /// Rows whose absence is to be stored.
    absent: Vec<String>,
    /// Only containers whose output this function takes: a backfill has several agents.
    share: Option<Share>,
}

impl Remembered {
    /// Which container goes on in which output.
    fn routes(&self) -> Vec<(String, String)> {
        let noted = self.journal.notes.iter().filter_map(|(id, notes)| Some((id.clone(), notes.last()?.route.clone())));
        codec::rows(&self.pairs).0.into_iter().map(|(row, _)| (row.id, row.route)).chain(noted).collect()
    }

    /// Above all that the rows have, for the commits of all agents.
    pub fn next_sequence(&self) -> Arc<AtomicU64> {
        let newest = codec::rows(&self.pairs).0.iter().map(|(row, _)| row.sequence).max();
        Arc::new(AtomicU64::new(newest.map_or(1, |newest| newest + 1)))
    }
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    pub fn new(parts: Parts<O, C, T, W>, mode: Mode, remembered: Remembered, share: Option<Share>) -> Self {
        let now = parts.os.monotonic();
        let boot = parts.os.boot_id();
        let (rows, bad) = codec::rows(&remembered.pairs);
        for (id, error) in &bad {
            tracing::error!(container = %id, %error, "a row of the state store is damaged; its place is searched for");
            parts.counters.checkpoint_recoveries.of(RecoveryReason::Rows).inc();
        }
        let mut agent = Agent {
            store_bare: rows.is_empty(),
            boot,
            slots: BTreeMap::new(),
            next_slot: 0,
            by_id: HashMap::new(),
            timetable: Timetable::default(),
            at_rest: BTreeMap::new(),
            shapes: Shapes::default(),
            treated: None,
            removed: BTreeSet::new(),
            hot: BTreeSet::new(),
            wanting: BTreeSet::new(),
            stored: HashMap::new(),
            routes: routes::routes_of(&rows, &remembered.journal),
            ledger: parts.ledger,
            first_listing_stored: remembered.pairs.iter().any(|(key, _)| key == commits::FIRST_LISTING_KEY),
            first_listing_seen: false,
            sharing: HashMap::new(),
            noted_routes: remembered.journal.notes.values().flatten().map(|note| note.route.clone()).collect(),
            journal: remembered.journal,
            store_fresh: remembered.fresh,
            said: Said::new(),
            buffer: Vec::new(),
            room: Batch::default(),
            root_modified: None,
            owes_absent: false,
            root_looked_at: Duration::ZERO,
            root_listed_at: Duration::ZERO,
            root_watched: false,
            root_missing: false,
            awaited: HashMap::new(),
            first_unread: std::collections::HashSet::new(),
            committed_at: now,
            round_from: 0,
            commit_retry_at: Duration::ZERO,
            n_commit_failures: 0,
            commit_began_at: now,
            held_looked_at: now,
            busy: Busy::default(),
            hot_moved_at: now,
            tidied_at: Duration::ZERO,
            tidy_period: TIDY_PERIOD,
            stopping: false,
            absent: Vec::new(),
            os: parts.os,
            committer: parts.committer,
            tidier: parts.tidier,
            watcher: parts.watcher,
            config: parts.config,
            counters: parts.counters,
            health: parts.health,
            sequence: parts.sequence,
            mode,
            share,
        };
        for (mut row, n_parts) in rows {
            for epoch in &mut row.ladder.epochs {
                epoch.shape = agent.shapes.share(epoch.shape.clone());
            }
            agent.stored.insert(
                row.id.clone(),
                Stored { n_parts, n_parts_next: n_parts, sequence: row.sequence, row: Some(Box::new(row)) },
            );
        }
        agent
    }

    /// Everything that is due now. Gives how long nothing will be.
    pub fn step(&mut self, hints: &Hints) -> Duration {
        let now = self.os.monotonic();
        self.health.beat(now);
        self.take_commits(now);
        self.take_hints(hints, now);
        self.look_at_root(now);
        let mut moved = false;
        for ix in self.timetable.take(now) {
            if self.rests_on(ix, now) {
                continue;
            }
            moved |= self.serve(ix, now);
            self.recount(ix);
        }
        if moved {
            self.hot_moved_at = now;
        }
        if self.first_listing_seen {
            self.health.swept();
        }
        self.shed_held(now);
        self.submit_commits(now);
        self.take_commits(now);
        self.health.committing((!self.committer.is_idle()).then_some(self.commit_began_at));
        self.tidy(now);
        self.pause(now)
    }

    fn pause(&self, now: Duration) -> Duration {
        let next_due = self.timetable.next().unwrap_or(now + SWEEP_PERIOD);
        let root_pause = if self.root_modified.is_none() { POLL_MAX } else { ROOT_PERIOD };
        let mut next = next_due.min(self.root_looked_at + root_pause);
        if !self.wanting.is_empty() && self.committer.is_idle() {
            next = next.min((self.committed_at + COMMIT_PERIOD).max(self.commit_retry_at));
        }
        next.saturating_sub(now)
    }

    fn take_hints(&mut self, hints: &Hints, now: Duration) {
        if hints.overflows > 0 {
            self.counters.inotify_overflows.inc_by(hints.overflows);
        }
        if hints.rescan {
            self.counters.rescans.inc();
            self.root_modified = None;
            let all: Vec<usize> = self.slots.keys().copied().collect();
            for ix in all {
                self.look_soon(ix, now);
            }
        }
        if hints.root {
            self.root_modified = None;
        }
        for name in &hints.directories {
            let known = name.to_str().and_then(|name| self.slot_of(name));
            match known {
                Some(ix) => self.look_soon(ix, now),
                None => self.root_modified = None,
            }
        }
        if hints.stop && !self.stopping {
            self.stopping = true;
            self.health.draining();
            let all: Vec<usize> = self.slots.keys().copied().collect();
            for ix in all {
                self.look_soon(ix, now);
            }
        }
    }

    /// The container's files may have changed: its metadata too.
    fn look_soon(&mut self, ix: usize, now: Duration) {
        if let Some(slot) = self.slots.get_mut(&ix) {
            slot.facts_at = Duration::ZERO;
        }
        self.reschedule(ix, now);
    }

    fn reschedule(&mut self, ix: usize, due: Duration) {
        if self.slots.contains_key(&ix) {
            self.at_rest.remove(&ix);
            self.timetable.set(ix, due);
        }
    }

    fn slot_of(&self, id: &str) -> Option<usize> {
        self.by_id.get(&ContainerId::parse(id)?).copied()
    }

    /// One container's turn. True if bytes moved.
    fn serve(&mut self, ix: usize, now: Duration) -> bool {
        self.refresh_facts(ix, now);
        if !self.is_served(ix) {
            self.rest(ix, now);
            return false;
        }
        if now < self.slots[&ix].retry_at {
            // What can't be written yet must not be lost meanwhile.
            let slot = self.slots.get_mut(&ix).expect("looked up above");
            let held = slot.container.hold(&self.os);
            let due = if held.is_ok() { now + POLL_MAX } else { slot.retry_at };
            self.reschedule(ix, due.min(self.slots[&ix].retry_at));
            return false;
        }
        let opened = match self.slots[&ix].container.is_open() {
            true => Ok(true),
            false => self.try_open(ix, now),
        };
        if !self.slots.contains_key(&ix) {
            return false; // It is gone, and nothing of it was ever there.
        }
        let went = match opened {
            // No log yet, or nothing that it would come back to its output for: as idle as a quiet one.
            Ok(false) if self.slots[&ix].container.waits_for_news() => Ok(Went::Quiet),
            Ok(false) => Ok(Went::Blocked),
            Ok(true) => self.turn(ix, now),
            Err(trouble) => Err(trouble),
        };
        match went {
            Err(trouble) => {
                self.troubled(ix, trouble, now);
                false
            }
            Ok(went) => self.went(ix, went, now),
        }
    }

    /// Whether a turn would do anything. One that isn't selected any more goes on until it has left its output.
    fn is_served(&self, ix: usize) -> bool {
        self.slots.get(&ix).is_some_and(|slot| {
            let wanted = slot.selected || slot.container.is_open();
            // Once quiet since the drain began is enough: a container that goes on writing doesn't hold it up.
            let interrupted = self.stopping && self.mode == Mode::Backfill;
            let enough = self.stopping && slot.quiet_since_stop || interrupted && slot.container.is_drained_so_far();
            wanted && !slot.leaving && !enough
        })
    }

    /// Not selected, leaving, or drained for the end.
    fn rest(&mut self, ix: usize, now: Duration) {
        let Some(slot) = self.slots.get_mut(&ix) else {
            return;
        };
        if !slot.selected && slot.container.removed && !slot.container.is_open() && !slot.leaving {
            slot.container.lineage.close();
            self.forget(ix);
            return;
        }
        let watched = slot.selected || self.stopping;
        self.reschedule(ix, now + if watched { UNWATCHED_PERIOD } else { SWEEP_PERIOD });
    }

    fn turn(&mut self, ix: usize, now: Duration) -> Result<Went, Trouble> {
        let mut tally = Tally::default();
        let mut losses = Vec::new();
        let mut meddled = Vec::new();
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        let n_before = slot.container.lineage.passed();
        let mut turn = Turn {
            os: &self.os,
            buffer: &mut self.buffer,
            room: &mut self.room,
            quantum_bytes: self.busy.quantum_bytes(),
            steady: slot.activity.is_steady(now),
            now,
            tally: &mut tally,
            losses: &mut losses,
            meddled: &mut meddled,
        };
        let went = slot.container.turn(&mut turn);
        let n_passed = slot.container.lineage.passed() - n_before;
        if tally.bytes > 0 {
            slot.pace.read(tally.bytes, now);
            self.busy.paced.insert(ix);
        }
        let file_bytes = slot.container.lineage.front().map_or(0, |front| front.offset);
        slot.activity.brought(tally.bytes, file_bytes);
        slot.leaves_after = slot.leaves_after.saturating_sub(tally.bytes);
        self.count(&tally, n_passed);
        self.take_losses(ix, losses);
        for meddling in meddled {
            self.say_meddled(ix, meddling, now);
        }
        went
    }

    fn went(&mut self, ix: usize, went: Went, now: Duration) -> bool {
        if went != Went::Blocked {
            self.heal(ix);
        }
        let slot = self.slots.get_mut(&ix).expect("it was served");
        if !slot.selected {
            // One that is never quiet has to leave as well.
            slot.container.ask_release(slot.leaves_after == 0);
        }
        if slot.container.wants_commit() {
            self.wanting.insert(ix);
        }
        let moved = went == Went::Moved;
        let drained = slot.container.is_drained();
        slot.pace.went(went == Went::Quiet || went == Went::Finished || drained, now);
        slot.quiet_since_stop |= self.stopping && went == Went::Quiet;
        let change = match went {
            Went::Moved => slot.activity.grew(now),
            Went::Quiet => slot.activity.rested(now),
            _ => WatchChange::Keep,
        };
        let armed = self.change_watch(ix, change);
        if went == Went::Finished || went == Went::Blocked {
            self.leave_if_finished(ix);
        }
        let ends = self.stopping || self.mode == Mode::Backfill;
        let Some(slot) = self.slots.get_mut(&ix) else {
            return moved;
        };
        if slot.activity.is_hot(now) {
            self.hot.insert(ix);
        } else if self.hot.remove(&ix) && went == Went::Quiet {
            slot.container.rest_output();
        }
        let pause = match went {
            // Another look at once would find nothing. A watched one gets it: its watch may be about to go.
            Went::Moved if drained && slot.activity.is_hot(now) && !ends => slot.activity.pause(now, self.hot.len()),
            Went::Moved => Duration::ZERO,
            Went::Quiet if armed => Duration::ZERO, // Bytes may have come before the watch was armed.
            Went::Quiet if slot.container.has_open_line() => {
                let pause = slot.activity.pause(now, self.hot.len());
                pause.min(slot.container.silence()).max(POLL_MAX).min(UNWATCHED_PERIOD)
            }
            Went::Quiet => slot.activity.pause(now, self.hot.len()),
            // The commit's end wakes it; until then new incarnations are held.
            Went::Blocked if slot.container.waits_for_commit() => {
                slot.activity.pause(now, self.hot.len()).min(POLL_MAX)
            }
            Went::Blocked | Went::Finished => POLL_MAX,
        };
        self.reschedule(ix, schedule::tick(now + pause).max(now));
        if went == Went::Quiet && pause >= SWEEP_PERIOD {
            self.lay_to_rest(ix);
        }
        moved
    }

    /// True if a watch was armed.
    fn change_watch(&mut self, ix: usize, change: WatchChange) -> bool {
        let slot = self.slots.get_mut(&ix).expect("it was served");
        let directory = slot.container.lineage.directory().to_owned();
        match change {
            WatchChange::Keep => false,
            WatchChange::Disarm => {
                self.watcher.unwatch(&directory);
                slot.activity.watched = false;
                false
            }
            WatchChange::Arm if self.mode == Mode::Backfill => false,
            WatchChange::Arm => match self.watcher.watch(&directory) {
                Ok(()) => {
                    slot.activity.watched = true;
                    true
                }
                Err(refused) => {
                    let now = self.os.monotonic();
                    slot.activity.refused_at = Some(now);
                    let first = self.said.say("watch", "", now).is_some();
                    if first
                        && refused == crate::sys::watch::WatchRefused::Limit
                        && self.watcher.poll_reason().is_none()
                    {
                        tracing::warn!(
                            "{refused}: what isn't watched is looked at every second; \
                            raise fs.inotify.max_user_watches"
                        );
                    }
                    false
                }
            },
        }
    }

    fn tidy(&mut self, now: Duration) {
        for tidied in self.tidier.poll() {
            self.counters.tidied(&tidied);
            if !tidied.failed.is_empty() {
                self.tidy_period = TIDY_PERIOD;
            }
            for (path, error) in tidied.failed {
                let file = path.display().to_string();
                if self.said.say("tidy", &file, now).is_some() {
                    tracing::error!(%file, %error, "cannot compress or prune; the segment stays as it is");
                }
            }
        }
        if now >= self.tidied_at + self.tidy_period || self.tidied_at == Duration::ZERO && self.first_listing_seen {
            self.tidied_at = now;
            let (outputs, total_max) = (self.outputs(), self.config.max_total_bytes);
            let by_time = total_max.is_some() || outputs.iter().any(|(_, retention)| retention.age_max.is_some());
            self.tidy_period = if by_time { TIDY_PERIOD } else { TIDY_PERIOD_QUIET };
            self.tidier.submit(Chore::All { outputs, total_max });
        }
    }

    /// Every output there is, and what is kept of it.
    pub fn outputs(&self) -> Vec<(PathBuf, Retention)> {
        let ours = self.routes.keys().filter(|route| self.share.as_ref().is_none_or(|share| share.has(route)));
        let kept = |route: &String| self.treatment_of(route).retention();
        ours.map(|route| (self.config.places.log_path.join(route), kept(route))).collect()
    }
}

/// Loads what a store and a log-path remember.
pub fn remember<O: Os>(
    os: &O,
    store: &mut dyn Store,
    fresh: bool,
    log_path: &std::path::Path,
) -> Result<Remembered, String> {
    let pairs = store.load().map_err(|error| error.to_string())?;
    if !fresh {
        let known: std::collections::HashSet<String> =
            codec::rows(&pairs).0.into_iter().map(|(row, _)| row.id).collect();
        if let Err(error) = crate::sink::journal::shorten(os, log_path, |id| known.contains(id)) {
            tracing::warn!(%error, "cannot shorten the outputs' journal");
        }
    }
    let journal = match Journal::load(os, log_path) {
        Ok(journal) => journal,
        // Without rows only the journal tells that the outputs hold anything.
        Err(error) if codec::rows(&pairs).0.is_empty() => {
            return Err(format!("cannot read the outputs' journal: {error}"));
        }
        Err(error) => {
            tracing::warn!(%error, "cannot read the outputs' journal");
            Journal { unread: true, ..Journal::default() }
        }
    };
    Ok(Remembered { pairs, fresh, journal })
}
