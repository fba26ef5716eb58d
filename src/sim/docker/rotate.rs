//! Rotation, in dockerd's own order of calls (moby logfile.go, `rotate` and `checkCapacityAndRotate`).

use std::io;
use std::path::PathBuf;

use super::{EngineKind, SimDocker, Writing};

impl SimDocker {
    /// `ID-json.log.N`, with `.gz` if this container compresses.
    pub fn rotated_path(&self, id: &str, number: u32) -> PathBuf {
        let extension = if self.container(id).options.compress { ".gz" } else { "" };
        self.directory(id).join(format!("{id}-json.log.{number}{extension}"))
    }

    /// From now on this container's rotations fail: a directory that isn't empty is in the way of the oldest file.
    pub fn block_rotation(&mut self, id: &str) {
        let path = self.blocked_path(id);
        let before = self.named_holders(id);
        gone_is_fine(self.os.engine_unlink(&path)).expect("a rotated file can be removed");
        self.os.engine_mkdir(path.join("x")).expect("the name is free");
        self.examine_since(id, &before);
    }

    pub fn unblock_rotation(&mut self, id: &str) {
        self.os.engine_rmdir(self.blocked_path(id)).expect("it was blocked");
    }

    fn blocked_path(&self, id: &str) -> PathBuf {
        let number = self.container(id).options.max_file.saturating_sub(1);
        if number == 0 { self.directory(id).join(format!("{id}-json.log.1")) } else { self.rotated_path(id, number) }
    }

    /// False if it failed in a way that costs an old engine the record.
    pub(super) fn rotate(&mut self, id: &str) -> bool {
        // Writes wait for the compression before: there is never more than one `.1` that isn't compressed.
        self.finish_compression(id);
        let before = self.named_holders(id);
        let options = self.container(id).options.clone();
        let last_time = self.container(id).last_time.clone();
        self.container_mut(id).handle = None;
        self.os.count("rotations");
        let log = self.log_path(id);
        let moved = match (options.max_file, self.kind) {
            (0 | 1, EngineKind::V19) => {
                self.os.count("rotations_in_place");
                Ok(())
            }
            (0 | 1, EngineKind::V23) => {
                self.os.count("rotations_by_unlink");
                gone_is_fine(self.os.engine_unlink(&log))
            }
            _ => self.shift(id, options.max_file),
        };
        match moved {
            Ok(()) if options.compress && options.max_file > 1 => {
                // The first write after a start may be the one that rotates: then the engine knows no time.
                let last_time = last_time.unwrap_or_else(|| "0001-01-01T00:00:00Z".to_string());
                self.container_mut(id).compressing = Some(last_time);
            }
            Ok(()) => {}
            Err(_) => {
                self.os.count("rotations_failed");
                if self.kind == EngineKind::V19 {
                    self.examine_since(id, &before);
                    return false;
                }
            }
        }
        let handle = self.os.engine_create(&log).expect("the directory is there");
        self.begin_generation(id, &handle);
        let container = self.container_mut(id);
        container.handle = Some(handle);
        container.writing = Writing::At(0);
        container.counted_bytes = 0;
        container.named = true;
        container.torn = false;
        self.examine_since(id, &before);
        // It may be the same file, truncated.
        let handle = self.os.engine_open(&log).expect("just made");
        self.examine_file(id, &handle);
        true
    }

    /// Unlinks the oldest, renames from high to low, and the log to `.1`.
    fn shift(&self, id: &str, max_file: u32) -> io::Result<()> {
        gone_is_fine(self.os.engine_unlink(self.rotated_path(id, max_file.saturating_sub(1))))?;
        for number in (1..max_file.saturating_sub(1)).rev() {
            gone_is_fine(self.os.engine_rename(self.rotated_path(id, number), self.rotated_path(id, number + 1)))?;
        }
        let first = self.directory(id).join(format!("{id}-json.log.1"));
        gone_is_fine(self.os.engine_rename(self.log_path(id), first))
    }
}

fn gone_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
