//! The `stdout` sink: lines on standard output, for a sidecar or a pipe. A thread of its own writes, so that a slow
//! reader of the pipe holds up nothing but this sink.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use hyper::body::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

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
        Box::new(StdoutTransport::start(net.inbox.clone(), Unbuffered(io::stdout())))
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
    fn start(inbox: Inbox, out: impl Write + AsFd + Send + 'static) -> StdoutTransport {
        let (requests, queue) = channel::<Request>();
        let (sender, answers) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let shared = closed.clone();
        let mut lines = Lines { out, begun: None, is_torn: false };
        let work = move || {
            while let Ok(request) = queue.recv() {
                let answer = match lines.write(&request.body) {
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

/// Standard output without std's buffer, which would keep what a full disk didn't take and write it before a retry.
struct Unbuffered(io::Stdout);

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Unbuffered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Writes batches of lines. One that was torn is ended before anything follows it, and comes again whole.
struct Lines<W> {
    out: W,
    /// The batch that wasn't written to its end, and where the line begins that wasn't.
    begun: Option<(Bytes, usize)>,
    /// What went out last is within a line.
    is_torn: bool,
}

impl<W: Write + AsFd> Lines<W> {
    fn write(&mut self, lines: &Bytes) -> io::Result<()> {
        if self.is_torn {
            self.write_some(b"\n")?;
            self.is_torn = false;
        }
        let begun = self.begun.take().filter(|(begun, _)| begun == lines);
        let mut written = begun.map_or(0, |(_, at)| at);
        while written < lines.len() {
            match self.write_some(&lines[written..]) {
                Ok(n_bytes) => {
                    written += n_bytes;
                    self.is_torn = lines[written - 1] != b'\n';
                }
                Err(error) => {
                    let line = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                    self.begun = Some((lines.clone(), line));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits while nothing can be written, as a write to a pipe that blocks does: somebody else may have made it not block.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                other => return other,
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{PipeReader, PipeWriter, Read};
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
    #[derive(Clone)]
    struct Pipe {
        state: Arc<Mutex<State>>,
        /// One that is always ready: to be waited for.
        ready: Arc<PipeWriter>,
    }

    #[derive(Default)]
    struct State {
        written: Vec<u8>,
        /// How many bytes it still takes, and with what it fails then.
        room: VecDeque<(usize, io::ErrorKind)>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let State { written, room } = &mut *self.state.lock().unwrap();
            let Some((left, kind)) = room.front_mut() else { return written.write(bytes) };
            if *left == 0 {
                let kind = *kind;
                room.pop_front();
                return Err(kind.into());
            }
            let n_bytes = bytes.len().min(*left);
            *left -= n_bytes;
            written.write(&bytes[..n_bytes])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Pipe {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.ready.as_fd()
        }
    }

    struct Told {
        inbox: Inbox,
        pipe: Pipe,
        transport: StdoutTransport,
        _reader: PipeReader,
    }

    impl Told {
        fn new() -> Told {
            let (reader, writer) = io::pipe().unwrap();
            let (inbox, pipe) = (Inbox::new(), Pipe { state: Arc::default(), ready: Arc::new(writer) });
            let transport = StdoutTransport::start(inbox.clone(), pipe.clone());
            Told { inbox, pipe, transport, _reader: reader }
        }

        /// Sends a batch of lines while the pipe takes so much.
        fn answer(&mut self, key: BatchKey, lines: &'static str, room: &[(usize, io::ErrorKind)]) -> Answer {
            self.pipe.state.lock().unwrap().room = room.iter().copied().collect();
            answer(&mut self.transport, &self.inbox, key, lines.into())
        }

        fn written(&self) -> String {
            String::from_utf8(self.pipe.state.lock().unwrap().written.clone()).unwrap()
        }
    }

    fn answer(transport: &mut StdoutTransport, inbox: &Inbox, key: BatchKey, body: Bytes) -> Answer {
        transport.send(Request { key, id: String::new(), body, n_records: 2 });
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
        answer
    }

    #[test]
    fn what_is_sent_is_written_and_answered_and_a_closed_pipe_is_known() {
        let mut told = Told::new();
        assert_eq!((told.answer(1, "a\nb\n", &[]), told.transport.is_closed()), (Answer::Accepted, false));
        let full = told.answer(2, "a\nb\n", &[(0, io::ErrorKind::StorageFull)]);
        assert!(matches!(full, Answer::Later { .. }) && !told.transport.is_closed());
        let gone = told.answer(3, "a\nb\n", &[(0, io::ErrorKind::BrokenPipe)]);
        assert!(matches!(gone, Answer::Later { .. }) && told.transport.is_closed());
        assert_eq!(told.written(), "a\nb\n");
    }

    #[test]
    fn a_torn_line_is_ended_and_written_again_and_whole_ones_are_not() {
        let mut told = Told::new();
        let full = io::ErrorKind::StorageFull;
        for room in [6, 0] {
            assert!(matches!(told.answer(1, "aaaa\nbbbb\ncccc\n", &[(room, full)]), Answer::Later { .. }));
        }
        // Its end goes out, and no more.
        assert!(matches!(told.answer(1, "aaaa\nbbbb\ncccc\n", &[(1, full)]), Answer::Later { .. }));
        assert_eq!(told.answer(1, "aaaa\nbbbb\ncccc\n", &[]), Answer::Accepted);
        assert_eq!(told.written(), "aaaa\nb\nbbbb\ncccc\n");
        // What comes next may be another batch.
        assert!(matches!(told.answer(2, "dddd\n", &[(2, full)]), Answer::Later { .. }));
        assert_eq!(told.answer(3, "eeee\nffff\n", &[]), Answer::Accepted);
        assert_eq!(told.answer(4, "dddd\n", &[]), Answer::Accepted);
        assert_eq!(told.written(), "aaaa\nb\nbbbb\ncccc\ndd\neeee\nffff\ndddd\n");
    }

    #[test]
    fn a_pipe_that_is_full_for_now_is_waited_for() {
        let mut told = Told::new();
        let later = [(3, io::ErrorKind::WouldBlock), (4, io::ErrorKind::Interrupted), (1, io::ErrorKind::WouldBlock)];
        assert_eq!(told.answer(1, "aaaa\nbbbb\n", &later), Answer::Accepted);
        assert_eq!(told.written(), "aaaa\nbbbb\n");
    }

    #[test]
    fn a_pipe_that_doesn_t_block_gets_each_line_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let lines: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
        let reading = std::thread::spawn(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).map(|_| read)
        });
        let inbox = Inbox::new();
        let mut transport = StdoutTransport::start(inbox.clone(), writer);
        assert_eq!(answer(&mut transport, &inbox, 1, lines.clone().into()), Answer::Accepted);
        drop(transport);
        assert!(reading.join().unwrap().unwrap() == lines);
    }
}
