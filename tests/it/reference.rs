//! The parts of docs/ that are made from the binary and from what ships with it: the keys, the metrics, the alerts.
//! LONGSHORE_WRITE_DOCS=1 writes them; without it a part that is not current fails.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::docs::{self, repository};
use crate::harness::{Longshore, PATIENCE, finish, until};
use crate::manifest;
use crate::watched::{free_address, get};

/// Holds the part of `page` between its marks against what it should be.
fn check(page: &str, part: &str, current: &str) {
    let (path, begin, end) =
        (repository(page), format!("<!-- {part}: made by tests/it/reference.rs -->\n"), "<!-- end -->");
    let text = fs::read_to_string(&path).expect("read a page");
    let start = text.find(&begin).unwrap_or_else(|| panic!("{page} has no part {part}")) + begin.len();
    let stop = start + text[start..].find(end).unwrap_or_else(|| panic!("{page}: the part {part} has no end"));
    let current = format!("\n{}\n\n", current.trim());
    if env::var_os("LONGSHORE_WRITE_DOCS").is_some() {
        fs::write(&path, text[..start].to_owned() + &current + &text[stop..]).expect("write a page");
        return;
    }
    let hint = "LONGSHORE_WRITE_DOCS=1 cargo test --test it reference:: makes it so";
    assert_eq!(&text[start..stop], current, "{page} is not current; {hint}");
}

fn told(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    let done = finish(command.args(arguments), PATIENCE);
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// In a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', r"\|").replace('\n', " ").replace('<', "&lt;")
}

#[test]
fn the_keys_are_current() {
    let schema: Value = serde_json::from_str(&told(&["config", "schema"])).expect("JSON");
    let file = told(&["config", "default"]);
    let mut text = String::new();
    // In the order and under the headings of the default file.
    let mut heading = "";
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    // Sections stand below all keys, and repeat some of them.
    for line in file.lines().take_while(|line| !line.starts_with("#[")) {
        if let Some(next) = line.strip_prefix("# --- ") {
            heading = next;
        } else if let Some((key, _)) = line.strip_prefix('#').and_then(|line| line.split_once(" = "))
            && schema["properties"][key].is_object()
        {
            match parts.iter_mut().find(|(of, _)| *of == heading) {
                Some((_, keys)) => keys.push(key),
                None => parts.push((heading, vec![key])),
            }
        }
    }
    let mut told_of = Vec::new();
    for (heading, keys) in parts {
        let _ = write!(text, "### {heading}\n\n| key | default | meaning |\n|---|---|---|\n");
        for key in keys {
            row(&mut text, key, &schema["properties"][key]);
            told_of.push(key);
        }
        text.push('\n');
    }
    // Tables of the file: one section each.
    for (key, property) in schema["properties"].as_object().expect("keys") {
        if told_of.contains(&key.as_str()) {
            continue;
        }
        let _ = write!(text, "### {key}\n\n{}\n\n", property["description"].as_str().unwrap_or_default());
        let tables = tables(key, property);
        assert!(!tables.is_empty(), "{key} is neither a key nor a table: {property}");
        for (heading, keys) in tables {
            let _ = write!(text, "{heading}\n\n| key | default | meaning |\n|---|---|---|\n");
            for (key, property) in keys {
                row(&mut text, key, property);
            }
            text.push('\n');
        }
    }
    check("docs/configuration.md", "keys", &text);
}

/// The tables that may stand under a key, each as a file would begin it, with its keys: one, a list of them, or one for
/// each name, of which there may be several types.
fn tables<'s>(key: &str, property: &'s Value) -> Vec<(String, &'s serde_json::Map<String, Value>)> {
    let named = &property["additionalProperties"];
    let (begin, shapes) = match (property["items"].is_object(), &named["oneOf"]) {
        (true, _) => (format!("[[{key}]]"), vec![&property["items"]]),
        (_, Value::Array(types)) => (format!("[{key}.NAME]"), types.iter().collect()),
        _ if named.is_object() => (format!("[{key}.NAME]"), vec![named]),
        _ => (format!("[{key}]"), vec![property]),
    };
    let keys = |shape: &'s Value| Some((shape, shape["properties"].as_object()?));
    let heading = |shape: &Value| match shape["properties"]["type"]["const"].as_str() {
        Some(of_type) => format!("`{begin}` with `type = \"{of_type}\"`"),
        None => format!("`{begin}`"),
    };
    shapes.into_iter().filter_map(keys).map(|(shape, keys)| (heading(shape), keys)).collect()
}

