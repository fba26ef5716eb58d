//! What users, crashes and power losses do to a log.

use super::{Scenario, options};
use crate::decode::Stream;
use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::Allowance;
use crate::sim::world::World;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "truncated-by-a-user",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(5_000, 2));
            world.say_many(&id, 2, 100);
            world.turns(2);
            world.docker.truncate(&id);
            world.say_many(&id, 2, 3_000);
            world.turns(2);
            world.say(&id, 4_800);
            world.turns(2);
            world.docker.truncate(&id); // Now the engine goes on behind a hole.
            world.say_many(&id, 2, 100);
            world.turns(2);
        },
    },
    Scenario {
        name: "copied-and-truncated",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 3, 100);
            world.turns(2);
            world.say_many(&id, 2, 100);
            world.turns(3);
            world.say_many(&id, 2, 100);
            world.docker.copy_truncate(&id, ".1");
            world.say_many(&id, 2, 100);
            world.turns(2);
            world.seconds(1);
            world.say_many(&id, 2, 100);
            world.turns(1);
        },
    },
    Scenario {
        name: "copied-and-truncated-unread",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let silent = world.run("web", Options::default());
            let id = world.run("db", Options::default());
            world.turns(2);
            world.say_many(&id, 3, 100);
            world.say_many(&silent, 2, 100);
            world.docker.copy_truncate(&id, ".1");
            world.docker.copy_truncate(&silent, ".1");
            world.say_many(&id, 2, 100);
            world.turns(2);
            world.seconds(1);
            world.say_many(&id, 2, 100);
            world.turns(1);
        },
    },
    Scenario {
        name: "torn-and-glued",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(900, 3));
            world.say_many(&id, 2, 60);
            world.turns(2);
            let time_ns = world.tick();
            world.docker.log_torn(&id, Stream::Stdout, b"torn", time_ns, 20);
            world.turns(2);
            world.kill_engine();
            world.say_many(&id, 2, 60);
            world.turns(2);
            let time_ns = world.tick();
            world.docker.log_torn(&id, Stream::Stdout, b"torn again", time_ns, 70);
            world.kill_engine();
            world.say_many(&id, 6, 60);
            world.turns(2);
        },
    },
    Scenario {
        name: "newline-lost-and-rotated",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let read = world.run("web", options(500, 3));
            let unread = world.run("db", options(500, 3));
            world.say_many(&read, 4, 100);
            world.say_many(&unread, 2, 100);
            world.seconds(2);
            world.kill();
            world.say_many(&unread, 2, 100);
            world.docker.lose_tail(&read, 1);
            world.docker.lose_tail(&unread, 1);
            world.kill_engine();
            world.say_many(&read, 3, 100); // Into a new log: the old one ends with a record that has no newline.
            world.say_many(&unread, 3, 100);
            world.seconds(2);
        },
    },
    Scenario {
        name: "newline-lost-and-compressed",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", Options { compress: true, ..options(500, 3) });
            world.say_many(&id, 1, 100);
            world.seconds(2);
            world.kill();
            world.docker.lose_tail(&id, 1);
            world.kill_engine();
            world.seconds(2); // The record is known now as one that has no newline, and its log as one without a first line.
            world.kill();
            world.say_many(&id, 4, 100);
            world.docker.finish_compression(&id);
            world.seconds(2);
        },
    },
    Scenario {
        name: "page-of-nul",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 30, 200);
            world.turns(1);
            world.say_many(&id, 20, 200);
            world.docker.zero_page(&id, 2);
            world.turns(2);
            world.kill();
            world.docker.lose_tail(&id, 150);
            world.say_many(&id, 3, 100);
            world.turns(2);
        },
    },
    Scenario {
        name: "rewritten-to-the-same-size",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", Options::default());
            world.say_many(&id, 4, 100);
            world.seconds(2);
            let time_ns = world.tick();
            world.docker.rewrite_same_size(&id, time_ns);
            world.seconds(2);
            world.kill();
            let time_ns = world.tick();
            world.docker.rewrite_same_size(&id, time_ns);
            world.say_many(&id, 2, 100);
            world.seconds(2);
        },
    },
    Scenario {
        name: "tail-lost-and-regrown",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(5_000, 3));
            world.say_many(&id, 6, 100);
            world.seconds(2);
            world.kill();
            world.docker.lose_tail(&id, 350);
            world.kill_engine();
            world.say_many(&id, 6, 100);
            world.seconds(2);
            world.kill();
            world.docker.lose_tail(&id, 250);
            world.say_many(&id, 1, 50);
            world.turns(2);
            world.say_many(&id, 5, 100);
            world.seconds(1);
        },
    },
    Scenario {
        name: "tail-lost-behind-a-line-over-a-rotation",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| lose_tail_behind_a_line_over_a_rotation(world, |_| ()),
    },
    Scenario {
        name: "tail-lost-behind-a-line-over-a-rotation-and-no-output",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            lose_tail_behind_a_line_over_a_rotation(world, |world| {
                world.delete_output("web/web.log"); // After an early death there is none yet.
            });
        },
    },
    Scenario {
        name: "log-removed",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", options(900, 3));
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.docker.remove_log(&id);
            world.say_many(&id, 2, 60);
            world.seconds(2);
            world.kill_engine();
            world.say_many(&id, 3, 60);
            world.seconds(1);
        },
    },
    Scenario {
        name: "gzip-cut-and-twin",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::UNKNOWN_LOSSES,
        story: |world| {
            let id = world.run("web", Options { compress: true, ..options(500, 3) });
            world.say_many(&id, 6, 80);
            world.turns(2);
            world.docker.start_compression(&id, 40);
            world.kill();
            world.kill_engine();
            world.turns(2);
            world.say_many(&id, 5, 80);
            world.docker.finish_compression_after(&id, 70);
            world.turns(2);
            world.kill();
            world.say_many(&id, 5, 80);
            world.docker.finish_compression(&id);
            world.seconds(1);
        },
    },
];

/// `meanwhile` happens while the agent is down.
fn lose_tail_behind_a_line_over_a_rotation(world: &mut World, meanwhile: impl FnOnce(&mut World)) {
    let id = world.run("web", options(20_000, 3));
    world.turns(2);
    world.say(&id, 36_000); // Its last piece is in the next log.
    let open = world.text(20_000);
    world.write(&id, Stream::Stdout, &open[..17_000]);
    world.seconds(2);
    world.kill();
    world.docker.lose_tail(&id, 150);
    world.os.settle(world.docker.directory(&id)); // No power loss takes the rotation back.
    meanwhile(world);
    world.seconds(2);
    world.write(&id, Stream::Stdout, &open[17_000..]);
    world.say_many(&id, 3, 100);
    world.seconds(2);
}
