//! A Docker Engine of our own: dockerd with its own data root, socket and containerd, stopped by its pid.
//! Owns containers, never the agent. Every call of the client has a deadline.
//! The one surprising thing: all tests share one engine, which lives as long as any of them holds it.
//!
//! Needs root, Debian's docker.io and busybox-static; `scripts/test` installs them and asks for these
//! tests with LONGSHORE_TEST_DOCKER=1. Without it they say that they were skipped.

use std::env;
use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{PATIENCE, exit_within, finish, n_lines, terminate, within};

// By path: PATH may hold another client, and we want the one that came with this daemon.
const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";
const BUSYBOX: &str = "/bin/busybox";
const IMAGE: &str = "longshore-test:1";
const APPLETS: [&str; 10] = ["sh", "cat", "date", "head", "printf", "seq", "sleep", "touch", "usleep", "yes"];

/// The engine all tests share, or `None` where docker tests were not asked for.
pub fn engine() -> Option<Session> {
    if env::var_os("LONGSHORE_TEST_DOCKER").is_none_or(|value| value != "1") {
        println!("skipped: no docker");
        return None;
    }
    static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
    // A test that failed to start the engine poisons nothing: the next one tries again.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = shared.upgrade().unwrap_or_else(|| {
        let engine = Arc::new(Engine::start());
        *shared = Arc::downgrade(&engine);
        engine
    });
    Some(Session { engine })
}

/// One test's hold on the engine. When the test passes, it leaves a mark, so that `scripts/test`
/// can tell tests that passed from tests that were skipped.
pub struct Session {
    engine: Arc<Engine>,
}

impl Deref for Session {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !thread::panicking() {
            mark(&format!("ran {}", thread::current().name().unwrap_or("a test")));
        }
    }
}

/// Adds a line to the marks of this run, if anybody keeps them.
pub fn mark(line: &str) {
    println!("{line}");
    if let Some(path) = env::var_os("LONGSHORE_TEST_MARKS") {
        let mut marks = fs::OpenOptions::new().create(true).append(true).open(path).expect("open the marks");
        marks.write_all(format!("{line}\n").as_bytes()).expect("write a mark");
    }
}

pub struct Engine {
    root: TempDir,
    daemon: Child,
}

