//! `longshore check` and `longshore config`: what is in effect and why, and what could be.

use serde_json::{Map, json};

use crate::cli::layers::{Key, Layers, keys};
use crate::cli::shown_sinks;
use crate::cli::{Exit, Failure, print};
use crate::config::file::{Files, SECTION, Section, Setting, Value};
use crate::config::sections::{ENABLE, NAME, section_keys};

/// Examples for keys that are unset by default.
const EXAMPLES: [(&str, &str); 22] = [
    ("endpoint", "https://logs.example.com/ingest"),
    ("batch", "200"),
    ("wait", "2s"),
    ("workers", "4"),
    ("queue", "64MiB"),
    ("container_names", "web,db-*"),
    ("exclude_names", "*-debug"),
    ("label", "tier=front"),
    ("image", "nginx:*"),
    ("hostname", "node-7"),
    ("filter_regex", "status=5[0-9][0-9]"),
    ("exclude_regex", "GET /healthz"),
    ("stream", "stderr"),
    ("redact", "email,card"),
    ("held_max", "2GiB"),
    ("max_files", "10"),
    ("max_age", "7d"),
    ("max_total", "20GB"),
    ("listen", "127.0.0.1:9464"),
    ("since", "2026-11-01T00:00:00Z"),
    ("until", "10m"),
    ("threads", "4"),
];
const WIDTH: usize = 100;
const SECTION_HELP: &str = "
# --- Some containers
#
# Settings for containers of these names; any number of sections, below all keys above. Of two that match a container
# the later one counts, key by key, and its own labels (longshore.limit and so on) above them. redact = \"none\" takes
# back what is set for all; enable = false leaves containers out.

#[[container]]
";

/// Said when nothing is wrong.
pub fn checked(files: &Files) -> Result<Exit, Failure> {
    let files: Vec<String> = files.read.iter().map(|file| file.display().to_string()).collect();
    let read = if files.is_empty() { "there is no file; flags and defaults".to_owned() } else { files.join(", ") };
    print(format!("ok: {read}\n").as_bytes());
    Ok(Exit::Done)
}

/// One key a line, as a file could say it, and behind it what it comes from.
pub fn effective(layers: &Layers) -> Result<Exit, Failure> {
    let flags: Vec<String> = keys().iter().filter(|key| key.is_flag()).map(Key::id).collect();
    let line = |(id, value, origin): (String, Option<String>, String)| match value {
        Some(value) if flags.contains(&id) => format!("{id} = {value}  # {origin}\n"),
        Some(value) => format!("{id} = {}  # {origin}\n", quoted(&value)),
        None => format!("# {id} is not set  # {origin}\n"),
    };
    let mut text: String = layers.origins().into_iter().map(line).collect();
    text.extend(layers.files.sections.iter().map(section));
    text += &shown_sinks::effective(layers.files.sinks.values());
    print(text.as_bytes());
    Ok(Exit::Done)
}

/// A section as it was typed, with where each value stands.
fn section(section: &Section) -> String {
    let mut text = format!("\n[[{SECTION}]]  # {}\n", section.at);
    for Setting { key, value, at } in &section.settings {
        let value = match value {
            Value::Text(text) => quoted(text),
            Value::Flag(flag) => flag.to_string(),
            Value::List(entries) => toml::Value::from(entries.clone()).to_string(),
        };
        text += &format!("{key} = {}  # {at}\n", value.replace("${", "$${"));
    }
    text
}

/// Every key with what it means, commented out.
pub fn default() -> Result<Exit, Failure> {
    print(default_file().as_bytes());
    Ok(Exit::Done)
}

pub fn schema() -> Result<Exit, Failure> {
    let schema = serde_json::to_string_pretty(&schema_value())
        .map_err(|error| Failure::new(Exit::Failed, "cannot write the schema").caused_by(&error))?;
    print((schema + "\n").as_bytes());
    Ok(Exit::Done)
}

fn default_file() -> String {
    let mut text = String::from(
        "# The configuration of longshore: /etc/longshore/config.toml, and *.toml in conf.d beside it.\n\
         # A key is a flag's name with _ for -; a flag wins over its variable, and that over this file.\n\
         # ${VAR} and ${VAR:-otherwise} take a variable's value. What is commented out is the default, or an example.\n",
    );
    let mut heading = String::new();
    for key in keys() {
        let group = key.arg.get_help_heading().unwrap_or_default();
        if group != heading {
            heading = group.to_owned();
            text += &format!("\n# --- {heading}\n");
        }
        text += "\n";
        for line in wrapped(&help(&key)) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{} = {}\n", key.id(), value(&key));
    }
    text += SECTION_HELP;
    for (key, value) in [(NAME, quoted("web-*")), (ENABLE, "true".to_owned())] {
        text += &format!("#{key} = {value}\n");
    }
    for key in section_keys() {
        text += &format!("#{} = {}\n", key.id(), value(&key));
    }
    text + &shown_sinks::default_sections()
}

