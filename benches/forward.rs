//! One sink alone: a backlog on disk to a receiver on loopback, MB/s of source, for each setting. The receiver is a thread
//! that reads and answers 200; the store is memory.
//! Behind them `beside`: the real binary with files and one sink, alone and with a dead sink beside them.
//! `cargo bench --bench forward [WORKLOAD]`; under `cargo test`, or with `--test`, a tiny log, once.

#![allow(clippy::disallowed_methods, reason = "a bench makes its own files and asks the clock")]

mod corpus;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use corpus::{Corpus, Kind};
use longshore::agent::inbox::{Hints, Inbox, Watched};
use longshore::checkpoint::commit::{Committer, Item, Outcome, execute};
use longshore::checkpoint::store::MemoryStore;
use longshore::cli::{Cli, Command};
use longshore::config::current::Current;
use longshore::config::{Config, Host};
use longshore::forward::dead_letters::DeadLetters;
use longshore::forward::rows::Keys;
use longshore::forward::{Forwarder, Parts, Surroundings};
use longshore::loss::Ledger;
use longshore::sink::registry::Net;
use longshore::sys::unix::Unix;
use longshore::telemetry::sinks::SinkFamilies;
use longshore::telemetry::{Counters, Health};

struct Workload {
    name: &'static str,
    kind: Kind,
    containers: usize,
    megabytes: usize,
    batch: &'static str,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "batches_of_200", kind: Kind::Access, containers: 4, megabytes: 128, batch: "200" },
    Workload { name: "one", kind: Kind::Access, containers: 1, megabytes: 512, batch: "5000" },
    Workload { name: "four", kind: Kind::Access, containers: 4, megabytes: 512, batch: "5000" },
    Workload { name: "mixed", kind: Kind::Mixed, containers: 4, megabytes: 256, batch: "5000" },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    println!("{:<16} {:>8} {:>8} {:>10} {:>10}  records", "workload", "MB", "MB/s", "requests", "wire MB");
    for workload in &WORKLOADS {
        if wanted.is_none_or(|wanted| workload.name.contains(wanted.as_str())) {
            measure(workload, if is_test { 1 << 20 } else { workload.megabytes << 20 });
        }
    }
    if wanted.is_none_or(|wanted| "beside".contains(wanted.as_str())) {
        beside(if is_test { 1 << 20 } else { 256 << 20 });
    }
}

fn measure(workload: &Workload, bytes: usize) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let n_lines = make_containers(&place.path().join("c"), workload, bytes);
    let receiver = Receiver::start();
    let config = Arc::new(config(place.path(), &receiver.url(), workload.batch));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (handle, inbox) = (runtime.handle().clone(), Inbox::new());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let net = std::thread::spawn(move || drop(runtime.block_on(ended)));
    let sink = &config.sinks[0];
    let counters = Counters::new(0);
    let parts = Parts {
        os: Unix,
        committer: Inline::default(),
        transport: sink.target.transport(&Net { runtime: handle, inbox: inbox.clone() }),
        settings: sink.settings.clone(),
        surroundings: Surroundings { current: Current::new(config.clone()), seed: 1, watched: Watched::default() },
        dead_letters: DeadLetters::new(place.path(), "bench"),
        spool_dir: place.path().join("spool/bench"),
        ledger: Ledger::default(),
        meters: SinkFamilies::new(&counters).of("bench"),
        health: Health::new(std::time::Duration::ZERO),
        last_key: 0,
    };
    let mut forwarder = Forwarder::new(parts, Keys::new("bench").load(&[]));
    let stop = Hints { stop: true, ..Hints::default() };
    let started = Instant::now();
    loop {
        let pause = forwarder.step(&stop);
        if forwarder.is_done() {
            break;
        }
        inbox.wait(pause.min(std::time::Duration::from_millis(1)));
    }
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(forwarder.left(), None);
    let meters = forwarder.meters();
    assert_eq!(meters.records_delivered.get(), n_lines);
    let megabytes = meters.bytes_read.get() as f64 / 1e6;
    println!(
        "{:<16} {megabytes:>8.0} {:>8.0} {:>10} {:>10.0}  {n_lines}",
        workload.name,
        megabytes / seconds,
        meters.requests.get(),
        receiver.n_bytes.load(Ordering::Relaxed) as f64 / 1e6
    );
    drop(forwarder);
    let _ = end.send(());
    net.join().expect("the net thread");
}

/// Seconds until the files are written and the receiver has everything; and how much longer both take with a dead sink.
fn beside(bytes: usize) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let workload = Workload { name: "beside", kind: Kind::Access, containers: 4, megabytes: 0, batch: "2000" };
    let n_lines = make_containers(&place.path().join("c"), &workload, bytes);
    let mut alone = None;
    // The first warms the page cache up.
    for (name, has_dead) in [("warm", false), ("alone", false), ("beside", true), ("alone", false), ("beside", true)] {
        let (files, sink) = follow(place.path(), n_lines, has_dead);
        println!("{name:<16} files {files:>6.2} s, sink {sink:>6.2} s");
        match (&alone, has_dead) {
            (Some((files_alone, sink_alone)), true) => {
                println!("{:<16} files x {:.2}, sink x {:.2}", "ratio", files / files_alone, sink / sink_alone);
            }
            _ => alone = Some((files, sink)),
        }
    }
}

