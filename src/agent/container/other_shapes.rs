//! The records that are held against an output, as the other settings would render them: those it was written under
//! before or since, and those of now. Nothing while there is only one shape.

use std::sync::Arc;

use crate::agent::pipe::{Pipe, Tally};
use crate::assemble::{LatePieces, Unfinished};
use crate::batch::Batch;
use crate::checkpoint::{Ladder, Shape};

#[derive(Default)]
pub struct OtherShapes {
    all: Vec<(Pipe, Batch)>,
}

impl OtherShapes {
    /// All shapes of `ladder`, and the present one, but for the one that `pipe` has.
    pub fn beside(pipe: &Pipe, ladder: &Ladder, present: &Arc<Shape>, unfinished: &Unfinished) -> OtherShapes {
        let mut others = OtherShapes::default();
        for shape in ladder.epochs.iter().map(|epoch| &epoch.shape).chain([present]) {
            if shape != pipe.shape() && others.all.iter().all(|(other, _)| other.shape() != shape) {
                others.all.push((Pipe::new(shape.clone(), unfinished.clone(), None), Batch::default()));
            }
        }
        others
    }

    /// As [`Pipe::line`], after the pipe itself took it.
    pub fn line(&mut self, line: &[u8], offset: u64) {
        for (pipe, batch) in &mut self.all {
            pipe.line(line, offset, batch, &mut Tally::default());
        }
    }

    pub fn end_open_lines(&mut self, late: LatePieces) {
        for (pipe, batch) in &mut self.all {
            pipe.end_open_lines(late, batch, &mut Tally::default());
        }
    }

    /// What record `ix` of the `n_records` that the pipe made since the last [`OtherShapes::clear`] is in shapes that
    /// tell records apart.
    pub fn renderings(&self, n_records: usize, ix: usize) -> Vec<&[u8]> {
        let telling = self.all.iter().filter(|(pipe, _)| pipe.shape().formatter.has_time());
        telling.filter_map(|(_, batch)| record_of(batch, n_records, ix)).collect()
    }

    /// The same record as it would be written now; `None`: as it is.
    pub fn rendering_in(&self, shape: &Arc<Shape>, n_records: usize, ix: usize) -> Option<&[u8]> {
        let (_, batch) = self.all.iter().find(|(pipe, _)| pipe.shape() == shape)?;
        record_of(batch, n_records, ix)
    }

    /// The first `n_records` were dealt with.
    pub fn pass(&mut self, n_records: usize) {
        for (_, batch) in &mut self.all {
            let n_bytes = batch.records().take(n_records).map(<[u8]>::len).sum();
            batch.advance(n_bytes);
        }
    }

    pub fn clear(&mut self) {
        self.all.iter_mut().for_each(|(_, batch)| batch.clear());
    }

    /// Gives the pipe such a shape, from the next record on. What it stood for takes the place of that one.
    pub fn give(&mut self, pipe: &mut Pipe, shape: &Arc<Shape>) {
        match self.all.iter_mut().find(|(other, _)| other.shape() == shape) {
            Some((other, batch)) => {
                std::mem::swap(pipe, other);
                pipe.go_on_from(other); // What was not written yet is what that one has not made records of.
                batch.clear(); // Its records are the ones of before.
            }
            None if pipe.shape() != shape => pipe.set_shape(shape.clone()),
            None => {}
        }
    }
}

/// Records have partners when both sides made equally many of the same lines.
fn record_of(batch: &Batch, n_records: usize, ix: usize) -> Option<&[u8]> {
    (batch.records().count() == n_records).then(|| batch.records().nth(ix))?
}
