//! inotify by way of notify: turns events into names in the inbox, and nothing more.
//! Correctness never rests on it. Whatever goes wrong here ends in "look everywhere" or in polling.
#![allow(clippy::disallowed_methods, reason = "sys is where the system is asked")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::agent::inbox::Inbox;

/// notify reports a broken descriptor again and again without a pause; this is the pause.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

/// Why a directory isn't watched. It is polled then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchRefused {
    /// No more watches for this user, or none at all.
    #[error("the kernel's limit of inotify watches or instances is reached")]
    Limit,
    /// The directory isn't there.
    #[error("the directory is gone")]
    Gone,
    #[error("{0}")]
    Other(String),
}

/// Hears of changes in directories and leaves hints in an inbox. Never recursive.
pub trait Watcher {
    /// Watches the directory that holds the containers. May be called again, for a root that was made anew.
    fn watch_root(&mut self, root: &Path) -> Result<(), WatchRefused>;
    /// Watches one container's directory. List it after this, not before.
    fn watch(&mut self, directory: &Path) -> Result<(), WatchRefused>;
    /// Also for a directory that is gone, and for one that was never watched.
    fn unwatch(&mut self, directory: &Path);
    /// Something changed in it and nothing was heard of that: others who rely on hints are told.
    fn missed(&mut self, _directory: &Path) {}
    /// Why everything is polled, if it is.
    fn poll_reason(&self) -> Option<&str>;
}

/// Hears nothing: for the simulator, and for who wants to poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl Watcher for NoWatch {
    fn watch_root(&mut self, _root: &Path) -> Result<(), WatchRefused> {
        Err(WatchRefused::Limit)
    }

    fn watch(&mut self, _directory: &Path) -> Result<(), WatchRefused> {
        Err(WatchRefused::Limit)
    }

    fn unwatch(&mut self, _directory: &Path) {}

    fn poll_reason(&self) -> Option<&str> {
        Some("nothing is watched")
    }
}

/// The kernel's watches, or the reason why there are none.
pub enum Watch {
    On(Inotify),
    Off(String),
}

pub struct Inotify {
    /// `None` only while it is dropped.
    notify: Option<RecommendedWatcher>,
    /// Shared with the handler.
    root: Arc<Mutex<Root>>,
    inbox: Inbox,
}

/// The root has two names: what the operator calls it, and where that leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Root {
    named: PathBuf,
    /// Without links; what events are named by.
    real: PathBuf,
}

impl Watch {
    /// Never fails: without inotify it is [`Watch::Off`].
    pub fn new(inbox: Inbox) -> Watch {
        let root = Arc::new(Mutex::new(Root::default()));
        let handler = Handler { inbox: inbox.clone(), root: root.clone() };
        let made = catch_unwind(AssertUnwindSafe(|| {
            RecommendedWatcher::new(move |event| handler.handle(event), notify::Config::default())
        }));
        match made {
            Ok(Ok(notify)) => Watch::On(Inotify { notify: Some(notify), root, inbox }),
            Ok(Err(error)) => Watch::Off(off_reason(&error)),
            Err(_) => Watch::Off("the watcher panicked while it started".to_owned()),
        }
    }

    /// Runs notify, whose calls panic once its thread has died; then there is nothing left to watch with.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut RecommendedWatcher, &Arc<Mutex<Root>>) -> T) -> Option<T> {
        let Watch::On(Inotify { notify: Some(notify), root, inbox }) = self else { return None };
        let answer = catch_unwind(AssertUnwindSafe(|| ask(notify, root)));
        if answer.is_err() {
            inbox.nothing_watched();
            *self = Watch::Off("the watcher's thread has died".to_owned());
        }
        answer.ok()
    }
}

impl Watcher for Watch {
    fn watch_root(&mut self, root: &Path) -> Result<(), WatchRefused> {
        let real = fs::canonicalize(root).map_err(|error| refused_io(&error))?;
        let next = Root { named: root.to_owned(), real };
        self.ask(|notify, root| {
            let before = std::mem::replace(&mut *lock(root), next.clone());
            // Also where the path is the same: the kernel's watch went with the old directory, notify's entry did not.
            if !before.real.as_os_str().is_empty() {
                let _was_gone = notify.unwatch(&before.real);
            }
            notify.watch(&next.real, RecursiveMode::NonRecursive).map_err(|error| refused(&error))
        })
        .unwrap_or(Err(WatchRefused::Limit))
    }

    fn watch(&mut self, directory: &Path) -> Result<(), WatchRefused> {
        self.ask(|notify, root| {
            let real = lock(root).real_path(directory);
            notify.watch(&real, RecursiveMode::NonRecursive).map_err(|error| refused(&error))
        })
        .unwrap_or(Err(WatchRefused::Limit))?;
        if let Watch::On(Inotify { inbox, .. }) = self {
            inbox.watched(directory.file_name().unwrap_or_default());
        }
        Ok(())
    }

