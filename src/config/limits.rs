//! Every bound of the agent, with its reason. Relations between them are checked when it is compiled.

use std::time::Duration;

use crate::assemble::PIECE_RAW_BYTES;

// --- Reading -------------------------------------------------------------------------------------------------------

/// What one log may have of a turn, so that a noisy container can't hold up fifty quiet ones. Reads of this size cost
/// no more per byte than larger ones.
pub const QUANTUM_BYTES: usize = 256 * 1024;

/// Read at once where the batch or the segment has room for less, which is counted in rendered bytes. A piece of a long line
/// fits.
pub const READ_BYTES_MIN: usize = 32 * 1024;

/// Read of one log in one turn. Lines that a filter leaves out fill no batch: without a bound a log of gigabytes would be
/// read to its end while nobody else is served and nothing is committed.
pub const TURN_BYTES_MAX: usize = 4 * QUANTUM_BYTES;
/// Entries for the ledger of one log in one turn: a log of bad lines has a hundred thousand in a quantum.
pub const TURN_LOSSES_MAX: usize = 4096;

/// Rendered bytes of all containers that their outputs did not take; beyond it a turn gathers no more than
/// `QUANTUM_BYTES_SHORT`, so that 5,000 containers on a full disk hold 100 MB instead of 1.3 GB.
pub const UNWRITTEN_BYTES_MAX: usize = 32 * 1024 * 1024;
pub const QUANTUM_BYTES_SHORT: usize = 16 * 1024;

/// Longest physical line of a source. Docker's own are below 100 KiB (a piece of 16 KiB, every byte escaped to six,
/// and attrs); what is longer was not written by it and is skipped as malformed, counted with its range.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The end of a line that proves it is the one: the nanosecond time stands last in a record, attrs before it.
pub const PROOF_BYTES: usize = 1024;

/// Rendered bytes that a rung carries along because their output can't take them yet; more and the log isn't read on.
pub const OWED_BYTES_MAX: usize = 64 * 1024;

/// `--max-line-bytes`: at least one piece, or no line would ever be joined; at most what fits the state of an
/// unfinished line times the containers that may have one.
pub const MAX_LINE_BYTES_MIN: usize = PIECE_RAW_BYTES;
pub const MAX_LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Largest config.v2.json or hostconfig.json that is read. Real ones have 3 to 30 KiB; a container with megabytes of
/// labels harms only itself.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A name, or a label or variable that a template or a selection asks for, is cut here: it may stand in every line.
/// Labels nobody asks for aren't kept, so 5,000 containers with megabytes of them cost nothing.
pub const METADATA_VALUE_BYTES_MAX: usize = 4 * 1024;

// --- What a container's labels may choose -----------------------------------------------------------------------------

/// A longer label of ours is a mistake. Below `METADATA_VALUE_BYTES_MAX`, so that none is taken that was cut.
pub const LABEL_BYTES_MAX: usize = 1024;
/// Each rotation costs a sync, a rename and a commit: a smaller one in a label would let one container slow all down.
pub const LABEL_LIMIT_MIN: u64 = 64 * 1024;
/// The room of `--limit` times `--max-files` bounds it as well, where the operator gave both.
pub const LABEL_LIMIT_MAX: u64 = 1_000_000_000;
/// Constant bytes that a template of a label may put on every line.
pub const LABEL_LITERAL_BYTES_MAX: usize = 2 * 1024;
/// A compiled pattern of a label: it is searched with on the thread that serves all, at a cost that grows with it.
pub const LABEL_PATTERN_BYTES_MAX: usize = 256 * 1024;

// --- Storing and finding again -------------------------------------------------------------------------------------

/// Longest value of the state store: sled keeps larger ones outside its log (measured; docs in checkpoint/store.rs).
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Changes in one batch of the store. sled leaks above about 1,000; one container's changes are never parted, and the
/// longest row takes some 260.
pub const COMMIT_CHANGES_MAX: usize = 256;

/// Containers in one batch of a sink: their rows go into the store with it, in one commit.
pub const BATCH_PARTS_MAX: usize = 128;

/// Copies in a sink's spool that one commit takes away: each is a change beside the row that needs them no more.
pub const COPIES_RELEASED_MAX: usize = 128;

/// Containers in one job of the commit thread, and bytes of their rows: a first start on a large host goes in several, and so do a
/// hundred rows with long unfinished lines, which are copied on their way into the store.
pub const COMMIT_ITEMS_MAX: usize = 256;
pub const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of unfinished and owed lines in one ladder: beyond it older rungs that carry some go before their age. A row
/// is written whole at each commit.
pub const BLOB_BYTES_MAX: usize = 192 * 1024;

/// How far a record is searched ahead in an output that differs from its source.
pub const SEARCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much is looked through in all for one container: a second or two of one core.
pub const SEARCHED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Records kept while the output may still show a later one.
pub const STASH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines of an output's end that are looked for in the source when the state was lost.
pub const SEEK_LINES_MAX: usize = 65_536;

