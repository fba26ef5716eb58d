//! One JSON object a line. Fields that differ come first, in the order people read them.

use super::{Metadata, RecordView, metadata::clean};

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
    out.extend_from_slice(record.time.as_bytes());
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

/// Looked at so many bytes at a time for what must be escaped.
const CHUNK_BYTES: usize = 32;

/// Bytes that are no text become U+FFFD.
pub(crate) fn append_text(text: &[u8], out: &mut Vec<u8>) {
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => append_string(text, out),
        Err(_) => append_string(&String::from_utf8_lossy(text), out),
    }
}

/// As serde_json writes it.
pub(crate) fn append_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut copied = 0;
    for (chunk_ix, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
        // No early exit, so that the compiler looks at many bytes at once.
        let is_plain = |is_plain, byte: &u8| is_plain & (*byte >= 0x20 && *byte != b'"' && *byte != b'\\');
        if chunk.iter().fold(true, is_plain) {
            continue;
        }
        for (ix, byte) in chunk.iter().enumerate().map(|(ix, byte)| (chunk_ix * CHUNK_BYTES + ix, *byte)) {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            out.extend_from_slice(&bytes[copied..ix]);
            append_escape(byte, out);
            copied = ix + 1;
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
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
    use super::*;

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
