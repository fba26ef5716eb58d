//! What there is, as the gauges show it. Kept by whoever is served: to walk through thousands of containers that rest, once
//! a second, would cost more than all else an idle agent does.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::agent::{Agent, Slot};
use crate::checkpoint::commit::Committer;
use crate::config::limits::{QUANTUM_BYTES, QUANTUM_BYTES_SHORT, UNWRITTEN_BYTES_MAX};
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::telemetry::Standing;

/// The containers that are more than there, and what all together count for.
#[derive(Default)]
pub(super) struct Busy {
    total: Counted,
    /// They hold several incarnations, or are removed: bytes of deleted files may be among them.
    pub holding: BTreeSet<usize>,
    /// Something of theirs failed and has not healed.
    pub troubled: BTreeSet<usize>,
    /// Bytes came from them lately.
    pub paced: BTreeSet<usize>,
}

/// What a container counts for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    containers: i64,
    files_open: i64,
    files_tracked: i64,
    open_lines: i64,
    unwritten_bytes: i64,
}

impl Busy {
    /// How much the next turn may gather. What an output doesn't take, on a disk that is full for instance, stays in memory:
    /// beyond a sum others go on in small steps.
    pub fn quantum_bytes(&self) -> usize {
        if self.total.unwritten_bytes < UNWRITTEN_BYTES_MAX as i64 { QUANTUM_BYTES } else { QUANTUM_BYTES_SHORT }
    }

    fn change(&mut self, before: Counted, after: Counted) {
        self.total.containers += after.containers - before.containers;
        self.total.files_open += after.files_open - before.files_open;
        self.total.files_tracked += after.files_tracked - before.files_tracked;
        self.total.open_lines += after.open_lines - before.open_lines;
        self.total.unwritten_bytes += after.unwritten_bytes - before.unwritten_bytes;
    }

    /// One is gone.
    pub fn forget(&mut self, ix: usize, counted: Counted) {
        self.change(counted, Counted::default());
        for set in [&mut self.holding, &mut self.troubled, &mut self.paced] {
            set.remove(&ix);
        }
    }
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// After anything was done with it.
    pub(super) fn recount(&mut self, ix: usize) {
        let Some(slot) = self.slots.get_mut(&ix) else {
            return;
        };
        let followed = i64::from(slot.selected && !slot.leaving);
        let n_files = slot.container.lineage.len() as i64;
        let counted = Counted {
            containers: followed,
            files_open: n_files,
            files_tracked: followed * n_files.min(1),
            open_lines: followed * slot.container.open_lines() as i64,
            unwritten_bytes: slot.container.unwritten_bytes() as i64,
        };
        self.busy.change(std::mem::replace(&mut slot.counted, counted), counted);
        if n_files > 1 || slot.container.removed {
            self.busy.holding.insert(ix);
        } else {
            self.busy.holding.remove(&ix);
        }
    }

    /// About once a second.
    pub(super) fn sample_paces(&mut self, now: Duration) {
        self.busy.paced.retain(|ix| {
            self.slots.get_mut(ix).is_some_and(|slot| {
                slot.pace.sample(now);
                slot.pace.bytes_per_second() > 0.0
            })
        });
    }

    /// Logs that are neither hot nor in trouble have nothing unread.
    pub(super) fn gauge(&self, now: Duration) {
        let (mut lag, mut lag_max, mut age) = (0, 0, Duration::ZERO);
        for slot in self.hot.union(&self.busy.troubled).filter_map(|ix| self.slots.get(ix)) {
            let bytes = slot.container.lineage.lag_bytes(&self.os);
            lag += bytes;
            lag_max = lag_max.max(bytes);
            if bytes > 0 {
                age = age.max(slot.pace.behind(now));
            }
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.counters.read_lag_bytes.set(gauge(lag));
        self.counters.read_lag_max_bytes.set(gauge(lag_max));
        self.counters.oldest_unread_age_seconds.set(age.as_secs_f64());
        let total = self.busy.total;
        self.counters.containers.set(total.containers);
        self.counters.files_open.set(total.files_open);
        self.counters.files_tracked.set(total.files_tracked);
        self.counters.open_lines.set(total.open_lines);
        if self.config.container_metrics {
            let followed = self.slots.values().filter(|slot| slot.selected && !slot.leaving);
            self.counters
                .by_container
                .set(followed.map(|slot| (slot.container.facts.metadata.name.as_str(), self.standing(slot, now))));
        }
    }

    fn standing(&self, slot: &Slot<O>, now: Duration) -> Standing {
        let container = &slot.container;
        let lag_bytes = container.lineage.lag_bytes(&self.os);
        Standing {
            bytes_read: slot.pace.bytes(),
            lag_bytes,
            unread_age_seconds: if lag_bytes == 0 { 0.0 } else { slot.pace.behind(now).as_secs_f64() },
            held_bytes: container.lineage.held_bytes(&self.os),
            open_lines: container.open_lines() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_short_while_outputs_take_nothing() {
        let mut busy = Busy::default();
        let holds = |unwritten_bytes| Counted { unwritten_bytes, ..Counted::default() };
        let half = UNWRITTEN_BYTES_MAX as i64 / 2;
        busy.change(Counted::default(), holds(half));
        busy.change(Counted::default(), holds(half - 1));
        assert_eq!(busy.quantum_bytes(), QUANTUM_BYTES);
        busy.change(holds(half - 1), holds(half));
        assert_eq!(busy.quantum_bytes(), QUANTUM_BYTES_SHORT);
        busy.forget(7, holds(half));
        assert_eq!(busy.quantum_bytes(), QUANTUM_BYTES);
    }
}
