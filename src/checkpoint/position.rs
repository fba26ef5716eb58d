//! How far a container is, without the bytes that a row carries along: what a running agent answers, and what the audit
//! and `state list` need.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::checkpoint::{Epoch, Ladder, Row};
use crate::decode::{Stream, Timestamp};
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
            owed: rung.owed.split_inclusive(|byte| *byte == b'\n').map(XxHash3_64::oneshot).collect(),
            open: rung.unfinished.chains.iter().map(|chain| (chain.stream, chain.time)).collect(),
            drained,
            epochs: ladder.epochs.clone(),
        })
    }

    pub fn of_row(row: &Row) -> Option<Position> {
        Position::of(&row.id, &row.name, &row.route, &row.ladder, row.drained.clone())
    }
}
