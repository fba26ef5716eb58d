//! `kill -9` at any moment leaves no gap and no repeat.

use std::time::Duration;

use crate::docker::{engine, mark};
use crate::harness::{Longshore, assert_same, texts};
use crate::scripts;

const ROUNDS: u64 = 100;
const SEED: u64 = 0x10f5_0e5d;

/// Two containers whose logs dockerd rotates, one of them compressed, under an agent that rotates and
/// compresses its outputs, killed a hundred times at moments drawn from a seed.
///
/// The containers write some 350 kB a second each, and the engine keeps at least 1.8 MB: five seconds, of
/// which a restart takes some hundredths. So nothing may be missing.
#[test]
fn a_hundred_kills_under_load_with_rotation_on_both_sides() {
    let Some(engine) = engine() else { return };
    let plain = ["--log-opt=max-size=200k", "--log-opt=max-file=10"];
    let compressed = ["--log-opt=max-size=200k", "--log-opt=max-file=10", "--log-opt=compress=true"];
    let names = ["killed-plain", "killed-gz"];
    let ids = [plain.as_slice(), compressed.as_slice()]
        .iter()
        .zip(names)
        .map(|(options, name)| engine.run(name, options, &scripts::until_stopped(name, 20, 10_000)))
        .collect::<Vec<_>>();

    let args = ["-n", "killed-*", "--limit", "100kB", "-c", "gzip"];
    let mut agent = Longshore::new(&engine.containers_dir());
    println!("seed {SEED:#x}");
    let mut seed = SEED;
    for _ in 0..ROUNDS {
        seed = next(seed);
        agent.start(&args);
        // From before its first byte to well after several commits.
        agent.run_for(Duration::from_millis(5 + seed % 600));
        agent.kill9();
    }
    agent.start(&args);
    let mut counts = Vec::new();
    for name in names {
        engine.tell(name, "stop");
        engine.wait_well(name);
        let count = engine.told(name, "count").and_then(|count| count.parse::<usize>().ok());
        counts.push(count.expect("the count of lines"));
    }
    for (name, count) in names.iter().zip(&counts) {
        agent.wait_for_lines(name, *count);
    }
    agent.drain();
    for ((name, count), id) in names.iter().zip(&counts).zip(&ids) {
        assert!(engine.generations(id).len() >= 10, "{name}: the source was rotated");
        assert!(agent.n_rotated(name) >= 10, "{name}: the output was rotated");
        assert_same(name, &texts(&agent.outputs(name)), &scripts::lines(name, 1, *count));
        mark(&format!("note {name}: {count} lines over {ROUNDS} kills, {} segments", agent.n_rotated(name)));
        engine.rm(name);
    }
}

/// The same for containers that end and go while the agent is being killed: what their log still holds
/// when the agent is back must come out. They are removed only when they have been read.
#[test]
fn kills_while_containers_come_and_go() {
    let Some(engine) = engine() else { return };
    let args = ["-n", "fleeting"];
    let mut agent = Longshore::new(&engine.containers_dir());
    let mut seed = SEED;
    const LINES: usize = 2000;
    for life in 0..8 {
        let (first, last) = (life * LINES + 1, (life + 1) * LINES);
        engine.run("fleeting", &[], &scripts::paced("fleeting", first, last, 50, 5_000));
        for _ in 0..3 {
            seed = next(seed);
            agent.start(&args);
            agent.run_for(Duration::from_millis(5 + seed % 150));
            agent.kill9();
        }
        engine.wait_well("fleeting");
        agent.start(&args);
        agent.wait_for_lines("fleeting", last);
        agent.kill9();
        engine.rm("fleeting");
    }
    agent.start(&args);
    agent.drain();
    assert_same("eight lives", &texts(&agent.outputs("fleeting")), &scripts::lines("fleeting", 1, 8 * LINES));
}

/// SplitMix64: chance that a seed replays.
fn next(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
