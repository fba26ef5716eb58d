//! Newline split, decode and format of lines in memory: what one core can do before any system call.
//! `cargo bench --bench decode [WORKLOAD]`; under `cargo test`, or with `--test`, a tiny corpus, once.
//! `--instructions WORKLOAD` only decodes a fixed corpus, for `scripts/instructions` to count.

#![allow(clippy::disallowed_methods, reason = "a bench asks the clock")]

mod corpus;

use std::hint::black_box;
use std::time::Instant;

use corpus::Kind;
use longshore::decode::{Decoded, Decoder, Entry};
use longshore::format::{Formatter, Metadata, RecordView, Template};
use twox_hash::XxHash3_64;

const CORPUS_BYTES: usize = 8 << 20;
/// Small enough for valgrind, large enough that what a process does once is nothing.
const COUNTED_BYTES: usize = 1 << 20;
const ROUNDS: usize = 12;

const WORKLOADS: &[(&str, Kind)] = &[
    ("plain", Kind::Plain),
    ("access", Kind::Access),
    ("escapes", Kind::Application),
    ("utf8", Kind::Utf8),
    ("short", Kind::Short),
    ("pieces", Kind::Pieces),
    ("attrs", Kind::Attrs),
    ("foreign", Kind::Foreign),
    ("mixed", Kind::Mixed),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted.as_str()));
    if has("--instructions") {
        for (_, kind) in WORKLOADS.iter().filter(|(name, _)| wanted.is_some_and(|wanted| name == wanted)) {
            let (corpus, _) = corpus::log(*kind, COUNTED_BYTES);
            let mut out = Vec::with_capacity(2 * corpus.len());
            counted(&corpus, &mut out);
            black_box(&out);
        }
        return;
    }
    let is_test = has("--test") || !has("--bench");
    let (corpus_bytes, rounds) = if is_test { (64 << 10, 1) } else { (CORPUS_BYTES, ROUNDS) };
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8}  hash of the text output",
        "MB/s", "bytes", "split", "decode", "text", "json"
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
        decode_lines(&corpus, |entry| n_bytes += black_box(entry.text.len() as u64));
        n_bytes
    });
    let mut out = Vec::with_capacity(2 * corpus.len());
    let mut format = |formatter: &Formatter| {
        let speed = best(&corpus, rounds, || {
            out.clear();
            decode_lines(&corpus, |entry| formatter.append(&record(entry), &mut out));
            1
        });
        (speed, XxHash3_64::oneshot(&out))
    };
    let ((text, hash), (json, _)) = (format(&text), format(&json));
    // Pieces are joined by the assembler, which isn't measured here.
    assert!(kind == Kind::Pieces || hash == XxHash3_64::oneshot(&output), "{name}: the output is wrong");
    let bytes = corpus.len() / n_lines;
    println!("{name:<10} {bytes:>8} {split:>8.0} {decode:>8.0} {text:>8.0} {json:>8.0}  {hash:016x}");
}

/// What is counted: split, decode, format as `{time} {log}`.
#[inline(never)]
fn counted(corpus: &[u8], out: &mut Vec<u8>) {
    let formatter = Formatter::text(&Template::default(), &Metadata::default());
    decode_lines(corpus, |entry| formatter.append(&record(entry), out));
}

#[inline(always)]
fn decode_lines(corpus: &[u8], mut visit: impl FnMut(&Entry<'_>)) {
    let mut decoder = Decoder::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', corpus) {
        match decoder.decode(&corpus[start..end]) {
            Decoded::Entry(entry) => visit(black_box(&entry)),
            Decoded::Malformed(fault) => panic!("{fault:?}: {}", corpus[start..end].escape_ascii()),
        }
        start = end + 1;
    }
}

fn record<'a>(entry: &Entry<'a>) -> RecordView<'a> {
    RecordView { stream: entry.stream, time: entry.time, text: entry.text, attrs: entry.attrs, line: entry.line }
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
