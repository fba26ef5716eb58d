//! When a log is looked at again. Under load we poll, at rest we sleep: a watch on a busy log delivers an event per
//! write and slows the writer down, an unwatched idle one costs a look every second.

use std::time::Duration;

use crate::config::limits::{
    BULK_LOOK_BYTES, POLL_MAX, POLL_MAX_STEADY, POLL_MIN, POLL_PER_HOT, STEADY_FILE_BYTES, STEADY_PART, SWEEP_PERIOD,
    UNWATCHED_PERIOD,
};

/// A log without news for so long is idle and gets a watch.
const COOLS_AFTER: Duration = Duration::from_secs(1);
/// Hints that brought bytes within this time, so many of them, make a watched log hot.
const HEATS_WITHIN: Duration = Duration::from_secs(1);
const HEATS_AFTER_HINTS: u32 = 8;

/// One log's recent past.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    pub watched: bool,
    /// A watch was refused then: it is not asked for again before the next sweep.
    pub refused_at: Option<Duration>,
    grown_at: Duration,
    hinted_since: Duration,
    n_hinted: u32,
    flow: Flow,
    /// The last look found bytes.
    brought: bool,
}

/// How a hot log comes: it says how long it may be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It may be rotated at any moment, more than once between two looks.
    Unknown,
    Steady,
    Bulk,
}

impl Flow {
    fn of(look_bytes: u64, file_bytes: u64) -> Flow {
        if file_bytes < STEADY_FILE_BYTES || look_bytes > file_bytes / STEADY_PART {
            Flow::Unknown
        } else if look_bytes < BULK_LOOK_BYTES {
            Flow::Steady
        } else {
            Flow::Bulk
        }
    }

    fn pause(self, n_hot: usize) -> Duration {
        let (min, max) = match self {
            Flow::Unknown => (POLL_MIN, POLL_MAX),
            Flow::Steady => (POLL_MIN, POLL_MAX_STEADY),
            Flow::Bulk => (POLL_MAX_STEADY, POLL_MAX_STEADY),
        };
        POLL_PER_HOT.saturating_mul(u32::try_from(n_hot).unwrap_or(u32::MAX)).clamp(min, max)
    }
}

/// What to do about the watch of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchChange {
    Keep,
    Arm,
    Disarm,
}

impl Activity {
    pub fn new(now: Duration) -> Activity {
        Activity {
            watched: false,
            refused_at: None,
            grown_at: now,
            hinted_since: now,
            n_hinted: 0,
            flow: Flow::Unknown,
            brought: false,
        }
    }

    pub fn is_hot(&self, now: Duration) -> bool {
        !self.watched && now < self.grown_at + COOLS_AFTER
    }

    /// Bytes came.
    pub fn grew(&mut self, now: Duration) -> WatchChange {
        self.grown_at = now;
        if !self.watched {
            return WatchChange::Keep;
        }
        if now > self.hinted_since + HEATS_WITHIN {
            self.hinted_since = now;
            self.n_hinted = 0;
        }
        self.n_hinted += 1;
        if self.n_hinted >= HEATS_AFTER_HINTS { WatchChange::Disarm } else { WatchChange::Keep }
    }

    /// What the last look brought, and how much of the file is read.
    pub fn brought(&mut self, bytes: u64, file_bytes: u64) {
        self.flow = Flow::of(bytes, file_bytes);
        self.brought = bytes > 0;
    }

    /// Whether the next look may leave to the one after it what comes meanwhile.
    pub fn is_steady(&self, now: Duration) -> bool {
        self.is_hot(now) && self.brought && self.flow != Flow::Unknown
    }

    /// No bytes came.
    pub fn rested(&self, now: Duration) -> WatchChange {
        let cold = now >= self.grown_at + COOLS_AFTER;
        let refused = self.refused_at.is_some_and(|at| now < at + SWEEP_PERIOD);
        if cold && !self.watched && !refused { WatchChange::Arm } else { WatchChange::Keep }
    }

    /// How long until the next look when nothing hints at it.
    pub fn pause(&self, now: Duration, n_hot: usize) -> Duration {
        if self.is_hot(now) {
            return self.flow.pause(n_hot);
        }
        if self.watched { SWEEP_PERIOD } else { UNWATCHED_PERIOD }
    }
}

