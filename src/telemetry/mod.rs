//! What the agent counts, under the names operators see. One registry; every label set stands at 0 from the start.
//! Hot paths add once a batch, so counting costs nothing a line.

pub mod report;
pub mod said;

pub use report::Health;

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

const PREFIX: &str = "longshore_";
const COMMIT_SECONDS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// The values one label can take. Few, and all known at compile time.
pub trait Label: Copy + 'static {
    const NAME: &'static str;
    const ALL: &'static [Self];
    fn value(self) -> &'static str;
    /// The place in [`Label::ALL`].
    fn ix(self) -> usize;
}

macro_rules! labels {
    ($(#[$meta:meta])* $kind:ident, $label:literal { $($(#[$variant_meta:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind { $($(#[$variant_meta])* $variant,)+ }

        impl Label for $kind {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$($kind::$variant,)+];
            fn value(self) -> &'static str {
                match self { $($kind::$variant => $value,)+ }
            }
            fn ix(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// Why bytes of a log are no entry.
    ParseReason, "reason" {
        /// Not the JSON that Docker writes.
        Json = "json",
        /// No time, or none that can be read.
        Time = "time",
        /// Neither `log` nor `attrs`.
        NoLog = "no_log",
        /// NUL bytes, or a hole in the file.
        Nul = "nul",
        /// A line that ends in the middle and goes on nowhere.
        Torn = "torn",
        /// A line longer than any that Docker writes.
        TooLong = "too_long",
        Other = "other",
    }
}

labels! {
    RotationKind, "kind" {
        Rename = "rename",
        Truncate = "truncate",
    }
}

labels! {
    /// Why bytes were never read, or can't be delivered.
    LostReason, "reason" {
        /// Rotated away before it was read.
        Rotated = "rotated",
        /// Truncated or rewritten in place before it was read.
        Truncated = "truncated",
        /// Over the budget for deleted logs that are kept open.
        Shed = "shed",
        /// The source begins after the end of the output.
        Gap = "gap",
        /// A rotated, compressed sibling that doesn't inflate.
        Damaged = "damaged",
        Unreadable = "unreadable",
    }
}

labels! {
    PruneReason, "reason" {
        Files = "max_files",
        Age = "max_age",
        Total = "max_total",
    }
}

labels! {
    /// Why the state store was made anew.
    RecoveryReason, "reason" {
        /// Its directory was gone.
        Missing = "missing",
        /// It opened well and had nothing in it.
        Empty = "empty",
        Corrupt = "corrupt",
        /// sled panicked.
        Panic = "panic",
        /// Fewer rows, or more, than it should have.
        Rows = "rows",
    }
}

labels! {
    WatchMode, "mode" {
        Inotify = "inotify",
        Poll = "poll",
    }
}

labels! {
    /// What kind of failure a read or a write met.
    IoReason, "reason" {
        /// No space, or over quota.
        Space = "space",
        Permission = "permission",
        Missing = "missing",
        /// Too many open files.
        Descriptors = "descriptors",
        /// A file system that is read-only.
        ReadOnly = "read_only",
        /// What should be a file is something else.
        NotAFile = "not_a_file",
        Io = "io",
    }
}

labels! {
    /// How an output's place in the source was found.
    AlignedHow, "how" {
        Resumed = "resumed",
        Realigned = "realigned",
        Gap = "gap",
        Searched = "searched",
    }
}

impl IoReason {
    pub fn of(error: &io::Error) -> IoReason {
        if let Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) = rustix::io::Errno::from_io_error(error) {
            return IoReason::Descriptors;
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => IoReason::Space,
            io::ErrorKind::PermissionDenied => IoReason::Permission,
            io::ErrorKind::NotFound => IoReason::Missing,
            io::ErrorKind::ReadOnlyFilesystem => IoReason::ReadOnly,
            io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => IoReason::NotAFile,
            _ => IoReason::Io,
        }
    }
}

/// One counter for each value of a label.
#[derive(Clone, Debug)]
pub struct CounterBy<L: Label> {
    /// In the order of [`Label::ALL`].
    counters: Vec<IntCounter>,
    label: PhantomData<L>,
}

impl<L: Label> CounterBy<L> {
    pub fn of(&self, label: L) -> &IntCounter {
        &self.counters[label.ix()]
    }

    pub fn total(&self) -> u64 {
        self.counters.iter().map(IntCounter::get).sum()
    }
}

/// A gauge for each value of a label, of which one is 1.
#[derive(Clone, Debug)]
pub struct OneOf<L: Label> {
    gauges: Vec<IntGauge>,
    label: PhantomData<L>,
}

impl<L: Label> OneOf<L> {
    pub fn set(&self, label: L) {
        for (ix, gauge) in self.gauges.iter().enumerate() {
            gauge.set(i64::from(ix == label.ix()));
        }
    }
}

/// Clones share the counts. Named like the metrics, without the prefix and `_total`.
#[derive(Clone, Debug)]
pub struct Counters {
    shared: Arc<Shared>,
}

impl std::ops::Deref for Counters {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What [`Counters`] shares.
#[derive(Debug)]
pub struct Shared {
    registry: Registry,
    pub start_time_seconds: Gauge,
    pub containers: IntGauge,
    pub files_open: IntGauge,
    pub lines_read: IntCounter,
    pub bytes_read: IntCounter,
    pub records_written: IntCounter,
    pub bytes_written: IntCounter,
    pub parse_errors: CounterBy<ParseReason>,
    pub filtered: IntCounter,
    pub split_lines: IntCounter,
    pub late_pieces: IntCounter,
    pub rotations_seen: CounterBy<RotationKind>,
    pub lost_bytes: CounterBy<LostReason>,
    pub outputs_rotated: IntCounter,
    pub compressed: IntCounter,
    pub pruned: CounterBy<PruneReason>,
    pub commits: IntCounter,
    pub commit_failures: IntCounter,
    pub commit_seconds: Histogram,
    pub last_commit_timestamp_seconds: Gauge,
    pub checkpoint_recoveries: CounterBy<RecoveryReason>,
    pub inotify_overflows: IntCounter,
    pub rescans: IntCounter,
    pub watch_mode: OneOf<WatchMode>,
    pub write_failures: CounterBy<IoReason>,
    pub read_failures: CounterBy<IoReason>,
    pub read_lag_bytes: IntGauge,
    pub held_bytes: IntGauge,
    pub aligned: CounterBy<AlignedHow>,
}

impl Counters {
    /// `wall_ns` is the time of the start.
    pub fn new(wall_ns: i64) -> Counters {
        let registry = Registry::new();
        let make = Make { registry: &registry };
        make.build_info();
        let counters = Shared {
            start_time_seconds: make.gauge("start_time_seconds", "When this agent started, in Unix time."),
            containers: make.int_gauge("containers", "Containers that are followed."),
            files_open: make.int_gauge("files_open", "Log files that are held open."),
            lines_read: make.counter("lines_read_total", "Physical lines read from logs."),
            bytes_read: make.counter("bytes_read_total", "Bytes read from logs."),
            records_written: make.counter("records_written_total", "Whole messages written to outputs."),
            bytes_written: make.counter("bytes_written_total", "Bytes written to outputs."),
            parse_errors: make.counters("parse_errors_total", "Lines of logs that are no entry; not written."),
            filtered: make.counter("filtered_total", "Messages left out because a setting says so."),
            split_lines: make
                .counter("split_lines_total", "Messages longer than max-line-bytes, written in several records."),
            late_pieces: make
                .counter("late_pieces_total", "Pieces of a message that came after it was closed as unfinished."),
            rotations_seen: make.counters("rotations_seen_total", "Rotations of logs by the engine."),
            lost_bytes: make.counters("lost_bytes_total", "Bytes of logs that could not be delivered."),
            outputs_rotated: make
                .counter("outputs_rotated_total", "Outputs that reached their limit and were rotated."),
            compressed: make.counter("compressed_total", "Rotated outputs that were compressed."),
            pruned: make.counters("pruned_total", "Rotated outputs that were removed."),
            commits: make.counter("commits_total", "Commits of positions to the state store."),
            commit_failures: make.counter("commit_failures_total", "Commits that failed; they are tried again."),
            commit_seconds: make.histogram("commit_seconds", "How long a commit took.", &COMMIT_SECONDS),
            last_commit_timestamp_seconds: make
                .gauge("last_commit_timestamp_seconds", "The last good commit, in Unix time."),
            checkpoint_recoveries: make.counters("checkpoint_recoveries_total", "Times the state store was made anew."),
            inotify_overflows: make
                .counter("inotify_overflows_total", "Times the kernel dropped events; a rescan followed."),
            rescans: make.counter("rescans_total", "Full looks at all containers outside the regular sweep."),
            watch_mode: make.one_of("watch_mode", "1 for how changes are noticed: by inotify, or by polling only."),
            write_failures: make.counters("write_failures_total", "Failed writes to outputs; they are tried again."),
            read_failures: make
                .counters("read_failures_total", "Failed opens and reads of logs; they are tried again."),
            read_lag_bytes: make.int_gauge("read_lag_bytes", "Bytes of logs that are there and not yet read."),
            held_bytes: make.int_gauge("held_bytes", "Bytes of deleted logs that are kept because they are open."),
            aligned: make.counters("aligned_total", "How an output's place in its source was found."),
            registry: registry.clone(),
        };
        counters.start_time_seconds.set(seconds(wall_ns));
        Counters { shared: Arc::new(counters) }
    }

    /// One good commit.
    pub fn committed(&self, took: Duration, wall_ns: i64) {
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
        self.last_commit_timestamp_seconds.set(seconds(wall_ns));
    }

    /// All of it in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            // Writing to memory doesn't fail; a comment is what a scraper skips.
            Err(error) => format!("# {error}\n"),
        }
    }
}

