//! Containers come, go, change their names and come back.

use std::thread;
use std::time::{Duration, SystemTime};

use crate::docker::{engine, mark};
use crate::harness::{Longshore, PATIENCE, assert_same, texts, until, within};
use crate::scripts;

#[test]
fn rename_while_running() {
    let Some(engine) = engine() else { return };
    let script = format!(
        "{}; {}; {}",
        scripts::paced("renamed", 1, 500, 20, 5_000),
        scripts::await_word("go"),
        scripts::paced("renamed", 501, 3000, 20, 20_000)
    );
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "rename-*"]);
    engine.run("rename-old", &[], &script);
    agent.wait_for_lines("rename-old", 500);
    engine.rename("rename-old", "rename-new");
    engine.tell("rename-old", "go");
    engine.wait_well("rename-new");
    until("the last line is out", PATIENCE, || {
        agent.outputs("rename-new").ends_with(scripts::lines("renamed", 3000, 3000).as_slice())
    });
    agent.drain();
    let (old, new) = (texts(&agent.outputs("rename-old")), texts(&agent.outputs("rename-new")));
    assert_same("both names", &[old, new].concat(), &scripts::lines("renamed", 1, 3000));
    engine.rm("rename-new");
}

#[test]
fn rm_right_after_a_burst() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "burst-rm"]);
    engine.run("burst-rm", &[], "seq 1 100000; touch /ctl/written; sleep 600");
    until("the burst is written", PATIENCE, || engine.ctl("burst-rm").join("written").exists());
    engine.rm("burst-rm");
    agent.wait_for_lines("burst-rm", 100_000);
    agent.drain();
    assert_same("a burst before rm", &texts(&agent.outputs("burst-rm")), &scripts::numbers(1, 100_000));
}

#[test]
fn a_container_that_removes_itself_after_a_burst() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "burst-self"]);
    engine.run("burst-self", &["--rm"], "seq 1 100000");
    agent.wait_for_lines("burst-self", 100_000);
    agent.drain();
    assert_same("a burst with --rm", &texts(&agent.outputs("burst-self")), &scripts::numbers(1, 100_000));
}

#[test]
fn recreate_under_the_same_name() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "again"]);
    for life in 0..4 {
        engine.run("again", &[], &format!("seq {} {}", life * 20_000 + 1, (life + 1) * 20_000));
        // Removed as soon as it has ended, and followed at once: the older one may not be drained yet.
        engine.wait_well("again");
        engine.rm("again");
    }
    agent.wait_for_lines("again", 80_000);
    agent.drain();
    assert_same("four lives", &texts(&agent.outputs("again")), &scripts::numbers(1, 80_000));
}

#[test]
fn restart_goes_on_in_the_same_file() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "restarted"]);
    engine.run("restarted", &["--restart=on-failure:4"], "seq 1 3000; exit 1");
    agent.wait_for_lines("restarted", 5 * 3000);
    engine.wait("restarted");
    agent.drain();
    assert_same("five runs", &texts(&agent.outputs("restarted")), &scripts::numbers(1, 3000).repeat(5));
    engine.rm("restarted");
}

#[test]
fn fifty_containers_that_live_200_ms() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "short-*"]);
    let names: Vec<String> = (0..50).map(|number| format!("short-{number:02}")).collect();
    let engine = &engine;
    thread::scope(|scope| {
        for half in names.chunks(25) {
            scope.spawn(move || {
                for name in half {
                    engine.run(name, &["--rm"], &scripts::paced(name, 1, 200, 10, 10_000));
                }
            });
        }
    });
    for name in &names {
        agent.wait_for_lines(name, 200);
    }
    agent.drain();
    for name in &names {
        assert_same(name, &texts(&agent.outputs(name)), &scripts::lines(name, 1, 200));
    }
}

#[test]
fn agent_starts_before_the_container_and_stops_after_it() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    engine.run("beside", &[], &scripts::until_stopped("beside", 10, 10_000));
    agent.start(&["-n", "beside"]);
    agent.wait_for_lines("beside", 100);
    // Beside a running agent: the store can't be opened twice, so the agent answers.
    let table = agent.containers(&[]);
    let shown = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success() && shown.contains("beside"), "{shown}{}", String::from_utf8_lossy(&table.stderr));
    let second = agent.backfill(&["-n", "beside"]);
    assert_eq!(second.status.code(), Some(75), "a second agent: {}", String::from_utf8_lossy(&second.stderr));
    // Several clean restarts under load.
    for _ in 0..5 {
        agent.drain();
        agent.start(&["-n", "beside"]);
        agent.run_for(Duration::from_millis(150));
    }
    engine.tell("beside", "stop");
    engine.wait_well("beside");
    let n = engine.told("beside", "count").and_then(|count| count.parse().ok()).expect("the count of lines");
    agent.wait_for_lines("beside", n);
    agent.drain();
    assert_same("restarts", &texts(&agent.outputs("beside")), &scripts::lines("beside", 1, n));
    engine.rm("beside");
}

/// Measured and said, not asserted: how long after dockerd took a line's time the line is in our file.
#[test]
fn latency_of_the_first_line_is_told() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "first-*"]);
    let mut latencies_ms = Vec::new();
    for number in 0..10 {
        let name = format!("first-{number}");
        let engine = &engine;
        let agent = &agent;
        thread::scope(|scope| {
            let name = &name;
            scope.spawn(move || engine.run(name, &["--rm"], "echo first; usleep 300000"));
            let mut output = Vec::new();
            let seen = within(PATIENCE, || {
                output = agent.outputs(name);
                !output.is_empty()
            });
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
            assert!(seen, "{name}: no line");
            latencies_ms.push((now.as_nanos() as i128 - written_at_ns(&output)) / 1_000_000);
        });
    }
    agent.drain();
    latencies_ms.sort_unstable();
    mark(&format!("note first line after {} ms at the median, {} ms at most", latencies_ms[5], latencies_ms[9]));
}

fn written_at_ns(output: &[u8]) -> i128 {
    let time = std::str::from_utf8(&output[..crate::harness::TIME_BYTES]).expect("a time");
    time.parse::<jiff::Timestamp>().expect("a time").as_nanosecond()
}