/// Looks fall on ticks of `POLL_MIN`, so that many hot logs share a wake-up. Later than any moment that is `POLL_MIN` before.
pub fn tick(due: Duration) -> Duration {
    let since = due.as_nanos() % POLL_MIN.as_nanos();
    due - Duration::from_nanos(since as u64)
}

/// How long to leave alone what failed: doubling, from `RETRY_MIN` to `RETRY_MAX`.
pub fn retry_pause(n_failures: u32) -> Duration {
    use crate::config::limits::{RETRY_MAX, RETRY_MIN};
    RETRY_MIN.saturating_mul(1 << n_failures.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_cools_down_to_a_watch_and_heats_up_to_polling() {
        let at = Duration::from_millis;
        let mut activity = Activity::new(at(0));
        assert_eq!(activity.pause(at(10), 1), POLL_MIN);
        assert_eq!(activity.pause(at(10), 1000), POLL_MAX);
        assert_eq!(activity.rested(at(999)), WatchChange::Keep);
        assert_eq!(activity.rested(at(1000)), WatchChange::Arm);
        activity.watched = true;
        assert_eq!(activity.pause(at(1001), 1), SWEEP_PERIOD);
        for n in 0..7 {
            assert_eq!(activity.grew(at(2000 + n)), WatchChange::Keep);
        }
        assert_eq!(activity.grew(at(2010)), WatchChange::Disarm);
        assert_eq!(activity.grew(at(9000)), WatchChange::Keep, "one line now and then keeps its watch");
    }

    #[test]
    fn a_steady_log_is_looked_at_less_often_than_one_that_may_be_rotated_soon() {
        let pauses = |look_bytes, file_bytes| {
            let mut activity = Activity::new(Duration::ZERO);
            activity.brought(look_bytes, file_bytes);
            (activity.pause(Duration::ZERO, 1), activity.pause(Duration::ZERO, 1000))
        };
        assert_eq!(pauses(1, STEADY_FILE_BYTES - 1), (POLL_MIN, POLL_MAX));
        assert_eq!(pauses(1, STEADY_FILE_BYTES), (POLL_MIN, POLL_MAX_STEADY));
        let steady = 1024 * 1024;
        assert_eq!(pauses(BULK_LOOK_BYTES - 1, steady), (POLL_MIN, POLL_MAX_STEADY));
        assert_eq!(pauses(BULK_LOOK_BYTES, steady), (POLL_MAX_STEADY, POLL_MAX_STEADY));
        assert_eq!(pauses(steady / STEADY_PART, steady), (POLL_MAX_STEADY, POLL_MAX_STEADY));
        assert_eq!(
            pauses(steady / STEADY_PART + 1, steady),
            (POLL_MIN, POLL_MAX),
            "rotated again within four such looks"
        );
        assert_eq!(pauses(steady, 100 * steady), (POLL_MAX_STEADY, POLL_MAX_STEADY), "a large file is rotated seldom");
    }

    #[test]
    fn only_what_grew_at_the_last_look_too_is_steady() {
        let at = Duration::from_secs;
        let steady_after = |look_bytes, file_bytes, now| {
            let mut activity = Activity::new(at(0));
            activity.brought(look_bytes, file_bytes);
            activity.is_steady(now)
        };
        let file_bytes = STEADY_FILE_BYTES;
        assert!(!Activity::new(at(0)).is_steady(at(0)));
        assert!(steady_after(file_bytes / STEADY_PART, file_bytes, at(0)));
        assert!(!steady_after(file_bytes / STEADY_PART + 1, file_bytes, at(0)));
        assert!(!steady_after(1, file_bytes - 1, at(0)));
        assert!(!steady_after(0, file_bytes, at(0)));
        assert!(!steady_after(1, file_bytes, at(2)));
    }

    #[test]
    fn looks_share_ticks_and_are_never_put_off() {
        for at in [0, 1, 3_999_999, 4_000_000, 4_000_001, 123_456_789] {
            let now = Duration::from_nanos(at);
            let next = tick(now + POLL_MIN);
            assert!(now < next && next <= now + POLL_MIN, "{now:?} {next:?}");
            assert_eq!(next.as_nanos() % POLL_MIN.as_nanos(), 0);
        }
    }

    #[test]
    fn retries_double_up_to_a_bound() {
        assert_eq!(retry_pause(0), Duration::from_millis(100));
        assert_eq!(retry_pause(3), Duration::from_millis(800));
        assert_eq!(retry_pause(u32::MAX), Duration::from_secs(10));
    }
}
