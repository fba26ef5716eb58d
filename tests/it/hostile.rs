//! Containers whose files are out to get us, and operators who mistype: neighbours are delivered exactly, nothing is
//! written but below log-path and state-dir, nothing blocks, memory stays flat, and the engine's files stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{Longshore, PATIENCE, assert_same, finish, until, within};

/// Text that must not appear in anything the agent writes.
const SECRET: &str = "root:$6$not-for-your-eyes";
const MIB: usize = 1024 * 1024;
/// Far below what any hostile file here would need if it were read whole.
const PEAK_MEMORY_MAX: u64 = 200 * MIB as u64;

// ------------------------------------------------------------------------------- an engine made by hand

/// A containers directory with something beside it that nobody may touch.
struct Engine {
    root: TempDir,
    n_made: usize,
}

/// One container's directory.
struct Made {
    id: String,
    directory: PathBuf,
}

impl Engine {
    fn new() -> Engine {
        let root = tempfile::Builder::new().prefix("longshore-hostile-").tempdir().expect("a temporary directory");
        fs::create_dir(root.path().join("containers")).expect("make the containers directory");
        fs::write(root.path().join("secret"), format!("{SECRET}\n")).expect("write the secret");
        Engine { root, n_made: 0 }
    }

    fn containers_dir(&self) -> PathBuf {
        self.root.path().join("containers")
    }

    fn secret(&self) -> PathBuf {
        self.root.path().join("secret")
    }

    /// A directory with nothing in it.
    fn make(&mut self) -> Made {
        self.n_made += 1;
        let id = format!("{0:012x}{0:052x}", self.n_made);
        let directory = self.containers_dir().join(&id);
        fs::create_dir(&directory).expect("make a container's directory");
        Made { id, directory }
    }

    /// A stopped container with this name and log.
    fn container(&mut self, name: &str, log: &[u8]) -> Made {
        let made = self.make();
        made.write_config(config(name).as_bytes());
        fs::write(made.log(), log).expect("write a log");
        made
    }

    /// Who must not notice that others are hostile.
    fn neighbour(&mut self) -> Made {
        self.container("neighbour", &records("neighbour", 1, 500))
    }
}

impl Made {
    fn log(&self) -> PathBuf {
        self.sibling("")
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}-json.log{suffix}", self.id))
    }

    fn config(&self) -> PathBuf {
        self.directory.join("config.v2.json")
    }

    fn write_config(&self, bytes: &[u8]) {
        fs::write(self.config(), bytes).expect("write config.v2.json");
    }

    fn short_id(&self) -> &str {
        &self.id[..12]
    }
}

fn config(name: &str) -> String {
    serde_json::json!({
        "Name": format!("/{name}"),
        "Created": "2026-01-02T03:04:05Z",
        "Config": { "Image": "busybox:1", "Labels": {} },
        "State": { "Running": false, "StartedAt": "2026-01-02T03:04:05Z" },
    })
    .to_string()
}

fn time(number: usize) -> String {
    format!("2026-01-02T03:04:05.{number:09}Z")
}

fn record(text: &str, number: usize) -> String {
    let log = serde_json::to_string(&format!("{text}\n")).expect("text is JSON");
    format!("{{\"log\":{log},\"stream\":\"stdout\",\"time\":\"{}\"}}\n", time(number))
}

fn records(text: &str, first: usize, last: usize) -> Vec<u8> {
    (first..=last).map(|number| record(&format!("{text} {number}"), number)).collect::<String>().into_bytes()
}

fn line(text: &str, number: usize) -> String {
    format!("{} {text}\n", time(number))
}

/// What `records` becomes.
fn lines(text: &str, first: usize, last: usize) -> Vec<u8> {
    (first..=last).map(|number| line(&format!("{text} {number}"), number)).collect::<String>().into_bytes()
}

fn assert_neighbour(agent: &Longshore) {
    assert_same("neighbour", &agent.outputs("neighbour"), &lines("neighbour", 1, 500));
}

// ------------------------------------------------------------------------------- looking around

