//! Answers /metrics and /healthz: what was counted, and what troubles the agent. Runs on the net thread, next to the signals and the control socket.

use std::collections::BTreeMap;
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

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TYPE: &str = "text/plain; charset=utf-8";

/// An agent that hasn't come round for so long hangs. A sweep of a slow disk takes less.
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(30);
/// A fault is named by its cause, not by container, so there are few.
const FAULTS_MAX: usize = 64;
/// A scraper and two probes need three. More wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection that sends nothing for so long is closed. Prometheus asks every 15 to 60 s on one it keeps open.
const IDLE_MAX: Duration = Duration::from_secs(120);

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
        monotonic: impl Fn() -> Duration + Clone + Send + Sync + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let door = Door { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle_max: IDLE_MAX };
        axum::serve(door, router(counters, health, monotonic)).await
    }
}

fn router(
    counters: Counters,
    health: Health,
    monotonic: impl Fn() -> Duration + Clone + Send + Sync + 'static,
) -> Router {
    // `get` answers HEAD as well, and everything else with 405 and the methods it allows.
    Router::new()
        .route("/metrics", get(metrics).with_state(counters))
        .route("/healthz", get(move |State(health): State<Health>| async move { healthz(&health, monotonic()) }))
        .with_state(health)
}

async fn metrics(State(counters): State<Counters>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], counters.text()).into_response()
}

fn healthz(health: &Health, now: Duration) -> Response {
    let faults = health.faults(now);
    let (status, text) = match faults.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n"),
    };
    (status, [(header::CONTENT_TYPE, PLAIN_TYPE)], text).into_response()
}

/// Clones share it. Times are of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Mutex<Condition>>,
}

#[derive(Debug)]
struct Condition {
    last_beat: Duration,
    faults: BTreeMap<&'static str, String>,
}

impl Health {
    pub fn new(now: Duration) -> Health {
        Health { shared: Arc::new(Mutex::new(Condition { last_beat: now, faults: BTreeMap::new() })) }
    }

    /// The agent has come round once more.
    pub fn beat(&self, now: Duration) {
        self.lock().last_beat = now;
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

    /// One line a fault; none means well.
    pub fn faults(&self, now: Duration) -> Vec<String> {
        let state = self.lock();
        let age = now.saturating_sub(state.last_beat);
        let hung = (age > HEARTBEAT_AGE_MAX).then(|| format!("agent: no turn for {} s", age.as_secs()));
        let named = state.faults.iter().map(|(name, text)| format!("{name}: {}", text.replace('\n', " ")));
        hung.into_iter().chain(named).collect()
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
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    served = report.serve(shared, sick, || Duration::from_secs(1)) => served.unwrap(),
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

        let (head, body) = ask(address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 200") && body == "ok\n", "{head}");
        health.set("store", "no space");
        health.set("output", "denied");
        let (head, body) = ask(address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert_eq!(body, "output: denied\nstore: no space\n");

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
        assert!(health.faults(at(130)).is_empty());
        assert_eq!(health.faults(at(131)), ["agent: no turn for 31 s"]);
        health.clone().beat(at(131));
        health.set("store", "disk\nfull");
        health.set("output", "x");
        health.set("output", "y");
        assert_eq!(health.faults(at(131)), ["output: y", "store: disk full"]);
        health.clear("store");
        health.clear("output");
        health.clear("output");
        assert!(health.faults(at(131)).is_empty());
        assert!(health.faults(at(0)).is_empty(), "a clock read before the beat");
    }
}
