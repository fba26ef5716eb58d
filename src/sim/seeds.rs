//! Worlds from seeds: containers, rates, fragments, rotation modes, crashes, power losses, faults, a lost store, other
//! settings. First anything may happen, then nothing does, and soon the outputs are exact.
//!
//! `LONGSHORE_SIM_SEED=n` runs one world again, with the variable of its kind beside it; `LONGSHORE_SIM_SEEDS=n` runs so
//! many fresh ones of each kind.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::docker::{EngineKind, Options, PIECE_BYTES};
use super::oracle::Allowance;
use super::os::{Crash, Errno, Fault, When};
use super::random::Random;
use super::scenarios::{finish, last_calls, panic_text};
use super::world::{OUT, Planned, Timing, World};
use crate::decode::Stream;
use crate::sys::places::{cores, variable};
use crate::telemetry::{Counters, LostReason, ParseReason, RotationKind};

const FIXED_SEEDS: u64 = 64;
const ACTS: u64 = 40;
/// Seeds that failed once.
const FOUND: [u64; 73] = [
    13_079_277_033_364_670_320,
    2_244_759_104_436_294_378,
    7_010_985_762_993_229_099,
    6_533_338_242_358_017_596,
    10_531_805_229_190_798_367,
    2_062_184_908_404_492_662,
    14_961_435_974_888_803_631,
    17_905_397_053_072_053_402,
    14_968_541_086_326_085_496,
    10_664_018_101_809_609_858,
    12_159_925_564_504_863_568,
    2_175_849_956_136_535_613,
    4_686_790_923_887_703_244,
    17_444_270_185_706_628_929,
    14_690_905_473_037_248_471,
    3_573_450_688_070_941_967,
    5_914_019_131_747_679_376,
    6_934_273_940_305_451_502,
    5_749_219_416_062_071_451,
    6_577_537_802_702_569_371,
    13_739_749_490_638_551_181,
    13_607_591_368_414_941_434,
    1_191_826_199_898_842_033,
    9_126_079_777_683_867_889,
    7_038_262_250_807_433_135,
    7_677_068_398_050_955_214,
    16_366_347_538_391_438_195,
    3_594_470_674_811_651_642,
    16_319_594_786_967_330_103,
    2_960_732_332_354_802_481,
    10_996_248_238_719_006_927,
    2_152_207_776_224_995_766,
    8_827_617_503_800_695_995,
    5_802_821_191_201_986_333,
    3_027_654_571_011_006_699,
    11_761_442_583_370_793_676,
    14_652_360_247_341_957_717,
    3_732_509_489_271_810_844,
    9_902_128_720_295_775_836,
    2_795_376_596_056_101_636,
    18_226_855_003_624_006_340,
    17_709_243_169_116_746_889,
    6_807_540_733_879_820_659,
    12_597_939_950_308_764_300,
    9_158_815_980_092_133_210,
    4_303_033_584_134_477_949,
    5_099_087_587_205_649_516,
    7_157_692_118_164_522_437,
    17_051_602_788_095_284_938,
    17_761_045_328_739_078_239,
    8_101_567_796_783_939_875,
    10_229_487_404_661_733_873,
    8_156_306_025_745_986_443,
    5_452_355_021_020_725_453,
    15_886_500_727_686_894_718,
    16_621_532_624_315_460_702,
    48_496_562_479_946_423,
    18_109_400_613_937_745_996,
    16_583_349_708_106_534_275,
    260_810_899_956_870_099,
    12_132_380_696_853_741_059,
    8_786_627_882_586_449_144,
    3_668_450_158_291_116_504,
    14_786_168_029_026_948_016,
    6_582_475_659_567_567_399,
    3_700_879_129_283_187_493,
    8_083_876_207_145_831_184,
    5_340_440_874_582_442_010,
    12_869_032_447_908_000_043,
    12_828_022_487_009_145_977,
    9_402_493_259_284_425_184,
    16_457_147_092_858_013_808,
    8_754_439_504_295_776_815,
];
/// Those of worlds whose settings change while the agent runs.
const FOUND_RELOADS: [u64; 18] = [
    9_950_790_257_818_754_205,
    7_948_609_286_801_037_824,
    1_890_837_979_355_127_749,
    15_933_019_641_036_388_505,
    10_570_869_544_849_121_810,
    15_948_442_311_137_650_561,
    4_092_139_318_588_254_659,
    17_148_205_436_030_701_293,
    5_467_932_598_346_696_993,
    5_992_323_471_728_043_269,
    8_027_403_040_819_182_609,
    17_440_776_977_901_202_786,
    5_618_051_800_144_844_678,
    2_406_485_335_973_037_143,
    9_579_540_754_105_421_937,
    16_011_773_298_958_260_118,
    4_088_309_418_738_041_952,
    17_795_562_548_693_744_453,
];

