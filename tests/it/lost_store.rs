//! The store is lost in each way that was seen, over outputs of each kind: the agent says so, keeps the damaged one,
//! and goes on behind the last line that its outputs have.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Longshore, assert_same};
use crate::verify::{Log, Root, time};

const QUIET: [&str; 2] = ["--progress", "never"];
const SMALL: [&str; 2] = ["--limit", "10kB"];
const N_FIRST: usize = 600;
const N_MORE: usize = 50;

// ------------------------------------------------------------------------------- ways to lose it

/// What is done to the state directory, what the agent says of it, and whether there is something to move aside.
struct Damage {
    what: &'static str,
    inflict: fn(&Path),
    says: &'static str,
    leaves_remains: bool,
}

const DAMAGES: [Damage; 9] = [
    Damage {
        what: "the state directory is missing",
        inflict: |state| fs::remove_dir_all(state).expect("remove"),
        says: "",
        leaves_remains: false,
    },
    Damage {
        what: "the store is missing",
        inflict: |state| fs::remove_dir_all(state.join("sled")).expect("remove"),
        says: "its directory is gone or empty",
        leaves_remains: false,
    },
    Damage {
        what: "its files are zeroed",
        inflict: |state| each_file(state, |path, size| fs::write(path, vec![0; size]).expect("zero")),
        says: "the state store was damaged",
        leaves_remains: true,
    },
    Damage {
        what: "its files are empty",
        inflict: |state| each_file(state, |path, _| fs::write(path, "").expect("empty")),
        says: "the state store was damaged",
        leaves_remains: true,
    },
    Damage {
        what: "its files are cut",
        inflict: |state| each_file(state, |path, size| cut(path, size / 2)),
        says: "the state store was damaged",
        leaves_remains: true,
    },
    Damage {
        what: "half the directory: no data",
        inflict: |state| fs::remove_file(state.join("sled/db")).expect("remove"),
        says: "its file db is missing",
        leaves_remains: true,
    },
    Damage {
        what: "half the directory: no snapshot",
        inflict: remove_snapshots,
        // So small a store is read whole without it.
        says: "",
        leaves_remains: false,
    },
    Damage {
        what: "it opens fine but empty",
        inflict: empty_store,
        says: "it opens without an error and is empty",
        leaves_remains: true,
    },
    Damage {
        what: "it opens fine but empty, and has no marker",
        inflict: |state| {
            empty_store(state);
            fs::remove_file(state.join("store.json")).expect("remove");
        },
        says: "it opens without an error and is empty",
        leaves_remains: true,
    },
];

fn each_file(state: &Path, work: fn(&Path, usize)) {
    for path in listed(&state.join("sled")).into_iter().filter(|path| path.is_file()) {
        let size = fs::metadata(&path).expect("its size").len();
        work(&path, usize::try_from(size).expect("a small file"));
    }
}

fn cut(path: &Path, size: usize) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("open");
    file.set_len(size as u64).expect("cut");
}

fn remove_snapshots(state: &Path) {
    let is_snapshot = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."));
    let found: Vec<PathBuf> = listed(&state.join("sled")).into_iter().filter(is_snapshot).collect();
    assert!(!found.is_empty(), "a store has a snapshot");
    found.iter().for_each(|path| fs::remove_file(path).expect("remove"));
}

