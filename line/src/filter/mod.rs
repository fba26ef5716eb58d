//! Decides by its text whether a record is delivered, and what of it.
//! Its time decides as well: that is the pipe's, for a record at the window's end is also where reading ends.

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
