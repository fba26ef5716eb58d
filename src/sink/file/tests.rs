use std::time::Duration;

use super::*;
use crate::sim::os::{Crash, Errno, Fault, FaultPlan, SimOs};
use crate::sim::random::Random;

const WEB: &str = "/out/web.log";

fn disk(files: &[(&str, &str)]) -> SimOs {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    for (name, text) in files {
        os.engine_write_whole(format!("/out/{name}"), text.as_bytes()).unwrap();
    }
    os
}

fn find(os: &SimOs, limit: u64, segment_min: u64) -> Output<SimOs> {
    Output::find(os, WEB.as_ref(), 0o640, limit, segment_min).unwrap()
}

fn place(segment: u64, offset: u64) -> Place {
    Place { segment, offset }
}

/// The current file as it is after `text` was appended, by an output that found `before`.
fn appended(before: &str, text: &str) -> (SimOs, Output<SimOs>) {
    let os = disk(&[("web.log", before)]);
    let mut output = find(&os, 100, 1);
    assert_eq!(output.prepare(&os).unwrap(), None);
    let (written, result) = output.append(&os, text.as_bytes());
    result.unwrap();
    assert_eq!(written, text.len());
    (os, output)
}

fn text(os: &SimOs) -> String {
    String::from_utf8(os.engine_read(WEB).unwrap()).unwrap()
}

#[test]
fn an_output_ends_where_its_current_file_does_and_numbers_go_on() {
    let os = disk(&[("web.log.3", "3\n"), ("web.log.4.gz", "4"), ("web.log", "now\n")]);
    assert_eq!(find(&os, 100, 1).place(), place(5, 4));
    assert_eq!(find(&os, 100, 9).place(), place(9, 4), "also when all rotated files are gone");
    assert!(find(&os, 100, 1).is_unsynced(), "an earlier life may have written it just now");
    let os = disk(&[]);
    assert_eq!(find(&os, 100, 1).place(), place(1, 0));
    assert!(find(&os, 100, 1).file().is_none());
    assert_eq!(find(&SimOs::new(1), 100, 1).place(), place(1, 0), "no directory is no error");
    os.set_failing("/out", Some(Errno::Io));
    assert!(Output::find(&os, WEB.as_ref(), 0o640, 100, 1).is_err());
    let os = disk(&[("web.log", "now\n"), ("web.log.3", "3\n")]);
    os.arm(FaultPlan::at(0, Fault::Errno(Errno::Io)));
    assert!(Output::find(&os, WEB.as_ref(), 0o640, 100, 1).is_err(), "without the listing no number is free");
    os.disarm();
    os.set_failing(WEB, Some(Errno::Access));
    assert!(Output::find(&os, WEB.as_ref(), 0o640, 100, 1).is_err());
}

#[test]
fn whole_lines_go_into_the_segment_that_has_room_for_them() {
    let fitting = |before: &str, limit, line_ends: &[usize]| {
        let os = disk(&[("web.log", before)]);
        find(&os, limit, 1).fitting(line_ends)
    };
    assert_eq!(fitting("123\n", 10, &[3, 6, 9]), 6, "just full");
    assert_eq!(fitting("123\n", 10, &[3, 7, 9]), 3);
    assert_eq!(fitting("123\n", 10, &[7]), 0);
    assert_eq!(fitting("", 10, &[17, 20]), 17, "a longer single line is written whole");
    assert_eq!(fitting("123456789\n", 10, &[1, 5]), 1, "the newline of a torn line belongs behind it");
    assert_eq!(fitting("123456789\nmore", 10, &[2]), 0);
    assert_eq!(fitting("123\n", 10, &[]), 0);
    let os = disk(&[("web.log", "123\n")]);
    let mut output = find(&os, 10, 1);
    assert_eq!(output.room(), 6);
    output.set_limit(3, 0o600);
    assert_eq!(output.room(), 0, "it is longer already");
}

#[test]
fn a_last_line_without_its_newline_is_torn() {
    let torn = |text: &str| {
        let os = disk(&[("web.log", text)]);
        find(&os, 100, 1).ends_torn(&os).unwrap()
    };
    assert_eq!((torn("one\n"), torn("one\ntw"), torn("")), (false, true, false));
    let none = disk(&[]);
    assert!(!find(&none, 100, 1).ends_torn(&none).unwrap());
}

#[test]
fn appending_goes_on_after_short_writes_and_tells_where_it_stopped() {
    let (os, output) = appended("one\n", "two\n");
    assert_eq!((text(&os), output.place()), ("one\ntwo\n".to_owned(), place(1, 8)));
    let (os, mut output) = appended("", "one\n");
    os.arm(FaultPlan::at(0, Fault::ShortWrite(2)).and(1, Fault::ShortWrite(3)));
    assert_eq!(output.append(&os, b"two\nthree\n").0, 10);
    os.disarm();
    assert_eq!(text(&os), "one\ntwo\nthree\n");
    os.arm(FaultPlan::at(0, Fault::ShortWrite(2)).and(1, Fault::Errno(Errno::NoSpace)));
    let (written, result) = output.append(&os, b"four\n");
    assert_eq!((written, result.unwrap_err().raw_os_error()), (2, Some(28)));
    assert_eq!(output.place(), place(1, 16));
}

