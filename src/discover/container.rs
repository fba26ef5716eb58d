//! Reads what Docker writes beside a log: whose it is (config.v2.json) and how it is written (hostconfig.json).
//! Takes what it wants and shrugs at the rest: a field of a wrong type is a missing field, for these files belong to
//! another program and change with its versions.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::limits::{CONFIG_BYTES_MAX, METADATA_VALUE_BYTES_MAX};
use crate::format::{Metadata, Tag, Template};

/// A container's owner may keep its log out by this label.
pub const EXCLUDE_LABEL: &str = "longshore.exclude";
/// What a container's owner may choose for it, unless `--container-labels no`.
pub const ENABLE_LABEL: &str = "longshore.enable";
pub const LIMIT_LABEL: &str = "longshore.limit";
pub const TEMPLATE_LABEL: &str = "longshore.template";
pub const FILTER_LABEL: &str = "longshore.filter-regex";
pub const EXCLUDE_REGEX_LABEL: &str = "longshore.exclude-regex";
pub const COMPRESSION_LABEL: &str = "longshore.compression";
pub const MAX_FILES_LABEL: &str = "longshore.max-files";
pub const CONTAINER_LABELS: [&str; 7] =
    [ENABLE_LABEL, LIMIT_LABEL, TEMPLATE_LABEL, FILTER_LABEL, EXCLUDE_REGEX_LABEL, COMPRESSION_LABEL, MAX_FILES_LABEL];
/// Kubernetes: the container whose network and name files the others of its pod use.
pub const SANDBOX_LABEL: &str = "io.kubernetes.sandbox.id";

/// What config.v2.json says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerConfig {
    /// With the labels and variables of [`Needed`], and no others.
    pub metadata: Metadata,
    /// As Docker wrote it, RFC 3339 with up to nine digits; empty when it is missing.
    pub created: String,
    pub state: ContainerState,
    /// The log has one stream, and its lines end in CR LF.
    pub tty: bool,
}

/// In Docker's words, as `docker ps` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Removing,
    Dead,
}

/// Keys of labels and variables that something asks for. The others aren't kept: a label bomb stays in its file, and
/// so do the secrets in environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    labels: BTreeSet<String>,
    env: BTreeSet<String>,
}

/// What hostconfig.json says about the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `json-file` for logs we can read; empty when it is missing.
    pub driver: String,
    /// `mode=non-blocking`: pieces of a line may be dropped, so its end may never come.
    pub non_blocking: bool,
    /// Generations that Docker keeps, the current one included. None: not given, which means 1.
    pub max_file: Option<u32>,
    /// Bytes at which Docker rotates. None: never.
    pub max_size: Option<u64>,
    pub compress: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{bytes} bytes, more than {CONFIG_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("no JSON object")]
    Json(#[from] serde_json::Error),
    #[error("no name in it")]
    NoName,
}

impl ContainerConfig {
    /// `hostname` is the node's.
    pub fn parse(id: &str, hostname: &str, needed: &Needed, bytes: &[u8]) -> Result<ContainerConfig, ConfigError> {
        let config = ContainerConfig::parse_once(id, hostname, needed, bytes)?;
        // A template that stands in a label asks for more labels, which only this container needs.
        match config.metadata.label(TEMPLATE_LABEL).and_then(|typed| Template::parse(typed).ok()) {
            Some(template) => ContainerConfig::parse_once(id, hostname, &needed.with(template.tags()), bytes),
            None => Ok(config),
        }
    }

    fn parse_once(id: &str, hostname: &str, needed: &Needed, bytes: &[u8]) -> Result<ContainerConfig, ConfigError> {
        let raw: RawConfig<'_> = parse(bytes)?;
        let name = raw.name.strip_prefix('/').unwrap_or(&raw.name);
        if name.is_empty() {
            return Err(ConfigError::NoName);
        }
        Ok(ContainerConfig {
            metadata: Metadata {
                name: cut(&printable(name)),
                id: id.to_owned(),
                image: cut(&raw.config.image),
                image_id: cut(&raw.image),
                hostname: hostname.to_owned(),
                labels: entries(raw.config.labels, |key| needed.labels.contains(key)),
                env: variables(raw.config.env, |key| needed.env.contains(key)),
            },
            created: cut(&raw.created),
            state: raw.state.state(),
            tty: raw.config.tty,
        })
    }

