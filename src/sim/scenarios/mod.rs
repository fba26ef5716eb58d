//! Small stories, each told again and again with one thing going wrong at its k-th call: a crash, a power loss, an error,
//! a read or a write that ends early. Every time the outputs must be exact in the end.
//!
//! `LONGSHORE_SIM_ONLY=name/mode/k` tells one of them; `LONGSHORE_SIM_FULL=1` leaves out none of the calls;
//! `LONGSHORE_SIM_LIST=1` lists all failures by their first lines, known or not, and fails for none.
//! `LONGSHORE_SIM_QUICK=n` tries n calls per scenario and mode and ends at the first failure.

mod damage;
mod host;
mod lines;
mod lives;
mod operator;
mod outputs;
mod rotation;
mod scene;
mod state;

pub use scene::{last_calls, panic_text, scene};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sim::docker::{EngineKind, Options};
use crate::sim::oracle::{Allowance, check, outputs as written};
use crate::sim::os::{Crash, Errno, Fault, When};
use crate::sim::random::scramble;
use crate::sim::world::{Planned, Timing, World};
use crate::sys::places::{cores, variable};
use crate::telemetry::Counters;

/// Calls per scenario and mode that are tried, unless all are asked for: spread evenly.
const CALLS_MAX: u64 = 100;
/// Failures told of one scenario and mode before the next one.
const FAILURES_MAX: usize = 2;
/// Longer than any pause between two tries.
const HEALING: Duration = Duration::from_secs(11);

/// By theme.
const SCENARIOS: [&[Scenario]; 8] = [
    rotation::SCENARIOS,
    lines::SCENARIOS,
    damage::SCENARIOS,
    lives::SCENARIOS,
    outputs::SCENARIOS,
    state::SCENARIOS,
    host::SCENARIOS,
    operator::SCENARIOS,
];

struct Scenario {
    name: &'static str,
    kind: EngineKind,
    flags: &'static str,
    allowance: Allowance,
    story: fn(&mut World),
}

/// What goes wrong at call k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Kill,
    /// While commits take their time.
    KillLate,
    Power,
    PowerLate,
    /// Once more soon after the first.
    Twice,
    Error,
    OtherError,
    Short,
}

const WRONGS: [Wrong; 8] = [
    Wrong::Kill,
    Wrong::KillLate,
    Wrong::Power,
    Wrong::PowerLate,
    Wrong::Twice,
    Wrong::Error,
    Wrong::OtherError,
    Wrong::Short,
];

impl Wrong {
    fn name(self) -> &'static str {
        match self {
            Wrong::Kill => "kill",
            Wrong::KillLate => "kill-late",
            Wrong::Power => "power",
            Wrong::PowerLate => "power-late",
            Wrong::Twice => "twice",
            Wrong::Error => "error",
            Wrong::OtherError => "other-error",
            Wrong::Short => "short",
        }
    }

    fn timing(self) -> Timing {
        match self {
            Wrong::Kill | Wrong::Power | Wrong::Short => Timing::Now,
            Wrong::Twice | Wrong::Error => Timing::OutcomeLater,
            Wrong::KillLate | Wrong::PowerLate | Wrong::OtherError => Timing::WorkLater,
        }
    }

    /// `call` is what call `k` does when nothing goes wrong. `None`: it can't go wrong like that.
    fn plan(self, k: u64, call: &str) -> Option<Vec<Planned>> {
        let crash = |kind, at| {
            let when = if scramble(at).is_multiple_of(2) { When::Before } else { When::After };
            Planned { call: at, fault: Fault::Crash(kind, when) }
        };
        let errno = |errno| Some(vec![Planned { call: k, fault: Fault::Errno(errno) }]);
        let second = k + 1 + scramble(k) % 60;
        match self {
            Wrong::Kill | Wrong::KillLate => Some(vec![crash(Crash::Process, k)]),
            Wrong::Power | Wrong::PowerLate => Some(vec![crash(Crash::Power, k)]),
            Wrong::Twice if scramble(second).is_multiple_of(3) => {
                Some(vec![crash(Crash::Process, k), crash(Crash::Power, second)])
            }
            Wrong::Twice => Some(vec![crash(Crash::Process, k), crash(Crash::Process, second)]),
            Wrong::Error => match call {
                "open" | "open_output" | "list" => errno(Errno::TooManyFiles),
                "write_at" | "create_directories" | "rename_new" => errno(Errno::NoSpace),
                _ => errno(Errno::Io),
            },
            Wrong::OtherError => match call {
                "open" | "open_output" | "stat" | "list" | "remove" => errno(Errno::Access),
                "sync" | "sync_directory" => errno(Errno::NoSpace),
                _ => errno(Errno::Io),
            },
            Wrong::Short => match call {
                "read_at" => Some(vec![Planned { call: k, fault: Fault::ShortRead(1 + (scramble(k) % 200) as usize) }]),
                "write_at" => {
                    Some(vec![Planned { call: k, fault: Fault::ShortWrite(1 + (scramble(k) % 100) as usize) }])
                }
                _ => None,
            },
        }
    }
}

