//! One log as the engine and others leave it, read as the agent reads it.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::config::limits::{PROOF_BYTES, QUANTUM_BYTES};
use crate::sim::os::{Errno, Fault, FaultPlan, SimOs};
use crate::sys::Os;
use crate::tail::spooled::{End, Extent, FRAME_TEXT_BYTES, append_end, append_frame};
use crate::tail::{Chunk, Fingerprint, Lineage, Look, Resting, Spooled};

pub(super) const DIRECTORY: &str = "/containers/web";
pub(super) const LOG: &str = "/containers/web/web-json.log";

/// More than any story here needs.
const TURNS_MAX: usize = 1_000;

pub(super) struct Log {
    pub os: SimOs,
    pub lineage: Lineage<SimOs>,
}

impl Log {
    /// Already found, and nothing of it read.
    pub fn of(text: &str) -> Log {
        let os = SimOs::new(1);
        os.engine_mkdir(DIRECTORY).unwrap();
        os.engine_write_whole(LOG, text.as_bytes()).unwrap();
        let mut log = Log { lineage: Lineage::new(Path::new(DIRECTORY), "web", []), os };
        log.look().unwrap();
        log
    }

    pub fn path(name: &str) -> String {
        format!("{LOG}{name}")
    }

    pub fn write(&mut self, text: &str) {
        self.os.advance(Duration::from_secs(1));
        let file = self.os.engine_open(LOG).unwrap();
        self.os.engine_append(&file, text.as_bytes());
    }

    /// The same file, another text, as if it had been cut before.
    pub fn rewrite(&mut self, text: &str) {
        self.os.advance(Duration::from_secs(1));
        self.os.engine_write_whole(LOG, text.as_bytes()).unwrap();
    }

    /// The rotated ones move on by one.
    fn shift(&mut self) {
        for n in (1..9).rev() {
            for form in ["", ".gz"] {
                let from = Log::path(&format!(".{n}{form}"));
                if self.os.engine_exists(&from) {
                    self.os.engine_rename(from, Log::path(&format!(".{}{form}", n + 1))).unwrap();
                }
            }
        }
    }

    pub fn rotate(&mut self, text: &str) {
        self.shift();
        self.os.engine_rename(LOG, Log::path(".1")).unwrap();
        self.os.engine_write_whole(LOG, text.as_bytes()).unwrap();
    }

    /// What logrotate does with `copytruncate`.
    pub fn copytruncate(&mut self, text: &str) {
        self.shift();
        let copy = self.os.engine_read(LOG).unwrap();
        self.os.engine_write_whole(Log::path(".1"), &copy).unwrap();
        self.rewrite(text);
    }

    pub fn compress(&mut self, n: u32) {
        let plain = Log::path(&format!(".{n}"));
        let text = self.os.engine_read(&plain).unwrap();
        self.os.engine_write_whole(format!("{plain}.gz"), &gzip(&text)).unwrap();
        self.os.engine_unlink(plain).unwrap();
    }

    pub fn look(&mut self) -> io::Result<Look> {
        self.lineage.look(&self.os)
    }

    /// A whole text of its own, as a sink copied it aside from `first` on; reading begins at `start`.
    pub fn spooled(&mut self, number: u64, text: &str, first: usize, start: u64) -> Spooled<SimOs> {
        let mut bytes = Vec::new();
        let mut at = first;
        for frame in text.as_bytes()[first..].chunks(FRAME_TEXT_BYTES) {
            append_frame(number, at as u64, frame, &mut bytes);
            at += frame.len();
        }
        append_end(number, &End { at: at as u64, damage: None }, &mut bytes);
        self.os.engine_mkdir("/spool").unwrap();
        let path = format!("/spool/{number}");
        self.os.engine_write_whole(&path, &bytes).unwrap();
        let extent = Extent { head: head_of(text), first: first as u64, start, end: Some(text.len() as u64) };
        Spooled::new(&self.os, path.into(), number, extent)
    }

    /// All there is to read, with `[a..b]` where bytes are lost and `[n nul]` where they are none.
    pub fn read(&mut self) -> String {
        let mut told = String::new();
        self.read_into(&mut told).unwrap();
        told
    }

    pub fn read_into(&mut self, told: &mut String) -> io::Result<()> {
        let mut buffer = Vec::new();
        for _ in 0..TURNS_MAX {
            match self.lineage.read(&self.os, &mut buffer, QUANTUM_BYTES)? {
                Chunk::Lines { offset, bytes } => {
                    let mut at = offset;
                    for line in buffer[bytes].split_inclusive(|byte| *byte == b'\n') {
                        at += line.len() as u64;
                        self.lineage.advance(at, line);
                        told.push_str(std::str::from_utf8(line).unwrap());
                    }
                }
                Chunk::Waste { offset, bytes, nul } => {
                    self.lineage.pass_over(&self.os, offset, bytes)?;
                    told.push_str(&format!("[{bytes}{}]", if nul { " nul" } else { "" }));
                }
                Chunk::Rewritten { lost } => told.push_str(&format!("[{}..{}]", lost.start, lost.end)),
                Chunk::Quiet { .. } if self.lineage.successor_is_filled(&self.os)? => self.lineage.pass(&self.os)?,
                Chunk::Quiet { .. } => return Ok(()),
            }
        }
        panic!("no end of {told:?}");
    }
}