/// Kind, size, mtime and content of everything below a directory. Links aren't followed.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in walk(directory) {
        let metadata = fs::symlink_metadata(&path).expect("look at what was listed");
        let content = match metadata.is_file() && metadata.len() <= 128 * MIB as u64 {
            true => twox_hash::XxHash3_64::oneshot(&fs::read(&path).unwrap_or_default()),
            false => 0,
        };
        let (mode, links, blocks) = (metadata.mode(), metadata.nlink(), metadata.blocks());
        let mtime = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(path, format!("{mode:o} {links} {} {blocks} {mtime:?} {content:x}", metadata.len()));
    }
    found
}

/// Every path below a directory, and the directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if fs::symlink_metadata(&found[next]).is_ok_and(|metadata| metadata.is_dir()) {
            let entries = fs::read_dir(&found[next]).expect("list a directory");
            found.extend(entries.map(|entry| entry.expect("list a directory").path()));
        }
        next += 1;
    }
    found.sort();
    found
}

/// Runs `work`, and looks whether it changed anything of the engine's, or anything beside log-path and state-dir.
fn unharmed<T>(engine: &Engine, agent: &Longshore, work: impl FnOnce() -> T) -> T {
    let before = snapshot(engine.root.path());
    let done = work();
    for (path, was) in &before {
        let metadata = fs::symlink_metadata(path).ok();
        assert!(metadata.is_some(), "{} is gone (was {was})", path.display());
    }
    let after = snapshot(engine.root.path());
    for (path, is) in &after {
        assert_eq!(before.get(path), Some(is), "{} changed", path.display());
    }
    let root = agent.log_path().parent().expect("the agent's directories have one").to_owned();
    let mut beside: Vec<_> =
        fs::read_dir(&root).expect("list the agent's directories").map(|e| e.unwrap().file_name()).collect();
    beside.retain(|name| !["logs", "state", "agent.log"].map(Into::into).contains(name));
    assert!(beside.is_empty(), "written beside log-path: {beside:?}");
    done
}

/// The outputs, by path below log-path.
fn outputs(agent: &Longshore) -> BTreeMap<String, Vec<u8>> {
    let log_path = agent.log_path();
    let own = log_path.join(".longshore");
    let files = walk(&log_path).into_iter().filter(|path| !path.starts_with(&own) && !path.is_dir());
    files
        .map(|path| {
            let metadata = fs::symlink_metadata(&path).expect("look at an output");
            assert!(metadata.file_type().is_file(), "{} is no plain file", path.display());
            let name = path.strip_prefix(&log_path).expect("below it").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("read an output"))
        })
        .collect()
}

fn assert_secret_stays(agent: &Longshore, own_words: &str) {
    let root = agent.log_path().parent().expect("the agent's directories have one").to_owned();
    for path in walk(&root).into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path).expect("read what the agent wrote");
        let found = memchr::memmem::find(&bytes, SECRET.as_bytes());
        assert!(found.is_none(), "the secret is in {}", path.display());
    }
    assert!(!own_words.contains(SECRET), "the secret is in the agent's own log: {own_words}");
}

/// What hostile names would do to the terminal of whoever looks.
fn assert_commands_no_terminal(done: &Output) {
    for shown in [&done.stdout, &done.stderr] {
        let shown = String::from_utf8_lossy(shown);
        let control = shown.chars().find(|character| character.is_control() && *character != '\n');
        assert!(control.is_none(), "{control:?} is in {:?}", shown);
    }
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn backfill(agent: &Longshore) -> Output {
    agent.backfill(&["--progress", "never"])
}

/// A backfill, and the most memory it was seen to hold.
fn backfill_measured(engine: &Engine, agent: &Longshore, args: &[&str]) -> (Output, u64) {
    let said = tempfile::NamedTempFile::new().expect("a file for stderr");
    let mut child = longshore("backfill")
        .arg("--containers-dir")
        .arg(engine.containers_dir())
        .arg("--log-path")
        .arg(agent.log_path())
        .arg("--state-dir")
        .arg(agent.state_dir())
        .args(["--progress", "never"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.reopen().expect("a second handle"))
        .spawn()
        .expect("start longshore backfill");
    let (mut peak, mut status) = (0, None);
    let ended = within(2 * PATIENCE, || {
        peak = peak_memory(child.id()).unwrap_or(0).max(peak);
        status = child.try_wait().expect("wait for a child of ours");
        status.is_some()
    });
    if !ended {
        child.kill().expect("kill a child of ours");
        child.wait().expect("wait for a child of ours");
    }
    let stderr = fs::read(said.path()).expect("read stderr");
    let Some(status) = status else { panic!("the backfill does not end: {}", String::from_utf8_lossy(&stderr)) };
    (Output { status, stdout: Vec::new(), stderr }, peak)
}

/// The most bytes a process had in memory so far.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The process that holds the state.
fn pid_of(agent: &Longshore) -> u32 {
    let pid = fs::read_to_string(agent.state_dir().join("lock")).expect("the agent holds its state");
    pid.trim().parse().expect("a pid is in the lock")
}

fn longshore(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGSHORE_") {
            command.env_remove(name);
        }
    }
    command.arg(verb);
    command
}

fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a FIFO");
    assert!(fs::symlink_metadata(path).expect("look at it").file_type().is_fifo());
}

// ------------------------------------------------------------------------------- metadata

#[test]
fn no_name_leaves_the_log_path() {
    let mut engine = Engine::new();
    let long = "n".repeat(10_000);
    let escaped = "longshore-has-escaped";
    let names = [
        "..".to_owned(),
        ".".to_owned(),
        "...".to_owned(),
        format!("../{escaped}"),
        format!("../../../../../../tmp/{escaped}"),
        format!("/{escaped}"),
        "a/b/c".to_owned(),
        "a/../../b".to_owned(),
        "nul\0name".to_owned(),
        "two\nlines".to_owned(),
        "\u{1b}[31mred".to_owned(),
        " ".to_owned(),
        ".hidden".to_owned(),
        ".longshore".to_owned(),
        ".longshore/outputs.jsonl".to_owned(),
        "lock".to_owned(),
        "web.log.1".to_owned(),
        "-rf".to_owned(),
        "{id}".to_owned(),
        long.clone(),
        format!("x{long}"),
    ];
    for (ix, name) in names.iter().enumerate() {
        engine.container(name, &records(&format!("container {ix}"), 1, 3));
    }
    engine.neighbour();
    let agent = Longshore::new(&engine.containers_dir());
    for round in ["first", "second"] {
        let done = unharmed(&engine, &agent, || backfill(&agent));
        assert_eq!(done.status.code(), Some(0), "{round}: {}", stderr(&done));
        assert_neighbour(&agent);
        let outputs = outputs(&agent);
        assert_eq!(outputs.len(), names.len() + 1, "{round}: one output for each container: {:?}", outputs.keys());
        for (ix, name) in names.iter().enumerate() {
            let expected = lines(&format!("container {ix}"), 1, 3);
            assert!(outputs.values().any(|output| *output == expected), "{round}: {name:?} is delivered");
        }
        for path in outputs.keys() {
            assert!(path.ends_with(".log") && path.split('/').count() == 2 && !path.starts_with('.'), "{path:?}");
        }
    }
    let table = unharmed(&engine, &agent, || agent.containers(&[]));
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert_eq!(String::from_utf8_lossy(&table.stdout).lines().count(), names.len() + 2, "a line for each");
    assert_commands_no_terminal(&table);
    for n_up in 0..12 {
        let above = agent.log_path().join("../".repeat(n_up)).join(escaped);
        assert!(fs::symlink_metadata(&above).is_err(), "{} was made", above.display());
    }
}

