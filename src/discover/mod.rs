//! Which logs exist, whose they are, and where their output goes. Reads no file: names and bytes are passed in.

pub mod container;
pub mod listing;
pub mod names;
pub mod selection;

pub use container::{ContainerConfig, ContainerState, LogOptions, Needed};
pub use listing::Sibling;
pub use names::{PathTemplate, PathTemplateError};
pub use selection::{Names, Selection, SelectionError};
