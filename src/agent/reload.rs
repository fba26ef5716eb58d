//! Other settings while it runs. What shapes a line changes at a commit of its container, as it does after a restart; a
//! container that is left out from now on leaves its output the same way, and comes back to its place when it is wanted.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::container::{Container, Facts};
use crate::agent::schedule::Activity;
use crate::agent::{Agent, Stored};
use crate::checkpoint::Row;
use crate::checkpoint::commit::Committer;
use crate::config::Config;
use crate::config::limits::TIDY_PERIOD;
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::telemetry::Counters;

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Takes settings that were checked. Those that need a restart must be as they were, see [`Config::taken_over`].
    pub fn reload(&mut self, config: Arc<Config>) {
        let now = self.os.monotonic();
        self.config = config;
        self.counters.by_container.set([]);
        self.tidy_period = TIDY_PERIOD;
        self.tidied_at = now; // The next round is by the new settings, and not now: a reload may come often.
        let all: Vec<usize> = self.slots.keys().copied().collect();
        for ix in all {
            if let Some(slot) = self.slots.get_mut(&ix) {
                // Before its next turn: other labels may be asked for.
                slot.unsettled = true;
            }
            self.look_soon(ix, now);
        }
    }

    /// Opens outputs anew that somebody moved away: with the next commit, which comes now.
    pub fn reopen_outputs(&mut self) {
        for (ix, slot) in &mut self.slots {
            slot.container.look_at_output_name();
            if slot.container.wants_commit() {
                self.wanting.insert(*ix);
            }
        }
        self.committed_at = Duration::ZERO;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What a container's files say now, under the settings of now.
    pub(super) fn settle_facts(&mut self, ix: usize, facts: Facts, now: Duration) {
        let selected = self.config.selection.selects(&facts.metadata);
        let mut route = self.config.path_template.route(&facts.metadata);
        let treatment = self.treatment(&facts.metadata, now);
        let shape = self.shapes.share(treatment.shape(&facts.metadata, self.config.window.since_ns));
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        if self.share.as_ref().is_some_and(|share| !share.has(&route)) {
            route.clone_from(&slot.container.route); // Another agent may write there.
        }
        if slot.container.facts.metadata.name != facts.metadata.name {
            tracing::info!(from = %slot.container.facts.metadata.name, to = %facts.metadata.name, "container renamed");
        }
        if slot.selected && !selected {
            // What is there now is still delivered.
            slot.leaves_after = slot.container.lineage.lag_bytes(&self.os);
        }
        slot.container.facts = facts;
        slot.container.route.clone_from(&route);
        slot.container.shape = shape;
        slot.container.set_limit(treatment.limit, treatment.file_mode);
        slot.treatment = treatment;
        slot.selected = selected;
        slot.unsettled = false;
        self.share_route(ix, &route);
        self.reschedule(ix, now);
    }

    /// It is left out and has left its output: its row stays, its files are closed. Wanted again, it is opened as after a
    /// restart.
    pub(super) fn set_aside(&mut self, ix: usize) {
        let now = self.os.monotonic();
        let slot = self.slots.get_mut(&ix).expect("it has just left its output");
        let old = &slot.container;
        let row = Row {
            id: old.id.clone(),
            name: old.facts.metadata.name.clone(),
            route: old.ladder_route.clone(),
            sequence: self.stored.get(&old.id).map_or(0, |stored| stored.sequence),
            boot: self.boot.clone(),
            ladder: old.ladder.clone(),
            drained: old.lineage.drained().collect(),
            absent_since_ns: None,
        };
        let directory = old.lineage.directory().to_owned();
        let until_ns = self.config.window.until_ns;
        let mut fresh =
            Container::new(&old.id, directory, old.facts.clone(), old.route.clone(), old.shape.clone(), until_ns);
        fresh.removed = old.removed;
        self.watcher.unwatch(fresh.lineage.directory());
        slot.container = fresh;
        slot.activity = Activity::new(now);
        self.hot.remove(&ix);
        if let Some(Stored { row: stored, .. }) = self.stored.get_mut(&row.id) {
            *stored = Some(Box::new(row));
        }
    }
}
