//! A receiver on loopback: speaks HTTP/1.1 by hand, remembers what it took, and has moods.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{PATIENCE, until};

/// What it does with the next requests: a status and further header lines. Without one it takes everything.
pub type Mood = Box<dyn Fn(&Request) -> Reply + Send>;

pub enum Reply {
    Take,
    Refuse(u16, &'static str),
    /// Takes it, and says the opposite.
    Lie(u16),
    /// Takes it, and closes the connection without a word.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Request {
    /// As it stood in the first line.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub records: Vec<Value>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Shared {
    taken: Mutex<Vec<Request>>,
    mood: Mutex<Option<Mood>>,
    over: AtomicBool,
}

pub struct Receiver {
    shared: Arc<Shared>,
    pub port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Receiver {
        Receiver::start_at(0)
    }

    pub fn start_at(port: u16) -> Receiver {
        Receiver::serve(port, None)
    }

    /// Behind TLS; who comes must have a certificate of the same CA.
    pub fn start_tls() -> Receiver {
        Receiver::serve(0, Some(tls::server()))
    }

    fn serve(port: u16, tls: Option<Arc<ServerConfig>>) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port on loopback");
        let port = listener.local_addr().expect("its address").port();
        let shared =
            Arc::new(Shared { taken: Mutex::new(Vec::new()), mood: Mutex::new(None), over: AtomicBool::new(false) });
        let ours = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.over.load(Ordering::SeqCst) {
                    return;
                }
                let (ours, tls) = (ours.clone(), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.expect("a connection");
                    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
                    let _who_comes_may_go = match tls {
                        None => converse(stream, &ours),
                        Some(config) => {
                            let connection = ServerConnection::new(config).expect("a connection");
                            converse(StreamOwned::new(connection, stream), &ours)
                        }
                    };
                });
            }
        });
        Receiver { shared, port, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/ingest?a=b", self.port)
    }

    pub fn set_mood(&self, mood: impl Fn(&Request) -> Reply + Send + 'static) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(mood));
    }

    pub fn be_well(&self) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn taken(&self) -> Vec<Request> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A field of all records that were taken, in order.
    pub fn field(&self, field: &str) -> Vec<String> {
        let text = |record: &Value| record[field].as_str().expect("a text").to_owned();
        self.taken().iter().flat_map(|request| request.records.iter().map(text).collect::<Vec<_>>()).collect()
    }

    pub fn wait_for(&self, n_records: usize) {
        until("the records arrive", PATIENCE, || self.field("line").len() >= n_records);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _wakes_it = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse<S: Read + Write>(stream: S, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let Some(request) = hear(&mut reader)? else { return Ok(()) };
        if shared.over.load(Ordering::SeqCst) {
            return Ok(());
        }
        let reply = match &*shared.mood.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(mood) => mood(&request),
            None => Reply::Take,
        };
        let takes = !matches!(reply, Reply::Refuse(..));
        if takes {
            shared.taken.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        }
        let writer = reader.get_mut();
        match reply {
            Reply::Take => write!(writer, "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok")?,
            Reply::Refuse(status, headers) => {
                write!(writer, "HTTP/1.1 {status} No\r\n{headers}content-length: 3\r\n\r\nno\n")?;
            }
            Reply::Lie(status) => write!(writer, "HTTP/1.1 {status} Lie\r\ncontent-length: 0\r\n\r\n")?,
            Reply::Hang => return Ok(()),
        }
        writer.flush()?;
    }
}

fn hear<S: Read>(reader: &mut BufReader<S>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    assert!(line.starts_with("POST ") && target.ends_with("/ingest?a=b"), "{line}");
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers["content-length"].parse().expect("a length");
    let mut wire = vec![0; length];
    reader.read_exact(&mut wire)?;
    let body = match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(wire.as_slice()).read_to_end(&mut body)?;
            body
        }
        Some("zstd") => zstd::stream::decode_all(wire.as_slice())?,
        _ => wire,
    };
    let records = match headers["content-type"].as_str() {
        "application/json" => serde_json::from_slice(&body).expect("an array"),
        _ => body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("an object a line"))
            .collect(),
    };
    Ok(Some(Request { target, headers, body, records }))
}

/// A proxy that opens ways through by CONNECT; the number it counts is that of the ways it opened.
pub fn tunnels() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let port = listener.local_addr().expect("its address").port();
    let n_opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = n_opened.clone();
    // Ends with the process: it waits for nobody.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut near = stream.expect("a connection");
            let mut head = String::new();
            let mut reader = BufReader::new(near.try_clone().expect("a second handle"));
            while reader.read_line(&mut head).expect("a line") > 2 {}
            let to = head.split(' ').nth(1).expect("a target").to_owned();
            assert!(head.starts_with("CONNECT ") && head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0"), "{head}");
            let mut far = TcpStream::connect(to).expect("the receiver");
            counted.fetch_add(1, Ordering::SeqCst);
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("an answer");
            let (mut near_in, mut far_out) = (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
            std::thread::spawn(move || std::io::copy(&mut far, &mut near));
        }
    });
    (port, n_opened)
}

pub mod tls {
    //! Certificates of tests/fixtures/tls.

    use std::path::PathBuf;
    use std::sync::Arc;

    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    pub fn path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    pub(super) fn server() -> Arc<ServerConfig> {
        let certificate = |name| CertificateDer::from_pem_file(path(name)).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate("ca.pem")).expect("a root");
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(
                vec![certificate("server.pem")],
                PrivateKeyDer::from_pem_file(path("server.key")).expect("a key"),
            );
        Arc::new(config.expect("a configuration"))
    }
}
