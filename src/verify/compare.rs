//! Source and output side by side, both in order, in bounded memory. Where they part, the nearest place where they
//! agree again is looked for in a window of lines, then by reading on on both sides.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;

use crate::hash::hash;
use crate::shape::Shape;
use crate::verify::gap::{Extra, Gap, Known, Missed, delivered};
use crate::verify::join::{Message, Spot};
use crate::verify::output::{Actual, Actuals, OutputLine};
use crate::verify::report::ContainerReport;
use crate::verify::source::{Event, Messages};

/// Windows that are tried one after the other, in lines; most differences are small.
const WINDOWS: [usize; 3] = [64, 1024, 16_384];
const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Places of one and the same line that are tried.
const PLACES_MAX: usize = 16;
/// Lines that must agree for a place to count: with a time in each, one that repeats is rare.
const RUN: usize = 3;
const RUN_TIMELESS: usize = 8;
/// Lines read on one side before the other one has its turn.
const SCOUT_STEP: usize = 4096;
/// How often one container's rest is searched; each costs reading it once more.
const SCOUTS_MAX: usize = 64;

enum Expected {
    Line(Missed),
    /// The settings leave it out.
    Filtered(Rc<Message>),
    Hole,
}

enum Seen {
    Line(OutputLine, u64),
    Cut,
}

pub struct Comparison<'a> {
    messages: Messages,
    actuals: Actuals,
    known: Known<'a>,
    expected: VecDeque<Expected>,
    expected_bytes: usize,
    seen: VecDeque<Seen>,
    seen_bytes: usize,
    shape_ix: usize,
    gap: Gap,
    n_scouts: usize,
    report: &'a mut ContainerReport,
}

impl<'a> Comparison<'a> {
    pub fn new(messages: Messages, actuals: Actuals, known: Known<'a>, report: &'a mut ContainerReport) -> Self {
        Comparison {
            messages,
            actuals,
            known,
            expected: VecDeque::new(),
            expected_bytes: 0,
            seen: VecDeque::new(),
            seen_bytes: 0,
            shape_ix: 0,
            gap: Gap::default(),
            n_scouts: 0,
            report,
        }
    }

    pub fn run(mut self, file_name: impl Fn(usize) -> String) -> io::Result<()> {
        loop {
            self.fill(2)?;
            if let Some(Seen::Cut) = self.seen.front() {
                self.seen.pop_front();
                self.gap.cut();
                continue;
            }
            if let Some(Seen::Line(line, _)) = self.seen.front()
                && line.shape_ix != self.shape_ix
            {
                self.take_shape(line.shape_ix);
            }
            match self.expected.front() {
                Some(Expected::Hole) => {
                    self.gap.hole();
                    self.expected.pop_front();
                    continue;
                }
                Some(Expected::Filtered(_)) => {
                    self.pass_expected(usize::MAX);
                    continue;
                }
                _ => {}
            }
            match (self.expected.front(), self.seen.front()) {
                (None, None) => break,
                (Some(_), None) => self.pass_expected(usize::MAX),
                (None, Some(_)) => self.pass_seen(),
                (Some(Expected::Line(missed)), Some(Seen::Line(line, _))) if missed.text == line.text => self.matched(),
                _ => self.part()?,
            }
        }
        let counts = self.messages.counts;
        self.report.before_begin += counts.before_begin;
        self.report.malformed += counts.malformed;
        self.report.malformed_bytes += counts.malformed_bytes;
        self.report.nul_bytes += counts.nul_bytes;
        self.report.damaged.extend(counts.damaged);
        self.report.damaged.extend(self.actuals.damaged);
        self.gap.finish(&self.known, self.report, file_name);
        Ok(())
    }

    fn matched(&mut self) {
        if let (Some(Expected::Line(missed)), Some(Seen::Line(line, _))) =
            (self.expected.pop_front(), self.seen.pop_front())
        {
            self.expected_bytes -= missed.text.len();
            self.seen_bytes -= line.text.len();
            self.gap.matched(missed.hash, line.range_ix, &self.known, self.report);
            delivered(line.range_ix, &self.known, self.report);
        }
    }

    /// The first source line has no partner here. `to_range_ix`: where the next one with a partner has it.
    fn pass_expected(&mut self, to_range_ix: usize) {
        match self.expected.pop_front() {
            Some(Expected::Line(missed)) => {
                self.expected_bytes -= missed.text.len();
                self.gap.missed(missed, to_range_ix, &self.known, self.report);
            }
            Some(Expected::Filtered(message)) => {
                self.expected_bytes -= message.text_bytes();
                self.report.filtered += 1;
            }
            Some(Expected::Hole) => self.gap.hole(),
            None => {}
        }
    }

