//! The audit against outputs that are right, and against each way of being wrong. The logs are written here as dockerd
//! writes them, or are the fixture's.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Longshore, PATIENCE, n_lines, until};
use crate::verify_gaps::lines_of;

const QUIET: [&str; 2] = ["--progress", "never"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A containers directory of our own.
pub struct Root {
    directory: TempDir,
}

impl Root {
    pub fn new() -> Root {
        Root { directory: tempfile::Builder::new().prefix("root-").tempdir().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `digit` makes the id; `created` orders containers of one name.
    pub fn container(&self, digit: char, name: &str, created: &str) -> Log {
        self.labelled(digit, name, created, "{}")
    }

    /// With labels, as JSON.
    pub fn labelled(&self, digit: char, name: &str, created: &str, labels: &str) -> Log {
        let id: String = std::iter::repeat_n(digit, 64).collect();
        let directory = self.path().join(&id);
        fs::create_dir(&directory).expect("make a container");
        let config = format!(
            r#"{{"ID":"{id}","Name":"/{name}","Created":"{created}","Config":{{"Image":"i","Labels":{labels}}},"State":{{"Running":false}}}}"#
        );
        fs::write(directory.join("config.v2.json"), config).expect("write its config");
        fs::write(directory.join("hostconfig.json"), r#"{"LogConfig":{"Type":"json-file","Config":{}}}"#)
            .expect("write its options");
        Log { path: directory.join(format!("{id}-json.log")), directory }
    }
}

pub struct Log {
    path: PathBuf,
    pub directory: PathBuf,
}

/// A time for each number, a second apart.
pub fn time(n: usize) -> String {
    format!("2026-11-25T{:02}:{:02}:{:02}.000000{:03}Z", n / 3600 % 24, n / 60 % 60, n % 60, n % 1000)
}

impl Log {
    /// The log of a container that is there.
    pub fn of(root: &Root, digit: char) -> Log {
        let id: String = std::iter::repeat_n(digit, 64).collect();
        let directory = root.path().join(&id);
        Log { path: directory.join(format!("{id}-json.log")), directory }
    }

    pub fn lines(&self, from: usize, to: usize) {
        for n in from..to {
            self.entry(&format!("line {n} of a log that somebody reads\\n"), "stdout", &time(n));
        }
    }

    pub fn entry(&self, text: &str, stream: &str, time: &str) {
        self.raw(&format!("{{\"log\":\"{text}\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n"));
    }

    pub fn raw(&self, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path).expect("open the log");
        file.write_all(text.as_bytes()).expect("write the log");
    }

    /// As dockerd does with a max-file that no test comes to.
    pub fn rotate(&self) {
        let numbered = |n: usize| self.path.with_extension(format!("log.{n}"));
        for n in (1..200).rev() {
            if numbered(n).exists() {
                fs::rename(numbered(n), numbered(n + 1)).expect("rename a generation");
            }
        }
        fs::rename(&self.path, numbered(1)).expect("rename the log");
    }

    /// As dockerd does with max-file=2: the generation before the last is deleted.
    pub fn rotate_keeping_one(&self) {
        fs::rename(&self.path, self.sibling(1)).expect("rename the log");
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn sibling(&self, n: usize) -> PathBuf {
        self.path.with_extension(format!("log.{n}"))
    }
}

/// What the audit says of one container.
pub struct Verdict {
    exit: i32,
    pub value: Value,
    pub shown: String,
}

impl Verdict {
    pub fn of(agent: &Longshore, name: &str) -> Verdict {
        let done = agent.tell("verify", &["--json", "-n", name]);
        let shown = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let all: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {shown}"));
        Verdict { exit: done.status.code().expect("an exit code"), value: all[0].clone(), shown }
    }

    pub fn count(&self, class: &str) -> u64 {
        self.value[class].as_u64().unwrap_or_else(|| panic!("no {class} in {}", self.shown))
    }

    /// The classes named have these counts, all others none; and the exit code that goes with it.
    pub fn check(&self, what: &str, exit: i32, counts: &[(&str, u64)]) {
        const CLASSES: [&str; 12] = [
            "delivered",
            "other_settings",
            "pending",
            "pruned",
            "filtered",
            "before_begin",
            "only_copy",
            "missing",
            "repeated",
            "out_of_order",
            "altered",
            "foreign",
        ];
        for class in CLASSES {
            let expected = counts.iter().find(|(name, _)| *name == class).map_or(0, |(_, count)| *count);
            assert_eq!(self.count(class), expected, "{what}: {class}\n{}", self.shown);
        }
        assert_eq!(self.exit, exit, "{what}\n{}", self.shown);
    }
}

impl Verdict {
    /// Fine, and so many lines under earlier settings and those in force. The agent holds the first new line against
    /// the output before it takes new settings, so that one may still have the old ones.
    pub fn check_settings(&self, what: &str, old: u64, new: u64, others: &[(&str, u64)]) {
        let n_late = self.count("other_settings").saturating_sub(old);
        assert!(n_late <= 1, "{what}\n{}", self.shown);
        let counts = [&[("other_settings", old + n_late), ("delivered", new - n_late)], others].concat();
        self.check(what, 0, &counts);
    }

    /// Not fine, with so many lines where they should be, under whichever settings.
    pub fn check_wrong(&self, what: &str, n_right: u64, others: &[(&str, u64)]) {
        let old = self.count("other_settings");
        let counts = [&[("other_settings", old), ("delivered", n_right.saturating_sub(old))], others].concat();
        self.check(what, 1, &counts);
    }
}

pub fn backfill(agent: &Longshore, args: &[&str]) {
    let done = agent.backfill(&[&QUIET[..], args].concat());
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_fixture_is_delivered_and_counted() {
    let agent = Longshore::new(&fixtures().join("containers"));
    for args in [&["--limit", "20kB", "-c", "gzip"][..], &["--limit", "20kB", "-c", "zstd"]] {
        backfill(&agent, args);
        for entry in fs::read_dir(fixtures().join("containers.expected")).expect("list the expected outputs") {
            let path = entry.expect("list the expected outputs").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let n = n_lines(&fs::read(&path).expect("read an expected output")) as u64;
            Verdict::of(&agent, &name).check(&name, 0, &[("delivered", n)]);
        }
    }
    let table = agent.tell("verify", &[]);
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(text.lines().count() == 5 && text.contains("DELIVERED"), "{text}");
}

/// One output of a log of 1,000 lines in segments, damaged and put back again.
struct Damaged {
    agent: Longshore,
    _root: Root,
}

impl Damaged {
    fn new() -> Damaged {
        let root = Root::new();
        let log = root.container('a', "web", "2026-11-25T00:00:00Z");
        log.lines(0, 400);
        log.rotate();
        log.lines(400, 1000);
        let agent = Longshore::new(root.path());
        backfill(&agent, &["--limit", "20kB"]);
        assert!(agent.n_rotated("web") >= 3);
        Damaged { agent, _root: root }
    }

    fn path(&self, segment: Option<usize>) -> PathBuf {
        let current = self.agent.log_path().join("web/web.log");
        segment.map_or(current.clone(), |number| current.with_extension(format!("log.{number}")))
    }

    /// Lets `damage` change a segment's lines, and checks what the audit then says.
    fn case(
        &self,
        what: &str,
        segment: Option<usize>,
        damage: impl Fn(&mut Vec<Vec<u8>>),
        exit: i32,
        counts: &[(&str, u64)],
    ) {
        let path = self.path(segment);
        let before = fs::read(&path).expect("read a segment");
        let mut lines: Vec<Vec<u8>> = before.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        damage(&mut lines);
        fs::write(&path, lines.concat()).expect("damage a segment");
        Verdict::of(&self.agent, "web").check(what, exit, counts);
        fs::write(&path, before).expect("put it back");
    }
}

#[test]
fn each_damage_has_its_class() {
    let it = Damaged::new();
    Verdict::of(&it.agent, "web").check("untouched", 0, &[("delivered", 1000)]);
    let two = Some(2);
    it.case("a line removed", two, |lines| drop(lines.remove(7)), 1, &[("delivered", 999), ("missing", 1)]);
    let twice = |lines: &mut Vec<Vec<u8>>| lines.insert(8, lines[7].clone());
    it.case("a line doubled", two, twice, 1, &[("delivered", 1000), ("repeated", 1)]);
    let far = |lines: &mut Vec<Vec<u8>>| lines.push(lines[7].clone());
    it.case("a line repeated later", two, far, 1, &[("delivered", 1000), ("repeated", 1)]);
    let early = |lines: &mut Vec<Vec<u8>>| lines.insert(7, lines[100].clone());
    it.case("a line repeated before itself", two, early, 1, &[("delivered", 1000), ("repeated", 1)]);
    let swap = |lines: &mut Vec<Vec<u8>>| lines.swap(7, 8);
    it.case("two lines swapped", two, swap, 1, &[("delivered", 999), ("out_of_order", 1)]);
    let moved = |lines: &mut Vec<Vec<u8>>| {
        let line = lines.remove(7);
        lines.push(line);
    };
    it.case("a line moved", two, moved, 1, &[("delivered", 999), ("out_of_order", 1)]);
    for at in [3, 40] {
        let alter = |lines: &mut Vec<Vec<u8>>| lines[7][at] ^= 1;
        it.case("a byte altered", two, alter, 1, &[("delivered", 999), ("altered", 1)]);
    }
    let foreign = |lines: &mut Vec<Vec<u8>>| lines.push(b"somebody else wrote this\n".to_vec());
    it.case("a foreign line at the end", None, foreign, 1, &[("delivered", 1000), ("foreign", 1)]);
    it.case("a foreign line within", two, foreign, 1, &[("delivered", 1000), ("foreign", 1)]);
    let cut = |lines: &mut Vec<Vec<u8>>| {
        lines.truncate(8);
        lines[7].truncate(20);
    };
    let n_current = n_lines(&fs::read(it.path(None)).expect("read the current file")) as u64;
    let left = [("delivered", 1000 - n_current + 7), ("missing", n_current - 8), ("altered", 1)];
    it.case("the current file shortened", None, cut, 1, &left);
    let n_second = n_lines(&fs::read(it.path(two)).expect("read a segment")) as u64;
    it.case("a segment emptied", two, Vec::clear, 1, &[("delivered", 1000 - n_second), ("missing", n_second)]);
    let all_twice = |lines: &mut Vec<Vec<u8>>| lines.extend(lines.clone());
    it.case("a segment doubled", two, all_twice, 1, &[("delivered", 1000), ("repeated", n_second)]);

    // Without its file a segment is missing, unless retention removed it.
    let kept = fs::read(it.path(two)).expect("read a segment");
    fs::remove_file(it.path(two)).expect("remove a segment");
    let verdict = Verdict::of(&it.agent, "web");
    verdict.check("a segment removed", 1, &[("delivered", 1000 - n_second), ("missing", n_second)]);
    let ranges = verdict.value["missing_ranges"].as_array().expect("ranges");
    assert_eq!(ranges.len(), 2, "the log was rotated within it: {}", verdict.shown);
    assert_eq!(ranges.iter().filter_map(|range| range["lines"].as_u64()).sum::<u64>(), n_second);
    let range = &ranges[0];
    assert!(range["end"].as_u64() > range["start"].as_u64() && range["explained"].is_null(), "{}", verdict.shown);
    fs::write(it.path(two), kept).expect("put it back");
    let n_first = n_lines(&fs::read(it.path(Some(1))).expect("read a segment")) as u64;
    fs::remove_file(it.path(Some(1))).expect("remove a segment");
    Verdict::of(&it.agent, "web").check("removed", 1, &[("delivered", 1000 - n_first), ("missing", n_first)]);
    // Where nobody noted what retention removes, it may have been that.
    fs::remove_file(it.agent.log_path().join(".longshore/pruned.jsonl")).expect("remove the notes");
    Verdict::of(&it.agent, "web").check("pruned", 0, &[("delivered", 1000 - n_first), ("pruned", n_first)]);
}

#[test]
fn compressed_segments_are_read_and_their_damage_is_named() {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 1000);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--limit", "20kB", "-c", "gzip"]);
    Verdict::of(&agent, "web").check("compressed", 0, &[("delivered", 1000)]);
    let path = agent.log_path().join("web/web.log.2.gz");
    let bytes = fs::read(&path).expect("a compressed segment");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut it");
    let verdict = Verdict::of(&agent, "web");
    assert_eq!(verdict.exit, 1);
    assert!(verdict.count("missing") > 0 && verdict.count("foreign") == 0, "{}", verdict.shown);
    assert!(verdict.value["damaged"][0].as_str().is_some_and(|it| it.contains("segment 2")), "{}", verdict.shown);
}

#[test]
fn each_range_is_compared_under_its_own_settings() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 300);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--limit", "10kB"]);
    log.lines(300, 500);
    backfill(&agent, &["--limit", "10kB", "--template", "{name} {stream}: {log}"]);
    log.lines(500, 600);
    backfill(&agent, &["--limit", "10kB", "--format", "docker"]);
    log.lines(600, 700);
    backfill(&agent, &["--format", "json"]);
    Verdict::of(&agent, "web").check_settings("four settings", 600, 100, &[]);
    log.lines(700, 750);
    Verdict::of(&agent, "web").check_settings("more", 600, 100, &[("pending", 50)]);
}

#[test]
fn what_need_not_be_there_is_told_apart() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 300);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--from", "end"]);
    log.lines(300, 400);
    backfill(&agent, &["--from", "end"]);
    Verdict::of(&agent, "web").check("from end", 0, &[("before_begin", 300), ("delivered", 100)]);

    let agent = Longshore::new(root.path());
    backfill(&agent, &["--since", &time(100)]);
    Verdict::of(&agent, "web").check("since", 0, &[("filtered", 100), ("delivered", 300)]);
    log.lines(400, 450);
    backfill(&agent, &[]);
    Verdict::of(&agent, "web").check_settings("since no more", 300, 50, &[("filtered", 100)]);

    let agent = Longshore::new(root.path());
    backfill(&agent, &["--until", &time(400)]);
    Verdict::of(&agent, "web").check("until", 0, &[("delivered", 400), ("pending", 50)]);

    let agent = Longshore::new(root.path());
    Verdict::of(&agent, "web").check("never seen", 0, &[("pending", 450)]);
    backfill(&agent, &["--limit", "5kB", "--max-files", "2"]);
    let verdict = Verdict::of(&agent, "web");
    let n = n_lines(&agent.outputs("web")) as u64;
    verdict.check("retention", 0, &[("pruned", 450 - n), ("delivered", n)]);
}

