//! A compressed incarnation read at any place.

use std::io;

use crate::config::limits::PROOF_BYTES;
use crate::sim::os::{Errno, Fault, FaultPlan, SimOs};
use crate::sys::Os;
use crate::tail::source::damaged;
use crate::tail::tests::gzip;
use crate::tail::{Fingerprint, Source};

fn text() -> Vec<u8> {
    (0..400_000_u32).map(|ix| (ix.wrapping_mul(ix) / 7 % 251) as u8).collect()
}

fn source(os: &SimOs, bytes: &[u8], compressed: bool) -> Source<SimOs> {
    os.engine_write_whole("/log", bytes).unwrap();
    let file = os.open("/log".as_ref()).unwrap();
    if compressed { Source::gzip(os, file) } else { Source::Plain(file) }
}

#[test]
fn a_compressed_text_is_read_forward_and_back() {
    let (os, text) = (SimOs::new(1), text());
    let mut source = source(&os, &gzip(&text), true);
    let mut check = |offset: usize, length: usize| {
        let mut buffer = vec![0; length];
        let read = source.read_at(&os, offset as u64, &mut buffer).unwrap();
        let expected = &text[offset.min(text.len())..(offset + length).min(text.len())];
        assert!(buffer[..read] == *expected, "{length} bytes at {offset}");
    };
    for (offset, length) in [(0, 10), (5, 10), (100_000, 1), (99_000, 70_000), (0, 3), (399_990, 100), (400_000, 5)] {
        check(offset, length);
    }
    for step in [1_000, 65_536, 70_000] {
        for offset in (0..text.len()).step_by(step) {
            check(offset, step);
            check(offset.saturating_sub(PROOF_BYTES), PROOF_BYTES + 10);
        }
    }
    check(500_000, 10);
}

#[test]
fn the_bytes_before_a_place_prove_it() {
    let (os, text) = (SimOs::new(1), text());
    for compressed in [false, true] {
        let bytes = if compressed { gzip(&text) } else { text.clone() };
        let mut source = source(&os, &bytes, compressed);
        let mut proves =
            |offset: usize, tail: &[u8]| source.ends_with(&os, offset as u64, Fingerprint::of(tail)).unwrap();
        assert!(proves(70_000, &text[69_900..70_000]));
        assert!(proves(70_000, &text[70_000 - PROOF_BYTES..70_000]));
        assert!(proves(10, &text[..10]));
        assert!(proves(text.len(), &text[text.len() - 5..]));
        assert!(!proves(70_000, &text[69_899..69_999]));
        assert!(!proves(9, &text[..10]), "there are fewer bytes before it");
        assert!(!proves(text.len() + 5, &text[text.len() - 5..]), "it ends before");
        assert!(!proves(70_000, &text[70_000 - PROOF_BYTES - 1..70_000]), "no proof is as long");
    }
}

#[test]
fn a_read_that_was_short_proves_nothing() {
    let (os, text) = (SimOs::new(1), text());
    let mut source = source(&os, &text, false);
    os.arm(FaultPlan::at(0, Fault::ShortRead(50)));
    assert!(source.ends_with(&os, 70_000, Fingerprint::of(&text[69_900..70_000])).is_err());
    os.arm(FaultPlan::at(0, Fault::ShortRead(50)));
    assert!(source.ends_with(&os, 400_000, Fingerprint::of(&text[399_900..])).is_err(), "at the file's end too");
    os.arm(FaultPlan::at(1, Fault::ShortRead(50)));
    assert!(source.head(&os).is_err());
    os.disarm();
}

#[test]
fn a_disk_that_can_t_be_read_is_an_error_and_no_damage() {
    let (os, text) = (SimOs::new(1), text());
    let mut source = source(&os, &gzip(&text), true);
    let mut buffer = vec![0; 1000];
    os.arm(FaultPlan::at(0, Fault::Errno(Errno::Io)));
    assert_eq!(source.read_at(&os, 300_000, &mut buffer).unwrap_err().raw_os_error(), Some(5));
    os.disarm();
    assert_eq!(source.damage(), None);
    assert_eq!(source.read_at(&os, 300_000, &mut buffer).unwrap(), 1000);
    assert!(buffer == text[300_000..301_000]);
    // Also what the kernel calls an invalid argument.
    assert!(!damaged(&io::Error::from_raw_os_error(22)) && damaged(&io::ErrorKind::InvalidInput.into()));
    assert!(damaged(&io::ErrorKind::UnexpectedEof.into()) && !damaged(&io::ErrorKind::OutOfMemory.into()));
}

#[test]
fn a_disk_that_fails_for_a_moment_is_read_on_from_where_it_was() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    for call in 0..40 {
        let os = SimOs::new(1);
        let mut source = source(&os, &[gzip(&text[..400_000]), gzip(&text[400_000..])].concat(), true);
        os.arm(FaultPlan::at(call, Fault::Errno(Errno::Io)));
        let mut buffer = vec![0; text.len()];
        let first = source.read_at(&os, 0, &mut buffer);
        os.disarm();
        if first.is_err() {
            assert_eq!(source.read_at(&os, 0, &mut buffer).unwrap(), text.len(), "{call}");
        }
        assert!(buffer == text && source.damage().is_none(), "{call}");
    }
}
