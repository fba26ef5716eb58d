//! `run` and `backfill`: what they open before the first line, the threads, and how they end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::control::{Control, Questions};
use crate::agent::inbox::{Hints, Inbox};
use crate::agent::progress::Progress;
use crate::agent::share::plan;
use crate::agent::threads::{CommitClient, CommitThread, TidyThread};
use crate::agent::{Agent, Mode, Parts, Remembered, remember};
use crate::checkpoint::store::{Opened, SledStore, StoreError};
use crate::cli::{Exit, Failure};
use crate::config::current::Current;
use crate::config::{Config, LISTEN_DEFAULT, Listen};
use crate::forward::thread::{Running, Shared};
use crate::loss::Ledger;
use crate::sink::journal;
use crate::sink::pruned::Pruned;
use crate::sink::tidy::Chore;
use crate::sys::lock::{DirectoryLock, LockError};
use crate::sys::service;
use crate::sys::signal::{Asked, Signals};
use crate::sys::unix::Unix;
use crate::sys::watch::{Watch, Watcher};
use crate::sys::{Kind, Os};
use crate::telemetry::report::{self, Report};
use crate::telemetry::{Counters, Health, WatchMode};

/// How long a start waits for a lock that somebody holds.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// What both verbs hold while they work.
struct Opening {
    os: Unix,
    config: Arc<Config>,
    counters: Counters,
    health: Health,
    remembered: Remembered,
    commits: CommitThread<Unix>,
    commit_handle: std::thread::JoinHandle<()>,
    pruned: Pruned,
    _locks: [DirectoryLock; 2],
}

/// Follows every container until it is told to end.
pub fn run(config: Config, settings: &dyn Settings) -> Result<Exit, Failure> {
    let os = Unix;
    let net = Net::prepare()?;
    check_root(&os, &config.places.containers_dir, Mode::Run)?;
    let open_files = crate::sys::unix::raise_open_files();
    let report = listen(config.listen)?;
    let opening = Opening::new(os, config)?;
    let config = opening.config.clone();
    let sink_inboxes: Vec<Inbox> = config.sinks.iter().map(|_| Inbox::new()).collect();
    let inbox = Inbox::followed_by(sink_inboxes.clone());
    let (tidier, tidy_handle) = tidy_thread(&opening)?;
    let watcher = Watch::new(inbox.clone());
    opening.counters.watch_mode.set(if watcher.poll_reason().is_none() { WatchMode::Inotify } else { WatchMode::Poll });
    if let Some(reason) = watcher.poll_reason() {
        tracing::warn!(reason, "inotify can't be used; every log is looked at once a second");
    }
    let (control, questions) = Control::bind(&config.places.state_dir, inbox.clone()).map_err(|error| {
        Failure::new(
            Exit::CannotCreate,
            format!("cannot open the control socket in {}", config.places.state_dir.display()),
        )
        .caused_by(&error)
    })?;
    let runtime = net.runtime.handle().clone();
    let net = net.start(&opening, inbox.clone(), sink_inboxes.clone(), Some(control), report)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        containers_dir = %config.places.containers_dir.display(),
        log_path = %config.places.log_path.display(),
        state_dir = %config.places.state_dir.display(),
        limit = config.base.limit,
        open_files = open_files.unwrap_or(0),
        "started"
    );
    service::ready();
    let ledger = Ledger::resume(&opening.remembered.pairs);
    let current = Current::new(opening.config.clone());
    let sinks = start_sinks(&opening, runtime, &sink_inboxes, &ledger, &inbox, Mode::Run, &current)?;
    let Opening { os, counters, health, remembered, commits, commit_handle, _locks, .. } = opening;
    let parts = Parts {
        os,
        committer: commits.client(inbox.clone()),
        tidier,
        watcher,
        config,
        counters,
        health,
        sequence: remembered.next_sequence(),
        ledger,
    };
    drop(commits);
    let mut agent = Agent::new(parts, Mode::Run, remembered, None);
    let reloading = Reloading { settings, current: &current, inboxes: &sink_inboxes };
    follow(&os, &mut agent, &inbox, &questions, &reloading);
    sink_inboxes.iter().for_each(Inbox::stop);
    for (sink, why) in sinks.join() {
        tracing::warn!(%sink, "{why}; they go on from the logs at the next start");
    }
    drop(agent); // The last client: the commit thread closes the store and ends.
    join(commit_handle);
    // Compression may take longer than whoever stops us waits. It ends with the process; what it leaves is cleaned at start.
    drop(tidy_handle);
    drop(net);
    tracing::info!("drained and ended");
    Ok(Exit::Done)
}

