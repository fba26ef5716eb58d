//! How fast a container writes, and since when its reader has been behind.

use std::time::Duration;

use crate::config::limits::UNWATCHED_PERIOD;

/// Weight of the newest sample in the rate: a burst shows at once and fades within some seconds.
const NEWEST: f64 = 0.4;
/// How often the rate is asked for.
const SAMPLE_PERIOD: Duration = UNWATCHED_PERIOD;
/// Below this a rate is rest of an old burst.
const BYTES_PER_SECOND_MIN: f64 = 1.0;

#[derive(Clone, Debug)]
pub(super) struct Pace {
    bytes: u64,
    sampled_bytes: u64,
    sampled_at: Duration,
    rate: f64,
    behind_since: Option<Duration>,
}

impl Pace {
    pub fn new(now: Duration) -> Pace {
        Pace { bytes: 0, sampled_bytes: 0, sampled_at: now, rate: 0.0, behind_since: None }
    }

    /// So many bytes came from the log.
    pub fn read(&mut self, bytes: u64, now: Duration) {
        if self.rate == 0.0 && self.bytes == self.sampled_bytes {
            // Nothing was sampled while it rested.
            self.sampled_at = self.sampled_at.max(now.saturating_sub(SAMPLE_PERIOD));
        }
        self.bytes += bytes;
    }

    /// All that came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A turn ended: with nothing left, or not.
    pub fn went(&mut self, caught_up: bool, now: Duration) {
        self.behind_since = if caught_up { None } else { self.behind_since.or(Some(now)) };
    }

    /// Every `SAMPLE_PERIOD` while there is a rate.
    pub fn sample(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.sampled_at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let newest = (self.bytes - self.sampled_bytes) as f64 / seconds;
        let rate = self.rate + NEWEST * (newest - self.rate);
        self.rate = if rate < BYTES_PER_SECOND_MIN { 0.0 } else { rate };
        self.sampled_bytes = self.bytes;
        self.sampled_at = now;
    }

    pub fn bytes_per_second(&self) -> f64 {
        self.rate
    }

    pub fn behind(&self, now: Duration) -> Duration {
        self.behind_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_comes_near_and_fades_to_nothing() {
        let mut pace = Pace::new(Duration::ZERO);
        for second in 1..=10 {
            pace.read(1000, Duration::from_secs(second));
            pace.sample(Duration::from_secs(second));
        }
        assert!((950.0..=1000.0).contains(&pace.bytes_per_second()), "{}", pace.bytes_per_second());
        pace.sample(Duration::from_secs(10));
        assert!(pace.bytes_per_second() > 900.0, "no time, no sample");
        (11..40).for_each(|second| pace.sample(Duration::from_secs(second)));
        assert_eq!(pace.bytes_per_second(), 0.0);
    }

    #[test]
    fn a_rest_that_was_not_sampled_does_not_lower_the_rate() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.read(1000, Duration::from_secs(3600));
        pace.sample(Duration::from_secs(3600) + Duration::from_millis(1));
        assert!((390.0..=400.0).contains(&pace.bytes_per_second()), "{}", pace.bytes_per_second());
    }

    #[test]
    fn behind_is_counted_from_the_first_turn_that_left_something() {
        let at = Duration::from_secs;
        let mut pace = Pace::new(at(0));
        assert_eq!(pace.behind(at(9)), at(0));
        pace.went(false, at(10));
        pace.went(false, at(12));
        assert_eq!(pace.behind(at(15)), at(5));
        pace.went(true, at(16));
        assert_eq!(pace.behind(at(17)), at(0));
    }
}
