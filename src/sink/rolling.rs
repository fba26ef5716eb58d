//! The names of an output's segments: `web.log` now, `web.log.1`, `web.log.2`, … before it, higher is newer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How a rotated segment stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    pub fn suffix(self) -> &'static str {
        match self {
            Form::Plain => "",
            Form::Gzip => ".gz",
            Form::Zstd => ".zst",
        }
    }
}

/// The name behind a temporary file while a segment is compressed.
pub const TEMPORARY: &str = ".longshore-tmp";

/// The rotated segments of one output, by number, with the forms each stands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    pub forms: BTreeMap<u64, Vec<Form>>,
    /// Leftovers of compression that was cut off.
    pub temporary: Vec<OsString>,
}

impl Segments {
    /// Reads them from a directory's names. `stem` is the current file's name.
    pub fn among(stem: &str, names: &[OsString]) -> Segments {
        let mut segments = Segments::default();
        for name in names {
            let Some(rest) =
                name.to_str().and_then(|name| name.strip_prefix(stem)).and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            if rest.ends_with(TEMPORARY) {
                segments.temporary.push(name.clone());
            } else if let Some((number, form)) = numbered(rest) {
                let forms = segments.forms.entry(number).or_default();
                forms.push(form);
                forms.sort_unstable();
            }
        }
        segments
    }

    pub fn newest(&self) -> Option<u64> {
        self.forms.keys().next_back().copied()
    }
}

/// `12`, `12.gz` or `12.zst`. A number has no leading zero: `007` is somebody else's file.
fn numbered(rest: &str) -> Option<(u64, Form)> {
    let (number, form) = match rest.split_once('.') {
        None => (rest, Form::Plain),
        Some((number, "gz")) => (number, Form::Gzip),
        Some((number, "zst")) => (number, Form::Zstd),
        Some(_) => return None,
    };
    let is_number = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number { None } else { number.parse().ok().map(|number| (number, form)) }
}

/// The path of a rotated segment.
pub fn segment_path(current: &Path, number: u64, form: Form) -> PathBuf {
    let mut name = current.as_os_str().to_owned();
    name.push(format!(".{number}{}", form.suffix()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_forms_are_read_from_names() {
        let names = [
            "web.log",
            "web.log.1",
            "web.log.2.gz",
            "web.log.10.zst",
            "web.log.10",
            "web.log.007",
            "web.log.x",
            "web.log.3.gz.longshore-tmp",
            "web.log2.4",
            "web.log.",
            "web.log.5.bz2",
        ];
        let names: Vec<OsString> = names.iter().map(OsString::from).collect();
        let segments = Segments::among("web.log", &names);
        assert_eq!(segments.newest(), Some(10));
        assert_eq!(segments.forms[&10], [Form::Plain, Form::Zstd]);
        assert_eq!(segments.forms.keys().copied().collect::<Vec<_>>(), [1, 2, 10]);
        assert_eq!(segments.temporary, ["web.log.3.gz.longshore-tmp"]);
    }
}
