//! `[sinks.NAME]`: what all kinds of sinks have in common, and each one resolved.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::cli::flags::{SelectionFlags, Switch};
use crate::cli::forward_flags::ForwardFlags;
use crate::cli::{Exit, Failure};
use crate::config::file::{At, Setting, Value, refused};
use crate::config::sink_options::{Kind, OptionSpec, Options, SinkTable};
use crate::config::{Config, From, Host};
use crate::discover::Selection;
use crate::filter::{Redaction, TextFilter};
use crate::forward::cursor::Sieve;
use crate::forward::{OnOverflow, Settings};
use crate::sink::delivery::{Backoff, Order, Rules};
use crate::sink::registry::{KINDS, SinkKind, Target, kind};

/// Names of sinks stand in keys of the store, in names of files and in labels of metrics.
const NAME_BYTES_MAX: usize = 64;
pub const BATCH_MAX: u64 = 100_000;
pub const WORKERS_MAX: u64 = 256;
/// Sealed batches that are not done, for each request in flight: what one commit makes ready.
const PLANNED_PER_WORKER: usize = 16;

/// A sink that is to run.
#[derive(Clone, Debug)]
pub struct Sink {
    /// What stood in the configuration. Secrets and certificates in files are read when they are needed.
    given: String,
    pub settings: Arc<Settings>,
    pub target: Arc<dyn Target>,
}

/// By what the operator wrote.
impl PartialEq for Sink {
    fn eq(&self, other: &Sink) -> bool {
        self.given == other.given
    }
}

impl Config {
    /// With every sink of the files, and that of the flags.
    pub fn with_sinks(
        self,
        tables: &BTreeMap<String, SinkTable>,
        flags: &ForwardFlags,
        host: &Host,
    ) -> Result<Config, Failure> {
        let sinks = all(tables, flags, &self, host)?;
        Ok(Config { sinks, ..self })
    }
}

/// Options of every sink.
pub const COMMON: [OptionSpec; 22] = [
    OptionSpec::new("type", Kind::Words(&["http", "stdout"]), "What kind of sink it is").example("http"),
    OptionSpec::new("container_names", Kind::List, "Only containers with these names or globs, of those that the agent's own selection takes").example("web,db-*"),
    OptionSpec::new("exclude_names", Kind::List, "Not containers with these names or globs").example("*-debug"),
    OptionSpec::new("label", Kind::List, "Only containers with all of these labels").example("tier=front"),
    OptionSpec::new("image", Kind::List, "Only containers of these images").example("nginx:*"),
    OptionSpec::new("filter_regex", Kind::Text, "Keep only records whose text matches").example("status=5[0-9][0-9]"),
    OptionSpec::new("exclude_regex", Kind::Text, "Leave out records whose text matches").example("GET /healthz"),
    OptionSpec::new("stream", Kind::Words(&["stdout", "stderr"]), "Keep only records of this stream").example("stderr"),
    OptionSpec::new("from", Kind::Words(&["beginning", "end"]), "Where to begin in logs that are there when the sink is new; otherwise as --from").example("end"),
    OptionSpec::new("batch", Kind::Number, "A batch is sent at so many records").by_default("200"),
    OptionSpec::new("batch_bytes", Kind::Size, "Or at so many bytes, before compression").by_default("1MiB"),
    OptionSpec::new("wait", Kind::Duration, "Or when its oldest record has waited so long").by_default("2s"),
    OptionSpec::new("workers", Kind::Number, "Requests in flight").by_default("4"),
    OptionSpec::new("order", Kind::Words(&["strict", "relaxed"]), "strict: one batch of a container at a time, so that its records arrive in order; relaxed: as many as there are workers").by_default("strict"),
    OptionSpec::new("queue", Kind::Size, "Most bytes of records in memory; the rest waits in the logs").by_default("64MiB"),
    OptionSpec::new("retry_min", Kind::Duration, "The first pause behind a failure; it doubles with each in a row, by chance a part of it").by_default("500ms"),
    OptionSpec::new("retry_max", Kind::Duration, "The longest pause. It is tried for ever").by_default("1m"),
    OptionSpec::new("records_per_second", Kind::Number, "Not faster than this").example("5000"),
    OptionSpec::new("bytes_per_second", Kind::Size, "Not faster than this, before compression").example("4MiB"),
    OptionSpec::new("held_max", Kind::Size, "Bytes of deleted logs that may be kept alive by holding them open until they are sent; otherwise as --held-max. Given, on_overflow = \"spool\" copies only what is beyond it").example("2GiB"),
    OptionSpec::new("on_overflow", Kind::Words(&["spool", "drop_oldest", "block"]), "What becomes of deleted logs that are not sent. spool: they are copied into the state directory, within a second unless held_max is given; drop_oldest: beyond held_max the oldest of the noisiest log is let go, with an entry in the ledger; block: they stay open, whatever they take of the disk, and the sink is in trouble until they are sent").by_default("spool"),
    OptionSpec::new("spool_max", Kind::Size, "Bytes of those copies, which are compressed; beyond it logs are held up to held_max, then as drop_oldest [default: 10GiB or 5 % of the file system, the less]").example("20GiB"),
];

