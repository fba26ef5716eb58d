use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = line.split_whitespace().map(|word| word.replace('␣', " "));
    Cli::try_parse_from(std::iter::once("longshore".to_owned()).chain(words)).map(Cli::into_command)
}

fn run(line: &str) -> AgentFlags {
    match parse(line) {
        Ok(Command::Run(flags)) => flags,
        other => panic!("{line}: {other:?}"),
    }
}

fn backfill(line: &str) -> BackfillFlags {
    match parse(line) {
        Ok(Command::Backfill(flags)) => flags,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn run_is_the_default() {
    for line in ["", "run", "-o /out", "run -o /out", "-n run", "-c"] {
        assert!(matches!(parse(line), Ok(Command::Run(_))), "{line}");
    }
    assert_eq!(run("-o /out").places.log_path, PathBuf::from("/out"));
    assert!(matches!(parse("backfill"), Ok(Command::Backfill(_))));
    assert!(matches!(parse("containers --json"), Ok(Command::Containers(ContainersFlags { json: true, .. }))));
    refused("follow");
    refused("-o /out backfill");
    refused("containers --limit 5MB");
    refused("run --since 10m");
}

#[test]
fn help_and_version() {
    assert_eq!(parse("--version").unwrap_err().kind(), ErrorKind::DisplayVersion);
    assert_eq!(parse("-V").unwrap_err().to_string(), format!("longshore {}\n", env!("CARGO_PKG_VERSION")));
    for line in ["--help", "run --help", "backfill --help"] {
        let help = parse(line).unwrap_err().to_string();
        for flag in [
            "containers-dir",
            "container-names",
            "exclude-names",
            "label",
            "image",
            "log-path",
            "path-template",
            "limit",
            "compression",
            "max-files",
            "max-age",
            "max-total",
            "state-dir",
            "template",
            "format",
            "from",
            "max-line-bytes",
            "file-mode",
            "held-max",
            "listen",
            "sync",
            "log-level",
            "log-format",
        ] {
            assert!(help.contains(&format!("--{flag}")), "{line}: {flag}");
            let variable = format!("LONGSHORE_{}", flag.to_uppercase().replace('-', "_"));
            assert!(help.contains(&format!("[env: {variable}=")), "{line}: {variable}");
        }
        for default in
            ["/var/lib/docker/containers", "{name}/{name}.log", "50MB", "1MiB", "0640", "{time} {log}", "10GiB or 5 %"]
        {
            assert!(help.contains(default), "{line}: {default}");
        }
        for heading in [SOURCE, OUTPUT, ROTATION, STATE, OWN_LOGS] {
            assert_eq!(help.matches(&format!("\n{heading}:\n")).count(), 1, "{line}: {heading}");
        }
    }
    let help = parse("backfill -h").unwrap_err().to_string();
    assert!(["--since", "--until", "--threads", "--progress", "Backfill:"].iter().all(|word| help.contains(word)));
}

#[test]
fn sizes() {
    for (typed, bytes) in [
        ("50MB", 50_000_000),
        ("50MiB", 50 << 20),
        ("50M", 50_000_000),
        ("50Mi", 50 << 20),
        ("50mb", 50_000_000),
        ("50", 50),
        ("50B", 50),
        ("1.5KB", 1500),
        ("50␣MB", 50_000_000),
    ] {
        assert_eq!(run(&format!("--limit {typed}")).limit.0, bytes, "{typed}");
    }
    for typed in ["x", "MB", "5XB", "=-5", "0", "0MB", "0.2B", "5M5", "99999999999999EB", "1e3"] {
        refused(&format!("--limit {typed}"));
        refused(&format!("--max-total {typed}"));
    }
    assert!(refused("--limit junk").contains("not a size such as 50MB"));
    assert_eq!(run("--held-max 0").held_max, Some(ByteSize(0)));
}

#[test]
fn line_sizes_have_a_range() {
    for typed in ["16KiB", "2MiB", "16384", "1MB"] {
        run(&format!("--max-line-bytes {typed}"));
    }
    for typed in ["16KB", "16383", "3MiB", "0"] {
        assert!(refused(&format!("--max-line-bytes {typed}")).contains("from 16KiB to 2MiB"), "{typed}");
    }
}

#[test]
fn compression_may_be_bare() {
    use Compression::*;
    for (line, expected) in [
        ("", None),
        ("-c", Gzip),
        ("-c zstd", Zstd),
        ("-czstd", Zstd),
        ("-c -o /out", Gzip),
        ("-o /out -c", Gzip),
        ("--compression", Gzip),
        ("--compression=zstd", Zstd),
        ("--compression gzip", Gzip),
        ("-c none", None),
        ("run -c", Gzip),
    ] {
        assert_eq!(run(line).compression, expected, "{line}");
    }
    assert!(refused("-c lz4").contains("none, gzip, zstd"));
}

#[test]
fn lists_are_split_and_repeatable() {
    let lists = run("-n a,b -n c*,x{d,e},[f,g] --image i --label k=v,w --label x=1\\,2").selection;
    let flat = |lists: &[List]| lists.iter().flat_map(|list| list.0.clone()).collect::<Vec<_>>();
    assert_eq!(flat(&lists.container_names), ["a", "b", "c*", "x{d,e}", "[f,g]"]);
    assert_eq!(flat(&lists.label), ["k=v", "w", "x=1,2"]);
    assert_eq!("a,, b ,".parse::<List>().unwrap().0, ["a", "b"]);
    assert!("".parse::<List>().is_err() && " , ".parse::<List>().is_err());
}

#[test]
fn file_modes() {
    for (typed, mode) in [("0640", 0o640), ("644", 0o644), ("0o600", 0o600), ("0777", 0o777)] {
        assert_eq!(run(&format!("--file-mode {typed}")).file_mode, FileMode(mode), "{typed}");
    }
    for typed in ["01777", "4755", "0440", "0240", "0", "888", "rw", "0o", "77777777777777"] {
        refused(&format!("--file-mode {typed}"));
    }
}

#[test]
fn times() {
    let at = |typed: &str| typed.parse::<When>().unwrap().resolve(1_000_000_000_000);
    assert_eq!(at("1970-01-01T00:00:01.5Z"), 1_500_000_000);
    assert_eq!(at("1970-01-01T02:00:01+02:00"), 1_000_000_000);
    assert_eq!(at("2025-11-25"), 1_764_028_800_000_000_000);
    assert_eq!(at("2025-11-25T01:00:00"), 1_764_032_400_000_000_000);
    assert_eq!(at("10m"), 400_000_000_000);
    assert_eq!(at("2h 5s"), 1_000_000_000_000 - 7_205_000_000_000);
    for typed in ["", "10", "now", "2025-13-01", "2025-11-25T25:00:00Z", "10 parsecs", "20251125", "-10m"] {
        assert!(typed.parse::<When>().is_err(), "{typed}");
    }
    let flags = backfill("backfill --since 2h --until 2025-11-25T10:00:00Z");
    assert_eq!(flags.since, Some(When::Ago(Duration::from_secs(7200))));
    assert!(refused("backfill --since yesterday").contains("2026-11-25T10:00:00Z"));
}

#[test]
fn numbers_and_ages() {
    assert_eq!(backfill("backfill --threads 64").threads, Some(64));
    for line in [
        "backfill --threads 0",
        "backfill --threads 65",
        "--max-files 0",
        "--max-files -1",
        "--max-age 0s",
        "--max-age 7",
    ] {
        refused(line);
    }
    assert_eq!(run("--max-age 7d").max_age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(run("--max-files 1").max_files, Some(1));
}

#[test]
fn listen_addresses() {
    for (typed, expected) in [
        (":9464", "127.0.0.1:9464"),
        ("9464", "127.0.0.1:9464"),
        ("localhost:9464", "127.0.0.1:9464"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::]:9464", "[::]:9464"),
    ] {
        let expected = Listen::At(expected.parse().unwrap());
        assert_eq!(run(&format!("--listen {typed}")).own_logs.listen, Some(expected));
    }
    assert_eq!(run("--listen none").own_logs.listen, Some(Listen::Off));
    for typed in ["host:9464", "1.2.3.4", "70000", ":", "[::]"] {
        refused(&format!("--listen {typed}"));
    }
}

#[test]
fn log_levels() {
    for typed in ["error", "INFO", "trace", "off", "info,longshore::tail=debug", "longshore=trace"] {
        assert_eq!(run(&format!("--log-level {typed}")).own_logs.log_level.0, typed);
    }
    for typed in ["inof", "info,deubg", "longshore=loud", "5"] {
        refused(&format!("--log-level {typed}"));
    }
}

#[test]
fn a_host_may_be_called_otherwise() {
    assert_eq!(run("--hostname node-7").selection.hostname("pod-x"), "node-7");
    assert_eq!(run("").selection.hostname("pod-x"), "pod-x");
    assert!(refused(&format!("--hostname {}", "n".repeat(254))).contains("not a name of 1 to 253 bytes"));
    refused("--hostname=");
}