#[test]
fn a_mistyped_name_is_no_clean_audit() {
    let it = Damaged::new();
    let done = it.agent.tell("verify", &["-n", "wbe"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("no container matches the selection"), "{said}");
    assert!(done.stdout.is_empty());
}

#[test]
fn output_whose_source_is_gone_is_the_only_copy() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 20_000);
    log.rotate();
    log.lines(20_000, 20_500);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--limit", "100kB"]);
    fs::remove_file(log.sibling(1)).expect("the engine removes a generation");
    Verdict::of(&agent, "web").check("rotated away", 0, &[("only_copy", 20_000), ("delivered", 500)]);
    fs::remove_dir_all(&log.directory).expect("the engine removes the container");
    Verdict::of(&agent, "web").check("removed", 0, &[("only_copy", 20_500)]);
}

#[test]
fn containers_of_one_output_are_compared_each_with_its_ranges() {
    let root = Root::new();
    let old = root.container('a', "web", "2026-11-25T00:00:00Z");
    old.lines(0, 200);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--limit", "5kB"]);
    root.container('b', "web", "2026-11-25T01:00:00Z").lines(200, 400);
    backfill(&agent, &["--limit", "5kB"]);
    let done = agent.tell("verify", &["--json"]);
    let all: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let delivered: Vec<_> = all.as_array().expect("a list").iter().map(|one| one["delivered"].as_u64()).collect();
    assert_eq!(delivered, [Some(200), Some(200)], "{all:#}");
    assert_eq!(done.status.code(), Some(0));
}

