//! README and docs/: every fenced block of commands or settings is run, or judged by what would take it.
//!
//! | fence | judged by |
//! |---|---|
//! | `toml` | `longshore check` |
//! | `sh` | [`Sandbox::judge`]: longshore's own commands are run; docker's in `engine_docs`; others by what they name |
//! | `yaml` | the Kubernetes schema; `yaml values` by the chart; `yaml prometheus` by promtool; `yaml compose` in `engine_docs` |
//! | `json` | a parser |
//! | `text` | in README: what the block before it prints; elsewhere nobody |

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{Longshore, PATIENCE, finish, until};
use crate::manifest;
use crate::watched::{free_address, get};

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A fenced block, and where it stands.
pub struct Block {
    pub file: String,
    pub line: usize,
    pub kind: String,
    pub text: String,
}

impl Block {
    fn at(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// The commands of a block for a shell, one each, without comments and prompts.
    pub fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let lines = joined.lines().map(|line| line.split("  #").next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    }
}

/// Every page an operator reads.
pub fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "README.zh-CN.md".to_owned()];
    for page in ["CONTRIBUTING.md", "SECURITY.md"] {
        pages.push(page.to_owned());
    }
    for entry in fs::read_dir(repository("docs")).expect("list docs") {
        pages.push(format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()));
    }
    pages.sort();
    pages
}

pub fn blocks() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks_of(page)).collect()
}

fn blocks_of(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (ix, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(kind)) => {
                let file = page.to_owned();
                open = Some(Block { file, line: ix + 1, kind: kind.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                assert!(!line.starts_with("    "), "{page}:{}: a block without a fence can't be checked", ix + 1);
            }
        }
    }
    assert!(open.is_none(), "{page}: a fence stays open");
    blocks
}

/// Compose says what `docker run` says; that one is run by `engine_docs`.
#[test]
fn compose_is_the_same_as_docker_run() {
    let blocks = blocks_of("docs/install.md");
    let compose = blocks.iter().find(|block| block.kind == "yaml compose").expect("a Compose file is shown");
    let commands = blocks.iter().flat_map(Block::commands).collect::<Vec<_>>();
    let run = commands.iter().find(|command| command.starts_with("docker run ")).expect("docker run is shown");
    let service = manifest::objects(&compose.text)[0]["services"]["longshore"].clone();
    let of = |key: &str| service[key].as_str().unwrap_or_else(|| panic!("{key} is text")).to_owned();
    let all = |key: &str| service[key].as_array().unwrap_or_else(|| panic!("{key} is a list")).clone();
    let mut options = vec![format!("--restart {}", of("restart")), of("image")];
    options.push(format!("--stop-timeout {}", of("stop_grace_period").trim_end_matches('s')));
    options.extend((service["read_only"] == true).then(|| "--read-only".to_owned()));
    for (key, flag) in [("cap_drop", "--cap-drop"), ("security_opt", "--security-opt"), ("volumes", "--volume")] {
        options.extend(all(key).iter().map(|value| format!("{flag} {}", value.as_str().expect("text"))));
    }
    for option in &options {
        assert!(run.contains(option), "docker run has no {option}: {run}");
    }
    let n_options = options.len() + ["--detach", "--name"].len() - 1;
    assert_eq!(run.matches(" --").count(), n_options, "{run} and Compose's {options:?}");
}

fn of_kind(kind: &str) -> Vec<Block> {
    blocks().into_iter().filter(|block| block.kind == kind).collect()
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    const KINDS: [&str; 8] = ["sh", "toml", "yaml", "yaml values", "yaml prometheus", "yaml compose", "text", "json"];
    for block in blocks() {
        assert!(KINDS.contains(&block.kind.as_str()), "{}: a block of kind {:?}", block.at(), block.kind);
    }
}

