//! Where records go: rotating files. An output is a directory entry, a chain of numbered segments before it, and the
//! place where the next byte belongs.

pub mod align;
pub mod delivery;
pub mod existing;
pub mod file;
pub mod http;
pub mod journal;
pub mod pruned;
pub mod registry;
pub mod rolling;
pub mod rotate;
pub mod stash;
pub mod stdout;
pub mod suffix;
pub mod tidy;

use serde::{Deserialize, Serialize};

pub use file::Output;

/// A place in an output: in which segment, at which byte. Total order.
///
/// A segment's number is the one its file gets when it is rotated, so the current file has one too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
}
