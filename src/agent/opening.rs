//! The one way to open an output: find where it and the container's log agree, whatever happened in between.
//! The newest rung whose output is there bounds the output, the newest whose source bytes match bounds the source.

mod seek;
mod unsynced;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use self::seek::Seek;
use self::unsynced::note_unsynced;
use crate::agent::container::{Barrier, Container, OtherShapes, Stage, Trouble, Turn};
use crate::assemble::Unfinished;
use crate::batch::Batch;
use crate::checkpoint::{Epoch, Ladder, Row, Rung};
use crate::loss::{Loss, Reason};
use crate::pipe::{Pipe, joins};
use crate::shape::Shape;
use crate::sink::Place;
use crate::sink::align::{Earliest, Offer, Part, Repair, Replay};
use crate::sink::existing::{Existing, segments};
use crate::sink::file::Output;
use crate::sink::journal::{Began, Note};
use crate::sink::rolling::Form;
use crate::sys::Os;
use crate::tail::{Fingerprint, Lineage, Look};

/// Where the output is, and how it is written.
#[derive(Clone, Debug)]
pub struct OutputAt {
    pub path: PathBuf,
    pub mode: u32,
    pub limit: u64,
    /// Numbering goes on at or above this segment.
    pub segment_min: u64,
}

/// What is known of the container from before.
#[derive(Clone, Debug)]
pub enum Before<'a> {
    /// Nothing, and nothing was lost: it begins where its log stands, at its beginning or, with `--from end`, where it
    /// ended at the first look.
    Nothing,
    /// The state is lost: its place is searched for in the output. `notes`: what the output's journal tells, the
    /// latest last.
    Lost {
        notes: Vec<&'a Note>,
        /// Where its lines may stand among those of others, the latest first.
        parts: Vec<Part>,
        /// All that its log has was in the latest of them, which retention removed.
        pruned: bool,
        former: Vec<Former>,
    },
    Row(Known<'a>),
}

/// An output that the container wrote to before this one.
#[derive(Clone, Debug)]
pub struct Former {
    pub path: PathBuf,
    /// Oldest first.
    pub epochs: Vec<Epoch>,
}

/// What a row, and the journal beside it, tell of a container.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    pub row: &'a Row,
    /// Where its lines of this output begin in its log, when that isn't the log's beginning.
    pub began: Option<Began>,
    /// Nobody wrote to the output after it.
    pub last_writer: bool,
    /// If somebody did: from where on.
    pub others_from: Option<Place>,
    /// The latest first.
    pub former: Vec<Former>,
}

/// How the place was found, as the metric calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aligned {
    Fresh,
    Resumed,
    Searched,
    Gap,
    /// There is no log yet.
    NotYet,
}

/// A place in the source from which rendering goes on.
struct Source {
    generation_ix: usize,
    offset: u64,
    tail: Option<Fingerprint>,
    unfinished: Unfinished,
}

impl<O: Os> Container<O> {
    /// Opens log and output. Afterwards turns go on from where both agree.
    pub fn open(
        &mut self,
        turn: &mut Turn<'_, O>,
        at: &OutputAt,
        before: Before<'_>,
        boot: &str,
        until_ns: Option<i128>,
    ) -> Result<Aligned, Trouble> {
        let directory = self.lineage.directory().to_owned();
        self.opened_at(turn.now);
        if self.lineage.is_empty() {
            self.lineage = Lineage::new(&directory, &self.id, []);
        }
        let source = |path: PathBuf| move |error: io::Error| Trouble::Source(path, error);
        self.lineage.check_held(turn.os).map_err(source(self.lineage.log()))?;
        let log = self.lineage.log();
        if self.lineage.look(turn.os).map_err(source(log.clone()))? == Look::Missing
            && self.lineage.is_empty()
            && !matches!(before, Before::Row(_))
        {
            return Ok(Aligned::NotYet);
        }
        let output = Output::find(turn.os, &at.path, at.mode, at.limit, at.segment_min)
            .map_err(|error| Trouble::Output(at.path.clone(), error))?;
        settle_rotation(turn.os, &output, &before).map_err(|error| Trouble::Output(at.path.clone(), error))?;
        let opening = Opening { container: &mut *self, at, output, until_ns };
        let known = match &before {
            Before::Row(known) => Some(known.row),
            _ => None,
        };
        let result = match before {
            Before::Nothing => opening.begin(turn),
            Before::Lost { notes, parts, pruned, former } => opening.search(turn, &notes, &parts, pruned, &former),
            Before::Row(known) if known.last_writer => opening.resume(turn, &known, known.row.boot != boot),
            Before::Row(known) => opening.go_on_behind_another(turn, &known, known.row.boot != boot),
        };
        if let (Ok(aligned), Some(row)) = (&result, known) {
            let mut drained = row.drained.clone();
            if *aligned == Aligned::Gap {
                // The incarnation it was in is gone. A power loss may bring its name back, with what was delivered.
                let gone = row.ladder.newest().and_then(|rung| rung.head);
                drained.extend(gone.filter(|head| self.lineage.generations().all(|held| held.head != Some(*head))));
            }
            self.lineage.remember_drained(&drained);
            self.noted = true;
        }
        let aligned = result.map_err(|failed| match failed {
            Failed::Source(error) => Trouble::Source(log, error),
            Failed::Output(error) => Trouble::Output(at.path.clone(), error),
        })?;
        Ok(aligned)
    }
}

