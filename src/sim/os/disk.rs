//! An in-memory file system that keeps apart what was written and what would survive a power loss.
//! Knows nothing of processes, faults or clocks; who may call what is decided above.
//!
//! What is durable: a file's bytes after `sync`, a directory's names after `sync_directory`. Changes of names wait in a
//! journal in the order they were made; a power loss keeps some of them (`power.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Coverage;
use super::content::Content;

/// Which node it is: never used again, unlike its inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey(pub u64);

const ROOT: NodeKey = NodeKey(0);
/// As on ext4: the first number a new file gets.
const FIRST_NUMBER: u64 = 11;
/// Names whose change isn't durable yet: beyond this the oldest half is committed, as a journal that runs full does.
const JOURNAL_MAX: usize = 4096;
/// Freed nodes to wait for before looking which of them a power loss could still bring back.
const RELEASED_MAX: usize = 512;

pub struct Node {
    /// The inode number. 0 once it is free for others.
    pub number: u64,
    pub body: Body,
    /// Names that lead here.
    pub links: u64,
    /// Descriptors of the agent under test.
    pub agent_opens: u64,
    /// Descriptors of the engine and of the test itself.
    pub engine_opens: u64,
    pub modified_ns: i64,
    /// Where it was created.
    pub born: PathBuf,
}

pub enum Body {
    File {
        written: Content,
        durable: Content,
        /// The smallest size since the last sync: below the durable size if it was truncated.
        floor: u64,
    },
    Directory {
        names: BTreeMap<OsString, NodeKey>,
        durable: BTreeMap<OsString, NodeKey>,
    },
    /// A link, FIFO or socket.
    Special,
}

impl Body {
    pub fn file() -> Body {
        Body::File { written: Content::default(), durable: Content::default(), floor: 0 }
    }

    fn directory() -> Body {
        Body::Directory { names: BTreeMap::new(), durable: BTreeMap::new() }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub directory: NodeKey,
    pub name: OsString,
}

/// A change of names: made (`to` only), removed (`from` only) or renamed.
#[derive(Clone)]
pub struct Change {
    pub node: NodeKey,
    pub from: Option<Place>,
    pub to: Option<Place>,
    /// What the rename replaced.
    pub replaced: Option<NodeKey>,
}

impl Change {
    fn touches(&self, directory: NodeKey) -> bool {
        [&self.from, &self.to].into_iter().flatten().any(|place| place.directory == directory)
    }
}

pub struct Disk {
    pub nodes: BTreeMap<NodeKey, Node>,
    pub journal: Vec<Change>,
    next_key: u64,
    free_numbers: BTreeSet<u64>,
    /// No number from here on was ever used.
    next_number: u64,
    n_released: usize,
}

impl Disk {
    pub fn new() -> Disk {
        let root = Node {
            number: 2,
            body: Body::directory(),
            links: 1,
            agent_opens: 0,
            engine_opens: 0,
            modified_ns: 0,
            born: PathBuf::from("/"),
        };
        Disk {
            nodes: BTreeMap::from([(ROOT, root)]),
            journal: Vec::new(),
            next_key: 1,
            free_numbers: BTreeSet::new(),
            next_number: FIRST_NUMBER,
            n_released: 0,
        }
    }

    pub fn node(&self, key: NodeKey) -> &Node {
        &self.nodes[&key]
    }

    pub fn node_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes.get_mut(&key).expect("a node lives while somebody can name it")
    }