/// Entries of the loss ledger that wait for one commit of one container; what comes beyond is joined to the last.
pub const LOSSES_PENDING_MAX: usize = 16;

/// `outputs.jsonl` is written anew at start when it is longer.
pub const JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024;

// --- Looking -------------------------------------------------------------------------------------------------------

/// All directories are listed and stat'ed once in this time, in slices: the longest a lost event can hide a line.
/// A full sweep of 5,000 costs 40 ms, too dear for every second.
pub const SWEEP_PERIOD: Duration = Duration::from_secs(30);

/// How often a sink looks at a log that is watched: the agent's sweeps tell it what no event did.
pub const SWEEP_PERIOD_WATCHED: Duration = Duration::from_secs(10 * 60);

/// All outputs are asked for segments to compress or prune once in this time when age or the total bounds them, or when
/// something failed. A rotation asks for its own output at once.
pub const TIDY_PERIOD: Duration = Duration::from_secs(60);
/// And otherwise: it only finds what somebody else left there.
pub const TIDY_PERIOD_QUIET: Duration = Duration::from_secs(600);

/// How long a container waits for metadata that can be read, before its short id stands in for its name. Short, for its
/// log may be gone meanwhile.
pub const NAME_PATIENCE: Duration = Duration::from_millis(500);

/// How often a directory without a watch is looked at.
pub const UNWATCHED_PERIOD: Duration = Duration::from_secs(1);

/// How often a log that has no name is looked for behind its place while its descriptor is held: the directory is listed,
/// and its files are opened.
pub const NAMELESS_PERIOD: Duration = Duration::from_secs(1);

/// How often the mtime of the containers directory is looked at: one stat.
pub const ROOT_PERIOD: Duration = Duration::from_secs(1);

/// Hot logs are polled every `clamp(hot × POLL_PER_HOT, POLL_MIN, POLL_MAX)`: under load a watch would cost an event
/// per write, and slow the writer down threefold. At `POLL_MIN` a line waits 2 ms in the middle; a look costs several calls,
/// which at 10 MB/s is more than the lines themselves.
pub const POLL_PER_HOT: Duration = Duration::from_millis(1);
pub const POLL_MIN: Duration = Duration::from_millis(4);
pub const POLL_MAX: Duration = Duration::from_millis(25);
/// A log is steady when its file holds so much already and grew by no more than a part of that with one look: then no two
/// rotations fall between two looks, and among many hot logs it can wait for `POLL_MAX_STEADY`. (The simulator's logs are
/// small.)
pub const STEADY_FILE_BYTES: u64 = if cfg!(test) { 512 } else { 1024 * 1024 };
pub const STEADY_PART: u64 = 4;
pub const POLL_MAX_STEADY: Duration = Duration::from_millis(50);
/// A steady log that brings so much with one look is always polled every `POLL_MAX_STEADY`: waking up costs more than the looks,
/// and nobody waits for the single line. At 10 MB/s that is two quanta.
pub const BULK_LOOK_BYTES: u64 = 16 * 1024;

// --- Deciding ------------------------------------------------------------------------------------------------------

/// An unfinished line that grows no more is closed after this silence. A non-blocking container drops pieces when its
/// ring is full, so the end may never come; a blocking one is only slow.
pub const SILENCE_NON_BLOCKING: Duration = Duration::from_secs(10);
pub const SILENCE: Duration = Duration::from_secs(5 * 60);

/// The same for a container that doesn't run: its first bytes may come before the file that says it runs.
pub const SILENCE_STOPPED: Duration = Duration::from_secs(2);

/// What a lost power may cost in re-reading, and how long a finished line may wait to be stored.
pub const COMMIT_PERIOD: Duration = Duration::from_secs(1);

/// Rungs of one ladder, at doubling ages: 2^12 commits span more than `LADDER_SPAN`.
pub const LADDER_RUNGS_MAX: usize = 12;
/// The age of the oldest rung: longer than the 30 s after which the kernel has written back what nobody synced.
pub const LADDER_SPAN: Duration = Duration::from_secs(120);

/// Heads of drained siblings that a row remembers, so that none is read twice. Docker users keep 3 to 10 files; one
/// with more than this re-reads first lines, and the rungs tell what was delivered.
pub const DRAINED_HEADS_MAX: usize = 256;

/// Generations of one log held open because they were rotated away unread: beyond it the oldest deleted ones are let go,
/// into the ledger. `--held-max` bounds their bytes.
pub const GENERATIONS_HELD_MAX: usize = 1024;

/// A row whose container was not seen for so long, through successful listings, is dropped. A late mount is no removal.
pub const ROW_ABSENT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// `--held-max` when it isn't given: this much, or this part of the file system that holds the logs, the less.
pub const HELD_BYTES_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;
pub const HELD_PERCENT_DEFAULT: u64 = 5;

