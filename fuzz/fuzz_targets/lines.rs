//! One log through all its incarnations: a hostile writer, rotations and restarts, against a model that knows every
//! byte. Spans tile each incarnation, show its very bytes, and each incarnation is read once and in order.
#![no_main]

use std::collections::HashMap;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use longshore::config::limits::{LINE_BYTES_MAX, PROOF_BYTES, QUANTUM_BYTES};
use longshore::sys::FileId;
use longshore::tail::{Chunk, Fingerprint, Lineage};
use longshore_fuzz::{Cursor, DIRECTORY, ID, Memory, MemoryFile};

const OPERATIONS_MAX: usize = 64;
/// Of one input, holes apart.
const WRITTEN_BYTES_MAX: usize = 12 * 1024 * 1024;
const HOLES_BYTES_MAX: u64 = 128 * 1024 * 1024;
const COMPRESSED_BYTES_MAX: u64 = 1024 * 1024;
const SIBLINGS_MAX: u32 = 4;

fuzz_target!(|input: &[u8]| {
    let mut cursor = Cursor::new(input);
    let mut log = Log::new();
    let mut reader = Reader::new(&log);
    for _ in 0..OPERATIONS_MAX {
        if cursor.is_empty() {
            break;
        }
        match cursor.byte() % 16 {
            0 => log.write(&mut cursor),
            1 => {
                let (byte, exponent) = (cursor.byte(), cursor.byte());
                log.append(&vec![byte; 1 << (exponent % 23)]);
            }
            2 => log.append_hole(1 << (cursor.byte() % 27)),
            3 => log.append_record(),
            4 => log.append(b"\n"),
            5 => log.append(&vec![0; usize::from(cursor.byte()) * 64]),
            6 => log.rotate(cursor.byte()),
            7 => log.compress(cursor.byte()),
            8 => log.truncate(cursor.number()),
            9 => log.copy_and_truncate(),
            10 | 11 => drop(reader.read(&log, cursor.byte())),
            12 => reader.look(&log),
            13 => reader.restart(&log),
            14 => reader.begin_at_end(&log),
            _ => reader.read_all(&log),
        }
    }
    reader.read_all(&log);
    reader.check_complete(&log);
});

/// The engine's side, and what it knows.
struct Log {
    os: Memory,
    /// Every incarnation as it was written, the oldest first.
    incarnations: Vec<MemoryFile>,
    /// Which of them hold a whole line. One that holds none has no identity, and may be read again when it is compressed.
    has_line: Vec<bool>,
    /// Which incarnation an inode holds; a compressed one has an inode of its own.
    by_id: HashMap<FileId, usize>,
    n_records: usize,
    written_bytes: usize,
    holes_bytes: u64,
    /// Nothing was cut, lost or damaged: the reader owes every byte.
    is_whole: bool,
}

impl Log {
    fn new() -> Log {
        let mut log = Log {
            os: Memory::default(),
            incarnations: Vec::new(),
            has_line: Vec::new(),
            by_id: HashMap::new(),
            n_records: 0,
            written_bytes: 0,
            holes_bytes: 0,
            is_whole: true,
        };
        log.begin();
        log
    }

    fn path(&self, suffix: &str) -> PathBuf {
        PathBuf::from(DIRECTORY).join(ID).join(format!("{ID}-json.log{suffix}"))
    }

    fn begin(&mut self) {
        let file = self.os.file(&self.path(""));
        self.by_id.insert(file.id(), self.incarnations.len());
        self.incarnations.push(file);
        self.has_line.push(false);
    }

    fn current(&self) -> &MemoryFile {
        &self.incarnations[self.incarnations.len() - 1]
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.written_bytes + bytes.len() <= WRITTEN_BYTES_MAX {
            self.written_bytes += bytes.len();
            self.current().append(bytes);
            let last = self.has_line.len() - 1;
            self.has_line[last] |= bytes.contains(&b'\n');
        }
    }

    fn append_hole(&mut self, bytes: u64) {
        if self.holes_bytes + bytes <= HOLES_BYTES_MAX {
            self.holes_bytes += bytes;
            self.current().append_hole(bytes);
        }
    }

    fn write(&mut self, cursor: &mut Cursor<'_>) {
        let length = usize::from(cursor.byte());
        let bytes = cursor.bytes(length).to_vec();
        self.append(&bytes);
    }

    fn append_record(&mut self) {
        self.n_records += 1;
        let number = self.n_records;
        let time = format!("2026-11-25T16:09:50.{number:09}Z");
        let record = format!("{{\"log\":\"record {number}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n");
        self.append(record.as_bytes());
    }

