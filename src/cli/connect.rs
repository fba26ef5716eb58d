//! `longshore check --connect`: whether each sink's receiver is there and takes something.

use hyper::body::Bytes;

use crate::agent::inbox::Inbox;
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::forward::body::Payload;
use crate::sink::registry::Net;

/// Says of each sink how it went; an error when one of them can't be used.
pub fn try_sinks(config: &Config) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, "cannot start a runtime").caused_by(&error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let net = Net { runtime: runtime.handle().clone(), inbox: Inbox::new() };
    let mut n_failed = 0;
    for sink in &config.sinks {
        let (name, place) = (&sink.settings.name, sink.target.place());
        let empty: Bytes = Payload::default().into_body(sink.settings.form).wire;
        match runtime.block_on(sink.target.probe(&net, empty)) {
            Ok(()) => eprintln!("ok: sink {name}: {place}"),
            Err(why) => {
                n_failed += 1;
                eprintln!("error: sink {name}: {place}: {why}");
            }
        }
    }
    match n_failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "a sink can't be used as it is")),
        more => Err(Failure::new(Exit::Failed, format!("{more} sinks can't be used as they are"))),
    }
}
