//! What a power loss leaves: an arbitrary mixture of what was durable and what was only written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Coverage;
use super::content::{Content, PAGE_BYTES};
use super::disk::{Body, Disk, NodeKey};
use crate::sim::random::Random;

/// Afterwards nothing is open, and what is left is both written and durable.
pub fn lose(disk: &mut Disk, random: &mut Random, coverage: &mut Coverage) {
    lose_names(disk, random, coverage);
    for node in disk.nodes.values_mut() {
        if let Body::File { written, durable, floor } = &mut node.body {
            lose_bytes(written, durable, *floor, random, coverage);
            *durable = written.clone();
            *floor = written.size();
        }
    }
    free_nameless(disk, coverage);
}

/// Each change of a name is kept or not, by itself: a journal keeps a prefix, other file systems promise less.
fn lose_names(disk: &mut Disk, random: &mut Random, coverage: &mut Coverage) {
    let journal = std::mem::take(&mut disk.journal);
    let n_prefix = random.below(journal.len() as u64 + 1) as usize;
    let mood = random.below(4);
    for (ix, change) in journal.iter().enumerate() {
        let wanted = match mood {
            0 => true,
            1 => false,
            2 => ix < n_prefix,
            _ => random.coin(),
        };
        let kept = wanted && disk.apply(change);
        coverage.count(match (&change.from, &change.to, kept) {
            (_, _, true) => "names_kept",
            (None, _, false) => "creations_lost",
            (_, None, false) => "removals_lost",
            (Some(_), Some(_), false) => "renames_lost",
        });
    }
    for node in disk.nodes.values_mut() {
        if let Body::Directory { names, durable } = &mut node.body {
            *names = durable.clone();
        }
    }
}

fn lose_bytes(written: &mut Content, durable: &mut Content, floor: u64, random: &mut Random, coverage: &mut Coverage) {
    if floor < durable.size() {
        // Truncating frees the blocks, so what follows it never mixes with the bytes from before.
        if random.coin() {
            coverage.count("truncations_lost");
            *written = durable.clone();
            return;
        }
        durable.resize(floor);
    }
    let synced = durable.size();
    let size = match random.below(3) {
        0 => written.size(),
        1 => synced,
        _ => random.within(synced..=written.size()),
    };
    if size < written.size() {
        coverage.count("sizes_lost");
    }
    written.resize(size);
    let mood = random.below(3);
    for ix in 0..written.n_pages() {
        if written.shares_page(durable, ix) {
            continue;
        }
        let kept = match mood {
            0 => true,
            1 => false,
            _ => random.coin(),
        };
        if kept {
            coverage.count("pages_kept");
            continue;
        }
        let in_durable = (ix as u64 * PAGE_BYTES) < synced;
        coverage.count(if in_durable { "pages_old" } else { "pages_zeroed" });
        // A page that was in part durable falls back to that part: a disk doesn't lose what it has confirmed.
        written.take_page(durable, ix, random.coin());
    }
    // A page that was cut stays zero beyond the end.
    written.resize(size);
}

fn free_nameless(disk: &mut Disk, coverage: &mut Coverage) {
    let mut links: BTreeMap<NodeKey, u64> = BTreeMap::new();
    let mut queue = VecDeque::from([NodeKey(0)]);
    while let Some(key) = queue.pop_front() {
        *links.entry(key).or_default() += 1;
        if links[&key] == 1 {
            queue.extend(disk.names(key).into_iter().flat_map(BTreeMap::values));
        }
    }
    disk.nodes.retain(|key, node| {
        let kept = links.contains_key(key);
        if !kept && node.number != 0 {
            coverage.count("files_lost");
        }
        kept
    });

    let mut taken = BTreeSet::new();
    let mut homeless = Vec::new();
    for (key, node) in &mut disk.nodes {
        node.links = links[key];
        (node.agent_opens, node.engine_opens) = (0, 0);
        // A removal that was lost brings a node back whose number may have gone to another.
        if node.number == 0 || !taken.insert(node.number) {
            node.number = 0;
            homeless.push(*key);
        }
    }
    disk.recount_numbers();
    for key in homeless {
        let number = disk.take_number(coverage);
        disk.node_mut(key).number = number;
    }
}
