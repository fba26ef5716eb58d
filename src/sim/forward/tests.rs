//! Seeded worlds, and each call of one story.

use std::collections::{BTreeMap, BTreeSet};

use super::receiver::{POISON, first_times};
use super::*;
use crate::sim::os::{Fault, FaultPlan, When};

/// More by `LONGSHORE_SIM_SEEDS`.
const SEEDS: u64 = 300;
const ACTS: u64 = 60;

fn start(line: &str) -> &str {
    &line[..line.len().min(24)]
}

/// After a power loss the engine's log may have lost lines, or have them again, and another line may stand in the place
/// that an id names. What can be read must have arrived, and nothing else than was written.
fn judge_after_power_loss(world: &ForwardWorld) -> Result<(), String> {
    let records = world.receiver.records();
    let mut faults = Vec::new();
    for (id, written) in &world.written {
        let ours = records.iter().filter(|(_, record, _)| record.starts_with(id.as_str()));
        let aside = world.dead_letters();
        let aside = aside.iter().filter(|(record, _)| record.starts_with(id.as_str()));
        let delivered: BTreeSet<&str> =
            ours.map(|(_, _, line)| line.as_str()).chain(aside.map(|(_, line)| line.as_str())).collect();
        if let Some(line) = delivered.iter().find(|line| !written.iter().any(|other| other.contains(**line))) {
            faults.push(format!("{}: {:?} was not written", &id[..6], start(line)));
        }
        let readable = world.docker.completed(id).filter(|truth| truth.is_readable());
        let texts: Vec<String> = readable.map(|truth| String::from_utf8_lossy(&truth.text).into_owned()).collect();
        let missing: Vec<&String> = texts.iter().filter(|text| !delivered.contains(text.as_str())).collect();
        let told = world.losses().iter().any(|loss| loss.container == *id);
        if !missing.is_empty() && !world.docker.is_removed(id) && !told {
            let first = start(missing[0]);
            faults.push(format!(
                "{}: {} that can be read are missing, the first is {first:?}",
                &id[..6],
                missing.len()
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// What was written against what arrived.
pub fn judge(world: &ForwardWorld, moods: Moods, may_lose: bool) -> Result<(), String> {
    if world.lost_power {
        return judge_after_power_loss(world);
    }
    let mut faults = world.receiver.faults();
    let records = world.receiver.records();
    let (first, mut repeated) = first_times(&records);
    faults.append(&mut repeated);
    let dead: BTreeMap<String, String> = world.dead_letters().into_iter().collect();
    let losses = world.losses();
    for (id, written) in &world.written {
        let ours = |(record, line): &(String, String)| record.starts_with(id.as_str()).then(|| line.clone());
        let mut delivered: Vec<String> = first.iter().filter_map(ours).collect();
        if world.settings.rules.order == Order::Relaxed {
            delivered.sort_by_key(|line| written.iter().position(|other| other == line));
        }
        let set: BTreeSet<&String> = delivered.iter().collect();
        let aside: BTreeSet<&String> =
            dead.iter().filter(|(record, _)| record.starts_with(id)).map(|(_, line)| line).collect();
        let in_order: Vec<&String> = written.iter().filter(|line| set.contains(line)).collect();
        if delivered.iter().collect::<Vec<_>>() != in_order {
            let differs = delivered.iter().zip(&in_order).find(|(got, wanted)| got != *wanted);
            let shown = differs.map(|(got, wanted)| (start(got), start(wanted)));
            let counts = (delivered.len(), in_order.len());
            faults.push(format!("{}: other lines than were written, or another order: {shown:?} {counts:?}", &id[..6]));
        }
        let missing: Vec<&String> =
            written.iter().filter(|line| !set.contains(line) && !aside.contains(line)).collect();
        let told = losses.iter().any(|loss| loss.container == *id);
        let is_told = may_lose && told;
        if !missing.is_empty() && !is_told {
            faults.push(format!(
                "{}: {} of {} lines are missing, the first is {:?}, ledger {told}, removed {}",
                &id[..6],
                missing.len(),
                written.len(),
                start(missing[0]),
                world.docker.is_removed(id)
            ));
        }
        if let Some(line) = aside.iter().find(|line| !line.contains(POISON)) {
            faults.push(format!("{line:?} was put aside"));
        }
    }
    // A receiver that cuts batches may see a record in the whole and in a half.
    let cuts = moods.picky || moods.records_max < usize::MAX;
    let mut batch_of: BTreeMap<&str, &str> = BTreeMap::new();
    for (batch, record, _) in &records {
        if *batch_of.entry(record).or_insert(batch) != batch && !cuts && world.rebuilds == 0 && losses.is_empty() {
            faults.push(format!("record {record} came in two batches"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn moods(random: &mut Random) -> Moods {
    Moods {
        trouble_percent: *random.pick(&[0, 10, 40, 90]),
        forgets: random.coin(),
        picky: random.one_in(3),
        records_max: if random.one_in(4) { 3 } else { usize::MAX },
        slow_ms: *random.pick(&[0, 20, 400]),
        refuses: false,
    }
}

fn options(random: &mut Random) -> Options {
    let max_size = random.coin().then(|| random.within(500..=6_000));
    // With one file an engine cuts in place: lines that wait for a receiver go without a trace that any look could find.
    let max_file = if max_size.is_some() { random.within(2..=6) as u32 } else { 1 };
    let compress = max_size.is_some() && max_file > 1 && random.one_in(3);
    Options { max_size, max_file, compress, ..Options::default() }
}

fn live(seed: u64) -> Result<[u64; 4], String> {
    let mut random = Random::new(seed);
    let moods = moods(&mut random);
    let kind = *random.pick(&[EngineKind::V20, EngineKind::V23]);
    let mut world = ForwardWorld::new(kind, seed, moods);
    if random.one_in(3) {
        world.settings.rules.order = Order::Relaxed;
    }
    if random.one_in(4) {
        world.settings.form.compression = Compression::None;
        world.settings.rules.batch_records = 1;
    }
    let mut ids: Vec<(String, bool)> = Vec::new();
    for name in ["web", "db", "queue"] {
        let options = options(&mut random);
        let rotates = options.max_size.is_some();
        ids.push((world.run(name, options), rotates));
    }
    let mut removed = BTreeSet::new();
    let mut may_lose = false;
    let loses_power = random.one_in(4);
    world.settings.on_overflow = *random.pick(&[OnOverflow::Spool, OnOverflow::DropOldest, OnOverflow::Block]);
    world.settings.held_max = *random.pick(&[None, Some(1), Some(6_000), Some(1 << 30)]);
    world.settings.spool_max = random.one_in(4).then_some(20_000);
    let sheds = world.settings.on_overflow == OnOverflow::DropOldest || world.settings.spool_max.is_some();
    may_lose |= sheds && world.settings.held_max < Some(1 << 30);
    for _ in 0..ACTS {
        let (id, rotates) = ids[random.below(3) as usize].clone();
        match random.below(20) {
            0..=8 if !removed.contains(&id) => {
                let mark = if moods.picky && random.one_in(6) { POISON } else { "" };
                let n = random.within(1..=12);
                // One write must not rotate a log twice: what is between can't be read by anybody.
                let n_bytes =
                    if !rotates && random.one_in(10) { random.within(10_000..=30_000) } else { random.within(0..=200) };
                // While it doesn't run, an engine may delete what nobody has read.
                world.say(&id, n, n_bytes as usize, mark);
            }
            9..=14 => world.turns(random.within(1..=40)),
            15 => world.turns(400),
            16 | 17 => {
                world.die(if loses_power && random.coin() { Crash::Power } else { Crash::Process });
                // What the engine deletes before the next look is lost, and has to be told.
                may_lose = true;
            }
            18 if removed.is_empty() && random.one_in(3) => {
                world.turns(300);
                world.rm(&id);
                removed.insert(id);
                may_lose = true;
            }
            19 => world.receiver.set_moods(Moods { refuses: random.one_in(3), ..moods }),
            _ => world.turns(1),
        }
    }
    world.receiver.set_moods(Moods { slow_ms: 3, ..Moods::WELL });
    if !world.settle() {
        return Err(format!("seed {seed}: not delivered within an hour: {:?}", world.left()));
    }
    judge(&world, moods, may_lose).map_err(|faults| format!("seed {seed} {moods:?}:\n{faults}"))?;
    let rows = world.store.rows();
    let n_batches = rows.keys().filter(|key| key.starts_with(b"sink/sim/batch/")).count();
    if n_batches > 0 {
        return Err(format!("seed {seed}: {n_batches} rows of batches are left"));
    }
    let n_files = world.spool_files().len();
    if n_files > 0 {
        return Err(format!("seed {seed}: {n_files} copies are left in the spool"));
    }
    let n_repeats = world.receiver.records().len() as u64 - first_times(&world.receiver.records()).0.len() as u64;
    Ok([u64::from(world.lives), n_repeats, world.dead_letters().len() as u64, world.losses().len() as u64])
}

#[test]
fn seeded_worlds_deliver_what_was_written_or_say_what_is_missing() {
    let seeds: Vec<u64> = match crate::sys::places::variable("LONGSHORE_SIM_SEED") {
        Some(seed) => vec![seed.parse().expect("a number")],
        None => {
            let n = crate::sys::places::variable("LONGSHORE_SIM_SEEDS").map(|n| n.parse().expect("a number"));
            (0..n.unwrap_or(SEEDS)).collect()
        }
    };
    let mut seen = [0; 4];
    let mut failed = Vec::new();
    for seed in &seeds {
        match live(*seed) {
            Ok(counts) => seen.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n),
            Err(error) => failed.push(error),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} fail\n{}",
        failed.len(),
        seeds.len(),
        failed[..failed.len().min(3)].join("\n\n")
    );
    if seeds.len() > 1 {
        assert!(seen.iter().all(|n| *n > 0), "lives, repeats, dead letters, losses: {seen:?}");
    }
}

/// One story that is short enough for a death at each of its calls.
fn story(fault: Option<(u64, Fault)>) -> (ForwardWorld, u64) {
    let moods = Moods { forgets: true, trouble_percent: 30, slow_ms: 10, ..Moods::WELL };
    let mut world = ForwardWorld::new(EngineKind::V20, 7, Moods { picky: false, ..moods });
    let plan = match fault {
        Some((call, fault)) => FaultPlan::none().and(call, fault),
        None => FaultPlan::none(),
    };
    let id = world.run("web", Options { max_size: Some(2_000), max_file: 50, compress: true, ..Options::default() });
    world.os.arm(plan);
    for _ in 0..6 {
        world.say(&id, 9, 60, "");
        world.turns(8);
    }
    world.receiver.set_moods(Moods { picky: false, ..Moods::WELL });
    assert!(world.settle(), "{fault:?}: {:?}", world.left());
    let n_calls = world.os.calls().len() as u64;
    (world, n_calls)
}

#[test]
fn a_death_or_an_error_at_any_call_loses_nothing_and_repeats_only_whole_batches() {
    let (whole, n_calls) = story(None);
    judge(&whole, Moods { picky: false, ..Moods::WELL }, false).unwrap();
    let step = (n_calls / 80).max(1);
    let mut n_lives = 0;
    for call in (0..n_calls).step_by(step as usize) {
        for fault in [
            Fault::Crash(Crash::Process, When::Before),
            Fault::Crash(Crash::Process, When::After),
            Fault::Errno(crate::sim::os::Errno::Io),
        ] {
            let (world, _) = story(Some((call, fault)));
            n_lives += world.lives;
            judge(&world, Moods { picky: false, ..Moods::WELL }, false)
                .unwrap_or_else(|faults| panic!("call {call}, {fault:?}:\n{faults}"));
        }
    }
    assert!(n_lives > 80);
}

#[test]
fn one_bad_record_is_put_aside_and_all_others_arrive() {
    let mut world = ForwardWorld::new(EngineKind::V20, 3, Moods::WELL);
    let id = world.run("web", Options::default());
    world.say(&id, 5, 20, "");
    world.say(&id, 1, 20, POISON);
    world.say(&id, 30, 20, "");
    assert!(world.settle());
    judge(&world, Moods::WELL, false).unwrap();
    assert_eq!(world.dead_letters().len(), 1);
    assert!(world.receiver.n_requests() < 20);
}

#[test]
fn a_watched_log_costs_nothing_until_something_is_hinted() {
    let mut world = ForwardWorld::new(EngineKind::V20, 4, Moods::WELL);
    let id = world.run("web", Options::default());
    world.say(&id, 3, 20, "");
    let looks = |world: &ForwardWorld| world.os.calls().iter().filter(|call| **call == "stat_open").count();
    world.os.arm(FaultPlan::none());
    world.turns(3_000);
    assert!(looks(&world) > 0, "as long as more may come");
    world.os.arm(FaultPlan::none());
    world.turns(6_000);
    assert_eq!(looks(&world), 0, "30 seconds of silence");
    world.say(&id, 1, 20, "news");
    world.turns(600);
    assert!(world.receiver.records().iter().any(|(_, _, line)| line.contains("news")));
}

#[test]
fn a_watched_log_costs_nothing_also_when_it_was_renamed_along_with_new_settings() {
    let mut world = ForwardWorld::new(EngineKind::V20, 4, Moods::WELL);
    let id = world.run("web", Options::default());
    world.say(&id, 3, 20, "");
    world.turns(2_000);
    world.docker.rename(&id, "shop");
    world.current.set(config(""));
    world.turns(3_000);
    world.os.arm(FaultPlan::none());
    world.turns(6_000);
    let n_looks = world.os.calls().iter().filter(|call| **call == "stat_open").count();
    assert_eq!(n_looks, 0, "30 seconds of silence");
}

#[test]
fn what_a_full_spool_has_no_room_for_is_held() {
    let mut world = ForwardWorld::new(EngineKind::V20, 5, Moods { trouble_percent: 100, ..Moods::WELL });
    (world.settings.on_overflow, world.settings.spool_max, world.settings.held_max) =
        (OnOverflow::Spool, Some(9_000), None);
    let id = world.run("web", Options { max_size: Some(3_000), max_file: 2, ..Options::default() });
    for _ in 0..100 {
        world.say(&id, 10, 100, "");
        world.turns(40);
    }
    assert_ne!(world.spool_files().len(), 0);
    assert!(world.held_bytes() > 10_000, "{:?}", world.losses().last());
    world.receiver.set_moods(Moods::WELL);
    assert!(world.settle());
    judge(&world, Moods::WELL, false).unwrap();
    assert!(world.losses().is_empty(), "{:?}", world.losses());
}

/// Nothing holds what is cut away in place: what had not been read is told, what comes behind it is sent.
#[test]
fn a_log_that_is_cut_while_its_lane_waits_is_told_of_also_at_the_same_size() {
    for same_size in [false, true] {
        let mut world = ForwardWorld::new(EngineKind::V20, 6, Moods { trouble_percent: 100, ..Moods::WELL });
        let id = world.run("web", Options::default());
        world.say(&id, 300, 100, "");
        world.turns(400);
        let time_ns = world.tick();
        let size = world.os.engine_read(world.docker.log_path(&id)).unwrap().len();
        if same_size {
            assert!(world.docker.rewrite_same_size(&id, time_ns));
            assert_eq!(world.os.engine_read(world.docker.log_path(&id)).unwrap().len(), size);
        } else {
            world.docker.truncate(&id);
        }
        world.turns(400);
        world.say(&id, 5, 100, "after");
        world.receiver.set_moods(Moods::WELL);
        assert!(world.settle());
        let lines: Vec<String> = world.receiver.records().into_iter().map(|(_, _, line)| line).collect();
        assert_eq!(lines.iter().filter(|line| line.contains("after")).count(), 5, "same size {same_size}");
        assert!(lines.len() < 305, "some were never read: {}", lines.len());
        let told = |loss: &crate::loss::Loss| loss.container == id && loss.reason == crate::loss::Reason::Truncated;
        assert!(world.losses().iter().any(told), "same size {same_size}: {:?}", world.losses());
    }
}

#[test]
fn deleted_logs_are_held_until_they_are_delivered_and_shed_over_the_budget() {
    let gone = Moods { trouble_percent: 100, ..Moods::WELL };
    for (held_max, is_lost) in [(1 << 30, false), (20_000, true)] {
        let mut world = ForwardWorld::new(EngineKind::V20, 5, gone);
        world.settings.held_max = Some(held_max);
        let id = world.run("web", Options { max_size: Some(3_000), max_file: 2, ..Options::default() });
        for _ in 0..100 {
            world.say(&id, 10, 100, "");
            world.turns(40);
        }
        world.receiver.set_moods(Moods::WELL);
        assert!(world.settle());
        judge(&world, Moods::WELL, is_lost).unwrap();
        assert_eq!(world.losses().iter().any(|loss| loss.reason == crate::loss::Reason::HeldMax), is_lost);
    }
}

/// `from = "end"` is about what was written before the sink was new.
#[test]
fn from_end_skips_nothing_of_a_container_that_starts_later() {
    let mut world = ForwardWorld::new(EngineKind::V20, 8, Moods::WELL);
    world.settings.from = From::End;
    let begin = |world: &mut ForwardWorld, id: &str, text: &[u8]| {
        world.docker.start(id);
        world.os.settle(world.docker.directory(id));
        let time_ns = world.tick();
        world.docker.log(id, Stream::Stdout, text, time_ns);
    };
    let [old, later, never] = ["old", "later", "never"].map(|name| world.docker.create(name, Options::default()));
    assert!(!world.docker.is_running(&never));
    begin(&mut world, &old, b"before the sink");
    world.turns(600);
    begin(&mut world, &later, b"first of one that was created before");
    world.turns(600);
    world.kill();
    let born = world.docker.create("born", Options::default());
    begin(&mut world, &born, b"first of one that began while nobody looked");
    assert!(world.settle(), "{:?}", world.left());
    let lines: Vec<String> = world.receiver.records().into_iter().map(|(_, _, line)| line).collect();
    assert_eq!(lines, ["first of one that was created before", "first of one that began while nobody looked"]);
    assert_eq!(world.losses(), vec![]);
}

#[test]
fn a_directory_that_stays_empty_costs_a_listing_a_second() {
    let mut world = ForwardWorld::new(EngineKind::V20, 9, Moods::WELL);
    let id = "e".repeat(64);
    let directory = Path::new(CONTAINERS).join(&id);
    world.os.engine_mkdir(&directory).unwrap();
    world.turns(600);
    world.os.arm(FaultPlan::none());
    world.turns(4_000);
    let n_listings = world.os.calls().iter().filter(|call| **call == "list").count();
    assert!((10..=21).contains(&n_listings), "{n_listings} in 20 seconds");
    let line = br#"{"log":"at last\n","stream":"stdout","time":"2026-11-29T16:00:00.000000001Z"}"#;
    world.os.engine_write_whole(directory.join(format!("{id}-json.log")), &[line, &b"\n"[..]].concat()).unwrap();
    world.turns(600);
    assert!(world.receiver.records().iter().any(|(_, _, line)| line == "at last"), "{:?}", world.receiver.records());
}
