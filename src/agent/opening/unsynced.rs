//! What a power loss took out of an output and nobody can write again, for the log it came from is gone.

use std::io;

use crate::agent::container::Turn;
use crate::agent::opening::{OutputAt, Source, is_reachable};
use crate::checkpoint::{Ladder, Rung};
use crate::loss::{Loss, Reason};
use crate::sink::Place;
use crate::sink::existing::Existing;
use crate::sink::file::Output;
use crate::sys::Os;
use crate::tail::{Fingerprint, Lineage};

/// How much is looked through at a time.
const STEP_BYTES: usize = 256 * 1024;

/// The bytes of the output since it was synced last whose incarnation isn't held any more. `sources`: by rung.
fn without_source<O: Os>(ladder: &Ladder, sources: &[Option<Source>], lineage: &Lineage<O>) -> Option<(Place, Place)> {
    let synced = ladder.rungs.iter().rposition(|rung| rung.synced).unwrap_or(0);
    let since: &[Rung] = ladder.rungs.get(synced..)?;
    let is_gone = |head: Fingerprint| lineage.generations().all(|held| held.head != Some(head));
    let gone = since.iter().find(|rung| rung.head.is_some_and(is_gone))?;
    let found = sources.iter().skip(synced).position(Option::is_some);
    let end = found.map_or(ladder.newest()?.place, |ix| since[ix].place);
    (gone.place < end).then_some((since[0].place, end))
}

/// Whether an output lacks some of these bytes: it ends before, or has zeros there.
fn is_damaged<O: Os>(os: &O, at: &OutputAt, output: &Output<O>, (from, to): (Place, Place)) -> io::Result<bool> {
    if !is_reachable(os, output, from)? || !is_reachable(os, output, to)? {
        return Ok(true);
    }
    let Some(mut existing) = Existing::open(os, &at.path, output.place().segment, from, Some(to))? else {
        return Ok(true);
    };
    loop {
        let text = existing.peek(STEP_BYTES)?;
        if text.is_empty() || text.contains(&0) {
            return Ok(!text.is_empty());
        }
        let n_bytes = text.len();
        existing.consume(n_bytes);
    }
}

/// The entry of the ledger, when there is something to tell. `loss`: of the container.
pub(super) fn note_unsynced<O: Os>(
    turn: &mut Turn<'_, O>,
    at: &OutputAt,
    output: &Output<O>,
    ladder: &Ladder,
    sources: &[Option<Source>],
    lineage: &Lineage<O>,
    loss: impl FnOnce(&Turn<'_, O>, Reason) -> Loss,
) -> io::Result<()> {
    let Some(range) = without_source(ladder, sources, lineage) else { return Ok(()) };
    if !is_damaged(turn.os, at, output, range)? {
        return Ok(());
    }
    let mut loss = loss(turn, Reason::OutputDamaged);
    let (from, to) = range;
    (loss.start, loss.end) = (Some(from.offset), (from.segment == to.segment).then_some(to.offset));
    loss.detail = "the power went before this was on the disk, and the log it came from is gone".to_owned();
    turn.losses.push(loss);
    Ok(())
}