#[test]
fn torn_records_and_holes_are_counted_and_nothing_else() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 10);
    log.raw("{\"log\":\"torn");
    log.lines(10, 20);
    log.raw("\0\0\0\0\0\0\0\0");
    log.lines(20, 30);
    log.raw("no json at all\n");
    log.entry("two\\nlines\\n", "stderr", &time(31));
    let agent = Longshore::new(root.path());
    agent.backfill(&QUIET);
    let verdict = Verdict::of(&agent, "web");
    verdict.check("damaged source", 0, &[("delivered", 32)]);
    assert_eq!((verdict.count("malformed"), verdict.count("nul_bytes")), (2, 8), "{}", verdict.shown);
}

#[test]
fn a_line_ended_by_decision_may_stand_in_parts() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    let piece = "x".repeat(16_384);
    log.lines(0, 3);
    log.entry(&piece, "stdout", &time(3));
    let mut agent = Longshore::new(root.path());
    agent.start(&[]);
    // It doesn't run, so the open line is ended after some seconds.
    agent.wait_for_lines("web", 4);
    log.entry("on the other stream\\n", "stderr", &time(4));
    log.entry(&piece, "stdout", &time(3));
    log.entry("its end\\n", "stdout", &time(3));
    log.lines(5, 8);
    agent.wait_for_lines("web", 9);
    agent.drain();
    Verdict::of(&agent, "web").check("late pieces", 0, &[("delivered", 8)]);

    // One part alone is not the line, and is still told of.
    let path = agent.log_path().join("web/web.log");
    let mut lines = lines_of(&path);
    lines.retain(|line| !(line.len() > 16_384 && line.ends_with(b"its end\n")));
    fs::write(&path, lines.concat()).expect("remove the second part");
    let verdict = Verdict::of(&agent, "web");
    verdict.check("without its end", 1, &[("delivered", 7), ("altered", 1)]);
    drop(agent);

    // Without a decision it is one line; with max-line-bytes several.
    for (limit, n) in [("1MiB", 8), ("16KiB", 10)] {
        let agent = Longshore::new(root.path());
        backfill(&agent, &["--max-line-bytes", limit]);
        Verdict::of(&agent, "web").check(limit, 0, &[("delivered", n)]);
    }
}

