//! Where other threads leave word for the agent: hints, and nothing that must not be lost.
//! A sender never blocks and never fails; what is too much becomes "look everywhere".

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::discover::listing::ContainerId;

/// Beyond so many names a listing of the root is the cheaper answer.
pub const HINTED_NAMES_MAX: usize = 4_096;

/// What came in since the agent last looked. "Something may have changed there": never truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Names of container directories, as they stand in the root. At most [`HINTED_NAMES_MAX`].
    pub directories: HashSet<OsString>,
    /// Entries of the root itself came or went.
    pub root: bool,
    /// Hints were lost: look everywhere.
    pub rescan: bool,
    /// How often the kernel's queue ran over.
    pub overflows: u64,
    /// Somebody asked for a turn: a commit is done, a question waits.
    pub woken: bool,
    /// Read the configuration again.
    pub reload: bool,
    /// Outputs may have been moved away.
    pub reopen: bool,
    /// Drain and end. Stays set.
    pub stop: bool,
    /// That it is set was told before: no reason to look again.
    pub stop_is_old: bool,
}

impl Hints {
    /// Whether there is a reason to look at all.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
            && !(self.root || self.rescan || self.woken || self.reload || self.reopen)
            && (!self.stop || self.stop_is_old)
    }
}

/// The containers whose directories are watched right now, as followers know it: what changes there is hinted, and that the
/// watch is gone is hinted as well.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<Mutex<HashSet<ContainerId>>>);

impl Watched {
    /// Ask before looking at the log: what comes between the two is hinted.
    pub fn contains(&self, id: &str) -> bool {
        ContainerId::parse(id).is_some_and(|id| self.lock().contains(&id))
    }

    pub fn add(&self, directory: &OsStr) {
        self.lock().extend(directory.to_str().and_then(ContainerId::parse));
    }

    /// True if it was there.
    fn remove(&self, directory: &OsStr) -> bool {
        directory.to_str().and_then(ContainerId::parse).is_some_and(|id| self.lock().remove(&id))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ContainerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clones share one box.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    shared: Arc<Shared>,
    /// Kept for who follows another inbox; empty in that one.
    watched: Watched,
    /// Others that read the same logs: what is hinted here is hinted there.
    followers: Arc<[Inbox]>,
}

#[derive(Debug, Default)]
struct Shared {
    hints: Mutex<Hints>,
    arrived: Condvar,
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Hints are passed on to these; what only concerns the one who waits here is not.
    pub fn followed_by(followers: Vec<Inbox>) -> Inbox {
        Inbox { followers: followers.into(), ..Inbox::default() }
    }

    /// Something may have changed in the container directory of this name.
    pub fn hint(&self, directory: &OsStr) {
        self.hint_followers(directory);
        self.leave(|hints| {
            if hints.rescan || hints.directories.contains(directory) {
                return;
            }
            if hints.directories.len() < HINTED_NAMES_MAX {
                hints.directories.insert(directory.to_owned());
            } else {
                hints.rescan = true;
                hints.directories.clear();
            }
        });
    }

    /// The same, for the others who read it only.
    pub fn hint_followers(&self, directory: &OsStr) {
        self.followers.iter().for_each(|follower| follower.hint(directory));
    }

    /// From now on, whatever changes in the container directory of this name is hinted. Told to followers only: the agent
    /// itself has the watch made.
    pub fn watched(&self, directory: &OsStr) {
        self.followers.iter().for_each(|follower| follower.watched.add(directory));
    }

    /// It isn't any more.
    pub fn unwatched(&self, directory: &OsStr) {
        self.followers.iter().filter(|follower| follower.watched.remove(directory)).for_each(|f| f.hint(directory));
    }

    /// Nothing is any more.
    pub fn nothing_watched(&self) {
        self.followers.iter().for_each(|follower| follower.watched.lock().clear());
        self.rescan();
    }

    /// What is watched, as it was told to this follower.
    pub fn what_is_watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Container directories came or went.
    pub fn hint_root(&self) {
        self.followers.iter().for_each(Inbox::hint_root);
        self.leave(|hints| hints.root = true);
    }

    /// Hints may have been lost.
    pub fn rescan(&self) {
        self.followers.iter().for_each(Inbox::rescan);
        self.leave(|hints| hints.rescan = true);
    }

    /// The kernel dropped events.
    pub fn overflowed(&self) {
        self.followers.iter().for_each(Inbox::rescan);
        self.leave(|hints| {
            hints.rescan = true;
            hints.overflows += 1;
        });
    }

    /// Ends a wait: there is something to do that is no hint.
    pub fn wake(&self) {
        self.leave(|hints| hints.woken = true);
    }

    /// Asks the agent to read its configuration again.
    pub fn reload(&self) {
        self.leave(|hints| hints.reload = true);
    }

    /// Asks the agent to look whether its outputs stand where they should.
    pub fn reopen(&self) {
        self.leave(|hints| hints.reopen = true);
    }

