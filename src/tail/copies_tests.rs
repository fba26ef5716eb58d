//! Logs that are cut in place, and the copies of what was cut away.

use std::io::ErrorKind;
use std::time::Duration;

use crate::config::limits::QUANTUM_BYTES;
use crate::sim::os::{Errno, Fault, FaultPlan};
use crate::tail::tests::{DIRECTORY, LOG, Log, gzip, head_of, told_at_every_call};
use crate::tail::{Lineage, Look};

#[test]
fn a_copy_of_an_empty_log_hides_none_behind_it() {
    let mut log = Log::of("one\n");
    log.copytruncate("");
    log.copytruncate("two\n");
    assert_eq!(log.read(), "[0..0]one\ntwo\n");
}

#[test]
fn a_copy_goes_on_where_reading_was() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.write("two\n");
    log.copytruncate("three\n");
    assert_eq!(log.read(), "[0..0]two\nthree\n");
    log.write("four\n");
    log.copytruncate("five\n");
    log.write("six\n");
    assert_eq!(log.read(), "[0..0]four\nfive\nsix\n");
    assert_eq!(log.look().unwrap(), Look::Same);
    assert_eq!(log.read(), "", "nothing is read twice");
}

#[test]
fn a_compressed_copy_goes_on_where_reading_was() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.write("two\n");
    log.copytruncate("three\n");
    log.compress(1);
    assert_eq!(log.read(), "[0..0]two\nthree\n");
}

#[test]
fn without_a_copy_what_was_seen_and_not_read_is_lost() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.rewrite("x\n");
    assert_eq!(log.read(), "[4..4]x\n");
    assert_eq!(log.lineage.passed(), 1);
    assert_eq!(log.lineage.drained().count(), 1);
    log.rewrite("y\n");
    assert_eq!(log.read(), "[2..2]y\n", "of the same length");
    assert_eq!(log.lineage.passed(), 2);
    // A sibling that begins otherwise is of a text between that nobody saw.
    log.os.engine_write_whole(Log::path(".1"), b"else\n").unwrap();
    log.rewrite("z\n");
    assert_eq!(log.read(), "[2..2][0..0]else\nz\n");
    log.write("more\n");
    assert_eq!(log.read(), "more\n");
    // One that differs before the place where reading was is no copy.
    log.os.engine_write_whole(Log::path(".1"), b"z\nMORE\nrest\n").unwrap();
    log.rewrite("w\n");
    assert_eq!(log.read(), "[7..7]w\n");
}

#[test]
fn a_copy_is_found_among_older_ones() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.rotate("two\n");
    log.look().unwrap();
    assert_eq!(log.read(), "two\n");
    log.write("three\n");
    log.copytruncate("four\n");
    log.rotate("five\n");
    log.look().unwrap();
    assert_eq!(log.read(), "[0..0]three\nfour\nfive\n");
}

#[test]
fn a_directory_that_is_gone_has_no_copies_and_one_that_can_t_be_listed_is_asked_again() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.write("two\n");
    log.copytruncate("three\n");
    log.os.set_failing(DIRECTORY, Some(Errno::Io));
    let mut buffer = Vec::new();
    assert_eq!(log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).unwrap_err().raw_os_error(), Some(5));
    log.os.set_failing(DIRECTORY, None);
    assert_eq!(log.read(), "[0..0]two\nthree\n");
    let file = log.os.engine_open(LOG).unwrap();
    log.os.engine_rmdir(DIRECTORY).unwrap();
    log.os.engine_truncate(&file, 0);
    assert_eq!(log.read(), "[6..6]");
}

#[test]
fn a_copy_of_what_was_never_read_comes_first() {
    let mut log = Log::of("");
    log.write("one\n");
    log.copytruncate("two\n");
    assert_eq!(log.read(), "[0..0]one\ntwo\n");
    let mut log = Log::of("");
    log.write("one\n");
    log.copytruncate("two\n");
    log.copytruncate("three\n");
    assert_eq!(log.read(), "[0..0]one\ntwo\nthree\n");
}

#[test]
fn a_copy_of_what_was_cut_before_its_turn_is_read_in_its_place() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.look().unwrap();
    log.copytruncate("three\n");
    log.lineage.check_held(&log.os).unwrap();
    assert_eq!(log.read(), "one\ntwo\nthree\n");
}

