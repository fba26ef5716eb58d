//! Logs that are cut in place, and the copies that hold what was cut away (logrotate's copytruncate makes them, and the
//! engine compresses them).

use std::io;

use crate::discover::listing::siblings;
use crate::sys::{Os, Stat};
use crate::tail::lineage::{WALKS_MAX, is_named, overtaken};
use crate::tail::{Chunk, Fingerprint, Generation, Lineage};

impl<O: Os> Lineage<O> {
    /// Incarnations held since before anything of them was read: one that was cut meanwhile holds another text, and what
    /// it held may be in a copy.
    pub fn check_held(&mut self, os: &O) -> io::Result<()> {
        let mut cut = Vec::new();
        for (ix, held) in self.generations.iter_mut().enumerate().filter(|(_, held)| held.is_plain()) {
            let head = held.source.head(os)?;
            if held.head.is_some() && head != held.head {
                cut.push((ix, head));
            }
        }
        for (ix, _) in &cut {
            let id = self.generations[*ix].id;
            self.copies_due.retain(|due| *due != id);
            self.copies_due.push(id);
        }
        let mut copies = Vec::new();
        let heads: Vec<_> = cut.iter().map(|(_, head)| *head).collect();
        for (ix, _) in &cut {
            copies.push(self.unread_copy(os, *ix, &cut)?);
        }
        for ((ix, head), copy) in cut.into_iter().zip(copies).rev() {
            self.generations[ix].forget_text(head);
            if let Some(copy) = copy {
                self.generations.insert(ix, copy);
            }
        }
        heads.into_iter().for_each(|head| self.drop_compressed_twin(head));
        while let Some(id) = self.copies_due.last() {
            if let Some(cut_ix) = self.generations.iter().position(|held| held.id == *id) {
                self.take_unseen_copies(os, cut_ix)?;
            }
            self.copies_due.pop();
        }
        Ok(())
    }

    /// The engine may have compressed an incarnation before somebody wrote over it, or that one have copied it first and a
    /// rotation moved both on. Nothing of it was read. `cut`: those that hold another text now, and how that begins.
    fn unread_copy(
        &self,
        os: &O,
        cut_ix: usize,
        cut: &[(usize, Option<Fingerprint>)],
    ) -> io::Result<Option<Generation<O>>> {
        let before = &self.generations[cut_ix];
        let now =
            self.generations.iter().enumerate().map(|(ix, held)| match cut.iter().find(|(other, _)| *other == ix) {
                Some((_, head)) => *head,
                None => held.head,
            });
        let is_known = |head: &Fingerprint| self.drained.contains(head) || now.clone().any(|held| held == Some(*head));
        match before.head.filter(|head| before.offset == 0 && !is_known(head)) {
            Some(head) => self.sibling_of(os, head),
            None => Ok(None),
        }
    }

