//! What of a log only this cursor holds: descriptors of deleted incarnations, and copies of them in the spool.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use crate::forward::cursor::{Cursor, Met};
use crate::sys::{FileId, Os};
use crate::tail::spooled::Extent;
use crate::tail::{Fingerprint, Generation, Look, Source, Spooled};

/// An incarnation that only a descriptor holds.
pub struct ToSpool<O: Os> {
    pub id: FileId,
    pub source: Source<O>,
    pub extent: Extent,
    /// The first line of the one behind it, as far as there is one.
    pub next: Option<Fingerprint>,
}

/// What was let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Of the engine's disk.
    pub held_bytes: u64,
    /// The number of its copy in the spool.
    pub spooled: Option<u64>,
    /// What of it was not read; what was is in memory.
    pub unread: Range<u64>,
}

impl<O: Os> Cursor<O> {
    /// The oldest first, with their numbers.
    fn held(&mut self) -> impl Iterator<Item = (u64, &mut Generation<O>)> {
        let behind = self.behind.iter_mut().map(|(number, read)| (*number, read));
        behind.chain(self.lineage.numbered_mut())
    }

    fn held_again(&self) -> impl Iterator<Item = &Generation<O>> {
        self.behind.iter().map(|(_, read)| read).chain(self.lineage.generations())
    }

    /// A look without reading on: the engine's rotation doesn't wait for us.
    pub fn look_only(&mut self, os: &O, met: &mut Met) -> io::Result<Look> {
        let looked = self.lineage.look(os)?;
        if let Some(lost) = self.lineage.notice_cut(os)? {
            if !lost.is_empty() {
                met.lost.push(lost);
            }
            self.check_skip();
        }
        Ok(looked)
    }

    /// Nothing before the oldest place is needed any more.
    pub(super) fn let_go(&mut self) {
        let keep_from = self.places.front().map_or(0, |place| place.generation);
        while self.behind.front().is_some_and(|(number, _)| *number < keep_from) {
            self.behind.pop_front();
        }
    }

    /// The first lines of incarnations of which everything is delivered.
    pub fn delivered_heads(&self) -> Vec<Fingerprint> {
        let is_behind = |head: &Fingerprint| self.behind.iter().any(|(_, read)| read.head == Some(*head));
        self.lineage.drained().filter(|head| !is_behind(head)).collect()
    }

    /// Bytes of the engine's disk that only our descriptors keep.
    pub fn held_bytes(&self, os: &O) -> u64 {
        self.held_again().map(|held| held.held_bytes(os)).sum()
    }

    /// Whether it may hold something that was deleted.
    pub fn holds_several(&self) -> bool {
        self.lineage.len() + self.behind.len() > 1
    }

    /// Incarnations that are open, beside those in the spool.
    pub fn n_descriptors(&self) -> usize {
        self.held_again().filter(|held| held.spool_number().is_none()).count()
    }

    pub fn holds(&self, id: FileId) -> bool {
        self.held_again().any(|held| held.id == id)
    }

    /// Copies in the spool that are still needed.
    pub fn spool_numbers(&self) -> BTreeSet<u64> {
        self.held_again().filter_map(Generation::spool_number).collect()
    }

    /// The oldest incarnation that only a descriptor holds, when everything before record `delivered` is delivered.
    pub fn to_spool(&mut self, os: &O, delivered: u64, removed: bool) -> io::Result<Option<ToSpool<O>>> {
        let (resume, _) = self.resume_for(os, delivered)?;
        let place = self.places.front().map(|place| place.generation);
        let mut held = self.held().skip_while(|(_, held)| held.spool_number().is_some());
        let Some((number, oldest)) = held.next() else { return Ok(None) };
        let stat = oldest.stat(os)?;
        let head = oldest.learn_head(os)?;
        let Some(source) = oldest.source_again(os).filter(|_| stat.links == 0) else { return Ok(None) };
        let (id, compressed) = (oldest.id, oldest.is_compressed());
        let next = match held.next() {
            Some((_, next)) => next.learn_head(os)?,
            None if removed => None,
            None => return Ok(None), // Whoever deleted it may still be writing to it.
        };
        let (start, proof_bytes) = match place {
            Some(place) if place == number => (resume.offset, resume.tail.map_or(0, |tail| u64::from(tail.bytes))),
            _ => (0, 0),
        };
        let first = start.saturating_sub(proof_bytes);
        let extent = Extent { head, first, start, end: (!compressed).then_some(stat.size.max(start)) };
        Ok(Some(ToSpool { id, source, extent, next }))
    }

    /// The copy takes the descriptor's place. False: it isn't held any more.
    pub fn put_aside(&mut self, id: FileId, spooled: Spooled<O>) -> bool {
        let found = self.held().find(|(_, held)| held.id == id);
        found.map(|(_, held)| held.put_aside(spooled)).is_some()
    }

    /// The first line of the incarnation behind the spooled one with this number, once there is one.
    pub fn follower(&mut self, os: &O, number: u64) -> io::Result<Option<Fingerprint>> {
        let mut held = self.held().skip_while(|(_, held)| held.spool_number() != Some(number));
        match held.nth(1) {
            Some((_, next)) => next.learn_head(os),
            None => Ok(None),
        }
    }

    /// Whether what is let go first is in the spool.
    pub fn oldest_is_spooled(&self) -> bool {
        self.held_again().next().is_some_and(|oldest| oldest.spool_number().is_some())
    }

    /// Lets the oldest deleted incarnation go, read or not. `None`: there is none that may go.
    pub fn shed(&mut self, os: &O, removed: bool) -> io::Result<Option<Shed>> {
        if let Some((_, oldest)) = self.behind.front() {
            let shed = Shed { held_bytes: oldest.held_bytes(os), spooled: oldest.spool_number(), unread: 0..0 };
            if oldest.stat(os)?.links > 0 {
                return Ok(None);
            }
            self.behind.pop_front();
            return Ok(Some(shed));
        }
        let Some((held_bytes, unread, is_last)) = self.lineage.oldest_deleted(os) else { return Ok(None) };
        let spooled = self.lineage.front().and_then(Generation::spool_number);
        if is_last && !removed && spooled.is_none() {
            return Ok(None);
        }
        self.lineage.pass(os)?;
        self.check_skip();
        Ok(Some(Shed { held_bytes, spooled, unread }))
    }
}