    /// The first line of output has none.
    fn pass_seen(&mut self) {
        match self.seen.pop_front() {
            Some(Seen::Line(line, hash)) => {
                self.seen_bytes -= line.text.len();
                let OutputLine { text, range_ix, place, torn, .. } = line;
                self.gap.extra(Extra { text, hash, place, range_ix, torn }, &self.known, self.report);
            }
            Some(Seen::Cut) => self.gap.cut(),
            None => {}
        }
    }

    /// Brings both windows to `n_lines`, as far as there are so many and memory lets it.
    fn fill(&mut self, n_lines: usize) -> io::Result<()> {
        let has_room = |length: usize, bytes: usize| length < n_lines && (bytes < WINDOW_BYTES_MAX || length < 2);
        while has_room(self.seen.len(), self.seen_bytes) {
            match self.actuals.next()? {
                Some(Actual::Line(line)) => {
                    self.seen_bytes += line.text.len();
                    let hash = hash(&line.text);
                    self.seen.push_back(Seen::Line(line, hash));
                }
                Some(Actual::Cut) => self.seen.push_back(Seen::Cut),
                None => break,
            }
        }
        while has_room(self.expected.len(), self.expected_bytes) {
            match self.messages.next()? {
                Some(Event::Message(message)) => {
                    let rendered = render(&message, &self.known.shapes[self.shape_ix]);
                    self.expected_bytes += bytes_of(&rendered);
                    self.expected.extend(rendered);
                }
                Some(Event::Hole) => self.expected.push_back(Expected::Hole),
                None => break,
            }
        }
        Ok(())
    }

    /// The output goes on under other settings: what was rendered ahead is rendered again.
    fn take_shape(&mut self, shape_ix: usize) {
        let shape_before = &self.known.shapes[std::mem::replace(&mut self.shape_ix, shape_ix)];
        let shape = &self.known.shapes[shape_ix];
        let old = std::mem::take(&mut self.expected);
        let mut last: Option<Rc<Message>> = None;
        // Its first records may have gone out before.
        if let Some(Expected::Line(Missed { message, .. })) = old.front() {
            let of_it = |one: &&Expected| matches!(one, Expected::Line(other) if Rc::ptr_eq(&other.message, message));
            let n_left = old.iter().take_while(of_it).count();
            if let Some(start) = message.begin_of_last(shape_before, n_left) {
                self.expected.extend(expected(message, message.rendered_behind(shape, start)));
                last = Some(message.clone());
            }
        }
        for one in old {
            let message = match &one {
                Expected::Line(missed) => missed.message.clone(),
                Expected::Filtered(message) => message.clone(),
                Expected::Hole => {
                    self.expected.push_back(one);
                    continue;
                }
            };
            if last.as_ref().is_some_and(|last| Rc::ptr_eq(last, &message)) {
                continue;
            }
            self.expected.extend(render(&message, shape));
            last = Some(message);
        }
        self.expected_bytes = bytes_of(self.expected.make_contiguous());
    }

    /// Source and output differ at their fronts.
    fn part(&mut self) -> io::Result<()> {
        for window in WINDOWS {
            self.fill(window)?;
            if let Some((n_expected, n_seen)) = self.nearest() {
                let to = self.range_of_seen(n_seen);
                (0..n_expected).for_each(|_| self.pass_expected(to));
                (0..n_seen).for_each(|_| self.pass_seen());
                return Ok(());
            }
        }
        if self.n_scouts < SCOUTS_MAX {
            self.n_scouts += 1;
            match self.scout()? {
                Some(Ahead::Output { n_expected, n_seen, range_ix }) => {
                    (0..n_expected).for_each(|_| self.pass_expected(range_ix));
                    for _ in 0..n_seen {
                        self.fill(1)?;
                        self.pass_seen();
                    }
                    return Ok(());
                }
                Some(Ahead::Source { n_events, n_seen }) => {
                    let to = self.range_of_seen(n_seen);
                    (0..n_seen).for_each(|_| self.pass_seen());
                    (0..self.expected.len()).for_each(|_| self.pass_expected(to));
                    for _ in 0..n_events {
                        self.read_one()?;
                        (0..self.expected.len()).for_each(|_| self.pass_expected(to));
                    }
                    return Ok(());
                }
                None => {}
            }
        }
        // Nothing of the windows is on the other side.
        (0..self.expected.len()).for_each(|_| self.pass_expected(usize::MAX));
        (0..self.seen.len()).for_each(|_| self.pass_seen());
        Ok(())
    }

