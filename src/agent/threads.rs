//! The threads beside the agent's: one that commits, one that tidies. Each takes jobs from a channel and leaves word in
//! the inbox when one is done.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::agent::inbox::Inbox;
use crate::checkpoint::commit::{Committer, Item, Outcome, execute};
use crate::checkpoint::store::Store;
use crate::sink::pruned::Pruned;
use crate::sink::tidy::{Chore, Tidied, Tidier};
use crate::sys::Os;

struct Job<O: Os> {
    items: Vec<Item<O>>,
    reply: Sender<Vec<Outcome<O>>>,
    inbox: Inbox,
}

/// The one thread that owns the store. It ends, and closes the store, when the last client is gone.
pub struct CommitThread<O: Os> {
    jobs: Sender<Job<O>>,
}

impl<O: Os> CommitThread<O> {
    pub fn start(os: O, mut store: Box<dyn Store>) -> io::Result<(CommitThread<O>, thread::JoinHandle<()>)> {
        let (jobs, queue) = channel::<Job<O>>();
        let handle = thread::Builder::new().name("commit".to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                let outcomes = execute(&os, store.as_mut(), job.items);
                // The agent may be gone already: then nobody waits for the answer.
                let _ = job.reply.send(outcomes);
                job.inbox.wake();
            }
        })?;
        Ok((CommitThread { jobs }, handle))
    }

    /// For one agent.
    pub fn client(&self, inbox: Inbox) -> CommitClient<O> {
        let (reply, outcomes) = channel();
        CommitClient { jobs: self.jobs.clone(), reply, outcomes, inbox, in_flight: false }
    }
}

pub struct CommitClient<O: Os> {
    jobs: Sender<Job<O>>,
    reply: Sender<Vec<Outcome<O>>>,
    outcomes: Receiver<Vec<Outcome<O>>>,
    inbox: Inbox,
    in_flight: bool,
}

impl<O: Os> Committer<O> for CommitClient<O> {
    fn submit(&mut self, items: Vec<Item<O>>) {
        assert!(!self.in_flight, "one job at a time");
        let job = Job { items, reply: self.reply.clone(), inbox: self.inbox.clone() };
        self.in_flight = self.jobs.send(job).is_ok();
    }

    fn is_idle(&self) -> bool {
        !self.in_flight
    }

    fn poll(&mut self) -> Option<Vec<Outcome<O>>> {
        let outcomes = self.outcomes.try_recv().ok()?;
        self.in_flight = false;
        Some(outcomes)
    }
}

/// Compresses and prunes beside the data path.
pub struct TidyThread {
    chores: Sender<Chore>,
    done: Receiver<Tidied>,
}

impl TidyThread {
    pub fn start<O: Os>(os: O, pruned: Pruned) -> io::Result<(TidyThread, thread::JoinHandle<()>)> {
        let (chores, queue) = channel::<Chore>();
        let (report, done) = channel();
        let handle = thread::Builder::new().name("tidy".to_owned()).spawn(move || {
            while let Ok(chore) = queue.recv() {
                let mut chores = vec![chore];
                chores.extend(queue.try_iter());
                for chore in once_each(chores) {
                    let _ = report.send(chore.run(&os, &pruned));
                }
            }
        })?;
        Ok((TidyThread { chores, done }, handle))
    }
}

/// The same output may wait several times; one round serves all, by what was asked for last.
fn once_each(chores: Vec<Chore>) -> Vec<Chore> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut kept = Vec::new();
    for chore in chores.into_iter().rev() {
        match &chore {
            Chore::Output(path, _) if seen.contains(path) => continue,
            Chore::Output(path, _) => seen.push(path.clone()),
            Chore::All { .. } => {}
        }
        kept.push(chore);
    }
    kept.reverse();
    kept
}

impl Tidier for TidyThread {
    fn submit(&mut self, chore: Chore) {
        let _ = self.chores.send(chore); // The thread lives as long as this sender.
    }

    fn poll(&mut self) -> Vec<Tidied> {
        self.done.try_iter().collect()
    }
}
