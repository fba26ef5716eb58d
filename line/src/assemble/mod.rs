//! Joins Docker's 16 KiB fragments into records.
//! Knows nothing of files: a message may start in one incarnation and end in the next.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::{Entry, RecordView, Stream, Timestamp};

/// Docker cuts a message at this many raw bytes: a shorter piece is the last one.
pub const PIECE_RAW_BYTES: usize = 16_384;

/// A line whose end no byte has shown yet, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Chains that are open, at most one a stream.
    pub chains: Vec<Chain>,
    /// The time of the last line a decision ended, per stream: its late pieces carry it.
    pub ended: Vec<(Stream, Timestamp)>,
}

impl Unfinished {
    pub fn bytes(&self) -> usize {
        self.chains.iter().map(|chain| chain.text.len()).sum()
    }
}

/// The fragments of one line so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub stream: Stream,
    pub time: Timestamp,
    /// What came and has not been emitted; at most `max_line_bytes`. The rungs that tell of the line share it: it is only
    /// copied when more comes behind one.
    pub text: Arc<Vec<u8>>,
    pub attrs: Option<Vec<u8>>,
}

/// How entries become records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// Fragments are joined, up to so many bytes a record.
    Lines { bytes_max: usize },
    /// Each entry is a record: the source lines go out unchanged.
    Entries,
}

/// What happened on the way, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Records that ended at `bytes_max` with more of the line to come.
    pub split: u64,
    /// Fragments of a line that a decision had ended.
    pub late: u64,
}

/// One open chain a stream at most; everything else passes through.
#[derive(Debug)]
pub struct Assembler {
    joining: Joining,
    unfinished: Unfinished,
    pub counted: Counted,
}

impl Assembler {
    pub fn new(joining: Joining) -> Assembler {
        Assembler::resume(joining, Unfinished::default())
    }

    pub fn resume(joining: Joining, unfinished: Unfinished) -> Assembler {
        Assembler { joining, unfinished, counted: Counted::default() }
    }

    /// From the next entry on.
    pub fn set_joining(&mut self, joining: Joining) {
        self.joining = joining;
    }

    pub fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    pub fn has_open_chain(&self) -> bool {
        !self.unfinished.chains.is_empty()
    }

    /// Takes one entry and gives the records it completes: the one before it on this stream when its time differs, and
    /// its own when nothing of the line is missing.
    // Into the pipe, where nearly every entry needs no more than this; `join` stays a call.
    #[inline(always)]
    pub fn push(&mut self, entry: &Entry<'_>, emit: &mut impl FnMut(&RecordView<'_>)) {
        let Joining::Lines { bytes_max } = self.joining else {
            emit(&entry.record);
            return;
        };
        // Docker cuts at 16,384 bytes of what the container wrote; a shorter piece without a newline is the last thing
        // before the stream ended (docker.md: "EOF tail").
        let ends = entry.ends_line || entry.raw_bytes < PIECE_RAW_BYTES as u64;
        let fits = entry.record.text.len() <= bytes_max;
        if ends && self.unfinished.chains.is_empty() && self.unfinished.ended.is_empty() && fits {
            emit(&entry.record);
            return;
        }
        self.join(entry, ends, bytes_max, emit);
    }

    #[inline(never)]
    fn join(&mut self, entry: &Entry<'_>, ends: bool, bytes_max: usize, emit: &mut impl FnMut(&RecordView<'_>)) {
        let open = self.unfinished.chains.iter().position(|chain| chain.stream == entry.record.stream);
        let open = match open {
            Some(ix) if self.unfinished.chains[ix].time != entry.record.time => {
                let chain = self.unfinished.chains.remove(ix);
                emit_rest(&chain, emit);
                None
            }
            other => other,
        };
        if open.is_none() && self.is_late(entry) {
            self.counted.late += 1;
            if ends && entry.record.text.is_empty() {
                return; // Only the newline of the line that was ended: it has one already.
            }
        }
        let ix = open.unwrap_or_else(|| {
            self.unfinished.chains.push(Chain {
                stream: entry.record.stream,
                time: entry.record.time,
                text: Arc::default(),
                attrs: entry.record.attrs.map(<[u8]>::to_vec),
            });
            self.unfinished.chains.len() - 1
        });
        let chain = &mut self.unfinished.chains[ix];
        let text = Arc::make_mut(&mut chain.text);
        text.extend_from_slice(entry.record.text);
        while text.len() > bytes_max {
            let at = split_point(text, bytes_max);
            emit(&joined(chain.stream, chain.time, &text[..at], chain.attrs.as_deref()));
            text.drain(..at);
            self.counted.split += 1;
        }
        if ends {
            let chain = self.unfinished.chains.remove(ix);
            emit_rest(&chain, emit);
        }
    }

    /// Whether the entry belongs to a line that a decision ended. A different time ends that memory.
    fn is_late(&mut self, entry: &Entry<'_>) -> bool {
        let Some(ix) = self.unfinished.ended.iter().position(|(stream, _)| *stream == entry.record.stream) else {
            return false;
        };
        if self.unfinished.ended[ix].1 == entry.record.time {
            return true;
        }
        self.unfinished.ended.swap_remove(ix);
        false
    }

    /// Ends every open chain: a decision that no byte shows, so the caller commits it before its records go out.
    /// `Remember`: late pieces of these lines may still come.
    pub fn end_all(&mut self, late: LatePieces, emit: &mut impl FnMut(&RecordView<'_>)) {
        for chain in std::mem::take(&mut self.unfinished.chains) {
            emit_rest(&chain, emit);
            if late == LatePieces::Possible {
                self.unfinished.ended.retain(|(stream, _)| *stream != chain.stream);
                self.unfinished.ended.push((chain.stream, chain.time));
            }
        }
    }
}

/// Whether more of a line may come after it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatePieces {
    Possible,
    Impossible,
}

fn emit_rest(chain: &Chain, emit: &mut impl FnMut(&RecordView<'_>)) {
    emit(&joined(chain.stream, chain.time, &chain.text, chain.attrs.as_deref()));
}

fn joined<'a>(stream: Stream, time: Timestamp, text: &'a [u8], attrs: Option<&'a [u8]>) -> RecordView<'a> {
    RecordView { stream, time, text, attrs, line: &[] }
}

/// The last character boundary at or before `bytes_max`, so that each part is text on its own.
fn split_point(text: &[u8], bytes_max: usize) -> usize {
    let mut at = bytes_max;
    while at > bytes_max - 4 && text[at] & 0b1100_0000 == 0b1000_0000 {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests;
