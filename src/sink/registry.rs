//! The kinds of sinks there are. A new one is a file with its options and its transport, and one line here.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Bytes;

use crate::agent::inbox::Inbox;
use crate::config::sink_options::{OptionSpec, Options};
use crate::forward::Transport;
use crate::forward::body::Form;
use crate::forward::rendering::Look;
use crate::sink::{http, stdout};

/// Where a sink's requests run.
#[derive(Clone)]
pub struct Net {
    pub runtime: tokio::runtime::Handle,
    /// Of the sink's own thread.
    pub inbox: Inbox,
}

/// Ends with why it would not, if so.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// A receiver, as it is configured.
pub trait Target: Debug + Send + Sync {
    fn transport(&self, net: &Net) -> Box<dyn Transport>;
    /// `longshore check --connect`: whether it would take something. `empty`: a batch without records.
    fn probe(&self, net: &Net, empty: Bytes) -> Probing<'_>;
    /// For people, without secrets.
    fn place(&self) -> String;
}

/// What a kind makes of its options.
pub struct Made {
    pub target: Arc<dyn Target>,
    pub look: Look,
    pub form: Form,
    /// At most so many requests at a time, if the kind can't do more.
    pub window_max: Option<usize>,
}

pub struct SinkKind {
    /// As `type` names it.
    pub name: &'static str,
    pub about: &'static str,
    pub options: &'static [OptionSpec],
    pub make: fn(&Options<'_>) -> Result<Made, crate::cli::Failure>,
}

pub const KINDS: [SinkKind; 2] = [
    SinkKind { name: "http", about: "POST to an endpoint", options: &http::OPTIONS, make: http::target },
    SinkKind { name: "stdout", about: "Lines on standard output", options: &stdout::OPTIONS, make: stdout::target },
];

pub fn kind(name: &str) -> Option<&'static SinkKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_name() {
        for known in &KINDS {
            assert_eq!(kind(known.name).map(|found| found.name), Some(known.name));
        }
        assert!(kind("").is_none());
    }
}
