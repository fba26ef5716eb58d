//! Flag above variable above file above default. The files' values are given to clap as its defaults, so that what a
//! value means is said in one place, and where it came from can be told.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches};

use crate::cli::flags::{AgentFlags, BackfillFlags, Cli, Command};
use crate::cli::{Exit, Failure};
use crate::config::file::{Files, Setting, Value, refused};
use crate::config::sections::Sections;
use crate::config::{Config, Host, sinks};

/// Flags that are no keys: they choose the file, or shape what one command prints.
const NO_KEYS: [&str; 4] = ["config", "connect", "help", "json"];

/// What was asked for, and what each value came from.
pub struct Layers {
    pub command: Command,
    pub files: Files,
    pub sections: Sections,
    matches: ArgMatches,
    words: Vec<OsString>,
}

/// A flag that is also a key, as clap knows it.
#[derive(Clone)]
pub struct Key {
    pub arg: Arg,
}

impl Layers {
    /// Clap's own errors end the process.
    pub fn parse(
        words: &[OsString],
        read: impl FnOnce(Option<PathBuf>) -> Result<Files, Failure>,
    ) -> Result<Layers, Failure> {
        let parse = |command: clap::Command| Ok(command.get_matches_from(words));
        Layers::parse_by(words, &parse, read)
    }

    /// Words that were good before, with what the files say now. Ends nothing.
    pub fn parse_again(
        words: &[OsString],
        read: impl FnOnce(Option<PathBuf>) -> Result<Files, Failure>,
    ) -> Result<Layers, Failure> {
        let parse = |command: clap::Command| {
            command.try_get_matches_from(words).map_err(|error| Failure::usage(reason(&error)))
        };
        Layers::parse_by(words, &parse, read)
    }

    fn parse_by(
        words: &[OsString],
        parse: &dyn Fn(clap::Command) -> Result<ArgMatches, Failure>,
        read: impl FnOnce(Option<PathBuf>) -> Result<Files, Failure>,
    ) -> Result<Layers, Failure> {
        let typed = parse(Cli::command())?;
        // `config default` and `schema` have no files.
        let given = match innermost(&typed).try_get_one::<PathBuf>("config") {
            Ok(given) => given.cloned(),
            Err(_) => return Layers::of(words, typed, Files::default()),
        };
        let files = read(given)?;
        files.settings.iter().try_for_each(check)?;
        files.sinks.values().try_for_each(sinks::check)?;
        let layered = parse(under(Cli::command(), &files))?;
        Layers::of(words, layered, files)
    }

    fn of(words: &[OsString], matches: ArgMatches, files: Files) -> Result<Layers, Failure> {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::usage(reason(&error)))?;
        let sections = Sections::parse(&files)?;
        Ok(Layers { command: cli.into_command(), files, sections, matches, words: words.to_owned() })
    }

    /// What `run` would do.
    pub fn run_config(&self, flags: &AgentFlags, host: &Host) -> Result<Config, Failure> {
        let config = Config::for_run(flags, host).and_then(|config| config.with_sections(&self.sections));
        let config = config.map_err(|failure| self.blame(failure, host))?;
        config.with_sinks(&self.files.sinks, &flags.forward, host)
    }

    pub fn backfill_config(&self, flags: &BackfillFlags, host: &Host) -> Result<Config, Failure> {
        let config = Config::for_backfill(flags, host).and_then(|config| config.with_sections(&self.sections));
        let config = config.map_err(|failure| self.blame(failure, host))?;
        config.with_sinks(&self.files.sinks, &flags.agent.forward, host)
    }

    /// Each key's value in words, and where it came from.
    pub fn origins(&self) -> Vec<(String, Option<String>, String)> {
        let matches = innermost(&self.matches);
        let mut origins = Vec::new();
        for key in keys_of_run() {
            let id = key.id();
            let value = matches.get_raw(&id).map(|raw| {
                let values: Vec<_> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
                values.join(",")
            });
            let origin = match (matches.value_source(&id), self.files.setting(&id)) {
                (Some(ValueSource::CommandLine), _) => format!("flag --{}", key.long()),
                (Some(ValueSource::EnvVariable), _) => format!("variable {}", key.variable()),
                (Some(ValueSource::DefaultValue), Some(setting)) => setting.at.to_string(),
                _ => "default".to_owned(),
            };
            origins.push((id, value, origin));
        }
        origins
    }

    /// What keys say together may contradict: then it is the files' fault if the flags alone are fine.
    pub fn blame(&self, failure: Failure, host: &Host) -> Failure {
        if failure.code != Exit::Usage || self.files.settings.is_empty() {
            return failure;
        }
        let by_files = matches!(self.command, Command::Check(_)) || self.resolves_without_files(host);
        if !by_files {
            return failure;
        }
        let files: Vec<String> = self.files.read.iter().map(|file| file.display().to_string()).collect();
        Failure { code: Exit::Config, message: format!("{}: {}", files.join(", "), failure.message), ..failure }
    }

    fn resolves_without_files(&self, host: &Host) -> bool {
        let Ok(cli) = <Cli as clap::Parser>::try_parse_from(&self.words) else { return false };
        match cli.into_command() {
            Command::Run(flags) => Config::for_run(&flags, host).is_ok(),
            Command::Backfill(flags) => Config::for_backfill(&flags, host).is_ok(),
            _ => true,
        }
    }
}

