//! What is kept of the agent's work: one row a container, with a short ladder of rungs.
//! A rung says where the source and the output stood at one commit; align finds the place again from it.

pub mod codec;
pub mod commit;
pub mod ladder;
mod older;
pub mod position;
mod shapes;
pub mod store;

pub use ladder::{Epoch, Ladder, Row, Rung, is_below};
pub use shapes::Shapes;