    fn unwatch(&mut self, directory: &Path) {
        if let Watch::On(Inotify { inbox, .. }) = self {
            inbox.unwatched(directory.file_name().unwrap_or_default());
        }
        let _was_gone = self.ask(|notify, root| {
            let real = lock(root).real_path(directory);
            notify.unwatch(&real).is_ok()
        });
    }

    fn missed(&mut self, directory: &Path) {
        if let Watch::On(Inotify { inbox, .. }) = self {
            inbox.hint_followers(directory.file_name().unwrap_or_default());
        }
    }

    fn poll_reason(&self) -> Option<&str> {
        match self {
            Watch::On(_) => None,
            Watch::Off(reason) => Some(reason),
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        // notify unwraps a send to its thread.
        let notify = self.notify.take();
        let _died_before = catch_unwind(AssertUnwindSafe(|| drop(notify)));
    }
}

impl Root {
    fn real_path(&self, directory: &Path) -> PathBuf {
        match directory.strip_prefix(&self.named) {
            Ok(below) if !self.named.as_os_str().is_empty() => self.real.join(below),
            _ => directory.to_owned(),
        }
    }

    /// The container directory an event is about: the first name below the root.
    fn hinted<'a>(&self, path: &'a Path) -> Hinted<'a> {
        let Ok(below) = path.strip_prefix(&self.real) else { return Hinted::Elsewhere };
        match below.components().next() {
            None => Hinted::Root,
            Some(Component::Normal(name)) => Hinted::Directory { name, itself: below.components().count() == 1 },
            Some(_) => Hinted::Elsewhere,
        }
    }
}

enum Hinted<'a> {
    Root,
    Directory {
        name: &'a OsStr,
        /// The event is about the directory, not about what is in it.
        itself: bool,
    },
    /// From before the root moved.
    Elsewhere,
}

struct Handler {
    inbox: Inbox,
    root: Arc<Mutex<Root>>,
}

impl Handler {
    /// Runs on notify's thread, which must not be held up and dies if this panics.
    fn handle(&self, event: notify::Result<Event>) {
        match event {
            // Our own opening of a log is such an event.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) if event.need_rescan() => self.inbox.overflowed(),
            Ok(event) => self.hint(&event),
            Err(error) => {
                self.inbox.rescan();
                if !matches!(error.kind, ErrorKind::MaxFilesWatch | ErrorKind::PathNotFound) {
                    std::thread::sleep(ERROR_PAUSE);
                }
            }
        }
    }

    fn hint(&self, event: &Event) {
        let root = lock(&self.root);
        for path in &event.paths {
            match root.hinted(path) {
                Hinted::Root | Hinted::Elsewhere => self.inbox.hint_root(),
                Hinted::Directory { name, itself } => {
                    self.inbox.hint(name);
                    if itself && !matches!(event.kind, EventKind::Modify(notify::event::ModifyKind::Metadata(_))) {
                        self.inbox.hint_root();
                    }
                }
            }
        }
    }
}

fn lock(root: &Mutex<Root>) -> std::sync::MutexGuard<'_, Root> {
    root.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(error: &notify::Error) -> WatchRefused {
    match &error.kind {
        ErrorKind::MaxFilesWatch => WatchRefused::Limit,
        ErrorKind::PathNotFound => WatchRefused::Gone,
        ErrorKind::Io(error) => refused_io(error),
        other => WatchRefused::Other(format!("{other:?}")),
    }
}

fn refused_io(error: &io::Error) -> WatchRefused {
    match (error.raw_os_error(), error.kind()) {
        (Some(ENOSPC | EMFILE | ENFILE), _) => WatchRefused::Limit,
        (_, io::ErrorKind::NotFound) => WatchRefused::Gone,
        _ => WatchRefused::Other(error.to_string()),
    }
}

