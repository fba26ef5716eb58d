//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once. SIGHUP asks for other settings,
//! SIGUSR1 to open outputs anew.
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
    hangup: Signal,
    user1: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By this signal.
    Drain(&'static str),
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Reopen,
}

impl Signals {
    /// Only within a tokio runtime that has its I/O driver.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Hands on what each signal asks for; a second request to drain ends the process. A task of the net thread.
    pub async fn run(mut self, ask: impl Fn(Asked)) {
        let mut draining = false;
        loop {
            let asked = self.next().await;
            if let Asked::Drain(_) = asked
                && std::mem::replace(&mut draining, true)
            {
                std::process::exit(EXIT_INTERRUPTED);
            }
            ask(asked);
        }
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Drain("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Drain("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::Reopen,
        }
    }
}

/// Whether standard output is a pipe: when its reader is gone, whoever made it is done with us.
pub fn stdout_is_a_pipe() -> bool {
    rustix::fs::fstat(std::io::stdout())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn each_signal_asks_for_something_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, receiver) = mpsc::channel();
        runtime.block_on(async {
            let signals = Signals::install().unwrap();
            use rustix::process::Signal;
            let kill = |signal| rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
            [Signal::HUP, Signal::USR1, Signal::TERM].into_iter().for_each(kill);
            let running = signals.run(move |asked| sender.send(asked).unwrap());
            // It goes on waiting for the second.
            assert!(tokio::time::timeout(Duration::from_millis(200), running).await.is_err());
        });
        let asked: Vec<Asked> = receiver.try_iter().collect();
        for expected in [Asked::Reload, Asked::Reopen, Asked::Drain("SIGTERM")] {
            assert_eq!(asked.iter().filter(|asked| **asked == expected).count(), 1, "{expected:?} in {asked:?}");
        }
    }
}
