//! The bytes of one file, in shared 4 KiB pages: a copy costs a pointer a page, a hole costs nothing.

use std::sync::Arc;

pub const PAGE_BYTES: u64 = 4096;

type Page = Arc<[u8; PAGE_BYTES as usize]>;

/// Bytes of the last page beyond `size` are zero.
#[derive(Clone, Default)]
pub struct Content {
    size: u64,
    /// `None` is a hole. Exactly the pages that `size` needs.
    pages: Vec<Option<Page>>,
}

impl Content {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Bytes that occupy the disk.
    pub fn allocated_bytes(&self) -> u64 {
        self.pages.iter().flatten().count() as u64 * PAGE_BYTES
    }

    pub fn has_hole(&self) -> bool {
        self.pages.iter().any(Option::is_none)
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        self.read(0, &mut bytes);
        bytes
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let n_bytes = self.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (at, part) in split(offset, n_bytes) {
            let target = &mut buffer[part];
            let start = (at % PAGE_BYTES) as usize;
            match &self.pages[page_ix(at)] {
                Some(page) => target.copy_from_slice(&page[start..start + target.len()]),
                None => target.fill(0),
            }
        }
        n_bytes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.resize(self.size.max(offset + bytes.len() as u64));
        for (at, part) in split(offset, bytes.len()) {
            let start = (at % PAGE_BYTES) as usize;
            let page = Arc::make_mut(self.pages[page_ix(at)].get_or_insert_with(zeros));
            page[start..start + part.len()].copy_from_slice(&bytes[part]);
        }
    }

    /// Cuts, or grows by a hole.
    pub fn resize(&mut self, size: u64) {
        self.pages.resize(size.div_ceil(PAGE_BYTES) as usize, None);
        if size < self.size
            && !size.is_multiple_of(PAGE_BYTES)
            && let Some(Some(page)) = self.pages.last_mut()
        {
            Arc::make_mut(page)[(size % PAGE_BYTES) as usize..].fill(0);
        }
        self.size = size;
    }

    /// The first offset at or after `offset` that isn't in a hole; `size` when there is none.
    pub fn data_at(&self, offset: u64) -> u64 {
        let first = page_ix(offset);
        let found = self.pages.iter().enumerate().skip(first).find(|(_, page)| page.is_some());
        found.map_or(self.size, |(ix, _)| offset.max(ix as u64 * PAGE_BYTES)).min(self.size)
    }

    /// How many of `n_bytes` at `offset` fit when only `fresh_max` more pages may be occupied.
    pub fn fitting(&self, offset: u64, n_bytes: usize, fresh_max: u64) -> usize {
        let mut fresh = 0;
        for (at, part) in split(offset, n_bytes) {
            fresh += u64::from(self.pages.get(page_ix(at)).is_none_or(Option::is_none));
            if fresh > fresh_max {
                return part.start;
            }
        }
        n_bytes
    }

    /// Whether page `ix` is one and the same in both, so that nothing of it is unsynced.
    pub fn shares_page(&self, other: &Content, ix: usize) -> bool {
        match (self.pages.get(ix), other.pages.get(ix)) {
            (Some(Some(mine)), Some(Some(theirs))) => Arc::ptr_eq(mine, theirs),
            (Some(None), Some(None)) => true,
            _ => false,
        }
    }

    /// Page `ix` becomes what it is in `other`: zeros that occupy the disk, or a hole, where `other` ends before it.
    pub fn take_page(&mut self, other: &Content, ix: usize, hole: bool) {
        let missing = if hole { None } else { Some(zeros()) };
        self.pages[ix] = other.pages.get(ix).cloned().unwrap_or(missing);
    }
}

fn zeros() -> Page {
    Arc::new([0; PAGE_BYTES as usize])
}

fn page_ix(offset: u64) -> usize {
    (offset / PAGE_BYTES) as usize
}

/// Cuts a range at the borders of pages: where each part is in the file, and where in the buffer.
fn split(offset: u64, n_bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let part_bytes = ((PAGE_BYTES - at % PAGE_BYTES) as usize).min(n_bytes - done);
        let part = done..done + part_bytes;
        done = part.end;
        (part_bytes > 0).then_some((at, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_beyond_the_end_leaves_a_hole_of_whole_pages() {
        let mut content = Content::default();
        content.write(8687, b"late");
        assert_eq!((content.size(), content.allocated_bytes()), (8691, PAGE_BYTES));
        assert_eq!((content.data_at(0), content.data_at(8690), content.data_at(9000)), (8192, 8690, 8691));
        let mut buffer = [1; 10];
        assert_eq!(content.read(8685, &mut buffer), 6);
        assert_eq!(&buffer[..6], b"\0\0late");
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(0, b"abcdef");
        content.resize(2);
        content.resize(5000);
        assert_eq!(&content.to_vec()[..6], b"ab\0\0\0\0");
        assert!(content.has_hole());
    }

    #[test]
    fn only_so_much_fits_on_a_full_disk() {
        let mut content = Content::default();
        content.write(0, b"abc");
        assert_eq!(content.fitting(3, 10, 0), 10);
        assert_eq!(content.fitting(3, 10_000, 0), 4093);
        assert_eq!(content.fitting(3, 10_000, 1), 8189);
        assert_eq!(content.fitting(8192, 10, 0), 0);
    }

    #[test]
    fn a_copy_is_not_changed_by_later_writes() {
        let mut content = Content::default();
        content.write(0, b"abc");
        let copy = content.clone();
        assert!(content.shares_page(&copy, 0));
        content.write(1, b"X");
        assert!(!content.shares_page(&copy, 0));
        assert_eq!((copy.to_vec(), content.to_vec()), (b"abc".to_vec(), b"aXc".to_vec()));
    }
}