#[test]
fn it_runs_beside_an_agent_that_writes() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 2000);
    let mut agent = Longshore::new(root.path());
    agent.start(&["--limit", "10kB", "-c", "gzip"]);
    agent.wait_for_lines("web", 1000);
    for round in 1..10 {
        log.lines(2000 * round, 2000 * (round + 1));
        let verdict = Verdict::of(&agent, "web");
        assert_eq!(verdict.exit, 0, "{}", verdict.shown);
        let wrong: u64 =
            ["missing", "repeated", "out_of_order", "altered", "foreign"].map(|it| verdict.count(it)).iter().sum();
        assert_eq!(wrong, 0, "{}", verdict.shown);
        assert_eq!(
            verdict.count("delivered") + verdict.count("pending"),
            2000 * (round as u64 + 1),
            "{}",
            verdict.shown
        );
        if round % 3 == 0 {
            log.rotate();
        }
    }
    agent.wait_for_lines("web", 20_000);
    // Until a commit tells of the last line.
    until("everything is delivered", PATIENCE, || Verdict::of(&agent, "web").count("delivered") == 20_000);
    agent.run_for(Duration::from_millis(1500));
    Verdict::of(&agent, "web").check("at rest", 0, &[("delivered", 20_000)]);
    agent.drain();
}

