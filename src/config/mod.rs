//! What we will do: flags resolved and checked, once, before anything is opened.

pub mod current;
pub mod file;
pub mod labels;
pub mod limits;
pub mod secret;
pub mod sections;
pub mod sink_options;
pub mod sinks;
pub mod treatment;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;

use crate::cli::Failure;
use crate::cli::flags::{AgentFlags, BackfillFlags, ContainersFlags, PlaceFlags};
use crate::config::limits::{HELD_BYTES_DEFAULT, HELD_PERCENT_DEFAULT};
use crate::config::sections::{Section, Sections};
use crate::config::treatment::Treatment;
use crate::decode::Stream;
use crate::discover::{Needed, PathTemplate, Selection};
use crate::filter::TimeFilter;
use crate::format::{Metadata, Template};

/// What the flags can't know. Asked for once, at start.
#[derive(Clone, Debug)]
pub struct Host {
    /// Nanoseconds since the Unix epoch: what `10m` ago is counted from.
    pub now_ns: i128,
    pub hostname: String,
    pub cores: usize,
    /// What relative paths start from.
    pub working_dir: PathBuf,
    /// The container the agent runs in, see `discover::selection::own_container_id`.
    pub own_id: Option<String>,
}

/// Everything `run` and `backfill` need to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub places: Places,
    pub selection: Selection,
    /// Labels and variables that are to be read.
    pub needed: Needed,
    pub hostname: String,
    pub from: From,
    /// How every container is treated that neither a section nor its labels treat otherwise.
    pub base: Treatment,
    pub sections: Sections,
    /// None: see [`Config::held_max`].
    pub held_max_bytes: Option<u64>,

    pub path_template: PathTemplate,
    pub durability: Durability,
    pub max_total_bytes: Option<u64>,

    /// Of a drain.
    pub shutdown_timeout: Duration,

    /// Backfill's `--since` and `--until`; open on both sides otherwise.
    pub window: TimeFilter,
    /// Above zero; 1 for `run`.
    pub threads: usize,
    pub progress: Progress,

    pub log_level: String,
    pub log_format: LogFormat,
    pub listen: Listen,
    /// Metrics may name containers.
    pub container_metrics: bool,

    /// Beside the files.
    pub sinks: Vec<sinks::Sink>,
}

/// Where /metrics and its neighbours are served when nobody says otherwise: on this host only.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9105));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Off,
    /// At [`LISTEN_DEFAULT`]. Nobody asked for it, so a port that is taken stops nothing.
    Unasked,
    At(SocketAddr),
}

/// Everything `containers` needs to know.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    pub places: Places,
    pub selection: Selection,
    pub needed: Needed,
    pub hostname: String,
    pub json: bool,
}

/// The three directories, absolute. Links in them are not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub containers_dir: PathBuf,
    pub log_path: PathBuf,
    pub state_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As --template says
    Text,
    /// One JSON object a line
    Json,
    /// The source line, unchanged
    Docker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    Beginning,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether outputs are on the disk before a commit names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kernel writes back when it likes; a power loss is repaired from the source.
    Relaxed,
    Synced,
}

/// What `--stream` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    Stdout,
    Stderr,
}

impl StreamName {
    fn stream(self) -> Stream {
        match self {
            StreamName::Stdout => Stream::Stdout,
            StreamName::Stderr => Stream::Stderr,
        }
    }
}

impl Config {
    pub fn for_run(flags: &AgentFlags, host: &Host) -> Result<Config, Failure> {
        let selection = Selection::parse(&flags.selection, host.own_id.clone()).map_err(usage)?;
        let base = Treatment::of(flags)?;
        let path_template = path_template(flags)?;
        Ok(Config {
            places: Places::resolve(&flags.places, &host.working_dir)?,
            needed: Needed::new(base.template.tags().chain(path_template.tags()), selection.labels()),
            selection,
            hostname: flags.selection.hostname(&host.hostname),
            from: flags.from,
            base,
            sections: Sections::default(),
            held_max_bytes: flags.held_max.map(|ByteSize(bytes)| bytes),
            path_template,
            durability: if flags.sync { Durability::Synced } else { Durability::Relaxed },
            max_total_bytes: flags.max_total.map(|ByteSize(bytes)| bytes),
            shutdown_timeout: flags.shutdown_timeout,
            window: TimeFilter::default(),
            threads: 1,
            progress: Progress::Never,
            log_level: flags.own_logs.log_level.0.clone(),
            log_format: flags.own_logs.log_format,
            listen: flags.own_logs.listen.unwrap_or(Listen::Unasked),
            container_metrics: flags.own_logs.container_metrics,
            sinks: Vec::new(),
        })
    }

