//! The progress bar of a backfill: bytes, rate and time left, on a terminal only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::Progress as When;
use crate::telemetry::Counters;

/// Clones share the bar.
#[derive(Clone)]
pub struct Progress {
    bar: Option<ProgressBar>,
    counters: Counters,
    /// Bytes left, by agent.
    left: Arc<Mutex<Vec<u64>>>,
}

impl Progress {
    pub fn new(when: When, counters: &Counters) -> Progress {
        use std::io::IsTerminal;
        let shown = match when {
            When::Always => true,
            When::Auto => std::io::stderr().is_terminal(),
            When::Never => false,
        };
        let bar = shown.then(|| {
            let target = if std::io::stderr().is_terminal() {
                ProgressDrawTarget::stderr_with_hz(4)
            } else {
                ProgressDrawTarget::term_like_with_hz(Box::new(PlainLines), 1)
            };
            let bar = ProgressBar::with_draw_target(Some(0), target);
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} left: {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { bar, counters: counters.clone(), left: Arc::default() }
    }

    /// What one agent has still to read. `bytes` is only asked for when a bar is drawn.
    pub fn set_left(&self, agent_ix: usize, bytes: impl FnOnce() -> u64) {
        let Some(bar) = &self.bar else {
            return;
        };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() <= agent_ix {
            left.resize(agent_ix + 1, 0);
        }
        left[agent_ix] = bytes();
        let read = self.counters.bytes_read.get();
        bar.set_length(read + left.iter().sum::<u64>());
        bar.set_position(read);
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.tick();
            bar.finish();
        }
    }
}

/// A bar for something that is no terminal (`--progress always`): a line each time it is drawn.
#[derive(Debug)]
struct PlainLines;

impl indicatif::TermLike for PlainLines {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _n: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn write_line(&self, s: &str) -> std::io::Result<()> {
        use std::io::Write;
        writeln!(std::io::stderr(), "{}", s.trim_end())
    }
    fn write_str(&self, s: &str) -> std::io::Result<()> {
        let text = s.trim_end();
        if text.is_empty() { Ok(()) } else { self.write_line(text) }
    }
    fn clear_line(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        let _ = Duration::ZERO;
        Ok(())
    }
}
