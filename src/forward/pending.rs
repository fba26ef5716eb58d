//! Rendered records of one container that are in no batch yet, numbered without gaps.

use std::collections::VecDeque;

use crate::forward::mark::Mark;

/// Behind each record, so that joining records is copying. The sink's framing makes what it needs of it.
pub const SEPARATOR: u8 = b'\n';
/// Bytes that were taken are moved out of the way when they are so many, and most.
const TAKEN_BYTES_KEPT: usize = 256 * 1024;

/// What is kept for the next one that is filled: a turn's text, rendered.
const ROOM_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where it ends in `bytes`, its separator included.
    end: usize,
    mark: Mark,
}

#[derive(Clone, Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    records: VecDeque<Record>,
    /// `bytes[..taken]` are in batches.
    taken: usize,
    /// The number of the first record.
    first: u64,
}

impl Pending {
    pub fn starting_at(no: u64) -> Pending {
        Pending { first: no, ..Pending::default() }
    }

    /// The number of the next record to come.
    pub fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// To append one record to; [`Pending::seal`] ends it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub fn seal(&mut self, mark: Mark) {
        self.bytes.push(SEPARATOR);
        self.records.push_back(Record { end: self.bytes.len(), mark });
    }

    /// Lengths of the records from number `from` on.
    pub fn lengths(&self, from: u64) -> impl Iterator<Item = u32> + '_ {
        let skipped = (from - self.first) as usize;
        let mut start = if skipped == 0 { self.taken } else { self.records[skipped - 1].end };
        self.records.range(skipped..).map(move |record| {
            let length = record.end - start;
            start = record.end;
            u32::try_from(length).unwrap_or(u32::MAX)
        })
    }

    /// Moves the first `n` records out: their bytes to `payload`, and each one's end there and its mark.
    pub fn take(&mut self, n: usize, payload: &mut Vec<u8>, ends: &mut Vec<u32>, marks: &mut Vec<Mark>) {
        let base = payload.len();
        let from = self.taken;
        for record in self.records.drain(..n) {
            self.taken = record.end;
            ends.push(u32::try_from(base + record.end - from).expect("a batch is far below 4 GiB"));
            marks.push(record.mark);
        }
        payload.extend_from_slice(&self.bytes[from..self.taken]);
        self.first += n as u64;
        self.let_go();
    }

    /// Before records come: the memory of one that is empty, instead of growing its own.
    pub fn take_room(&mut self, spare: &mut Pending) {
        if self.bytes.is_empty() && spare.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, &mut spare.bytes);
            std::mem::swap(&mut self.records, &mut spare.records);
        }
    }

    /// What stays for long moves into memory of its own size, and what it had grown into goes back: cut to size where it
    /// is, it would leave pieces behind that no other lane fits into.
    pub fn settle(&mut self, spare: &mut Pending) {
        let mut bytes = self.bytes[self.taken..].to_vec();
        let mut records: VecDeque<Record> = Vec::from_iter(self.records.iter().copied()).into();
        records.iter_mut().for_each(|record| record.end -= self.taken);
        self.taken = 0;
        std::mem::swap(&mut self.bytes, &mut bytes);
        std::mem::swap(&mut self.records, &mut records);
        bytes.clear();
        records.clear();
        Pending { bytes, records, ..Pending::default() }.give_room(spare);
    }

    /// Keeps no memory when it is empty: thousands that keep what a turn took would fill the node's.
    pub fn give_room(&mut self, spare: &mut Pending) {
        if !self.bytes.is_empty() || !spare.bytes.is_empty() {
            return;
        }
        let (bytes, records) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.records));
        if bytes.capacity() > spare.bytes.capacity() {
            (spare.bytes, spare.records) = (bytes, records);
            spare.bytes.shrink_to(ROOM_BYTES_MAX);
        }
    }

    fn let_go(&mut self) {
        if self.records.is_empty() {
            self.bytes.clear();
        } else if self.taken > TAKEN_BYTES_KEPT && self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.records.iter_mut().for_each(|record| record.end -= self.taken);
            self.bytes.shrink_to(2 * self.bytes.len());
            self.records.shrink_to(2 * self.records.len());
        } else {
            return;
        }
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_room_is_enough_for_lanes_that_are_empty() {
        let mut room = Pending::default();
        for first in [3, 9] {
            let mut lane = Pending::starting_at(first);
            lane.take_room(&mut room);
            for no in 0..1000 {
                lane.buffer().extend_from_slice(b"some text");
                lane.seal(Mark::line(1, no));
            }
            lane.give_room(&mut room);
            assert_eq!((lane.lengths(first).count(), room.bytes.capacity()), (1000, 0), "what is there stays");
            lane.take(1000, &mut Vec::new(), &mut Vec::new(), &mut Vec::new());
            lane.give_room(&mut room);
            assert_eq!((lane.bytes.capacity(), lane.records.capacity(), lane.next()), (0, 0, first + 1000));
            assert!(room.bytes.capacity() >= 10_000 && room.records.capacity() >= 1000);
        }
    }

    #[test]
    fn what_settles_keeps_its_records_and_gives_back_the_rest() {
        let mut room = Pending::default();
        let mut lane = Pending::starting_at(5);
        for no in 0..100 {
            lane.buffer().extend_from_slice(format!("record {no}").as_bytes());
            lane.seal(Mark::line(1, no));
        }
        lane.take(98, &mut Vec::new(), &mut Vec::new(), &mut Vec::new());
        lane.settle(&mut room);
        assert!(lane.bytes.capacity() < 30 && room.bytes.capacity() > 900);
        assert_eq!(lane.lengths(103).collect::<Vec<_>>(), [10, 10]);
        let (mut payload, mut ends) = (Vec::new(), Vec::new());
        lane.take(2, &mut payload, &mut ends, &mut Vec::new());
        assert_eq!((payload.as_slice(), ends.as_slice()), (&b"record 98\nrecord 99\n"[..], &[10, 20][..]));
        assert_eq!((lane.is_empty(), lane.next()), (true, 105));
    }

    #[test]
    fn records_are_taken_in_order_with_their_numbers() {
        let mut pending = Pending::starting_at(7);
        let (mut payload, mut ends, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let text = |no: u64| format!("{no}").repeat(no as usize % 90_000);
        for no in 7..40 {
            pending.buffer().extend_from_slice(text(no * 997).as_bytes());
            pending.seal(Mark::line(1, no));
            if no % 3 == 0 {
                assert_eq!(pending.lengths(pending.first()).count() as u64, pending.next() - pending.first());
                pending.take(2, &mut payload, &mut ends, &mut marks);
            }
        }
        let left = (pending.next() - pending.first()) as usize;
        pending.take(left, &mut payload, &mut ends, &mut marks);
        assert!(pending.is_empty() && pending.next() == 40);
        let mut start = 0;
        for (no, (end, mark)) in (7..40).zip(ends.iter().zip(&marks)) {
            assert_eq!(payload[start..*end as usize], *(text(no * 997) + "\n").as_bytes());
            assert_eq!(*mark, Mark::line(1, no));
            start = *end as usize;
        }
    }
}
