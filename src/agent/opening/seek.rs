//! Finds an output's end in the log by its lines, where no rung tells it.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::{Aligned, Failed, Former, Opening, Source, gap, note_gap};
use crate::agent::container::{Container, Turn};
use crate::assemble::Unfinished;
use crate::batch::Batch;
use crate::checkpoint::{Epoch, Ladder, Row, Rung};
use crate::config::limits::{QUANTUM_BYTES, SEEK_LINES_MAX, STASH_BYTES_MAX};
use crate::hash::hash;
use crate::loss::Reason;
use crate::pipe::{Pipe, Tally};
use crate::shape::Shape;
use crate::sink::Place;
use crate::sink::align::{Earliest, OutputEnd, Part, Prefer, Repair};
use crate::sink::existing::segments;
use crate::sink::file::Output;
use crate::sink::journal::{Began, Note};
use crate::sys::Os;
use crate::tail::{Chunk, Fingerprint, Lineage};

/// How the output's end is to be sought.
pub(super) struct Seek<'a> {
    /// Under which its lines were written, the oldest first.
    pub epochs: Vec<Epoch>,
    /// Where the container's lines of this output begin in its log.
    pub began: Option<Began>,
    /// Incarnations that can't hold it.
    pub drained: &'a [Fingerprint],
    /// The container wrote to this output before.
    pub is_known: bool,
    /// Where they stand in this output among those of others, the latest first.
    pub parts: &'a [Part],
    /// All that its log has was in the latest of them, which retention removed.
    pub pruned: bool,
    /// Outputs that hold the lines before it began, the latest first.
    pub former: &'a [Former],
}

