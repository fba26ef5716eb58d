//! Forwarding, end to end: the real binary, real files, a receiver on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Longshore, PATIENCE, exit_within, finish, n_lines, until};
use crate::receiver::{Receiver, Reply, tls, tunnels};
use crate::verify::Root;

const CREATED: &str = "2026-11-25T00:00:00Z";

pub struct Setting {
    directory: tempfile::TempDir,
}

impl Setting {
    pub fn new(text: &str) -> Setting {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("config.toml"), text).expect("write the file");
        Setting { directory }
    }

    pub fn path(&self) -> String {
        self.directory.path().join("config.toml").to_str().expect("a path").to_owned()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn expected(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("line {n} of a log that somebody reads")).collect()
}

pub fn http(url: &str, more: &str) -> Setting {
    Setting::new(&format!(
        "listen = 'none'\n[sinks.out]\ntype = 'http'\nendpoint = '{url}'\nwait = '50ms'\nretry_min = '20ms'\nretry_max = '200ms'\n{more}\n"
    ))
}

#[test]
fn records_are_posted_as_receivers_expect_and_a_restart_goes_on() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, 450);
    let receiver = Receiver::start();
    let mut agent = Longshore::new(root.path());
    let url = receiver.url();
    let flags = ["--endpoint", url.as_str(), "--wait", "50ms", "--listen", "none"];
    agent.start(&flags);
    receiver.wait_for(450);
    agent.drain();
    log.lines(450, 500);
    agent.start(&flags);
    receiver.wait_for(500);
    agent.drain();
    assert_eq!(receiver.field("line"), expected(0, 500), "each once, in order");
    let taken = receiver.taken();
    let sizes: Vec<usize> = taken.iter().map(|request| request.records.len()).collect();
    assert_eq!(&sizes[..2], [200, 200]);
    let ids: BTreeSet<&str> = taken.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!(ids.len(), taken.len());
    let (first, record) = (&taken[0], &taken[0].records[0]);
    assert_eq!((first.header("content-type"), first.header("content-encoding")), ("application/json", "gzip"));
    assert!(first.header("host").starts_with("127.0.0.1:") && first.header("user-agent").starts_with("longshore/"));
    let fields: Vec<&String> = record.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["host", "line", "path", "timestamp"], "what such receivers take, and nothing else");
    assert_eq!(record["timestamp"], "2026-11-25T00:00:00.000000000Z");
    let path = record["path"].as_str().expect("a path");
    assert!(path.ends_with(&format!("/{0}/{0}-json.log", "a".repeat(64))), "{path}");
    assert_eq!(n_lines(&agent.outputs("web")), 500, "the files have them as well");
}

#[test]
fn a_receiver_that_is_slow_drops_and_lies_gets_everything_and_repeats_are_whole_batches() {
    let root = Root::new();
    let logs = [root.container('a', "web", CREATED), root.container('b', "db", CREATED)];
    let receiver = Receiver::start();
    let n = std::sync::atomic::AtomicUsize::new(0);
    receiver.set_mood(move |_| match n.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 7 {
        1 => Reply::Lie(500),
        2 => Reply::Hang,
        3 => Reply::Refuse(503, "retry-after: 0\r\n"),
        4 => Reply::Refuse(429, ""),
        _ => Reply::Take,
    });
    let setting = http(&receiver.url(), "batch = 30\nfields.id = '{record}'\nfields.who = '{name}'");
    let mut agent = Longshore::new(root.path());
    let path = setting.path();
    for round in 0..30 {
        agent.start(&["--config", &path]);
        for log in &logs {
            log.lines(round * 20, round * 20 + 20);
            if round % 3 == 1 {
                log.rotate();
            }
        }
        // Not a wait for anything: the death comes at any moment.
        agent.run_for(Duration::from_millis(40 * (round as u64 % 5)));
        agent.kill9();
    }
    receiver.be_well();
    agent.start(&["--config", &path]);
    let unique = || receiver.field("id").into_iter().collect::<BTreeSet<_>>().len();
    until("all arrives", PATIENCE, || unique() >= 1200);
    agent.drain();

    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut batch_of: BTreeMap<String, String> = BTreeMap::new();
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in receiver.taken() {
        let batch = request.header("idempotency-key").to_owned();
        let before = bodies.entry(batch.clone()).or_insert_with(|| request.body.clone());
        assert_eq!(*before, request.body, "a batch that comes again is the same");
        for record in &request.records {
            let id = record["id"].as_str().expect("an id").to_owned();
            let first = batch_of.entry(id).or_insert_with(|| {
                let line = record["line"].as_str().expect("a line").to_owned();
                lines.entry(record["who"].as_str().expect("a name").to_owned()).or_default().push(line);
                batch.clone()
            });
            assert_eq!(*first, batch, "a record comes again only with its batch");
        }
    }
    for who in ["web", "db"] {
        assert_eq!(lines[who], expected(0, 600), "without repeats: each once, in order");
    }
}

