//! Where to begin again: places that a row keeps, and finding them after a restart.

use std::io;
use std::ops::Range;

use crate::assemble::Assembler;
use crate::forward::cursor::{Cursor, Decision, Found, Place, Resume, joining};
use crate::forward::mark::{Mark, generation};
use crate::forward::pending::Pending;
use crate::sys::Os;
use crate::tail::Fingerprint;

/// Places are remembered without a large open line in them, where they can be.
const CHAIN_BYTES_KEPT: usize = 16 * 1024;
/// Where one is open, so many bytes are rather read again.
const CHAIN_BYTES_READ_AGAIN_MAX: u64 = 4 * 1024 * 1024;
/// Unless so many records came since the last one.
const RECORDS_WITHOUT_PLACE_MAX: u64 = 10_000;

impl<O: Os> Cursor<O> {
    /// Goes on from the place in `resume`, behind the record `delivered`; where the log doesn't have it, from the oldest
    /// incarnation that was not read to its end. Records are numbered from `next`.
    pub fn resume(
        &mut self,
        os: &O,
        resume: &Resume,
        next: u64,
        delivered: Option<Mark>,
        decisions: impl IntoIterator<Item = Decision>,
    ) -> io::Result<Found> {
        self.output.pending = Pending::starting_at(next);
        self.assembler = Assembler::resume(joining(&self.output.sieve), resume.unfinished.clone());
        let found = match self.lineage.find(os, resume.head, resume.offset, resume.tail)? {
            Some(generation_ix) => {
                self.lineage.begin_at(os, generation_ix, resume.offset, resume.tail)?;
                self.places.push_back(Place { generation: self.lineage.passed(), resume: resume.clone() });
                Found::Same
            }
            None => {
                let is_there = resume.head.is_some() && self.lineage.generations().any(|held| held.head == resume.head);
                let n_drained = self.n_drained();
                self.lineage.begin_at(os, n_drained, 0, None)?;
                match resume.head {
                    None => Found::Same,
                    Some(_) if is_there => Found::Earlier,
                    Some(_) => Found::Gap,
                }
            }
        };
        if found == Found::Same {
            self.to_repeat = decisions.into_iter().collect();
            self.decisions = self.to_repeat.clone();
            self.output.skip = delivered;
            self.check_skip();
        }
        Ok(found)
    }

    /// What is gone can't be waited for.
    pub(super) fn check_skip(&mut self) {
        let is_there = |mark: &Mark| self.lineage.generations().any(|held| generation(held.head) == mark.generation);
        self.output.skip = self.output.skip.filter(is_there);
    }

    /// Incarnations at the old end that an earlier life read to their ends.
    fn n_drained(&self) -> usize {
        let drained: Vec<Fingerprint> = self.lineage.drained().collect();
        let is_drained = |head: Option<Fingerprint>| head.is_some_and(|head| drained.contains(&head));
        self.lineage.generations().take_while(|held| is_drained(held.head)).count()
    }

    /// Remembers where it stands, to begin again from there.
    pub(super) fn note_place(&mut self, os: &O) -> io::Result<()> {
        let no = self.output.pending.next();
        let large = self.assembler.unfinished().bytes() > CHAIN_BYTES_KEPT;
        let far = self.places.back().is_none_or(|last| no >= last.resume.no + RECORDS_WITHOUT_PLACE_MAX);
        if large && !far {
            return Ok(());
        }
        let place = self.place(os)?;
        if self.places.back().is_some_and(|last| last.resume.no == no) {
            self.places.pop_back();
        }
        self.places.push_back(place);
        Ok(())
    }

    fn place(&mut self, os: &O) -> io::Result<Place> {
        let head = self.lineage.head(os)?;
        let front = self.lineage.front();
        let resume = Resume {
            no: self.output.pending.next(),
            head,
            offset: front.map_or(0, |front| front.offset),
            tail: front.and_then(|front| front.tail()),
            unfinished: self.assembler.unfinished().clone(),
        };
        Ok(Place { generation: self.lineage.passed(), resume })
    }

    /// Where to begin again when everything before record `no` is delivered, and the decisions behind that place.
    pub fn resume_for(&mut self, os: &O, no: u64) -> io::Result<(Resume, Vec<Decision>)> {
        let stands_here = no == self.output.pending.next() && self.output.skip.is_none();
        if stands_here && !self.reads_chain_again(no) {
            let place = self.place(os)?;
            self.places.clear();
            self.places.push_back(place);
        }
        while self.places.get(1).is_some_and(|next| next.resume.no <= no) {
            self.places.pop_front();
        }
        self.let_go();
        let resume =
            self.places.front().map_or_else(|| Resume { no, ..Resume::default() }, |place| place.resume.clone());
        self.decisions.retain(|decision| decision.no >= resume.no);
        let decisions = self.decisions.iter().filter(|decision| decision.no < no).copied().collect();
        Ok((resume, decisions))
    }

    /// A large open line need not be stored while a place before it lies in the same file, without a record between.
    fn reads_chain_again(&self, no: u64) -> bool {
        let Some(last) = self.places.back().filter(|last| last.resume.no == no) else { return false };
        let offset = self.lineage.front().map_or(0, |front| front.offset);
        self.assembler.unfinished().bytes() > CHAIN_BYTES_KEPT
            && last.generation == self.lineage.passed()
            && offset <= last.resume.offset + CHAIN_BYTES_READ_AGAIN_MAX
            && self.decisions.back().is_none_or(|decision| decision.no < no)
    }

    /// Decisions among these records, for the batch that holds them.
    pub fn decisions_in(&self, numbers: Range<u64>) -> Vec<Decision> {
        self.decisions.iter().filter(|decision| numbers.contains(&decision.no)).copied().collect()
    }
}
