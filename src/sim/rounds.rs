//! More containers than one commit takes.

use std::time::Duration;

use crate::checkpoint::codec;
use crate::config::limits::COMMIT_ITEMS_MAX;
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
