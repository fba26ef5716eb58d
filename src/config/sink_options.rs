//! Options of `[sinks.NAME]`: what there is, what was given, and each value with its place for when it is no good.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use crate::cli::Failure;
use crate::cli::flags::List;
use crate::cli::layers::nearest;
use crate::config::file::{At, Setting, Value, refused};
use crate::config::secret::{self, Secret};
use crate::forward::rendering::Value as FieldValue;
use crate::ordered;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Words(&'static [&'static str]),
    Size,
    Duration,
    Number,
    Flag,
    List,
    /// Names and texts.
    Table,
    /// A text that is not shown, given here or, as `KEY_file`, by a file.
    Secret,
    /// The path of a file.
    File,
}

#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    pub key: &'static str,
    pub kind: Kind,
    pub about: &'static str,
    pub default: Option<&'static str>,
    pub example: Option<&'static str>,
}

impl OptionSpec {
    pub const fn new(key: &'static str, kind: Kind, about: &'static str) -> OptionSpec {
        OptionSpec { key, kind, about, default: None, example: None }
    }

    pub const fn by_default(self, default: &'static str) -> OptionSpec {
        OptionSpec { default: Some(default), ..self }
    }

    pub const fn example(self, example: &'static str) -> OptionSpec {
        OptionSpec { example: Some(example), ..self }
    }
}

/// One `[sinks.NAME]` as it stands in the files. Keys of tables in it have the table's name and a dot before them.
#[derive(Clone, Debug)]
pub struct SinkTable {
    pub name: String,
    pub at: At,
    pub settings: Vec<Setting>,
}

impl SinkTable {
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// A sink's table, read by what its kind knows.
pub struct Options<'a> {
    pub table: &'a SinkTable,
    specs: BTreeMap<&'static str, &'static OptionSpec>,
    working_dir: &'a Path,
}

