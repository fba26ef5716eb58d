//! Finds where an output and its source agree. The output is the record of what was delivered; the store says where to
//! begin comparing. Whole lines without a partner are never cut: they are the only copy.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read};

use crate::config::limits::{SEARCH_BYTES_MAX, SEARCHED_BYTES_MAX, SEEK_LINES_MAX, STASH_BYTES_MAX};
use crate::hash::hash;
use crate::sink::Place;
use crate::sink::existing::{Existing, open_segment, segments};
use crate::sink::file::Output;
use crate::sink::stash::{Rest, Stash};
use crate::sink::suffix::Suffix;
use crate::sys::Os;

/// Whether zeros in the output may be damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The machine ran on: what was written is there.
    Never,
    /// The machine went down: pages that were not synced may be zeros.
    ZeroedPages,
}

/// What became of a record that was held against the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is there.
    Present,
    /// The output ends here; so many bytes of the record are there already.
    Ends { already: usize },
    /// It isn't where it should be. Kept until the output shows a later one, or the source ends.
    Stashed,
    /// It isn't there, nor are those kept before it: go on appending.
    GiveUp,
}

/// A record in all the ways it may stand in an output.
#[derive(Clone, Copy)]
pub struct Offered<'a> {
    /// By the settings in force where it should stand.
    pub record: &'a [u8],
    /// By settings of before or since.
    pub others: &'a [&'a [u8]],
    /// As it is written when none of these is there.
    pub fresh: &'a [u8],
    /// Of several pieces, the first of which may have come before records that were offered earlier.
    pub was_open: bool,
}

impl<'a> From<&'a [u8]> for Offered<'a> {
    /// Under settings that never changed.
    fn from(record: &'a [u8]) -> Offered<'a> {
        Offered { record, others: &[], fresh: record, was_open: false }
    }
}

/// How far behind zeros a record is looked for.
const BEHIND_ZEROS_BYTES: usize = 64 * 1024;

/// Holds rendered records against what an output has, from a place both sides agree on.
pub struct Replay<O: Os> {
    existing: Existing<O>,
    repair: Repair,
    /// Others wrote behind it: nothing there can be completed, and what it lacks goes to the output's end.
    pub among_others: bool,
    stash: Stash,
    /// Lines of the source that were open when it was last told.
    n_open: usize,
    has_ended: bool,
    /// Each line has its time, so none is taken for another.
    pub tells_apart: bool,
    /// Where the zeros end, in the present segment, that were looked at last.
    zeros_end: u64,
    /// Bytes of output looked through for records that were not where they should be.
    searched_bytes: u64,
    /// Lines of the output that no record of the source rendered.
    pub unmatched_bytes: u64,
    pub repaired_bytes: u64,
}

impl<O: Os> Replay<O> {
    pub fn new(existing: Existing<O>, repair: Repair) -> Replay<O> {
        Replay {
            existing,
            repair,
            among_others: false,
            stash: Stash::default(),
            tells_apart: false,
            zeros_end: 0,
            n_open: 0,
            has_ended: false,
            searched_bytes: 0,
            unmatched_bytes: 0,
            repaired_bytes: 0,
        }
    }

    /// As [`Replay::new`], of what ends where another container's lines begin.
    pub fn among_others(existing: Existing<O>, repair: Repair) -> Replay<O> {
        Replay { among_others: true, ..Replay::new(existing, repair) }
    }

    /// Whether everything in the output has its partner.
    pub fn is_over(&mut self) -> io::Result<bool> {
        Ok(self.stash.is_empty() && self.existing.is_at_end()?)
    }

    /// Where the next record should stand.
    pub fn place(&self) -> Place {
        self.existing.place()
    }