/// What can't be read as metadata costs the container its name, and nothing else.
#[test]
fn metadata_that_is_no_use_costs_only_the_name() {
    let mut engine = Engine::new();
    let with_config = |engine: &mut Engine, config: &[u8]| {
        let made = engine.container("replaced below", &records("text", 1, 3));
        made.write_config(config);
        made
    };
    let big = format!("{{\"Name\":\"/big\",\"x\":\"{}\"}}", "x".repeat(100 * MIB));
    let nested = format!("{{\"Name\":\"/nested\",\"Config\":{}", "[".repeat(MIB));
    let nameless = [
        with_config(&mut engine, big.as_bytes()),
        with_config(&mut engine, nested.as_bytes()),
        with_config(&mut engine, b"{\"Name\":\"/cut"),
        with_config(&mut engine, b"not json at all"),
        with_config(&mut engine, b""),
        with_config(&mut engine, b"{}"),
        with_config(&mut engine, b"{\"Name\":\"\xff\xfe\"}"),
        with_config(&mut engine, b"{\"Name\":7}"),
    ];
    drop((big, nested));
    let sparse = with_config(&mut engine, b"");
    fs::File::options().write(true).open(sparse.config()).and_then(|file| file.set_len(1 << 30)).expect("a hole");
    let missing = engine.container("replaced below", &records("text", 1, 3));
    fs::remove_file(missing.config()).expect("remove a config");
    let of_a_directory = engine.container("replaced below", &records("text", 1, 3));
    fs::remove_file(of_a_directory.config()).expect("remove a config");
    fs::create_dir(of_a_directory.config()).expect("a directory in its place");
    let of_a_fifo = engine.container("replaced below", &records("text", 1, 3));
    fs::remove_file(of_a_fifo.config()).expect("remove a config");
    fifo(&of_a_fifo.config());
    let linked = engine.container("replaced below", &records("text", 1, 3));
    let stolen = engine.root.path().join("stolen.json");
    fs::write(&stolen, config(SECRET)).expect("write what is linked to");
    fs::remove_file(linked.config()).expect("remove a config");
    symlink(&stolen, linked.config()).expect("link a config");
    // As many entries as a file that is read can hold, in as many files as are read at a time.
    for number in 0..4 {
        let labels: Vec<String> = (0..350_000).map(|number| format!("\"{number:x}\":\"\"")).collect();
        let labels = format!("{{\"Labels\":{{{}}}}}", labels.join(","));
        with_config(&mut engine, format!("{{\"Name\":\"/labels-{number}\",\"Config\":{labels}}}").as_bytes());
        let env = format!("{{\"Env\":[{}\"\"]}}", "\"\",".repeat(1_300_000));
        with_config(&mut engine, format!("{{\"Name\":\"/env-{number}\",\"Config\":{env}}}").as_bytes());
    }
    engine.neighbour();

    let agent = Longshore::new(&engine.containers_dir());
    let (done, peak) = unharmed(&engine, &agent, || backfill_measured(&engine, &agent, &["--threads", "8"]));
    assert_eq!(done.status.code(), Some(0), "all lines were delivered: {}", stderr(&done));
    assert!(peak > 0 && peak < PEAK_MEMORY_MAX, "{peak} bytes at the peak");
    assert_neighbour(&agent);
    for number in 0..4 {
        for name in [format!("labels-{number}"), format!("env-{number}")] {
            assert_same(&name, &agent.outputs(&name), &lines("text", 1, 3));
        }
    }
    for made in nameless.iter().chain([&sparse, &missing, &of_a_directory, &of_a_fifo, &linked]) {
        assert_same(made.short_id(), &agent.outputs(made.short_id()), &lines("text", 1, 3));
        assert!(stderr(&done).contains(made.short_id()), "{} is named: {}", made.short_id(), stderr(&done));
    }
    let table = unharmed(&engine, &agent, || agent.containers(&[]));
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert_secret_stays(&agent, &(stderr(&done) + &stderr(&table) + &String::from_utf8_lossy(&table.stdout)));
}

// ------------------------------------------------------------------------------- what stands in place of a log

