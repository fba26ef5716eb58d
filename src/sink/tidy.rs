//! What happens to rotated segments: compression, retention, and the leftovers of either. Runs beside the data path;
//! whatever fails leaves the plain segment where it is.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sink::pruned::Pruned;
use crate::sink::rolling::{Form, Segments, TEMPORARY, segment_path};
use crate::sys::{Create, Os};

/// What to keep of one output, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How rotated segments are kept; `Form::Plain` leaves them as they are.
    pub form: Form,
    pub mode: u32,
    /// Rotated segments of one output, the current file apart.
    pub files_max: Option<u32>,
    pub age_max: Option<Duration>,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Tidied {
    pub compressed: u64,
    pub pruned_files: u64,
    pub pruned_age: u64,
    pub pruned_total: u64,
    /// What failed: the file, and why. It is tried again in the next round.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Levels: what each tool calls fast. gzip 3 writes 219 MB/s a core (measured with zlib-rs), zstd 3 is its default.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;
const STEP_BYTES: usize = 256 * 1024;

impl Retention {
    /// Compresses and prunes one output's rotated segments, and cleans what an earlier life left half done.
    pub fn tidy_output<O: Os>(&self, os: &O, current: &Path, pruned: &Pruned, tidied: &mut Tidied) {
        let segments = match list(os, current) {
            Ok(segments) => segments,
            Err(error) => return tidied.failed.push((current.to_owned(), error)),
        };
        for name in &segments.temporary {
            let path = current.with_file_name(name);
            note(tidied, &path, os.remove(&path));
        }
        for (number, forms) in &segments.forms {
            if forms.len() > 1 {
                // The compressed twin got its name only when it was whole and on the disk.
                let plain = segment_path(current, *number, Form::Plain);
                note(tidied, &plain, os.remove(&plain));
            }
        }
        if let Some(oldest) = segments.forms.keys().next() {
            let _noted_in_the_next_round = pruned.begin(os, current, *oldest);
        }
        self.prune_output(os, current, pruned, tidied);
        if self.form == Form::Plain {
            return;
        }
        for (number, forms) in &segments.forms {
            if forms.as_slice() == [Form::Plain] {
                let plain = segment_path(current, *number, Form::Plain);
                match os.stat(&plain).and_then(|_| self.compress(os, current, *number)) {
                    Ok(()) => tidied.compressed += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // Pruned above.
                    Err(error) => tidied.failed.push((plain, error)),
                }
            }
        }
    }

    /// Through a temporary name, synced, renamed; only then the plain segment goes.
    fn compress<O: Os>(&self, os: &O, current: &Path, number: u64) -> io::Result<()> {
        let plain = segment_path(current, number, Form::Plain);
        let target = segment_path(current, number, self.form);
        let mut temporary = target.clone().into_os_string();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let written = self.write_compressed(os, &plain, &temporary);
        let result = written.and_then(|()| os.rename_new(&temporary, &target));
        if let Err(error) = result {
            let _ = os.remove(&temporary);
            return Err(error);
        }
        let directory = current.parent().expect("an output lies in a directory");
        os.sync_directory(directory)?;
        os.remove(&plain)
    }

    fn write_compressed<O: Os>(&self, os: &O, plain: &Path, temporary: &Path) -> io::Result<()> {
        let source = os.open(plain)?;
        let file = os.open_output(temporary, self.mode, Create::New)?;
        let target = FileWriter { os: os.clone(), file: file.clone(), position: 0 };
        match self.form {
            Form::Plain => unreachable!("a plain segment is not compressed to plain"),
            Form::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::new(GZIP_LEVEL));
                copy(os, &source, &mut encoder)?;
                encoder.finish()?;
            }
            Form::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(target, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                copy(os, &source, &mut encoder)?;
                encoder.finish()?;
            }
        }
        os.sync(&file)
    }

    /// The oldest first, by number and by age.
    fn prune_output<O: Os>(&self, os: &O, current: &Path, pruned: &Pruned, tidied: &mut Tidied) {
        let Ok(segments) = list(os, current) else {
            return;
        };
        let mut numbers: Vec<(u64, Vec<Form>)> = segments.forms.into_iter().collect();
        if let Some(files_max) = self.files_max {
            let n_over = numbers.len().saturating_sub(files_max as usize);
            if n_over > 0 {
                about_to_go(os, current, pruned, numbers[n_over - 1].0, numbers.get(n_over).map(|kept| kept.0));
            }
            for (number, forms) in numbers.drain(..n_over) {
                tidied.pruned_files += u64::from(remove_segment(os, current, number, &forms, tidied));
            }
        }
        let Some(age_max) = self.age_max else {
            return;
        };
        let oldest_ns = os.wall_ns().saturating_sub(i64::try_from(age_max.as_nanos()).unwrap_or(i64::MAX));
        let mut numbers = numbers.into_iter().peekable();
        while let Some((number, forms)) = numbers.next() {
            let path = segment_path(current, number, forms[0]);
            match os.stat(&path) {
                Ok(stat) if stat.modified_ns < oldest_ns => {
                    about_to_go(os, current, pruned, number, numbers.peek().map(|next| next.0));
                    tidied.pruned_age += u64::from(remove_segment(os, current, number, &forms, tidied));
                }
                _ => break,
            }
        }
    }
}

