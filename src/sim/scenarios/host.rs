//! The host: full disks, clocks that jump, a file system that is mounted late.

use std::time::Duration;

use super::{Scenario, options};
use crate::sim::docker::EngineKind;
use crate::sim::oracle::Allowance;
use crate::sim::os::Hidden;
use crate::sim::world::{CONTAINERS, Jump, OUT};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "disk-full-outputs",
        kind: EngineKind::V20,
        flags: "--limit 1000 -c gzip",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(3_000, 4));
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.os.set_capacity(OUT, Some(4_096));
            world.say_many(&id, 4, 60);
            world.seconds(3);
            world.say_many(&id, 2, 2_000);
            world.seconds(12);
            let disturbed = world.is_disturbed();
            assert!(disturbed || !world.faults().is_empty(), "health must be red while the disk is full");
            world.os.set_capacity(OUT, None);
            world.say_many(&id, 2, 60);
            world.seconds(12);
            assert!(disturbed || world.faults().is_empty(), "health must be green again");
        },
    },
    Scenario {
        name: "disk-full-state",
        kind: EngineKind::V20,
        flags: "--limit 1000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(3_000, 4));
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.set_state_full(true);
            world.say_many(&id, 4, 60);
            world.seconds(3);
            world.say_many(&id, 2, 2_000);
            world.seconds(12);
            let disturbed = world.is_disturbed();
            assert!(disturbed || !world.faults().is_empty(), "health must be red while the disk is full");
            world.set_state_full(false);
            world.say_many(&id, 2, 60);
            world.seconds(12);
            assert!(disturbed || world.faults().is_empty(), "health must be green again");
        },
    },
    Scenario {
        name: "disk-full-both",
        kind: EngineKind::V20,
        flags: "--limit 1000",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(3_000, 4));
            world.say_many(&id, 3, 60);
            world.turns(3);
            world.os.set_capacity(OUT, Some(4_096));
            world.set_state_full(true);
            world.say_many(&id, 4, 60);
            world.seconds(3);
            world.say_many(&id, 2, 2_000);
            world.seconds(12);
            let disturbed = world.is_disturbed();
            assert!(disturbed || !world.faults().is_empty(), "health must be red while the disk is full");
            world.set_state_full(false);
            world.os.set_capacity(OUT, None);
            world.say_many(&id, 2, 60);
            world.seconds(12);
            assert!(disturbed || world.faults().is_empty(), "health must be green again");
        },
    },
    Scenario {
        name: "clock-steps",
        kind: EngineKind::V20,
        flags: "--limit 500 --max-age 7d",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1_500, 4));
            world.say_many(&id, 4, 60);
            world.turns(3);
            world.step_clock(Jump::DayBack);
            world.say_many(&id, 3, 60);
            world.seconds(2);
            world.kill();
            world.step_clock(Jump::DayAhead);
            world.say_many(&id, 3, 60);
            world.turns(2);
            world.step_clock(Jump::DayAhead);
            world.say_many(&id, 3, 60);
            world.seconds(2);
        },
    },
    Scenario {
        name: "late-mount",
        kind: EngineKind::V20,
        flags: "",
        allowance: Allowance::NONE,
        story: |world| {
            let id = world.run("web", options(1_500, 4));
            world.say_many(&id, 4, 60);
            world.seconds(2);
            world.kill();
            world.os.set_hidden(CONTAINERS, Some(Hidden::Empty));
            world.say_many(&id, 2, 60);
            world.seconds(3);
            world.os.advance(WEEK + WEEK);
            world.seconds(3);
            world.kill();
            world.os.set_hidden(CONTAINERS, Some(Hidden::Missing));
            world.seconds(2);
            world.os.set_hidden(CONTAINERS, None);
            world.say_many(&id, 2, 60);
            world.seconds(3);
        },
    },
];
