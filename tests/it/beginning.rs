//! Where a container begins in its log and in its output: also where several have one output, as the attempts of a
//! pod's container do, or one that was made anew under its name.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{Longshore, PATIENCE, until};
use crate::verify::{Log, Root};
use crate::verify_gaps::rename;

const OLDER: &str = "2026-11-25T00:00:00Z";
const NEWER: &str = "2026-11-25T01:00:00Z";

fn backfill(agent: &Longshore, flags: &[&str]) {
    let done = agent.backfill(&[&["--progress", "never"], flags].concat());
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
}

fn output(agent: &Longshore) -> String {
    String::from_utf8(agent.outputs("web")).expect("text")
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("line {n} of a log that somebody reads\n")).collect()
}

/// Both begin with the same lines, as attempts of a container do that fails at its start. By their ids the newer one is
/// met first.
#[test]
fn the_older_one_is_written_first_and_equal_lines_of_both() {
    let root = Root::new();
    root.container('b', "web", OLDER).lines(0, 20);
    root.container('a', "web", NEWER).lines(0, 30);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--template", "{log}"]);
    assert_eq!(output(&agent), lines(0, 20) + &lines(0, 30));
}

/// The output can't be opened for as long as somebody's file stands in its way; lines that come meanwhile are wanted.
#[test]
fn from_the_end_on_means_from_the_first_look_on() {
    let root = Root::new();
    let log = root.container('a', "web", OLDER);
    log.lines(0, 10);
    let mut agent = Longshore::new(root.path());
    fs::create_dir_all(agent.log_path()).expect("make the log path");
    let in_the_way = agent.log_path().join("web");
    fs::write(&in_the_way, "").expect("stand in the way");
    agent.start(&["--from", "end", "--template", "{log}"]);
    until("it is in trouble", PATIENCE, || agent.own_log_text().contains("container=web"));
    log.lines(10, 20);
    fs::remove_file(&in_the_way).expect("go out of the way");
    agent.wait_for_lines("web", 10);
    agent.drain();
    assert_eq!(output(&agent), lines(10, 20));
}

/// What is there under the new name may end within a line.
#[test]
fn a_renamed_container_begins_a_line_of_its_own() {
    let root = Root::new();
    let log = root.container('a', "web", OLDER);
    log.lines(0, 5);
    let mut agent = Longshore::new(root.path());
    fs::create_dir_all(agent.log_path().join("shop")).expect("make a directory");
    fs::write(agent.log_path().join("shop/shop.log"), "torn").expect("write an output");
    agent.start(&["--template", "{log}"]);
    agent.wait_for_lines("web", 5);
    rename(&root, 'a', "web", "shop");
    until("the new name counts", PATIENCE, || agent.own_log_text().contains("container renamed"));
    log.lines(5, 9);
    agent.wait_for_lines("shop", 5);
    agent.drain();
    let shop = String::from_utf8(agent.outputs("shop")).expect("text");
    assert_eq!(shop, "torn\n".to_owned() + &lines(5, 9));
}

/// A line that is open, of a container that runs.
struct OpenLine {
    _root: Root,
    log: Log,
    agent: Longshore,
}

const OPEN_SINCE: &str = "2026-11-25T05:00:00.000000001Z";

const ASIDE: &str = "{\"log\":\"aside\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-25T05:00:00.000000002Z\"}\n";

fn piece(digit: &str) -> String {
    digit.repeat(16_384)
}

fn kept(text: &str) -> String {
    format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"{OPEN_SINCE}\"}}\n")
}

impl OpenLine {
    fn new() -> OpenLine {
        let root = Root::new();
        let log = root.container('a', "web", OLDER);
        let config = log.directory.join("config.v2.json");
        let running = fs::read_to_string(&config).expect("read").replace("\"Running\":false", "\"Running\":true");
        fs::write(&config, running).expect("write: its line isn't over");
        log.lines(0, 1);
        let agent = Longshore::new(root.path());
        OpenLine { _root: root, log, agent }
    }

