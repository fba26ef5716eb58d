//! Reads what an output holds already, from a place to its end, through rotated and compressed segments.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::sink::Place;
use crate::sink::rolling::{Form, Segments, segment_path};
use crate::sys::Os;

/// A segment as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub form: Form,
}

/// The segments of an output from the oldest to the current one, which has the number `current`.
pub fn segments<O: Os>(os: &O, path: &Path, current: u64) -> io::Result<Vec<Segment>> {
    let directory = path.parent().expect("an output lies in a directory");
    let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let names = match os.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let rotated = Segments::among(stem, &names).forms;
    let mut segments: Vec<Segment> = rotated
        .into_iter()
        .filter_map(|(number, forms)| {
            let form = *forms.first()?;
            Some(Segment { number, path: segment_path(path, number, form), form })
        })
        .collect();
    if names.iter().any(|name| name.to_str() == Some(stem)) {
        segments.push(Segment { number: current, path: path.to_owned(), form: Form::Plain });
    }
    Ok(segments)
}

/// A reader over one segment's uncompressed text.
pub fn open_segment<O: Os>(os: &O, segment: &Segment, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let plain = FileReader { os: os.clone(), file: os.open(&segment.path)?, position: 0 };
    let mut reader: Box<dyn Read + Send> = match segment.form {
        Form::Plain => return Ok(Box::new(FileReader { position: offset, ..plain })),
        Form::Gzip => Box::new(flate2::read::MultiGzDecoder::new(plain)),
        Form::Zstd => Box::new(zstd::stream::read::Decoder::new(plain)?),
    };
    io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
    Ok(reader)
}

struct FileReader<O: Os> {
    os: O,
    file: O::File,
    position: u64,
}

impl<O: Os> Read for FileReader<O> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.os.read_at(&self.file, self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// The text from a place on. No line lies in two segments, so neither does what is peeked at.
pub struct Existing<O: Os> {
    os: O,
    /// The path of the current file.
    path: PathBuf,
    later: VecDeque<Segment>,
    reader: Option<Box<dyn Read + Send>>,
    buffer: Vec<u8>,
    /// `buffer[start..]` is not consumed yet, and stands at `place`.
    start: usize,
    place: Place,
    segment_ended: bool,
}

const READ_STEP: usize = 64 * 1024;

impl<O: Os> Existing<O> {
    /// From `place` on; `None` when the segment it lies in is not there.
    pub fn open(os: &O, path: &Path, current: u64, place: Place) -> io::Result<Option<Existing<O>>> {
        let mut later: VecDeque<Segment> = segments(os, path, current)?.into();
        later.retain(|segment| segment.number >= place.segment);
        let there = later.front().is_some_and(|segment| segment.number == place.segment);
        if !there && place.offset > 0 {
            return Ok(None);
        }
        let mut existing = Existing {
            os: os.clone(),
            path: path.to_owned(),
            later,
            reader: None,
            buffer: Vec::new(),
            start: 0,
            place,
            segment_ended: true,
        };
        if there {
            existing.next_segment(place.offset)?;
        }
        Ok(Some(existing))
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Up to `wanted` bytes; fewer when the segment ends; none at the end of the output.
    pub fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        loop {
            self.fill(wanted)?;
            if self.start < self.buffer.len() || self.later.is_empty() {
                break;
            }
            self.next_segment(0)?;
        }
        let end = self.buffer.len().min(self.start + wanted);
        Ok(&self.buffer[self.start..end])
    }

    pub fn consume(&mut self, n_bytes: usize) {
        assert!(self.start + n_bytes <= self.buffer.len(), "only what was peeked at is consumed");
        self.start += n_bytes;
        self.place.offset += n_bytes as u64;
    }

    /// Whether nothing follows.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while !self.segment_ended && self.buffer.len() - self.start < wanted {
            if self.start > 4 * READ_STEP {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + READ_STEP, 0);
            let reader = self.reader.as_mut().expect("a segment that hasn't ended is open");
            let read = reader.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                self.segment_ended = true;
            }
        }
        Ok(())
    }

    fn look_again(&mut self, number: u64) -> io::Result<()> {
        let current = self.later.back().map_or(number, |last| last.number);
        let mut later: VecDeque<Segment> = segments(&self.os, &self.path, current)?.into();
        later.retain(|segment| segment.number >= number);
        self.later = later;
        Ok(())
    }

    fn next_segment(&mut self, offset: u64) -> io::Result<()> {
        let segment = self.later.front().cloned().expect("asked for only when there is one");
        let opened = match open_segment(&self.os, &segment, offset) {
            // It was compressed meanwhile, or pruned: look again how it stands.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.look_again(segment.number)?;
                return Ok(());
            }
            other => other?,
        };
        self.later.pop_front();
        self.reader = Some(opened);
        self.place = Place { segment: segment.number, offset };
        self.segment_ended = false;
        self.buffer.clear();
        self.start = 0;
        Ok(())
    }
}
