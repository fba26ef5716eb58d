//! Splits, decodes and formats a fixed corpus once, for `scripts/instructions` to count: `instructions WORKLOAD`.
//! An example of `line/`, and no bench: cargo links the whole program beside each bench, and builds all that the library needs
//! for an example of the program. That takes longer than all of this.

// What the benches call it.
extern crate longshore_line as longshore;

#[path = "../corpus/mod.rs"]
mod corpus;
#[path = "mod.rs"]
mod decoding;

use std::hint::black_box;

use decoding::{WORKLOADS, decode_lines};
use longshore::format::{Formatter, Metadata, Template};

/// Small enough for valgrind, large enough that what a process does once is nothing.
const COUNTED_BYTES: usize = 1 << 20;

fn main() {
    let wanted = std::env::args().nth(1);
    for (_, kind) in WORKLOADS.iter().filter(|(name, _)| wanted.as_deref() == Some(*name)) {
        let (corpus, _) = corpus::log(*kind, COUNTED_BYTES);
        let mut out = Vec::with_capacity(2 * corpus.len());
        counted(&corpus, &mut out);
        black_box(&out);
    }
}

/// What is counted: split, decode, format as `{time} {log}`.
#[inline(never)]
fn counted(corpus: &[u8], out: &mut Vec<u8>) {
    let formatter = Formatter::text(&Template::default(), &Metadata::default());
    decode_lines(corpus, |entry| formatter.append(&entry.record, out));
}