/// `spool_max` of a sink when it isn't given, of the file system that holds the state: copies are compressed, so it
/// holds several times as much text.
pub const SPOOL_BYTES_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;
pub const SPOOL_PERCENT_DEFAULT: u64 = 5;

/// Files in the spool of one sink, each with a row that a start reads. Logs of a usual size reach `spool_max` long before.
pub const SPOOL_FILES_MAX: usize = 16_384;

// --- Ending and failing --------------------------------------------------------------------------------------------

/// `--shutdown-timeout` when it isn't given: how long a drain may take after SIGTERM.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Entries of the loss ledger; then the oldest go.
pub const LEDGER_ENTRIES_MAX: usize = 10_000;

/// What failed is tried again after `RETRY_MIN`, doubling up to `RETRY_MAX`: healed soon, and no load while it is not.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// Agents of a backfill, one a thread. More only fight for the disk.
pub const THREADS_MAX: usize = 64;

// --- Names ---------------------------------------------------------------------------------------------------------

/// A value in a path, with the mark that it was changed.
pub const PATH_VALUE_BYTES_MAX: usize = 200;
/// One component of a path. A file name has 255 bytes; the rest is room for `.4294967295.zst` and a temporary suffix.
pub const PATH_COMPONENT_BYTES_MAX: usize = 220;
/// Typed text in one component of `--path-template`: leaves room for the values.
pub const PATH_LITERAL_BYTES_MAX: usize = 64;
/// Components of `--path-template`: the whole path stays far below PATH_MAX (4,096).
pub const PATH_COMPONENTS_MAX: usize = 8;
/// Room kept for what rotation and compression append to a name.
pub const PATH_SUFFIX_BYTES: usize = 32;

const _: () = assert!(QUANTUM_BYTES <= LINE_BYTES_MAX, "a turn can grow to one longest line");
const _: () = assert!(PIECE_RAW_BYTES < READ_BYTES_MIN && READ_BYTES_MIN <= QUANTUM_BYTES);
const _: () = assert!(PIECE_RAW_BYTES * 6 < QUANTUM_BYTES, "a quantum holds a piece of escaped bytes");
const _: () = assert!(MAX_LINE_BYTES_MIN >= PIECE_RAW_BYTES);
const _: () = assert!(MAX_LINE_BYTES_MIN <= MAX_LINE_BYTES_MAX);
const _: () = assert!(METADATA_VALUE_BYTES_MAX < CONFIG_BYTES_MAX);
const _: () = assert!(LABEL_BYTES_MAX < METADATA_VALUE_BYTES_MAX, "a label that was cut is refused");
const _: () = assert!(LABEL_LIMIT_MIN < LABEL_LIMIT_MAX);
const _: () = assert!(POLL_MIN.as_nanos() <= POLL_MAX.as_nanos());
const _: () = assert!(POLL_MAX.as_nanos() < UNWATCHED_PERIOD.as_nanos(), "a hot log is looked at more often");
const _: () = assert!(POLL_MAX.as_nanos() <= 25_000_000, "a first line is out within 50 ms");
const _: () = assert!(UNWATCHED_PERIOD.as_nanos() <= 1_000_000_000, "promised: within a second without watches");
const _: () = assert!(SWEEP_PERIOD.as_nanos() <= 30_000_000_000, "promised: within 30 s of a lost event");
const _: () = assert!(COMMIT_PERIOD.as_nanos() << LADDER_RUNGS_MAX >= LADDER_SPAN.as_nanos());
const _: () = assert!(SILENCE_NON_BLOCKING.as_nanos() > COMMIT_PERIOD.as_nanos());
const _: () = assert!(SILENCE.as_nanos() > SILENCE_NON_BLOCKING.as_nanos());
const _: () = assert!(RETRY_MIN.as_nanos() < RETRY_MAX.as_nanos());
const _: () = assert!(RETRY_MAX.as_nanos() < DRAIN_MAX.as_nanos(), "a drain tries again at least once");
const _: () = assert!(OWED_BYTES_MAX < QUANTUM_BYTES);
const _: () = assert!(BATCH_PARTS_MAX * 2 <= COMMIT_CHANGES_MAX, "a batch's rows fit one commit");
const _: () = assert!(HELD_PERCENT_DEFAULT <= 100 && SPOOL_PERCENT_DEFAULT <= 100);
const _: () = assert!(PATH_LITERAL_BYTES_MAX + 9 + 4 < PATH_COMPONENT_BYTES_MAX, "room for a value, cut and marked");
const _: () = assert!(PATH_VALUE_BYTES_MAX + ".log".len() <= PATH_COMPONENT_BYTES_MAX);
const _: () = assert!(PATH_COMPONENT_BYTES_MAX + PATH_SUFFIX_BYTES <= 255, "NAME_MAX");
const _: () = assert!(PATH_COMPONENTS_MAX * (PATH_COMPONENT_BYTES_MAX + 1) < 2048, "half of PATH_MAX");
