use std::fs::{self, OpenOptions};

use super::db::TREE;
use super::directory::has_entries;
use super::tests::{CORRUPT, cause, corrupt_names, cut, file, key, lived_in, open, put, raw};
use super::*;

/// Damages a lived-in store and opens it. `None`: all rows are there. Else they are gone, and that is told.
fn check(name: &str, damage: impl FnOnce(&Path), expected: Option<RecoveryReason>) {
    let state = lived_in();
    let state = state.path();
    damage(state);
    let (mut store, opened) = open(state);
    assert_eq!(cause(&opened), expected, "{name}: {opened:?}");
    let rows = store.load().unwrap();
    match expected {
        None => {
            assert_eq!(opened, Opened::Existing, "{name}");
            assert_eq!(rows.len(), 100, "{name}");
            assert!(rows.iter().all(|(_, value)| value.starts_with(b"2/19/")), "{name}");
            assert!(corrupt_names(state).is_empty(), "{name}");
        }
        Some(_) => {
            assert!(rows.is_empty(), "{name}");
            assert_ne!(opened, Opened::Fresh, "{name}");
            if let Opened::Recovered { moved_to: Some(moved_to), .. } = &opened {
                assert!(has_entries(moved_to).unwrap(), "{name}: the evidence is kept");
            }
        }
    }
    // Either way it works from here on, and is trusted again.
    store.commit(&[put(7, "after")]).unwrap();
    drop(store);
    let (mut store, opened) = open(state);
    assert_eq!(opened, Opened::Existing, "{name}");
    assert!(store.load().unwrap().contains(&(key(7), b"after".to_vec())), "{name}");
    assert!(!state.join("sled.before-open").exists(), "{name}");
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn damage_unfinished_snapshot() {
    check("empty", |state| fs::write(state.join("sled/snap.00FF.generating"), "").unwrap(), None);
    check("partial", |state| fs::write(state.join("sled/snap.00FF.generating"), [7; 500]).unwrap(), None);
}

#[test]
fn damage_snapshot() {
    check("zero bytes", |state| fs::write(file(state, "snap."), "").unwrap(), CORRUPT);
    check_told("removed", |state| fs::remove_file(file(state, "snap.")).unwrap());
}

#[test]
fn damage_conf() {
    check("zero bytes", |state| fs::write(file(state, "conf"), "").unwrap(), None);
    check("removed", |state| fs::remove_file(file(state, "conf")).unwrap(), None);
    check("garbage", |state| fs::write(file(state, "conf"), [0xA5; 200]).unwrap(), CORRUPT);
}

#[test]
fn damage_data_cut() {
    let half = |state: &Path| cut(&file(state, "db"), length(&file(state, "db")) / 2);
    check_told("half", half);
    let both = |state: &Path| {
        half(state);
        fs::remove_file(file(state, "snap.")).unwrap();
    };
    check_told("half, and no snapshot", both);
    check("to zero", |state| cut(&file(state, "db"), 0), CORRUPT);
    check("removed", |state| fs::remove_file(file(state, "db")).unwrap(), CORRUPT);
}

/// Whatever sled makes of it, the rows are the last ones, or it is told that they may not be.
fn check_told(name: &str, damage: impl FnOnce(&Path)) {
    let state = lived_in();
    damage(state.path());
    let (mut store, opened) = open(state.path());
    println!("{name}: {opened:?}");
    let rows = store.load().unwrap();
    match opened {
        Opened::Existing => {
            assert_eq!(rows.len(), 100, "{name}");
            assert!(rows.iter().all(|(_, value)| value.starts_with(b"2/19/")), "{name}");
        }
        Opened::Recovered { n_rows_saved, .. } => assert_eq!(rows.len() as u64, n_rows_saved, "{name}"),
        Opened::Fresh => panic!("{name}: a damaged store is not new"),
    }
    store.commit(&[put(1, "after")]).unwrap();
    drop(store);
    let (mut store, opened) = open(state.path());
    assert_eq!(opened, Opened::Existing, "{name}");
    assert!(store.load().unwrap().contains(&(key(1), b"after".to_vec())), "{name}");
}

#[test]
fn damage_data_overwritten() {
    let check = |name: &str, damage: fn(&Path)| check_told(name, |state| damage(&file(state, "db")));
    check("zeros at the end", |db| overwrite(db, length(db) - 65_536, &[0; 65_536]));
    check("zeros before the end", |db| overwrite(db, length(db) - 600_000, &[0; 65_536]));
    check("random blocks", |db| {
        for ix in 0..8 {
            overwrite(db, length(db) / 8 * ix + 7_777, &[0xC3; 256]);
        }
    });
}

#[test]
fn damage_data_flipped() {
    for part in 0..16 {
        for with_snapshot in [true, false] {
            check_told(&format!("words in part {part}, snapshot {with_snapshot}"), |state| {
                let db = file(state, "db");
                for word in 0..4 {
                    overwrite(&db, length(&db) / 16 * part + word * 4096, &[0x5A; 8]);
                }
                if !with_snapshot {
                    fs::remove_file(file(state, "snap.")).unwrap();
                }
            });
        }
    }
}

/// Sled's directory put back from an hour ago: everything in it is whole.
#[test]
fn damage_back_in_time() {
    let state = lived_in();
    let at = state.path();
    let place = Place { state: at.to_owned() };
    place.copy_before_open().unwrap();
    fs::rename(place.copy(), at.join("backup")).unwrap();
    let (mut store, _) = open(at);
    store.commit(&[put(1, "newer")]).unwrap();
    store.commit(&[put(2, "newer")]).unwrap();
    drop(store);
    fs::remove_dir_all(place.store()).unwrap();
    fs::rename(at.join("backup"), place.store()).unwrap();
    let (mut store, opened) = open(at);
    let Opened::Recovered { cause, reason, n_rows_saved, .. } = opened else { panic!("{opened:?}") };
    assert_eq!((cause, n_rows_saved), (RecoveryReason::Rows, 100));
    assert!(reason.contains("lost the last 2 commits"), "{reason}");
    assert!(store.load().unwrap().iter().all(|(_, value)| value.starts_with(b"2/19/")));
}

#[test]
fn damage_directory_gone() {
    let missing = Some(RecoveryReason::Missing);
    check("removed", |state| fs::remove_dir_all(state.join("sled")).unwrap(), missing);
    let emptied = |state: &Path| {
        fs::remove_dir_all(state.join("sled")).unwrap();
        fs::create_dir(state.join("sled")).unwrap();
    };
    check("emptied", emptied, missing);
}

#[test]
fn damage_replaced_by_an_empty_store() {
    let replace = |state: &Path| {
        fs::remove_dir_all(state.join("sled")).unwrap();
        raw(state).insert("a", "b").unwrap();
    };
    check("a store of somebody else", replace, Some(RecoveryReason::Empty));
    let emptied = |state: &Path| raw(state).open_tree(TREE).unwrap().clear().unwrap();
    check("emptied", emptied, Some(RecoveryReason::Empty));
    check_told("opened by sled without its snapshot", |state| {
        fs::remove_file(file(state, "snap.")).unwrap();
        drop(raw(state));
    });
}

#[test]
fn the_marker_may_be_lost() {
    check("removed", |state| fs::remove_file(state.join("store.json")).unwrap(), None);
    check("garbage", |state| fs::write(state.join("store.json"), "{").unwrap(), None);
    check_told("removed with the snapshot", |state| {
        fs::remove_file(state.join("store.json")).unwrap();
        fs::remove_file(file(state, "snap.")).unwrap();
    });
}
