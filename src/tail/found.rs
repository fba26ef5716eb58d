//! Finds a place again in a log that was opened anew: by what the bytes say, for inodes prove nothing.

use std::io;

use crate::config::limits::LINE_BYTES_MAX;
use crate::sys::Os;
use crate::tail::{Fingerprint, Lineage};

impl<O: Os> Lineage<O> {
    /// The index of the incarnation that begins with `head` and has `tail` before `offset`.
    pub fn find(
        &mut self,
        os: &O,
        head: Option<Fingerprint>,
        offset: u64,
        tail: Option<Fingerprint>,
    ) -> io::Result<Option<usize>> {
        let mut is_there = false;
        for (ix, generation) in self.generations_mut().enumerate().filter(|_| head.is_some()) {
            is_there |= generation.head == head;
            if generation.head == head && generation.proves(os, offset, tail)? {
                return Ok(Some(ix));
            }
        }
        // Its first page may have been lost since, or the newline of its first line before; a line at this very place, with
        // its time, tells as much. NULs don't.
        let Some(tail) = tail.filter(|tail| !is_there && !tail.is_of_nuls()) else {
            return Ok(None);
        };
        // A compressed one is inflated for it, and its head tells already: unless a log had none, which is rare.
        for (ix, generation) in self.generations_mut().enumerate() {
            if (head.is_none() || generation.is_plain()) && generation.proves(os, offset, Some(tail))? {
                return Ok(Some(ix));
            }
        }
        Ok(None)
    }

    /// Whether an incarnation begins with the line of `head` but for its newline.
    pub fn lacks_newline_of(&mut self, os: &O, head: Fingerprint) -> io::Result<bool> {
        // A row may come from elsewhere.
        let Some(n_bytes) = (head.bytes as usize).checked_sub(1).filter(|n_bytes| *n_bytes < LINE_BYTES_MAX) else {
            return Ok(false);
        };
        let mut line = vec![b'\n'; n_bytes + 1];
        for generation in self.generations_mut().filter(|held| held.head != Some(head)) {
            let n_read = generation.source.read_at(os, 0, &mut line[..n_bytes])?;
            generation.source.check_short(os, n_read as u64, n_read < n_bytes)?;
            if n_read == n_bytes && Fingerprint::of(&line) == head {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
