//! The audit over outputs that a container left for another, and over lines whose absence somebody explains.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Longshore, PATIENCE, n_lines, until};
use crate::hostile::peak_memory;
use crate::state::{import, parsed};
use crate::verify::{Log, Root, Verdict, backfill, time};

/// As `docker rename` does.
pub fn rename(root: &Root, digit: char, from: &str, to: &str) {
    let id: String = std::iter::repeat_n(digit, 64).collect();
    let path = root.path().join(id).join("config.v2.json");
    let config = fs::read_to_string(&path).expect("read a config").replace(&format!("/{from}\""), &format!("/{to}\""));
    fs::write(path.with_extension("tmp"), config).expect("write a config");
    fs::rename(path.with_extension("tmp"), path).expect("put it in place");
}

pub fn lines_of(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(path).expect("read an output");
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_container_that_was_renamed_is_compared_over_both_outputs() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 100);
    let mut agent = Longshore::new(root.path());
    agent.start(&["--limit", "5kB"]);
    agent.wait_for_lines("web", 100);
    rename(&root, 'a', "web", "api");
    let mut n = 100;
    until("its lines go under its new name", PATIENCE, || {
        log.lines(n, n + 1);
        n += 1;
        agent.log_path().join("api/api.log").exists()
    });
    log.lines(n, n + 200);
    n += 200;
    let old = n_lines(&agent.outputs("web"));
    agent.wait_for_lines("api", n - old);
    agent.drain();

    let verdict = Verdict::of(&agent, "api");
    verdict.check("renamed", 0, &[("delivered", n as u64)]);
    assert_eq!(verdict.value["outputs"], json!(["api/api.log", "web/web.log"]), "{}", verdict.shown);
    for name in ["web", "api"] {
        let path = agent.log_path().join(name).join(format!("{name}.log"));
        let whole = lines_of(&path);
        let newest: PathBuf = if whole.len() > 1 { path.clone() } else { path.with_extension("log.1") };
        let mut lines = lines_of(&newest);
        let kept = lines.concat();
        lines.remove(0);
        fs::write(&newest, lines.concat()).expect("remove a line");
        Verdict::of(&agent, "api").check(name, 1, &[("delivered", n as u64 - 1), ("missing", 1)]);
        fs::write(&newest, kept).expect("put it back");
    }
}

/// A container that wrote 20 lines, its agent, and its output.
fn twenty_lines_delivered() -> (Root, Log, Longshore, PathBuf) {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 20);
    let agent = Longshore::new(root.path());
    backfill(&agent, &[]);
    let output = agent.log_path().join("web/web.log");
    (root, log, agent, output)
}