/// A rotation that no rung tells of may have been cut short before its names were on the disk. They must be before a
/// rung lies in the new segment, or a power loss gives the new segment's number to the old file.
fn settle_rotation<O: Os>(os: &O, output: &Output<O>, before: &Before<'_>) -> io::Result<()> {
    let newest = match before {
        Before::Row(known) => known.row.ladder.newest(),
        _ => None,
    };
    let is_told = newest.is_some_and(|rung| rung.place.segment >= output.place().segment);
    match output.path().parent().filter(|_| output.file().is_some() && !is_told) {
        Some(directory) => os.sync_directory(directory),
        None => Ok(()),
    }
}

enum Failed {
    Source(io::Error),
    Output(io::Error),
}

struct Opening<'a, O: Os> {
    container: &'a mut Container<O>,
    at: &'a OutputAt,
    output: Output<O>,
    until_ns: Option<i128>,
}

impl<O: Os> Opening<'_, O> {
    /// A container that is new to its output: behind what is there.
    fn begin(self, turn: &mut Turn<'_, O>) -> Result<Aligned, Failed> {
        self.append_from(turn, Unfinished::default(), &[])?;
        Ok(Aligned::Fresh)
    }

    /// Appends from where the lineage stands, after a first rung that says so. `epochs`: what open lines began under.
    fn append_from(self, turn: &mut Turn<'_, O>, unfinished: Unfinished, epochs: &[Epoch]) -> Result<(), Failed> {
        let torn = self.output.ends_torn(turn.os).map_err(Failed::Output)?;
        let container = self.container;
        let shape = shape_with(&unfinished, epochs, &container.shape).clone();
        container.pipe = Pipe::new(shape, unfinished, self.until_ns);
        container.other_shapes = OtherShapes::default();
        container.batch = Batch::default();
        if torn {
            container.batch.extend_lines(b"\n");
        }
        container.ladder = Ladder::default();
        container.stage = Stage::Appending { output: self.output };
        container.undecided = true;
        container.dirty = true;
        container.barrier = Some(Barrier::default());
        Ok(())
    }

    /// Another container wrote to the output since. Everything of ours was in it before that: up to where that one
    /// began, for ours may have died with more written than its last rung tells.
    fn go_on_behind_another(
        mut self,
        turn: &mut Turn<'_, O>,
        known: &Known<'_>,
        rebooted: bool,
    ) -> Result<Aligned, Failed> {
        let row = known.row;
        let mut matching = None;
        for rung in row.ladder.rungs.iter().rev() {
            let found = find_source(turn.os, &mut self.container.lineage, rung).map_err(Failed::Source)?;
            matching = found.map(|source| (rung, source));
            if matching.is_some() {
                break;
            }
        }
        if matching.is_none() && self.tail_is_lost(turn.os, row)? {
            return self.seek_anew(turn, known, &row.drained, false);
        }
        let gap = matching.is_none() && has_begun(row);
        let (rung, source) = match matching {
            Some((rung, source)) => (Some(rung), source),
            None => (row.ladder.newest().filter(|_| tells_lines_apart(row)), oldest_unread(self.container, row)),
        };
        if gap {
            note_gap(turn, self.container);
        }
        let aligned = if gap { Aligned::Gap } else { Aligned::Resumed };
        if let Some((rung, end)) = rung.zip(known.others_from).filter(|(rung, end)| rung.place < *end)
            && let Some(existing) = self.existing(turn.os, rung.place, Some(end))?
        {
            let replay = Replay::among_others(existing, repair(rebooted));
            self.replay_with(turn, row, rung, source, replay)?;
            return Ok(aligned);
        }
        let lineage = &mut self.container.lineage;
        lineage.begin_at(turn.os, source.generation_ix, source.offset, source.tail).map_err(Failed::Source)?;
        self.append_from(turn, source.unfinished, &row.ladder.epochs)?;
        Ok(aligned)
    }

    /// What the output has from a place on; nothing when it doesn't reach up to there.
    fn existing(&self, os: &O, place: Place, until: Option<Place>) -> Result<Option<Existing<O>>, Failed> {
        if !is_reachable(os, &self.output, place).map_err(Failed::Output)? {
            return Ok(None);
        }
        Existing::open(os, &self.at.path, self.output.place().segment, place, until).map_err(Failed::Output)
    }

    /// No rung tells the place: the output's end is sought in the log.
    fn seek_anew(
        self,
        turn: &mut Turn<'_, O>,
        known: &Known<'_>,
        drained: &[Fingerprint],
        is_known: bool,
    ) -> Result<Aligned, Failed> {
        let epochs = known.row.ladder.epochs.clone();
        self.seek(
            turn,
            Seek { epochs, began: known.began, drained, is_known, parts: &[], pruned: false, former: &known.former },
        )
    }

    fn resume(mut self, turn: &mut Turn<'_, O>, known: &Known<'_>, rebooted: bool) -> Result<Aligned, Failed> {
        let row = known.row;
        let rungs = &row.ladder.rungs;
        let mut sources = Vec::with_capacity(rungs.len());
        for rung in rungs {
            sources.push(find_source(turn.os, &mut self.container.lineage, rung).map_err(Failed::Source)?);
        }
        let mut gap = false;
        if let Some((last, rung)) = sources.last_mut().zip(rungs.last())
            && last.is_none()
            && !rebooted
            && !lacks_newline(turn.os, &mut self.container.lineage, row)?
        {
            *last = behind_drained(self.container, row, rung);
            gap = last.is_some() && rung.head.is_some();
        }
        if gap {
            note_gap(turn, self.container);
        }
        if rebooted {
            self.note_unsynced(turn, known, &sources)?;
        }
        let resumed = if gap { Aligned::Gap } else { Aligned::Resumed };
        let mut reachable = Vec::with_capacity(rungs.len());
        for rung in rungs {
            reachable.push(is_reachable(turn.os, &self.output, rung.place).map_err(Failed::Output)?);
        }
        let both = |ix: &usize| sources[*ix].is_some() && reachable[*ix];
        // After another boot everything since the oldest rung is compared, for it may not have reached the disk. Else
        // only the newest place in the source counts: an output that doesn't reach it was cut by the operator.
        let newest_source = (0..rungs.len()).rfind(|ix| sources[*ix].is_some());
        let chosen = if rebooted { (0..rungs.len()).find(both) } else { newest_source.filter(|ix| reachable[*ix]) };
        let synced = rungs.iter().rposition(|rung| rung.synced);
        if !rebooted && chosen.is_none_or(|ix| ix + 1 < rungs.len()) {
            // What the newest rung owes may have lost its source since: it is only in the row.
            if let Some(newest) = row.ladder.newest() {
                self.settle(turn, newest, false)?;
            }
        }
        // Below a rung that was on the disk nothing is damaged, so one above it leaves a part uncompared.
        if let Some(ix) = chosen.filter(|ix| !rebooted || synced.is_none_or(|synced| *ix <= synced)) {
            let source = sources.swap_remove(ix).expect("chosen because it matches");
            if rebooted && passes_over_later(self.container, row, ix, source.generation_ix) {
                note_gap(turn, self.container);
            }
            self.replay(turn, row, &rungs[ix], source, repair(rebooted))?;
            return Ok(resumed);
        }
        if rebooted {
            return self.after_damage(turn, known, &mut sources, &reachable);
        }
        if let Some(ix) = newest_source {
            let source = sources.swap_remove(ix).expect("it matches");
            let owed = if reachable[ix] { &[][..] } else { &rungs[ix].owed };
            self.without_output(turn, row, source, owed)?;
            return Ok(resumed);
        }
        self.without_source(turn, known)
    }

    fn note_unsynced(
        &self,
        turn: &mut Turn<'_, O>,
        known: &Known<'_>,
        sources: &[Option<Source>],
    ) -> Result<(), Failed> {
        let container = &*self.container;
        let loss = |turn: &Turn<'_, O>, reason| {
            let loss = container.loss(turn, reason, None, None);
            Loss { file: container.ladder_route.clone(), ..loss }
        };
        let ladder = &known.row.ladder;
        note_unsynced(turn, self.at, &self.output, ladder, sources, &container.lineage, loss).map_err(Failed::Output)
    }

    /// Writes what a rung owes and the output lacks, for its source may be gone.
    fn settle(&mut self, turn: &Turn<'_, O>, rung: &Rung, rebooted: bool) -> Result<(), Failed> {
        let at = self.at;
        settle_owed(turn.os, at, rung, rebooted).map_err(Failed::Output)?;
        self.output = Output::find(turn.os, &at.path, at.mode, at.limit, at.segment_min).map_err(Failed::Output)?;
        Ok(())
    }

    /// Another boot, and no rung holds on both sides up to where the output was on the disk. What was there and isn't is
    /// the operator's doing; all else may be damage, so it is held against everything that the log still has.
    fn after_damage(
        mut self,
        turn: &mut Turn<'_, O>,
        known: &Known<'_>,
        sources: &mut [Option<Source>],
        reachable: &[bool],
    ) -> Result<Aligned, Failed> {
        let row = known.row;
        let synced = row.ladder.rungs.iter().rposition(|rung| rung.synced);
        let drained: &[Fingerprint] = synced.map_or(&[], |ix| drained_before(row, ix));
        let heads: Vec<Option<Fingerprint>> = self.container.lineage.generations().map(|held| held.head).collect();
        let is_known = |head: &Option<Fingerprint>| head.is_some_and(|head| drained.contains(&head));
        // Behind the last one that is known: those in between may have lost their heads.
        let begin = Some(heads.iter().rposition(is_known).map_or(0, |ix| ix + 1)).filter(|ix| *ix < heads.len());
        // A loss of names may have brought an old incarnation back under the log's name: then only lines tell.
        let came_back = heads.last().is_some_and(is_known);
        // The incarnation that the rung was in is there, without the bytes it read last: the engine lost its own tail.
        let lost_tail = synced.and_then(|ix| row.ladder.rungs[ix].head).is_some_and(|head| heads.contains(&Some(head)))
            || lacks_newline(turn.os, &mut self.container.lineage, row)?;
        match (synced, begin) {
            (Some(ix), _) if !reachable[ix] && sources[ix].is_some() => {
                let source = sources[ix].take().expect("just looked at");
                return self.without_output(turn, row, source, &row.ladder.rungs[ix].owed);
            }
            (Some(ix), Some(generation_ix)) if reachable[ix] && !came_back && !lost_tail => {
                let synced = &row.ladder.rungs[ix];
                let is_gone = |head| !heads.contains(&Some(head)) && !row.drained.contains(&head);
                if row.ladder.newest().and_then(|newest| newest.head).is_some_and(is_gone) {
                    note_gap(turn, self.container); // What it held beyond the rung is gone with it.
                }
                // Equal lines without time must not take new ones for old ones: those are compared from there on only.
                let tells = tells_lines_apart(row);
                let older = (0..ix).find(|older| reachable[*older] && tells);
                let from = &row.ladder.rungs[older.unwrap_or(ix)];
                // What it begins with must stand behind that rung.
                let is_behind = from.offset == 0 || is_known(&from.head);
                let earliest = match is_behind || !tells {
                    true => Earliest::Nowhere,
                    false => self.earliest_line(turn, row, generation_ix)?,
                };
                let source = Source { generation_ix, offset: 0, tail: None, unfinished: synced.unfinished.clone() };
                let mut rung = synced.clone();
                if older.is_some() {
                    self.settle(turn, synced, true)?;
                    let Rung { place, owed, owed_mid_record, .. } = from.clone();
                    rung = Rung { place, owed, owed_mid_record, ..rung };
                }
                match earliest {
                    Earliest::At(place) if place < rung.place => {
                        rung = Rung { place, owed: Vec::new(), owed_mid_record: false, ..rung };
                    }
                    Earliest::Unknown => return self.seek_anew(turn, known, &[], has_begun(row)),
                    _ => {}
                }
                self.replay(turn, row, &rung, source, Repair::ZeroedPages)?;
                return Ok(Aligned::Resumed);
            }
            _ => {}
        }
        self.seek_anew(turn, known, &[], has_begun(row))
    }

    /// The source is there, the output is not: the operator's doing, so nothing of it is emitted again. What was owed may
    /// never have been written.
    fn without_output(self, turn: &mut Turn<'_, O>, row: &Row, source: Source, owed: &[u8]) -> Result<Aligned, Failed> {
        let Opening { container, at, output, until_ns } = self;
        let lineage = &mut container.lineage;
        lineage.begin_at(turn.os, source.generation_ix, source.offset, source.tail).map_err(Failed::Source)?;
        Opening { container: &mut *container, at, output, until_ns }.append_from(
            turn,
            source.unfinished,
            &row.ladder.epochs,
        )?;
        container.batch.extend_lines(owed);
        Ok(Aligned::Resumed)
    }

    /// No rung's bytes are in any incarnation. What was never looked at is read from its beginning. Little of that can be
    /// in the output, for no commit names it: what was written since the newest rung stood before the first line of a
    /// log, or a line that was open then, or all of a log whose own beginning was damaged. Equal lines don't tell.
    fn without_source(mut self, turn: &mut Turn<'_, O>, known: &Known<'_>) -> Result<Aligned, Failed> {
        let row = known.row;
        if self.tail_is_lost(turn.os, row)? {
            return self.seek_anew(turn, known, &row.drained, false);
        }
        let begun = has_begun(row);
        if begun {
            note_gap(turn, self.container);
        }
        let source = oldest_unread(self.container, row);
        if let Some(rung) = row.ladder.newest().filter(|rung| rung.head.is_none() || tells_lines_apart(row))
            && is_reachable(turn.os, &self.output, rung.place).map_err(Failed::Output)?
        {
            self.replay(turn, row, rung, source, Repair::Never)?;
            return Ok(if begun { Aligned::Gap } else { Aligned::Resumed });
        }
        let lineage = &mut self.container.lineage;
        lineage.begin_at(turn.os, source.generation_ix, 0, None).map_err(Failed::Source)?;
        self.append_from(turn, source.unfinished, &row.ladder.epochs)?;
        Ok(if begun { Aligned::Gap } else { Aligned::Resumed })
    }

    /// The incarnation we were in is there, but not the bytes we read last: the engine lost its own tail.
    fn tail_is_lost(&mut self, os: &O, row: &Row) -> Result<bool, Failed> {
        let lineage = &mut self.container.lineage;
        let heads: Vec<Fingerprint> = row.ladder.rungs.iter().filter_map(|rung| rung.head).collect();
        if lineage.generations().any(|held| held.head.is_some_and(|head| heads.contains(&head))) {
            return Ok(true);
        }
        lacks_newline(os, lineage, row)
    }

    /// Goes on from a rung: what it owes, then what the source renders, held against what the output has.
    fn replay(
        &mut self,
        turn: &mut Turn<'_, O>,
        row: &Row,
        rung: &Rung,
        source: Source,
        repair: Repair,
    ) -> Result<(), Failed> {
        let current = self.output.place().segment;
        let existing = Existing::open(turn.os, &self.at.path, current, rung.place, None).map_err(Failed::Output)?;
        let existing = existing.ok_or_else(|| Failed::Output(io::Error::other("the segment vanished")))?;
        self.replay_with(turn, row, rung, source, Replay::new(existing, repair))
    }

    fn replay_with(
        &mut self,
        turn: &mut Turn<'_, O>,
        row: &Row,
        rung: &Rung,
        source: Source,
        mut replay: Replay<O>,
    ) -> Result<(), Failed> {
        replay.tells_apart = tells_lines_apart(row);
        let shape = row.ladder.shape_at(rung.place).cloned().unwrap_or_else(|| self.container.shape.clone());
        let mut unfinished = source.unfinished;
        if source.offset == 0 && rung.offset != 0 {
            unfinished = rung.unfinished.clone();
        }
        let container = &mut *self.container;
        let lineage = &mut container.lineage;
        lineage.begin_at(turn.os, source.generation_ix, source.offset, source.tail).map_err(Failed::Source)?;
        let shape = shape_with(&unfinished, &row.ladder.epochs, &shape).clone();
        container.pipe = Pipe::new(shape, unfinished.clone(), self.until_ns);
        container.other_shapes = OtherShapes::beside(&container.pipe, &row.ladder, &container.shape, &unfinished);
        container.batch = Batch::default();
        if rung.owed_mid_record {
            container.batch.start_mid_record();
        }
        container.batch.extend_lines(&rung.owed);
        container.ladder = row.ladder.clone();
        container.dirty = true;
        let output = std::mem::replace(&mut self.output, placeholder(self.at));
        // Its turns hold what is owed against the output: a read that fails there must find the container opened.
        container.stage = Stage::Replaying { output, replay: Box::new(replay) };
        Ok(())
    }
}

