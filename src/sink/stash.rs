//! Records that are not where an output should have them, kept until it is known whether it has them at all.

/// In the order of the source.
#[derive(Default)]
pub struct Stash {
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<usize>,
    /// The first kept record that the output's torn last line may be the beginning of. A time alone says little, so
    /// that only counts when no later record is there.
    torn: Option<Torn>,
    /// Lines that were open, all of them or some, since so many bytes were kept.
    open_from: Option<usize>,
}

#[derive(Clone, Copy)]
struct Torn {
    /// Where the record begins among those that are kept.
    at: usize,
    already: usize,
}

/// Records that are to be appended.
pub struct Rest {
    pub bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    pub ends: Vec<usize>,
    /// Bytes of the first one that are in the output already.
    pub already: usize,
}

impl Stash {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn keep(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// Keeps a record whose first `already` bytes the output may end with.
    pub fn keep_torn(&mut self, record: &[u8], already: usize) {
        self.torn = self.torn.or(Some(Torn { at: self.bytes.len(), already }));
        self.keep(record);
    }

    pub fn has_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Whether a line of the source is open behind what is kept so far.
    pub fn note_open(&mut self, is_open: bool) {
        self.open_from = if is_open { self.open_from.or(Some(self.bytes.len())) } else { None };
    }

    /// The output has a later record: the operator took those before it away.
    pub fn drop_all(&mut self) {
        *self = Stash { open_from: self.open_from.map(|_| 0), ..Stash::default() };
    }

    /// The output has a line that was open while some of these came. It may have ended before them then, in bytes that a
    /// power loss took, so it tells only of those before its beginning.
    pub fn drop_before_open(&mut self) {
        let Some(at) = self.open_from else {
            return self.drop_all();
        };
        self.bytes.drain(..at);
        self.ends.retain(|end| *end > at);
        self.ends.iter_mut().for_each(|end| *end -= at);
        self.torn = self.torn.filter(|torn| torn.at >= at).map(|torn| Torn { at: torn.at - at, ..torn });
        self.open_from = Some(0);
    }

    /// All of them, with a newline before them when the output's last line has none (`ends_torn`) and is nobody's
    /// beginning.
    pub fn take(&mut self, ends_torn: bool) -> Rest {
        let Stash { mut bytes, mut ends, torn, .. } = std::mem::take(self);
        let mut already = 0;
        if let Some(torn) = torn {
            already = torn.already;
            complete_first(torn.at, &mut bytes, &mut ends);
        } else if ends_torn {
            // Also when nothing waits yet: what comes later must not be glued to a line whose source is gone.
            // By itself, for the next record may belong into the next segment.
            bytes.insert(0, b'\n');
            ends.iter_mut().for_each(|end| *end += 1);
            ends.insert(0, 1);
        }
        Rest { bytes, ends, already }
    }
}

/// The record at `at` comes first, for the output ends within it. Those before it follow: nothing tells whether the
/// operator took them away, or a disk lost them, or they never were there.
fn complete_first(at: usize, bytes: &mut [u8], ends: &mut [usize]) {
    let n_before = ends.partition_point(|end| *end <= at);
    let n_torn = ends[n_before] - at;
    bytes[..at + n_torn].rotate_left(at);
    ends[..n_before].iter_mut().for_each(|end| *end += n_torn);
    ends[..=n_before].rotate_right(1);
    ends[0] = n_torn;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(records: &[&[u8]]) -> Stash {
        let mut stash = Stash::default();
        records.iter().for_each(|record| stash.keep(record));
        stash
    }

    #[test]
    fn the_torn_record_comes_first() {
        let mut stash = kept(&[b"one\n"]);
        assert!(!stash.has_torn());
        stash.keep_torn(b"torn\n", 2);
        assert!(stash.has_torn());
        stash.keep(b"two\n");
        let Rest { bytes, ends, already } = stash.take(true);
        assert_eq!((bytes, ends, already), (b"torn\none\ntwo\n".to_vec(), vec![5, 9, 13], 2));
    }

    #[test]
    fn a_line_that_was_open_tells_nothing_of_those_that_came_meanwhile() {
        let mut stash = kept(&[b"before\n"]);
        stash.note_open(true);
        stash.keep(b"meanwhile\n");
        stash.note_open(true);
        stash.keep_torn(b"torn\n", 3);
        stash.drop_before_open();
        stash.note_open(false);
        let Rest { bytes, ends, already } = stash.take(true);
        assert_eq!((bytes, ends, already), (b"torn\nmeanwhile\n".to_vec(), vec![5, 15], 3));
    }

    #[test]
    fn what_came_before_an_open_line_goes_with_it() {
        let mut stash = kept(&[b"before\n"]);
        stash.note_open(true);
        stash.drop_before_open();
        assert!(stash.is_empty());
        stash.keep(b"meanwhile\n");
        stash.drop_before_open();
        assert_eq!(stash.take(false).bytes, b"meanwhile\n");
        stash = kept(&[b"one\n"]);
        stash.drop_before_open();
        assert!(stash.is_empty(), "no line was open");
    }

    #[test]
    fn a_line_is_still_open_when_all_before_it_goes() {
        let mut stash = kept(&[b"before\n"]);
        stash.note_open(true);
        stash.drop_all();
        assert!(stash.is_empty());
        stash.keep(b"meanwhile\n");
        stash.drop_before_open();
        assert_eq!(stash.take(false).bytes, b"meanwhile\n");
    }

    #[test]
    fn what_was_missed_follows_the_line_that_must_be_completed() {
        let mut bytes = b"one\ntwo\nthree\nfour\n".to_vec();
        let mut ends = vec![4, 8, 14, 19];
        complete_first(8, &mut bytes, &mut ends);
        assert_eq!((&bytes[..], &ends[..]), (&b"three\none\ntwo\nfour\n"[..], &[6, 10, 14, 19][..]));
        complete_first(0, &mut bytes, &mut ends);
        assert_eq!((&bytes[..6], &ends[..]), (&b"three\n"[..], &[6, 10, 14, 19][..]));
    }
}
