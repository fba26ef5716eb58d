//! The socket on which a running agent answers the commands of the same host: one JSON line in, one out, then closed.
//! Its questions travel to the agent's thread and wait there for its next turn; nothing is answered from the net thread.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::inbox::Inbox;
use crate::sys::Os;
use crate::sys::unix::Unix;

const NAME: &str = "control.sock";
/// Under this name until its mode is right.
const NAME_UNFINISHED: &str = "control.sock.new";
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// 5,000 containers take about 2 MB.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const QUESTIONS_WAITING_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 32;
/// For the agent to take its turn, and for a caller to send its question or take its reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The caller waits longer than the agent, so that it hears why.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// What `sockaddr_un` holds, less the NUL.
const PATH_BYTES_MAX: usize = 107;

/// A question that waits for the agent's thread.
#[derive(Debug)]
pub struct Question {
    /// What the caller sent; by convention an object with `ask`.
    pub value: Value,
    reply: oneshot::Sender<Value>,
}

impl Question {
    /// The word in `ask`.
    pub fn ask(&self) -> Option<&str> {
        self.value.get("ask").and_then(Value::as_str)
    }

    /// Nothing happens when the caller has gone.
    pub fn answer(self, value: Value) {
        let _caller_left = self.reply.send(value);
    }

    /// Says that it can't be answered.
    pub fn refuse(self, error: &str) {
        self.answer(refusal(error));
    }
}

/// The agent's end: look at it after each wait.
#[derive(Debug)]
pub struct Questions {
    receiver: Receiver<Question>,
}

impl Questions {
    pub fn next(&self) -> Option<Question> {
        self.receiver.try_recv().ok()
    }
}

/// A bound socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    file: SocketFile,
    sender: SyncSender<Question>,
    inbox: Inbox,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _may_be_gone = Unix.remove(&self.path);
    }
}

/// Asks the agent's thread from the net thread, as a caller on the socket does.
#[derive(Clone, Debug)]
pub struct Asker {
    sender: SyncSender<Question>,
    inbox: Inbox,
}

impl Asker {
    /// What the agent answers, or why it doesn't.
    pub async fn ask(&self, question: Value) -> Result<Value, String> {
        let value = forward(question, &self.sender, &self.inbox).await;
        match value.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(value),
        }
    }
}

impl Control {
    pub fn asker(&self) -> Asker {
        Asker { sender: self.sender.clone(), inbox: self.inbox.clone() }
    }

    /// Takes the place of whatever socket an earlier agent left: the caller holds the lock of the state directory.
    pub fn bind(state_directory: &Path, inbox: Inbox) -> io::Result<(Control, Questions)> {
        let path = state_directory.join(NAME);
        let unfinished = state_directory.join(NAME_UNFINISHED);
        match Unix.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_short_path(&unfinished, |short| UnixListener::bind(short))?;
        // Nobody knows the first name; the known one appears with its mode.
        rustix::fs::chmod(&unfinished, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::rename(&unfinished, &path)?;
        listener.set_nonblocking(true)?;
        let (sender, receiver) = sync_channel(QUESTIONS_WAITING_MAX);
        Ok((Control { listener, file: SocketFile { path }, sender, inbox }, Questions { receiver }))
    }

    /// Serves until it is dropped. A task of the net thread.
    pub async fn serve(self) -> io::Result<()> {
        let Control { listener, file: _removed_at_the_end, sender, inbox } = self;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes the semaphore");
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, most likely: they come back.
                tokio::time::sleep_until(Instant::now() + ACCEPT_PAUSE).await;
                continue;
            };
            let (sender, inbox) = (sender.clone(), inbox.clone());
            tokio::spawn(async move {
                let _caller_left = attend(stream, &sender, &inbox).await;
                drop(place);
            });
        }
    }
}

async fn attend(mut stream: tokio::net::UnixStream, sender: &SyncSender<Question>, inbox: &Inbox) -> io::Result<()> {
    let value = match tokio::time::timeout(REPLY_TIMEOUT, hear(&mut stream)).await {
        Ok(Ok(value)) => forward(value, sender, inbox).await,
        Ok(Err(error)) => refusal(&error),
        Err(_) => refusal("the question took too long"),
    };
    let mut reply = value.to_string().into_bytes();
    reply.push(b'\n');
    tokio::time::timeout(REPLY_TIMEOUT, stream.write_all(&reply)).await??;
    stream.shutdown().await
}

async fn hear(stream: &mut tokio::net::UnixStream) -> Result<Value, String> {
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new(stream.take(QUESTION_BYTES_MAX + 1));
    reader.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    if line.len() as u64 > QUESTION_BYTES_MAX {
        return Err("the question is longer than 64 KiB".to_owned());
    }
    serde_json::from_slice(&line).map_err(|error| format!("the question is no JSON: {error}"))
}

async fn forward(value: Value, sender: &SyncSender<Question>, inbox: &Inbox) -> Value {
    let (reply, replied) = oneshot::channel();
    match sender.try_send(Question { value, reply }) {
        Ok(()) => inbox.wake(),
        Err(TrySendError::Full(_)) => return refusal("too many questions wait"),
        Err(TrySendError::Disconnected(_)) => return refusal("the agent is ending"),
    }
    match tokio::time::timeout(REPLY_TIMEOUT, replied).await {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => refusal("the agent is ending"),
        Err(_) => refusal("the agent didn't answer in time"),
    }
}

fn refusal(error: &str) -> Value {
    json!({ "error": error })
}

