//! A record as a sink sends it. Resolved once per container, so that a record costs a few copies.

use std::io::Write;

use crate::decode::RecordView;
use crate::format::{Formatter, Metadata, Part, Tag, Template, append_string, append_text};
use crate::forward::mark::Mark;

/// What a field, or a line, is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Template(Template),
    /// The path of the container's log.
    Path,
    /// The record's id.
    Record,
}

/// How a sink wants its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// An object with these fields.
    Json(Vec<(String, Value)>),
    /// `key=value` with these fields.
    Logfmt(Vec<(String, Value)>),
    /// A line by a template.
    Text(Template),
}

impl Value {
    pub fn parse(typed: &str) -> Result<Value, String> {
        match typed {
            "{path}" => Ok(Value::Path),
            "{record}" => Ok(Value::Record),
            typed => Template::parse(typed).map(Value::Template).map_err(|error| error.to_string()),
        }
    }

    fn tags(&self) -> Vec<Tag> {
        match self {
            Value::Template(template) => template.tags().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

impl Look {
    /// What is to be known of a container.
    pub fn tags(&self) -> Vec<Tag> {
        match self {
            Look::Json(fields) | Look::Logfmt(fields) => fields.iter().flat_map(|(_, value)| value.tags()).collect(),
            Look::Text(template) => template.tags().cloned().collect(),
        }
    }

    pub fn resolve(&self, metadata: &Metadata, path: &str) -> Rendering {
        let mut pieces = Pieces::default();
        match self {
            Look::Text(template) => {
                return Rendering {
                    id: metadata.id.clone(),
                    pieces: Vec::new(),
                    text: Some(Formatter::text(template, metadata)),
                };
            }
            Look::Json(fields) => {
                for (ix, (name, value)) in fields.iter().enumerate() {
                    pieces.literal(if ix == 0 { b"{" } else { b"," });
                    pieces.string(name);
                    pieces.literal(b":");
                    pieces.value(value, metadata, path, Quoting::Json);
                }
                pieces.literal(if fields.is_empty() { b"{}" } else { b"}" });
            }
            Look::Logfmt(fields) => {
                for (ix, (name, value)) in fields.iter().enumerate() {
                    pieces.literal(if ix == 0 { b"" } else { b" " });
                    pieces.literal(name.as_bytes());
                    pieces.literal(b"=");
                    pieces.value(value, metadata, path, Quoting::WhereNeeded);
                }
            }
        }
        Rendering { id: metadata.id.clone(), pieces: pieces.0, text: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoting {
    Json,
    /// Logfmt: only where a blank, a quote or an equals sign would mislead.
    WhereNeeded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Parts(Vec<Part>, Quoting),
    Record(Quoting),
}

/// One container's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    id: String,
    pieces: Vec<Piece>,
    text: Option<Formatter>,
}

impl Rendering {
    /// Appends a record, without anything behind it. No newline is in it, unless a text's record has one.
    pub fn append(&self, record: &RecordView<'_>, mark: Mark, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        if let Some(formatter) = &self.text {
            formatter.append(record, out);
            out.pop(); // The newline is the sink's business.
            return;
        }
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Parts(parts, quoting) => match parts.as_slice() {
                    [Part::Time] => {
                        quote(*quoting, out);
                        record.time.append_to(out);
                        quote(*quoting, out);
                    }
                    [Part::Log] => append_value(*quoting, record.text, out),
                    [Part::Stream] => append_value(*quoting, record.stream.name().as_bytes(), out),
                    parts => {
                        scratch.clear();
                        Formatter::Text(parts.to_vec()).append(record, scratch);
                        scratch.pop();
                        append_value(*quoting, scratch, out);
                    }
                },
                Piece::Record(quoting) => {
                    quote(*quoting, out);
                    mark.append_id(&self.id, out);
                    quote(*quoting, out);
                }
            }
        }
    }
}

fn quote(quoting: Quoting, out: &mut Vec<u8>) {
    if quoting == Quoting::Json {
        out.push(b'"');
    }
}

fn append_value(quoting: Quoting, text: &[u8], out: &mut Vec<u8>) {
    let misleads = |byte: &u8| *byte <= b' ' || matches!(byte, b'"' | b'=' | b'\\' | 0x7f);
    if quoting == Quoting::WhereNeeded && !text.is_empty() && !text.iter().any(misleads) {
        out.extend_from_slice(text);
    } else {
        append_text(text, out);
    }
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn literal(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Piece::Literal(literal)) => literal.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.0.push(Piece::Literal(bytes.to_vec())),
        }
    }

