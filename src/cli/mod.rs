//! What was typed, and how we end. What it means stands in `config`.

pub mod connect;
pub mod exit;
pub mod flags;
pub mod forward_flags;
pub mod healthcheck;
pub mod layers;
pub mod ledger;
pub mod manual;
pub mod shown;
mod shown_sinks;
pub mod state;
pub mod status;
pub mod stored;
pub mod table;
pub mod top;

pub use exit::{Exit, Failure};
pub use flags::{Cli, Command};

/// To standard output. A reader that left (`| head`) is no failure.
pub(crate) fn print(bytes: &[u8]) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(bytes);
}
