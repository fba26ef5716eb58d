use std::sync::{Arc, Mutex};

use super::*;
use crate::checkpoint::store::{Fate, MemoryStore};

use crate::sim::os::{Errno, SimOs};
use crate::telemetry::RecoveryReason;

fn disk() -> SimOs {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    os
}

/// Wants `n_changes` rows written, and nothing of an output.
fn item(id: &str, n_changes: usize) -> Item<SimOs> {
    let changes = (0..n_changes).map(|ix| (format!("{id}/{ix:03}").into_bytes(), Some(vec![1]))).collect();
    Item { id: id.to_owned(), rotate: None, sync: None, note: None, changes }
}

fn sync(os: &SimOs, path: &str, directory: Option<&str>) -> Sync<SimOs> {
    let file = os.open_output(path.as_ref(), 0o640, Create::Never).ok();
    Sync { file, path: path.into(), directory: directory.map(PathBuf::from) }
}

/// The ids of those that went well.
fn went_well(outcomes: &[Outcome<SimOs>]) -> Vec<&str> {
    outcomes.iter().filter(|outcome| outcome.result.is_ok()).map(|outcome| &*outcome.id).collect()
}

#[test]
fn a_batch_takes_what_fits_and_parts_no_container() {
    let store = MemoryStore::new();
    let batches: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = batches.clone();
    store.script(move |changes| {
        seen.lock().unwrap().push(changes.len());
        Fate::Commit
    });
    let sizes =
        [COMMIT_CHANGES_MAX / 2, COMMIT_CHANGES_MAX / 2, 1, COMMIT_CHANGES_MAX - 1, 1, COMMIT_CHANGES_MAX + 10, 0];
    let items = sizes.iter().enumerate().map(|(ix, size)| item(&format!("c{ix}"), *size)).collect();
    let outcomes = execute(&disk(), &mut store.clone(), items);
    assert_eq!(went_well(&outcomes).len(), sizes.len());
    let whole = COMMIT_CHANGES_MAX;
    assert_eq!(*batches.lock().unwrap(), [whole, whole, 1, whole + 10]);
    assert_eq!(store.rows().len(), sizes.iter().sum::<usize>());
    batches.lock().unwrap().clear();
    execute(&disk(), &mut store.clone(), vec![item("none", 0)]);
    assert!(batches.lock().unwrap().is_empty(), "nothing to write is no commit");
}

#[test]
fn a_batch_that_fails_is_told_to_its_members_only() {
    let store = MemoryStore::new();
    let answer = |error: fn() -> StoreError| {
        let mut n_batches = 0;
        store.script(move |_| {
            n_batches += 1;
            if n_batches == 1 { Fate::Fail(error()) } else { Fate::Commit }
        });
        execute(&disk(), &mut store.clone(), vec![item("a", 200), item("b", 50), item("c", 50)])
    };
    let outcomes = answer(|| StoreError::Failed { doing: "write", reason: "no".into() });
    assert_eq!(went_well(&outcomes), ["c"]);
    assert!(outcomes[..2].iter().all(|outcome| matches!(outcome.result, Err(CommitError::Store(_)))));
    let lost = || StoreError::Reset { cause: RecoveryReason::Rows, reason: "lost".into(), moved_to: None };
    let outcomes = answer(lost);
    assert!(outcomes[..2].iter().all(|outcome| matches!(outcome.result, Err(CommitError::StoreReset(_)))));
}

#[test]
fn a_row_is_written_only_when_its_output_is_on_the_disk() {
    let os = disk();
    os.engine_write_whole("/out/good.log", b"line\n").unwrap();
    os.engine_write_whole("/out/bad.log", b"line\n").unwrap();
    let good = Item { sync: Some(sync(&os, "/out/good.log", Some("/out"))), ..item("good", 1) };
    let bad = Item { sync: Some(sync(&os, "/out/bad.log", None)), ..item("bad", 1) };
    os.set_failing("/out/bad.log", Some(Errno::Io));
    let store = MemoryStore::new();
    let outcomes = execute(&os, &mut store.clone(), vec![bad, good]);
    assert_eq!(went_well(&outcomes), ["good"]);
    assert!(matches!(outcomes[0].result, Err(CommitError::Output(_))));
    assert_eq!(store.rows().keys().collect::<Vec<_>>(), [b"good/000"]);
    let mut random = crate::sim::random::Random::new(1);
    os.settle("/");
    os.crash(crate::sim::os::Crash::Power, &mut random);
    assert_eq!(os.restart().engine_read("/out/good.log").unwrap(), b"line\n");
}

#[test]
fn an_output_that_rests_is_synced_by_its_path_unless_it_was_removed() {
    let os = disk();
    let resting = |path: &str| Sync { file: None, path: path.into(), directory: None };
    let gone = Item { sync: Some(resting("/out/gone.log")), ..item("gone", 1) };
    assert_eq!(went_well(&execute(&os, &mut MemoryStore::new(), vec![gone])), ["gone"]);
    os.engine_write_whole("/out/web.log", b"line\n").unwrap();
    os.set_failing("/out/web.log", Some(Errno::Io));
    let failing = Item { sync: Some(resting("/out/web.log")), ..item("web", 1) };
    assert!(went_well(&execute(&os, &mut MemoryStore::new(), vec![failing])).is_empty());
}

#[test]
fn a_directory_that_can_t_be_synced_keeps_the_row_back() {
    let os = disk();
    os.engine_write_whole("/out/web.log", b"line\n").unwrap();
    let item = Item { sync: Some(sync(&os, "/out/web.log", Some("/out/gone"))), ..item("web", 1) };
    let store = MemoryStore::new();
    assert!(went_well(&execute(&os, &mut store.clone(), vec![item])).is_empty());
    assert!(store.rows().is_empty());
}