impl<O: Os> Opening<'_, O> {
    /// The state is lost: the output's journal tells what it can.
    pub(super) fn search(
        self,
        turn: &mut Turn<'_, O>,
        notes: &[&Note],
        parts: &[Part],
        pruned: bool,
        former: &[Former],
    ) -> Result<Aligned, Failed> {
        let mut epochs: Vec<Epoch> =
            notes.iter().map(|note| Epoch { shape: note.shape.clone(), from: note.place }).collect();
        epochs.sort_by_cached_key(|epoch| epoch.from);
        let began = notes.iter().rev().find_map(|note| note.began);
        self.seek(turn, Seek { epochs, began, drained: &[], is_known: !notes.is_empty(), parts, pruned, former })
    }

    /// Finds the output's end in the source by its lines.
    pub(super) fn seek(mut self, turn: &mut Turn<'_, O>, mut seek: Seek<'_>) -> Result<Aligned, Failed> {
        if seek.epochs.is_empty() {
            seek.epochs.push(Epoch { shape: self.container.shape.clone(), from: Place::default() });
        }
        let (sought, has_lines) = self.end_in_parts(turn, &seek)?;
        let Some((part, (found, end, prefer))) = sought else {
            return match seek.pruned {
                true => self.begin_behind_pruned(turn),
                false => self.begin_where(turn, seek, has_lines),
            };
        };
        if end.ambiguous && prefer == Prefer::LongestRun {
            let mut loss = gap(turn, self.container, Reason::Ambiguous);
            loss.detail = "the state was lost and the output's last lines occur more than once".to_owned();
            turn.losses.push(loss);
        }
        let Found { mut source, head, owed } = found;
        let heads: Vec<Option<Fingerprint>> = self.container.lineage.generations().map(|held| held.head).collect();
        if head.is_some() && heads.get(source.generation_ix) != Some(&head) {
            source.generation_ix = heads.iter().position(|held| *held == head).unwrap_or(0); // It was cut meanwhile.
        }
        self.container.began = seek.began;
        if part.end.is_some() {
            self.append_behind(turn, source, &owed, &seek.epochs)?; // Others wrote behind it since.
            return Ok(Aligned::Searched);
        }
        let (row, rung) = found_again(self.container, seek.epochs, end.whole, head, &source, owed);
        self.replay(turn, &row, &rung, source, Repair::Never)?;
        Ok(Aligned::Searched)
    }

    /// The record of the log that the container's latest part of its output ends with, and that part.
    fn end_in_parts(&self, turn: &Turn<'_, O>, seek: &Seek<'_>) -> Result<(Option<(Part, FoundEnd)>, bool), Failed> {
        let mut has_lines = false;
        // Where the parts are may be wrong: somebody may have put another file in the output's place. Without times lines
        // of others could be taken for ours then.
        let has_times = seek.epochs.iter().all(|epoch| epoch.shape.formatter.has_time());
        let whole = (has_times || seek.parts.is_empty()).then_some(Part::WHOLE);
        // If all parts are there, and none has a line, lines are those of others.
        let may_be_ours = seek.parts.is_empty() || {
            let segments =
                segments(turn.os, self.output.path(), self.output.place().segment).map_err(Failed::Output)?;
            let oldest = segments.first().map_or(0, |segment| segment.number);
            seek.parts.iter().any(|part| part.start.segment < oldest)
        };
        for part in seek.parts.iter().chain(&whole) {
            let (found, has) = self.end_in_log(turn, seek, &self.output, *part, &seek.epochs)?;
            has_lines |= has && (*part != Part::WHOLE || may_be_ours);
            if let Some(found) = found {
                return Ok((Some((*part, found)), true));
            }
        }
        Ok((None, has_lines))
    }

    /// The record of the log that a part of an output ends with, and whether that has any whole line.
    fn end_in_log(
        &self,
        turn: &Turn<'_, O>,
        seek: &Seek<'_>,
        output: &Output<O>,
        part: Part,
        epochs: &[Epoch],
    ) -> Result<(Option<FoundEnd>, bool), Failed> {
        let mut shapes: Vec<&Arc<Shape>> = epochs.iter().rev().map(|epoch| &epoch.shape).collect();
        shapes.dedup();
        for shape in shapes {
            let prefer = if shape.formatter.has_time() { Prefer::Latest } else { Prefer::LongestRun };
            let Some(mut end) = OutputEnd::read(turn.os, output, part, prefer).map_err(Failed::Output)? else {
                return Ok((None, false));
            };
            tracing::info!(container = %self.container.facts.metadata.name, "searching the output's end in the log");
            let mut scanned = self.container.lineage.reread(turn.os).map_err(Failed::Source)?;
            let from = begin_scan(turn.os, &mut scanned, seek).map_err(Failed::Source)?;
            let pipe = Pipe::new(shape.clone(), Unfinished::default(), None);
            let mut seen = |batch: &Batch| match observe(batch, &mut end) {
                Some(owed) => Seen::Here(owed),
                None => Seen::Nothing,
            };
            if let Some(found) = scan(turn, &mut scanned, from, pipe, &mut seen).map_err(Failed::Source)?.found {
                return Ok((Some((found, end, prefer)), true));
            }
        }
        Ok((None, true))
    }

    /// Where the container's lines of this output begin, when the log lost the bytes that tell it: behind those that an
    /// earlier output has.
    fn behind_former(&self, turn: &Turn<'_, O>, seek: &Seek<'_>) -> Result<Option<Found>, Failed> {
        for former in seek.former.iter().filter(|former| former.epochs.iter().all(|e| e.shape.formatter.has_time())) {
            let output = Output::find(turn.os, &former.path, 0, 0, 1).map_err(Failed::Output)?;
            if let (Some((found, ..)), _) = self.end_in_log(turn, seek, &output, Part::WHOLE, &former.epochs)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// No whole line of the output is in the log: it goes on from the container's first position, or the oldest
    /// incarnation that wasn't read. The output's last line may be the beginning of one there.
    fn begin_where(mut self, turn: &mut Turn<'_, O>, seek: Seek<'_>, has_lines: bool) -> Result<Aligned, Failed> {
        let torn = torn_line(turn.os, &self.output).map_err(Failed::Output)?;
        let first = first_sought(turn.os, &mut self.container.lineage, &seek).map_err(Failed::Source)?;
        let mut is_first = false;
        let mut unfinished = Unfinished::default();
        // Most have nothing that could tell: they are new, and not read twice.
        let epochs = if torn.is_some() || first.generation_ix > 0 { &seek.epochs[..] } else { &[] };
        for epoch in epochs {
            let (record, open) = self.first_record(turn, &seek, &epoch.shape)?;
            is_first |= record.zip(torn.as_ref()).is_some_and(|(record, torn)| record.starts_with(torn));
            unfinished = open;
        }
        let behind = match seek.former.is_empty() || is_first {
            true => None,
            false => self.behind_former(turn, &seek)?,
        };
        let head = self.container.lineage.generations().nth(first.generation_ix).and_then(|held| held.head);
        self.container.began = seek.began;
        let is_gap = seek.is_known && has_lines && !is_first;
        if is_gap {
            note_gap(turn, self.container);
        }
        let aligned = match (is_gap, is_first) {
            (true, _) => Aligned::Gap,
            (false, true) => Aligned::Searched,
            (false, false) => Aligned::Fresh,
        };
        let source = Source { unfinished, ..first };
        let Found { source, head, owed } = behind.unwrap_or(Found { source, head, owed: Vec::new() });
        let Some(torn) = torn else {
            self.append_behind(turn, source, &owed, &seek.epochs)?;
            return Ok(aligned);
        };
        let end = self.output.place();
        let place = Place { segment: end.segment, offset: end.offset - torn.len() as u64 };
        let (row, rung) = found_again(self.container, seek.epochs, place, head, &source, owed);
        self.replay(turn, &row, &rung, source, Repair::Never)?;
        Ok(aligned)
    }

    /// All lines of its log were in the output, and went with the segments that retention removed.
    fn begin_behind_pruned(self, turn: &mut Turn<'_, O>) -> Result<Aligned, Failed> {
        let mut loss = gap(turn, self.container, Reason::Ambiguous);
        loss.detail =
            "the state was lost and retention removed what the container wrote: its log counts as delivered".to_owned();
        turn.losses.push(loss);
        self.container.lineage.begin_at_end(turn.os).map_err(Failed::Source)?;
        self.container.began = Some(self.container.standing(turn.os).map_err(Failed::Source)?);
        self.append_from(turn, Unfinished::default(), &[])?;
        Ok(Aligned::Searched)
    }

    /// What is owed, and what the log has from a place on, goes behind all that the output has.
    fn append_behind(
        self,
        turn: &mut Turn<'_, O>,
        source: Source,
        owed: &[u8],
        epochs: &[Epoch],
    ) -> Result<(), Failed> {
        let lineage = &mut self.container.lineage;
        lineage.begin_at(turn.os, source.generation_ix, source.offset, source.tail).map_err(Failed::Source)?;
        let Opening { container, at, output, until_ns } = self;
        Opening { container: &mut *container, at, output, until_ns }.append_from(turn, source.unfinished, epochs)?;
        container.batch.extend_lines(owed);
        Ok(())
    }

    /// Where the first of the lines stands that the log has from an incarnation on, in any shape.
    pub(super) fn earliest_line(
        &self,
        turn: &Turn<'_, O>,
        row: &Row,
        generation_ix: usize,
    ) -> Result<Earliest, Failed> {
        let mut lines = HashSet::new();
        for epoch in &row.ladder.epochs {
            let mut scanned = self.container.lineage.reread(turn.os).map_err(Failed::Source)?;
            scanned.begin_at(turn.os, generation_ix, 0, None).map_err(Failed::Source)?;
            let pipe = Pipe::new(epoch.shape.clone(), Unfinished::default(), None);
            let mut seen = |batch: &Batch| {
                lines.extend(batch.records().map(hash));
                if lines.len() < SEEK_LINES_MAX { Seen::Nothing } else { Seen::Enough }
            };
            scan(turn, &mut scanned, 0, pipe, &mut seen).map_err(Failed::Source)?;
        }
        Earliest::of(turn.os, &self.output, &lines).map_err(Failed::Output)
    }

    /// The first record that the log has, and the line that is open where it is first read.
    fn first_record(
        &self,
        turn: &Turn<'_, O>,
        seek: &Seek<'_>,
        shape: &Arc<Shape>,
    ) -> Result<(Option<Vec<u8>>, Unfinished), Failed> {
        let mut scanned = self.container.lineage.reread(turn.os).map_err(Failed::Source)?;
        let from = begin_scan(turn.os, &mut scanned, seek).map_err(Failed::Source)?;
        let pipe = Pipe::new(shape.clone(), Unfinished::default(), None);
        let mut first = None;
        let mut seen = |batch: &Batch| match batch.records().next() {
            Some(record) => {
                first = Some(record.to_vec());
                Seen::Enough
            }
            None => Seen::Nothing,
        };
        let open = scan(turn, &mut scanned, from, pipe, &mut seen).map_err(Failed::Source)?.open;
        Ok((first, open))
    }
}

/// A row and its rung as they would be, had they not been lost.
fn found_again<O: Os>(
    container: &Container<O>,
    epochs: Vec<Epoch>,
    place: Place,
    head: Option<Fingerprint>,
    source: &Source,
    owed: Vec<u8>,
) -> (Row, Rung) {
    let rung = Rung {
        at_ms: 0,
        head,
        offset: source.offset,
        tail: source.tail,
        unfinished: source.unfinished.clone(),
        place,
        owed,
        owed_mid_record: false,
        synced: false,
    };
    let row = Row {
        id: container.id.clone(),
        name: String::new(),
        route: container.route.clone(),
        sequence: 0,
        boot: String::new(),
        ladder: Ladder { epochs, rungs: Vec::new() },
        drained: Vec::new(),
        absent_since_ns: None,
    };
    (row, rung)
}

/// What the output has behind its last newline; nothing when that is longer than any record.
fn torn_line<O: Os>(os: &O, output: &Output<O>) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = output.file() else {
        return Ok(None);
    };
    let end = output.place().offset;
    let mut wanted = 4096;
    loop {
        let n_bytes = end.min(wanted);
        let mut bytes = vec![0; n_bytes as usize];
        if os.read_at(file, end - n_bytes, &mut bytes)? < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a read ended before the file does"));
        }
        match memchr::memrchr(b'\n', &bytes) {
            Some(newline) => bytes.drain(..=newline),
            None if n_bytes == end => bytes.drain(..0),
            None if wanted > STASH_BYTES_MAX as u64 => return Ok(None),
            None => {
                wanted *= 8;
                continue;
            }
        };
        return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
    }
}

