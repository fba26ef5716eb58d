//! When to try again, and how fast to go.

use std::time::Duration;

/// Chance from a seed: two agents that lost the same collector don't come back at the same moment.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Anything up to `most`, which is included.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if ns == u64::MAX { self.draw() } else { self.draw() % (ns + 1) })
    }
}

/// Exponential, with full jitter: the mean doubles with each failure in a row, up to half of `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The pause behind the `n`th failure in a row, counted from 1; never shorter than a tenth of `min`, for a pause of
    /// nothing is no pause.
    pub fn pause(&self, n_failures: u32, dice: &mut Dice) -> Duration {
        let doublings = n_failures.saturating_sub(1).min(30);
        let most = self.min.saturating_mul(1 << doublings).min(self.max);
        dice.up_to(most).max(self.min / 10)
    }
}

/// A bucket that fills at a rate and holds what fills in a second. A batch may overdraw it, or one larger than the
/// bucket would never go.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    pub fn new(per_second: u64, now: Duration) -> Bucket {
        let per_second = per_second.max(1) as f64;
        Bucket { per_second, level: per_second, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.per_second);
        self.at = self.at.max(now);
    }

    /// How long until something may be taken; zero: now.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        if self.level > 0.0 { Duration::ZERO } else { Duration::from_secs_f64((1.0 - self.level) / self.per_second) }
    }

    pub fn take(&mut self, n: u64) {
        self.level -= n as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };

    #[test]
    fn pauses_double_and_are_capped_and_spread() {
        let mut dice = Dice::new(7);
        for n in 1..40 {
            let most = BACKOFF.min.saturating_mul(1 << (n - 1).min(20)).min(BACKOFF.max);
            let pauses: Vec<Duration> = (0..200).map(|_| BACKOFF.pause(n, &mut dice)).collect();
            assert!(pauses.iter().all(|pause| *pause <= most && *pause >= BACKOFF.min / 10));
            let mean = pauses.iter().sum::<Duration>() / 200;
            assert!(mean > most * 4 / 10 && mean < most * 6 / 10, "{n}: {mean:?} of {most:?}");
        }
    }

    #[test]
    fn a_seed_repeats() {
        let draw = |seed| BACKOFF.pause(5, &mut Dice::new(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_bucket_keeps_its_rate_also_when_overdrawn() {
        let mut now = Duration::ZERO;
        let mut bucket = Bucket::new(100, now);
        let mut taken = 0;
        while now < Duration::from_secs(100) {
            let wait = bucket.wait(now);
            now += wait;
            if wait.is_zero() {
                bucket.take(250);
                taken += 250;
            }
        }
        assert!((9_900..=10_600).contains(&taken), "{taken}");
        assert!(bucket.wait(Duration::from_secs(1)) > Duration::ZERO, "a clock read before fills nothing");
    }
}
