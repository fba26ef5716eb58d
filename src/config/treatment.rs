//! How one container's records are chosen, written and kept: what is set for all, then what the sections that match its
//! name say in their order, then its own labels.

use std::time::Duration;

use bytesize::ByteSize;

use crate::cli::Failure;
use crate::cli::flags::{AgentFlags, DEFAULT_TEMPLATE, FilterFlags, List};
use crate::config::{Compression, Format, StreamName, printable};
use crate::filter::{Redaction, Redactor, TextFilter};
use crate::format::{Formatter, Metadata, Template};
use crate::shape::Shape;
use crate::sink::rolling::Form;
use crate::sink::tidy::Retention;

#[derive(Clone, Debug, PartialEq)]
pub struct Treatment {
    pub format: Format,
    pub template: Template,
    /// Records that don't pass are left out.
    pub filter: TextFilter,
    /// What is replaced in those that do.
    pub redaction: Redaction,
    /// Longest joined text.
    pub max_line_bytes: usize,
    pub file_mode: u32,
    /// Bytes; above zero.
    pub limit: u64,
    pub compression: Compression,
    /// Files of a container, the current one included; above zero.
    pub max_files: Option<u32>,
    pub max_age: Option<Duration>,
}

impl Treatment {
    pub fn of(flags: &AgentFlags) -> Result<Treatment, Failure> {
        if flags.format != Format::Text && flags.template != DEFAULT_TEMPLATE {
            return Err(Failure::usage("--template shapes the text format only, and --format is another")
                .hint("leave one of them out"));
        }
        let treatment = Treatment {
            format: flags.format,
            template: template(&flags.template)?,
            filter: TextFilter {
                keep: flags.filters.filter_regex.clone(),
                exclude: flags.filters.exclude_regex.clone(),
                stream: flags.filters.stream.map(StreamName::stream),
            },
            redaction: redaction(&flags.filters)?,
            max_line_bytes: usize::try_from(flags.max_line_bytes.0).expect("the flag is at most MAX_LINE_BYTES_MAX"),
            file_mode: flags.file_mode.0,
            limit: flags.limit.0,
            compression: flags.compression,
            max_files: flags.max_files,
            max_age: flags.max_age,
        };
        if treatment.contradicts() {
            return Err(Failure::usage("--redact changes texts, and --format docker leaves lines unchanged")
                .hint("leave one of them out; --format json keeps time, stream and attributes as well"));
        }
        Ok(treatment)
    }

    /// Source lines that stay unchanged, and something to replace in them.
    pub fn contradicts(&self) -> bool {
        self.format == Format::Docker && !self.redaction.is_empty()
    }

    /// What decides how its records look.
    pub fn shape(&self, metadata: &Metadata, since_ns: Option<i128>) -> Shape {
        Shape {
            formatter: match self.format {
                Format::Text => Formatter::text(&self.template, metadata),
                Format::Json => Formatter::json(metadata),
                Format::Docker => Formatter::Docker,
            },
            max_line_bytes: self.max_line_bytes as u64,
            since_ns,
            filter: self.filter.clone(),
            redaction: self.redaction.clone(),
        }
    }

    /// What becomes of its rotated outputs.
    pub fn retention(&self) -> Retention {
        Retention {
            form: match self.compression {
                Compression::None => Form::Plain,
                Compression::Gzip => Form::Gzip,
                Compression::Zstd => Form::Zstd,
            },
            mode: self.file_mode,
            // The current file counts, as in Docker's max-file.
            files_max: self.max_files.map(|files| files.saturating_sub(1)),
            age_max: self.max_age,
        }
    }

    /// Bytes its outputs may take at most, if that is bounded.
    pub fn bytes_max(&self) -> Option<u64> {
        self.max_files.map(|files| self.limit.saturating_mul(u64::from(files)))
    }
}

/// The error names the nearest tag itself.
fn template(typed: &str) -> Result<Template, Failure> {
    Template::parse(typed).map_err(|error| {
        Failure::usage(format!("cannot use --template '{}'", printable(typed)))
            .caused_by(&error)
            .hint("tags: log, time, timestamp, stream, name, id, short_id, image, image_id, hostname, label.KEY, env.KEY, namespace, pod, container")
    })
}

fn redaction(flags: &FilterFlags) -> Result<Redaction, Failure> {
    let typed: Vec<&String> = flags.redact.iter().flat_map(|List(entries)| entries).collect();
    if typed.iter().all(|typed| *typed == "none") {
        return Ok(Redaction::default());
    }
    if typed.iter().any(|typed| *typed == "none") {
        return Err(Failure::usage("cannot use --redact: none stands alone").hint("leave it out, or the others"));
    }
    let parse = |typed: &&String| {
        typed.parse::<Redactor>().map_err(|why| {
            Failure::usage(format!("cannot use --redact '{}': {why}", printable(typed)))
                .hint("email, ipv4, card, bearer, aws-key, password-pair, none, or a regular expression")
        })
    };
    let redactors = typed.iter().map(parse).collect::<Result<_, _>>()?;
    Redaction::new(redactors).map_err(|why| Failure::usage(format!("cannot use --redact: {why}")))
}

/// Bytes as an operator would type them, for messages.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}