fn off_reason(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::Io(error) if error.raw_os_error() == Some(EMFILE) => {
            "no inotify instance is free; raise fs.inotify.max_user_instances".to_owned()
        }
        ErrorKind::MaxFilesWatch => "no inotify watch is free; raise fs.inotify.max_user_watches".to_owned(),
        _ => format!("inotify can't be used: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::inbox::Hints;
    use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, Flag, ModifyKind};
    use std::io::Write;

    const LONG: Duration = Duration::from_secs(10);

    fn handler(root: &str) -> Handler {
        let root = Root { named: root.into(), real: root.into() };
        Handler { inbox: Inbox::new(), root: Arc::new(Mutex::new(root)) }
    }

    fn said(handler: &Handler) -> Hints {
        handler.inbox.wait(Duration::ZERO)
    }

    fn names(hints: &Hints) -> Vec<&str> {
        let mut names: Vec<&str> = hints.directories.iter().map(|name| name.to_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn events_become_names() {
        let handler = handler("/c");
        let event = |kind, path: &str| Ok(Event::new(kind).add_path(path.into()));
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));

        handler.handle(event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/c/aa/aa-json.log"));
        assert!(said(&handler).is_empty(), "our own open");

        handler.handle(event(data, "/c/aa/aa-json.log"));
        let hints = said(&handler);
        assert_eq!((names(&hints), hints.root), (vec!["aa"], false));

        handler.handle(event(EventKind::Create(CreateKind::Folder), "/c/bb"));
        let hints = said(&handler);
        assert_eq!((names(&hints), hints.root), (vec!["bb"], true));

        handler.handle(event(data, "/c"));
        let hints = said(&handler);
        assert_eq!((names(&hints), hints.root), (vec![], true));

        handler.handle(event(data, "/elsewhere/aa/x"));
        assert!(said(&handler).root);

        handler.handle(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let hints = said(&handler);
        assert!(hints.rescan && hints.overflows == 1);

        handler.handle(Err(notify::Error::new(ErrorKind::MaxFilesWatch)));
        let hints = said(&handler);
        assert!(hints.rescan && hints.overflows == 0);
    }

    /// Waits until all that came satisfies; the deadline is the inbox's.
    fn wait_for(inbox: &Inbox, wanted: impl Fn(&Hints) -> bool) {
        let mut all = Hints::default();
        for _ in 0..100 {
            let hints = inbox.wait(LONG);
            assert!(!hints.is_empty(), "no event came");
            all.root |= hints.root;
            all.directories.extend(hints.directories);
            if wanted(&all) {
                return;
            }
        }
        panic!("other events came");
    }

    #[test]
    fn a_linked_root_is_watched_where_it_leads() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().join("real");
        let linked = place.path().join("linked");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &linked).unwrap();
        let inbox = Inbox::new();
        let mut watch = Watch::new(inbox.clone());
        if watch.poll_reason().is_some() {
            return;
        }
        watch.watch_root(&linked).unwrap();

        fs::create_dir(linked.join("aa")).unwrap();
        wait_for(&inbox, |hints| hints.root && hints.directories.contains(OsStr::new("aa")));
        watch.watch(&linked.join("aa")).unwrap();
        fs::write(real.join("aa/aa-json.log"), "x").unwrap();
        wait_for(&inbox, |hints| hints.directories.contains(OsStr::new("aa")));

        watch.unwatch(&linked.join("aa"));
        watch.unwatch(&linked.join("aa"));
        assert_eq!(watch.watch(&linked.join("none")), Err(WatchRefused::Gone));
        assert_eq!(watch.watch_root(&place.path().join("none")), Err(WatchRefused::Gone));

        // A root that was made anew is heard again.
        fs::remove_dir_all(&real).unwrap();
        fs::create_dir(&real).unwrap();
        watch.watch_root(&linked).unwrap();
        inbox.wait(Duration::ZERO);
        fs::create_dir(linked.join("bb")).unwrap();
        wait_for(&inbox, |hints| hints.directories.contains(OsStr::new("bb")));
    }

    #[test]
    fn reading_a_watched_log_is_no_event() {
        let place = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(root.join("aa")).unwrap();
        fs::write(root.join("aa/log"), "x").unwrap();
        let inbox = Inbox::new();
        let mut watch = Watch::new(inbox.clone());
        if watch.poll_reason().is_some() {
            return;
        }
        watch.watch_root(&root).unwrap();
        watch.watch(&root.join("aa")).unwrap();
        for _ in 0..100 {
            fs::read(root.join("aa/log")).unwrap();
        }
        // Events of one inotify instance come in order: what reading caused would have come before this.
        fs::create_dir(root.join("zz")).unwrap();
        let mut seen = Hints::default();
        while !seen.directories.contains(OsStr::new("zz")) {
            let hints = inbox.wait(LONG);
            assert!(!hints.is_empty());
            seen.directories.extend(hints.directories);
        }
        assert_eq!(names(&seen), ["zz"]);
        let mut log = fs::OpenOptions::new().append(true).open(root.join("aa/log")).unwrap();
        log.write_all(b"y").unwrap();
        wait_for(&inbox, |hints| names(hints).contains(&"aa"));
    }

    #[test]
    fn a_dead_watcher_becomes_polling() {
        let mut watch = Watch::new(Inbox::new());
        watch.ask(|_, _| panic!("the thread is gone (this panic is part of the test)"));
        assert!(watch.poll_reason().is_some());
        assert_eq!(watch.watch(Path::new("/")), Err(WatchRefused::Limit));
        watch.unwatch(Path::new("/"));
        assert_eq!(NoWatch.watch(Path::new("/")), Err(WatchRefused::Limit));
    }

    #[test]
    fn refusals_are_told_apart() {
        let io = |code| notify::Error::io(io::Error::from_raw_os_error(code));
        assert_eq!(refused(&io(ENOSPC)), WatchRefused::Limit);
        assert_eq!(refused(&notify::Error::new(ErrorKind::MaxFilesWatch)), WatchRefused::Limit);
        assert_eq!(refused(&notify::Error::path_not_found()), WatchRefused::Gone);
        assert!(matches!(refused(&notify::Error::generic("x")), WatchRefused::Other(_)));
        assert!(off_reason(&io(EMFILE)).contains("max_user_instances"));
    }
}
