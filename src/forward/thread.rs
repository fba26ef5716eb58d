//! A sink's thread: steps its forwarder, waits in between, and ends when told to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::agent::Mode;
use crate::agent::inbox::{Hints, Inbox};
use crate::agent::threads::{CommitClient, CommitThread};
use crate::checkpoint::codec::Change;
use crate::checkpoint::commit::{Committer, Item};
use crate::config::Config;
use crate::config::current::Current;
use crate::config::limits::COMMIT_CHANGES_MAX;
use crate::config::sinks::Sink;
use crate::forward::dead_letters::DeadLetters;
use crate::forward::removed::{self, Fate};
use crate::forward::rows::Keys;
use crate::forward::{Forwarder, Parts, Request, Surroundings, Transport};
use crate::loss::Ledger;
use crate::ordered;
use crate::sink::delivery::{Answer, BatchKey};
use crate::sink::registry::Net;
use crate::sys::unix::Unix;
use crate::sys::{Os, signal};
use crate::telemetry::sinks::SinkFamilies;
use crate::telemetry::{Counters, Health};

/// What all sinks of an agent share.
pub struct Shared<'a> {
    pub config: &'a Config,
    /// The same, and what becomes of it.
    pub current: Current,
    pub mode: Mode,
    pub counters: &'a Counters,
    pub health: &'a Health,
    pub commits: &'a CommitThread<Unix>,
    pub ledger: &'a Ledger,
    /// What the store held at start.
    pub pairs: &'a [(Vec<u8>, Vec<u8>)],
    pub runtime: tokio::runtime::Handle,
    /// Each sink's, in the order of the configuration's.
    pub inboxes: &'a [Inbox],
    /// Tells the agent to end: a pipe that somebody closed.
    pub end: Inbox,
}

/// The sinks' threads.
#[derive(Default)]
pub struct Running {
    handles: Vec<(String, JoinHandle<Option<String>>)>,
}

type UnixForwarder = Forwarder<Unix, CommitClient<Unix>, Box<dyn Transport>>;

impl Transport for Box<dyn Transport> {
    fn send(&mut self, request: Request) {
        (**self).send(request);
    }

    fn poll(&mut self) -> Option<(BatchKey, Answer)> {
        (**self).poll()
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }
}

impl Running {
    pub fn start(shared: &Shared<'_>) -> std::io::Result<Running> {
        let mut running = Running::default();
        if shared.mode == Mode::Run {
            mind_removed(shared);
        }
        if shared.config.sinks.is_empty() {
            return Ok(running);
        }
        let families = SinkFamilies::new(shared.counters);
        for (sink, inbox) in shared.config.sinks.iter().zip(shared.inboxes) {
            let forwarder = forwarder(shared, sink, inbox, &families);
            let (inbox, end, drain_max) = (inbox.clone(), shared.end.clone(), shared.config.shutdown_timeout);
            let mode = shared.mode;
            let health = shared.health.clone();
            let work = move || {
                let fault = forwarder.fault();
                catch_unwind(AssertUnwindSafe(|| follow(forwarder, mode, &inbox, &end, drain_max))).unwrap_or_else(
                    |_| {
                        // The files and other sinks go on; what this one owes waits in the logs.
                        health.set(fault, "its thread ended by a panic; a restart goes on from the logs");
                        Some("its thread ended by a panic".to_owned())
                    },
                )
            };
            let name = sink.settings.name.clone();
            tracing::info!(sink = %name, to = %sink.target.place(), "forwarding");
            let handle = std::thread::Builder::new().name(format!("sink-{name}")).spawn(work)?;
            running.handles.push((name, handle));
        }
        Ok(running)
    }

    /// Waits for the end of all, which were told to end. What they leave undelivered, by sink.
    pub fn join(self) -> Vec<(String, String)> {
        let mut left = Vec::new();
        for (name, handle) in self.handles {
            match handle.join() {
                Ok(None) => {}
                Ok(Some(why)) => left.push((name, why)),
                Err(_) => left.push((name, "its thread ended by a panic; see above".to_owned())),
            }
        }
        left
    }
}

/// Sinks that were taken out of the configuration, and those that are back.
fn mind_removed(shared: &Shared<'_>) {
    let configured = ordered::set(shared.config.sinks.iter().map(|sink| sink.settings.name.as_str()));
    let mut items = Vec::new();
    for (sink, (fate, changes)) in removed::fates(shared.pairs, &configured, Unix.wall_ns()) {
        match fate {
            Fate::Back => {}
            Fate::Waits(_) => tracing::warn!(%sink,
                "not in the configuration; its positions stay for a week: longshore state forget --sink drops them"),
            Fate::Goes => {
                tracing::warn!(%sink, "not in the configuration for a week; its positions are dropped");
                for file in removed::spool_files(shared.pairs, &shared.config.places.state_dir, &sink) {
                    let _ = Unix.remove(&file); // What stays takes room and is named by nothing.
                }
            }
        }
        let item =
            |part: &[Change]| Item { id: String::new(), rotate: None, sync: None, note: None, changes: part.to_vec() };
        items.extend(changes.chunks(COMMIT_CHANGES_MAX).map(item));
    }
    if !items.is_empty() {
        // Nobody waits for it: what fails is tried at the next start.
        shared.commits.client(Inbox::new()).submit(items);
    }
}

fn forwarder(shared: &Shared<'_>, sink: &Sink, inbox: &Inbox, families: &SinkFamilies) -> UnixForwarder {
    let os = Unix;
    let config = shared.config;
    let seed = os.wall_ns().unsigned_abs() ^ u64::from(std::process::id()) << 40;
    let parts = Parts {
        os,
        committer: shared.commits.client(inbox.clone()),
        transport: sink.target.transport(&Net { runtime: shared.runtime.clone(), inbox: inbox.clone() }),
        settings: Arc::clone(&sink.settings),
        surroundings: Surroundings { current: shared.current.clone(), seed, watched: inbox.what_is_watched() },
        dead_letters: DeadLetters::new(&config.places.state_dir, &sink.settings.name),
        spool_dir: config.places.state_dir.join("spool").join(&sink.settings.name),
        ledger: shared.ledger.clone(),
        meters: families.of(&sink.settings.name),
        health: shared.health.clone(),
        last_key: 0,
    };
    Forwarder::new(parts, Keys::new(&sink.settings.name).load(shared.pairs))
}

/// Until it is told to end and everything is delivered, or the time for that is over. What is left then.
fn follow(mut forwarder: UnixForwarder, mode: Mode, inbox: &Inbox, end: &Inbox, drain_max: Duration) -> Option<String> {
    let os = Unix;
    let mut hints = Hints::default();
    let mut stop_at: Option<Duration> = None;
    loop {
        let pause = forwarder.step(&hints);
        if forwarder.is_broken() {
            forwarder = forwarder.begin_again();
            continue;
        }
        if forwarder.transport_is_closed() && stop_at.is_none() && signal::stdout_is_a_pipe() {
            tracing::info!("nobody reads standard output any more; ending");
            end.stop();
            inbox.stop();
        }
        if hints.stop {
            let now = os.monotonic();
            // A backfill takes its time; only who interrupts it doesn't wait longer than that.
            if mode == Mode::Run || end.is_stopped() {
                stop_at.get_or_insert(now + drain_max);
            }
            if forwarder.is_done() || stop_at.is_some_and(|stop_at| now >= stop_at) {
                return forwarder.left();
            }
        }
        let pause = if hints.stop { pause.min(Duration::from_millis(5)) } else { pause };
        hints = inbox.wait(pause);
    }
}
