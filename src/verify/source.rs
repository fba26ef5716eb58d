//! What the engine still has of one log: its generations opened once, oldest first, and read as messages.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

use crate::config::limits::LINE_BYTES_MAX;
use crate::discover::listing::{log_file_name, places};
use crate::sys::unix::Unix;
use crate::sys::{FileId, Os};
use crate::tail::Fingerprint;
use crate::verify::decode::{Part, decode};
use crate::verify::join::{Joiner, Message, Spot};
use crate::verify::lines::{FileReader, Got, Lines, Nuls};

/// One file of the log, held open: what it is called may change while we read.
pub struct Generation {
    pub file_name: String,
    file: <Unix as Os>::File,
    id: FileId,
    compressed: bool,
    /// When it was opened; what comes later is not looked at.
    size: u64,
    pub head: Option<Fingerprint>,
}

impl Generation {
    fn open(directory: &Path, file_name: String, compressed: bool) -> io::Result<Option<Generation>> {
        let file = match Unix.open(&directory.join(&file_name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = Unix.stat_open(&file)?;
        let mut generation = Generation { file_name, file, id: stat.id, compressed, size: stat.size, head: None };
        generation.head = generation.first_line()?;
        Ok(Some(generation))
    }

    fn lines(&self, offset: u64) -> io::Result<Lines> {
        let position = if self.compressed { 0 } else { offset };
        let plain = FileReader { file: self.file.clone(), position, end: self.size };
        if !self.compressed {
            return Ok(Lines::new(Box::new(plain), offset, LINE_BYTES_MAX, Nuls::Apart));
        }
        let mut inflated = MultiGzDecoder::new(plain);
        if offset > 0 {
            // Damage in what was read before shows again when reading on.
            let _ = io::copy(&mut io::Read::take(&mut inflated, offset), &mut io::sink());
        }
        Ok(Lines::new(Box::new(inflated), offset, LINE_BYTES_MAX, Nuls::Apart))
    }

    /// What the checkpoint calls a generation's head: the hash of its first whole line.
    fn first_line(&self) -> io::Result<Option<Fingerprint>> {
        let mut lines = self.lines(0)?;
        loop {
            match lines.next()? {
                Got::Nuls { .. } => {}
                Got::Line { whole: true, .. } => {
                    let mut line = lines.text().to_vec();
                    line.push(b'\n');
                    line.truncate(LINE_BYTES_MAX);
                    return Ok(Some(Fingerprint::of(&line)));
                }
                _ => return Ok(None),
            }
        }
    }
}

/// How often a listing is begun again when rotations overtake it.
const WALKS_MAX: usize = 8;

/// The generations of a log, oldest first. Empty: there is no log.
pub fn generations(directory: &Path, id: &str) -> io::Result<Vec<Generation>> {
    let current = directory.join(log_file_name(id));
    for _ in 0..WALKS_MAX {
        let before = id_of(&current)?;
        let found = walk(directory, id)?;
        if id_of(&current)? == before {
            return Ok(found);
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "it is rotated faster than its files can be opened"))
}

fn id_of(path: &Path) -> io::Result<Option<FileId>> {
    match Unix.stat(path) {
        Ok(stat) => Ok(Some(stat.id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// From the current file down to the oldest: a rotation on the way shows one twice but hides none; a second one may show
/// a newer one behind an older one.
fn walk(directory: &Path, id: &str) -> io::Result<Vec<Generation>> {
    let mut found: Vec<Generation> = Vec::new();
    let mut numbers = Vec::new();
    let is_new = |found: &[Generation], next: &Generation| {
        !found.iter().any(|known| known.id == next.id || known.head.is_some() && known.head == next.head)
    };
    found.extend(Generation::open(directory, log_file_name(id), false)?);
    for sibling in places(id, &Unix.list(directory)?) {
        if numbers.contains(&sibling.number) {
            continue; // The compressed twin of a plain one may be half there.
        }
        let plain = log_file_name(id) + &format!(".{}", sibling.number);
        let gzip = format!("{plain}.gz");
        let first = if sibling.compressed { (&gzip, true) } else { (&plain, false) };
        let second = if sibling.compressed { (&plain, false) } else { (&gzip, true) };
        for (file_name, compressed) in [first, second] {
            if let Some(generation) = Generation::open(directory, file_name.clone(), compressed)? {
                numbers.push(sibling.number);
                if is_new(&found, &generation) {
                    found.push(generation);
                }
                break;
            }
        }
    }
    found.reverse();
    Ok(found)
}

/// What comes next from a log.
#[derive(Clone)]
pub enum Event {
    Message(Rc<Message>),
    /// Something stood here that can't be read; the output may have it from before.
    Hole,
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Lines before the place where the container began (`--from end`).
    pub before_begin: u64,
    /// Parts of lines that are no entry.
    pub malformed: u64,
    pub malformed_bytes: u64,
    pub nul_bytes: u64,
    /// Bytes behind the last newline.
    pub rest_bytes: u64,
    /// A compressed generation that ends early.
    pub damaged: Vec<String>,
}

/// A log read from its oldest generation to its end, as messages.
pub struct Messages {
    generations: Rc<Vec<Generation>>,
    /// Where the container began.
    began: Spot,
    ix: usize,
    lines: Option<Lines>,
    joiner: Joiner,
    ready: VecDeque<Event>,
    finished: bool,
    pub counts: Counts,
}

impl Messages {
    pub fn new(generations: Rc<Vec<Generation>>, joiner: Joiner, began: Spot) -> Messages {
        Messages {
            generations,
            began,
            ix: 0,
            lines: None,
            joiner,
            ready: VecDeque::new(),
            finished: false,
            counts: Counts::default(),
        }
    }

    /// Another reader that goes on from the same place.
    pub fn fork(&self) -> io::Result<Messages> {
        let lines = match (&self.lines, self.generations.get(self.ix)) {
            (Some(lines), Some(generation)) => Some(generation.lines(lines.offset())?),
            _ => None,
        };
        Ok(Messages {
            generations: self.generations.clone(),
            began: self.began,
            ix: self.ix,
            lines,
            joiner: self.joiner.clone(),
            ready: self.ready.clone(),
            finished: self.finished,
            counts: Counts::default(),
        })
    }

    pub fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.finished {
                return Ok(None);
            }
            self.read_on()?;
        }
    }

    fn read_on(&mut self) -> io::Result<()> {
        let generations = self.generations.clone();
        let Some(generation) = generations.get(self.ix) else {
            let ready = &mut self.ready;
            self.joiner.finish(&mut |message| ready.push_back(Event::Message(message)));
            self.finished = true;
            return Ok(());
        };
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => self.lines.insert(generation.lines(0)?),
        };
        match lines.next()? {
            Got::Nuls { bytes, .. } => {
                self.counts.nul_bytes += bytes;
                self.ready.push_back(Event::Hole);
            }
            Got::Long { bytes, .. } => {
                self.counts.malformed += 1;
                self.counts.malformed_bytes += bytes;
                self.ready.push_back(Event::Hole);
            }
            Got::Line { offset, whole } => {
                let is_last = self.ix + 1 == generations.len();
                if !whole && is_last {
                    self.counts.rest_bytes = lines.text().len() as u64; // A record that is being written.
                } else {
                    self.line(offset);
                }
            }
            Got::End => {
                if let Some(damage) = lines.damage.take() {
                    self.counts.damaged.push(format!("{}: {damage}", generation.file_name));
                    self.ready.push_back(Event::Hole);
                }
                self.lines = None;
                self.ix += 1;
            }
        }
        Ok(())
    }

    fn line(&mut self, offset: u64) {
        let Some(lines) = &self.lines else { return };
        if (self.ix, offset) < (self.began.generation, self.began.start) {
            self.counts.before_begin += 1;
            return;
        }
        let line = lines.text();
        let spot = Spot { generation: self.ix, start: offset, end: lines.offset() };
        let (ready, joiner, counts) = (&mut self.ready, &mut self.joiner, &mut self.counts);
        decode(line, &mut |part| match part {
            Part::Entry(entry) => {
                joiner.push(entry, line, spot, &mut |message| ready.push_back(Event::Message(message)))
            }
            Part::Waste { range, nul } => {
                if nul {
                    counts.nul_bytes += range.len() as u64;
                } else {
                    counts.malformed += 1;
                    counts.malformed_bytes += range.len() as u64;
                }
                ready.push_back(Event::Hole);
            }
        });
    }
}
