//! Incarnations that were copied aside before their last descriptor was let go, among the others of a log.

use std::io;

use crate::config::limits::QUANTUM_BYTES;
use crate::sys::Os;
use crate::tail::{Damage, Generation, Lineage, Source, Spooled};

impl<O: Os> Generation<O> {
    /// One that only its copy is left of. Reading begins where the copy's first line does.
    pub fn of_spooled(spooled: Spooled<O>) -> Generation<O> {
        let (stat, extent) = (spooled.stat(), spooled.extent.clone());
        let mut generation = Generation::new(Source::Spooled(Box::new(spooled)), stat);
        (generation.head, generation.offset, generation.headless) = (extent.head, extent.start, extent.head.is_none());
        generation
    }

    /// The copy takes the place of the descriptor.
    pub fn put_aside(&mut self, spooled: Spooled<O>) {
        self.id = spooled.id();
        self.source = Source::Spooled(Box::new(spooled));
        self.end = None;
    }

    /// Reading goes on there, with a line's first byte.
    pub fn go_on_at(&mut self, offset: u64) {
        self.offset = offset;
        self.proof.clear();
        self.end = None;
    }

    /// Where its text ends or differs from the copy's: the first byte of that line.
    pub fn common_with(&mut self, os: &O, copy: &mut Spooled<O>) -> io::Result<u64> {
        let (mut here, mut there) = (vec![0; QUANTUM_BYTES], vec![0; QUANTUM_BYTES]);
        let mut offset = copy.extent.start;
        let mut line = offset;
        loop {
            let n_here = self.source.read_at(os, offset, &mut here)?;
            self.source.check_short(os, offset + n_here as u64, n_here < here.len())?;
            let n_there = copy.read_at(offset, &mut there)?;
            let shorter = n_here.min(n_there);
            let same = here[..shorter].iter().zip(&there[..shorter]).take_while(|(one, other)| one == other).count();
            if let Some(newline) = memchr::memrchr(b'\n', &here[..same]) {
                line = offset + newline as u64 + 1;
            }
            if same < here.len() {
                return Ok(line);
            }
            offset += same as u64;
        }
    }

    /// The number of its copy.
    pub fn spool_number(&self) -> Option<u64> {
        matches!(self.source, Source::Spooled(_)).then_some(self.id.inode)
    }

    /// Bytes of the engine's disk that only its descriptor holds.
    pub fn held_bytes(&self, os: &O) -> u64 {
        self.stat(os).ok().filter(|stat| stat.links == 0).map_or(0, |stat| stat.disk_bytes)
    }

    /// The same text, to be read beside this one.
    pub fn source_again(&self, os: &O) -> Option<Source<O>> {
        self.source.again(os)
    }

    pub fn take_damage(&mut self, at_end: bool) -> Vec<Damage> {
        self.source.take_damage(at_end)
    }
}

impl<O: Os> Lineage<O> {
    /// With the number of each: how many were read before it.
    pub fn numbered_mut(&mut self) -> impl Iterator<Item = (u64, &mut Generation<O>)> {
        (self.passed()..).zip(self.generations_mut())
    }

    /// Like [`Lineage::pass`], for who still needs it.
    pub fn take_oldest(&mut self, os: &O) -> io::Result<Option<Generation<O>>> {
        let Some(front) = self.generations.front_mut() else { return Ok(None) };
        front.learn_head(os)?;
        let head = front.head;
        let oldest = self.generations.pop_front();
        self.passed += 1;
        self.remember(head);
        Ok(oldest)
    }

    /// Puts what was found elsewhere before the incarnation with this index.
    pub fn insert(&mut self, generation_ix: usize, generation: Generation<O>) {
        self.generations.insert(generation_ix, generation);
    }
}
