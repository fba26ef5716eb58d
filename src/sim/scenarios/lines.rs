//! Lines of many pieces.

use super::{Scenario, options};
use crate::decode::Stream;
use crate::sim::docker::EngineKind;
use crate::sim::oracle::Allowance;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chains-across-rotation",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(20_000, 4));
            world.say(&id, 40_000);
            world.turns(2);
            let open = world.text(33_000);
            world.write(&id, Stream::Stdout, &open);
            world.turns(3);
            world.seconds(2);
            world.write(&id, Stream::Stdout, b" the end\n");
            world.say(&id, 16_384);
            world.turns(2);
            let stopped = world.text(16_384);
            world.write(&id, Stream::Stdout, &stopped);
            world.turns(1);
            world.stop(&id);
            world.turns(2);
        },
    },
    Scenario {
        name: "two-streams",
        kind: EngineKind::V20,
        flags: "--template {time}~{stream}~{log}",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(30_000, 5));
            for _ in 0..2 {
                let out = world.text(17_000);
                let err = world.text(34_000);
                world.write(&id, Stream::Stdout, &out);
                world.say_on(&id, Stream::Stderr, 50);
                world.write(&id, Stream::Stderr, &err);
                world.turns(2);
                world.write(&id, Stream::Stdout, b" out\n");
                world.turns(1);
                world.write(&id, Stream::Stderr, b" err\n");
                world.say_on(&id, Stream::Stdout, 20_000);
                world.turns(1);
            }
        },
    },
    Scenario {
        name: "json-lines",
        kind: EngineKind::V20,
        flags: "--format json --limit 30000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(40_000, 4));
            world.say_many(&id, 3, 60);
            world.say(&id, 50_000);
            world.turns(3);
            let open = world.text(40_000);
            world.write(&id, Stream::Stdout, &open);
            world.say_on(&id, Stream::Stderr, 60);
            world.turns(3);
            world.kill();
            world.write(&id, Stream::Stdout, b" end\n");
            world.say_many(&id, 3, 60);
            world.seconds(1);
        },
    },
    Scenario {
        name: "docker-lines",
        kind: EngineKind::V20,
        flags: "--format docker --limit 30000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(40_000, 4));
            world.say_many(&id, 3, 60);
            world.say(&id, 50_000);
            world.turns(3);
            let open = world.text(40_000);
            world.write(&id, Stream::Stdout, &open);
            world.say_on(&id, Stream::Stderr, 60);
            world.turns(3);
            world.kill();
            world.write(&id, Stream::Stdout, b" end\n");
            world.say_many(&id, 3, 60);
            world.seconds(1);
        },
    },
    Scenario {
        name: "max-line-bytes",
        kind: EngineKind::V20,
        flags: "--max-line-bytes 16KiB --limit 60000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(40_000, 4));
            world.say_many(&id, 3, 60);
            world.say(&id, 50_000);
            world.turns(3);
            let open = world.text(40_000);
            world.write(&id, Stream::Stdout, &open);
            world.say_on(&id, Stream::Stderr, 60);
            world.turns(3);
            world.kill();
            world.write(&id, Stream::Stdout, b" end\n");
            world.say_many(&id, 3, 60);
            world.seconds(1);
        },
    },
];
