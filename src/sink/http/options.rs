//! What an http sink can be told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Endpoint;
use super::connect::Connector;
use super::credentials::Credentials;
use super::tls::{Files, Tls};
use crate::cli::Failure;
use crate::config::sink_options::{Kind, OptionSpec, Options};
use crate::forward::body::{Compression, Form, Framing};
use crate::forward::rendering::Look;
use crate::sink::registry::Made;

pub const OPTIONS: [OptionSpec; 15] = [
    OptionSpec::new("endpoint", Kind::Text, "Where batches are sent by POST: http://… or https://…")
        .example("https://logs.example.com/ingest"),
    OptionSpec::new("format", Kind::Words(&["json", "ndjson"]), "json: an array of objects; ndjson: one object a line")
        .by_default("json"),
    OptionSpec::new("compression", Kind::Words(&["gzip", "zstd", "none"]), "Content-Encoding of a request")
        .by_default("gzip"),
    OptionSpec::new("compression_level", Kind::Number, "1 to 9 for gzip (default 1), 1 to 19 for zstd (default 3)")
        .example("3"),
    OptionSpec::new("timeout", Kind::Duration, "For a request, from connecting to the end of its answer").by_default("10s"),
    OptionSpec::new("fields", Kind::Table, "Fields of a record beside timestamp, host, path and line, or in their place; each is a template with the tags of --template, {path} and {record} (the record's id). An empty one leaves a field out")
        .example(r#"{ container = "{name}", stream = "{stream}", id = "{record}" }"#),
    OptionSpec::new("headers", Kind::Table, "Further headers of a request").example(r#"{ X-Scope-OrgID = "team-a" }"#),
    OptionSpec::new("bearer", Kind::Secret, "Authorization: Bearer …; bearer_file names a file with it")
        .example("${LOGS_TOKEN:-}"),
    OptionSpec::new("api_key", Kind::Secret, "A key in the header that api_key_header names; api_key_file names a file with it")
        .example("${LOGS_API_KEY:-}"),
    OptionSpec::new("api_key_header", Kind::Text, "The header of api_key").by_default("X-API-Key"),
    OptionSpec::new("basic_user", Kind::Text, "Authorization: Basic, with basic_password").example("longshore"),
    OptionSpec::new("basic_password", Kind::Secret, "Its password; basic_password_file names a file with it")
        .example("${LOGS_PASSWORD:-}"),
    OptionSpec::new("ca_file", Kind::File, "PEM file of the roots to trust, instead of the system's")
        .example("/etc/longshore/ca.pem"),
    OptionSpec::new("cert_file", Kind::File, "PEM file of the client's certificate, with key_file")
        .example("/etc/longshore/client.pem"),
    OptionSpec::new("key_file", Kind::File, "PEM file of its key").example("/etc/longshore/client.key"),
];

/// The fields that receivers of this form expect.
const FIELDS: [(&str, &str); 4] =
    [("timestamp", "{time}"), ("host", "{hostname}"), ("path", "{path}"), ("line", "{log}")];

pub fn target(options: &Options<'_>) -> Result<Made, Failure> {
    let (uri, user_info) = endpoint(options)?;
    let form = form(options)?;
    let tls = match uri.scheme_str() {
        Some("https") => Some(Tls::new(tls_files(options)?).map_err(|why| options.refuse("endpoint", why))?),
        _ => None,
    };
    let connector = Connector::new(&uri, tls);
    let mut headers = headers(options, form)?;
    let credentials = Credentials::of(options, user_info)?;
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    headers.insert(header::HOST, value(options, "endpoint", host)?);
    if let Some(authorization) = connector.proxy_authorization() {
        headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
    }
    let timeout = options.duration("timeout")?.unwrap_or(Duration::from_secs(10));
    let endpoint = Endpoint { uri, headers, credentials, timeout, connector, idle: Mutex::new(Vec::new()) };
    let look = Look::Json(options.fields("fields", &FIELDS)?);
    Ok(Made { target: Arc::new(Arc::new(endpoint)), look, form, window_max: None })
}

/// The address, and the user and password that stood in it.
fn endpoint(options: &Options<'_>) -> Result<(Uri, Option<String>), Failure> {
    const HINT: &str = "write http://HOST/PATH or https://HOST/PATH";
    let refuse = |why: &str| options.refuse("endpoint", why);
    let typed = options.text("endpoint")?.ok_or_else(|| refuse(&format!("missing; {HINT}")))?;
    let uri: Uri = typed.parse().map_err(|error| refuse(&format!("{error}; {HINT}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(refuse(HINT));
    }
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let Some((user_info, host)) = authority.rsplit_once('@') else { return Ok((uri, None)) };
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host.parse().map_err(|_| refuse(HINT))?);
    let bare = Uri::from_parts(parts).map_err(|error| refuse(&error.to_string()))?;
    Ok((bare, Some(user_info.to_owned())))
}

fn form(options: &Options<'_>) -> Result<Form, Failure> {
    let framing = match options.text("format")?.as_deref() {
        Some("ndjson") => Framing::Lines,
        _ => Framing::Array,
    };
    let kind = options.text("compression")?;
    let level_max = if kind.as_deref() == Some("zstd") { 19 } else { 9 };
    let level = options.number("compression_level", 1..=level_max)?;
    let compression = match kind.as_deref() {
        Some("none") => Compression::None,
        Some("zstd") => Compression::Zstd { level: level.unwrap_or(3) as i32 },
        _ => Compression::Gzip { level: level.unwrap_or(1) as u32 },
    };
    Ok(Form { framing, compression })
}

fn tls_files(options: &Options<'_>) -> Result<Files, Failure> {
    let client = match (options.file("cert_file")?, options.file("key_file")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(options.refuse("cert_file", "key_file is missing")),
        (None, Some(_)) => return Err(options.refuse("key_file", "cert_file is missing")),
    };
    Ok(Files { roots: options.file("ca_file")?, client })
}

fn headers(options: &Options<'_>, form: Form) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let content_type = match form.framing {
        Framing::Array => "application/json",
        Framing::Lines => "application/x-ndjson",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("longshore/", env!("CARGO_PKG_VERSION"))));
    let encoding = match form.compression {
        Compression::None => None,
        Compression::Gzip { .. } => Some("gzip"),
        Compression::Zstd { .. } => Some("zstd"),
    };
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    for (name, text) in options.table("headers")? {
        let key = format!("headers.{name}");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| options.refuse(&key, error))?;
        headers.insert(name, value(options, &key, &text)?);
    }
    Ok(headers)
}

fn value(options: &Options<'_>, key: &str, text: &str) -> Result<HeaderValue, Failure> {
    // The text may be a secret: it isn't shown.
    HeaderValue::from_str(text).map_err(|_| options.refuse(key, "holds what no header can, such as a line break"))
}