fn seconds(wall_ns: i64) -> f64 {
    Duration::from_nanos(u64::try_from(wall_ns).unwrap_or(0)).as_secs_f64()
}

/// Makes metrics. Names are constants of this file, so a bad or a repeated one is our bug, and every test meets it.
struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("a metric's name is well-formed");
        self.registry.register(Box::new(metric.clone())).expect("a metric's name is used once");
        metric
    }

    fn build_info(&self) {
        let opts = opts("build_info", "1, with what this binary was built from.");
        let info: IntGaugeVec = self.register(IntGaugeVec::new(opts, &["version", "revision"]));
        let revision = option_env!("LONGSHORE_REVISION").unwrap_or("unknown");
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.register(Histogram::with_opts(opts))
    }

    fn counters<L: Label>(&self, name: &str, help: &str) -> CounterBy<L> {
        let family: IntCounterVec = self.register(IntCounterVec::new(opts(name, help), &[L::NAME]));
        let counters = L::ALL.iter().map(|label| family.with_label_values(&[label.value()])).collect();
        CounterBy { counters, label: PhantomData }
    }

    fn one_of<L: Label>(&self, name: &str, help: &str) -> OneOf<L> {
        let family: IntGaugeVec = self.register(IntGaugeVec::new(opts(name, help), &[L::NAME]));
        let gauges = L::ALL.iter().map(|label| family.with_label_values(&[label.value()])).collect();
        OneOf { gauges, label: PhantomData }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_label<L: Label + PartialEq + std::fmt::Debug>() {
        for (ix, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.ix(), ix, "{label:?}");
        }
    }

    #[test]
    fn everything_stands_at_zero_from_the_start() {
        let counters = Counters::new(1_700_000_000_500_000_000);
        let text = counters.text();
        for line in [
            "longshore_lines_read_total 0",
            "longshore_parse_errors_total{reason=\"nul\"} 0",
            "longshore_rotations_seen_total{kind=\"rename\"} 0",
            "longshore_lost_bytes_total{reason=\"shed\"} 0",
            "longshore_pruned_total{reason=\"max_age\"} 0",
            "longshore_checkpoint_recoveries_total{reason=\"empty\"} 0",
            "longshore_watch_mode{mode=\"poll\"} 0",
            "longshore_write_failures_total{reason=\"space\"} 0",
            "longshore_read_failures_total{reason=\"permission\"} 0",
            "longshore_aligned_total{how=\"searched\"} 0",
            "longshore_commit_seconds_count 0",
            "longshore_last_commit_timestamp_seconds 0",
            "longshore_start_time_seconds 1700000000.5",
            "# TYPE longshore_held_bytes gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(
            text.contains(concat!("longshore_build_info{revision=\"unknown\",version=\"", env!("CARGO_PKG_VERSION")))
        );
    }

    #[test]
    fn clones_count_together() {
        let counters = Counters::new(0);
        let other = counters.clone();
        other.lines_read.inc_by(3);
        other.lost_bytes.of(LostReason::Gap).inc_by(7);
        other.watch_mode.set(WatchMode::Poll);
        other.watch_mode.set(WatchMode::Inotify);
        other.committed(Duration::from_millis(3), 5_000_000_000);
        let text = counters.text();
        assert_eq!((counters.lines_read.get(), counters.lost_bytes.total()), (3, 7));
        assert!(text.contains("longshore_lost_bytes_total{reason=\"gap\"} 7\n"));
        assert!(text.contains("longshore_watch_mode{mode=\"inotify\"} 1\n"));
        assert!(text.contains("longshore_watch_mode{mode=\"poll\"} 0\n"));
        assert!(text.contains("longshore_commit_seconds_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("longshore_last_commit_timestamp_seconds 5\n"));
    }

    #[test]
    fn labels_know_their_place() {
        check_label::<ParseReason>();
        check_label::<RotationKind>();
        check_label::<LostReason>();
        check_label::<PruneReason>();
        check_label::<RecoveryReason>();
        check_label::<WatchMode>();
        check_label::<IoReason>();
        check_label::<AlignedHow>();
    }

    #[test]
    fn failures_have_a_reason() {
        let of = |code| IoReason::of(&io::Error::from_raw_os_error(code));
        assert_eq!(of(28), IoReason::Space);
        assert_eq!(of(24), IoReason::Descriptors);
        assert_eq!(of(13), IoReason::Permission);
        assert_eq!(of(30), IoReason::ReadOnly);
        assert_eq!(of(5), IoReason::Io);
    }
}