    /// Asks the agent to drain and end.
    pub fn stop(&self) {
        self.leave(|hints| (hints.stop, hints.stop_is_old) = (true, false));
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// What came in; at once when there is something, else after `timeout` at the latest.
    pub fn wait(&self, timeout: Duration) -> Hints {
        let hints = self.lock();
        let (mut hints, _) = self
            .shared
            .arrived
            .wait_timeout_while(hints, timeout, |hints| hints.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *hints);
        (hints.stop, hints.stop_is_old) = (taken.stop, taken.stop);
        taken
    }

    fn leave(&self, change: impl FnOnce(&mut Hints)) {
        let mut hints = self.lock();
        let was_empty = hints.is_empty();
        change(&mut hints);
        drop(hints);
        // A waiter can only sleep on an empty box; later senders need no system call.
        if was_empty {
            self.shared.arrived.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hints> {
        // A panic elsewhere leaves the flags as they were: still only hints.
        self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn hints_are_merged_and_taken_once() {
        let inbox = Inbox::new();
        inbox.hint(OsStr::new("aa"));
        inbox.hint(OsStr::new("aa"));
        inbox.hint(OsStr::new("bb"));
        inbox.hint_root();
        let hints = inbox.wait(LONG);
        assert_eq!(hints.directories, HashSet::from(["aa".into(), "bb".into()]));
        assert!(hints.root && !hints.rescan && !hints.stop && !hints.woken);
        assert!(inbox.wait(Duration::ZERO).is_empty());
    }

    #[test]
    fn followers_know_what_is_watched_and_hear_when_it_is_not() {
        let follower = Inbox::new();
        let (inbox, watched) = (Inbox::followed_by(vec![follower.clone()]), follower.what_is_watched());
        let ids = [format!("{:064x}", 7), format!("{:064x}", 8)];
        ids.iter().for_each(|id| inbox.watched(OsStr::new(id)));
        assert!(ids.iter().all(|id| watched.contains(id)) && !watched.contains("a name that is no id"));
        assert!(follower.wait(Duration::ZERO).is_empty(), "that it is watched is no reason to look");

        inbox.unwatched(OsStr::new(&ids[0]));
        inbox.unwatched(OsStr::new(&format!("{:064x}", 9)));
        assert!(!watched.contains(&ids[0]) && watched.contains(&ids[1]));
        assert_eq!(follower.wait(LONG).directories, HashSet::from([OsString::from(&ids[0])]));

        inbox.hint_followers(OsStr::new(&ids[1]));
        assert_eq!(follower.wait(LONG).directories, HashSet::from([OsString::from(&ids[1])]));
        assert!(inbox.wait(Duration::ZERO).is_empty());

        inbox.nothing_watched();
        assert!(follower.wait(LONG).rescan && !watched.contains(&ids[1]));
    }

    #[test]
    fn too_many_names_become_a_rescan() {
        let inbox = Inbox::new();
        for ix in 0..HINTED_NAMES_MAX {
            inbox.hint(OsStr::new(&ix.to_string()));
        }
        assert!(!inbox.lock().rescan);
        inbox.hint(OsStr::new("one more"));
        let hints = inbox.wait(LONG);
        assert!(hints.rescan && hints.directories.is_empty());
        inbox.hint(OsStr::new("after"));
        assert_eq!(inbox.wait(LONG).directories.len(), 1);
    }

    #[test]
    fn followers_get_the_hints_and_nothing_else() {
        let follower = Inbox::new();
        let inbox = Inbox::followed_by(vec![follower.clone()]);
        inbox.wake();
        inbox.stop();
        assert!(follower.wait(Duration::ZERO).is_empty());
        inbox.hint(OsStr::new("aa"));
        inbox.hint_root();
        inbox.overflowed();
        let hints = follower.wait(LONG);
        assert!(hints.root && hints.rescan && hints.overflows == 0);
        assert!(!follower.is_stopped());
    }

    #[test]
    fn a_stop_stays() {
        let inbox = Inbox::new();
        inbox.clone().stop();
        assert!(inbox.wait(LONG).stop);
        assert!(inbox.wait(Duration::ZERO).stop);
        assert!(inbox.is_stopped());
    }

    #[test]
    fn a_stop_ends_one_wait_and_not_every_one_behind_it() {
        let inbox = Inbox::new();
        inbox.stop();
        assert!(!inbox.lock().is_empty());
        inbox.wait(LONG);
        assert!(inbox.lock().is_empty(), "a drain would look again and again without a pause");
        inbox.stop();
        assert!(!inbox.lock().is_empty(), "told once more");
    }

    #[test]
    fn a_sender_on_another_thread_ends_the_wait() {
        let inbox = Inbox::new();
        let sender = inbox.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..1_000 {
                sender.wake();
                sender.overflowed();
            }
        });
        let mut overflows = 0;
        while overflows < 1_000 {
            let hints = inbox.wait(LONG);
            assert!(!hints.is_empty());
            overflows += hints.overflows;
        }
        thread.join().unwrap();
        assert_eq!(overflows, 1_000);
    }
}
