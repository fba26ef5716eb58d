//! One container on its way from log to output: read, render, hold against what the output has, append, and the
//! commits that each of these must wait for.

mod commit;
mod other_shapes;
mod reading;
mod replay;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::agent) use self::other_shapes::OtherShapes;

use crate::batch::Batch;
use crate::checkpoint::{Epoch, Ladder};
use crate::config::limits::{OWED_BYTES_MAX, SILENCE, SILENCE_NON_BLOCKING, SILENCE_STOPPED};
use crate::format::Metadata;
use crate::loss::{Loss, Reason};
use crate::pipe::{Pipe, Tally};
use crate::shape::Shape;
use crate::sink::Place;
use crate::sink::align::Replay;
use crate::sink::file::{Meddling, Output};
use crate::sink::journal::Began;
use crate::sys::Os;
use crate::tail::{Lineage, Look};

/// What the engine's files say of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub metadata: Metadata,
    /// Nanoseconds since the Unix epoch; orders containers that use one output after the other.
    pub created_ns: i128,
    pub running: bool,
    /// Docker's word for it.
    pub state: &'static str,
    /// `mode=non-blocking`: the engine drops pieces when its ring is full.
    pub non_blocking: bool,
}

/// What a turn may use.
pub struct Turn<'a, O: Os> {
    pub os: &'a O,
    /// The agent's one read buffer.
    pub buffer: &'a mut Vec<u8>,
    /// The memory of one batch, for whoever is served: most leave theirs empty.
    pub room: &'a mut Batch,
    /// How many rendered bytes the turn may gather.
    pub quantum_bytes: usize,
    /// The log grew steadily until now.
    pub steady: bool,
    pub now: Duration,
    pub tally: &'a mut Tally,
    pub losses: &'a mut Vec<Loss>,
    pub meddled: &'a mut Vec<Meddling>,
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// Bytes were read.
    Moved,
    /// Nothing new.
    Quiet,
    /// It waits for a commit, or for its output.
    Blocked,
    /// The container is gone and everything of it was read.
    Finished,
}

/// What could not be done, and to what.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot read {0}: {1}")]
    Source(PathBuf, #[source] io::Error),
    #[error("cannot write {0}: {1}")]
    Output(PathBuf, #[source] io::Error),
}

impl Trouble {
    /// As the rate limit and the metric know it.
    pub fn cause(&self) -> &'static str {
        match self {
            Trouble::Source(..) => "source",
            Trouble::Output(..) => "output",
        }
    }

    pub fn error(&self) -> &io::Error {
        match self {
            Trouble::Source(_, error) | Trouble::Output(_, error) => error,
        }
    }
}

/// Where a container stands with its output.
pub enum Stage<O: Os> {
    /// Its output isn't open: another container writes there, or nothing was tried yet.
    Waiting,
    /// Rendered records are held against what the output has.
    Replaying { output: Output<O>, replay: Box<Replay<O>> },
    /// Records go to the end of the output.
    Appending { output: Output<O> },
}

/// What must be committed before the container goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barrier {
    /// End the segment.
    pub rotate: bool,
    /// Leave the output to another container, or for another name.
    pub release: bool,
}

/// A commit that is on its way.
pub struct InFlight {
    ladder: Ladder,
    barrier: Option<Barrier>,
    place: Place,
    synced: bool,
}

/// What the agent needs to make a row's commit.
pub struct Commit<O: Os> {
    pub ladder: Ladder,
    pub rotate: Option<crate::sink::rotate::Rotate<O>>,
    pub sync: Option<crate::checkpoint::commit::Sync<O>>,
    /// The settings changed, or the container is new to the output: from here on they count.
    pub epoch: Option<Epoch>,
    /// Where the log was begun, for a container that didn't begin at the beginning.
    pub began: Option<Began>,
}