fn follow(place: &Path, n_lines: u64, has_dead: bool) -> (f64, f64) {
    let receiver = Receiver::start();
    let run = tempfile::tempdir_in(place).expect("a directory");
    let (logs, config) = (run.path().join("o"), run.path().join("config.toml"));
    let mut text = format!(
        "containers_dir = '{}'\nlog_path = '{}'\nstate_dir = '{}'\nlisten = 'none'\nlimit = '10GB'\n[sinks.well]\ntype = 'http'\n\
         endpoint = '{}'\nformat = 'ndjson'\ncompression = 'none'\nbatch = 2000\nwait = '50ms'\n",
        place.join("c").display(),
        logs.display(),
        run.path().join("s").display(),
        receiver.url()
    );
    if has_dead {
        text.push_str("[sinks.dead]\ntype = 'http'\nendpoint = 'http://127.0.0.1:1/'\nretry_max = '1s'\n");
    }
    fs::write(&config, text).expect("write the configuration");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.args(["run", "--config"]).arg(&config).stderr(std::process::Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn().expect("start longshore");
    let (mut files, mut sink) = (None, None);
    while files.is_none() || sink.is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
        let seconds = started.elapsed().as_secs_f64();
        if sink.is_none() && receiver.n_newlines.load(Ordering::Relaxed) >= n_lines {
            sink = Some(seconds);
        }
        if files.is_none() && is_written(&logs, n_lines) {
            files = Some(seconds);
        }
        assert!(seconds < 120.0 && child.try_wait().is_ok_and(|ended| ended.is_none()), "it goes on to its end");
    }
    child.kill().and_then(|()| child.wait()).expect("end it");
    (files.unwrap_or_default(), sink.unwrap_or_default())
}

/// Whether the outputs have so many lines: counted only when they don't grow any more.
fn is_written(logs: &Path, n_lines: u64) -> bool {
    let outputs = || (0..4).map(|ix| logs.join(format!("bench-{ix}/bench-{ix}.log")));
    let size = || outputs().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum::<u64>();
    let before = size();
    std::thread::sleep(std::time::Duration::from_millis(2));
    if before == 0 || size() != before {
        return false;
    }
    let count = |path| fs::read(path).map_or(0, |bytes| memchr::memchr_iter(b'\n', &bytes).count() as u64);
    outputs().map(count).sum::<u64>() >= n_lines
}

fn make_containers(root: &Path, workload: &Workload, bytes: usize) -> u64 {
    let mut n_lines = 0;
    for ix in 0..workload.containers {
        let id = format!("{ix:064x}");
        let directory = root.join(&id);
        fs::create_dir_all(&directory).expect("a new directory");
        let config = format!(r#"{{"ID":"{id}","Name":"/bench-{ix}","State":{{"Running":false}}}}"#);
        fs::write(directory.join("config.v2.json"), config).expect("a new file");
        let (mut corpus, mut log, mut rendered) = (Corpus::new(workload.kind), Vec::new(), Vec::new());
        while log.len() < bytes / workload.containers {
            corpus.append(&mut log, &mut rendered);
            rendered.clear();
        }
        n_lines += corpus.n_lines();
        fs::write(directory.join(format!("{id}-json.log")), log).expect("a new file");
    }
    n_lines
}

fn config(place: &Path, url: &str, batch: &str) -> Config {
    let paths = ["c", "o", "s"].map(|name| place.join(name).to_str().expect("a plain path").to_owned());
    let [containers, logs, state] = &paths;
    let places = ["longshore", "run", "--containers-dir", containers, "--log-path", logs, "--state-dir", state];
    let args = places.iter().copied().chain(["--endpoint", url, "--batch", batch]);
    let Command::Run(flags) = Cli::parse_from(args).into_command() else { unreachable!("asked for a run") };
    let host = Host { now_ns: 0, hostname: "bench".to_owned(), cores: 2, working_dir: "/".into(), own_id: None };
    let config = Config::for_run(&flags, &host).expect("good flags");
    config.with_sinks(&BTreeMap::new(), &flags.forward, &host).expect("a good sink")
}

#[derive(Default)]
struct Inline {
    store: MemoryStore,
    told: VecDeque<Vec<Outcome<Unix>>>,
}

impl Committer<Unix> for Inline {
    fn submit(&mut self, items: Vec<Item<Unix>>) {
        self.told.push_back(execute(&Unix, &mut self.store, items));
    }

    fn is_idle(&self) -> bool {
        self.told.is_empty()
    }

    fn poll(&mut self) -> Option<Vec<Outcome<Unix>>> {
        self.told.pop_front()
    }
}

/// Reads and forgets.
struct Receiver {
    port: u16,
    n_bytes: Arc<AtomicU64>,
    n_newlines: Arc<AtomicU64>,
}

impl Receiver {
    fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let port = listener.local_addr().expect("its address").port();
        let (n_bytes, n_newlines) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = [n_bytes.clone(), n_newlines.clone()];
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = counted.clone();
                std::thread::spawn(move || drop(stream.and_then(|stream| take(&stream, &counted[0], &counted[1]))));
            }
        });
        Receiver { port, n_bytes, n_newlines }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

fn take(stream: &TcpStream, n_bytes: &AtomicU64, n_newlines: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    let mut line = String::new();
    let (mut length, mut body) = (0, Vec::new());
    while reader.read_line(&mut line)? > 0 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            body.clear();
            (&mut reader).take(length).read_to_end(&mut body)?;
            n_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            n_newlines.fetch_add(memchr::memchr_iter(b'\n', &body).count() as u64, Ordering::Relaxed);
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
        line.clear();
    }
    Ok(())
}