    /// The new incarnation begins with a record, which tells it from the others, perhaps behind a hole.
    fn rotate(&mut self, kind: u8) {
        if self.written_bytes + 1024 > WRITTEN_BYTES_MAX {
            return;
        }
        for number in (1..=SIBLINGS_MAX).rev() {
            for ending in ["", ".gz"] {
                let from = self.path(&format!(".{number}{ending}"));
                if number == SIBLINGS_MAX {
                    // What nobody holds is gone.
                    self.is_whole &= !self.os.unlink(&from);
                } else {
                    self.os.rename(&from, &self.path(&format!(".{}{ending}", number + 1)));
                }
            }
        }
        self.os.rename(&self.path(""), &self.path(".1"));
        self.begin();
        if kind % 3 == 1 {
            self.append_hole(5000);
        }
        self.append_record();
    }

    /// In the background, directly under the final name: half of it, all of it beside the original, or all of it.
    fn compress(&mut self, kind: u8) {
        let Some(original) = self.incarnations.len().checked_sub(2) else { return };
        let (plain, gzip) = (self.path(".1"), self.path(".1.gz"));
        let size = self.incarnations[original].size();
        let os = self.os.clone();
        if longshore::sys::Os::stat(&os, &plain).is_err() || size > COMPRESSED_BYTES_MAX {
            return;
        }
        self.os.unlink(&gzip);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let text = self.incarnations[original].bytes();
        std::io::Write::write_all(&mut encoder, &text).expect("memory takes everything");
        let mut stored = encoder.finish().expect("memory takes everything");
        let is_half = kind.is_multiple_of(3);
        if is_half {
            stored.truncate(stored.len() / 2);
        }
        let file = self.os.file(&gzip);
        file.append(&stored);
        self.by_id.insert(file.id(), original);
        if kind % 3 == 2 {
            self.os.unlink(&plain);
        }
        self.is_whole &= !is_half; // The next rotation may leave only the half one.
    }

    fn truncate(&mut self, size: u32) {
        let file = self.current().clone();
        file.truncate(u64::from(size) % (file.size() + 1));
        self.is_whole = false;
    }

    fn copy_and_truncate(&mut self) {
        let current = self.current().clone();
        if current.size() > COMPRESSED_BYTES_MAX {
            return;
        }
        let copy = self.path(".1");
        self.os.unlink(&copy);
        self.os.file(&copy).append(&current.bytes());
        current.truncate(0);
        self.is_whole = false;
    }
}

/// What a row would keep.
#[derive(Clone, Default)]
struct Saved {
    head: Option<Fingerprint>,
    offset: u64,
    tail: Option<Fingerprint>,
    drained: Vec<Fingerprint>,
}

/// The agent's side, as its turns do it.
struct Reader {
    lineage: Lineage<Memory>,
    buffer: Vec<u8>,
    /// The incarnation that was read last, and how far.
    at: Option<(usize, u64)>,
    n_passed: usize,
    /// It began at the beginning.
    is_whole: bool,
}

impl Reader {
    fn new(log: &Log) -> Reader {
        let mut reader = Reader { lineage: lineage([]), buffer: Vec::new(), at: None, n_passed: 0, is_whole: true };
        reader.look(log);
        reader
    }

    fn look(&mut self, log: &Log) {
        self.lineage.look(&log.os).expect("memory has no faults");
    }

    /// One chunk. False when there is nothing more.
    fn read(&mut self, log: &Log, part: u8) -> bool {
        let wanted = [QUANTUM_BYTES, 1, 20, 4096][usize::from(part) % 4];
        let chunk = self.lineage.read(&log.os, &mut self.buffer, wanted).expect("memory has no faults");
        assert!(self.buffer.len() <= LINE_BYTES_MAX + PROOF_BYTES, "{} bytes of buffer", self.buffer.len());
        match chunk {
            Chunk::Lines { offset, bytes } => {
                let text = self.buffer[bytes].to_vec();
                assert!(text.ends_with(b"\n"));
                // A turn may end at any line.
                let ends: Vec<usize> = memchr::memchr_iter(b'\n', &text).collect();
                let ix = ends.len() - 1 - usize::from(part) % ends.len();
                let text = &text[..=ends[ix]];
                self.span(log, offset, text.len() as u64, Some(text));
                self.lineage.advance(offset + text.len() as u64, text);
            }
            Chunk::Waste { offset, bytes, nul } => {
                self.span(log, offset, bytes, None);
                assert!(bytes > 0);
                if nul && log.is_whole {
                    self.assert_nuls(log, offset, bytes);
                }
                self.lineage.pass_over(&log.os, offset, bytes).expect("memory has no faults");
            }
            Chunk::Rewritten { .. } => {
                assert!(!log.is_whole, "nothing was cut");
                self.at = None;
            }
            Chunk::Quiet { rest } => return self.end(log, rest),
        }
        true
    }

    fn incarnation(&self, log: &Log) -> Option<usize> {
        log.by_id.get(&self.lineage.front()?.id).copied()
    }

