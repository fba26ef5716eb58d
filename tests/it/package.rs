//! What `scripts/dist` makes: the tree, the archive, and the Debian package through its whole life in a root of its own.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{PATIENCE, finish};

/// Where `scripts/test` had it made; elsewhere the test says that it was skipped.
fn dist() -> Option<PathBuf> {
    let found = env::var_os("LONGSHORE_TEST_DIST").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: LONGSHORE_TEST_DIST is not set (scripts/dist --quick makes it)");
    }
    found
}

fn file_in(dist: &Path, suffix: &str) -> PathBuf {
    let mut entries = fs::read_dir(dist).expect("list target/dist").map(|entry| entry.expect("an entry").path());
    entries.find(|path| path.to_string_lossy().ends_with(suffix)).unwrap_or_else(|| panic!("there is no {suffix}"))
}

fn well(command: &mut Command) -> String {
    let done = finish(command, PATIENCE);
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    said
}

/// Whether one of the program headers is PT_INTERP (elf(5), 64 bits).
fn asks_for_a_linker(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((&elf[..4], elf[4]), (&b"\x7fELF"[..], 2), "64 bits");
    let headers = word(0x20) as usize;
    (0..half(0x38)).any(|ix| word(headers + ix * half(0x36)) == PT_INTERP)
}

#[test]
fn the_binary_is_static_and_the_tree_is_whole() {
    let Some(dist) = dist() else { return };
    let binary = dist.join("root/usr/bin/longshore");
    let bytes = fs::read(&binary).expect("read the binary");
    assert!(!asks_for_a_linker(&bytes), "something of the host's would be loaded");
    assert_eq!(well(Command::new(&binary).arg("--version")), format!("longshore {}\n", env!("CARGO_PKG_VERSION")));
    for path in [
        "usr/share/man/man1/longshore.1.gz",
        "usr/share/man/man1/longshore-state-forget.1.gz",
        "usr/share/bash-completion/completions/longshore",
        "usr/share/zsh/vendor-completions/_longshore",
        "usr/share/fish/vendor_completions.d/longshore.fish",
        "usr/lib/systemd/system/longshore.service",
    ] {
        let size = fs::metadata(dist.join("root").join(path)).unwrap_or_else(|error| panic!("{path}: {error}")).len();
        assert!(size > 0, "{path} is empty");
    }
    well(Command::new("bash").arg("-n").arg(dist.join("root/usr/share/bash-completion/completions/longshore")));
    well(Command::new("sha256sum").arg("--check").arg(file_in(&dist, ".sha256")).current_dir(&dist));
    let bill = fs::read(file_in(&dist, ".cdx.json")).expect("read the bill of materials");
    let bill: serde_json::Value = serde_json::from_slice(&bill).expect("JSON");
    let components = bill["components"].as_array().expect("components");
    assert!(components.iter().any(|component| component["name"] == "sled" && component["hashes"].is_array()));
    assert!(!components.iter().any(|component| component["name"] == "proptest"), "what only tests use is not in it");
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let Some(dist) = dist() else { return };
    if !Path::new("/usr/bin/lintian").exists() {
        println!("skipped: no lintian");
        return;
    }
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error"]).arg(file_in(&dist, ".deb"));
    well(&mut command);
}

/// A root with a package database and nothing else. The package's scripts run outside of it and are told where it is,
/// as `dpkg --force-script-chrootless` has it.
struct Root {
    directory: TempDir,
}

impl Root {
    /// `None` where dpkg can't be used: it wants root.
    fn new() -> Option<Root> {
        if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/dpkg").exists() {
            println!("skipped: needs root and dpkg");
            return None;
        }
        let root = Root { directory: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir_all(root.path("var/lib/dpkg/info")).expect("make a package database");
        fs::create_dir_all(root.path("var/lib/dpkg/updates")).expect("make a package database");
        fs::create_dir_all(root.path("var/log")).expect("make a directory");
        fs::write(root.path("var/lib/dpkg/status"), "").expect("make a package database");
        fs::create_dir_all(root.path("etc")).expect("make a directory");
        Some(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    fn dpkg(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.directory.path().display()));
        command.args(["--force-script-chrootless", "--force-depends", "--force-confold"]).args(arguments);
        // dpkg looks for tools that its scripts may want.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let done = finish(&mut command, PATIENCE);
        let said = String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned();
        assert!(done.status.success(), "dpkg {arguments:?}: {said}");
        done
    }
}

#[test]
fn the_package_installs_upgrades_and_goes() {
    let (Some(dist), Some(root)) = (dist(), Root::new()) else { return };
    let package = file_in(&dist, ".deb");
    let package = package.to_str().expect("a path");
    root.dpkg(&["--install", package]);

    let config = root.path("etc/longshore/config.toml");
    well(Command::new(root.path("usr/bin/longshore")).args(["check", "--config"]).arg(&config));
    assert!(root.path("lib/systemd/system/longshore.service").exists());
    assert!(root.text("etc/passwd").contains("longshore:"), "it has a user: {}", root.text("etc/passwd"));
    let enabled = "etc/systemd/system/multi-user.target.wants/longshore.service";
    assert!(fs::symlink_metadata(root.path(enabled)).is_ok(), "the unit is enabled");
    let state = fs::metadata(root.path("var/lib/longshore")).expect("a state directory");
    assert_eq!(state.permissions().mode() & 0o777, 0o750);

    // What the operator wrote stays, through an upgrade too.
    fs::write(&config, "limit = \"7MB\"\n").expect("edit the configuration");
    fs::write(root.path("var/log/longshore/kept.log"), "the only copy\n").expect("write an output");
    root.dpkg(&["--install", package]);
    assert_eq!(fs::read_to_string(&config).expect("read it"), "limit = \"7MB\"\n");

    root.dpkg(&["--remove", "longshore"]);
    assert!(!root.path("usr/bin/longshore").exists());
    assert!(config.exists() && root.path("var/lib/longshore").exists(), "a removal keeps settings and positions");
    root.dpkg(&["--purge", "longshore"]);
    assert!(!root.path("etc/longshore").exists() && !root.path("var/lib/longshore").exists());
    assert_eq!(root.text("var/log/longshore/kept.log"), "the only copy\n", "a purge leaves the collected logs");
    assert!(fs::symlink_metadata(root.path(enabled)).is_err());
}

/// As longshore.service runs it: a user of its own with one capability, on files that belong to root alone.
#[test]
fn a_user_with_one_capability_reads_what_is_roots() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        println!("skipped: needs root and setpriv");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers");
    well(Command::new("cp").arg("-r").arg(fixture).arg(at("containers")));
    well(Command::new("chmod").args(["-R", "go="]).arg(at("containers")));
    // Where root's files can't be looked into, the binary must not lie either.
    fs::copy(env!("CARGO_BIN_EXE_longshore"), at("longshore")).expect("copy the binary");
    for name in ["logs", "state"] {
        fs::create_dir(at(name)).expect("make a directory");
        well(Command::new("chown").arg("65534:65534").arg(at(name)));
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("open the directory");
    let backfill = |capabilities: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).args(capabilities);
        command.arg(at("longshore")).args(["backfill", "--progress=never", "--containers-dir"]).arg(at("containers"));
        finish(command.arg("--log-path").arg(at("logs")).arg("--state-dir").arg(at("state")), PATIENCE)
    };
    assert_eq!(backfill(&[]).status.code(), Some(1), "without it, that is said");
    let done = backfill(&["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(fs::metadata(at("logs/web/web.log")).expect("an output").len() > 0);
}
