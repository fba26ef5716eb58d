//! Finds a place again in a log that was opened anew: by what the bytes say, for inodes prove nothing.

use std::io;

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
        let Some(head) = head else {
            return Ok(None);
        };
        let mut is_there = false;
        for (ix, generation) in self.generations_mut().enumerate() {
            is_there |= generation.head == Some(head);
            if generation.head == Some(head) && generation.proves(os, offset, tail)? {
                return Ok(Some(ix));
            }
        }
        // Its first page may have been lost since; a line at this very place, with its time, tells as much. NULs don't.
        let Some(tail) = tail.filter(|tail| !is_there && !tail.is_of_nuls()) else {
            return Ok(None);
        };
        for (ix, generation) in self.generations_mut().enumerate() {
            if generation.is_plain() && generation.proves(os, offset, Some(tail))? {
                return Ok(Some(ix));
            }
        }
        Ok(None)
    }
}
