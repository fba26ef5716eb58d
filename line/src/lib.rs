//! What is done for each line: Docker's JSON into an entry, a record into the operator's bytes. No files, no clock, no
//! state that outlives a line.
//!
//! A package of its own because it alone is compiled for speed; the rest of Longshore is compiled for size (Cargo.toml).

/// One line into one entry.
pub mod decode;
/// A record into bytes.
pub mod format;