#[test]
fn a_dead_receiver_stops_nothing_else_and_is_told_of() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, 10);
    let receiver = Receiver::start();
    let gone = Receiver::start();
    let (port, gone_url) = (gone.port, gone.url());
    drop(gone);
    let setting = Setting::new(&format!(
        "listen = 'none'\n[sinks.dead]\ntype = 'http'\nendpoint = '{gone_url}'\nwait = '20ms'\nretry_min = '10ms'\nretry_max = '50ms'\n\
         [sinks.well]\ntype = 'http'\nendpoint = '{}'\nwait = '20ms'\nformat = 'ndjson'\ncompression = 'zstd'\n",
        receiver.url()
    ));
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    receiver.wait_for(10);
    agent.wait_for_lines("web", 10);
    let status = || text(&agent.tell("status", &[]).stdout);
    until("the circuit opens", PATIENCE, || status().contains("open"));
    let shown = status();
    assert!(shown.contains("! sink dead: circuit open: cannot connect to 127.0.0.1"), "{shown}");
    assert_eq!(receiver.taken()[0].header("content-type"), "application/x-ndjson");
    let late = Receiver::start_at(port);
    late.wait_for(10);
    assert_eq!(late.field("line"), expected(0, 10));
    until("it is well again", PATIENCE, || !text(&agent.tell("status", &[]).stdout).contains("! sink"));
    agent.drain();
}

#[test]
fn a_bad_record_is_put_aside_and_a_refusal_waits() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, 40);
    let receiver = Receiver::start();
    receiver.set_mood(|request| match request.header("authorization") {
        "" => Reply::Take, // It takes what anybody sends.
        "Bearer s3cret" if text(&request.body).contains("line 7 ") => Reply::Refuse(400, ""),
        "Bearer s3cret" => Reply::Take,
        _ => Reply::Refuse(401, ""),
    });
    let token = Setting::new("wrong\n");
    let setting = http(&receiver.url(), &format!("bearer_file = '{}'", token.path()));
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    let status = || text(&agent.tell("status", &[]).stdout);
    until("it is held", PATIENCE, || status().contains("circuit held: status 401: no"));
    fs::remove_file(token.path()).expect("take the token away");
    until("that is told", PATIENCE, || status().contains(&format!("cannot read {}", token.path())));
    fs::write(token.path(), "\n").expect("begin to write the token");
    until("that is told as well", PATIENCE, || status().contains(&format!("{} is empty", token.path())));
    assert!(receiver.taken().is_empty());
    // Whoever issues tokens has a new one: it counts without a word to the agent.
    fs::write(token.path(), " s3cret\n").expect("write the token");
    receiver.wait_for(39);
    agent.drain();
    let mut wanted = expected(0, 40);
    wanted.remove(7);
    assert_eq!(receiver.field("line"), wanted);
    let letters = fs::read_to_string(agent.state_dir().join("dead-letters/out.jsonl")).expect("dead letters");
    let letter: serde_json::Value = serde_json::from_str(&letters).expect("one line");
    assert_eq!(letter["record"]["line"], "line 7 of a log that somebody reads");
    assert!(letter["reason"] == "status 400: no" && letter["id"].as_str().is_some_and(|id| id.starts_with("aaaa")));
    assert!(!agent.own_log_text().contains("s3cret"));
}

