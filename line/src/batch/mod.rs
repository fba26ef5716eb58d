//! Rendered records on their way into an output: bytes, and where each record ends.

/// Records that were decided and rendered, and are not in the output yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`; the last one is `bytes.len()`.
    ends: Vec<usize>,
    /// `bytes[..written]` are in the output; the middle of a record after a short write.
    written: usize,
    /// The first record's beginning is in the output already: a checkpoint kept the rest.
    starts_mid_record: bool,
}

impl Batch {
    /// The buffer to append one record to; [`Batch::seal`] ends it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was appended since the last call is one record.
    pub fn seal(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Takes records from elsewhere, with their ends counted from their first byte.
    pub fn extend(&mut self, bytes: &[u8], ends: &[usize]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.ends.extend(ends.iter().map(|end| start + end));
    }

    /// What is taken next begins within a record.
    pub fn start_mid_record(&mut self) {
        assert!(self.bytes.is_empty(), "only the first record can be without its beginning");
        self.starts_mid_record = true;
    }

    /// Takes bytes that a checkpoint kept: records by their newlines, the first perhaps without its beginning.
    pub fn extend_lines(&mut self, bytes: &[u8]) {
        let mut ends: Vec<usize> = memchr::memchr_iter(b'\n', bytes).map(|newline| newline + 1).collect();
        if ends.last().copied().unwrap_or(0) < bytes.len() {
            ends.push(bytes.len());
        }
        self.extend(bytes, &ends);
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Bytes that are not written yet.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The ends of the records that are not wholly written, counted from the first unwritten byte.
    pub fn unwritten_ends(&self) -> Vec<usize> {
        let first = self.ends.partition_point(|end| *end <= self.written);
        self.ends[first..].iter().map(|end| end - self.written).collect()
    }

    /// The records that are not written, one by one.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.ends.partition_point(|end| *end <= self.written);
        let mut start = self.written;
        self.ends[first..].iter().map(move |end| {
            let record = &self.bytes[start..*end];
            start = *end;
            record
        })
    }

    /// Whether the first unwritten byte lies inside a record.
    pub fn is_mid_record(&self) -> bool {
        match self.written {
            0 => self.starts_mid_record && !self.bytes.is_empty(),
            written => self.ends.binary_search(&written).is_err(),
        }
    }

    /// The output lost the beginning of the record that is being written: it is written whole.
    pub fn rewind_record(&mut self) {
        if self.is_mid_record() && self.written > 0 {
            let before = self.ends.partition_point(|end| *end <= self.written);
            self.written = before.checked_sub(1).map_or(0, |ix| self.ends[ix]);
        }
    }

    /// So many more bytes are in the output.
    pub fn advance(&mut self, n_bytes: usize) {
        self.written += n_bytes;
        assert!(self.written <= self.bytes.len(), "only what is there was written");
        if self.is_empty() {
            self.clear();
        }
    }

    /// Before it is filled: takes the memory of one that is empty, instead of growing its own.
    pub fn take_room(&mut self, spare: &mut Batch) {
        if self.bytes.is_empty() && spare.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, &mut spare.bytes);
            std::mem::swap(&mut self.ends, &mut spare.ends);
        }
    }

    /// Once all of it is written: keeps no memory. A thousand that keep as much as a turn took are as many times 300 KiB.
    pub fn give_room(&mut self, spare: &mut Batch) {
        if !self.bytes.is_empty() || !spare.bytes.is_empty() {
            return;
        }
        let (bytes, ends) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ends));
        if bytes.capacity() > spare.bytes.capacity() {
            (spare.bytes, spare.ends) = (bytes, ends);
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.written = 0;
        self.starts_mid_record = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_leaves_the_middle_of_a_record() {
        let mut batch = Batch::default();
        batch.extend_lines(b"one\ntwo\nthree\n");
        batch.advance(6);
        assert!(batch.is_mid_record());
        assert_eq!(batch.unwritten_ends(), [2, 8]);
        assert_eq!(batch.records().collect::<Vec<_>>(), [&b"o\n"[..], b"three\n"]);
        batch.advance(2);
        assert!(!batch.is_mid_record());
        batch.advance(6);
        assert!(batch.is_empty());
    }

    #[test]
    fn one_room_is_enough_for_batches_that_are_written() {
        let mut room = Batch::default();
        let mut batches = [Batch::default(), Batch::default(), Batch::default()];
        for batch in &mut batches {
            batch.take_room(&mut room);
            batch.extend_lines(&b"some text\n".repeat(1000));
            batch.advance(10_000);
            batch.give_room(&mut room);
            assert_eq!(batch.bytes.capacity() + batch.ends.capacity(), 0);
            assert!(room.bytes.capacity() >= 10_000 && room.is_empty());
        }
        let [kept, other, _] = &mut batches;
        kept.take_room(&mut room);
        kept.extend_lines(b"not written\n");
        kept.give_room(&mut room);
        assert_eq!(kept.unwritten(), b"not written\n", "what no output has yet stays");
        other.take_room(&mut room);
        other.extend_lines(b"other\n");
        assert_eq!((other.unwritten(), kept.unwritten()), (&b"other\n"[..], &b"not written\n"[..]));
    }

    #[test]
    fn what_a_checkpoint_kept_of_a_record_begins_within_it() {
        let mut batch = Batch::default();
        batch.start_mid_record();
        batch.extend_lines(b"rest\nwhole\n");
        assert!(batch.is_mid_record());
        batch.advance(2);
        assert!(batch.is_mid_record());
        batch.advance(3);
        assert!(!batch.is_mid_record());
        batch.advance(6);
        batch.extend_lines(b"next\n");
        assert!(!batch.is_mid_record());
    }
}
