//! Rows, the loss ledger and the outputs' journal from arbitrary bytes: none panics, and a row that is one survives
//! being written and read.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longshore::checkpoint::codec;
use longshore::discover::listing::is_container_id;
use longshore::loss;
use longshore::sink::journal::{self, Journal};
use longshore_fuzz::{Cursor, Memory};

fuzz_target!(|input: &[u8]| {
    let mut cursor = Cursor::new(input);
    match cursor.byte() % 4 {
        0 => drop(codec::decode(cursor.rest())),
        1 => row_with_its_checksum(cursor.rest()),
        2 => pairs(cursor),
        _ => journal(cursor.rest()),
    }
});

/// What no mutation would find: bytes whose checksum is right.
fn row_with_its_checksum(body: &[u8]) {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let Ok(row) = codec::decode(&bytes) else { return };
    assert_eq!(codec::decode(&codec::encode(&row)).as_ref(), Ok(&row));
    if !is_container_id(&row.id) {
        return;
    }
    let (changes, n_parts) = codec::put(&row, 3);
    let pairs: Vec<_> = changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    assert_eq!(pairs.len(), n_parts);
    let (rows, bad) = codec::rows(&pairs);
    assert_eq!((rows, bad), (vec![(row, n_parts)], vec![]));
}

fn pairs(mut cursor: Cursor<'_>) {
    let mut pairs = Vec::new();
    while !cursor.is_empty() {
        let prefix: &[u8] = [&b"container/"[..], b"loss/", b""][usize::from(cursor.byte() % 3)];
        let key_bytes = usize::from(cursor.byte());
        let key = [prefix, cursor.bytes(key_bytes)].concat();
        let value_bytes = usize::from(cursor.byte()) * 4;
        let mut value = cursor.bytes(value_bytes).to_vec();
        if cursor.byte() % 2 == 1 && !value.is_empty() {
            let crc = crc32c::crc32c(&value[1..]);
            value.extend_from_slice(&crc.to_le_bytes());
        }
        pairs.push((key, value));
    }
    let (rows, bad) = codec::rows(&pairs);
    assert!(rows.len() + bad.len() <= pairs.len());
    let ledger = loss::Ledger::resume(&pairs);
    for entry in loss::entries(&pairs).iter().take(4) {
        assert!(!ledger.add(entry).is_empty());
    }
}

fn journal(bytes: &[u8]) {
    let os = Memory::default();
    let log_path = Path::new("/logs");
    os.file(&journal::path(log_path)).append(bytes);
    let read = Journal::load(&os, log_path).expect("bad lines are passed over");
    let n_lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(read.notes.values().map(Vec::len).sum::<usize>() <= n_lines);
    for (id, notes) in &read.notes {
        for note in notes {
            assert!(read.of(id, &note.route).contains(&note));
        }
    }
}
