//! End to end: the real binary, real files, a real dockerd, and `kill -9`.
//! Equality with what the programs wrote, not bounds. `harness.rs` runs the agent, `docker.rs` the engine.

#![allow(clippy::disallowed_methods, reason = "tests touch the file system, the clock and the environment themselves")]

mod harness;

mod fixture;
mod forward;
mod forward_away;
mod forward_servers;
mod heap;
mod hostile;
mod lost_store;
mod manifest;
mod package;
mod receiver;
mod reference;

mod beginning;
mod config;
mod docker;
mod docs;
mod engine_docs;
mod engine_image;
mod engine_kill;
mod engine_lifecycle;
mod engine_lines;
mod engine_rotation;
mod per_container;
mod reload;
mod scripts;

mod state;
mod verify;
mod verify_gaps;
mod watched;