/// Where the container's lines of the output begin in the log, as far as that is known and there.
fn began_at<O: Os>(os: &O, lineage: &mut Lineage<O>, seek: &Seek<'_>) -> io::Result<Option<Source>> {
    let Some(began) = seek.began.filter(|began| began.head.is_some()) else { return Ok(None) };
    let held = lineage.generations_mut().enumerate().find(|(_, held)| held.head == began.head);
    let Some((generation_ix, generation)) = held else { return Ok(None) };
    let is_there = generation.is_compressed() || generation.stat(os)?.size >= began.offset;
    // If the engine lost the bytes before it, rather too many lines than too few.
    let (offset, tail) = match is_there && generation.proves(os, began.offset, began.tail)? {
        true => (began.offset, began.tail),
        false => (0, None),
    };
    Ok(Some(Source { generation_ix, offset, tail, unfinished: Unfinished::default() }))
}

/// The oldest incarnation that wasn't read.
fn first_unread<O: Os>(lineage: &Lineage<O>, seek: &Seek<'_>) -> usize {
    let read = |head: Option<Fingerprint>| head.is_some_and(|head| seek.drained.contains(&head));
    lineage.generations().position(|held| !read(held.head)).unwrap_or(0)
}

/// Where the first line may stand that is sought.
fn first_sought<O: Os>(os: &O, lineage: &mut Lineage<O>, seek: &Seek<'_>) -> io::Result<Source> {
    if let Some(began) = began_at(os, lineage, seek)? {
        return Ok(began);
    }
    let generation_ix = first_unread(lineage, seek);
    Ok(Source { generation_ix, offset: 0, tail: None, unfinished: Unfinished::default() })
}

