//! What becomes of an output when the records of its source are held against it and what it lacks is appended.

use std::path::Path;

use crate::config::limits::{SEARCH_BYTES_MAX, SEARCHED_BYTES_MAX, STASH_BYTES_MAX};
use crate::sim::os::{Fault, FaultPlan, SimOs};
use crate::sink::align::{Offer, Offered, Repair, Replay};
use crate::sink::existing::Existing;
use crate::sink::{Output, Place};

const PATH: &str = "/out/web.log";
const START: Place = Place { segment: 1, offset: 0 };

/// An output of these segments, the last of them the current one.
fn output(segments: &[&[u8]]) -> (SimOs, Output<SimOs>) {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    let (current, rotated) = segments.split_last().unwrap();
    for (ix, segment) in rotated.iter().enumerate() {
        os.engine_write_whole(format!("{PATH}.{}", ix + 1), segment).unwrap();
    }
    os.engine_write_whole(PATH, current).unwrap();
    let output = Output::find(&os, Path::new(PATH), 0o640, u64::MAX, 1).unwrap();
    (os, output)
}

fn existing(os: &SimOs, output: &Output<SimOs>, until: Option<Place>) -> Existing<SimOs> {
    Existing::open(os, output.path(), output.place().segment, START, until).unwrap().unwrap()
}

#[derive(Debug, PartialEq, Eq)]
struct Ending {
    /// What the current file holds.
    text: String,
    unmatched_bytes: u64,
    repaired_bytes: u64,
}

fn ending(text: &str, unmatched_bytes: u64, repaired_bytes: u64) -> Ending {
    Ending { text: text.to_owned(), unmatched_bytes, repaired_bytes }
}

/// Holds the records against the output as a container does: up to its end, then what is missing is appended.
fn hold(os: &SimOs, output: &mut Output<SimOs>, replay: &mut Replay<SimOs>, source: &[&str]) -> Ending {
    let mut left = source.iter();
    let mut rest: Vec<u8> = Vec::new();
    for record in left.by_ref() {
        let already = match replay.offer(os, output, record.as_bytes().into()).unwrap() {
            Offer::Present | Offer::Stashed => continue,
            Offer::Ends { already } => already,
            Offer::GiveUp => 0,
        };
        rest.extend_from_slice(&record.as_bytes()[already..]);
        break;
    }
    left.for_each(|record| rest.extend_from_slice(record.as_bytes()));
    let missed = replay.finish(os, output).unwrap();
    let mut start = 0;
    for end in &missed.ends {
        assert!(start < *end && missed.bytes[end - 1] == b'\n', "each is one record");
        start = *end;
    }
    assert_eq!(start, missed.bytes.len());
    assert_eq!(output.prepare(os).unwrap(), None);
    output.append(os, &missed.bytes[missed.already..]).1.unwrap();
    output.append(os, &rest).1.unwrap();
    let text = String::from_utf8(os.engine_read(PATH).unwrap()).unwrap();
    ending(&text, replay.unmatched_bytes, replay.repaired_bytes)
}

fn after(segments: &[&str], source: &[&str]) -> Ending {
    let segments: Vec<&[u8]> = segments.iter().map(|segment| segment.as_bytes()).collect();
    let (os, mut output) = output(&segments);
    let mut replay = Replay::new(existing(&os, &output, None), Repair::Never);
    hold(&os, &mut output, &mut replay, source)
}

#[test]
fn what_is_there_is_passed_over_and_a_torn_last_line_is_completed() {
    let source = ["one\n", "two\n", "three\n"];
    assert_eq!(after(&["one\ntwo\nthree\n"], &source), ending("one\ntwo\nthree\n", 0, 0));
    assert_eq!(after(&["one\ntwo\n"], &source), ending("one\ntwo\nthree\n", 0, 0));
    assert_eq!(after(&["one\ntw"], &source), ending("one\ntwo\nthree\n", 0, 0));
    assert_eq!(after(&[""], &source), ending("one\ntwo\nthree\n", 0, 0));
    assert_eq!(after(&["one\n", "two\n", "th"], &source), ending("three\n", 0, 0));
}