    pub fn for_backfill(flags: &BackfillFlags, host: &Host) -> Result<Config, Failure> {
        let window = TimeFilter {
            since_ns: flags.since.map(|when| when.resolve(host.now_ns)),
            until_ns: flags.until.map(|when| when.resolve(host.now_ns)),
        };
        if let (Some(since), Some(until)) = (window.since_ns, window.until_ns)
            && since >= until
        {
            return Err(Failure::usage("--since is not before --until: nothing lies between them")
                .hint("10m means ten minutes ago; a date means its midnight, UTC"));
        }
        let threads = flags.threads.map_or(host.cores, usize::from).clamp(1, limits::THREADS_MAX);
        // It may run beside a port that is in use, and ends before anybody would scrape it.
        let listen = flags.agent.own_logs.listen.unwrap_or(Listen::Off);
        Ok(Config { window, threads, listen, progress: flags.progress, ..Config::for_run(&flags.agent, host)? })
    }

    /// And with what sections say.
    pub fn with_sections(mut self, sections: &Sections) -> Result<Config, Failure> {
        sections.check(&self.base)?;
        self.needed = self.needed.with(sections.iter().filter_map(Section::template).flat_map(Template::tags));
        self.selection = enabled(self.selection, sections);
        self.sections = sections.clone();
        Ok(self)
    }

    /// How this container is treated, and what is wrong with its labels, a line each.
    pub fn treatment(&self, metadata: &Metadata) -> (Treatment, Vec<String>) {
        let mut treatment = self.sections.treatment(&self.base, &metadata.name);
        let bad = match self.selection.takes_container_labels() {
            true => labels::apply(&mut treatment, metadata),
            false => Vec::new(),
        };
        (treatment, bad)
    }

    /// `next` as far as a running agent can take it, and the names of settings for which it would have to start anew:
    /// those stay as they are.
    pub fn taken_over(&self, next: Config) -> (Config, Vec<&'static str>) {
        let mut restarts = Vec::new();
        let mut keep = |setting: &'static str, same: bool| {
            if !same {
                restarts.push(setting);
            }
        };
        keep("containers_dir", self.places.containers_dir == next.places.containers_dir);
        keep("log_path", self.places.log_path == next.places.log_path);
        keep("state_dir", self.places.state_dir == next.places.state_dir);
        keep("from", self.from == next.from);
        keep("listen", self.listen == next.listen);
        keep("log_format", self.log_format == next.log_format);
        keep("sinks", self.sinks == next.sinks);
        let config = Config {
            places: self.places.clone(),
            sinks: self.sinks.clone(),
            from: self.from,
            listen: self.listen,
            log_format: self.log_format,
            ..next
        };
        (config, restarts)
    }

    /// Bytes of deleted logs that may be held open, on a file system of this size.
    pub fn held_max(&self, file_system_bytes: u64) -> u64 {
        let default = HELD_BYTES_DEFAULT.min(file_system_bytes / 100 * HELD_PERCENT_DEFAULT);
        self.held_max_bytes.unwrap_or(default)
    }
}

impl ContainersConfig {
    pub fn resolve(flags: &ContainersFlags, sections: &Sections, host: &Host) -> Result<ContainersConfig, Failure> {
        let selection = Selection::parse(&flags.selection, host.own_id.clone()).map_err(usage)?;
        let selection = enabled(selection, sections);
        Ok(ContainersConfig {
            places: Places::resolve(&flags.places, &host.working_dir)?,
            needed: Needed::new([], selection.labels()),
            selection,
            hostname: flags.selection.hostname(&host.hostname),
            json: flags.json,
        })
    }
}

impl Places {
    pub fn resolve(flags: &PlaceFlags, working_dir: &Path) -> Result<Places, Failure> {
        let absolute = |flag: &str, path: &Path| {
            if path.as_os_str().is_empty() {
                return Err(Failure::usage(format!("{flag} is empty")));
            }
            Ok(working_dir.join(path).components().filter(|part| *part != Component::CurDir).collect::<PathBuf>())
        };
        let places = Places {
            containers_dir: absolute("--containers-dir", &flags.containers_dir)?,
            log_path: absolute("--log-path", &flags.log_path)?,
            state_dir: absolute("--state-dir", &flags.state_dir)?,
        };
        places.check()?;
        Ok(places)
    }

