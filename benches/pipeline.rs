//! The whole way, disk to disk: a backfill of generated logs into rotating outputs, MB/s of source, for each setting.
//! `cargo bench --bench pipeline [WORKLOAD]`; under `cargo test`, or with `--test`, a tiny tree, once.

#![allow(clippy::disallowed_methods, reason = "a bench makes its own files and asks the clock")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use longshore::agent::run;
use longshore::cli::{Cli, Command, Exit};
use longshore::config::{Config, Host};
use twox_hash::XxHash3_64;

struct Workload {
    name: &'static str,
    containers: usize,
    megabytes: usize,
    line: fn(usize, &str) -> String,
    flags: &'static [&'static str],
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "one", containers: 1, megabytes: 512, line: plain, flags: &["--threads", "1"] },
    Workload {
        name: "one_whole",
        containers: 1,
        megabytes: 512,
        line: plain,
        flags: &["--threads", "1", "-l", "10GB"],
    },
    Workload { name: "fifty", containers: 50, megabytes: 512, line: plain, flags: &["--threads", "2"] },
    Workload {
        name: "json",
        containers: 1,
        megabytes: 256,
        line: plain,
        flags: &["--threads", "1", "--format", "json"],
    },
    Workload { name: "escapes", containers: 1, megabytes: 256, line: escapes, flags: &["--threads", "1"] },
    Workload {
        name: "redact",
        containers: 1,
        megabytes: 256,
        line: plain,
        flags: &["--threads", "1", "--redact", "email,card,bearer,aws-key,password-pair"],
    },
    Workload { name: "zstd", containers: 1, megabytes: 256, line: plain, flags: &["--threads", "1", "-c", "zstd"] },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    println!("{:<10} {:>10} {:>8} {:>8}  hash of the outputs", "workload", "containers", "MB", "MB/s");
    for workload in WORKLOADS {
        if wanted.is_some_and(|wanted| !workload.name.contains(wanted.as_str())) {
            continue;
        }
        let bytes = if is_test { 1 << 20 } else { workload.megabytes << 20 };
        measure(workload, bytes, if is_test { 1 } else { 3 });
    }
}

fn measure(workload: &Workload, bytes: usize, rounds: usize) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let source = place.path().join("containers");
    let made = make_containers(&source, workload, bytes);
    let mut best = 0_f64;
    let mut hash = 0;
    for round in 0..rounds {
        let home = place.path().join(round.to_string());
        let config = config(&source, &home, workload.flags);
        let started = Instant::now();
        assert_eq!(run::backfill(config).expect("a backfill"), Exit::Done);
        best = best.max(made as f64 / 1e6 / started.elapsed().as_secs_f64());
        hash = hash_of_outputs(&home.join("logs"));
        fs::remove_dir_all(home).expect("its own directory");
    }
    let megabytes = made as f64 / 1e6;
    println!("{:<10} {:>10} {megabytes:>8.0} {best:>8.0}  {hash:016x}", workload.name, workload.containers);
}

fn config(source: &Path, home: &Path, flags: &[&str]) -> Config {
    let (logs, state) = (home.join("logs"), home.join("state"));
    let mut args = vec!["longshore", "backfill", "--progress", "never", "--containers-dir"];
    let paths = [source, &logs, &state].map(|path| path.to_str().expect("a plain path"));
    args.extend([paths[0], "--log-path", paths[1], "--state-dir", paths[2]]);
    args.extend(flags);
    let Command::Backfill(flags) = Cli::parse_from(args).into_command() else {
        unreachable!("asked for a backfill");
    };
    let host =
        Host { now_ns: 0, hostname: "bench".to_owned(), cores: 2, working_dir: PathBuf::from("/"), own_id: None };
    Config::for_backfill(&flags, &host).expect("good flags")
}

/// Gives the bytes of all logs.
fn make_containers(source: &Path, workload: &Workload, bytes: usize) -> usize {
    let mut made = 0;
    for container_ix in 0..workload.containers {
        let id = format!("{container_ix:064x}");
        let directory = source.join(&id);
        fs::create_dir_all(&directory).expect("a new directory");
        let config = format!(r#"{{"ID":"{id}","Name":"/bench-{container_ix}","State":{{"Running":false}}}}"#);
        fs::write(directory.join("config.v2.json"), config).expect("a new file");
        let mut log = Vec::with_capacity(bytes / workload.containers + 512);
        let mut line_ix = 0_usize;
        while log.len() < bytes / workload.containers {
            let time = format!(
                "2026-11-25T16:{:02}:{:02}.{:09}Z",
                line_ix / 6_000_000 % 60,
                line_ix / 100_000 % 60,
                100_000_001 + line_ix % 100_000 * 7
            );
            log.extend_from_slice((workload.line)(line_ix, &time).as_bytes());
            log.push(b'\n');
            line_ix += 1;
        }
        made += log.len();
        fs::write(directory.join(format!("{id}-json.log")), log).expect("a new file");
    }
    made
}

fn plain(ix: usize, time: &str) -> String {
    let text = "GET /api/items?sort=price&page=2 HTTP/1.1 200 1606 36ms";
    format!(r#"{{"log":"10.0.0.63 {text} request={ix:09}\n","stream":"stdout","time":"{time}"}}"#)
}

fn escapes(ix: usize, time: &str) -> String {
    format!(
        r#"{{"log":"{{\"level\":\"info\",\"msg\":\"tick\",\"n\":{ix},\"path\":\"\\\\srv\\\\a\"}}\n","stream":"stderr","time":"{time}"}}"#
    )
}

/// Over names and texts of all segments, in order of their names.
fn hash_of_outputs(logs: &Path) -> u64 {
    let mut files = Vec::new();
    for directory in fs::read_dir(logs).expect("the outputs").flatten() {
        if directory.file_name() != ".longshore" {
            files.extend(fs::read_dir(directory.path()).expect("an output").flatten().map(|entry| entry.path()));
        }
    }
    files.sort();
    let hashes: Vec<u8> =
        files.iter().flat_map(|path| XxHash3_64::oneshot(&fs::read(path).expect("an output")).to_le_bytes()).collect();
    XxHash3_64::oneshot(&hashes)
}