#[test]
fn nothing_more_is_kept_once_the_output_has_ended() {
    let (os, out) = output(&[b"one\ntw"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"one\n"[..])).unwrap(), Offer::Present);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"two\n"[..])).unwrap(), Offer::Ends { already: 2 });
    let (os, out) = output(&[b"thr"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    for kept in [&b"two\n"[..], b"three\n"] {
        assert_eq!(replay.offer(&os, &out, Offered::from(kept)).unwrap(), Offer::Stashed);
    }
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"four\n"[..])).unwrap(), Offer::Ends { already: 0 });
}

#[test]
fn lines_without_a_partner_stay_and_are_counted() {
    let source = ["one\n", "two\n", "three\n"];
    assert_eq!(after(&["one\nlost\ntwo\n"], &source), ending("one\nlost\ntwo\nthree\n", 5, 0));
    assert_eq!(after(&["one\n", "lost\ntoo\n", "two\n"], &source), ending("two\nthree\n", 9, 0));
    assert_eq!(after(&["one\ntwo\nthree\n", "left\n", "over\n"], &source), ending("over\n", 10, 0));
    // Nobody's beginning is ended before other lines follow, or would, soon.
    assert_eq!(after(&["one\nsomebod"], &source), ending("one\nsomebod\ntwo\nthree\n", 7, 0));
    assert_eq!(after(&["one\ntwo\nthree\nsomebod"], &source), ending("one\ntwo\nthree\nsomebod\n", 7, 0));
}

#[test]
fn records_before_one_that_is_there_were_taken_away_and_those_behind_are_missing() {
    let source = ["one\n", "two\n", "three\n", "four\n"];
    assert_eq!(after(&["one\nthree\n"], &source), ending("one\nthree\nfour\n", 0, 0));
    assert_eq!(after(&["two\n", "four\n"], &source), ending("four\n", 0, 0));
    assert_eq!(after(&["one\nelse\nthree\nmore\n"], &source), ending("one\nelse\nthree\nmore\nfour\n", 10, 0));
    // A beginning is a weak sign: the line that has it is completed, and those before it are written behind it.
    assert_eq!(after(&["one\nelse\nthr"], &source[..3]), ending("one\nelse\nthree\ntwo\n", 5, 0));
    assert_eq!(after(&["one\nthr"], &source), ending("one\nthree\ntwo\nfour\n", 0, 0));
}

#[test]
fn of_two_that_may_be_torn_the_first_is_completed() {
    let source = ["one\n", "two\n", "time 1\n", "time 2\n"];
    assert_eq!(after(&["one\ntime "], &source), ending("one\ntime 1\ntwo\ntime 2\n", 0, 0));
}

#[test]
fn a_rotated_segment_that_somebody_cut_is_left_as_it_is() {
    assert_eq!(after(&["one\ntw", "three\n"], &["one\n", "two\n", "three\n"]), ending("three\n", 0, 0));
    let kept = ending("three\ntwofold\n", 0, 0);
    assert_eq!(after(&["one\ntw", "three\n"], &["one\n", "twofold\n", "three\n", "twofold\n"]), kept);
    // Only the output's very end may be the beginning of a line that is sought.
    assert_eq!(after(&["one\nelse\ntw", "three\n"], &["one\n", "two\n", "three\n"]), ending("three\n", 7, 0));
    assert_eq!(after(&["one\nelse\ntw", "else\n"], &["one\n", "two\n"]), ending("else\ntwo\n", 12, 0));
}

