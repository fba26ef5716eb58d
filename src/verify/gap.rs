//! Lines between two places where source and output agree: told apart into what is missing, what is too much, and what
//! is only somewhere else.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::hash::hash;
use crate::shape::Shape;
use crate::sink::Place;
use crate::verify::join::{Message, Spot};
use crate::verify::owners::Range;
use crate::verify::report::{ContainerReport, Finding, Missing, Wrong};
use crate::verify::standing::Standing;

/// Lines of one gap that are held against each other; what comes beyond is counted by its place alone.
const GAP_LINES_MAX: usize = 16_384;
const GAP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines that may turn up later, on each side.
const POOL_MAX: usize = 65_536;
/// Delivered lines that a repeat is known by.
const RECENT_MAX: usize = 262_144;
/// How far an altered line is looked for among those that are too much.
const ALTERED_AHEAD: usize = 8;

/// A source line that the output doesn't have here.
#[derive(Clone)]
pub struct Missed {
    pub message: Rc<Message>,
    pub text: Vec<u8>,
    pub hash: u64,
    /// The piece that it goes out with.
    pub spot: Spot,
}

/// A line of output that the source doesn't have here.
#[derive(Clone)]
pub struct Extra {
    pub text: Vec<u8>,
    pub hash: u64,
    pub place: Place,
    pub range_ix: usize,
    pub torn: bool,
}

/// What the classes depend on.
pub struct Known<'a> {
    pub standing: &'a Standing,
    pub ranges: &'a [Range],
    pub shapes: &'a [Shape],
    /// Bytes without a source that the ledger has entries for, by output.
    pub unmatched: BTreeMap<String, u64>,
    /// Messages of different streams may go out in another order.
    pub lenient: bool,
}

impl Known<'_> {
    /// Of these ranges, as far as there are so many.
    fn shapes_of(&self, from: usize, to: usize) -> impl Iterator<Item = &Shape> {
        let shape_ix = |ix: usize| self.ranges[ix].shape_ix;
        let to = to.saturating_add(1).min(self.ranges.len());
        (from..to)
            .filter(move |ix| *ix == from || shape_ix(ix - 1) != shape_ix(*ix))
            .map(move |ix| &self.shapes[shape_ix(ix)])
    }
}

#[derive(Default)]
pub struct Gap {
    missed: Vec<Missed>,
    extra: Vec<Extra>,
    bytes: usize,
    hole: bool,
    cut: bool,
    any_match: bool,
    /// The range that the last line of both sides was in.
    from_range_ix: usize,
    recent: Recent,
    pool_missing: Pool<Missing>,
    pool_extra: Pool<Finding>,
    missing: Vec<Missing>,
}

impl Gap {
    pub fn hole(&mut self) {
        self.hole = true;
    }

    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Both sides have this line, the output in this range.
    pub fn matched(&mut self, hash: u64, range_ix: usize, known: &Known<'_>, report: &mut ContainerReport) {
        if !self.missed.is_empty() || !self.extra.is_empty() {
            self.close(range_ix, known, report);
        }
        self.from_range_ix = range_ix;
        self.hole = false;
        self.cut = false;
        self.any_match = true;
        self.recent.add(hash);
    }

    /// `to_range_ix`: where both sides agree again, as far as that is known.
    pub fn missed(&mut self, missed: Missed, to_range_ix: usize, known: &Known<'_>, report: &mut ContainerReport) {
        if self.is_full() {
            return self.settle_missed(missed, to_range_ix, known, report);
        }
        self.bytes += missed.text.len();
        self.missed.push(missed);
    }

    pub fn extra(&mut self, extra: Extra, known: &Known<'_>, report: &mut ContainerReport) {
        if self.is_full() {
            return self.settle_extra(extra, known, report);
        }
        self.bytes += extra.text.len();
        self.extra.push(extra);
    }

    fn is_full(&self) -> bool {
        self.missed.len() + self.extra.len() >= GAP_LINES_MAX || self.bytes >= GAP_BYTES_MAX
    }