/// A link, a FIFO, a directory and a socket in place of a log, and links and FIFOs beside one.
#[test]
fn what_is_no_file_is_no_log() {
    let mut engine = Engine::new();
    let replaced = |engine: &mut Engine, name: &str| {
        let made = engine.container(name, b"");
        fs::remove_file(made.log()).expect("remove a log");
        made
    };
    let secret = engine.secret();
    fs::write(&secret, record(SECRET, 1)).expect("a secret that would be a record");
    let link = replaced(&mut engine, "link");
    symlink(&secret, link.log()).expect("link a log");
    let relative = replaced(&mut engine, "relative-link");
    symlink("../../secret", relative.log()).expect("link a log");
    let dangling = replaced(&mut engine, "dangling-link");
    symlink("/nowhere/at/all", dangling.log()).expect("link a log");
    let pipe = replaced(&mut engine, "pipe");
    fifo(&pipe.log());
    let directory = replaced(&mut engine, "directory");
    fs::create_dir_all(directory.log().join("inside")).expect("a directory in its place");
    let socket = replaced(&mut engine, "socket");
    // A socket's path is short; it is made elsewhere and moved.
    let short = engine.root.path().join("s");
    let _bound = std::os::unix::net::UnixListener::bind(&short).expect("bind a socket");
    fs::rename(&short, socket.log()).expect("move the socket");
    let shouting = replaced(&mut engine, "\u{1b}[2J\r\nerror: all is lost");
    symlink(&secret, shouting.log()).expect("link a log");
    // What stands under a sibling's name and is no file is no sibling.
    let siblings = engine.container("siblings", &records("text", 4, 5));
    symlink(&secret, siblings.sibling(".1")).expect("link a sibling");
    fifo(&siblings.sibling(".2"));
    fifo(&siblings.sibling(".3.gz"));
    fs::create_dir_all(siblings.sibling(".4").join("inside")).expect("a directory in its place");
    engine.neighbour();

    let agent = Longshore::new(&engine.containers_dir());
    let done = unharmed(&engine, &agent, || backfill(&agent));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    const NAMES: [&str; 6] = ["link", "relative-link", "dangling-link", "pipe", "directory", "socket"];
    for name in NAMES {
        assert!(stderr(&done).contains(&format!("error: {name}: cannot read ")), "{name} is named: {}", stderr(&done));
        assert!(agent.outputs(name).is_empty(), "nothing comes from {name}");
    }
    assert_commands_no_terminal(&done);
    assert!(!stderr(&done).contains("error: siblings"), "{}", stderr(&done));
    assert_same("siblings", &agent.outputs("siblings"), &lines("text", 4, 5));
    assert_neighbour(&agent);
    assert_secret_stays(&agent, &stderr(&done));

    // Once the log is one, everything is read.
    for made in [&link, &relative, &dangling, &pipe, &directory, &socket, &shouting] {
        let _not_a_directory = fs::remove_dir_all(made.log()).or_else(|_| fs::remove_file(made.log()));
        fs::write(made.log(), records("text", 4, 5)).expect("write a log");
    }
    let done = backfill(&agent);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    for name in NAMES {
        assert_same(name, &agent.outputs(name), &lines("text", 4, 5));
    }
    assert_neighbour(&agent);
}

#[test]
fn a_running_agent_says_it_once_and_heals() {
    let mut engine = Engine::new();
    let made = engine.container("link", b"");
    fs::remove_file(made.log()).expect("remove a log");
    symlink(engine.secret(), made.log()).expect("link a log");
    let pipe = engine.container("pipe", b"");
    fs::remove_file(pipe.log()).expect("remove a log");
    fifo(&pipe.log());
    let nameless = engine.container("replaced below", &records("text", 1, 3));
    fs::remove_file(nameless.config()).expect("remove a config");
    fifo(&nameless.config());
    engine.neighbour();
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&[]);
    agent.wait_for_lines("neighbour", 500);
    agent.wait_for_lines(nameless.short_id(), 3);
    until("both are named", PATIENCE, || {
        let said = agent.own_log_text();
        ["link", "pipe"].iter().all(|name| said.contains(&format!("container={name}")))
    });
    fs::remove_file(made.log()).expect("remove the link");
    fs::write(made.log(), records("text", 1, 3)).expect("write a log");
    agent.wait_for_lines("link", 3);
    let said = agent.own_log_text();
    assert_eq!(
        said.matches("not a regular file; trying again").count()
            + said.matches("no regular file; trying again").count(),
        2,
        "{said}"
    );
    until("it says that it healed", PATIENCE, || agent.own_log_text().contains("healed"));
    // What was never readable is no reason to fail the drain.
    agent.drain();
    assert_same("link", &agent.outputs("link"), &lines("text", 1, 3));
    assert_neighbour(&agent);
    assert_secret_stays(&agent, "");
}

#[test]
fn a_linked_container_is_left_alone_but_a_linked_root_is_followed() {
    let mut engine = Engine::new();
    let made = engine.container("linked", &records(SECRET, 1, 3));
    let elsewhere = engine.root.path().join("elsewhere");
    fs::rename(&made.directory, &elsewhere).expect("move a container's directory");
    symlink(&elsewhere, &made.directory).expect("link to it");
    engine.neighbour();
    let root_link = engine.root.path().join("root-link");
    symlink(engine.containers_dir(), &root_link).expect("link the root");

    let mut agent = Longshore::new(&root_link);
    let done = unharmed(&engine, &agent, || backfill(&agent));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(outputs(&agent).keys().collect::<Vec<_>>(), ["neighbour/neighbour.log"]);
    assert_secret_stays(&agent, &stderr(&done));
    assert_neighbour(&agent);

    agent.start(&[]);
    engine.container("later", &records("later", 1, 3));
    agent.wait_for_lines("later", 3);
    agent.drain();
    assert_neighbour(&agent);
    assert_secret_stays(&agent, "");
}