    /// Whether the three keep out of each other's way. To be asked again when the real paths are known: a link may
    /// lead one into another.
    pub fn check(&self) -> Result<(), Failure> {
        let containers_dir = without_dots(&self.containers_dir);
        let log_path = without_dots(&self.log_path);
        let state_dir = without_dots(&self.state_dir);
        let refuse = |what: &str, one: &Path, relation: &str, other: &Path, hint: &str| {
            Err(Failure::usage(format!("{what} {} {relation} {}", one.display(), other.display())).hint(hint))
        };
        const READ_ONLY: &str = "nothing is ever written among Docker's files; choose a directory elsewhere";
        if log_path.starts_with(&containers_dir) {
            return refuse("log-path", &log_path, "is in the containers-dir", &containers_dir, READ_ONLY);
        }
        if state_dir.starts_with(&containers_dir) {
            return refuse("state-dir", &state_dir, "is in the containers-dir", &containers_dir, READ_ONLY);
        }
        if containers_dir.starts_with(&log_path) {
            return refuse("log-path", &log_path, "contains the containers-dir", &containers_dir, READ_ONLY);
        }
        if state_dir.starts_with(&log_path) {
            const APART: &str = "a container's output could take the place of the state; choose a directory beside it";
            let relation = if state_dir == log_path { "is also the state-dir" } else { "contains the state-dir" };
            return refuse("log-path", &log_path, relation, &state_dir, APART);
        }
        Ok(())
    }
}

/// Whether a key's value alone means something; what several say together is for [`Config::for_run`].
pub fn check_value(key: &str, flags: &AgentFlags) -> Result<(), Failure> {
    match key {
        "template" | "redact" => Treatment::of(&AgentFlags { format: Format::Text, ..flags.clone() }).map(drop),
        "path_template" => path_template(flags).map(drop),
        _ => Selection::parse(&flags.selection, None).map(drop).map_err(usage),
    }
}

fn enabled(selection: Selection, sections: &Sections) -> Selection {
    selection.enabling(sections.iter().filter_map(|section| Some((section.names.clone(), section.enable?))))
}

