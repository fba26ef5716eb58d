//! What a container's own labels may change. Whoever deploys a container chooses its labels, so they reach no further
//! than its own output: no path, no redaction, no more of the disk than the operator allows, no pattern that costs much.

use std::collections::BTreeMap;

use crate::config::limits::{
    LABEL_BYTES_MAX, LABEL_LIMIT_MAX, LABEL_LIMIT_MIN, LABEL_LITERAL_BYTES_MAX, LABEL_PATTERN_BYTES_MAX,
};
use crate::config::treatment::{Treatment, size};
use crate::config::{Compression, Format, printable};
use crate::discover::container::{
    COMPRESSION_LABEL, ENABLE_LABEL, EXCLUDE_REGEX_LABEL, FILTER_LABEL, LIMIT_LABEL, MAX_FILES_LABEL, TEMPLATE_LABEL,
};
use crate::discover::selection::switched;
use crate::filter::Pattern;
use crate::format::{Metadata, Part, Tag, Template};
use crate::ordered;

/// The labels that say how rotated outputs are kept, for when the container is gone.
pub fn keeping(metadata: &Metadata) -> BTreeMap<String, String> {
    let labels = [LIMIT_LABEL, MAX_FILES_LABEL, COMPRESSION_LABEL].into_iter();
    let short =
        labels.filter_map(|label| Some((label, metadata.label(label).filter(|it| it.len() <= LABEL_BYTES_MAX)?)));
    ordered::map(short.map(|(label, value)| (label.to_owned(), value.to_owned())))
}

/// Applies what is good; gives a line for each label that isn't.
pub(super) fn apply(treatment: &mut Treatment, metadata: &Metadata) -> Vec<String> {
    let mut bad = Vec::new();
    // A reason quotes what somebody else typed.
    let mut blame = |label: &str, why: String| bad.push(format!("{label}: {}", printable(&why)));
    let mut value = |label: &'static str| {
        let value = metadata.label(label)?;
        if value.len() > LABEL_BYTES_MAX {
            blame(label, format!("longer than {LABEL_BYTES_MAX} bytes"));
            return None;
        }
        Some(value)
    };
    let [enable, limit, max_files, compression, template, keep, exclude] = [
        ENABLE_LABEL,
        LIMIT_LABEL,
        MAX_FILES_LABEL,
        COMPRESSION_LABEL,
        TEMPLATE_LABEL,
        FILTER_LABEL,
        EXCLUDE_REGEX_LABEL,
    ]
    .map(&mut value);
    let mut take = |label: &str, result: Result<(), String>| {
        if let Err(why) = result {
            blame(label, why);
        }
    };
    if let Some(typed) = enable {
        take(ENABLE_LABEL, switched(typed).map(drop).ok_or_else(|| "neither true nor false".to_owned()));
    }
    let mut good = |label: &str, parsed: Result<u64, String>| match parsed {
        Ok(value) => Some(value),
        Err(why) => {
            take(label, Err(why));
            None
        }
    };
    let limit = limit.and_then(|typed| good(LIMIT_LABEL, bounded_limit(typed)));
    let files = max_files.and_then(|typed| good(MAX_FILES_LABEL, number_of_files(typed).map(u64::from)));
    if let Err((label, why)) = part_room(treatment, limit, files.and_then(|files| u32::try_from(files).ok())) {
        take(label, Err(why));
    }
    if let Some(typed) = compression {
        take(COMPRESSION_LABEL, kind(typed).map(|kind| treatment.compression = kind));
    }
    if let Some(typed) = template {
        let bounded = bounded_template(typed, metadata, treatment.format);
        take(TEMPLATE_LABEL, bounded.map(|template| treatment.template = template));
    }
    if let Some(typed) = keep {
        take(FILTER_LABEL, cheap_pattern(typed).map(|pattern| treatment.filter.keep = Some(pattern)));
    }
    if let Some(typed) = exclude {
        take(EXCLUDE_REGEX_LABEL, cheap_pattern(typed).map(|pattern| treatment.filter.exclude = Some(pattern)));
    }
    bad
}

/// Where the operator bounds the number of files, labels may part the same room otherwise. If together they ask for more,
/// one of them counts.
fn part_room(treatment: &mut Treatment, limit: Option<u64>, files: Option<u32>) -> Result<(), (&'static str, String)> {
    let with = |limit: Option<u64>, files: Option<u32>| {
        let mut parted = treatment.clone();
        parted.limit = limit.unwrap_or(parted.limit);
        parted.max_files = files.or(parted.max_files);
        parted
    };
    let allowed = treatment.bytes_max();
    let too_much = |parted: &Treatment| parted.bytes_max().zip(allowed).filter(|(asked, allowed)| asked > allowed);
    let Some((asked, allowed)) = too_much(&with(limit, files)) else {
        *treatment = with(limit, files);
        return Ok(());
    };
    let why = format!("limit times max-files would be {}, more than the {} allowed", size(asked), size(allowed));
    let files_alone = with(None, files);
    if limit.is_some() && too_much(&files_alone).is_none() {
        *treatment = files_alone;
        return Err((LIMIT_LABEL, why));
    }
    let limit_alone = with(limit, None);
    if too_much(&limit_alone).is_none() {
        *treatment = limit_alone;
    }
    Err((MAX_FILES_LABEL, why))
}

fn number_of_files(typed: &str) -> Result<u32, String> {
    let files = typed.parse::<u32>().ok().filter(|files| *files > 0);
    files.ok_or_else(|| "not a number above zero".to_owned())
}

fn bounded_limit(typed: &str) -> Result<u64, String> {
    let Ok(bytesize::ByteSize(limit)) = typed.trim().parse::<bytesize::ByteSize>() else {
        return Err("not a size such as 50MB".to_owned());
    };
    if !(LABEL_LIMIT_MIN..=LABEL_LIMIT_MAX).contains(&limit) {
        return Err(format!("must be from {} to {}", size(LABEL_LIMIT_MIN), size(LABEL_LIMIT_MAX)));
    }
    Ok(limit)
}

fn kind(typed: &str) -> Result<Compression, String> {
    <Compression as clap::ValueEnum>::from_str(typed, false).map_err(|_| "must be none, gzip or zstd".to_owned())
}

/// It is written on every line: the text at most once, and little beside it.
fn bounded_template(typed: &str, metadata: &Metadata, format: Format) -> Result<Template, String> {
    if format != Format::Text {
        return Err("shapes the text format, and this output has another".to_owned());
    }
    let template = Template::parse(typed).map_err(|error| error.to_string())?;
    if template.tags().filter(|tag| **tag == Tag::Log).count() > 1 {
        return Err("{log} may stand in it once".to_owned());
    }
    let parts = template.resolve(metadata);
    let constant = parts.iter().map(|part| match part {
        Part::Literal(bytes) => bytes.len(),
        _ => 0,
    });
    if constant.sum::<usize>() > LABEL_LITERAL_BYTES_MAX {
        return Err(format!("would add more than {LABEL_LITERAL_BYTES_MAX} bytes to each line"));
    }
    Ok(template)
}

fn cheap_pattern(typed: &str) -> Result<Pattern, String> {
    Pattern::bounded(typed, LABEL_PATTERN_BYTES_MAX)
}

#[cfg(test)]
mod tests;
