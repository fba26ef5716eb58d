//! How far the agent was when the audit began: what is beyond may be in the output or not.

use std::collections::HashSet;

use crate::checkpoint::position::Position;
use crate::decode::{Stream, Timestamp};
use crate::tail::Fingerprint;
use crate::verify::join::{Message, Spot};
use crate::verify::source::Generation;

/// A position, held against the generations that are there.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// By generation: everything before this offset is decided.
    decided: Vec<u64>,
    owed: HashSet<u64>,
    open: Vec<(Stream, Timestamp)>,
    known: bool,
}

impl Standing {
    pub fn new(position: Option<&Position>, generations: &[Generation], beside_agent: bool) -> Standing {
        let Some(position) = position else {
            return Standing { decided: vec![0; generations.len()], ..Standing::default() };
        };
        let heads: Vec<Option<Fingerprint>> = generations.iter().map(|generation| generation.head).collect();
        Standing {
            decided: decided(position, &heads, beside_agent),
            owed: position.owed.iter().copied().collect(),
            open: position.open.clone(),
            known: true,
        }
    }

    /// Whether the message may be missing without being lost.
    pub fn is_beyond(&self, message: &Message) -> bool {
        if !self.known {
            return true;
        }
        let last = message.last();
        if self.decided.get(last.generation).is_none_or(|decided| last.start >= *decided) {
            return true;
        }
        !message.ended && self.open.contains(&(message.stream, message.time))
    }

    pub fn owes(&self, line_hash: u64) -> bool {
        self.owed.contains(&line_hash)
    }
}

fn decided(position: &Position, heads: &[Option<Fingerprint>], beside_agent: bool) -> Vec<u64> {
    let at = heads.iter().position(|head| head.is_some() && *head == position.head);
    match at {
        Some(at) => (0..heads.len())
            .map(|ix| match ix.cmp(&at) {
                std::cmp::Ordering::Less => u64::MAX,
                std::cmp::Ordering::Equal => position.offset,
                std::cmp::Ordering::Greater => 0,
            })
            .collect(),
        // A running agent may have read on since it answered.
        None if beside_agent => vec![0; heads.len()],
        None => {
            let is_drained = |head: &Option<Fingerprint>| head.is_some_and(|head| position.drained.contains(&head));
            let n_drained = heads.iter().rposition(is_drained).map_or(0, |newest| newest + 1);
            (0..heads.len()).map(|ix| if ix < n_drained { u64::MAX } else { 0 }).collect()
        }
    }
}

/// Where the container began, as a spot in the generations that are there.
pub fn began(began: Option<crate::sink::journal::Began>, generations: &[Generation]) -> Spot {
    let Some(began) = began else { return Spot::default() };
    let at = generations.iter().position(|generation| generation.head.is_some() && generation.head == began.head);
    at.map_or_else(Spot::default, |generation| Spot { generation, start: began.offset, end: began.offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_follows_the_heads() {
        let head = |text: &str| Some(Fingerprint::of(text.as_bytes()));
        let position = Position {
            id: String::new(),
            name: String::new(),
            route: String::new(),
            head: head("b"),
            offset: 7,
            place: crate::sink::Place::default(),
            owed: vec![],
            open: vec![],
            drained: vec![Fingerprint::of(b"x")],
            epochs: vec![],
        };
        let max = u64::MAX;
        assert_eq!(decided(&position, &[head("a"), head("b"), head("c"), None], false), [max, 7, 0, 0]);
        assert_eq!(decided(&position, &[head("w"), head("x"), head("y")], false), [max, max, 0]);
        assert_eq!(decided(&position, &[head("w"), head("x"), head("y")], true), [0, 0, 0]);
        assert_eq!(decided(&position, &[None], false), [0]);
    }
}
