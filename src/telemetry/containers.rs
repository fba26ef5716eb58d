//! Series with container names, only where they were asked for: there are as many as containers.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::Make;

/// The only label of these.
const NAME: &str = "container_name";

/// Nothing is exported until a container is seen.
#[derive(Clone, Debug)]
pub struct ByContainer {
    bytes_read: IntCounterVec,
    read_lag_bytes: IntGaugeVec,
    unread_age_seconds: GaugeVec,
    held_bytes: IntGaugeVec,
    open_lines: IntGaugeVec,
}

/// How one container stands. Those of one name are added up; of ages the oldest counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    pub bytes_read: u64,
    pub lag_bytes: u64,
    pub unread_age_seconds: f64,
    pub held_bytes: u64,
    pub open_lines: u64,
}

impl ByContainer {
    pub(super) fn new(make: &Make<'_>) -> ByContainer {
        let opts = super::opts;
        ByContainer {
            bytes_read: make.register(IntCounterVec::new(
                opts("container_bytes_read_total", "Bytes read from a container's log since it was first seen."),
                &[NAME],
            )),
            read_lag_bytes: make.register(IntGaugeVec::new(
                opts("container_read_lag_bytes", "Bytes of a container's log that are there and not yet read."),
                &[NAME],
            )),
            unread_age_seconds: make.register(GaugeVec::new(
                opts("container_unread_age_seconds", "How long a container's log has had something unread."),
                &[NAME],
            )),
            held_bytes: make.register(IntGaugeVec::new(
                opts(
                    "container_held_bytes",
                    "Bytes of a container's deleted logs that are kept because they are open.",
                ),
                &[NAME],
            )),
            open_lines: make.register(IntGaugeVec::new(
                opts("container_open_lines", "Streams of a container that stand within a line."),
                &[NAME],
            )),
        }
    }

    /// How all stand now; a name that is not among them is exported no more.
    pub fn set<'a>(&self, all: impl IntoIterator<Item = (&'a str, Standing)>) {
        let mut by_name: BTreeMap<&str, Standing> = BTreeMap::new();
        for (name, standing) in all {
            let sum = by_name.entry(name).or_default();
            sum.bytes_read += standing.bytes_read;
            sum.lag_bytes += standing.lag_bytes;
            sum.unread_age_seconds = sum.unread_age_seconds.max(standing.unread_age_seconds);
            sum.held_bytes += standing.held_bytes;
            sum.open_lines += standing.open_lines;
        }
        self.bytes_read.reset();
        self.read_lag_bytes.reset();
        self.unread_age_seconds.reset();
        self.held_bytes.reset();
        self.open_lines.reset();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, standing) in by_name {
            let of = &[name];
            self.bytes_read.with_label_values(of).inc_by(standing.bytes_read);
            self.read_lag_bytes.with_label_values(of).set(gauge(standing.lag_bytes));
            self.unread_age_seconds.with_label_values(of).set(standing.unread_age_seconds);
            self.held_bytes.with_label_values(of).set(gauge(standing.held_bytes));
            self.open_lines.with_label_values(of).set(gauge(standing.open_lines));
        }
    }
}
