use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::sim::os::{Errno, SimOs};

const WEB: &str = "/out/web.log";

fn stored(text: &[u8], form: Form) -> Vec<u8> {
    match form {
        Form::Plain => text.to_vec(),
        Form::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Form::Zstd => zstd::bulk::compress(text, 1).unwrap(),
    }
}

/// Segments from number 1 on, the last of them the current file.
fn disk(segments: &[(Vec<u8>, Form)]) -> SimOs {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    let (current, rotated) = segments.split_last().unwrap();
    for (ix, (text, form)) in rotated.iter().enumerate() {
        os.engine_write_whole(segment_path(WEB.as_ref(), ix as u64 + 1, *form), &stored(text, *form)).unwrap();
    }
    os.engine_write_whole(WEB, &current.0).unwrap();
    os
}

fn open(os: &SimOs, n_segments: usize, place: Place, until: Option<Place>) -> Option<Existing<SimOs>> {
    Existing::open(os, WEB.as_ref(), n_segments as u64, place, until).unwrap()
}

fn place(segment: usize, offset: usize) -> Place {
    Place { segment: segment as u64, offset: offset as u64 }
}

/// What is still to come, by segment.
struct Left<'a> {
    segment_ix: usize,
    offset: usize,
    texts: Vec<&'a [u8]>,
}

impl<'a> Left<'a> {
    fn of_segment(&self) -> &'a [u8] {
        &self.texts[self.segment_ix][self.offset..]
    }

    /// Passes over segments that are read to their end; whether anything is left.
    fn settle(&mut self) -> bool {
        while self.of_segment().is_empty() && self.segment_ix + 1 < self.texts.len() {
            (self.segment_ix, self.offset) = (self.segment_ix + 1, 0);
        }
        !self.of_segment().is_empty()
    }

    fn ahead(&self) -> Vec<u8> {
        let later: Vec<u8> = self.texts[self.segment_ix + 1..].concat();
        [self.of_segment(), &later].concat()
    }
}

/// Reads by looks of these lengths, the odd ones across segments, and consumes a part of each.
fn check(segments: &[(Vec<u8>, Form)], from: Place, until: Option<Place>, steps: &[(usize, usize)]) {
    let os = disk(segments);
    let mut existing = open(&os, segments.len(), from, until).unwrap();
    let mut texts: Vec<&[u8]> = segments.iter().map(|(text, _)| &text[..]).collect();
    if let Some(until) = until {
        let last_ix = until.segment as usize - 1;
        texts[last_ix] = &texts[last_ix][..texts[last_ix].len().min(until.offset as usize)];
        texts.truncate(last_ix + usize::from(until.offset > 0)); // One that begins there is behind it.
    }
    let mut left = Left { segment_ix: from.segment as usize - 1, offset: from.offset as usize, texts };
    for (ix, (wanted, eaten)) in steps.iter().enumerate() {
        if ix % 2 == 1 {
            let pieces = existing.look_ahead(*wanted).unwrap();
            let expected = left.ahead();
            assert_eq!(pieces.concat(), expected[..expected.len().min(*wanted)]);
            let ends = pieces.iter().filter(|piece| !piece.is_empty()).scan(0, |at, piece| {
                *at += piece.len();
                Some(*at)
            });
            let ends: Vec<usize> = ends.collect();
            let mut at = left.of_segment().len();
            for text in &left.texts[left.segment_ix + 1..] {
                assert!(at == 0 || at >= pieces.concat().len() || ends.contains(&at), "pieces end with their segments");
                at += text.len();
            }
        }
        let peeked = existing.peek(*wanted).unwrap();
        let is_left = left.settle();
        let here = left.of_segment();
        assert_eq!(peeked, &here[..here.len().min(*wanted)]);
        let eaten = peeked.len().min(*eaten);
        existing.consume(eaten);
        left.offset += eaten;
        assert_eq!(existing.is_at_end().unwrap(), !left.settle());
        if is_left {
            assert_eq!(existing.place(), place(left.segment_ix + 1, left.offset));
        }
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Plain), Just(Form::Gzip), Just(Form::Zstd)]
}

proptest! {
    #[test]
    fn an_output_is_read_as_it_was_written(
        segments in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..12), form()), 1..5),
        from in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        until in proptest::option::of((any::<prop::sample::Index>(), 0usize..14)),
        steps in proptest::collection::vec((1usize..30, 0usize..10), 1..12),
    ) {
        let segment_ix = from.0.index(segments.len());
        let from = place(segment_ix + 1, from.1.index(segments[segment_ix].0.len() + 1));
        let until = until.map(|(ix, offset)| place(ix.index(segments.len()) + 1, offset)).filter(|until| *until > from);
        check(&segments, from, until, &steps);
    }
}

