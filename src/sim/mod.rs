//! The simulator: the same agent on a machine and a container engine that fail on command.
//! Deterministic: whatever happens follows from the seed and the calls made.

pub mod docker;
pub mod oracle;
pub mod os;
pub mod random;
pub mod scenarios;
pub mod seeds;
pub mod world;
