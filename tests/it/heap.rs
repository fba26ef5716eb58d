//! How the process uses its memory: what `src/sys/heap.c` says to glibc.

#![cfg(target_env = "gnu")]

use std::path::Path;

use crate::harness::Longshore;
use crate::verify::Root;

/// What glibc reserves for the heap of a thread, and aligns it to.
const HEAP_BYTES: u64 = 64 << 20;

/// Heaps of threads: their begin is in use, and the rest of them reserved.
fn n_heaps(mappings: &str) -> usize {
    let ranges: Vec<(u64, u64, bool)> = mappings
        .lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let address = |digits| u64::from_str_radix(digits, 16).ok();
            Some((address(start)?, address(end)?, rest.starts_with("---p")))
        })
        .collect();
    let is_heap = |pair: &&[(u64, u64, bool)]| {
        let ((start, _, reserved), (_, end, rest_reserved)) = (pair[0], pair[1]);
        start % HEAP_BYTES == 0 && end == start + HEAP_BYTES && !reserved && rest_reserved
    };
    ranges.windows(2).filter(is_heap).count()
}

fn mappings(environment: &[(&str, &Path)]) -> String {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 100);
    let mut agent = Longshore::new(root.path());
    agent.start_with(&[], environment);
    agent.wait_for_lines("web", 100);
    agent.mappings()
}

#[test]
fn all_threads_share_a_heap_unless_the_environment_says_otherwise() {
    assert_eq!(n_heaps(&mappings(&[])), 0);
    assert_ne!(n_heaps(&mappings(&[("MALLOC_ARENA_MAX", Path::new("8"))])), 0);
}