#[test]
fn pages_of_zeros_are_written_again_only_after_a_power_loss_and_in_the_current_file() {
    let source = ["one\n", "two\n", "three\n"];
    let told = |segments: &[&[u8]], repair| {
        let (os, mut output) = output(segments);
        let mut replay = Replay::new(existing(&os, &output, None), repair);
        hold(&os, &mut output, &mut replay, &source)
    };
    let zeroed = Repair::ZeroedPages;
    assert_eq!(told(&[b"one\n\0\0\0\0three\n"], zeroed), ending("one\ntwo\nthree\n", 0, 4));
    assert_eq!(told(&[b"one\n\0\0\0\0\0\0\0\0\0\0"], zeroed), ending("one\ntwo\nthree\n", 0, 10));
    assert_eq!(told(&[b"one\n\0\0\0\0th\0"], zeroed), ending("one\ntwo\nthree\n", 0, 7));
    assert_eq!(told(&[b"one\n\0\0\0\0three\n"], Repair::Never), ending("one\n\0\0\0\0three\ntwo\nthree\n", 10, 0));
    assert_eq!(told(&[b"one\n\0\0\0\n", b"three\n"], zeroed), ending("three\n", 4, 0));
    assert_eq!(told(&[b"one\n\0X\0\nthree\n"], zeroed), ending("one\n\0X\0\nthree\n", 4, 0));
}

/// The engine may have lost the source of what became zeros. Where each line has its time, one that stands behind them is
/// no other.
#[test]
fn a_record_that_stands_behind_zeros_is_not_written_over_them() {
    let told = |parts: &[&[u8]], tells_apart: bool, source: &[&str]| {
        let (os, mut output) = output(&[&parts.concat()]);
        let mut replay = Replay::new(existing(&os, &output, None), Repair::ZeroedPages);
        replay.tells_apart = tells_apart;
        let ending = hold(&os, &mut output, &mut replay, source);
        (ending.text.replace('\0', "0"), ending.unmatched_bytes, ending.repaired_bytes)
    };
    let parts = [&b"1 a\n"[..], &[0; 8], b"4 d\n5 e\n"];
    let kept =
        |text: &str, unmatched_bytes: u64, repaired_bytes: u64| (text.to_owned(), unmatched_bytes, repaired_bytes);
    let source = ["1 a\n", "4 d\n", "5 e\n", "6 f\n"];
    assert_eq!(told(&parts, true, &source), kept("1 a\n000000004 d\n5 e\n6 f\n", 8, 0));
    assert_eq!(told(&parts, false, &source), kept("1 a\n4 d\n5 e\n4 d\n5 e\n6 f\n", 8, 8));
    let found = told(&parts, true, &["1 a\n", "2 b\n", "4 d\n", "5 e\n"]);
    assert_eq!(found, kept("1 a\n2 b\n00004 d\n5 e\n", 4, 4));
    let twice = [&b"1 a\n"[..], &[0; 8], b"4 d\n", &[0; 4], b"6 f\n"];
    assert_eq!(told(&twice, true, &["1 a\n", "4 d\n", "6 f\n"]), kept("1 a\n000000004 d\n00006 f\n", 12, 0));
    // A trace of it says that it stood here.
    let traced = [&b"1 a\n2\0b\n2 b\n"[..]];
    assert_eq!(told(&traced, true, &["1 a\n", "2 b\n"]), kept("1 a\n2 b\n2 b\n", 4, 4));
    // Others between them, and too many.
    let (few, many) = ("x\n".repeat(10_000), "x\n".repeat(40_000));
    let (_, unmatched_bytes, repaired_bytes) = told(&[&[0; 8], few.as_bytes(), b"4 d\n"], true, &["4 d\n"]);
    assert_eq!((unmatched_bytes, repaired_bytes), (20_008, 0));
    let (_, _, repaired_bytes) = told(&[&[0; 8], many.as_bytes(), b"4 d\n"], true, &["4 d\n"]);
    assert_eq!(repaired_bytes, 4);
}

#[test]
fn zeros_are_taken_for_another_shape_only_where_it_left_a_trace() {
    let mended = |text: &[u8], other: &[u8]| {
        let (os, out) = output(&[text]);
        let mut replay = Replay::new(existing(&os, &out, None), Repair::ZeroedPages);
        let offered = Offered { record: b"new\n", others: &[other], fresh: b"new\n", was_open: false };
        replay.offer(&os, &out, offered).unwrap();
        String::from_utf8(os.engine_read(PATH).unwrap()).unwrap().replace('\0', "0")
    };
    assert_eq!(mended(b"\0\0\0\0 x\n", b"time x\n"), "time x\n");
    assert_eq!(mended(b"\0\0\0\0\0\0\0", b"time x\n"), "new\n000");
    assert_eq!(mended(b"n\0\0\0 x\n", b"nine x\n"), "new\n x\n");
    assert_eq!(mended(b"\0\0\0\0 x", b"time x\n"), "new\n x", "a torn one");
}

