//! Containers at rest: watched, and everything there was of their logs read and written. A sweep asks for three stats of each
//! and touches nothing else of it, or the memory of thousands of idle containers would be gone through twice a minute.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::agent::schedule::tick;
use crate::agent::{Agent, Mode, Slot};
use crate::checkpoint::commit::Committer;
use crate::config::limits::SWEEP_PERIOD;
use crate::discover::listing::{ContainerId, log_file_name};
use crate::sink::tidy::Tidier;
use crate::sys::watch::Watcher;
use crate::sys::{Kind, Os, Stat};
use crate::tail::Resting;

pub(super) const CONFIG: &str = "config.v2.json";
pub(super) const HOST_CONFIG: &str = "hostconfig.json";

/// What a container's metadata files looked like. Equal: nobody wrote them since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature(Option<u64>);

impl Signature {
    pub fn of<O: Os>(os: &O, directory: &Path) -> Signature {
        let stats: [Option<Stat>; 2] = [CONFIG, HOST_CONFIG].map(|name| os.stat(&directory.join(name)).ok());
        Signature(Some(hash_of(&stats)))
    }

    /// Of files that have to be read again even when nobody writes them.
    pub const UNREAD: Signature = Signature(None);
}

/// A container that rests, and what its files look like meanwhile.
pub(super) struct AtRest {
    id: ContainerId,
    looks: u64,
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = XxHash3_64::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn looks(signature: Signature, log: Resting) -> Option<u64> {
    Some(hash_of(&(signature.0?, log)))
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// After a turn that found nothing, when the next one is a sweep away.
    pub(super) fn lay_to_rest(&mut self, ix: usize) {
        if self.mode != Mode::Run || self.stopping {
            return;
        }
        let Some(slot) = self.slots.get(&ix) else {
            return;
        };
        let found = ContainerId::parse(&slot.container.id).zip(resting(slot));
        if let Some((id, looks)) = found {
            self.at_rest.insert(ix, AtRest { id, looks });
        }
    }

    /// True if it looks as it did when it was laid to rest: then a turn would find nothing, and it is put off.
    pub(super) fn rests_on(&mut self, ix: usize, now: Duration) -> bool {
        let Some(AtRest { id, looks: before }) = self.at_rest.get(&ix) else {
            return false;
        };
        let id = id.to_string();
        let directory = self.config.places.containers_dir.join(&id);
        let log = self.os.stat(&directory.join(log_file_name(&id))).ok().filter(|stat| stat.kind == Kind::File);
        let now_looks = log.and_then(|stat| looks(Signature::of(&self.os, &directory), Resting::of(&stat)));
        if now_looks != Some(*before) {
            self.at_rest.remove(&ix);
            self.watcher.missed(&directory);
            return false;
        }
        self.timetable.set(ix, tick(now + SWEEP_PERIOD));
        true
    }
}

/// What the files of a container look like that has nothing to do, as far as it knows.
fn resting<O: Os>(slot: &Slot<O>) -> Option<u64> {
    let container = &slot.container;
    let idle = slot.activity.watched
        && slot.selected
        && !slot.unsettled
        && !slot.leaving
        && slot.trouble.is_none()
        && slot.losses.is_empty()
        && !container.removed
        && container.is_open()
        && container.is_drained()
        && !container.has_open_line();
    if !idle {
        return None;
    }
    looks(slot.signature, container.lineage.resting()?)
}
