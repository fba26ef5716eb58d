//! Holds rendered records against what the output has, until it ends.

use crate::agent::container::{Barrier, Container, Stage, Trouble, Turn};
use crate::batch::Batch;
use crate::checkpoint::Ladder;
use crate::loss::Reason;
use crate::sink::align::{Offer, Offered};
use crate::sys::Os;

impl<O: Os> Container<O> {
    pub(super) fn hold_rest_against_output(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        match self.stage {
            Stage::Replaying { .. } => self.hold_against_output(turn),
            _ => Ok(()),
        }
    }

    /// Takes from the batch what the output has; when the output ends, the rest is to be appended.
    pub(in crate::agent) fn hold_against_output(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        let Stage::Replaying { output, replay } = &mut self.stage else {
            return Ok(());
        };
        let n_records = self.batch.records().count();
        let mut n_there = 0;
        let mut n_passed = 0;
        let mut result = Ok(None);
        let fresh_shape = self.pipe.next_shape(&self.shape);
        let has_ended = replay.note_open(self.pipe.assembler.unfinished().chains.len());
        for (ix, record) in self.batch.records().enumerate() {
            let others = self.other_shapes.renderings(n_records, ix);
            let fresh = self.other_shapes.rendering_in(fresh_shape, n_records, ix).unwrap_or(record);
            result = match replay.offer(
                turn.os,
                output,
                Offered { record, others: &others, fresh, was_open: has_ended && ix == 0 },
            ) {
                Ok(Offer::Present | Offer::Stashed) => Ok(None),
                Ok(Offer::Ends { already }) => Ok(Some(already)),
                Ok(Offer::GiveUp) => Ok(Some(0)),
                Err(error) => Err(error),
            };
            if !matches!(result, Ok(None)) {
                break;
            }
            n_there += record.len();
            n_passed += 1;
        }
        if result.is_ok() {
            replay.line_is_over();
        }
        let place = replay.place();
        if matches!(result, Ok(None)) {
            // At the output's end already: what comes next is new, and has the settings of now.
            result = replay.is_over().map(|is_over| is_over.then_some(0));
        }
        let path = result.is_err().then(|| output.path().to_owned());
        self.batch.advance(n_there); // What was compared is not offered again.
        self.other_shapes.pass(n_passed);
        if self.batch.is_empty() {
            self.other_shapes.clear();
        }
        match (result, path) {
            (Err(error), Some(path)) => return Err(Trouble::Output(path, error)),
            (Ok(Some(already)), _) => return self.end_replay(turn, already),
            _ => {}
        }
        if let Some(shape) = self.ladder.shape_at(place).filter(|shape| *shape != self.pipe.shape()) {
            self.other_shapes.give(&mut self.pipe, &shape.clone());
        }
        Ok(())
    }

    /// What is left of the batch is appended: in the present shape, unless the output has the beginning of it.
    fn renew_batch(&mut self, already: usize) {
        let n_records = self.batch.records().count();
        let fresh = |ix: usize| match ix {
            0 if already > 0 => None,
            ix => self.other_shapes.rendering_in(self.pipe.next_shape(&self.shape), n_records, ix),
        };
        if (0..n_records).any(|ix| fresh(ix).is_some()) {
            let mut batch = Batch::default();
            for (ix, record) in self.batch.records().enumerate() {
                let rendered = fresh(ix).unwrap_or(record);
                batch.extend(rendered, &[rendered.len()]);
            }
            self.batch = batch;
        }
        self.batch.advance(already);
    }

    /// From here on records are appended, after a commit that says so. `already`: bytes of the batch's first record that
    /// the output ends with.
    pub(super) fn end_replay(&mut self, turn: &mut Turn<'_, O>, already: usize) -> Result<(), Trouble> {
        let Stage::Replaying { output, replay } = &mut self.stage else {
            return Ok(());
        };
        let appended = match replay.finish(turn.os, output) {
            Ok(rest) => rest,
            Err(error) => return Err(Trouble::Output(output.path().to_owned(), error)),
        };
        if replay.among_others {
            self.ladder = Ladder::default(); // Its places lie before those of another container.
        }
        let (unmatched, repaired) = (replay.unmatched_bytes, replay.repaired_bytes);
        self.renew_batch(already);
        if !appended.bytes.is_empty() {
            let mut batch = Batch::default();
            batch.extend(&appended.bytes, &appended.ends);
            let rest: Vec<u8> = self.batch.unwritten().to_vec();
            batch.extend(&rest, &self.batch.unwritten_ends());
            batch.advance(appended.already);
            self.batch = batch;
        }
        if unmatched > 0 {
            let mut loss = self.loss(turn, Reason::Unmatched, None, None);
            loss.file = self.ladder_route.clone();
            loss.bytes = Some(unmatched);
            loss.detail = format!("{unmatched} bytes of output have no line in the source; they were kept");
            turn.losses.push(loss);
        }
        if repaired > 0 {
            tracing::warn!(container = %self.facts.metadata.name, bytes = repaired, "output was damaged and is written again");
        }
        if let Stage::Replaying { output, .. } = std::mem::replace(&mut self.stage, Stage::Waiting) {
            self.stage = Stage::Appending { output };
        }
        // The commit that comes first tells of it.
        std::mem::take(&mut self.other_shapes).give(&mut self.pipe, &self.shape);
        self.barrier = Some(Barrier::default());
        self.dirty = true;
        Ok(())
    }
}