    /// Both sides have ended.
    pub fn finish(mut self, known: &Known<'_>, report: &mut ContainerReport, file_name: impl Fn(usize) -> String) {
        self.close(known.ranges.len(), known, report);
        let mut noted = known.unmatched.clone();
        let mut extra = self.pool_extra.drain();
        extra.sort_by(|one, other| one.value.place().cmp(&other.value.place()));
        for Pooled { hash, value: mut finding } in extra {
            if self.recent.has(hash) {
                finding.what = Wrong::Repeated;
            } else if let Some(left) = noted.get_mut(&finding.output)
                && *left >= finding.bytes
            {
                *left -= finding.bytes;
                report.only_copy += 1;
                continue;
            }
            report.found(finding);
        }
        let mut missing = std::mem::take(&mut self.missing);
        missing.extend(self.pool_missing.drain().into_iter().map(|pooled| pooled.value));
        report.name_missing(missing, file_name);
    }

    fn close(&mut self, to_range_ix: usize, known: &Known<'_>, report: &mut ContainerReport) {
        self.bytes = 0;
        let mut missed: Vec<Option<Missed>> = std::mem::take(&mut self.missed).into_iter().map(Some).collect();
        let mut extra: Vec<Option<Extra>> = std::mem::take(&mut self.extra).into_iter().map(Some).collect();
        let mut by_hash: HashMap<u64, VecDeque<usize>> = HashMap::new();
        for (ix, one) in extra.iter().enumerate() {
            by_hash.entry(one.as_ref().map_or(0, |one| one.hash)).or_default().push_back(ix);
        }
        self.pair_equal(&mut missed, &mut extra, &mut by_hash, known, report);
        let shapes: Vec<&Shape> = known.shapes_of(self.from_range_ix, to_range_ix).collect();
        for shape in shapes.chunks(1) {
            self.pair_decided(&mut missed, &mut extra, shape, report);
        }
        if shapes.len() > 1 {
            self.pair_decided(&mut missed, &mut extra, &shapes, report); // The settings changed within it.
        }
        self.pair_late(&mut missed, &mut extra, known, report);
        pair_altered(&mut missed, &mut extra, known, report);
        for one in missed.into_iter().flatten() {
            self.settle_missed(one, to_range_ix, known, report);
        }
        for one in extra.into_iter().flatten() {
            self.settle_extra(one, known, report);
        }
    }

    /// The same line on both sides. As many as possible are taken to be where they belong; the others were moved.
    fn pair_equal(
        &mut self,
        missed: &mut [Option<Missed>],
        extra: &mut [Option<Extra>],
        by_hash: &mut HashMap<u64, VecDeque<usize>>,
        known: &Known<'_>,
        report: &mut ContainerReport,
    ) {
        let mut pairs = Vec::new();
        for (missed_ix, slot) in missed.iter_mut().enumerate() {
            let Some(one) = slot else { continue };
            if let Some(extra_ix) = by_hash.get_mut(&one.hash).and_then(VecDeque::pop_front) {
                pairs.push((missed_ix, extra_ix));
            } else if let Some(mut pooled) = self.pool_extra.take(one.hash) {
                pooled.what = Wrong::OutOfOrder;
                self.recent.add(one.hash);
                if one.spot < one.message.last() {
                    report.delivered += 1; // It stood where it was cut off, before its message's end.
                } else {
                    elsewhere(&one.message, pooled, known, report);
                }
                *slot = None;
            }
        }
        let spot = |missed_ix: usize| missed[missed_ix].as_ref().map(|one| one.spot);
        pairs.sort_by_key(|(missed_ix, _)| spot(*missed_ix));
        let is_free =
            |missed_ix: usize| missed[missed_ix].as_ref().is_some_and(|one| may_stand_elsewhere(&one.message, known));
        let bound: Vec<usize> =
            pairs.iter().filter(|(missed_ix, _)| !is_free(*missed_ix)).map(|(_, extra_ix)| *extra_ix).collect();
        let in_order: HashSet<usize> = longest_increasing(&bound).into_iter().collect();
        for (missed_ix, extra_ix) in pairs {
            let (Some(one), Some(found)) = (missed[missed_ix].take(), extra[extra_ix].take()) else { continue };
            self.recent.add(one.hash);
            if in_order.contains(&extra_ix) {
                delivered(found.range_ix, known, report);
            } else {
                elsewhere(&one.message, finding(Wrong::OutOfOrder, &found, known), known, report);
            }
        }
        for slot in extra.iter_mut() {
            let Some(one) = slot else { continue };
            if self.pool_missing.take(one.hash).is_some() {
                report.found(finding(Wrong::OutOfOrder, one, known));
                *slot = None;
            } else if self.recent.has(one.hash) {
                report.found(finding(Wrong::Repeated, one, known));
                *slot = None;
            }
        }
    }

