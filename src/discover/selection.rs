//! Which containers the operator wants: names, labels, images; and never the agent itself by accident, for each line
//! it says about its own log would be another line of it.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use super::container::{CONTAINER_LABELS, ENABLE_LABEL, EXCLUDE_LABEL, SANDBOX_LABEL};
use super::listing::is_container_id;
use crate::cli::flags::{List, SelectionFlags, Switch};
use crate::format::Metadata;

/// Of several kinds of tests all must agree; of one list, one entry must.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Empty: all.
    names: Vec<Pattern>,
    excluded: Vec<Pattern>,
    images: Vec<Pattern>,
    labels: Vec<LabelTest>,
    own_id: Option<String>,
    /// What sections say of some names; the last that matches counts.
    enabling: Vec<(Names, bool)>,
    /// Whether a container's own label may say more.
    container_labels: bool,
}

/// Exact names and globs, one of which must match.
#[derive(Clone, Debug)]
pub struct Names(Vec<Pattern>);

impl Names {
    pub fn parse(typed: &[String]) -> Result<Names, SelectionError> {
        let patterns = typed.iter().map(|name| Pattern::parse("name", name.strip_prefix('/').unwrap_or(name)));
        Ok(Names(patterns.collect::<Result<_, _>>()?))
    }

    pub fn matches(&self, name: &str) -> bool {
        any(&self.0, name)
    }

    /// Whether some name may match both; two globs always may.
    pub fn may_overlap(&self, other: &Names) -> bool {
        self.0.iter().any(|one| {
            other.0.iter().any(|other| match (one, other) {
                (Pattern::Literal(name), other) => other.matches(name),
                (one, Pattern::Literal(name)) => one.matches(name),
                _ => true,
            })
        })
    }
}

#[derive(Clone)]
enum Pattern {
    /// Matches itself and nothing else.
    Literal(String),
    Glob(GlobMatcher),
}

#[derive(Clone, Debug)]
struct LabelTest {
    key: String,
    /// None: the label must be there.
    value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error("invalid glob '{glob}' in {flag}: {cause}")]
    Glob { flag: &'static str, glob: String, cause: String },
    #[error("label '{typed}' in --label has no key")]
    NoKey { typed: String },
}

impl Selection {
    /// `own_id`: the container the agent runs in, see [`own_container_id`].
    pub fn parse(flags: &SelectionFlags, own_id: Option<String>) -> Result<Selection, SelectionError> {
        Ok(Selection {
            // Docker shows names with a leading slash in some places, and people paste them.
            names: patterns("--container-names", &flags.container_names, |name| {
                name.strip_prefix('/').unwrap_or(name)
            })?,
            excluded: patterns("--exclude-names", &flags.exclude_names, |name| name.strip_prefix('/').unwrap_or(name))?,
            images: patterns("--image", &flags.image, |image| image)?,
            labels: entries(&flags.label).map(|typed| LabelTest::parse(typed)).collect::<Result<_, _>>()?,
            own_id,
            enabling: Vec::new(),
            container_labels: flags.container_labels == Switch::Yes,
        })
    }

    /// Adds what sections say: only containers that are selected anyway can be left out, none is added.
    pub fn enabling(mut self, enabling: impl IntoIterator<Item = (Names, bool)>) -> Selection {
        self.enabling.extend(enabling);
        self
    }

    pub fn selects(&self, metadata: &Metadata) -> bool {
        let name = metadata.name.as_str();
        if any(&self.excluded, name) || self.container_labels && metadata.label(EXCLUDE_LABEL).is_some_and(is_true) {
            return false;
        }
        // The operator who names the agent's container itself wants it.
        if self.is_own(metadata)
            && !self.names.iter().any(|pattern| matches!(pattern, Pattern::Literal(own) if own == name))
        {
            return false;
        }
        (self.names.is_empty() || any(&self.names, name))
            && (self.images.is_empty() || any(&self.images, &metadata.image))
            && self.labels.iter().all(|test| test.matches(metadata))
            && self.is_enabled(metadata)
    }

    /// The last section that names it, and above that its own label.
    fn is_enabled(&self, metadata: &Metadata) -> bool {
        let of_sections = self.enabling.iter().rev().find(|(names, _)| names.matches(&metadata.name));
        let of_label = metadata.label(ENABLE_LABEL).filter(|_| self.container_labels).and_then(switched);
        of_label.or(of_sections.map(|(_, enabled)| *enabled)).unwrap_or(true)
    }

    /// Whether some containers were asked for, by name, image or label, not simply all.
    pub fn asks(&self) -> bool {
        !self.names.is_empty() || !self.images.is_empty() || !self.labels.is_empty()
    }

