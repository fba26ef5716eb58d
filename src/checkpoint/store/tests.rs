use std::fs::{self, OpenOptions};

use super::aside::CORRUPT_PREFIX;
use super::db::{META_KEY, TREE};
use super::directory::{entries, has_entries, sync_directory};
use super::place::{FREE_BYTES_MIN, Fault};
use super::*;

const NOW: u64 = 1_700_000_000;
pub(super) const CORRUPT: Option<RecoveryReason> = Some(RecoveryReason::Corrupt);

pub(super) fn key(ix: usize) -> Vec<u8> {
    format!("container/{ix:04}").into_bytes()
}

pub(super) fn put(ix: usize, value: &str) -> Change {
    (key(ix), Some(value.as_bytes().to_vec()))
}

pub(super) fn open(state: &Path) -> (SledStore, Opened) {
    SledStore::open(state, NOW).unwrap()
}

pub(super) fn cause(opened: &Opened) -> Option<RecoveryReason> {
    match opened {
        Opened::Recovered { cause, .. } => Some(*cause),
        _ => None,
    }
}

/// A store of 100 rows that has lived for a while.
pub(super) fn lived_in() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    for turn in 0..3 {
        let (mut store, _) = open(state.path());
        for round in 0..20 {
            let changes: Vec<Change> =
                (0..100).map(|ix| put(ix, &format!("{turn}/{round}/{}", "x".repeat(200)))).collect();
            store.commit(&changes).unwrap();
        }
    }
    state
}

pub(super) fn file(state: &Path, prefix: &str) -> PathBuf {
    let mut found = entries(&state.join("sled")).unwrap();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) fn corrupt_names(state: &Path) -> Vec<String> {
    let mut names: Vec<String> = entries(state)
        .unwrap()
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with(CORRUPT_PREFIX))
        .collect();
    names.sort();
    names
}

pub(super) fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// sled as it is, once its threads have let go of an earlier handle.
pub(super) fn raw(state: &Path) -> sled::Db {
    Place { state: state.to_owned() }.wait_for_lock().unwrap();
    sled::open(state.join("sled")).unwrap()
}

#[test]
fn rows_that_are_left_are_saved() {
    let state = lived_in();
    let db = raw(state.path());
    db.open_tree(TREE).unwrap().remove(key(3)).unwrap();
    db.flush().unwrap();
    drop(db);
    let (mut store, opened) = open(state.path());
    let Opened::Recovered { cause, n_rows_saved, reason, .. } = opened else { panic!("{opened:?}") };
    assert_eq!((cause, n_rows_saved), (RecoveryReason::Rows, 99), "{reason}");
    assert!(reason.contains("it has 99 rows of 100"), "{reason}");
    assert_eq!(store.load().unwrap().len(), 99);
}

#[test]
fn a_row_that_another_took_the_place_of_is_noticed() {
    let state = lived_in();
    let db = raw(state.path());
    db.open_tree(TREE).unwrap().insert(key(3), "of an hour ago").unwrap();
    drop(db);
    let (_, opened) = open(state.path());
    let Opened::Recovered { cause, n_rows_saved, reason, .. } = opened else { panic!("{opened:?}") };
    assert_eq!((cause, n_rows_saved), (RecoveryReason::Rows, 100));
    assert!(reason.contains("some of its rows are older than others"), "{reason}");
}

#[test]
fn an_error_says_what_to_do_where_something_can_be_done() {
    let io = |kind: io::ErrorKind| StoreError::Io { doing: "open", path: "/s".into(), source: kind.into() };
    let hint_of = |error: StoreError| error.hint().unwrap_or("none");
    assert!(hint_of(StoreError::Locked { path: "/s".into() }).contains("another agent is running"));
    assert!(hint_of(StoreError::Newer { path: "/s".into(), found: 9 }).contains("--state-dir"));
    assert!(hint_of(StoreError::Damaged { path: "/s".into(), reason: "x".into() }).contains("start the agent"));
    assert!(hint_of(io(io::ErrorKind::StorageFull)).contains("make room"));
    assert_eq!(hint_of(io(io::ErrorKind::NotADirectory)), "none");
    assert_eq!(hint_of(StoreError::Failed { doing: "write", reason: "x".into() }), "none");
}

