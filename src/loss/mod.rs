//! The loss ledger: what could not be delivered, and why. Never silent is a promise; these are its words.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::checkpoint::codec::Change;
use crate::config::limits::LEDGER_ENTRIES_MAX;

const PREFIX: &[u8] = b"loss/";

/// Why bytes did not reach their output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A torn record, or no JSON: what can't be parsed is not output.
    Malformed,
    /// NULs where a line should be.
    Nul,
    /// The file was cut or written anew before these bytes were read.
    Truncated,
    /// The log went on elsewhere while nobody looked: incarnations came and went unread.
    RotatedAway,
    /// Too many bytes of deleted logs were held open: the noisiest was let go.
    HeldMax,
    /// A compressed incarnation is damaged from here on.
    Damaged,
    /// The output lost bytes whose source is gone.
    OutputDamaged,
    /// The state was lost and the place was found among equal lines: it may be off.
    Ambiguous,
    /// Output that no source line rendered stands between delivered lines; it was kept.
    Unmatched,
}

impl Reason {
    /// As the metric and the ledger call it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Nul => "nul",
            Reason::Truncated => "truncated",
            Reason::RotatedAway => "rotated_away",
            Reason::HeldMax => "held_max",
            Reason::Damaged => "damaged",
            Reason::OutputDamaged => "output_damaged",
            Reason::Ambiguous => "ambiguous",
            Reason::Unmatched => "unmatched",
        }
    }

    /// Whether container output is missing because of it. NULs and output kept without a partner are no lost lines.
    pub fn is_loss(self) -> bool {
        !matches!(self, Reason::Nul | Reason::Unmatched | Reason::Ambiguous)
    }
}

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub container: String,
    pub name: String,
    /// The sink that it isn't delivered to; `None`: the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    pub reason: Reason,
    /// Which file: the log's name, or the output's.
    pub file: String,
    /// Bytes of the file, uncompressed; `None` when nobody knows.
    pub start: Option<u64>,
    pub end: Option<u64>,
    /// How many, where they lie in several places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Times of the last record before and the first one after, where known.
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    /// When it was noticed, in nanoseconds since the Unix epoch.
    pub noticed_ns: i64,
    pub detail: String,
}

/// Entries that wait for a commit, as many as the ledger keeps: while the store fails, the oldest go here as they would there.
#[derive(Debug, Default)]
pub struct Untold {
    entries: VecDeque<Loss>,
    /// Entries that went untold since they were asked for.
    n_gone: u64,
}

impl Untold {
    pub fn push(&mut self, loss: Loss) {
        if self.entries.len() >= LEDGER_ENTRIES_MAX {
            self.entries.pop_front();
            self.n_gone += 1;
        }
        self.entries.push_back(loss);
    }

    /// The oldest one.
    pub fn pop(&mut self) -> Option<Loss> {
        self.entries.pop_front()
    }

    /// How many went untold since this was asked last.
    pub fn take_gone(&mut self) -> u64 {
        std::mem::take(&mut self.n_gone)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The ledger's entries in the store, numbered; the oldest go when there are too many.
/// Clones count on together.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    next: Arc<AtomicU64>,
    /// Entries that are stored, the oldest first.
    stored: Arc<Mutex<VecDeque<Loss>>>,
}

impl Ledger {
    /// Goes on behind the entries that the store holds.
    pub fn resume(pairs: &[(Vec<u8>, Vec<u8>)]) -> Ledger {
        // No agent counts so far: the key is damaged, and would leave no number for the next entry.
        let numbers = pairs.iter().filter_map(|(key, _)| number(key)).filter(|number| *number < u64::MAX / 2);
        let next = numbers.max().map_or(0, |newest| newest + 1);
        Ledger { next: Arc::new(AtomicU64::new(next)), stored: Arc::new(Mutex::new(entries(pairs).into())) }
    }

    /// These entries are durable now.
    pub fn committed(&self, losses: impl IntoIterator<Item = Loss>) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.extend(losses);
        let n_over = stored.len().saturating_sub(LEDGER_ENTRIES_MAX);
        stored.drain(..n_over);
    }

    /// All entries that are stored, the oldest first.
    pub fn entries(&self) -> Vec<Loss> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The changes that add an entry.
    pub fn add(&self, loss: &Loss) -> Vec<Change> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let value = serde_json::to_vec(loss).expect("an entry is plain data");
        let mut changes = vec![(key(next), Some(value))];
        if let Some(oldest) = next.checked_sub(LEDGER_ENTRIES_MAX as u64) {
            changes.push((key(oldest), None));
        }
        changes
    }
}

/// The entries among the store's pairs, the oldest first.
pub fn entries(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<Loss> {
    let mut numbered: Vec<(u64, Loss)> =
        pairs.iter().filter_map(|(key, value)| Some((number(key)?, serde_json::from_slice(value).ok()?))).collect();
    numbered.sort_by_cached_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, loss)| loss).collect()
}

fn key(number: u64) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(format!("{number:020}").as_bytes());
    key
}

fn number(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(start: u64) -> Loss {
        Loss {
            container: "c".into(),
            name: "web".into(),
            sink: None,
            reason: Reason::RotatedAway,
            file: "f".into(),
            start: Some(start),
            end: None,
            bytes: None,
            first_time: None,
            last_time: None,
            noticed_ns: 5,
            detail: String::new(),
        }
    }

    #[test]
    fn no_more_wait_than_the_ledger_keeps() {
        let mut untold = Untold::default();
        (0..LEDGER_ENTRIES_MAX as u64 + 5).for_each(|start| untold.push(loss(start)));
        let told: Vec<Loss> = std::iter::from_fn(|| untold.pop()).collect();
        assert_eq!((told.len(), told[0].start), (LEDGER_ENTRIES_MAX, Some(5)));
        assert!(untold.is_empty());
        assert_eq!((untold.take_gone(), untold.take_gone()), (5, 0));
    }

    #[test]
    fn entries_are_numbered_bounded_and_in_order() {
        let mut store = std::collections::BTreeMap::new();
        let ledger = Ledger::default();
        for start in 0..LEDGER_ENTRIES_MAX as u64 + 5 {
            for (key, value) in ledger.add(&loss(start)) {
                match value {
                    Some(value) => store.insert(key, value),
                    None => store.remove(&key),
                };
            }
        }
        let pairs: Vec<_> = store.into_iter().collect();
        let kept = entries(&pairs);
        assert_eq!(kept.len(), LEDGER_ENTRIES_MAX);
        assert_eq!(kept[0].start, Some(5));
        assert_eq!(Ledger::resume(&pairs).next.load(Ordering::Relaxed), LEDGER_ENTRIES_MAX as u64 + 5);
    }

    /// Found by fuzz/fuzz_targets/checkpoint.rs.
    #[test]
    fn a_damaged_key_does_not_end_the_numbers() {
        let pairs = [key(7), key(u64::MAX), b"loss/x".to_vec()].map(|key| (key, Vec::new()));
        assert_eq!(Ledger::resume(&pairs).next.load(Ordering::Relaxed), 8);
    }
}
