//! What may be typed: every flag as a typed value with its environment variable. Resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use crate::cli::forward_flags::{FORWARDING, ForwardFlags};
use crate::config::limits::{MAX_LINE_BYTES_MAX, MAX_LINE_BYTES_MIN, THREADS_MAX};
use crate::config::{Compression, Format, From, Listen, LogFormat, Progress, StreamName};
use crate::filter::Pattern;

/// Carries every line of every Docker container into rotating files, exactly once
#[derive(Clone, Debug, Parser)]
#[command(name = "longshore", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a command, longshore does what `longshore run` does.")]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: AgentFlags,
}

impl Cli {
    /// What to do; `run` when no command was typed.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Follow every container of this host; SIGTERM drains and exits 0
    Run(AgentFlags),
    /// Deliver all there is, from where the state stands, compressed generations included, then exit
    Backfill(BackfillFlags),
    /// Show each container with its log's size, the position reached and the lag, also beside a running agent
    Containers(ContainersFlags),
    /// Compare the outputs with everything the engine still has, also beside a running agent; exit 0 only if all that
    /// should be there is, once, in order, unaltered
    Verify(ContainersFlags),
    /// Show what could not be delivered: container, bytes, times, reason; also beside a running agent
    Ledger(LedgerFlags),
    /// Look at, move or edit what the agent remembers; no agent may be running
    State(StateFlags),
    /// Read the configuration as `run` would, with the same flags, and say what is wrong with it; exit 0 or 78
    Check(Box<CheckFlags>),
    /// Show the configuration: what is in effect, what could be set, and a schema for editors
    Config(ConfigFlags),
    /// Show how the running agent gets on: rate, lag, deleted logs held, open lines and trouble of each container
    Status(StatusFlags),
    /// Show the same live, sorted as you like, with sparklines of the rates; q ends it
    Top(TopFlags),
    /// Ask the agent on this host whether it is alive, by /healthz on its own port; exit 0 or 1
    Healthcheck(HealthcheckFlags),
    /// Print a completion script for a shell
    Completions(CompletionsFlags),
    /// Print the manual page, or write one for each command
    Man(ManFlags),
}

const SOURCE: &str = "Source";
const FILTERS: &str = "Filters";
const OUTPUT: &str = "Output";
const ROTATION: &str = "Rotation";
const STATE: &str = "State";
const BACKFILL: &str = "Backfill";
const OWN_LOGS: &str = "Own logs";

/// What `run` and `backfill` have in common.
#[derive(Args, Clone, Debug)]
pub struct AgentFlags {
    #[command(flatten)]
    pub places: PlaceFlags,
    #[command(flatten)]
    pub selection: SelectionFlags,
    #[command(flatten)]
    pub filters: FilterFlags,

    /// Where to begin in the log of a container never seen before. `end` means logs that were there when the state
    /// was first made; later ones are always read from their beginning
    #[arg(long, value_name = "WHERE", value_enum, default_value = "beginning")]
    #[arg(env = "LONGSHORE_FROM", help_heading = SOURCE)]
    pub from: From,

    /// Longest joined line; a longer one goes on in further records with the same time, nothing is dropped.
    /// 16KiB to 2MiB, e.g. 256KiB
    #[arg(long, value_name = "SIZE", value_parser = parse_line_size, default_value = "1MiB")]
    #[arg(env = "LONGSHORE_MAX_LINE_BYTES", help_heading = SOURCE)]
    pub max_line_bytes: ByteSize,

    /// Bytes of deleted logs that may be kept alive by holding them open until they are read, e.g. 2GiB
    /// [default: 10GiB or 5 % of the file system, the less]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    #[arg(env = "LONGSHORE_HELD_MAX", help_heading = SOURCE)]
    pub held_max: Option<ByteSize>,

    /// Path of a container's output below the log-path, e.g. {namespace}_{pod}/{container}.log. Tags as in --template,
    /// without those of a line; must tell containers apart that live at the same time
    #[arg(long, value_name = "T", default_value = "{name}/{name}.log")]
    #[arg(env = "LONGSHORE_PATH_TEMPLATE", help_heading = OUTPUT)]
    pub path_template: String,

    /// How a record is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    #[arg(env = "LONGSHORE_FORMAT", help_heading = OUTPUT)]
    pub format: Format,

    /// A line of the text format, e.g. '{time} {stream} {label.app} {log}'. Tags: log, time, timestamp, stream, name,
    /// id, short_id, image, image_id, hostname, label.KEY, env.KEY, namespace, pod, container
    #[arg(long, value_name = "T", default_value = DEFAULT_TEMPLATE)]
    #[arg(env = "LONGSHORE_TEMPLATE", help_heading = OUTPUT)]
    pub template: String,

