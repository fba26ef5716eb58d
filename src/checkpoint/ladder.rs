//! Rungs: what was true at one commit, kept at doubling ages so that a power loss finds one whose output is there.

use std::path::{Component, Path};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::assemble::Unfinished;
use crate::config::limits::{BLOB_BYTES_MAX, LADDER_RUNGS_MAX, LADDER_SPAN};
use crate::shape::Shape;
use crate::sink::Place;
use crate::tail::Fingerprint;

/// Whether an output's path stays below log-path: a row may be imported, and others may write to where the journal lies.
pub fn is_below(route: &str) -> bool {
    !route.is_empty() && Path::new(route).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Everything about one container that outlives the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    /// The container's name when the row was written, for people.
    pub name: String,
    /// The output below log-path that the rungs are about, such as `web/web.log`.
    pub route: String,
    /// Grows with each commit of any container: the row with the highest one wrote an output last.
    pub sequence: u64,
    /// The boot under which the newest rung was made: what was not synced before another boot may be lost.
    pub boot: String,
    pub ladder: Ladder,
    /// Heads of incarnations read to their end, so that none is read twice.
    pub drained: Vec<Fingerprint>,
    /// Nanoseconds since the Unix epoch at which a listing first missed the container.
    pub absent_since_ns: Option<i64>,
}

/// The settings that shape an output's bytes, and where they begin to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Shared: thousands of containers have the same, each at several places.
    pub shape: Arc<Shape>,
    pub from: Place,
}

/// What was true at one commit: when the output stood at `place`, everything below `offset` was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Monotonic within one boot, in milliseconds of wall time otherwise; only ages are derived from it.
    pub at_ms: u64,
    /// The incarnation: its first whole line. `None`: it had none yet.
    pub head: Option<Fingerprint>,
    pub offset: u64,
    /// The bytes before `offset`. `None` at 0.
    pub tail: Option<Fingerprint>,
    pub unfinished: Unfinished,
    pub place: Place,
    /// Rendered and decided, but not in the output yet: they belong at `place`.
    pub owed: Vec<u8>,
    /// The first owed record began before `place`: a full disk took only a part of it.
    pub owed_mid_record: bool,
    /// The output up to `place` was on the disk.
    pub synced: bool,
}

impl Rung {
    fn blob_bytes(&self) -> usize {
        self.owed.len() + self.unfinished.bytes()
    }
}

/// The rungs of one output as one container wrote it, oldest first, and the epochs they fall in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    pub epochs: Vec<Epoch>,
    pub rungs: Vec<Rung>,
}

impl Ladder {
    pub fn newest(&self) -> Option<&Rung> {
        self.rungs.last()
    }

    /// The shape in force at `place`.
    pub fn shape_at(&self, place: Place) -> Option<&Arc<Shape>> {
        let in_force = self.epochs.iter().rev().find(|epoch| epoch.from <= place);
        in_force.or(self.epochs.first()).map(|epoch| &epoch.shape)
    }

    /// Puts a rung on top and thins what is below it.
    pub fn push(&mut self, rung: Rung) {
        self.rungs.push(rung);
        self.thin();
        let oldest = self.rungs[0].place;
        // An epoch is needed while a rung stands in it. One more is kept: after a power loss lines are sought in what was
        // written before, too.
        let n_over = self.epochs.iter().skip(1).take_while(|epoch| epoch.from <= oldest).count();
        self.epochs.drain(..n_over.saturating_sub(1));
    }

    /// Keeps at most a dozen rungs. The oldest is always a synced one when there is any: everything below it is known
    /// to be on the disk.
    fn thin(&mut self) {
        self.drop_below_old_synced();
        while self.rungs.len() > LADDER_RUNGS_MAX {
            self.rungs.remove(self.least_missed());
        }
        while self.blob_bytes() > BLOB_BYTES_MAX {
            let before_newest = &self.rungs[..self.rungs.len() - 1];
            match before_newest.iter().position(|rung| rung.blob_bytes() > 0) {
                Some(ix) => drop(self.rungs.remove(ix)),
                None => break, // The newest one is kept whatever it carries.
            }
        }
    }

    /// A synced rung older than the span makes all before it superfluous.
    fn drop_below_old_synced(&mut self) {
        let newest_ms = self.rungs[self.rungs.len() - 1].at_ms;
        let span_ms = LADDER_SPAN.as_millis() as u64;
        let old_synced = self.rungs.iter().rposition(|rung| rung.synced && rung.at_ms + span_ms <= newest_ms);
        if let Some(ix) = old_synced {
            self.rungs.drain(..ix);
        }
    }

    /// The rung whose going widens the gaps least for its age, so that gaps double towards the past. The oldest and the
    /// newest stay.
    fn least_missed(&self) -> usize {
        let newest_ms = self.rungs[self.rungs.len() - 1].at_ms;
        let widening = |ix: usize| {
            let gap = self.rungs[ix + 1].at_ms.saturating_sub(self.rungs[ix - 1].at_ms);
            let age = newest_ms.saturating_sub(self.rungs[ix].at_ms) + 1;
            gap as f64 / age as f64
        };
        (1..self.rungs.len() - 1).min_by(|a, b| widening(*a).total_cmp(&widening(*b))).unwrap_or(0)
    }