#[test]
fn a_repair_goes_on_after_short_writes() {
    let (os, mut output) = output(&[b"one\n\0\0\0\0\0\0\0\0\0\0\0\0"]);
    let mut replay = Replay::new(existing(&os, &output, None), Repair::ZeroedPages);
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"one\n"[..])).unwrap(), Offer::Present);
    os.arm(FaultPlan::at(0, Fault::ShortWrite(3)).and(1, Fault::ShortWrite(4)));
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"two by two\n"[..])).unwrap(), Offer::Present);
    os.disarm();
    assert_eq!(hold(&os, &mut output, &mut replay, &["\nx\n"]), ending("one\ntwo by two\n\nx\n", 0, 12));
}

#[test]
fn behind_the_lines_of_others_nothing_is_completed() {
    let told = |ours: &str, theirs: &str, source: &[&str]| {
        let (os, mut output) = output(&[[ours, theirs].concat().as_bytes()]);
        let until = Place { segment: 1, offset: ours.len() as u64 };
        let mut replay = Replay::among_others(existing(&os, &output, Some(until)), Repair::Never);
        hold(&os, &mut output, &mut replay, source)
    };
    assert_eq!(told("one\n", "theirs\n", &["one\n", "two\n"]), ending("one\ntheirs\ntwo\n", 0, 0));
    assert_eq!(told("one\ntw", "\ntheirs\n", &["one\n", "two\n"]), ending("one\ntw\ntheirs\ntwo\n", 2, 0));
    assert_eq!(told("else\ntw", "\ntheirs\n", &["one\n", "two\n"]), ending("else\ntw\ntheirs\none\ntwo\n", 7, 0));
    assert_eq!(told("one\n", "their", &["one\n", "two\n"]), ending("one\ntheir\ntwo\n", 0, 0));
    assert_eq!(told("one\nelse", "\ntheirs\n", &["one\n"]), ending("one\nelse\ntheirs\n", 4, 0));
}

#[test]
fn it_is_over_when_neither_side_has_anything_left() {
    let (os, out) = output(&[b"one\n", b"else\n"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    assert!(!replay.is_over().unwrap(), "lines follow");
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"one\n"[..])).unwrap(), Offer::Present);
    assert!(!replay.is_over().unwrap(), "lines follow in the next segment");
    assert_eq!(replay.place(), Place { segment: 2, offset: 0 });
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"two\n"[..])).unwrap(), Offer::Stashed);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"else\n"[..])).unwrap(), Offer::Present);
    assert!(replay.is_over().unwrap());
    assert_eq!(replay.place(), Place { segment: 2, offset: 5 });

    let (os, out) = output(&[b"one\n", b"lost\n", b"two\nmore\n"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"two\n"[..])).unwrap(), Offer::Present);
    assert_eq!((replay.place(), replay.unmatched_bytes), (Place { segment: 3, offset: 4 }, 9));

    let (os, output) = output(&[b"els"]);
    let mut replay = Replay::new(existing(&os, &output, None), Repair::Never);
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"two\n"[..])).unwrap(), Offer::Stashed);
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"else\n"[..])).unwrap(), Offer::Stashed);
    assert!(!replay.is_over().unwrap(), "two records are to be appended");
}