/// One table of the files, as flat settings.
pub fn add_tables(
    tables: &mut BTreeMap<String, SinkTable>,
    value: &Spanned<DeValue<'_>>,
    at: &dyn Fn(usize) -> At,
    read: &dyn Fn(&Spanned<DeValue<'_>>) -> Result<Value, String>,
) -> Result<(), Failure> {
    let here = at(value.span().start);
    let DeValue::Table(sinks) = value.get_ref() else {
        return Err(refused(&here, "sinks must be tables, as in [sinks.NAME]"));
    };
    for (name, sink) in sinks {
        let at_name = at(name.span().start);
        let name: &str = name.get_ref();
        check_name(name).map_err(|why| refused(&at_name, why))?;
        let DeValue::Table(options) = sink.get_ref() else {
            return Err(refused(&at_name, format!("sinks.{name} must be a table, as in [sinks.{name}]")));
        };
        let table = tables.entry(name.to_owned()).or_insert_with(|| SinkTable {
            name: name.to_owned(),
            at: at_name.clone(),
            settings: Vec::new(),
        });
        for (key, value) in options {
            let at_key = at(key.span().start);
            let key: &str = key.get_ref();
            if let DeValue::Table(inner) = value.get_ref() {
                for (inner_key, value) in inner {
                    let at_inner = at(inner_key.span().start);
                    put(table, format!("{key}.{}", inner_key.get_ref()), value, at_inner, read)?;
                }
            } else {
                put(table, key.to_owned(), value, at_key, read)?;
            }
        }
    }
    Ok(())
}

fn put(
    table: &mut SinkTable,
    key: String,
    value: &Spanned<DeValue<'_>>,
    at: At,
    read: &dyn Fn(&Spanned<DeValue<'_>>) -> Result<Value, String>,
) -> Result<(), Failure> {
    let value = read(value).map_err(|why| refused(&at, format!("cannot use {key} of sinks.{}: {why}", table.name)))?;
    table.settings.retain(|setting| setting.key != key);
    table.settings.push(Setting { key, value, at });
    Ok(())
}

pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!("a sink's name has letters, digits, _ and - only, at most {NAME_BYTES_MAX}"));
    }
    Ok(())
}

/// Its kind, by `type`.
pub fn kind_of(table: &SinkTable) -> Result<&'static SinkKind, Failure> {
    let known = KINDS.map(|kind| kind.name);
    let Some(setting) = table.setting("type") else {
        let names = known.join(" or ");
        return Err(refused(&table.at, format!("sinks.{} has no type; write type = {names}", table.name)));
    };
    let Value::Text(typed) = &setting.value else {
        return Err(refused(&setting.at, "type takes one word"));
    };
    kind(typed).ok_or_else(|| {
        let near = crate::cli::layers::nearest(typed, known.iter().map(|name| (*name).to_owned()));
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        refused(&setting.at, format!("no sink is of type {typed}{hint} There are {}", known.join(", ")))
    })
}

/// Whether every key is one, and every value of its kind; secrets and files are not looked at.
pub fn check(table: &SinkTable) -> Result<(), Failure> {
    let kind = kind_of(table)?;
    Options::new(table, COMMON.iter().chain(kind.options), Path::new("/")).map(drop)
}

/// The name of the sink that the flags make.
const OF_FLAGS: &str = "endpoint";

fn all(
    tables: &BTreeMap<String, SinkTable>,
    flags: &ForwardFlags,
    config: &Config,
    host: &Host,
) -> Result<Vec<Sink>, Failure> {
    let mut sinks = Vec::new();
    if flags.endpoint.is_some() {
        if let Some(table) = tables.get(OF_FLAGS) {
            return Err(refused(
                &table.at,
                "sinks.endpoint is the sink that --endpoint makes; give this one another name",
            ));
        }
        let failed = |failure: Failure| Failure { code: Exit::Usage, ..failure };
        sinks.push(resolve(&of_flags(flags), config, host).map_err(failed)?);
    } else if let Some((key, _)) = flags.given().first() {
        return Err(Failure::usage(format!(
            "--{key} says how records are sent, and --endpoint, which says where, is missing"
        )));
    }
    for table in tables.values() {
        sinks.push(resolve(table, config, host)?);
    }
    Ok(sinks)
}

