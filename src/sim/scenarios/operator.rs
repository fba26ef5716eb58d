//! What an operator does: other ways to start, and his hands in the outputs.

use super::{Scenario, options};
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;
use crate::sim::world::Mark;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "output-cut",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 5, 60);
            world.seconds(2);
            world.cut_output("web/web.log", 2);
            world.seconds(35);
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.kill();
            world.cut_output("web/web.log", 2);
            world.say_many(&id, 3, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "output-deleted",
        kind: EngineKind::V20,
        flags: "--limit 400",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 8, 60);
            world.seconds(2);
            world.delete_output("web/web.log");
            world.seconds(35);
            world.say_many(&id, 3, 60);
            world.seconds(2);
            world.kill();
            world.delete_output("web/web.log");
            world.say_many(&id, 3, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "output-moved",
        kind: EngineKind::V20,
        flags: "--limit 700",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 5, 60);
            world.seconds(2);
            world.move_output("web/web.log");
            world.reopen();
            world.turns(1); // Until then lines may go into the file that was moved: logrotate knows as much.
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.kill();
            world.say_many(&id, 3, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "output-deleted-behind-a-change",
        kind: EngineKind::V20,
        flags: "--template {log}",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 8, 60);
            world.seconds(2);
            world.reload("--template {name}:~{log}");
            world.say_many(&id, 2, 60);
            world.seconds(2);
            world.delete_output("web/web.log");
            world.say_many(&id, 2, 60);
            world.seconds(2);
            world.say_many(&id, 2, 60);
            world.turns(2);
            world.kill();
            world.say_many(&id, 2, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "outputs-swapped",
        kind: EngineKind::V20,
        flags: "--limit 400",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 8, 60);
            world.seconds(2);
            world.kill();
            world.swap_outputs();
            world.say_many(&id, 3, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "from-end",
        kind: EngineKind::V20,
        flags: "--from end",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 4, 60);
            world.mark(Mark::Skipped);
            world.seconds(2);
            world.until_listed(); // Until then a container that is there belongs to those of the beginning.
            let other = world.run("db", Options::default());
            world.say_many(&id, 3, 60);
            world.say_many(&other, 2, 60);
            world.seconds(1);
            world.kill();
            world.say_many(&id, 3, 60);
            world.say_many(&other, 2, 60);
            world.seconds(1);
        },
    },
    Scenario {
        name: "backfill",
        kind: EngineKind::V20,
        flags: "--limit 500 -c gzip",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options { compress: true, ..options(500, 5) });
            let other = world.run("db", Options::default());
            world.say_many(&id, 6, 60);
            world.docker.finish_compression(&id);
            world.say_many(&other, 2, 20_000);
            world.backfill();
            world.say_many(&id, 6, 60);
            world.docker.start_compression(&id, 60);
            world.say_many(&other, 2, 60);
            world.backfill();
            world.backfill();
        },
    },
];
