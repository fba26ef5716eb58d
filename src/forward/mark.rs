//! Which record it is, the same after any death: the container, what its file is, and where in it.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::tail::Fingerprint;

/// Steps below are of decisions, those from here on of a line.
const FIRST_OF_LINE: u32 = 1 << 16;

/// A record's place in its container's log: that of the line that completed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Hash of the incarnation's first whole line; 0 while it has none.
    pub generation: u64,
    pub offset: u64,
    /// Counts what came out at this offset: first what a decision ended, then what the line gave.
    step: u32,
}

impl Mark {
    /// Before whatever a line at this offset gives.
    pub fn line(generation: u64, offset: u64) -> Mark {
        Mark { generation, offset, step: FIRST_OF_LINE }
    }

    /// Before whatever a decision at this offset ends.
    pub fn decision(generation: u64, offset: u64) -> Mark {
        Mark { generation, offset, step: 0 }
    }

    /// The next one at the same offset.
    #[must_use]
    pub fn next(self) -> Mark {
        Mark { step: self.step + 1, ..self }
    }

    /// Of two in one incarnation.
    pub fn is_after(&self, other: &Mark) -> bool {
        (self.offset, self.step) > (other.offset, other.step)
    }

    /// `<container id>:<generation fingerprint>:<offset>`. The second record of a line has `.1` behind it, and one that
    /// was ended by a decision, because its line stayed open, `~0`.
    pub fn append_id(&self, container: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(container.as_bytes());
        let written = match self.step.checked_sub(FIRST_OF_LINE) {
            Some(0) => write!(out, ":{:016x}:{}", self.generation, self.offset),
            Some(n) => write!(out, ":{:016x}:{}.{n}", self.generation, self.offset),
            None => write!(out, ":{:016x}:{}~{}", self.generation, self.offset, self.step),
        };
        written.expect("writing into memory cannot fail");
    }
}

/// What a mark calls an incarnation.
pub fn generation(head: Option<Fingerprint>) -> u64 {
    head.map_or(0, |head| head.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(mark: Mark) -> String {
        let mut out = Vec::new();
        mark.append_id("c", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ids_tell_records_apart_and_are_in_order() {
        let marks = [Mark::decision(7, 12), Mark::decision(7, 12).next(), Mark::line(7, 12), Mark::line(7, 12).next()];
        let ids = marks.map(id);
        assert_eq!(
            ids,
            ["c:0000000000000007:12~0", "c:0000000000000007:12~1", "c:0000000000000007:12", "c:0000000000000007:12.1"]
        );
        assert!(marks.windows(2).all(|pair| pair[1].is_after(&pair[0]) && !pair[0].is_after(&pair[1])));
        assert!(Mark::decision(7, 13).is_after(&marks[3]));
    }
}