fn empty_store(state: &Path) {
    fs::remove_dir_all(state.join("sled")).expect("remove");
    drop(sled::Config::new().path(state.join("sled")).flush_every_ms(None).open().expect("a store of sled's"));
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn moved_aside(state: &Path) -> Vec<PathBuf> {
    let is_corrupt = |path: &PathBuf| path.to_string_lossy().contains("sled.corrupt-");
    listed(state).into_iter().filter(is_corrupt).collect()
}

// ------------------------------------------------------------------------------- what is expected

fn text(n: usize) -> String {
    format!("line {n} of a log that somebody reads\n")
}

fn lines(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{} {}", time(n), text(n)).into_bytes()).collect()
}

/// What the agent said.
fn backfill(agent: &Longshore, what: &str, args: &[&[&str]]) -> String {
    let done = agent.backfill(&[&[&QUIET[..]], args].concat().concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{what}: {said}");
    said
}

fn web(root: &Root) -> Log {
    root.container('a', "web", "2026-11-25T00:00:00Z")
}

/// Loses the store in every way, one after the other, and lets the log grow in between.
fn lose_again_and_again(args: &[&str], check: impl Fn(&str, &[u8], usize)) {
    let root = Root::new();
    let log = web(&root);
    log.lines(0, N_FIRST);
    let agent = Longshore::new(root.path());
    let state = agent.state_dir();
    backfill(&agent, "first", &[&SMALL, args]);
    let mut n = N_FIRST;
    for damage in &DAMAGES {
        let before = moved_aside(&state).len();
        (damage.inflict)(&state);
        log.lines(n, n + N_MORE);
        n += N_MORE;
        let said = backfill(&agent, damage.what, &[&SMALL, args]);
        assert!(said.contains(damage.says), "{}: {said}", damage.what);
        check(damage.what, &agent.outputs("web"), n);
        let kept = moved_aside(&state);
        assert!(kept.len() <= 2, "{}: {kept:?}", damage.what);
        if damage.leaves_remains {
            assert_eq!(kept.len(), 2.min(before + 1), "{}: {kept:?}", damage.what);
            let newest = kept.last().expect("one is kept").to_string_lossy().into_owned();
            assert!(said.contains(&newest), "{}: says where it is: {said}", damage.what);
        }
    }
}

fn whole(what: &str, output: &[u8], n: usize) {
    assert_same(what, output, &lines(0, n));
}

#[test]
fn over_plain_segments() {
    lose_again_and_again(&[], whole);
}

#[test]
fn over_gzip_segments() {
    lose_again_and_again(&["-c", "gzip"], whole);
}

#[test]
fn over_zstd_segments() {
    lose_again_and_again(&["-c", "zstd"], whole);
}

/// What is left of a pruned output is the end of the log, without a gap.
#[test]
fn over_pruned_segments() {
    for form in [&[][..], &["-c", "gzip"], &["-c", "zstd"]] {
        lose_again_and_again(&[&["--max-files", "2"], form].concat(), |what, output, n| {
            let n_left = crate::harness::n_lines(output);
            assert!((1..n).contains(&n_left), "{what}: something was pruned, not all: {n_left} of {n}");
            assert_same(what, output, &lines(n - n_left, n));
        });
    }
}

/// A look leaves the damage to the agent, which would take an empty new store for its own.
#[test]
fn a_look_at_a_damaged_store_says_so_and_changes_nothing() {
    for damage in DAMAGES.iter().filter(|damage| !damage.says.is_empty()) {
        let root = Root::new();
        let log = web(&root);
        log.lines(0, N_FIRST);
        let agent = Longshore::new(root.path());
        backfill(&agent, damage.what, &[&SMALL]);
        (damage.inflict)(&agent.state_dir());
        for verb in ["containers", "state list", "state export", "state forget web", "ledger", "verify"] {
            let done = agent.tell(verb, &[]);
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(1), "{verb}, {}: {said}", damage.what);
            assert!(said.contains("is damaged: ") && said.contains("hint: start the agent"), "{verb}: {said}");
        }
        assert_eq!(moved_aside(&agent.state_dir()), Vec::<PathBuf>::new(), "{}", damage.what);
        log.lines(N_FIRST, N_FIRST + N_MORE);
        let said = backfill(&agent, damage.what, &[&SMALL]);
        assert!(said.contains(damage.says), "{}: {said}", damage.what);
        whole(damage.what, &agent.outputs("web"), N_FIRST + N_MORE);
    }
}

/// The settings under which a line was written stand beside the outputs, not in the store.
#[test]
fn with_another_template() {
    for damage in &DAMAGES {
        let root = Root::new();
        let log = web(&root);
        log.lines(0, N_FIRST);
        let agent = Longshore::new(root.path());
        backfill(&agent, damage.what, &[&SMALL, &["-c", "gzip", "--template", "{stream} {log}"]]);
        (damage.inflict)(&agent.state_dir());
        log.lines(N_FIRST, N_FIRST + N_MORE);
        let said = backfill(&agent, damage.what, &[&SMALL]);
        assert!(said.contains(damage.says), "{}: {said}", damage.what);
        let output = agent.outputs("web");
        // The first new line finishes the comparison under the old settings.
        let n_old = output.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"stdout ")).count();
        assert!((N_FIRST..=N_FIRST + 1).contains(&n_old), "{}: {n_old} lines as before", damage.what);
        let old = (0..n_old).flat_map(|n| format!("stdout {}", text(n)).into_bytes());
        let expected: Vec<u8> = old.chain(lines(n_old, N_FIRST + N_MORE)).collect();
        assert_same(damage.what, &output, &expected);
    }
}

