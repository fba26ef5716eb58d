//! Containers that end, come again, and change their names.

use super::{Scenario, options};
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "removed-while-behind",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(800, 3));
            let other = world.run("db", Options::default());
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.say_many(&id, 6, 60);
            world.say_many(&other, 2, 60);
            world.rm(&id);
            world.turns(3);
            world.seconds(2);
            world.say_many(&other, 2, 60);
            world.turns(1);
        },
    },
    Scenario {
        name: "recreated",
        kind: EngineKind::V20,
        flags: "--limit 400",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(2_000, 2));
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.say_many(&id, 2, 60);
            let new = world.recreate(&id);
            world.say_many(&new, 3, 60);
            world.turns(3);
            world.seconds(2);
            world.say_many(&new, 2, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "renamed-and-restarted",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(600, 4));
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.docker.rename(&id, "shop");
            world.say_many(&id, 2, 60);
            world.seconds(2);
            world.stop(&id);
            world.seconds(1);
            world.start(&id);
            world.say_many(&id, 3, 60);
            world.turns(2);
        },
    },
];
