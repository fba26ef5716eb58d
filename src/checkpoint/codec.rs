//! Rows as bytes: a version, the row by postcard, a CRC32C. Values of the store stay small, so a long row is cut into
//! parts under numbered keys, written in one batch.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::older::RowV2;
use crate::checkpoint::{Row, is_below};
use crate::config::limits::VALUE_BYTES_MAX;

/// The first byte of a row. One of an earlier version is read as one of today; one of a later version is refused, and its
/// container found again by align.
const VERSION: u8 = 3;
const PREFIX: &[u8] = b"container/";
const CRC_BYTES: usize = 4;

/// One change of the store: a key, and its value or its removal.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A row, and how many parts of the store it takes.
pub type Parted = (Row, usize);

/// Why a stored row can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("checksum differs")]
    Checksum,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("a part is missing")]
    Incomplete,
    #[error("not a row: {0}")]
    Shape(String),
}

/// The changes that put `row` in the store; `n_parts_before` parts stand there now.
pub fn put(row: &Row, n_parts_before: usize) -> (Vec<Change>, usize) {
    put_bytes(&encode(row), n_parts_before, |part_ix| key(&row.id, part_ix))
}

/// The same for any bytes; `key` names the parts.
pub(crate) fn put_bytes(bytes: &[u8], n_parts_before: usize, key: impl Fn(usize) -> Vec<u8>) -> (Vec<Change>, usize) {
    let parts: Vec<&[u8]> = bytes.chunks(VALUE_BYTES_MAX - 1).collect();
    let n_parts = parts.len();
    let mut changes: Vec<Change> = Vec::with_capacity(n_parts);
    for (ix, part) in parts.iter().enumerate() {
        let mut value = Vec::with_capacity(part.len() + 1);
        value.push(u8::from(ix + 1 < n_parts)); // 1: another part follows.
        value.extend_from_slice(part);
        changes.push((key(ix), Some(value)));
    }
    for ix in n_parts..n_parts_before {
        changes.push((key(ix), None));
    }
    (changes, n_parts)
}

/// The changes that take a container's row out of the store.
pub fn remove(id: &str, n_parts: usize) -> Vec<Change> {
    (0..n_parts).map(|ix| (key(id, ix), None)).collect()
}

/// All rows among the store's pairs, which come in any order, with the parts each takes; and what was no row.
pub fn rows(pairs: &[(Vec<u8>, Vec<u8>)]) -> (Vec<Parted>, Vec<(String, CodecError)>) {
    let mut keys: Vec<&(Vec<u8>, Vec<u8>)> = pairs.iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    keys.sort_unstable();
    let mut rows = Vec::new();
    let mut bad = Vec::new();
    let mut ix = 0;
    while ix < keys.len() {
        let id = id_of(&keys[ix].0);
        let n_keys = keys[ix..].iter().take_while(|(key, _)| id_of(key) == id).count();
        match join(&keys[ix..ix + n_keys]).and_then(|bytes| decode(&bytes)).and_then(check_route) {
            Ok(row) => rows.push((row, n_keys)),
            Err(error) => bad.push((id, error)),
        }
        ix += n_keys;
    }
    (rows, bad)
}

fn check_route(row: Row) -> Result<Row, CodecError> {
    if is_below(&row.route) { Ok(row) } else { Err(CodecError::Shape("its output is not below log-path".to_owned())) }
}

/// The bytes that were put as these parts, in the order of their keys.
pub(crate) fn join(parts: &[&(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    for (_, value) in parts {
        let Some((more, part)) = value.split_first() else {
            return Err(CodecError::Incomplete);
        };
        bytes.extend_from_slice(part);
        if *more == 0 {
            return Ok(bytes);
        }
    }
    Err(CodecError::Incomplete)
}

pub fn encode(row: &Row) -> Vec<u8> {
    encode_as(VERSION, row)
}

pub fn decode(bytes: &[u8]) -> Result<Row, CodecError> {
    match bytes.first() {
        Some(2) => decode_as::<RowV2>(2, bytes).map(RowV2::into),
        _ => decode_as(VERSION, bytes),
    }
}

/// A version, the value, and a checksum.
pub(crate) fn encode_as<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = postcard::to_extend(value, vec![version]).expect("a row is plain data");
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn decode_as<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let Some((body, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(CodecError::Incomplete);
    };
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(CodecError::Checksum);
    }
    match body.split_first() {
        Some((&found, row)) if found == version => {
            postcard::from_bytes(row).map_err(|error| CodecError::Shape(error.to_string()))
        }
        Some((found, _)) => Err(CodecError::Version(*found)),
        None => Err(CodecError::Incomplete),
    }
}

/// `container/<id>/<part>`: parts sort behind each other.
fn key(id: &str, part_ix: usize) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(format!("{id}/{part_ix:04}").as_bytes());
    key
}

