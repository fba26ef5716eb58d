//! Where a damaged store goes: a copy from before an open that may make it worse, and what is kept as evidence.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::StoreError;
use super::directory::{entries, failed, has_entries, remove_tree, sync_directory};
use super::place::Place;

pub(super) const CORRUPT_PREFIX: &str = "sled.corrupt-";
const CORRUPT_KEPT: usize = 2;

impl Place {
    /// Opening writes, so what looks odd is copied first. An older copy is better evidence than a newer one.
    pub(super) fn copy_before_open(&self) -> Result<(), StoreError> {
        let copy = self.copy();
        if copy.exists() {
            return Ok(());
        }
        let unfinished = self.state.join("sled.copying");
        remove_tree(&unfinished)?;
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(failed("create", &unfinished))?;
        for path in entries(&self.store()).map_err(failed("list", &self.store()))? {
            let (Some(name), true) = (path.file_name(), path.is_file()) else { continue };
            fs::copy(&path, unfinished.join(name)).map_err(failed("copy", &path))?;
        }
        fs::rename(&unfinished, &copy).map_err(failed("rename", &unfinished))
    }

    /// As it was before it was opened.
    pub(super) fn put_back_copy(&self) -> Result<(), StoreError> {
        let (store, copy) = (self.store(), self.copy());
        if copy.exists() {
            remove_tree(&store)?;
            fs::rename(&copy, &store).map_err(failed("rename", &copy))?;
        }
        Ok(())
    }

    /// Puts the damaged store where nobody opens it, and removes older ones.
    pub(super) fn move_aside(&self, now: u64) -> Result<Option<PathBuf>, StoreError> {
        let store = self.store();
        self.put_back_copy()?;
        if !has_entries(&store).map_err(failed("list", &store))? {
            remove_tree(&store)?;
            return Ok(None);
        }
        let mut kept = self.corrupt()?;
        // Two in one second, or a clock that was set back: still newer than the others.
        let number = kept.last().map_or(now, |(newest, _)| now.max(newest + 1));
        let target = self.state.join(format!("{CORRUPT_PREFIX}{number}"));
        fs::rename(&store, &target).map_err(failed("rename", &store))?;
        kept.push((number, target.clone()));
        for (_, path) in kept.iter().rev().skip(CORRUPT_KEPT) {
            remove_tree(path)?;
        }
        sync_directory(&self.state)?;
        Ok(Some(target))
    }

    /// Damaged stores that are kept, oldest first.
    fn corrupt(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut found: Vec<(u64, PathBuf)> = entries(&self.state)
            .map_err(failed("list", &self.state))?
            .into_iter()
            .filter_map(|path| {
                let number = path.file_name()?.to_str()?.strip_prefix(CORRUPT_PREFIX)?.parse().ok()?;
                Some((number, path))
            })
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}
