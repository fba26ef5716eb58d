//! The engine's rotation: every kind of engine, compression, and an engine that outruns the agent.

use super::{Scenario, options};
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;
use crate::sim::world::World;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "plain",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 3, 40);
            world.turns(3);
            world.say_many(&id, 3, 40);
            world.seconds(3);
            world.say_many(&id, 2, 40);
            world.turns(2);
        },
    },
    Scenario {
        name: "rename-max-file-3",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(500, 3));
            for _ in 0..5 {
                world.say_many(&id, 2, 100);
                world.turns(2);
            }
            world.seconds(2);
            world.say_many(&id, 6, 100);
            world.turns(2);
        },
    },
    // Once right behind a look, once when more came in between.
    Scenario {
        name: "rotated-while-steady",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1_200, 2));
            for n in 0..24 {
                world.say_many(&id, 1 + n / 12, 60);
                world.turns(1);
            }
            world.seconds(2);
            world.say_many(&id, 2, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "compressed-source",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options { compress: true, ..options(500, 4) });
            world.say_many(&id, 4, 100);
            world.turns(1);
            world.docker.start_compression(&id, 60);
            world.turns(2);
            world.say_many(&id, 1, 100);
            world.docker.finish_compression(&id);
            world.turns(2);
            world.say_many(&id, 5, 100);
            world.docker.start_compression(&id, 90);
            world.turns(2);
            world.docker.finish_compression(&id);
            world.seconds(2);
            world.say_many(&id, 1, 100);
            world.turns(2);
        },
    },
    Scenario {
        name: "max-file-1-v19",
        kind: EngineKind::V19,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| max_file_1(world),
    },
    Scenario {
        name: "max-file-1-v20",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| max_file_1(world),
    },
    Scenario {
        name: "max-file-1-v23",
        kind: EngineKind::V23,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| max_file_1(world),
    },
    Scenario {
        name: "outrun-while-down",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(400, 3));
            world.say_many(&id, 3, 80);
            world.seconds(2);
            world.say_many(&id, 2, 80);
            world.turns(1);
            world.kill();
            world.say_many(&id, 12, 80);
            world.turns(3);
            world.seconds(1);
            world.kill();
            world.say_many(&id, 3, 80);
            world.turns(2);
        },
    },
    Scenario {
        name: "tiny-generations",
        kind: EngineKind::V20,
        flags: "--limit 1000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1, 12));
            for n in [3, 8, 5] {
                world.say_many(&id, n, 50);
                world.turns(2);
            }
            world.kill();
            world.say_many(&id, 9, 50);
            world.turns(2);
        },
    },
    Scenario {
        name: "rotation-fails",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(300, 2));
            world.say_many(&id, 2, 60);
            world.turns(2);
            world.docker.block_rotation(&id);
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.unblock_rotation(&id);
            world.say_many(&id, 3, 60);
            world.turns(2);
        },
    },
];

fn max_file_1(world: &mut World) {
    let id = world.run("web", options(400, 1));
    for _ in 0..4 {
        world.say_many(&id, 2, 60);
        world.turns(2);
    }
    world.seconds(2);
    world.say_many(&id, 2, 60);
    world.turns(2);
}
