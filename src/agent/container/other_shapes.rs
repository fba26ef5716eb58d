//! The records that are held against an output, as the other settings would render them: those it was written under
//! before or since, and those of now. Nothing while there is only one shape.

use std::sync::Arc;

use crate::assemble::{LatePieces, Unfinished};
use crate::batch::Batch;
use crate::checkpoint::Ladder;
use crate::pipe::{Flow, Pipe, Tally};
use crate::shape::Shape;

#[derive(Default)]
pub struct OtherShapes {
    all: Vec<Other>,
}

struct Other {
    pipe: Pipe,
    batch: Batch,
    /// Some of these records came out of a line that was open, of which this shape may have made other ones.
    is_apart: bool,
}

impl OtherShapes {
    /// All shapes of `ladder`, and the present one, but for the one that `pipe` has.
    pub fn beside(pipe: &Pipe, ladder: &Ladder, present: &Arc<Shape>, unfinished: &Unfinished) -> OtherShapes {
        let mut others = OtherShapes::default();
        for shape in ladder.epochs.iter().map(|epoch| &epoch.shape).chain([present]) {
            if shape != pipe.shape() && others.all.iter().all(|other| other.pipe.shape() != shape) {
                let pipe = Pipe::new(shape.clone(), unfinished.clone(), None);
                others.all.push(Other { pipe, batch: Batch::default(), is_apart: false });
            }
        }
        others
    }

    /// As [`Pipe::line`], by `pipe` and by all others.
    pub fn line(&mut self, pipe: &mut Pipe, line: &[u8], offset: u64, batch: &mut Batch, tally: &mut Tally) -> Flow {
        let open = pipe.open_lines();
        let flow = pipe.line(line, offset, batch, tally);
        if flow == Flow::Later {
            return flow;
        }
        let joined = !open.is_empty() && pipe.open_lines() != open;
        for other in &mut self.all {
            let open = other.pipe.open_lines();
            other.pipe.line(line, offset, &mut other.batch, &mut Tally::default());
            let joined = joined || !open.is_empty() && other.pipe.open_lines() != open;
            other.is_apart |= joined && !other.pipe.joins_as(pipe);
        }
        flow
    }

    pub fn end_open_lines(&mut self, pipe: &mut Pipe, late: LatePieces, batch: &mut Batch, tally: &mut Tally) {
        let joined = pipe.assembler.has_open_chain();
        pipe.end_open_lines(late, batch, tally);
        for other in &mut self.all {
            let joined = joined || other.pipe.assembler.has_open_chain();
            other.is_apart |= joined && !other.pipe.joins_as(pipe);
            other.pipe.end_open_lines(late, &mut other.batch, &mut Tally::default());
        }
    }

    /// What record `ix` of the `n_records` that the pipe made since the last [`OtherShapes::clear`] is in shapes that
    /// tell records apart.
    pub fn renderings(&self, n_records: usize, ix: usize) -> Vec<&[u8]> {
        let telling = self.all.iter().filter(|other| other.pipe.shape().formatter.has_time());
        telling.filter_map(|other| other.record(n_records, ix)).collect()
    }

    /// The same record as it would be written now; `None`: as it is.
    pub fn rendering_in(&self, shape: &Arc<Shape>, n_records: usize, ix: usize) -> Option<&[u8]> {
        self.all.iter().find(|other| other.pipe.shape() == shape)?.record(n_records, ix)
    }

    /// The first `n_records` were dealt with.
    pub fn pass(&mut self, n_records: usize) {
        for Other { batch, .. } in &mut self.all {
            let n_bytes = batch.records().take(n_records).map(<[u8]>::len).sum();
            batch.advance(n_bytes);
        }
    }

    pub fn clear(&mut self) {
        self.all.iter_mut().for_each(Other::clear);
    }

    /// Gives the pipe such a shape, from the next record on, if it can have it by now. What it stood for takes the place
    /// of that one.
    pub fn give(&mut self, pipe: &mut Pipe, shape: &Arc<Shape>) {
        if !pipe.can_take(shape) {
            return;
        }
        match self.all.iter_mut().find(|other| other.pipe.shape() == shape) {
            Some(other) => {
                std::mem::swap(pipe, &mut other.pipe);
                pipe.go_on_from(&other.pipe); // What was not written yet is what that one has not made records of.
                other.clear(); // Its records are the ones of before.
            }
            None => drop(pipe.take_shape(shape)),
        }
    }
}

impl Other {
    /// Records have partners when both sides made equally many of the same lines.
    fn record(&self, n_records: usize, ix: usize) -> Option<&[u8]> {
        (!self.is_apart && self.batch.records().count() == n_records).then(|| self.batch.records().nth(ix))?
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.is_apart = false;
    }
}
