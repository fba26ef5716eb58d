//! Compression in the background: `.1` and a growing `.1.gz` are there side by side until the caller ends it.

use std::io::Write;
use std::path::PathBuf;

use flate2::{Compression, GzBuilder};

use super::SimDocker;

impl SimDocker {
    pub fn is_compressing(&self, id: &str) -> bool {
        self.container(id).compressing.is_some()
    }

    /// The first `n_bytes` of `.1.gz` are there; `.1` still is. True if there was something to compress.
    pub fn start_compression(&mut self, id: &str, n_bytes: usize) -> bool {
        let Some(compressed) = self.compressed(id) else { return false };
        self.os.count("compressions_seen_half");
        self.write_compressed(id, &compressed[..n_bytes.min(compressed.len())])
    }

    /// Writes the rest, and unlinks `.1`. Does nothing when nothing is to be compressed.
    pub fn finish_compression(&mut self, id: &str) {
        self.finish_compression_after(id, usize::MAX);
    }

    /// On a full disk the engine doesn't look whether closing `.1.gz` failed: it is cut off, and `.1` is gone.
    pub fn finish_compression_after(&mut self, id: &str, n_bytes: usize) {
        let Some(compressed) = self.compressed(id) else { return };
        self.container_mut(id).compressing = None;
        let before = self.named_holders(id);
        let n_bytes = n_bytes.min(compressed.len());
        if !self.write_compressed(id, &compressed[..n_bytes]) {
            return;
        }
        self.os.engine_unlink(self.plain(id)).expect("it was read");
        self.os.count("compressions");
        if n_bytes < compressed.len() {
            self.os.count("gzips_torn");
            self.examine_since(id, &before);
        }
    }

    fn plain(&self, id: &str) -> PathBuf {
        self.directory(id).join(format!("{id}-json.log.1"))
    }

    fn compressed(&mut self, id: &str) -> Option<Vec<u8>> {
        let last_time = self.container(id).compressing.clone()?;
        let Ok(bytes) = self.os.engine_read(self.plain(id)) else {
            // Somebody has removed it.
            self.container_mut(id).compressing = None;
            return None;
        };
        let extra = format!("{{\"lastTime\":\"{last_time}\"}}");
        let builder = GzBuilder::new().extra(extra).mtime(0).operating_system(255);
        let mut encoder = builder.write(Vec::new(), Compression::default());
        encoder.write_all(&bytes).expect("memory takes all");
        Some(encoder.finish().expect("memory takes all"))
    }

    /// Directly under its final name. False if something is in the way: then `.1` stays as it is.
    fn write_compressed(&mut self, id: &str, bytes: &[u8]) -> bool {
        let path = self.rotated_path(id, 1);
        let replaced = self.os.engine_node(&path).and_then(|node| self.container(id).holders.get(&node).cloned());
        let Ok(target) = self.os.engine_create(&path) else { return false };
        self.os.engine_write(&target, 0, bytes);
        let source = self.os.engine_open(self.plain(id)).expect("it was read");
        self.copy_holder(id, &source, &target);
        self.examine(id, &replaced.unwrap_or_default().generations);
        true
    }
}
