//! How far a container is, without the bytes that a row carries along: what a running agent answers, and what the audit
//! and `state list` need.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Epoch, Ladder, Row};
use crate::decode::{Stream, Timestamp};
use crate::hash::hash;
use crate::sink::Place;
use crate::tail::Fingerprint;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub id: String,
    pub name: String,
    pub route: String,
    pub head: Option<Fingerprint>,
    pub offset: u64,
    pub place: Place,
    /// Hashes of lines, with their newlines, that are decided and not in the output yet.
    pub owed: Vec<u64>,
    /// Messages whose end wasn't known.
    pub open: Vec<(Stream, Timestamp)>,
    pub drained: Vec<Fingerprint>,
    pub epochs: Vec<Epoch>,
}

impl Position {
    /// `None`: there is no rung yet, so nothing is known.
    pub fn of(id: &str, name: &str, route: &str, ladder: &Ladder, drained: Vec<Fingerprint>) -> Option<Position> {
        let rung = ladder.newest()?;
        Some(Position {
            id: id.to_owned(),
            name: name.to_owned(),
            route: route.to_owned(),
            head: rung.head,
            offset: rung.offset,
            place: rung.place,
            owed: rung.owed.split_inclusive(|byte| *byte == b'\n').map(hash).collect(),
            open: rung.unfinished.chains.iter().map(|chain| (chain.stream, chain.time)).collect(),
            drained,
            epochs: ladder.epochs.clone(),
        })
    }

    pub fn of_row(row: &Row) -> Option<Position> {
        Position::of(&row.id, &row.name, &row.route, &row.ladder, row.drained.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Rung;

    #[test]
    fn each_line_that_is_owed_is_known_by_its_hash() {
        let mut ladder = Ladder::default();
        assert_eq!(Position::of("id", "web", "web.log", &ladder, vec![]), None);
        let rung = |offset, owed: &[u8]| Rung {
            at_ms: 1,
            head: Some(Fingerprint::of(b"one\n")),
            offset,
            tail: None,
            unfinished: Default::default(),
            place: Place { segment: 2, offset: 5 },
            owed: owed.to_vec(),
            owed_mid_record: false,
            synced: false,
        };
        ladder.push(rung(4, b""));
        ladder.push(rung(14, b"two\nthree\n"));
        let row = Row {
            id: "id".into(),
            name: "web".into(),
            route: "web.log".into(),
            sequence: 1,
            boot: "b".into(),
            ladder,
            drained: vec![Fingerprint::of(b"zero\n")],
            absent_since_ns: None,
        };
        let position = Position::of_row(&row).unwrap();
        assert_eq!(position.owed, [hash(b"two\n"), hash(b"three\n")]);
        assert_eq!((position.offset, position.place), (14, Place { segment: 2, offset: 5 }));
        assert_eq!((&position.drained, &*position.route), (&row.drained, "web.log"));
    }
}
