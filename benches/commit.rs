//! Commits of rows to the state store, as the agent makes them: rows a second and MB/s of rows, for several counts of
//! containers in one commit. `cargo bench --bench commit`; under `cargo test`, or with `--test`, a few, once.

#![allow(clippy::disallowed_methods, reason = "a bench asks the clock")]

use std::time::Instant;

use longshore::assemble::Unfinished;
use longshore::checkpoint::store::{SledStore, Store};
use longshore::checkpoint::{Epoch, Ladder, Row, Rung, codec};
use longshore::config::limits::COMMIT_CHANGES_MAX;
use longshore::format::{Formatter, Metadata, Template};
use longshore::shape::Shape;
use longshore::sink::Place;
use longshore::tail::Fingerprint;
use twox_hash::XxHash3_64;

fn main() {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let n_commits = if is_test { 2 } else { 100 };
    println!("{:<12} {:>10} {:>10} {:>10}  hash of the rows", "containers", "ms/commit", "rows/s", "MB/s");
    for n_containers in [1_usize, 10, 200, 2_000] {
        let place = tempfile::tempdir().expect("a temporary directory");
        let (mut store, _) = SledStore::open(place.path(), 0).expect("a new store");
        let mut rows: Vec<Row> = (0..n_containers).map(row).collect();
        let mut bytes = 0;
        let mut hashes = Vec::new();
        let started = Instant::now();
        for commit_ix in 0..n_commits {
            let mut changes = Vec::new();
            for row in &mut rows {
                row.sequence += 1;
                row.ladder.push(rung(commit_ix as u64));
                changes.extend(codec::put(row, 1).0);
            }
            bytes += changes.iter().filter_map(|(_, value)| value.as_ref()).map(Vec::len).sum::<usize>();
            // As the commit thread does: more would make the store keep much memory.
            for part in changes.chunks(COMMIT_CHANGES_MAX) {
                store.commit(part).expect("room on the disk");
            }
            hashes = changes.iter().filter_map(|(_, value)| value.clone()).flatten().collect();
        }
        let seconds = started.elapsed().as_secs_f64();
        let n_rows = (n_commits * n_containers) as f64;
        println!(
            "{n_containers:<12} {:>10.2} {:>10.0} {:>10.1}  {:016x}",
            seconds * 1000.0 / n_commits as f64,
            n_rows / seconds,
            bytes as f64 / 1e6 / seconds,
            XxHash3_64::oneshot(&hashes)
        );
    }
}

fn row(container_ix: usize) -> Row {
    let shape = Shape {
        formatter: Formatter::text(&Template::default(), &Metadata::default()),
        max_line_bytes: 1 << 20,
        since_ns: None,
        filter: Default::default(),
        redaction: Default::default(),
    };
    Row {
        id: format!("{container_ix:064x}"),
        name: format!("bench-{container_ix}"),
        route: format!("bench-{container_ix}/bench-{container_ix}.log"),
        sequence: 0,
        boot: "bench".to_owned(),
        ladder: Ladder { epochs: vec![Epoch { shape: shape.into(), from: Place::default() }], rungs: Vec::new() },
        drained: (0..5_u8).map(|head| Fingerprint::of(&[head])).collect(),
        absent_since_ns: None,
    }
}

fn rung(second: u64) -> Rung {
    Rung {
        at_ms: second * 1000,
        head: Some(Fingerprint::of(b"head")),
        offset: second * 1_000_000,
        tail: Some(Fingerprint::of(&second.to_le_bytes())),
        unfinished: Unfinished::default(),
        place: Place { segment: 1, offset: second * 700_000 },
        owed: Vec::new(),
        owed_mid_record: false,
        synced: second.is_multiple_of(60),
    }
}