#[test]
fn a_gap_that_the_ledger_explains_is_named_with_its_reason() {
    let (_root, _, agent, output) = twenty_lines_delivered();
    let whole = lines_of(&output);
    fs::write(&output, [whole[..7].concat(), whole[9..].concat()].concat()).expect("remove two lines");
    let verdict = Verdict::of(&agent, "web");
    verdict.check("nobody explains it", 1, &[("delivered", 18), ("missing", 2)]);
    let range = verdict.value["missing_ranges"][0].clone();
    assert!(range["explained"].is_null(), "{}", verdict.shown);

    let mut exported = parsed(&agent.tell("state export", &[]));
    let entry = |reason: &str, file: &str, start: &Value| {
        json!({
            "container": "a".repeat(64), "name": "web", "reason": reason, "file": file, "start": start,
            "end": range["end"], "first_time": null, "last_time": null, "noticed_ns": 0, "detail": "",
        })
    };
    // Bytes of an output say nothing of the log's, and what can't be parsed is no line.
    exported["ledger"] = json!([
        entry("output_damaged", "web/web.log", &range["start"]),
        entry("malformed", "a-json.log", &range["start"]),
    ]);
    assert_eq!(import(&agent, exported.to_string().as_bytes(), &["--force"]), 0);
    let unexplained = Verdict::of(&agent, "web");
    assert!(unexplained.value["missing_ranges"][0]["explained"].is_null(), "{}", unexplained.shown);

    // What a sink could not deliver is no matter of the files.
    let mut of_sink = entry("truncated", "a-json.log", &range["start"]);
    of_sink["sink"] = json!("out");
    exported["ledger"] = json!([of_sink]);
    assert_eq!(import(&agent, exported.to_string().as_bytes(), &["--force"]), 0);
    let of_files = Verdict::of(&agent, "web");
    assert!(of_files.value["missing_ranges"][0]["explained"].is_null(), "{}", of_files.shown);
    assert!(of_files.value["ledger"].get("truncated").is_none(), "{}", of_files.shown);

    exported["ledger"] = json!([entry("truncated", "a-json.log", &range["start"])]);
    assert_eq!(import(&agent, exported.to_string().as_bytes(), &["--force"]), 0);
    let verdict = Verdict::of(&agent, "web");
    verdict.check("the ledger does", 1, &[("delivered", 18), ("missing", 2)]);
    assert_eq!(verdict.value["missing_ranges"][0]["explained"], "truncated", "{}", verdict.shown);
    assert_eq!(verdict.value["missing_ranges"][0]["lines"], 2);
    assert_eq!(verdict.value["ledger"]["truncated"], 1);
    let shown = String::from_utf8(agent.tell("verify", &[]).stdout).expect("text");
    assert!(shown.contains("missing: 2 lines") && shown.contains("the ledger says truncated"), "{shown}");

    // With the lines back nothing is missing; that something was lost once is still no clean audit.
    fs::write(&output, whole.concat()).expect("put them back");
    Verdict::of(&agent, "web").check("an entry alone", 1, &[("delivered", 20)]);
}

#[test]
fn what_retention_removed_is_told_from_what_somebody_else_did() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 1000);
    let agent = Longshore::new(root.path());
    let keep = ["--limit", "5kB", "--max-files", "5"];
    backfill(&agent, &keep);
    let kept = n_lines(&agent.outputs("web")) as u64;
    Verdict::of(&agent, "web").check("retention", 0, &[("delivered", kept), ("pruned", 1000 - kept)]);
    log.lines(1000, 1500);
    backfill(&agent, &keep);
    let kept = n_lines(&agent.outputs("web")) as u64;
    Verdict::of(&agent, "web").check("again", 0, &[("delivered", kept), ("pruned", 1500 - kept)]);

    let oldest = fs::read_dir(agent.log_path().join("web")).expect("list").map(|entry| entry.expect("an entry").path());
    let number = |path: &PathBuf| path.extension().and_then(|it| it.to_str()).and_then(|it| it.parse::<u64>().ok());
    let oldest = oldest.filter(|path| number(path).is_some()).min_by_key(number).expect("a rotated segment");
    fs::remove_file(oldest).expect("remove the oldest one");
    let left = n_lines(&agent.outputs("web")) as u64;
    let verdict = Verdict::of(&agent, "web");
    verdict.check("by hand", 1, &[("delivered", left), ("missing", 1500 - left)]);
    fs::remove_dir_all(agent.state_dir()).expect("lose the state");
    assert_eq!(Verdict::of(&agent, "web").count("missing"), 0, "without a state nobody knows how far it was");
}

/// Takes the lines of these numbers out of an output's segments, all older than the one that settings changed in.
fn remove_lines(agent: &Longshore, name: &str, numbers: std::ops::Range<usize>) {
    let mut n_removed = 0;
    for entry in fs::read_dir(agent.log_path().join(name)).expect("list") {
        let path = entry.expect("an entry").path();
        let mut lines = lines_of(&path);
        let n_lines = lines.len();
        lines.retain(|line| {
            let text = String::from_utf8_lossy(line);
            let number = text.split("line ").nth(1).and_then(|it| it.split(' ').next()).and_then(|it| it.parse().ok());
            number.is_none_or(|number| !numbers.contains(&number))
        });
        if lines.len() < n_lines {
            n_removed += n_lines - lines.len();
            fs::write(&path, lines.concat()).expect("remove lines");
        }
    }
    assert_eq!(n_removed, numbers.len());
}

