//! One JSON object a line. Fields that differ come first, in the order people read them.

use wide::u8x16;

use super::{Metadata, metadata::clean};
use crate::decode::RecordView;

/// `,"name":"web","id":"…"` and so on, for every record of a container.
pub(super) fn constants(metadata: &Metadata) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = [
        ("name", Some(metadata.name.as_str())),
        ("id", Some(metadata.id.as_str())),
        ("image", Some(metadata.image.as_str())),
        ("namespace", metadata.namespace()),
        ("pod", metadata.pod()),
        ("container", metadata.container()),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            out.extend_from_slice(format!(",\"{field}\":").as_bytes());
            append_string(&clean(value), &mut out);
        }
    }
    out
}

/// Ends without a newline.
pub(super) fn append(record: &RecordView<'_>, constants: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    record.time.append_to(out);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(record.stream.name().as_bytes());
    out.extend_from_slice(b"\",\"log\":");
    // UTF-8 by contract; should that break, a reader still gets valid JSON.
    append_text(record.text, out);
    out.extend_from_slice(constants);
    if let Some(attrs) = record.attrs {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs);
    }
    out.push(b'}');
}

/// Bytes that are no text become U+FFFD.
pub fn append_text(text: &[u8], out: &mut Vec<u8>) {
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => append_string(text, out),
        Err(_) => append_string(&String::from_utf8_lossy(text), out),
    }
}

/// As serde_json writes it.
pub fn append_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut copied = 0;
    let (whole, rest) = bytes.as_chunks::<LANES>();
    let mut padded = [b' '; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    for (chunk_ix, chunk) in whole.iter().chain([&padded]).enumerate() {
        let mut escaped = escaped_places(chunk);
        while escaped != 0 {
            let ix = chunk_ix * LANES + escaped.trailing_zeros() as usize;
            escaped &= escaped - 1;
            out.extend_from_slice(&bytes[copied..ix]);
            append_escape(bytes[ix], out);
            copied = ix + 1;
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Looked at so many bytes at a time for what must be escaped.
const LANES: usize = 16;

/// A bit for each byte that can't stand for itself in a JSON string.
#[inline]
fn escaped_places(chunk: &[u8; LANES]) -> u32 {
    let bytes = u8x16::new(*chunk);
    let is_escaped =
        bytes.simd_le(u8x16::splat(0x1f)) | bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
    is_escaped.to_bitmask()
}

fn append_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of all lengths, with what is escaped at all places of a vector.
        #[test]
        fn any_string_is_as_serde_json_has_it(text in "[a\u{0}-\u{1f}\"\\\\\u{7f}ž]{0,80}|.{0,80}") {
            let mut out = Vec::new();
            append_string(&text, &mut out);
            prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn strings_are_as_serde_json_has_them() {
        for char in ('\0'..'\u{100}').chain(['\u{2028}', '\u{1f600}']) {
            let a = "a".repeat(char as usize % 40);
            for text in [format!("{a}{char}b"), format!("{char}{a}{char}{char}"), format!("{a}b{a}c")] {
                let mut out = Vec::new();
                append_string(&text, &mut out);
                assert_eq!(out, serde_json::to_vec(&text).unwrap());
            }
        }
    }
}