/// Goes to where lines are sought from, or farther back: its first line may have begun in an incarnation that was read.
/// Tells how many are only read for that.
fn begin_scan<O: Os>(os: &O, lineage: &mut Lineage<O>, seek: &Seek<'_>) -> io::Result<usize> {
    if let Some(began) = began_at(os, lineage, seek)? {
        lineage.begin_at(os, began.generation_ix, began.offset, began.tail)?;
        return Ok(began.generation_ix);
    }
    lineage.begin_at(os, 0, 0, None)?;
    Ok(first_unread(lineage, seek))
}

/// A place in the source behind a record that the output has.
struct Found {
    source: Source,
    head: Option<Fingerprint>,
    /// Records that came with that one and may not be in the output.
    owed: Vec<u8>,
}

/// The place in the log, and what it was found by.
type FoundEnd = (Found, OutputEnd, Prefer);

/// What the records of one source line tell.
enum Seen {
    Nothing,
    /// The best place so far is behind them; all of them that follow it.
    Here(Vec<u8>),
    Enough,
}

/// What rendering a log told.
struct Scanned {
    found: Option<Found>,
    /// The line that was open where records were shown first.
    open: Unfinished,
}

/// Renders the whole log once, without writing, and shows the records of each line from an incarnation on.
fn scan<O: Os>(
    turn: &Turn<'_, O>,
    lineage: &mut Lineage<O>,
    from: usize,
    mut pipe: Pipe,
    see: &mut dyn FnMut(&Batch) -> Seen,
) -> io::Result<Scanned> {
    let mut buffer = Vec::new();
    let mut batch = Batch::default();
    let mut scanned = Scanned { found: None, open: Unfinished::default() };
    loop {
        let (offset, bytes, is_rest) = match lineage.read(turn.os, &mut buffer, QUANTUM_BYTES)? {
            Chunk::Lines { offset, bytes } => (offset, bytes, false),
            Chunk::Quiet { rest } => {
                let (offset, bytes) = if rest > 0 { lineage.rest(turn.os, &mut buffer, rest)? } else { (0, 0..0) };
                (offset, bytes, true)
            }
            Chunk::Waste { offset, bytes, .. } => {
                lineage.pass_over(turn.os, offset, bytes)?;
                continue;
            }
            Chunk::Rewritten { .. } => continue,
        };
        let head = lineage.head(turn.os)?;
        let generation_ix = lineage.passed() as usize;
        let text = &buffer[bytes];
        let mut start = 0;
        // A power loss may have taken no more of the last record than its newline.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len();
            let record = line.strip_suffix(b"\n").unwrap_or(line);
            pipe.line(record, offset + start as u64, &mut batch, &mut Tally::default());
            let seen = if generation_ix >= from { see(&batch) } else { Seen::Nothing };
            match seen {
                Seen::Nothing => {}
                Seen::Here(owed) => {
                    let tail = Some(Fingerprint::of(crate::tail::identity::proof(line)));
                    let unfinished = pipe.assembler.unfinished().clone();
                    let offset = offset + end as u64;
                    let source = Source { generation_ix, offset, tail, unfinished };
                    scanned.found = Some(Found { source, head, owed });
                }
                Seen::Enough => return Ok(scanned),
            }
            batch.clear();
            start = end;
            if !is_rest {
                lineage.advance(offset + start as u64, line);
            }
        }
        match is_rest {
            true if lineage.len() > 1 => {
                lineage.pass(turn.os)?;
                if lineage.passed() as usize == from {
                    scanned.open = pipe.assembler.unfinished().clone();
                }
            }
            true => return Ok(scanned),
            false => {}
        }
    }
}

/// Holds the records of one source line against the output's end. If one of them is the best match so far: the records
/// behind it.
fn observe(batch: &Batch, end: &mut OutputEnd) -> Option<Vec<u8>> {
    let mut owed = None;
    for record in batch.records() {
        let mut best = false;
        for line in record.split_inclusive(|byte| *byte == b'\n') {
            best = end.observe(line);
        }
        if best {
            owed = Some(Vec::new());
        } else if let Some(owed) = &mut owed {
            owed.extend_from_slice(record);
        }
    }
    owed
}
