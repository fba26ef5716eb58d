//! Stories of fragments: each goes through `check`, which joins and compares.

use proptest::prelude::*;

use super::*;
use crate::decode::Stream::{Stderr, Stdout};

const MAX: usize = 40_000;

fn time(second: u8) -> Timestamp {
    Timestamp::parse(format!("2026-11-25T16:00:{second:02}Z").as_bytes()).expect("a time")
}

/// A piece: stream, second, text, and how many bytes the container wrote for it.
fn push(assembler: &mut Assembler, (stream, second, text): (Stream, u8, &[u8]), records: &mut Vec<(u8, Vec<u8>)>) {
    let raw_bytes = text.len() as u64;
    let (text, ends_line) = text.strip_suffix(b"\n").map_or((text, false), |text| (text, true));
    let record = RecordView { stream, time: time(second), text, attrs: None, line: b"the source line" };
    let entry = Entry { record, ends_line, raw_bytes };
    assembler.push(&entry, &mut |record| {
        let second = record.time.to_string()[17..19].parse().expect("two digits");
        records.push((second, record.text.to_vec()));
    });
}

fn check(pieces: &[(Stream, u8, &[u8])], expected: &[(u8, &[u8])]) -> Assembler {
    let mut assembler = Assembler::new(Joining::Lines { bytes_max: MAX });
    let mut records = Vec::new();
    for piece in pieces {
        push(&mut assembler, *piece, &mut records);
    }
    let expected: Vec<(u8, Vec<u8>)> = expected.iter().map(|(second, text)| (*second, text.to_vec())).collect();
    assert_eq!(records, expected);
    assembler
}

fn full(byte: u8) -> Vec<u8> {
    vec![byte; PIECE_RAW_BYTES]
}

#[test]
fn a_whole_line_passes_through() {
    check(&[(Stdout, 1, b"a\n"), (Stderr, 2, b"\n")], &[(1, b"a"), (2, b"")]);
}

#[test]
fn pieces_of_one_time_are_one_record() {
    let (a, b) = (full(b'a'), full(b'b'));
    let joined = [&a[..], &b, b"end"].concat();
    check(&[(Stdout, 1, &a), (Stdout, 1, &b), (Stdout, 1, b"end\n")], &[(1, &joined)]);
    check(&[(Stdout, 1, &a), (Stdout, 1, b"\n")], &[(1, &a)]);
}

#[test]
fn streams_interleave_and_a_record_comes_with_its_last_piece() {
    let (a, b) = (full(b'a'), full(b'b'));
    let pieces = [(Stdout, 1, &a[..]), (Stderr, 2, &b), (Stdout, 1, b"1\n"), (Stderr, 3, b"new\n")];
    check(&pieces, &[(1, &[&a[..], b"1"].concat()), (2, &b), (3, b"new")]);
}

#[test]
fn a_short_piece_without_newline_ends_at_once() {
    check(&[(Stdout, 1, b"abc"), (Stdout, 2, b"abc")], &[(1, b"abc"), (2, b"abc")]);
}

#[test]
fn another_time_ends_the_line_before_it() {
    let a = full(b'a');
    let assembler = check(&[(Stdout, 1, &a), (Stdout, 2, &a)], &[(1, &a)]);
    assert!(assembler.has_open_chain());
    assert_eq!(assembler.unfinished().bytes(), a.len());
}

#[test]
fn a_line_beyond_the_maximum_goes_on_in_further_records_of_its_time() {
    let a = full(b'a');
    let whole = vec![b'a'; 3 * PIECE_RAW_BYTES];
    let assembler = check(
        &[(Stdout, 1, &a), (Stdout, 1, &a), (Stdout, 1, &a), (Stdout, 1, b"\n")],
        &[(1, &whole[..MAX]), (1, &whole[MAX..])],
    );
    assert_eq!(assembler.counted.split, 1);
}

#[test]
fn a_line_of_just_the_maximum_is_one_record() {
    let a = full(b'a');
    let whole = vec![b'a'; MAX];
    let last = [&whole[2 * PIECE_RAW_BYTES..], b"\n"].concat();
    let assembler = check(&[(Stdout, 1, &a), (Stdout, 1, &a), (Stdout, 1, &last)], &[(1, &whole)]);
    assert_eq!(assembler.counted.split, 0);
}

#[test]
fn a_split_leaves_characters_whole() {
    let text = "é".repeat(PIECE_RAW_BYTES / 2);
    let mut assembler = Assembler::new(Joining::Lines { bytes_max: PIECE_RAW_BYTES - 1 });
    let mut records = Vec::new();
    push(&mut assembler, (Stdout, 1, text.as_bytes()), &mut records);
    push(&mut assembler, (Stdout, 1, b"\n"), &mut records);
    assert!(records.iter().all(|(_, part)| std::str::from_utf8(part).is_ok()));
    assert_eq!(records.concat_texts(), text.as_bytes());
}