    /// Nanoseconds since the Unix epoch. Text won't do for the order: Docker trims zeros.
    pub fn created_ns(&self) -> Option<i128> {
        self.created.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
    }
}

impl ContainerState {
    /// The log may still grow.
    pub fn is_running(self) -> bool {
        matches!(self, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting)
    }

    pub fn name(self) -> &'static str {
        match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::Restarting => "restarting",
            ContainerState::Exited => "exited",
            ContainerState::Removing => "removing",
            ContainerState::Dead => "dead",
        }
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Needed {
    /// What the tags of all templates and the labels of the selection ask for, and what is always looked at.
    pub fn new<'a>(tags: impl IntoIterator<Item = &'a Tag>, labels: impl IntoIterator<Item = &'a str>) -> Needed {
        let always = [
            EXCLUDE_LABEL,
            SANDBOX_LABEL,
            "io.kubernetes.pod.namespace",
            "io.kubernetes.pod.name",
            "io.kubernetes.container.name",
        ];
        let mut needed = Needed { labels: always.map(str::to_owned).into(), env: BTreeSet::new() };
        needed.labels.extend(labels.into_iter().map(str::to_owned));
        needed.with(tags)
    }

    /// And what these ask for.
    pub fn with<'a>(&self, tags: impl IntoIterator<Item = &'a Tag>) -> Needed {
        let mut needed = self.clone();
        for tag in tags {
            match tag {
                Tag::Label(key) => needed.labels.insert(key.clone()),
                Tag::Env(key) => needed.env.insert(key.clone()),
                _ => continue,
            };
        }
        needed
    }
}

impl Default for Needed {
    fn default() -> Needed {
        Needed::new([], [])
    }
}

impl LogOptions {
    pub fn parse(bytes: &[u8]) -> Result<LogOptions, ConfigError> {
        let raw: RawHostConfig<'_> = parse(bytes)?;
        let options = entries(raw.log_config.config, |key| ["mode", "max-file", "max-size", "compress"].contains(&key));
        let option = |key: &str| options.get(key).map(String::as_str);
        Ok(LogOptions {
            driver: cut(&raw.log_config.driver),
            non_blocking: option("mode") == Some("non-blocking"),
            max_file: option("max-file").and_then(|number| number.parse().ok()),
            max_size: option("max-size").and_then(parse_docker_size),
            compress: option("compress").is_some_and(|word| matches!(word, "1" | "t" | "T" | "true" | "TRUE" | "True")),
        })
    }
}

/// Docker's own sizes are binary whatever they are called: `10m` is 10 MiB (go-units, RAMInBytes). -1 is no limit.
fn parse_docker_size(typed: &str) -> Option<u64> {
    let lower = typed.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end();
    let factor = match lower[digits.len()..].trim_start() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1u64 << 40,
        _ => return None,
    };
    let size = digits.parse::<f64>().ok().filter(|size| *size >= 0.0)?;
    Some((size * factor as f64) as u64)
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ConfigError> {
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { bytes: bytes.len() });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Docker's names hold no control characters. In our log and tables they would command a terminal, or pass for a line
/// of ours.
fn printable(name: &str) -> Cow<'_, str> {
    if !name.contains(char::is_control) {
        return name.into();
    }
    let mut shown = String::new();
    for character in name.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

fn cut(value: &str) -> String {
    value[..value.floor_char_boundary(METADATA_VALUE_BYTES_MAX)].to_owned()
}

