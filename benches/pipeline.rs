//! The whole way, disk to disk: generated logs into rotating outputs, read once (`backfill`) or followed (`run`, until all
//! is out), for each setting: MB/s of source, MB/s per CPU second, a hash of the outputs.
//! `cargo bench --bench pipeline [WORKLOAD]`; under `cargo test`, or with `--test`, a little of each, once.

#![allow(clippy::disallowed_methods, reason = "a bench makes its own files and asks the clock")]

use std::path::PathBuf;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use clap::Parser;
use longshore::agent::run;
use longshore::cli::{Cli, Command, Exit};
use longshore::config::{Config, Host as Node};
use rustix::time::{ClockId, clock_gettime};
use twox_hash::XxHash3_64;

mod corpus;
#[allow(dead_code, reason = "the table of scripts/bench takes the rest")]
#[path = "end_to_end/host.rs"]
mod host;
#[allow(dead_code, reason = "the table of scripts/bench takes the rest")]
#[path = "end_to_end/process.rs"]
mod process;

use corpus::Kind;
use host::Host;
use process::Process;

const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Backfill,
    Follow,
}

struct Workload {
    name: &'static str,
    way: Way,
    containers: usize,
    megabytes: usize,
    kind: Kind,
    flags: &'static [&'static str],
}

const ONE: Workload = Workload {
    name: "one",
    way: Way::Backfill,
    containers: 1,
    megabytes: 512,
    kind: Kind::Plain,
    flags: &["--threads", "1"],
};

const WORKLOADS: &[Workload] = &[
    ONE,
    Workload { name: "one_whole", flags: &["--threads", "1", "-l", "10GB"], ..ONE },
    Workload { name: "fifty", containers: 50, flags: &["--threads", "2"], ..ONE },
    Workload { name: "thousands", containers: 5_000, megabytes: 256, flags: &["--threads", "2"], ..ONE },
    Workload { name: "follow_one", way: Way::Follow, flags: &[], ..ONE },
    Workload { name: "follow_fifty", way: Way::Follow, containers: 50, flags: &[], ..ONE },
    Workload { name: "follow_thousands", way: Way::Follow, containers: 5_000, megabytes: 256, flags: &[], ..ONE },
    Workload { name: "json", megabytes: 256, flags: &["--threads", "1", "--format", "json"], ..ONE },
    Workload { name: "escapes", megabytes: 256, kind: Kind::Application, ..ONE },
    Workload { name: "mixed", megabytes: 256, kind: Kind::Mixed, ..ONE },
    Workload {
        name: "redact",
        megabytes: 256,
        flags: &["--threads", "1", "--redact", "email,card,bearer,aws-key,password-pair"],
        ..ONE
    },
    Workload { name: "zstd", megabytes: 256, flags: &["--threads", "1", "-c", "zstd"], ..ONE },
];

/// Of one run.
struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    println!(
        "{:<17} {:>10} {:>6} {:>7} {:>9}  hash of the outputs",
        "workload", "containers", "MB", "MB/s", "MB/CPU s"
    );
    for workload in WORKLOADS {
        if wanted.is_none_or(|wanted| workload.name.contains(wanted.as_str())) {
            measure(workload, is_test);
        }
    }
}

fn measure(workload: &Workload, is_test: bool) {
    let host = Host::new();
    let n_containers = if is_test { workload.containers.min(20) } else { workload.containers };
    let n_bytes = if is_test { 1 << 20 } else { workload.megabytes << 20 };
    let (source, output) = corpus::log(workload.kind, n_bytes / n_containers);
    (0..n_containers).for_each(|ix| host.add_log(ix, &source));
    let megabytes = (source.len() * n_containers) as f64 / 1e6;
    let (mut best, mut best_of_cpu) = (0_f64, 0_f64);
    for _ in 0..if is_test { 1 } else { 3 } {
        host.clear_outputs();
        let run = match workload.way {
            Way::Backfill => backfill(&host, workload.flags),
            Way::Follow => follow(&host, (output.len() * n_containers) as u64),
        };
        best = best.max(megabytes / run.seconds);
        best_of_cpu = best_of_cpu.max(megabytes / run.cpu_seconds.max(0.001));
    }
    let hashes: Vec<u8> = (0..n_containers).flat_map(|ix| host.read_output(ix).hash.to_le_bytes()).collect();
    let hash = XxHash3_64::oneshot(&hashes);
    println!("{:<17} {n_containers:>10} {megabytes:>6.0} {best:>7.0} {best_of_cpu:>9.0}  {hash:016x}", workload.name);
}

fn backfill(host: &Host, flags: &[&str]) -> Run {
    let config = config(host, flags);
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    assert_eq!(run::backfill(config).expect("a backfill"), Exit::Done);
    Run { seconds: started.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds() - cpu_before }
}

fn follow(host: &Host, n_bytes: u64) -> Run {
    let mut program = Program::new(env!("CARGO_BIN_EXE_longshore"));
    program.args(["run", "--listen", "none", "--containers-dir"]).arg(host.containers());
    program.arg("--log-path").arg(host.logs()).arg("--state-dir").arg(host.state());
    let started = Instant::now();
    let process = Process::start(program, &host.messages());
    assert!(host.await_bytes(n_bytes, PATIENCE, LOOK), "the outputs are not complete");
    Run { seconds: started.elapsed().as_secs_f64(), cpu_seconds: process.cpu_seconds() }
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn config(host: &Host, flags: &[&str]) -> Config {
    let paths = [host.containers(), host.logs(), host.state()];
    let [source, logs, state] = paths.each_ref().map(|path| path.to_str().expect("a plain path"));
    let mut args = vec!["longshore", "backfill", "--progress", "never", "--listen", "none", "--containers-dir", source];
    args.extend(["--log-path", logs, "--state-dir", state]);
    args.extend(flags);
    let Command::Backfill(flags) = Cli::parse_from(args).into_command() else {
        unreachable!("asked for a backfill");
    };
    let node =
        Node { now_ns: 0, hostname: "bench".to_owned(), cores: 2, working_dir: PathBuf::from("/"), own_id: None };
    Config::for_backfill(&flags, &node).expect("good flags")
}
