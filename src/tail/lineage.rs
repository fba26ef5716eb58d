//! The incarnations of one container's log, in order: found, held open, read one after the other.
//! While the agent runs a log is its descriptor; the directory is only asked what came after it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memrchr;

use crate::config::limits::{DRAINED_HEADS_MAX, NAMELESS_PERIOD};
use crate::discover::listing::{places, siblings};
use crate::sys::{FileId, Kind, Os};
use crate::tail::generation::ended_early;
use crate::tail::identity::proof;
use crate::tail::{Chunk, Fingerprint, Generation, Source};

/// What a look at the directory found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The newest incarnation is the one we have.
    Same,
    /// So many incarnations are new.
    Grown(usize),
    /// No file stands under the log's name: not started yet, in the middle of a rotation, or removed.
    Missing,
}

/// The incarnations of one log that are still to be read, the oldest first.
pub struct Lineage<O: Os> {
    pub(super) directory: PathBuf,
    pub(super) id: String,
    pub(super) generations: VecDeque<Generation<O>>,
    /// The heads of incarnations that were read to their end, so that none is read twice. Bounded.
    pub(super) drained: VecDeque<Fingerprint>,
    /// The id of the newest incarnation seen under the log's name.
    pub(super) newest: Option<FileId>,
    /// How many incarnations were read before the first in `generations`.
    pub(super) passed: u64,
    /// Those that were cut, and copies of what they held are still to be looked for; the newest last.
    pub(super) copies_due: Vec<FileId>,
    /// When it was looked for what stands behind a log without a name.
    looked_behind: Option<Duration>,
}

/// How often a look begins again when rotations overtake it.
pub(super) const WALKS_MAX: usize = 8;

/// What a look found that is new, the newest first.
struct Walk<O: Os> {
    newer: Vec<Generation<O>>,
    /// What stood under the log's name when it began.
    current: Option<FileId>,
    /// If nothing did: the first rotated one that was met, and its place.
    first_behind: Option<(FileId, PathBuf)>,
    /// However often the log was rotated meanwhile, nothing is missing or out of order.
    is_sure: bool,
}

impl<O: Os> Lineage<O> {
    pub fn new(directory: &Path, id: &str, drained: impl IntoIterator<Item = Fingerprint>) -> Lineage<O> {
        Lineage {
            directory: directory.to_owned(),
            id: id.to_owned(),
            generations: VecDeque::new(),
            drained: drained.into_iter().collect(),
            newest: None,
            passed: 0,
            copies_due: Vec::new(),
            looked_behind: None,
        }
    }

    /// The same incarnations from their beginnings, by the same descriptors: their names may be gone.
    pub fn reread(&self, os: &O) -> io::Result<Lineage<O>> {
        let mut again = Lineage::new(&self.directory, &self.id, []);
        again.newest = self.newest;
        for held in &self.generations {
            let Some(source) = held.source.again(os) else { continue };
            let stat = source.stat(os)?;
            again.generations.push_back(held.anew(source, stat));
        }
        Ok(again)
    }

    pub fn log(&self) -> PathBuf {
        const SUFFIX: &str = "-json.log";
        // Asked for at each look: one allocation.
        let mut log = PathBuf::with_capacity(self.directory.as_os_str().len() + 1 + self.id.len() + SUFFIX.len());
        log.push(&self.directory);
        log.push(&self.id);
        log.as_mut_os_string().push(SUFFIX);
        log
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn drained(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.drained.iter().copied()
    }

    /// Heads that an earlier life read to their end. Those that are held now are read again, so they aren't drained: a
    /// power loss can lead back to before them.
    pub fn remember_drained(&mut self, heads: &[Fingerprint]) {
        let ours = std::mem::take(&mut self.drained);
        for head in heads.iter().copied().chain(ours) {
            if self.generations.iter().all(|held| held.head != Some(head)) {
                self.remember(Some(head));
            }
        }
    }

    pub fn generations(&self) -> impl Iterator<Item = &Generation<O>> {
        self.generations.iter()
    }

    pub fn generations_mut(&mut self) -> impl Iterator<Item = &mut Generation<O>> {
        self.generations.iter_mut()
    }

    pub fn front(&self) -> Option<&Generation<O>> {
        self.generations.front()
    }

    pub fn len(&self) -> usize {
        self.generations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// How many incarnations have been read to their end.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Asks the directory for incarnations newer than the newest we hold, and opens them.
    pub fn look(&mut self, os: &O) -> io::Result<Look> {
        let stat = match os.stat(&self.log()) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.look_behind(os),
            Err(error) => return Err(error),
        };
        if stat.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log is no regular file"));
        }
        if self.newest == Some(stat.id) {
            return Ok(Look::Same);
        }
        self.open_newer(os)
    }