/// Why a running agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there: read the state directory itself.
    #[error("no agent is running")]
    NotRunning,
    #[error("cannot ask the agent on {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The agent's own words.
    #[error("the agent refused: {0}")]
    Refused(String),
    #[error("the agent's answer can't be read: {0}")]
    Answer(String),
}

/// Asks the agent that runs on a state directory. Blocks, for some seconds at most.
pub fn ask(state_directory: &Path, question: &Value) -> Result<Value, AskError> {
    let path = state_directory.join(NAME);
    let failed = |source: io::Error| AskError::Io { path: path.clone(), source };
    let stream = match with_short_path(&path, |short| UnixStream::connect(short)) {
        Ok(stream) => stream,
        // The second is the socket of an agent that was killed.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(AskError::NotRunning);
        }
        Err(error) => return Err(failed(error)),
    };
    let reply = exchange(&stream, question).map_err(failed)?;
    let value: Value = serde_json::from_slice(&reply).map_err(|error| AskError::Answer(error.to_string()))?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(AskError::Refused(error.to_owned())),
        None => Ok(value),
    }
}

fn exchange(mut stream: &UnixStream, question: &Value) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    let sent = stream.write_all(format!("{question}\n").as_bytes());
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_BYTES_MAX)).read_until(b'\n', &mut reply)?;
    // A refusal may come before the question is wholly sent, and says more than a broken pipe.
    if reply.is_empty() {
        sent?;
    }
    Ok(reply)
}

/// A socket's path holds 107 bytes; a longer one is reached through a descriptor of its directory.
fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return act(path);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return act(path) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    act(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests have real files")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Served {
        stop: Option<oneshot::Sender<()>>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Drop for Served {
        fn drop(&mut self) {
            drop(self.stop.take());
            self.thread.take().unwrap().join().unwrap();
        }
    }

    /// A net thread.
    fn serve(control: Control) -> Served {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    served = control.serve() => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Served { stop: Some(stop), thread: Some(thread) }
    }

    /// An agent that answers so many questions.
    fn agent(questions: Questions, inbox: Inbox, n_questions: usize) -> std::thread::JoinHandle<Questions> {
        std::thread::spawn(move || {
            let mut n_answered = 0;
            while n_answered < n_questions {
                assert!(inbox.wait(Duration::from_secs(10)).woken, "no question came");
                while let Some(question) = questions.next() {
                    n_answered += 1;
                    match question.ask() {
                        Some("containers") => question.answer(json!({ "containers": ["a"] })),
                        _ => question.refuse("unknown question"),
                    }
                }
            }
            questions
        })
    }

    fn check_conversation(state: &Path) {
        let inbox = Inbox::new();
        assert!(matches!(ask(state, &json!({})), Err(AskError::NotRunning)));
        fs::write(state.join(NAME_UNFINISHED), "left by a kill").unwrap();
        let (control, questions) = Control::bind(state, inbox.clone()).unwrap();
        let mode = fs::metadata(state.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!state.join(NAME_UNFINISHED).exists());
        let served = serve(control);
        let agent = agent(questions, inbox, 2);
        assert_eq!(ask(state, &json!({ "ask": "containers" })).unwrap(), json!({ "containers": ["a"] }));
        let refused = ask(state, &json!({ "ask": "the weather" }));
        assert!(matches!(refused, Err(AskError::Refused(why)) if why == "unknown question"));
        let _questions = agent.join().unwrap();
        drop(served);
        assert!(!state.join(NAME).exists());
        assert!(matches!(ask(state, &json!({})), Err(AskError::NotRunning)));
    }

    #[test]
    fn a_question_is_answered_by_the_agent() {
        check_conversation(tempfile::tempdir().unwrap().path());
    }

    #[test]
    fn a_long_path_is_no_hindrance() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("x".repeat(120)).join("y".repeat(60));
        fs::create_dir_all(&state).unwrap();
        check_conversation(&state);
    }

    #[test]
    fn a_stale_socket_is_nobody_and_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(state.path().join(NAME)).unwrap());
        assert!(matches!(ask(state.path(), &json!({})), Err(AskError::NotRunning)));
        let (_control, _questions) = Control::bind(state.path(), Inbox::new()).unwrap();
        UnixStream::connect(state.path().join(NAME)).unwrap();
    }

    #[test]
    fn bad_questions_don_t_reach_the_agent() {
        let state = tempfile::tempdir().unwrap();
        let inbox = Inbox::new();
        let (control, questions) = Control::bind(state.path(), inbox.clone()).unwrap();
        let _served = serve(control);
        let long = ask(state.path(), &json!({ "ask": "x".repeat(70_000) }));
        assert!(matches!(&long, Err(AskError::Refused(why)) if why.contains("64 KiB")), "{long:?}");
        let mut stream = UnixStream::connect(state.path().join(NAME)).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with(r#"{"error":"the question is no JSON"#) && reply.ends_with("}\n"), "{reply}");
        assert!(questions.next().is_none() && inbox.wait(Duration::ZERO).is_empty());

        drop(questions);
        let ending = ask(state.path(), &json!({ "ask": "containers" }));
        assert!(matches!(&ending, Err(AskError::Refused(why)) if why == "the agent is ending"), "{ending:?}");
    }

    #[test]
    fn a_question_that_is_dropped_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let inbox = Inbox::new();
        let (control, questions) = Control::bind(state.path(), inbox.clone()).unwrap();
        let _served = serve(control);
        let agent = std::thread::spawn(move || {
            assert!(inbox.wait(Duration::from_secs(10)).woken);
            drop(questions.next().unwrap());
        });
        assert!(matches!(ask(state.path(), &json!({ "ask": "x" })), Err(AskError::Refused(_))));
        agent.join().unwrap();
    }
}
