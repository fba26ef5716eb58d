use super::*;

const DIRECTORY: &str = "/out";

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn machine(seed: u64) -> SimOs {
    let os = SimOs::new(seed);
    os.create_directories(Path::new(DIRECTORY)).unwrap();
    os.settle(DIRECTORY);
    os
}

fn write(os: &SimOs, name: &str, bytes: &[u8]) -> File {
    let file = os.open_output(&path(name), 0o640, Create::IfMissing).unwrap();
    let size = os.stat_open(&file).unwrap().size;
    assert_eq!(os.write_at(&file, size, bytes).unwrap(), bytes.len());
    file
}

fn contents(os: &SimOs, name: &str) -> Option<String> {
    os.engine_read(path(name)).ok().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn raw_os_error<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_file_is_written_read_renamed_and_removed() {
    let os = machine(0);
    let file = write(&os, "a", b"hello");
    let mut buffer = [0; 8];
    assert_eq!(os.read_at(&file, 1, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"ello");
    os.rename_new(&path("a"), &path("b")).unwrap();
    assert_eq!(os.rename_new(&path("a"), &path("c")).unwrap_err().kind(), io::ErrorKind::NotFound);
    write(&os, "c", b"");
    assert_eq!(os.rename_new(&path("b"), &path("c")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let mut names = os.list(Path::new(DIRECTORY)).unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    os.remove(&path("b")).unwrap();
    assert_eq!(os.stat_open(&file).unwrap().links, 0);
    assert_eq!(os.stat(&path("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn outputs_are_made_as_asked() {
    let os = machine(0);
    let kind = |outcome: io::Result<File>| outcome.err().map(|error| error.kind());
    assert_eq!(kind(os.open_output(&path("a"), 0, Create::Never)), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(os.open_output(&path("a"), 0, Create::New)), None);
    assert_eq!(kind(os.open_output(&path("a"), 0, Create::New)), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(kind(os.open_output(&path("no/a"), 0, Create::New)), Some(io::ErrorKind::NotFound));
    os.engine_special(path("fifo")).unwrap();
    assert_eq!(os.stat(&path("fifo")).unwrap().kind, Kind::Other);
    for unfit in ["fifo", ""] {
        assert_eq!(kind(os.open(&path(unfit))), Some(io::ErrorKind::InvalidInput));
    }
}

#[test]
fn an_inode_number_is_used_again_once_nobody_has_the_file() {
    let os = machine(0);
    let inode = |name: &str| os.stat(&path(name)).unwrap().id.inode;
    let held = write(&os, "a", b"old");
    let clone = held.clone();
    let first = inode("a");
    os.remove(&path("a")).unwrap();
    write(&os, "b", b"");
    assert_ne!(inode("b"), first, "it is still open");
    drop(held);
    let mut buffer = [0; 3];
    assert_eq!(os.read_at(&clone, 0, &mut buffer).unwrap(), 3);
    drop(clone);
    write(&os, "c", b"");
    assert_eq!(inode("c"), first);
    assert_eq!(os.coverage()["inodes_reused"], 1);
}

#[test]
fn a_call_fails_by_its_number() {
    let os = machine(0);
    let file = write(&os, "a", b"");
    os.arm(
        FaultPlan::at(1, Fault::Errno(Errno::NoSpace))
            .and(2, Fault::ShortWrite(2))
            .and(3, Fault::ShortRead(1))
            .and(4, Fault::Errno(Errno::Io)),
    );
    assert_eq!(os.write_at(&file, 0, b"abc").unwrap(), 3);
    assert_eq!(raw_os_error(os.write_at(&file, 3, b"def")), Some(28));
    assert_eq!(os.write_at(&file, 3, b"def").unwrap(), 2);
    assert_eq!(os.read_at(&file, 0, &mut [0; 9]).unwrap(), 1);
    assert_eq!(raw_os_error(os.sync(&file)), Some(5));
    os.sync(&file).unwrap();
    assert_eq!(os.calls(), ["write_at", "write_at", "write_at", "read_at", "sync", "sync"]);
    assert_eq!(contents(&os, "a").unwrap(), "abcde");
}

#[test]
fn a_crash_at_call_k_lets_exactly_the_calls_before_it_happen() {
    for (when, more) in [(When::Before, 0), (When::After, 1)] {
        for k in 0..5 {
            let os = machine(0);
            let file = write(&os, "a", b"");
            os.arm(FaultPlan::at(k, Fault::Crash(Crash::Process, when)));
            for offset in 0..5 {
                let outcome = os.write_at(&file, offset, b"x");
                assert_eq!(outcome.is_err(), offset >= k);
                assert_eq!(os.crashed().is_some(), offset >= k);
            }
            assert_eq!(contents(&os, "a").unwrap().len() as u64, k + more);
            let os = os.restart();
            assert_eq!(os.crashed(), None);
            assert!(os.open(&path("a")).is_ok());
        }
    }
}

#[test]
fn the_dead_stay_dead_and_close_their_files() {
    let os = machine(0);
    let file = write(&os, "a", b"x");
    os.remove(&path("a")).unwrap();
    os.crash(Crash::Process, &mut Random::new(0));
    let next = os.restart();
    assert_eq!(next.open_files(), 0);
    assert_eq!(os.stat(Path::new(DIRECTORY)).unwrap_err().to_string(), "crashed");
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next.stat_open(&file))).is_err());
    drop(file);
    assert!(next.stat(Path::new(DIRECTORY)).is_ok());
}

#[test]
fn the_engine_outlives_the_agent_but_not_the_machine() {
    let os = machine(0);
    let file = os.engine_create(path("log")).unwrap();
    os.crash(Crash::Process, &mut Random::new(0));
    os.engine_append(&file, b"x");
    let os = os.restart();
    let boot_id = os.boot_id();
    os.crash(Crash::Power, &mut Random::new(0));
    assert_ne!(os.boot_id(), boot_id);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| os.engine_append(&file, b"x"))).is_err());
}

#[test]
fn a_power_loss_keeps_what_was_synced() {
    for seed in 0..200 {
        let os = machine(seed);
        let file = write(&os, "a", &[b's'; 6000]);
        os.sync(&file).unwrap();
        os.sync_directory(Path::new(DIRECTORY)).unwrap();
        write(&os, "a", &[b'u'; 20_000]);
        write(&os, "b", b"never synced");
        os.crash(Crash::Power, &mut Random::new(seed));
        let bytes = os.engine_read(path("a")).unwrap();
        assert!(bytes.len() >= 6000, "seed {seed}");
        assert!(bytes[..6000].iter().all(|byte| *byte == b's'), "seed {seed}");
        assert!(bytes[6000..].iter().all(|byte| [0, b'u'].contains(byte)), "seed {seed}");
        let allowed = [None, Some(0), Some(12)];
        assert!(allowed.contains(&os.engine_read(path("b")).ok().map(|b| b.len()).map(|n| if n > 0 { 12 } else { 0 })));
    }
}

#[test]
fn a_power_loss_does_everything_it_may_do() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..200 {
        let os = machine(seed);
        let file = write(&os, "a", &[b's'; 6000]);
        os.settle(DIRECTORY);
        os.write_at(&file, 0, b"overwritten").unwrap();
        write(&os, "a", &[b'u'; 20_000]);
        let cut = write(&os, "cut", &[b's'; 100]);
        os.settle(DIRECTORY);
        os.truncate(&cut, 0).unwrap();
        os.write_at(&file, 0, b"OVERWRITTEN").unwrap();
        write(&os, "a", &[b'v'; 20_000]);
        write(&os, "new", b"");
        write(&os, "gone", b"");
        os.remove(&path("gone")).unwrap();
        os.rename_new(&path("cut"), &path("cut.1")).unwrap();
        os.crash(Crash::Power, &mut Random::new(seed));
        for (name, n) in os.coverage() {
            *seen.entry(name).or_default() += n;
        }
    }
    for name in [
        "names_kept",
        "creations_lost",
        "removals_lost",
        "renames_lost",
        "sizes_lost",
        "pages_kept",
        "pages_old",
        "pages_zeroed",
        "truncations_lost",
        "files_lost",
        "power_losses",
    ] {
        assert!(seen.get(name).is_some_and(|n| *n > 0), "{name} never happened: {seen:?}");
    }
}

#[test]
fn a_rename_leaves_one_of_both_names() {
    let mut outcomes = [0; 2];
    for seed in 0..100 {
        let os = machine(seed);
        let file = write(&os, "old", b"x");
        os.sync(&file).unwrap();
        os.sync_directory(Path::new(DIRECTORY)).unwrap();
        os.rename_new(&path("old"), &path("new")).unwrap();
        os.crash(Crash::Power, &mut Random::new(seed));
        match (contents(&os, "old").as_deref(), contents(&os, "new").as_deref()) {
            (Some("x"), None) => outcomes[0] += 1,
            (None, Some("x")) => outcomes[1] += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(outcomes.iter().all(|n| *n > 10), "{outcomes:?}");
}

/// Whatever subset of a chain of renames survives, no synced file is overwritten by another.
#[test]
fn a_half_lost_rotation_overwrites_nothing() {
    for seed in 0..300 {
        let os = machine(seed);
        for (name, bytes) in [("x.1", "older"), ("x", "newer")] {
            write(&os, name, bytes.as_bytes());
        }
        os.settle(DIRECTORY);
        os.rename_new(&path("x.1"), &path("x.2")).unwrap();
        os.rename_new(&path("x"), &path("x.1")).unwrap();
        write(&os, "x", b"newest");
        os.crash(Crash::Power, &mut Random::new(seed));
        let mut found: Vec<String> = ["x", "x.1", "x.2"].iter().filter_map(|name| contents(&os, name)).collect();
        found.sort();
        found.retain(|bytes| ["newer", "older"].contains(&bytes.as_str()));
        assert_eq!(found, ["newer", "older"], "seed {seed}");
    }
}

#[test]
fn a_synced_rename_stays() {
    for seed in 0..50 {
        let os = machine(seed);
        write(&os, "old", b"");
        os.rename_new(&path("old"), &path("new")).unwrap();
        os.sync_directory(Path::new(DIRECTORY)).unwrap();
        os.crash(Crash::Power, &mut Random::new(seed));
        assert_eq!(os.engine_list(DIRECTORY).unwrap(), [Path::new("new")]);
    }
}

#[test]
fn equal_seeds_lose_the_same() {
    let run = |seed| {
        let os = machine(seed);
        write(&os, "a", &[b'u'; 50_000]);
        write(&os, "b", &[b'v'; 50_000]);
        os.arm(FaultPlan::at(0, Fault::Crash(Crash::Power, When::After)));
        assert!(os.remove(&path("a")).is_err());
        (os.engine_read(path("a")).ok(), os.engine_read(path("b")).ok(), os.coverage())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert!((1..20).any(|seed| run(seed) != run(0)));
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    let os = machine(0);
    os.set_capacity(DIRECTORY, Some(2 * PAGE_BYTES));
    let file = os.open_output(&path("a"), 0, Create::New).unwrap();
    assert_eq!(os.write_at(&file, 0, &[1; 5000]).unwrap(), 5000);
    assert_eq!(os.write_at(&file, 5000, &[1; 5000]).unwrap(), 3192);
    assert_eq!(os.write_at(&file, 8192, &[1]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(os.space(Path::new(DIRECTORY)).unwrap(), Space { free: 0, total: 8192 });
    os.create_directories(Path::new("/state")).unwrap();
    let state = os.open_output(Path::new("/state/db"), 0, Create::New).unwrap();
    assert_eq!(os.write_at(&state, 0, &[1; 9000]).unwrap(), 9000, "another disk");
    os.set_capacity(DIRECTORY, None);
    assert_eq!(os.write_at(&file, 8192, &[1]).unwrap(), 1);
}

#[test]
fn a_path_fails_until_it_is_mended() {
    let os = machine(0);
    let file = write(&os, "a", b"x");
    os.set_failing(path("a"), Some(Errno::Access));
    assert_eq!(raw_os_error(os.open(&path("a"))), Some(13));
    assert!(os.sync(&file).is_ok(), "a descriptor keeps its rights");
    os.set_failing(path("a"), Some(Errno::Io));
    assert_eq!(raw_os_error(os.sync(&file)), Some(5));
    os.set_failing(path("a"), None);
    assert!(os.open(&path("a")).is_ok());
}

#[test]
fn a_root_that_is_mounted_late_is_empty_or_missing() {
    let os = machine(0);
    write(&os, "a", b"x");
    let root = Path::new(DIRECTORY);
    os.set_hidden(root, Some(Hidden::Empty));
    assert!(os.list(root).unwrap().is_empty());
    assert_eq!(os.stat(root).unwrap().kind, Kind::Directory);
    assert_eq!(os.stat(&path("a")).unwrap_err().kind(), io::ErrorKind::NotFound);
    os.set_hidden(root, Some(Hidden::Missing));
    assert_eq!(os.list(root).unwrap_err().kind(), io::ErrorKind::NotFound);
    os.set_hidden(root, None);
    assert_eq!(os.list(root).unwrap(), ["a"]);
}

#[test]
fn descriptors_run_out() {
    let os = machine(0);
    let held = write(&os, "a", b"");
    os.set_open_files_max(Some(1));
    assert_eq!(raw_os_error(os.open(&path("a"))), Some(24));
    assert_eq!(raw_os_error(os.open_output(&path("b"), 0, Create::New)), Some(24));
    assert!(!os.engine_exists(path("b")));
    drop(held);
    assert!(os.open(&path("a")).is_ok());
}

#[test]
fn clocks_go_on_and_the_wall_clock_jumps() {
    let os = SimOs::new(0);
    let (monotonic, wall_ns) = (os.monotonic(), os.wall_ns());
    os.advance(Duration::from_secs(2));
    os.step_wall(-86_400_000_000_000);
    assert_eq!(os.monotonic() - monotonic, Duration::from_secs(2));
    assert_eq!(os.wall_ns() - wall_ns, 2_000_000_000 - 86_400_000_000_000);
}
