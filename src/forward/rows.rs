//! What a sink remembers in the store: how far each container is delivered, and the bounds of batches that are under
//! way. Under keys of its own, beside the rows of the files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::codec::{Change, CodecError, decode_as, encode_as, join, put_bytes};
use crate::format::Metadata;
use crate::forward::cursor::{Decision, Resume};
use crate::forward::mark::Mark;
use crate::tail::Fingerprint;
use crate::tail::spooled::Extent;

const VERSION: u8 = 2;

/// How far one container is with one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRow {
    pub id: String,
    /// For people.
    pub name: String,
    /// Records before this number are delivered.
    pub delivered: u64,
    /// The last of them.
    pub mark: Option<Mark>,
    /// Under which it was so: after another one the log may have lost its end, and other lines may stand there.
    pub boot: String,
    pub resume: Resume,
    pub decisions: Vec<Decision>,
    pub drained: Vec<Fingerprint>,
    /// It didn't run, and all of its log was delivered: when it is gone, nothing is missing.
    pub settled: bool,
    /// Nanoseconds since the Unix epoch at which a listing first missed the container.
    pub absent_since_ns: Option<i64>,
}

/// A batch that was sealed and is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Of the settings that make records of lines: under others the batch is another.
    pub settings: u64,
    pub id: String,
    pub bytes: u64,
    pub parts: Vec<PartRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    pub container: String,
    pub first: u64,
    pub n: u32,
    pub decisions: Vec<Decision>,
}

/// A copy of a deleted incarnation, in the spool or on its way there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRow {
    /// What is known of the container: its directory may be gone.
    pub metadata: Metadata,
    pub extent: Extent,
    /// The first line of the incarnation behind it, once it is known: whether one is missing between is told by it.
    pub next: Option<Fingerprint>,
}

/// Where a batch is in the order of all: halves take the place of the whole.
pub type BatchPlace = String;

/// The keys of one sink.
#[derive(Clone, Debug)]
pub struct Keys {
    sink: String,
}

/// All that the store holds of one sink.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub lanes: BTreeMap<String, (LaneRow, usize)>,
    pub batches: BTreeMap<BatchPlace, (BatchRow, usize)>,
    /// By the number of the copy.
    pub spool: BTreeMap<u64, (SpoolRow, usize)>,
    /// Every container of the first listing has its row.
    pub first_listing: bool,
    /// Keys whose rows can't be used, and why.
    pub bad: Vec<(String, CodecError)>,
}

impl Keys {
    pub fn new(sink: &str) -> Keys {
        Keys { sink: sink.to_owned() }
    }

    fn lanes(&self) -> String {
        format!("sink/{}/container/", self.sink)
    }

    fn batches(&self) -> String {
        format!("sink/{}/batch/", self.sink)
    }

    fn spool(&self) -> String {
        format!("sink/{}/spool/", self.sink)
    }

    pub fn first_listing(&self) -> Vec<u8> {
        format!("sink/{}/first-listing", self.sink).into_bytes()
    }

    pub fn put_lane(&self, row: &LaneRow, n_parts_before: usize) -> (Vec<Change>, usize) {
        let prefix = self.lanes();
        put_bytes(&encode_as(VERSION, row), n_parts_before, |ix| part_key(&prefix, &row.id, ix))
    }

    pub fn remove_lane(&self, id: &str, n_parts: usize) -> Vec<Change> {
        (0..n_parts).map(|ix| (part_key(&self.lanes(), id, ix), None)).collect()
    }

    pub fn put_batch(&self, place: &BatchPlace, row: &BatchRow) -> (Vec<Change>, usize) {
        let prefix = self.batches();
        put_bytes(&encode_as(VERSION, row), 0, |ix| part_key(&prefix, place, ix))
    }

    pub fn remove_batch(&self, place: &BatchPlace, n_parts: usize) -> Vec<Change> {
        (0..n_parts).map(|ix| (part_key(&self.batches(), place, ix), None)).collect()
    }

    pub fn put_spool(&self, number: u64, row: &SpoolRow, n_parts_before: usize) -> (Vec<Change>, usize) {
        let prefix = self.spool();
        let name = spool_name(number);
        put_bytes(&encode_as(VERSION, row), n_parts_before, |ix| part_key(&prefix, &name, ix))
    }

    pub fn remove_spool(&self, number: u64, n_parts: usize) -> Vec<Change> {
        (0..n_parts).map(|ix| (part_key(&self.spool(), &spool_name(number), ix), None)).collect()
    }

    /// Finds this sink's rows among the store's pairs, which come in the order of their keys.
    pub fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Stored {
        let mut stored =
            Stored { first_listing: pairs.iter().any(|(key, _)| *key == self.first_listing()), ..Stored::default() };
        for (name, parts) in groups(pairs, &self.lanes()) {
            match join(&parts).and_then(|bytes| decode_as::<LaneRow>(VERSION, &bytes)) {
                Ok(row) => drop(stored.lanes.insert(name, (row, parts.len()))),
                Err(error) => stored.bad.push((name, error)),
            }
        }
        for (name, parts) in groups(pairs, &self.batches()) {
            match join(&parts).and_then(|bytes| decode_as::<BatchRow>(VERSION, &bytes)) {
                Ok(row) => drop(stored.batches.insert(name, (row, parts.len()))),
                Err(error) => stored.bad.push((name, error)),
            }
        }
        for (name, parts) in groups(pairs, &self.spool()) {
            let row = join(&parts).and_then(|bytes| decode_as::<SpoolRow>(VERSION, &bytes));
            match (row, name.parse()) {
                (Ok(row), Ok(number)) => drop(stored.spool.insert(number, (row, parts.len()))),
                (Ok(_), Err(_)) => stored.bad.push((name, CodecError::Shape("no number".to_owned()))),
                (Err(error), _) => stored.bad.push((name, error)),
            }
        }
        stored
    }
}