    pub fn offer(&mut self, os: &O, output: &Output<O>, offered: Offered<'_>) -> io::Result<Offer> {
        let record = offered.record;
        let there = self.existing.peek(record.len())?;
        let n_there = there.len();
        let is_there = there == &record[..n_there];
        let place = self.existing.place(); // Where a segment ended, the look led into the next one.
        if is_there {
            self.existing.consume(n_there);
            if n_there == record.len() {
                self.drop_stash(offered);
                return Ok(Offer::Present);
            }
            if n_there == 0 || self.existing.is_at_end()? {
                return Ok(self.ends_within(record, n_there));
            }
            return Ok(Offer::Present); // A rotated segment that ends in the middle of a line: somebody cut it.
        }
        // What can't be written again counts as missing: a rotated segment was on the disk before it was renamed, so its
        // zeros are an older loss, whose place is nobody's now.
        if self.repair == Repair::ZeroedPages
            && let Some(file) = output.file().filter(|_| place.segment == output.place().segment)
            && let Some(damaged) = self.damaged(offered)?
        {
            return match self.behind_zeros(record)? {
                Some(n_before) => {
                    self.unmatched_bytes += n_before as u64;
                    self.existing.consume(n_before + record.len());
                    self.drop_stash(offered);
                    Ok(Offer::Present)
                }
                None => self.mend(os, file, damaged),
            };
        }
        self.search(offered)
    }