    fn range_of_seen(&self, ix: usize) -> usize {
        match self.seen.get(ix) {
            Some(Seen::Line(line, _)) => line.range_ix,
            _ => usize::MAX,
        }
    }

    fn read_one(&mut self) -> io::Result<()> {
        match self.messages.next()? {
            Some(Event::Message(message)) => {
                let rendered = render(&message, &self.known.shapes[self.shape_ix]);
                self.expected_bytes += bytes_of(&rendered);
                self.expected.extend(rendered);
            }
            Some(Event::Hole) => self.expected.push_back(Expected::Hole),
            None => {}
        }
        Ok(())
    }

    /// The window's expected lines as they would look under a shape: hash, and index into the window.
    fn anchors(&self, shape_ix: usize) -> Vec<(u64, usize)> {
        let mut anchors = Vec::with_capacity(self.expected.len());
        let mut last: Option<&Rc<Message>> = None;
        for (ix, one) in self.expected.iter().enumerate() {
            let message = match one {
                Expected::Line(missed) if shape_ix == self.shape_ix => {
                    anchors.push((missed.hash, ix));
                    continue;
                }
                Expected::Line(missed) => &missed.message,
                Expected::Filtered(message) => message,
                Expected::Hole => continue,
            };
            if last.is_some_and(|last| Rc::ptr_eq(last, message)) {
                continue;
            }
            last = Some(message);
            let shape = &self.known.shapes[shape_ix];
            if !message.is_filtered(shape) {
                anchors.extend(message.lines(shape).iter().map(|line| (hash(line), ix)));
            }
        }
        anchors
    }

    /// How many lines to pass on each side until both agree again.
    fn nearest(&self) -> Option<(usize, usize)> {
        let lines: Vec<(u64, usize, usize)> = self
            .seen
            .iter()
            .enumerate()
            .filter_map(|(ix, seen)| match seen {
                Seen::Line(line, hash) => Some((*hash, ix, line.shape_ix)),
                Seen::Cut => None,
            })
            .collect();
        let mut best: Option<(usize, usize)> = None;
        for part in lines.chunk_by(|one, other| one.2 == other.2) {
            let shape_ix = part[0].2;
            let run = run_of(&self.known.shapes[shape_ix]);
            let anchors = self.anchors(shape_ix);
            let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
            for (at, (hash, ..)) in part.iter().enumerate() {
                places.entry(*hash).or_default().push(at);
            }
            for (from, (hash, expected_ix)) in anchors.iter().enumerate() {
                let cost_max = best.map_or(usize::MAX, |(expected, seen)| expected + seen);
                if *expected_ix >= cost_max {
                    break;
                }
                for at in places.get(hash).into_iter().flatten().take(PLACES_MAX) {
                    let cost = expected_ix + part[*at].1;
                    let equal = anchors[from..].iter().zip(&part[*at..]).take_while(|(a, b)| a.0 == b.0).count();
                    let ends = from + equal == anchors.len() || at + equal == part.len();
                    if cost < best.map_or(usize::MAX, |(expected, seen)| expected + seen) && (equal >= run || ends) {
                        best = Some((*expected_ix, part[*at].1));
                    }
                }
            }
        }
        best
    }

