//! Newline split, decode and format of lines in memory: what one core can do before any system call.
//! `cargo bench --bench decode [WORKLOAD]`; under `cargo test`, or with `--test`, a tiny corpus, once.

#![allow(clippy::disallowed_methods, reason = "a bench asks the clock")]

mod corpus;
mod decoding;

use std::hint::black_box;
use std::time::Instant;

use corpus::Kind;
use decoding::{WORKLOADS, decode_lines};
use longshore::assemble::Unfinished;
use longshore::batch::Batch;
use longshore::config::limits::QUANTUM_BYTES;
use longshore::filter::{Redaction, TextFilter};
use longshore::format::{Formatter, Metadata, Template};
use longshore::pipe::{Pipe, Tally};
use longshore::shape::Shape;
use twox_hash::XxHash3_64;

const CORPUS_BYTES: usize = 8 << 20;
const ROUNDS: usize = 12;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted.as_str()));
    let is_test = has("--test") || !has("--bench");
    let (corpus_bytes, rounds) = if is_test { (64 << 10, 1) } else { (CORPUS_BYTES, ROUNDS) };
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  hash of the text output",
        "MB/s", "bytes", "split", "decode", "text", "pipe", "json"
    );
    for (name, kind) in WORKLOADS.iter().filter(|(name, _)| is_wanted(name)) {
        measure(name, *kind, corpus_bytes, rounds);
    }
}

fn measure(name: &str, kind: Kind, corpus_bytes: usize, rounds: usize) {
    let text = Formatter::text(&Template::default(), &Metadata::default());
    let json = Formatter::json(&Metadata { name: "web".into(), ..Metadata::default() });
    let (corpus, output) = corpus::log(kind, corpus_bytes);
    let n_lines = memchr::memchr_iter(b'\n', &corpus).count();
    let split = best(&corpus, rounds, || memchr::memchr_iter(b'\n', &corpus).count() as u64);
    let decode = best(&corpus, rounds, || {
        let mut n_bytes = 0;
        decode_lines(&corpus, |entry| n_bytes += black_box(entry.record.text.len() as u64));
        n_bytes
    });
    let mut out = Vec::with_capacity(2 * corpus.len());
    let mut format = |formatter: &Formatter| {
        let speed = best(&corpus, rounds, || {
            out.clear();
            decode_lines(&corpus, |entry| formatter.append(&entry.record, &mut out));
            1
        });
        (speed, XxHash3_64::oneshot(&out))
    };
    let ((text, hash), (json, _)) = (format(&text), format(&json));
    let (pipe, n_piped_bytes) = piped(&corpus, rounds);
    // Pieces are joined by the assembler, which is in the pipe alone.
    assert!(kind == Kind::Pieces || hash == XxHash3_64::oneshot(&output), "{name}: the output is wrong");
    assert_eq!(n_piped_bytes, output.len(), "{name}: what came out of the pipe");
    let bytes = corpus.len() / n_lines;
    println!("{name:<10} {bytes:>8} {split:>8.0} {decode:>8.0} {text:>8.0} {pipe:>8.0} {json:>8.0}  {hash:016x}");
}

/// All that is done for a line: decoded, joined, filtered, rendered into a batch of a quantum. And how much came out.
fn piped(corpus: &[u8], rounds: usize) -> (f64, usize) {
    let shape = Shape {
        formatter: Formatter::text(&Template::default(), &Metadata::default()),
        max_line_bytes: 1 << 20,
        since_ns: None,
        filter: TextFilter::default(),
        redaction: Redaction::default(),
    };
    let mut pipe = Pipe::new(shape.into(), Unfinished::default(), None);
    let (mut batch, mut n_bytes) = (Batch::default(), 0);
    let speed = best(corpus, rounds, || {
        let mut start = 0;
        let mut tally = Tally::default();
        n_bytes = 0;
        for end in memchr::memchr_iter(b'\n', corpus) {
            pipe.line(&corpus[start..end], start as u64, &mut batch, &mut tally);
            start = end + 1;
            if batch.len() >= QUANTUM_BYTES {
                n_bytes += batch.len();
                batch.clear();
            }
        }
        n_bytes += batch.len();
        batch.clear();
        tally.records
    });
    (speed, n_bytes)
}

/// MB/s of the fastest round: the others were disturbed.
fn best(corpus: &[u8], rounds: usize, mut round: impl FnMut() -> u64) -> f64 {
    let seconds = (0..rounds).map(|_| {
        let started = Instant::now();
        black_box(round());
        started.elapsed().as_secs_f64()
    });
    corpus.len() as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e6
}