/// The settings to go on with: where entries are kept from now on, open lines are joined to their ends first.
fn shape_with<'a>(unfinished: &Unfinished, epochs: &'a [Epoch], shape: &'a Arc<Shape>) -> &'a Arc<Shape> {
    if unfinished.chains.is_empty() || joins(shape) {
        return shape;
    }
    epochs.iter().rev().map(|epoch| &epoch.shape).find(|shape| joins(shape)).unwrap_or(shape)
}

fn repair(rebooted: bool) -> Repair {
    if rebooted { Repair::ZeroedPages } else { Repair::Never }
}

/// An output in name only, to stand in for one that moved on.
fn placeholder<O: Os>(at: &OutputAt) -> Output<O> {
    Output::unopened(&at.path, at.mode, at.limit)
}

/// Heads of incarnations that were drained before this rung: their records lie below its place.
fn drained_before(row: &Row, rung_ix: usize) -> &[Fingerprint] {
    let rungs = &row.ladder.rungs[..=rung_ix];
    let place = |head: Fingerprint| row.drained.iter().position(|drained| *drained == head);
    match rungs.iter().rposition(|rung| rung.head.is_some()) {
        Some(ix) => {
            let is_last = row.ladder.newest().map(|newest| newest.head) == Some(rungs[ix].head);
            let n_before = match rungs[ix].head.and_then(place) {
                Some(at) if ix == rung_ix => at,
                Some(at) => at + 1,
                None if is_last && ix == rung_ix => row.drained.len(), // It isn't drained yet.
                None => 0,
            };
            &row.drained[..n_before]
        }
        // Nothing was read since the ladder began.
        None if row.ladder.rungs.iter().all(|rung| rung.head.is_none()) => &row.drained,
        None => &[],
    }
}