#[test]
fn a_copy_of_what_was_written_between_two_cuts_is_read_though_the_log_was_rotated_since() {
    let new = || {
        let mut log = Log::of("one\n");
        log.rewrite("two\n"); // Cut by the engine, which keeps one file: "one" is gone.
        log.copytruncate("three\n");
        log.rotate("four\n");
        log
    };
    let mut log = new();
    assert_eq!((log.look().unwrap(), log.read()), (Look::Grown(1), "[0..0]two\nthree\nfour\n".to_owned()));
    assert_eq!(told_at_every_call(new), "[0..0]two\nthree\nfour\n");
}

#[test]
fn each_of_several_logs_that_were_cut_has_its_copies() {
    let mut log = Log::of("one\n");
    log.rewrite("two\n");
    log.copytruncate("three\n");
    log.rotate("four\n");
    log.look().unwrap();
    log.rewrite("five\n");
    log.copytruncate("six\n");
    assert_eq!(log.read().replace("[0..0]", ""), "two\nthree\nfive\nsix\n");
}

#[test]
fn what_was_cut_before_its_turn_may_have_been_compressed_before() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.rotate("three\n");
    log.look().unwrap();
    // The engine compressed what is `.1` now, and somebody wrote over the file we hold.
    let held = log.os.engine_open(Log::path(".1")).unwrap();
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"two\n")).unwrap();
    log.os.engine_truncate(&held, 0);
    log.os.engine_append(&held, b"over\n");
    log.lineage.check_held(&log.os).unwrap();
    assert_eq!(log.read(), "one\ntwo\nover\nthree\n");
}

#[test]
fn what_is_held_and_was_not_cut_stays_as_it_is() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.rotate("");
    log.look().unwrap();
    log.lineage.check_held(&log.os).unwrap();
    log.write("three\n");
    log.lineage.check_held(&log.os).unwrap();
    assert_eq!(log.read(), "one\ntwo\nthree\n");
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.write("two\n");
    log.lineage.check_held(&log.os).unwrap();
    assert_eq!(log.read(), "two\n", "what was read isn't read again");
    let mut gone = Lineage::new(DIRECTORY.as_ref(), "gone", []);
    gone.check_held(&log.os).unwrap();
}

#[test]
fn while_the_directory_can_t_be_listed_nothing_is_taken_for_lost() {
    let cut = |log: &mut Log| {
        let held = log.os.engine_open(LOG).unwrap();
        log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"two\n")).unwrap();
        log.os.engine_truncate(&held, 0);
        log.os.engine_append(&held, b"over\n");
    };
    for call in 0..20 {
        let mut log = Log::of("one\n");
        log.rotate("two\n");
        log.look().unwrap();
        cut(&mut log);
        log.os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        let result = log.lineage.check_held(&log.os);
        log.os.disarm();
        if result.is_err() {
            log.lineage.check_held(&log.os).unwrap();
        }
        assert_eq!(log.read(), "one\ntwo\nover\n", "call {call}");
    }
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.look().unwrap();
    cut(&mut log);
    log.os.engine_rmdir(DIRECTORY).unwrap();
    log.lineage.check_held(&log.os).unwrap();
    assert_eq!(log.read(), "one\nover\n", "with the directory every copy is gone");
}

#[test]
fn a_first_line_waits_for_a_look_at_what_may_be_copied() {
    let mut buffer = Vec::new();
    let mut log = Log::of("");
    log.write("one\n");
    log.os.set_failing(DIRECTORY, Some(Errno::Io));
    assert!(log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).is_err());
    log.os.set_failing(DIRECTORY, None);
    let file = log.os.engine_open(LOG).unwrap();
    log.os.engine_rmdir(DIRECTORY).unwrap();
    log.os.engine_append(&file, b"two\n");
    assert_eq!(log.read(), "one\ntwo\n", "its descriptor is held");
}

#[test]
fn a_call_that_fails_costs_no_copy() {
    let told = told_at_every_call(|| {
        let mut log = Log::of("one\n");
        log.read();
        log.write("two\n");
        log.copytruncate("three\n");
        log
    });
    assert_eq!(told, "[0..0]two\nthree\n");
    let told = told_at_every_call(|| {
        let mut log = Log::of("");
        log.write("one\n");
        log.copytruncate("two\n");
        log
    });
    assert_eq!(told, "[0..0]one\ntwo\n");
}

#[test]
fn a_head_that_could_not_be_asked_for_leaves_its_copies_to_be_found() {
    for call in 0..20 {
        let mut log = Log::of("");
        log.write("one\n");
        log.copytruncate("two\n");
        log.os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        let _ = log.lineage.head(&log.os);
        log.os.disarm();
        assert_eq!(log.lineage.head(&log.os).unwrap(), head_of("one\n"), "call {call} failed");
        assert_eq!(log.read(), "one\ntwo\n");
    }
}