#[test]
fn a_backfill_delivers_everything_or_says_that_it_could_not() {
    let root = Root::new();
    root.container('a', "web", CREATED).lines(0, 1000);
    let receiver = Receiver::start();
    let agent = Longshore::new(root.path());
    let done = agent.backfill(&["--progress", "never", "--endpoint", &receiver.url()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(receiver.field("line"), expected(0, 1000));
    let url = receiver.url();
    drop(receiver);
    root.container('b', "db", CREATED).lines(0, 5);
    let setting = http(&url, "");
    let done = agent.backfill(&["--progress", "never", "--config", &setting.path()]);
    assert_eq!(done.status.code(), Some(75), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("error: sink out: "), "{}", text(&done.stderr));
}

#[test]
fn mistakes_in_a_sink_are_one_line_and_secrets_are_not_shown() {
    let root = Root::new();
    let agent = Longshore::new(root.path());
    for (given, said) in [
        ("type = 'htpt'", ":2: no sink is of type htpt; did you mean http?"),
        ("endpoint = 'http://h'", ":1: sinks.x has no type; write type = http or stdout"),
        ("type = 'http'\nendpont = 'http://h'", ":3: unknown key endpont in sinks.x; did you mean endpoint?"),
        ("type = 'http'", ":1: cannot use endpoint of sinks.x: missing; write http://HOST/PATH"),
        ("type = 'http'\nendpoint = 'ftp://h'", ":3: cannot use endpoint of sinks.x: write http://HOST/PATH"),
        ("type = 'http'\nendpoint = 'http://h'\nbatch = 0", ":4: cannot use batch of sinks.x: must be a number from 1"),
        ("type = 'http'\nendpoint = 'http://h'\nwait = '2'", ":4: cannot use wait of sinks.x: not a time such as 2s"),
        (
            "type = 'http'\nendpoint = 'http://h'\nfields.a = '{lgo}'",
            ":4: cannot use fields.a of sinks.x: unknown tag {lgo}",
        ),
        (
            "type = 'http'\nendpoint = 'https://h'\nca_file = '/none'",
            ":4: cannot use ca_file of sinks.x: cannot read /none",
        ),
        (
            "type = 'http'\nendpoint = 'http://h'\nbearer = 'a'\nbasic_user = 'b'",
            ":4: cannot use bearer of sinks.x: there is a user",
        ),
        ("type = 'stdout'\nendpoint = 'http://h'", ":3: unknown key endpoint in sinks.x"),
    ] {
        let setting = Setting::new(&format!("[sinks.x]\n{given}\n"));
        let done = agent.tell("check", &["--config", &setting.path()]);
        let shown = text(&done.stderr);
        assert_eq!(done.status.code(), Some(78), "{given}: {shown}");
        assert!(
            shown.starts_with(&format!("error: {}{said}", setting.path())) && shown.lines().count() == 1,
            "{shown}"
        );
    }
    let setting = http("http://me:hidden@h/x", "api_key = 'hidden'\nheaders.X-Key = 'hidden'");
    let shown = text(&agent.tell("config show", &["--config", &setting.path()]).stdout);
    assert!(shown.contains("[sinks.out]") && shown.contains("REDACTED") && !shown.contains("hidden"), "{shown}");
    let again = Setting::new(&shown);
    assert_eq!(agent.tell("check", &["--config", &again.path()]).status.code(), Some(0));
    let done = agent.tell("check", &["--batch", "3"]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
}

#[test]
fn a_key_in_a_wrong_layout_is_not_shown() {
    let root = Root::new();
    let agent = Longshore::new(root.path());
    let file = |name: &str| fs::read_to_string(tls::path(name)).expect("a PEM file");
    let certificate = Setting::new(&file("client.pem"));
    let key = file("client.key");
    for (layout, said) in [
        (key.replace('\n', "\\n"), "key_file: a BEGIN line doesn't end in -----; are its line breaks kept?"),
        (key.trim().replace('\n', " "), "key_file: a section has no END line; are its line breaks kept?"),
        (file("ca.pem"), "key_file: no section of that kind in it"),
        (key.replace('M', "!"), "key_file: a section is not base64"),
    ] {
        let key = Setting::new(&layout);
        let own = format!("cert_file = '{}'\nkey_file = '{}'\nca_file = '{0}'\n", certificate.path(), key.path());
        let setting = http("https://localhost:9/ingest", &own);
        let done = agent.tell("check", &["--config", &setting.path()]);
        let shown = text(&done.stderr);
        assert_eq!(done.status.code(), Some(78), "{shown}");
        assert!(shown.trim_end().ends_with(said) && shown.lines().count() == 1, "{shown}");
    }
}

#[test]
fn check_connect_tries_each_sink() {
    let root = Root::new();
    let agent = Longshore::new(root.path());
    let receiver = Receiver::start();
    let setting = http(&receiver.url(), "");
    let done = agent.tell("check", &["--connect", "--config", &setting.path()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stderr).starts_with("ok: sink out: http://127.0.0.1"));
    assert!(receiver.taken()[0].records.is_empty());
    receiver.set_mood(|_| Reply::Refuse(403, ""));
    let done = agent.tell("check", &["--connect", "--config", &setting.path()]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("error: sink out: ") && text(&done.stderr).contains("status 403: no"));
}

#[test]
fn stdout_is_for_pipes_and_ends_with_its_reader() {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, 500);
    let agent = Longshore::new(root.path());
    let setting = Setting::new(
        "listen = 'none'\n[sinks.pipe]\ntype = 'stdout'\nformat = 'logfmt'\nwait = '20ms'\nbatch = 100\nfields.timestamp = ''\n",
    );
    let mut command = agent.command("run", &["--config", &setting.path()]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start it");
    let mut out = child.stdout.take().expect("a pipe");
    let mut head = vec![0; 74];
    out.read_exact(&mut head).expect("some of it");
    assert_eq!(text(&head), "container=web stream=stdout line=\"line 0 of a log that somebody reads\"\ncon");
    drop(out);
    log.lines(500, 1500);
    let status = exit_within(&mut child, PATIENCE).expect("it ends when nobody reads");
    assert_eq!(status.code(), Some(0));
    let done = finish(&mut agent.command("backfill", &["--progress", "never"]), PATIENCE);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(n_lines(&agent.outputs("web")), 1500, "the files are whole");
}

#[test]
fn what_is_redacted_in_the_files_is_redacted_on_the_way() {
    let root = Root::new();
    root.container('a', "web", CREATED).entry("mail me@example.com\\n", "stdout", "2026-11-25T00:00:00Z");
    let receiver = Receiver::start();
    let agent = Longshore::new(root.path());
    let done = agent.backfill(&["--progress", "never", "--redact", "email", "--endpoint", &receiver.url()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(!receiver.field("line")[0].contains("example.com"), "{:?}", receiver.field("line"));
}

#[test]
fn tls_with_given_roots_and_a_certificate_of_its_own_also_through_a_proxy() {
    let root = Root::new();
    root.container('a', "web", CREATED).lines(0, 300);
    let receiver = Receiver::start_tls();
    let file = |name: &str| tls::path(name).to_str().expect("a path").to_owned();
    let url = receiver.url().replace("http://127.0.0.1", "https://localhost");
    let own = format!("cert_file = '{}'\nkey_file = '{}'\n", file("client.pem"), file("client.key"));
    let trust = format!("ca_file = '{}'\n", file("ca.pem"));
    let agent = Longshore::new(root.path());
    for (more, said) in [(own.clone(), "invalid peer certificate"), (trust.clone(), "no answer")] {
        let setting = http(&url, &more);
        let done = agent.tell("check", &["--connect", "--config", &setting.path()]);
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains(said), "{}", text(&done.stderr));
    }
    let setting = http(&url, &(own + &trust));
    let (proxy, n_opened) = tunnels();
    let mut command = agent.command("backfill", &["--progress", "never", "--config", &setting.path()]);
    command
        .env("HTTPS_PROXY", format!("http://me:secret@127.0.0.1:{proxy}"))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let done = finish(&mut command, PATIENCE);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(receiver.field("line"), expected(0, 300));
    let n_opened = n_opened.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=4).contains(&n_opened), "connections are used again: {n_opened}");
}

#[test]
fn certificates_that_are_replaced_count_from_the_next_connection_on() {
    let root = Root::new();
    root.container('a', "web", CREATED).lines(0, 30);
    let receiver = Receiver::start_tls();
    let url = receiver.url().replace("http://127.0.0.1", "https://localhost");
    let trusted = Setting::new(&fs::read_to_string(tls::path("client.pem")).expect("a certificate of nobody's"));
    let file = |name: &str| tls::path(name).to_str().expect("a path").to_owned();
    let own = format!("cert_file = '{}'\nkey_file = '{}'\n", file("client.pem"), file("client.key"));
    let setting = http(&url, &format!("{own}ca_file = '{}'\n", trusted.path()));
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    until("the receiver isn't trusted", PATIENCE, || {
        text(&agent.tell("status", &[]).stdout).contains("invalid peer certificate")
    });
    fs::copy(file("ca.pem"), trusted.path()).expect("replace the roots");
    receiver.wait_for(30);
    agent.drain();
    assert_eq!(receiver.field("line"), expected(0, 30));
}

#[test]
fn a_plain_request_goes_to_the_proxy_with_its_whole_address() {
    let root = Root::new();
    root.container('a', "web", CREATED).lines(0, 5);
    let proxy = Receiver::start();
    let agent = Longshore::new(root.path());
    let url = "http://logs.example:9/ingest?a=b";
    let mut command = agent.command("backfill", &["--progress", "never", "--endpoint", url]);
    command.env("http_proxy", format!("http://127.0.0.1:{}", proxy.port)).env("no_proxy", "other.example");
    let done = finish(&mut command, PATIENCE);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!((proxy.taken()[0].target.as_str(), proxy.taken()[0].header("host")), (url, "logs.example:9"));
}