fn path_template(flags: &AgentFlags) -> Result<PathTemplate, Failure> {
    PathTemplate::parse(&flags.path_template).map_err(|error| {
        let failure = Failure::usage(format!("cannot use --path-template '{}'", printable(&flags.path_template)));
        let failure = failure.caused_by(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn usage(error: impl std::error::Error + 'static) -> Failure {
    Failure::usage("cannot tell which containers are wanted").caused_by(&error)
}

/// An error is one line, whatever was typed.
fn printable(typed: &str) -> String {
    typed.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Takes `a/../b` for `b`: right unless `a` is a link, which only the file system can tell.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, Exit};

    fn host() -> Host {
        Host {
            now_ns: 1_764_072_000_000_000_000,
            hostname: "node-1".into(),
            cores: 6,
            working_dir: "/srv".into(),
            own_id: None,
        }
    }

    fn resolve(line: &str) -> Result<Config, Failure> {
        let words = std::iter::once("longshore").chain(line.split_whitespace());
        match Cli::try_parse_from(words).expect(line).into_command() {
            Command::Run(flags) => Config::for_run(&flags, &host()),
            Command::Backfill(flags) => Config::for_backfill(&flags, &host()),
            _ => panic!("not this one"),
        }
    }

    fn refused(line: &str) -> String {
        let failure = resolve(line).expect_err(line);
        assert_eq!(failure.code, Exit::Usage);
        let shown = failure.to_string();
        assert_eq!(shown.lines().count(), 1 + usize::from(failure.hint.is_some()), "{shown}");
        shown
    }

    #[test]
    fn defaults() {
        let config = resolve("run").unwrap();
        assert_eq!(config.places.containers_dir, Path::new("/var/lib/docker/containers"));
        assert_eq!(config.places.log_path, Path::new("/var/log/longshore"));
        assert_eq!(config.places.state_dir, Path::new("/var/lib/longshore"));
        assert_eq!(config.path_template.to_string(), "{name}/{name}.log");
        assert_eq!(config.base.template, Template::default());
        assert_eq!(
            (config.base.limit, config.base.compression, config.base.file_mode),
            (50_000_000, Compression::None, 0o640)
        );
        assert_eq!((config.base.max_files, config.base.max_age, config.max_total_bytes), (None, None, None));
        assert_eq!(
            (config.from, config.base.format, config.base.max_line_bytes),
            (From::Beginning, Format::Text, 1 << 20)
        );
        assert_eq!(
            (config.durability, config.listen, config.window),
            (Durability::Relaxed, Listen::Unasked, TimeFilter::default())
        );
        assert_eq!((config.threads, config.progress), (1, Progress::Never));
        assert_eq!((config.log_level.as_str(), config.shutdown_timeout), ("info", limits::DRAIN_MAX));
        assert_eq!(resolve("backfill").unwrap().listen, Listen::Off);
    }

    #[test]
    fn held_max_is_the_less_of_two_unless_given() {
        let config = resolve("run").unwrap();
        assert_eq!(config.held_max(100 << 30), 5 * ((100 << 30) / 100));
        assert_eq!(config.held_max(1 << 50), 10 << 30);
        assert_eq!(resolve("run --held-max 1GiB").unwrap().held_max(1 << 20), 1 << 30);
    }

    #[test]
    fn times_are_resolved_once() {
        let config = resolve("backfill --since 10m --until 2025-11-26 --threads 3 --progress always").unwrap();
        assert_eq!(config.window.since_ns, Some(host().now_ns - 600_000_000_000));
        assert_eq!(config.window.until_ns, Some(1_764_115_200_000_000_000));
        assert_eq!((config.threads, config.progress), (3, Progress::Always));
        let config = resolve("backfill").unwrap();
        assert_eq!((config.threads, config.progress), (6, Progress::Auto));
        assert!(refused("backfill --since 10m --until 20m").contains("--since is not before --until"));
        refused("backfill --since 2025-11-25 --until 2025-11-25");
    }

    #[test]
    fn directories_keep_out_of_each_others_way() {
        for line in [
            "run --containers-dir /c --log-path /c/out",
            "run --containers-dir /c --log-path /c",
            "run --containers-dir /logs/c --log-path /logs",
            "run --containers-dir c --log-path /srv/x/../c/out",
            "run --containers-dir /c --state-dir /c/./state",
            "run --log-path /a --state-dir /a",
            "run --log-path /a --state-dir /a/state",
        ] {
            assert!(refused(line).contains("hint: "), "{line}");
        }
        for line in [
            "run --containers-dir /logs --log-path /logs2 --state-dir /logs3",
            "run --log-path /state/out --state-dir /state",
            "run --containers-dir c --log-path out --state-dir state",
        ] {
            assert!(resolve(line).is_ok(), "{line}");
        }
        let places = resolve("run --containers-dir c -o ./out/ --state-dir state").unwrap().places;
        assert_eq!(places.log_path, Path::new("/srv/out"));
    }

    #[test]
    fn templates_are_checked() {
        assert!(refused("run --template {lgo}").contains("did you mean {log}?"));
        assert!(refused("run --path-template {image}.log").contains("hint: use {name}"));
        assert!(refused("run --path-template ../{name}.log").contains("below --log-path"));
        assert!(refused("run --format json --template {log}").contains("--template"));
        assert!(resolve("run --format docker").is_ok());
    }

    #[test]
    fn only_labels_that_are_used_are_needed() {
        let config = resolve("run --template {label.a}{log} --path-template {env.B}/{name}.log --label c=d").unwrap();
        let tags = [crate::format::Tag::Label("a".into()), crate::format::Tag::Env("B".into())];
        let own = crate::discover::container::CONTAINER_LABELS;
        assert_eq!(config.needed, Needed::new(&tags, own.into_iter().chain(["c"])));
        let config = resolve("run --label c=d --container-labels no").unwrap();
        assert_eq!(config.needed, Needed::new([], ["c"]));
    }

    #[test]
    fn what_is_redacted_is_checked() {
        assert!(refused("run --redact email,none").contains("none stands alone"));
        assert!(refused("run --redact emails").contains("did you mean email?"));
        assert!(refused("run --redact email --format docker").contains("--format docker leaves lines unchanged"));
        assert!(resolve("run --redact none --format docker").unwrap().base.redaction.is_empty());
        assert!(!resolve("run --redact email --redact a{1,2}").unwrap().base.redaction.is_empty());
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_is() {
        let (running, next) =
            (resolve("run --limit 1MB").unwrap(), resolve("run --limit 2MB -o /x --listen 1").unwrap());
        let (taken, restarts) = running.taken_over(next);
        assert_eq!(restarts, ["log_path", "listen"]);
        assert_eq!((taken.base.limit, taken.places, taken.listen), (2_000_000, running.places, Listen::Unasked));
    }

    #[test]
    fn selections_are_checked() {
        assert!(refused("run -n a[b").contains("invalid glob 'a[b' in --container-names"));
        refused("run --label =x");
    }
}