#[test]
fn what_may_not_be_read_is_named() {
    let mut engine = Engine::new();
    let made = engine.container("locked", &records("text", 1, 3));
    engine.neighbour();
    fs::set_permissions(made.log(), fs::Permissions::from_mode(0o000)).expect("take the permissions away");
    if fs::File::open(made.log()).is_ok() {
        println!("skipped: permissions don't bind this user");
        return;
    }
    let agent = Longshore::new(&engine.containers_dir());
    let done = unharmed(&engine, &agent, || backfill(&agent));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(stderr(&done).contains("error: locked: cannot read "), "{}", stderr(&done));
    assert_neighbour(&agent);
}

// ------------------------------------------------------------------------------- what stands in a log

#[test]
fn holes_and_endless_lines_cost_neither_time_nor_memory() {
    let mut engine = Engine::new();
    let sparse = |engine: &mut Engine, name: &str, parts: &[(u64, &[u8])]| {
        let made = engine.container(name, b"");
        let mut file = fs::File::create(made.log()).expect("write a log");
        for (hole_bytes, bytes) in parts {
            file.seek(SeekFrom::Current(*hole_bytes as i64)).expect("leave a hole");
            file.write_all(bytes).expect("write behind it");
        }
    };
    const GIB: u64 = 1 << 30;
    let (first, second) = (records("text", 1, 3), records("text", 4, 6));
    sparse(&mut engine, "leading-hole", &[(GIB, &first), (0, &second)]);
    sparse(&mut engine, "zeros-and-hole", &[(0, &[0; 8192]), (GIB, &first), (0, &second)]);
    sparse(&mut engine, "hole-between", &[(0, &first), (GIB, &second)]);
    sparse(&mut engine, "hole-in-a-line", &[(0, &first), (0, b"{\"log\":\"to"), (GIB / 4, b"\n"), (0, &second)]);
    let endless = [&b"{\"log\":\""[..], &vec![b'x'; 50 * MIB]].concat();
    sparse(&mut engine, "endless-line", &[(0, &first), (0, &endless), (0, b"\n"), (0, &second)]);
    sparse(&mut engine, "endless-end", &[(0, &first), (0, &second), (0, &endless)]);
    let zeros = vec![0; 20 * MIB];
    sparse(&mut engine, "zeros", &[(0, &first), (0, &zeros), (0, &second)]);
    drop((endless, zeros));
    engine.neighbour();

    let agent = Longshore::new(&engine.containers_dir());
    let (done, peak) = unharmed(&engine, &agent, || backfill_measured(&engine, &agent, &[]));
    assert!(peak > 0 && peak < PEAK_MEMORY_MAX, "{peak} bytes at the peak");
    let expected = lines("text", 1, 6);
    for name in
        ["leading-hole", "zeros-and-hole", "hole-between", "hole-in-a-line", "endless-line", "endless-end", "zeros"]
    {
        assert_same(name, &agent.outputs(name), &expected);
        assert!(stderr(&done).contains(&format!("container={name}")), "{name} is named: {}", stderr(&done));
    }
    assert_neighbour(&agent);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
}

