//! Newline split, decode and format of lines in memory: what one core can do before any system call.
//! `cargo bench --bench decode [WORKLOAD]`; under `cargo test`, or with `--test`, a tiny corpus, once.

#![allow(clippy::disallowed_methods, reason = "a bench asks the clock")]

use std::{hint::black_box, time::Instant};

use longshore::decode::{Decoded, Decoder, Entry};
use longshore::format::{Formatter, Metadata, RecordView, Template};
use twox_hash::XxHash3_64;

const CORPUS_BYTES: usize = 8 << 20;
const ROUNDS: usize = 12;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let (corpus_bytes, rounds) = if is_test { (64 << 10, 1) } else { (CORPUS_BYTES, ROUNDS) };
    let text = Formatter::text(&Template::default(), &Metadata::default());
    let json = Formatter::json(&Metadata { name: "web".into(), ..Metadata::default() });

    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8}  hash of the text output",
        "MB/s", "bytes", "split", "decode", "text", "json"
    );
    for (name, line) in WORKLOADS {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let corpus = corpus(*line, corpus_bytes);
        let n_lines = memchr::memchr_iter(b'\n', &corpus).count();
        let split = best(&corpus, rounds, || memchr::memchr_iter(b'\n', &corpus).count() as u64);
        let decode = best(&corpus, rounds, || decode_lines(&corpus, |entry| black_box(entry.text.len() as u64)));
        let mut out = Vec::with_capacity(2 * corpus.len());
        let mut format = |formatter: &Formatter| {
            let speed = best(&corpus, rounds, || {
                out.clear();
                decode_lines(&corpus, |entry| {
                    formatter.append(&record(entry), &mut out);
                    1
                })
            });
            (speed, XxHash3_64::oneshot(&out))
        };
        let ((text, hash), (json, _)) = (format(&text), format(&json));
        let bytes = corpus.len() / n_lines;
        println!("{name:<10} {bytes:>8} {split:>8.0} {decode:>8.0} {text:>8.0} {json:>8.0}  {hash:016x}");
    }
}

type Line = fn(usize, &str) -> String;

const WORKLOADS: &[(&str, Line)] = &[
    ("plain", |ix, time| format!(r#"{{"log":"{}\n","stream":"stdout","time":"{time}"}}"#, words(ix, 82))),
    ("short_time", |ix, time| {
        format!(r#"{{"log":"{}\n","stream":"stdout","time":"{}Z"}}"#, words(ix, 83), &time[..28])
    }),
    ("utf8", |ix, time| format!(r#"{{"log":"{} žluťoučký\n","stream":"stderr","time":"{time}"}}"#, words(ix, 70))),
    ("escapes", |ix, time| {
        let log =
            format!(r#"{{\"level\":\"info\",\"n\":{ix},\"msg\":\"{}\",\"url\":\"/a?b=1\u0026c=2\"}}"#, words(ix, 40));
        format!(r#"{{"log":"{log}\n","stream":"stdout","time":"{time}"}}"#)
    }),
    ("attrs", |ix, time| {
        let attrs = r#"{"com.example.team":"core","env":"production","tag":"web/0123456789ab"}"#;
        format!(r#"{{"log":"{}\n","stream":"stdout","attrs":{attrs},"time":"{time}"}}"#, words(ix, 82))
    }),
    ("pieces", |ix, time| format!(r#"{{"log":"{}","stream":"stdout","time":"{time}"}}"#, words(ix, 16_384))),
    ("serde_json", |ix, time| format!(r#"{{"stream":"stdout","log":"{}\n","time":"{time}"}}"#, words(ix, 82))),
];

/// Exactly `bytes` of text that differs from line to line.
fn words(ix: usize, bytes: usize) -> String {
    let mut text = format!("request {ix} ");
    while text.len() < bytes {
        text.push_str("GET /shop/cart took 12 ms and returned 200 ");
    }
    text.truncate(bytes);
    text
}

fn corpus(line: Line, bytes: usize) -> Vec<u8> {
    let mut corpus = Vec::new();
    for ix in 0.. {
        if corpus.len() >= bytes {
            break;
        }
        let time =
            format!("2026-11-25T16:{:02}:{:02}.{:09}Z", ix / 60 % 60, ix % 60, (ix * 7_654_321 + 1) % 1_000_000_000);
        corpus.extend(line(ix, &time).bytes());
        corpus.push(b'\n');
    }
    corpus
}

fn decode_lines(corpus: &[u8], mut visit: impl FnMut(&Entry<'_>) -> u64) -> u64 {
    let mut decoder = Decoder::new();
    let mut start = 0;
    let mut total = 0;
    for end in memchr::memchr_iter(b'\n', corpus) {
        match decoder.decode(&corpus[start..end]) {
            Decoded::Entry(entry) => total += visit(black_box(&entry)),
            Decoded::Malformed(fault) => panic!("{fault:?}: {}", corpus[start..end].escape_ascii()),
        }
        start = end + 1;
    }
    total
}

fn record<'a>(entry: &Entry<'a>) -> RecordView<'a> {
    let text = entry.text.strip_suffix(b"\n").unwrap_or(entry.text);
    RecordView { stream: entry.stream, time: entry.time, text, attrs: entry.attrs, line: entry.line }
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
