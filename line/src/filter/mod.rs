//! Decides by its time whether a record is delivered now, never, or in a later run; and by its text whether at all.

mod redact;
mod text;

pub use redact::{Builtin, PATTERN, Redacted, Redaction, Redactor};
pub use text::{Pattern, TextFilter};

/// A window of time, in nanoseconds since the Unix epoch: `since` belongs to it, `until` doesn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeFilter {
    pub since_ns: Option<i128>,
    pub until_ns: Option<i128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Before the window: decided, counted, never delivered.
    Filtered,
    /// At or after the window's end: left for a later run. Nothing after it in this container may be delivered now,
    /// or the order of the file would be lost.
    Later,
}

impl TimeFilter {
    pub fn verdict(&self, time_ns: i128) -> Verdict {
        // The end first: what a window can't contain is left, never thrown away.
        if self.until_ns.is_some_and(|until| time_ns >= until) {
            return Verdict::Later;
        }
        if self.since_ns.is_some_and(|since| time_ns < since) {
            return Verdict::Filtered;
        }
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(since_ns: Option<i128>, until_ns: Option<i128>, expected: [Verdict; 5]) {
        let filter = TimeFilter { since_ns, until_ns };
        assert_eq!([9, 10, 15, 20, 21].map(|time_ns| filter.verdict(time_ns)), expected, "{filter:?}");
    }

    #[test]
    fn since_is_inside_and_until_outside() {
        use Verdict::*;
        check(None, None, [Pass; 5]);
        check(Some(10), None, [Filtered, Pass, Pass, Pass, Pass]);
        check(None, Some(20), [Pass, Pass, Pass, Later, Later]);
        check(Some(10), Some(20), [Filtered, Pass, Pass, Later, Later]);
        check(Some(20), Some(10), [Filtered, Later, Later, Later, Later]);
    }

    #[test]
    fn times_before_the_epoch_are_times() {
        let filter = TimeFilter { since_ns: Some(-5), until_ns: None };
        assert_eq!(filter.verdict(-6), Verdict::Filtered);
        assert_eq!(filter.verdict(-5), Verdict::Pass);
    }
}
