//! A compressed sibling of arbitrary bytes, read at arbitrary offsets: what a plain inflation gives, up to where the
//! file is damaged. Bounded in memory, whatever the bytes unpack to.
#![no_main]

use std::io::Read;
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use longshore::tail::{Fingerprint, Source};
use longshore_fuzz::{Cursor, Memory};

/// No more of a bomb is compared.
const TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;
const READS_MAX: usize = 16;

fuzz_target!(|input: &[u8]| {
    let mut cursor = Cursor::new(input);
    let is_made = cursor.byte() % 2 == 1;
    let reads: Vec<(u32, u32)> =
        (0..cursor.byte() % READS_MAX as u8).map(|_| (cursor.number(), cursor.number())).collect();
    let damage = is_made.then(|| (cursor.number(), cursor.byte()));
    let stored = match damage {
        None => cursor.rest().to_vec(),
        // Bytes that a mutation alone would hardly find: a whole file but for one byte, or one cut short.
        Some((at, flip)) => damaged(compressed(cursor.rest()), at, flip),
    };
    let (text, is_whole) = inflate(&stored);

    let os = Memory::default();
    let path = Path::new("/x.gz");
    let file = os.file(path);
    file.append(&stored);
    let mut source = Source::gzip(&os, file.clone());
    for (offset, length) in reads {
        let offset = offset as usize % (text.len() + 2);
        let mut buffer = vec![0xaa; length as usize % (128 * 1024)];
        let read = source.read_at(&os, offset as u64, &mut buffer).expect("damage is an end, not an error");
        let expected = &text[offset.min(text.len())..text.len().min(offset + buffer.len())];
        if text.len() < TEXT_BYTES_MAX || offset + buffer.len() <= text.len() {
            assert_eq!(&buffer[..read], expected, "at {offset}");
        }
    }
    check_sequence(&os, &mut source, &text, is_whole);
    check_head(&os, &mut source, &text);
});

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Repeated, so that it is longer than one step of the inflation.
    for _ in 0..64 {
        std::io::Write::write_all(&mut encoder, text).expect("memory takes everything");
    }
    encoder.finish().expect("memory takes everything")
}

fn damaged(mut stored: Vec<u8>, at: u32, flip: u8) -> Vec<u8> {
    let at = at as usize % stored.len();
    match flip {
        0 => {}
        0xff => stored.truncate(at),
        flip => stored[at] ^= flip,
    }
    stored
}

/// What the file unpacks to, and whether it does so to its end.
fn inflate(stored: &[u8]) -> (Vec<u8>, bool) {
    let mut decoder = MultiGzDecoder::new(stored);
    let mut text = Vec::new();
    // In steps of the source's: how much comes before a damaged block depends on them.
    let mut step = vec![0; 64 * 1024];
    while text.len() < TEXT_BYTES_MAX {
        match decoder.read(&mut step) {
            Ok(0) => return (text, true),
            Ok(read) => text.extend_from_slice(&step[..read]),
            Err(_) => return (text, false),
        }
    }
    (text, false)
}

/// Forward with a small overlap, as a log is read.
fn check_sequence(os: &Memory, source: &mut Source<Memory>, text: &[u8], is_whole: bool) {
    let mut offset = 0;
    let mut buffer = vec![0; 40_000];
    while offset < TEXT_BYTES_MAX {
        let from = offset.saturating_sub(1000);
        let read = source.read_at(os, from as u64, &mut buffer).expect("damage is an end, not an error");
        let there = read.min(text.len().saturating_sub(from));
        assert_eq!(buffer[..there], text[from..from + there], "at {from}");
        if read < buffer.len() {
            assert_eq!(from + read, text.len(), "the end comes where the text ends");
            assert_eq!(source.damage().is_some(), !is_whole, "{:?}", source.damage());
            return;
        }
        offset = from + read;
    }
}

fn check_head(os: &Memory, source: &mut Source<Memory>, text: &[u8]) {
    let head = source.head(os).expect("damage is an end, not an error");
    if text.len() >= TEXT_BYTES_MAX {
        return;
    }
    let start = text.iter().position(|byte| *byte != 0).unwrap_or(text.len());
    let line = memchr::memchr(b'\n', &text[start..]).map(|newline| &text[start..=start + newline]);
    assert_eq!(head, line.map(Fingerprint::of));
}
