//! What the engine really wrote, for the oracle: every message, where its bytes are, and whether they still are there.

use std::collections::BTreeMap;

use super::encode::{as_read, rfc3339_padded};
use crate::decode::Stream;

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its terminator is in the file.
    Newline,
    /// A last piece of fewer than 16,384 bytes without a terminator: the container ended there.
    ShortPiece,
    /// Whole pieces only, and the container stopped. Against the other stream its place is open until the agent decides.
    Stopped,
    /// Whole pieces only, and the next record of the stream has another time. The agent may have closed it before, on silence.
    NextTime,
    /// Whole pieces only, so far.
    Open,
    /// Half a record: never a line.
    Torn,
}

/// The bytes of one record, newline included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Counts the log's files from 0; a file truncated in place is a new generation at the same inode.
    pub generation: u64,
    pub start: u64,
    pub end: u64,
    /// Of the bytes.
    pub hash: u64,
    /// Since when no file under a name of the log holds these bytes. An agent may still hold a descriptor.
    pub destroyed_ns: Option<i64>,
    /// They were destroyed, and a power loss brought them back.
    pub came_back: bool,
}

/// One message of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub stream: Stream,
    pub time_ns: i64,
    /// With nine digits.
    pub time_padded: String,
    /// Without its newline, as the file encodes it: bytes that are no UTF-8 are U+FFFD.
    pub text: Vec<u8>,
    pub ending: Ending,
    /// One per record, in the order of writing; they may lie in several generations.
    pub pieces: Vec<Span>,
}

impl Truth {
    /// Whether the agent must deliver it as a line.
    pub fn is_complete(&self) -> bool {
        !matches!(self.ending, Ending::Open | Ending::Torn)
    }

    /// Whether every byte is still in a file that the agent can open.
    pub fn is_readable(&self) -> bool {
        self.pieces.iter().all(|piece| piece.destroyed_ns.is_none())
    }

    /// When the first of its bytes went.
    pub fn destroyed_ns(&self) -> Option<i64> {
        self.pieces.iter().filter_map(|piece| piece.destroyed_ns).min()
    }

    /// As `{time} {text}` renders it.
    pub fn line(&self) -> Vec<u8> {
        [self.time_padded.as_bytes(), b" ", &self.text, b"\n"].concat()
    }
}

/// All messages of one container.
#[derive(Default)]
pub(super) struct Truths {
    pub messages: Vec<Truth>,
    /// Indexes of complete messages, in the order in which they became complete.
    pub completed: Vec<usize>,
    /// The message that the next piece of a stream belongs to.
    open: BTreeMap<Stream, usize>,
    /// A chain whose end was never written.
    abandoned: BTreeMap<Stream, usize>,
    by_generation: BTreeMap<u64, Vec<(usize, usize)>>,
}

impl Truths {
    /// The time that the next piece of the stream must carry.
    pub fn open_time(&self, stream: Stream) -> Option<i64> {
        self.open.get(&stream).map(|ix| self.messages[*ix].time_ns)
    }

    /// A record was written. It continues the stream's open message or begins one, which stays open.
    pub fn piece(&mut self, stream: Stream, time_ns: i64, raw: &[u8], span: Span) {
        if let Some(ix) = self.abandoned.remove(&stream) {
            assert_ne!(self.messages[ix].time_ns, time_ns, "equal times would join two messages");
            self.complete(ix, Ending::NextTime);
        }
        let ix = *self.open.entry(stream).or_insert_with(|| {
            let (time_padded, ending) = (rfc3339_padded(time_ns), Ending::Open);
            self.messages.push(Truth { stream, time_ns, time_padded, text: Vec::new(), ending, pieces: Vec::new() });
            self.messages.len() - 1
        });
        let message = &mut self.messages[ix];
        message.text.extend_from_slice(&as_read(raw));
        message.pieces.push(span);
        self.by_generation.entry(span.generation).or_default().push((ix, message.pieces.len() - 1));
    }

    /// The stream's open message ends, if there is one.
    pub fn end(&mut self, stream: Stream, ending: Ending) {
        if let Some(ix) = self.open.remove(&stream) {
            self.complete(ix, ending);
        }
    }

    /// The rest of the stream's open message will never come.
    pub fn abandon(&mut self, stream: Stream) -> bool {
        let open = self.open.remove(&stream);
        self.abandoned.extend(open.map(|ix| (stream, ix)));
        open.is_some()
    }

    /// The container stopped: abandoned chains end.
    pub fn stopped(&mut self) {
        for ix in std::mem::take(&mut self.abandoned).into_values() {
            self.complete(ix, Ending::Stopped);
        }
    }

    pub fn each_span(&mut self, generation: u64, mut visit: impl FnMut(&mut Span)) {
        for (message_ix, piece_ix) in self.by_generation.get(&generation).into_iter().flatten() {
            visit(&mut self.messages[*message_ix].pieces[*piece_ix]);
        }
    }

    fn complete(&mut self, ix: usize, ending: Ending) {
        self.messages[ix].ending = ending;
        if self.messages[ix].is_complete() {
            self.completed.push(ix);
        }
    }
}
