//! What users, crashes and full disks do to a log. Each keeps the truth true.

use std::collections::BTreeMap;

use super::{Ending, Life, PIECE_BYTES, SimDocker, Span, Writing, record, rfc3339};
use crate::decode::Stream;
use crate::sim::os::{File, PAGE_BYTES};
use crate::sim::random::hash;

/// A record whose text is empty but for its newline, with nine digits of time, is that long.
const RECORD_MIN_BYTES: u64 = 71;

// The engine itself.
impl SimDocker {
    /// Only the first `keep` bytes of the record of one line are written: the writer was killed, or the disk was full.
    /// What the engine writes next is glued to them. Gives how many were kept: at most all but the last two.
    pub fn log_torn(&mut self, id: &str, stream: Stream, text: &[u8], time_ns: i64, keep: usize) -> usize {
        self.assert_running(id);
        assert!(text.len() < PIECE_BYTES, "only one record can be torn");
        assert_eq!(self.container(id).truths.open_time(stream), None, "the stream has an open line");
        let line = record(&[text, b"\n"].concat(), stream.name(), &self.container(id).options.attrs, &rfc3339(time_ns));
        let keep = keep.clamp(1, line.len() - 2);
        if let Some(span) = self.put(id, &line[..keep], time_ns) {
            let container = self.container_mut(id);
            container.truths.piece(stream, time_ns, text, span);
            container.truths.end(stream, Ending::Torn);
            container.torn = true;
            self.os.count("records_torn");
        }
        keep
    }

    /// `kill -9` of the engine: its containers end, what it held back or was compressing stays as it is, no metadata is
    /// written. They can be started again.
    pub fn kill(&mut self) {
        self.os.count("engine_kills");
        for id in self.ids() {
            let container = self.container_mut(&id);
            if container.compressing.take().is_some() && self.os.engine_exists(self.rotated_path(&id, 1)) {
                self.os.count("gzips_torn");
            }
            let container = self.container_mut(&id);
            container.handle = None;
            container.held.clear();
            for stream in [Stream::Stdout, Stream::Stderr] {
                container.truths.abandon(stream);
            }
            if container.life == Life::Running {
                container.life = Life::Stopped;
            }
        }
    }

    /// To be called after a power loss of the machine: finds out what is left.
    pub fn power_lost(&mut self) {
        self.kill();
        for id in self.ids() {
            let is_there = self.os.engine_exists(self.directory(&id).join("config.v2.json"));
            let container = self.container_mut(&id);
            if !is_there {
                container.life = Life::Removed;
            } else if container.life == Life::Removed {
                // Its removal was lost; the engine removes it again when it starts.
                container.life = Life::Stopped;
            }
            container.torn = false;
            let generations: Vec<u64> =
                container.holders.values().flat_map(|holder| holder.generations.clone()).collect();
            self.examine(&id, &generations);
        }
    }

    /// A power loss took the last bytes that the engine had written; afterwards the log grows over them.
    pub fn lose_tail(&mut self, id: &str, n_bytes: u64) {
        let file = self.current(id);
        let size = self.os.engine_size(&file).saturating_sub(n_bytes);
        self.os.engine_truncate(&file, size);
        self.os.count("tails_lost");
        let is_running = self.is_running(id);
        let container = self.container_mut(id);
        if is_running {
            container.handle = Some(file.clone());
            container.writing = Writing::AtEnd;
            container.counted_bytes = size;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            container.held.remove(&stream);
            container.truths.abandon(stream);
        }
        self.examine_file(id, &file);
        let is_torn =
            size > 0 && self.os.engine_read(self.log_path(id)).is_ok_and(|bytes| bytes.last() != Some(&b'\n'));
        self.container_mut(id).torn = is_torn;
    }
}