    pub fn find(&self, path: &Path) -> io::Result<NodeKey> {
        assert!(path.is_absolute(), "the simulator has no working directory: {}", path.display());
        let mut key = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir => {}
                Component::Normal(name) => key = *self.names(key)?.get(name).ok_or_else(not_found)?,
                other => panic!("the simulator resolves no {other:?} in {}", path.display()),
            }
        }
        Ok(key)
    }

    /// The directory that holds `path`, and the name in it.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if name.len() > 255 {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let directory = self.find(parent)?;
        self.names(directory)?;
        Ok(Place { directory, name: name.to_owned() })
    }

    pub fn names(&self, directory: NodeKey) -> io::Result<&BTreeMap<OsString, NodeKey>> {
        match &self.node(directory).body {
            Body::Directory { names, .. } => Ok(names),
            Body::File { .. } | Body::Special => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub fn occupant(&self, place: &Place) -> Option<NodeKey> {
        self.names(place.directory).ok()?.get(&place.name).copied()
    }

    pub fn content(&self, key: NodeKey) -> io::Result<&Content> {
        match &self.node(key).body {
            Body::File { written, .. } => Ok(written),
            Body::Directory { .. } => Err(io::ErrorKind::IsADirectory.into()),
            Body::Special => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Makes a node under a vacant name.
    pub fn create(&mut self, path: &Path, body: Body, now_ns: i64, coverage: &mut Coverage) -> io::Result<NodeKey> {
        let to = self.place(path)?;
        if self.occupant(&to).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let key = NodeKey(self.next_key);
        self.next_key += 1;
        let number = self.take_number(coverage);
        let born = path.to_owned();
        let node = Node { number, body, links: 0, agent_opens: 0, engine_opens: 0, modified_ns: now_ns, born };
        self.nodes.insert(key, node);
        self.change(Change { node: key, from: None, to: Some(to), replaced: None }, now_ns);
        Ok(key)
    }

    pub fn create_directories(&mut self, path: &Path, now_ns: i64, coverage: &mut Coverage) -> io::Result<()> {
        match self.find(path) {
            Ok(key) => self.names(key).map(|_| ()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_directories(path.parent().ok_or_else(not_found)?, now_ns, coverage)?;
                self.create(path, Body::directory(), now_ns, coverage).map(|_| ())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a name away: of anything but a directory that isn't empty.
    pub fn remove(&mut self, path: &Path, now_ns: i64) -> io::Result<()> {
        let from = self.place(path)?;
        let node = self.occupant(&from).ok_or_else(not_found)?;
        if self.names(node).is_ok_and(|names| !names.is_empty()) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change { node, from: Some(from), to: None, replaced: None }, now_ns);
        Ok(())
    }

    /// Replaces a file at `to`, and is refused by a directory there.
    pub fn rename(&mut self, from: &Path, to: &Path, now_ns: i64) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let node = self.occupant(&from).ok_or_else(not_found)?;
        if from == to {
            return Ok(());
        }
        let replaced = self.occupant(&to);
        if replaced.is_some_and(|key| self.names(key).is_ok()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(Change { node, from: Some(from), to: Some(to), replaced }, now_ns);
        Ok(())
    }

    pub fn write(&mut self, key: NodeKey, offset: u64, bytes: &[u8], now_ns: i64, coverage: &mut Coverage) {
        let node = self.node_mut(key);
        let Body::File { written, .. } = &mut node.body else { panic!("writes go to files") };
        let holed = offset > written.size();
        written.write(offset, bytes);
        node.modified_ns = now_ns;
        if holed {
            coverage.count("holes_made");
        }
    }

    pub fn truncate(&mut self, key: NodeKey, size: u64, now_ns: i64) {
        let node = self.node_mut(key);
        let Body::File { written, floor, .. } = &mut node.body else { panic!("only files have a size") };
        written.resize(size);
        *floor = (*floor).min(size);
        node.modified_ns = now_ns;
    }

    pub fn sync(&mut self, key: NodeKey) {
        if let Body::File { written, durable, floor } = &mut self.node_mut(key).body {
            *durable = written.clone();
            *floor = written.size();
        }
    }

    /// Every change of this directory's names so far is durable. A rename out of it or into it is durable on both sides.
    pub fn sync_directory(&mut self, directory: NodeKey) -> io::Result<()> {
        let current = self.names(directory)?.clone();
        let (mine, others) =
            std::mem::take(&mut self.journal).into_iter().partition(|change| change.touches(directory));
        self.journal = others;
        let mine: Vec<Change> = mine;
        for change in mine {
            if let Some(from) = change.from.filter(|place| place.directory != directory)
                && self.durable_names(from.directory).get(&from.name) == Some(&change.node)
            {
                self.durable_names(from.directory).remove(&from.name);
            }
            if let Some(to) = change.to.filter(|place| place.directory != directory) {
                self.durable_names(to.directory).insert(to.name, change.node);
            }
        }
        *self.durable_names(directory) = current;
        Ok(())
    }

    /// Makes all durable at and below `key`.
    pub fn settle(&mut self, key: NodeKey) {
        self.sync(key);
        if self.sync_directory(key).is_ok() {
            for child in self.names(key).expect("just synced").values().copied().collect::<Vec<_>>() {
                self.settle(child);
            }
        }
    }

    /// Everything at and below `key`, parents first.
    pub fn below(&self, key: NodeKey) -> Vec<NodeKey> {
        let mut found = vec![key];
        let mut next_ix = 0;
        while let Some(key) = found.get(next_ix) {
            found.extend(self.names(*key).into_iter().flat_map(BTreeMap::values));
            next_ix += 1;
        }
        found
    }

    /// Puts a journalled change onto the durable names, if it still makes sense there: what it moves is where it was, and
    /// nothing would be overwritten that it didn't overwrite when it was made.
    pub fn apply(&mut self, change: &Change) -> bool {
        if let Some(from) = &change.from
            && self.durable_names(from.directory).get(&from.name) != Some(&change.node)
        {
            return false;
        }
        if let Some(to) = &change.to {
            let occupant = self.durable_names(to.directory).get(&to.name).copied();
            if occupant.is_some() && occupant != change.replaced {
                return false;
            }
        }
        if let Some(from) = &change.from {
            self.durable_names(from.directory).remove(&from.name);
        }
        if let Some(to) = &change.to {
            self.durable_names(to.directory).insert(to.name.clone(), change.node);
        }
        true
    }

    /// Frees the number of a node that nobody can reach any more. Its bytes stay while a power loss may bring them back.
    pub fn release(&mut self, key: NodeKey) {
        let node = self.node_mut(key);
        if node.links > 0 || node.agent_opens > 0 || node.engine_opens > 0 || node.number == 0 {
            return;
        }
        let number = std::mem::take(&mut node.number);
        self.free_numbers.insert(number);
        self.n_released += 1;
        if self.n_released >= RELEASED_MAX {
            self.collect();
        }
    }

    pub fn take_number(&mut self, coverage: &mut Coverage) -> u64 {
        match self.free_numbers.pop_first() {
            Some(number) => {
                coverage.count("inodes_reused");
                number
            }
            None => {
                self.next_number += 1;
                self.next_number - 1
            }
        }
    }

    /// Forgets the free numbers: those are free that no node has.
    pub fn recount_numbers(&mut self) {
        let used: BTreeSet<u64> = self.nodes.values().map(|node| node.number).collect();
        self.free_numbers = (FIRST_NUMBER..self.next_number).filter(|number| !used.contains(number)).collect();
    }

    fn change(&mut self, change: Change, now_ns: i64) {
        if let Some(from) = &change.from {
            self.names_mut(from.directory, now_ns).remove(&from.name);
        }
        if let Some(to) = &change.to {
            self.names_mut(to.directory, now_ns).insert(to.name.clone(), change.node);
        }
        match (&change.from, &change.to) {
            (None, _) => self.node_mut(change.node).links += 1,
            (_, None) => self.node_mut(change.node).links -= 1,
            _ => {}
        }
        let lost = change.replaced.or(change.to.is_none().then_some(change.node));
        if let Some(replaced) = change.replaced {
            self.node_mut(replaced).links -= 1;
        }
        self.journal.push(change);
        if self.journal.len() > JOURNAL_MAX {
            for change in self.journal.drain(..JOURNAL_MAX / 2).collect::<Vec<_>>() {
                self.apply(&change);
            }
        }
        if let Some(lost) = lost {
            self.release(lost);
        }
    }

    fn names_mut(&mut self, directory: NodeKey, now_ns: i64) -> &mut BTreeMap<OsString, NodeKey> {
        let node = self.node_mut(directory);
        node.modified_ns = now_ns;
        match &mut node.body {
            Body::Directory { names, .. } => names,
            Body::File { .. } | Body::Special => panic!("names are in directories"),
        }
    }

    pub fn durable_names(&mut self, directory: NodeKey) -> &mut BTreeMap<OsString, NodeKey> {
        match &mut self.node_mut(directory).body {
            Body::Directory { durable, .. } => durable,
            Body::File { .. } | Body::Special => panic!("names are in directories"),
        }
    }

    /// Drops the bytes of released nodes that no durable name and no journalled change leads to.
    fn collect(&mut self) {
        let mut kept = BTreeSet::new();
        for node in self.nodes.values() {
            if let Body::Directory { durable, .. } = &node.body {
                kept.extend(durable.values().copied());
            }
        }
        for change in &self.journal {
            let places = [&change.from, &change.to];
            kept.extend(places.into_iter().flatten().map(|place| place.directory));
            kept.extend(change.replaced.into_iter().chain([change.node]));
        }
        self.nodes.retain(|key, node| node.number != 0 || kept.contains(key));
        self.n_released = 0;
    }
}

/// An order that is no order of names, and the same in every run.
pub fn shuffled<'a>(names: impl Iterator<Item = &'a OsString>) -> Vec<OsString> {
    let mut names: Vec<OsString> = names.cloned().collect();
    names.sort_by_key(|name: &OsString| crate::sim::random::hash(OsStr::as_encoded_bytes(name)));
    names
}

pub fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
