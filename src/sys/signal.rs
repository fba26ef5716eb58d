//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.
//! SIGPIPE needs nothing: Rust ignores it before `main`, and a write then fails with an error.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell shows for a process that a second Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Installed handlers. As PID 1 there is no default action, so install them before anything else.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Only within a tokio runtime that has its I/O driver.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Calls `drain` with the signal's name at the first one; never returns after the second. A task of the net thread.
    pub async fn run(mut self, drain: impl FnOnce(&'static str)) {
        drain(self.next().await);
        self.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_first_signal_asks_for_a_drain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, receiver) = mpsc::channel();
        runtime.block_on(async {
            let signals = Signals::install().unwrap();
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
            let running = signals.run(move |name| sender.send(name).unwrap());
            // It goes on waiting for the second.
            assert!(tokio::time::timeout(Duration::from_millis(200), running).await.is_err());
        });
        assert_eq!(receiver.try_recv().unwrap(), "SIGTERM");
    }
}