impl Engine {
    /// Starts dockerd in a temporary directory and imports the image; panics with its log if it can't.
    pub fn start() -> Engine {
        let root = tempfile::Builder::new().prefix("longshore-engine-").tempdir().expect("a temporary directory");
        let at = |name: &str| root.path().join(name);
        for name in ["data", "exec", "ctl", "client"] {
            fs::create_dir(at(name)).expect("make a directory for the engine");
        }
        let log = fs::File::create(at("dockerd.log")).expect("create the daemon's log");
        let daemon = Command::new(DOCKERD)
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            // scripts/test ends the daemon by this file if this process dies before it can.
            .arg("--pidfile")
            .arg(at("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("docker.sock").display()))
            .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs"])
            // Where a containerd of the system runs, dockerd takes that one: keep out of its way.
            .args(["--containerd-namespace=longshore-test", "--containerd-plugins-namespace=longshore-test-plugins"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {DOCKERD}: {error}\nhint: apt-get install docker.io"));
        let mut engine = Engine { root, daemon };
        let mut ended = None;
        let up = within(PATIENCE, || {
            ended = engine.daemon.try_wait().expect("wait for dockerd");
            ended.is_some()
                || engine.root.path().join("docker.sock").exists()
                    && engine.docker(&["version"], PATIENCE).status.success()
        });
        assert!(up && ended.is_none(), "dockerd does not come up ({ended:?}):\n{}", engine.log_tail());
        engine.import_image();
        engine
    }

    /// The directory the agent reads.
    pub fn containers_dir(&self) -> PathBuf {
        self.data_root().join("containers")
    }

    pub fn data_root(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// `docker run --detach` of a shell script; the id. `/ctl` inside is `ctl(name)` outside.
    pub fn run(&self, name: &str, options: &[&str], script: &str) -> String {
        self.create_with("run", &["--detach"], name, options, script)
    }

    /// `docker create`: everything but the start.
    pub fn create(&self, name: &str, options: &[&str], script: &str) -> String {
        self.create_with("create", &[], name, options, script)
    }

    /// A container that writes exactly these bytes to stdout.
    pub fn run_cat(&self, name: &str, options: &[&str], bytes: &[u8]) -> String {
        fs::write(self.ctl(name).join("in"), bytes).expect("write a container's input");
        self.run(name, options, "cat /ctl/in")
    }

    pub fn start_again(&self, name: &str) {
        self.must(&["start", name]);
    }

    /// Waits for the container's end; its exit code.
    pub fn wait(&self, name: &str) -> i32 {
        let code = self.must_within(&["wait", name], 4 * PATIENCE);
        String::from_utf8_lossy(&code).trim().parse().expect("docker wait prints an exit code")
    }

    /// Waits for the container's end, which must be a good one.
    pub fn wait_well(&self, name: &str) {
        assert_eq!(self.wait(name), 0, "{name} ends well");
    }

    pub fn rename(&self, name: &str, new_name: &str) {
        self.must(&["rename", name, new_name]);
    }

    /// `docker rm --force`.
    pub fn rm(&self, name: &str) {
        self.must(&["rm", "--force", name]);
    }

    /// `docker logs --timestamps`, both streams through one pipe and so in the order of the source.
    pub fn logs_with_timestamps(&self, name: &str) -> Vec<u8> {
        let mut command = Command::new("sh");
        // The shell passes its arguments on and puts stderr where stdout goes.
        command.args(["-c", "exec \"$@\" 2>&1", "sh", DOCKER]);
        self.client(&mut command).args(["logs", "--timestamps", name]);
        let output = finish(&mut command, PATIENCE);
        assert!(output.status.success(), "docker logs {name}: {}", String::from_utf8_lossy(&output.stdout));
        output.stdout
    }

    /// A directory that the container of this (first) name sees as `/ctl`.
    pub fn ctl(&self, name: &str) -> PathBuf {
        let path = self.root.path().join("ctl").join(name);
        fs::create_dir_all(&path).expect("make a control directory");
        path
    }

    /// Makes `/ctl/WORD` appear in the container.
    pub fn tell(&self, name: &str, word: &str) {
        fs::write(self.ctl(name).join(word), b"").expect("write a control file");
    }

    /// Whether the container made `/ctl/WORD` with a whole line in it; that line.
    pub fn told(&self, name: &str, word: &str) -> Option<String> {
        let text = fs::read_to_string(self.ctl(name).join(word)).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    }

    /// The container's current log file.
    pub fn log_file(&self, id: &str) -> PathBuf {
        self.containers_dir().join(id).join(format!("{id}-json.log"))
    }

    /// The generations of a container's log, newest first: `ID-json.log`, `.1`, `.2.gz`, as file names.
    pub fn generations(&self, id: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.containers_dir().join(id)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| name.contains("-json.log"))
            .collect();
        names.sort_by_key(|name| name.split('.').nth(2).map_or(0, |number| number.parse().unwrap_or(0_u32)));
        names
    }

    fn create_with(&self, verb: &str, first: &[&str], name: &str, options: &[&str], script: &str) -> String {
        let volume = format!("{}:/ctl", self.ctl(name).display());
        let mut args = vec![verb];
        args.extend(first);
        args.extend(["--name", name, "--network", "none", "--volume", &volume]);
        args.extend(options);
        args.extend([IMAGE, "sh", "-c", script]);
        let id = self.must(&args);
        let id = String::from_utf8(id).expect("an id").trim().to_owned();
        assert_eq!(id.len(), 64, "docker {verb} prints an id, not {id:?}");
        id
    }

    /// A line for a shell, in the repository, in which `docker` is this engine's client.
    pub fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        self.environment(&mut command)
            .args(["-ec", line])
            .env("PATH", "/usr/bin:/bin")
            .env("DOCKER_HOST", format!("unix://{}", self.root.path().join("docker.sock").display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        finish(&mut command, PATIENCE)
    }

    /// Any other command of the client, which must succeed.
    pub fn must(&self, args: &[&str]) -> Vec<u8> {
        self.must_within(args, PATIENCE)
    }

    fn must_within(&self, args: &[&str], limit: Duration) -> Vec<u8> {
        let output = self.docker(args, limit);
        assert!(
            output.status.success(),
            "docker {args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.log_tail()
        );
        output.stdout
    }

    fn docker(&self, args: &[&str], limit: Duration) -> Output {
        let mut command = Command::new(DOCKER);
        self.client(&mut command).args(args);
        finish(&mut command, limit)
    }

    fn client<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        self.environment(command)
            .arg("--host")
            .arg(format!("unix://{}", self.root.path().join("docker.sock").display()))
    }

    /// Nothing of the user's own settings; and the classic builder, which is all that the Dockerfile needs.
    fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("DOCKER_CONFIG", self.root.path().join("client"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
    }

    /// Debian's static busybox and links to its applets: all a container that writes logs needs.
    fn import_image(&self) {
        let image = self.root.path().join("image");
        fs::create_dir_all(image.join("bin")).expect("make the image's root");
        fs::copy(BUSYBOX, image.join("bin/busybox"))
            .unwrap_or_else(|error| panic!("cannot copy {BUSYBOX}: {error}\nhint: apt-get install busybox-static"));
        for applet in APPLETS {
            symlink("busybox", image.join("bin").join(applet)).expect("link an applet");
        }
        let tar = self.root.path().join("image.tar");
        let packed = finish(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg("."), PATIENCE);
        assert!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
        self.must(&["import", &tar.display().to_string(), IMAGE]);
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.root.path().join("dockerd.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let skipped = n_lines(log.as_bytes()).saturating_sub(30);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    fn remove_containers(&self) {
        let ids = self.docker(&["ps", "--all", "--quiet"], PATIENCE).stdout;
        let ids = String::from_utf8_lossy(&ids).into_owned();
        let mut args = vec!["rm", "--force"];
        args.extend(ids.split_whitespace());
        if args.len() > 2 {
            self.docker(&args, 2 * PATIENCE);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.daemon.try_wait().is_ok_and(|status| status.is_none()) {
            self.remove_containers();
            terminate(&self.daemon);
            if exit_within(&mut self.daemon, PATIENCE).is_none() {
                eprintln!("dockerd does not end on SIGTERM and is killed:\n{}", self.log_tail());
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
            }
        }
        // A daemon that ended well has ended its containerd; one that did not has left it behind.
        if let Some(pid) = pid_in(&self.root.path().join("exec/containerd/containerd.pid")) {
            let is_containerd =
                fs::read(format!("/proc/{}/comm", pid.as_raw_nonzero())).is_ok_and(|comm| comm == b"containerd\n");
            if is_containerd {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        unmount_below(self.root.path());
    }
}

fn pid_in(path: &Path) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

/// What a daemon left mounted would keep its directory from being removed.
fn unmount_below(root: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field is the mount point; later mounts lie upon earlier ones.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<&str> = points.filter(|point| Path::new(point).starts_with(root)).collect();
    for point in below.iter().rev() {
        finish(Command::new("umount").arg("--lazy").arg(point), PATIENCE);
    }
}