/// Tells the story once. Gives the names of its calls.
fn tell(
    scenario: &Scenario,
    timing: Timing,
    planned: &[Planned],
    seed: u64,
    counters: &Counters,
) -> Result<Vec<&'static str>, String> {
    let mut world = World::new(scenario.kind, scenario.flags, timing, seed, counters);
    let told = catch_unwind(AssertUnwindSafe(|| {
        world.plan(planned.iter().copied());
        (scenario.story)(&mut world);
        world.quiet();
        let calls = world.all_calls();
        world.disarm();
        finish(&mut world, scenario.allowance).map(|()| calls)
    }));
    let outcome = told.unwrap_or_else(|panic| Err(panic_text(&*panic)));
    outcome.map_err(|error| format!("{error}{}", last_calls(&world)))
}

/// All that is wrong has ended: soon everything is exact, and a restart changes nothing.
pub fn finish(world: &mut World, allowance: Allowance) -> Result<(), String> {
    world.quiet();
    world.os.advance(HEALING);
    world.quiet();
    check(world, allowance)?;
    let before = written(&world.os);
    if !world.drain() {
        return Err("the drain doesn't end\n".to_owned());
    }
    world.quiet();
    check(world, allowance).map_err(|error| format!("after another start: {error}"))?;
    // Each start removes what is too much.
    let is_kept = |now: &[u8], before: &[u8]| now == before || allowance.pruned && before.ends_with(now);
    if !written(&world.os).iter().zip(&before).all(|(now, before)| is_kept(&now.bytes, &before.bytes)) {
        return Err("another start changed the outputs\n".to_owned());
    }
    Ok(())
}

/// What is wrong and known, by scenario and mode, as it was seen over all calls (`LONGSHORE_SIM_FULL=1`).
/// `LONGSHORE_SIM_ONLY` tells it nevertheless.
const KNOWN: [(&str, &[&str]); 2] = [
    // A power loss left nothing but zeros of the first log, so no rung tells of it or of those behind it; the engine deleted
    // them all while nobody ran.
    ("outrun-while-down", &["twice"]),
    // A segment that can't be removed stays while newer ones go, as retention wants them to.
    ("pruned-by-bytes", &["error", "other-error"]),
];

fn is_known(scenario: &Scenario, wrong: Wrong) -> bool {
    KNOWN.iter().any(|(name, modes)| *name == scenario.name && modes.contains(&wrong.name()))
}

struct Count {
    n_known: u64,
    n_runs: u64,
    failures: Vec<String>,
}

