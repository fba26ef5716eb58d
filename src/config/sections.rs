//! `[[container]]`: settings for containers of some names. A section names them, and sets what flags set for all; of two
//! that match a container the later one counts, key by key.

use clap::{Args, FromArgMatches};

use crate::cli::flags::{AgentFlags, List};
use crate::cli::layers::{Key, check_in, keys, nearest, words};
use crate::cli::{Exit, Failure};
use crate::config::file::{At, Files, SECTION, Section as Typed, Setting, Value, refused};
use crate::config::treatment::Treatment;
use crate::discover::Names;

/// Keys of flags that make sense for one container.
pub const SECTION_KEYS: [&str; 12] = [
    "limit",
    "max_files",
    "max_age",
    "compression",
    "file_mode",
    "format",
    "template",
    "max_line_bytes",
    "filter_regex",
    "exclude_regex",
    "stream",
    "redact",
];
/// Keys that only sections have.
pub const NAME: &str = "name";
pub const ENABLE: &str = "enable";

#[derive(Clone, Debug)]
pub struct Section {
    pub at: At,
    pub names: Names,
    /// Whether these containers are followed at all.
    pub enable: Option<bool>,
    /// What it sets; the values stand in `values`.
    keys: Vec<String>,
    values: Treatment,
}

/// In their order; the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Sections(Vec<Section>);

impl Sections {
    pub fn parse(files: &Files) -> Result<Sections, Failure> {
        files.sections.iter().map(Section::parse).collect::<Result<_, _>>().map(Sections)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Section> {
        self.0.iter()
    }

    /// How a container of this name is treated, where `base` is for all.
    pub fn treatment(&self, base: &Treatment, name: &str) -> Treatment {
        let mut treatment = base.clone();
        for section in self.0.iter().filter(|section| section.names.matches(name)) {
            section.apply(&mut treatment);
        }
        treatment
    }

    /// Whether what they say goes together with what is set for all, and with each other.
    pub fn check(&self, base: &Treatment) -> Result<(), Failure> {
        for (ix, section) in self.0.iter().enumerate() {
            let mut alone = base.clone();
            section.apply(&mut alone);
            section.check(&alone)?;
            let before = self.0[..ix].iter().filter(|other| other.shapes() && section.shapes());
            for other in before.filter(|other| other.names.may_overlap(&section.names)) {
                let mut both = base.clone();
                other.apply(&mut both);
                section.apply(&mut both);
                section.check(&both)?;
            }
        }
        Ok(())
    }
}

impl Section {
    fn parse(typed: &Typed) -> Result<Section, Failure> {
        typed.settings.iter().try_for_each(check)?;
        let of = |key: &str| typed.settings.iter().find(|setting| setting.key == key);
        let Some(name) = of(NAME) else {
            return Err(refused(
                &typed.at,
                format!("{SECTION} has no {NAME}; write {NAME} = \"web-*\", or \"*\" for all"),
            ));
        };
        let names = names(name)?;
        let enable = match of(ENABLE).map(|setting| &setting.value) {
            Some(Value::Flag(enable)) => Some(*enable),
            _ => None,
        };
        let settings = || typed.settings.iter().filter(|setting| SECTION_KEYS.contains(&setting.key.as_str()));
        let format_given = of("format").is_some();
        let given = settings().flat_map(|setting| {
            let long = setting.key.replace('_', "-");
            words(&setting.value).into_iter().map(move |value| format!("--{long}={value}"))
        });
        let command = AgentFlags::augment_args(clap::Command::new("section").no_binary_name(true));
        let flags = command.try_get_matches_from(given).and_then(|matches| AgentFlags::from_arg_matches(&matches));
        let flags = flags.map_err(|error| refused(&typed.at, error.to_string().lines().next().unwrap_or_default()))?;
        // What contradicts between keys is the section's fault only where both stand in it.
        let values = Treatment::of(&flags).map_err(|failure| Failure {
            code: Exit::Config,
            message: format!("{}: {SECTION}: {}", typed.at, failure.message),
            ..failure
        })?;
        let mut keys: Vec<String> = settings().map(|setting| setting.key.clone()).collect();
        // A template is of the text format, whatever is set for all.
        if of("template").is_some() && !format_given {
            keys.push("format".to_owned());
        }
        Ok(Section { at: typed.at.clone(), names, enable, keys, values })
    }