#[derive(Deserialize)]
struct RawConfig<'a> {
    #[serde(rename = "Name", default, deserialize_with = "lenient")]
    name: String,
    #[serde(rename = "Created", default, deserialize_with = "lenient")]
    created: String,
    #[serde(rename = "Image", default, deserialize_with = "lenient")]
    image: String,
    #[serde(rename = "Config", default, deserialize_with = "lenient", borrow)]
    config: RawInner<'a>,
    #[serde(rename = "State", default, deserialize_with = "lenient")]
    state: RawState,
}

#[derive(Default, Deserialize)]
struct RawInner<'a> {
    #[serde(rename = "Image", default, deserialize_with = "lenient")]
    image: String,
    #[serde(rename = "Labels", default, borrow)]
    labels: Option<&'a RawValue>,
    #[serde(rename = "Env", default, borrow)]
    env: Option<&'a RawValue>,
    #[serde(rename = "Tty", default, deserialize_with = "lenient")]
    tty: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawState {
    #[serde(deserialize_with = "lenient")]
    running: bool,
    #[serde(deserialize_with = "lenient")]
    paused: bool,
    #[serde(deserialize_with = "lenient")]
    restarting: bool,
    #[serde(deserialize_with = "lenient")]
    removal_in_progress: bool,
    #[serde(deserialize_with = "lenient")]
    dead: bool,
    #[serde(deserialize_with = "lenient")]
    started_at: String,
}

impl RawState {
    /// As moby's StateString: a paused or restarting container is running, too.
    fn state(&self) -> ContainerState {
        match self {
            RawState { running: true, paused: true, .. } => ContainerState::Paused,
            RawState { restarting: true, .. } => ContainerState::Restarting,
            RawState { running: true, .. } => ContainerState::Running,
            RawState { removal_in_progress: true, .. } => ContainerState::Removing,
            RawState { dead: true, .. } => ContainerState::Dead,
            RawState { started_at, .. } if started_at.is_empty() || started_at.starts_with("0001-") => {
                ContainerState::Created
            }
            RawState { .. } => ContainerState::Exited,
        }
    }
}

#[derive(Deserialize)]
struct RawHostConfig<'a> {
    #[serde(rename = "LogConfig", default, deserialize_with = "lenient", borrow)]
    log_config: RawLogConfig<'a>,
}

#[derive(Default, Deserialize)]
struct RawLogConfig<'a> {
    #[serde(rename = "Type", default, deserialize_with = "lenient")]
    driver: String,
    #[serde(rename = "Config", default, borrow)]
    config: Option<&'a RawValue>,
}

/// The value, or the default for null and for what it can't be read as.
fn lenient<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    let raw: &'de RawValue = Deserialize::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// The wanted entries of an object that are strings; the others, and what is no object, say nothing. What isn't wanted
/// takes no memory: a bomb has a million entries.
fn entries(raw: Option<&RawValue>, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let raw = raw.map_or("null", RawValue::get);
    serde_json::Deserializer::from_str(raw).deserialize_map(Kept(is_wanted)).unwrap_or_default()
}

/// The same of an array of `KEY=VALUE`.
fn variables(raw: Option<&RawValue>, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let raw = raw.map_or("null", RawValue::get);
    serde_json::Deserializer::from_str(raw).deserialize_seq(Kept(is_wanted)).unwrap_or_default()
}

