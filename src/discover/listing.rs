//! Reads the names in Docker's directories: which are containers, which are generations of a log.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

use crate::sys::Os;

/// A rotated generation beside the current log: `<id>-json.log.N` or `.N.gz`. A lower number is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sibling {
    pub number: u32,
    /// A `.gz` beside its plain twin may be half there: dockerd writes it under its final name.
    pub compressed: bool,
}

impl Sibling {
    pub fn file_name(&self, id: &str) -> String {
        let suffix = if self.compressed { ".gz" } else { "" };
        format!("{}.{}{suffix}", log_file_name(id), self.number)
    }
}

/// Docker's ids, and nothing else, have 64 lower-case hex digits.
pub fn is_container_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A container's id in half the bytes of its digits, so that thousands of them lie close together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId([u128; 2]);

impl ContainerId {
    /// `None` if the name is no id.
    pub fn parse(name: &str) -> Option<ContainerId> {
        if !is_container_id(name) {
            return None;
        }
        let half = |digits| u128::from_str_radix(digits, 16).ok();
        Some(ContainerId([half(&name[..32])?, half(&name[32..])?]))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:032x}", self.0[0], self.0[1])
    }
}

/// The containers that a root shows, in order.
pub fn listed_ids<O: Os>(os: &O, root: &Path) -> io::Result<Vec<ContainerId>> {
    let mut ids = Vec::new();
    // Through a link if the whole root is one.
    os.each_name(&root.join("."), &mut |name| ids.extend(name.to_str().and_then(ContainerId::parse)))?;
    ids.sort_unstable();
    Ok(ids)
}

/// Whether `id` is among `ids`, which are in order.
pub fn is_among(ids: &[ContainerId], id: &str) -> bool {
    ContainerId::parse(id).is_some_and(|id| ids.binary_search(&id).is_ok())
}

/// The containers among the names of the containers directory, in order.
pub fn container_ids(names: &[OsString]) -> Vec<String> {
    let mut ids: Vec<String> =
        names.iter().filter_map(|name| name.to_str()).filter(|name| is_container_id(name)).map(str::to_owned).collect();
    ids.sort_unstable();
    ids
}

/// The name of the file dockerd appends to.
pub fn log_file_name(id: &str) -> String {
    format!("{id}-json.log")
}

/// The rotated generations among the names of a container's directory, newest first, and a plain one before its
/// compressed twin.
pub fn siblings(id: &str, names: &[OsString]) -> Vec<Sibling> {
    let prefix = format!("{}.", log_file_name(id));
    let mut siblings: Vec<Sibling> = names
        .iter()
        .filter_map(|name| name.to_str())
        .filter_map(|name| name.strip_prefix(prefix.as_str()))
        .filter_map(parse_suffix)
        .collect();
    siblings.sort_unstable();
    siblings
}

/// The places of the rotated generations, and the one behind each: a rotation may move a file there before it is opened.
pub fn places(id: &str, names: &[OsString]) -> Vec<Sibling> {
    let listed = siblings(id, names);
    let mut places = listed.clone();
    for (ix, sibling) in listed.iter().enumerate() {
        let Some(number) = sibling.number.checked_add(1) else { continue };
        if listed.get(ix + 1).is_none_or(|next| next.number > number) {
            places.push(Sibling { number, ..*sibling });
        }
    }
    places.sort_unstable();
    places
}

/// `N` or `N.gz`; not `N.gz.tmp`, `01` or `0`, which dockerd never leaves as a generation.
fn parse_suffix(suffix: &str) -> Option<Sibling> {
    let (digits, compressed) = match suffix.strip_suffix(".gz") {
        Some(digits) => (digits, true),
        None => (suffix, false),
    };
    let decimal = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let number = decimal.then(|| digits.parse().ok()).flatten()?;
    Some(Sibling { number, compressed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn names(suffixes: &[&str]) -> Vec<OsString> {
        suffixes.iter().map(|suffix| format!("{ID}-json.log{suffix}").into()).collect()
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_an_id() {
        assert!(is_container_id(ID));
        for other in ["", "abc", &ID[1..], &format!("{ID}0"), &ID.to_uppercase(), &ID.replace('a', "g")] {
            assert!(!is_container_id(other), "{other}");
        }
    }

    #[test]
    fn containers_are_listed_in_order() {
        let second = ID.replace("00", "ff");
        let listed: Vec<OsString> = vec![second.clone().into(), ".tmp".into(), ID.into(), "lost+found".into()];
        assert_eq!(container_ids(&listed), [ID.to_owned(), second]);
    }

    #[test]
    fn an_id_reads_as_it_was_written() {
        assert_eq!(ContainerId::parse(ID).unwrap().to_string(), ID);
        assert_eq!(ContainerId::parse(&ID[1..]), None);
        assert!(is_among(&[ContainerId::parse(ID).unwrap()], ID));
        assert!(!is_among(&[ContainerId::parse(ID).unwrap()], &ID.replace("00", "ff")));
    }

    #[test]
    fn siblings_come_newest_first_and_plain_before_gz() {
        let listed = names(&[".10", ".2.gz", "", ".1.gz", ".1", ".3.gz"]);
        let found: Vec<String> = siblings(ID, &listed).iter().map(|sibling| sibling.file_name(ID)).collect();
        let expected = [".1", ".1.gz", ".2.gz", ".3.gz", ".10"].map(|suffix| format!("{ID}-json.log{suffix}"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_rotation_may_move_each_to_the_place_behind() {
        let listed = names(&[".1", ".1.gz", ".2", ".4.gz", ".4294967295"]);
        let found: Vec<String> = places(ID, &listed).iter().map(|sibling| sibling.file_name(ID)).collect();
        let expected = [".1", ".1.gz", ".2", ".3", ".4.gz", ".5.gz", ".4294967295"];
        assert_eq!(found, expected.map(|suffix| format!("{ID}-json.log{suffix}")));
        assert_eq!(places(ID, &names(&[""])), []);
    }

    #[test]
    fn other_names_are_no_siblings() {
        let mut listed = names(&[
            ".0",
            ".01",
            ".1.gz.tmp",
            ".gz",
            ".",
            ".x",
            ".1.",
            ".1.zst",
            ".+1",
            ".-1",
            ". 1",
            ".4294967296",
            ".1.gz.gz",
            "1",
        ]);
        listed.extend(
            ["config.v2.json", ".tmp-config.v2.json123", "local-logs", "container-cached.log.1"].map(OsString::from),
        );
        listed.push(format!("{}-json.log.1", "f".repeat(64)).into());
        assert_eq!(siblings(ID, &listed), []);
        assert_eq!(siblings(ID, &names(&[".4294967295"])).len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_is_no_sibling() {
        use std::os::unix::ffi::OsStringExt;
        assert_eq!(siblings(ID, &[OsString::from_vec(b"\xff-json.log.1".to_vec())]), []);
    }
}