#[test]
fn a_kill_while_the_store_is_made_is_no_damage() {
    for (instead_of, expected) in [("null", None), ("\"it was bad\"", CORRUPT)] {
        let state = tempfile::tempdir().unwrap();
        let marker = format!(r#"{{"schema":1,"id":"x","state":"making","rows":0,"instead_of":{instead_of}}}"#);
        fs::write(state.path().join("store.json"), marker).unwrap();
        fs::create_dir(state.path().join("sled")).unwrap();
        fs::write(state.path().join("sled/db"), "").unwrap();
        let (_store, opened) = open(state.path());
        assert_eq!(cause(&opened), expected);
        assert_eq!(opened == Opened::Fresh, expected.is_none());
    }
}

#[test]
fn two_damaged_stores_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let at = state.path();
    let mut moved = Vec::new();
    for turn in 0..4 {
        let (mut store, _) = open(at);
        store.commit(&[put(0, "x")]).unwrap();
        drop(store);
        cut(&file(at, "db"), 0);
        // Twice within a second, then with a clock that was set back.
        let (_, opened) = SledStore::open(at, if turn < 3 { NOW } else { NOW - 500 }).unwrap();
        let Opened::Recovered { moved_to: Some(path), .. } = opened else { panic!("{opened:?}") };
        moved.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(moved[0], format!("sled.corrupt-{NOW}"));
    assert_eq!(corrupt_names(at), moved[2..]);
}

#[test]
fn rows_are_there_after_a_reopen() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, opened) = open(&state.path().join("a/b"));
    assert_eq!(opened, Opened::Fresh);
    store.commit(&[]).unwrap();
    store.commit(&[put(1, "one"), put(2, "two"), put(2, "zwei"), (key(9), None)]).unwrap();
    store.commit(&[(key(1), None), put(3, "three"), put(4, "x"), (key(4), None)]).unwrap();
    let rows = vec![(key(2), b"zwei".to_vec()), (key(3), b"three".to_vec())];
    assert_eq!(store.load().unwrap(), rows);
    drop(store);
    let (mut store, opened) = open(&state.path().join("a/b"));
    assert_eq!(opened, Opened::Existing);
    assert_eq!(store.load().unwrap(), rows);
}

#[test]
fn a_second_store_is_locked_out_and_touches_nothing() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    let generating = state.path().join("sled/snap.0.generating");
    fs::write(&generating, "").unwrap();
    let error = SledStore::open(state.path(), NOW).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }) && error.hint().is_some(), "{error}");
    assert!(generating.exists());
    store.commit(&[put(1, "one")]).unwrap();
}

#[test]
fn a_newer_store_is_left_alone() {
    let state = lived_in();
    let db = raw(state.path());
    db.open_tree(TREE).unwrap().insert(META_KEY, r#"{"schema":2,"id":"x","rows":100,"sum":0,"commits":9}"#).unwrap();
    drop(db);
    assert!(matches!(SledStore::open(state.path(), NOW), Err(StoreError::Newer { found: 2, .. })));
    assert!(corrupt_names(state.path()).is_empty());
}

#[test]
fn after_an_error_the_next_commit_opens_it_again() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    store.commit(&[put(1, "one")]).unwrap();
    for turn in 0..20 {
        let failed = store.with_db("write", |_| Err::<(), _>(sled::Error::Io(io::ErrorKind::StorageFull.into())));
        assert!(matches!(failed, Err(StoreError::Failed { .. })));
        assert!(store.db.is_none());
        store.commit(&[put(2, &turn.to_string())]).unwrap();
    }
    let failed = store.with_db::<()>("write", |_| panic!("part of the test"));
    assert!(failed.unwrap_err().to_string().contains("part of the test"));
    assert_eq!(store.load().unwrap(), [(key(1), b"one".to_vec()), (key(2), b"19".to_vec())]);
}

