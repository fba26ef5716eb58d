//! Where a container's output goes: metadata becomes a path that can't climb out of the log-path, and that no other
//! container of the same time has.

use std::fmt::{self, Write};

use crate::config::limits::{
    PATH_COMPONENT_BYTES_MAX, PATH_COMPONENTS_MAX, PATH_LITERAL_BYTES_MAX, PATH_VALUE_BYTES_MAX,
};
use crate::format::{Metadata, Tag, Template, TemplateError};
use crate::hash::hash;

/// The agent's own directory in the log-path: no output may go there.
pub const PRIVATE_DIRECTORY: &str = ".longshore";

/// `~` and eight hex digits: what follows a value that had to be changed.
const MARK_BYTES: usize = 9;

/// A parsed `--path-template`. Shows as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    source: String,
    /// At least one; the last one ends in a literal.
    components: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Without a slash; never empty.
    Literal(String),
    Tag(Tag),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathTemplateError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("{{{0}}} differs from line to line, a path belongs to a container")]
    OfALine(&'static str),
    #[error("two containers that run at the same time would write to one file")]
    Ambiguous,
    #[error("nothing stands between two tags, so different containers may have the same path")]
    Adjacent,
    #[error("the path is absolute")]
    Absolute,
    #[error("a component is empty")]
    EmptyComponent,
    #[error("a component is `{0}`")]
    Dots(String),
    #[error("a control character in it")]
    Control,
    #[error("more than {PATH_COMPONENTS_MAX} components")]
    Deep,
    #[error("more than {PATH_LITERAL_BYTES_MAX} bytes of text in one component")]
    Long,
    #[error("the file name has no ending such as .log")]
    NoEnding,
    #[error("the file name ends in {0}, as our compressed and temporary files do")]
    TakenEnding(&'static str),
    #[error("{PRIVATE_DIRECTORY} in the log-path belongs to the agent")]
    Private,
}

impl PathTemplateError {
    /// What helps, when the error doesn't say it itself.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PathTemplateError::Template(_) => None,
            PathTemplateError::OfALine(_) => Some("put the tag into --template instead"),
            PathTemplateError::Ambiguous => Some("use {name}, {id} or {short_id}, or {pod} together with {container}"),
            PathTemplateError::Adjacent => Some("put a character between them that names don't have, such as / or +"),
            PathTemplateError::Absolute | PathTemplateError::Dots(_) | PathTemplateError::Private => {
                Some("the path is taken below --log-path, e.g. {name}/{name}.log")
            }
            PathTemplateError::NoEnding | PathTemplateError::TakenEnding(_) => {
                Some("rotated files get a number after the name: let it end in .log, e.g. {name}/{name}.log")
            }
            _ => Some("e.g. {name}/{name}.log or {namespace}_{pod}/{container}.log"),
        }
    }
}

impl PathTemplate {
    pub fn parse(source: &str) -> Result<PathTemplate, PathTemplateError> {
        if source.starts_with('/') {
            return Err(PathTemplateError::Absolute);
        }
        let template = Template::parse(source)?;
        for (tag, name) in
            [(Tag::Log, "log"), (Tag::Time, "time"), (Tag::Timestamp, "timestamp"), (Tag::Stream, "stream")]
        {
            if template.has(&tag) {
                return Err(PathTemplateError::OfALine(name));
            }
        }
        let has_id = template.has(&Tag::Id) || template.has(&Tag::ShortId);
        let in_pod = template.has(&Tag::Pod) && template.has(&Tag::Container);
        if !(has_id || template.has(&Tag::Name) || in_pod) {
            return Err(PathTemplateError::Ambiguous);
        }
        let components = split(source)?;
        if components.len() > PATH_COMPONENTS_MAX {
            return Err(PathTemplateError::Deep);
        }
        for component in &components {
            check_component(component, has_id)?;
        }
        check_private(&components[0])?;
        check_ending(components.last().expect("split gives at least one"))?;
        Ok(PathTemplate { source: source.to_owned(), components })
    }

