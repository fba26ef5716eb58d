//! Lines of a corpus, decoded one by one.

use std::hint::black_box;

use longshore::decode::{Decoded, Decoder, Entry};

use crate::corpus::Kind;

pub const WORKLOADS: &[(&str, Kind)] = &[
    ("plain", Kind::Plain),
    ("access", Kind::Access),
    ("escapes", Kind::Application),
    ("utf8", Kind::Utf8),
    ("short", Kind::Short),
    ("pieces", Kind::Pieces),
    ("attrs", Kind::Attrs),
    ("foreign", Kind::Foreign),
    ("mixed", Kind::Mixed),
];

#[inline(always)]
pub fn decode_lines(corpus: &[u8], mut visit: impl FnMut(&Entry<'_>)) {
    let mut decoder = Decoder::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', corpus) {
        match decoder.decode(&corpus[start..end]) {
            Decoded::Entry(entry) => visit(black_box(&entry)),
            Decoded::Malformed(fault) => panic!("{fault:?}: {}", corpus[start..end].escape_ascii()),
        }
        start = end + 1;
    }
}
