//! What is done for each line: Docker's JSON into an entry, entries into a record, a record into the operator's bytes. No
//! files, no clock.
//!
//! A package of its own because it alone is compiled for speed; the rest of Longshore is compiled for size (Cargo.toml).

/// Fragments into records.
pub mod assemble;
/// Rendered records on their way.
pub mod batch;
/// One line into one entry.
pub mod decode;
/// Which records pass.
pub mod filter;
/// A record into bytes.
pub mod format;
/// By what bytes are known again.
pub mod hash;
/// All of it, for one container.
pub mod pipe;
/// The settings that decide what becomes of a line.
pub mod shape;
