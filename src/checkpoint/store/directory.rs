//! Directories, with the store's errors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::sys::Os;
use crate::sys::unix::Unix;

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

pub(super) fn has_entries(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut found) => Ok(found.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_tree(directory: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory)(error)),
        _ => Ok(()),
    }
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    Unix.sync_directory(directory).map_err(failed("sync", directory))
}