    fn apply(&self, to: &mut Treatment) {
        let values = &self.values;
        for key in &self.keys {
            match key.as_str() {
                "limit" => to.limit = values.limit,
                "max_files" => to.max_files = values.max_files,
                "max_age" => to.max_age = values.max_age,
                "compression" => to.compression = values.compression,
                "file_mode" => to.file_mode = values.file_mode,
                "format" => to.format = values.format,
                "template" => to.template = values.template.clone(),
                "max_line_bytes" => to.max_line_bytes = values.max_line_bytes,
                "filter_regex" => to.filter.keep.clone_from(&values.filter.keep),
                "exclude_regex" => to.filter.exclude.clone_from(&values.filter.exclude),
                "stream" => to.filter.stream = values.filter.stream,
                "redact" => to.redaction = values.redaction.clone(),
                other => unreachable!("{other} is no key of a section"),
            }
        }
    }

    pub fn template(&self) -> Option<&crate::format::Template> {
        self.keys.iter().any(|key| key == "template").then_some(&self.values.template)
    }

    /// Whether it could contradict another.
    fn shapes(&self) -> bool {
        self.keys.iter().any(|key| key == "format" || key == "redact")
    }

    fn check(&self, treatment: &Treatment) -> Result<(), Failure> {
        if !treatment.contradicts() {
            return Ok(());
        }
        let why = "format docker leaves lines unchanged, and redact would change them";
        Err(refused(&self.at, format!("{SECTION}: {why}; set redact = \"none\" or another format in this section")))
    }
}

/// Every key of a section, as far as a flag has it.
pub fn section_keys() -> Vec<Key> {
    keys().into_iter().filter(|key| SECTION_KEYS.contains(&key.id().as_str())).collect()
}

fn check(setting: &Setting) -> Result<(), Failure> {
    let refuse = |why: String| Err(refused(&setting.at, why));
    let key = format!("{SECTION}.{}", setting.key);
    match (setting.key.as_str(), &setting.value) {
        (NAME, _) => names(setting).map(drop),
        (ENABLE, Value::Flag(_)) => Ok(()),
        (ENABLE, _) => refuse(format!("cannot use {key}: must be true or false")),
        (known, _) if SECTION_KEYS.contains(&known) => check_in(SECTION, setting),
        (unknown, _) if keys().iter().any(|known| known.id() == unknown) => {
            refuse(format!("{key} is for all containers; write it above the first [[{SECTION}]]"))
        }
        (unknown, _) => {
            let known = SECTION_KEYS.iter().chain(&[NAME, ENABLE]).map(|key| (*key).to_owned());
            let hint = nearest(unknown, known).map(|near| format!("; did you mean {SECTION}.{near}?"));
            refuse(format!("unknown key {key}{}", hint.unwrap_or_default()))
        }
    }
}

fn names(setting: &Setting) -> Result<Names, Failure> {
    let typed = match &setting.value {
        Value::Text(text) => text.parse::<List>().map(|List(names)| names),
        Value::List(names) if !names.is_empty() => Ok(names.clone()),
        Value::List(_) => Err("empty".to_owned()),
        Value::Flag(_) => Err("must be a name or a glob".to_owned()),
    };
    let parsed = typed.and_then(|typed| Names::parse(&typed).map_err(|error| error.to_string()));
    parsed.map_err(|why| refused(&setting.at, format!("cannot use {SECTION}.{NAME}: {why}")))
}

#[cfg(test)]
mod tests;
