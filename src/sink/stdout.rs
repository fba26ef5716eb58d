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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::config::file::{At, Setting, Value};
    use crate::config::sink_options::SinkTable;

    fn look(format: Option<&str>) -> Look {
        let at = At { file: "c.toml".into(), line: 1 };
        let setting =
            |text: &str| Setting { key: "format".to_owned(), value: Value::Text(text.to_owned()), at: at.clone() };
        let table =
            SinkTable { name: "out".to_owned(), at: at.clone(), settings: format.into_iter().map(setting).collect() };
        let made = target(&Options::new(&table, OPTIONS.iter(), Path::new("/")).unwrap()).unwrap();
        assert_eq!((made.window_max, made.target.place().as_str()), (Some(1), "standard output"));
        made.look
    }

    #[test]
    fn each_format_has_its_look() {
        assert!(matches!(look(None), Look::Text(_)) && matches!(look(Some("text")), Look::Text(_)));
        assert!(matches!(look(Some("json")), Look::Json(fields) if fields.len() == FIELDS.len()));
        assert!(matches!(look(Some("logfmt")), Look::Logfmt(fields) if fields.len() == FIELDS.len()));
    }

    /// Standard output of somebody, who may have gone.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<(Vec<u8>, Option<io::ErrorKind>)>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, failing) = &mut *self.0.lock().unwrap();
            match failing {
                Some(kind) => Err((*kind).into()),
                None => written.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_sent_is_written_and_answered_and_a_closed_pipe_is_known() {
        let (inbox, pipe) = (Inbox::new(), Pipe::default());
        let mut transport = StdoutTransport::start(inbox.clone(), pipe.clone());
        let mut answer = |key: BatchKey, failing: Option<io::ErrorKind>| {
            pipe.0.lock().unwrap().1 = failing;
            transport.send(Request { key, id: String::new(), body: "a\nb\n".into(), n_records: 2 });
            // A wake may still be that of an answer before.
            let polled = (0..4).find_map(|_| {
                let polled = transport.poll();
                if polled.is_none() {
                    inbox.wait(Duration::from_secs(5));
                }
                polled
            });
            let (answered, answer) = polled.unwrap();
            assert_eq!(answered, key);
            (answer, transport.is_closed())
        };
        assert_eq!(answer(1, None), (Answer::Accepted, false));
        let (full, is_closed) = answer(2, Some(io::ErrorKind::StorageFull));
        assert!(matches!(full, Answer::Later { .. }) && !is_closed);
        let (gone, is_closed) = answer(3, Some(io::ErrorKind::BrokenPipe));
        assert!(matches!(gone, Answer::Later { .. }) && is_closed);
        assert_eq!(pipe.0.lock().unwrap().0, b"a\nb\n");
    }
}
