//! Decides by its text and stream whether a record is delivered. A part of the settings that a commit names, so that
//! what was written under other ones can be rendered again.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decode::Stream;

/// A compiled pattern takes at most this much; linear in the text whatever was typed.
const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What must agree for a record to pass. Looks at the joined text, before formatting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFilter {
    /// Must match.
    pub keep: Option<Pattern>,
    /// Must not match.
    pub exclude: Option<Pattern>,
    pub stream: Option<Stream>,
}

/// A regular expression over bytes, equal to another by what was typed.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl TextFilter {
    pub fn is_open(&self) -> bool {
        self.keep.is_none() && self.exclude.is_none() && self.stream.is_none()
    }

    #[inline]
    pub fn passes(&self, stream: Stream, text: &[u8]) -> bool {
        self.is_open() || self.decide(stream, text)
    }

    #[inline(never)]
    fn decide(&self, stream: Stream, text: &[u8]) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
            && self.keep.as_ref().is_none_or(|keep| keep.0.is_match(text))
            && self.exclude.as_ref().is_none_or(|exclude| !exclude.0.is_match(text))
    }
}

impl Pattern {
    pub(super) fn regex(&self) -> &Regex {
        &self.0
    }

    /// One that takes at most so many bytes when it is compiled, and as many again for its searches.
    pub fn bounded(typed: &str, bytes_max: usize) -> Result<Pattern, String> {
        Pattern::build(typed, RegexBuilder::new(typed).size_limit(bytes_max).dfa_size_limit(bytes_max))
    }

    fn build(typed: &str, builder: &mut RegexBuilder) -> Result<Pattern, String> {
        if typed.is_empty() {
            return Err("empty; leave it out instead".to_owned());
        }
        builder.build().map(Pattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "too large a regular expression".to_owned(),
            // The first lines draw the pattern, the last one says what is wrong with it.
            other => format!("no regular expression: {}", other.to_string().lines().last().unwrap_or_default().trim()),
        })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(typed: &str) -> Result<Pattern, String> {
        Pattern::build(typed, RegexBuilder::new(typed).size_limit(COMPILED_BYTES_MAX))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(typed: &str) -> Option<Pattern> {
        Some(typed.parse().unwrap())
    }

    #[test]
    fn all_must_agree() {
        let filter =
            TextFilter { keep: pattern(r"status=5\d\d"), exclude: pattern("health"), stream: Some(Stream::Stderr) };
        let passes = |stream, text: &str| filter.passes(stream, text.as_bytes());
        assert!(passes(Stream::Stderr, "GET / status=502"));
        assert!(!passes(Stream::Stderr, "GET / status=200"));
        assert!(!passes(Stream::Stderr, "GET /health status=500"));
        assert!(!passes(Stream::Stdout, "GET / status=502"));
        assert!(TextFilter::default().passes(Stream::Other, b"") && TextFilter::default().is_open());
    }

    #[test]
    fn bytes_that_are_no_text_are_looked_at_too() {
        let filter = TextFilter { keep: pattern(r"(?-u)\xff"), ..TextFilter::default() };
        assert!(filter.passes(Stream::Stdout, b"a\xffb") && !filter.passes(Stream::Stdout, b"ab"));
    }

    #[test]
    fn a_filter_is_what_was_typed_also_when_stored() {
        let filter = TextFilter { keep: pattern("a+"), ..TextFilter::default() };
        let stored = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<TextFilter>(&stored).unwrap(), filter);
        assert_ne!(filter, TextFilter { keep: pattern("a"), ..TextFilter::default() });
    }

    #[test]
    fn a_bad_pattern_is_one_line() {
        for typed in ["(", "", "a{1000}{1000}{1000}"] {
            let error = typed.parse::<Pattern>().unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{typed}: {error}");
        }
    }
}