fn of_flags(flags: &ForwardFlags) -> SinkTable {
    let at = At { file: "--endpoint".into(), line: 1 };
    let given = flags.given().into_iter().chain([("type", "http")]);
    let setting = |(key, text): (&str, &str)| Setting {
        key: key.to_owned(),
        value: Value::Text(text.to_owned()),
        at: at.clone(),
    };
    SinkTable { name: OF_FLAGS.to_owned(), settings: given.map(setting).collect(), at: at.clone() }
}

/// The sink that is to run.
pub fn resolve(table: &SinkTable, config: &Config, host: &Host) -> Result<Sink, Failure> {
    let kind = kind_of(table)?;
    let options = Options::new(table, COMMON.iter().chain(kind.options), &host.working_dir)?;
    let made = (kind.make)(&options)?;
    let workers = options.number("workers", 1..=WORKERS_MAX)?.unwrap_or(4) as usize;
    let window = made.window_max.map_or(workers, |most| workers.min(most));
    let retry_max = options.duration("retry_max")?.unwrap_or(Duration::from_secs(60));
    let retry_min = options.duration("retry_min")?.unwrap_or(Duration::from_millis(500));
    if retry_min > retry_max {
        return Err(options.refuse("retry_min", "above retry_max"));
    }
    let rules = Rules {
        batch_records: options.number("batch", 1..=BATCH_MAX)?.unwrap_or(200) as usize,
        batch_bytes: options.size("batch_bytes")?.unwrap_or(1 << 20),
        wait: options.duration("wait")?.unwrap_or(Duration::from_secs(2)),
        window,
        planned_max: window * PLANNED_PER_WORKER,
        queue_bytes: options.size("queue")?.unwrap_or(64 << 20),
        order: match options.text("order")?.as_deref() {
            Some("relaxed") => Order::Relaxed,
            _ => Order::Strict,
        },
        backoff: Backoff { min: retry_min, max: retry_max },
        records_per_second: options.number("records_per_second", 1..=u64::MAX / 2)?,
        bytes_per_second: options.size("bytes_per_second")?,
    };
    let settings = Settings {
        name: table.name.clone(),
        selection: selection(&options)?,
        sieve: Sieve {
            filter: filter(&options)?,
            max_line_bytes: config.base.max_line_bytes,
            since_ns: config.window.since_ns,
            redaction: Redaction::default(),
        },
        look: made.look,
        form: made.form,
        rules,
        from: match options.text("from")?.as_deref() {
            Some("end") => From::End,
            Some(_) => From::Beginning,
            None => config.from,
        },
        held_max: options.size("held_max")?.or(config.held_max_bytes),
        on_overflow: match options.text("on_overflow")?.as_deref() {
            Some("drop_oldest") => OnOverflow::DropOldest,
            Some("block") => OnOverflow::Block,
            _ => OnOverflow::Spool,
        },
        spool_max: options.size("spool_max")?,
    };
    let given: String = table.settings.iter().map(|setting| format!("{}={:?}\n", setting.key, setting.value)).collect();
    let given = format!("{}\n{given}", table.name);
    Ok(Sink { given, settings: Arc::new(settings), target: made.target })
}

fn selection(options: &Options<'_>) -> Result<Selection, Failure> {
    let flags = SelectionFlags {
        container_names: options.list("container_names")?,
        exclude_names: options.list("exclude_names")?,
        label: options.list("label")?,
        image: options.list("image")?,
        container_labels: Switch::Yes,
        hostname: None,
    };
    // The agent's own selection leaves its own container out already.
    Selection::parse(&flags, None).map_err(|error| options.refuse("container_names", error))
}

fn filter(options: &Options<'_>) -> Result<TextFilter, Failure> {
    let pattern = |key: &str| {
        let typed = options.text(key)?;
        typed.map(|typed| typed.parse().map_err(|why: String| options.refuse(key, why))).transpose()
    };
    Ok(TextFilter {
        keep: pattern("filter_regex")?,
        exclude: pattern("exclude_regex")?,
        stream: match options.text("stream")?.as_deref() {
            Some("stdout") => Some(crate::decode::Stream::Stdout),
            Some(_) => Some(crate::decode::Stream::Stderr),
            None => None,
        },
    })
}
