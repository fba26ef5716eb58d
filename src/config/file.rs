//! The configuration's files: TOML whose keys are the flags' names, each value with the file and line it stands in.
//! Knows nothing of what a key means.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::{Exit, Failure};
use crate::config::sink_options::SinkTable;
use crate::config::sinks;
use crate::sys::Os;
use crate::sys::places::real_path;

/// Read when nothing else is asked for; need not be there.
pub const DEFAULT_FILE: &str = "/etc/longshore/config.toml";
/// Beside it: more files, in the order of their names, each above those before.
const MORE: &str = "conf.d";
/// The table of tables of sinks.
const SINKS: &str = "sinks";
/// A configuration of 5,000 sections takes less.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub file: PathBuf,
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A value as a flag would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Flag(bool),
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: Value,
    pub at: At,
}

/// A `[[container]]` as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub at: At,
    pub settings: Vec<Setting>,
}

/// What the files say; of a key that stands in several of them, the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub read: Vec<PathBuf>,
    pub settings: Vec<Setting>,
    /// Of all files, in their order.
    pub sections: Vec<Section>,
    /// `[sinks.NAME]`, by name.
    pub sinks: BTreeMap<String, SinkTable>,
}

/// The key of sections.
pub const SECTION: &str = "container";

impl Files {
    /// Reads `given`, which must be there, or else the default file; and what lies in `conf.d` beside it.
    pub fn read<O: Os>(
        os: &O,
        given: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Files, Failure> {
        let first = given.unwrap_or(Path::new(DEFAULT_FILE));
        let mut files = Files::default();
        match read_text(os, first) {
            Ok(text) => files.add(first, &text, variable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && given.is_none() => {}
            Err(error) => return Err(unreadable(first, &error)),
        }
        let more = first.with_file_name(MORE);
        let mut names = match os.list(&more) {
            Ok(names) => names,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            Err(error) => return Err(unreadable(&more, &error)),
        };
        names.sort_unstable();
        for path in
            names.iter().map(|name| more.join(name)).filter(|path| path.extension().is_some_and(|e| e == "toml"))
        {
            let text = read_text(os, &path).map_err(|error| unreadable(&path, &error))?;
            files.add(&path, &text, variable)?;
        }
        Ok(files)
    }

    /// Puts one file above what is there.
    pub fn add(&mut self, file: &Path, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
        let at_offset = |offset: usize| At {
            file: file.to_owned(),
            line: 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count(),
        };
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().lines().next().unwrap_or("no TOML").to_owned();
            refused(&at_offset(error.span().map_or(0, |span| span.start)), message)
        })?;
        for (key, value) in table.get_ref() {
            let key_at = key.span().start;
            let key: &str = key.get_ref();
            if key == SECTION {
                self.sections.extend(sections(value, key_at, &at_offset, variable)?);
                continue;
            }
            if key == SINKS {
                sinks::add_tables(&mut self.sinks, value, &at_offset, &|value| value_of(value, variable))?;
                continue;
            }
            let at = at_offset(key_at);
            let value = value_of(value, variable).map_err(|why| refused(&at, format!("cannot use {key}: {why}")))?;
            self.settings.retain(|setting| setting.key != key);
            self.settings.push(Setting { key: key.to_owned(), value, at });
        }
        self.read.push(file.to_owned());
        Ok(())
    }

    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// `[[container]]`, each a table of plain values.
fn sections(
    value: &Spanned<DeValue<'_>>,
    key_at: usize,
    at: &impl Fn(usize) -> At,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Section>, Failure> {
    let DeValue::Array(entries) = value.get_ref() else {
        return Err(refused(&at(key_at), format!("{SECTION} is a section; write [[{SECTION}]] above its keys")));
    };
    let mut sections = Vec::new();
    for entry in entries {
        let section_at = at(entry.span().start);
        let DeValue::Table(table) = entry.get_ref() else {
            return Err(refused(&section_at, format!("{SECTION} is a section; write [[{SECTION}]] above its keys")));
        };
        let mut settings = Vec::new();
        for (key, value) in table {
            let at = at(key.span().start);
            let key: &str = key.get_ref();
            let value =
                value_of(value, variable).map_err(|why| refused(&at, format!("cannot use {SECTION}.{key}: {why}")))?;
            settings.push(Setting { key: key.to_owned(), value, at });
        }
        settings.sort_by_cached_key(|setting| setting.at.line);
        sections.push(Section { at: section_at, settings });
    }
    Ok(sections)
}

/// One line: the place, and what is wrong there.
pub fn refused(at: &At, why: impl fmt::Display) -> Failure {
    Failure::new(Exit::Config, format!("{at}: {why}"))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Config, format!("cannot read {}", path.display())).caused_by(error)
}

fn read_text<O: Os>(os: &O, path: &Path) -> io::Result<String> {
    // A ConfigMap's files are links.
    let file = os.open(&real_path(path))?;
    let size = os.stat_open(&file)?.size;
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    let mut bytes = vec![0; size as usize];
    let read = os.read_at(&file, 0, &mut bytes)?;
    bytes.truncate(read);
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}

fn value_of(value: &Spanned<DeValue<'_>>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    match value.get_ref() {
        DeValue::Boolean(value) => Ok(Value::Flag(*value)),
        DeValue::Array(values) => {
            let one = |value: &Spanned<DeValue<'_>>| text_of(value.get_ref(), variable);
            values.iter().map(one).collect::<Result<_, _>>().map(Value::List)
        }
        value => text_of(value, variable).map(Value::Text),
    }
}