#[test]
fn settings_shown_are_accepted() {
    for block in of_kind("toml") {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.toml");
        fs::write(&file, &block.text).expect("write the settings");
        let mut check = Command::new(env!("CARGO_BIN_EXE_longshore"));
        let checked = finish(check.args(["check", "--config"]).arg(&file), PATIENCE);
        assert!(checked.status.success(), "{}: {}", block.at(), String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn json_shown_is_json() {
    for block in of_kind("json") {
        let parsed = serde_json::from_str::<serde_json::Value>(&block.text);
        assert!(parsed.is_ok(), "{}: {parsed:?}", block.at());
    }
}

#[test]
fn yaml_shown_is_accepted() {
    let given = |variable: &str| std::env::var_os(variable);
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a temporary file");
    for block in blocks().iter().filter(|block| block.kind.starts_with("yaml")) {
        assert!(!manifest::objects(&block.text).is_empty(), "{}", block.at());
        fs::write(file.path(), &block.text).expect("write it");
        let command = match block.kind.as_str() {
            "yaml" => given("LONGSHORE_TEST_KUBERNETES_VALIDATE").map(|validator| {
                let mut command = Command::new(validator);
                command.args(["--strict", "--no-warn"]);
                command
            }),
            "yaml values" => given("LONGSHORE_TEST_HELM").map(|helm| {
                let mut command = Command::new(helm);
                command.args(["template", "longshore"]).arg(repository("k8s/helm/longshore")).arg("--values");
                command
            }),
            "yaml prometheus" => given("LONGSHORE_TEST_PROMTOOL").map(|promtool| {
                let mut command = Command::new(promtool);
                command.args(["check", "config", "--syntax-only"]);
                command
            }),
            _ => None,
        };
        let Some(mut command) = command else { continue };
        let done = finish(command.arg(file.path()), PATIENCE);
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{}: {}", block.at(), String::from_utf8_lossy(&said));
    }
}

#[test]
fn commands_shown_work() {
    let sandbox = Sandbox::new();
    let shown = of_kind("sh");
    assert!(shown.len() > 10, "the pages show commands");
    for block in &shown {
        for command in block.commands() {
            sandbox.judge(&block.at(), &command);
        }
    }
}

/// What README prints is what is printed.
#[test]
fn the_first_lines_are_as_shown() {
    for page in ["README.md", "README.zh-CN.md"] {
        let blocks = blocks_of(page);
        let shown = blocks.iter().position(|block| block.kind == "text").expect("lines are shown");
        let sandbox = Sandbox::new();
        let done = sandbox.run(&blocks[shown - 1].commands()[0], &sandbox.apart);
        assert!(done.status.success(), "{page}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stdout), blocks[shown].text, "{page}");
    }
}

/// The translation says the same: the same blocks in the same order, but for what comments say.
#[test]
fn the_translation_shows_what_readme_shows() {
    let bare = |line: &str| line.split("  #").next().unwrap_or_default().trim_end().to_owned();
    let of = |page: &str| {
        let bared = |block: Block| (block.kind, block.text.lines().map(bare).collect::<Vec<_>>());
        blocks_of(page).into_iter().map(bared).collect::<Vec<_>>()
    };
    assert_eq!(of("README.zh-CN.md"), of("README.md"));
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(repository(&page)).expect("read a page");
        let directory = repository(&page).parent().expect("a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { repository(&page) } else { directory.join(path) };
            assert!(file.exists(), "{page}: {target} leads nowhere");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&file).expect("read what is linked");
                assert!(anchors(&there).contains(&anchor.to_owned()), "{page}: {target}: no such heading");
            }
        }
    }
}

/// As the usual hosts make them of headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_';
    headings.map(|heading| heading.chars().filter(kept).collect::<String>().to_lowercase().replace(' ', "-")).collect()
}

/// A small host: a data root, an agent that runs on it, and a second agent's directories where none runs.
struct Sandbox {
    scratch: TempDir,
    running: Longshore,
    address: SocketAddr,
    apart: Longshore,
}

impl Sandbox {
    fn new() -> Sandbox {
        let containers = repository("tests/fixtures/containers");
        let scratch = tempfile::tempdir().expect("a temporary directory");
        symlink(repository("tests"), scratch.path().join("tests")).expect("link the fixtures");
        let address = free_address();
        let (mut running, apart) = (Longshore::new(&containers), Longshore::new(&containers));
        running.start(&["--listen", &address.to_string()]);
        until("it is ready and has read all", PATIENCE, || {
            get(address, "/metrics").is_some_and(|(_, body)| body.contains("\nlongshore_read_lag_bytes 0\n"))
                && get(address, "/readyz").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
                && running.tell("verify", &[]).status.success()
        });
        assert!(apart.backfill(&["--progress=never"]).status.success());
        Sandbox { scratch, running, address, apart }
    }

