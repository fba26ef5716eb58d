//! One container's log through all its incarnations: what a file is, where it goes on, what became of it.
//! Knows nothing of what the lines mean.

mod aside;
mod copies;
mod found;
pub mod generation;
pub mod identity;
pub mod lineage;
pub mod source;
pub mod spooled;
mod waiting;

pub use generation::{Chunk, Generation};
pub use identity::Fingerprint;
pub use lineage::{Lineage, Look};
pub use source::Source;
pub use spooled::{Damage, Spooled};
pub use waiting::Resting;

#[cfg(test)]
mod aside_tests;
#[cfg(test)]
mod copies_tests;
#[cfg(test)]
mod lineage_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;