pub struct Container<O: Os> {
    pub id: String,
    pub facts: Facts,
    /// The output its metadata asks for, below log-path.
    pub route: String,
    /// The settings its records should have.
    pub shape: Arc<Shape>,
    pub lineage: Lineage<O>,
    pub stage: Stage<O>,
    /// The output that the ladder is about.
    pub ladder_route: String,
    pub ladder: Ladder,
    pub began: Option<Began>,
    /// Its directory is gone.
    pub removed: bool,
    pub(super) pipe: Pipe,
    /// While it replays: the same records by other settings.
    pub(super) other_shapes: OtherShapes,
    pub(super) batch: Batch,
    pub(super) barrier: Option<Barrier>,
    in_flight: Option<InFlight>,
    /// Decided since the last commit: nothing may be appended before it.
    pub(super) undecided: bool,
    /// The incarnation that a commit must name first is larger than a commit may carry.
    front_is_large: bool,
    pub(super) dirty: bool,
    synced_at: Duration,
    moved_at: Duration,
    /// `--until` was reached.
    later: bool,
    finished: bool,
    /// The last turn went as far as the log did.
    quiet: bool,
    /// It left its output for another container, or another name; source and open lines stay.
    released: bool,
    /// The next commit syncs the output.
    sync_next: bool,
    /// At least one of its commits is durable.
    stored: bool,
    /// The output's journal tells its settings.
    pub(super) noted: bool,
    /// Bytes behind the last whole line when it was last quiet.
    pub rest_bytes: u64,
}

impl<O: Os> Container<O> {
    pub fn new(
        id: &str,
        directory: PathBuf,
        facts: Facts,
        route: String,
        shape: Arc<Shape>,
        until_ns: Option<i128>,
    ) -> Self {
        Container {
            id: id.to_owned(),
            lineage: Lineage::new(&directory, id, []),
            pipe: Pipe::new(shape.clone(), Default::default(), until_ns),
            other_shapes: OtherShapes::default(),
            facts,
            ladder_route: route.clone(),
            route,
            shape,
            stage: Stage::Waiting,
            ladder: Ladder::default(),
            began: None,
            removed: false,
            batch: Batch::default(),
            barrier: None,
            in_flight: None,
            undecided: false,
            front_is_large: false,
            dirty: false,
            synced_at: Duration::ZERO,
            moved_at: Duration::ZERO,
            later: false,
            finished: false,
            quiet: false,
            released: false,
            sync_next: false,
            stored: false,
            noted: false,
            rest_bytes: 0,
        }
    }

    /// Everything that was there when it was last looked at is in the output, and no decision is open.
    pub fn is_drained(&self) -> bool {
        self.quiet
            && self.batch.is_empty()
            && !self.undecided
            && self.barrier.is_none()
            && !matches!(self.stage, Stage::Replaying { .. })
    }

    /// As far as `--until` lets it.
    pub fn is_drained_so_far(&self) -> bool {
        self.batch.is_empty()
            && !self.undecided
            && self.barrier.is_none()
            && matches!(self.stage, Stage::Appending { .. })
    }

    /// It has no output open, and its log has nothing that asks for one.
    pub fn waits_for_news(&self) -> bool {
        !self.is_open() && (self.released || self.lineage.is_empty()) && !self.removed
    }

    /// What it holds can't be written: nothing of it is on its way.
    pub fn is_given_up(&self) -> bool {
        self.in_flight.is_none()
    }

    pub fn is_released(&self) -> bool {
        self.released
    }

    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether the log holds bytes beyond what was read, or ended.
    pub fn has_unread(&self, os: &O, now: Duration) -> bool {
        let grown = self
            .lineage
            .front()
            .is_some_and(|front| front.stat(os).is_ok_and(|stat| stat.size != front.offset + self.rest_bytes));
        let over_due = self.has_open_line() && now >= self.moved_at + self.silence();
        !self.later && (grown || self.lineage.len() > 1 || over_due || self.removed && !self.finished)
    }