    /// A message that was ended by decision before its late pieces came: it stands there in parts, each in one of `shapes`.
    fn pair_decided(
        &mut self,
        missed: &mut [Option<Missed>],
        extra: &mut [Option<Extra>],
        shapes: &[&Shape],
        report: &mut ContainerReport,
    ) {
        let mut by_hash: HashMap<u64, VecDeque<usize>> = HashMap::new();
        for (ix, one) in extra.iter().enumerate() {
            if let Some(one) = one {
                by_hash.entry(one.hash).or_default().push_back(ix);
            }
        }
        let mut tried: Option<Rc<Message>> = None;
        for ix in 0..missed.len() {
            let Some(one) = &missed[ix] else { continue };
            let message = one.message.clone();
            if message.pieces.len() < 2 || tried.as_ref().is_some_and(|tried| Rc::ptr_eq(tried, &message)) {
                continue;
            }
            tried = Some(message.clone());
            let of_it = |slot: &Option<Missed>| slot.as_ref().is_none_or(|one| Rc::ptr_eq(&one.message, &message));
            let n_of_it = missed[ix..].iter().take_while(|slot| of_it(slot)).count();
            let of_it = &mut missed[ix..ix + n_of_it];
            // Its lines that aren't missed have matched: what max-line-bytes cut off is out before the decision.
            let lines = shapes.first().map(|shape| message.lines(shape)).unwrap_or_default();
            let mut matched: Vec<u64> = lines.iter().map(|line| hash(line)).collect();
            if !of_it.iter().flatten().all(|one| take(&mut matched, one.hash)) {
                matched.clear(); // Under other settings than these.
            }
            let n_there = |hash: u64| {
                let n_matched = matched.iter().filter(|other| **other == hash).count();
                n_matched + by_hash.get(&hash).map_or(0, VecDeque::len) + self.pool_extra.count(hash)
            };
            let Some(mut parts) = stands_in_parts(&message, shapes, n_there) else { continue };
            parts.retain(|hash| !take(&mut matched, *hash));
            // That a filter passes none of its parts is no sign that it ever was in parts.
            if parts.is_empty() {
                continue;
            }
            for hash in parts {
                match by_hash.get_mut(&hash).and_then(VecDeque::pop_front) {
                    Some(ix) => drop(extra[ix].take()),
                    None => drop(self.pool_extra.take(hash)),
                }
                self.recent.add(hash);
            }
            for slot in of_it {
                report.delivered += u64::from(slot.take().is_some());
            }
        }
    }

    /// A message whose first pieces are gone with an older generation: the output has more of it than the source. And a
    /// torn last line that the agent will complete.
    fn pair_late(
        &mut self,
        missed: &mut [Option<Missed>],
        extra: &mut [Option<Extra>],
        known: &Known<'_>,
        report: &mut ContainerReport,
    ) {
        for slot in missed.iter_mut() {
            let Some(one) = slot else { continue };
            let found = extra.iter_mut().find(|other| {
                other.as_ref().is_some_and(|other| {
                    one.message.headless
                        && other.text.len() > one.text.len()
                        && alike(&one.text, &other.text) >= one.text.len()
                        || other.torn && one.text.starts_with(&other.text) && known.standing.is_beyond(&one.message)
                })
            });
            let Some(found) = found.and_then(Option::take) else { continue };
            if found.torn {
                report.pending += 1;
            } else {
                report.delivered += 1;
            }
            *slot = None;
        }
    }

    fn settle_missed(&mut self, one: Missed, to_range_ix: usize, known: &Known<'_>, report: &mut ContainerReport) {
        if known.standing.is_beyond(&one.message) || known.standing.owes(one.hash) {
            report.pending += 1;
        } else if self.cut {
            report.pruned += 1;
        } else if self.is_filtered(&one.message, to_range_ix, known) {
            report.filtered += 1;
        } else {
            let time = one.message.time.to_string();
            let missing = Missing {
                number: one.message.number,
                last_number: one.message.number,
                first: one.message.first(),
                last: one.message.last(),
                first_time: time.clone(),
                last_time: time,
                lines: 1,
            };
            if let Some(missing) = self.pool_missing.put(one.hash, missing) {
                self.add_missing(missing);
            }
        }
    }

    /// Where settings changed, either may have left it out: the output tells no place of a line that isn't there. No
    /// others than those of its neighbours, though.
    fn is_filtered(&self, message: &Message, to_range_ix: usize, known: &Known<'_>) -> bool {
        known.shapes_of(self.from_range_ix, to_range_ix).any(|shape| message.is_filtered(shape))
    }

