//! Many containers at once: what the store is given stays within what it takes, and each has its turn.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::checkpoint::store::Fate;
use crate::config::limits::COMMIT_CHANGES_MAX;

/// Containers that run. The sink has heard nothing of them.
fn crowd(world: &mut ForwardWorld, n: usize, options: &Options) -> Vec<String> {
    let create = |ix| {
        let id = world.docker.create(&format!("c{ix}"), options.clone());
        world.docker.start(&id);
        world.os.settle(world.docker.directory(&id));
        id
    };
    (0..n).map(create).collect()
}

fn write(world: &mut ForwardWorld, ids: &[String], bytes: &[u8]) {
    for id in ids {
        let time_ns = world.tick();
        world.docker.write(id, Stream::Stdout, bytes, time_ns);
    }
}

/// The most changes that one commit had.
pub fn largest_commit(world: &ForwardWorld) -> Arc<AtomicUsize> {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = largest.clone();
    world.store.script(move |changes| {
        seen.fetch_max(changes.len(), Ordering::Relaxed);
        Fate::Commit
    });
    largest
}

fn n_lane_rows(world: &ForwardWorld) -> usize {
    world.store.rows().keys().filter(|key| key.starts_with(b"sink/sim/container/") && key.ends_with(b"/0000")).count()
}

fn lane_bytes(world: &ForwardWorld) -> usize {
    let rows = world.store.rows();
    rows.iter().filter(|(key, _)| key.starts_with(b"sink/sim/container/")).map(|(_, value)| value.len()).sum()
}

#[test]
fn a_batch_of_many_containers_fits_a_commit() {
    let mut world = ForwardWorld::new(EngineKind::V20, 1, Moods::WELL);
    world.settings.rules.batch_records = 1_000;
    world.settings.rules.batch_bytes = 1_000_000;
    let ids = crowd(&mut world, 300, &Options::default());
    write(&mut world, &ids, b"one\n");
    let largest = largest_commit(&world);
    assert!(world.settle(), "{:?}", world.left());
    assert_eq!(world.receiver.records().len(), 300);
    assert!(largest.load(Ordering::Relaxed) <= COMMIT_CHANGES_MAX, "{largest:?}");
}

#[test]
fn a_long_open_line_is_read_again_rather_than_stored() {
    let mut world = ForwardWorld::new(EngineKind::V20, 2, Moods::WELL);
    world.settings.rules.queue_bytes = 1 << 30;
    let ids = crowd(&mut world, 4, &Options::default());
    write(&mut world, &ids, b"before\n");
    world.turns(300);
    write(&mut world, &ids, &[b'x'; 900_000]);
    world.turns(600);
    assert!(lane_bytes(&world) < 4 * 1_000, "{}", lane_bytes(&world));
    world.kill();
    world.turns(100);
    write(&mut world, &ids, b"\n");
    assert!(world.settle(), "{:?}", world.left());
    let lengths: Vec<usize> = world.receiver.records().iter().map(|(_, _, line)| line.len()).collect();
    assert_eq!(lengths.iter().filter(|length| **length == 900_000).count(), 4);
    assert_eq!(lengths.len(), 8, "each once: {lengths:?}");
}

/// Their starts are in other files than their ends, which the engine may delete: they have to be stored.
#[test]
fn open_lines_across_rotations_of_many_containers_are_stored_in_several_commits() {
    let mut world = ForwardWorld::new(EngineKind::V20, 3, Moods::WELL);
    world.settings.rules.queue_bytes = 1 << 30;
    let ids = crowd(&mut world, 40, &Options { max_size: Some(250_000), max_file: 9, ..Options::default() });
    world.turns(100);
    let largest = largest_commit(&world);
    for part in 0..5 {
        // Pieces of one line have one time: alike in their text as well, they would be one log's as well as another's.
        let text: String = (part * 10_000..(part + 1) * 10_000).map(|n| format!("{n:010}")).collect();
        write(&mut world, &ids, text.as_bytes());
        world.turns(40);
    }
    world.turns(250);
    assert!(lane_bytes(&world) > 40 * 100_000, "{}", lane_bytes(&world));
    assert!(largest.load(Ordering::Relaxed) <= COMMIT_CHANGES_MAX, "{largest:?}");
    world.kill();
    write(&mut world, &ids, b"\n");
    assert!(world.settle(), "{:?}", world.left());
    let lengths: Vec<usize> = world.receiver.records().iter().map(|(_, _, line)| line.len()).collect();
    assert_eq!(lengths, vec![500_000; 40]);
}

#[test]
fn containers_that_went_while_nobody_looked_are_told_of_once_however_many_and_whenever_it_dies() {
    let mut world = ForwardWorld::new(EngineKind::V20, 4, Moods::WELL);
    let ids = crowd(&mut world, 301, &Options::default());
    for _ in 0..100 {
        world.turns(20);
        if n_lane_rows(&world) == 301 {
            break;
        }
    }
    assert_eq!(n_lane_rows(&world), 301);
    world.kill();
    for id in &ids[1..] {
        world.rm(id);
    }
    let largest = largest_commit(&world);
    for _ in 0..4 {
        world.turns(1);
        world.kill();
    }
    assert!(!world.losses().is_empty());
    assert!(world.settle());
    let told: Vec<String> = world.losses().into_iter().map(|loss| loss.container).collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 300);
    assert_eq!(told.len(), 300);
    assert!(largest.load(Ordering::Relaxed) <= COMMIT_CHANGES_MAX, "{largest:?}");
}

#[test]
fn while_the_store_fails_rows_are_not_queued_again_and_again() {
    let mut world = ForwardWorld::new(EngineKind::V20, 5, Moods::WELL);
    let ids = crowd(&mut world, 1, &Options::default());
    world.turns(300);
    world.store.script(|_| Fate::Fail(StoreError::Failed { doing: "write", reason: "part of the test".to_owned() }));
    for _ in 0..40 {
        write(&mut world, &ids, b"one more\n");
        world.turns(600);
    }
    let n_rows = Arc::new(AtomicUsize::new(0));
    let seen = n_rows.clone();
    world.store.script(move |changes| {
        let rows = changes.iter().filter(|(key, _)| key.starts_with(b"sink/sim/container/"));
        seen.fetch_max(rows.count(), Ordering::Relaxed);
        Fate::Commit
    });
    assert!(world.settle(), "{:?}", world.left());
    assert_eq!(world.receiver.records().len(), 40);
    assert!(n_rows.load(Ordering::Relaxed) <= 2, "of one container in one commit: {n_rows:?}");
}

/// The rows of the last lanes came never while 128 others had something new each second.
#[test]
fn each_of_many_busy_containers_has_its_row_stored() {
    let mut world = ForwardWorld::new(EngineKind::V20, 6, Moods::WELL);
    world.settings.sieve.filter.exclude = Some("noise".parse().expect("a pattern"));
    let ids = crowd(&mut world, 300, &Options::default());
    for _ in 0..10 {
        write(&mut world, &ids, b"noise\n");
        world.turns(200);
    }
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    let rows = Keys::new(SINK).load(&pairs).lanes;
    let offsets: Vec<u64> = rows.values().map(|(row, _)| row.resume.offset).collect();
    assert_eq!(offsets.len(), 300);
    let (least, most) = (offsets.iter().min().unwrap(), offsets.iter().max().unwrap());
    assert!(least * 2 > *most, "of the same bytes {least} and {most}");
}