    /// `--from end`: goes on behind what the log has now, however long its output can't be opened yet.
    pub fn begin_at_end(&mut self, os: &O) -> Result<(), Trouble> {
        if self.began.is_some() || self.lineage.is_empty() {
            return Ok(());
        }
        self.lineage.begin_at_end(os).map_err(|error| self.source_trouble(error))?;
        self.began = Some(self.standing(os).map_err(|error| self.source_trouble(error))?);
        Ok(())
    }

    /// Where reading goes on, as the journal keeps it.
    pub(super) fn standing(&mut self, os: &O) -> io::Result<Began> {
        let head = self.lineage.head(os)?;
        let (offset, tail) = self.lineage.front().map_or((0, None), |front| (front.offset, front.tail()));
        Ok(Began { head, offset, tail })
    }

    /// Goes on behind what others wrote meanwhile, or under another name.
    pub fn reopen(&mut self, os: &O, at: &crate::agent::opening::OutputAt) -> Result<(), Trouble> {
        assert!(self.batch.is_empty(), "an output is left only when nothing is owed");
        let trouble = |error| Trouble::Output(at.path.clone(), error);
        let output = Output::find(os, &at.path, at.mode, at.limit, at.segment_min).map_err(trouble)?;
        let torn = output.ends_torn(os).map_err(trouble)?;
        if self.route != self.ladder_route {
            // What came before is in another output: without a store the new one is not searched for it.
            self.began = Some(self.standing(os).map_err(|error| self.source_trouble(error))?);
        }
        self.ladder = Ladder::default();
        self.ladder_route = self.route.clone();
        self.pipe.take_shape(&self.shape);
        self.stage = Stage::Appending { output };
        if torn {
            self.batch.extend_lines(b"\n");
        }
        self.barrier = Some(Barrier::default());
        self.undecided = true;
        self.dirty = true;
        self.released = false;
        Ok(())
    }

    /// Lets the oldest deleted incarnation go unread. Gives the bytes it held, and what is lost with it.
    pub fn shed(&mut self, os: &O) -> (u64, Vec<Loss>) {
        let Some((bytes, range, is_last)) = self.lineage.oldest_deleted(os) else {
            return (0, Vec::new());
        };
        if is_last && !self.removed || self.in_flight.is_some() {
            return (0, Vec::new()); // The engine still writes there, or a commit names it.
        }
        let loss = Loss {
            container: self.id.clone(),
            name: self.facts.metadata.name.clone(),
            sink: None,
            reason: Reason::HeldMax,
            file: self.lineage.log().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            start: Some(range.start),
            end: Some(range.end),
            bytes: None,
            first_time: self.pipe.last_time.map(|time| time.to_string()),
            last_time: None,
            noticed_ns: os.wall_ns(),
            detail: "deleted logs held more than --held-max".to_owned(),
        };
        if self.lineage.pass(os).is_err() {
            return (0, Vec::new());
        }
        self.undecided = true;
        self.dirty = true;
        if self.barrier.is_none() && matches!(self.stage, Stage::Appending { .. }) {
            self.barrier = Some(Barrier::default());
        }
        (bytes, vec![loss])
    }

    pub fn is_finished(&self) -> bool {
        self.finished && self.is_drained()
    }

