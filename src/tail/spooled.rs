//! The text of a deleted incarnation as a sink copied it aside: frames of compressed text, each with a checksum. What a
//! death left of such a file is read up to its last whole frame, and a damaged frame is told of and reads as NULs.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::{FileId, Kind, Os, Stat};
use crate::tail::Fingerprint;
use crate::tail::generation::ended_early;

/// Most bytes of text in a frame.
pub const FRAME_TEXT_BYTES: usize = 64 * 1024;
/// zstd makes what it can't compress a little longer.
const STORED_BYTES_MAX: usize = FRAME_TEXT_BYTES + 1024;
/// Length as stored, length of the text, checksum; four bytes each.
const HEAD_BYTES: usize = 12;
const LEVEL: i32 = 1;
/// No file system has this number: by it an incarnation is known to be spooled.
const DEVICE: u64 = u64::MAX;

/// Behind the last frame: the file is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Where the incarnation's text ends.
    pub at: u64,
    /// Why it ended early, where it was a damaged gzip.
    pub damage: Option<String>,
}

/// Appends a frame of `text`, which is not empty and stands at `offset` of the incarnation, of the file with this number.
pub fn append_frame(number: u64, offset: u64, text: &[u8], out: &mut Vec<u8>) {
    assert!(!text.is_empty() && text.len() <= FRAME_TEXT_BYTES, "a frame holds some text");
    let stored = zstd::bulk::compress(text, LEVEL).expect("zstd compresses anything");
    append(number, offset, text.len(), &stored, out);
}

/// Appends what makes the file whole.
pub fn append_end(number: u64, end: &End, out: &mut Vec<u8>) {
    append(number, end.at, 0, &postcard::to_stdvec(end).expect("an end is plain data"), out);
}

fn append(number: u64, offset: u64, n_text: usize, stored: &[u8], out: &mut Vec<u8>) {
    let lengths = [stored.len() as u32, n_text as u32];
    lengths.iter().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
    out.extend_from_slice(&checksum(number, offset, lengths, stored).to_le_bytes());
    out.extend_from_slice(stored);
}

/// A frame is of its file and of its place, and no other.
fn checksum(number: u64, offset: u64, lengths: [u32; 2], stored: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &offset.to_le_bytes());
    let crc = lengths.iter().fold(crc, |crc, length| crc32c::crc32c_append(crc, &length.to_le_bytes()));
    crc32c::crc32c_append(crc, stored)
}

/// What is known of a spooled incarnation without its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The incarnation's first whole line.
    pub head: Option<Fingerprint>,
    /// The file holds its text from here on.
    pub first: u64,
    /// Where a line begins: reading starts here. `first <= start`: bytes before it prove the place.
    pub start: u64,
    /// Where its text ends; `None` for one that was compressed.
    pub end: Option<u64>,
}

/// A range that can't be read, and why; no range where nobody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub why: String,
}

/// A spooled incarnation. Its file is open only while it is read.
pub struct Spooled<O: Os> {
    os: O,
    path: PathBuf,
    number: u64,
    pub extent: Extent,
    opened: Option<Opened<O>>,
    /// Told once each.
    damage: Vec<Damage>,
    told: Vec<u64>,
}

struct Opened<O: Os> {
    file: Option<O::File>,
    frames: Vec<Frame>,
    /// Of the last whole frame.
    text_end: u64,
    end: Option<End>,
    /// The text of the frame that was read last.
    cached: Option<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy)]
struct Frame {
    text_start: u64,
    n_text: u32,
    /// Of its head, in the file.
    at: u64,
    n_stored: u32,
}

impl<O: Os> Spooled<O> {
    pub fn new(os: &O, path: PathBuf, number: u64, extent: Extent) -> Spooled<O> {
        Spooled { os: os.clone(), path, number, extent, opened: None, damage: Vec::new(), told: Vec::new() }
    }

    pub fn id(&self) -> FileId {
        FileId { device: DEVICE, inode: self.number }
    }

    /// No name in the container's directory leads to it, and nothing of the engine's disk is held by it.
    pub fn stat(&self) -> Stat {
        let size = self.text_end();
        Stat { id: self.id(), kind: Kind::File, size, disk_bytes: 0, modified_ns: 0, links: 0 }
    }

