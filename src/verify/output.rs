//! What an output holds of one container: its ranges one after the other, through rotated and compressed segments.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sink::Place;
use crate::sink::rolling::{Form, Segments, segment_path};
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::verify::lines::{FileReader, Got, Lines, Nuls};
use crate::verify::owners::Range;

/// A longer line is taken in parts. The longest of ours is a 4 MiB text of escapes in JSON.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The current file is looked for again when it was rotated meanwhile.
const LOOKS_MAX: usize = 64;

/// One output as it stood when the audit looked.
pub struct Output {
    path: PathBuf,
    /// Numbers of rotated segments.
    rotated: Vec<u64>,
    /// The newest one that retention removed, where that was noted.
    pruned_through: Option<u64>,
    /// The current file: its descriptor, its number and where it ended.
    current: Option<(<Unix as Os>::File, u64, u64)>,
}

impl Output {
    /// `segment_min`: numbers below it were given out.
    pub fn look(log_path: &Path, route: &str, segment_min: u64) -> io::Result<Output> {
        let path = log_path.join(route);
        for _ in 0..LOOKS_MAX {
            if let Some(output) = Output::try_look(&path, segment_min)? {
                return Ok(output);
            }
        }
        Err(io::Error::other("it is rotated faster than it can be looked at"))
    }