    fn string(&mut self, text: &str) {
        let mut quoted = Vec::new();
        append_string(text, &mut quoted);
        self.literal(&quoted);
    }

    fn value(&mut self, value: &Value, metadata: &Metadata, path: &str, quoting: Quoting) {
        let parts = match value {
            Value::Path => vec![Part::Literal(path.as_bytes().to_vec())],
            Value::Template(template) => template.resolve(metadata),
            Value::Record => return self.0.push(Piece::Record(quoting)),
        };
        if parts.iter().all(|part| matches!(part, Part::Literal(_))) {
            let mut text = Vec::new();
            for part in &parts {
                if let Part::Literal(bytes) = part {
                    text.write_all(bytes).expect("writing into memory cannot fail");
                }
            }
            let mut quoted = Vec::new();
            append_value(quoting, &text, &mut quoted);
            return self.literal(&quoted);
        }
        self.0.push(Piece::Parts(parts, quoting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Stream, Timestamp};

    fn fields(typed: &[(&str, &str)]) -> Vec<(String, Value)> {
        typed.iter().map(|(name, value)| ((*name).to_owned(), Value::parse(value).unwrap())).collect()
    }

    fn rendered(look: &Look, text: &str) -> String {
        let metadata =
            Metadata { name: "web".into(), id: "ab".into(), hostname: "node 1".into(), ..Metadata::default() };
        let time = Timestamp::parse(b"2025-11-25T16:00:00.1Z").unwrap();
        let record = RecordView { stream: Stream::Stderr, time, text: text.as_bytes(), attrs: None, line: b"" };
        let mut out = Vec::new();
        look.resolve(&metadata, "/c/ab-json.log").append(&record, Mark::line(1, 5), &mut Vec::new(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_fields_are_in_order_and_escaped() {
        let look = Look::Json(fields(&[
            ("timestamp", "{time}"),
            ("host", "{hostname}"),
            ("path", "{path}"),
            ("line", "{log}"),
            ("who", "{name}/{stream}"),
            ("id", "{record}"),
            ("none", "{label.x}"),
        ]));
        assert_eq!(
            rendered(&look, "say \"hi\"\n"),
            r#"{"timestamp":"2025-11-25T16:00:00.100000000Z","host":"node 1","path":"/c/ab-json.log","line":"say \"hi\"\n","who":"web/stderr","id":"ab:0000000000000001:5","none":""}"#
        );
        assert_eq!(rendered(&Look::Json(Vec::new()), "x"), "{}");
    }

    #[test]
    fn logfmt_quotes_where_it_must() {
        let look = Look::Logfmt(fields(&[("ts", "{time}"), ("host", "{hostname}"), ("c", "{name}"), ("msg", "{log}")]));
        let line = |text| rendered(&look, text);
        assert_eq!(line("a b=c"), "ts=2025-11-25T16:00:00.100000000Z host=\"node 1\" c=web msg=\"a b=c\"");
        assert!(line("plain").ends_with(" msg=plain") && line("").ends_with(" msg=\"\""));
    }

    #[test]
    fn text_is_a_template_s() {
        assert_eq!(rendered(&Look::Text(Template::parse("{name}|{log}").unwrap()), "x\ny"), "web|x\ny");
    }

    #[test]
    fn a_bad_value_says_why() {
        assert!(Value::parse("{lgo}").unwrap_err().contains("did you mean {log}"));
    }
}
