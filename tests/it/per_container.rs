//! What differs from container to container: sections of the file, labels, and what is replaced in texts.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Longshore, n_lines};
use crate::verify::Root;

const CREATED: &str = "2026-11-25T00:00:00Z";

struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> File {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.toml"), text).expect("write the file");
        File { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }
}

/// A backfill with this file; gives what the agent said.
fn backfill(agent: &Longshore, text: &str, flags: &[&str]) -> String {
    let file = File::new(text);
    let path = file.path();
    let all = [&["--progress", "never", "--config", path.to_str().expect("a path")], flags].concat();
    let done = agent.backfill(&all);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    said
}

fn output(agent: &Longshore, name: &str) -> String {
    String::from_utf8(agent.outputs(name)).expect("text")
}

fn names(agent: &Longshore, name: &str) -> Vec<String> {
    let entries = fs::read_dir(agent.log_path().join(name)).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn each_container_is_written_and_kept_as_its_section_says() {
    let root = Root::new();
    for (digit, name) in [('a', "web-1"), ('b', "web-2"), ('c', "db"), ('d', "debug")] {
        root.container(digit, name, CREATED).lines(0, 60);
    }
    let agent = Longshore::new(root.path());
    let text = "limit = 2000\n[[container]]\nname = 'web-*'\nlimit = 500\ncompression = 'zstd'\ntemplate = 'w {log}'\n\
                [[container]]\nname = 'web-2'\nmax_files = 3\nfilter_regex = 'line [0-9]*[02468] '\n\
                [[container]]\nname = 'debug'\nenable = false\n";
    backfill(&agent, text, &[]);
    assert_eq!(n_lines(&agent.outputs("web-1")), 60);
    assert!(output(&agent, "web-1").lines().all(|line| line.starts_with("w line ")));
    assert!(names(&agent, "web-1").iter().all(|name| name == "web-1.log" || name.ends_with(".zst")));
    assert!(agent.n_rotated("web-1") > agent.n_rotated("db") && agent.n_rotated("db") > 0);
    assert_eq!(names(&agent, "web-2").len(), 3, "two rotated ones and the current");
    assert!(output(&agent, "web-2").lines().all(|line| line.starts_with("w ") && line.contains("line")));
    assert!(names(&agent, "db").iter().all(|name| !name.ends_with(".zst")));
    assert!(agent.outputs("debug").is_empty());
    // What the store says of each is enough to compare them again.
    let verified = agent.tell("verify", &["-n", "web-1,db"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));

    // The same lines are not written again under other settings; new ones are.
    root_lines(&root, 'a', 60, 70);
    backfill(&agent, "[[container]]\nname = 'web-1'\ntemplate = 'x {log}'\n", &[]);
    let web = output(&agent, "web-1");
    assert_eq!(web.lines().filter(|line| line.starts_with("w ")).count(), 60);
    assert_eq!(web.lines().filter(|line| line.starts_with("x ")).count(), 10);
}

fn root_lines(root: &Root, digit: char, from: usize, to: usize) {
    crate::verify::Log::of(root, digit).lines(from, to);
}

#[test]
fn labels_win_over_sections_unless_they_are_switched_off() {
    let root = Root::new();
    let labels = r#"{"longshore.template":"{label.tier}: {log}","tier":"front","longshore.limit":"70kB",
        "longshore.compression":"gzip","longshore.filter-regex":"line [0-4]","longshore.max-files":"many"}"#;
    root.labelled('a', "web", CREATED, labels).lines(0, 50);
    root.labelled('b', "db", CREATED, r#"{"longshore.enable":"false"}"#).lines(0, 5);
    let text = "limit = 1000\n[[container]]\nname = '*'\ntemplate = 's {log}'\n";

    let agent = Longshore::new(root.path());
    let said = backfill(&agent, text, &[]);
    let web = output(&agent, "web");
    assert!(web.lines().all(|line| line.starts_with("front: line ")), "{web}");
    assert_eq!(n_lines(web.as_bytes()), 45);
    assert_eq!(agent.n_rotated("web"), 0, "70 kB");
    assert!(agent.outputs("db").is_empty());
    let blamed = said.lines().filter(|line| line.contains("longshore.max-files: not a number above zero"));
    assert_eq!(blamed.count(), 1, "{said}");

    let agent = Longshore::new(root.path());
    let said = backfill(&agent, text, &["--container-labels", "no"]);
    assert!(output(&agent, "web").lines().all(|line| line.starts_with("s line ")));
    assert_eq!(n_lines(&agent.outputs("web")), 50);
    assert_eq!(n_lines(&agent.outputs("db")), 5);
    assert!(agent.n_rotated("web") > 0 && !said.contains("max-files"), "{said}");
}

#[test]
fn what_a_container_that_is_gone_wrote_is_kept_as_its_labels_said() {
    let root = Root::new();
    let labels = r#"{"longshore.limit":"70kB","longshore.max-files":"20"}"#;
    let log = root.labelled('a', "web", CREATED, labels);
    for n in 0..400 {
        log.entry(&format!("{n} {}\\n", "x".repeat(1000)), "stdout", "2026-11-25T00:00:01Z");
    }
    root.container('b', "db", CREATED).lines(0, 5);
    let agent = Longshore::new(root.path());
    let text = "limit = '700kB'\nmax_files = 2\n";
    backfill(&agent, text, &[]);
    let n_rotated = agent.n_rotated("web");
    assert!(n_rotated >= 5, "{n_rotated}");

    let directory = fs::read_dir(root.path()).expect("the containers").map(|entry| entry.expect("an entry").path());
    let gone = directory.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('a')));
    gone.for_each(|path| fs::remove_dir_all(path).expect("its own directory"));
    backfill(&agent, text, &[]);
    assert_eq!(agent.n_rotated("web"), n_rotated, "the operator's two files are as large");
    backfill(&agent, text, &["--container-labels", "no"]);
    assert_eq!(agent.n_rotated("web"), 1, "labels count for nothing");
}