    fn blob_bytes(&self) -> usize {
        self.rungs.iter().map(Rung::blob_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Formatter;

    fn rung(second: u64, synced: bool) -> Rung {
        Rung {
            at_ms: second * 1000,
            head: None,
            offset: second,
            tail: None,
            unfinished: Unfinished::default(),
            place: Place { segment: 1, offset: second * 10 },
            owed: Vec::new(),
            owed_mid_record: false,
            synced,
        }
    }

    #[test]
    fn a_dozen_rungs_span_two_minutes_at_doubling_ages() {
        let mut ladder = Ladder::default();
        for second in 0..600 {
            ladder.push(rung(second, second % 60 == 0));
        }
        assert!(ladder.rungs.len() <= LADDER_RUNGS_MAX);
        assert!(ladder.rungs[0].synced, "what is below the oldest rung is on the disk");
        let age_ms = 599_000 - ladder.rungs[0].at_ms;
        assert!(age_ms >= 119_000, "{age_ms}");
        assert_eq!(ladder.newest().map(|rung| rung.offset), Some(599));
        let recent = ladder.rungs.iter().filter(|rung| rung.at_ms >= 590_000).count();
        assert!(recent >= 3, "{recent}");
    }

    fn seconds(ladder: &Ladder) -> Vec<u64> {
        ladder.rungs.iter().map(|rung| rung.offset).collect()
    }

    #[test]
    fn a_lone_rung_of_long_ago_is_missed_more_than_one_among_many() {
        let mut ladder = Ladder::default();
        for second in [0, 1].into_iter().chain(100..=110) {
            ladder.push(rung(second, false));
        }
        assert_eq!(seconds(&ladder), [0, 1, 100, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
    }

    #[test]
    fn gaps_double_towards_the_past() {
        let mut ladder = Ladder::default();
        for second in 0..100 {
            ladder.push(rung(second, second == 0));
        }
        assert_eq!(seconds(&ladder), [0, 32, 64, 72, 80, 88, 92, 94, 96, 97, 98, 99]);
    }

    #[test]
    fn without_a_synced_rung_the_oldest_stays_too() {
        let mut ladder = Ladder::default();
        for second in 0..200 {
            ladder.push(rung(second, false));
        }
        assert_eq!(seconds(&ladder), [0, 64, 128, 160, 176, 184, 192, 194, 196, 197, 198, 199]);
    }

    #[test]
    fn what_is_older_than_the_span_ends_at_its_newest_synced_rung() {
        let mut ladder = Ladder::default();
        for (second, synced) in [(0, true), (1, true), (2, false), (3, true), (121, false), (122, false)] {
            ladder.push(rung(second, synced));
        }
        assert_eq!(seconds(&ladder), [1, 2, 3, 121, 122]);
        ladder.push(rung(123, false));
        assert_eq!(seconds(&ladder), [3, 121, 122, 123]);
    }

    #[test]
    fn old_rungs_go_first_for_the_bytes_they_carry() {
        let with_bytes = |second, n_bytes| Rung { owed: vec![0; n_bytes], ..rung(second, false) };
        let mut ladder = Ladder::default();
        for second in 0..4 {
            ladder.push(with_bytes(second, BLOB_BYTES_MAX / 4));
        }
        assert_eq!(seconds(&ladder), [0, 1, 2, 3], "just as many as may be");
        ladder.push(rung(4, false));
        ladder.push(with_bytes(5, 1));
        assert_eq!(seconds(&ladder), [1, 2, 3, 4, 5]);
        ladder.push(with_bytes(6, 2 * BLOB_BYTES_MAX));
        assert_eq!(seconds(&ladder), [4, 6], "the newest is kept whatever it carries");
    }

    #[test]
    fn unfinished_lines_count_like_owed_ones() {
        let chain = crate::assemble::Chain {
            stream: crate::decode::Stream::Stdout,
            time: crate::decode::Timestamp::parse(b"2026-11-25T16:00:01Z").expect("a time"),
            text: vec![b'a'; BLOB_BYTES_MAX].into(),
            attrs: None,
        };
        let mut ladder = Ladder::default();
        let unfinished = Unfinished { chains: vec![chain], ended: Vec::new() };
        ladder.push(Rung { unfinished, owed: vec![0], ..rung(1, false) });
        ladder.push(rung(2, false));
        assert_eq!(seconds(&ladder), [2]);
    }

    #[test]
    fn an_epoch_is_kept_while_a_rung_stands_in_it() {
        let shape = |max_line_bytes| Shape {
            formatter: Formatter::Docker,
            max_line_bytes,
            since_ns: None,
            filter: Default::default(),
            redaction: Default::default(),
        };
        let mut ladder = Ladder::default();
        for second in [1, 2, 3] {
            let from = Place { segment: 1, offset: second * 10 };
            ladder.epochs.push(Epoch { shape: shape(second).into(), from });
            ladder.push(rung(second, false));
        }
        let at =
            |ladder: &Ladder, offset| ladder.shape_at(Place { segment: 1, offset }).map(|shape| shape.max_line_bytes);
        assert_eq!(
            [at(&ladder, 0), at(&ladder, 10), at(&ladder, 19), at(&ladder, 20)],
            [Some(1), Some(1), Some(1), Some(2)]
        );
        assert_eq!(at(&ladder, 1000), Some(3));
        ladder.push(rung(2 + 121, true));
        assert_eq!(ladder.epochs.len(), 3);
        ladder.push(rung(2 + 121 + 121, true));
        assert_eq!(ladder.epochs.len(), 2, "the one in force, and one before it");
        assert_eq!(at(&ladder, 0), Some(2), "also below the first epoch that is left");
        assert_eq!(Ladder::default().shape_at(Place { segment: 1, offset: 0 }), None);
    }
}