    /// Keys of the labels it looks at.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let own = if self.container_labels { &CONTAINER_LABELS[..] } else { &[] };
        self.labels.iter().map(|test| test.key.as_str()).chain(own.iter().copied())
    }

    /// Whether a container's own labels may change its settings.
    pub fn takes_container_labels(&self) -> bool {
        self.container_labels
    }

    /// In a pod, the files that tell us our id are the sandbox's: its containers are the agent's own.
    fn is_own(&self, metadata: &Metadata) -> bool {
        let Some(own_id) = self.own_id.as_deref() else { return false };
        metadata.id == own_id || metadata.label(SANDBOX_LABEL) == Some(own_id)
    }
}

/// The id of the Docker container this process runs in, from /proc/self/mountinfo and /proc/self/cgroup.
pub fn own_container_id(mountinfo: &str, cgroup: &str) -> Option<String> {
    // The control group is asked first: in a pod, mountinfo names the sandbox. In a namespace of its own it says "/".
    id_in_cgroup(cgroup).or_else(|| id_in_mountinfo(mountinfo)).map(str::to_owned)
}

/// `12:pids:/docker/<id>`, `0::/system.slice/docker-<id>.scope`, `0::/kubepods/burstable/pod…/<id>`: the innermost.
fn id_in_cgroup(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').find_map(|component| {
            let scope = component.strip_suffix(".scope").unwrap_or(component);
            let id = scope.rsplit('-').next()?;
            is_container_id(id).then_some(id)
        })
    })
}

/// Docker mounts three files of its directory of the container into it. Other mounts under containers/<id>/ are seen
/// on the host, and by an agent that has the directory mounted; they are of others.
fn id_in_mountinfo(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        if !matches!(target, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
            return None;
        }
        let (_, below) = root.rsplit_once("/containers/")?;
        let id = below.split('/').next()?;
        is_container_id(id).then_some(id)
    })
}

impl Pattern {
    fn parse(flag: &'static str, typed: &str) -> Result<Pattern, SelectionError> {
        if !typed.contains(['*', '?', '[', '{', '\\']) {
            return Ok(Pattern::Literal(typed.to_owned()));
        }
        // A star in an image matches slashes, too: `*nginx*` finds registry/team/nginx:1.
        match GlobBuilder::new(typed).literal_separator(false).backslash_escape(true).build() {
            Ok(glob) => Ok(Pattern::Glob(glob.compile_matcher())),
            Err(error) => Err(SelectionError::Glob { flag, glob: typed.to_owned(), cause: error.kind().to_string() }),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Literal(literal) => literal == text,
            Pattern::Glob(glob) => glob.is_match(text),
        }
    }
}

/// As typed: a compiled glob fills pages.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Literal(literal) => write!(f, "{literal:?}"),
            Pattern::Glob(glob) => write!(f, "glob {:?}", glob.glob().glob()),
        }
    }
}

