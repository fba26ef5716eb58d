//! SIGHUP and SIGUSR1 while lines come in: nothing is lost by them and nothing comes twice.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::harness::{Longshore, PATIENCE, until};
use crate::verify::{Log, Root};

const CREATED: &str = "2026-11-25T00:00:00Z";

struct Scene {
    root: Root,
    agent: Longshore,
    directory: tempfile::TempDir,
}

impl Scene {
    /// An agent that follows one container, by a file.
    fn new(text: &str) -> (Scene, Log) {
        let root = Root::new();
        let log = root.container('a', "web", CREATED);
        let agent = Longshore::new(root.path());
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut scene = Scene { root, agent, directory };
        scene.write(text);
        let path = scene.path();
        scene.agent.start(&["--config", path.to_str().expect("a path"), "--listen", "none"]);
        until("it runs", PATIENCE, || scene.said("started") == 1);
        (scene, log)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("write the file");
    }

    fn said(&self, what: &str) -> usize {
        self.agent.own_log_text().matches(what).count()
    }

    fn reload(&self, text: &str) {
        let n_before = self.said("configuration reloaded");
        self.write(text);
        self.agent.signal(Signal::HUP);
        until("it reloads", PATIENCE, || self.said("configuration reloaded") > n_before);
    }

    /// The numbers of the lines in the output, with their first word.
    fn lines(&self) -> Vec<(String, usize)> {
        let mut bytes = self.agent.outputs("web");
        bytes.truncate(memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1)); // A write may be under way.
        let text = String::from_utf8(bytes).expect("text");
        let of = |line: &str| {
            let (look, rest) = line.split_once(" line ").unwrap_or_else(|| panic!("not whole: {line}"));
            (look.to_owned(), rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"))
        };
        text.lines().map(of).collect()
    }
}

#[test]
fn under_load_no_line_is_lost_or_repeated() {
    let (mut scene, log) = Scene::new("template = 'a {log}'\n");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            log.lines(n, n + 50);
            n += 50;
            if n % 2_000 == 0 {
                log.rotate();
            }
        }
        n
    });
    // Every third line may be filtered, and the container left out for a while.
    let without = "exclude_regex = 'line [0-9]*[369] '\n";
    for (look, more) in [
        ("b", "limit = '40kB'\n"),
        ("c", "limit = '20kB'\ncompression = 'gzip'\n"),
        ("c", "exclude_names = ['web']\n"),
        ("d", without),
        ("e", "exclude_names = ['web']\n"),
        ("e", "[[container]]\nname = 'w*'\nlimit = '30kB'\n"),
        ("f", "path_template = '{name}/{name}.log'\nheld_max = '1GiB'\n"),
    ] {
        let n_before = scene.lines().len();
        scene.reload(&format!("template = '{look} {{log}}'\n{more}"));
        if !more.contains("exclude_names") {
            until("lines of the new look come", PATIENCE, || {
                let lines = scene.lines();
                lines.len() > n_before + 500 && lines.last().is_some_and(|(last, _)| last == look)
            });
        }
    }
    stop.store(true, Ordering::Relaxed);
    let n_written = writer.join().expect("the writer");
    until("the last line is there", PATIENCE, || scene.lines().last().is_some_and(|(_, n)| *n == n_written - 1));
    scene.agent.drain();
    let lines = scene.lines();
    let looks: String = lines.iter().map(|(look, _)| look.as_str()).collect();
    let mut seen: Vec<char> = looks.chars().collect();
    seen.dedup();
    assert!(seen.is_sorted(), "each look begins once: {seen:?}");
    let numbers: Vec<usize> = lines.iter().map(|(_, n)| *n).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
    let mut there = numbers.iter().copied().peekable();
    for n in 0..n_written {
        let is_there = there.next_if_eq(&n).is_some();
        assert!(is_there || n % 10 != 0 && n % 10 % 3 == 0, "line {n} of {n_written} is missing");
    }
    let verified = scene.agent.tell("verify", &["--config", scene.path().to_str().expect("a path")]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    drop(scene.root);
}

#[test]
fn a_bad_file_changes_nothing_and_what_needs_a_restart_is_named() {
    let (mut scene, log) = Scene::new("template = 'a {log}'\n");
    log.lines(0, 10);
    scene.agent.wait_for_lines("web", 10);
    scene.write("template = 'b {log}'\nlimitt = 1\n");
    scene.agent.signal(Signal::HUP);
    until("it says why", PATIENCE, || {
        scene.said("config.toml:2: unknown key limitt; did you mean limit?") == 1
            && scene.said("the new configuration is not taken; the old one stays") == 1
    });
    fs::remove_file(scene.path()).expect("remove the file");
    scene.agent.signal(Signal::HUP);
    until("it says so again", PATIENCE, || scene.said("the old one stays") == 2);
    log.lines(10, 20);
    scene.agent.wait_for_lines("web", 20);
    assert!(scene.lines().iter().all(|(look, _)| look == "a"));
    scene.reload("template = 'b {log}'\nlog_format = 'json'\nlog_level = 'debug'\n");
    let restart = "changed, but counts only after a restart";
    assert_eq!((scene.said(restart), scene.said("log_format")), (1, 1));
    log.lines(20, 30);
    scene.agent.wait_for_lines("web", 30);
    assert!(scene.lines()[20..].iter().all(|(look, _)| look == "b"));
    scene.agent.drain();
}

#[test]
fn an_output_that_was_moved_is_opened_anew() {
    let (mut scene, log) = Scene::new("template = 'a {log}'\n");
    let output = scene.agent.log_path().join("web/web.log");
    let moved = scene.agent.log_path().join("moved");
    log.lines(0, 10);
    scene.agent.wait_for_lines("web", 10);
    fs::rename(&output, &moved).expect("move the output");
    scene.agent.signal(Signal::USR1);
    until("it looks", PATIENCE, || scene.said("the output was removed; a new file goes on") == 1);
    log.lines(10, 20);
    scene.agent.wait_for_lines("web", 10);
    scene.agent.drain();
    let numbers: Vec<usize> = scene.lines().iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(moved).expect("read it").lines().count(), 10);
}

#[test]
fn a_service_manager_hears_of_a_reload() {
    let root = Root::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, socket) = (directory.path().join("config.toml"), directory.path().join("notify"));
    fs::write(&file, "limit = 1000\n").expect("write the file");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("bind");
    manager.set_read_timeout(Some(PATIENCE)).expect("a time");
    let hears = |word: &str| {
        let mut said = [0; 1024];
        loop {
            let n = manager.recv(&mut said).unwrap_or_else(|error| panic!("{word} is not heard: {error}"));
            let said = String::from_utf8_lossy(&said[..n]).into_owned();
            if said.lines().any(|line| line == word) {
                return said;
            }
        }
    };
    let mut agent = Longshore::new(root.path());
    let config = file.to_str().expect("a path");
    agent.start_with(&["--config", config, "--listen", "none"], &[("NOTIFY_SOCKET", &socket)]);
    hears("READY=1");
    for text in ["limit = 2000\n", "limit = what\n"] {
        fs::write(&file, text).expect("write the file");
        agent.signal(Signal::HUP);
        let reloading = hears("RELOADING=1");
        let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|usec| usec > 0)), "{reloading}");
        hears("READY=1");
    }
    agent.drain();
}