    fn pieces(&self, digits: &[&str]) {
        digits.iter().for_each(|digit| self.log.entry(&piece(digit), "stdout", OPEN_SINCE));
    }

    fn ends(&self) {
        self.log.entry("end\\n", "stdout", OPEN_SINCE);
    }

    fn audit(&self) {
        let audit = self.agent.tell("verify", &[]);
        assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stdout));
    }

    /// Puts positions of before these runs back, as if the run had been killed before its commit.
    fn killed_before_its_commit(&self, run: impl FnOnce(&Longshore)) {
        let saved = self.agent.state_dir().with_extension("saved");
        copy_files(&self.agent.state_dir(), &saved);
        run(&self.agent);
        fs::remove_dir_all(self.agent.state_dir()).expect("remove the positions");
        copy_files(&saved, &self.agent.state_dir());
        fs::remove_dir_all(saved).expect("remove the copy");
    }
}

fn copy_files(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp");
    assert!(done.success());
}

/// A line that was begun is joined to its end, under the settings of before.
#[test]
fn a_line_that_is_open_when_entries_are_to_be_kept_loses_nothing() {
    let open = OpenLine::new();
    open.pieces(&["1", "2"]);
    backfill(&open.agent, &["--template", "{log}"]);
    assert_eq!(output(&open.agent), lines(0, 1));
    open.pieces(&["3"]);
    backfill(&open.agent, &["--format", "docker"]);
    assert_eq!(output(&open.agent), lines(0, 1), "it isn't over yet");
    open.ends();
    backfill(&open.agent, &["--format", "docker"]);
    open.log.raw(ASIDE);
    backfill(&open.agent, &["--format", "docker"]);
    let joined = piece("1") + &piece("2") + &piece("3") + "end\n";
    assert_eq!(output(&open.agent), lines(0, 1) + &joined + ASIDE);
    open.audit();
}

/// Other settings after a kill: what is read again is held against the output in both.
#[test]
fn a_line_that_is_open_at_a_kill_goes_on_under_other_settings() {
    let open = OpenLine::new();
    backfill(&open.agent, &["--template", "{log}"]);
    open.pieces(&["1", "2"]);
    open.log.raw(ASIDE);
    open.killed_before_its_commit(|agent| backfill(agent, &["--template", "{log}"]));
    open.pieces(&["3"]);
    open.ends();
    backfill(&open.agent, &["--format", "docker"]);
    open.log.raw(ASIDE);
    backfill(&open.agent, &["--format", "docker"]);
    let joined = piece("1") + &piece("2") + &piece("3") + "end\n";
    assert_eq!(output(&open.agent), lines(0, 1) + "aside\n" + &joined + ASIDE, "joined, then kept");
    open.audit();

    let open = OpenLine::new();
    backfill(&open.agent, &["--format", "docker"]);
    let first = output(&open.agent);
    open.pieces(&["1", "2"]);
    open.log.raw(ASIDE);
    open.killed_before_its_commit(|agent| backfill(agent, &["--format", "docker"]));
    open.pieces(&["3"]);
    open.ends();
    backfill(&open.agent, &["--template", "{log}"]);
    let entries = [kept(&piece("1")), kept(&piece("2")), ASIDE.to_owned()].concat();
    assert_eq!(output(&open.agent), first + &entries + &piece("3") + "end\n", "kept, then joined");
    open.audit();
}

/// Its first record went out under the settings of before, the rest under others.
#[test]
fn a_long_line_goes_on_under_other_settings() {
    for length in ["48KiB", "32KiB"] {
        let open = OpenLine::new();
        open.pieces(&["1", "2", "3", "4"]);
        backfill(&open.agent, &["--template", "A {log}", "--max-line-bytes", "48KiB"]);
        open.pieces(&["5", "6", "7"]);
        open.ends();
        backfill(&open.agent, &["--template", "B {log}", "--max-line-bytes", length]);
        let first: String = ["1", "2", "3"].map(piece).concat();
        let rest: Vec<String> = match length {
            "48KiB" => vec![["4", "5", "6"].map(piece).concat(), piece("7") + "end"],
            _ => vec![["4", "5"].map(piece).concat(), ["6", "7"].map(piece).concat(), "end".to_owned()],
        };
        let rest: String = rest.iter().map(|text| format!("B {text}\n")).collect();
        let before = format!("A {}A {first}\n", lines(0, 1));
        assert_eq!(output(&open.agent), before + &rest);
        open.audit();
    }
}

