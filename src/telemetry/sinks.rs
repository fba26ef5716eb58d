//! What each sink counts, by its name.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Counters, Make};
use crate::sink::delivery::CircuitState;
use serde::{Deserialize, Serialize};

/// How a sink gets on: a part of `longshore status` and /status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkGoing {
    pub name: String,
    /// closed, open or held.
    pub circuit: String,
    /// What the receiver said last when it didn't accept; `None`: all is well.
    pub why: Option<String>,
    pub records_delivered: u64,
    pub requests: u64,
    pub retries: u64,
    pub dead_letters: u64,
    pub in_flight: u64,
    /// Records in memory that are not delivered, and their bytes.
    pub queue_records: u64,
    pub queue_bytes: u64,
    /// Bytes of logs that are not read yet.
    pub lag_bytes: u64,
    /// Bytes of deleted logs that are kept because they are held open.
    pub held_bytes: u64,
    /// Bytes of deleted logs' copies in the state directory.
    #[serde(default)]
    pub spool_bytes: u64,
}

/// The metrics of all sinks. Made once, and only where there are sinks.
pub struct SinkFamilies {
    counters: Vec<(&'static str, IntCounterVec)>,
    gauges: Vec<(&'static str, IntGaugeVec)>,
    errors: IntCounterVec,
    circuit: IntGaugeVec,
}

/// One sink's. Clones share the counts.
#[derive(Clone, Debug)]
pub struct SinkMeters {
    pub bytes_read: IntCounter,
    pub filtered: IntCounter,
    pub records_delivered: IntCounter,
    pub bytes_sent: IntCounter,
    pub requests: IntCounter,
    pub retries: IntCounter,
    pub dead_letters: IntCounter,
    pub shed_bytes: IntCounter,
    pub losses: IntCounter,
    pub errors_rejected: IntCounter,
    pub errors_too_large: IntCounter,
    pub errors_refused: IntCounter,
    pub errors_later: IntCounter,
    pub queue_bytes: IntGauge,
    pub in_flight: IntGauge,
    pub lag_bytes: IntGauge,
    pub held_bytes: IntGauge,
    pub spool_bytes: IntGauge,
    circuit: Vec<IntGauge>,
}

const COUNTERS: [(&str, &str); 9] = [
    ("sink_losses_total", "Entries of the loss ledger about what could not be delivered to a sink."),
    ("sink_bytes_read_total", "Bytes read from logs for a sink."),
    ("sink_filtered_total", "Messages that a sink's settings leave out."),
    ("sink_records_delivered_total", "Records that the receiver has accepted, repeats included."),
    ("sink_bytes_sent_total", "Bytes of accepted requests, as they went over the wire."),
    ("sink_requests_total", "Requests that were sent."),
    ("sink_retries_total", "Requests that were sent again."),
    ("sink_dead_letters_total", "Records that the receiver refused and that were put aside."),
    ("sink_shed_bytes_total", "Bytes of deleted logs that a sink let go unread."),
];
const GAUGES: [(&str, &str); 5] = [
    ("sink_queue_bytes", "Bytes of records in memory that are not delivered."),
    ("sink_requests_in_flight", "Requests that wait for an answer."),
    ("sink_lag_bytes", "Bytes of logs that a sink has not read yet."),
    ("sink_held_bytes", "Bytes of deleted logs that are kept because a sink holds them open."),
    ("sink_spool_bytes", "Bytes of the files in the spool of a sink: copies of deleted logs that are not delivered."),
];
const ERRORS: [&str; 4] = ["rejected", "too_large", "refused", "later"];

impl SinkFamilies {
    pub fn new(counters: &Counters) -> SinkFamilies {
        let make = Make { registry: &counters.shared.registry };
        let by_sink = ["sink"];
        let counter = |(name, help)| (name, make.counter_vec(name, help, &by_sink));
        let gauge = |(name, help)| (name, make.gauge_vec(name, help, &by_sink));
        SinkFamilies {
            counters: COUNTERS.map(counter).into(),
            gauges: GAUGES.map(gauge).into(),
            errors: make.counter_vec(
                "sink_errors_total",
                "Answers that were no acceptance: a record's fault, a batch too large, a refusal of us, or to be tried later.",
                &["sink", "reason"],
            ),
            circuit: make.gauge_vec("sink_circuit", "1 for the state a sink's circuit is in.", &["sink", "state"]),
        }
    }

    pub fn of(&self, sink: &str) -> SinkMeters {
        let counter = |name: &str| {
            let (_, family) = self.counters.iter().find(|(known, _)| *known == name).expect("a metric of this file");
            family.with_label_values(&[sink])
        };
        let gauge = |name: &str| {
            let (_, family) = self.gauges.iter().find(|(known, _)| *known == name).expect("a metric of this file");
            family.with_label_values(&[sink])
        };
        let [rejected, too_large, refused, later] = ERRORS.map(|reason| self.errors.with_label_values(&[sink, reason]));
        let meters = SinkMeters {
            bytes_read: counter("sink_bytes_read_total"),
            filtered: counter("sink_filtered_total"),
            records_delivered: counter("sink_records_delivered_total"),
            bytes_sent: counter("sink_bytes_sent_total"),
            requests: counter("sink_requests_total"),
            retries: counter("sink_retries_total"),
            dead_letters: counter("sink_dead_letters_total"),
            shed_bytes: counter("sink_shed_bytes_total"),
            losses: counter("sink_losses_total"),
            errors_rejected: rejected,
            errors_too_large: too_large,
            errors_refused: refused,
            errors_later: later,
            queue_bytes: gauge("sink_queue_bytes"),
            in_flight: gauge("sink_requests_in_flight"),
            lag_bytes: gauge("sink_lag_bytes"),
            held_bytes: gauge("sink_held_bytes"),
            spool_bytes: gauge("sink_spool_bytes"),
            circuit: CircuitState::ALL.map(|state| self.circuit.with_label_values(&[sink, state.name()])).into(),
        };
        meters.circuit(CircuitState::Closed);
        meters
    }
}

impl SinkMeters {
    /// What of it a status tells.
    pub fn going(&self, name: &str) -> SinkGoing {
        let gauge = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        SinkGoing {
            name: name.to_owned(),
            records_delivered: self.records_delivered.get(),
            requests: self.requests.get(),
            retries: self.retries.get(),
            dead_letters: self.dead_letters.get(),
            in_flight: gauge(&self.in_flight),
            queue_bytes: gauge(&self.queue_bytes),
            lag_bytes: gauge(&self.lag_bytes),
            held_bytes: gauge(&self.held_bytes),
            spool_bytes: gauge(&self.spool_bytes),
            ..SinkGoing::default()
        }
    }

    pub fn circuit(&self, now: CircuitState) {
        for (state, gauge) in CircuitState::ALL.iter().zip(&self.circuit) {
            gauge.set(i64::from(*state == now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_s_counts_stand_at_zero_and_no_sink_has_none() {
        let counters = Counters::new(0);
        assert!(!counters.text().contains("longshore_sink_"));
        let meters = SinkFamilies::new(&counters).of("loki");
        meters.circuit(CircuitState::Held);
        let text = counters.text();
        for line in [
            "longshore_sink_requests_total{sink=\"loki\"} 0",
            "longshore_sink_errors_total{reason=\"refused\",sink=\"loki\"} 0",
            "longshore_sink_circuit{sink=\"loki\",state=\"held\"} 1",
            "longshore_sink_circuit{sink=\"loki\",state=\"closed\"} 0",
            "longshore_sink_queue_bytes{sink=\"loki\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