fn value(key: &Key) -> String {
    if key.is_flag() {
        return "false".to_owned();
    }
    let example = || EXAMPLES.iter().find(|(id, _)| *id == key.id()).map(|(_, example)| (*example).to_owned());
    quoted(&key.default().or_else(example).unwrap_or_default())
}

pub(super) fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn help(key: &Key) -> String {
    key.arg.get_help().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < WIDTH => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn schema_value() -> serde_json::Value {
    let mut properties = Map::new();
    properties.extend(keys().iter().map(|key| (key.id(), property(key))));
    properties.insert(SECTION.to_owned(), section_schema());
    properties.insert("sinks".to_owned(), shown_sinks::schema());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "longshore configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn section_schema() -> serde_json::Value {
    let mut properties = Map::new();
    properties.extend(section_keys().iter().map(|key| (key.id(), property(key))));
    // What is set for all is the default here.
    properties
        .values_mut()
        .filter_map(serde_json::Value::as_object_mut)
        .for_each(|property| drop(property.remove("default")));
    properties.insert(
        NAME.to_owned(),
        json!({
            "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1,
            "description": "Exact names and globs; one must match",
        }),
    );
    properties.insert(
        ENABLE.to_owned(),
        json!({ "type": "boolean", "description": "Whether these containers are followed at all" }),
    );
    json!({
        "type": "array",
        "description": "Settings for containers of some names; of two that match, the later one counts, key by key",
        "items": { "type": "object", "properties": properties, "required": [NAME], "additionalProperties": false },
    })
}

fn property(key: &Key) -> serde_json::Value {
    let mut property = if key.is_flag() {
        json!({ "type": "boolean", "default": false })
    } else if key.is_list() {
        json!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 })
    } else {
        json!({ "type": ["string", "integer"] })
    };
    let words: Vec<String> =
        key.arg.get_possible_values().iter().map(|possible| possible.get_name().to_owned()).collect();
    if !words.is_empty() && !key.is_flag() {
        property = json!({ "type": "string", "enum": words });
    }
    property["description"] = help(key).into();
    if let (Some(default), false) = (key.default(), key.is_flag()) {
        property["default"] = default.into();
    }
    property
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;

    fn layers(file: &str) -> Result<Layers, Failure> {
        Layers::parse(&["longshore", "check"].map(OsString::from), |_| {
            let mut files = Files::default();
            files.add(Path::new("default.toml"), file, &|_| None).map(|()| files)
        })
    }

    /// The default file with every key in effect.
    fn uncommented() -> String {
        let all = default_file();
        all.lines()
            .map(|line| if line.starts_with("# ") { line } else { line.trim_start_matches('#') }.to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_default_is_accepted_commented_and_not() {
        assert!(layers(&default_file()).unwrap().files.settings.is_empty());
        let all = layers(&uncommented()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(all.files.settings.len(), keys().len());
        assert_eq!(all.files.sections[0].settings.len(), section_keys().len() + 2);
        assert_eq!(all.files.sinks.len(), crate::sink::registry::KINDS.len());
    }

    #[test]
    fn the_schema_knows_every_key_and_takes_the_default() {
        let schema = schema_value();
        for setting in layers(&uncommented()).unwrap().files.settings {
            let property = &schema["properties"][&setting.key];
            let kind = match &setting.value {
                Value::Flag(_) => "boolean",
                _ => "string",
            };
            let takes =
                property["type"] == kind || property["type"].as_array().is_some_and(|all| all.contains(&kind.into()));
            assert!(takes, "{}: {property}", setting.key);
            if let (Some(words), Value::Text(text)) = (property["enum"].as_array(), &setting.value) {
                assert!(words.contains(&text.as_str().into()), "{}", setting.key);
            }
        }
        let section = &schema["properties"][SECTION]["items"];
        for setting in &layers(&uncommented()).unwrap().files.sections[0].settings {
            assert!(section["properties"][&setting.key].is_object(), "{}", setting.key);
        }
    }
}