    /// Permissions of new outputs, octal, e.g. 0644
    #[arg(long, value_name = "MODE", default_value = "0640")]
    #[arg(env = "LONGSHORE_FILE_MODE", help_heading = OUTPUT)]
    pub file_mode: FileMode,

    /// Make outputs durable before each commit: survives power loss without reading again, and costs a sync of each
    /// written output every second
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "LONGSHORE_SYNC", help_heading = OUTPUT)]
    pub sync: bool,

    /// Rotate an output before the line that would exceed this; a single longer line is written whole. 50MB is
    /// decimal, 50MiB binary; 50M and 50 (bytes) are understood
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size_above_zero, default_value = "50MB")]
    #[arg(env = "LONGSHORE_LIMIT", help_heading = ROTATION)]
    pub limit: ByteSize,

    /// Compress rotated files, in the background; a bare -c means gzip
    #[arg(short, long, value_name = "KIND", value_enum, default_value = "none")]
    #[arg(num_args = 0..=1, default_missing_value = "gzip")]
    #[arg(env = "LONGSHORE_COMPRESSION", help_heading = ROTATION)]
    pub compression: Compression,

    /// Files to keep for each container, the current one included; the oldest go first, e.g. 10 [default: unlimited]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "LONGSHORE_MAX_FILES", help_heading = ROTATION)]
    pub max_files: Option<u32>,

    /// Remove rotated files older than this, e.g. 7d or 12h [default: unlimited]
    #[arg(long, value_name = "D", value_parser = parse_age)]
    #[arg(env = "LONGSHORE_MAX_AGE", help_heading = ROTATION)]
    pub max_age: Option<Duration>,

    /// Bytes of all outputs together; rotated files go from the largest holder first, e.g. 20GB [default: unlimited]
    #[arg(long, value_name = "SIZE", value_parser = parse_size_above_zero)]
    #[arg(env = "LONGSHORE_MAX_TOTAL", help_heading = ROTATION)]
    pub max_total: Option<ByteSize>,

    /// How long a drain may take after SIGTERM or SIGINT; a second signal ends at once. Keep it below the time after
    /// which whoever stops the agent kills it
    #[arg(long, value_name = "D", value_parser = parse_age, default_value = "30s")]
    #[arg(env = "LONGSHORE_SHUTDOWN_TIMEOUT", help_heading = STATE)]
    pub shutdown_timeout: Duration,

    #[command(flatten)]
    pub forward: ForwardFlags,

    #[command(flatten)]
    pub own_logs: OwnLogFlags,
}

/// What the agent says about itself.
#[derive(Args, Clone, Debug)]
pub struct OwnLogFlags {
    /// error, warn, info, debug or trace; or a filter such as info,longshore::tail=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    #[arg(env = "LONGSHORE_LOG_LEVEL", help_heading = OWN_LOGS)]
    pub log_level: LogLevel,

    /// How own logs are written to stderr
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    #[arg(env = "LONGSHORE_LOG_FORMAT", help_heading = OWN_LOGS)]
    pub log_format: LogFormat,

    /// Serve /metrics, /healthz, /readyz, /status and a page here, e.g. 0.0.0.0:9105; a bare port means 127.0.0.1, none
    /// turns it off [default: 127.0.0.1:9105; a backfill: none]
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    #[arg(env = "LONGSHORE_LISTEN", help_heading = OWN_LOGS)]
    pub listen: Option<Listen>,

    /// Metrics with the names of containers as well: a few series for each of them
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "LONGSHORE_CONTAINER_METRICS", help_heading = OWN_LOGS)]
    pub container_metrics: bool,
}

#[derive(Args, Clone, Debug)]
pub struct BackfillFlags {
    #[command(flatten)]
    pub agent: AgentFlags,

    /// Leave out what is older, counted as filtered: 2026-11-25T10:00:00Z, 2026-11-25 (midnight UTC), or 10m (ago)
    #[arg(long, value_name = "T", env = "LONGSHORE_SINCE", help_heading = BACKFILL)]
    pub since: Option<When>,

    /// Leave what is at this time or newer for a later run
    #[arg(long, value_name = "T", env = "LONGSHORE_UNTIL", help_heading = BACKFILL)]
    pub until: Option<When>,

    /// Containers that are read at the same time, 1 to 64 [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=THREADS_MAX as i64))]
    #[arg(env = "LONGSHORE_THREADS", help_heading = BACKFILL)]
    pub threads: Option<u8>,

