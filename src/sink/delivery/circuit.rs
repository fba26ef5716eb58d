//! Whether a receiver is worth asking: after failures in a row only one request at a time finds out.

use std::time::Duration;

use super::pace::{Backoff, Dice};

/// Failures in a row that open the circuit.
const OPENS_AFTER: u32 = 5;
/// Longest pause that a receiver may ask for: one that says a day has lost count.
const ASKED_MAX: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests go out.
    Closed,
    /// The receiver is away: one request now and then tries it.
    Open,
    /// The receiver refuses us; somebody has to mend that. Tried now and then as well.
    Held,
}

impl CircuitState {
    pub const ALL: [CircuitState; 3] = [CircuitState::Closed, CircuitState::Open, CircuitState::Held];

    pub fn name(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::Held => "held",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Circuit {
    state: CircuitState,
    n_failures: u32,
    /// Nothing is sent before.
    until: Duration,
    /// What the receiver said last when it didn't accept.
    why: String,
}

impl Default for Circuit {
    fn default() -> Circuit {
        Circuit { state: CircuitState::Closed, n_failures: 0, until: Duration::ZERO, why: String::new() }
    }
}

impl Circuit {
    pub fn state(&self) -> CircuitState {
        self.state
    }

    pub fn why(&self) -> Option<&str> {
        (self.n_failures > 0).then_some(self.why.as_str())
    }

    pub fn until(&self) -> Duration {
        self.until
    }

    pub fn may_send(&self, now: Duration, n_in_flight: usize) -> bool {
        now >= self.until && self.lets_start(n_in_flight)
    }

    /// Whether one more may be under way beside these.
    pub fn lets_start(&self, n_in_flight: usize) -> bool {
        self.state == CircuitState::Closed || n_in_flight == 0
    }

    pub fn accepted(&mut self) {
        // What a receiver asked for by Retry-After still holds: another request's luck doesn't lift it.
        self.state = CircuitState::Closed;
        self.n_failures = 0;
    }

    /// `after`: what the receiver asked for.
    pub fn failed(&mut self, now: Duration, why: String, after: Option<Duration>, backoff: &Backoff, dice: &mut Dice) {
        self.n_failures = self.n_failures.saturating_add(1);
        self.why = why;
        if let Some(after) = after {
            self.until = self.until.max(now + after.min(ASKED_MAX));
        }
        if self.n_failures >= OPENS_AFTER || self.state != CircuitState::Closed {
            self.state = CircuitState::Open;
            self.until = self.until.max(now + backoff.pause(self.n_failures, dice));
        }
    }

    pub fn refused(&mut self, now: Duration, why: String, backoff: &Backoff, dice: &mut Dice) {
        self.n_failures = self.n_failures.saturating_add(1);
        self.why = why;
        self.state = CircuitState::Held;
        self.until = self.until.max(now + backoff.pause(self.n_failures.max(OPENS_AFTER), dice));
    }

    /// Tries at once, whatever was to be waited for.
    pub fn hurry(&mut self, now: Duration) {
        self.until = self.until.min(now);
    }
}