#[test]
fn a_line_split_by_its_length_may_be_ended_by_decision_too() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    let piece = |letter: &str| letter.repeat(16_384);
    log.lines(0, 3);
    for letter in ["a", "b", "c"] {
        log.entry(&piece(letter), "stdout", &time(3));
    }
    let mut agent = Longshore::new(root.path());
    agent.start(&["--max-line-bytes", "40000"]);
    // It doesn't run, so what is left of the open line is ended after some seconds.
    agent.wait_for_lines("web", 5);
    log.entry(&piece("d"), "stdout", &time(3));
    log.entry("its end\\n", "stdout", &time(3));
    log.lines(5, 8);
    agent.wait_for_lines("web", 9);
    agent.drain();
    Verdict::of(&agent, "web").check("split and ended", 0, &[("delivered", 8)]);

    let path = agent.log_path().join("web/web.log");
    let lines = lines_of(&path);
    for removed in 3..6 {
        fs::write(&path, [lines[..removed].concat(), lines[removed + 1..].concat()].concat()).expect("remove a part");
        let verdict = Verdict::of(&agent, "web");
        assert_eq!(verdict.exit, 1, "without part {removed}\n{}", verdict.shown);
        assert!(verdict.count("missing") + verdict.count("altered") > 0, "without part {removed}\n{}", verdict.shown);
    }
    fs::write(&path, [&lines[..6], &lines[4..5], &lines[6..]].concat().concat()).expect("repeat a part");
    Verdict::of(&agent, "web").check("a part twice", 1, &[("delivered", 8), ("repeated", 1)]);
}

