//! The `longshore` binary: reads the flags, sets up its own log, and runs one verb.

use std::ffi::OsString;
use std::process::ExitCode;

use longshore::agent::run;
use longshore::cli::flags::{Command, ConfigCommand};
use longshore::cli::layers::Layers;
use longshore::cli::{Exit, Failure, connect, healthcheck, ledger, manual, shown, state, status, table, top};
use longshore::config::file::Files;
use longshore::config::{Config, ContainersConfig, Host, LogFormat, Places};
use longshore::sys::unix::{Unix, hostname};
use longshore::sys::{Os, places};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    match dispatch() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}

fn dispatch() -> Result<Exit, Failure> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let layers = layers(&words)?;
    let host = host()?;
    match layers.command.clone() {
        Command::Run(flags) => {
            let config = layers.run_config(&flags, &host)?;
            let set_level = log_to_stderr(&config.log_level, config.log_format)?;
            run::run(config, &Reread { words, host, set_level })
        }
        Command::Backfill(flags) => {
            let config = layers.backfill_config(&flags, &host)?;
            let _level_stays = log_to_stderr(&config.log_level, config.log_format)?;
            run::backfill(config)
        }
        Command::Containers(flags) => table::containers(&ContainersConfig::resolve(&flags, &layers.sections, &host)?),
        Command::Verify(flags) => {
            longshore::verify::verify(&ContainersConfig::resolve(&flags, &layers.sections, &host)?)
        }
        Command::Ledger(flags) => ledger::ledger(&Places::resolve(&flags.places, &host.working_dir)?, flags.json),
        Command::Check(flags) => {
            let config = layers.run_config(&flags.agent, &host)?;
            if flags.connect {
                connect::try_sinks(&config)?;
            }
            shown::checked(&layers.files)
        }
        Command::Config(flags) => match flags.command {
            ConfigCommand::Show(_) => shown::effective(&layers),
            ConfigCommand::Default => shown::default(),
            ConfigCommand::Schema => shown::schema(),
        },
        Command::State(flags) => state::state(&flags.command, &host.working_dir),
        Command::Status(flags) => status::status(&Places::resolve(&flags.places, &host.working_dir)?, flags.json),
        Command::Top(flags) => top::top(&Places::resolve(&flags.places, &host.working_dir)?),
        Command::Healthcheck(flags) => healthcheck::healthcheck(flags.listen),
        Command::Completions(flags) => manual::completions(flags.shell),
        Command::Man(flags) => manual::man(flags.out.as_deref()),
    }
}

/// What the words ask for. A health check goes on without a file that is no good: the agent may run on what it said before.
fn layers(words: &[OsString]) -> Result<Layers, Failure> {
    let read = Layers::parse(words, |given| Files::read(&Unix, given.as_deref(), &places::variable));
    match read {
        Err(failure) if words.get(1).is_some_and(|verb| verb == "healthcheck") => {
            eprintln!("{failure}");
            Layers::parse(words, |_| Ok(Files::default()))
        }
        read => read,
    }
}

fn host() -> Result<Host, Failure> {
    Ok(Host {
        now_ns: i128::from(Unix.wall_ns()),
        hostname: hostname(),
        cores: places::cores(),
        working_dir: places::working_directory()
            .map_err(|error| Failure::new(Exit::Failed, "cannot tell the working directory").caused_by(&error))?,
        own_id: places::own_container_id(),
    })
}

/// Reads flags, variables and files as at the start, for SIGHUP.
struct Reread {
    words: Vec<OsString>,
    host: Host,
    set_level: SetLevel,
}

impl run::Settings for Reread {
    fn read(&self) -> Result<Config, Failure> {
        let layers = Layers::parse_again(&self.words, |given| Files::read(&Unix, given.as_deref(), &places::variable))?;
        match &layers.command {
            Command::Run(flags) => layers.run_config(flags, &self.host),
            _ => Err(Failure::usage("these words don't run an agent any more")),
        }
    }

    fn take_log_level(&self, config: &Config) {
        if let Ok(filter) = level(&config.log_level) {
            (self.set_level)(filter);
        }
    }
}

type SetLevel = Box<dyn Fn(Targets)>;

/// RUST_LOG wins over `--log-level`.
fn level(level: &str) -> Result<Targets, Failure> {
    let typed = places::variable("RUST_LOG").unwrap_or_else(|| level.to_owned());
    typed.parse().map_err(|error| {
        Failure::usage(format!("log level {typed} is not understood"))
            .caused_by(&error)
            .hint("error, warn, info, debug, trace, or longshore::tail=debug,info")
    })
}

/// Gives what changes the level later.
fn log_to_stderr(log_level: &str, format: LogFormat) -> Result<SetLevel, Failure> {
    use std::io::IsTerminal;
    let colour = std::io::stderr().is_terminal() && places::variable("NO_COLOR").is_none();
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level(log_level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(Box::new(move |filter| drop(handle.reload(filter))))
}