#[test]
fn a_record_is_found_whatever_stands_around_it() {
    let mut engine = Engine::new();
    let whole = |number: usize| record("text", number).trim_end().to_owned();
    let label = format!(
        "{{\"log\":\"text\\n\",\"stream\":\"stderr\",\"attrs\":{{\"log\":\"{{\\\"log\\\":\\\"x\\\"\",\"tag\":\"t\"}},\"time\":\"{}\"}}",
        time(4)
    );
    let torn = "{\"log\":\"torn by a full di";
    let log = [
        whole(1),
        "not json at all".to_owned(),
        format!("{torn}{}", whole(2)),
        format!("{}{}", whole(3), label),
        format!("\0\0\0{}\0\0", whole(5)),
        format!("{{\"stream\":\"stdout\",\"time\":\"{}\"}}", time(6)),
        "{\"log\":\"no time\\n\",\"stream\":\"stdout\"}".to_owned(),
        format!("{{\"log\":7,\"time\":\"{}\"}}", time(6)),
        format!("[\"text\\n\",\"stdout\",null,\"{}\"]", time(6)),
        String::new(),
        "null".to_owned(),
        format!("{torn}\",\"attrs\":{label}"),
        format!("{{\"log\":\"{}\",\"time\":\"{}\"}}", "\\ud800", time(7)),
        whole(8),
    ]
    .map(|line| line + "\n")
    .concat();
    let log = [log.as_bytes(), b"\xff\xfe{\"log\":\"\xff\"}\n", whole(9).as_bytes(), b"\n", torn.as_bytes()].concat();
    engine.container("mixed", &log);
    engine.neighbour();
    let agent = Longshore::new(&engine.containers_dir());
    let done = unharmed(&engine, &agent, || backfill(&agent));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let shown = String::from_utf8_lossy(&agent.outputs("mixed")).into_owned();
    let text = |number| line("text", number);
    let expected = [text(1), text(2), text(3), text(4), text(5), line("", 6), text(8), text(9)].concat();
    assert_same("mixed", shown.as_bytes(), expected.as_bytes());
    assert_neighbour(&agent);
}

#[test]
fn memory_of_a_running_agent_is_flat() {
    let mut engine = Engine::new();
    let big = engine.container("big", &records("text", 1, 3));
    big.write_config(format!("{{\"Name\":\"/big\",\"x\":\"{}\"}}", "x".repeat(100 * MIB)).as_bytes());
    let hole = engine.container("hole", b"");
    let mut file = fs::File::create(hole.log()).expect("write a log");
    file.seek(SeekFrom::Start(1 << 30)).expect("leave a hole");
    file.write_all(&records("text", 1, 3)).expect("write behind it");
    drop(file);
    engine.neighbour();
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&[]);
    agent.wait_for_lines("neighbour", 500);
    agent.wait_for_lines("hole", 3);
    agent.wait_for_lines(big.short_id(), 3);
    let peak = peak_memory(pid_of(&agent)).expect("the agent runs");
    assert!(peak < PEAK_MEMORY_MAX, "{peak} bytes at the peak");
    agent.drain();
    assert_neighbour(&agent);
}

/// A first start beside logs that wait to be read: their number doesn't count, and their size neither.
#[test]
fn memory_does_not_grow_with_the_logs_that_wait() {
    const CONTAINERS: usize = 300;
    let mut engine = Engine::new();
    let log = records(&"a line that is not short ".repeat(8), 1, 1500);
    for number in 0..CONTAINERS {
        engine.container(&format!("web-{number}"), &log);
    }
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&[]);
    for number in 0..CONTAINERS {
        agent.wait_for_lines(&format!("web-{number}"), 1500);
    }
    let peak = peak_memory(pid_of(&agent)).expect("the agent runs");
    assert!(peak < 60 * MIB as u64, "{peak} bytes at the peak");
    agent.drain();
}

// ------------------------------------------------------------------------------- the operator

/// Runs a verb to its end on directories of the caller's choice.
fn ended(verb: &str, containers_dir: &Path, log_path: &Path, state_dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = longshore(verb);
    command
        .arg("--containers-dir")
        .arg(containers_dir)
        .arg("--log-path")
        .arg(log_path)
        .arg("--state-dir")
        .arg(state_dir);
    let done = finish(command.args(more), PATIENCE);
    (done.status.code(), stderr(&done))
}