    /// Show a progress bar; auto means on a terminal
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    #[arg(env = "LONGSHORE_PROGRESS", help_heading = BACKFILL)]
    pub progress: Progress,
}

#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    #[command(flatten)]
    pub agent: AgentFlags,

    /// Also send an empty batch to each sink, and exit 1 if one of them can't be reached or refuses
    #[arg(long, help_heading = FORWARDING)]
    pub connect: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ContainersFlags {
    #[command(flatten)]
    pub places: PlaceFlags,
    #[command(flatten)]
    pub selection: SelectionFlags,

    /// One JSON object a line instead of a table
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct LedgerFlags {
    #[command(flatten)]
    pub places: PlaceFlags,

    /// A JSON array instead of a table
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct StatusFlags {
    #[command(flatten)]
    pub places: PlaceFlags,

    /// JSON instead of a table: the same as /status
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct TopFlags {
    #[command(flatten)]
    pub places: PlaceFlags,
}

#[derive(Args, Clone, Debug)]
pub struct HealthcheckFlags {
    /// The agent's own configuration, for its `listen`; one that can't be read doesn't make the agent unwell
    /// [default: /etc/longshore/config.toml, which need not be there]
    #[arg(long, value_name = "FILE", env = "LONGSHORE_CONFIG", help_heading = STATE)]
    pub config: Option<PathBuf>,

    /// The agent's own --listen; 0.0.0.0 and [::] are asked on the loopback [default: 127.0.0.1:9105]
    #[arg(long, value_name = "ADDR", value_parser = parse_listen, env = "LONGSHORE_LISTEN", help_heading = OWN_LOGS)]
    pub listen: Option<Listen>,
}

#[derive(Args, Clone, Debug)]
pub struct CompletionsFlags {
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Args, Clone, Debug)]
pub struct ManFlags {
    /// Write longshore.1, longshore-run.1 and so on into this directory, instead of one page to stdout
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct StateFlags {
    #[command(subcommand)]
    pub command: StateCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum StateCommand {
    /// Positions in words: each container's output, its place there, and the place in its log; and those of each sink
    List(LedgerFlags),
    /// Write all rows and the ledger to stdout as JSON, to move an agent to another host
    Export(PlaceFlags),
    /// Read what `export` wrote from stdin into an empty store
    Import(ImportFlags),
    /// Remove a container's row, or what a sink remembers, so that it counts as never seen. While its output is there,
    /// nothing is written again: its place is searched for there, by what the journal in log-path tells. To have all of
    /// it written again, remove its output as well
    Forget(ForgetFlags),
}

#[derive(Args, Clone, Debug)]
pub struct ConfigFlags {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Each key's value as `run` would take it with the same flags, and where it comes from
    Show(Box<AgentFlags>),
    /// A file with every key and its default, commented out
    Default,
    /// A JSON Schema of the file
    Schema,
}

#[derive(Args, Clone, Debug)]
pub struct ImportFlags {
    #[command(flatten)]
    pub places: PlaceFlags,

    /// Put the rows in place of those that the store has
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ForgetFlags {
    #[command(flatten)]
    pub places: PlaceFlags,

    /// The container's name, its id, or the beginning of it (12 digits at least)
    #[arg(value_name = "NAME|ID", required_unless_present = "sink")]
    pub container: Option<String>,

    /// What this sink remembers, of the container or, without one, all of it: it counts as new then. Its copies of
    /// deleted logs go, too
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
}

/// The three directories, and the file that may name them.
#[derive(Args, Clone, Debug)]
pub struct PlaceFlags {
    /// Docker's directory of containers; only read. May be a symlink, and may appear later than the agent
    #[arg(long, value_name = "DIR", default_value = "/var/lib/docker/containers")]
    #[arg(env = "LONGSHORE_CONTAINERS_DIR", help_heading = SOURCE)]
    pub containers_dir: PathBuf,

    /// Where outputs go
    #[arg(short = 'o', long, value_name = "DIR", default_value = "/var/log/longshore")]
    #[arg(env = "LONGSHORE_LOG_PATH", help_heading = OUTPUT)]
    pub log_path: PathBuf,

    /// Where the agent remembers what it delivered; one agent holds it at a time
    #[arg(long, value_name = "DIR", default_value = "/var/lib/longshore")]
    #[arg(env = "LONGSHORE_STATE_DIR", help_heading = STATE)]
    pub state_dir: PathBuf,

    /// The configuration's file, whose keys are the flags' names, written with _; and *.toml in conf.d beside it, later
    /// names above earlier ones. Flags and variables win over it
    /// [default: /etc/longshore/config.toml, which need not be there]
    #[arg(long, value_name = "FILE")]
    #[arg(env = "LONGSHORE_CONFIG", help_heading = STATE)]
    pub config: Option<PathBuf>,
}

/// Which containers. Of several kinds of flags all must agree; of one list, one entry must.
#[derive(Args, Clone, Debug, Default)]
pub struct SelectionFlags {
    /// Only containers with these names or globs, e.g. web,db-* [default: all]
    #[arg(short = 'n', long, value_name = "A,B")]
    #[arg(env = "LONGSHORE_CONTAINER_NAMES", help_heading = SOURCE)]
    pub container_names: Vec<List>,

    /// Not containers with these names or globs, whatever else selects them
    #[arg(long, value_name = "A,B", env = "LONGSHORE_EXCLUDE_NAMES", help_heading = SOURCE)]
    pub exclude_names: Vec<List>,

    /// Only containers with all of these labels, e.g. tier=front,traced; a comma in a value is written `\,`
    #[arg(long, value_name = "K=V", env = "LONGSHORE_LABEL", help_heading = SOURCE)]
    pub label: Vec<List>,

    /// Only containers of these images, as typed at `docker run`, e.g. 'nginx:*'
    #[arg(long, value_name = "GLOB", env = "LONGSHORE_IMAGE", help_heading = SOURCE)]
    pub image: Vec<List>,

    /// Whether a container's own labels longshore.exclude, .enable, .limit, .template, .filter-regex, .exclude-regex,
    /// .compression and .max-files count. They win over [[container]] sections, may take no more of the disk than
    /// those allow, and never choose a path
    #[arg(long, value_name = "YES|NO", value_enum, default_value = "yes")]
    #[arg(env = "LONGSHORE_CONTAINER_LABELS", help_heading = SOURCE)]
    pub container_labels: Switch,

    /// This host's name, for {hostname}: in a container or a pod the system's is another one [default: the system's]
    #[arg(long, value_name = "NAME", value_parser = parse_hostname)]
    #[arg(env = "LONGSHORE_HOSTNAME", help_heading = SOURCE)]
    pub hostname: Option<String>,
}

impl SelectionFlags {
    /// `system` is what the kernel calls it.
    pub fn hostname(&self, system: &str) -> String {
        self.hostname.clone().unwrap_or_else(|| system.to_owned())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    #[default]
    Yes,
    No,
}

/// Which records of a container. What is left out is counted as filtered, and its place is remembered as that of any other.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterFlags {
    /// Keep only records whose joined text matches, e.g. 'status=5[0-9][0-9]'
    #[arg(long, value_name = "REGEX", env = "LONGSHORE_FILTER_REGEX", help_heading = FILTERS)]
    pub filter_regex: Option<Pattern>,

    /// Leave out records whose joined text matches, e.g. 'GET /healthz'; whatever else keeps them
    #[arg(long, value_name = "REGEX", env = "LONGSHORE_EXCLUDE_REGEX", help_heading = FILTERS)]
    pub exclude_regex: Option<Pattern>,

    /// Keep only records of this stream [default: both]
    #[arg(long, value_name = "STREAM", value_enum, env = "LONGSHORE_STREAM", help_heading = FILTERS)]
    pub stream: Option<StreamName>,

    /// Replace what matches in the text with [redacted:NAME], after filtering: email, ipv4, card (with its check digit),
    /// bearer, aws-key, password-pair, or a regular expression; a comma in one is written `\,`. Counted by name. In a
    /// text longer than max-line-bytes each part is looked at by itself
    #[arg(long, value_name = "NAME|REGEX", env = "LONGSHORE_REDACT", help_heading = FILTERS)]
    pub redact: Vec<List>,
}

/// The default of `--template`: what `docker logs --timestamps` prints.
pub const DEFAULT_TEMPLATE: &str = "{time} {log}";

/// Entries separated by commas. A comma in braces or brackets belongs to a glob; `\,` is a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl FromStr for List {
    type Err = String;

    fn from_str(typed: &str) -> Result<List, String> {
        let mut entries = vec![String::new()];
        let mut depth = 0usize;
        let mut characters = typed.chars().peekable();
        while let Some(character) = characters.next() {
            let entry = entries.last_mut().expect("begins with one entry");
            match character {
                ',' if depth == 0 => {
                    entries.push(String::new());
                    continue;
                }
                '\\' if characters.peek() == Some(&',') => {
                    characters.next();
                    entry.push(',');
                    continue;
                }
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            entry.push(character);
        }
        entries.iter_mut().for_each(|entry| *entry = entry.trim().to_owned());
        entries.retain(|entry| !entry.is_empty());
        if entries.is_empty() { Err("empty; leave the flag out instead".to_owned()) } else { Ok(List(entries)) }
    }
}

/// Permissions of an output, at most 0777.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(typed: &str) -> Result<FileMode, String> {
        let digits = typed.strip_prefix("0o").unwrap_or(typed);
        if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
            return Err("not an octal mode such as 0640".to_owned());
        }
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(FileMode(mode)),
            Ok(mode) if mode <= 0o777 => Err("the owner must be able to read and write, as in 0640".to_owned()),
            _ => Err("above 0777".to_owned()),
        }
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileMode(0{:o})", self.0)
    }
}

/// A moment as typed: of itself, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nanoseconds since the Unix epoch.
    At(i128),
    Ago(Duration),
}

