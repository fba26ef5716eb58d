//! Reads a log on, through the ends of its incarnations, and decides what no byte shows.

use memchr::memchr_iter;

use crate::agent::container::{Container, Stage, Trouble, Turn};
use crate::assemble::LatePieces;
use crate::config::limits::{OWED_BYTES_MAX, QUANTUM_BYTES, READ_BYTES_MIN, TURN_BYTES_MAX, TURN_LOSSES_MAX};
use crate::decode::{Decoded, Decoder};
use crate::loss::Reason;
use crate::pipe::Flow;
use crate::sys::Os;
use crate::tail::Chunk;

impl<O: Os> Container<O> {
    pub(super) fn read_on(&mut self, turn: &mut Turn<'_, O>, missing: bool) -> Result<bool, Trouble> {
        let mut moved = false;
        let mut n_read = 0;
        let mut wanted_min = READ_BYTES_MIN;
        loop {
            let batch_max = self.batch_max(turn.quantum_bytes);
            let room = batch_max.saturating_sub(self.batch.len());
            if self.later
                || self.finished
                || room == 0
                || n_read >= TURN_BYTES_MAX
                || turn.losses.len() >= TURN_LOSSES_MAX
                || self.barrier.is_some()
            {
                return Ok(moved);
            }
            // What came meanwhile is the next look's: asking for it would be another call.
            if moved
                && turn.steady
                && self.lineage.len() == 1
                && let Some(rest) = self.lineage.rest_at_end()
            {
                self.rest_bytes = rest;
                self.quiet = true;
                return Ok(true);
            }
            if moved && room < batch_max / 8 {
                return Ok(true); // A read for so little costs more than it brings.
            }
            // What has no room in the batch would be read again in the next turn.
            let wanted = room.clamp(wanted_min, QUANTUM_BYTES);
            let n_rendered = self.batch.len();
            let chunk = match self.lineage.read(turn.os, turn.buffer, wanted) {
                Ok(chunk) => chunk,
                Err(error) => return Err(self.source_trouble(error)),
            };
            match chunk {
                Chunk::Lines { offset, bytes } => {
                    n_read += bytes.len();
                    self.lines(turn, offset, bytes)?;
                }
                Chunk::Waste { offset, bytes, nul } => {
                    n_read = n_read.saturating_add(bytes as usize);
                    self.waste(turn, offset, bytes, nul)?;
                }
                Chunk::Rewritten { lost } => {
                    turn.tally.rewritten += 1;
                    if !lost.is_empty() {
                        let loss = self.loss(turn, Reason::Truncated, Some(lost.start), Some(lost.end));
                        turn.losses.push(loss);
                    }
                    self.undecided = true;
                }
                Chunk::Quiet { rest } => {
                    self.rest_bytes = rest;
                    if !self.end_generation(turn, rest, missing)? {
                        self.quiet = true;
                        return Ok(moved);
                    }
                }
            }
            moved = true;
            if self.batch.len() == n_rendered {
                wanted_min = QUANTUM_BYTES; // A filter leaves it out, or it is waste: none of it takes room.
            }
        }
    }

    pub(super) fn lines(
        &mut self,
        turn: &mut Turn<'_, O>,
        offset: u64,
        bytes: std::ops::Range<usize>,
    ) -> Result<(), Trouble> {
        let batch_max = self.batch_max(turn.quantum_bytes);
        let buffer = std::mem::take(turn.buffer);
        let text = &buffer[bytes];
        let mut start = 0;
        let mut last = 0..0;
        let mut result = Ok(());
        for newline in memchr_iter(b'\n', text) {
            let line = &text[start..newline];
            if self.render(line, offset + start as u64, turn) == Flow::Later {
                self.later = true;
                break;
            }
            last = start..newline + 1;
            start = newline + 1;
            if matches!(self.stage, Stage::Replaying { .. }) {
                result = self.hold_against_output(turn);
                if result.is_err() || matches!(self.stage, Stage::Appending { .. }) {
                    break; // What follows goes by other rules.
                }
            } else if self.batch.len() >= batch_max {
                break;
            }
            if turn.tally.unparsed.len() >= TURN_LOSSES_MAX {
                break;
            }
        }
        if start > 0 {
            self.lineage.advance(offset + start as u64, &text[last]);
        }
        *turn.buffer = buffer;
        self.note_unparsed(turn);
        result
    }

    #[inline]
    fn render(&mut self, line: &[u8], offset: u64, turn: &mut Turn<'_, O>) -> Flow {
        if matches!(self.stage, Stage::Replaying { .. }) {
            return self.other_shapes.line(&mut self.pipe, line, offset, &mut self.batch, turn.tally);
        }
        self.pipe.line(line, offset, &mut self.batch, turn.tally)
    }

    fn end_open_lines(&mut self, late: LatePieces, turn: &mut Turn<'_, O>) {
        self.other_shapes.end_open_lines(&mut self.pipe, late, &mut self.batch, turn.tally);
    }

    pub(super) fn note_unparsed(&mut self, turn: &mut Turn<'_, O>) {
        for unparsed in std::mem::take(&mut turn.tally.unparsed) {
            let reason = match unparsed.fault {
                crate::decode::Fault::Nul => Reason::Nul,
                _ => Reason::Malformed,
            };
            let mut loss = self.loss(turn, reason, Some(unparsed.start), Some(unparsed.end));
            loss.first_time = unparsed.after.map(|time| time.to_string());
            loss.detail = unparsed.fault.name().to_owned();
            turn.losses.push(loss);
        }
    }