// Everybody else.
impl SimDocker {
    /// A page of the log becomes NUL, as after a power loss. False if the log has no such page.
    pub fn zero_page(&mut self, id: &str, page_ix: u64) -> bool {
        let file = self.current(id);
        let start = page_ix * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.os.engine_size(&file));
        if start >= end {
            return false;
        }
        self.os.engine_write(&file, start, &vec![0; (end - start) as usize]);
        self.os.count("pages_of_nul");
        self.examine_file(id, &file);
        true
    }

    /// `: > LOG`. An engine that has rotated since its start goes on at its old position and leaves a hole.
    pub fn truncate(&mut self, id: &str) {
        let file = self.current(id);
        self.os.engine_truncate(&file, 0);
        self.os.count("logs_truncated");
        self.container_mut(id).torn = false;
        self.renew(id, &file);
    }

    /// logrotate's copytruncate; the copy's name is the log's with `suffix`.
    pub fn copy_truncate(&mut self, id: &str, suffix: &str) {
        let mut copy_path = self.log_path(id).into_os_string();
        copy_path.push(suffix);
        let file = self.current(id);
        let bytes = self.os.engine_read(self.log_path(id)).expect("it is open");
        let before = self.named_holders(id);
        let copy = self.os.engine_create(&copy_path).expect("the directory is there");
        self.os.engine_write(&copy, 0, &bytes);
        self.copy_holder(id, &file, &copy);
        self.os.engine_truncate(&file, 0);
        self.os.count("logs_copied_and_truncated");
        self.container_mut(id).torn = false;
        // The copy may have replaced another, and hold what the log has held before.
        self.examine(id, &before.into_keys().collect::<Vec<_>>());
        self.renew(id, &file);
    }

    /// Somebody writes other records over the log, from its first byte to its last. False if it is too short for one.
    pub fn rewrite_same_size(&mut self, id: &str, time_ns: i64) -> bool {
        let file = self.current(id);
        let size = self.os.engine_size(&file);
        if size < RECORD_MIN_BYTES {
            return false;
        }
        self.os.engine_truncate(&file, 0);
        self.os.count("logs_rewritten");
        self.renew(id, &file);
        let generation = self.generation(id);
        // Nine digits, so that every record is as long as it was planned.
        let mut time_ns = time_ns - time_ns % 10 + 1;
        let mut start = 0;
        while start < size {
            let rest = size - start;
            let n_bytes = if rest < 2 * 4096 { rest } else { 4096 };
            let text = vec![b'r'; (n_bytes - RECORD_MIN_BYTES) as usize];
            let line = record(&[&text, &b"\n"[..]].concat(), "stdout", &BTreeMap::new(), &rfc3339(time_ns));
            assert_eq!(line.len() as u64, n_bytes);
            self.os.engine_write(&file, start, &line);
            let span = Span {
                generation,
                start,
                end: start + n_bytes,
                hash: hash(&line),
                destroyed_ns: None,
                came_back: false,
            };
            let truths = &mut self.container_mut(id).truths;
            truths.abandon(Stream::Stdout);
            truths.piece(Stream::Stdout, time_ns, &text, span);
            truths.end(Stream::Stdout, Ending::Newline);
            start += n_bytes;
            time_ns += 10;
        }
        self.container_mut(id).torn = false;
        true
    }

    /// `rm LOG`: a running engine goes on into the file without a name.
    pub fn remove_log(&mut self, id: &str) {
        let before = self.named_holders(id);
        self.os.engine_unlink(self.log_path(id)).expect("the log is there");
        self.os.count("logs_removed");
        self.container_mut(id).named = false;
        self.examine_since(id, &before);
    }

    fn current(&self, id: &str) -> File {
        self.os.engine_open(self.log_path(id)).unwrap_or_else(|error| panic!("{id} has no log: {error}"))
    }

    /// What was in the file is gone; what comes is a new generation.
    fn renew(&mut self, id: &str, file: &File) {
        self.begin_generation(id, file);
        self.examine_file(id, file);
    }
}
