//! A secret of a sink, and the file it may stand in.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::Os;
use crate::sys::places::real_path;
use crate::sys::unix::Unix;

/// Secrets and certificates are small.
const BYTES_MAX: u64 = 1024 * 1024;

/// A text that is not shown. One in a file is read whenever it is needed: whoever issued it may have replaced it since.
pub enum Secret {
    Given(String),
    In(PathBuf),
}

impl Secret {
    /// Without the blanks around it; or what is wrong with its file. An empty one is about to be written: without its
    /// secret a request might reach whom it isn't for.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Secret::Given(text) => Ok(text.clone()),
            Secret::In(path) => match String::from_utf8(read(path)?) {
                Ok(text) if text.trim().is_empty() => Err(format!("{} is empty", path.display())),
                Ok(text) => Ok(text.trim().to_owned()),
                Err(_) => Err(format!("{} is not UTF-8", path.display())),
            },
        }
    }
}

/// A file that an option names, whatever links lead to it; or why it can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let file = Unix.open(&real_path(path))?;
        let size = Unix.stat_open(&file)?.size.min(BYTES_MAX);
        let mut bytes = vec![0; size as usize];
        let n_read = Unix.read_at(&file, 0, &mut bytes)?;
        bytes.truncate(n_read);
        Ok(bytes)
    };
    read().map_err(|error| format!("cannot read {}: {error}", path.display()))
}