    /// The rendering that stands here with nothing but zeros in place of some of its bytes. One of other settings must
    /// have left a trace.
    fn damaged<'a>(&mut self, offered: Offered<'a>) -> io::Result<Option<&'a [u8]>> {
        let there = self.existing.peek(offered.record.len())?;
        let fits = only_zeroed(there, offered.record);
        if fits && there.iter().any(|byte| *byte != 0) {
            return Ok(Some(offered.record));
        }
        for other in offered.others {
            let there = self.existing.peek(other.len())?;
            if there.len() == other.len() && only_zeroed(there, other) && there.iter().any(|byte| *byte != 0) {
                return Ok(Some(other));
            }
        }
        Ok(fits.then_some(offered.record))
    }

    /// Zeros fit every record, also one that doesn't belong there, for the engine may have lost the source of those that
    /// do. How many bytes lie before this one, if it stands whole behind the zeros.
    fn behind_zeros(&mut self, record: &[u8]) -> io::Result<Option<usize>> {
        let offset = self.existing.place().offset;
        if !self.tells_apart || self.existing.peek(record.len())?.iter().any(|byte| *byte != 0) {
            return Ok(None);
        }
        if self.zeros_end <= offset {
            let rest = self.existing.peek(SEARCH_BYTES_MAX)?;
            self.zeros_end = offset + rest.iter().take_while(|byte| **byte == 0).count() as u64;
        }
        let n_zeros = (self.zeros_end - offset) as usize;
        let behind = &self.existing.peek(n_zeros + BEHIND_ZEROS_BYTES)?[n_zeros..];
        let found = find_line(behind, record).filter(|found| found.already == record.len());
        Ok(found.map(|found| n_zeros + found.at))
    }

    /// Writes a damaged line again, in place.
    fn mend(&mut self, os: &O, file: &O::File, record: &[u8]) -> io::Result<Offer> {
        let place = self.existing.place();
        let n_there = self.existing.peek(record.len())?.len();
        let mut written = 0;
        while written < n_there {
            written += os.write_at(file, place.offset + written as u64, &record[written..n_there])?;
        }
        self.repaired_bytes += n_there as u64;
        self.existing.consume(n_there);
        if n_there == record.len() { Ok(Offer::Present) } else { Ok(self.ends_within(record, n_there)) }
    }

    /// The output ends behind the first bytes of a record.
    fn ends_within(&mut self, record: &[u8], n_there: usize) -> Offer {
        if self.among_others {
            self.unmatched_bytes += n_there as u64;
            return Offer::Ends { already: 0 };
        }
        if n_there == 0 || self.stash.is_empty() {
            return Offer::Ends { already: n_there };
        }
        self.unmatched_bytes += n_there as u64; // Until it is known whose they are.
        self.stash.keep_torn(record, n_there);
        Offer::Stashed
    }

    /// Looks for the record further on: lines between are the only copy of what the engine lost.
    fn search(&mut self, offered: Offered<'_>) -> io::Result<Offer> {
        let rest = self.existing.look_ahead(SEARCH_BYTES_MAX)?;
        let n_bytes: usize = rest.iter().map(|segment| segment.len()).sum();
        let renderings = || std::iter::once(offered.record).chain(offered.others.iter().copied());
        self.searched_bytes += (n_bytes * renderings().count()) as u64;
        let mut torn = None;
        for record in renderings() {
            match find_in_segments(&rest, record) {
                Some(Match { at, already }) if already == record.len() => {
                    self.unmatched_bytes += at as u64;
                    self.existing.consume(at + already);
                    self.drop_stash(offered);
                    return Ok(Offer::Present);
                }
                Some(Match { already, .. }) if n_bytes < SEARCH_BYTES_MAX && !self.among_others => {
                    torn = torn.or(Some((record, already)));
                }
                _ => {}
            }
        }
        let longest = renderings().chain([offered.fresh]).map(<[u8]>::len).max().unwrap_or(0);
        if self.stash.len() + longest > STASH_BYTES_MAX || self.searched_bytes > SEARCHED_BYTES_MAX {
            return Ok(Offer::GiveUp);
        }
        match torn.filter(|_| !self.stash.has_torn()) {
            Some((record, already)) => self.stash.keep_torn(record, already),
            None => self.stash.keep(offered.fresh),
        }
        Ok(Offer::Stashed)
    }

    /// Whether the rest of the output has this record as a whole line.
    pub fn has_line(&mut self, record: &[u8]) -> io::Result<bool> {
        let rest = self.existing.look_ahead(SEARCH_BYTES_MAX)?;
        Ok(find_in_segments(&rest, record).is_some_and(|found| found.already == record.len()))
    }

    fn drop_stash(&mut self, there: Offered<'_>) {
        if there.was_open { self.stash.drop_before_open() } else { self.stash.drop_all() }
    }

    /// So many lines of the source are open now. Gives whether one of them has ended with the line that is offered.
    pub fn note_open(&mut self, n_open: usize) -> bool {
        self.has_ended |= n_open < self.n_open;
        self.n_open = n_open;
        self.has_ended
    }

    /// All that one line of the source gave was offered.
    pub fn line_is_over(&mut self) {
        self.has_ended = false;
        self.stash.note_open(self.n_open > 0);
    }

    /// Ends the comparison: counts what is left of the output, and gives the records that are not in it, with a newline
    /// before them when the output's last line has none and is nobody's beginning.
    pub fn finish(&mut self, os: &O, output: &Output<O>) -> io::Result<Rest> {
        let mut last = b'\n';
        loop {
            let rest = self.existing.peek(SEARCH_BYTES_MAX)?;
            let n_bytes = rest.len();
            if n_bytes == 0 {
                break;
            }
            last = rest[n_bytes - 1];
            self.unmatched_bytes += n_bytes as u64;
            self.existing.consume(n_bytes);
        }
        if self.among_others {
            last = if output.ends_torn(os)? { 0 } else { b'\n' };
        }
        let rest = self.stash.take(last != b'\n');
        self.unmatched_bytes -= rest.already as u64;
        Ok(rest)
    }
}

/// Every byte that differs is zero in the output: a page that never reached the disk.
fn only_zeroed(there: &[u8], record: &[u8]) -> bool {
    there.iter().zip(record).all(|(old, new)| old == new || *old == 0)
}

struct Match {
    at: usize,
    /// Bytes of the record that stand there.
    already: usize,
}