    /// No file stands under the log's name. Rotated siblings may, also some that came behind what is held: an engine that
    /// died between two steps of a rotation leaves it like that. Not at each look: a log that was deleted while it is
    /// written to stays without a name, and is read often.
    fn look_behind(&mut self, os: &O) -> io::Result<Look> {
        let now = os.monotonic();
        let is_recent = self.looked_behind.is_some_and(|before| now < before + NAMELESS_PERIOD);
        if is_recent && !self.generations.is_empty() {
            return Ok(Look::Missing);
        }
        self.looked_behind = Some(now);
        match self.open_newer(os) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Look::Missing), // The directory is gone too.
            other => other,
        }
    }

    /// Opens what is new. A walk that rotations overtook is begun again.
    fn open_newer(&mut self, os: &O) -> io::Result<Look> {
        for _ in 0..WALKS_MAX {
            let walk = self.walk(os)?;
            if walk.is_sure || self.is_as_walked(os, &walk)? {
                return Ok(self.take(walk));
            }
        }
        Err(overtaken())
    }

    /// Whether no rotation came to its end since the walk began.
    fn is_as_walked(&self, os: &O, walk: &Walk<O>) -> io::Result<bool> {
        let is_behind_there = match &walk.first_behind {
            Some((id, place)) => is_named(os, place, Some(*id))?,
            None => true,
        };
        Ok(is_behind_there && is_named(os, &self.log(), walk.current)?)
    }

    /// From the current file down to the first incarnation we know. In this order one rotation on the way shows a file
    /// twice but hides none; a second one can show a newer file behind an older one.
    fn walk(&mut self, os: &O) -> io::Result<Walk<O>> {
        let mut newer: Vec<(Option<u32>, Generation<O>)> = Vec::new();
        let current = self.open_plain(os, &self.log())?;
        let id = current.as_ref().map(|current| current.id);
        newer.extend(current.map(|current| (None, current)));
        let mut met = newer.iter().any(|(_, current)| self.holds(current.id));
        let places = places(&self.id, &os.list(&self.directory)?);
        let is_alone = places.is_empty();
        let mut first_behind = None;
        for sibling in places {
            if met {
                break;
            }
            let Some(mut generation) = self.open_sibling(os, sibling.number, sibling.compressed)? else {
                continue;
            };
            if id.is_none() && first_behind.is_none() {
                first_behind = Some((generation.id, self.directory.join(sibling.file_name(&self.id))));
            }
            if let Some((_, plain)) = newer.iter_mut().find(|(number, _)| *number == Some(sibling.number)) {
                // Its plain twin was taken, and this one may be half there; or it is an older one, and logrotate put a
                // copy of the log beside it.
                let head = generation.learn_head(os)?;
                if head.is_none() || head == plain.learn_head(os)? {
                    continue;
                }
            }
            // Compressed it is another inode: only its text tells that it is one of ours.
            let is_ours = generation.is_compressed() && self.knows_head(os, &mut generation)?;
            if is_ours || self.holds(generation.id) {
                met = true;
            } else if newer.iter().all(|(_, taken)| taken.id != generation.id) {
                newer.push((Some(sibling.number), generation)); // Not one that a rotation moved on while we looked.
            }
        }
        self.keep_unknown(os, &mut newer, met)?;
        let is_sure = is_alone || met && newer.len() < 2;
        let newer = newer.into_iter().map(|(_, generation)| generation).collect();
        Ok(Walk { newer, current: id, first_behind, is_sure })
    }

    fn take(&mut self, walk: Walk<O>) -> Look {
        let Walk { mut newer, current, .. } = walk;
        for generation in &mut newer {
            generation.headless = generation.head.is_none();
        }
        let n_new = newer.len();
        self.generations.reserve_exact(n_new); // Mostly it is one, and stays the only one.
        self.generations.extend(newer.into_iter().rev());
        if current.is_some() {
            self.newest = current;
        }
        match (current, n_new) {
            (None, 0) => Look::Missing,
            (_, 0) => Look::Same,
            (_, n_new) => Look::Grown(n_new),
        }
    }

    pub(super) fn knows_head(&mut self, os: &O, generation: &mut Generation<O>) -> io::Result<bool> {
        let Some(head) = generation.learn_head(os)? else {
            return Ok(false);
        };
        for held in &mut self.generations {
            held.learn_head(os)?;
        }
        Ok(self.drained.contains(&head) || self.generations.iter().any(|held| held.head == Some(head)))
    }

    fn holds(&self, id: FileId) -> bool {
        self.generations.iter().any(|held| held.id == id)
    }

    /// Takes away what we hold or have read: the walk that `newer` comes from ends there. When it `met` one of ours that
    /// is proof enough, and more than heads of plain files can give: pieces of one long line are equal bytes, so the
    /// heads of several incarnations may be. Otherwise (ours are gone) the first known head ends it.
    fn keep_unknown(&mut self, os: &O, newer: &mut Vec<(Option<u32>, Generation<O>)>, met: bool) -> io::Result<()> {
        let mut taken: Vec<(Fingerprint, bool, Option<u32>)> = Vec::new();
        let mut twice = Vec::new();
        for (ix, (number, generation)) in newer.iter_mut().enumerate() {
            let Some(head) = generation.learn_head(os)? else {
                continue;
            };
            // The same text plain and compressed: a compression that was cut off left both, and a rotation since may have
            // moved the plain one. Elsewhere equal heads are those of one long line's pieces.
            let compressed = generation.is_compressed();
            let number = *number;
            let is_twin = |(other, other_compressed, other_number): &(Fingerprint, bool, Option<u32>)| {
                let (plain, gzip) = if compressed { (*other_number, number) } else { (number, *other_number) };
                *other == head
                    && compressed != *other_compressed
                    && plain.zip(gzip).is_some_and(|(plain, gzip)| plain == gzip || plain == gzip + 1)
            };
            if taken.iter().any(is_twin) {
                twice.push(ix);
            }
            taken.push((head, compressed, number));
        }
        for ix in twice.into_iter().rev() {
            newer.remove(ix);
        }
        if met {
            newer.retain(|(_, generation)| !self.holds(generation.id));
            return Ok(());
        }
        let mut n_new = 0;
        while n_new < newer.len() && !self.knows_head(os, &mut newer[n_new].1)? {
            n_new += 1;
        }
        newer.truncate(n_new);
        Ok(())
    }

    /// Opens `.N` or `.N.gz`. The engine may compress it between the listing and now, so the other form is tried too.
    pub(super) fn open_sibling(&self, os: &O, number: u32, compressed: bool) -> io::Result<Option<Generation<O>>> {
        let plain = self.directory.join(format!("{}-json.log.{number}", self.id));
        let gzip = self.directory.join(format!("{}-json.log.{number}.gz", self.id));
        if !compressed && let Some(mut found) = self.open_plain_sibling(os, &plain)? {
            // A power loss may have emptied it after it was compressed.
            if found.learn_head(os)?.is_some() || !is_file(os, &gzip)? {
                return Ok(Some(found));
            }
            let Some(file) = open_if_there(os, &gzip)? else {
                return Ok(Some(found));
            };
            let stat = os.stat_open(&file)?;
            let mut twin = Generation::new(Source::gzip(os, file), stat);
            return Ok(Some(if twin.learn_head(os)?.is_some() { twin } else { found }));
        }
        if !is_file(os, &gzip)? {
            return self.open_plain_sibling(os, &plain);
        }
        let Some(file) = open_if_there(os, &gzip)? else {
            return self.open_plain_sibling(os, &plain);
        };
        let stat = os.stat_open(&file)?;
        Ok(Some(Generation::new(Source::gzip(os, file), stat)))
    }

    /// A directory or a link under a sibling's name is none: it makes the engine's rotation fail, not us.
    fn open_plain_sibling(&self, os: &O, path: &Path) -> io::Result<Option<Generation<O>>> {
        if is_file(os, path)? { self.open_plain(os, path) } else { Ok(None) }
    }

    fn open_plain(&self, os: &O, path: &Path) -> io::Result<Option<Generation<O>>> {
        let Some(file) = open_if_there(os, path)? else {
            return Ok(None);
        };
        let stat = os.stat_open(&file)?;
        Ok(Some(Generation::new(Source::Plain(file), stat)))
    }

    /// Lets go of everything older than the generation with this index, and goes on in it from `offset`.
    pub fn begin_at(&mut self, os: &O, generation_ix: usize, offset: u64, tail: Option<Fingerprint>) -> io::Result<()> {
        if let Some(generation) = self.generations.get_mut(generation_ix) {
            generation.resume_at(os, offset, tail)?; // First: if it fails, all are still held.
        }
        for _ in 0..generation_ix {
            self.pass(os)?;
        }
        Ok(())
    }

    /// Goes on behind the last whole line there is: `--from end`.
    pub fn begin_at_end(&mut self, os: &O) -> io::Result<()> {
        for _ in 1..self.generations.len() {
            self.pass(os)?;
        }
        let Some(front) = self.generations.front_mut() else {
            return Ok(());
        };
        front.learn_head(os)?;
        let size = front.stat(os)?.size;
        let mut end = size;
        let mut buffer = vec![0; 64 * 1024];
        while end > 0 {
            let start = end.saturating_sub(buffer.len() as u64);
            let window = &mut buffer[..(end - start) as usize];
            read_all(os, &mut front.source, start, window)?;
            if let Some(newline) = memrchr(b'\n', window) {
                let last = start + newline as u64 + 1;
                let from = last.saturating_sub(crate::config::limits::PROOF_BYTES as u64);
                front.proof = vec![0; (last - from) as usize];
                read_all(os, &mut front.source, from, &mut front.proof)?;
                front.offset = last;
                return Ok(());
            }
            end = start;
        }
        Ok(())
    }

    /// The next bytes of the oldest incarnation into `buffer`, which is the agent's one read buffer: `wanted` of them, or
    /// what it takes to find the end of a line.
    pub fn read(&mut self, os: &O, buffer: &mut Vec<u8>, wanted: usize) -> io::Result<Chunk> {
        if !self.copies_due.is_empty() {
            self.check_held(os)?; // The last try failed.
        }
        let Some(front) = self.generations.front_mut() else {
            return Ok(Chunk::Quiet { rest: 0 });
        };
        let mut stat = front.source.stat(os)?;
        if front.is_plain() {
            if let Some(rest) = front.rest_behind_lines(Some(stat)) {
                return Ok(Chunk::Quiet { rest });
            }
            if stat.size < front.offset {
                return self.rewritten(os, stat);
            }
            if self.take_copies_before_first_line(os)? {
                return Ok(Chunk::Rewritten { lost: 0..0 });
            }
            // Before the first line is decided no read overlaps it, so its hash must tell that it is still there.
            let front = self.generations.front_mut().expect("copies only come before it");
            if front.offset == 0 && front.head.is_some() && front.source.head(os)? != front.head {
                self.check_held(os)?;
                return Ok(Chunk::Rewritten { lost: 0..0 });
            }
            if front.head.is_some_and(|head| stat.size < u64::from(head.bytes)) {
                stat = front.source.stat(os)?; // The first line came since.
            }
        } else if let Some(rest) = front.rest_behind_lines(None) {
            return Ok(Chunk::Quiet { rest });
        }
        let front = self.generations.front_mut().expect("copies only come before it");
        let chunk = front.fill(os, buffer, wanted, stat)?;
        match chunk {
            None => self.rewritten(os, stat),
            Some(chunk) => Ok(chunk),
        }
    }

    /// The bytes behind the last whole line of the oldest incarnation, if all of it was taken that was there at the last read.
    pub fn rest_at_end(&self) -> Option<u64> {
        self.front()?.rest_behind_lines(None)
    }

    /// Everything up to `offset` of the oldest incarnation is decided; `line` ends there.
    pub fn advance(&mut self, offset: u64, line: &[u8]) {
        let front = self.generations.front_mut().expect("what was read is still held");
        assert!(offset > front.offset, "an offset only grows");
        front.offset = offset;
        front.proof.clear();
        front.proof.extend_from_slice(proof(line));
    }

    /// The head of the oldest incarnation, read when it isn't known yet. A log that had no line when it was opened may
    /// have been copied and cut since: then the copy is the oldest.
    pub fn head(&mut self, os: &O) -> io::Result<Option<Fingerprint>> {
        let Some(front) = self.generations.front_mut() else {
            return Ok(None);
        };
        let head = front.learn_head(os)?;
        if head.is_some() && self.take_copies_before_first_line(os)? {
            return Ok(self.generations.front().and_then(|copy| copy.head));
        }
        Ok(head)
    }

    /// Whether a newer incarnation holds a whole record, which makes the end of the oldest one final.
    pub fn successor_is_filled(&mut self, os: &O) -> io::Result<bool> {
        // Any of them: one in between may hold nothing but a torn record, or what a power loss left.
        for next in self.generations.iter_mut().skip(1) {
            if next.learn_head(os)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Closes the oldest incarnation: it was read to its end.
    pub fn pass(&mut self, os: &O) -> io::Result<()> {
        self.take_oldest(os).map(drop)
    }

    /// Bytes that unlinked incarnations keep on the disk because they are held open.
    pub fn held_bytes(&self, os: &O) -> u64 {
        self.generations.iter().map(|generation| generation.held_bytes(os)).sum()
    }

    /// Bytes that were not read yet; compressed ones count as they stand.
    pub fn lag_bytes(&self, os: &O) -> u64 {
        let lag = |generation: &Generation<O>| {
            let size = generation.stat(os).map_or(0, |stat| stat.size);
            let read = if generation.is_compressed() { 0 } else { generation.offset };
            size.saturating_sub(read)
        };
        self.generations
            .iter()
            .filter(|generation| generation.end.is_none() || !generation.is_compressed())
            .map(lag)
            .sum()
    }

    /// The oldest incarnation if it is unlinked: the bytes it keeps on the disk, the range not read, and whether it is
    /// the only one.
    pub fn oldest_deleted(&self, os: &O) -> Option<(u64, Range<u64>, bool)> {
        let front = self.generations.front()?;
        let stat = front.stat(os).ok().filter(|stat| stat.links == 0)?;
        Some((stat.disk_bytes, front.offset..stat.size.max(front.offset), self.generations.len() == 1))
    }

    /// Bytes and number of the log's files in its directory.
    pub fn on_disk(&self, os: &O) -> (u64, u64) {
        let mut paths = vec![self.log()];
        for sibling in siblings(&self.id, &os.list(&self.directory).unwrap_or_default()) {
            paths.push(self.directory.join(sibling.file_name(&self.id)));
        }
        let sizes: Vec<u64> = paths.iter().filter_map(|path| os.stat(path).ok()).map(|stat| stat.size).collect();
        (sizes.iter().sum(), sizes.len() as u64)
    }

    /// Closes everything: the container is gone and drained, or its descriptors are needed elsewhere.
    pub fn close(&mut self) {
        let heads: Vec<_> = self.generations.drain(..).map(|generation| generation.head).collect();
        for head in heads {
            self.passed += 1;
            self.remember(head);
        }
    }

    pub(super) fn remember(&mut self, head: Option<Fingerprint>) {
        if let Some(head) = head {
            self.drained.retain(|known| *known != head);
            self.drained.push_back(head);
            if self.drained.len() > DRAINED_HEADS_MAX {
                self.drained.pop_front();
            }
        }
    }
}

impl<O: Os> Lineage<O> {
    /// The unterminated end of the oldest incarnation, at its offset. Call it when that end is final.
    pub fn rest(&mut self, os: &O, buffer: &mut Vec<u8>, rest: u64) -> io::Result<(u64, Range<usize>)> {
        let front = self.generations.front_mut().expect("there is a rest of something");
        let range = front.rest(os, buffer, rest)?;
        Ok((front.offset, range))
    }

    /// Passes over bytes that hold no line. `last`: the bytes before the new offset, for its proof.
    pub fn pass_over(&mut self, os: &O, offset: u64, bytes: u64) -> io::Result<()> {
        let front = self.generations.front_mut().expect("what was read is still held");
        assert!(front.offset == offset, "waste begins where the last line ended");
        let end = offset + bytes;
        let proof_bytes = bytes.min(64);
        let mut proof = vec![0; proof_bytes as usize];
        let read = front.source.read_at(os, end - proof_bytes, &mut proof)?;
        if read < proof.len() {
            return Err(ended_early());
        }
        front.proof = proof;
        front.offset = end;
        front.end = None;
        Ok(())
    }
}

pub(super) fn overtaken() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "it is rotated faster than its files can be opened")
}

/// Whether this file stands under the path, or none does if it is none.
pub(super) fn is_named<O: Os>(os: &O, path: &Path, id: Option<FileId>) -> io::Result<bool> {
    match os.stat(path) {
        Ok(stat) => Ok(Some(stat.id) == id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(id.is_none()),
        Err(error) => Err(error),
    }
}

/// An error is no answer: taken for a no, it would let the half-written compressed twin stand in for the plain file.
fn is_file<O: Os>(os: &O, path: &Path) -> io::Result<bool> {
    match os.stat(path) {
        Ok(stat) => Ok(stat.kind == Kind::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_if_there<O: Os>(os: &O, path: &Path) -> io::Result<Option<O::File>> {
    match os.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_all<O: Os>(os: &O, source: &mut Source<O>, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    if source.read_at(os, offset, buffer)? < buffer.len() { Err(ended_early()) } else { Ok(()) }
}