#[test]
fn mistyped_flags_are_explained() {
    let engine = Engine::new();
    let root = engine.root.path();
    for verb in ["run", "backfill"] {
        for (flags, told) in [
            (["--template", "{nmae} {log}"], "did you mean {name}?"),
            (["--template", "{time_stamp} {log}"], "did you mean {timestamp}?"),
            (["--template", "{time} {log"], "brace at column 8 is not closed"),
            (["--template", "{time} log}"], "has no tag"),
            (["--path-template", "{image}.log"], "two containers that run at the same time would write to one file"),
            (["--path-template", "{namespace}/{container}.log"], "two containers that run at the same time"),
            (["--path-template", "../{name}.log"], "a component is `..`"),
            (["--path-template", "/etc/{name}.log"], "the path is absolute"),
            (["--path-template", ".longshore/{name}.log"], "belongs to the agent"),
            (["--path-template", "{name}/{log}.log"], "differs from line to line"),
            (["--path-template", "{name"], "not closed"),
            (["--limit", "0"], "--limit"),
            (["--limit", "many"], "--limit"),
            (["--file-mode", "0888"], "--file-mode"),
            (["--no-such-flag", "x"], "--no-such-flag"),
        ] {
            let (code, said) = ended(verb, &engine.containers_dir(), &root.join("logs"), &root.join("state"), &flags);
            assert_eq!(code, Some(2), "{verb} {flags:?}: {said}");
            assert!(said.contains(told), "{verb} {flags:?}: {said}");
        }
    }
    assert!(!root.join("logs").exists() && !root.join("state").exists(), "nothing is made for a mistake");
}

#[test]
fn places_that_can_not_be_are_told() {
    let mut engine = Engine::new();
    engine.neighbour();
    let root = engine.root.path();
    let (containers, logs, state) = (engine.containers_dir(), root.join("logs"), root.join("state"));
    let file = engine.secret();
    for verb in ["run", "backfill"] {
        let (code, said) = ended(verb, &file, &logs, &state, &[]);
        assert_eq!(code, Some(2), "{verb}: {said}");
        assert!(said.contains("is no directory") && said.contains("hint: "), "{verb}: {said}");
        for (log_path, state_dir, flag) in
            [(&logs, &file.join("state"), "--state-dir"), (&file.join("logs"), &state, "--log-path")]
        {
            let (code, said) = ended(verb, &containers, log_path, state_dir, &[]);
            assert_eq!(code, Some(73), "{verb} {flag}: {said}");
            assert!(said.contains("error: cannot create ") && said.contains(flag), "{verb} {flag}: {said}");
        }
        for (log_path, state_dir) in [(&containers.join("logs"), &state), (&logs, &containers.join("state"))] {
            let (code, said) = ended(verb, &containers, log_path, state_dir, &[]);
            assert_eq!(code, Some(2), "{verb}: {said}");
            assert!(said.contains("is in the containers-dir"), "{verb}: {said}");
        }
        let link = root.join("link-into-the-containers");
        let _ = fs::remove_file(&link);
        symlink(&containers, &link).expect("link into the containers");
        let (code, said) = ended(verb, &containers, &link.join("logs"), &state, &[]);
        assert_eq!(code, Some(2), "{verb}: {said}");
    }
    let (code, said) = ended("backfill", &root.join("none"), &logs, &state, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: cannot list ") && said.contains("hint: "), "{said}");
    let listed = fs::read_dir(&containers).expect("list the containers").count();
    assert_eq!(listed, 1, "nothing was made among Docker's files");
}

#[test]
fn a_missing_root_is_waited_for() {
    let mut engine = Engine::new();
    engine.neighbour();
    let later = engine.root.path().join("later");
    let mut agent = Longshore::new(&later.join("containers"));
    agent.start(&[]);
    until("it says that it waits", PATIENCE, || agent.own_log_text().contains("waiting for it"));
    fs::create_dir(&later).expect("make its parent");
    fs::rename(engine.containers_dir(), later.join("containers")).expect("mount the containers");
    agent.wait_for_lines("neighbour", 500);
    agent.drain();
    assert_neighbour(&agent);
}

#[test]
fn two_agents_never_share_a_place() {
    let mut engine = Engine::new();
    engine.neighbour();
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&[]);
    agent.wait_for_lines("neighbour", 500);
    let other = engine.root.path().join("other");
    for verb in ["run", "backfill"] {
        for (log_path, state_dir) in
            [(&other.join("logs"), &agent.state_dir()), (&agent.log_path(), &other.join("state"))]
        {
            let (code, said) = ended(verb, &engine.containers_dir(), log_path, state_dir, &[]);
            assert_eq!(code, Some(75), "{verb}: {said}");
            let holder = format!("is held by another agent (pid {})", pid_of(&agent));
            assert!(said.contains(&holder) && said.contains("hint: "), "{verb}: {said}");
        }
    }
    agent.drain();
    let (code, said) = ended("backfill", &engine.containers_dir(), &agent.log_path(), &agent.state_dir(), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_neighbour(&agent);
}
