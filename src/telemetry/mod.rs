//! What the agent counts, under the names operators see. One registry; every label set stands at 0 from the start.
//! Hot paths add once a batch, so counting costs nothing a line.

mod containers;
pub mod report;
pub mod said;
pub mod sinks;

pub use containers::{ByContainer, Standing};
pub use report::Health;

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::sys::process::Usage;

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
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
    ReloadResult, "result" {
        Success = "success",
        /// The new configuration was no good; the old one stayed.
        Failure = "failure",
    }
}

labels! {
    /// Why a message was left out.
    FilterReason, "reason" {
        /// By its text or stream.
        Text = "filter",
        /// Older than `--since`.
        Time = "since",
    }
}

labels! {
    /// What was replaced in a text; in the order of [`crate::filter::Redacted`].
    Redactable, "name" {
        Email = "email",
        Ipv4 = "ipv4",
        Card = "card",
        Bearer = "bearer",
        AwsKey = "aws-key",
        PasswordPair = "password-pair",
        /// Patterns of the operator's own.
        Pattern = "pattern",
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
    pub filtered: CounterBy<FilterReason>,
    pub redacted: CounterBy<Redactable>,
    pub split_lines: IntCounter,
    pub late_pieces: IntCounter,
    pub rotations: CounterBy<RotationKind>,
    pub lost_bytes: CounterBy<LostReason>,
    pub outputs_rotated: IntCounter,
    pub compressed: IntCounter,
    pub pruned: CounterBy<PruneReason>,
    pub checkpoint_commits: IntCounter,
    pub checkpoint_commit_failures: IntCounter,
    pub checkpoint_commit_duration_seconds: Histogram,
    pub last_checkpoint_timestamp_seconds: Gauge,
    pub checkpoint_recoveries: CounterBy<RecoveryReason>,
    pub config_reloads: CounterBy<ReloadResult>,
    pub config_last_reload_success_timestamp_seconds: Gauge,
    pub config_last_reload_successful: IntGauge,
    pub inotify_overflows: IntCounter,
    pub rescans: IntCounter,
    pub watch_mode: OneOf<WatchMode>,
    pub write_failures: CounterBy<IoReason>,
    pub read_failures: CounterBy<IoReason>,
    pub read_lag_bytes: IntGauge,
    pub read_lag_max_bytes: IntGauge,
    pub oldest_unread_age_seconds: Gauge,
    pub open_lines: IntGauge,
    pub files_tracked: IntGauge,
    pub by_container: ByContainer,
    process: Process,
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
            filtered: make.counters("lines_dropped_total", "Messages left out because a setting says so."),
            redacted: make.counters("redacted_total", "Replacements in texts of messages."),
            split_lines: make
                .counter("split_lines_total", "Messages longer than max-line-bytes, written in several records."),
            late_pieces: make
                .counter("late_pieces_total", "Pieces of a message that came after it was closed as unfinished."),
            rotations: make.counters("rotations_total", "Rotations of logs by the engine."),
            lost_bytes: make.counters("lost_bytes_total", "Bytes of logs that could not be delivered."),
            outputs_rotated: make
                .counter("outputs_rotated_total", "Outputs that reached their limit and were rotated."),
            compressed: make.counter("compressed_total", "Rotated outputs that were compressed."),
            pruned: make.counters("pruned_total", "Rotated outputs that were removed."),
            checkpoint_commits: make.counter("checkpoint_commits_total", "Commits of positions to the state store."),
            checkpoint_commit_failures: make
                .counter("checkpoint_commit_failures_total", "Commits that failed; they are tried again."),
            checkpoint_commit_duration_seconds: make.histogram(
                "checkpoint_commit_duration_seconds",
                "How long a commit took.",
                &COMMIT_SECONDS,
            ),
            last_checkpoint_timestamp_seconds: make
                .gauge("last_checkpoint_timestamp_seconds", "The last good commit, in Unix time."),
            checkpoint_recoveries: make.counters("checkpoint_recoveries_total", "Times the state store was made anew."),
            config_reloads: make.counters("config_reloads_total", "Times the configuration was read again."),
            config_last_reload_success_timestamp_seconds: make.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in effect was read, in Unix time.",
            ),
            config_last_reload_successful: make.int_gauge(
                "config_last_reload_successful",
                "1 if the configuration was good when it was read last, 0 if an older one stays in effect.",
            ),
            inotify_overflows: make
                .counter("inotify_overflows_total", "Times the kernel dropped events; a rescan followed."),
            rescans: make.counter("rescans_total", "Full looks at all containers outside the regular sweep."),
            watch_mode: make.one_of("watch_mode", "1 for how changes are noticed: by inotify, or by polling only."),
            write_failures: make.counters("write_failures_total", "Failed writes to outputs; they are tried again."),
            read_failures: make
                .counters("read_failures_total", "Failed opens and reads of logs; they are tried again."),
            read_lag_bytes: make.int_gauge("read_lag_bytes", "Bytes of logs that are there and not yet read."),
            read_lag_max_bytes: make.int_gauge("read_lag_max_bytes", "The same of the log that is furthest behind."),
            oldest_unread_age_seconds: make.gauge(
                "oldest_unread_age_seconds",
                "How long the log that is behind for the longest time has had something unread; 0: none is.",
            ),
            open_lines: make.int_gauge("open_lines", "Streams of containers that stand within a line."),
            files_tracked: make.int_gauge("files_tracked", "Logs that are followed, whether they are open or not."),
            by_container: ByContainer::new(&make),
            process: Process::new(&make, seconds(wall_ns)),
            held_bytes: make.int_gauge("held_bytes", "Bytes of deleted logs that are kept because they are open."),
            aligned: make.counters("aligned_total", "How an output's place in its source was found."),
            registry: registry.clone(),
        };
        counters.start_time_seconds.set(seconds(wall_ns));
        counters.config_last_reload_success_timestamp_seconds.set(seconds(wall_ns));
        counters.config_last_reload_successful.set(1);
        Counters { shared: Arc::new(counters) }
    }

    /// The configuration was read again: when, or it was no good.
    pub fn reloaded(&self, result: Result<i64, ()>) {
        self.config_last_reload_successful.set(i64::from(result.is_ok()));
        match result {
            Ok(wall_ns) => {
                self.config_reloads.of(ReloadResult::Success).inc();
                self.config_last_reload_success_timestamp_seconds.set(seconds(wall_ns));
            }
            Err(()) => self.config_reloads.of(ReloadResult::Failure).inc(),
        }
    }

    /// One good commit.
    pub fn committed(&self, took: Duration, wall_ns: i64) {
        self.checkpoint_commits.inc();
        self.checkpoint_commit_duration_seconds.observe(took.as_secs_f64());
        self.last_checkpoint_timestamp_seconds.set(seconds(wall_ns));
    }

    /// What the process takes from its host right now.
    pub fn process(&self, usage: &Usage) {
        let Process { cpu_seconds, resident, virtual_, open_fds, max_fds, threads, .. } = &self.process;
        cpu_seconds.inc_by((usage.cpu_seconds - cpu_seconds.get()).max(0.0));
        let gauges = [
            (resident, usage.resident_bytes),
            (virtual_, usage.virtual_bytes),
            (open_fds, usage.open_files),
            (max_fds, usage.open_files_max),
            (threads, usage.threads),
        ];
        for (gauge, value) in gauges {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
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

/// The metrics that Prometheus' own clients have, under their names.
#[derive(Clone, Debug)]
struct Process {
    cpu_seconds: Counter,
    resident: IntGauge,
    virtual_: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
}

impl Process {
    fn new(make: &Make<'_>, start_time_seconds: f64) -> Process {
        let gauge = |name: &str, help: &str| make.register(IntGauge::with_opts(Opts::new(name, help)));
        let started =
            Gauge::with_opts(Opts::new("process_start_time_seconds", "When the process started, in Unix time."));
        make.register(started).set(start_time_seconds);
        Process {
            cpu_seconds: make.register(Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "Seconds of CPU that the process took, in user and system mode.",
            ))),
            resident: gauge("process_resident_memory_bytes", "Resident memory of the process."),
            virtual_: gauge("process_virtual_memory_bytes", "Virtual memory of the process."),
            open_fds: gauge("process_open_fds", "Files that the process has open."),
            max_fds: gauge("process_max_fds", "Files that the process may have open."),
            threads: gauge("process_threads", "Threads of the process."),
        }
    }
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
        let info: IntGaugeVec = self.register(IntGaugeVec::new(opts, &["version", "revision", "rustc"]));
        let revision = option_env!("LONGSHORE_REVISION").unwrap_or("unknown");
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, env!("LONGSHORE_RUSTC")]).set(1);
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

    fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(opts(name, help), labels))
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
            "longshore_rotations_total{kind=\"rename\"} 0",
            "longshore_lost_bytes_total{reason=\"shed\"} 0",
            "longshore_pruned_total{reason=\"max_age\"} 0",
            "longshore_checkpoint_recoveries_total{reason=\"empty\"} 0",
            "longshore_watch_mode{mode=\"poll\"} 0",
            "longshore_write_failures_total{reason=\"space\"} 0",
            "longshore_read_failures_total{reason=\"permission\"} 0",
            "longshore_aligned_total{how=\"searched\"} 0",
            "longshore_checkpoint_commit_duration_seconds_count 0",
            "longshore_last_checkpoint_timestamp_seconds 0",
            "longshore_start_time_seconds 1700000000.5",
            "# TYPE longshore_held_bytes gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let info = text.lines().find(|line| line.starts_with("longshore_build_info{")).expect("build_info");
        let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
        assert!(info.contains("rustc=\"1.") && info.contains("revision=\"") && info.contains(version), "{info}");
        assert!(!text.contains("container_name"), "nobody asked for names");
    }

    #[test]
    fn names_are_exported_while_they_are_there() {
        let counters = Counters::new(0);
        let standing = Standing { bytes_read: 5, lag_bytes: 3, unread_age_seconds: 1.5, ..Standing::default() };
        counters.by_container.set([("web", standing), ("web", Standing { unread_age_seconds: 0.5, ..standing })]);
        let text = counters.text();
        for line in [
            "longshore_container_bytes_read_total{container_name=\"web\"} 10",
            "longshore_container_read_lag_bytes{container_name=\"web\"} 6",
            "longshore_container_unread_age_seconds{container_name=\"web\"} 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        counters.by_container.set([]);
        assert!(!counters.text().contains("container_name"));
    }

    #[test]
    fn the_process_counts_up() {
        let counters = Counters::new(7_000_000_000);
        let usage = Usage { cpu_seconds: 2.5, open_files: 9, ..Usage::default() };
        counters.process(&usage);
        counters.process(&Usage { cpu_seconds: 2.0, ..usage });
        let text = counters.text();
        for line in ["process_cpu_seconds_total 2.5", "process_open_fds 9", "process_start_time_seconds 7"] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
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
        assert!(text.contains("longshore_checkpoint_commit_duration_seconds_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("longshore_last_checkpoint_timestamp_seconds 5\n"));
    }

    #[test]
    fn labels_know_their_place() {
        check_label::<ParseReason>();
        check_label::<RotationKind>();
        check_label::<LostReason>();
        check_label::<PruneReason>();
        check_label::<FilterReason>();
        check_label::<ReloadResult>();
        check_label::<Redactable>();
        let names = crate::filter::Builtin::ALL.map(crate::filter::Builtin::name);
        let counted: Vec<&str> = Redactable::ALL.iter().map(|kind| kind.value()).collect();
        assert_eq!(counted, [&names[..], &[crate::filter::PATTERN]].concat());
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