    fn try_look(path: &Path, segment_min: u64) -> io::Result<Option<Output>> {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let file = match Unix.open(path) {
            Ok(file) => Some(file),
            Err(error) if missing(&error) => None,
            Err(error) => return Err(error),
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        let names = match Unix.list(directory) {
            Ok(names) => names,
            Err(error) if missing(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let rotated: Vec<u64> = Segments::among(stem, &names).forms.keys().copied().collect();
        let number = segment_min.max(rotated.last().map_or(1, |newest| newest + 1));
        let Some(file) = file else {
            return Ok(Some(Output { path: path.to_owned(), rotated, pruned_through: None, current: None }));
        };
        let stat = Unix.stat_open(&file)?;
        // Renamed between the open and the listing: it has a number by now.
        let same = Unix.stat(path).is_ok_and(|now| now.id == stat.id);
        Ok(same.then(|| Output {
            path: path.to_owned(),
            rotated,
            pruned_through: None,
            current: Some((file, number, stat.size)),
        }))
    }

    /// What retention noted, to be read after the look: it notes before it removes.
    pub fn set_pruned(&mut self, through: Option<u64>) {
        self.pruned_through = through;
    }

    /// Whether retention may have taken the segments from this one on. Where others went as well, nobody can say which
    /// lines were in whose, and all of them count as missing.
    fn is_pruned_from(&self, number: u64) -> bool {
        let Some(oldest) = self.oldest().filter(|oldest| number < *oldest) else {
            return false; // Without any file it is somebody else's doing.
        };
        self.pruned_through.is_none_or(|through| through + 1 >= oldest)
    }

    /// The oldest segment that is there.
    pub fn oldest(&self) -> Option<u64> {
        self.rotated.first().copied().or(self.current.as_ref().map(|(_, number, _)| *number))
    }

    /// The first segment at or after `number`.
    fn segment_from(&self, number: u64) -> Option<u64> {
        let current = self.current.as_ref().map(|(_, number, _)| *number);
        self.rotated.iter().copied().chain(current).find(|there| *there >= number)
    }

    /// `None`: it was pruned since we looked.
    fn open(&self, number: u64, offset: u64) -> io::Result<Option<Lines>> {
        let lines = |reader: Box<dyn Read>, offset| Ok(Some(Lines::new(reader, offset, LINE_BYTES_MAX, Nuls::Text)));
        if let Some((file, _, end)) = self.current.as_ref().filter(|(_, current, _)| *current == number) {
            return lines(Box::new(FileReader { file: file.clone(), position: offset, end: *end }), offset);
        }
        // The agent may compress it between our looks.
        for form in [Form::Plain, Form::Gzip, Form::Zstd, Form::Plain] {
            let file = match Unix.open(&segment_path(&self.path, number, form)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let plain = |position| FileReader { file: file.clone(), position, end: u64::MAX };
            let mut inflated: Box<dyn Read> = match form {
                Form::Plain => return lines(Box::new(plain(offset)), offset),
                Form::Gzip => Box::new(flate2::read::MultiGzDecoder::new(plain(0))),
                Form::Zstd => Box::new(zstd::stream::read::Decoder::new(plain(0))?),
            };
            if offset > 0 {
                let _damage_shows_again = io::copy(&mut inflated.by_ref().take(offset), &mut io::sink());
            }
            return lines(inflated, offset);
        }
        Ok(None)
    }
}

/// What comes next from a container's outputs.
#[derive(Clone, Debug)]
pub enum Actual {
    Line(OutputLine),
    /// Segments that were here are pruned.
    Cut,
}

#[derive(Clone, Debug)]
pub struct OutputLine {
    /// With its newline, unless it is torn.
    pub text: Vec<u8>,
    pub shape_ix: usize,
    pub range_ix: usize,
    pub place: Place,
    /// The last of its segment, without a newline.
    pub torn: bool,
}

enum Opened {
    Lines,
    /// It went between the look and now.
    Pruned,
    /// The range has no further segment.
    Nothing,
}

/// A container's ranges, read in order.
pub struct Actuals {
    outputs: Rc<BTreeMap<String, Output>>,
    ranges: Rc<Vec<Range>>,
    range_ix: usize,
    /// Where the next line of the range is looked for; `None`: at its start.
    next: Option<Place>,
    lines: Option<Lines>,
    /// What could not be read.
    pub damaged: Vec<String>,
}

impl Actuals {
    pub fn new(outputs: Rc<BTreeMap<String, Output>>, ranges: Rc<Vec<Range>>) -> Actuals {
        Actuals { outputs, ranges, range_ix: 0, next: None, lines: None, damaged: Vec::new() }
    }

    /// Another reader that goes on from the same place.
    pub fn fork(&self) -> io::Result<Actuals> {
        let lines = match (&self.lines, self.next, self.range()) {
            (Some(_), Some(next), Some((_, output))) => output.open(next.segment, next.offset)?,
            _ => None,
        };
        Ok(Actuals {
            outputs: self.outputs.clone(),
            ranges: self.ranges.clone(),
            range_ix: self.range_ix,
            next: self.next,
            lines,
            damaged: Vec::new(),
        })
    }

    fn range(&self) -> Option<(&Range, &Output)> {
        let range = self.ranges.get(self.range_ix)?;
        Some((range, self.outputs.get(&range.route)?))
    }

    pub fn next(&mut self) -> io::Result<Option<Actual>> {
        loop {
            if self.range_ix >= self.ranges.len() {
                return Ok(None);
            }
            let Some((range, output)) = self.range() else {
                self.end_range(); // Its output can't be looked at; that was said.
                continue;
            };
            let end = range.end;
            let Some(next) = self.next else {
                let start = range.start;
                let next = Place { segment: start.segment.max(1), offset: start.offset };
                let is_pruned = output.is_pruned_from(next.segment);
                self.next = Some(next);
                if is_pruned && end.is_none_or(|end| end > next) {
                    return Ok(Some(Actual::Cut));
                }
                continue;
            };
            if end.is_some_and(|end| next >= end) {
                self.end_range();
                continue;
            }
            if self.lines.is_none() {
                match self.open_segment(next)? {
                    Opened::Lines => {}
                    Opened::Pruned => return Ok(Some(Actual::Cut)),
                    Opened::Nothing => self.end_range(),
                }
                continue; // The place may have moved to the range's end.
            }
            if let Some(line) = self.line()? {
                return Ok(Some(Actual::Line(line)));
            }
        }
    }

    fn end_range(&mut self) {
        self.range_ix += 1;
        self.next = None;
        self.lines = None;
    }

    /// Opens the segment of `next`, or the first one after it.
    fn open_segment(&mut self, next: Place) -> io::Result<Opened> {
        let Some((range, output)) = self.range() else { return Ok(Opened::Nothing) };
        let Some(number) = output.segment_from(next.segment) else { return Ok(Opened::Nothing) };
        let offset = if number == next.segment { next.offset } else { 0 };
        if range.end.is_some_and(|end| (Place { segment: number, offset }) >= end) {
            return Ok(Opened::Nothing);
        }
        // A range may begin within a torn line: that one belongs to whoever began it.
        let from = offset.saturating_sub(1);
        let mut lines = output.open(number, from)?;
        if let Some(lines) = &mut lines
            && offset > 0
        {
            lines.next()?;
        }
        self.next = Some(match &lines {
            Some(lines) => Place { segment: number, offset: lines.offset() },
            None => Place { segment: number + 1, offset: 0 },
        });
        let opened = if lines.is_some() { Opened::Lines } else { Opened::Pruned };
        self.lines = lines;
        Ok(opened)
    }

    /// The next line of the open segment; none when it ended.
    fn line(&mut self) -> io::Result<Option<OutputLine>> {
        let (Some(lines), Some(place)) = (&mut self.lines, self.next) else { return Ok(None) };
        let got = lines.next()?;
        let whole = match got {
            Got::Line { whole, .. } => whole,
            Got::Nuls { .. } | Got::Long { .. } => false,
            Got::End => {
                if let Some(damage) = lines.damage.take() {
                    let route = self.ranges.get(self.range_ix).map_or("", |range| range.route.as_str());
                    self.damaged.push(format!("{route} segment {}: {damage}", place.segment));
                }
                self.lines = None;
                self.next = Some(Place { segment: place.segment + 1, offset: 0 });
                return Ok(None);
            }
        };
        let mut text = if matches!(got, Got::Line { .. }) { lines.text().to_vec() } else { b"(too long)".to_vec() };
        if whole {
            text.push(b'\n');
        }
        self.next = Some(Place { segment: place.segment, offset: lines.offset() });
        let shape_ix = self.ranges.get(self.range_ix).map_or(0, |range| range.shape_ix);
        Ok(Some(OutputLine { text, shape_ix, range_ix: self.range_ix, place, torn: !whole }))
    }
}