#[test]
fn a_long_output_is_read_in_steps_of_any_length() {
    let text = |seed: usize| (0..300 * 1024 + seed).map(|ix| (ix * (seed + 3) / 11) as u8).collect::<Vec<u8>>();
    let segments = [(text(1), Form::Zstd), (text(2), Form::Gzip), (text(3), Form::Plain), (text(4), Form::Plain)];
    let kib = 1024;
    check(&segments, place(1, 0), None, &[(100 * kib, 50 * kib); 30]);
    check(&segments, place(1, 5), None, &[(400 * kib, 299 * kib); 12]);
    check(&segments, place(2, 7), None, &[(900 * kib, 260 * kib); 12]);
    check(&segments, place(2, 0), Some(place(4, 10)), &[(290 * kib, 270 * kib); 12]);
}

/// A record that begins in one segment never ends in another, so what was found further on may be behind any joint.
#[test]
fn what_was_found_ahead_is_consumed_over_segments() {
    let plain = |text: &str| (text.as_bytes().to_vec(), Form::Plain);
    let os = disk(&[plain("one\n"), plain("two\n"), plain("three\n")]);
    let mut existing = open(&os, 3, place(1, 0), None).unwrap();
    assert_eq!(existing.look_ahead(100).unwrap(), [&b"one\n"[..], b"two\n", b"three\n"]);
    assert_eq!(existing.look_ahead(6).unwrap(), [&b"one\n"[..], b"tw"]);
    assert_eq!(existing.look_ahead(4).unwrap(), [b"one\n"]);
    existing.consume(4);
    assert_eq!(existing.place(), place(1, 4), "the end of a segment is a place in it");
    existing.consume(2);
    assert_eq!(existing.place(), place(2, 2));
    existing.consume(5);
    assert_eq!(existing.place(), place(3, 3));
    assert_eq!(existing.peek(9).unwrap(), b"ee\n");
}

#[test]
fn a_place_in_a_segment_that_is_gone_is_nowhere() {
    let plain = |text: &str| (text.as_bytes().to_vec(), Form::Plain);
    let os = disk(&[plain("one\n"), plain("two\n"), plain("three\n")]);
    os.engine_unlink("/out/web.log.1").unwrap();
    assert!(open(&os, 3, place(1, 2), None).is_none());
    let mut existing = open(&os, 3, place(1, 0), None).unwrap();
    assert_eq!(existing.peek(9).unwrap(), b"two\n");
    assert_eq!(existing.place(), place(2, 0));
    let none = SimOs::new(1);
    assert!(open(&none, 1, place(1, 4), None).is_none());
    assert!(open(&none, 1, place(1, 0), None).unwrap().is_at_end().unwrap());
    os.set_failing("/out", Some(Errno::Io));
    assert!(Existing::open(&os, WEB.as_ref(), 3, place(2, 0), None).is_err());
}

#[test]
fn what_is_compressed_or_pruned_meanwhile_is_read_as_it_stands() {
    let plain = |text: &str| (text.as_bytes().to_vec(), Form::Plain);
    let os = disk(&[plain("one\n"), plain("two\n"), plain("three\n"), plain("four\n"), plain("five\n")]);
    let mut existing = open(&os, 5, place(1, 0), Some(place(5, 2))).unwrap();
    assert_eq!(existing.peek(9).unwrap(), b"one\n");
    os.engine_unlink("/out/web.log.2").unwrap();
    os.engine_write_whole("/out/web.log.2.gz", &stored(b"two\n", Form::Gzip)).unwrap();
    os.engine_unlink("/out/web.log.3").unwrap();
    assert_eq!(existing.look_ahead(100).unwrap().concat(), b"one\ntwo\nfour\nfi");
    os.set_failing("/out/web.log.2.gz", Some(Errno::Io));
    let mut existing = open(&os, 5, place(1, 0), None).unwrap();
    assert!(existing.look_ahead(100).is_err(), "what can't be read is not passed over");
}

#[test]
fn without_a_descriptor_to_spare_nothing_is_passed_over() {
    let plain = |text: &str| (text.as_bytes().to_vec(), Form::Plain);
    let os = disk(&[plain("one\n"), plain("two\n")]);
    let mut existing = open(&os, 2, place(1, 0), None).unwrap();
    os.set_open_files_max(Some(os.open_files()));
    assert!(existing.look_ahead(100).is_err());
    os.set_open_files_max(None);
    assert_eq!(existing.look_ahead(100).unwrap().concat(), b"one\ntwo\n");
}
