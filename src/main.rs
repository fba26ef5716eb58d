//! The `longshore` binary: reads the flags, sets up its own log, and runs one verb.

use std::process::ExitCode;

use longshore::agent::run;
use longshore::cli::flags::{Command, ConfigCommand};
use longshore::cli::layers::Layers;
use longshore::cli::{Exit, Failure, healthcheck, ledger, manual, shown, state, status, table};
use longshore::config::file::Files;
use longshore::config::{Config, ContainersConfig, Host, LogFormat, Places};
use longshore::sys::unix::{Unix, hostname};
use longshore::sys::{Os, places};
use tracing_subscriber::EnvFilter;

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
    let words: Vec<_> = std::env::args_os().collect();
    let layers = Layers::parse(&words, |given| Files::read(&Unix, given.as_deref(), &places::variable))?;
    let host = host()?;
    let blame = |failure| layers.blame(failure, &host);
    match layers.command.clone() {
        Command::Run(flags) => {
            let config = Config::for_run(&flags, &host).map_err(blame)?;
            log_to_stderr(&config.log_level, config.log_format)?;
            run::run(config)
        }
        Command::Backfill(flags) => {
            let config = Config::for_backfill(&flags, &host).map_err(blame)?;
            log_to_stderr(&config.log_level, config.log_format)?;
            run::backfill(config)
        }
        Command::Containers(flags) => table::containers(&ContainersConfig::resolve(&flags, &host)?),
        Command::Verify(flags) => longshore::verify::verify(&ContainersConfig::resolve(&flags, &host)?),
        Command::Ledger(flags) => ledger::ledger(&Places::resolve(&flags.places, &host.working_dir)?, flags.json),
        Command::Check(flags) => {
            Config::for_run(&flags, &host).map_err(blame)?;
            shown::checked(&layers.files)
        }
        Command::Config(flags) => match flags.command {
            ConfigCommand::Show(_) => shown::effective(&layers),
            ConfigCommand::Default => shown::default(),
            ConfigCommand::Schema => shown::schema(),
        },
        Command::State(flags) => state::state(&flags.command, &host.working_dir),
        Command::Status(flags) => status::status(&Places::resolve(&flags.places, &host.working_dir)?, flags.json),
        Command::Healthcheck(flags) => healthcheck::healthcheck(flags.listen),
        Command::Completions(flags) => manual::completions(flags.shell),
        Command::Man(flags) => manual::man(flags.out.as_deref()),
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

/// RUST_LOG wins over `--log-level`.
fn log_to_stderr(level: &str, format: LogFormat) -> Result<(), Failure> {
    use std::io::IsTerminal;
    let typed = places::variable("RUST_LOG").unwrap_or_else(|| level.to_owned());
    let filter = EnvFilter::try_new(&typed).map_err(|error| {
        Failure::usage(format!("log level {typed} is not understood"))
            .caused_by(&error)
            .hint("error, warn, info, debug or trace")
    })?;
    let colour = std::io::stderr().is_terminal() && places::variable("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
