//! Connections to an endpoint: plain or TLS, straight or through a proxy.

use std::io;

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::sink::http::tls::Tls;

/// Longest head of a proxy's answer.
const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a request names as its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The path: it is said to the endpoint itself.
    Origin,
    /// All of it: it is said to a proxy.
    Absolute,
}

pub struct Connector {
    tls: Option<Tls>,
    proxy: Option<Intercept>,
}

impl Connector {
    /// `tls` for an https endpoint. The proxy is what `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    pub fn new(uri: &Uri, tls: Option<Tls>) -> Connector {
        Connector { tls, proxy: Matcher::from_env().intercept(uri) }
    }

    pub fn route(&self) -> Route {
        if self.proxy.is_some() && self.tls.is_none() { Route::Absolute } else { Route::Origin }
    }

    /// For a plain request that a proxy passes on.
    pub fn proxy_authorization(&self) -> Option<&hyper::header::HeaderValue> {
        self.proxy.as_ref().filter(|_| self.tls.is_none()).and_then(Intercept::basic_auth)
    }

    pub async fn connect(&self, uri: &Uri) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = match &self.proxy {
            None => dial(uri).await?,
            Some(proxy) => {
                let stream = dial(proxy.uri()).await.map_err(|why| format!("proxy: {why}"))?;
                if self.tls.is_some() { tunnel(stream, proxy, uri).await? } else { stream }
            }
        };
        match &self.tls {
            None => handshake(stream).await,
            Some(tls) => {
                let host = host(uri)?.to_owned();
                let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} is no name for TLS"))?;
                let stream = TlsConnector::from(tls.config()?).connect(name, stream).await;
                handshake(stream.map_err(|error| format!("TLS with {host}: {error}"))?).await
            }
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("cannot speak HTTP: {error}"))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

async fn dial(uri: &Uri) -> Result<TcpStream, String> {
    let (host, port) = (host(uri)?, port(uri));
    let failed = |error: io::Error| format!("cannot connect to {host}:{port}: {error}");
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    // A request is written whole: waiting for more only delays it.
    let _only_faster = stream.set_nodelay(true);
    Ok(stream)
}

/// Asks the proxy for a way through to the endpoint.
async fn tunnel(mut stream: TcpStream, proxy: &Intercept, uri: &Uri) -> Result<TcpStream, String> {
    let to = format!("{}:{}", uri.host().unwrap_or_default(), port(uri));
    let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(authorization) = proxy.basic_auth() {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(authorization.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let failed = |error: io::Error| format!("proxy: {error}");
    stream.write_all(&head).await.map_err(failed)?;
    let mut answer = Vec::new();
    // One byte at a time: what follows the head is the endpoint's.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_HEAD_BYTES_MAX {
            return Err("proxy: its answer has no end".to_owned());
        }
        answer.push(stream.read_u8().await.map_err(failed)?);
    }
    let first = String::from_utf8_lossy(&answer);
    let first = first.lines().next().unwrap_or_default();
    match first.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        _ => Err(format!("proxy: {first}")),
    }
}

/// Without the brackets of an IPv6 address.
fn host(uri: &Uri) -> Result<&str, String> {
    let host = uri.host().ok_or_else(|| format!("{uri} has no host"))?;
    Ok(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}
