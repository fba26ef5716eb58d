//! What the process is told by its surroundings, asked once at start.

#![allow(clippy::disallowed_methods, reason = "the start asks the machine directly")]

use std::io;
use std::path::{Path, PathBuf};

/// The path without links; the part of it that doesn't exist yet stays as it is.
pub fn real_path(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        if let Ok(real) = std::fs::canonicalize(there) {
            return missing.iter().rev().fold(real, |real, name| real.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                there = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// The id of the container this process runs in, if it runs in one.
pub fn own_container_id() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    crate::discover::selection::own_container_id(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

pub fn working_directory() -> io::Result<PathBuf> {
    std::env::current_dir()
}

/// An environment variable that isn't empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes a file of ours that nobody else reads meanwhile, such as a page of the manual.
pub fn write_new_text(path: &Path, text: &[u8]) -> io::Result<()> {
    std::fs::write(path, text)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
