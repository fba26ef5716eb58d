use super::*;
use crate::format::Formatter;
use crate::sim::os::{Crash, Errno, Fault, FaultPlan, SimOs};
use crate::sim::random::Random;
use crate::sys::unix::Unix;

fn note(id: &str, route: &str, segment: u64) -> Note {
    let shape = Shape {
        formatter: Formatter::Docker,
        max_line_bytes: 1 << 20,
        since_ns: Some(-5),
        filter: Default::default(),
        redaction: Default::default(),
    }
    .into();
    let (name, place) = ("web".repeat(100), Place { segment, offset: 7 });
    Note {
        id: id.to_owned(),
        name,
        route: route.to_owned(),
        place,
        shape,
        began: None,
        keeping: BTreeMap::new(),
        line: 0,
    }
}

#[test]
fn notes_come_back_and_a_long_journal_is_shortened_to_what_counts() {
    let place = tempfile::tempdir().unwrap();
    let log_path = place.path();
    // Both begin at one place, the first one wrote nothing.
    let known = ["known", "another"];
    append(&Unix, log_path, &known.map(|id| note(id, "a/a.log", 1))).unwrap();
    let n_gone = JOURNAL_BYTES_MAX / 300;
    let gone: Vec<Note> = (1..=n_gone).map(|ix| note(&format!("gone{ix}"), "b/b.log", ix)).collect();
    append(&Unix, log_path, &gone).unwrap();
    shorten(&Unix, log_path, |id| known.contains(&id)).unwrap();
    let journal = Journal::load(&Unix, log_path).unwrap();
    let mut kept: Vec<Note> = journal.notes.into_values().flatten().collect();
    kept.sort_by_key(|note| note.line);
    kept.iter_mut().for_each(|note| note.line = 0);
    assert_eq!(kept, [note("known", "a/a.log", 1), note("another", "a/a.log", 1), gone.last().unwrap().clone()]);
}

#[test]
fn a_torn_note_harms_none_behind_it() {
    let place = tempfile::tempdir().unwrap();
    append(&Unix, place.path(), &[note("a", "a/a.log", 1)]).unwrap();
    let file = Unix.open_output(&path(place.path()), 0o600, Create::Never).unwrap();
    let size = Unix.stat_open(&file).unwrap().size;
    Unix.truncate(&file, size - 10).unwrap();
    append(&Unix, place.path(), &[note("b", "b/b.log", 2)]).unwrap();
    let journal = Journal::load(&Unix, place.path()).unwrap();
    assert_eq!(journal.notes.keys().collect::<Vec<_>>(), ["b"]);
}

fn disk() -> (SimOs, PathBuf) {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    os.settle("/");
    (os, PathBuf::from("/out"))
}

fn segments(os: &SimOs, log_path: &Path, id: &str) -> Vec<u64> {
    let journal = Journal::load(os, log_path).unwrap();
    journal.of(id, "a/a.log").iter().map(|note| note.place.segment).collect()
}

#[test]
fn notes_are_of_a_container_and_an_output() {
    let (os, log_path) = disk();
    assert!(Journal::load(&os, &log_path).unwrap().notes.is_empty(), "none yet");
    append(&os, &log_path, &[note("a", "a/a.log", 1), note("b", "a/a.log", 2)]).unwrap();
    append(&os, &log_path, &[note("a", "b/b.log", 3), note("a", "a/a.log", 4)]).unwrap();
    assert_eq!(segments(&os, &log_path, "a"), [1, 4], "the latest last");
    assert!(segments(&os, &log_path, "c").is_empty());
}

#[test]
fn a_journal_that_can_t_be_read_is_no_empty_one() {
    let (os, log_path) = disk();
    append(&os, &log_path, &[note("a", "a/a.log", 1)]).unwrap();
    for call in 0..3 {
        os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        assert!(Journal::load(&os, &log_path).is_err(), "call {call}");
    }
    os.arm(FaultPlan::at(2, Fault::ShortRead(9)));
    assert!(Journal::load(&os, &log_path).is_err());
    os.disarm();
    assert_eq!(segments(&os, &log_path, "a"), [1]);
}

#[test]
fn a_note_is_whole_and_on_the_disk_when_it_is_appended() {
    let (os, log_path) = disk();
    let after_power_loss = |os: &SimOs| {
        os.crash(Crash::Power, &mut Random::new(3));
        os.restart()
    };
    append(&os, &log_path, &[note("a", "a/a.log", 1)]).unwrap();
    let os = after_power_loss(&os);
    assert_eq!(segments(&os, &log_path, "a"), [1]);
    // Calls: the directory, open, stat, writes.
    os.arm(FaultPlan::at(3, Fault::ShortWrite(5)).and(4, Fault::ShortWrite(20)));
    append(&os, &log_path, &[note("a", "a/a.log", 2)]).unwrap();
    os.disarm();
    let os = after_power_loss(&os);
    assert_eq!(segments(&os, &log_path, "a"), [1, 2]);
}

/// Enough notes of a container to fill a journal, and then so many bytes that are none.
fn fill(os: &SimOs, log_path: &Path, size: u64) {
    append(os, log_path, &[note("a", "a/a.log", 1), note("b", "a/a.log", 5), note("c", "a/a.log", 3)]).unwrap();
    let file = os.engine_open(path(log_path)).unwrap();
    let n_bytes = size - os.engine_size(&file);
    os.engine_append(&file, &vec![b'x'; n_bytes as usize]);
}

#[test]
fn only_a_journal_that_is_too_long_is_written_anew() {
    let (os, log_path) = disk();
    shorten(&os, &log_path, |_| true).unwrap();
    fill(&os, &log_path, JOURNAL_BYTES_MAX);
    let size = |os: &SimOs| os.stat(&path(&log_path)).unwrap().size;
    shorten(&os, &log_path, |id| id == "a").unwrap();
    assert_eq!((size(&os), segments(&os, &log_path, "c")), (JOURNAL_BYTES_MAX, vec![3]));
    let file = os.engine_open(path(&log_path)).unwrap();
    os.engine_append(&file, b"x");
    shorten(&os, &log_path, |id| id == "a").unwrap();
    assert!(size(&os) < 5_000);
    let left = ["a", "b", "c"].map(|id| segments(&os, &log_path, id));
    assert_eq!(left, [vec![1], vec![5], vec![]], "of the gone ones the one that got furthest");
}

#[test]
fn a_shortening_that_was_cut_off_at_any_call_loses_no_note() {
    for call in 0..20 {
        let (os, log_path) = disk();
        fill(&os, &log_path, JOURNAL_BYTES_MAX + 1);
        os.settle("/");
        os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        let result = shorten(&os, &log_path, |_| true);
        let n_calls = os.calls().len() as u64;
        os.disarm();
        assert_eq!(result.is_err(), call < n_calls, "an error is told");
        shorten(&os, &log_path, |_| true).unwrap();
        assert_eq!(["a", "b", "c"].map(|id| segments(&os, &log_path, id)), [vec![1], vec![5], vec![3]], "call {call}");
        if call >= n_calls {
            return;
        }
    }
    panic!("it takes fewer calls");
}

#[test]
fn of_a_journal_that_is_far_too_long_the_end_counts() {
    let (os, log_path) = disk();
    append(&os, &log_path, &[note("a", "a/a.log", 1)]).unwrap();
    let file = os.engine_open(path(&log_path)).unwrap();
    os.engine_append(&file, &vec![b'x'; READ_BYTES_MAX as usize]);
    append(&os, &log_path, &[note("a", "a/a.log", 2)]).unwrap();
    assert_eq!(segments(&os, &log_path, "a"), [2]);
}
