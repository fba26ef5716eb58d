//! `longshore ledger` and `longshore state`.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::harness::{Longshore, PATIENCE, n_lines, until};
use crate::verify::Root;

const QUIET: [&str; 2] = ["--progress", "never"];

pub fn parsed(done: &Output) -> Value {
    serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)))
}

pub fn import(agent: &Longshore, exported: &[u8], args: &[&str]) -> i32 {
    let mut child = agent
        .command("state import", args)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start longshore state import");
    child.stdin.take().expect("its stdin").write_all(exported).expect("write to it");
    child.wait().expect("wait for it").code().expect("an exit code")
}

/// Neither what is imported nor the journal, where others may write, leads out of log-path.
#[test]
fn no_remembered_output_leaves_the_log_path() {
    let root = Root::new();
    root.container('a', "web", "2026-11-25T00:00:00Z").lines(0, 10);
    let agent = Longshore::new(root.path());
    agent.backfill(&QUIET);
    let outside = agent.log_path().with_file_name("outside");
    let exported = String::from_utf8(agent.tell("state export", &[]).stdout).expect("text");
    for route in [outside.join("web.log").to_str().expect("a path"), "../outside/web.log", ""] {
        let changed = exported.replace("web/web.log", route);
        assert!(changed != exported);
        assert_eq!(import(&agent, changed.as_bytes(), &["--force"]), 2, "{route}");
    }
    let whole = agent.outputs("web");
    let journal = agent.log_path().join(".longshore/outputs.jsonl");
    let notes = fs::read_to_string(&journal).expect("read the journal");
    fs::write(&journal, notes.replace("web/web.log", "../outside/web.log")).expect("change it");
    fs::remove_dir_all(agent.state_dir()).expect("lose the store");
    assert_eq!(agent.backfill(&QUIET).status.code(), Some(0));
    assert!(!outside.exists());
    assert!(agent.outputs("web") == whole, "it is searched for in its own output");
}

#[test]
fn the_ledger_is_told_with_and_without_an_agent() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 5);
    let path = fs::read_dir(&log.directory).expect("list").map(|entry| entry.expect("an entry").path());
    let path = path.into_iter().find(|path| path.extension().is_some_and(|it| it == "log")).expect("the log");
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("open the log");
    file.write_all(b"no json at all\n").expect("write to it");
    log.lines(5, 10);
    let mut agent = Longshore::new(root.path());
    assert_eq!(agent.tell("ledger", &[]).status.code(), Some(0), "without a store it is empty");
    assert!(!agent.state_dir().exists(), "a look makes no store");
    agent.backfill(&QUIET);
    let entries = parsed(&agent.tell("ledger", &["--json"]));
    assert_eq!(entries.as_array().map(Vec::len), Some(1), "{entries:#}");
    assert_eq!(entries[0]["reason"], "malformed");
    assert_eq!(entries[0]["end"].as_u64().zip(entries[0]["start"].as_u64()).map(|(end, start)| end - start), Some(14));
    let table = String::from_utf8(agent.tell("ledger", &[]).stdout).expect("text");
    assert!(table.contains("REASON") && table.contains("malformed"), "{table}");

    agent.start(&[]);
    agent.wait_for_lines("web", 10);
    // Not before: a look at the store would hold the lock that the agent needs.
    until("the agent answers", PATIENCE, || agent.state_dir().join("control.sock").exists());
    assert_eq!(parsed(&agent.tell("ledger", &["--json"])), entries);
    for verb in ["state list", "state export", "state forget web"] {
        let done = agent.tell(verb, &[]);
        assert_eq!(done.status.code(), Some(75), "{verb}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("hint: "), "{verb}");
    }
    agent.drain();
}

