//! When each container is looked at next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Slots by the time they are due.
#[derive(Default)]
pub(super) struct Timetable {
    queue: BTreeSet<(Duration, usize)>,
    /// Not in the slot itself: a container at rest is put off without touching what else is known of it.
    due: BTreeMap<usize, Duration>,
}

impl Timetable {
    pub fn set(&mut self, ix: usize, due: Duration) {
        if let Some(before) = self.due.insert(ix, due) {
            self.queue.remove(&(before, ix));
        }
        self.queue.insert((due, ix));
    }

    pub fn remove(&mut self, ix: usize) {
        if let Some(due) = self.due.remove(&ix) {
            self.queue.remove(&(due, ix));
        }
    }

    /// The earliest time at which any is due.
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Takes out all that are due by `now`, the most overdue first. Each is to be `set` again.
    pub fn take(&mut self, now: Duration) -> Vec<usize> {
        let due = self.queue.range(..=(now, usize::MAX)).map(|(_, ix)| *ix).collect();
        self.queue = self.queue.split_off(&(now, usize::MAX));
        due
    }
}