/// More lines of the newer one than are searched.
#[test]
fn the_older_one_is_found_again_in_its_own_part_when_the_store_is_lost() {
    let root = Root::new();
    root.container('a', "web", OLDER).lines(0, 50);
    let text: String = (0..66_000)
        .map(|n| format!("{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-25T02:00:00.{n:09}Z\"}}\n"))
        .collect();
    root.container('b', "web", NEWER).raw(&text);
    let agent = Longshore::new(root.path());
    backfill(&agent, &[]);
    let whole = output(&agent);
    assert_eq!(whole.lines().count(), 66_050);
    fs::remove_dir_all(agent.state_dir()).expect("lose the store");
    backfill(&agent, &[]);
    assert!(output(&agent) == whole, "{} lines", output(&agent).lines().count());
    // What they write from now on goes behind all of it.
    fs::remove_dir_all(agent.state_dir()).expect("lose the store again");
    Log::of(&root, 'a').lines(50, 60);
    Log::of(&root, 'b').lines(70, 75);
    backfill(&agent, &["--template", "{log}"]);
    assert!(output(&agent) == whole + &lines(50, 60) + &lines(70, 75));
}

/// Of what the older one wrote, retention left nothing.
#[test]
fn the_older_one_of_which_nothing_is_kept_is_not_written_again_when_the_store_is_lost() {
    let root = Root::new();
    let older = root.container('a', "web", OLDER);
    older.lines(0, 50);
    let newer = root.container('b', "web", NEWER);
    newer.lines(100, 400);
    let agent = Longshore::new(root.path());
    let keeping = ["--limit", "2KB", "--max-files", "3"];
    for (template, n) in [(&[][..], 0), (&["--template", "{log}"], 2)] {
        let log = fs::File::options().append(true).open(older.path()).expect("open the older log");
        log.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000))
            .expect("it ended before the newer began");
        let flags = [template, &keeping].concat();
        backfill(&agent, &flags);
        let kept = output(&agent);
        assert!(!kept.contains("line 49 "), "{kept}");
        for n_entries in [1, 0] {
            fs::remove_dir_all(agent.state_dir()).expect("lose the store");
            backfill(&agent, &flags);
            assert_eq!(output(&agent), kept);
            let ledger = String::from_utf8(agent.tell("ledger", &[]).stdout).expect("text");
            assert_eq!(ledger.matches("ambiguous").count(), n_entries, "{ledger}");
        }
        // What both write from now on is wanted.
        older.lines(50 + n, 52 + n);
        newer.lines(400 + n, 402 + n);
        backfill(&agent, &flags);
        for line in [lines(50 + n, 52 + n), lines(400 + n, 402 + n)].concat().lines() {
            assert_eq!(output(&agent).lines().filter(|there| there.ends_with(line)).count(), 1, "{line}");
        }
        let audit = agent.tell("verify", &[]);
        assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stdout));
        fs::remove_dir_all(agent.log_path()).expect("begin anew");
        fs::remove_dir_all(agent.state_dir()).expect("begin anew");
    }
}

/// What is held against the output in other settings as well is bounded all the same.
#[test]
fn until_counts_after_a_change_of_settings() {
    let root = Root::new();
    let log = root.container('a', "web", OLDER);
    log.lines(0, 3);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--template", "{log}"]);
    log.lines(3, 6);
    log.entry("late\\n", "stdout", "2026-11-26T00:00:00Z");
    backfill(&agent, &["--template", "> {log}", "--until", "2026-11-25T23:00:00Z"]);
    let rest: String = lines(3, 6).lines().map(|line| format!("> {line}\n")).collect();
    assert_eq!(output(&agent), lines(0, 3) + &rest);
}
