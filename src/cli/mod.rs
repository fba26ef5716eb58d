//! What was typed, and how we end. What it means stands in `config`.

pub mod exit;
pub mod flags;
pub mod layers;
pub mod ledger;
pub mod shown;
pub mod state;
pub mod stored;
pub mod table;

pub use exit::{Exit, Failure};
pub use flags::{Cli, Command};