/// What is told of a log, whichever one call of the look or the read fails, and is tried again.
pub(super) fn told_at_every_call(log: impl Fn() -> Log) -> String {
    let mut undisturbed = log();
    undisturbed.look().unwrap();
    let expected = undisturbed.read();
    for call in 0.. {
        let mut log = log();
        let mut told = String::new();
        log.os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        let result = log.look().and_then(|_| log.read_into(&mut told));
        let n_calls = log.os.calls().len() as u64;
        log.os.disarm();
        if result.is_err() {
            log.look().unwrap();
            log.read_into(&mut told).unwrap();
        }
        // That nothing is lost may be told or not.
        let lines = |told: &str| told.replace("[0..0]", "");
        assert_eq!(lines(&told), lines(&expected), "call {call}, answered with {result:?}");
        if call >= n_calls {
            break;
        }
    }
    expected
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn head_of(text: &str) -> Option<Fingerprint> {
    text.find('\n').map(|newline| Fingerprint::of(&text.as_bytes()[..=newline]))
}

fn tail_of(text: &str) -> Option<Fingerprint> {
    Some(Fingerprint::of(text.as_bytes()))
}

#[test]
fn a_place_is_found_again_in_the_incarnation_it_is_of() {
    let mut log = Log::of("one\ntwo\n");
    log.rotate("three\nfour\n");
    log.rotate("one\nfive\n");
    assert_eq!(log.look().unwrap(), Look::Grown(2));
    let mut find = |head: &str, offset, tail: &str| {
        log.lineage.find(&log.os, head_of(head), offset, tail_of(tail).filter(|_| !tail.is_empty())).unwrap()
    };
    assert_eq!(find("one\n", 8, "two\n"), Some(0));
    assert_eq!(find("one\n", 9, "five\n"), Some(2), "two begin with one and the same line");
    assert_eq!(find("three\n", 6, "three\n"), Some(1));
    assert_eq!(find("three\n", 0, ""), Some(1));
    assert_eq!(find("three\n", 8, "two\n"), None, "its own text differs there");
    assert_eq!(find("", 8, "two\n"), Some(0), "it had no whole line yet");
    assert_eq!(find("", 0, ""), None, "it had no text");
    assert_eq!(find("lost\n", 8, "two\n"), Some(0), "its first page was lost");
    assert_eq!(find("lost\n", 8, "else\n"), None);
    assert_eq!(find("lost\n", 0, ""), None);
}

#[test]
fn a_first_line_without_its_newline_is_known_by_what_it_would_be() {
    for rest in ["", "more\n"] {
        let mut log = Log::of(&format!("one{rest}"));
        let mut lacks = |head| log.lineage.lacks_newline_of(&log.os, head_of(head).unwrap()).unwrap();
        assert!(lacks("one\n") && !lacks("two\n") && !lacks("one and\n"), "{rest}");
    }
    let mut log = Log::of("one\n");
    let head = head_of("one\n").unwrap();
    assert!(!log.lineage.lacks_newline_of(&log.os, head).unwrap(), "it is whole");
    for bytes in [0, u32::MAX] {
        assert!(!log.lineage.lacks_newline_of(&log.os, Fingerprint { bytes, hash: 0 }).unwrap(), "nobody's line");
    }
    log.os.arm(FaultPlan::at(0, Fault::ShortRead(1)));
    assert!(log.lineage.lacks_newline_of(&log.os, head_of("two\n").unwrap()).is_err(), "a part proves nothing");
}

#[test]
fn a_lost_first_page_is_made_up_for_by_plain_text_only() {
    let mut log = Log::of("one\ntwo\n");
    log.rotate("\0\0\0\0\0\0\0\0three\n");
    log.compress(1);
    log = Log { lineage: Lineage::new(Path::new(DIRECTORY), "web", []), ..log };
    assert_eq!(log.look().unwrap(), Look::Grown(2));
    let find = |log: &mut Log, offset, tail| log.lineage.find(&log.os, head_of("lost\n"), offset, tail).unwrap();
    assert_eq!(find(&mut log, 8, tail_of("two\n")), None, "compressed it is whole or damaged");
    assert_eq!(find(&mut log, 14, tail_of("three\n")), Some(1));
    assert_eq!(find(&mut log, 8, tail_of("\0\0\0\0")), None, "zeros are no text");
}

#[test]
fn only_nuls_of_a_proof_s_length_stand_for_a_hole() {
    for n_bytes in [1, 7, PROOF_BYTES] {
        assert!(Fingerprint::of(&vec![0; n_bytes]).is_of_nuls(), "{n_bytes}");
        assert!(!Fingerprint::of(&vec![b'x'; n_bytes]).is_of_nuls(), "{n_bytes}");
    }
    assert!(!Fingerprint::of(&[0; PROOF_BYTES + 1]).is_of_nuls(), "no proof is as long");
}

/// What is lost of a log that was cut while it wasn't read on.
fn noticed(log: &mut Log) -> Option<Range<u64>> {
    log.lineage.notice_cut(&log.os).unwrap()
}

#[test]
fn a_cut_is_noticed_while_a_log_is_not_read_on() {
    let mut log = Log::of("one\n");
    assert_eq!(noticed(&mut log), None);
    log.write("two\n");
    assert_eq!(noticed(&mut log), None, "it only grew");
    assert_eq!(log.read(), "one\ntwo\n");
    log.write("three\n");
    assert_eq!(noticed(&mut log), None);
    log.rewrite("x\n");
    assert_eq!(noticed(&mut log), Some(8..14), "shorter, and three was never read");
    assert_eq!(noticed(&mut log), None, "told once");
    assert_eq!(log.read(), "x\n");
    log.rewrite("y\n");
    assert_eq!(noticed(&mut log), Some(2..2), "of the same length");
    assert_eq!(log.read(), "y\n");
    log.rewrite("longer\n");
    assert_eq!(noticed(&mut log), Some(2..2));
    assert_eq!(log.read(), "longer\n");
    log.rewrite("longer\nand more\n");
    assert_eq!(noticed(&mut log), None, "nobody can tell it from one that grew");
    assert_eq!(log.read(), "and more\n");
    log.rewrite("longer\nand else\nmore\n");
    assert_eq!(noticed(&mut log), Some(16..16), "it begins as before");
}

#[test]
fn a_cut_before_anything_was_read_is_noticed_by_the_first_line() {
    let mut log = Log::of("one\ntwo\n");
    assert_eq!(noticed(&mut log), None);
    log.write("three\n");
    assert_eq!(noticed(&mut log), None);
    log.rewrite("else\nof the same start\n");
    assert_eq!(noticed(&mut log), Some(0..14));
    let mut log = Log::of("");
    assert_eq!(noticed(&mut log), None);
    log.write("one\n");
    assert_eq!(noticed(&mut log), None, "a first line is no cut");
    log.rewrite("one\n");
    assert_eq!(noticed(&mut log), None, "the same line is no other text");
    assert_eq!(log.read(), "one\n");
}

#[test]
fn a_cut_behind_older_incarnations_is_noticed_and_a_copy_has_what_was_cut_away() {
    let mut log = Log::of("one\n");
    log.rotate("two\nthree\n");
    log.look().unwrap();
    assert_eq!(noticed(&mut log), None);
    log.rewrite("four\n");
    assert_eq!(noticed(&mut log), Some(0..10));
    assert_eq!(noticed(&mut log), None);
    log.copytruncate("five\n");
    assert_eq!(noticed(&mut log), Some(0..0), "a copy has it");
    assert_eq!(log.read(), "one\nfour\nfive\n");
}

#[test]
fn a_log_rests_that_is_read_to_its_end_and_is_the_newest() {
    let of_the_log = |log: &Log| Some(Resting::of(&log.os.stat(Path::new(LOG)).unwrap()));
    let mut log = Log::of("one\n");
    assert_eq!(log.lineage.resting(), None, "nothing of it was read");
    log.read();
    assert_eq!(log.lineage.resting(), of_the_log(&log));
    log.rotate("two\n");
    log.look().unwrap();
    assert_eq!(log.lineage.resting(), None, "a newer one is to be read");
    log.read();
    assert_eq!(log.lineage.resting(), of_the_log(&log));
    let mut log = Log::of("one\n");
    log.lineage.remember_drained(&[head_of("two\n").unwrap()]);
    log.rotate("two\n");
    log.os.engine_unlink(Log::path(".1")).unwrap();
    assert_eq!((log.look().unwrap(), log.read()), (Look::Same, "one\n".to_owned()));
    assert_eq!(log.lineage.resting(), None, "the newest isn't held, so nothing tells that it grows");
}

#[test]
fn a_look_that_fails_says_so() {
    let mut log = Log::of("one\n");
    log.os.set_failing(DIRECTORY, Some(Errno::Io));
    log.rotate("two\n");
    assert_eq!(log.look().unwrap_err().raw_os_error(), Some(5));
    log.os.set_failing(DIRECTORY, None);
    assert_eq!(log.look().unwrap(), Look::Grown(1));
    assert_eq!(log.read(), "one\ntwo\n");
}
