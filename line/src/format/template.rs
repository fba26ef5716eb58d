//! `{time} {log}`: how the operator wants a line. Parsed once, resolved once per container, so that a record costs a
//! few copies.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, clean};

/// A parsed template. Shows as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Literal(String),
    Tag(Tag),
}

/// What may stand in braces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// The record's text.
    Log,
    /// RFC 3339 with nine digits, 30 bytes.
    Time,
    /// Unix seconds with nine digits of fraction.
    Timestamp,
    Stream,
    Name,
    Id,
    ShortId,
    Image,
    ImageId,
    /// The node's.
    Hostname,
    Label(String),
    Env(String),
    Namespace,
    Pod,
    Container,
}

/// A template of one container: what is constant for it is literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    Literal(Vec<u8>),
    Log,
    Time,
    Timestamp,
    Stream,
}

/// Columns count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("unknown tag {{{tag}}}; {hint}")]
    UnknownTag { tag: String, hint: String },
    #[error("tag {{{tag}}} lacks a key; write {{{tag}KEY}}")]
    NoKey { tag: String },
    #[error("brace at column {column} is not closed; write {{{{ for a literal brace")]
    Unclosed { column: usize },
    #[error("closing brace at column {column} has no tag; write }}}} for a literal brace")]
    Unopened { column: usize },
    #[error("newline at column {column}; a record is one line")]
    Newline { column: usize },
}

const TAGS: [(&str, Tag); 13] = [
    ("log", Tag::Log),
    ("time", Tag::Time),
    ("timestamp", Tag::Timestamp),
    ("stream", Tag::Stream),
    ("name", Tag::Name),
    ("id", Tag::Id),
    ("short_id", Tag::ShortId),
    ("image", Tag::Image),
    ("image_id", Tag::ImageId),
    ("hostname", Tag::Hostname),
    ("namespace", Tag::Namespace),
    ("pod", Tag::Pod),
    ("container", Tag::Container),
];

type Keyed = fn(String) -> Tag;
const KEYED_TAGS: [(&str, Keyed); 2] = [("label", Tag::Label), ("env", Tag::Env)];