/// The name of a copy's file, and of its row.
pub fn spool_name(number: u64) -> String {
    format!("{number:020}")
}

fn part_key(prefix: &str, name: &str, part_ix: usize) -> Vec<u8> {
    format!("{prefix}{name}/{part_ix:04}").into_bytes()
}

type Pair = (Vec<u8>, Vec<u8>);

/// The parts below a prefix, by name.
fn groups<'a>(pairs: &'a [Pair], prefix: &str) -> BTreeMap<String, Vec<&'a Pair>> {
    let mut groups: BTreeMap<String, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        let Some(rest) = pair.0.strip_prefix(prefix.as_bytes()) else { continue };
        let name = String::from_utf8_lossy(rest);
        let name = name.split('/').next().unwrap_or_default();
        groups.entry(name.to_owned()).or_default().push(pair);
    }
    groups.values_mut().for_each(|parts| parts.sort_unstable());
    groups
}

/// The place of the `n`th batch of a sink.
pub fn batch_place(n: u64) -> BatchPlace {
    format!("{n:020}")
}

/// The place of a half.
pub fn half_place(whole: &BatchPlace, half_ix: usize) -> BatchPlace {
    format!("{whole}.{half_ix}")
}

/// Whether it is a place: a number, and which halves of halves.
pub fn is_batch_place(place: &str) -> bool {
    let mut parts = place.split('.');
    let is_number = |number: &str| number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    parts.next().is_some_and(is_number) && parts.all(|half| half == "0" || half == "1")
}

/// The number that a place began with.
pub fn batch_number(place: &BatchPlace) -> u64 {
    place.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{Chain, Unfinished};
    use crate::decode::{Stream, Timestamp};

    fn lane(id: &str, n_bytes: usize) -> LaneRow {
        let chain = Chain {
            stream: Stream::Stdout,
            time: Timestamp::parse(b"2026-11-25T16:00:01Z").unwrap(),
            text: vec![b'x'; n_bytes].into(),
            attrs: None,
        };
        let unfinished = Unfinished { chains: vec![chain], ended: Vec::new() };
        LaneRow {
            id: id.into(),
            name: "web".into(),
            delivered: 12,
            mark: Some(Mark::line(3, 500)),
            boot: "b".into(),
            resume: Resume { no: 10, head: None, offset: 400, tail: None, unfinished },
            decisions: vec![Decision { no: 11, generation: 3, offset: 450 }],
            drained: vec![Fingerprint::of(b"x")],
            settled: false,
            absent_since_ns: None,
        }
    }

    fn batch(first: u64) -> BatchRow {
        let part = PartRow { container: "aa".into(), first, n: 5, decisions: Vec::new() };
        BatchRow { settings: 9, id: "i".into(), bytes: 100, parts: vec![part] }
    }

    #[test]
    fn rows_come_back_sorted_also_long_ones_and_leave_nothing() {
        let keys = Keys::new("loki");
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut apply = |changes: Vec<Change>| {
            for (key, value) in changes {
                match value {
                    Some(value) => drop(store.insert(key, value)),
                    None => drop(store.remove(&key)),
                }
            }
        };
        let (changes, n_parts) = keys.put_lane(&lane("aa", 200_000), 0);
        assert_eq!(n_parts, 4);
        apply(changes);
        apply(keys.put_lane(&lane("bb", 3), 0).0);
        apply(Keys::new("lok").put_lane(&lane("cc", 3), 0).0);
        let places = [batch_place(9), half_place(&batch_place(9), 0), half_place(&batch_place(9), 1), batch_place(10)];
        for (first, place) in places.iter().enumerate() {
            apply(keys.put_batch(place, &batch(first as u64)).0);
        }
        let pairs: Vec<_> = store.clone().into_iter().collect();
        let stored = keys.load(&pairs);
        assert_eq!(stored.lanes["aa"], (lane("aa", 200_000), 4));
        assert_eq!(stored.lanes.keys().collect::<Vec<_>>(), ["aa", "bb"]);
        assert_eq!(stored.batches.values().map(|(row, _)| row.parts[0].first).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(stored.bad.is_empty() && !stored.first_listing);
        assert_eq!(batch_number(&places[2]), 9);

        let mut damaged = pairs.clone();
        damaged.last_mut().expect("there are some").1[9] ^= 1;
        assert_eq!(keys.load(&damaged).bad.len(), 1);
        let mut apply = |changes: Vec<Change>| changes.into_iter().for_each(|(key, _)| drop(store.remove(&key)));
        apply(keys.remove_lane("aa", 4));
        apply(keys.remove_lane("bb", 1));
        places.iter().for_each(|place| apply(keys.remove_batch(place, 1)));
        assert_eq!(store.len(), 1, "the other sink's");
    }
}