fn id_of(key: &[u8]) -> String {
    let rest = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
    rest.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Ladder;
    use proptest::prelude::*;

    fn row(owed: Vec<u8>) -> Row {
        let mut ladder = Ladder::default();
        ladder.rungs.push(crate::checkpoint::Rung {
            at_ms: 1,
            head: Some(crate::tail::Fingerprint::of(b"first line\n")),
            offset: 77,
            tail: None,
            unfinished: Default::default(),
            place: crate::sink::Place { segment: 3, offset: 9 },
            owed,
            owed_mid_record: false,
            synced: true,
        });
        Row {
            id: "ab".repeat(32),
            name: "web".into(),
            route: "web/web.log".into(),
            sequence: 4,
            boot: "b".into(),
            ladder,
            drained: vec![],
            absent_since_ns: None,
        }
    }

    #[test]
    fn long_rows_are_cut_and_joined_and_short_again() {
        let long = row(vec![7; VALUE_BYTES_MAX * 3]);
        let (changes, n_parts) = put(&long, 0);
        assert_eq!(n_parts, 4);
        let mut pairs: Vec<_> = changes.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
        pairs.reverse();
        assert_eq!(rows(&pairs).0, vec![(long, 4)]);
        let (changes, n_parts) = put(&row(vec![]), 4);
        assert_eq!(n_parts, 1);
        assert_eq!(changes.iter().filter(|(_, value)| value.is_none()).count(), 3);
        pairs.remove(1);
        assert_eq!(rows(&pairs).1.len(), 1);
    }

    #[test]
    fn a_row_that_leads_out_of_log_path_is_damaged() {
        for route in ["/etc/x", "../x", "a/../../x", ".", ""] {
            let (changes, _) = put(&Row { route: route.into(), ..row(vec![]) }, 0);
            let pairs: Vec<_> = changes.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
            let (rows, bad) = rows(&pairs);
            assert!(rows.is_empty() && bad.len() == 1, "{route}");
        }
    }

    /// As version 2 wrote it: the same bytes without the redaction, which was empty and so one byte.
    #[test]
    fn a_row_of_the_version_before_is_read() {
        let mut row = row(b"owed".to_vec());
        let shape = crate::shape::Shape {
            formatter: crate::format::Formatter::Docker,
            max_line_bytes: 1 << 20,
            since_ns: None,
            filter: Default::default(),
            redaction: Default::default(),
        };
        let bytes_of = |row: &Row| postcard::to_stdvec(row).unwrap();
        let before = bytes_of(&row).len();
        let from = crate::sink::Place { segment: 1, offset: 5 };
        row.ladder.epochs.push(crate::checkpoint::Epoch { shape: shape.clone().into(), from });
        let bytes = bytes_of(&row);
        let epoch = postcard::to_stdvec(&row.ladder.epochs[0]).unwrap();
        assert_eq!(bytes.len(), before + epoch.len());
        let at = bytes.windows(epoch.len()).position(|window| window == epoch).unwrap();
        let redaction = at + postcard::to_stdvec(&shape).unwrap().len() - 1;
        assert_eq!(bytes[redaction], 0);
        let mut older = vec![2];
        older.extend_from_slice(&bytes[..redaction]);
        older.extend_from_slice(&bytes[redaction + 1..]);
        older.extend_from_slice(&crc32c::crc32c(&older).to_le_bytes());
        assert_eq!(decode(&older), Ok(row));
        older[0] = 4;
        let crc = crc32c::crc32c(&older[..older.len() - 4]).to_le_bytes();
        let at = older.len() - 4;
        older[at..].copy_from_slice(&crc);
        assert_eq!(decode(&older), Err(CodecError::Version(4)));
    }

    #[test]
    fn a_removed_row_leaves_nothing() {
        let (changes, n_parts) = put(&row(vec![7; VALUE_BYTES_MAX * 3]), 0);
        let put: Vec<&Vec<u8>> = changes.iter().map(|(key, _)| key).collect();
        let removed = remove(&row(vec![]).id, n_parts);
        assert!(removed.iter().all(|(_, value)| value.is_none()));
        assert_eq!(removed.iter().map(|(key, _)| key).collect::<Vec<_>>(), put);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_none_but_its_own_are_a_row(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..100, bit in 0u8..8) {
            let mut bytes = encode(&row(b"owed".to_vec()));
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
