//! The configuration's file: `--config`, conf.d, `check` and `config`. What the pages show of it is in `docs.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::{Longshore, PATIENCE, finish, n_lines};
use crate::verify::Root;

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(text: &str) -> Files {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.toml"), text).expect("write the file");
        Files { directory }
    }

    fn more(&self, name: &str, text: &str) {
        let more = self.directory.path().join("conf.d");
        fs::create_dir_all(&more).expect("create conf.d");
        fs::write(more.join(name), text).expect("write the file");
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn tell(&self, verb: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(verb).env("LONGSHORE_CONFIG", self.path());
        finish(&mut command, PATIENCE)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn outputs_are_as_the_file_says() {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 50);
    root.container('b', "db", "2026-11-25T00:00:00Z").lines(0, 50);
    let agent = Longshore::new(root.path());
    let files = Files::new("container_names = ['web']\nlimit = 1000\ntemplate = 'below'\n");
    files.more("20-b.toml", "template = '${NOBODY_SETS_THIS:-x} {log}'\n");
    files.more("10-a.toml", "template = 'between'\n");
    let path = files.path();
    let done = agent.backfill(&["--progress", "never", "--config", path.to_str().expect("a path")]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let outputs = agent.outputs("web");
    assert_eq!(n_lines(&outputs), 50);
    assert!(outputs.split(|byte| *byte == b'\n').take(50).all(|line| line.starts_with(b"x ")));
    assert!(agent.n_rotated("web") > 0, "1,000 bytes a file");
    assert!(agent.outputs("db").is_empty());
}

#[test]
fn check_says_where_and_what_and_exits_78() {
    let files = Files::new("limit = '1MB'\n");
    let done = files.tell(&["check"]);
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), &b""[..]));
    files.more("a.toml", "\n\ncompresion = 'zstd'\n");
    let at = files.directory.path().join("conf.d/a.toml");
    let expected = format!("error: {}:3: unknown key compresion; did you mean compression?\n", at.display());
    for verb in ["check", "run", "backfill", "containers"] {
        let done = files.tell(&[verb]);
        assert_eq!((done.status.code(), text(&done.stderr)), (Some(78), expected.clone()), "{verb}");
    }
    files.more("a.toml", "log_path = '/a'\nstate_dir = '/a'\n");
    let done = files.tell(&["check"]);
    assert_eq!(done.status.code(), Some(78));
    assert!(text(&done.stderr).contains("is also the state-dir"), "{}", text(&done.stderr));
    fs::remove_file(files.path()).expect("remove the file");
    assert_eq!(files.tell(&["check"]).status.code(), Some(78), "what was named must be there");
}

#[test]
fn what_config_prints_passes_check() {
    let files = Files::new("max_files = 7\n");
    let shown = text(&files.tell(&["config", "show", "--limit", "9MB"]).stdout);
    assert!(shown.contains(&format!("max_files = \"7\"  # {}:1\n", files.path().display())), "{shown}");
    assert!(shown.contains("limit = \"9MB\"  # flag --limit\n"), "{shown}");
    let default = text(&files.tell(&["config", "default"]).stdout);
    for printed in [shown, default] {
        let done = Files::new(&printed).tell(&["check"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    }
    let schema: serde_json::Value =
        serde_json::from_slice(&files.tell(&["config", "schema"]).stdout).expect("the schema is JSON");
    assert_eq!(schema["additionalProperties"], false);
}

/// In a pod the system's name is the pod's, which is another one after each update.
#[test]
fn a_host_may_be_called_otherwise() {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 3);
    let agent = Longshore::new(root.path());
    let files = Files::new("hostname = 'node-7'\ntemplate = '{hostname} {log}'\n");
    let config = ["--config", files.path().to_str().expect("a path")].map(str::to_owned);
    let config: Vec<&str> = config.iter().map(String::as_str).collect();
    let done = agent.backfill(&[config.as_slice(), &["--progress=never"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(agent.outputs("web").split_inclusive(|byte| *byte == b'\n').all(|line| line.starts_with(b"node-7 ")));
    assert_eq!(agent.tell("verify", &config).status.code(), Some(0));
    assert_eq!(agent.tell("verify", &[]).status.code(), Some(0), "what was written with it is told by the journal");
}

/// The lines of an output that `web` wrote, by number.
fn numbers(agent: &Longshore) -> Vec<usize> {
    let outputs = text(&agent.outputs("web"));
    let number = |line: &str| line.split(' ').nth(2).and_then(|word| word.parse().ok());
    outputs.lines().map(|line| number(line).expect("a number")).collect()
}

#[test]
fn what_is_filtered_is_passed_over_once_and_no_loss() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 40);
    let agent = Longshore::new(root.path());
    let filters = ["--progress=never", "--filter-regex=line [0-9]*[02468] of", "--exclude-regex=line 1[0-9] "];
    let passes = |n: &usize| n.is_multiple_of(2) && !(10..20).contains(n);
    let mut expected: Vec<usize> = (0..40).filter(passes).collect();
    assert_eq!(agent.backfill(&filters).status.code(), Some(0));
    assert_eq!(numbers(&agent), expected);
    let verified = agent.tell("verify", &["--json"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    let of = |key: &str| report.pointer(&format!("/0/{key}")).and_then(serde_json::Value::as_u64);
    assert_eq!((of("delivered"), of("filtered")), (Some(15), Some(25)), "{report:#}");

    fs::remove_dir_all(agent.state_dir()).expect("remove the store");
    log.lines(40, 60);
    expected.extend((40..60).filter(passes));
    assert_eq!(agent.backfill(&filters).status.code(), Some(0));
    assert_eq!(numbers(&agent), expected, "the place is found again among what passed");

    log.lines(60, 70);
    expected.extend(60..70);
    assert_eq!(agent.backfill(&["--progress=never"]).status.code(), Some(0));
    assert_eq!(numbers(&agent), expected, "without the filter from here on");
    let verified = agent.tell("verify", &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));

    log.lines(70, 75);
    assert_eq!(agent.backfill(&["--progress=never", "--stream=stderr"]).status.code(), Some(0));
    assert_eq!(agent.backfill(&["--progress=never"]).status.code(), Some(0));
    assert_eq!(numbers(&agent), expected, "what was filtered is decided, also when the filter goes");
}

#[test]
fn a_bad_pattern_is_named() {
    let done = Files::new("limit = 1\nfilter_regex = '('\n").tell(&["check"]);
    assert_eq!(done.status.code(), Some(78));
    assert!(text(&done.stderr).contains("config.toml:2: cannot use filter_regex: no regular expression: "));
}
