//! Holds rendered records against what the output has, until it ends.

use crate::agent::container::{Barrier, Container, Stage, Trouble, Turn};
use crate::batch::Batch;
use crate::loss::Reason;
use crate::sink::align::Offer;
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
        let mut n_there = 0;
        let mut over = false;
        let mut failed = None;
        for record in self.batch.records() {
            match replay.offer(turn.os, output, record) {
                Ok(Offer::Present | Offer::Stashed) => n_there += record.len(),
                Ok(Offer::Ends { already }) => {
                    n_there += already;
                    over = true;
                }
                Ok(Offer::GiveUp) => over = true,
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
            if over {
                break;
            }
            let place = replay.place();
            if let Some(shape) = self.ladder.shape_at(place)
                && shape != self.pipe.shape()
            {
                self.pipe.set_shape(shape.clone());
            }
        }
        if !over && failed.is_none() {
            // At the output's end already: what comes next is new, and has the settings of now.
            match replay.is_over() {
                Ok(is_over) => over = is_over,
                Err(error) => failed = Some(error),
            }
        }
        let path = failed.is_some().then(|| output.path().to_owned());
        self.batch.advance(n_there); // What was compared is not offered again.
        if let (Some(error), Some(path)) = (failed, path) {
            return Err(Trouble::Output(path, error));
        }
        if over { self.end_replay(turn) } else { Ok(()) }
    }

    /// From here on records are appended, after a commit that says so.
    pub(super) fn end_replay(&mut self, turn: &mut Turn<'_, O>) -> Result<(), Trouble> {
        let Stage::Replaying { output, replay } = &mut self.stage else {
            return Ok(());
        };
        let appended = match replay.finish() {
            Ok(rest) => rest,
            Err(error) => return Err(Trouble::Output(output.path().to_owned(), error)),
        };
        let (unmatched, repaired) = (replay.unmatched_bytes, replay.repaired_bytes);
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
            loss.detail = format!("{unmatched} bytes of output have no line in the source; they were kept");
            turn.losses.push(loss);
        }
        if repaired > 0 {
            tracing::warn!(container = %self.facts.metadata.name, bytes = repaired, "output was damaged and is written again");
        }
        if let Stage::Replaying { output, .. } = std::mem::replace(&mut self.stage, Stage::Waiting) {
            self.stage = Stage::Appending { output };
        }
        self.barrier = Some(Barrier::default());
        self.dirty = true;
        Ok(())
    }
}