type RunAgent = Agent<Unix, CommitClient<Unix>, TidyThread, Watch>;

/// Where settings come from, for a reload.
pub trait Settings {
    /// Reads them again, as at the start.
    fn read(&self) -> Result<Config, Failure>;
    /// Own logs are as these say from now on.
    fn take_log_level(&self, config: &Config);
}

/// Where new settings come from, and who besides the agent looks at them.
struct Reloading<'a> {
    settings: &'a dyn Settings,
    current: &'a Current,
    inboxes: &'a [Inbox],
}

fn follow(os: &Unix, agent: &mut RunAgent, inbox: &Inbox, questions: &Questions, reloading: &Reloading<'_>) {
    let mut hints = Hints::default();
    let mut stop_at = None;
    loop {
        let pause = agent.step(&hints);
        while let Some(question) = questions.next() {
            agent.answer(question);
        }
        if hints.stop {
            let deadline = *stop_at.get_or_insert(os.monotonic() + agent.config().shutdown_timeout);
            if agent.is_done() || os.monotonic() >= deadline {
                return;
            }
        }
        let pause = if stop_at.is_some() { pause.min(Duration::from_millis(5)) } else { pause };
        hints = inbox.wait(pause);
        if hints.reopen {
            tracing::info!(signal = "SIGUSR1", "looking for outputs that were moved away");
            agent.reopen_outputs();
        }
        if hints.reload && !hints.stop {
            reload(os, agent, reloading);
        }
    }
}

/// Other settings if they are sound, or else those of before.
fn reload(os: &Unix, agent: &mut RunAgent, reloading: &Reloading<'_>) {
    service::reloading();
    match reloading.settings.read() {
        Ok(config) => {
            let (config, restarts) = agent.config().taken_over(config);
            for setting in restarts {
                tracing::warn!(setting, "changed, but counts only after a restart");
            }
            reloading.settings.take_log_level(&config);
            let config = Arc::new(config);
            reloading.current.set(config.clone());
            reloading.inboxes.iter().for_each(Inbox::wake);
            agent.reload(config);
            agent.counters().reloaded(Ok(os.wall_ns()));
            tracing::info!("configuration reloaded");
        }
        Err(failure) => {
            agent.counters().reloaded(Err(()));
            let (error, hint) = (&failure.message, failure.hint.as_deref());
            tracing::error!(%error, hint, "the new configuration is not taken; the old one stays");
        }
    }
    service::ready();
}