    /// In order, with repeats.
    pub fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.components.iter().flatten().filter_map(|piece| match piece {
            Piece::Tag(tag) => Some(tag),
            Piece::Literal(_) => None,
        })
    }

    /// A relative path such as `web/web.log`.
    pub fn route(&self, metadata: &Metadata) -> String {
        let components: Vec<String> = self.components.iter().map(|pieces| route_component(pieces, metadata)).collect();
        components.join("/")
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A value as part of a file name: unchanged when it is fit for one, otherwise made fit and marked with a hash of what
/// it was, so that two values stay apart.
pub fn safe_value(value: &str) -> String {
    let mut safe: String = value.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    if safe.is_empty() || safe.starts_with('.') {
        safe.replace_range(..safe.len().min(1), "_");
    }
    // A value that looks marked is marked again, or it could be taken for the one the mark was made for.
    if safe != value || safe.len() > PATH_VALUE_BYTES_MAX || looks_marked(value) {
        safe.truncate(safe.floor_char_boundary(PATH_VALUE_BYTES_MAX - MARK_BYTES));
        safe.push_str(&mark(value));
    }
    safe
}

fn mark(original: &str) -> String {
    format!("~{:08x}", hash(original.as_bytes()) >> 32)
}

fn looks_marked(value: &str) -> bool {
    let Some(start) = value.len().checked_sub(MARK_BYTES) else { return false };
    let mark = &value.as_bytes()[start..];
    mark[0] == b'~' && mark[1..].iter().all(u8::is_ascii_hexdigit)
}

fn value(tag: &Tag, metadata: &Metadata) -> String {
    match (metadata.value(tag), tag) {
        (Some(value), _) => safe_value(value),
        // Outside Kubernetes: {namespace}_{pod}/{container}.log still tells containers apart.
        (None, Tag::Namespace) => "none".to_owned(),
        (None, Tag::Pod | Tag::Container) => safe_value(&metadata.name),
        (None, _) => "_".to_owned(),
    }
}

fn route_component(pieces: &[Piece], metadata: &Metadata) -> String {
    let mut component = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => component.push_str(text),
            Piece::Tag(tag) => component.push_str(&value(tag, metadata)),
        }
    }
    if component.len() > PATH_COMPONENT_BYTES_MAX {
        // The ending stays: rotation counts on it.
        let ending = match pieces.last() {
            Some(Piece::Literal(text)) => text.as_str(),
            _ => "",
        };
        let mark = mark(&component);
        let kept = component.floor_char_boundary(PATH_COMPONENT_BYTES_MAX - MARK_BYTES - ending.len());
        component.truncate(kept);
        let _ = write!(component, "{mark}{ending}");
    }
    assert!(component.len() <= PATH_COMPONENT_BYTES_MAX);
    component
}