#[test]
fn a_record_is_found_in_another_shape_and_written_in_the_present_one() {
    let offered = |fresh: &'static [u8]| Offered {
        record: b"10:00 two\n",
        others: &[b"two\n", b"[two]\n"],
        fresh,
        was_open: false,
    };
    let (os, out) = output(&[b"one\nelse\n[two]\nthree\n"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"one\n"[..])).unwrap(), Offer::Present);
    assert_eq!(replay.offer(&os, &out, offered(b"2\n")).unwrap(), Offer::Present);
    assert_eq!(replay.unmatched_bytes, 5);
    assert_eq!(replay.offer(&os, &out, offered(b"2\n")).unwrap(), Offer::Stashed);
    assert_eq!(replay.finish(&os, &out).unwrap().bytes, b"2\n");
    // The beginning of one that is torn says in which shape it goes on.
    let (os, out) = output(&[b"else\n[tw"]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    assert_eq!(replay.offer(&os, &out, offered(b"2\n")).unwrap(), Offer::Stashed);
    let rest = replay.finish(&os, &out).unwrap();
    assert_eq!((&rest.bytes[..], rest.already), (&b"[two]\n"[..], 3));
}

#[test]
fn a_line_that_was_open_tells_only_of_those_before_its_beginning() {
    let (os, out) = output(&[b"open\n"]);
    let missing = |open: &[usize]| {
        let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
        for (ix, n_open) in open.iter().enumerate() {
            let record = format!("{ix}\n");
            assert_eq!(replay.offer(&os, &out, Offered::from(record.as_bytes())).unwrap(), Offer::Stashed);
            assert!(!replay.note_open(*n_open), "none has ended");
            replay.line_is_over();
        }
        let was_open = replay.note_open(0);
        assert_eq!(replay.note_open(0), was_open, "until the line is over");
        let offered = Offered { was_open, ..Offered::from(&b"open\n"[..]) };
        assert_eq!(replay.offer(&os, &out, offered).unwrap(), Offer::Present);
        replay.line_is_over();
        assert!(!replay.note_open(0));
        String::from_utf8(replay.finish(&os, &out).unwrap().bytes).unwrap()
    };
    assert_eq!(missing(&[0, 0, 0]), "", "they were there before it");
    assert_eq!(missing(&[0, 1, 1, 1]), "2\n3\n");
}

#[test]
fn only_so_much_is_kept_of_what_isn_t_there() {
    let (os, output) = output(&[b"else\n"]);
    let mut replay = Replay::new(existing(&os, &output, None), Repair::Never);
    let quarter = [&vec![b'x'; STASH_BYTES_MAX / 4 - 1][..], b"\n"].concat();
    for _ in 0..4 {
        assert_eq!(replay.offer(&os, &output, Offered::from(&quarter[..])).unwrap(), Offer::Stashed);
    }
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"\n"[..])).unwrap(), Offer::GiveUp);
    assert_eq!(replay.finish(&os, &output).unwrap().bytes.len(), STASH_BYTES_MAX);
}

#[test]
fn only_so_much_is_looked_through() {
    let (os, out) = output(&[&vec![b'x'; SEARCH_BYTES_MAX]]);
    let mut replay = Replay::new(existing(&os, &out, None), Repair::Never);
    let n_shapes = SEARCHED_BYTES_MAX as usize / SEARCH_BYTES_MAX;
    let others = vec![&b"two\n"[..]; n_shapes - 1];
    let offered = Offered { record: b"one\n", others: &others, fresh: b"one\n", was_open: false };
    assert_eq!(replay.offer(&os, &out, offered).unwrap(), Offer::Stashed);
    assert_eq!(replay.offer(&os, &out, Offered::from(&b"three\n"[..])).unwrap(), Offer::GiveUp);
}

#[test]
fn where_the_search_ends_no_line_is_torn() {
    let before = [&vec![b'x'; SEARCH_BYTES_MAX - 4][..], b"\n"].concat();
    let (os, output) = output(&[&[&before[..], b"three and more\n"].concat()]);
    let mut replay = Replay::new(existing(&os, &output, None), Repair::Never);
    assert_eq!(replay.offer(&os, &output, Offered::from(&b"three\n"[..])).unwrap(), Offer::Stashed);
    let rest = replay.finish(&os, &output).unwrap();
    assert_eq!((&rest.bytes[..], &rest.ends[..], rest.already), (&b"three\n"[..], &[6][..], 0));
    assert_eq!(replay.unmatched_bytes, SEARCH_BYTES_MAX as u64 + 12);
}