/// What each kind of trouble the fixed seeds must have met at least once.
const MET: [&str; 26] = [
    "calls_overtaken",
    "rotations",
    "rotations_in_place",
    "rotations_by_unlink",
    "compressions",
    "compressions_seen_half",
    "chains_across_rotation",
    "chains_abandoned",
    "records_torn",
    "records_glued",
    "records_destroyed",
    "logs_truncated",
    "logs_copied_and_truncated",
    "tails_lost",
    "engine_kills",
    "inodes_reused",
    "process_crashes",
    "power_losses",
    "eio",
    "enospc",
    "emfile",
    "eacces",
    "short_reads",
    "short_writes",
    "pages_zeroed",
    "renames_lost",
];

/// What a world of seeds has beside what they all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Settings change between two lives.
    Lives,
    /// Settings change while the agent runs, and containers are left out for a while.
    Reloads,
    /// The engine writes, rotates, cuts and compresses between two calls of the agent.
    Overtaken,
}

impl Kind {
    /// As the line that replays a seed says it.
    fn variable(self) -> &'static str {
        match self {
            Kind::Lives => "",
            Kind::Reloads => " LONGSHORE_SIM_RELOADS=1",
            Kind::Overtaken => " LONGSHORE_SIM_OVERTAKEN=1",
        }
    }

    fn asked_for() -> Kind {
        match (variable("LONGSHORE_SIM_RELOADS"), variable("LONGSHORE_SIM_OVERTAKEN")) {
            (Some(_), _) => Kind::Reloads,
            (None, Some(_)) => Kind::Overtaken,
            (None, None) => Kind::Lives,
        }
    }
}

fn tell(seed: u64, of: Kind, counters: &Counters, coverage: &Mutex<BTreeMap<&'static str, u64>>) -> Result<(), String> {
    let mut random = Random::new(seed);
    let kind = *random.pick(&[EngineKind::V19, EngineKind::V20, EngineKind::V23]);
    let timing = *random.pick(&[Timing::Now, Timing::OutcomeLater, Timing::WorkLater]);
    let flags = flags(&mut random, 0);
    let mut world = World::new(kind, &flags, timing, random.draw(), counters);
    let told = catch_unwind(AssertUnwindSafe(|| {
        let allowance = act(&mut world, &mut random, of);
        world.disarm();
        world.os.set_capacity(OUT, None);
        finish(&mut world, allowance)
    }));
    let mut all = coverage.lock().expect("no thread holds it and panics");
    for (what, n) in world.os.coverage() {
        *all.entry(what).or_default() += n;
    }
    drop(all);
    let outcome = told.unwrap_or_else(|panic| Err(panic_text(&*panic)));
    outcome.map_err(|error| {
        let with = of.variable();
        format!("LONGSHORE_SIM_SEED={seed}{with} ({kind:?}, {timing:?}, '{flags}'):\n{error}{}", last_calls(&world))
    })
}

fn flags(random: &mut Random, life: u32) -> String {
    let limit = match random.below(3) {
        0 => String::new(),
        _ => format!("--limit {}", random.within(200..=4_000)),
    };
    let compression = *random.pick(&["", "", "-c gzip", "-c zstd"]);
    let template = match life {
        0 => "",
        1 => "--template {time}~{stream}~{log}",
        _ => "--template {time}~[{short_id}]~{log}",
    };
    let sync = if random.one_in(4) { "--sync" } else { "" };
    format!("{limit} {compression} {template} {sync}")
}

fn options(random: &mut Random, kind: EngineKind) -> Options {
    let max_file = random.within(1..=5) as u32;
    let max_size = match random.below(4) {
        0 => None,
        1 => Some(random.within(1..=200)),
        _ => Some(random.within(300..=30_000)),
    };
    let compress = max_file > 1 && max_size.is_some() && kind != EngineKind::V19 && random.one_in(3);
    Options { max_file: if max_size.is_some() { max_file } else { 1 }, max_size, compress, ..Options::default() }
}

