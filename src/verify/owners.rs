//! Who wrote which range of which output, under which settings: from `.longshore/outputs.jsonl`, and from the rows
//! where the journal says nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::checkpoint::is_below;
use crate::checkpoint::position::Position;
use crate::shape::Shape;
use crate::sink::Place;
use crate::sink::journal::{self, Began, Note};
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::verify::lines::{FileReader, Got, Lines, Nuls};

/// A note takes less than a kilobyte; templates are short.
const NOTE_BYTES_MAX: usize = 1024 * 1024;

/// A range of an output that one container wrote under one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub route: String,
    pub start: Place,
    /// `None`: to the end of the output.
    pub end: Option<Place>,
    /// Index into [`Owned::shapes`].
    pub shape_ix: usize,
}

/// What one container wrote, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    pub name: String,
    pub ranges: Vec<Range>,
    /// Without repeats; the last range has the newest.
    pub shapes: Vec<Shape>,
    pub began: Option<Began>,
}

/// A container begins to write at a place.
struct Claim {
    note: Note,
    /// When it was made: the order of a container's claims over all its outputs.
    order: usize,
}

pub fn owners(log_path: &Path, positions: &[Position]) -> io::Result<BTreeMap<String, Owned>> {
    let notes = read_journal(log_path)?;
    Ok(parted(notes, positions))
}

fn read_journal(log_path: &Path) -> io::Result<Vec<Note>> {
    let mut notes = Vec::new();
    let file = match Unix.open(&journal::path(log_path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(notes),
        Err(error) => return Err(error),
    };
    let end = Unix.stat_open(&file)?.size;
    let mut lines = Lines::new(Box::new(FileReader { file, position: 0, end }), 0, NOTE_BYTES_MAX, Nuls::Text);
    loop {
        match lines.next()? {
            Got::Line { .. } => {
                // A torn line is no note.
                if let Ok(note) = serde_json::from_slice::<Note>(lines.text()) {
                    notes.push(note);
                }
            }
            Got::End => return Ok(notes),
            _ => {}
        }
    }
}

fn parted(notes: Vec<Note>, positions: &[Position]) -> BTreeMap<String, Owned> {
    let mut claims: Vec<Claim> = Vec::new();
    // A place that was found again by search is in the row alone.
    for position in positions {
        for epoch in &position.epochs {
            let noted = notes
                .iter()
                .any(|note| note.id == position.id && note.route == position.route && note.place == epoch.from);
            if !noted {
                let note = Note {
                    id: position.id.clone(),
                    name: position.name.clone(),
                    route: position.route.clone(),
                    place: epoch.from,
                    shape: epoch.shape.clone(),
                    began: None,
                    keeping: Default::default(),
                    line: 0,
                };
                let order = if epoch.from.offset == 0 && epoch.from.segment <= 1 { 0 } else { notes.len() + 1 };
                claims.push(Claim { note, order });
            }
        }
    }
    claims.extend(notes.into_iter().enumerate().map(|(ix, note)| Claim { note, order: ix + 1 }));
    claims.retain(|claim| is_below(&claim.note.route));

    let mut by_route: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_route.entry(claim.note.route.clone()).or_default().push(claim);
    }
    let mut ordered: Vec<(usize, Note, Option<Place>)> = Vec::new();
    for (_, mut claims) in by_route {
        claims.sort_by_cached_key(|claim| (claim.note.place, claim.order));
        let starts: Vec<Place> = claims.iter().map(|claim| claim.note.place).collect();
        for (ix, claim) in claims.into_iter().enumerate() {
            ordered.push((claim.order, claim.note, starts.get(ix + 1).copied()));
        }
    }
    ordered.sort_by_cached_key(|(order, _, _)| *order);
    let mut owners: BTreeMap<String, Owned> = BTreeMap::new();
    for (_, note, end) in ordered {
        let owned = owners.entry(note.id).or_default();
        owned.name = note.name;
        if owned.ranges.is_empty() {
            owned.began = note.began; // Of later outputs it tells where the one before ended.
        }
        let known = owned.shapes.iter().position(|shape| *shape == *note.shape);
        let shape_ix = known.unwrap_or_else(|| {
            owned.shapes.push((*note.shape).clone());
            owned.shapes.len() - 1
        });
        owned.ranges.push(Range { route: note.route, start: note.place, end, shape_ix });
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Formatter;

    fn note(id: &str, route: &str, offset: u64, max_line_bytes: u64) -> Note {
        Note {
            id: id.into(),
            name: id.into(),
            route: route.into(),
            place: Place { segment: 1, offset },
            shape: Shape {
                formatter: Formatter::Docker,
                max_line_bytes,
                since_ns: None,
                filter: Default::default(),
                redaction: Default::default(),
            }
            .into(),
            began: None,
            keeping: Default::default(),
            line: 0,
        }
    }

    #[test]
    fn ranges_end_where_the_next_one_begins() {
        let notes = vec![note("a", "r", 0, 1), note("b", "r", 10, 1), note("a", "s", 0, 2), note("a", "r", 10, 1)];
        let owners = parted(notes, &[]);
        let at = |offset| Some(Place { segment: 1, offset });
        let of_a: Vec<_> = owners["a"].ranges.iter().map(|range| (range.route.as_str(), range.end)).collect();
        assert_eq!(of_a, [("r", at(10)), ("s", None), ("r", None)]);
        assert_eq!(owners["b"].ranges[0].end, at(10), "it wrote nothing");
        assert_eq!(owners["a"].shapes.len(), 2);
    }

    #[test]
    fn a_route_that_climbs_is_not_read() {
        assert!(parted(vec![note("a", "../../etc/passwd", 0, 1), note("a", "/etc/passwd", 0, 1)], &[]).is_empty());
    }
}