impl<'a> Options<'a> {
    /// Refuses what no option of `specs` is, with the nearest that is.
    pub fn new(
        table: &'a SinkTable,
        specs: impl Iterator<Item = &'static OptionSpec>,
        working_dir: &'a Path,
    ) -> Result<Options<'a>, Failure> {
        let specs = ordered::map(specs.map(|spec| (spec.key, spec)));
        for setting in &table.settings {
            let key = setting.key.as_str();
            let first = key.split_once('.').map_or(key, |(first, _)| first);
            let known = match specs.get(first) {
                Some(spec) => (first != key) == (spec.kind == Kind::Table),
                None => key
                    .strip_suffix("_file")
                    .is_some_and(|of| specs.get(of).is_some_and(|spec| spec.kind == Kind::Secret)),
            };
            if !known {
                let near = nearest(first, specs.keys().map(|key| (*key).to_owned()));
                let hint = match (specs.get(first), near) {
                    (Some(_), _) if first == key => "; it is a table".to_owned(),
                    (Some(_), _) => "; it is no table".to_owned(),
                    (None, Some(near)) => format!("; did you mean {near}?"),
                    (None, None) => String::new(),
                };
                return Err(refused(&setting.at, format!("unknown key {key} in sinks.{}{hint}", table.name)));
            }
        }
        Ok(Options { table, specs, working_dir })
    }

    /// An error about an option's value.
    pub fn refuse(&self, key: &str, why: impl Display) -> Failure {
        let at = self.table.setting(key).map_or(&self.table.at, |setting| &setting.at);
        refused(at, format!("cannot use {key} of sinks.{}: {why}", self.table.name))
    }

    pub fn is_given(&self, key: &str) -> bool {
        self.table.setting(key).is_some()
    }

    /// The value, or the default.
    pub fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        let spec = self.specs.get(key).expect("an option that is asked for is one of the kind's");
        let text = match self.table.setting(key).map(|setting| &setting.value) {
            None => return Ok(spec.default.map(str::to_owned)),
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Flag(flag)) if spec.kind == Kind::Flag => flag.to_string(),
            Some(_) => return Err(self.refuse(key, "takes one text")),
        };
        match spec.kind {
            Kind::Words(words) if !words.contains(&text.as_str()) => {
                Err(self.refuse(key, format!("must be one of {}", words.join(", "))))
            }
            _ => Ok(Some(text)),
        }
    }

    fn parsed<V>(&self, key: &str, parse: impl Fn(&str) -> Result<V, String>) -> Result<Option<V>, Failure> {
        let text = self.text(key)?;
        text.map(|text| parse(&text).map_err(|why| self.refuse(key, why))).transpose()
    }

    /// Bytes.
    pub fn size(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.parsed(key, |text| match ByteSize::from_str(text) {
            Ok(ByteSize(0)) => Err("must be above zero".to_owned()),
            Ok(ByteSize(bytes)) => Ok(bytes),
            Err(_) => Err("not a size such as 64MiB".to_owned()),
        })
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Failure> {
        self.parsed(key, |text| match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("must be above zero".to_owned()),
            Ok(duration) => Ok(duration),
            Err(_) => Err("not a time such as 2s or 500ms".to_owned()),
        })
    }

    pub fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        self.parsed(key, |text| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a number from {} to {}", range.start(), range.end())),
        })
    }

    pub fn list(&self, key: &str) -> Result<Vec<List>, Failure> {
        match self.table.setting(key).map(|setting| &setting.value) {
            None => Ok(Vec::new()),
            Some(Value::List(entries)) if !entries.is_empty() => Ok(vec![List(entries.clone())]),
            Some(Value::Text(text)) => Ok(vec![text.parse().map_err(|why: String| self.refuse(key, why))?]),
            Some(_) => Err(self.refuse(key, "takes a list of texts; leave it out for none")),
        }
    }

    /// What stands in a table, in the order of the file, or of names where TOML has none.
    pub fn table(&self, key: &str) -> Result<Vec<(String, String)>, Failure> {
        let prefix = format!("{key}.");
        let below =
            self.table.settings.iter().filter_map(|setting| Some((setting.key.strip_prefix(&prefix)?, setting)));
        below
            .map(|(name, setting)| match &setting.value {
                Value::Text(text) => Ok((name.to_owned(), text.clone())),
                _ => Err(self.refuse(&setting.key, "takes one text")),
            })
            .collect()
    }

    /// Fields by name: those there are by default, with what the table says of them, and its own behind them.
    pub fn fields(&self, key: &str, defaults: &[(&str, &str)]) -> Result<Vec<(String, FieldValue)>, Failure> {
        let mut fields: Vec<(String, String)> =
            defaults.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, value) in self.table(key)? {
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => fields.push((name, value)),
            }
        }
        fields.retain(|(_, value)| !value.is_empty());
        let parse = |(name, value): (String, String)| {
            let parsed = FieldValue::parse(&value).map_err(|why| self.refuse(&format!("{key}.{name}"), why))?;
            Ok((name, parsed))
        };
        fields.into_iter().map(parse).collect()
    }

    /// A secret, from its own key or from the file that `KEY_file` names.
    pub fn secret(&self, key: &str) -> Result<Option<Secret>, Failure> {
        let file_key = format!("{key}_file");
        let given = self.text(key)?;
        let Some(setting) = self.table.setting(&file_key) else { return Ok(given.map(Secret::Given)) };
        if given.is_some() {
            return Err(self.refuse(&file_key, format!("{key} is given as well")));
        }
        let Value::Text(path) = &setting.value else { return Err(self.refuse(&file_key, "takes one path")) };
        Ok(Some(Secret::In(self.working_dir.join(path))))
    }

    /// What a secret is now.
    pub fn reveal(&self, key: &str, secret: &Secret) -> Result<String, Failure> {
        let key = match secret {
            Secret::Given(_) => key.to_owned(),
            Secret::In(_) => format!("{key}_file"),
        };
        secret.read().map_err(|why| self.refuse(&key, why))
    }

    /// A file that can be read.
    pub fn file(&self, key: &str) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = self.text(key)?.map(|path| self.working_dir.join(path)) else { return Ok(None) };
        secret::read(&path).map_err(|why| self.refuse(key, why))?;
        Ok(Some(path))
    }
}