#[test]
fn an_agent_moves_to_another_state_dir_and_repeats_nothing() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 100);
    let agent = Longshore::new(root.path());
    agent.backfill(&QUIET);
    let listed = parsed(&agent.tell("state list", &["--json"]));
    assert_eq!((&listed[0]["name"], &listed[0]["output"]), (&"web".into(), &"web/web.log".into()), "{listed:#}");
    assert_eq!(listed[0]["head_known"], true);
    assert!(String::from_utf8_lossy(&agent.tell("state list", &[]).stdout).contains("web/web.log"));

    let exported = agent.tell("state export", &[]).stdout;
    assert_eq!(import(&agent, &exported, &[]), 1, "there are rows");
    assert_eq!(import(&agent, &exported, &["--force"]), 0);
    assert_eq!(import(&agent, b"{}", &["--force"]), 2, "no export");
    fs::remove_dir_all(agent.state_dir()).expect("lose the state");
    assert_eq!(import(&agent, &exported, &[]), 0);
    assert_eq!(agent.tell("state export", &[]).stdout, exported, "the round is whole");
    log.lines(100, 120);
    agent.backfill(&QUIET);
    assert_eq!(n_lines(&agent.outputs("web")), 120);
}

#[test]
fn a_forgotten_container_is_searched_for_in_its_output() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 100);
    let agent = Longshore::new(root.path());
    agent.backfill(&QUIET);
    assert_eq!(agent.tell("state forget nobody", &[]).status.code(), Some(1));
    assert_eq!(agent.tell("state forget web", &[]).status.code(), Some(0));
    assert_eq!(parsed(&agent.tell("state list", &["--json"])).as_array().map(Vec::len), Some(0));
    log.lines(100, 120);
    agent.backfill(&QUIET);
    assert_eq!(n_lines(&agent.outputs("web")), 120, "its place was found in the output");

    assert_eq!(agent.tell("state forget aaaaaaaaaaaa", &[]).status.code(), Some(0));
    fs::remove_file(agent.log_path().join("web/web.log")).expect("remove the output");
    agent.backfill(&QUIET);
    assert_eq!(n_lines(&agent.outputs("web")), 120, "all of it is written again");
}

#[test]
fn a_state_dir_that_is_a_file_is_not_an_empty_state() {
    let agent = Longshore::new(Root::new().path());
    fs::write(agent.state_dir(), "").expect("a file in its place");
    for verb in ["state list", "state export", "state forget web", "ledger", "verify"] {
        let done = agent.tell(verb, &[]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{verb}: {said}");
        assert!(said.contains("is not a directory\nhint: --state-dir"), "{verb}: {said}");
    }
}

#[test]
fn nobody_is_forgotten_by_an_empty_name() {
    let done = Longshore::new(Root::new().path()).tell("state forget", &[""]);
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("no container is named\nhint: "));
}

#[test]
fn a_state_dir_that_goes_while_the_agent_runs_is_told_and_made_anew() {
    let root = Root::new();
    let log = root.container('a', "web", "2026-11-25T00:00:00Z");
    log.lines(0, 10);
    let mut agent = Longshore::new(root.path());
    agent.start(&[]);
    agent.wait_for_lines("web", 10);
    // A commit under way may put a file into it once more.
    until("the state is removed", PATIENCE, || {
        fs::remove_dir_all(agent.state_dir()).is_ok() || !agent.state_dir().exists()
    });
    log.lines(10, 20);
    agent.wait_for_lines("web", 20);
    until("it says so, and goes on", PATIENCE, || agent.own_log_text().contains("commits go through again"));
    let said = agent.own_log_text();
    let told = said.lines().find(|line| line.contains("cannot commit; trying again")).unwrap_or_default();
    assert!(told.contains("ERROR") && told.contains("made anew") && told.contains("were removed"), "{said}");
    log.lines(20, 30);
    agent.wait_for_lines("web", 30);
    agent.drain();
    let listed = parsed(&agent.tell("state list", &["--json"]));
    assert_eq!(listed[0]["output"], "web/web.log", "its row is in the new one: {listed:#}");
    log.lines(30, 40);
    agent.backfill(&QUIET);
    assert_eq!(n_lines(&agent.outputs("web")), 40, "no line twice");
}
