//! The real binary on real files: start it, kill it, read what it wrote.
//! Knows nothing of Docker; `docker.rs` gives it a containers directory to read.
//! The one surprising thing: nothing here sleeps for a fixed time. Whatever takes time is waited for
//! by `until`, with a deadline and the name of the condition that was not met.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A loaded machine of two cores is slow, a hung one never ends: no wait in the tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `2026-01-02T03:04:05.000000678Z`, the time as the output has it.
pub const TIME_BYTES: usize = 30;

// ------------------------------------------------------------------------------- waiting

/// Waits until `condition` holds; panics with `what` when it does not within `limit`.
pub fn until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(within(limit, condition), "not within {limit:?}: {what}");
}

/// Whether `condition` came to hold within `limit`.
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        thread::sleep(pause.min(deadline - now));
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}

/// Runs a command to its end; kills it and panics when that takes longer than `limit`.
pub fn finish(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = exit_within(&mut child, limit);
    if status.is_none() {
        child.kill().expect("kill a child of ours");
        child.wait().expect("wait for a child of ours");
    }
    let stdout = stdout.join().expect("read stdout");
    let stderr = stderr.join().expect("read stderr");
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!("not done within {limit:?}: {shown}\n{}", String::from_utf8_lossy(&stderr)),
    }
}

/// The exit status of a child, if it ends within `limit`.
pub fn exit_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    within(limit, || {
        status = child.try_wait().expect("wait for a child of ours");
        status.is_some()
    });
    status
}

/// Whether a child of ours has ended, whose exit status may still be waiting for us.
fn has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Whether a process catches or blocks SIGTERM.
fn handles_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // Caught, not blocked: before exec a new process has every signal blocked for a moment.
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigCgt:"));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & (1 << (15 - 1)) != 0)
}

fn collect<R: Read + Send + 'static>(pipe: Option<R>) -> thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("a piped stream");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe leaves what was read so far, which is all there is to say about it.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Sends TERM: the agent drains and exits.
pub fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    // The child may have ended by itself; its exit status will say so.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
}

// ------------------------------------------------------------------------------- the agent

/// One agent with a log path and a state directory of its own, over any number of starts.
pub struct Longshore {
    root: TempDir,
    containers_dir: PathBuf,
    child: Option<Child>,
}

impl Longshore {
    /// An agent that is not running yet.
    pub fn new(containers_dir: &Path) -> Longshore {
        let root = tempfile::Builder::new().prefix("longshore-").tempdir().expect("a temporary directory");
        Longshore { root, containers_dir: containers_dir.to_owned(), child: None }
    }

    pub fn log_path(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// Starts `longshore run`. Its own log goes on across starts and is printed when a test fails.
    pub fn start(&mut self, args: &[&str]) {
        self.start_with(args, &[]);
    }

    /// And with more in its environment.
    pub fn start_with(&mut self, args: &[&str], environment: &[(&str, &Path)]) {
        assert!(self.child.is_none(), "the agent runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.own_log()).expect("open the agent's log");
        let child = self
            .command("run", args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("start longshore run");
        self.child = Some(child);
    }

    /// Lets the agent run for a while. Not a wait for anything: `kill -9` has to come at any moment,
    /// so the test chooses the moment. Panics when the agent ends by itself.
    pub fn run_for(&mut self, time: Duration) {
        let child = self.child.as_mut().expect("a running agent");
        if let Some(status) = exit_within(child, time) {
            panic!("the agent ended by itself: {status}");
        }
    }

    /// `kill -9`: nothing of the process runs after this returns.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("a running agent");
        child.kill().expect("kill the agent");
        child.wait().expect("wait for the agent");
    }

    /// What its descriptors lead to, as Linux tells it: a file that was deleted has " (deleted)" behind its name.
    pub fn open_files(&self) -> Vec<String> {
        let pid = self.child.as_ref().expect("a running agent").id();
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
    }

    /// Its mappings as Linux tells them, one a line.
    pub fn mappings(&self) -> String {
        let pid = self.child.as_ref().expect("a running agent").id();
        fs::read_to_string(format!("/proc/{pid}/maps")).expect("read the agent's mappings")
    }

    /// Sends a signal that doesn't end it. Panics if it has ended.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("a running agent"));
        rustix::process::kill_process(pid, signal).expect("a signal reaches the agent");
    }

    /// SIGTERM, and the exit status of the drained agent.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running agent");
        // Before it has a handler, the signal would just end it; a drain has to be asked of somebody.
        until("the agent handles SIGTERM, or has ended", PATIENCE, || {
            handles_sigterm(child.id()) || has_ended(child.id())
        });
        terminate(&child);
        match exit_within(&mut child, PATIENCE) {
            Some(status) => status,
            None => {
                self.child = Some(child);
                panic!("the agent does not end on SIGTERM");
            }
        }
    }

    /// SIGTERM, and the drained agent must exit 0.
    pub fn drain(&mut self) {
        let status = self.terminate();
        assert_eq!(status.code(), Some(0), "a drained agent exits 0: {status}");
    }

    /// `longshore backfill`, to its end.
    pub fn backfill(&self, args: &[&str]) -> Output {
        finish(&mut self.command("backfill", args), 2 * PATIENCE)
    }

    /// `longshore containers`, also beside a running agent.
    pub fn containers(&self, args: &[&str]) -> Output {
        finish(&mut self.command("containers", args), PATIENCE)
    }

    /// Any other verb, such as `verify` or `state list`, to its end.
    pub fn tell(&self, verb: &str, args: &[&str]) -> Output {
        finish(&mut self.command(verb, args), PATIENCE)
    }