#[test]
fn a_label_reaches_no_further_than_its_output() {
    let root = Root::new();
    let labels = r#"{"longshore.path-template":"/tmp/x.log","longshore.limit":"1","longshore.log-path":"/tmp",
        "longshore.template":"{log}{log}","longshore.redact":"none"}"#;
    root.labelled('a', "web", CREATED, labels).entry("mail to a@b.co\\n", "stdout", "2026-11-25T00:00:01Z");
    let agent = Longshore::new(root.path());
    let said = backfill(&agent, "redact = 'email'\ntemplate = '{log}'", &[]);
    assert_eq!(output(&agent, "web"), "mail to [redacted:email]\n");
    assert!(said.contains("longshore.limit: must be from") && said.contains("{log} may stand in it once"), "{said}");
}

#[test]
fn what_is_redacted_stays_so_through_a_lost_store_and_passes_the_audit() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    let entry = |n: usize| {
        log.entry(&format!("{n} card 4111 1111 1111 1111 from 10.0.0.{n} id-{n}\\n"), "stdout", &crate::verify::time(n))
    };
    (0..20).for_each(entry);
    let agent = Longshore::new(root.path());
    let flags = ["--redact", "card,ipv4", "--redact", "id-[0-9]+"];
    backfill(&agent, "", &flags);
    let expected =
        |n: usize| format!("{} {n} card [redacted:card] from [redacted:ipv4] [redacted]\n", crate::verify::time(n));
    let all: String = (0..20).map(expected).collect();
    assert_eq!(output(&agent, "web"), all);
    let verified = agent.tell("verify", &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));

    fs::remove_dir_all(agent.state_dir()).expect("remove the store");
    (20..25).for_each(entry);
    backfill(&agent, "", &flags);
    assert_eq!(output(&agent, "web"), all + &(20..25).map(expected).collect::<String>());
}