/// The first line of all segments that is `record`; in the last one also its torn last line.
fn find_in_segments(segments: &[&[u8]], record: &[u8]) -> Option<Match> {
    let mut before = 0;
    for (ix, segment) in segments.iter().enumerate() {
        let is_last = ix + 1 == segments.len();
        let found = find_line(segment, record).filter(|found| is_last || found.already == record.len());
        if let Some(Match { at, already }) = found {
            return Some(Match { at: before + at, already });
        }
        before += segment.len();
    }
    None
}

/// The first line of `rest` that is `record`, or its torn last line when `record` begins with it.
fn find_line(rest: &[u8], record: &[u8]) -> Option<Match> {
    let mut at = 0;
    loop {
        let line = &rest[at..];
        if line.starts_with(record) {
            return Some(Match { at, already: record.len() });
        }
        match memchr::memchr(b'\n', line) {
            Some(newline) => at += newline + 1,
            None if !line.is_empty() && record.starts_with(line) => return Some(Match { at, already: line.len() }),
            None => return None,
        }
    }
}

/// A part of an output, from its first byte to behind its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: Place,
    /// `None`: up to the output's end.
    pub end: Option<Place>,
}

impl Part {
    pub const WHOLE: Part = Part { start: Place { segment: 0, offset: 0 }, end: None };
}

/// The last lines of an output, to find its end in a source whose checkpoint was lost.
pub struct OutputEnd {
    /// By the line's hash, its places counted from the first kept line; the latest few.
    places: HashMap<u64, Vec<usize>>,
    n_lines: usize,
    /// Where the text after the last whole line begins.
    pub whole: Place,
    running: HashMap<usize, usize>,
    /// For lines that repeat more often than their places are remembered.
    suffix: Option<Suffix>,
    best: Option<Best>,
    prefer: Prefer,
    /// Another source place matched as well as the best one.
    pub ambiguous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Best {
    line: usize,
    run: usize,
}

/// What decides between several matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// Lines carry their time, so they hardly repeat: the one nearest to the output's end.
    Latest,
    /// Lines may be equal: the one with the most lines before it that match as well.
    LongestRun,
}

/// Places remembered for one and the same line.
const PLACES_PER_LINE_MAX: usize = 64;

impl OutputEnd {
    /// Reads a part of an output backwards, segment by segment, until enough lines are known. `None`: it holds no whole line.
    pub fn read<O: Os>(os: &O, output: &Output<O>, part: Part, prefer: Prefer) -> io::Result<Option<OutputEnd>> {
        let current = output.place().segment;
        let mut chunks: Vec<VecDeque<u64>> = Vec::new();
        let mut n_lines = 0;
        let mut whole = None;
        for segment in segments(os, output.path(), current)?.iter().rev() {
            let (number, Part { start, end }) = (segment.number, part);
            if number < start.segment {
                break;
            }
            if end.is_some_and(|end| number > end.segment) {
                continue;
            }
            let from = if number == start.segment { start.offset } else { 0 };
            let until = end.filter(|end| number == end.segment).map_or(u64::MAX, |end| end.offset);
            let mut reader = open_segment(os, segment, from)?.take(until.saturating_sub(from));
            let mut hashes = VecDeque::new();
            let whole_bytes = each_line(&mut reader, &mut |_, line| {
                if hashes.len() == SEEK_LINES_MAX {
                    hashes.pop_front(); // A segment may have many millions.
                }
                hashes.push_back(hash(line));
            })?;
            if whole.is_none() && !hashes.is_empty() {
                whole = Some(Place { segment: number, offset: from + whole_bytes });
            }
            n_lines += hashes.len();
            chunks.push(hashes);
            if n_lines >= SEEK_LINES_MAX {
                break;
            }
        }
        let Some(whole) = whole else {
            return Ok(None);
        };
        let lines: Vec<u64> = chunks.into_iter().rev().flatten().collect();
        let lines = &lines[lines.len().saturating_sub(SEEK_LINES_MAX)..];
        Ok(Some(OutputEnd::new(lines, whole, prefer)))
    }