fn text_of(value: &DeValue<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match value {
        DeValue::String(text) => interpolated(text, variable),
        // A mode stays octal.
        DeValue::Integer(number) if number.radix() == 8 => Ok(format!("0o{}", number.as_str())),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(error) => Err(error.to_string()),
        },
        DeValue::Datetime(time) => Ok(time.to_string()),
        other => Err(format!("a value can't be a {}", other.type_str())),
    }
}

/// `${VAR}` and `${VAR:-otherwise}`; `$${` is a plain `${`.
fn interpolated(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start]);
            out.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}').map(|end| start + end) else {
            return Err("${ has no }; a plain ${ is written $${".to_owned());
        };
        let (name, otherwise) = match rest[start + 2..end].split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (&rest[start + 2..end], None),
        };
        match (variable(name), otherwise) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(otherwise)) => out.push_str(otherwise),
            (None, None) => return Err(format!("the variable {name} is not set; ${{{name}:-x}} would take x then")),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "TEAM").then(|| "shop".to_owned())
    }

    fn read(texts: &[&str]) -> Result<Files, String> {
        let mut files = Files::default();
        for (ix, text) in texts.iter().enumerate() {
            files.add(Path::new(&format!("/c/{ix}.toml")), text, &variable).map_err(|failure| failure.to_string())?;
        }
        Ok(files)
    }

    #[test]
    fn later_files_win_and_each_value_knows_its_line() {
        let files = read(&["limit = '1MB'\n\nsync = true\n", "# first\nlimit = 7\nimage = ['a', 'b']\n"]).unwrap();
        let limit = files.setting("limit").unwrap();
        assert_eq!((&limit.value, limit.at.to_string()), (&Value::Text("7".into()), "/c/1.toml:2".to_owned()));
        assert_eq!(files.setting("sync").unwrap().at.to_string(), "/c/0.toml:3");
        assert_eq!(files.setting("image").unwrap().value, Value::List(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn variables_are_put_in() {
        for (typed, expected) in [
            ("/logs/${TEAM}/x", "/logs/shop/x"),
            ("${NONE:-a b}", "a b"),
            ("${TEAM:-a}$", "shop$"),
            ("$${TEAM}", "${TEAM}"),
            ("5\\d\\d$", "5\\d\\d$"),
        ] {
            let files = read(&[&format!("a = '{typed}'")]).unwrap();
            assert_eq!(files.settings[0].value, Value::Text(expected.to_owned()));
        }
        let error = read(&["\na = '${NONE}'"]).unwrap_err();
        assert!(error.starts_with("error: /c/0.toml:2: cannot use a: the variable NONE is not set"), "{error}");
        assert!(read(&["a = '${TEAM'"]).is_err());
    }

    #[test]
    fn an_octal_mode_stays_octal() {
        assert_eq!(read(&["file_mode = 0o640"]).unwrap().settings[0].value, Value::Text("0o640".into()));
    }

    #[test]
    fn what_is_no_toml_is_one_line_with_its_place() {
        let error = read(&["a = 1\nb = = 2\n"]).unwrap_err();
        assert!(error.starts_with("error: /c/0.toml:2: ") && !error.contains('\n'), "{error}");
        assert!(read(&["a = 1\na = 2\n"]).unwrap_err().starts_with("error: /c/0.toml:2: "));
    }
}
