//! One line of a json-file log into one `Entry`. Never fails: what can't be decoded is `Decoded::Malformed`.

mod escapes;
mod json_file;
mod resync;
mod timestamp;

pub use json_file::{Decoded, Decoder, Fault};
pub use resync::{Piece, resync};
pub use timestamp::{Timestamp, TimestampError};

/// The stream of the container that an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
    /// The field is missing, or names a stream Docker doesn't have.
    Other,
}

impl Stream {
    /// As Docker writes it; empty for [`Stream::Other`].
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Other => "",
        }
    }
}

/// One decoded object of a json-file log: a whole message, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// With its escapes resolved; UTF-8.
    pub record: RecordView<'a>,
    /// A newline ended the text; else it is a fragment.
    pub ends_line: bool,
    /// How many bytes the container wrote for the text and its newline: Docker replaces each invalid byte by the escape `\ufffd`, which
    /// counts as one byte; a genuine U+FFFD stands raw and counts as three (moby jsonlog marshalling).
    pub raw_bytes: u64,
}

/// One message, or a fragment of one, borrowed from the decoder or the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub stream: Stream,
    pub time: Timestamp,
    /// Without the newline that ended it.
    pub text: &'a [u8],
    /// The value of `attrs`, a JSON object as it stands in the line.
    pub attrs: Option<&'a [u8]>,
    /// The line it was decoded from, without its newline; empty for what was joined of several, or split.
    pub line: &'a [u8],
}