impl Key {
    /// As it stands in a file.
    pub fn id(&self) -> String {
        self.arg.get_id().to_string()
    }

    pub fn long(&self) -> &str {
        self.arg.get_long().expect("every key has a long flag")
    }

    pub fn variable(&self) -> String {
        self.arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub fn is_flag(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::SetTrue)
    }

    pub fn is_list(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    pub fn default(&self) -> Option<String> {
        let first = self.arg.get_default_values().first()?;
        Some(first.to_string_lossy().into_owned())
    }
}

/// Every key there is.
pub fn keys() -> Vec<Key> {
    keys_in(BackfillFlags::augment_args(clap::Command::new("keys")))
}

fn keys_of_run() -> Vec<Key> {
    keys_in(AgentFlags::augment_args(clap::Command::new("keys")))
}

fn keys_in(mut command: clap::Command) -> Vec<Key> {
    command.build();
    let is_key = |arg: &&Arg| !NO_KEYS.contains(&arg.get_id().as_str());
    command.get_arguments().filter(is_key).map(|arg| Key { arg: arg.clone() }).collect()
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    let mut matches = matches;
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    matches
}

/// The command with the files' values as its defaults.
fn under(command: clap::Command, files: &Files) -> clap::Command {
    let command = command.mut_args(|arg| match files.setting(arg.get_id().as_str()) {
        Some(setting) if !NO_KEYS.contains(&arg.get_id().as_str()) => arg.default_values(words(&setting.value)),
        _ => arg,
    });
    command.mut_subcommands(|inner| under(inner, files))
}

pub(crate) fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Text(text) => vec![text.clone()],
        Value::Flag(flag) => vec![flag.to_string()],
        Value::List(entries) => entries.iter().map(|entry| entry.replace(',', r"\,")).collect(),
    }
}

/// Whether the key is one, and its value one that its flag would take.
fn check(setting: &Setting) -> Result<(), Failure> {
    check_in("", setting)
}

/// The same for a key of a section.
pub(crate) fn check_in(section: &str, setting: &Setting) -> Result<(), Failure> {
    let shown = if section.is_empty() { setting.key.clone() } else { format!("{section}.{}", setting.key) };
    let keys = keys();
    let Some(key) = keys.iter().find(|key| key.id() == setting.key) else {
        let nearest = nearest(&setting.key, keys.iter().map(Key::id));
        let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
        return Err(refused(&setting.at, format!("unknown key {}{hint}", setting.key)));
    };
    let refuse = |why: String| Err(refused(&setting.at, format!("cannot use {shown}: {why}")));
    match (&setting.value, key.is_flag(), key.is_list()) {
        (Value::Flag(_), true, _) => return Ok(()),
        (_, true, _) => return refuse("must be true or false".to_owned()),
        (Value::Flag(_), ..) => return refuse("true or false is not a value for it".to_owned()),
        (Value::List(_), _, false) => return refuse("takes one value, not a list".to_owned()),
        (Value::List(entries), ..) if entries.is_empty() => return refuse("empty; leave it out instead".to_owned()),
        _ => {}
    }
    let typed = words(&setting.value).into_iter().map(|value| format!("--{}={value}", key.long()));
    let command = BackfillFlags::augment_args(clap::Command::new("key").no_binary_name(true));
    let matches = match command.try_get_matches_from(typed) {
        Ok(matches) => matches,
        Err(error) => return refuse(reason(&error)),
    };
    let flags = BackfillFlags::from_arg_matches(&matches).map_err(|error| refused(&setting.at, reason(&error)))?;
    match crate::config::check_value(&setting.key, &flags.agent) {
        Ok(()) => Ok(()),
        Err(failure) => refuse(failure.message),
    }
}