#[test]
fn what_others_do_to_the_file_is_told_and_in_force() {
    let (os, mut output) = appended("", "one\ntwo\n");
    let file = os.engine_open(WEB).unwrap();
    assert_eq!(output.prepare(&os).unwrap(), None);
    os.engine_append(&file, b"theirs\n");
    assert_eq!(output.prepare(&os).unwrap(), Some(Meddling::Lengthened { bytes: 7 }));
    assert_eq!(output.place(), place(1, 15));
    os.engine_truncate(&file, 3);
    assert_eq!(output.prepare(&os).unwrap(), Some(Meddling::Shortened { bytes: 12 }));
    assert_eq!(output.place(), place(1, 3));
    os.engine_unlink(WEB).unwrap();
    assert_eq!(output.prepare(&os).unwrap(), Some(Meddling::Removed));
    assert_eq!(output.place(), place(1, 0));
    output.append(&os, b"three\n").1.unwrap();
    assert_eq!(text(&os), "three\n");
}

#[test]
fn a_file_that_was_moved_is_let_go() {
    let (os, mut output) = appended("", "one\n");
    assert_eq!(output.check_name(&os).unwrap(), None);
    os.set_failing(WEB, Some(Errno::Io));
    assert!(output.check_name(&os).is_err(), "an error is no answer");
    os.set_failing(WEB, None);
    os.engine_rename(WEB, "/out/moved").unwrap();
    assert_eq!(output.check_name(&os).unwrap(), Some(Meddling::Removed));
    assert_eq!((output.place(), output.check_name(&os).unwrap()), (place(1, 0), None));
    assert_eq!(output.prepare(&os).unwrap(), None);
    output.append(&os, b"two\n").1.unwrap();
    os.engine_rename(WEB, "/out/moved").unwrap();
    os.engine_write_whole(WEB, b"theirs\n").unwrap();
    assert_eq!(output.check_name(&os).unwrap(), Some(Meddling::Removed));
    assert_eq!(output.prepare(&os).unwrap(), None);
    assert_eq!(output.place(), place(1, 7), "what stands there now is gone on with");
}

#[test]
fn an_output_that_rests_wakes_where_it_was() {
    let (os, mut output) = appended("", "one\n");
    output.rest();
    assert!(output.file().is_none());
    output.wake(&os).unwrap();
    assert!(output.file().is_some());
    output.wake(&os).unwrap();
    assert_eq!(output.prepare(&os).unwrap(), None);
    output.append(&os, b"two\n").1.unwrap();
    assert_eq!(text(&os), "one\ntwo\n");
    output.rest();
    os.set_failing(WEB, Some(Errno::Io));
    assert!(output.wake(&os).is_err());
    os.set_failing(WEB, None);
    os.engine_unlink(WEB).unwrap();
    output.wake(&os).unwrap();
    output.wake(&os).unwrap();
    assert_eq!(output.prepare(&os).unwrap(), Some(Meddling::Removed));
    assert_eq!(output.prepare(&os).unwrap(), None, "told once");
    let mut none = Output::unopened(WEB.as_ref(), 0o640, 100);
    none.wake(&os).unwrap();
    assert!(none.file().is_none());
}

#[test]
fn a_removal_is_told_though_a_new_file_can_t_be_made_at_first() {
    for rests in [false, true] {
        let (os, mut output) = appended("", "one\ntwo\n");
        if rests {
            output.rest();
        }
        os.engine_unlink(WEB).unwrap();
        output.wake(&os).unwrap();
        os.set_failing(WEB, Some(Errno::NoSpace));
        assert!(output.prepare(&os).is_err());
        os.set_failing(WEB, None);
        output.wake(&os).unwrap();
        assert_eq!(output.prepare(&os).unwrap(), Some(Meddling::Removed), "rests: {rests}");
        assert_eq!((output.prepare(&os).unwrap(), output.place()), (None, place(1, 0)));
    }
}

#[test]
fn a_rotation_ends_a_segment_and_begins_the_next() {
    let (os, mut output) = appended("", "one\n");
    let rotated = output.rotate().unwrap().run(&os).ok().unwrap();
    output.rotated(rotated);
    assert_eq!((output.place(), output.is_unsynced()), (place(2, 0), false));
    output.append(&os, b"two\n").1.unwrap();
    assert_eq!((text(&os), os.engine_read("/out/web.log.1").unwrap()), ("two\n".to_owned(), b"one\n".to_vec()));
    output.renumber(7);
    assert_eq!(output.place(), place(7, 4));
    assert!(Output::<SimOs>::unopened(WEB.as_ref(), 0o640, 100).rotate().is_none());
}

#[test]
fn what_was_written_while_a_sync_ran_is_not_on_the_disk_yet() {
    let (_, mut output) = appended("", "one\n");
    assert!(output.is_unsynced() && output.sync().directory.is_some());
    output.set_synced(false);
    assert!(output.is_unsynced() && output.sync().directory.is_none());
    output.set_synced(true);
    assert!(!output.is_unsynced());
    output.set_synced(false);
    assert!(!output.is_unsynced());
}

#[test]
fn the_name_of_a_new_output_and_its_directories_outlast_a_power_loss() {
    let survives = |made: &str, path: &str| {
        (0..20).all(|seed| {
            let os = SimOs::new(seed);
            os.engine_mkdir("/out").unwrap();
            os.settle("/");
            os.engine_mkdir(made).unwrap();
            Output::unopened(path.as_ref(), 0o640, 100).prepare(&os).unwrap();
            os.advance(Duration::from_secs(1));
            os.crash(Crash::Power, &mut Random::new(seed));
            os.restart().engine_exists(path)
        })
    };
    assert!(survives("/out", "/out/web.log"));
    assert!(survives("/out", "/out/new/deep/web.log"));
    // A life that was cut off made it: it may not be on the disk either.
    assert!(survives("/out/new", "/out/new/web.log"));
}