impl When {
    /// Nanoseconds since the Unix epoch.
    pub fn resolve(self, now_ns: i128) -> i128 {
        match self {
            When::At(time_ns) => time_ns,
            When::Ago(duration) => now_ns - duration.as_nanos() as i128,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(typed: &str) -> Result<When, String> {
        if let Ok(timestamp) = typed.parse::<jiff::Timestamp>() {
            return Ok(When::At(timestamp.as_nanosecond()));
        }
        if let Ok(duration) = humantime::parse_duration(typed) {
            return Ok(When::Ago(duration));
        }
        // Without a zone it is UTC, as all times in the outputs are.
        let civil = typed.contains('-').then(|| typed.parse::<jiff::civil::DateTime>().ok()).flatten();
        match civil.and_then(|civil| jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()) {
            Some(timestamp) => Ok(When::At(timestamp.as_nanosecond())),
            None => Err("not a time such as 2026-11-25T10:00:00Z, 2026-11-25 or 10m".to_owned()),
        }
    }
}

/// A level, or directives as `RUST_LOG` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub String);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(typed: &str) -> Result<LogLevel, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in typed.split(',') {
            // Targets takes a misspelt level for the name of a module, and then says nothing at all.
            let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive.trim()));
            if !is_level && !directive.contains('=') {
                return Err(
                    "neither error, warn, info, debug, trace nor a filter such as longshore::tail=debug".to_owned()
                );
            }
        }
        match typed.parse::<tracing_subscriber::filter::Targets>() {
            Ok(_) => Ok(LogLevel(typed.to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn parse_size(typed: &str) -> Result<ByteSize, String> {
    match typed.trim().parse::<ByteSize>() {
        Ok(ByteSize(u64::MAX)) => Err("larger than any disk".to_owned()),
        Ok(size) => Ok(size),
        Err(_) => Err("not a size such as 50MB (decimal), 50MiB (binary) or 50 (bytes)".to_owned()),
    }
}

fn parse_size_above_zero(typed: &str) -> Result<ByteSize, String> {
    match parse_size(typed)? {
        ByteSize(0) => Err("must be more than nothing".to_owned()),
        size => Ok(size),
    }
}

fn parse_line_size(typed: &str) -> Result<ByteSize, String> {
    let size = parse_size(typed)?;
    let range = MAX_LINE_BYTES_MIN as u64..=MAX_LINE_BYTES_MAX as u64;
    if range.contains(&size.0) { Ok(size) } else { Err("must be from 16KiB to 2MiB".to_owned()) }
}

fn parse_age(typed: &str) -> Result<Duration, String> {
    match humantime::parse_duration(typed) {
        Ok(age) if age.is_zero() => Err("must be more than nothing".to_owned()),
        Ok(age) => Ok(age),
        Err(_) => Err("not a duration such as 7d, 12h or 90m".to_owned()),
    }
}

/// `ADDR:PORT`, or a port alone, which means this machine only: metrics are opened to others on purpose.
/// It stands in every line of some templates, so it has a bound: that of names in DNS.
fn parse_hostname(typed: &str) -> Result<String, String> {
    const BYTES_MAX: usize = 253;
    match typed.len() {
        1..=BYTES_MAX if !typed.contains(char::is_control) => Ok(typed.to_owned()),
        _ => Err(format!("not a name of 1 to {BYTES_MAX} bytes without control characters")),
    }
}

fn parse_listen(typed: &str) -> Result<Listen, String> {
    if typed == "none" {
        return Ok(Listen::Off);
    }
    if let Ok(port) = typed.strip_prefix(':').unwrap_or(typed).parse::<u16>() {
        return Ok(Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
    }
    let address = typed.replace("localhost:", "127.0.0.1:").parse();
    address
        .map(Listen::At)
        .map_err(|_| "not an address such as 127.0.0.1:9105, 0.0.0.0:9105, [::]:9105 or :9105, nor none".to_owned())
}

#[cfg(test)]
mod tests;
