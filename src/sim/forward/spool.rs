//! What the engine deletes while the receiver is away: copied aside, read from there, or told of.

use std::collections::BTreeSet;

use super::tests::judge;
use super::*;
use crate::cli::flags::SelectionFlags;
use crate::loss::Reason;
use crate::sim::os::{Errno, Fault, FaultPlan, When};

/// A receiver that is away until the engine has deleted most of what was written.
const AWAY: Moods = Moods { trouble_percent: 100, ..Moods::WELL };

fn noisy(world: &mut ForwardWorld) -> String {
    let id = world.run("web", Options { max_size: Some(3_000), max_file: 2, ..Options::default() });
    for _ in 0..40 {
        world.say(&id, 10, 100, "");
        world.turns(40);
    }
    id
}

fn spooling(seed: u64, held_max: u64) -> ForwardWorld {
    let mut world = ForwardWorld::new(EngineKind::V20, seed, AWAY);
    world.settings.held_max = Some(held_max);
    world.settings.on_overflow = OnOverflow::Spool;
    world
}

/// Everything arrives, and nothing is left behind in the spool.
fn finish(world: &mut ForwardWorld, may_lose: bool) {
    world.receiver.set_moods(Moods::WELL);
    assert!(world.settle(), "{:?}", world.left());
    judge(world, Moods::WELL, may_lose).unwrap();
    assert_eq!(world.spool_files(), Vec::<String>::new());
    let rows = world.store.rows();
    let left: Vec<_> = rows.keys().filter(|key| key.starts_with(b"sink/sim/spool/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn deleted_logs_beyond_the_budget_are_copied_aside_and_come_from_there() {
    for held_max in [1, 20_000] {
        let mut world = spooling(5, held_max);
        noisy(&mut world);
        assert!(world.spool_files().len() > 10, "{:?}", world.spool_files());
        assert!(world.held_bytes() <= held_max + 8_192, "{}", world.held_bytes());
        finish(&mut world, false);
        assert_eq!(world.losses(), vec![]);
    }
}

#[test]
fn what_is_in_the_spool_survives_a_death_and_a_removed_container() {
    for is_removed in [false, true] {
        let mut world = spooling(6, 1);
        let id = noisy(&mut world);
        if is_removed {
            world.run("other", Options::default());
            world.rm(&id);
        }
        world.turns(500);
        world.kill();
        finish(&mut world, false);
        assert_eq!(world.losses(), vec![], "{is_removed}");
    }
}

#[test]
fn what_is_in_the_spool_survives_a_power_loss() {
    for seed in 0..20 {
        let mut world = spooling(seed, 1);
        let id = noisy(&mut world);
        world.turns(500);
        let n_deleted = world.docker.completed(&id).filter(|truth| !truth.is_readable()).count();
        let deleted = world.written[&id][..n_deleted].to_vec();
        world.die(Crash::Power);
        finish(&mut world, true);
        let lines: BTreeSet<String> = world.receiver.records().into_iter().map(|(_, _, line)| line).collect();
        let missing: Vec<&String> = deleted.iter().filter(|line| !lines.contains(*line)).collect();
        assert!(n_deleted > 300 && missing.is_empty(), "seed {seed}: {n_deleted}, {missing:?}");
    }
}

#[test]
fn a_drain_copies_aside_what_only_a_descriptor_holds() {
    let mut world = spooling(7, 1 << 30);
    noisy(&mut world);
    assert_eq!(world.spool_files(), Vec::<String>::new());
    assert!(world.stop(), "it ends although nothing can be delivered");
    assert!(world.spool_files().len() > 10);
    finish(&mut world, false);
    assert_eq!(world.losses(), vec![]);
}

#[test]
fn beyond_its_budget_the_spool_lets_the_oldest_go_and_says_so() {
    let mut world = spooling(8, 1);
    world.settings.spool_max = Some(40_000);
    noisy(&mut world);
    let bytes: u64 = world.spool_files().len() as u64 * 4_096;
    assert!((20_000..=40_000).contains(&bytes), "{bytes}");
    let last = world.written.values().next().and_then(|lines| lines.last()).cloned();
    finish(&mut world, true);
    assert!(world.losses().iter().all(|loss| loss.reason == Reason::HeldMax && loss.end > loss.start));
    assert!(!world.losses().is_empty());
    assert_eq!(world.receiver.records().last().map(|(_, _, line)| line.clone()), last, "the newest are kept");
}

/// A log of which one incarnation of `max_size` is deleted, with text that doesn't get shorter.
fn deleted_once(world: &mut ForwardWorld, name: &str, max_size: u64) {
    let id = world.run(name, Options { max_size: Some(max_size), max_file: 2, ..Options::default() });
    while world.docker.completed(&id).all(|truth| truth.is_readable()) {
        let noise: String = (0..16).map(|_| format!("{:016x}", world.random.draw())).collect();
        world.say(&id, 1, 0, &noise);
    }
}

#[test]
fn a_log_that_the_spool_has_no_room_for_is_tried_once_and_smaller_ones_are_copied() {
    let mut world = spooling(13, 1);
    world.settings.held_max = None; // So all of it may be copied, and nothing has to go.
    world.settings.spool_max = Some(40_000);
    deleted_once(&mut world, "large", 200_000);
    deleted_once(&mut world, "small", 10_000);
    let mut copies = BTreeSet::new();
    for _ in 0..5_000 {
        world.turns(1);
        copies.extend(world.spool_files());
    }
    let kept = world.spool_files();
    assert_eq!((copies.len(), kept.len()), (2, 1), "{copies:?}, {kept:?}");
    assert!(world.stop(), "a drain has nothing more to copy");
    assert_eq!(world.spool_files(), kept);
    finish(&mut world, true); // The large one went with the process, which the next one tells.
    let losses = world.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
}

#[test]
fn copies_of_a_container_that_is_selected_no_more_go_first() {
    for is_removed in [false, true] {
        let mut world = spooling(14, 1);
        world.settings.spool_max = Some(60_000);
        let web = noisy(&mut world);
        world.turns(500);
        if is_removed {
            world.run("beside", Options::default());
            world.rm(&web);
        }
        world.kill();
        let n_told = world.losses().len();
        let excluded = SelectionFlags { exclude_names: vec!["web".parse().unwrap()], ..SelectionFlags::default() };
        let selection = Selection::parse(&excluded, None).unwrap();
        let all = std::mem::replace(&mut world.settings.selection, selection);
        let other = world.run("other", Options { max_size: Some(3_000), max_file: 2, ..Options::default() });
        for _ in 0..20 {
            world.say(&other, 10, 100, "");
            world.turns(40);
        }
        world.turns(500);
        let losses = world.losses().split_off(n_told);
        let is_of_web = |loss: &Loss| loss.container == web && loss.reason == Reason::HeldMax && loss.end > loss.start;
        assert!(!losses.is_empty() && losses.iter().all(is_of_web), "{losses:?}");
        world.kill();
        world.settings.selection = all;
        finish(&mut world, true);
        assert!(world.losses().iter().all(|loss| loss.container == web), "{:?}", world.losses());
    }
}

#[test]
fn blocked_deleted_logs_stay_and_the_sink_is_in_trouble() {
    let mut world = spooling(9, 20_000);
    world.settings.on_overflow = OnOverflow::Block;
    noisy(&mut world);
    assert!(world.held_bytes() > 40_000);
    assert!(world.faults().iter().any(|fault| fault.contains("more than held_max (20000)")), "{:?}", world.faults());
    finish(&mut world, false);
    assert_eq!(world.losses(), vec![]);
    assert_eq!(world.faults(), Vec::<String>::new());
}

#[test]
fn a_damaged_copy_costs_its_own_lines_and_is_in_the_ledger() {
    let mut world = spooling(10, 1);
    noisy(&mut world);
    world.turns(500);
    world.kill();
    let files = world.spool_files();
    world.damage_spool(&files[3]);
    finish(&mut world, true);
    let losses = world.losses();
    assert!(losses.iter().all(|loss| loss.reason == Reason::Damaged) && !losses.is_empty(), "{losses:?}");
}

#[test]
fn an_orphan_in_the_spool_goes_at_the_next_start() {
    let mut world = spooling(11, 1);
    world.put_spool_file("00000000000000000007", b"nobody's");
    noisy(&mut world);
    assert!(!world.spool_files().contains(&"00000000000000000007".to_owned()));
    finish(&mut world, false);
}

/// A story in which everything goes through the spool.
fn spool_story(fault: Option<(u64, Fault)>) -> (ForwardWorld, u64) {
    let mut world = spooling(12, 1);
    let plan = fault.map_or_else(FaultPlan::none, |(call, fault)| FaultPlan::none().and(call, fault));
    let id = world.run("web", Options { max_size: Some(2_000), max_file: 2, ..Options::default() });
    world.os.arm(plan);
    for _ in 0..6 {
        world.say(&id, 9, 60, "");
        world.turns(250);
    }
    world.receiver.set_moods(Moods::WELL);
    assert!(world.settle(), "{fault:?}: {:?}", world.left());
    let n_calls = world.os.calls().len() as u64;
    (world, n_calls)
}

#[test]
fn a_death_at_any_call_leaves_the_spool_whole_or_says_what_is_missing() {
    let (whole, n_calls) = spool_story(None);
    judge(&whole, Moods::WELL, false).unwrap();
    assert_eq!(whole.losses(), vec![]);
    let step = (n_calls / 150).max(1);
    for call in (0..n_calls).step_by(step as usize) {
        for fault in [
            Fault::Crash(Crash::Process, When::Before),
            Fault::Crash(Crash::Process, When::After),
            Fault::Crash(Crash::Power, When::After),
            Fault::Errno(Errno::Io),
            Fault::Errno(Errno::NoSpace),
        ] {
            let (world, _) = spool_story(Some((call, fault)));
            let may_lose = matches!(fault, Fault::Crash(..));
            judge(&world, Moods::WELL, may_lose).unwrap_or_else(|faults| panic!("call {call}, {fault:?}:\n{faults}"));
            assert_eq!(world.spool_files(), Vec::<String>::new(), "call {call}, {fault:?}");
        }
    }
}

#[test]
fn hundreds_of_copies_that_are_delivered_at_once_go_in_several_commits() {
    let mut world = spooling(8, 1);
    world.settings.rules.batch_records = 1_000;
    world.settings.rules.batch_bytes = 1_000_000;
    world.settings.rules.wait = Duration::from_secs(60);
    let id = world.run("web", Options { max_size: Some(150), max_file: 2, ..Options::default() });
    for _ in 0..320 {
        world.say(&id, 1, 100, "");
        world.turns(8);
    }
    assert!(world.spool_files().len() > 270, "{}", world.spool_files().len());
    let largest = super::crowd::largest_commit(&world);
    finish(&mut world, false);
    assert!(largest.load(std::sync::atomic::Ordering::Relaxed) <= crate::config::limits::COMMIT_CHANGES_MAX);
}
