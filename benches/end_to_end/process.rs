//! A program under measurement: its CPU time and its memory as the kernel counts them, so that a busy machine changes
//! little, and its end.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `USER_HZ`, the unit of /proc/PID/stat: 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
const END_WITHIN: Duration = Duration::from_secs(40);

/// Ended when it is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Its messages go to `log`.
    pub fn start(mut command: Command, log: &std::path::Path) -> Process {
        let log = fs::File::options().create(true).append(true).open(log).expect("a file for its messages");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Process { child }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("it runs")
    }

    /// User and system time of all its threads, those that ended included.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.file("stat");
        let (_, fields) = stat.rsplit_once(')').expect("the name stands in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
        ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident memory in MB: now, and the most there was.
    pub fn rss(&self) -> (f64, f64) {
        let status = self.file("status");
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("every process has it");
            line.split_whitespace().nth(1).expect("a number").parse::<f64>().expect("a number") * 1024.0 / 1e6
        };
        (kib("VmRSS:"), kib("VmHWM:"))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Waits for its own end; gives whether all went well.
    pub fn wait(mut self) -> bool {
        self.child.wait().expect("it is ours").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let started = Instant::now();
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32)
            && self.is_running()
        {
            let _ended_meanwhile = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        while self.is_running() && started.elapsed() < END_WITHIN {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ended_by_itself = self.child.kill();
        let _reaped = self.child.wait();
    }
}
