//! The simulator: the same agent on a machine and a container engine that fail on command.
//! Deterministic: whatever happens follows from the seed and the calls made.

#[allow(dead_code, unused_imports, reason = "whole machines: no story needs all of them")]
pub mod docker;
pub mod forward;
pub mod oracle;
#[allow(dead_code, reason = "whole machines: no story needs all of them")]
pub mod os;
pub mod random;
#[cfg(test)]
mod rounds;
pub mod scenarios;
pub mod seeds;
pub mod world;