    /// Everything in an output: rotated segments in order, then the current file.
    /// Empty while there is no output.
    pub fn outputs(&self, name: &str) -> Vec<u8> {
        self.outputs_at(&PathBuf::from(name).join(format!("{name}.log")))
    }

    /// The same for a path below the log path, for path templates.
    pub fn outputs_at(&self, path: &Path) -> Vec<u8> {
        let current = self.log_path().join(path);
        // The agent rotates while we read: a listing that changed meanwhile is read again.
        for _ in 0..1000 {
            let before = segments(&current);
            let Some(bytes) = read_segments(&current, &before) else { continue };
            if segments(&current) == before {
                return bytes;
            }
        }
        panic!("{} rotates faster than it can be read", current.display());
    }

    /// How many segments an output has been rotated into.
    pub fn n_rotated(&self, name: &str) -> usize {
        segments(&self.log_path().join(name).join(format!("{name}.log"))).len()
    }

    /// Waits until the output has at least `n` lines.
    pub fn wait_for_lines(&self, name: &str, n: usize) {
        let mut seen = 0;
        let mut ended = false;
        let looked = within(PATIENCE, || {
            // Asked first: what an agent wrote before it ended is there to see.
            ended = self.child.as_ref().is_none_or(|child| has_ended(child.id()));
            seen = n_lines(&self.outputs(name));
            seen >= n || ended
        });
        assert!(looked, "{name}: {seen} of {n} lines within {PATIENCE:?}");
        assert!(seen >= n, "{name}: {seen} of {n} lines, and the agent has ended");
    }

    /// What the agent said on stderr so far.
    pub fn own_log_text(&self) -> String {
        fs::read(self.own_log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn own_log(&self) -> PathBuf {
        self.root.path().join("agent.log")
    }

    pub fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGSHORE_") {
                command.env_remove(name);
            }
        }
        command
            .args(verb.split(' '))
            .arg("--containers-dir")
            .arg(&self.containers_dir)
            .arg("--log-path")
            .arg(self.log_path())
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(args);
        command
    }
}

impl Drop for Longshore {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.own_log_text();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the agent's last words:");
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}

// ------------------------------------------------------------------------------- reading outputs

/// The rotated segments of an output by number: `.N`, `.N.gz` or `.N.zst`.
/// Where a plain file and its compressed twin both exist, the plain one: the other may be half there.
fn segments(current: &Path) -> BTreeMap<u64, PathBuf> {
    let mut found: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let prefix = format!("{}.", current.file_name().expect("a file name").to_string_lossy());
    let Ok(entries) = fs::read_dir(current.parent().expect("a parent")) else { return found };
    for entry in entries {
        // A file may go between the listing and the look at it.
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(suffix) = name.strip_prefix(&prefix) else { continue };
        let number = suffix.strip_suffix(".gz").or_else(|| suffix.strip_suffix(".zst")).unwrap_or(suffix);
        let Ok(number) = number.parse::<u64>() else { continue };
        let plain = number.to_string() == suffix;
        if plain || !found.contains_key(&number) {
            found.insert(number, entry.path());
        }
    }
    found
}

/// `None` when a file went away under the reader.
fn read_segments(current: &Path, segments: &BTreeMap<u64, PathBuf>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for path in segments.values() {
        let stored = fs::read(path).ok()?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                let mut decoder = flate2::read::MultiGzDecoder::new(stored.as_slice());
                decoder.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
            Some("zst") => {
                let plain = zstd::decode_all(stored.as_slice());
                bytes.extend(plain.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
            _ => bytes.extend(stored),
        }
    }
    match fs::read(current) {
        Ok(last) => bytes.extend(last),
        Err(_) if segments.is_empty() => {}
        Err(_) => return None,
    }
    Some(bytes)
}

pub fn n_lines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

/// The text of every line, each with its newline; panics where a line is not `TIME TEXT`.
pub fn texts(output: &[u8]) -> Vec<u8> {
    let mut texts = Vec::with_capacity(output.len());
    assert!(output.is_empty() || output.ends_with(b"\n"), "an output ends with a whole line");
    for (line_ix, line) in output.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let time = line.get(..TIME_BYTES).filter(|time| is_padded_time(time));
        assert!(
            time.is_some() && line.get(TIME_BYTES) == Some(&b' '),
            "line {} does not begin with a padded time: {}",
            line_ix + 1,
            shown(line)
        );
        texts.extend_from_slice(&line[TIME_BYTES + 1..]);
    }
    texts
}

fn is_padded_time(time: &[u8]) -> bool {
    let form = b"0000-00-00T00:00:00.000000000Z";
    time.len() == form.len()
        && time.iter().zip(form).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

/// Equality of two texts of many lines; says where they part and shows only that.
pub fn assert_same(what: &str, actual: &[u8], expected: &[u8]) {
    if actual == expected {
        return;
    }
    let mut actual_lines = actual.split_inclusive(|byte| *byte == b'\n');
    let mut expected_lines = expected.split_inclusive(|byte| *byte == b'\n');
    for line in 1.. {
        let (got, wanted) = (actual_lines.next(), expected_lines.next());
        if got != wanted {
            panic!(
                "{what}: {} lines for {} expected; line {line} is the first that differs\n     got: {}\nexpected: {}",
                n_lines(actual),
                n_lines(expected),
                got.map_or("nothing".to_owned(), shown),
                wanted.map_or("nothing".to_owned(), shown),
            );
        }
    }
}

fn shown(line: &[u8]) -> String {
    let head = &line[..line.len().min(160)];
    let more = if head.len() < line.len() { format!(" … ({} bytes)", line.len()) } else { String::new() };
    format!("{}{more}", head.escape_ascii())
}