#[test]
fn a_store_that_is_lost_while_closed_is_reported() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    store.commit(&[put(1, "one")]).unwrap();
    let _failed = store.with_db("write", |_| Err::<(), _>(sled::Error::Unsupported("x".into())));
    cut(&file(state.path(), "db"), 0);
    let Err(StoreError::Reset { moved_to: Some(moved_to), .. }) = store.commit(&[put(2, "two")]) else {
        panic!("it is")
    };
    let number = moved_to.to_str().unwrap().rsplit('-').next().unwrap().parse::<u64>().unwrap();
    assert!(number > NOW, "it is named by the time: {number}");
    store.commit(&[put(1, "one"), put(2, "two")]).unwrap();
    assert_eq!(store.load().unwrap().len(), 2);
}

#[test]
fn a_state_directory_that_can_t_be_made_is_an_error() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("file"), "").unwrap();
    assert!(matches!(SledStore::open(&state.path().join("file"), NOW), Err(StoreError::Io { .. })));
}

#[test]
fn the_longest_row_fits() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    for _ in 0..3 {
        let changes: Vec<Change> = (0..520).map(|ix| (key(ix), Some(vec![ix as u8; VALUE_BYTES_MAX]))).collect();
        store.commit(&changes).unwrap();
    }
    store.commit(&(1..520).map(|ix| (key(ix), None)).collect::<Vec<_>>()).unwrap();
    drop(store);
    let (mut store, opened) = open(state.path());
    assert_eq!((opened, store.load().unwrap().len()), (Opened::Existing, 1));
}

#[test]
fn a_scripted_store_fails_as_told() {
    let store = MemoryStore::new();
    let mut agent = store.clone();
    agent.commit(&[put(1, "one")]).unwrap();
    let failed = || StoreError::Failed { doing: "write", reason: "told to".into() };
    store.script(move |changes| match changes.len() {
        1 => Fate::Fail(failed()),
        2 => Fate::CommitAndFail(failed()),
        _ => Fate::Commit,
    });
    agent.commit(&[put(1, "two")]).unwrap_err();
    assert_eq!(store.rows()[&key(1)], b"one");
    agent.commit(&[put(1, "three"), put(2, "x")]).unwrap_err();
    assert_eq!(agent.load().unwrap().len(), 2);
    store.heal();
    agent.commit(&[(key(2), None)]).unwrap();
    let older = store.rows();
    assert_eq!(older.len(), 1);
    store.clear();
    assert!(agent.load().unwrap().is_empty());
    store.restore(older.clone());
    assert_eq!(store.rows(), older);
}

