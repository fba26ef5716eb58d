//! Our own state, lost in every way: gone, empty, old, with other settings, with pruned and compressed outputs.

use super::{Scenario, options};
use crate::decode::Stream;
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "store-lost",
        kind: EngineKind::V20,
        flags: "--limit 400 -c gzip",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 6, 60);
            world.seconds(2);
            world.say_many(&id, 2, 60);
            world.turns(2);
            world.lose_store();
            world.say_many(&id, 2, 60);
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "store-opens-empty",
        kind: EngineKind::V20,
        flags: "--limit 400",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 6, 60);
            world.seconds(2);
            world.empty_store();
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.seconds(1);
        },
    },
    Scenario {
        name: "store-of-yesterday",
        kind: EngineKind::V20,
        flags: "--limit 400",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(900, 4));
            world.say_many(&id, 3, 60);
            world.seconds(2);
            let old = world.store.rows();
            world.say_many(&id, 5, 60);
            world.seconds(2);
            world.kill();
            world.store.restore(old);
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.seconds(1);
        },
    },
    Scenario {
        name: "store-lost-and-pruned",
        kind: EngineKind::V20,
        flags: "--limit 250 -c zstd --max-files 3",
        allowance: Allowance { pruned: true, ..Allowance::NONE },
        story: |world| {
            let id = world.run("web", options(900, 6));
            for _ in 0..4 {
                world.say_many(&id, 4, 60);
                world.seconds(1);
            }
            world.lose_store();
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.seconds(1);
        },
    },
    Scenario {
        name: "store-lost-new-template",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1_500, 4));
            world.say_many(&id, 5, 60);
            world.seconds(2);
            world.set_flags("--limit 500 --template {time}~{stream}:~{log}");
            world.lose_store();
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.seconds(1);
        },
    },
    Scenario {
        name: "store-and-journal-lost",
        kind: EngineKind::V20,
        flags: "--limit 500",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1_500, 4));
            world.say_many(&id, 5, 60);
            world.seconds(2);
            world.lose_store();
            world.lose_journal();
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.seconds(1);
        },
    },
    Scenario {
        name: "outputs-of-another-tool",
        kind: EngineKind::V20,
        flags: "--template {time}~{log}",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 4, 60);
            let lines: Vec<Vec<u8>> = world.docker.expected_lines(&id);
            world.os.engine_mkdir("/out/web").expect("it is new");
            world.os.engine_write_whole("/out/web/web.log", &lines[..3].concat()).expect("it is new");
            world.os.settle("/out");
            world.turns(3);
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.seconds(1);
        },
    },
    Scenario {
        name: "equal-lines-without-time",
        kind: EngineKind::V20,
        flags: "--template {log}",
        allowance: Allowance { ambiguous: true, ..Allowance::NONE },
        story: |world| {
            let id = world.run("web", Options::default());
            for _ in 0..5 {
                world.write(&id, Stream::Stdout, b"the same\n");
            }
            world.seconds(2);
            world.lose_store();
            for _ in 0..3 {
                world.write(&id, Stream::Stdout, b"the same\n");
            }
            world.turns(3);
            world.say_many(&id, 2, 60);
            world.turns(2);
            world.seconds(1);
        },
    },
];