/// Whatever comes. Gives what the outputs are allowed for it.
fn act(world: &mut World, random: &mut Random, of: Kind) -> Allowance {
    let reloads = of == Kind::Reloads;
    // A seed is mild or wild: what is lost in one kind of trouble must not hide what is lost in another.
    let with_power = random.one_in(3);
    let with_faults = random.coin();
    let with_damage = random.one_in(3);
    world.note(format_args!("power losses: {with_power}, faults: {with_faults}, damage: {with_damage}"));
    let mut allowance = Allowance::NONE;
    allowance.unknown_losses = true;
    let mut ids: Vec<String> = Vec::new();
    let kind = *random.pick(&[EngineKind::V19, EngineKind::V20, EngineKind::V23]);
    for number in 0..random.within(1..=3) {
        let options = options(random, kind);
        ids.push(world.run(["web", "db", "queue"][number as usize], options));
    }
    let mut settings = 0;
    world.plan(faults(random, with_faults, with_power));
    for _ in 0..ACTS {
        let ix = random.below(ids.len() as u64) as usize;
        let id = ids[ix].clone();
        if of == Kind::Overtaken && random.coin() {
            overtake(world, random, &id, with_damage);
        }
        let act = random.below(30);
        world.note(format_args!("act {act} upon {id:.6}"));
        match act {
            0..=9 => {
                let n = random.within(1..=6);
                for _ in 0..n {
                    let stream = if random.one_in(4) { Stream::Stderr } else { Stream::Stdout };
                    world.say_on(&id, stream, random.within(1..=150) as usize);
                }
            }
            10 => world.say(&id, random.within(10_000..=40_000) as usize),
            11 => {
                let text = world.text(PIECE_BYTES + random.within(0..=20_000) as usize);
                world.write(&id, Stream::Stdout, &text);
            }
            12 => world.write(&id, Stream::Stdout, b" end\n"),
            13..=18 => world.turns(random.within(1..=4) as u32),
            19 => world.seconds(random.within(1..=3) as u32),
            20 => world.kill(),
            21 => {
                world.stop(&id);
                world.turns(1);
                world.start(&id);
            }
            22 if random.coin() => ids[ix] = if world.docker.is_removed(&id) { id } else { world.recreate(&id) },
            22 => {
                world.drain(); // With a full disk it takes all its time.
            }
            23 => {
                world.docker.start_compression(&id, random.within(0..=300) as usize);
            }
            24 => world.docker.finish_compression(&id),
            25 | 29 if reloads => {
                settings = (settings + u32::from(random.coin())).min(2); // The oracle knows no way back.
                let flags = flags(random, settings);
                let without = *random.pick(&["", "", "--exclude-names web", "--exclude-names db"]);
                world.reload(&format!("{flags} {without}"));
            }
            25 if settings < 2 && random.coin() => {
                settings += 1;
                let flags = flags(random, settings);
                world.set_flags(&flags);
                world.kill();
            }
            25 if !with_power && random.one_in(3) => {
                world.quiet();
                world.lose_store();
            }
            26 if with_power && random.one_in(3) => world.power_loss(),
            27 if with_damage => damage(world, random, &id),
            28 if with_faults => {
                let capacity = random.coin().then(|| random.within(1..=4) * 4096);
                world.os.set_capacity(OUT, capacity);
            }
            29 => world.kill_engine(),
            _ => world.turns(1),
        }
    }
    if reloads {
        let flags = flags(random, settings);
        world.reload(&flags); // Everyone is wanted at the end.
    }
    allowance
}

/// What the engine does between the calls of the agent's next step, some of it in a burst that rotates more than once.
/// Nobody makes copies there: another tool's copies beside the engine's own rotations leave no order to go by.
fn overtake(world: &mut World, random: &mut Random, id: &str, with_damage: bool) {
    let mut call = random.below(12);
    for _ in 0..random.within(1..=4) {
        let id = id.to_owned();
        match random.below(8) {
            0 => {
                let n_bytes = random.within(0..=300) as usize;
                world.meanwhile(call, move |docker| _ = docker.start_compression(&id, n_bytes));
            }
            1 => world.meanwhile(call, move |docker| docker.finish_compression(&id)),
            2 if with_damage => {
                let os = world.os.clone();
                world.meanwhile(call, move |docker| {
                    if docker.is_running(&id) && os.engine_exists(docker.log_path(&id)) {
                        docker.truncate(&id);
                    }
                });
            }
            _ => {
                for _ in 0..random.within(1..=4) {
                    world.say_meanwhile(call, &id, random.within(1..=150) as usize);
                }
            }
        }
        call += random.below(6);
    }
    world.turns(1);
}