impl LabelTest {
    fn parse(typed: &str) -> Result<LabelTest, SelectionError> {
        let (key, value) = match typed.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (typed, None),
        };
        if key.is_empty() {
            return Err(SelectionError::NoKey { typed: typed.to_owned() });
        }
        Ok(LabelTest { key: key.to_owned(), value })
    }

    fn matches(&self, metadata: &Metadata) -> bool {
        match (metadata.label(&self.key), &self.value) {
            (Some(value), Some(wanted)) => value == wanted,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

fn patterns(flag: &'static str, lists: &[List], trim: fn(&str) -> &str) -> Result<Vec<Pattern>, SelectionError> {
    entries(lists).map(|typed| Pattern::parse(flag, trim(typed))).collect()
}

fn entries(lists: &[List]) -> impl Iterator<Item = &String> {
    lists.iter().flat_map(|List(entries)| entries)
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

fn is_true(value: &str) -> bool {
    switched(value) == Some(true)
}

/// A word for yes or no; `None`: neither.
pub fn switched(value: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_one_of(["true", "1", "yes", "on"]) {
        return Some(true);
    }
    is_one_of(["false", "0", "no", "off"]).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    fn list(typed: &str) -> Vec<List> {
        if typed.is_empty() { Vec::new() } else { vec![typed.parse().unwrap()] }
    }

    fn selection(names: &str, exclude: &str, label: &str, image: &str) -> Selection {
        let flags = SelectionFlags {
            container_names: list(names),
            exclude_names: list(exclude),
            label: list(label),
            image: list(image),
            container_labels: Switch::Yes,
            hostname: None,
        };
        Selection::parse(&flags, Some(OTHER.to_owned())).unwrap()
    }

    fn container(name: &str, labels: &[(&str, &str)]) -> Metadata {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Metadata {
            name: name.into(),
            id: ID.into(),
            image: "registry/team/nginx:1.27".into(),
            labels,
            ..Metadata::default()
        }
    }

    /// Which of these containers are selected.
    fn check(names: &str, exclude: &str, expected: &[&str]) {
        let selection = selection(names, exclude, "", "");
        let all = ["web", "web-1", "web.1", "db", "Web"];
        let selected: Vec<&str> = all.into_iter().filter(|name| selection.selects(&container(name, &[]))).collect();
        assert_eq!(selected, expected, "-n '{names}' --exclude-names '{exclude}'");
    }

    #[test]
    fn names_are_exact_or_globs_and_exclusion_wins() {
        check("", "", &["web", "web-1", "web.1", "db", "Web"]);
        check("web", "", &["web"]);
        check("/web,db", "", &["web", "db"]);
        check("web.1", "", &["web.1"]);
        check("web*", "", &["web", "web-1", "web.1"]);
        check("web?1", "", &["web-1", "web.1"]);
        check("{db,[wW]eb}", "", &["web", "db", "Web"]);
        check("web*", "web", &["web-1", "web.1"]);
        check("", "web*,db", &["Web"]);
        check("web", "web", &[]);
    }

    #[test]
    fn all_labels_must_match() {
        let selects =
            |label: &str| selection("", "", label, "").selects(&container("a", &[("tier", "front"), ("x", "a,b=c")]));
        assert!(selects("tier=front") && selects("tier") && selects(r"tier=front,x=a\,b=c"));
        assert!(!selects("tier=back") && !selects("tier=") && !selects("tier=front,y") && !selects("front"));
    }

    #[test]
    fn images_and_names_must_both_agree() {
        let selects = |names: &str, image: &str| selection(names, "", "", image).selects(&container("web", &[]));
        assert!(selects("", "*nginx*") && selects("web", "x,registry/team/nginx:1.27"));
        assert!(!selects("", "nginx*") && !selects("", "registry/team/nginx") && !selects("db", "*nginx*"));
    }

    #[test]
    fn a_label_of_the_container_keeps_it_out() {
        let selection = selection("web", "", "", "");
        assert!(!selection.selects(&container("web", &[(EXCLUDE_LABEL, "true")])));
        assert!(selection.selects(&container("web", &[(EXCLUDE_LABEL, "false")])));
    }

    #[test]
    fn the_own_container_is_left_out_unless_it_is_named() {
        let own = Metadata { id: OTHER.into(), ..container("longshore", &[]) };
        let beside = container("k8s_longshore", &[(SANDBOX_LABEL, OTHER)]);
        assert!(!selection("", "", "", "").selects(&own));
        assert!(!selection("long*", "", "", "").selects(&own));
        assert!(!selection("", "", "", "").selects(&beside));
        assert!(selection("longshore", "", "", "").selects(&own));
    }

    #[test]
    fn bad_entries_are_errors_that_name_the_flag() {
        let parse = |flags: SelectionFlags| Selection::parse(&flags, None).unwrap_err().to_string();
        let error = parse(SelectionFlags { container_names: list("web,a[b"), ..SelectionFlags::default() });
        assert!(error.starts_with("invalid glob 'a[b' in --container-names: "), "{error}");
        let error = parse(SelectionFlags { label: list("=x"), ..SelectionFlags::default() });
        assert_eq!(error, "label '=x' in --label has no key");
    }

    #[test]
    fn own_id_from_cgroup() {
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/kubepods/burstable/podx/ID",
            "/docker/OTHER/docker/ID",
            "/docker/ID/init",
        ] {
            let path = path.replace("ID", ID).replace("OTHER", OTHER);
            assert_eq!(
                own_container_id("", &format!("1:name=systemd:/\n12:pids:{path}\n")).as_deref(),
                Some(ID),
                "{path}"
            );
            assert_eq!(own_container_id("", &format!("0::{path}")).as_deref(), Some(ID), "{path}");
        }
        for cgroup in ["", "0::/", "0::/user.slice/user-0.slice", "garbage", "0::/docker/abc"] {
            assert_eq!(own_container_id("", cgroup), None);
        }
    }

    #[test]
    fn own_id_from_mountinfo() {
        let line = |root: &str, target: &str| format!("700 650 8:1 {root} {target} rw,relatime - ext4 /dev/vda1 rw\n");
        let own = line(&format!("/var/lib/docker/containers/{ID}/hostname"), "/etc/hostname");
        let others = line(
            &format!("/var/lib/docker/containers/{OTHER}/hosts"),
            &format!("/var/lib/docker/containers/{OTHER}/x"),
        ) + &line("/", &format!("/var/lib/docker/containers/{OTHER}/mounts/shm"))
            + &line("/var/lib/docker/containers", "/var/lib/docker/containers");
        assert_eq!(own_container_id(&(others.clone() + &own), "0::/").as_deref(), Some(ID));
        assert_eq!(own_container_id(&others, "0::/"), None);
        assert_eq!(own_container_id("short line\n\n", ""), None);
    }
}
