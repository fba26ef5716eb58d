use std::fs::{self, OpenOptions};

use super::aside::CORRUPT_PREFIX;
use super::db::{META_KEY, TREE};
use super::directory::entries;
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
    assert_eq!(store.load().unwrap().len(), 99);
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
    assert!(matches!(store.commit(&[put(2, "two")]), Err(StoreError::Reset { moved_to: Some(_), .. })));
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
    assert_eq!(store.rows().len(), 1);
}
