//! Deleted logs that are held open because they are not read yet: how much of the disk they may keep.

use std::time::Duration;

use crate::agent::Agent;
use crate::checkpoint::commit::Committer;
use crate::config::limits::{GENERATIONS_HELD_MAX, UNWATCHED_PERIOD};
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Lets go of what deleted logs hold on the disk, above the budget: the noisiest first.
    pub(super) fn shed_held(&mut self, now: Duration) {
        if now < self.held_looked_at + UNWATCHED_PERIOD {
            return;
        }
        self.held_looked_at = now;
        self.sample_paces(now);
        self.gauge(now);
        let total = self.os.space(&self.config.places.containers_dir).map_or(u64::MAX, |space| space.total);
        let budget = self.config.held_max(total);
        let mut held: Vec<(u64, usize)> = Vec::new();
        let mut too_many: Vec<(usize, usize)> = Vec::new();
        for ix in &self.busy.holding {
            let lineage = &self.slots[ix].container.lineage;
            let n_over = lineage.len().saturating_sub(GENERATIONS_HELD_MAX);
            if n_over > 0 {
                too_many.push((*ix, n_over));
            }
            held.push((lineage.held_bytes(&self.os), *ix));
        }
        let mut sum: u64 = held.iter().map(|(bytes, _)| bytes).sum();
        self.counters.held_bytes.set(i64::try_from(sum).unwrap_or(i64::MAX));
        while sum > budget {
            let Some((noisiest_ix, (_, ix))) = held.iter().copied().enumerate().max_by_key(|(_, held)| *held) else {
                break;
            };
            let Some(freed) = self.shed(ix, now).filter(|freed| *freed > 0) else {
                held.swap_remove(noisiest_ix); // It can't let go now; others can.
                continue;
            };
            held[noisiest_ix].0 = held[noisiest_ix].0.saturating_sub(freed);
            sum = sum.saturating_sub(freed);
        }
        // One log must not take the descriptors that the others need.
        for (ix, n_over) in too_many {
            for _ in 0..n_over {
                if self.shed(ix, now).is_none() {
                    break;
                }
            }
        }
    }

    /// Lets a container's oldest deleted incarnation go. The bytes it held; `None` if it can't let go of any now.
    fn shed(&mut self, ix: usize, now: Duration) -> Option<u64> {
        let (freed, losses) = self.slots.get_mut(&ix)?.container.shed(&self.os);
        if losses.is_empty() {
            return None;
        }
        self.take_losses(ix, losses);
        self.wanting.insert(ix);
        self.reschedule(ix, now);
        Some(freed)
    }
}
