//! The `http` sink: batches by POST, each tried by a task of its own on the net thread.

mod connect;
mod credentials;
mod options;
mod tls;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, Uri};

pub use options::{OPTIONS, target};

use crate::agent::inbox::Inbox;
use crate::forward::{Request, Transport};
use crate::sink::delivery::{Answer, BatchKey};
use crate::sink::http::connect::{Connector, Route};
use crate::sink::http::credentials::Credentials;
use crate::sink::registry::{Net, Probing, Target};

/// What is read of an answer, for the log; a connection with more behind it is not used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is shown of it.
const SAID_BYTES_MAX: usize = 200;

/// Where requests go, and what they carry beside a batch.
pub struct Endpoint {
    uri: Uri,
    headers: HeaderMap,
    credentials: Credentials,
    timeout: Duration,
    connector: Connector,
    /// Connections that wait for a next request; never more than the window.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl std::fmt::Debug for Endpoint {
    /// Without the headers: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.uri)
    }
}

impl Target for Arc<Endpoint> {
    fn transport(&self, net: &Net) -> Box<dyn Transport> {
        let (sender, answers) = channel();
        let (runtime, inbox) = (net.runtime.clone(), net.inbox.clone());
        Box::new(HttpTransport { endpoint: self.clone(), runtime, inbox, sender, answers })
    }

    /// An empty batch: a receiver that takes batches takes it, or says what it minds.
    fn probe(&self, _net: &Net, empty: Bytes) -> Probing<'_> {
        let request = Request { key: 0, id: "longshore-check".to_owned(), body: empty, n_records: 0 };
        Box::pin(async move {
            match self.deliver(&request).await {
                // It was understood as a request; what is in it is another matter.
                Answer::Accepted | Answer::Rejected(_) | Answer::TooLarge(_) => Ok(()),
                Answer::Refused(why) | Answer::Later { why, .. } => Err(why),
            }
        })
    }

    fn place(&self) -> String {
        self.uri.to_string()
    }
}

struct HttpTransport {
    endpoint: Arc<Endpoint>,
    runtime: tokio::runtime::Handle,
    inbox: Inbox,
    sender: Sender<(BatchKey, Answer)>,
    answers: Receiver<(BatchKey, Answer)>,
}

impl Transport for HttpTransport {
    fn send(&mut self, request: Request) {
        let (endpoint, sender, inbox) = (self.endpoint.clone(), self.sender.clone(), self.inbox.clone());
        self.runtime.spawn(async move {
            let answer = endpoint.deliver(&request).await;
            // The forwarder may be gone: then nobody waits for it.
            let _ = sender.send((request.key, answer));
            inbox.wake();
        });
    }

    fn poll(&mut self) -> Option<(BatchKey, Answer)> {
        self.answers.try_recv().ok()
    }
}

impl Endpoint {
    async fn deliver(&self, request: &Request) -> Answer {
        let tried = async {
            let mut headers = self.headers.clone();
            self.credentials.add_to(&mut headers)?;
            let id = HeaderValue::from_str(&request.id).expect("an id is hexadecimal");
            headers.insert(HeaderName::from_static("idempotency-key"), id);
            // A connection that waited may have been closed just now; what fails on it is tried once on a new one.
            if let Some(connection) = self.waiting() {
                match self.post(connection, request, headers.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => tracing::debug!(%error, "a connection that waited is gone"),
                }
            }
            let connection = self.connector.connect(&self.uri).await?;
            self.post(connection, request, headers).await.map_err(|error| format!("no answer: {}", chain(&error)))
        };
        match tokio::time::timeout(self.timeout, tried).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::Later { why, after: None },
            Err(_) => Answer::Later { why: format!("no answer within {:?}", self.timeout), after: None },
        }
    }

    fn waiting(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn post(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        request: &Request,
        headers: HeaderMap,
    ) -> hyper::Result<Answer> {
        let mut message = hyper::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = match self.connector.route() {
            Route::Absolute => self.uri.clone(),
            Route::Origin => origin(&self.uri),
        };
        *message.headers_mut() = headers;
        let response = connection.send_request(message).await?;
        let (answer, is_read) = read(response).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(answer, Answer::Refused(_)) {
            idle.clear(); // Who is refused comes as somebody else next time, if the files tell so.
        } else if is_read {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// The answer, and whether nothing of it is left on the connection.
async fn read(response: Response<Incoming>) -> hyper::Result<(Answer, bool)> {
    let status = response.status().as_u16();
    let after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
    let mut body = response.into_body();
    let (mut n_bytes, mut said) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        n_bytes += data.len();
        said.extend_from_slice(&data[..data.len().min(SAID_BYTES_MAX.saturating_sub(said.len()))]);
        if n_bytes > ANSWER_BYTES_MAX {
            return Ok((Answer::of_status(status, after, &printable(&said)), false));
        }
    }
    Ok((Answer::of_status(status, after, &printable(&said)), true))
}

/// One line, for a log.
fn printable(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// Seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    use crate::sys::Os;
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_nanosecond();
    let wait_ns = date - i128::from(crate::sys::unix::Unix.wall_ns());
    Some(Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(0)))
}

/// The part behind the host.
fn origin(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &'static str| retry_after(&HeaderValue::from_static(text));
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "long ago");
        assert!(of("Wed, 21 Oct 2499 07:28:00 GMT").is_some_and(|wait| wait > Duration::from_secs(1 << 30)));
        assert_eq!((of("soon"), of("-3")), (None, None));
    }

    #[test]
    fn what_a_receiver_says_is_one_printable_line() {
        assert_eq!(printable(b"no\r\n such\x1b[31m \xff field"), "no such[31m \u{fffd} field");
    }

    #[test]
    fn only_the_path_goes_to_an_origin() {
        assert_eq!(origin(&Uri::from_static("https://h:1/a/b?c=d")), "/a/b?c=d");
        assert_eq!(origin(&Uri::from_static("http://h")), "/");
    }
}
