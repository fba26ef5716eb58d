//! Longshore: every line of every container into rotating files, exactly once.
//!
//! The modules in the order the data takes:

/// What is done for each line: a package of its own, for it is compiled for speed.
pub use longshore_line::{assemble, batch, decode, filter, format, hash, pipe, shape};

/// The loop that drives it all.
pub mod agent;
/// What outlives the process.
pub mod checkpoint;
/// What was typed, and how the program ends.
pub mod cli;
/// What will be done: resolved and validated, with every bound and its reason.
pub mod config;
/// Which logs exist, and whose they are.
pub mod discover;
/// Sinks beside the files, each with a reader and a memory of its own.
pub mod forward;
/// What could not be delivered.
pub mod loss;
/// Maps and sets that need no sort to be filled.
mod ordered;
/// The same agent on a machine that fails on command.
#[cfg(test)]
mod sim;
/// Rotating files, and where they agree with their source.
pub mod sink;
/// The machine behind one trait.
pub mod sys;
/// One log through all its incarnations.
pub mod tail;
/// Counters, and who may see them.
pub mod telemetry;
/// The audit: renders again what the engine has, and compares.
pub mod verify;
