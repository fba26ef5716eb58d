//! Rows as an earlier version wrote them, read as rows of today: an upgrade goes on where it was.

use serde::Deserialize;

use crate::checkpoint::{Epoch, Ladder, Row, Rung};
use crate::filter::{Redaction, TextFilter};
use crate::format::Formatter;
use crate::shape::Shape;
use crate::sink::Place;
use crate::tail::Fingerprint;

/// Version 2: shapes without redaction. The form isn't self-describing, so each type that holds one stands here.
#[derive(Deserialize)]
pub(super) struct RowV2 {
    id: String,
    name: String,
    route: String,
    sequence: u64,
    boot: String,
    ladder: LadderV2,
    drained: Vec<Fingerprint>,
    absent_since_ns: Option<i64>,
}

#[derive(Deserialize)]
struct LadderV2 {
    epochs: Vec<EpochV2>,
    rungs: Vec<Rung>,
}

#[derive(Deserialize)]
struct EpochV2 {
    shape: ShapeV2,
    from: Place,
}

#[derive(Deserialize)]
struct ShapeV2 {
    formatter: Formatter,
    max_line_bytes: u64,
    since_ns: Option<i128>,
    filter: TextFilter,
}

impl From<RowV2> for Row {
    fn from(row: RowV2) -> Row {
        let RowV2 { id, name, route, sequence, boot, ladder, drained, absent_since_ns } = row;
        let epochs = ladder.epochs.into_iter().map(|EpochV2 { shape, from }| {
            let ShapeV2 { formatter, max_line_bytes, since_ns, filter } = shape;
            Epoch {
                shape: Shape { formatter, max_line_bytes, since_ns, filter, redaction: Redaction::default() }.into(),
                from,
            }
        });
        let ladder = Ladder { epochs: epochs.collect(), rungs: ladder.rungs };
        Row { id, name, route, sequence, boot, ladder, drained, absent_since_ns }
    }
}
