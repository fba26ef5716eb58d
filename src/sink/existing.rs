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
    /// Not opened yet.
    later: VecDeque<Segment>,
    reader: Option<Box<dyn Read + Send>>,
    buffer: Vec<u8>,
    /// `buffer[start..]` is not consumed yet, and stands at `place`.
    start: usize,
    place: Place,
    /// Where in `buffer` later segments begin.
    joints: VecDeque<Joint>,
    /// The segment that was opened last is in `buffer` to its end.
    segment_ended: bool,
    /// What stands from here on isn't looked at.
    until: Option<Place>,
}

struct Joint {
    at: usize,
    segment: u64,
}

/// Whether anything in the segment stands before `until`.
fn is_before(segment: &Segment, until: Option<Place>) -> bool {
    until.is_none_or(|until| Place { segment: segment.number, offset: 0 } < until)
}

const READ_STEP: usize = 64 * 1024;

impl<O: Os> Existing<O> {
    /// From `place` on, up to `until`; `None` when the segment it lies in is not there.
    pub fn open(
        os: &O,
        path: &Path,
        current: u64,
        place: Place,
        until: Option<Place>,
    ) -> io::Result<Option<Existing<O>>> {
        let mut later: VecDeque<Segment> = segments(os, path, current)?.into();
        later.retain(|segment| segment.number >= place.segment && is_before(segment, until));
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
            joints: VecDeque::new(),
            segment_ended: true,
            until,
        };
        if there && existing.open_next(place.offset)? {
            existing.joints.clear(); // It is the one that `place` is in.
        }
        Ok(Some(existing))
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Up to `wanted` bytes; fewer when the segment ends; none at the end of the output.
    pub fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        loop {
            if self.joints.is_empty() {
                self.fill(wanted)?;
            }
            if self.start < self.segment_end() {
                break;
            }
            if let Some(joint) = self.joints.pop_front() {
                self.place = Place { segment: joint.segment, offset: 0 };
            } else if self.later.is_empty() {
                break;
            } else {
                self.open_next(0)?;
            }
        }
        let end = self.segment_end().min(self.start + wanted);
        Ok(&self.buffer[self.start..end])
    }

    /// Up to `wanted` bytes, a piece for each segment; fewer when the output ends.
    pub fn look_ahead(&mut self, wanted: usize) -> io::Result<Vec<&[u8]>> {
        self.fill(wanted)?;
        while self.buffer.len() - self.start < wanted && !self.later.is_empty() {
            self.open_next(0)?;
            self.fill(wanted)?;
        }
        let end = self.buffer.len().min(self.start + wanted);
        let joints = self.joints.iter().map(|joint| joint.at).take_while(|at| *at < end);
        let bounds: Vec<usize> = std::iter::once(self.start).chain(joints).chain([end]).collect();
        Ok(bounds.windows(2).map(|pair| &self.buffer[pair[0]..pair[1]]).collect())
    }

    pub fn consume(&mut self, n_bytes: usize) {
        assert!(self.start + n_bytes <= self.buffer.len(), "only what was looked at is consumed");
        self.start += n_bytes;
        self.place.offset += n_bytes as u64;
        while let Some(joint) = self.joints.pop_front_if(|joint| joint.at < self.start) {
            self.place = Place { segment: joint.segment, offset: (self.start - joint.at) as u64 };
        }
    }

    /// Whether nothing follows.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }

    fn segment_end(&self) -> usize {
        self.joints.front().map_or(self.buffer.len(), |joint| joint.at)
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while !self.segment_ended && self.buffer.len() - self.start < wanted {
            if self.start > 4 * READ_STEP {
                self.buffer.drain(..self.start);
                self.joints.iter_mut().for_each(|joint| joint.at -= self.start);
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
        later.retain(|segment| segment.number >= number && is_before(segment, self.until));
        self.later = later;
        Ok(())
    }

    /// Its text follows what is in the buffer. False: it is not there any more.
    fn open_next(&mut self, offset: u64) -> io::Result<bool> {
        let segment = self.later.front().cloned().expect("asked for only when there is one");
        let opened = match open_segment(&self.os, &segment, offset) {
            // It was compressed meanwhile, or pruned: look again how it stands.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.look_again(segment.number)?;
                return Ok(false);
            }
            other => other?,
        };
        self.later.pop_front();
        let limit = self.until.filter(|until| until.segment == segment.number);
        self.reader = Some(match limit {
            Some(until) => Box::new(opened.take(until.offset.saturating_sub(offset))),
            None => opened,
        });
        self.joints.push_back(Joint { at: self.buffer.len(), segment: segment.number });
        self.segment_ended = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
