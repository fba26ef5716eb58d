//! dockerd rotates under the agent, in every form it has.
//! The rates leave the agent a few generations' time: what an engine deletes faster, nobody can read.

use std::fs;

use crate::docker::engine;
use crate::harness::{Longshore, PATIENCE, assert_same, n_lines, texts, until};
use crate::scripts;

#[test]
fn one_generation_is_kept() {
    rotated("keep-1", &["--log-opt=max-size=200k", "--log-opt=max-file=1"], &[]);
}

#[test]
fn three_generations_are_kept() {
    rotated("keep-3", &["--log-opt=max-size=100k", "--log-opt=max-file=3"], &[]);
}

#[test]
fn three_compressed_generations_are_kept() {
    rotated("keep-3-gz", &["--log-opt=max-size=100k", "--log-opt=max-file=3", "--log-opt=compress=true"], &[]);
}

#[test]
fn outputs_rotate_and_are_compressed_meanwhile() {
    rotated("both-zst", &["--log-opt=max-size=100k", "--log-opt=max-file=3"], &["--limit", "50kB", "-c", "zstd"]);
}

/// 12,000 lines, 2 MB in Docker's file, in some four seconds.
fn rotated(name: &str, options: &[&str], args: &[&str]) {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&[&["-n", name], args].concat());
    let id = engine.run(name, options, &scripts::paced(name, 1, 12_000, 20, 5_000));
    engine.wait_well(name);
    assert!(engine.generations(&id).len() > 1, "the source was rotated");
    agent.wait_for_lines(name, 12_000);
    agent.drain();
    assert_same(name, &texts(&agent.outputs(name)), &scripts::lines(name, 1, 12_000));
    if args.contains(&"--limit") {
        assert!(agent.n_rotated(name) > 10, "the output was rotated");
    }
    engine.rm(name);
}

#[test]
fn truncation_in_place() {
    let Some(engine) = engine() else { return };
    let name = "truncated";
    const BATCHES: usize = 8;
    const LINES: usize = 40;
    // The last line of a batch is a long one and fills the file beyond max-size; the first of the next
    // truncates it. So nothing is lost when a batch waits until the one before it is out.
    let long = "y".repeat(15_000);
    let script: String = (0..BATCHES)
        .map(|batch| {
            let (first, last) = (batch * LINES + 1, (batch + 1) * LINES);
            let lines = scripts::paced(name, first, last, LINES, 0);
            format!("{}; {lines}; cat /ctl/long; ", scripts::await_word(&format!("batch-{batch}")))
        })
        .collect();
    let expected: Vec<u8> = (0..BATCHES)
        .flat_map(|batch| {
            let lines = scripts::lines(name, batch * LINES + 1, (batch + 1) * LINES);
            [lines.as_slice(), long.as_bytes(), b"\n"].concat()
        })
        .collect();
    fs::write(engine.ctl(name).join("long"), format!("{long}\n")).expect("write a control file");
    let id = engine.create(name, &["--log-opt=max-size=20k", "--log-opt=max-file=2"], &script);
    // dockerd can neither remove nor overwrite a directory with something in it, and truncates instead.
    let in_the_way = engine.log_file(&id).with_extension("log.1").join("x");
    fs::create_dir_all(in_the_way).expect("make a directory in the way of rotation");

    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", name]);
    engine.start_again(name);
    for batch in 0..BATCHES {
        engine.tell(name, &format!("batch-{batch}"));
        agent.wait_for_lines(name, (batch + 1) * (LINES + 1));
    }
    engine.wait_well(name);
    let left = fs::metadata(engine.log_file(&id)).expect("the source").len();
    assert!(left < 25_000, "the source was truncated, not left to grow: {left} bytes");
    agent.drain();
    assert_same(name, &texts(&agent.outputs(name)), &expected);
    engine.rm(name);
}

#[test]
fn backfill_reads_compressed_generations_of_a_stopped_container() {
    let Some(engine) = engine() else { return };
    let name = "stopped-gz";
    let options = ["--log-opt=max-size=50k", "--log-opt=max-file=30", "--log-opt=compress=true"];
    let id = engine.run(name, &options, &scripts::paced(name, 1, 6000, 100, 1000));
    engine.wait_well(name);
    // The last compression may outlive the container.
    until("the last generation is compressed", PATIENCE, || {
        !engine.generations(&id).iter().any(|generation| generation.ends_with("-json.log.1"))
    });
    let n_compressed = engine.generations(&id).iter().filter(|generation| generation.ends_with(".gz")).count();
    assert!(n_compressed > 10, "the source has compressed generations: {:?}", engine.generations(&id));

    let agent = Longshore::new(&engine.containers_dir());
    for round in ["first", "second"] {
        let done = agent.backfill(&["-n", name, "--progress", "never"]);
        assert_eq!(done.status.code(), Some(0), "{round} backfill: {}", String::from_utf8_lossy(&done.stderr));
        assert_same(round, &texts(&agent.outputs(name)), &scripts::lines(name, 1, 6000));
    }
    engine.rm(name);
}

#[test]
fn a_running_container_is_backfilled_then_followed() {
    let Some(engine) = engine() else { return };
    let name = "then-followed";
    let options = ["--log-opt=max-size=100k", "--log-opt=max-file=10"];
    engine.run(name, &options, &scripts::until_stopped(name, 20, 10_000));
    let mut agent = Longshore::new(&engine.containers_dir());
    until("a first line in the source", PATIENCE, || !engine.logs_with_timestamps(name).is_empty());
    let done = agent.backfill(&["-n", name, "--progress", "never"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(n_lines(&agent.outputs(name)) > 0, "the backfill found lines");
    agent.start(&["-n", name]);
    agent.wait_for_lines(name, 1000);
    engine.tell(name, "stop");
    engine.wait_well(name);
    let n = engine.told(name, "count").and_then(|count| count.parse().ok()).expect("the count of lines");
    agent.wait_for_lines(name, n);
    agent.drain();
    assert_same(name, &texts(&agent.outputs(name)), &scripts::lines(name, 1, n));
    engine.rm(name);
}
