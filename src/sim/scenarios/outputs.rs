//! Outputs that are rotated and compressed, and settings that change.

use super::{Scenario, options};
use crate::decode::Stream;
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;
use crate::sim::world::World;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "output-rotates",
        kind: EngineKind::V20,
        flags: "--limit 300",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(2_000, 3));
            for _ in 0..3 {
                world.say_many(&id, 3, 70);
                world.turns(4);
            }
            world.say(&id, 500);
            world.seconds(2);
            world.say_many(&id, 4, 70);
            world.turns(3);
        },
    },
    Scenario {
        name: "output-gzip",
        kind: EngineKind::V20,
        flags: "--limit 300 -c gzip",
        allowance: Allowance::NONE,
        story: |world| output_compressed(world),
    },
    Scenario {
        name: "output-zstd",
        kind: EngineKind::V20,
        flags: "--limit 300 -c zstd --sync",
        allowance: Allowance::NONE,
        story: |world| output_compressed(world),
    },
    Scenario {
        name: "settings-change",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 4, 60);
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.set_flags("--limit 350 -c gzip --template {time}~{stream}:~{log}");
            world.kill();
            world.turns(3);
            world.say_many(&id, 4, 60);
            world.turns(2);
            world.set_flags("--limit 700 -c zstd --template {time}~[{short_id}]~{log}");
            world.kill();
            world.say_many(&id, 4, 60);
            world.turns(3);
        },
    },
    Scenario {
        name: "reload",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 4, 60);
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.reload("--limit 350 -c gzip --template {time}~{stream}:~{log}");
            world.say_many(&id, 4, 60);
            world.turns(3);
            let open = world.text(17_000);
            world.write(&id, Stream::Stdout, &open);
            world.turns(1);
            world.reload("--limit 700 -c zstd --template {time}~[{short_id}]~{log}");
            world.turns(1);
            world.write(&id, Stream::Stdout, b" end\n");
            world.say_many(&id, 4, 60);
            world.turns(2);
            world.reload("--limit 700 --path-template {name}/{name}.log --template {time}~[{short_id}]~{log}");
            world.kill();
            world.say_many(&id, 2, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "reload-selection",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(4_000, 4));
            let other = world.run("db", Options::default());
            world.say_many(&id, 4, 60);
            world.say_many(&other, 2, 60);
            world.turns(3);
            world.say_many(&id, 3, 60);
            world.reload("--limit 500 --exclude-names web");
            world.turns(2);
            world.say_many(&id, 3, 60);
            world.say_many(&other, 2, 60);
            world.seconds(2);
            world.kill();
            world.say_many(&id, 2, 60);
            world.seconds(2);
            world.reload("--limit 500");
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.reload("--limit 500 --exclude-names web");
            world.turns(1);
            world.reload("--limit 600");
            world.say_many(&id, 2, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "reload-path",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(4_000, 4));
            world.say_many(&id, 4, 60);
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.reload("--limit 500 --path-template other/{name}.log");
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.kill();
            world.say_many(&id, 3, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "pruned-by-number",
        kind: EngineKind::V20,
        flags: "--limit 250 --max-files 3 -c gzip",
        allowance: Allowance { pruned: true, ..Allowance::NONE },
        story: |world| {
            let id = world.run("web", options(2_000, 4));
            for _ in 0..4 {
                world.say_many(&id, 4, 60);
                world.turns(3);
            }
            world.kill();
            world.say_many(&id, 4, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "pruned-by-bytes",
        kind: EngineKind::V20,
        flags: "--limit 250 --max-total 700",
        allowance: Allowance { pruned: true, ..Allowance::NONE },
        story: |world| {
            let id = world.run("web", options(2_000, 4));
            for _ in 0..4 {
                world.say_many(&id, 4, 60);
                world.turns(3);
            }
            world.kill();
            world.say_many(&id, 4, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "pruned-by-age",
        kind: EngineKind::V20,
        flags: "--limit 250 --max-age 1h",
        allowance: Allowance { pruned: true, ..Allowance::NONE },
        story: |world| {
            let id = world.run("web", options(2_000, 4));
            for _ in 0..4 {
                world.say_many(&id, 4, 60);
                world.turns(3);
            }
            world.os.advance(std::time::Duration::from_secs(7_200));
            world.say(&id, 60);
            world.seconds(2);
            world.kill();
            world.say_many(&id, 4, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "new-segment-lost",
        kind: EngineKind::V20,
        flags: "--limit 250",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 2, 60);
            world.turns(2);
            for _ in 0..4 {
                world.say_many(&id, 3, 60);
                world.turns(2);
                world.power_loss();
            }
            world.say_many(&id, 3, 60);
            world.seconds(1);
        },
    },
];

fn output_compressed(world: &mut World) {
    let id = world.run("web", options(3_000, 3));
    for _ in 0..2 {
        world.say_many(&id, 5, 70);
        world.turns(4);
    }
    world.seconds(1);
    world.say_many(&id, 3, 70);
    world.turns(3);
}