impl Template {
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        let column = |rest: &str| source[..source.len() - rest.len()].chars().count() + 1;
        if let Some(at) = source.find('\n') {
            return Err(TemplateError::Newline { column: column(&source[at..]) });
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (tag, after) = after
                    .split_once('}')
                    .filter(|(tag, _)| !tag.contains('{'))
                    .ok_or_else(|| TemplateError::Unclosed { column: column(rest) })?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Tag(tag.parse()?));
                rest = after;
            } else {
                return Err(TemplateError::Unopened { column: column(rest) });
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Template { source: source.to_owned(), pieces })
    }

    /// In order, with repeats.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Tag(tag) => Some(tag),
            Piece::Literal(_) => None,
        })
    }

    pub fn has(&self, tag: &Tag) -> bool {
        self.tags().any(|other| other == tag)
    }

    /// A tag that `metadata` has no value for is empty. No two literals are adjacent, and none is empty.
    pub fn resolve(&self, metadata: &Metadata) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        for piece in &self.pieces {
            let part = match piece {
                Piece::Tag(Tag::Log) => Part::Log,
                Piece::Tag(Tag::Time) => Part::Time,
                Piece::Tag(Tag::Timestamp) => Part::Timestamp,
                Piece::Tag(Tag::Stream) => Part::Stream,
                Piece::Tag(tag) => {
                    literal.extend_from_slice(clean(metadata.value(tag).unwrap_or("")).as_bytes());
                    continue;
                }
                Piece::Literal(text) => {
                    literal.extend_from_slice(text.as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        parts
    }
}

impl Default for Template {
    fn default() -> Template {
        Template::parse("{time} {log}").expect("both tags exist")
    }
}

impl FromStr for Template {
    type Err = TemplateError;
    fn from_str(source: &str) -> Result<Template, TemplateError> {
        Template::parse(source)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Without its braces.
impl FromStr for Tag {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Tag, TemplateError> {
        if let Some((_, tag)) = TAGS.iter().find(|(name, _)| *name == text) {
            return Ok(tag.clone());
        }
        let keyed = text.split_once('.').and_then(|(kind, key)| {
            let (_, tag) = KEYED_TAGS.iter().find(|(name, _)| *name == kind)?;
            Some((tag, key))
        });
        match keyed {
            Some((_, "")) => Err(TemplateError::NoKey { tag: text.to_owned() }),
            Some((tag, key)) => Ok(tag(key.to_owned())),
            None => Err(TemplateError::UnknownTag { tag: text.to_owned(), hint: hint(text) }),
        }
    }
}

/// The nearest tag, or all of them.
fn hint(text: &str) -> String {
    let (kind, key) = text.split_once('.').map_or((text, "KEY"), |(kind, key)| (kind, key));
    let near = |names: &mut dyn Iterator<Item = &'static str>| {
        names
            .map(|name| (edits(kind, name), name))
            .filter(|(edits, name)| *edits <= name.len().div_ceil(3))
            .min()
            .map(|(_, name)| name)
    };
    let keyed = || near(&mut KEYED_TAGS.iter().map(|(name, _)| *name)).map(|name| format!("{name}.{key}"));
    let plain = || near(&mut TAGS.iter().map(|(name, _)| *name)).map(str::to_owned);
    let nearest = if text.contains('.') { keyed() } else { plain().or_else(keyed) };
    match nearest {
        Some(nearest) => format!("did you mean {{{nearest}}}?"),
        None => {
            let names = TAGS.iter().map(|(name, _)| format!("{{{name}}}"));
            let keyed_names = KEYED_TAGS.iter().map(|(name, _)| format!("{{{name}.KEY}}"));
            format!("known tags: {}", names.chain(keyed_names).collect::<Vec<_>>().join(" "))
        }
    }
}

/// How many letters to insert, delete, replace or swap with their neighbour.
fn edits(typed: &str, name: &str) -> usize {
    // A long typo is near nothing; cut, it costs nothing either.
    let typed: Vec<char> = typed.chars().take(32).collect();
    let name: Vec<char> = name.chars().collect();
    let mut table = vec![vec![0; name.len() + 1]; typed.len() + 1];
    for i in 0..=typed.len() {
        for j in 0..=name.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(typed[i - 1] != name[j - 1]);
                let mut fewest = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && typed[i - 1] == name[j - 2] && typed[i - 2] == name[j - 1] {
                    fewest = fewest.min(table[i - 2][j - 2] + 1);
                }
                fewest
            };
        }
    }
    table[typed.len()][name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str) -> String {
        Template::parse(source).unwrap_err().to_string()
    }

    fn resolved(source: &str) -> Vec<Part> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let metadata = Metadata {
            name: "web".into(),
            id: "0123456789abcdef".into(),
            hostname: "node\n1".into(),
            labels: [pair("a.b", "x\ny"), pair("io.kubernetes.pod.name", "pod-1")].into(),
            env: [pair("TIER", "prod")].into(),
            ..Metadata::default()
        };
        Template::parse(source).unwrap().resolve(&metadata)
    }

    #[test]
    fn constants_become_one_literal() {
        let literal = |text: &str| Part::Literal(text.as_bytes().to_vec());
        assert_eq!(resolved("{time} {log}"), [Part::Time, literal(" "), Part::Log]);
        assert_eq!(resolved("[{name}/{short_id}] {log}"), [literal("[web/0123456789ab] "), Part::Log]);
        assert_eq!(resolved("{pod}{namespace}{label.a.b}{env.TIER}{hostname}"), [literal("pod-1x yprodnode 1")]);
        assert_eq!(resolved("{label.none}{stream}{image}{timestamp}"), [Part::Stream, Part::Timestamp]);
        assert_eq!(resolved("{{{log}}}\\n\\t}}"), [literal("{"), Part::Log, literal("}\\n\\t}")]);
        assert_eq!(resolved(""), []);
    }

    #[test]
    fn tags_are_listed() {
        let template = Template::parse("{time} {label.a} {time}{{id}}").unwrap();
        assert_eq!(template.tags().collect::<Vec<_>>(), [&Tag::Time, &Tag::Label("a".into()), &Tag::Time]);
        assert!(template.has(&Tag::Time) && !template.has(&Tag::Id) && !template.has(&Tag::Label("b".into())));
        assert_eq!(template.to_string(), "{time} {label.a} {time}{{id}}");
    }

    #[test]
    fn unknown_tags_name_the_nearest() {
        assert_eq!(error("{nmae}"), "unknown tag {nmae}; did you mean {name}?");
        assert_eq!(error("{time_stamp}"), "unknown tag {time_stamp}; did you mean {timestamp}?");
        assert_eq!(error("{Log}"), "unknown tag {Log}; did you mean {log}?");
        assert_eq!(error("{labels.app}"), "unknown tag {labels.app}; did you mean {label.app}?");
        assert_eq!(error("{label}"), "unknown tag {label}; did you mean {label.KEY}?");
        assert_eq!(
            error("{message}"),
            "unknown tag {message}; known tags: {log} {time} {timestamp} {stream} {name} {id} {short_id} {image} \
             {image_id} {hostname} {namespace} {pod} {container} {label.KEY} {env.KEY}"
        );
        assert!(error("{}").starts_with("unknown tag {}; known tags: {log}"));
        assert_eq!(error("{env.}"), "tag {env.} lacks a key; write {env.KEY}");
    }

    #[test]
    fn braces_and_newlines_name_their_column() {
        assert_eq!(error("ž {log"), "brace at column 3 is not closed; write {{ for a literal brace");
        assert_eq!(error("{log {time}"), "brace at column 1 is not closed; write {{ for a literal brace");
        assert_eq!(error("{log}}"), "closing brace at column 6 has no tag; write }} for a literal brace");
        assert_eq!(error("{log}\n"), "newline at column 6; a record is one line");
    }
}
