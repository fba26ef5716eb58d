//! The settings that decide what becomes of a line.

use serde::{Deserialize, Serialize};

use crate::filter::{Redaction, TextFilter};
use crate::format::Formatter;

/// Everything that decides how a source line looks in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub formatter: Formatter,
    /// Longest joined text in bytes.
    pub max_line_bytes: u64,
    /// Records before this time, in nanoseconds since the Unix epoch, are left out.
    pub since_ns: Option<i128>,
    /// Records that don't pass are left out.
    #[serde(default)]
    pub filter: TextFilter,
    /// What is replaced in the text of those that do.
    #[serde(default)]
    pub redaction: Redaction,
}