/// Clap's reason in one line, without the flag it names.
fn reason(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) {
        return format!("must be one of {}", valid.join(", "));
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

pub(crate) fn nearest(typed: &str, known: impl Iterator<Item = String>) -> Option<String> {
    const ALIKE: f64 = 0.75;
    let typed = typed.replace('-', "_").to_lowercase();
    let rated = known.map(|key| (strsim::jaro_winkler(&typed, &key), key));
    rated.filter(|(alike, _)| *alike >= ALIKE).max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn layers(line: &str, file: &str) -> Result<Layers, String> {
        let words: Vec<OsString> =
            std::iter::once("longshore").chain(line.split_whitespace()).map(Into::into).collect();
        let read = |_| {
            let mut files = Files::default();
            files.add(Path::new("/c/config.toml"), file, &|_| None).map(|()| files)
        };
        Layers::parse(&words, read).map_err(|failure| {
            assert_eq!(failure.code, Exit::Config);
            failure.to_string()
        })
    }

    fn agent(layers: &Layers) -> &AgentFlags {
        match &layers.command {
            Command::Run(flags) => flags,
            Command::Backfill(flags) => &flags.agent,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "limit = '7MB'\nsync = true\nmax_files = 4\nimage = ['a,b', 'c']\nthreads = 3\n";
        for line in ["", "run", "backfill"] {
            let layers = layers(line, file).unwrap();
            let flags = agent(&layers);
            assert_eq!((flags.limit.0, flags.sync, flags.max_files), (7_000_000, true, Some(4)), "{line}");
            let images: Vec<_> = flags.selection.image.iter().flat_map(|list| list.0.clone()).collect();
            assert_eq!(images, ["a,b", "c"]);
        }
        let layers = layers("run --limit 8MB --max-files=9", file).unwrap();
        assert_eq!((agent(&layers).limit.0, agent(&layers).max_files), (8_000_000, Some(9)));
        let origins = layers.origins();
        let of = |key: &str| origins.iter().find(|(id, ..)| id == key).map(|(_, _, origin)| origin.as_str());
        assert_eq!(of("limit"), Some("flag --limit"));
        assert_eq!(of("sync"), Some("/c/config.toml:2"));
        assert_eq!(of("template"), Some("default"));
    }

    #[test]
    fn mistakes_are_one_line_with_file_line_key_and_the_nearest_one() {
        for (file, expected) in [
            ("\nlimitt = '1MB'", "error: /c/config.toml:2: unknown key limitt; did you mean limit?"),
            ("log-path = '/x'", "error: /c/config.toml:1: unknown key log-path; did you mean log_path?"),
            ("zzz = 1", "error: /c/config.toml:1: unknown key zzz"),
            ("config = '/x'", "error: /c/config.toml:1: unknown key config"),
            ("limit = '1XB'", "error: /c/config.toml:1: cannot use limit: not a size such as"),
            (
                "compression = 'gzipp'",
                "error: /c/config.toml:1: cannot use compression: must be one of none, gzip, zstd",
            ),
            ("sync = 'yes'", "error: /c/config.toml:1: cannot use sync: must be true or false"),
            ("limit = ['1MB']", "error: /c/config.toml:1: cannot use limit: takes one value, not a list"),
            ("max_files = 0", "error: /c/config.toml:1: cannot use max_files: "),
            ("template = '{lgo}'", "error: /c/config.toml:1: cannot use template: "),
            ("path_template = '../{name}.log'", "error: /c/config.toml:1: cannot use path_template: "),
            ("container_names = 'a[b'", "error: /c/config.toml:1: cannot use container_names: "),
        ] {
            let error = layers("run", file).err().unwrap_or_else(|| panic!("{file}"));
            assert!(error.starts_with(expected) && !error.contains('\n'), "{file}: {error}");
        }
    }

    #[test]
    fn every_flag_has_a_key_and_every_key_a_variable() {
        let keys = keys();
        for id in ["containers_dir", "label", "listen", "since", "shutdown_timeout"] {
            assert!(keys.iter().any(|key| key.id() == id), "{id}");
        }
        for key in keys {
            assert_eq!(key.id(), key.long().replace('-', "_"));
            assert_eq!(key.variable(), format!("LONGSHORE_{}", key.id().to_uppercase()));
        }
    }
}