    /// Those that follow each other become one: there may be millions.
    fn add_missing(&mut self, next: Missing) {
        match self.missing.last_mut() {
            Some(last)
                if next.number <= last.last_number + 1
                    && next.number >= last.number
                    && next.first.generation == last.first.generation =>
            {
                last.last_number = next.last_number;
                last.last = next.last;
                last.last_time = next.last_time;
                last.lines += next.lines;
            }
            _ => self.missing.push(next),
        }
    }

    fn settle_extra(&mut self, one: Extra, known: &Known<'_>, report: &mut ContainerReport) {
        if self.recent.has(one.hash) {
            report.found(finding(Wrong::Repeated, &one, known));
        } else if !self.any_match || self.hole {
            report.only_copy += 1;
        } else if let Some(overflow) = self.pool_extra.put(one.hash, finding(Wrong::Foreign, &one, known)) {
            report.found(overflow);
        }
    }
}

/// A message that no byte ended goes out when the agent decides so: either place is right.
fn may_stand_elsewhere(message: &Message, known: &Known<'_>) -> bool {
    !message.ended || known.lenient && message.pieces.len() > 1
}

fn elsewhere(message: &Message, finding: Finding, known: &Known<'_>, report: &mut ContainerReport) {
    if may_stand_elsewhere(message, known) {
        report.delivered += 1;
    } else {
        report.found(finding);
    }
}

/// A line that is where it should be, under the settings of its range.
pub fn delivered(range_ix: usize, known: &Known<'_>, report: &mut ContainerReport) {
    let shape_ix = |range: &Range| range.shape_ix;
    if known.ranges.get(range_ix).map(shape_ix) == known.ranges.last().map(shape_ix) {
        report.delivered += 1;
    } else {
        report.other_settings += 1;
    }
}

/// The values of a longest increasing subsequence.
fn longest_increasing(values: &[usize]) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new(); // By length: the index of the smallest last value.
    let mut before: Vec<Option<usize>> = Vec::with_capacity(values.len());
    for (ix, value) in values.iter().enumerate() {
        let length = ends.partition_point(|end| values[*end] < *value);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(ix);
        } else {
            ends[length] = ix;
        }
    }
    let mut longest = Vec::new();
    let mut at = ends.last().copied();
    while let Some(ix) = at {
        longest.push(values[ix]);
        at = before[ix];
    }
    longest.reverse();
    longest
}

/// The parts' lines, when all of them are there.
fn stands_in_parts(message: &Message, shapes: &[&Shape], n_there: impl Fn(u64) -> usize) -> Option<Vec<u64>> {
    // A progress bar that was ended again and again stands there in hundreds of single pieces. The longest parts first are
    // for equal pieces, of which others may have taken the short ones.
    let (n_pieces, n_shapes) = (message.pieces.len(), shapes.len());
    parts_by(message, shapes, &n_there, n_shapes * n_pieces * (n_pieces + 1), |ends| ends)
        .filter(|parts| !parts.is_empty()) // A filter that drops each piece alone may pass them together.
        .or_else(|| parts_by(message, shapes, &n_there, 4 * n_pieces * n_pieces, |ends| ends.rev()))
}

/// The parts' lines, when all of them are there, each the first one of an order that is. `pieces_left`: no more are rendered.
fn parts_by<I: Iterator<Item = usize>>(
    message: &Message,
    shapes: &[&Shape],
    n_there: &impl Fn(u64) -> usize,
    mut pieces_left: usize,
    order: impl Fn(RangeInclusive<usize>) -> I,
) -> Option<Vec<u64>> {
    let n_pieces = message.pieces.len();
    let mut parts: Vec<u64> = Vec::new();
    let mut start = 0;
    while start < n_pieces {
        let ends = order(start + 1..=n_pieces).filter(|end| (start, *end) != (0, n_pieces));
        let mut tried = ends.flat_map(|end| shapes.iter().map(move |shape| (end, shape)));
        (start, _) = tried.find(|(end, shape)| {
            let Some(left) = pieces_left.checked_sub(end - start) else { return false };
            pieces_left = left;
            let n_before = parts.len();
            parts.extend(message.lines_of(shape, start..*end).iter().map(|line| hash(line)));
            let n_needed = |hash: u64| parts.iter().filter(|other| **other == hash).count();
            let are_there = parts[n_before..].iter().all(|hash| n_needed(*hash) <= n_there(*hash));
            if !are_there {
                parts.truncate(n_before);
            }
            are_there
        })?;
    }
    Some(parts)
}