#[test]
fn the_compressed_form_of_a_log_that_is_held_is_no_copy_of_an_older_one() {
    let mut log = Log::of("");
    log.write("one\n");
    log.rotate("two\n");
    log.look().unwrap();
    log.compress(1);
    log.rewrite("three\n"); // Nobody has seen that yet.
    log.rotate("four\n");
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"three\n")).unwrap(); // The plain one is still to be deleted.
    assert_eq!((log.look().unwrap(), log.read()), (Look::Grown(1), "one\n[0..0]three\nfour\n".to_owned()));
}

#[test]
fn a_copytruncate_between_any_two_calls_costs_no_line_and_repeats_none() {
    for (text, next) in [("", "another\n"), ("one\n", "another\n"), ("one\n", "two\n")] {
        for (copied, cut) in (0..16).flat_map(|copied| (copied..16).map(move |cut| (copied, cut))) {
            let mut log = Log::of(text);
            log.write(if text.is_empty() { "one\n" } else { "" });
            log.os.arm(FaultPlan::none());
            log.os.act_before(copied, |os| {
                let text = os.engine_read(LOG).unwrap();
                os.engine_write_whole(Log::path(".1"), &text).unwrap();
            });
            log.os.act_before(cut, move |os| {
                os.advance(Duration::from_millis(1)); // The same size at the same time would be the same file.
                os.engine_write_whole(LOG, next.as_bytes()).unwrap();
            });
            let mut told = String::new();
            for _ in 0..10 {
                if let Err(error) = log.look().and_then(|_| log.read_into(&mut told)) {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "cut within a read, which is tried again");
                }
            }
            let told = told.replace("[0..0]", "");
            assert_eq!(told, format!("one\n{next}"), "copied before call {copied}, cut before {cut}");
        }
    }
}

#[test]
fn copies_of_a_log_that_was_rotated_since_the_look_are_told_from_what_is_newer() {
    let mut log = Log::of("");
    log.write("one\n");
    log.copytruncate("two\n");
    log.rotate("three\n");
    log.rotate("four\n");
    assert_eq!(log.read(), "[0..0]one\ntwo\nthree\nfour\n");
}

#[test]
fn a_log_whose_newest_incarnation_was_read_by_an_earlier_life_waits_for_no_other_look() {
    let mut log = Log::of("");
    log.lineage.remember_drained(&[head_of("two\n").unwrap()]);
    log.write("one\n");
    log.rotate("two\n");
    log.os.engine_unlink(Log::path(".1")).unwrap();
    log.os.engine_write_whole(Log::path(".1"), b"whose?\n").unwrap();
    assert_eq!((log.look().unwrap(), log.read()), (Look::Same, "one\n".to_owned()));
}

#[test]
fn behind_nuls_a_copy_is_known_by_the_last_line() {
    let mut log = Log::of("\0\0\0\0one\n");
    assert_eq!(log.read(), "[4 nul]one\n");
    log.write("two\n");
    log.copytruncate("three\n");
    assert_eq!(log.read(), "[0..0]two\nthree\n");
    let mut log = Log::of("\0\0\0\0");
    log.write("one\n");
    assert_eq!(log.read(), "[4 nul]one\n");
    log.write("two\n");
    log.copytruncate("three\n");
    assert_eq!(log.read(), "[0..0]two\nthree\n", "there was no line when it was opened");
    // NULs alone are no proof: another file may have as many.
    let mut log = Log::of("\0\0\0\0ab");
    assert_eq!(log.read(), "[4 nul]");
    log.os.engine_write_whole(Log::path(".1"), b"\0\0\0\0other\n").unwrap();
    log.rewrite("x\n");
    assert_eq!(log.read(), "[4..6][0..0][4 nul]other\nx\n");
}

#[test]
fn a_sibling_that_begins_otherwise_is_no_copy_of_what_was_read() {
    let mut log = Log::of("one\ntwo\n");
    log.read();
    log.os.engine_write_whole(Log::path(".1"), b"ONE\ntwo\nthree\n").unwrap();
    log.rewrite("x\n");
    assert_eq!(log.read(), "[8..8][0..0]ONE\ntwo\nthree\nx\n");
}

#[test]
fn in_the_middle_of_a_rotation_a_log_without_a_name_is_read_on() {
    let mut log = Log::of("");
    log.write("one\n");
    log.copytruncate("two\n");
    log.os.engine_rename(LOG, Log::path(".tmp")).unwrap();
    assert!(log.read().ends_with("two\n"));
}