/// Splits at the slashes of the text, not at those in keys: `{label.app.kubernetes.io/name}` is one tag. The braces
/// are known to be in order.
fn split(source: &str) -> Result<Vec<Vec<Piece>>, PathTemplateError> {
    let mut components = vec![Vec::new()];
    let mut literal = String::new();
    let mut rest = source;
    fn end(literal: &mut String, component: &mut Vec<Piece>) {
        if !literal.is_empty() {
            component.push(Piece::Literal(std::mem::take(literal)));
        }
    }
    while let Some(first) = rest.chars().next() {
        let component = components.last_mut().expect("begins with one");
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push(first);
            rest = &rest[2..];
        } else if let Some((tag, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            end(&mut literal, component);
            component.push(Piece::Tag(tag.parse()?));
            rest = after;
        } else {
            if first == '/' {
                end(&mut literal, component);
                components.push(Vec::new());
            } else {
                literal.push(first);
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    end(&mut literal, components.last_mut().expect("begins with one"));
    Ok(components)
}

fn check_component(pieces: &[Piece], has_id: bool) -> Result<(), PathTemplateError> {
    if pieces.is_empty() {
        return Err(PathTemplateError::EmptyComponent);
    }
    let mut literal_bytes = 0;
    for piece in pieces {
        if let Piece::Literal(text) = piece {
            literal_bytes += text.len();
            if text.chars().any(char::is_control) {
                return Err(PathTemplateError::Control);
            }
        }
    }
    if literal_bytes > PATH_LITERAL_BYTES_MAX {
        return Err(PathTemplateError::Long);
    }
    match pieces {
        [Piece::Literal(text)] if text == "." || text == ".." => return Err(PathTemplateError::Dots(text.clone())),
        _ => {}
    }
    // `{namespace}{pod}`: is `ab` a namespace a, or ab? An id has a fixed length and is in the path only once.
    let adjacent = pieces.windows(2).any(|pair| matches!(pair, [Piece::Tag(_), Piece::Tag(_)]));
    if adjacent && !has_id { Err(PathTemplateError::Adjacent) } else { Ok(()) }
}

/// `.longshore/…`, and `.{name}/…` for a container named longshore.
fn check_private(first: &[Piece]) -> Result<(), PathTemplateError> {
    let Some(Piece::Literal(text)) = first.first() else {
        return Ok(()); // A value never begins with a dot.
    };
    let may_become = first.len() > 1 && PRIVATE_DIRECTORY.starts_with(text.as_str());
    if text.starts_with(PRIVATE_DIRECTORY) || may_become { Err(PathTemplateError::Private) } else { Ok(()) }
}

/// With `{name}` alone, the container `web.log.1` would write into the first rotated file of `web.log`.
fn check_ending(last: &[Piece]) -> Result<(), PathTemplateError> {
    let ending = match last.last() {
        Some(Piece::Literal(text)) => text.rsplit_once('.').map(|(_, ending)| ending),
        _ => None,
    };
    match ending {
        Some("gz") => Err(PathTemplateError::TakenEnding(".gz")),
        Some("zst") => Err(PathTemplateError::TakenEnding(".zst")),
        Some("tmp") => Err(PathTemplateError::TakenEnding(".tmp")),
        Some(ending) if ending.chars().any(char::is_alphabetic) => Ok(()),
        _ => Err(PathTemplateError::NoEnding),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn metadata(name: &str, pairs: &[(&str, &str)]) -> Metadata {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Metadata { name: name.into(), id: ID.into(), image: "a/b:1".into(), labels, ..Metadata::default() }
    }

    const POD: [(&str, &str); 3] = [
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.name", "web-1"),
        ("io.kubernetes.container.name", "nginx"),
    ];

    fn route(template: &str, metadata: &Metadata) -> String {
        PathTemplate::parse(template).unwrap().route(metadata)
    }

    #[test]
    fn routes() {
        let web = metadata("web", &[("app.kubernetes.io/name", "x")]);
        assert_eq!(route("{name}/{name}.log", &web), "web/web.log");
        assert_eq!(route("{name}.log", &web), "web.log");
        assert_eq!(route("{label.app.kubernetes.io/name}/{short_id}.log", &web), "x/001122334455.log");
        assert_eq!(route("a{{b}}/{id}.log", &web), format!("a{{b}}/{ID}.log"));
        assert_eq!(route("{label.none}+{env.NONE}/{name}.txt", &web), "_+_/web.txt");
        assert_eq!(route("{image}/{name}.log", &web), format!("a_b:1{}/web.log", mark("a/b:1")));
    }

    #[test]
    fn kubernetes_routes_and_what_stands_in_outside() {
        let template = "{namespace}_{pod}/{container}.log";
        assert_eq!(route(template, &metadata("k8s_nginx_web-1_shop_uid_0", &POD)), "shop_web-1/nginx.log");
        assert_eq!(route(template, &metadata("web", &[])), "none_web/web.log");
        assert_eq!(route(template, &metadata("k8s_POD_web-1_shop", &POD[..2])), "shop_web-1/k8s_POD_web-1_shop.log");
    }

    #[test]
    fn what_is_refused() {
        use PathTemplateError::*;
        let refused = |template: &str| PathTemplate::parse(template).expect_err(template);
        for template in
            ["x.log", "{image}.log", "{pod}.log", "{container}.log", "{namespace}/{hostname}.log", "{label.a}.log"]
        {
            assert_eq!(refused(template), Ambiguous, "{template}");
        }
        for (template, tag) in [
            ("{name}/{log}.log", "log"),
            ("{time}/{name}.log", "time"),
            ("{name}{timestamp}.log", "timestamp"),
            ("{stream}.log", "stream"),
        ] {
            assert_eq!(refused(template), OfALine(tag));
        }
        assert_eq!(refused("/var/{name}.log"), Absolute);
        for template in ["{name}//x.log", "", "{name}.log/"] {
            assert!(matches!(refused(template), EmptyComponent | Ambiguous), "{template}");
        }
        for template in ["../{name}.log", "{name}/../x.log", "./{name}.log"] {
            assert!(matches!(refused(template), Dots(_)), "{template}");
        }
        for template in ["{name}", "{name}/{name}", "{name}.1", "{name}.", "{name}/log", "x.log{name}", "{name}.log.1"]
        {
            assert_eq!(refused(template), NoEnding, "{template}");
        }
        assert_eq!(refused("{name}.gz"), TakenEnding(".gz"));
        assert_eq!(refused("{name}.log.tmp"), TakenEnding(".tmp"));
        for template in [".longshore/{name}.log", ".longshore.{name}.log", ".{name}.log", ".long{name}/x.log"] {
            assert_eq!(refused(template), Private, "{template}");
        }
        assert_eq!(refused("{namespace}{pod}/{container}.log"), Adjacent);
        assert_eq!(refused("{name}\u{7}.log"), Control);
        assert_eq!(refused(&format!("{{name}}{}.log", "x".repeat(100))), Long);
        assert_eq!(refused(&"{name}/".repeat(9)), Deep);
        assert!(matches!(refused("{nmae}.log"), Template(_)));
        assert!(refused("{nmae}.log").to_string().contains("{name}"));
        assert!(refused("{name").to_string().contains("not closed"));
        for template in ["{pod}/{container}.log", "{id}{name}.log", ".logs/{name}.log", "{name}/a..b.log1"] {
            assert!(PathTemplate::parse(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn names_are_made_safe_and_marked() {
        for (name, start) in [
            ("..", "_.~"),
            (".", "_~"),
            ("", "_~"),
            (".longshore", "_longshore~"),
            ("../../etc/passwd", "_._.._etc_passwd~"),
            ("a\0b\n", "a_b_~"),
            ("a~12345678", "a~12345678~"),
            ("\u{85}", "_~"),
        ] {
            let safe = safe_value(name);
            assert!(safe.starts_with(start), "{name:?} became {safe}");
            assert_eq!(safe.len(), start.len() + 8, "{name:?} became {safe}");
        }
        for name in ["web", "web-1_a.b", "žluťoučký kůň", "a..b", "_", "a~b", &"n".repeat(200)] {
            assert_eq!(safe_value(name), name);
        }
        assert_eq!(safe_value(&"n".repeat(201)).len(), PATH_VALUE_BYTES_MAX);
        assert!(safe_value(&"ž".repeat(500)).len() <= PATH_VALUE_BYTES_MAX);
    }

    #[test]
    fn a_long_component_keeps_its_ending() {
        let long = "n".repeat(150);
        let path = route("{name}+{label.a}.log", &metadata(&long, &[("a", &long)]));
        assert_eq!(path.len(), PATH_COMPONENT_BYTES_MAX);
        assert!(path.ends_with(".log") && path.starts_with(&long));
        assert_ne!(path, route("{name}+{label.a}.log", &metadata(&long, &[("a", &format!("{long}x"))])));
    }

    /// Names that are likely to end up alike.
    fn nasty() -> impl Strategy<Value = String> {
        prop_oneof![
            "[./_~a\\x00\n]{0,6}",
            "(\\.\\./){1,4}[a-z]{0,3}",
            "[a_]~[0-9a-f]{8}",
            "[až]{195,205}[./]?",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn a_path_never_climbs_out(name in nasty(), label in nasty(), pod in nasty()) {
            let metadata = metadata(&name, &[("a", &label), ("io.kubernetes.pod.name", &pod)]);
            for template in ["{name}/{name}.log", "{label.a}/{pod}+{container}+{label.a}/x{image}{id}.log", "..{name}{id}/.{pod}{short_id}.txt"] {
                let path = route(template, &metadata);
                prop_assert!(!path.starts_with('/') && !path.chars().any(char::is_control));
                prop_assert_eq!(path.split('/').count(), template.split('/').count());
                for component in path.split('/') {
                    prop_assert!(!["", ".", "..", PRIVATE_DIRECTORY].contains(&component), "{}", path);
                    prop_assert!(component.len() <= PATH_COMPONENT_BYTES_MAX);
                }
                let ending = &template[template.rfind('.').unwrap()..];
                prop_assert!(path.ends_with(ending));
            }
        }

        #[test]
        fn two_names_stay_apart(names in proptest::collection::hash_set(nasty(), 2..200)) {
            let mut taken = HashMap::new();
            for name in names {
                let safe = safe_value(&name);
                prop_assert!(safe == name || looks_marked(&safe));
                if let Some(other) = taken.insert(safe, name.clone()) {
                    prop_assert!(false, "{:?} and {:?}", other, name);
                }
            }
        }
    }
}