    /// A sibling that begins so and isn't held.
    fn sibling_of(&self, os: &O, head: Fingerprint) -> io::Result<Option<Generation<O>>> {
        let names = match os.list(&self.directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        for sibling in siblings(&self.id, &names) {
            let Some(mut found) = self.open_sibling(os, sibling.number, sibling.compressed)? else {
                continue;
            };
            let is_held = self.generations.iter().any(|held| held.id == found.id);
            if !is_held && found.learn_head(os)? == Some(head) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The same descriptor, another text: what was read stays read, and the file begins anew.
    pub(super) fn rewritten(&mut self, os: &O, stat: Stat) -> io::Result<Chunk> {
        let head = self.generations.front_mut().expect("it was read").source.head(os)?;
        self.drop_compressed_twin(head);
        if let Some(copy) = self.find_copy(os)? {
            *self.generations.front_mut().expect("it was read") = copy;
            return Ok(Chunk::Rewritten { lost: 0..0 });
        }
        let front = self.generations.front_mut().expect("it was read");
        let lost = front.offset..front.size_max.max(front.offset);
        let head = front.head;
        front.forget_text(None);
        front.size_max = stat.size;
        self.passed += 1;
        self.remember(head);
        Ok(Chunk::Rewritten { lost })
    }

    /// An incarnation that was cut begins with `head` now. If it was rotated and compressed since, before that was noticed,
    /// a look took its compressed form for an incarnation of its own.
    fn drop_compressed_twin(&mut self, head: Option<Fingerprint>) {
        let is_twin =
            |held: &Generation<O>| held.is_compressed() && held.offset == 0 && held.head.is_some() && held.head == head;
        if let Some(ix) = self.generations.iter().position(is_twin) {
            self.generations.remove(ix);
        }
    }

    /// The oldest incarnation had no line when it was found: it may have been copied and cut before its first one was seen.
    /// True if there are copies; the oldest of them is the oldest incarnation now.
    pub(super) fn take_copies_before_first_line(&mut self, os: &O) -> io::Result<bool> {
        let Some(front) = self.generations.front().filter(|front| front.headless && front.offset == 0) else {
            return Ok(false);
        };
        let is_seen = front.head.is_some();
        if self.take_unseen_copies(os, 0)? {
            return Ok(true);
        }
        // From here on its first line tells if it is cut.
        self.generations.front_mut().expect("none was taken away").headless &= !is_seen;
        Ok(false)
    }

    /// A sibling that came without a rotation is a copy of what was cut away (copytruncate). Where nothing of an
    /// incarnation was read before the cut, the copy is all there is to notice it by. It lies below that incarnation, the
    /// one with the index `cut_ix`, and above all that is known; rotations may have moved both on.
    pub(super) fn take_unseen_copies(&mut self, os: &O, cut_ix: usize) -> io::Result<bool> {
        for _ in 0..WALKS_MAX {
            let copies = self.unseen_copies(os, cut_ix)?;
            if copies.is_empty() {
                return Ok(false);
            }
            // Rotations on the way would have made siblings too, and those are newer.
            let newest = self.generations.back().expect("one of them is the cut one").id;
            if is_named(os, &self.log(), Some(newest))? {
                copies.into_iter().for_each(|copy| self.generations.insert(cut_ix, copy));
                return Ok(true);
            }
            if is_named(os, &self.log(), self.newest)? || is_named(os, &self.log(), None)? {
                return Ok(false);
            }
            self.look(os)?;
        }
        Err(overtaken())
    }

    /// From the newest to the oldest.
    fn unseen_copies(&mut self, os: &O, cut_ix: usize) -> io::Result<Vec<Generation<O>>> {
        let mut copies: Vec<Generation<O>> = Vec::new();
        if !self.generations.get(cut_ix).is_some_and(Generation::is_plain) {
            return Ok(copies);
        }
        let names = match os.list(&self.directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copies),
            Err(error) => return Err(error),
        };
        let mut plain = None;
        for sibling in siblings(&self.id, &names) {
            let Some(mut copy) = self.open_sibling(os, sibling.number, sibling.compressed)? else {
                continue;
            };
            let head = copy.learn_head(os)?;
            if !copy.is_compressed() {
                plain = Some((sibling.number, head));
            } else if plain == Some((sibling.number, head)) {
                continue; // The plain one is being compressed. What we know of its head may be older than a cut.
            }
            if let Some(held_ix) = self.generations.iter().position(|held| held.id == copy.id) {
                if held_ix < cut_ix {
                    break;
                }
                continue;
            }
            if head.is_none() {
                continue; // Of an empty log; what was copied before that lies behind it.
            }
            if self.knows_head(os, &mut copy)? {
                break;
            }
            if copies.iter().all(|taken| taken.head != head) {
                copies.push(copy);
            }
        }
        Ok(copies)
    }

    /// A copy of the text that was cut away (logrotate's copytruncate makes one), from where we had read to.
    fn find_copy(&mut self, os: &O) -> io::Result<Option<Generation<O>>> {
        let front = self.generations.front().expect("it was read");
        let (head, offset, tail, id) = (front.head, front.offset, front.tail(), front.id);
        // Behind a block of NULs no first line was seen: the last one at its very place tells as much.
        let is_proved = tail.is_some_and(|tail| !tail.is_of_nuls());
        if head.is_none() && !is_proved {
            return Ok(None);
        }
        let names = match os.list(&self.directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None), // Removed, and every copy with it.
            Err(error) => return Err(error),
        };
        for sibling in siblings(&self.id, &names) {
            let Some(mut copy) = self.open_sibling(os, sibling.number, sibling.compressed)? else {
                continue;
            };
            let is_like = copy.id != id && (copy.learn_head(os)? == head || head.is_none());
            if !is_like || !copy.proves(os, offset, tail)? {
                continue;
            }
            copy.resume_at(os, offset, tail)?;
            // A look at the directory may have taken it for a new incarnation.
            self.generations.retain(|held| held.id != copy.id);
            // The cut file is the copy's successor.
            if let Some(cut) = self.generations.front() {
                let stat = cut.stat(os)?;
                let Some(source) = cut.source.again(os) else { return Ok(None) };
                let mut successor = Generation::new(source, stat);
                successor.size_max = stat.size;
                self.generations.insert(1, successor);
            }
            return Ok(Some(copy));
        }
        Ok(None)
    }
}