    /// As far as it is known.
    pub fn text_end(&self) -> u64 {
        let opened = self.opened.as_ref().map(|opened| opened.text_end);
        opened.or(self.extent.end).unwrap_or(self.extent.start)
    }

    /// Whether all of the incarnation's text was copied.
    pub fn is_whole(&mut self) -> io::Result<bool> {
        Ok(self.open()?.end.is_some())
    }

    /// The file is opened again when it is read.
    pub fn close(&mut self) {
        self.opened = None;
    }

    /// Reads text at `offset` of the incarnation until `buffer` is full; fewer bytes mean the end.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let number = self.number;
        let os = self.os.clone();
        let opened = self.open()?;
        let mut filled = 0;
        let mut bad = Vec::new();
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let Some(ix) = opened.frame_at(at) else { break };
            let frame = opened.frames[ix];
            if opened.cached.as_ref().is_none_or(|(cached_ix, _)| *cached_ix != ix) {
                let text = opened.text(&os, number, ix)?;
                if text.is_none() {
                    bad.push(frame);
                }
                opened.cached = Some((ix, text.unwrap_or_else(|| vec![0; frame.n_text as usize])));
            }
            let text = opened.cached.as_ref().map_or(&[][..], |(_, text)| text);
            let text = &text[(at - frame.text_start) as usize..];
            let n_bytes = text.len().min(buffer.len() - filled);
            buffer[filled..filled + n_bytes].copy_from_slice(&text[..n_bytes]);
            filled += n_bytes;
        }
        for frame in bad {
            let end = frame.text_start + u64::from(frame.n_text);
            self.note_damage(frame.text_start, Some(end), "the spool's copy is damaged");
        }
        Ok(filled)
    }

    /// Damage met so far, told once. At the end of what can be read also that there is no more.
    pub fn take_damage(&mut self, at_end: bool) -> Vec<Damage> {
        if at_end && let Some(opened) = &self.opened {
            let text_end = opened.text_end;
            match &opened.end {
                None => {
                    let end = self.extent.end;
                    self.note_damage(text_end, end, "the spool's copy ends early");
                }
                Some(End { damage: Some(why), .. }) => {
                    let why = why.clone();
                    self.note_damage(text_end, None, &why);
                }
                Some(_) => {}
            }
        }
        std::mem::take(&mut self.damage)
    }

    fn note_damage(&mut self, start: u64, end: Option<u64>, why: &str) {
        if !self.told.contains(&start) {
            self.told.push(start);
            self.damage.push(Damage { start: Some(start), end, why: why.to_owned() });
        }
    }

    fn open(&mut self) -> io::Result<&mut Opened<O>> {
        if self.opened.is_none() {
            self.opened = Some(self.load()?);
        }
        Ok(self.opened.as_mut().expect("it was just loaded"))
    }

    fn load(&self) -> io::Result<Opened<O>> {
        let mut opened =
            Opened { file: None, frames: Vec::new(), text_end: self.extent.first, end: None, cached: None };
        let file = match self.os.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(opened), // A power loss took its name.
            Err(error) => return Err(error),
        };
        let size = self.os.stat_open(&file)?.size;
        let mut at = 0;
        while let Some((n_stored, n_text)) = frame_lengths(&self.os, &file, at, size)? {
            let frame = Frame { text_start: opened.text_end, n_text, at, n_stored };
            if n_text == 0 {
                let stored = frame.stored(&self.os, &file, self.number)?;
                opened.end = stored.and_then(|stored| postcard::from_bytes(&stored).ok());
                opened.end.take_if(|end| end.at != opened.text_end);
                break;
            }
            opened.text_end += u64::from(n_text);
            opened.frames.push(frame);
            at += (HEAD_BYTES + n_stored as usize) as u64;
        }
        opened.file = Some(file);
        if opened.end.is_none() {
            opened.drop_torn(&self.os, self.number)?;
        }
        Ok(opened)
    }
}

/// Whether the file has all of it. A read that ends where the file doesn't is no proof of anything.
fn fills<O: Os>(os: &O, file: &O::File, at: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let n_read = os.read_at(file, at, buffer)?;
    if n_read < buffer.len() && os.stat_open(file)?.size > at + n_read as u64 {
        return Err(ended_early());
    }
    Ok(n_read == buffer.len())
}

