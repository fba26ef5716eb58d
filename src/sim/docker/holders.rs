//! Which file holds which generation, followed by node and not by name: names move.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use super::SimDocker;
use crate::sim::os::{File, NodeKey};
use crate::sim::random::hash;
use crate::sys::Os;

/// Generations to remember per file: a power loss may bring the ones before back.
const GENERATIONS_MAX: usize = 4;
/// Files to remember, for the same reason.
const HOLDERS_MAX: usize = 64;

#[derive(Clone, Default)]
pub(super) struct Holder {
    /// One file holds several, one after the other, when it is truncated in place.
    pub generations: Vec<u64>,
}

impl Holder {
    pub fn youngest(&self) -> Option<u64> {
        self.generations.last().copied()
    }
}

impl SimDocker {
    /// What is written to this file from now on is a new generation.
    pub(super) fn begin_generation(&mut self, id: &str, file: &File) {
        let container = self.container_mut(id);
        container.generation = container.n_generations;
        container.n_generations += 1;
        let generations = &mut container.holders.entry(file.node()).or_default().generations;
        generations.push(container.generation);
        if generations.len() > GENERATIONS_MAX {
            generations.remove(0);
        }
    }

    /// `to` is a copy of what `from` holds.
    pub(super) fn copy_holder(&mut self, id: &str, from: &File, to: &File) {
        let holders = &mut self.container_mut(id).holders;
        let holder = holders.get(&from.node()).cloned().unwrap_or_default();
        holders.insert(to.node(), holder);
    }

    /// The log and its rotated siblings, as far as they are there.
    pub(super) fn siblings(&self, id: &str) -> Vec<PathBuf> {
        let log = self.log_path(id);
        let log_name = log.file_name().expect("a log has a name").to_string_lossy().into_owned();
        let is_sibling = |name: &str| {
            let Some(rest) = name.strip_prefix(&log_name) else { return false };
            let number = rest.strip_suffix(".gz").unwrap_or(rest);
            rest.is_empty() || number.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let names = self.os.engine_list(self.directory(id)).unwrap_or_default();
        let siblings = names.into_iter().filter(|name| is_sibling(&name.to_string_lossy()));
        let paths = siblings.map(|name| self.directory(id).join(name));
        // A directory may be in the way of a rotation.
        paths.filter(|path| self.os.engine_list(path).is_err()).collect()
    }

    /// For each generation, the files that hold it under a name of the log.
    pub(super) fn named_holders(&self, id: &str) -> BTreeMap<u64, Vec<NodeKey>> {
        let mut named: BTreeMap<u64, Vec<NodeKey>> = BTreeMap::new();
        for node in self.siblings(id).into_iter().filter_map(|path| self.os.engine_node(path)) {
            let generations = self.container(id).holders.get(&node).map_or(&[][..], |holder| &holder.generations);
            for generation in generations {
                named.entry(*generation).or_default().push(node);
            }
        }
        named.values_mut().for_each(|nodes| nodes.sort());
        named
    }

    /// Looks at those generations that have lost a file since.
    pub(super) fn examine_since(&mut self, id: &str, before: &BTreeMap<u64, Vec<NodeKey>>) {
        let after = self.named_holders(id);
        let changed = before.iter().filter(|(generation, nodes)| after.get(generation) != Some(nodes));
        self.examine(id, &changed.map(|(generation, _)| *generation).collect::<Vec<_>>());
    }

    /// Looks at everything that this file has held.
    pub(super) fn examine_file(&mut self, id: &str, file: &File) {
        let holder = self.container(id).holders.get(&file.node()).cloned().unwrap_or_default();
        self.examine(id, &holder.generations);
    }

    /// Looks which records of these generations are still there, byte for byte, in any sibling.
    pub(super) fn examine(&mut self, id: &str, generations: &[u64]) {
        let mut found: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for path in self.siblings(id) {
            let node = self.os.engine_node(&path).expect("it was listed");
            let Some(holder) = self.container(id).holders.get(&node) else { continue };
            let wanted: Vec<u64> = holder.generations.iter().copied().filter(|g| generations.contains(g)).collect();
            if wanted.is_empty() {
                continue;
            }
            let mut bytes = self.os.engine_read(&path).expect("siblings are files");
            if path.extension().is_some_and(|extension| extension == "gz") {
                bytes = inflate(&bytes);
            }
            for generation in wanted {
                found.entry(generation).or_default().push(bytes.clone());
            }
        }
        let now_ns = self.os.wall_ns();
        let os = self.os.clone();
        let truths = &mut self.container_mut(id).truths;
        for generation in generations {
            let copies = found.get(generation).map_or(&[][..], Vec::as_slice);
            truths.each_span(*generation, |span| {
                let range = span.start as usize..span.end as usize;
                let is_there = |bytes: &Vec<u8>| bytes.get(range.clone()).is_some_and(|bytes| hash(bytes) == span.hash);
                let readable = copies.iter().any(is_there);
                if !readable && span.destroyed_ns.is_none() {
                    os.count("records_destroyed");
                }
                span.came_back |= readable && span.destroyed_ns.is_some();
                span.destroyed_ns = if readable { None } else { span.destroyed_ns.or(Some(now_ns)) };
            });
        }
        self.forget_holders(id);
    }

    fn forget_holders(&mut self, id: &str) {
        if self.container(id).holders.len() <= HOLDERS_MAX {
            return;
        }
        let siblings: BTreeSet<_> = self.siblings(id).iter().filter_map(|path| self.os.engine_node(path)).collect();
        let holders = &mut self.container_mut(id).holders;
        for node in holders.keys().copied().collect::<Vec<_>>() {
            if holders.len() > HOLDERS_MAX / 2 && !siblings.contains(&node) {
                holders.remove(&node);
            }
        }
    }
}

/// As much as can be had of a file that may be cut off.
fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    // What came before the error is there.
    let _ = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inflated);
    inflated
}