/// Reads all there is, once.
pub fn backfill(config: Config) -> Result<Exit, Failure> {
    let os = Unix;
    let net = Net::prepare()?;
    check_root(&os, &config.places.containers_dir, Mode::Backfill)?;
    let _ = crate::sys::unix::raise_open_files();
    let report = listen(config.listen)?;
    let opening = Opening::new(os, config)?;
    let stop = Inbox::new();
    let runtime = net.runtime.handle().clone();
    let sink_inboxes: Vec<Inbox> = opening.config.sinks.iter().map(|_| Inbox::new()).collect();
    let net = net.start(&opening, stop.clone(), sink_inboxes.clone(), None, report)?;
    let shares = plan(&opening.os, &opening.config, &opening.remembered.routes());
    let progress = Progress::new(opening.config.progress, &opening.counters);
    let total_max = opening.config.max_total_bytes;
    let sequence = opening.remembered.next_sequence();
    let ledger = Ledger::resume(&opening.remembered.pairs);
    // They read what is there and end, as the files do.
    sink_inboxes.iter().for_each(Inbox::stop);
    let sinks = start_sinks(
        &opening,
        runtime,
        &sink_inboxes,
        &ledger,
        &stop,
        Mode::Backfill,
        &Current::new(opening.config.clone()),
    )?;
    let mut handles = Vec::new();
    for share in shares {
        let inbox = Inbox::new();
        let (tidier, tidy_handle) = tidy_thread(&opening)?;
        let parts = Parts {
            os: opening.os,
            committer: opening.commits.client(inbox.clone()),
            tidier,
            watcher: crate::sys::watch::Watch::Off("a backfill reads what is there".to_owned()),
            config: opening.config.clone(),
            counters: opening.counters.clone(),
            health: opening.health.clone(),
            sequence: sequence.clone(),
            ledger: ledger.clone(),
        };
        let remembered = opening.remembered.clone();
        let (stop, progress) = (stop.clone(), progress.clone());
        let name = format!("tail-{}", share.ix);
        let work = move || {
            let mut agent = Agent::new(parts, Mode::Backfill, remembered, Some(share.clone()));
            let mut hints = Hints::default();
            loop {
                let pause = agent.step(&hints);
                progress.set_left(share.ix, || agent.lag_bytes());
                if agent.is_done() {
                    break;
                }
                hints = inbox.wait(pause.min(Duration::from_millis(50)));
                hints.stop = stop.is_stopped();
            }
            let end = (agent.troubles(), agent.outputs());
            drop(agent);
            if !stop.is_stopped() {
                join(tidy_handle);
            }
            end
        };
        let handle = std::thread::Builder::new().name(name).spawn(work);
        handles.push(handle.map_err(|error| Failure::new(Exit::Failed, "cannot start a thread").caused_by(&error))?);
    }
    let (mut troubles, mut outputs) = (Vec::new(), Vec::new());
    for handle in handles {
        match handle.join() {
            Ok((mut theirs, mut paths)) => {
                troubles.append(&mut theirs);
                outputs.append(&mut paths);
            }
            Err(_) => return Err(Failure::new(Exit::Failed, "a thread ended by a panic; see above")),
        }
    }
    let left = sinks.join();
    let Opening { counters, commits, commit_handle, pruned, .. } = opening;
    drop(commits);
    join(commit_handle);
    let interrupted = stop.is_stopped();
    if !interrupted {
        // Over all outputs together, which no agent saw.
        Chore::All { outputs, total_max }.run(&os, &pruned);
    }
    drop(net);
    progress.finish();
    if interrupted {
        troubles.push(("backfill".to_owned(), "interrupted; run it again to go on from here".to_owned()));
    }
    let owed = !left.is_empty() && troubles.is_empty();
    troubles.extend(left.into_iter().map(|(sink, why)| (format!("sink {sink}"), why)));
    let exit = summary(&counters, &troubles);
    Ok(if owed && counters.lost_bytes.total() == 0 { Exit::Held } else { exit })
}

fn summary(counters: &Counters, troubles: &[(String, String)]) -> Exit {
    let lost = counters.lost_bytes.total();
    eprintln!(
        "backfill: {} lines read, {} records written, {} filtered, {} lines that are no entry, {} bytes lost",
        counters.lines_read.get(),
        counters.records_written.get(),
        counters.filtered.total(),
        counters.parse_errors.total(),
        lost
    );
    for (container, trouble) in troubles {
        eprintln!("error: {container}: {trouble}");
    }
    if troubles.is_empty() && lost == 0 { Exit::Done } else { Exit::Failed }
}

