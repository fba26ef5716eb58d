//! Where an output ends, read from its files.

use std::collections::HashSet;
use std::path::Path;

use crate::config::limits::SEEK_LINES_MAX;
use crate::hash::hash;
use crate::sim::os::SimOs;
use crate::sink::align::{Earliest, OutputEnd, Part, Prefer};
use crate::sink::{Output, Place};

const PATH: &str = "/out/web.log";

/// An output of these segments, the last of them the current one.
fn output(segments: &[&str]) -> (SimOs, Output<SimOs>) {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    let (current, rotated) = segments.split_last().unwrap();
    for (ix, segment) in rotated.iter().enumerate() {
        os.engine_write_whole(format!("{PATH}.{}", ix + 1), segment.as_bytes()).unwrap();
    }
    os.engine_write_whole(PATH, current.as_bytes()).unwrap();
    let output = Output::find(&os, Path::new(PATH), 0o640, u64::MAX, 1).unwrap();
    (os, output)
}

fn end_of(segments: &[&str], prefer: Prefer) -> Option<OutputEnd> {
    let (os, output) = output(segments);
    OutputEnd::read(&os, &output, Part::WHOLE, prefer).unwrap()
}

#[test]
fn of_a_part_only_its_own_lines_are_known() {
    let (os, output) = output(&["one\ntwo\n", "three\nfour\n"]);
    let read = |start, end| OutputEnd::read(&os, &output, Part { start, end }, Prefer::Latest).unwrap();
    let whole = |end| read(place(1, 0), Some(end)).map(|end| end.whole);
    assert_eq!(whole(place(2, 11)), Some(place(2, 11)));
    assert_eq!(whole(place(2, 6)), Some(place(2, 6)));
    assert_eq!(whole(place(2, 0)), Some(place(1, 8)));
    assert_eq!(whole(place(1, 4)), Some(place(1, 4)));
    assert_eq!(whole(place(1, 0)), None);
    let mut end = read(place(1, 0), Some(place(2, 0))).unwrap();
    assert!(!end.observe(b"three\n") && end.observe(b"two\n"));
    assert_eq!(end.lines_after_best(), Some(0));
    let mut end = read(place(1, 4), None).unwrap();
    assert!(!end.observe(b"one\n") && end.observe(b"two\n"));
    assert_eq!((end.whole, end.lines_after_best()), (place(2, 11), Some(2)));
    assert_eq!(read(place(2, 6), None).map(|end| end.whole), Some(place(2, 11)));
    assert!(read(place(2, 11), None).is_none() && read(place(3, 0), None).is_none());
}

/// How many of the source's lines are in the output, by the best match, and how many lines the output has behind that.
fn found(segments: &[&str], source: &[&str]) -> Option<(usize, usize)> {
    let mut end = end_of(segments, Prefer::Latest)?;
    let mut n_there = 0;
    for (ix, line) in source.iter().enumerate() {
        if end.observe(line.as_bytes()) {
            n_there = ix + 1;
        }
    }
    Some((n_there, end.lines_after_best()?))
}

fn place(segment: u64, offset: u64) -> Place {
    Place { segment, offset }
}

#[test]
fn the_end_is_found_in_the_last_segment_that_has_a_whole_line() {
    let whole = |segments: &[&str]| end_of(segments, Prefer::Latest).map(|end| end.whole);
    assert_eq!(whole(&["one\ntwo\n"]), Some(place(1, 8)));
    assert_eq!(whole(&["one\ntwo\ntor"]), Some(place(1, 8)));
    assert_eq!(whole(&["one\n", "two\n"]), Some(place(2, 4)));
    assert_eq!(whole(&["one\ntwo\n", ""]), Some(place(1, 8)));
    assert_eq!(whole(&["one\ntwo\n", "tor"]), Some(place(1, 8)));
    assert_eq!(whole(&["", "tor"]), None);
}

#[test]
fn lines_of_all_segments_are_known() {
    let source = ["one\n", "two\n", "three\n", "four\n"];
    assert_eq!(found(&["one\ntwo\n", "three\n"], &source), Some((3, 0)));
    assert_eq!(found(&["one\ntwo\n", "else\n"], &source), Some((2, 1)));
    assert_eq!(found(&["one\ntwo\n", "more\nelse\n", "thr"], &source), Some((2, 2)));
    assert_eq!(found(&["more\nelse\n"], &source), None);
}