/// Whether an incarnation that the names call older was begun after this rung: a power loss took renames back out of order,
/// and where the log goes on now its lines have no place any more.
fn passes_over_later<O: Os>(container: &Container<O>, row: &Row, rung_ix: usize, n_passed: usize) -> bool {
    let before = drained_before(row, rung_ix);
    let later = row.ladder.rungs[rung_ix + 1..].iter().filter_map(|rung| rung.head);
    let later: Vec<_> =
        later.filter(|head| Some(*head) != row.ladder.rungs[rung_ix].head && !before.contains(head)).collect();
    container.lineage.generations().take(n_passed).any(|passed| passed.head.is_some_and(|head| later.contains(&head)))
}

/// Each line has its time, so none is taken for another.
fn tells_lines_apart(row: &Row) -> bool {
    row.ladder.epochs.iter().all(|epoch| epoch.shape.formatter.has_time())
}

fn has_begun(row: &Row) -> bool {
    row.ladder.newest().is_some_and(|rung| rung.head.is_some())
}

fn gap<O: Os>(turn: &Turn<'_, O>, container: &Container<O>, reason: Reason) -> Loss {
    container.loss(turn, reason, None, None)
}

fn note_gap<O: Os>(turn: &mut Turn<'_, O>, container: &Container<O>) {
    let mut loss = gap(turn, container, Reason::RotatedAway);
    loss.detail = "the log went on in incarnations that were gone before they could be read".to_owned();
    turn.losses.push(loss);
}