/// The lengths of the frame at `at`, as stored and as text, if it may be one.
fn frame_lengths<O: Os>(os: &O, file: &O::File, at: u64, size: u64) -> io::Result<Option<(u32, u32)>> {
    let mut head = [0; HEAD_BYTES];
    if !fills(os, file, at, &mut head)? {
        return Ok(None);
    }
    let length = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
    let (n_stored, n_text) = (length(0), length(4));
    let fits = at + HEAD_BYTES as u64 + u64::from(n_stored) <= size;
    let sane = n_stored > 0 && n_stored as usize <= STORED_BYTES_MAX && n_text as usize <= FRAME_TEXT_BYTES;
    Ok((fits && sane).then_some((n_stored, n_text)))
}

impl Frame {
    /// `None`: its bytes are not those that were written.
    fn stored<O: Os>(&self, os: &O, file: &O::File, number: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; HEAD_BYTES + self.n_stored as usize];
        if !fills(os, file, self.at, &mut bytes)? {
            return Ok(None);
        }
        let crc = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let stored = bytes.split_off(HEAD_BYTES);
        Ok((crc == checksum(number, self.text_start, [self.n_stored, self.n_text], &stored)).then_some(stored))
    }
}

impl<O: Os> Opened<O> {
    fn frame_at(&self, offset: u64) -> Option<usize> {
        let first = self.frames.first()?.text_start;
        (first..self.text_end)
            .contains(&offset)
            .then(|| self.frames.partition_point(|frame| frame.text_start <= offset) - 1)
    }

    fn text(&self, os: &O, number: u64, ix: usize) -> io::Result<Option<Vec<u8>>> {
        let (frame, file) = (self.frames[ix], self.file.as_ref().expect("frames are of a file"));
        let Some(stored) = frame.stored(os, file, number)? else { return Ok(None) };
        let text = zstd::bulk::decompress(&stored, FRAME_TEXT_BYTES).ok();
        Ok(text.filter(|text| text.len() == frame.n_text as usize))
    }

