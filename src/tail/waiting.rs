//! A log that is not read on for a while: no descriptor holds what is cut away in place, so it is looked for.

use std::io;
use std::ops::Range;

use crate::sys::{FileId, Os, Stat};
use crate::tail::{Chunk, Lineage};

/// What a log looks like that was read to its end. While it does, a look at it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resting {
    id: FileId,
    size: u64,
    modified_ns: i64,
}

impl Resting {
    pub fn of(stat: &Stat) -> Resting {
        Resting { id: stat.id, size: stat.size, modified_ns: stat.modified_ns }
    }
}

impl<O: Os> Lineage<O> {
    /// `None` if there is something to do other than wait for more.
    pub fn resting(&self) -> Option<Resting> {
        let [only] = self.generations.as_slices().0 else { return None };
        let is_all = self.generations.len() == 1 && self.newest == Some(only.id) && self.copies_due.is_empty();
        only.rest_behind_lines(None).filter(|_| is_all && only.is_plain())?;
        only.end.map(|end| Resting { id: only.id, size: end.size, modified_ns: end.modified_ns })
    }

    /// Whether the newest incarnation was cut or written anew in place, also to the same size or a larger one. Gives
    /// the bytes that were there and are lost: none where a copy has them.
    pub fn notice_cut(&mut self, os: &O) -> io::Result<Option<Range<u64>>> {
        let Some(newest_ix) = self.generations.len().checked_sub(1) else { return Ok(None) };
        let newest = &mut self.generations[newest_ix];
        if !newest.is_plain() {
            return Ok(None);
        }
        let stat = newest.stat(os)?;
        if newest.waited_at == Some((stat.size, stat.modified_ns)) {
            return Ok(None);
        }
        let is_same = if stat.size < newest.size_max {
            false
        } else if newest.offset > 0 {
            let (offset, tail) = (newest.offset, newest.tail());
            newest.proves(os, offset, tail)?
        } else {
            let before = newest.learn_head(os)?;
            before.is_none() || newest.source.head(os)? == before
        };
        if is_same {
            newest.size_max = stat.size;
            newest.waited_at = Some((stat.size, stat.modified_ns));
            return Ok(None);
        }
        if newest_ix == 0 {
            let Chunk::Rewritten { lost } = self.rewritten(os, stat)? else { return Ok(None) };
            return Ok(Some(lost));
        }
        let lost = newest.offset..newest.size_max;
        let head = newest.source.head(os)?;
        newest.forget_text(head);
        newest.size_max = stat.size;
        let is_copied = self.take_unseen_copies(os, newest_ix)?;
        Ok(Some(if is_copied { 0..0 } else { lost }))
    }
}