/// What the marker says.
fn marked(state: &Path, field: &str) -> serde_json::Value {
    let marker = fs::read(state.join("store.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&marker).unwrap()[field].take()
}

/// Writes a marker over the one that is there.
fn mark(state: &Path, schema: u32, progress: &str, rows: u64) {
    let marker = format!(r#"{{"schema":{schema},"id":"x","state":"{progress}","rows":{rows}}}"#);
    fs::write(state.join("store.json"), marker).unwrap();
}

#[test]
fn the_marker_says_how_many_rows_there_were() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    store.commit(&[put(1, "one"), put(2, "two")]).unwrap();
    assert_eq!(marked(state.path(), "rows"), 0, "when it was opened");
    drop(store);
    assert_eq!(marked(state.path(), "rows"), 2, "when it was closed");
    mark(state.path(), SCHEMA, "ready", 7);
    let (_store, opened) = open(state.path());
    assert_eq!(opened, Opened::Existing);
    assert_eq!(marked(state.path(), "rows"), 2, "put right");
}

#[test]
fn who_only_looks_makes_nothing_and_moves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let at = state.path();
    let look = || SledStore::open_existing(at);
    assert!(look().unwrap().is_none());
    assert!(!has_entries(at).unwrap());
    let (mut store, _) = open(at);
    store.commit(&[put(1, "one")]).unwrap();
    drop(store);
    let rows = || look().unwrap().unwrap().load().unwrap();
    assert_eq!(rows(), [(key(1), b"one".to_vec())]);
    fs::remove_file(at.join("store.json")).unwrap();
    assert_eq!(rows(), [(key(1), b"one".to_vec())], "without its marker");

    mark(at, SCHEMA + 1, "ready", 1);
    assert!(matches!(look(), Err(StoreError::Newer { .. })));
    mark(at, SCHEMA, "making", 0);
    assert!(look().unwrap().is_none(), "nothing was ever in it");
    mark(at, SCHEMA, "ready", 1);
    cut(&file(at, "db"), 0);
    assert!(matches!(look(), Err(StoreError::Damaged { .. })));
    assert_eq!(fs::metadata(file(at, "db")).unwrap().len(), 0, "as it was");
    assert!(corrupt_names(at).is_empty() && !at.join("sled.before-open").exists());
}

#[test]
fn the_oldest_copy_is_the_evidence() {
    let state = lived_in();
    let place = Place { state: state.path().to_owned() };
    let before = fs::read(file(state.path(), "db")).unwrap();
    // An agent that was killed while it opened left it.
    place.copy_before_open().unwrap();
    cut(&file(state.path(), "db"), 0);
    let (_, opened) = open(state.path());
    let Opened::Recovered { moved_to: Some(moved_to), .. } = opened else { panic!("{opened:?}") };
    assert!(fs::read(moved_to.join("db")).unwrap() == before);
    assert!(!place.copy().exists());
}

#[test]
fn a_marker_of_a_newer_version_is_obeyed() {
    let state = tempfile::tempdir().unwrap();
    mark(state.path(), SCHEMA + 1, "making", 0);
    assert!(matches!(SledStore::open(state.path(), NOW), Err(StoreError::Newer { found: 2, .. })));
    assert!(!state.path().join("sled").exists());
}

#[test]
fn what_can_t_be_read_is_not_taken_for_missing() {
    let doing = |prepare: fn(&Path)| {
        let state = tempfile::tempdir().unwrap();
        prepare(state.path());
        match SledStore::open(state.path(), NOW) {
            Err(StoreError::Io { doing, .. }) => doing,
            _ => "nothing",
        }
    };
    assert_eq!(doing(|state| fs::create_dir(state.join("store.json")).unwrap()), "read");
    assert_eq!(doing(|state| fs::write(state.join("sled"), "").unwrap()), "open");
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(has_entries(file.path()).is_err());
    assert!(sync_directory(&file.path().join("in")).is_err());
}

/// To open it may write to it, so there is a copy first. Here none can be made.
#[test]
fn what_looks_odd_is_not_opened_without_a_copy() {
    let copies = |damage: fn(&Path)| {
        let state = lived_in();
        damage(state.path());
        fs::write(state.path().join("sled.copying"), "").unwrap();
        match SledStore::open(state.path(), NOW) {
            Ok((_, opened)) => {
                assert_eq!(opened, Opened::Existing);
                false
            }
            Err(StoreError::Io { doing, path, .. }) => doing == "remove" && path.ends_with("sled.copying"),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(!copies(|_| ()));
    assert!(copies(|state| fs::remove_file(state.join("store.json")).unwrap()));
    assert!(copies(|state| cut(&file(state, "db"), 0)));
    assert!(copies(|state| fs::remove_file(file(state, "snap.")).unwrap()));
    assert!(copies(|state| cut(&file(state, "snap."), 0)));
    assert!(copies(|state| fs::remove_file(file(state, "conf")).unwrap()));
    assert!(copies(|state| cut(&file(state, "conf"), 0)));
}

#[test]
fn what_is_acknowledged_is_in_the_files() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    store.commit(&[put(1, "one")]).unwrap();
    let killed = tempfile::tempdir().unwrap();
    fs::create_dir(killed.path().join("sled")).unwrap();
    for path in [entries(state.path()).unwrap(), entries(&state.path().join("sled")).unwrap()].concat() {
        if path.is_file() {
            fs::copy(&path, killed.path().join(path.strip_prefix(state.path()).unwrap())).unwrap();
        }
    }
    let (mut store, opened) = open(killed.path());
    assert_eq!((opened, store.load().unwrap()), (Opened::Existing, vec![(key(1), b"one".to_vec())]));
}

#[test]
fn a_store_is_opened_again_when_its_files_are_gone_and_not_before() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    fs::remove_file(state.path().join("store.json")).unwrap();
    store.commit(&[put(1, "one")]).unwrap();
    assert!(!state.path().join("store.json").exists(), "opening writes it");
    fs::remove_dir_all(state.path().join("sled")).unwrap();
    let missing = store.commit(&[put(1, "one")]);
    assert!(matches!(missing, Err(StoreError::Reset { cause: RecoveryReason::Missing, .. })), "{missing:?}");
    store.commit(&[put(1, "one")]).unwrap();
    assert_eq!(store.load().unwrap().len(), 1);
}

#[test]
fn a_disk_that_fails_is_not_taken_for_a_damaged_store() {
    let place = Place { state: "/state".into() };
    let verdict = |error: sled::Error, free: Option<u64>| match place.fault_of(error, free) {
        Fault::Damage(damage) => format!("{:?}", damage.cause),
        Fault::Error(StoreError::Io { source, .. }) => source.kind().to_string(),
        Fault::Error(error) => error.to_string(),
    };
    let io = |kind: io::ErrorKind, text: &str| sled::Error::Io(io::Error::new(kind, text));
    let corrupt = || sled::Error::ReportableBug("part of the test".to_owned());
    let room = Some(FREE_BYTES_MIN);
    let no_such_device = sled::Error::Io(io::Error::from_raw_os_error(6));
    assert!(verdict(no_such_device, room).contains("uncategorized"));
    let locked = io(io::ErrorKind::Other, "could not acquire lock on \"db\"");
    assert!(verdict(locked, room).ends_with("locked"));
    assert_eq!(verdict(io(io::ErrorKind::StorageFull, "full"), room), "no storage space");
    assert_eq!(verdict(io(io::ErrorKind::InvalidData, "not a number"), room), "Corrupt");
    assert_eq!(verdict(corrupt(), room), "Corrupt");
    assert_eq!(verdict(corrupt(), None), "Corrupt");
    assert_eq!(verdict(corrupt(), Some(FREE_BYTES_MIN - 1)), "no storage space", "it could not write what it must");
    assert_eq!(verdict(corrupt(), Some(4096)), "no storage space");
}

#[test]
fn a_panic_of_what_is_closed_ends_there() {
    struct Broken;
    impl Drop for Broken {
        fn drop(&mut self) {
            panic!("part of the test");
        }
    }
    close(Some(Broken));
}

#[test]
fn a_commit_beyond_the_bounds_is_refused_and_the_store_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let (mut store, _) = open(state.path());
    let mut is_taken = |changes: Vec<Change>| {
        let (in_memory, on_disk) = (MemoryStore::new().commit(&changes), store.commit(&changes));
        assert_eq!(in_memory.map_err(|error| error.to_string()), on_disk.map_err(|error| error.to_string()));
        store.commit(&[put(0, "y")]).expect("it goes on");
        MemoryStore::new().commit(&changes).is_ok()
    };
    let one = |key_bytes: usize, value_bytes: usize| vec![(vec![b'k'; key_bytes], Some(vec![0; value_bytes]))];
    assert!(is_taken(one(1, 0)) && is_taken(one(KEY_BYTES_MAX, VALUE_BYTES_MAX)) && is_taken(vec![(key(1), None)]));
    assert!(is_taken((0..CHANGES_MAX).map(|ix| put(ix, "x")).collect()));
    assert!(!is_taken((0..=CHANGES_MAX).map(|ix| put(ix, "x")).collect()));
    assert!(!is_taken(one(0, 1)) && !is_taken(one(KEY_BYTES_MAX + 1, 1)) && !is_taken(one(1, VALUE_BYTES_MAX + 1)));
    assert!(!is_taken(vec![(b"\0meta".to_vec(), None)]), "the store's own row");
}