#[test]
fn a_line_longer_than_what_is_read_at_once_is_one_line() {
    let long = "x".repeat(600 * 1024) + "\n";
    let text = ["one\n", &long, "two\n"].concat();
    assert_eq!(found(&[&text], &["one\n", &long, "two\n"]), Some((3, 0)));
    assert_eq!(end_of(&[&text], Prefer::Latest).unwrap().whole, place(1, text.len() as u64));
    let two = hash(b"two\n");
    assert_eq!(earliest(&[&text], &[two]), Some(place(1, text.len() as u64 - 4)));
}

#[test]
fn only_so_many_last_lines_are_known() {
    let many = "tick\n".repeat(SEEK_LINES_MAX - 1);
    assert_eq!(found(&["one\n", &many], &["one\n"]), Some((1, SEEK_LINES_MAX - 1)));
    assert_eq!(found(&["one\n", &(many + "tick\n")], &["one\n"]), None);
}

#[test]
fn of_equal_lines_with_a_time_the_last_counts_and_two_that_are_alike_are_told() {
    let mut end = end_of(&["a\nb\na\nb\n"], Prefer::Latest).unwrap();
    assert!(end.observe(b"a\n"));
    assert!(!end.ambiguous);
    assert!(end.observe(b"b\n"), "nearer to the end");
    assert!(!end.observe(b"else\n"));
    assert!(!end.observe(b"a\n"));
    assert!(!end.observe(b"b\n"), "as good as the first, which stays");
    assert!(end.ambiguous);
    assert!(end.observe(b"a\n") || end.observe(b"b\n"), "a longer run");
    assert!(!end.ambiguous);
    assert_eq!(end.lines_after_best(), Some(0));
}

#[test]
fn without_a_time_what_ends_with_the_output_counts_more_than_a_long_run() {
    let mut end = end_of(&["a\nb\nc\nx\nz\n"], Prefer::LongestRun).unwrap();
    assert!(end.observe(b"z\n"), "the output's last line");
    for line in ["a\n", "b\n", "c\n"] {
        assert!(!end.observe(line.as_bytes()), "{line:?} does not end it");
    }
    assert_eq!(end.lines_after_best(), Some(0));
    let mut end = end_of(&["a\nb\nc\nx\nb\nz\n"], Prefer::LongestRun).unwrap();
    assert!(end.observe(b"b\n"));
    assert!(end.observe(b"a\n") || end.observe(b"b\n"), "two in a row");
    assert!(end.observe(b"c\n"));
    assert!(!end.observe(b"b\n"));
    assert_eq!(end.lines_after_best(), Some(3));
}

fn earliest(segments: &[&str], lines: &[u64]) -> Option<Place> {
    let (os, output) = output(segments);
    let lines: HashSet<u64> = lines.iter().copied().collect();
    match Earliest::of(&os, &output, &lines).unwrap() {
        Earliest::At(place) => Some(place),
        Earliest::Nowhere => None,
        Earliest::Unknown => panic!("few lines are looked at"),
    }
}

#[test]
fn the_earliest_of_some_lines_is_found_in_any_segment() {
    let lines = [hash(b"two\n"), hash(b"three\n")];
    assert_eq!(earliest(&["one\ntwo\nthree\n", "three\ntwo\n"], &lines), Some(place(1, 4)));
    assert_eq!(earliest(&["one\n", "else\nthree\ntwo\n"], &lines), Some(place(2, 5)));
    assert_eq!(earliest(&["two\n", "else\n", "one\n"], &lines), Some(place(1, 0)));
    assert_eq!(earliest(&["one\n", "two"], &lines), None);
}

#[test]
fn behind_too_many_lines_the_earliest_is_unknown() {
    let lines = HashSet::from([hash(b"one\n")]);
    let many = "tick\n".repeat(SEEK_LINES_MAX - 1);
    let (os, few) = output(&["one\n", &many]);
    assert!(matches!(Earliest::of(&os, &few, &lines).unwrap(), Earliest::At(_)));
    let (os, too_many) = output(&["one\n", &(many + "tick\n")]);
    assert!(matches!(Earliest::of(&os, &too_many, &lines).unwrap(), Earliest::Unknown));
}
