//! Lines that do not decode as a whole: a torn record with a whole one glued to it, or NULs between them.

use memchr::memmem;
use serde::de::IgnoredAny;

use crate::decode::{Decoded, Decoder, Fault};

impl Decoder {
    /// Takes a line apart that did not decode: each entry in it and each fault, with the offsets where its bytes begin
    /// and end. They tile the line.
    #[inline(never)]
    pub fn each_piece(&mut self, line: &[u8], mut take: impl FnMut(usize, usize, Decoded<'_>)) {
        for piece in resync(line) {
            match piece {
                Piece::Entry { start, end } => take(start, end, self.decode(&line[start..end])),
                Piece::Torn { start, end, fault } => take(start, end, Decoded::Malformed(fault)),
            }
        }
    }
}

/// A part of a line that is no entry as a whole; offsets within the line, `start < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Decodes.
    Entry { start: usize, end: usize },
    /// The remains of a record, or a run of NULs.
    Torn { start: usize, end: usize, fault: Fault },
}

/// Takes a line apart that did not decode. The pieces tile it. Time and memory are linear in its length.
///
/// After a torn write the next record stands on the same line. The raw bytes `{"log":"` can only begin a record, since
/// a quote within a string is escaped, but directly after `"attrs":` (docker.md section 4). So each object must end
/// before the next such place, and no byte is parsed for two of them.
pub fn resync(line: &[u8]) -> Vec<Piece> {
    let mut decoder = Decoder::new();
    let mut pieces = Vec::new();
    let mut torn_start = 0;
    let mut starts = record_starts(line).peekable();
    while let Some(start) = starts.next() {
        let limit = starts.peek().copied().unwrap_or(line.len());
        let Some(end) = object_end(&line[start..limit]).map(|length| start + length) else { continue };
        if let Decoded::Entry(_) = decoder.decode(&line[start..end]) {
            push_torn(&mut pieces, line, torn_start, start, &mut decoder);
            pieces.push(Piece::Entry { start, end });
            torn_start = end;
        }
    }
    push_torn(&mut pieces, line, torn_start, line.len(), &mut decoder);
    pieces
}

/// Where a record may begin, in order: the first byte that is no NUL, and each first field of Docker's that could not
/// be the first label of `attrs`.
fn record_starts(line: &[u8]) -> impl Iterator<Item = usize> {
    const FIRST_FIELDS: [&[u8]; 3] = [b"{\"log\":\"", b"{\"stream\":\"", b"{\"time\":\""];
    let first = line.iter().position(|byte| *byte != 0).filter(|start| line[*start] == b'{');
    let later = memmem::find_iter(line, b"{\"").filter(move |start| {
        Some(*start) != first
            && FIRST_FIELDS.iter().any(|field| line[*start..].starts_with(field))
            && !line[..*start].ends_with(b"\"attrs\":")
    });
    first.into_iter().chain(later)
}

/// The length of the one JSON value that `bytes` begin with.
fn object_end(bytes: &[u8]) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// Covers `start..end`, where no entry was found. Only the NULs around it get pieces of their own: one piece for each
/// run within would let a hostile line cost many times its length.
fn push_torn(pieces: &mut Vec<Piece>, line: &[u8], start: usize, end: usize, decoder: &mut Decoder) {
    let bytes = &line[start..end];
    let text_start = bytes.iter().position(|byte| *byte != 0).map_or(end, |at| start + at);
    let text_end = bytes.iter().rposition(|byte| *byte != 0).map_or(end, |at| start + at + 1);
    for (start, end) in [(start, text_start), (text_start, text_end), (text_end, end)] {
        if start == end {
            continue;
        }
        pieces.push(match decoder.decode(&line[start..end]) {
            Decoded::Malformed(fault) => Piece::Torn { start, end, fault },
            // An object that holds what looks like a record: Docker writes none, but it is whole.
            Decoded::Entry(_) => Piece::Entry { start, end },
        });
    }
}