    /// Reads on on both sides, without taking anything, until one meets the other's window.
    fn scout(&self) -> io::Result<Option<Ahead>> {
        let mut output = Scout::default();
        let mut source = Scout::default();
        let mut actuals = self.actuals.fork()?;
        let mut messages = self.messages.fork()?;
        let seen_lines: Vec<(u64, usize)> = self
            .seen
            .iter()
            .enumerate()
            .filter_map(|(ix, seen)| if let Seen::Line(_, hash) = seen { Some((*hash, ix)) } else { None })
            .collect();
        let mut output_shape = None;
        source.look_for(&seen_lines);
        let shape_ix = match self.seen.front() {
            Some(Seen::Line(line, _)) => line.shape_ix,
            _ => self.shape_ix,
        };
        let shape = &self.known.shapes[shape_ix];
        while !(output.ended && source.ended) {
            for _ in 0..SCOUT_STEP {
                match actuals.next()? {
                    Some(Actual::Line(line)) => {
                        if output_shape != Some(line.shape_ix) {
                            output_shape = Some(line.shape_ix);
                            output.look_for(&self.anchors(line.shape_ix));
                        }
                        let run = run_of(&self.known.shapes[line.shape_ix]);
                        if let Some((n_expected, at)) = output.observe(hash(&line.text), run) {
                            let (n_seen, range_ix) = (self.seen.len() + at, line.range_ix);
                            return Ok(Some(Ahead::Output { n_expected, n_seen, range_ix }));
                        }
                        output.at += 1;
                    }
                    Some(Actual::Cut) => output.at += 1,
                    None => {
                        output.ended = true;
                        break;
                    }
                }
            }
            for _ in 0..SCOUT_STEP {
                match messages.next()? {
                    Some(Event::Message(message)) => {
                        if !message.is_filtered(shape) {
                            for line in message.lines(shape) {
                                if let Some((n_seen, n_events)) = source.observe(hash(&line), run_of(shape)) {
                                    return Ok(Some(Ahead::Source { n_events, n_seen }));
                                }
                            }
                        }
                        source.at += 1;
                    }
                    Some(Event::Hole) => source.at += 1,
                    None => {
                        source.ended = true;
                        break;
                    }
                }
            }
        }
        // A run that the end cut short is better than none.
        Ok(match (output.best, source.best) {
            (Some((n_expected, at)), _) => {
                Some(Ahead::Output { n_expected, n_seen: self.seen.len() + at, range_ix: usize::MAX })
            }
            (None, Some((n_seen, n_events))) => Some(Ahead::Source { n_events, n_seen }),
            (None, None) => None,
        })
    }
}

/// Where both agree again: so many to pass on each side.
enum Ahead {
    Output {
        n_expected: usize,
        n_seen: usize,
        range_ix: usize,
    },
    /// The whole window of the source, and so many events behind it.
    Source {
        n_events: usize,
        n_seen: usize,
    },
}

/// Looks for the lines of a window in what is read on.
#[derive(Default)]
struct Scout {
    /// The window's lines: their index there, by hash and position.
    lines: Vec<(u64, usize)>,
    positions: HashMap<u64, Vec<usize>>,
    /// Runs that end at the line before: by position of their last line, where they began on both sides and their length.
    runs: HashMap<usize, (usize, usize, usize)>,
    /// A run that isn't long enough, but reaches the end of the window.
    best: Option<(usize, usize)>,
    at: usize,
    ended: bool,
}

impl Scout {
    fn look_for(&mut self, lines: &[(u64, usize)]) {
        self.lines = lines.to_vec();
        self.positions.clear();
        self.runs.clear();
        for (position, (hash, _)) in lines.iter().enumerate() {
            let positions = self.positions.entry(*hash).or_default();
            if positions.len() < PLACES_MAX {
                positions.push(position);
            }
        }
    }

    /// Takes the next line; gives where a run long enough began, in the window and in what is read.
    fn observe(&mut self, hash: u64, run: usize) -> Option<(usize, usize)> {
        let before = std::mem::take(&mut self.runs);
        for position in self.positions.get(&hash)? {
            let continued = position.checked_sub(1).and_then(|before_it| before.get(&before_it));
            let (start, at, length) = continued.map_or((*position, self.at, 1), |(start, at, n)| (*start, *at, n + 1));
            let found = (self.lines[start].1, at);
            if length >= run {
                return Some(found);
            }
            if position + 1 == self.lines.len() || self.best.is_none() {
                self.best = Some(found);
            }
            self.runs.insert(*position, (start, at, length));
        }
        None
    }
}

fn run_of(shape: &Shape) -> usize {
    if shape.formatter.has_time() { RUN } else { RUN_TIMELESS }
}

fn render(message: &Rc<Message>, shape: &Shape) -> Vec<Expected> {
    if message.is_filtered(shape) {
        return vec![Expected::Filtered(message.clone())];
    }
    expected(message, message.rendered(shape, 0..message.pieces.len())).collect()
}

fn expected(message: &Rc<Message>, lines: Vec<(Vec<u8>, Spot)>) -> impl Iterator<Item = Expected> {
    let missed = |(text, spot): (Vec<u8>, Spot)| Missed { message: message.clone(), hash: hash(&text), text, spot };
    lines.into_iter().map(missed).map(Expected::Line)
}

fn bytes_of(expected: &[Expected]) -> usize {
    let bytes = |one: &Expected| match one {
        Expected::Line(missed) => missed.text.len(),
        Expected::Filtered(message) => message.text_bytes(), // It is held as well.
        Expected::Hole => 0,
    };
    expected.iter().map(bytes).sum()
}