fn row(text: &mut String, key: &str, property: &Value) {
    let default = match &property["default"] {
        Value::Null => String::new(),
        Value::String(default) => format!("`{}`", cell(default)),
        other => format!("`{other}`"),
    };
    let mut meaning = cell(property["description"].as_str().unwrap_or_default());
    if let Some(words) = property["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        let _ = write!(meaning, ": {}", words.join(", "));
    }
    let _ = writeln!(text, "| `{key}` | {default} | {meaning} |");
}

/// What a running agent tells.
fn metrics() -> String {
    let mut agent = Longshore::new(&repository("tests/fixtures/containers"));
    let address = free_address();
    // What sinks count is there where there is one.
    let config = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    fs::write(config.path(), "[sinks.NAME]\ntype = \"stdout\"\n").expect("write the configuration");
    let config = config.path().to_str().expect("a path");
    agent.start(&["--listen", &address.to_string(), "--container-metrics", "--config", config]);
    let mut metrics = String::new();
    until("it tells its metrics", PATIENCE, || match get(address, "/metrics") {
        // Those by container come with the first second.
        Some((_, body)) => {
            metrics = body;
            metrics.contains("container_name=")
        }
        None => false,
    });
    agent.drain();
    metrics
}

#[test]
fn the_metrics_are_current() {
    let metrics = metrics();
    let mut text = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for line in metrics.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) else { continue };
        let kind = metrics.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap_or_default();
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels(&metrics, name), cell(help));
    }
    check("docs/monitoring.md", "metrics", &text);
}

/// `reason`: `space`, `io`. Of a histogram nothing: its buckets are nobody's choice.
fn labels(metrics: &str, name: &str) -> String {
    let mut values: Vec<(&str, Vec<&str>)> = Vec::new();
    let of_name = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once('}'));
    for pair in of_name.flat_map(|(labels, _)| labels.split(',')) {
        let Some((label, value)) = pair.split_once('=') else { continue };
        match values.iter_mut().find(|(of, _)| *of == label) {
            Some((_, seen)) => seen.push(value.trim_matches('"')),
            None => values.push((label, vec![value.trim_matches('"')])),
        }
    }
    let is_open = |label: &str| name.ends_with("build_info") || label == "container_name";
    let shown = values.iter().map(|(label, values)| match (is_open(label), values.as_slice()) {
        (false, values) => format!("`{label}`: {}", values.join(", ")),
        (true, _) => format!("`{label}`"),
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_alerts_are_current() {
    let rules = fs::read_to_string(repository("contrib/prometheus/alerts.yaml")).expect("read the rules");
    let rules = manifest::objects(&rules);
    let mut text = "| alert | severity | when |\n|---|---|---|\n".to_owned();
    let page = fs::read_to_string(repository("docs/monitoring.md")).expect("read a page");
    for rule in
        rules[0]["groups"].as_array().expect("groups").iter().flat_map(|group| group["rules"].as_array()).flatten()
    {
        let of = |path: &str| rule.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let lasting = match of("/for") {
            "" => String::new(),
            time => format!(" for {time}"),
        };
        let alert = of("/alert");
        let _ = writeln!(text, "| {alert} | {} | `{}`{lasting} |", of("/labels/severity"), cell(of("/expr")));
        assert!(
            page.contains(&format!("**{alert}**")),
            "docs/monitoring.md does not say what to do when {alert} fires"
        );
    }
    check("docs/monitoring.md", "alerts", &text);
}

/// Prose goes stale in silence: each metric it names must be there, and each flag.
#[test]
fn the_pages_name_what_there_is() {
    let (metrics, flags) = (metrics(), flags());
    for page in docs::pages() {
        let text = fs::read_to_string(repository(&page)).expect("read a page");
        for name in
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("longshore_"))
        {
            let is_package = name == "longshore_0";
            assert!(is_package || metrics.contains(&format!("# TYPE {name} ")), "{page}: there is no metric {name}");
        }
        for code in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("--")) {
            let flag = code.split([' ', '=', ',']).next().unwrap_or_default();
            let known = flags.contains(&flag.to_owned()) || OTHERS.contains(&flag);
            assert!(known || page == "docs/migration.md", "{page}: there is no flag {flag}");
        }
    }
}

/// Flags of other commands that the pages name.
const OTHERS: [&str; 7] =
    ["--cap-add", "--volume", "--env", "--publish", "--exclude", "--hostname", "--no-healthcheck"];

/// All flags of all verbs.
fn flags() -> Vec<String> {
    let mut flags = Vec::new();
    for verb in ["run", "backfill", "verify", "status", "ledger", "state import", "man", "healthcheck"] {
        let mut arguments: Vec<&str> = verb.split(' ').collect();
        arguments.push("--help");
        let help = told(&arguments);
        flags.extend(
            help.split_whitespace().map(|word| word.trim_matches(',').to_owned()).filter(|w| w.starts_with("--")),
        );
    }
    flags
}
