//! Answers over HTTP what was counted, whether the agent lives and is ready, and how it gets on. Only reads.
//! Runs on the net thread, next to the signals and the control socket.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::Counters;
use super::sinks::SinkGoing;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TYPE: &str = "text/plain; charset=utf-8";
/// Everything the page needs is in it; a browser that knows this policy fetches nothing else.
const PAGE: &str = include_str!("page.html");
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

/// An agent that hasn't come round for so long hangs. A sweep of a slow disk takes less.
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(30);
/// A commit syncs outputs and the store; a disk that takes longer for it doesn't come back.
const COMMIT_AGE_MAX: Duration = Duration::from_secs(120);
/// A fault is named by its cause, not by container, so there are few.
const FAULTS_MAX: usize = 64;
/// A scraper and two probes need three. More wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection that sends nothing for so long is closed. Prometheus asks every 15 to 60 s on one it keeps open.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Asks the agent's thread how it gets on.
pub type Status =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send>> + Send + Sync + 'static>;

/// A bound address. Bound before the agent starts, so that a taken port is an error of the start.
#[derive(Debug)]
pub struct Report {
    listener: TcpListener,
}

impl Report {
    pub fn bind(address: SocketAddr) -> io::Result<Report> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Report { listener })
    }

    /// Where it listens; tells the port if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped. `monotonic` is the clock of `health`'s beats.
    pub async fn serve(
        self,
        counters: Counters,
        health: Health,
        status: Status,
        monotonic: impl Fn() -> Duration + Clone + Send + Sync + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let door = Door { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle_max: IDLE_MAX };
        axum::serve(door, router(counters, health, status, monotonic)).await
    }
}

fn router(
    counters: Counters,
    health: Health,
    status: Status,
    monotonic: impl Fn() -> Duration + Clone + Send + Sync + 'static,
) -> Router {
    // `get` answers HEAD as well, and everything else with 405 and the methods it allows.
    Router::new()
        .route("/metrics", get(metrics).with_state(counters))
        .route("/healthz", get(move |State(health): State<Health>| async move { plain(health.hung(monotonic())) }))
        .route("/readyz", get(|State(health): State<Health>| async move { plain(health.unready()) }))
        .with_state(health)
        .route("/status", get(move || tell(status.clone())))
        .route("/", get(page))
}

async fn metrics(State(counters): State<Counters>) -> Response {
    counters.process(&crate::sys::process::usage());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], counters.text()).into_response()
}

/// What stands against it, one line each.
fn plain(against: Vec<String>) -> Response {
    let (status, text) = match against.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, against.join("\n") + "\n"),
    };
    (status, [(header::CONTENT_TYPE, PLAIN_TYPE)], text).into_response()
}

async fn tell(status: Status) -> Response {
    let (code, value) = match status().await {
        Ok(value) => (StatusCode::OK, value),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "error": error })),
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, value.to_string()).into_response()
}

async fn page() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, PAGE).into_response()
}

/// Clones share it. Times are of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Mutex<Condition>>,
}

#[derive(Debug)]
struct Condition {
    last_beat: Duration,
    /// Since when a commit is under way.
    committing: Option<Duration>,
    swept: bool,
    draining: bool,
    faults: BTreeMap<&'static str, String>,
    sinks: BTreeMap<String, SinkGoing>,
}

impl Health {
    pub fn new(now: Duration) -> Health {
        let condition = Condition {
            last_beat: now,
            committing: None,
            swept: false,
            draining: false,
            faults: BTreeMap::new(),
            sinks: BTreeMap::new(),
        };
        Health { shared: Arc::new(Mutex::new(condition)) }
    }

    /// The agent has come round once more.
    pub fn beat(&self, now: Duration) {
        self.lock().last_beat = now;
    }

    /// Whether the commit thread has work, and since when.
    pub fn committing(&self, since: Option<Duration>) {
        self.lock().committing = since;
    }

    /// Every container was looked at once.
    pub fn swept(&self) {
        self.lock().swept = true;
    }

    /// It was told to end.
    pub fn draining(&self) {
        self.lock().draining = true;
    }

    /// A named fault stands until it is cleared; a second one of the same name replaces the text.
    pub fn set(&self, name: &'static str, text: impl Into<String>) {
        let mut state = self.lock();
        if state.faults.len() < FAULTS_MAX || state.faults.contains_key(name) {
            state.faults.insert(name, text.into());
        }
    }

    pub fn clear(&self, name: &'static str) {
        self.lock().faults.remove(name);
    }

    /// How a sink gets on, instead of what was said of it before.
    pub fn sink(&self, going: SinkGoing) {
        self.lock().sinks.insert(going.name.clone(), going);
    }

    pub fn sinks(&self) -> Vec<SinkGoing> {
        self.lock().sinks.values().cloned().collect()
    }

    /// What a restart may mend: a thread that doesn't come round. A full disk is no reason to be killed.
    pub fn hung(&self, now: Duration) -> Vec<String> {
        let state = self.lock();
        let turn_age = now.saturating_sub(state.last_beat);
        let turn = (turn_age > HEARTBEAT_AGE_MAX).then(|| format!("agent: no turn for {} s", turn_age.as_secs()));
        let commit_age = state.committing.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let commit = (commit_age > COMMIT_AGE_MAX).then(|| format!("commit: not done for {} s", commit_age.as_secs()));
        turn.into_iter().chain(commit).collect()
    }

