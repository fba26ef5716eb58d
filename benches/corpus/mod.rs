//! Logs as dockerd writes them, and the lines that must come of them: the same bytes on every machine.
//! One generator for all benches, so that their figures are about the same text.
#![allow(dead_code, reason = "each bench takes what it needs")]

use std::io::Write as _;

/// What an application may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An access log without quotes: nothing to unescape.
    Plain,
    /// The same in nginx's combined form: six escaped quotes a line.
    Access,
    /// JSON as applications log it: an escape every ten bytes.
    Application,
    /// Two-byte and three-byte characters in every line.
    Utf8,
    /// A few words.
    Short,
    /// Lines of 40,000 bytes, which Docker cuts at 16 KiB.
    Pieces,
    /// Plain, with `attrs`.
    Attrs,
    /// Valid JSON that isn't Docker's layout.
    Foreign,
    /// Plain, application and UTF-8 lines in turn.
    Mixed,
    /// Plain lines that take exactly 512 bytes of Docker's file.
    Exactly512,
}

/// A log that goes on for as long as it is asked.
#[derive(Clone, Debug)]
pub struct Corpus {
    kind: Kind,
    n_lines: u64,
    text: Vec<u8>,
}

const PIECE_BYTES: usize = 16_384;
const LONG_LINE_BYTES: usize = 40_000;
/// Between two lines; a prime, so that all digits of the times differ.
const STEP_NS: u64 = 7_654_321;
const ATTRS: &str = r#"{"com.example.team":"core","env":"production","tag":"web/0123456789ab"}"#;

impl Corpus {
    pub fn new(kind: Kind) -> Corpus {
        Corpus { kind, n_lines: 0, text: Vec::new() }
    }

    pub fn n_lines(&self) -> u64 {
        self.n_lines
    }

    /// One line of the application: its records for the log, and what `{time} {log}` makes of it.
    pub fn append(&mut self, source: &mut Vec<u8>, output: &mut Vec<u8>) {
        let ix = self.n_lines;
        self.n_lines += 1;
        let kind = match (self.kind, ix % 3) {
            (Kind::Mixed, 0) => Kind::Plain,
            (Kind::Mixed, 1) => Kind::Application,
            (Kind::Mixed, _) => Kind::Utf8,
            (kind, _) => kind,
        };
        let time = time(ix);
        self.text.clear();
        write_text(kind, ix, &mut self.text);
        let stream = if ix % 8 == 7 { "stderr" } else { "stdout" };
        if kind == Kind::Foreign {
            source.extend_from_slice(b"{\"stream\":\"stdout\",\"log\":\"");
            escape(&self.text, source);
            writeln!(source, "\\n\",\"time\":\"{time}\"}}").expect("memory takes it");
        } else {
            self.text.push(b'\n');
            for piece in self.text.chunks(PIECE_BYTES) {
                let attrs = (kind == Kind::Attrs).then_some(ATTRS);
                append_record(piece, stream, attrs, &time, source);
            }
            self.text.pop();
        }
        output.extend_from_slice(padded(&time).as_bytes());
        output.push(b' ');
        output.extend_from_slice(&self.text);
        output.push(b'\n');
    }

    /// Goes on until `source` has `n_bytes`.
    pub fn fill(&mut self, n_bytes: usize, source: &mut Vec<u8>, output: &mut Vec<u8>) {
        while source.len() < n_bytes {
            self.append(source, output);
        }
    }
}

/// The log of so many bytes, and its output.
pub fn log(kind: Kind, n_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut source, mut output) = (Vec::with_capacity(n_bytes + 64 * 1024), Vec::with_capacity(n_bytes));
    Corpus::new(kind).fill(n_bytes, &mut source, &mut output);
    (source, output)
}

fn append_record(piece: &[u8], stream: &str, attrs: Option<&str>, time: &str, source: &mut Vec<u8>) {
    source.extend_from_slice(b"{\"log\":\"");
    escape(piece, source);
    write!(source, "\",\"stream\":\"{stream}\",").expect("memory takes it");
    if let Some(attrs) = attrs {
        write!(source, "\"attrs\":{attrs},").expect("memory takes it");
    }
    writeln!(source, "\"time\":\"{time}\"}}").expect("memory takes it");
}

fn write_text(kind: Kind, ix: u64, text: &mut Vec<u8>) {
    let (host, item, bytes, ms) = (ix % 251, ix % 9973, ix * 37 % 20_011, ix * 7 % 911);
    match kind {
        Kind::Plain | Kind::Attrs | Kind::Foreign => {
            write!(text, "10.0.0.{host} GET /api/items/{item}?sort=price HTTP/1.1 200 {bytes} {ms}ms request={ix:09}")
        }
        Kind::Access => write!(
            text,
            "10.0.0.{host} - - [25/Nov/2026:16:44:41 +0000] \"GET /api/items/{item}?sort=price&page=2 HTTP/1.1\" 200 \
            {bytes} \"https://shop.example/\" \"Mozilla/5.0 (X11; Linux x86_64)\" {ms}"
        ),
        Kind::Application => write!(
            text,
            "{{\"level\":\"info\",\"n\":{ix},\"msg\":\"order stored\",\"user\":\"u{host}\",\"ms\":{ms},\
            \"path\":\"C:\\\\data\\\\{item}\",\"url\":\"/a?b={bytes}&c=2\",\"tags\":[\"a\",\"b\"]}}"
        ),
        Kind::Utf8 => write!(
            text,
            "10.0.0.{host} objednávka {item} přijata, žluťoučký kůň 日本語 {bytes} € za {ms} ms, požadavek={ix:09}"
        ),
        Kind::Short => write!(text, "tick {item}"),
        Kind::Pieces => {
            while text.len() < LONG_LINE_BYTES {
                write!(text, "request {ix} GET /shop/cart took {ms} ms and returned {bytes} bytes; ").expect("memory");
            }
            text.truncate(LONG_LINE_BYTES);
            Ok(())
        }
        Kind::Exactly512 => {
            let record_bytes = record_bytes(ix);
            write!(text, "10.0.0.{host} GET /api/items/{item} 200 {bytes} {ms}ms request={ix:09} ").expect("memory");
            text.resize(512 - record_bytes, b'x');
            Ok(())
        }
        Kind::Mixed => unreachable!("its lines are of other kinds"),
    }
    .expect("memory takes it");
}

/// Of the record around a text, for the line with this number.
fn record_bytes(ix: u64) -> usize {
    let stream = "\",\"stream\":\"stdout\",\"time\":\"".len();
    "{\"log\":\"".len() + "\\n".len() + stream + time(ix).len() + "\"}\n".len()
}

/// As moby's jsonlog does.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'<' | b'>' | b'&' => write!(out, "\\u{byte:04x}").expect("memory takes it"),
            byte => out.push(*byte),
        }
    }
}

/// In November 2026, which is long enough for 50 GB. The zeros at the end are cut, as in Docker's.
fn time(ix: u64) -> String {
    let ns = ix * STEP_NS;
    let (seconds, fraction) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (day, hour, minute, second) = (1 + seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let text = format!("2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}");
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

fn padded(time: &str) -> String {
    let time = time.trim_end_matches('Z');
    match time.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<9}Z"),
        None => format!("{time}.000000000Z"),
    }
}