impl Opening {
    fn new(os: Unix, config: Config) -> Result<Opening, Failure> {
        let config = Arc::new(config);
        let own = config.places.log_path.join(journal::DIRECTORY);
        // Before anything is made: a link may lead among Docker's files.
        check_real_places(&config)?;
        create(&os, &config.places.state_dir, "--state-dir")?;
        create(&os, &own, "--log-path")?;
        let state_lock = lock(&config.places.state_dir, "lock")?;
        let output_lock = lock(&own, "lock")?;
        let counters = Counters::new(os.wall_ns());
        let now_seconds = u64::try_from(os.wall_ns() / 1_000_000_000).unwrap_or(0);
        let (mut store, opened) =
            SledStore::open(&config.places.state_dir, now_seconds).map_err(|error| store_failure(&error))?;
        let fresh = opened != Opened::Existing;
        if let Opened::Recovered { cause, reason, moved_to, n_rows_saved } = &opened {
            let moved_to = moved_to.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            tracing::error!(%reason, %moved_to, n_rows_saved, "the state store was damaged; places are searched for in the outputs");
            counters.checkpoint_recoveries.of(*cause).inc();
        }
        let remembered = remember(&os, &mut store, fresh, &config.places.log_path)
            .map_err(|error| Failure::new(Exit::CannotCreate, format!("cannot read the state store: {error}")))?;
        if opened == Opened::Fresh && !remembered.journal.notes.is_empty() {
            tracing::error!(
                state_dir = %config.places.state_dir.display(),
                containers = remembered.journal.notes.len(),
                "the state is gone, and outputs tell that there was one; places are searched for in them"
            );
        }
        let health = Health::new(os.monotonic());
        let (commits, commit_handle) = CommitThread::start(os, Box::new(store))
            .map_err(|error| Failure::new(Exit::Failed, "cannot start a thread").caused_by(&error))?;
        let pruned = Pruned::new(&config.places.log_path);
        Ok(Opening {
            os,
            config,
            counters,
            health,
            remembered,
            commits,
            commit_handle,
            pruned,
            _locks: [state_lock, output_lock],
        })
    }
}

/// A missing containers-dir is waited for by `run`, and an error of `backfill`; what is no directory ends both.
fn check_root(os: &Unix, root: &Path, mode: Mode) -> Result<(), Failure> {
    match os.stat(&root.join(".")) {
        Ok(stat) if stat.kind == Kind::Directory => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && mode == Mode::Run && os.stat(root).is_err() => {
            Ok(())
        }
        Ok(_) => Err(not_a_directory(root)),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(not_a_directory(root)),
        Err(error) if mode == Mode::Run && error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot list {}", root.display()))
            .caused_by(&error)
            .hint("--containers-dir names the directory that holds one directory a container, as root may read it")),
    }
}

fn not_a_directory(root: &Path) -> Failure {
    Failure::usage(format!("containers-dir {} is no directory", root.display()))
        .hint("--containers-dir names the directory that holds one directory a container")
}

fn create(os: &Unix, directory: &Path, flag: &str) -> Result<(), Failure> {
    os.create_directories(directory).map_err(|error| {
        Failure::new(Exit::CannotCreate, format!("cannot create {}", directory.display()))
            .caused_by(&error)
            .hint(format!("choose another {flag}, or make it writable for this user"))
    })
}

/// Links may lead one of the three directories into another.
fn check_real_places(config: &Config) -> Result<(), Failure> {
    let real = crate::sys::places::real_path;
    let places = crate::config::Places {
        containers_dir: real(&config.places.containers_dir),
        log_path: real(&config.places.log_path),
        state_dir: real(&config.places.state_dir),
    };
    places.check()
}

fn lock(directory: &Path, name: &str) -> Result<DirectoryLock, Failure> {
    // Who only looks (`containers`, `verify`) holds it for a moment.
    DirectoryLock::acquire_within(directory, name, LOCK_WAIT).map_err(|error| match &error {
        LockError::Held { .. } => Failure::new(Exit::Held, error.to_string())
            .hint("two agents never share a state-dir or a log-path; the old one may still be stopping"),
        LockError::Io { .. } => Failure::new(Exit::CannotCreate, error.to_string()),
    })
}