/// Brings all outputs together, current files included, below `total_max` bytes: from the largest holder first, its oldest
/// segment.
fn prune_total<O: Os>(os: &O, outputs: &[(PathBuf, Retention)], total_max: u64, pruned: &Pruned, tidied: &mut Tidied) {
    let mut holders: Vec<Holder> = outputs.iter().filter_map(|(current, _)| Holder::look(os, current).ok()).collect();
    let mut total: u64 = holders.iter().map(|holder| holder.bytes).sum();
    while total > total_max {
        let largest = holders.iter_mut().filter(|holder| !holder.rotated.is_empty()).max_by_key(|holder| holder.bytes);
        let Some(holder) = largest else {
            break; // Only current files are left, and those are never pruned.
        };
        let (number, forms, bytes) = holder.rotated.remove(0);
        about_to_go(os, &holder.current, pruned, number, holder.rotated.first().map(|next| next.0));
        tidied.pruned_total += u64::from(remove_segment(os, &holder.current, number, &forms, tidied));
        holder.bytes -= bytes;
        total -= bytes;
    }
}

/// One output's weight on the disk.
struct Holder {
    current: PathBuf,
    bytes: u64,
    /// Number, forms and bytes, the oldest first.
    rotated: Vec<(u64, Vec<Form>, u64)>,
}

impl Holder {
    fn look<O: Os>(os: &O, current: &Path) -> io::Result<Holder> {
        let size = |path: &Path| os.stat(path).map_or(0, |stat| stat.size);
        let mut rotated = Vec::new();
        for (number, forms) in list(os, current)?.forms {
            let bytes = forms.iter().map(|form| size(&segment_path(current, number, *form))).sum();
            rotated.push((number, forms, bytes));
        }
        let bytes = size(current) + rotated.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        Ok(Holder { current: current.to_owned(), bytes, rotated })
    }
}

fn list<O: Os>(os: &O, current: &Path) -> io::Result<Segments> {
    let directory = current.parent().expect("an output lies in a directory");
    let stem = current.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match os.list(directory) {
        Ok(names) => Ok(Segments::among(stem, &names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Segments::default()),
        Err(error) => Err(error),
    }
}

/// Notes that segments up to `number` go. Numbers before the `next` one that no file has are nobody's. A disk too full for
/// the note needs the room all the more, so they go all the same.
fn about_to_go<O: Os>(os: &O, current: &Path, pruned: &Pruned, number: u64, next: Option<u64>) {
    let through = next.map_or(number, |next| next - 1);
    let _the_next_one_tells_more = pruned.note(os, current, through);
}

/// Whether the segment is gone in all its forms.
fn remove_segment<O: Os>(os: &O, current: &Path, number: u64, forms: &[Form], tidied: &mut Tidied) -> bool {
    let mut gone = true;
    for form in forms {
        let path = segment_path(current, number, *form);
        let result = os.remove(&path);
        gone &= result.is_ok();
        note(tidied, &path, result);
    }
    gone
}

fn note(tidied: &mut Tidied, path: &Path, result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tidied.failed.push((path.to_owned(), error)),
        _ => {}
    }
}

fn copy<O: Os>(os: &O, source: &O::File, target: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; STEP_BYTES];
    let mut position = 0;
    loop {
        let read = os.read_at(source, position, &mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read])?;
        os.forget(source, position, position + read as u64);
        position += read as u64;
    }
}

struct FileWriter<O: Os> {
    os: O,
    file: O::File,
    position: u64,
}

impl<O: Os> Write for FileWriter<O> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.os.write_at(&self.file, self.position, bytes)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A round of tidying, as the data path asks for it.
#[derive(Clone, Debug)]
pub enum Chore {
    /// An output has a new rotated segment.
    Output(PathBuf, Retention),
    /// Each output for its age, and all of them together.
    All {
        outputs: Vec<(PathBuf, Retention)>,
        /// Bytes over all of them.
        total_max: Option<u64>,
    },
}

/// Takes chores and does them beside the data path.
pub trait Tidier {
    fn submit(&mut self, chore: Chore);
    /// What was done since the last call.
    fn poll(&mut self) -> Vec<Tidied>;
}

impl Chore {
    pub fn run<O: Os>(self, os: &O, pruned: &Pruned) -> Tidied {
        let mut tidied = Tidied::default();
        match self {
            Chore::Output(current, retention) => retention.tidy_output(os, &current, pruned, &mut tidied),
            Chore::All { outputs, total_max } => {
                for (current, retention) in &outputs {
                    retention.tidy_output(os, current, pruned, &mut tidied);
                }
                if let Some(total_max) = total_max {
                    prune_total(os, &outputs, total_max, pruned, &mut tidied);
                }
            }
        }
        tidied
    }
}

#[cfg(test)]
mod tests;