#[test]
fn later_settings_are_no_reason_for_an_earlier_line_to_be_missing() {
    // As a `backfill --since 24h` does each night.
    for second in [["--since", &time(900)], ["--exclude-regex", "line 5.. "]] {
        let root = Root::new();
        let log = root.container('a', "web", "2026-11-25T00:00:00Z");
        log.lines(0, 1000);
        let agent = Longshore::new(root.path());
        backfill(&agent, &["--limit", "20kB"]);
        log.lines(1000, 1100);
        backfill(&agent, &[&["--limit", "20kB"][..], &second].concat());
        log.lines(1100, 1200);
        backfill(&agent, &["--limit", "20kB", "--since", &time(1050)]);
        Verdict::of(&agent, "web").check_settings(second[0], 1100, 100, &[]);
        remove_lines(&agent, "web", 500..501);
        Verdict::of(&agent, "web").check_wrong(second[0], 1199, &[("missing", 1)]);
    }
}

#[test]
fn later_settings_are_no_reason_for_more_lines_than_one_gap_holds() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 30_000);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--limit", "100kB"]);
    log.lines(30_000, 30_100);
    backfill(&agent, &["--limit", "100kB", "--since", &time(29_000)]);
    remove_lines(&agent, "web", 5000..25_000);
    Verdict::of(&agent, "web").check_wrong("a large gap", 10_100, &[("missing", 20_000)]);
}

#[test]
fn settings_that_left_everything_out_are_a_reason() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    let agent = Longshore::new(root.path());
    for (from, settings) in
        [&[][..], &["--exclude-regex", "line 1"], &[], &["--exclude-regex", "line"], &[]].iter().enumerate()
    {
        log.lines(from * 100, from * 100 + 100);
        backfill(&agent, settings);
    }
    Verdict::of(&agent, "web").check("in turn", 0, &[("delivered", 300), ("filtered", 200)]);
    log.lines(500, 600);
    backfill(&agent, &["--exclude-regex", "line"]);
    Verdict::of(&agent, "web").check("in the end", 0, &[("other_settings", 300), ("filtered", 300)]);
}

#[test]
fn what_was_lost_of_a_container_that_left_nothing_else_is_named() {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 20);
    let agent = Longshore::new(root.path());
    backfill(&agent, &[]);
    let mut exported = parsed(&agent.tell("state export", &[]));
    let entry = |reason: &str, sink: Value| {
        json!({
            "container": "b".repeat(64), "name": "gone", "sink": sink, "reason": reason, "file": "b-json.log",
            "start": 0, "end": 100, "first_time": null, "last_time": null, "noticed_ns": 0, "detail": "",
        })
    };
    // No lost lines of the files.
    exported["ledger"] = json!([entry("nul", Value::Null), entry("held_max", json!("out"))]);
    assert_eq!(import(&agent, exported.to_string().as_bytes(), &["--force"]), 0);
    assert_eq!(agent.tell("verify", &[]).status.code(), Some(0));

    exported["ledger"] = json!([entry("held_max", Value::Null)]);
    assert_eq!(import(&agent, exported.to_string().as_bytes(), &["--force"]), 0);
    let done = agent.tell("verify", &[]);
    let shown = String::from_utf8(done.stdout).expect("text");
    assert_eq!(done.status.code(), Some(1), "{shown}");
    assert!(shown.contains("gone: 1 entries in the loss ledger"), "{shown}");
    let verdict = Verdict::of(&agent, "gone");
    verdict.check("by its name", 1, &[]);
    assert_eq!(verdict.value["ledger"]["held_max"], 1, "{}", verdict.shown);
    Verdict::of(&agent, "web").check("another one", 0, &[("delivered", 20)]);
}

/// Audits to the end: its exit code, what it says in JSON, and the most memory it was seen to hold.
fn measured(agent: &Longshore) -> (Option<i32>, Value, u64) {
    let said = tempfile::NamedTempFile::new().expect("a file for stdout");
    let mut child = agent
        .command("verify", &["--json"])
        .stdout(said.reopen().expect("a second handle"))
        .spawn()
        .expect("start longshore verify");
    let (mut peak, mut status) = (0, None);
    until("the audit ends", 4 * PATIENCE, || {
        peak = peak_memory(child.id()).unwrap_or(0).max(peak);
        status = child.try_wait().expect("wait for a child of ours");
        status.is_some()
    });
    let all: Value = serde_json::from_slice(&fs::read(said.path()).expect("read stdout")).expect("JSON");
    (status.and_then(|status| status.code()), all[0].clone(), peak)
}