fn take(hashes: &mut Vec<u64>, hash: u64) -> bool {
    let at = hashes.iter().position(|other| *other == hash);
    at.map(|at| hashes.swap_remove(at)).is_some()
}

/// Lines at the same place that have more in common than not.
fn pair_altered(
    missed: &mut [Option<Missed>],
    extra: &mut [Option<Extra>],
    known: &Known<'_>,
    report: &mut ContainerReport,
) {
    let mut from = 0;
    for slot in missed.iter_mut() {
        let Some(one) = slot else { continue };
        if known.standing.is_beyond(&one.message) {
            continue;
        }
        let ahead = (from..extra.len()).filter(|ix| extra[*ix].is_some()).take(ALTERED_AHEAD);
        let found = ahead.into_iter().find(|ix| {
            extra[*ix].as_ref().is_some_and(|other| {
                let longer = one.text.len().max(other.text.len());
                other.torn && one.text.starts_with(&other.text) || alike(&one.text, &other.text) * 2 > longer
            })
        });
        if let Some(ix) = found
            && let Some(other) = extra[ix].take()
        {
            report.found(finding(Wrong::Altered, &other, known));
            *slot = None;
            from = ix + 1;
        }
    }
}

/// Bytes that two lines have in common at their beginnings and ends.
fn alike(one: &[u8], other: &[u8]) -> usize {
    let prefix = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[prefix..], &other[prefix..]);
    prefix + one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count()
}

fn finding(what: Wrong, extra: &Extra, known: &Known<'_>) -> Finding {
    const SHOWN_BYTES: usize = 80;
    Finding {
        what,
        output: known.ranges.get(extra.range_ix).map(|range| range.route.clone()).unwrap_or_default(),
        segment: extra.place.segment,
        offset: extra.place.offset,
        bytes: extra.text.len() as u64,
        line: String::from_utf8_lossy(&extra.text[..extra.text.len().min(SHOWN_BYTES)]).trim_end().to_owned(),
    }
}

/// What may turn up on the other side. Bounded.
struct Pool<T> {
    by_hash: HashMap<u64, VecDeque<T>>,
    n: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { by_hash: HashMap::new(), n: 0 }
    }
}

struct Pooled<T> {
    hash: u64,
    value: T,
}

impl<T> Pool<T> {
    /// Gives the value back when there is no room.
    fn put(&mut self, hash: u64, value: T) -> Option<T> {
        if self.n >= POOL_MAX {
            return Some(value);
        }
        self.n += 1;
        self.by_hash.entry(hash).or_default().push_back(value);
        None
    }

    fn take(&mut self, hash: u64) -> Option<T> {
        if self.n == 0 {
            return None;
        }
        let values = self.by_hash.get_mut(&hash)?;
        let value = values.pop_front();
        if values.is_empty() {
            self.by_hash.remove(&hash);
        }
        self.n -= usize::from(value.is_some());
        value
    }

    fn count(&self, hash: u64) -> usize {
        self.by_hash.get(&hash).map_or(0, VecDeque::len)
    }

    fn drain(&mut self) -> Vec<Pooled<T>> {
        self.n = 0;
        let by_hash = std::mem::take(&mut self.by_hash);
        by_hash
            .into_iter()
            .flat_map(|(hash, values)| values.into_iter().map(move |value| Pooled { hash, value }))
            .collect()
    }
}

/// The hashes of the last lines that both sides had.
#[derive(Default)]
struct Recent {
    order: VecDeque<u64>,
    /// Of the first `n_counted` of `order`: an audit that finds nothing never asks, and need not count.
    counts: HashMap<u64, u32>,
    n_counted: usize,
}

impl Recent {
    fn add(&mut self, hash: u64) {
        self.order.push_back(hash);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
            && self.n_counted > 0
        {
            self.n_counted -= 1;
            self.forget(oldest);
        }
    }

