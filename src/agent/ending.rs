//! When there is nothing left to do: for a backfill that read everything, for a drain, for one that was interrupted.

use std::time::Duration;

use crate::agent::{Agent, BACKFILL_TRIES, Mode, Slot};
use crate::checkpoint::commit::Committer;
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Whether everything is read, written and committed, as far as it can be.
    pub fn is_done(&self) -> bool {
        self.first_listing_seen
            && self.wanting.is_empty()
            && self.committer.is_idle()
            && self.retry_of_commits_is_over()
            && !self.awaits_names()
            && self.slots.values().all(|slot| self.slot_is_done(slot))
    }

    /// A backfill waits a moment for what couldn't be read.
    fn awaits_names(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(5);
        let now = self.os.monotonic();
        self.mode == Mode::Backfill && !self.stopping && self.awaited.values().any(|since| now < *since + PATIENCE)
    }

    fn slot_is_done(&self, slot: &Slot<O>) -> bool {
        if !slot.selected && !slot.container.is_open() {
            return true;
        }
        if self.gave_up(slot) {
            return slot.container.is_committed() || slot.container.is_given_up();
        }
        if self.stopping && self.mode == Mode::Backfill {
            return slot.container.is_committed(); // Interrupted: a second run goes on from here.
        }
        let container = &slot.container;
        if container.is_released() {
            // It left its output with everything in it, and comes back only for news.
            return container.is_committed() && !slot.leaving && !container.has_unread(&self.os, self.os.monotonic());
        }
        let quiet = match self.mode {
            Mode::Run => slot.quiet_since_stop,
            Mode::Backfill => container.is_drained() || container.has_later() && container.is_drained_so_far(),
        };
        let open_line = self.mode == Mode::Backfill
            && container.has_open_line()
            && !container.facts.running
            && !container.has_later();
        let unopened = !container.is_open() && container.lineage.is_empty();
        unopened || quiet && !open_line && container.is_committed() && !slot.leaving
    }

    /// A backfill tries a few times, then goes on without.
    fn gave_up(&self, slot: &Slot<O>) -> bool {
        self.mode == Mode::Backfill && slot.n_failures >= BACKFILL_TRIES || self.stopping && slot.trouble.is_some()
    }

    /// A backfill whose state store can't be written ends all the same, and says so.
    fn retry_of_commits_is_over(&self) -> bool {
        self.n_commit_failures == 0 || self.mode == Mode::Backfill && self.n_commit_failures >= BACKFILL_TRIES
    }

    /// What could not be read or written, by container name.
    pub fn troubles(&self) -> Vec<(String, String)> {
        let troubled = self.slots.values().filter_map(|slot| Some((slot, slot.trouble.as_ref()?)));
        let named = troubled.map(|(slot, trouble)| (slot.container.facts.metadata.name.clone(), trouble.to_string()));
        let store = (self.n_commit_failures > 0).then(|| ("state store".to_owned(), "cannot commit".to_owned()));
        let nameless = self.awaited.keys().filter(|_| self.mode == Mode::Backfill);
        let nameless = nameless.map(|id| (id.clone(), "cannot read its config.v2.json".to_owned()));
        named.chain(store).chain(nameless).collect()
    }

    /// Bytes that are still to be read, for a progress bar.
    pub fn lag_bytes(&self) -> u64 {
        self.slots.values().filter(|slot| slot.selected).map(|slot| slot.container.lineage.lag_bytes(&self.os)).sum()
    }
}
