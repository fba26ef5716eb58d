//! Keeps the agent's own log short: each cause is said once for a container, then counted, then said to be over.

use std::collections::HashMap;
use std::time::Duration;

/// Beyond so many (cause, container) pairs a new one isn't said.
pub const SAID_MAX: usize = 4_096;
/// A cause that goes on is said again after so long, with how often it came since.
pub const SAY_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Remembers what was said. Times are of one monotonic clock.
#[derive(Debug, Default)]
pub struct Said {
    /// At most [`SAID_MAX`] in all.
    containers: HashMap<String, Vec<Entry>>,
    n_entries: usize,
    /// Occurrences for which there was no room.
    unsaid: u64,
}

#[derive(Debug)]
struct Entry {
    cause: &'static str,
    said_at: Duration,
    /// Since it was last said.
    n_suppressed: u64,
    /// Since it was first said.
    n_suppressed_all: u64,
}

impl Said {
    pub fn new() -> Said {
        Said::default()
    }

    /// `Some` when it should be said now: with how often it was suppressed since the last time. The container may be
    /// empty, for a cause that has none.
    pub fn say(&mut self, cause: &'static str, container: &str, now: Duration) -> Option<u64> {
        if let Some(entry) =
            self.containers.get_mut(container).and_then(|entries| entries.iter_mut().find(|entry| entry.cause == cause))
        {
            if now.saturating_sub(entry.said_at) >= SAY_AGAIN_AFTER {
                entry.said_at = now;
                return Some(std::mem::take(&mut entry.n_suppressed));
            }
            entry.n_suppressed += 1;
            entry.n_suppressed_all += 1;
            return None;
        }
        if self.n_entries == SAID_MAX {
            self.unsaid += 1;
            return None;
        }
        let entry = Entry { cause, said_at: now, n_suppressed: 0, n_suppressed_all: 0 };
        self.containers.entry(container.to_owned()).or_default().push(entry);
        self.n_entries += 1;
        Some(0)
    }

    /// The cause is gone. `Some` when it had been said: with how often it was suppressed in all.
    pub fn healed(&mut self, cause: &'static str, container: &str) -> Option<u64> {
        let entries = self.containers.get_mut(container)?;
        let ix = entries.iter().position(|entry| entry.cause == cause)?;
        let entry = entries.swap_remove(ix);
        if entries.is_empty() {
            self.containers.remove(container);
        }
        self.n_entries -= 1;
        Some(entry.n_suppressed_all)
    }

    /// The container is gone, and its troubles with it.
    pub fn forget(&mut self, container: &str) {
        if let Some(entries) = self.containers.remove(container) {
            self.n_entries -= entries.len();
        }
    }

    /// Occurrences that were never said because too much else was, since the last call.
    pub fn take_unsaid(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn once_then_counted_then_healed() {
        let mut said = Said::new();
        assert_eq!(said.say("disk full", "aa", NOW), Some(0));
        assert_eq!(said.say("disk full", "aa", NOW), None);
        assert_eq!(said.say("disk full", "aa", NOW), None);
        assert_eq!(said.say("disk full", "bb", NOW), Some(0), "another container");
        assert_eq!(said.say("unreadable", "aa", NOW), Some(0), "another cause");
        assert_eq!(said.healed("disk full", "aa"), Some(2));
        assert_eq!(said.healed("disk full", "aa"), None);
        assert_eq!(said.say("disk full", "aa", NOW), Some(0), "it came back");
    }

    #[test]
    fn what_goes_on_is_said_again() {
        let mut said = Said::new();
        said.say("torn", "aa", NOW);
        said.say("torn", "aa", NOW);
        assert_eq!(said.say("torn", "aa", NOW + SAY_AGAIN_AFTER), Some(1));
        assert_eq!(said.say("torn", "aa", NOW + SAY_AGAIN_AFTER), None);
        assert_eq!(said.healed("torn", "aa"), Some(2));
    }

    #[test]
    fn memory_is_bounded() {
        let mut said = Said::new();
        for ix in 0..SAID_MAX {
            assert_eq!(said.say("torn", &ix.to_string(), NOW), Some(0));
        }
        assert_eq!(said.say("torn", "more", NOW), None);
        assert_eq!(said.say("torn", "0", NOW), None);
        assert_eq!(said.take_unsaid(), 1);
        said.forget("0");
        said.forget("0");
        assert_eq!(said.say("torn", "more", NOW), Some(0));
        assert_eq!(said.n_entries, SAID_MAX);
        assert!(said.take_unsaid() == 0 && said.healed("torn", "1") == Some(0));
    }
}