#[test]
fn bytes_that_are_no_characters_are_split_at_most_four_bytes_early() {
    let text = vec![0x80; PIECE_RAW_BYTES];
    let mut assembler = Assembler::new(Joining::Lines { bytes_max: 10_000 });
    let mut records = Vec::new();
    push(&mut assembler, (Stdout, 1, &text), &mut records);
    assert_eq!(records, [(1, text[..10_000 - 4].to_vec())]);
}

#[test]
fn lines_of_both_streams_that_were_ended_are_remembered() {
    let a = full(b'a');
    let mut assembler = Assembler::new(Joining::Lines { bytes_max: MAX });
    let mut records = Vec::new();
    push(&mut assembler, (Stdout, 1, &a), &mut records);
    push(&mut assembler, (Stderr, 1, &a), &mut records);
    assembler.end_all(LatePieces::Possible, &mut |record| records.push((1, record.text.to_vec())));
    push(&mut assembler, (Stdout, 1, b"\n"), &mut records);
    push(&mut assembler, (Stderr, 1, b"\n"), &mut records);
    assert_eq!(records, [(1, a.clone()), (1, a)]);
}

#[test]
fn a_new_maximum_counts_from_the_next_entry_on() {
    let a = full(b'a');
    let mut assembler = check(&[(Stdout, 1, &a)], &[]);
    assembler.set_joining(Joining::Lines { bytes_max: PIECE_RAW_BYTES + 1 });
    let mut records = Vec::new();
    push(&mut assembler, (Stdout, 1, b"bc\n"), &mut records);
    assert_eq!(records, [(1, [&a[..], b"b"].concat()), (1, b"c".to_vec())]);
}

trait ConcatTexts {
    fn concat_texts(&self) -> Vec<u8>;
}

impl ConcatTexts for Vec<(u8, Vec<u8>)> {
    fn concat_texts(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, text)| text.clone()).collect()
    }
}

#[test]
fn late_pieces_are_a_further_record_and_a_late_newline_is_none() {
    let a = full(b'a');
    let mut assembler = Assembler::new(Joining::Lines { bytes_max: MAX });
    let mut records = Vec::new();
    push(&mut assembler, (Stdout, 1, &a), &mut records);
    assembler.end_all(LatePieces::Possible, &mut |record| records.push((1, record.text.to_vec())));
    push(&mut assembler, (Stdout, 1, b"\n"), &mut records);
    assert_eq!(records, [(1, a.clone())]);
    push(&mut assembler, (Stdout, 1, b"late\n"), &mut records);
    assert_eq!(records.last(), Some(&(1, b"late".to_vec())));
    assert_eq!(assembler.counted.late, 2);
    push(&mut assembler, (Stdout, 2, b"next\n"), &mut records);
    assert_eq!(*assembler.unfinished(), Unfinished::default());
}

proptest! {
    /// Wherever a checkpoint falls, going on from it gives the same records.
    #[test]
    fn a_checkpoint_anywhere_changes_nothing(
        lengths in proptest::collection::vec((any::<bool>(), 0usize..70_000), 1..6), at in 0usize..40,
    ) {
        let mut pieces: Vec<(Stream, u8, Vec<u8>)> = Vec::new();
        for (ix, (stdout, length)) in lengths.iter().enumerate() {
            let stream = if *stdout { Stdout } else { Stderr };
            let line = [vec![b'a' + ix as u8; *length], b"\n".to_vec()].concat();
            pieces.extend(line.chunks(PIECE_RAW_BYTES).map(|piece| (stream, ix as u8, piece.to_vec())));
        }
        let mut whole = Assembler::new(Joining::Lines { bytes_max: MAX });
        let mut parted = Assembler::new(Joining::Lines { bytes_max: MAX });
        let (mut expected, mut records) = (Vec::new(), Vec::new());
        for (ix, (stream, second, text)) in pieces.iter().enumerate() {
            push(&mut whole, (*stream, *second, text), &mut expected);
            if ix == at {
                parted = Assembler::resume(Joining::Lines { bytes_max: MAX }, parted.unfinished().clone());
            }
            push(&mut parted, (*stream, *second, text), &mut records);
        }
        prop_assert_eq!(&expected, &records);
        let texts: usize = records.iter().map(|(_, text)| text.len()).sum();
        let open: usize = parted.unfinished().bytes();
        prop_assert_eq!(texts + open, lengths.iter().map(|(_, length)| length).sum::<usize>());
    }
}
