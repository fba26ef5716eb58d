//! The `stdout` sink: lines on standard output, for a sidecar or a pipe. A thread of its own writes, so that a slow
//! reader of the pipe holds up nothing but this sink.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use hyper::body::Bytes;

use crate::agent::inbox::Inbox;
use crate::cli::Failure;
use crate::config::sink_options::{Kind, OptionSpec, Options};
use crate::format::Template;
use crate::forward::body::{Compression, Form, Framing};
use crate::forward::rendering::Look;
use crate::forward::{Request, Transport};
use crate::sink::delivery::{Answer, BatchKey};
use crate::sink::registry::{Made, Net, Probing, Target};

pub const OPTIONS: [OptionSpec; 3] = [
    OptionSpec::new("format", Kind::Words(&["text", "json", "logfmt"]), "How a record is written").by_default("text"),
    OptionSpec::new("template", Kind::Text, "A line of the text format, with the tags of --template")
        .by_default("{time} {name} {stream} {log}"),
    OptionSpec::new("fields", Kind::Table, "Fields of json and logfmt, in the order of their names behind timestamp, container, stream and line; each is a template, and an empty one leaves a field out")
        .example(r#"{ app = "{label.app}" }"#),
];

const FIELDS: [(&str, &str); 4] =
    [("timestamp", "{time}"), ("container", "{name}"), ("stream", "{stream}"), ("line", "{log}")];

#[derive(Debug)]
struct Stdout;

pub fn target(options: &Options<'_>) -> Result<Made, Failure> {
    let look = match options.text("format")?.as_deref() {
        Some("json") => Look::Json(options.fields("fields", &FIELDS)?),
        Some("logfmt") => Look::Logfmt(options.fields("fields", &FIELDS)?),
        _ => {
            let typed = options.text("template")?.unwrap_or_default();
            Look::Text(Template::parse(&typed).map_err(|error| options.refuse("template", error))?)
        }
    };
    let form = Form { framing: Framing::Lines, compression: Compression::None };
    Ok(Made { target: Arc::new(Stdout), look, form, window_max: Some(1) })
}

impl Target for Stdout {
    fn transport(&self, net: &Net) -> Box<dyn Transport> {
        Box::new(StdoutTransport::start(net.inbox.clone(), io::stdout()))
    }

    fn probe(&self, _net: &Net, _empty: Bytes) -> Probing<'_> {
        Box::pin(async { Ok(()) })
    }

    fn place(&self) -> String {
        "standard output".to_owned()
    }
}

struct StdoutTransport {
    requests: Sender<Request>,
    answers: Receiver<(BatchKey, Answer)>,
    closed: Arc<AtomicBool>,
}

impl StdoutTransport {
    fn start(inbox: Inbox, mut out: impl Write + Send + 'static) -> StdoutTransport {
        let (requests, queue) = channel::<Request>();
        let (sender, answers) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let shared = closed.clone();
        let work = move || {
            while let Ok(request) = queue.recv() {
                let answer = match out.write_all(&request.body).and_then(|()| out.flush()) {
                    Ok(()) => Answer::Accepted,
                    Err(error) => {
                        shared.store(error.kind() == io::ErrorKind::BrokenPipe, Ordering::Relaxed);
                        Answer::Later { why: error.to_string(), after: None }
                    }
                };
                if sender.send((request.key, answer)).is_err() {
                    return;
                }
                inbox.wake();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("stdout".to_owned()).spawn(work) {
            tracing::error!(%error, "cannot start the thread that writes to standard output");
            closed.store(true, Ordering::Relaxed);
        }
        StdoutTransport { requests, answers, closed }
    }
}

impl Transport for StdoutTransport {
    fn send(&mut self, request: Request) {
        let _the_thread_ended = self.requests.send(request);
    }

    fn poll(&mut self) -> Option<(BatchKey, Answer)> {
        self.answers.try_recv().ok()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