fn faults(random: &mut Random, with_faults: bool, with_power: bool) -> Vec<Planned> {
    let mut planned = Vec::new();
    for _ in 0..random.within(0..=4) {
        let call = random.below(1_500);
        let kind = if with_power && random.one_in(3) { Crash::Power } else { Crash::Process };
        let when = if random.coin() { When::Before } else { When::After };
        planned.push(Planned { call, fault: Fault::Crash(kind, when) });
    }
    if with_faults {
        for _ in 0..random.within(4..=24) {
            let errno = *random.pick(&[Errno::Io, Errno::NoSpace, Errno::TooManyFiles, Errno::Access]);
            let fault = match random.below(4) {
                0 => Fault::ShortRead(random.within(1..=300) as usize),
                1 => Fault::ShortWrite(random.within(1..=100) as usize),
                _ => Fault::Errno(errno),
            };
            planned.push(Planned { call: random.below(800), fault });
        }
    }
    planned
}

fn damage(world: &mut World, random: &mut Random, id: &str) {
    if !world.docker.is_running(id) || !world.os.engine_exists(world.docker.log_path(id)) {
        return;
    }
    let kind = random.below(6);
    world.note(format_args!("damage {kind} to {id:.6}"));
    match kind {
        0 => world.docker.truncate(id),
        1 => world.docker.copy_truncate(id, ".1"),
        2 => {
            let time_ns = world.tick();
            world.kill_engine(); // No line may be open.
            world.docker.log_torn(id, Stream::Stdout, b"torn", time_ns, random.within(1..=60) as usize);
            world.kill_engine();
        }
        3 => {
            world.kill();
            world.docker.lose_tail(id, random.within(1..=400));
        }
        4 => {
            world.kill(); // Pages are lost with the power, and no process outlives that.
            world.docker.zero_page(id, random.below(3));
        }
        _ => {
            let text = world.text(PIECE_BYTES + 100);
            world.write(id, Stream::Stdout, &text);
            world.docker.drop_rest(id, Stream::Stdout);
        }
    }
}

#[test]
fn any_seed_ends_exact() {
    let one: Option<u64> = variable("LONGSHORE_SIM_SEED").map(|typed| typed.parse().expect("a seed is a number"));
    let fresh: u64 = variable("LONGSHORE_SIM_SEEDS").map_or(1, |typed| typed.parse().expect("so many seeds"));
    let fresh_seeds = || (0..fresh).map(|_| RandomState::new().build_hasher().finish());
    let seeds: Vec<(u64, Kind)> = match one {
        Some(seed) => vec![(seed, Kind::asked_for())],
        None => {
            let found = [(Kind::Lives, &FOUND[..]), (Kind::Reloads, &FOUND_RELOADS), (Kind::Overtaken, &[])];
            let all = found.into_iter().flat_map(|(of, found)| {
                let seeds = (0..FIXED_SEEDS).chain(found.iter().copied()).chain(fresh_seeds());
                seeds.map(move |seed| (seed, of))
            });
            all.collect()
        }
    };
    let counters = Counters::new(0);
    let coverage = Mutex::new(BTreeMap::new());
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                let counters = counters.clone();
                while let Some((seed, of)) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = tell(*seed, *of, &counters, &coverage) {
                        failures.lock().expect("no thread holds it and panics").push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("all threads have ended");
    assert!(failures.is_empty(), "{} of {} seeds failed:\n{}", failures.len(), seeds.len(), failures.join("\n"));
    if one.is_none() {
        check_coverage(&coverage.into_inner().expect("all threads have ended"), &counters);
    }
    println!("sim: {} seeds passed", seeds.len());
}

fn check_coverage(coverage: &BTreeMap<&'static str, u64>, counters: &Counters) {
    let mut unmet: Vec<&str> =
        MET.into_iter().filter(|what| coverage.get(what).is_none_or(|n_times| *n_times == 0)).collect();
    let counted = [
        ("rotations seen", counters.rotations.of(RotationKind::Rename).get()),
        ("outputs rotated", counters.outputs_rotated.get()),
        ("outputs compressed", counters.compressed.get()),
        ("torn lines", counters.parse_errors.of(ParseReason::Torn).get()),
        ("NULs", counters.parse_errors.of(ParseReason::Nul).get()),
        ("truncated", counters.lost_bytes.of(LostReason::Truncated).get()),
        ("rotated away", counters.lost_bytes.of(LostReason::Rotated).get()),
        ("aligned", counters.aligned.total()),
        ("commit failures", counters.checkpoint_commit_failures.get()),
        ("write failures", counters.write_failures.total()),
        ("read failures", counters.read_failures.total()),
    ];
    unmet.extend(counted.iter().filter(|(_, n_times)| *n_times == 0).map(|(what, _)| *what));
    assert!(unmet.is_empty(), "never met: {unmet:?} in {coverage:?}");
}
