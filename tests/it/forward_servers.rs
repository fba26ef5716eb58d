//! HTTP servers that others wrote: one of axum and hyper that is slow and answers 500 to what it took, and Python's, which
//! closes the connection on some of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;

use crate::forward::{expected, http};
use crate::harness::{Longshore, PATIENCE, until};
use crate::verify::Root;

const CREATED: &str = "2026-11-25T00:00:00Z";
const LINES: usize = 600;

/// Each request's batch and its body, as it came.
type Requests = Vec<(String, Vec<u8>)>;

fn records(body: &[u8]) -> Vec<(String, String)> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut text).expect("a body is gzip");
    let records: Vec<Value> = serde_json::from_slice(&text).expect("a body is an array");
    let field = |record: &Value, name: &str| record[name].as_str().expect("a text").to_owned();
    records.iter().map(|record| (field(record, "id"), field(record, "line"))).collect()
}

/// Everything arrives, in order, and what comes again is the same batch.
fn takes_everything(url: &str, requests: impl Fn() -> Requests) {
    let root = Root::new();
    let log = root.container('a', "web", CREATED);
    log.lines(0, LINES);
    let setting = http(url, "batch = 50\nfields.id = '{record}'");
    let mut agent = Longshore::new(root.path());
    agent.start(&["--config", &setting.path()]);
    until("all arrives", PATIENCE, || {
        let ids: BTreeSet<String> = requests().iter().flat_map(|(_, body)| records(body)).map(|(id, _)| id).collect();
        ids.len() == LINES
    });
    agent.drain();
    let requests = requests();
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for (batch, body) in &requests {
        assert_eq!(bodies.entry(batch).or_insert(body), body, "a batch that comes again is the same");
        lines.extend(records(body).into_iter().filter(|(id, _)| seen.insert(id.clone())).map(|(_, line)| line));
    }
    assert_eq!(lines, expected(0, LINES));
    assert!(requests.len() > bodies.len(), "some were refused, and came again");
}

/// Slow to every third, and lies to every third that it failed.
async fn take(State(taken): State<Arc<Mutex<Requests>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let batch = headers["idempotency-key"].to_str().expect("a text").to_owned();
    let n = {
        let mut taken = taken.lock().expect("no test fails while it holds this");
        taken.push((batch, body.to_vec()));
        taken.len()
    };
    match n % 3 {
        0 => StatusCode::INTERNAL_SERVER_ERROR,
        1 => {
            tokio::time::sleep(Duration::from_millis(40)).await;
            StatusCode::OK
        }
        _ => StatusCode::NO_CONTENT,
    }
}

#[test]
fn a_server_of_axum_and_hyper_takes_what_is_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of our own");
    listener.set_nonblocking(true).expect("a listener for tokio");
    let url = format!("http://{}/push", listener.local_addr().expect("it is bound"));
    let taken = Arc::new(Mutex::new(Requests::new()));
    let app = Router::new().route("/push", post(take)).with_state(taken.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio's");
            let serving = axum::serve(listener, app).with_graceful_shutdown(async { _ = stopped.await });
            serving.await.expect("it serves to its end");
        });
    });
    takes_everything(&url, || taken.lock().expect("no handler fails").clone());
    drop(stop);
    server.join().expect("it ends when it is told");
}

/// Ends with the test.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes each body into a file `NUMBER.BATCH`, by its name when it is whole.
const SERVER: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
count = [0]
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        count[0] += 1
        name = "%06d.%s" % (count[0], self.headers["idempotency-key"])
        with open(os.path.join(sys.argv[1], "new." + name), "wb") as file:
            file.write(body)
        os.rename(os.path.join(sys.argv[1], "new." + name), os.path.join(sys.argv[1], name))
        if count[0] % 4 == 0:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

#[test]
fn pythons_server_takes_what_is_sent() {
    let taken = tempfile::tempdir().expect("a temporary directory");
    let spawned = Command::new("python3").args(["-c", SERVER]).arg(taken.path()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: no python3");
        return;
    };
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut port).expect("it tells its port");
    let _server = Python(child);
    takes_everything(&format!("http://127.0.0.1:{}/push", port.trim()), || written(taken.path()));
}

fn written(directory: &Path) -> Requests {
    let entries = fs::read_dir(directory).expect("list what came");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of ours"))
        .filter(|name| !name.starts_with("new."))
        .collect();
    names.sort();
    let batch = |name: &str| name.split_once('.').expect("NUMBER.BATCH").1.to_owned();
    names.iter().map(|name| (batch(name), fs::read(directory.join(name)).expect("read a body"))).collect()
}
