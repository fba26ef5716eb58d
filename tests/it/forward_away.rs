//! A receiver that is away for longer than the engine keeps its logs, while the agent dies; and what is left of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::forward::{Setting, expected, http, text};
use crate::harness::{Longshore, PATIENCE, until};
use crate::receiver::{Receiver, Reply};
use crate::verify::{Log, Root};

const CREATED: &str = "2026-11-25T00:00:00Z";
const BATCH: usize = 5;
const WORKERS: usize = 1;
/// Sealed batches that may be answered before the next commit says so, and the one that is on its way.
const UNSTORED_MAX: usize = (16 * WORKERS + WORKERS) * BATCH;

/// The files' reader and the sink both have the log, and the sink what was rotated: a walk opens the newest first, so the
/// next rotation could take away what it has not come to.
fn wait_until_open(agent: &Longshore, log: &Log) {
    let n_open = |path: &Path| agent.open_files().iter().filter(|file| Path::new(file) == path).count();
    until("the log is open", PATIENCE, || n_open(log.path()) >= 2);
    let rotated = log.sibling(1);
    until("the rotated log is open", PATIENCE, || !rotated.exists() || n_open(&rotated) >= 1);
}

/// Nothing of the log is kept by a descriptor alone.
fn wait_until_spooled(agent: &Longshore, log: &Log) {
    let directory = log.directory.to_str().expect("a path").to_owned();
    let is_held = |file: &String| file.starts_with(&directory) && file.ends_with("(deleted)");
    until("deleted logs are copied", PATIENCE, || !agent.open_files().iter().any(is_held));
}

fn ledger(agent: &Longshore) -> Vec<Value> {
    serde_json::from_slice(&agent.tell("ledger", &["--json"]).stdout).expect("the ledger is JSON")
}

fn spool_files(agent: &Longshore) -> usize {
    fs::read_dir(agent.state_dir().join("spool/out")).map_or(0, Iterator::count)
}

/// The lines in the order in which they first came, and how many came again. An id stands for one line.
fn first_times(receiver: &Receiver) -> (Vec<String>, usize) {
    let (mut lines, mut by_id, mut n_repeats) = (Vec::new(), BTreeMap::new(), 0);
    for (id, line) in receiver.field("id").into_iter().zip(receiver.field("line")) {
        match by_id.insert(id.clone(), line.clone()) {
            Some(before) => {
                assert_eq!(before, line, "{id} stands for one line");
                n_repeats += 1;
            }
            None => lines.push(line),
        }
    }
    (lines, n_repeats)
}

fn setting(receiver: &Receiver, more: &str) -> Setting {
    let options = format!("batch = {BATCH}\nworkers = {WORKERS}\nfields.id = '{{record}}'\n{more}");
    http(&receiver.url(), &options)
}

/// All there is arrives, through a death behind so many requests each time.
fn come_back(agent: &mut Longshore, receiver: &Receiver, path: &str, last: &str, deaths: &[usize]) {
    receiver.be_well();
    for n_requests in deaths {
        agent.start(&["--config", path]);
        until("some arrive", PATIENCE, || receiver.taken().len() >= *n_requests);
        agent.kill9();
    }
    agent.start(&["--config", path]);
    until("all arrives", PATIENCE, || receiver.field("line").iter().any(|line| line == last));
    agent.drain();
    let (_, n_repeats) = first_times(receiver);
    assert!(n_repeats <= deaths.len() * UNSTORED_MAX, "at most what one commit takes comes again: {n_repeats}");
    let mut batch_of = BTreeMap::new();
    for request in receiver.taken() {
        let batch = request.header("idempotency-key").to_owned();
        for record in &request.records {
            let before = batch_of.entry(record["id"].to_string()).or_insert_with(|| batch.clone());
            assert_eq!(*before, batch, "a record comes again only with its batch");
        }
    }
}

#[test]
fn a_receiver_away_for_longer_than_docker_keeps_logs_gets_everything_through_thirty_deaths() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    let receiver = Receiver::start();
    receiver.set_mood(|_| Reply::Refuse(503, ""));
    let setting = setting(&receiver, "");
    let path = setting.path();
    let mut agent = Longshore::new(root.path());
    let mut n = 0;
    let mut write = |log: &Log| {
        log.lines(n, n + 40);
        n += 40;
    };
    for round in 0..30 {
        agent.start(&["--config", &path]);
        write(&log);
        wait_until_open(&agent, &log);
        if round % 5 == 4 {
            for _ in 0..2 {
                log.rotate_keeping_one();
                write(&log);
                wait_until_open(&agent, &log);
            }
            wait_until_spooled(&agent, &log);
        }
        // Not a wait for anything: the death comes at any moment.
        agent.run_for(Duration::from_millis(7 * (round % 4)));
        agent.kill9();
    }
    assert!(spool_files(&agent) >= 10, "{}", spool_files(&agent));
    assert!(receiver.taken().is_empty());
    come_back(&mut agent, &receiver, &path, &expected(0, 40 * 42)[40 * 42 - 1], &[2, 40, 100]);
    assert_eq!(first_times(&receiver).0, expected(0, 40 * 42), "each once, in order");
    assert_eq!(ledger(&agent), Vec::<Value>::new());
    assert_eq!(spool_files(&agent), 0);
}