    fn forget(&mut self, hash: u64) {
        if let Some(count) = self.counts.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&hash);
            }
        }
    }

    fn has(&mut self, hash: u64) -> bool {
        for added in self.order.range(self.n_counted..) {
            *self.counts.entry(*added).or_default() += 1;
        }
        self.n_counted = self.order.len();
        self.counts.contains_key(&hash)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::decode::Stream;
    use crate::format::{Formatter, Metadata, Template};
    use crate::verify::decode::Entry;
    use crate::verify::join::Joiner;

    #[test]
    fn the_recent_ones_are_known_whenever_asked() {
        let n = RECENT_MAX as u64;
        let mut recent = Recent::default();
        for hash in 0..n + 10 {
            recent.add(hash / 2);
        }
        // Ten of them are gone: five pairs.
        assert_eq!([4, 5, n / 2 + 4, n / 2 + 5].map(|hash| recent.has(hash)), [false, true, true, false]);
        recent.add(7);
        assert_eq!([5, 6, 7].map(|hash| recent.has(hash)), [true; 3]);
        recent.add(8);
        assert_eq!([5, 6].map(|hash| recent.has(hash)), [false, true]);
        (0..n).for_each(|_| recent.add(9));
        assert_eq!([7, 8, 9].map(|hash| recent.has(hash)), [false, false, true]);
        assert_eq!(recent.counts.len(), 1);
    }

    #[test]
    fn as_many_as_possible_stay_where_they_are() {
        assert!(longest_increasing(&[]).is_empty());
        assert_eq!(longest_increasing(&[1, 0]), [0]);
        assert_eq!(longest_increasing(&[5, 0, 1, 2, 3]), [0, 1, 2, 3]);
        assert_eq!(longest_increasing(&[0, 4, 1, 5, 2]), [0, 1, 2]);
    }

    #[test]
    fn lines_are_alike_at_both_ends() {
        assert_eq!(alike(b"abc", b"abc"), 3);
        assert_eq!(alike(b"aXc", b"aYYc"), 2);
        assert_eq!(alike(b"", b"a"), 0);
    }

    fn shape() -> Shape {
        let formatter = Formatter::text(&Template::parse("{log}").unwrap(), &Metadata::default());
        let (filter, redaction) = Default::default();
        Shape { formatter, max_line_bytes: 1 << 20, since_ns: None, filter, redaction }
    }

    /// A message of full pieces, each of one character.
    fn message(pieces: &str) -> Rc<Message> {
        let mut joiner = Joiner::new(&[shape()]);
        for (ix, piece) in pieces.chars().enumerate() {
            let text = piece.to_string().repeat(16_384 / piece.len_utf8());
            let time = "2026-11-25T16:09:50.123456789Z".parse().unwrap();
            let entry = Entry { stream: Stream::Stdout, time, raw_bytes: 16_384, text, attrs: None, range: 0..0 };
            let spot = Spot { generation: 0, start: ix as u64, end: ix as u64 + 1 };
            joiner.push(entry, b"", spot, &mut |_| panic!("it isn't over"));
        }
        let mut messages = Vec::new();
        joiner.finish(&mut |message| messages.push(message));
        messages.remove(0)
    }

    fn found(message: &Message, there: &[Range<usize>]) -> Option<usize> {
        let lines = there.iter().flat_map(|pieces| message.lines_of(&shape(), pieces.clone()));
        let there: Vec<u64> = lines.map(|line| hash(&line)).collect();
        let n_there = |hash: u64| there.iter().filter(|other| **other == hash).count();
        stands_in_parts(message, &[&shape()], n_there).map(|parts| parts.len())
    }

    #[test]
    fn a_message_is_found_in_whatever_parts_it_stands() {
        let abcd = message("abcd");
        assert_eq!(found(&abcd, &[0..1, 1..3, 3..4]), Some(3));
        assert_eq!(found(&abcd, &[0..1, 1..3]), None, "its end is missing");
        assert_eq!(found(&abcd, std::slice::from_ref(&(0..4))), None, "whole is not in parts");
        let equal = message("aaaa");
        assert_eq!(found(&equal, &[0..1, 0..3]), Some(2));
        assert_eq!(found(&equal, &[0..2, 0..2, 0..1]), Some(2), "one piece of another message is there, too");
    }

    /// Of a message of 8 MiB, trying the long ones first would render 300 GB.
    #[test]
    fn many_single_pieces_are_found_soon() {
        let pieces: String = (0..100).map(|n| char::from_u32(0x100 + n).expect("a letter")).collect();
        let message = message(&pieces);
        let single: Vec<Range<usize>> = (0..100).map(|ix| ix..ix + 1).collect();
        assert_eq!(found(&message, &single), Some(100));
        assert_eq!(found(&message, &single[..99]), None, "its end is missing");
    }
}