    /// A copy that was cut off: what a power loss left behind the last whole frame is no text.
    fn drop_torn(&mut self, os: &O, number: u64) -> io::Result<()> {
        while let Some(last_ix) = self.frames.len().checked_sub(1) {
            if self.text(os, number, last_ix)?.is_some() {
                break;
            }
            self.text_end = self.frames[last_ix].text_start;
            self.frames.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::os::{Fault, FaultPlan, SimOs};
    use crate::sys::Create;
    use proptest::prelude::*;

    const PATH: &str = "/spool/7";

    /// Offsets begin at 100; lines begin at 110.
    fn extent(end: u64) -> Extent {
        Extent { head: None, first: 100, start: 110, end: Some(end) }
    }

    fn text(n_bytes: usize) -> Vec<u8> {
        (0..n_bytes).map(|ix| b'a' + (ix / 3 % 26) as u8).collect()
    }

    fn file(text: &[u8], damage: Option<&str>) -> Vec<u8> {
        let (mut bytes, mut at) = (Vec::new(), 100);
        for frame in text.chunks(FRAME_TEXT_BYTES) {
            append_frame(7, at, frame, &mut bytes);
            at += frame.len() as u64;
        }
        append_end(7, &End { at, damage: damage.map(str::to_owned) }, &mut bytes);
        bytes
    }

    fn put(bytes: &[u8]) -> SimOs {
        let os = SimOs::new(1);
        os.create_directories("/spool".as_ref()).unwrap();
        let file = os.open_output(PATH.as_ref(), 0o600, Create::New).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            at += os.write_at(&file, at as u64, &bytes[at..]).unwrap();
        }
        os
    }

    fn spooled(os: &SimOs, end: u64) -> Spooled<SimOs> {
        Spooled::new(os, PATH.into(), 7, extent(end))
    }

    /// All of it in reads of `step` bytes, and the damage.
    fn read(spooled: &mut Spooled<SimOs>, step: usize) -> (Vec<u8>, Vec<Damage>) {
        let (mut text, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            let n_bytes = spooled.read_at(100 + text.len() as u64, &mut buffer).unwrap();
            text.extend_from_slice(&buffer[..n_bytes]);
            if n_bytes < step {
                return (text, spooled.take_damage(true));
            }
        }
    }

    #[test]
    fn text_comes_back_in_reads_of_any_size() {
        let text = text(FRAME_TEXT_BYTES * 3 + 17);
        let os = put(&file(&text, None));
        for step in [1 << 10, 60_000, FRAME_TEXT_BYTES, 200_000, 1 << 20] {
            let mut spooled = spooled(&os, 100 + text.len() as u64);
            assert_eq!(spooled.text_end(), 100 + text.len() as u64, "also before it is opened");
            assert!(spooled.is_whole().unwrap());
            assert_eq!(spooled.stat().size, 100 + text.len() as u64);
            assert_eq!(read(&mut spooled, step), (text.clone(), vec![]), "{step}");
            let mut before = [0; 4];
            assert_eq!(spooled.read_at(99, &mut before).unwrap(), 0, "nothing before its first byte");
            assert_eq!(spooled.read_at(105, &mut before).unwrap(), 4);
            assert_eq!(before, text[5..9]);
        }
    }

    /// Its length is a number here, for copies outlast the version that wrote them.
    #[test]
    fn the_longest_frame_that_can_t_be_compressed_is_read() {
        let text: Vec<u8> = (0..8_192).flat_map(|seed| twox_hash::XxHash64::oneshot(seed, b"").to_le_bytes()).collect();
        let mut bytes = Vec::new();
        append_frame(7, 100, &text, &mut bytes);
        assert!(text.len() == 65_536 && bytes.len() > 65_536);
        let (found, _) = read(&mut spooled(&put(&bytes), 0), 1 << 20);
        assert!(found == text);
    }

    #[test]
    fn a_copy_that_was_cut_off_ends_at_its_last_whole_frame() {
        let text = text(FRAME_TEXT_BYTES * 2 + 17);
        let whole = file(&text, None);
        for n_bytes in 0..whole.len() {
            let os = put(&whole[..n_bytes]);
            let mut spooled = spooled(&os, 100 + text.len() as u64);
            assert!(!spooled.is_whole().unwrap());
            let (found, damage) = read(&mut spooled, 1 << 20);
            assert_eq!(found, text[..found.len()]);
            assert!(found.len() % FRAME_TEXT_BYTES == 0 || found.len() == text.len());
            assert_eq!(damage.len(), 1);
            assert_eq!(
                (damage[0].start, damage[0].end),
                (Some(100 + found.len() as u64), Some(100 + text.len() as u64))
            );
        }
        let mut none = Spooled::new(&SimOs::new(2), "/gone/7".into(), 7, extent(200));
        assert_eq!(read(&mut none, 10).0, b"");
        assert_eq!(none.take_damage(true), vec![], "told once");
    }

    #[test]
    fn a_copy_that_can_t_be_opened_is_not_lost_and_one_that_rests_holds_no_descriptor() {
        let text = text(1_000);
        let os = put(&file(&text, None));
        let mut spooled = spooled(&os, 1_100);
        os.set_failing(PATH, Some(crate::sim::os::Errno::Io));
        assert!(spooled.read_at(100, &mut [0; 10]).is_err());
        os.set_failing(PATH, None);
        assert_eq!(read(&mut spooled, 100), (text, vec![]));
        let n_open = os.open_files();
        spooled.close();
        assert_eq!(os.open_files(), n_open - 1);
    }

    #[test]
    fn a_damaged_frame_reads_as_nuls_of_its_length_and_is_told() {
        let text = text(FRAME_TEXT_BYTES * 3);
        let mut bytes = file(&text, Some("a torn gzip"));
        let second = bytes.len() / 2;
        bytes[second] ^= 1;
        let os = put(&bytes);
        let (found, damage) = read(&mut spooled(&os, 0), 100_000);
        let (from, to) = (FRAME_TEXT_BYTES, FRAME_TEXT_BYTES * 2);
        assert_eq!((&found[..from], &found[to..]), (&text[..from], &text[to..]));
        assert!(found[from..to].iter().all(|byte| *byte == 0));
        let range = (Some(100 + from as u64), Some(100 + to as u64));
        assert_eq!((damage[0].start, damage[0].end), range);
        assert_eq!((damage.len(), damage[1].why.as_str()), (2, "a torn gzip"));
    }

    #[test]
    fn a_head_of_lengths_that_no_frame_has_ends_the_text() {
        for (n_stored, n_text, is_frame) in
            [(1_u32, 5_u32, true), (0, 5, false), (70_000, 5, false), (1, 70_000, false)]
        {
            let mut bytes = [n_stored.to_le_bytes(), n_text.to_le_bytes(), [0; 4]].concat();
            bytes.resize(bytes.len() + n_stored as usize, 0);
            // Only if that is taken for a damaged frame does this one stand at its place.
            append_frame(7, 100 + u64::from(n_text), b"text", &mut bytes);
            let (found, damage) = read(&mut spooled(&put(&bytes), 0), 1 << 20);
            assert_eq!(found, if is_frame { &b"\0\0\0\0\0text"[..] } else { b"" }, "{n_stored} {n_text}");
            assert!(!damage.is_empty());
        }
    }

    #[test]
    fn what_a_power_loss_left_behind_the_last_whole_frame_is_no_text() {
        let text = text(FRAME_TEXT_BYTES * 3);
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for (ix, frame) in text.chunks(FRAME_TEXT_BYTES).enumerate() {
            append_frame(7, (100 + ix * FRAME_TEXT_BYTES) as u64, frame, &mut bytes);
            ends.push(bytes.len());
        }
        for n_whole in 0..=3 {
            let mut torn = bytes.clone();
            // Their lengths reached the disk, and nothing else of them.
            (n_whole..3).for_each(|ix| torn[ends[ix] + 8..ends[ix + 1]].fill(0));
            let whole = &text[..n_whole * FRAME_TEXT_BYTES];
            let (found, damage) = read(&mut spooled(&put(&torn), 0), 1 << 20);
            assert!(found == whole, "{n_whole}");
            assert_eq!((damage.len(), damage[0].start), (1, Some(100 + whole.len() as u64)));
        }
    }

    #[test]
    fn a_read_that_ends_before_the_file_does_is_not_the_end_of_the_copy() {
        let text = text(FRAME_TEXT_BYTES * 2);
        let bytes = file(&text, None);
        for call in 0..5 {
            for n_bytes in [0, 5] {
                let os = put(&bytes);
                let mut spooled = spooled(&os, 100 + text.len() as u64);
                os.arm(FaultPlan::at(call, Fault::ShortRead(n_bytes)));
                let mut buffer = vec![0; 1 << 20];
                let first = spooled.read_at(100, &mut buffer);
                assert!(first.is_err() || first.unwrap() == text.len(), "{call}");
                assert_eq!(read(&mut spooled, 1 << 20), (text.clone(), vec![]), "{call}");
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_reads_as_nuls() {
        let text = text(1_000);
        let os = put(&file(&text, None));
        let mut spooled = spooled(&os, 1_100);
        assert!(spooled.is_whole().unwrap());
        os.truncate(&os.open_output(PATH.as_ref(), 0o600, Create::Never).unwrap(), 20).unwrap();
        let (found, damage) = read(&mut spooled, 100);
        assert_eq!((found, damage.len()), (vec![0; 1_000], 1));
    }

    proptest! {
        #[test]
        fn no_byte_that_changed_gives_other_text(at in 0usize..2_000, bit in 0u8..8, cut in 0usize..2_000) {
            let text: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
            let mut bytes = file(&text, None);
            let at = at * bytes.len() / 2_000;
            bytes[at] ^= 1 << bit;
            let kept = bytes.len() - cut * bytes.len() / 4_000;
            bytes.truncate(kept);
            let (found, damage) = read(&mut spooled(&put(&bytes), 0), 300_000);
            prop_assert!(!damage.is_empty());
            prop_assert!(found.len() <= text.len());
            for (found, text) in found.chunks(FRAME_TEXT_BYTES).zip(text.chunks(FRAME_TEXT_BYTES)) {
                prop_assert!(found == text || found.iter().all(|byte| *byte == 0));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (found, _) = read(&mut spooled(&put(&bytes), 0), 1_000);
            prop_assert!(found.iter().all(|byte| *byte == 0));
        }
    }
}