#[test]
fn what_dies_with_the_agent_before_it_was_copied_is_in_the_ledger() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    let receiver = Receiver::start();
    receiver.set_mood(|_| Reply::Refuse(503, ""));
    let setting = setting(&receiver, "");
    let path = setting.path();
    let mut agent = Longshore::new(root.path());
    for round in 0..30 {
        agent.start(&["--config", &path]);
        log.lines(round * 40, round * 40 + 40);
        wait_until_open(&agent, &log);
        agent.run_for(Duration::from_millis(7 * (round as u64 % 4)));
        agent.kill9();
        log.rotate_keeping_one();
    }
    log.lines(1200, 1210);
    come_back(&mut agent, &receiver, &path, "line 1209 of a log that somebody reads", &[]);
    let (lines, _) = first_times(&receiver);
    let there: BTreeSet<&String> = lines.iter().collect();
    let written = expected(0, 1210);
    let in_order: Vec<&String> = written.iter().filter(|line| there.contains(line)).collect();
    assert_eq!(lines.iter().collect::<Vec<_>>(), in_order, "what was written, in order");
    let losses = ledger(&agent);
    let of_sink = |loss: &&Value| loss["sink"] == "out";
    assert!(lines.len() < written.len() && losses.iter().any(|loss| of_sink(&loss)), "{losses:#?}");
}

#[test]
fn a_stopped_agent_leaves_nothing_to_docker_and_the_next_one_sends_it() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    let receiver = Receiver::start();
    receiver.set_mood(|_| Reply::Refuse(503, ""));
    let setting = http(&receiver.url(), "fields.id = '{record}'");
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    for round in 0..4 {
        log.lines(round * 300, round * 300 + 300);
        wait_until_open(&agent, &log);
        log.rotate_keeping_one();
    }
    log.lines(1200, 1210);
    wait_until_open(&agent, &log);
    // With its container: nothing but the spool will have it.
    fs::remove_dir_all(&log.directory).expect("docker rm");
    agent.drain();
    assert_eq!(spool_files(&agent), 5);
    root.container('b', "db", CREATED).lines(5000, 5001);
    let state = agent.tell("state list", &[]);
    let shown = text(&state.stdout);
    assert!(shown.contains("SINK  NAME") && shown.contains("out   web"), "{shown}");
    receiver.be_well();
    agent.start(&["--config", &setting.path()]);
    receiver.wait_for(1211);
    agent.drain();
    let lines = receiver.field("line");
    let of_web: Vec<String> = lines.into_iter().filter(|line| !line.starts_with("line 5000 ")).collect();
    assert_eq!(of_web, expected(0, 1210), "in order, and none twice");
    assert_eq!(spool_files(&agent), 0);
}

#[test]
fn what_a_sink_remembers_is_exported_imported_and_forgotten() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, 10);
    let receiver = Receiver::start();
    let setting = http(&receiver.url(), "");
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    receiver.wait_for(10);
    agent.drain();
    let exported = agent.tell("state export", &[]);
    let value: Value = serde_json::from_slice(&exported.stdout).expect("JSON");
    assert_eq!(
        (&value["sinks"][0]["name"], &value["sinks"][0]["containers"][0]["delivered"]),
        (&"out".into(), &10.into())
    );
    let listed: Value = serde_json::from_slice(&agent.tell("state list", &["--json"]).stdout).expect("JSON");
    assert_eq!((&listed[1]["sink"], &listed[1]["delivered"]), (&"out".into(), &10.into()), "{listed:#}");

    for args in [vec!["--sink", "loki"], vec!["db", "--sink", "out"]] {
        let done = agent.tell("state forget", &args);
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains("hint: longshore state list"), "{}", text(&done.stderr));
    }
    assert_eq!(agent.tell("state forget", &["web", "--sink", "out"]).status.code(), Some(0));
    agent.start(&["--config", &setting.path()]);
    receiver.wait_for(20);
    agent.drain();
    assert_eq!(agent.tell("state forget", &["--sink", "out"]).status.code(), Some(0));
    assert!(!text(&agent.tell("state list", &[]).stdout).contains("SINK"));

    fs::remove_dir_all(agent.state_dir()).expect("lose the state");
    let mut import = agent.command("state import", &[]);
    let input = agent.log_path().join("exported.json");
    fs::write(&input, &exported.stdout).expect("write it");
    import.stdin(fs::File::open(&input).expect("it is there"));
    assert!(import.status().expect("import").success());
    assert_eq!(agent.tell("state export", &[]).stdout, exported.stdout, "the round is whole");
    log.lines(10, 12);
    agent.start(&["--config", &setting.path()]);
    receiver.wait_for(22);
    agent.drain();
    assert_eq!(receiver.field("line")[20..], expected(10, 12)[..], "it goes on where it stood");

    agent.start(&["--listen", "none"]);
    agent.wait_for_lines("web", 12);
    agent.drain();
    let said = agent.own_log_text();
    assert!(said.contains("its positions stay for a week: longshore state forget --sink drops them"), "{said}");
}