    /// Why it isn't ready; nothing says that it is. The store is open before the first beat.
    pub fn unready(&self) -> Vec<String> {
        let state = self.lock();
        let first = (!state.swept).then(|| "the first look at all containers isn't done".to_owned());
        first.into_iter().chain(state.draining.then(|| "draining".to_owned())).collect()
    }

    /// One line a fault; none means well.
    pub fn faults(&self) -> Vec<String> {
        let state = self.lock();
        state.faults.iter().map(|(name, text)| format!("{name}: {}", text.replace('\n', " "))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a limited number of guests in, and sends away who says nothing.
struct Door {
    listener: tokio::net::TcpListener,
    places: Arc<Semaphore>,
    idle_max: Duration,
}

impl axum::serve::Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let idle = Box::pin(tokio::time::sleep_until(Instant::now() + self.idle_max));
        (Guest { stream, idle, idle_max: self.idle_max, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Guest {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    /// Done waiting either because something moved, or because nothing did for too long.
    fn timed<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let until = Instant::now() + self.idle_max;
            self.idle.as_mut().reset(until);
            return polled;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.timed(polled, context)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use tokio::io::AsyncReadExt;

    /// One request on a fresh connection: the head in lower case, and the body.
    fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[test]
    fn it_answers_as_scrapers_and_probes_expect() {
        let report = Report::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = report.address().unwrap();
        assert_eq!(Report::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        let (counters, health) = (Counters::new(0), Health::new(Duration::ZERO));
        let (shared, sick) = (counters.clone(), health.clone());
        let status: Status = Arc::new(|| Box::pin(async { Ok(serde_json::json!({ "containers": [] })) }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    served = report.serve(shared, sick, status, || Duration::from_secs(200)) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });

        counters.lines_read.inc_by(42);
        let (head, body) = ask(address, "GET", "/metrics");
        assert!(head.starts_with("http/1.1 200") && head.contains(METRICS_TYPE), "{head}");
        assert!(body.contains("longshore_lines_read_total 42\n"), "{body}");
        let (head, body) = ask(address, "HEAD", "/metrics");
        assert!(head.starts_with("http/1.1 200") && head.contains(METRICS_TYPE) && body.is_empty(), "{head}");

        health.beat(Duration::from_secs(200));
        health.set("output", "no space");
        let (head, body) = ask(address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 200") && body == "ok\n", "a fault that no restart mends: {head}");
        health.committing(Some(Duration::from_secs(1)));
        let (head, body) = ask(address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert_eq!(body, "commit: not done for 199 s\n");

        let (head, body) = ask(address, "GET", "/readyz");
        assert!(head.starts_with("http/1.1 503") && body.starts_with("the first look"), "{head}{body}");
        health.swept();
        let (head, body) = ask(address, "GET", "/readyz");
        assert!(head.starts_with("http/1.1 200") && body == "ok\n", "{head}{body}");
        health.draining();
        let (head, body) = ask(address, "GET", "/readyz");
        assert!(head.starts_with("http/1.1 503") && body == "draining\n", "{head}{body}");

        let (head, body) = ask(address, "GET", "/status");
        assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");
        assert_eq!(body, r#"{"containers":[]}"#);
        let (head, body) = ask(address, "GET", "/");
        assert!(head.contains("text/html") && head.contains("default-src 'none'"), "{head}");
        for elsewhere in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!body.contains(elsewhere), "the page fetches something: {elsewhere}");
        }

        let (head, _) = ask(address, "POST", "/metrics");
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get,head"), "{head}");
        let (head, _) = ask(address, "GET", "/nothing");
        assert!(head.starts_with("http/1.1 404"), "{head}");

        stop.send(()).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn a_silent_guest_is_sent_away() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let places = Arc::new(Semaphore::new(1));
            let mut door = Door { listener, places: places.clone(), idle_max: Duration::from_millis(50) };
            let _silent = TcpStream::connect(door.listener.local_addr().unwrap()).unwrap();
            let (mut guest, _) = axum::serve::Listener::accept(&mut door).await;
            assert_eq!(places.available_permits(), 0);
            let error = guest.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(guest);
            assert_eq!(places.available_permits(), 1);
        });
    }

    #[test]
    fn faults_stand_until_cleared() {
        let at = Duration::from_secs;
        let health = Health::new(at(100));
        assert!(health.hung(at(130)).is_empty());
        assert_eq!(health.hung(at(131)), ["agent: no turn for 31 s"]);
        health.clone().beat(at(131));
        assert!(health.hung(at(131)).is_empty() && health.hung(at(0)).is_empty(), "a clock read before the beat");
        health.set("store", "disk\nfull");
        health.set("output", "x");
        health.set("output", "y");
        assert_eq!(health.faults(), ["output: y", "store: disk full"]);
        health.clear("store");
        health.clear("output");
        health.clear("output");
        assert!(health.faults().is_empty());
    }
}
