//! A container's log, opened for a sink: what is in its directory, what is in the spool, and where to go on.

use std::io;
use std::time::Duration;

use crate::checkpoint::commit::Committer;
use crate::config::From;
use crate::forward::cursor::Found;
use crate::forward::rows::SpoolRow;
use crate::forward::{Forwarder, Transport};
use crate::loss::Reason;
use crate::sink::delivery::LaneId;
use crate::sys::Os;
use crate::tail::{Fingerprint, Generation, Lineage, Spooled};

impl<O: Os, C: Committer<O>, T: Transport> Forwarder<O, C, T> {
    /// False: there is no log yet.
    pub(super) fn open(&mut self, lane: LaneId, now: Duration) -> io::Result<bool> {
        let os = self.parts.os.clone();
        let slot = self.slots.get_mut(&lane).expect("it is served");
        let copies = self.spool.found(&os, slot.id());
        let has_copies = !copies.is_empty();
        let drained = slot.row.as_ref().map_or(&[][..], |row| &row.drained);
        let is_apart = open_all(&os, &mut slot.cursor.lineage, copies, drained)?;
        if slot.cursor.lineage.is_empty() && slot.row.is_none() {
            slot.first = false; // Its log begins after the sink did.
            return Ok(false);
        }
        let found = match slot.row.clone() {
            Some(row) => {
                slot.cursor.lineage.remember_drained(&row.drained);
                let decisions = self.restoring.iter().flat_map(|restoring| restoring.decisions(&row.id));
                let decisions: Vec<_> = row.decisions.iter().copied().chain(decisions).collect();
                // What a power loss took of the log may have been delivered: what stands there now is sent, too.
                slot.mark = row.mark.filter(|_| row.boot == self.boot);
                slot.cursor.resume(&os, &row.resume, row.delivered, slot.mark, decisions)?
            }
            None => {
                if slot.first && self.parts.settings.from == From::End && !has_copies {
                    slot.cursor.lineage.begin_at_end(&os)?;
                }
                Found::Same
            }
        };
        slot.opened = true;
        slot.is_whole = found == Found::Same;
        slot.moved_at = now;
        slot.cursor.opened_at(now);
        slot.pushed = slot.delivered;
        self.delivery.open_lane(lane, slot.delivered);
        self.dirty.insert(lane);
        if found == Found::Gap || is_apart {
            let why = "the log went on in incarnations that were gone before they could be read";
            let loss = self.loss(lane, Reason::RotatedAway, why);
            self.losses.push(loss);
        }
        Ok(true)
    }
}

/// What stands in the directory, and the copies before it. True if something is missing between them.
fn open_all<O: Os>(
    os: &O,
    lineage: &mut Lineage<O>,
    copies: Vec<(Spooled<O>, SpoolRow)>,
    drained: &[Fingerprint],
) -> io::Result<bool> {
    lineage.look(os)?;
    let mut heads = Vec::new();
    for held in lineage.generations_mut().filter(|held| held.spool_number().is_none()) {
        heads.push(held.learn_head(os)?);
    }
    let copied: Vec<_> = copies.iter().map(|(copy, _)| copy.extent.head).collect();
    let next = copies.last().map(|(_, row)| row.next);
    if lineage.len() == heads.len() {
        insert(os, lineage, &heads, copies, drained)?;
    } // Else a try before this one did.
    Ok(match next {
        None => false,
        Some(Some(next)) => !heads.contains(&Some(next)),
        // Nothing stood behind the newest copy, or nothing that could be known again.
        Some(None) => heads.iter().any(|head| head.is_some() && !copied.contains(head)),
    })
}

/// Nothing is changed before everything is known. A power loss may have brought originals back: they go on where their
/// copies end, for the engine may write to one of them again.
fn insert<O: Os>(
    os: &O,
    lineage: &mut Lineage<O>,
    heads: &[Option<Fingerprint>],
    copies: Vec<(Spooled<O>, SpoolRow)>,
    drained: &[Fingerprint],
) -> io::Result<()> {
    let mut whole = Vec::new();
    for (mut copy, _) in copies {
        let original_ix = heads.iter().position(|head| head.is_some() && *head == copy.extent.head);
        if original_ix.is_some() && !copy.is_whole()? {
            continue; // It is all there; what the copy lacks isn't.
        }
        if let Some(original) = original_ix.and_then(|ix| lineage.generations_mut().nth(ix)) {
            let offset = original.common_with(os, &mut copy)?;
            original.go_on_at(offset);
        }
        copy.close();
        whole.push(copy);
    }
    // What an earlier life had read to its end comes before them, should it be there again. The newest is written to.
    let is_over = |head: &&Option<Fingerprint>| {
        head.is_some_and(|head| drained.contains(&head) && whole.iter().all(|copy| copy.extent.head != Some(head)))
    };
    let from = heads.iter().take(heads.len().saturating_sub(1)).take_while(is_over).count();
    for (ix, copy) in whole.into_iter().enumerate() {
        lineage.insert(from + ix, Generation::of_spooled(copy));
    }
    Ok(())
}
