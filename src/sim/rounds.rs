//! How much one container may take before others have their turn, and more containers than one commit takes.

use std::time::Duration;

use crate::checkpoint::codec;
use crate::config::limits::{COMMIT_ITEMS_MAX, TURN_BYTES_MAX};
use crate::sim::docker::{EngineKind, Options};
use crate::sim::world::{Timing, World};
use crate::telemetry::Counters;

/// Where the store says that each container's log was read up to.
fn stored(world: &World) -> Vec<(String, u64)> {
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    let rows = codec::rows(&pairs).0;
    rows.into_iter().map(|(row, _)| (row.id, row.ladder.rungs.last().map_or(0, |rung| rung.offset))).collect()
}

/// Those that go on writing don't keep the others from being stored.
#[test]
fn each_container_is_stored_before_any_is_stored_again() {
    let mut world = World::new(EngineKind::V20, "", Timing::OutcomeLater, 1, &Counters::new(0));
    let ids: Vec<String> = (0..3 * COMMIT_ITEMS_MAX).map(|n| world.run(&format!("c{n}"), Options::default())).collect();
    ids.iter().for_each(|id| world.say(id, 20));
    world.quiet();
    ids.iter().for_each(|id| world.say(id, 20));
    for _ in 0..20 {
        for _ in 0..10 {
            world.step();
            world.os.advance(Duration::from_millis(100));
        }
        ids.iter().take(2 * COMMIT_ITEMS_MAX).for_each(|id| world.say(id, 20));
    }
    let quiet: Vec<&String> = ids.iter().skip(2 * COMMIT_ITEMS_MAX).collect();
    let sizes = |id: &str| {
        let log = world.docker.directory(id).join(format!("{id}-json.log"));
        world.os.engine_read(log).map_or(0, |bytes| bytes.len() as u64)
    };
    let behind = stored(&world).iter().filter(|(id, offset)| quiet.contains(&id) && *offset != sizes(id)).count();
    assert_eq!(behind, 0, "of {} that wrote their last line long ago", quiet.len());
}

#[test]
fn a_log_that_grows_steadily_is_asked_once_a_look_whether_there_is_more() {
    let mut world = World::new(EngineKind::V20, "", Timing::OutcomeLater, 1, &Counters::new(0));
    let id = world.run("web", Options::default());
    world.say_many(&id, 10, 100);
    world.turns(4);
    world.plan([]);
    let mut looks: Vec<Vec<&'static str>> = Vec::new();
    for _ in 0..12 {
        world.say(&id, 20);
        let n_before = world.all_calls().len();
        world.step();
        world.os.advance(Duration::from_millis(40));
        looks.push(world.all_calls().split_off(n_before));
    }
    // Of the log: who has its name, its size, and the bytes. Of the output: whether it is as we left it, and the bytes.
    assert!(
        looks[1..].iter().all(|calls| calls == &["stat", "stat_open", "read_at", "stat_open", "write_at"]),
        "{looks:?}"
    );
}

/// A look that nearly fills the batch is as much the end of it.
#[test]
fn a_log_that_was_read_to_its_end_is_not_looked_at_again_at_once() {
    let mut world = World::new(EngineKind::V20, "--limit 100MB", Timing::OutcomeLater, 1, &Counters::new(0));
    let id = world.run("web", Options::default());
    world.say_many(&id, 1200, 170);
    world.turns(4);
    let say_and_look = |world: &mut World| {
        world.os.advance(Duration::from_millis(50));
        world.say_many(&id, 1200, 170);
        world.step();
    };
    (0..8).for_each(|_| say_and_look(&mut world));
    world.plan([]);
    for _ in 0..4 {
        let (n_before, n_read) = (world.all_calls().len(), world.os.read_bytes());
        say_and_look(&mut world);
        world.step();
        let calls = world.all_calls().split_off(n_before);
        assert!(world.os.read_bytes() > n_read + 1200 * 170, "it is read");
        let n_looks = calls.iter().filter(|call| **call == "stat").count();
        assert_eq!(n_looks, 1, "{calls:?}");
    }
}

/// What has no room in the batch would be read again in the next turn.
#[test]
fn a_backlog_is_read_once() {
    let line = br#"{"log":"short\n","stream":"stdout","time":"2026-11-25T00:00:00.000000001Z"}"#;
    let text = [&line[..], b"\n"].concat().repeat(3 * TURN_BYTES_MAX / line.len());
    let mut world = World::new(EngineKind::V20, "", Timing::OutcomeLater, 1, &Counters::new(0));
    let id = world.run("web", Options::default());
    world.os.engine_write_whole(world.docker.directory(&id).join(format!("{id}-json.log")), &text).unwrap();
    world.quiet();
    assert_eq!(stored(&world), [(id, text.len() as u64)]);
    let n_bytes = world.os.read_bytes();
    assert!(n_bytes < text.len() as u64 * 21 / 20, "{n_bytes} bytes of {} were read", text.len());
}

/// A log of which nothing is written, because of a filter or because no line is good, fills no batch that ends its turn, also
/// where the segment has room for little.
#[test]
fn a_long_log_that_nobody_wants_is_read_in_turns() {
    let bad: Vec<u8> = b"what somebody else writes, and no entry of a log at all\n".repeat(TURN_BYTES_MAX / 8);
    let mut unwanted = Vec::new();
    while unwanted.len() < bad.len() {
        unwanted.extend_from_slice(
            br#"{"log":"unwanted\n","stream":"stdout","time":"2026-11-25T00:00:00.000000001Z"}"#.as_slice(),
        );
        unwanted.push(b'\n');
    }
    let wanted: Vec<u8> =
        b"{\"log\":\"wanted\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-25T00:00:00.000000001Z\"}\n".repeat(1700);
    for text in [unwanted.clone(), bad, [wanted, unwanted].concat()] {
        let flags = "--exclude-regex unwanted --limit 64KiB"; // 1,700 lines take 64,600 bytes.
        let mut world = World::new(EngineKind::V20, flags, Timing::OutcomeLater, 1, &Counters::new(0));
        let long = world.run("long", Options::default());
        let log = world.docker.directory(&long).join(format!("{long}-json.log"));
        world.os.engine_write_whole(&log, &text).unwrap();
        let other = world.run("other", Options::default());
        world.say(&other, 20);
        world.plan([]);
        let reads = |world: &World| world.all_calls().iter().filter(|call| **call == "read_at").count();
        for n_steps in 0..4 {
            let before = reads(&world);
            world.step();
            world.os.advance(Duration::from_millis(10));
            let n_reads = reads(&world) - before;
            assert!(n_reads < 16, "{n_reads} reads in step {n_steps}");
        }
        assert!(
            world.os.engine_read("/out/other/other.log").is_ok_and(|bytes| !bytes.is_empty()),
            "the other one waits"
        );
        world.quiet();
        let row = stored(&world).into_iter().find(|(id, _)| *id == long);
        assert_eq!(row, Some((long, text.len() as u64)), "it is read to its end");
    }
}
