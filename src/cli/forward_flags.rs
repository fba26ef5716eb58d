//! The simplest sink, without a configuration file.

use clap::Args;

pub(super) const FORWARDING: &str = "Forwarding";

/// The same as `[sinks.endpoint]` with `type = "http"` in the file, which knows much more.
#[derive(Args, Clone, Debug, Default)]
pub struct ForwardFlags {
    /// Also send every record to this address: POST of a gzip JSON array of {timestamp, host, path, line}; any 2xx is
    /// success, and what fails is tried for ever. Other sinks, and all that can be set: `longshore config default`
    #[arg(long, value_name = "URL", env = "LONGSHORE_ENDPOINT", help_heading = FORWARDING)]
    pub endpoint: Option<String>,

    /// Records in a request [default: 200]
    #[arg(long, value_name = "N", env = "LONGSHORE_BATCH", help_heading = FORWARDING)]
    pub batch: Option<String>,

    /// How long a record waits for others to go with it [default: 2s]
    #[arg(long, value_name = "D", env = "LONGSHORE_WAIT", help_heading = FORWARDING)]
    pub wait: Option<String>,

    /// Requests in flight [default: 4]
    #[arg(long, value_name = "N", env = "LONGSHORE_WORKERS", help_heading = FORWARDING)]
    pub workers: Option<String>,

    /// Most bytes of records in memory; the rest waits in the logs [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "LONGSHORE_QUEUE", help_heading = FORWARDING)]
    pub queue: Option<String>,
}

impl ForwardFlags {
    /// Each key with what was given for it.
    pub fn given(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("endpoint", &self.endpoint),
            ("batch", &self.batch),
            ("wait", &self.wait),
            ("workers", &self.workers),
            ("queue", &self.queue),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect()
    }
}