    fn new(lines: &[u64], whole: Place, prefer: Prefer) -> OutputEnd {
        let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
        for (ix, hash) in lines.iter().enumerate().rev() {
            let of_line = places.entry(*hash).or_default();
            if of_line.len() < PLACES_PER_LINE_MAX {
                of_line.push(ix);
            }
        }
        let suffix = (prefer == Prefer::LongestRun).then(|| Suffix::new(lines.to_vec()));
        let (running, best, ambiguous) = (HashMap::new(), None, false);
        OutputEnd { places, n_lines: lines.len(), whole, running, suffix, best, prefer, ambiguous }
    }

    /// Takes the next rendered line of the source. True: the place behind it is the best so far.
    pub fn observe(&mut self, line: &[u8]) -> bool {
        let hash = hash(line);
        let suffix = self.suffix.as_mut().and_then(|suffix| suffix.observe(hash));
        let Some(places) = self.places.get(&hash) else {
            self.running.clear();
            return false;
        };
        let mut running: HashMap<usize, usize> = places
            .iter()
            .map(|ix| (*ix, ix.checked_sub(1).and_then(|before| self.running.get(&before)).map_or(1, |run| run + 1)))
            .collect();
        if let Some(n_lines) = suffix {
            running.insert(self.n_lines - 1, n_lines);
        }
        let mut improved = false;
        for (ix, run) in &running {
            let found = Best { line: *ix, run: *run };
            let better = match (self.best, self.prefer) {
                (None, _) => true,
                (Some(best), Prefer::Latest) => found > best,
                (Some(best), Prefer::LongestRun) => {
                    let at_end = |place: Best| place.line + 1 == self.n_lines;
                    (at_end(found), found.run, found.line) > (at_end(best), best.run, best.line)
                }
            };
            if better {
                self.best = Some(found);
                self.ambiguous = false;
                improved = true;
            } else if self.best == Some(found) {
                self.ambiguous = true;
            }
        }
        self.running = running;
        improved
    }

    /// Lines of the output behind the one that was found.
    pub fn lines_after_best(&self) -> Option<usize> {
        self.best.map(|best| self.n_lines - 1 - best.line)
    }
}

/// The first place in an output where one of some lines stands, by their hashes.
pub enum Earliest {
    Nowhere,
    At(Place),
    /// The output has more lines than are looked at.
    Unknown,
}

impl Earliest {
    pub fn of<O: Os>(os: &O, output: &Output<O>, lines: &HashSet<u64>) -> io::Result<Earliest> {
        let mut earliest = Earliest::Nowhere;
        let mut n_lines = 0;
        for segment in segments(os, output.path(), output.place().segment)?.iter().rev() {
            if n_lines >= SEEK_LINES_MAX {
                return Ok(Earliest::Unknown);
            }
            let mut first = None;
            each_line(&mut open_segment(os, segment, 0)?, &mut |offset, line| {
                n_lines += 1;
                if first.is_none() && lines.contains(&hash(line)) {
                    first = Some(Place { segment: segment.number, offset });
                }
            })?;
            earliest = first.map_or(earliest, Earliest::At);
        }
        Ok(earliest)
    }
}

/// Shows all whole lines with their offsets. Gives how many bytes they take.
fn each_line(reader: &mut impl io::Read, see: &mut dyn FnMut(u64, &[u8])) -> io::Result<u64> {
    let mut buffer: Vec<u8> = Vec::new();
    let mut whole_bytes = 0;
    loop {
        let filled = buffer.len();
        buffer.resize(filled + 256 * 1024, 0);
        let read = reader.read(&mut buffer[filled..])?;
        buffer.truncate(filled + read);
        if read == 0 {
            return Ok(whole_bytes);
        }
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &buffer) {
            see(whole_bytes + start as u64, &buffer[start..=newline]);
            start = newline + 1;
        }
        whole_bytes += start as u64;
        buffer.drain(..start);
    }
}

#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;