    fn span(&mut self, log: &Log, offset: u64, bytes: u64, text: Option<&[u8]>) {
        let front = self.lineage.front().expect("something was read");
        assert_eq!(offset, front.offset);
        let Some(ix) = self.incarnation(log) else {
            assert!(!log.is_whole, "only a copy is no incarnation");
            return;
        };
        if log.is_whole && self.is_whole && log.has_line[ix] {
            match self.at {
                Some((at_ix, end)) if at_ix == ix => assert_eq!(offset, end, "spans tile"),
                at => assert!(offset == 0 && at.is_none_or(|(at_ix, _)| at_ix < ix), "{at:?} then {ix} at {offset}"),
            }
        }
        if log.is_whole
            && let Some(text) = text
        {
            let mut there = vec![0; text.len()];
            assert_eq!(log.incarnations[ix].read(offset, &mut there), text.len());
            assert!(there == text, "the incarnation's own bytes");
        }
        self.at = Some((ix, offset + bytes));
    }

    fn assert_nuls(&self, log: &Log, offset: u64, bytes: u64) {
        let Some(ix) = self.incarnation(log) else { return };
        let mut there = vec![0xff; bytes.min(1 << 20) as usize];
        log.incarnations[ix].read(offset, &mut there);
        assert!(there.iter().all(|byte| *byte == 0));
    }

    /// The oldest incarnation gives no more: on to the next one, if that makes its end final.
    fn end(&mut self, log: &Log, rest: u64) -> bool {
        if self.lineage.len() < 2 || !self.lineage.successor_is_filled(&log.os).expect("memory has no faults") {
            return false;
        }
        if rest > 0 {
            let found = self.lineage.rest(&log.os, &mut self.buffer, rest).expect("memory has no faults");
            let (offset, range) = found;
            if !range.is_empty() {
                let text = self.buffer[range].to_vec();
                self.span(log, offset, text.len() as u64, Some(&text));
                self.lineage.advance(offset + text.len() as u64, &text);
            }
        }
        if log.is_whole
            && self.is_whole
            && let Some(ix) = self.incarnation(log)
        {
            let size = log.incarnations[ix].size();
            assert_eq!(self.lineage.front().map(|front| front.offset), Some(size), "all of incarnation {ix}");
        }
        self.lineage.pass(&log.os).expect("memory has no faults");
        self.n_passed += 1;
        true
    }

    fn read_all(&mut self, log: &Log) {
        self.look(log);
        let mut n_rewritten = 0;
        let mut before = None;
        while self.read(log, 0) {
            let at = self.lineage.front().map(|front| (self.n_passed, front.offset));
            n_rewritten += usize::from(at <= before);
            assert!(n_rewritten <= 2 * SIBLINGS_MAX as usize + 2, "it comes to an end");
            before = at;
        }
    }

    /// As a row is taken up again.
    fn restart(&mut self, log: &Log) {
        let mut saved = Saved { drained: self.lineage.drained().collect(), ..Saved::default() };
        if let Some(head) = self.lineage.head(&log.os).expect("memory has no faults")
            && let Some(front) = self.lineage.front()
        {
            saved = Saved { head: Some(head), offset: front.offset, tail: front.tail(), ..saved };
        }
        let held = self.lineage.front().map(|front| front.id);
        let was_at = self.at;
        self.lineage = lineage(saved.drained.iter().copied());
        self.look(log);
        let mut found = None;
        for (ix, generation) in self.lineage.generations_mut().enumerate() {
            let is_it = saved.head.is_some() && generation.head == saved.head;
            if is_it && generation.proves(&log.os, saved.offset, saved.tail).expect("memory has no faults") {
                found = Some(ix);
            }
        }
        match found {
            Some(ix) => {
                self.lineage.begin_at(&log.os, ix, saved.offset, saved.tail).expect("memory has no faults");
                self.at = was_at;
            }
            None => {
                assert!(!log.is_whole || saved.head.is_none() || held.is_none(), "a whole log is found again");
                // As the agent does: from the oldest that was not read.
                self.at = None;
                self.is_whole &= saved.head.is_none() && log.incarnations.len() == 1;
            }
        }
    }

    fn begin_at_end(&mut self, log: &Log) {
        self.lineage.begin_at_end(&log.os).expect("memory has no faults");
        self.is_whole = false;
        self.at = None;
    }

    fn check_complete(&self, log: &Log) {
        if !log.is_whole || !self.is_whole {
            return;
        }
        let last = log.incarnations.len() - 1;
        assert_eq!(self.lineage.len(), 1, "all but the last are closed");
        assert_eq!(self.incarnation(log), Some(last));
        let current = log.current().bytes();
        let end = self.lineage.front().map_or(0, |front| front.offset) as usize;
        assert!(!current[end..].contains(&b'\n'), "no whole line is left");
    }
}

fn lineage(drained: impl IntoIterator<Item = Fingerprint>) -> Lineage<Memory> {
    Lineage::new(&PathBuf::from(DIRECTORY).join(ID), ID, drained)
}
