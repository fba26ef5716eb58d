//! Records that a receiver will never take, in a file: one JSON object a line, with the reason.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::sys::{Create, Os};

/// Beyond it nothing is put aside: the sink waits, and says so, until somebody takes the file away.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
const MODE: u32 = 0o600;

#[derive(Clone, Debug)]
pub struct DeadLetters {
    path: PathBuf,
    /// The file was found or made in this life, and its names are on the disk.
    is_named: bool,
}

pub struct Letter<'a> {
    pub container: &'a str,
    pub id: &'a str,
    pub why: &'a str,
    /// As it was sent.
    pub record: &'a [u8],
}

impl DeadLetters {
    /// Of one sink.
    pub fn new(state_dir: &Path, sink: &str) -> DeadLetters {
        DeadLetters { path: state_dir.join("dead-letters").join(format!("{sink}.jsonl")), is_named: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Durable when it returns. A record may be there twice, after a death between this and the commit; its id tells.
    pub fn add<O: Os>(&mut self, os: &O, letter: &Letter<'_>) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            os.create_directories(directory)?;
        }
        let file = os.open_output(&self.path, MODE, Create::IfMissing)?;
        let size = os.stat_open(&file)?.size;
        if size >= BYTES_MAX {
            let text = format!("{} is full; move it away to go on", self.path.display());
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let record = String::from_utf8_lossy(letter.record);
        let record = record.trim_end_matches('\n');
        let line = json!({
            "container": letter.container,
            "id": letter.id,
            "reason": letter.why,
            "time_unix_ns": os.wall_ns(),
            "record": serde_json::from_str(record).unwrap_or_else(|_| json!(record)),
        });
        let mut text = line.to_string().into_bytes();
        text.push(b'\n');
        // A line that a full disk cut is completed by its newline, so that the next one is whole.
        let mut last = [b'\n'];
        if size > 0 {
            os.read_at(&file, size - 1, &mut last)?;
        }
        if last != [b'\n'] {
            text.insert(0, b'\n');
        }
        let mut written = 0;
        while written < text.len() {
            written += os.write_at(&file, size + written as u64, &text[written..])?;
        }
        os.sync(&file)?;
        // The file's name and its directory's: an earlier life may have died between making them and this.
        if !self.is_named || size == 0 {
            for directory in self.path.ancestors().skip(1).take(2) {
                os.sync_directory(directory)?;
            }
            self.is_named = true;
        }
        Ok(())
    }
}