/// The incarnation that holds the rung's bytes where the rung says.
fn find_source<O: Os>(os: &O, lineage: &mut Lineage<O>, rung: &Rung) -> io::Result<Option<Source>> {
    let found = lineage.find(os, rung.head, rung.offset, rung.tail)?;
    Ok(found.map(|generation_ix| Source {
        generation_ix,
        offset: rung.offset,
        tail: rung.tail,
        unfinished: rung.unfinished.clone(),
    }))
}

/// The engine lost all of the newest rung's incarnation but its first line, and of that the newline: it begins with
/// another one.
fn lacks_newline<O: Os>(os: &O, lineage: &mut Lineage<O>, row: &Row) -> Result<bool, Failed> {
    let Some(head) = row.ladder.newest().and_then(|rung| rung.head) else { return Ok(false) };
    lineage.lacks_newline_of(os, head).map_err(Failed::Source)
}

/// The newest rung's incarnation is gone, or had no line yet. All that was drained lies below the rung, so it goes on
/// behind that.
fn behind_drained<O: Os>(container: &Container<O>, row: &Row, rung: &Rung) -> Option<Source> {
    let is_drained = |head: Option<Fingerprint>| head.is_some_and(|head| row.drained.contains(&head));
    let heads: Vec<Option<Fingerprint>> = container.lineage.generations().map(|held| held.head).collect();
    let generation_ix = match heads.iter().rposition(|head| is_drained(*head)) {
        _ if rung.head.is_some() && heads.contains(&rung.head) => return None, // The engine lost its tail.
        Some(ix) => ix + 1,
        None if rung.head.is_some() => return None,
        None => 0,
    };
    let unfinished = rung.unfinished.clone();
    (generation_ix < heads.len()).then_some(Source { generation_ix, offset: 0, tail: None, unfinished })
}

