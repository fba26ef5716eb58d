//! What an operator sees of a running agent: HTTP, `status`, `healthcheck`, and the rules that ship with it.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Longshore, PATIENCE, finish, until, within};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn fixture() -> Longshore {
    Longshore::new(&repository("tests/fixtures/containers"))
}

/// A port that nobody has at the moment.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address")
}

pub fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

#[test]
fn a_running_agent_can_be_watched() {
    let mut agent = fixture();
    let address = free_address();
    let listen = address.to_string();
    let healthcheck =
        || finish(Command::new(env!("CARGO_BIN_EXE_longshore")).args(["healthcheck", "--listen", &listen]), PATIENCE);
    assert_eq!(healthcheck().status.code(), Some(1), "nobody is there");

    agent.start(&["--listen", &listen, "--container-metrics"]);
    until("it is ready", PATIENCE, || {
        get(address, "/readyz").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
    });
    let well = healthcheck();
    assert_eq!(well.status.code(), Some(0), "{}", String::from_utf8_lossy(&well.stderr));

    let file = agent.log_path().with_file_name("healthcheck.toml");
    fs::write(&file, format!("listen = \"{listen}\"\n")).expect("room on the disk");
    let by_file = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        finish(command.arg("healthcheck").arg("--config").arg(&file).args(more), PATIENCE)
    };
    let well = by_file(&[]);
    assert_eq!(well.status.code(), Some(0), "{}", String::from_utf8_lossy(&well.stderr));
    fs::write(&file, "listne = 1\n").expect("room on the disk");
    let well = by_file(&["--listen", &listen]);
    assert_eq!(well.status.code(), Some(0), "a file that is no good doesn't make the agent unwell");
    assert!(String::from_utf8_lossy(&well.stderr).contains("listne"), "it is said all the same");

    let mut told = serde_json::Value::Null;
    let caught_up = within(PATIENCE, || {
        let status = agent.tell("status", &["--json"]);
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        told = serde_json::from_slice(&status.stdout).expect("JSON");
        let containers = told["containers"].as_array().expect("containers");
        !containers.is_empty() && containers.iter().all(|container| container["lag_bytes"] == 0)
    });
    assert!(caught_up, "{told}");
    let (_, page_status) = get(address, "/status").expect("an answer");
    let page_status: serde_json::Value = serde_json::from_str(&page_status).expect("JSON");
    let names = |status: &serde_json::Value| -> Vec<String> {
        let containers = status["containers"].as_array().expect("containers");
        containers.iter().map(|container| container["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&page_status), names(&told), "/status tells what `status --json` tells");
    let table = agent.tell("status", &[]);
    let table = String::from_utf8(table.stdout).expect("text");
    for name in names(&told) {
        assert!(table.lines().any(|line| line.starts_with(&name[..name.len().min(60)])), "{name} is not in\n{table}");
    }

    let mut metrics = String::new();
    until("containers are named, as asked for", PATIENCE, || {
        metrics = get(address, "/metrics").expect("an answer").1;
        metrics.contains("longshore_container_bytes_read_total{container_name=")
    });
    check_metrics(&metrics);
    // This agent has no sink; tests/it/reference.rs holds this table against one that has.
    let documented = fs::read_to_string(repository("docs/monitoring.md")).expect("read it");
    for file in ["contrib/prometheus/alerts.yaml", "contrib/grafana/longshore.json"] {
        let text = fs::read_to_string(repository(file)).expect("read it");
        let used: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("longshore_") || word.starts_with("process_"))
            // A histogram is exported under its own name and several others.
            .map(|word| word.trim_end_matches("_bucket"))
            .collect();
        assert!(!used.is_empty(), "{file} uses no metric");
        for name in used {
            let is_exported = match name.starts_with("longshore_sink_") {
                true => documented.contains(&format!("| `{name}` |")),
                false => metrics.lines().any(|line| line.starts_with(&format!("# TYPE {name} "))),
            };
            assert!(is_exported, "{file}: {name} is not exported");
        }
    }
    agent.drain();
    assert_eq!(agent.tell("status", &[]).status.code(), Some(1), "no agent, no status");
}

/// `scripts/test` installs promtool and names it.
fn check_metrics(metrics: &str) {
    let Some(promtool) = env::var_os("LONGSHORE_TEST_PROMTOOL") else {
        println!("skipped: no promtool");
        return;
    };
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    child.stdin.take().expect("stdin").write_all(metrics.as_bytes()).expect("write the metrics");
    let checked = child.wait_with_output().expect("wait for promtool");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_alert_rules_are_sound() {
    let Some(promtool) = env::var_os("LONGSHORE_TEST_PROMTOOL") else {
        println!("skipped: no promtool");
        return;
    };
    let checked = finish(
        Command::new(promtool).args(["check", "rules"]).arg(repository("contrib/prometheus/alerts.yaml")),
        PATIENCE,
    );
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_taken_default_port_stops_nothing_but_one_asked_for_does() {
    // Whether or not somebody has it already, it is taken now.
    let _taken = TcpListener::bind("127.0.0.1:9105");
    let mut agent = fixture();
    agent.start(&[]);
    until("it says so", PATIENCE, || agent.own_log_text().contains("no metrics and no page: cannot listen"));
    until("it answers all the same", PATIENCE, || agent.tell("status", &[]).status.success());
    agent.drain();

    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("an address").to_string();
    let refused = finish(&mut fixture().command("run", &["--listen", &address]), PATIENCE);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot listen on"), "a reason");
}