    pub(super) fn waste(&mut self, turn: &mut Turn<'_, O>, offset: u64, bytes: u64, nul: bool) -> Result<(), Trouble> {
        if let Err(error) = self.lineage.pass_over(turn.os, offset, bytes) {
            return Err(self.source_trouble(error));
        }
        let reason = if nul { Reason::Nul } else { Reason::Malformed };
        let loss = self.loss(turn, reason, Some(offset), Some(offset + bytes));
        turn.losses.push(loss);
        Ok(())
    }

    /// The oldest incarnation gives no more. Goes on to the next one when that is final; true if anything moved.
    pub(super) fn end_generation(&mut self, turn: &mut Turn<'_, O>, rest: u64, missing: bool) -> Result<bool, Trouble> {
        let Some(front) = self.lineage.front() else {
            self.finished = self.removed;
            return Ok(false);
        };
        let last = self.lineage.len() == 1;
        let gone =
            self.removed && missing && front.stat(turn.os).map_err(|error| self.source_trouble(error))?.links == 0;
        let succeeded =
            !last && self.lineage.successor_is_filled(turn.os).map_err(|error| self.source_trouble(error))?;
        if !gone && !succeeded {
            return Ok(false);
        }
        if !self.undecided && !self.batch.is_empty() && matches!(self.stage, Stage::Appending { .. }) {
            self.write(turn)?; // It belongs to an incarnation the last commit knows.
            if !self.batch.is_empty() || self.barrier.is_some() {
                return Ok(false);
            }
        }
        if rest > 0 {
            self.final_rest(turn, rest)?;
            if self.later {
                return Ok(false); // Left for a later run, which finds it there.
            }
        }
        if let Some(damage) = self.lineage.front().and_then(|front| front.damage()).map(str::to_owned) {
            let offset = self.lineage.front().map(|front| front.offset);
            let mut loss = self.loss(turn, Reason::Damaged, offset, None);
            loss.detail = damage;
            turn.losses.push(loss);
        }
        if gone && last {
            self.end_open_lines(LatePieces::Impossible, turn);
            self.finished = true;
            self.hold_rest_against_output(turn)?;
        }
        self.lineage.pass(turn.os).map_err(|error| self.source_trouble(error))?;
        self.rest_bytes = 0;
        self.undecided = true;
        self.front_is_large = self.lineage.front().is_some_and(|front| {
            front.is_compressed() || front.stat(turn.os).is_ok_and(|stat| stat.size > OWED_BYTES_MAX as u64)
        });
        Ok(true)
    }

    /// The end of an incarnation that has no newline: a whole record that lost it, or a torn one.
    pub(super) fn final_rest(&mut self, turn: &mut Turn<'_, O>, rest: u64) -> Result<(), Trouble> {
        let (offset, range) = match self.lineage.rest(turn.os, turn.buffer, rest) {
            Ok(rest) => rest,
            Err(error) => return Err(self.source_trouble(error)),
        };
        if range.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(turn.buffer);
        let text = &buffer[range];
        if self.render(text, offset, turn) == Flow::Later {
            self.later = true;
        } else {
            self.lineage.advance(offset + text.len() as u64, text);
        }
        *turn.buffer = buffer;
        self.note_unparsed(turn);
        self.hold_rest_against_output(turn)
    }

    /// A power loss may have taken no more than the newline of the last record, which stands in the output: what the
    /// engine writes next would bring it again.
    fn record_without_newline(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        if self.rest_bytes == 0 {
            return Ok(());
        }
        let (offset, range) = match self.lineage.rest(turn.os, turn.buffer, self.rest_bytes) {
            Ok(rest) => rest,
            Err(error) => return Err(self.source_trouble(error)),
        };
        let text = turn.buffer[range].to_vec();
        if !matches!(Decoder::new().decode(&text), Decoded::Entry(_)) || self.render(&text, offset, turn) == Flow::Later
        {
            return Ok(());
        }
        self.lineage.advance(offset + text.len() as u64, &text);
        self.rest_bytes = 0;
        self.hold_rest_against_output(turn)
    }

    /// Open lines that the output has as whole ones: what ended them is gone, and the next record would bring them again.
    fn lines_ended_before(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        let Stage::Replaying { output, replay } = &mut self.stage else { return Ok(()) };
        let ended = self.pipe.ended_lines();
        let mut are_there = !ended.is_empty() && self.pipe.shape().formatter.has_time();
        for record in ended.records() {
            let has_line = replay.has_line(record).map_err(|error| Trouble::Output(output.path().to_owned(), error));
            are_there &= has_line?;
        }
        if are_there {
            self.end_open_lines(LatePieces::Possible, turn);
            self.sync_next = true; // As any decision.
            self.hold_rest_against_output(turn)?;
        }
        Ok(())
    }

    /// Nothing new came. Lines that no byte will end are ended by decision, and a comparison with the output is over.
    pub(super) fn source_ended(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        if self.pipe.assembler.has_open_chain() && !self.later && turn.now >= self.moved_at + self.silence() {
            self.end_open_lines(LatePieces::Possible, turn);
            self.sync_next = true; // A power loss must not lead back to before the decision: no byte repeats it.
            self.undecided = true;
            self.dirty = true;
            self.hold_rest_against_output(turn)?;
        }
        if matches!(self.stage, Stage::Replaying { .. }) && !self.later {
            self.record_without_newline(turn)?;
            self.lines_ended_before(turn)?;
        }
        if matches!(self.stage, Stage::Replaying { .. }) {
            self.end_replay(turn, 0)?;
        }
        Ok(())
    }
}