/// The oldest incarnation that was not read to its end before, from its beginning.
fn oldest_unread<O: Os>(container: &Container<O>, row: &Row) -> Source {
    let read = |head: Option<Fingerprint>| head.is_some_and(|head| row.drained.contains(&head));
    let n_generations = container.lineage.len();
    let generation_ix = container.lineage.generations().position(|held| !read(held.head)).unwrap_or(n_generations);
    let unfinished = row.ladder.newest().map(|rung| rung.unfinished.clone()).unwrap_or_default();
    Source { generation_ix, offset: 0, tail: None, unfinished }
}

/// Whether the output reaches up to `place`.
fn is_reachable<O: Os>(os: &O, output: &Output<O>, place: Place) -> io::Result<bool> {
    let end = output.place();
    if place.segment == end.segment {
        return Ok(place.offset <= end.offset);
    }
    for segment in segments(os, output.path(), end.segment)? {
        if segment.number == place.segment {
            return Ok(segment.form != Form::Plain || os.stat(&segment.path)?.size >= place.offset);
        }
    }
    Ok(false)
}

/// Writes what a rung owes its output and nobody wrote: the checkpoint has the bytes.
pub fn settle_owed<O: Os>(os: &O, at: &OutputAt, rung: &Rung, rebooted: bool) -> io::Result<()> {
    if rung.owed.is_empty() {
        return Ok(());
    }
    let mut output = Output::find(os, &at.path, at.mode, at.limit, at.segment_min)?;
    if !is_reachable(os, &output, rung.place)? {
        return Ok(());
    }
    let Some(existing) = Existing::open(os, &at.path, output.place().segment, rung.place, None)? else {
        return Ok(());
    };
    let mut replay = Replay::new(existing, repair(rebooted));
    let mut batch = Batch::default();
    batch.extend_lines(&rung.owed);
    let mut n_there = 0;
    for record in batch.records() {
        match replay.offer(os, &output, record.into())? {
            Offer::Present => n_there += record.len(),
            Offer::Ends { already } => {
                n_there += already;
                break;
            }
            Offer::Stashed | Offer::GiveUp => return Ok(()), // Somebody else's text stands there: nothing is ours to add.
        }
    }
    batch.advance(n_there);
    if batch.is_empty() {
        return Ok(());
    }
    output.prepare(os)?;
    let (_, result) = output.append(os, batch.unwritten());
    result
}