fn store_failure(error: &StoreError) -> Failure {
    let code = if matches!(error, StoreError::Locked { .. }) { Exit::Held } else { Exit::CannotCreate };
    let failure = Failure::new(code, error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What was asked for must come true; the default may give way to whoever has the port.
fn listen(wanted: Listen) -> Result<Option<Report>, Failure> {
    let address = match wanted {
        Listen::Off => return Ok(None),
        Listen::Unasked => LISTEN_DEFAULT,
        Listen::At(address) => address,
    };
    match Report::bind(address) {
        Ok(report) => {
            let address = report.address().unwrap_or(address);
            if address.ip().is_loopback() {
                tracing::info!(%address, "metrics and status are served to this host");
            } else {
                tracing::warn!(%address, "metrics and status are served beyond this host, to whoever can reach the port");
            }
            Ok(Some(report))
        }
        Err(error) if wanted == Listen::Unasked => {
            tracing::warn!(%address, %error, "no metrics and no page: cannot listen; --listen chooses another address");
            Ok(None)
        }
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot listen on {address}"))
            .caused_by(&error)
            .hint("choose another --listen address, or none")),
    }
}

fn start_sinks(
    opening: &Opening,
    runtime: tokio::runtime::Handle,
    inboxes: &[Inbox],
    ledger: &Ledger,
    end: &Inbox,
    mode: Mode,
    current: &Current,
) -> Result<Running, Failure> {
    let shared = Shared {
        config: &opening.config,
        current: current.clone(),
        mode,
        counters: &opening.counters,
        health: &opening.health,
        commits: &opening.commits,
        ledger,
        pairs: &opening.remembered.pairs,
        runtime,
        inboxes,
        end: end.clone(),
    };
    Running::start(&shared).map_err(|error| Failure::new(Exit::Failed, "cannot start a thread").caused_by(&error))
}

fn tidy_thread(opening: &Opening) -> Result<(TidyThread, std::thread::JoinHandle<()>), Failure> {
    TidyThread::start(opening.os, opening.pruned.clone())
        .map_err(|error| Failure::new(Exit::Failed, "cannot start a thread").caused_by(&error))
}

/// Signals, metrics and health, the control socket: one thread, one runtime.
struct Net {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
}

/// Ends the net thread when it is dropped.
struct NetThread {
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Net {
    /// Installs the signal handlers, before anything else: as PID 1 there is no default action.
    fn prepare() -> Result<Net, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Exit::Failed, "cannot start the net thread").caused_by(&error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let signals = {
            let _inside = runtime.enter();
            Signals::install().map_err(failed)?
        };
        Ok(Net { runtime, signals })
    }

    fn start(
        self,
        opening: &Opening,
        inbox: Inbox,
        sinks: Vec<Inbox>,
        control: Option<Control>,
        report: Option<Report>,
    ) -> Result<NetThread, Failure> {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (counters, health, os) = (opening.counters.clone(), opening.health.clone(), opening.os);
        let Net { runtime, signals } = self;
        let mode = if control.is_some() { Mode::Run } else { Mode::Backfill };
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(signals.run(move |asked| match asked {
                    Asked::Drain(signal) => {
                        tracing::info!(signal, "draining");
                        service::stopping();
                        sinks.iter().chain([&inbox]).for_each(Inbox::stop);
                    }
                    Asked::Reload if mode == Mode::Run => inbox.reload(),
                    Asked::Reload => {
                        tracing::info!(signal = "SIGHUP", "draining"); // The terminal of a backfill is gone.
                        sinks.iter().chain([&inbox]).for_each(Inbox::stop);
                    }
                    Asked::Reopen => inbox.reopen(),
                }));
                if let Some(period) = service::watchdog_period() {
                    tokio::spawn(watchdog(health.clone(), os, period));
                }
                let asker = control.as_ref().map(Control::asker);
                if let Some(control) = control {
                    tokio::spawn(control.serve());
                }
                let status: report::Status = std::sync::Arc::new(move || {
                    let asker = asker.clone();
                    Box::pin(async move {
                        match asker {
                            Some(asker) => asker.ask(serde_json::json!({ "ask": "status" })).await,
                            None => Err("only a running agent tells its status".to_owned()),
                        }
                    })
                });
                if let Some(report) = report {
                    tokio::spawn(async move {
                        if let Err(error) = report.serve(counters, health, status, move || os.monotonic()).await {
                            tracing::error!(%error, "the metrics endpoint ended");
                        }
                    });
                }
                let _ = ended.await;
            });
        };
        std::thread::Builder::new()
            .name("net".to_owned())
            .spawn(work)
            .map_err(|error| Failure::new(Exit::Failed, "cannot start the net thread").caused_by(&error))?;
        Ok(NetThread { _end: end })
    }
}

/// systemd hears nothing from an agent that hangs, and restarts it.
async fn watchdog(health: Health, os: Unix, period: Duration) {
    loop {
        if health.hung(os.monotonic()).is_empty() {
            service::alive();
        }
        tokio::time::sleep_until(tokio::time::Instant::now() + period).await;
    }
}

fn join(handle: std::thread::JoinHandle<()>) {
    if handle.join().is_err() {
        tracing::error!("a thread ended by a panic");
    }
}