#[test]
fn with_one_time_on_all_lines() {
    for damage in &DAMAGES {
        let root = Root::new();
        let log = web(&root);
        let entries = |from: usize, to: usize| {
            (from..to).for_each(|n| log.entry(&format!("{n} of one moment\\n"), "stdout", &time(0)));
        };
        entries(0, N_FIRST);
        let agent = Longshore::new(root.path());
        backfill(&agent, damage.what, &[&SMALL]);
        (damage.inflict)(&agent.state_dir());
        entries(N_FIRST, N_FIRST + N_MORE);
        backfill(&agent, damage.what, &[&SMALL]);
        let expected: Vec<u8> =
            (0..N_FIRST + N_MORE).flat_map(|n| format!("{} {n} of one moment\n", time(0)).into_bytes()).collect();
        assert_same(damage.what, &agent.outputs("web"), &expected);
    }
}

/// Equal lines without a time: it goes on where the longest run of them matches, and the ledger says that it guessed.
#[test]
fn equal_lines_without_a_time_are_a_guess_that_the_ledger_tells() {
    const N_TICKS: usize = 600;
    for damage in DAMAGES.iter().filter(|damage| damage.what != "half the directory: no snapshot") {
        let root = Root::new();
        let log = web(&root);
        let ticks = |from: usize, to: usize| (from..to).for_each(|n| log.entry("tick\\n", "stdout", &time(n)));
        ticks(0, N_TICKS);
        let agent = Longshore::new(root.path());
        let args: [&[&str]; 2] = [&SMALL, &["--template", "{log}"]];
        backfill(&agent, damage.what, &args);
        (damage.inflict)(&agent.state_dir());
        ticks(N_TICKS, N_TICKS + N_MORE);
        backfill(&agent, damage.what, &args);
        assert_same(damage.what, &agent.outputs("web"), "tick\n".repeat(N_TICKS + N_MORE).as_bytes());
        let told = agent.tell("ledger", &["--json"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("\"ambiguous\""), "{}: {told}", damage.what);
    }
}

/// Another tool filled the same layout: what it wrote is ours from then on, and nothing of it is written again.
#[test]
fn over_outputs_of_another_tool() {
    let root = Root::new();
    web(&root).lines(0, N_FIRST);
    let agent = Longshore::new(root.path());
    let directory = agent.log_path().join("web");
    fs::create_dir_all(&directory).expect("create");
    fs::write(directory.join("web.log.1"), lines(0, 100)).expect("write");
    fs::write(directory.join("web.log"), lines(100, 250)).expect("write");
    backfill(&agent, "another tool's outputs", &[&SMALL]);
    assert_same("another tool's outputs", &agent.outputs("web"), &lines(0, N_FIRST));

    // What has no partner in the log stays, before all of the log.
    let agent = Longshore::new(root.path());
    let directory = agent.log_path().join("web");
    fs::create_dir_all(&directory).expect("create");
    fs::write(directory.join("web.log"), "of another age\n").expect("write");
    backfill(&agent, "foreign lines", &[&SMALL]);
    let expected = [b"of another age\n".to_vec(), lines(0, N_FIRST)].concat();
    assert_same("foreign lines", &agent.outputs("web"), &expected);
}