/// Keeps the entries whose key is wanted.
struct Kept<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Kept<F> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if !(self.0)(&key) {
                let _ignored: IgnoredAny = map.next_value()?;
            } else if let Ok(value) = serde_json::from_str::<String>(map.next_value::<&RawValue>()?.get()) {
                entries.insert(key, cut(&value));
            }
        }
        Ok(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(raw) = array.next_element::<&RawValue>()? {
            let Ok(entry) = serde_json::from_str::<String>(raw.get()) else { continue };
            if let Some((key, value)) = entry.split_once('=').filter(|(key, _)| (self.0)(key)) {
                entries.insert(key.to_owned(), cut(value));
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn parsed(json: &str) -> Result<ContainerConfig, ConfigError> {
        let tags = [Tag::Label("app".into()), Tag::Env("TIER".into())];
        ContainerConfig::parse(ID, "node-1", &Needed::new(&tags, ["team"]), json.as_bytes())
    }

    #[test]
    fn a_whole_config() {
        let config = parsed(
            r#"{"ID":"x","Created":"2025-11-25T10:00:00.5Z","Name":"/web","Image":"sha256:ab","Driver":"overlay2",
            "Config":{"Image":"nginx:1.27","Tty":true,"Env":["TIER=a=b","SECRET=s","PATH"],
            "Labels":{"app":"shop","team":"red","other":"x","io.kubernetes.pod.name":"p"}},
            "State":{"Running":true,"Paused":false,"Pid":7,"StartedAt":"2025-11-25T10:00:01Z"}}"#,
        )
        .unwrap();
        let metadata = &config.metadata;
        assert_eq!((metadata.name.as_str(), metadata.id.as_str()), ("web", ID));
        assert_eq!((metadata.image.as_str(), metadata.image_id.as_str()), ("nginx:1.27", "sha256:ab"));
        assert_eq!(metadata.hostname, "node-1");
        let labels: Vec<&str> = metadata.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, ["app", "io.kubernetes.pod.name", "team"], "only what is needed");
        assert_eq!(metadata.env, [("TIER".to_owned(), "a=b".to_owned())].into(), "no secrets");
        assert_eq!(config.state, ContainerState::Running);
        assert!(config.tty);
        assert_eq!(config.created_ns(), Some(1_764_064_800_500_000_000));
    }

    #[test]
    fn nulls_missing_fields_and_wrong_types_are_defaults() {
        for json in [
            r#"{"Name":"/web"}"#,
            r#"{"Name":"web","Config":null,"State":null,"Created":null,"Image":null}"#,
            r#"{"Name":"web","Config":{"Labels":null,"Env":null,"Tty":null,"Image":7},"State":{"Running":"yes","Paused":[]}}"#,
            r#"{"Name":"web","Config":[1,2],"State":7,"Created":{},"Image":[[]]}"#,
            r#"{"Name":"web","Config":{"Labels":["app"],"Env":{"TIER":"a"}}}"#,
        ] {
            let config = parsed(json).expect(json);
            assert_eq!(config.metadata.name, "web", "{json}");
            assert!(config.metadata.labels.is_empty() && config.metadata.env.is_empty(), "{json}");
            assert_eq!(
                (config.state, config.tty, config.created_ns()),
                (ContainerState::Created, false, None),
                "{json}"
            );
        }
    }

    #[test]
    fn one_bad_label_costs_no_other() {
        let config = parsed(r#"{"Name":"web","Config":{"Labels":{"app":7,"team":"red","x":{"a":[]}}}}"#).unwrap();
        assert_eq!(config.metadata.labels, [("team".to_owned(), "red".to_owned())].into());
    }

    #[test]
    fn escapes_are_read() {
        let config = parsed(r#"{"N\u0061me":"/w\u0065b","Config":{"Labels":{"\u0061pp":"\n\ud83d\ude00"}}}"#).unwrap();
        assert_eq!(config.metadata.name, "web");
        assert_eq!(config.metadata.label("app"), Some("\n😀"));
    }

    #[test]
    fn a_name_commands_no_terminal() {
        let name = |json: &str| parsed(json).unwrap().metadata.name;
        assert_eq!(name(r#"{"Name":"/\u001b[2J\r\nerror: x\u009b"}"#), r"\u{1b}[2J\r\nerror: x\u{9b}");
        assert_eq!(name(r#"{"Name":"/ž\\n"}"#), r"ž\n", "what is no control character stays");
    }

    #[test]
    fn one_bad_variable_costs_no_other() {
        let config = parsed(r#"{"Name":"web","Config":{"Env":[7,"TIER=a",null,"TIER","X=TIER=b"]}}"#).unwrap();
        assert_eq!(config.metadata.env, [("TIER".to_owned(), "a".to_owned())].into());
    }

    #[test]
    fn bad_bytes_are_errors() {
        for json in ["", "null", "{", r#"{"Name":"/web""#, "\0\0\0", r#"{"Name":"/we"#, r#"{"Name":"a"} x"#] {
            assert!(matches!(parsed(json), Err(ConfigError::Json(_))), "{json}");
        }
        for json in ["{}", "[]", r#"{"Name":""}"#, r#"{"Name":"/"}"#, r#"{"Name":7}"#] {
            assert!(matches!(parsed(json), Err(ConfigError::NoName)), "{json}");
        }
        assert!(ContainerConfig::parse(ID, "", &Needed::default(), b"{\"Name\":\"\xff\"}").is_err());
        let deep = format!("{{\"Name\":\"web\",\"Config\":{}", "[".repeat(100_000));
        assert!(parsed(&deep).is_err());
    }

    #[test]
    fn a_label_bomb_stays_in_its_file() {
        let many: String = (0..50_000).map(|number| format!("\"label{number}\":\"some value\",")).collect();
        let json = format!(
            "{{\"Name\":\"/{}\",\"Config\":{{\"Labels\":{{{many}\"app\":\"{}\"}}}}}}",
            "n".repeat(10_000),
            "ž".repeat(500_000)
        );
        let metadata = parsed(&json).unwrap().metadata;
        assert_eq!(metadata.labels.len(), 1);
        assert_eq!(metadata.label("app").unwrap().len(), METADATA_VALUE_BYTES_MAX);
        assert_eq!(metadata.name.len(), METADATA_VALUE_BYTES_MAX);
        let json = format!("{{\"Name\":\"{}\"}}", "n".repeat(CONFIG_BYTES_MAX));
        assert!(matches!(parsed(&json), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn states_as_docker_names_them() {
        let state = |json: &str| parsed(&format!("{{\"Name\":\"a\",\"State\":{json}}}")).unwrap().state.to_string();
        assert_eq!(state(r#"{"Running":true,"Paused":true}"#), "paused");
        assert_eq!(state(r#"{"Running":true,"Restarting":true}"#), "restarting");
        assert_eq!(state(r#"{"Running":false,"StartedAt":"0001-01-01T00:00:00Z"}"#), "created");
        assert_eq!(state(r#"{"Running":false,"StartedAt":"2025-01-01T00:00:00Z"}"#), "exited");
        assert_eq!(state(r#"{"Dead":true,"StartedAt":"2025-01-01T00:00:00Z"}"#), "dead");
        assert_eq!(state(r#"{"RemovalInProgress":true,"Dead":true}"#), "removing");
    }

    #[test]
    fn log_options() {
        let json = r#"{"Binds":null,"LogConfig":{"Type":"json-file",
            "Config":{"mode":"non-blocking","max-size":"10m","max-file":"3","compress":"true","labels":"a"}}}"#;
        let expected = LogOptions {
            driver: "json-file".into(),
            non_blocking: true,
            max_file: Some(3),
            max_size: Some(10 << 20),
            compress: true,
        };
        assert_eq!(LogOptions::parse(json.as_bytes()).unwrap(), expected);
        for json in [
            "{}",
            r#"{"LogConfig":null}"#,
            r#"{"LogConfig":{"Config":null}}"#,
            r#"{"LogConfig":{"Config":{"mode":7}}}"#,
        ] {
            assert_eq!(LogOptions::parse(json.as_bytes()).unwrap(), LogOptions::default(), "{json}");
        }
        assert!(LogOptions::parse(b"").is_err());
    }

    #[test]
    fn docker_sizes_are_binary() {
        for (typed, expected) in [
            ("10m", Some(10 << 20)),
            ("1.5k", Some(1536)),
            ("100", Some(100)),
            ("2GB", Some(2 << 30)),
            ("-1", None),
            ("ž", None),
        ] {
            assert_eq!(parse_docker_size(typed), expected, "{typed}");
        }
    }
}