fn exhaust(scenario: &Scenario) -> Count {
    let only = variable("LONGSHORE_SIM_ONLY");
    let only: Option<Vec<String>> = only.map(|typed| typed.split('/').map(str::to_owned).collect());
    let quick: Option<u64> = variable("LONGSHORE_SIM_QUICK").map(|typed| typed.parse().expect("a number"));
    let counters = Counters::new(0);
    let mut count = Count { n_known: 0, n_runs: 0, failures: Vec::new() };
    if only.as_ref().is_some_and(|only| only[0] != scenario.name) {
        return count;
    }
    for wrong in WRONGS {
        if only.as_ref().and_then(|only| only.get(1)).is_some_and(|mode| mode != wrong.name()) {
            continue;
        }
        let calls = match tell(scenario, wrong.timing(), &[], 1, &counters) {
            Ok(calls) => calls,
            Err(error) => {
                count.failures.push(format!("{}, undisturbed ({:?}):\n{error}", scenario.name, wrong.timing()));
                return count;
            }
        };
        let plans = calls.iter().enumerate().filter_map(|(k, call)| Some((k as u64, wrong.plan(k as u64, call)?)));
        let plans: Vec<_> = plans.collect();
        let full = variable("LONGSHORE_SIM_FULL").is_some();
        let n_wanted = if full { plans.len() as u64 } else { quick.unwrap_or(CALLS_MAX).min(plans.len() as u64) };
        let wanted: Option<u64> = only.as_ref().and_then(|only| only.get(2)).map(|k| k.parse().expect("a number"));
        let n_before = count.failures.len();
        for ix in 0..n_wanted {
            let (k, plan) = &plans[(ix * plans.len() as u64 / n_wanted) as usize];
            let (k, plan) = match wanted {
                Some(wanted) if ix > 0 || plans.iter().all(|(k, _)| *k != wanted) => break,
                Some(wanted) => plans.iter().find(|(k, _)| *k == wanted).map(|(k, plan)| (k, plan)).expect("checked"),
                None => (k, plan),
            };
            count.n_runs += 1;
            // While the agent couldn't look, nobody could know.
            let blind = matches!(wrong, Wrong::Error | Wrong::OtherError | Wrong::Short);
            let unknown_losses = scenario.allowance.unknown_losses || blind;
            let scenario = &Scenario { allowance: Allowance { unknown_losses, ..scenario.allowance }, ..*scenario };
            if let Err(error) = tell(scenario, wrong.timing(), plan, scramble(*k), &counters) {
                if variable("LONGSHORE_SIM_LIST").is_some() {
                    eprintln!("LISTED {} {} {k} {}", scenario.name, wrong.name(), error.lines().next().unwrap_or(""));
                    continue;
                }
                if only.is_none() && is_known(scenario, wrong) {
                    count.n_known += 1;
                    continue;
                }
                count.failures.push(format!(
                    "LONGSHORE_SIM_ONLY={}/{}/{k} (of {} calls: {}, {plan:?}):\n{error}",
                    scenario.name,
                    wrong.name(),
                    calls.len(),
                    calls[*k as usize],
                ));
                if quick.is_some() {
                    return count;
                }
                if count.failures.len() >= n_before + FAILURES_MAX {
                    break;
                }
            }
        }
    }
    count
}

#[test]
fn every_call_of_every_scenario_may_be_the_last() {
    let scenarios: Vec<&Scenario> = SCENARIOS.into_iter().flatten().collect();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Count>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let count = exhaust(scenario);
                    if !count.failures.is_empty() && variable("LONGSHORE_SIM_QUICK").is_some() {
                        next.store(scenarios.len(), Ordering::Relaxed);
                    }
                    if variable("LONGSHORE_SIM_VERBOSE").is_some() {
                        eprintln!("{}: {} runs, {} failures", scenario.name, count.n_runs, count.failures.len());
                    }
                    results.lock().expect("no thread holds it and panics").push(count);
                }
            });
        }
    });
    let results = results.into_inner().expect("all threads have ended");
    let failures: Vec<String> = results.iter().flat_map(|count| count.failures.clone()).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let n_runs: u64 = results.iter().map(|count| count.n_runs).sum();
    let n_known: u64 = results.iter().map(|count| count.n_known).sum();
    println!("sim: {} scenarios, {} crash points passed, {n_known} known to fail", scenarios.len(), n_runs - n_known);
}

fn options(max_size: u64, max_file: u32) -> Options {
    Options { max_size: Some(max_size), max_file, ..Options::default() }
}
