//! Where a container begins in its log and in its output: also where several have one output, as the attempts of a
//! pod's container do, or one that was made anew under its name.

use std::fs;

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