/// A log of six short lines with one of 64 MiB between them, which goes on in another file.
fn endless(root: &Root) {
    const PIECES: usize = 4096;
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 3);
    // No record ends where a piece does, and characters stand across the ends of records.
    for piece in 0..PIECES {
        if piece == PIECES / 2 {
            log.rotate();
        }
        log.entry(&format!("{piece:08}{}{:4}", "ü".repeat(8186), ""), "stdout", &time(3));
    }
    log.entry("its end\\n", "stdout", &time(3));
    log.lines(4, 7);
}

#[test]
fn a_line_without_an_end_is_audited_in_flat_memory() {
    let root = Root::new();
    endless(&root);
    for limit in ["100000B", "2MiB"] {
        let agent = Longshore::new(root.path());
        backfill(&agent, &["--max-line-bytes", limit]);
        let n = n_lines(&agent.outputs("web")) as u64;
        assert!(n > 30, "{n} lines");
        let (exit, value, peak) = measured(&agent);
        assert_eq!(
            (exit, value["delivered"].as_u64(), value["missing"].as_u64()),
            (Some(0), Some(n), Some(0)),
            "{limit}"
        );
        assert!(peak < 160 << 20, "{limit}: {peak} bytes at the peak");

        if limit == "2MiB" {
            continue;
        }
        let path = agent.log_path().join("web/web.log");
        let mut lines = lines_of(&path);
        lines.remove(1);
        fs::write(&path, lines.concat()).expect("remove a record within the line");
        let (exit, value, peak) = measured(&agent);
        let found = (exit, value["delivered"].as_u64(), value["missing"].as_u64());
        assert_eq!(found, (Some(1), Some(n - 1), Some(1)), "{limit}");
        assert!(peak < 160 << 20, "{limit}: {peak} bytes at the peak");
    }
}

#[test]
fn what_the_ledger_says_of_foreign_output_excuses_no_more_of_it() {
    let (_root, log, agent, output) = twenty_lines_delivered();
    let append = |text: &str| {
        let whole = [fs::read(&output).expect("read the output"), text.into()].concat();
        fs::write(&output, whole).expect("append");
    };
    // The agent finds it there, keeps it, and notes it. A torn line is ended.
    append("somebody else wrote this\nand left this");
    log.lines(20, 30);
    backfill(&agent, &[]);
    let verdict = Verdict::of(&agent, "web");
    verdict.check("noted", 0, &[("delivered", 30), ("only_copy", 2)]);
    assert_eq!(verdict.value["ledger"]["unmatched"], 1, "{}", verdict.shown);

    append("and this has nobody noted\n");
    let verdict = Verdict::of(&agent, "web");
    verdict.check("more of it", 1, &[("delivered", 30), ("only_copy", 2), ("foreign", 1)]);
    assert_eq!(verdict.value["findings"][0]["line"], "and this has nobody noted", "{}", verdict.shown);
}

#[test]
fn a_line_without_an_end_that_is_left_out_takes_no_memory_either() {
    let root = Root::new();
    endless(&root);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--exclude-regex", "ü", "--max-line-bytes", "2MiB"]);
    let path = agent.log_path().join("web/web.log");
    let mut lines = lines_of(&path);
    let n = lines.len() as u64;
    // What agrees again is looked for beyond the long line.
    lines.remove(2);
    fs::write(&path, lines.concat()).expect("remove the line before it");
    let (exit, value, peak) = measured(&agent);
    let found = (exit, value["delivered"].as_u64(), value["missing"].as_u64());
    assert_eq!(found, (Some(1), Some(n - 1), Some(1)), "{value:#}");
    assert!(peak < 84 << 20, "{peak} bytes at the peak");
}
