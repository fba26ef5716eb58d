//! What was typed, and how we end. What it means stands in `config`.

pub mod exit;
pub mod flags;
pub mod healthcheck;
pub mod layers;
pub mod ledger;
pub mod manual;
pub mod shown;
pub mod state;
pub mod status;
pub mod stored;
pub mod table;

pub use exit::{Exit, Failure};
pub use flags::{Cli, Command};