#[test]
fn a_long_line_may_begin_before_lines_of_the_other_stream_and_end_behind_them() {
    for n_between in [1, 10] {
        let root = Root::new();
        let log = root.container('a', "web", "2026-11-25T00:00:00Z");
        log.lines(0, 3);
        for letter in ["a", "b", "c"] {
            log.entry(&letter.repeat(16_384), "stdout", &time(3));
        }
        for n in 0..n_between {
            log.entry("on the other stream\\n", "stderr", &time(4 + n));
        }
        log.entry("its end\\n", "stdout", &time(3));
        log.lines(20, 24);
        let agent = Longshore::new(root.path());
        backfill(&agent, &["--max-line-bytes", "40000"]);
        Verdict::of(&agent, "web").check("in between", 0, &[("delivered", 9 + n_between as u64)]);

        let path = agent.log_path().join("web/web.log");
        let mut lines = lines_of(&path);
        lines.remove(3);
        fs::write(&path, lines.concat()).expect("remove its beginning");
        let counts = [("delivered", 8 + n_between as u64), ("missing", 1)];
        Verdict::of(&agent, "web").check("without its beginning", 1, &counts);
    }
}

#[test]
fn a_long_line_whose_pieces_no_filter_would_pass_is_missing_all_the_same() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 3);
    log.entry(&"x".repeat(16_384), "stdout", &time(3));
    log.entry("its end\\n", "stdout", &time(3));
    log.lines(4, 8);
    let agent = Longshore::new(root.path());
    backfill(&agent, &["--filter-regex", "^line|^x.*end$"]);
    Verdict::of(&agent, "web").check("untouched", 0, &[("delivered", 8)]);
    let path = agent.log_path().join("web/web.log");
    let mut lines = lines_of(&path);
    lines.remove(3);
    fs::write(&path, lines.concat()).expect("remove the long line");
    Verdict::of(&agent, "web").check("without it", 1, &[("delivered", 7), ("missing", 1)]);
}
