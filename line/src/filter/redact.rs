//! Replaces in a record's text what should not be kept, before it is formatted. A part of the settings that a commit
//! names, so that what was written with it is rendered again with it.

mod builtin;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Pattern;
pub use builtin::Builtin;

/// Patterns of one list; each is a pass over every record.
const REDACTORS_MAX: usize = 32;

/// How often each kind replaced something: the built-in ones in their order, then all patterns of the operator's own.
pub type Redacted = [u64; Builtin::ALL.len() + 1];

/// What the count of the operator's own patterns is called.
pub const PATTERN: &str = "pattern";

/// What is replaced, in the order in which it was asked for. Each entry sees what those before it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction(Vec<Redactor>);

/// One thing to replace: `email`, or a regular expression. Stored and shown as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redactor {
    Builtin(Builtin),
    Pattern(Pattern),
}

impl Redaction {
    pub fn new(redactors: Vec<Redactor>) -> Result<Redaction, String> {
        match redactors.len() {
            0..=REDACTORS_MAX => Ok(Redaction(redactors)),
            more => Err(format!("{more} entries are more than {REDACTORS_MAX}; join some with |")),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text as it may be kept. Borrowed when there is nothing to replace.
    #[inline]
    pub fn apply<'a>(&self, text: &'a [u8], redacted: &mut Redacted) -> Cow<'a, [u8]> {
        if self.0.is_empty() { Cow::Borrowed(text) } else { self.replace(text, redacted) }
    }

    #[inline(never)]
    fn replace<'a>(&self, text: &'a [u8], redacted: &mut Redacted) -> Cow<'a, [u8]> {
        let mut text = Cow::Borrowed(text);
        for redactor in &self.0 {
            let mut out = Vec::new();
            let mut copied = 0;
            let (ix, marker) = redactor.count_and_marker();
            redactor.find(&text, &mut |start, end| {
                out.extend_from_slice(&text[copied..start]);
                out.extend_from_slice(marker.as_bytes());
                copied = end;
                redacted[ix] += 1;
            });
            if copied > 0 {
                out.extend_from_slice(&text[copied..]);
                text = Cow::Owned(out);
            }
        }
        text
    }
}

impl Redactor {
    /// Its place among the counts, and what stands for what it replaced.
    fn count_and_marker(&self) -> (usize, &'static str) {
        match self {
            Redactor::Builtin(builtin) => (*builtin as usize, builtin.marker()),
            Redactor::Pattern(_) => (Builtin::ALL.len(), "[redacted]"),
        }
    }

    /// Ranges to replace, in order and apart from each other; none is empty.
    fn find(&self, text: &[u8], take: &mut dyn FnMut(usize, usize)) {
        match self {
            Redactor::Builtin(builtin) => builtin.find(text, take),
            Redactor::Pattern(pattern) => {
                let found = pattern.regex().find_iter(text).filter(|found| !found.is_empty());
                found.for_each(|found| take(found.start(), found.end()));
            }
        }
    }
}

impl FromStr for Redactor {
    type Err = String;

    fn from_str(typed: &str) -> Result<Redactor, String> {
        if let Some(builtin) = Builtin::ALL.into_iter().find(|builtin| builtin.name() == typed) {
            return Ok(Redactor::Builtin(builtin));
        }
        // A word that is nearly a name is a mistake that would let through what should be kept out.
        let is_word = typed.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let near = |builtin: &Builtin| {
            let typed = typed.to_ascii_lowercase().replace('_', "-");
            strsim::damerau_levenshtein(&typed, builtin.name()) <= 2 || typed.trim_end_matches('s') == builtin.name()
        };
        if let Some(nearest) = Builtin::ALL.into_iter().find(near).filter(|_| is_word) {
            return Err(format!("did you mean {}? (a pattern like ({typed}) means itself)", nearest.name()));
        }
        let pattern: Pattern = typed.parse()?;
        if pattern.regex().is_match(b"") {
            return Err("matches the empty text, which can't be replaced".to_owned());
        }
        Ok(Redactor::Pattern(pattern))
    }
}

impl fmt::Display for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Redactor::Builtin(builtin) => f.write_str(builtin.name()),
            Redactor::Pattern(pattern) => f.write_str(pattern.regex().as_str()),
        }
    }
}

impl Serialize for Redactor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Redactor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Redactor, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