    /// Nothing of it waits for a commit.
    pub fn is_committed(&self) -> bool {
        !self.dirty && self.in_flight.is_none() && self.barrier.is_none()
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Waiting)
    }

    pub fn has_later(&self) -> bool {
        self.later
    }

    pub fn has_open_line(&self) -> bool {
        self.pipe.assembler.has_open_chain()
    }

    /// Streams that stand within a line.
    pub fn open_lines(&self) -> usize {
        self.pipe.assembler.unfinished().chains.len()
    }

    /// Rendered, and not in the output yet.
    pub fn unwritten_bytes(&self) -> usize {
        self.batch.len()
    }

    pub fn waits_for_commit(&self) -> bool {
        self.barrier.is_some()
    }

    pub fn place(&self) -> Option<Place> {
        self.output().map(Output::place)
    }

    pub fn output(&self) -> Option<&Output<O>> {
        match &self.stage {
            Stage::Waiting => None,
            Stage::Replaying { output, .. } | Stage::Appending { output } => Some(output),
        }
    }

    /// Its next commit, which is due, looks whether somebody moved the output away.
    pub fn look_at_output_name(&mut self) {
        self.dirty |= matches!(self.stage, Stage::Appending { .. });
    }

    /// Where its output ends a segment from now on, in bytes, and the permissions of new files.
    pub fn set_limit(&mut self, limit: u64, mode: u32) {
        if let Stage::Replaying { output, .. } | Stage::Appending { output } = &mut self.stage {
            output.set_limit(limit, mode);
        }
    }

    pub fn rest_output(&mut self) {
        if let Stage::Appending { output } = &mut self.stage {
            output.rest();
        }
    }

    /// One turn: at most a quantum of bytes.
    pub fn turn(&mut self, turn: &mut Turn<'_, O>) -> Result<Went, Trouble> {
        self.batch.take_room(turn.room);
        let went = self.take_turn(turn);
        self.batch.give_room(turn.room);
        went
    }

    fn take_turn(&mut self, turn: &mut Turn<'_, O>) -> Result<Went, Trouble> {
        if self.barrier.is_some() || !self.is_open() {
            self.hold(turn.os)?;
            return Ok(Went::Blocked);
        }
        if matches!(self.stage, Stage::Appending { .. }) && !self.batch.is_empty() {
            self.settle(turn)?; // The turn before may have failed between a decision and its commit.
            if !self.batch.is_empty() || self.barrier.is_some() {
                return Ok(Went::Blocked);
            }
        }
        // What a rung owes, what a turn that failed left uncompared; or the output has ended already.
        self.hold_rest_against_output(turn)?;
        if self.barrier.is_some() || self.takes_new_shape() {
            return Ok(Went::Blocked);
        }
        let missing = match self.lineage.look(turn.os) {
            Ok(look) => look == Look::Missing,
            Err(error) => return Err(self.source_trouble(error)),
        };
        self.quiet = false;
        let read = self.read_on(turn, missing);
        self.dirty |= read.is_err(); // It may have come somewhere before it failed.
        let moved = read?;
        if moved {
            self.moved_at = turn.now;
            self.dirty = true;
        } else {
            self.quiet = true;
            self.source_ended(turn)?;
        }
        self.settle(turn)?;
        Ok(match (moved, self.finished, self.barrier) {
            (true, ..) => Went::Moved,
            (false, true, None) => Went::Finished,
            (false, _, Some(_)) => Went::Blocked,
            (false, false, None) => Went::Quiet,
        })
    }

    /// Opens what is new and reads nothing: whatever the container waits for, the engine's rotation doesn't wait.
    pub fn hold(&mut self, os: &O) -> Result<(), Trouble> {
        match self.lineage.look(os) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.source_trouble(error)),
        }
    }

    /// Brings what was rendered to the output, or asks for the commit that must come first.
    fn settle(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        if !matches!(self.stage, Stage::Appending { .. }) || self.barrier.is_some() {
            return Ok(());
        }
        if self.undecided {
            self.barrier = Some(Barrier::default());
            return Ok(());
        }
        self.write(turn)
    }

    /// At a moment when nothing is on the way: other settings, or another name.
    fn takes_new_shape(&mut self) -> bool {
        if !matches!(self.stage, Stage::Appending { .. }) || !self.batch.is_empty() {
            return false;
        }
        if self.route != self.ladder_route {
            self.barrier = Some(Barrier { rotate: false, release: true });
            return true;
        }
        if self.pipe.shape() != &self.shape && self.pipe.take_shape(&self.shape) {
            self.barrier = Some(Barrier::default());
            return true;
        }
        false
    }

    /// Silence is counted from here on.
    pub(super) fn opened_at(&mut self, now: Duration) {
        self.moved_at = now;
        self.synced_at = now; // A start of thousands does not sync them all at once.
    }

    fn batch_max(&self, quantum_bytes: usize) -> usize {
        if self.undecided && matches!(self.stage, Stage::Appending { .. }) {
            // They go into the commit, so only small incarnations are read ahead of it.
            return if self.front_is_large { 0 } else { OWED_BYTES_MAX };
        }
        match &self.stage {
            // Not much beyond what the segment holds: the rest would go into the rotation's commit.
            Stage::Appending { output } => output.room().clamp(1, quantum_bytes as u64) as usize,
            _ => quantum_bytes,
        }
    }

    /// When an open line that grows no more is ended, counted from its last piece.
    pub fn silence(&self) -> Duration {
        match (self.facts.running, self.facts.non_blocking) {
            (false, _) => SILENCE_STOPPED,
            (true, true) => SILENCE_NON_BLOCKING,
            (true, false) => SILENCE,
        }
    }

    /// Appends whole records while the segment has room and the disk takes them.
    pub(super) fn write(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        let Stage::Appending { output } = &mut self.stage else {
            return Ok(());
        };
        assert!(!self.undecided, "what was decided is committed before it is appended");
        if self.batch.is_empty() {
            return Ok(());
        }
        let prepared = output.wake(turn.os).and_then(|()| output.prepare(turn.os));
        if let Some(meddling) = prepared.map_err(|error| Trouble::Output(output.path().to_owned(), error))? {
            turn.meddled.push(meddling);
            self.batch.rewind_record(); // Its first part went with what was taken away.
            self.dirty = true;
            // A rung must lie in what is there now, or a death right after would write the same again.
            self.barrier.get_or_insert_default();
            return Ok(());
        }
        let n_bytes = if self.batch.len() as u64 <= output.room() {
            self.batch.len()
        } else {
            let ends = self.batch.unwritten_ends();
            let n_begun = if self.batch.is_mid_record() { ends[0] } else { 0 }; // Its beginning is in this segment.
            output.fitting(&ends).max(n_begun)
        };
        let (written, result) = output.append(turn.os, &self.batch.unwritten()[..n_bytes]);
        turn.tally.written_bytes += written as u64;
        self.batch.advance(written);
        self.dirty = true;
        result.map_err(|error| Trouble::Output(output.path().to_owned(), error))?;
        if !self.batch.is_empty() {
            self.barrier = Some(Barrier { rotate: true, release: false });
        }
        Ok(())
    }

    /// Asks to leave the output: another container of its name has lines.
    /// `unreadable`: what it has not read can't be read now.
    pub fn ask_release(&mut self, unreadable: bool) {
        let nothing_owed = self.batch.is_empty() && !self.undecided && self.barrier.is_none();
        let ready = self.is_drained() || (unreadable || self.later) && nothing_owed;
        if ready && self.in_flight.is_none() && matches!(self.stage, Stage::Appending { .. }) {
            self.barrier = Some(Barrier { rotate: false, release: true });
        }
    }

    fn source_trouble(&self, error: io::Error) -> Trouble {
        Trouble::Source(self.lineage.log(), error)
    }

    pub(super) fn loss(&self, turn: &Turn<'_, O>, reason: Reason, start: Option<u64>, end: Option<u64>) -> Loss {
        Loss {
            container: self.id.clone(),
            name: self.facts.metadata.name.clone(),
            sink: None,
            reason,
            file: self.lineage.log().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            start,
            end,
            bytes: None,
            first_time: self.pipe.last_time.map(|time| time.to_string()),
            last_time: None,
            noticed_ns: turn.os.wall_ns(),
            detail: String::new(),
        }
    }
}
