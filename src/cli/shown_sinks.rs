//! `[sinks.NAME]` in what `longshore config` prints.

use serde_json::{Map, Value, json};

use crate::cli::shown::{quoted, wrapped};
use crate::config::file;
use crate::config::sink_options::{Kind, OptionSpec, SinkTable};
use crate::config::sinks::{COMMON, kind_of};
use crate::sink::registry::{KINDS, SinkKind};

/// Options that exclude others, or name files that need not be there: shown and left out.
const ALTERNATIVES: [&str; 8] =
    ["bearer", "api_key", "basic_user", "basic_password", "ca_file", "cert_file", "key_file", "template"];

/// A section for each kind, commented out, with every option.
pub(super) fn default_sections() -> String {
    let mut text = String::from(
        "\n# --- Sinks: where records go beside the files. Each reads the logs by itself, so that one that is away holds up\n\
         # nothing else. NAME is yours; there may be any number.\n",
    );
    for kind in &KINDS {
        text += &format!("\n# {}\n#[sinks.{}]\n", kind.about, kind.name);
        for spec in kind.options.iter().chain(&COMMON[1..]) {
            if spec.key == kind.options[0].key {
                text += &format!("#type = {}\n", quoted(kind.name));
            }
            wrapped(spec.about).iter().for_each(|line| text += &format!("# {line}\n"));
            let mark = if ALTERNATIVES.contains(&spec.key) { "# " } else { "#" };
            text += &format!("{mark}{} = {}\n", spec.key, value(spec));
        }
    }
    text
}

fn value(spec: &OptionSpec) -> String {
    let value = spec.default.or(spec.example).unwrap_or_default();
    match spec.kind {
        Kind::Table => value.to_owned(),
        Kind::Number => value.to_owned(),
        _ => quoted(value),
    }
}

/// Each sink as a file could say it; secrets are not shown.
pub(super) fn effective<'a>(tables: impl Iterator<Item = &'a SinkTable>) -> String {
    let mut text = String::new();
    for table in tables {
        text += &format!("\n[sinks.{}]  # {}\n", table.name, table.at);
        let Ok(kind) = kind_of(table) else { continue };
        for setting in &table.settings {
            let key = match setting.key.split_once('.') {
                Some((table, key)) => format!("{table}.{}", quoted(key)),
                None => setting.key.clone(),
            };
            let shown = if is_secret(kind, &setting.key) { quoted("REDACTED") } else { shown(&setting.value) };
            text += &format!("{key} = {shown}  # {}\n", setting.at);
        }
        for spec in COMMON.iter().chain(kind.options) {
            if let (Some(default), false) = (spec.default, table.setting(spec.key).is_some()) {
                text += &format!("{} = {}  # default\n", spec.key, quoted(default));
            }
        }
    }
    text
}

/// What an endpoint's user and password are, and any header may be.
fn is_secret(kind: &SinkKind, key: &str) -> bool {
    let spec = kind.options.iter().find(|spec| spec.key == key);
    spec.is_some_and(|spec| spec.kind == Kind::Secret) || key.starts_with("headers.")
}

fn shown(value: &file::Value) -> String {
    match value {
        file::Value::Flag(flag) => flag.to_string(),
        file::Value::List(entries) => format!("[{}]", entries.iter().map(|e| quoted(e)).collect::<Vec<_>>().join(", ")),
        file::Value::Text(text) => quoted(&without_user(text)),
    }
}

/// `https://user:password@host` without what stands before the host.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://REDACTED{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// A table of sinks; which options one may have hangs on its type.
pub(super) fn schema() -> Value {
    let kinds: Vec<Value> = KINDS.iter().map(kind_schema).collect();
    json!({
        "type": "object",
        "description": "Where records go beside the files, by name",
        "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,64}$" },
        "additionalProperties": { "oneOf": kinds },
    })
}

fn kind_schema(kind: &SinkKind) -> Value {
    let mut properties = Map::new();
    for spec in COMMON.iter().chain(kind.options) {
        properties.insert(spec.key.to_owned(), property(spec));
        if spec.kind == Kind::Secret {
            let about = format!("A file that holds {}", spec.key);
            properties.insert(format!("{}_file", spec.key), json!({ "type": "string", "description": about }));
        }
    }
    properties.insert("type".to_owned(), json!({ "const": kind.name, "description": kind.about }));
    json!({ "type": "object", "properties": properties, "required": ["type"], "additionalProperties": false })
}

fn property(spec: &OptionSpec) -> Value {
    let mut property = match spec.kind {
        Kind::Text | Kind::Secret | Kind::File | Kind::Duration => json!({ "type": "string" }),
        Kind::Words(words) => json!({ "type": "string", "enum": words }),
        Kind::Size | Kind::Number => json!({ "type": ["string", "integer"] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::List => json!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 }),
        Kind::Table => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
    };
    property["description"] = spec.about.into();
    if let Some(default) = spec.default {
        property["default"] = default.into();
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(without_user("https://me:secret@h:1/a@b"), "https://REDACTED@h:1/a@b");
        assert_eq!(without_user("http://h/a@b"), "http://h/a@b");
        assert_eq!(without_user("a text"), "a text");
    }
}
