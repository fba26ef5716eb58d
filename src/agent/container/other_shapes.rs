//! The records that are held against an output, as the other settings would render them: those it was written under
//! before or since, and those of now. Nothing while there is only one shape.

use std::sync::Arc;

use crate::agent::pipe::{Flow, Pipe, Tally};
use crate::assemble::{LatePieces, Unfinished};
use crate::batch::Batch;
use crate::checkpoint::{Ladder, Shape};
use crate::decode::{Stream, Timestamp};

#[derive(Default)]
pub struct OtherShapes {
    all: Vec<(Pipe, Batch)>,
    /// Some of these records came out of a line that was open: each shape may have made other ones of it.
    joined: bool,
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

    /// After the pipe took what these open lines were before.
    fn note_joined(&mut self, pipe: &Pipe, open_before: &[(Stream, Timestamp, usize)]) {
        self.joined |= !open_before.is_empty() && pipe.open_lines() != open_before;
    }

    /// As [`Pipe::line`], by `pipe` and by all others.
    pub fn line(&mut self, pipe: &mut Pipe, line: &[u8], offset: u64, batch: &mut Batch, tally: &mut Tally) -> Flow {
        let open = pipe.open_lines();
        let flow = pipe.line(line, offset, batch, tally);
        if flow == Flow::Later {
            return flow;
        }
        self.note_joined(pipe, &open);
        for (mut other, mut batch) in std::mem::take(&mut self.all) {
            let open = other.open_lines();
            other.line(line, offset, &mut batch, &mut Tally::default());
            self.note_joined(&other, &open);
            self.all.push((other, batch));
        }
        flow
    }

    pub fn end_open_lines(&mut self, pipe: &mut Pipe, late: LatePieces, batch: &mut Batch, tally: &mut Tally) {
        self.joined |= pipe.assembler.has_open_chain();
        pipe.end_open_lines(late, batch, tally);
        for (pipe, batch) in &mut self.all {
            self.joined |= pipe.assembler.has_open_chain();
            pipe.end_open_lines(late, batch, &mut Tally::default());
        }
    }

    /// What record `ix` of the `n_records` that the pipe made since the last [`OtherShapes::clear`] is in shapes that
    /// tell records apart.
    pub fn renderings(&self, n_records: usize, ix: usize) -> Vec<&[u8]> {
        let telling = self.all.iter().filter(|(pipe, _)| pipe.shape().formatter.has_time());
        telling.filter_map(|(_, batch)| self.record_of(batch, n_records, ix)).collect()
    }

    /// The same record as it would be written now; `None`: as it is.
    pub fn rendering_in(&self, shape: &Arc<Shape>, n_records: usize, ix: usize) -> Option<&[u8]> {
        let (_, batch) = self.all.iter().find(|(pipe, _)| pipe.shape() == shape)?;
        self.record_of(batch, n_records, ix)
    }

    /// Records have partners when both sides made equally many of the same whole lines.
    fn record_of<'a>(&self, batch: &'a Batch, n_records: usize, ix: usize) -> Option<&'a [u8]> {
        (!self.joined && batch.records().count() == n_records).then(|| batch.records().nth(ix))?
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
        self.joined = false;
    }

    /// Gives the pipe such a shape, from the next record on, if it can have it by now. What it stood for takes the place
    /// of that one.
    pub fn give(&mut self, pipe: &mut Pipe, shape: &Arc<Shape>) {
        if !pipe.can_take(shape) {
            return;
        }
        match self.all.iter_mut().find(|(other, _)| other.shape() == shape) {
            Some((other, batch)) => {
                std::mem::swap(pipe, other);
                pipe.go_on_from(other); // What was not written yet is what that one has not made records of.
                batch.clear(); // Its records are the ones of before.
            }
            None => drop(pipe.take_shape(shape)),
        }
    }
}