    /// Panics where a command would fail on a reader's host.
    fn judge(&self, at: &str, command: &str) {
        let command = command.trim_start_matches("sudo ");
        let words: Vec<&str> = command.split_whitespace().collect();
        let exists = |path: &str| assert!(repository(path).exists(), "{at}: {command}: there is no {path}");
        match words[0] {
            "longshore" => self.judge_own(at, command, &words),
            "cargo" if words[1] == "run" => self.judge_own(at, command, &words),
            "cargo" => assert!(["build", "test", "bench"].contains(&words[1]), "{at}: {command}"),
            "curl" => {
                let url = words.iter().find(|word| word.starts_with("http")).expect("an address");
                let path = url.strip_prefix("http://127.0.0.1:9105").unwrap_or_else(|| panic!("{at}: {url}"));
                let (head, _) = get(self.address, path).expect("an answer");
                assert!(head.starts_with("HTTP/1.1 200"), "{at}: {command}: {head}");
            }
            "kubectl" => match words[1] {
                "apply" => exists(words[3]),
                _ => assert!(command.contains("longshore"), "{at}: {command}"),
            },
            "helm" => self.judge_helm(at, command, &words),
            // Run by `engine_docs`.
            "docker" => {
                assert!(["build", "run", "exec", "stop", "logs", "inspect"].contains(&words[1]), "{at}: {command}")
            }
            "systemctl" | "journalctl" | "systemd-sysusers" => {
                assert!(command.contains("longshore"), "{at}: {command}")
            }
            "promtool" => exists(words[3]),
            "apt-get" | "dpkg" | "sha256sum" | "install" | "tar" => {
                let made = words.iter().any(|word| word.contains("longshore"));
                assert!(made, "{at}: {command} names nothing that scripts/dist makes");
            }
            "sysctl" => assert_eq!(words[1..], ["--system"], "{at}"),
            script if script.starts_with("scripts/") => exists(script),
            other => panic!("{at}: nobody knows how to check {other}"),
        }
    }

    fn judge_own(&self, at: &str, command: &str, words: &[&str]) {
        // Beside a running agent a store can't be opened; what ends is run for itself.
        let alone = words.contains(&"backfill") || words.contains(&"state");
        let done = self.run(command, if alone { &self.apart } else { &self.running });
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{at}: {command}: {}: {said}", done.status);
    }

    /// By a shell, on the small host: its binary, its directories in place of the system's, its port.
    fn run(&self, command: &str, host: &Longshore) -> Output {
        let scratch = self.scratch.path().display().to_string();
        let containers = repository("tests/fixtures/containers").display().to_string();
        let command = command
            .replace("cargo run --release --locked -- ", "longshore ")
            // What would follow for ever is parsed and resolved instead.
            .replace("longshore run", "longshore check")
            .replace("/mnt/copy/containers", &containers)
            .replace("/tmp/longshore-demo", &format!("{scratch}/demo"))
            .replace("127.0.0.1:9105", &self.address.to_string());
        let listen = if std::ptr::eq(host, &self.apart) { "none".to_owned() } else { self.address.to_string() };
        let state_dir = match command.contains("state import") {
            true => self.scratch.path().join("another-host"),
            false => host.state_dir(),
        };
        let binary = Path::new(env!("CARGO_BIN_EXE_longshore")).parent().expect("a directory");
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", &command])
            .current_dir(self.scratch.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binary.display()))
            .env("LONGSHORE_CONTAINERS_DIR", containers)
            .env("LONGSHORE_LOG_PATH", host.log_path())
            .env("LONGSHORE_STATE_DIR", state_dir)
            .env("LONGSHORE_LISTEN", listen);
        finish(&mut shell, PATIENCE)
    }

    fn judge_helm(&self, at: &str, command: &str, words: &[&str]) {
        let Some(helm) = std::env::var_os("LONGSHORE_TEST_HELM") else { return };
        match words[1] {
            "install" | "upgrade" => {
                let mut template = Command::new(helm);
                template.arg("template").current_dir(repository(""));
                template.args(words[2..].iter().filter(|word| !["--install", "--create-namespace"].contains(word)));
                let done = finish(&mut template, PATIENCE);
                assert!(done.status.success(), "{at}: {command}: {}", String::from_utf8_lossy(&done.stderr));
            }
            "test" => assert!(command.contains("longshore"), "{at}: {command}"),
            other => panic!("{at}: nobody knows how to check helm {other}"),
        }
    }
}
