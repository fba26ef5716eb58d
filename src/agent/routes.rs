//! Who writes to which output. Containers that use one output after the other are chained: the older one drains first,
//! and every change of writer waits for a commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::container::{Container, Trouble, Turn};
use crate::agent::opening::{Aligned, Before, Former, Known, OutputAt, settle_owed};
use crate::agent::{Agent, Slot};
use crate::checkpoint::commit::Committer;
use crate::checkpoint::{Epoch, Row};
use crate::config::treatment::Treatment;
use crate::config::{From, labels};
use crate::format::Metadata;
use crate::pipe::Tally;
use crate::sink::Place;
use crate::sink::align::Part;
use crate::sink::journal::{Journal, Note};
use crate::sink::pruned;
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::telemetry::AlignedHow;

/// One output, by its path below log-path.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// The slot that has it open.
    pub(super) holder: Option<usize>,
    /// Who wrote to it last, as the store has it, and that container's name.
    last_writer: Option<String>,
    name: String,
    /// Its labels that say how the output is kept.
    keeping: BTreeMap<String, String>,
    last_sequence: u64,
    /// The last writer's place was found again, so others may go on behind it.
    settled: bool,
    /// That it couldn't be was said.
    blamed: bool,
    /// Numbers below it were given out already.
    segment_min: u64,
    /// Where a container began to write, or went on under other settings, in this order: the latest ones.
    starts: Vec<(Place, String)>,
}

/// Starts of one output that are remembered. With more of them a container that comes back after a failure is held
/// against more of the output than it needs.
const STARTS_MAX: usize = 64;

/// Where an output begins that nobody wrote to.
const FIRST_PLACE: Place = Place { segment: 1, offset: 0 };

impl Route {
    fn starts_at(&mut self, place: Place, id: &str) {
        if self.starts.len() >= STARTS_MAX {
            self.starts.remove(0);
        }
        self.starts.reserve_exact(1); // Most outputs have one, for ever.
        self.starts.push((place, id.to_owned()));
    }

    /// Where lines of `id` may stand from `since` on, the latest first: each with where another container began behind
    /// it, at the same place when it wrote nothing. Nothing if it has the output for itself.
    fn parts_of(&self, id: &str, since: Place) -> Vec<Part> {
        let begins_behind = |ix: usize, place: Place| {
            let others = self.starts.iter().enumerate().filter(|(_, (_, other))| other != id);
            others
                .map(|(ix, (start, _))| (*start, ix))
                .filter(|other| *other > (place, ix))
                .min()
                .map(|(start, _)| start)
        };
        if self.starts.iter().all(|(_, other)| other == id) {
            return Vec::new();
        }
        let mut parts: Vec<Part> = Vec::new();
        for (ix, (start, _)) in
            self.starts.iter().enumerate().filter(|(_, (start, other))| other == id && *start >= since)
        {
            let (start, end) = (*start, begins_behind(ix, *start));
            match parts.iter_mut().find(|part| part.end == end) {
                Some(part) => part.start = part.start.min(start),
                None => parts.push(Part { start, end }),
            }
        }
        parts.sort_by_key(|part| std::cmp::Reverse((part.start, part.end.is_none())));
        parts
    }

    /// Who began where a part of `id` ends.
    fn follower(&self, id: &str, end: Place) -> Option<&str> {
        self.starts.iter().find(|(start, other)| *start == end && other != id).map(|(_, other)| other.as_str())
    }

    /// Where another container than `id` began, at `place` or behind it.
    fn others_from(&self, id: &str, place: Place) -> Option<Place> {
        let others = self.starts.iter().filter(|(start, other)| other != id && *start >= place);
        others.map(|(start, _)| *start).min()
    }
}

/// What the rows say of outputs.
pub(super) fn routes_of(rows: &[(Row, usize)], journal: &Journal) -> HashMap<String, Route> {
    let mut routes: HashMap<String, Route> = HashMap::new();
    for (row, _) in rows {
        let route = routes.entry(row.route.clone()).or_default();
        if route.last_writer.is_none() || row.sequence > route.last_sequence {
            route.last_writer = Some(row.id.clone());
            route.name.clone_from(&row.name);
            route.last_sequence = row.sequence;
        }
        let newest = row.ladder.newest().map_or(0, |rung| rung.place.segment);
        route.segment_min = route.segment_min.max(newest);
    }
    let mut notes: Vec<&Note> = journal.notes.values().flatten().collect();
    notes.sort_by_cached_key(|note| (note.place, note.line));
    for note in notes {
        let route = routes.entry(note.route.clone()).or_default();
        if route.last_writer.is_none() {
            route.name.clone_from(&note.name);
        }
        if route.last_writer.as_ref().is_none_or(|writer| *writer == note.id) {
            route.keeping.clone_from(&note.keeping);
        }
        route.segment_min = route.segment_min.max(note.place.segment);
        route.starts_at(note.place, &note.id);
    }
    routes
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Opens a container's log and output if it is its turn. False: it waits.
    pub(super) fn try_open(&mut self, ix: usize, now: Duration) -> Result<bool, Trouble> {
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        // Whatever it waits for, its files are held from now on.
        let log = slot.container.lineage.log();
        slot.container.lineage.look(&self.os).map_err(|error| Trouble::Source(log, error))?;
        let id = slot.container.id.clone();
        if slot.container.is_released() {
            if !slot.container.has_unread(&self.os, now) {
                self.leave_if_finished(ix);
                return Ok(false);
            }
            let route = slot.container.route.clone();
            if !self.route_is_free(ix, &route) {
                return Ok(false);
            }
            return self.reopen(ix, &route, now);
        }
        let stored_route = self.stored.get(&id).and_then(|stored| stored.row.as_ref()).map(|row| row.route.clone());
        let noted_route = self.journal.notes.get(&id).and_then(|notes| notes.last()).map(|note| note.route.clone());
        let is_known = stored_route.is_some() || noted_route.is_some();
        let route = stored_route.or(noted_route).unwrap_or_else(|| self.slots[&ix].container.route.clone());
        if !is_known && self.is_from_end(ix) {
            self.slots.get_mut(&ix).expect("it is being served").container.begin_at_end(&self.os)?;
        }
        if !self.route_is_free(ix, &route) {
            return Ok(false);
        }
        self.open(ix, &route, now)
    }

    /// Whether only what comes from now on is wanted of a container that nothing is known of. A lost store doesn't begin
    /// anew: the journal tells that there was one.
    fn is_from_end(&self, ix: usize) -> bool {
        let lost = self.store_fresh && !self.journal.notes.is_empty();
        self.config.from == From::End && self.slots[&ix].first && !lost
    }

    /// Whether the container may write to `route` now.
    fn route_is_free(&mut self, ix: usize, route: &str) -> bool {
        let (id, age) = {
            let container = &self.slots[&ix].container;
            (container.id.clone(), age_of(container))
        };
        let (holder, last_writer, settled) = {
            let entry = self.routes.entry(route.to_owned()).or_default();
            (entry.holder, entry.last_writer.clone(), entry.settled)
        };
        if let Some(holder) = holder.filter(|holder| *holder != ix) {
            if let Some(slot) = self.slots.get_mut(&holder) {
                let unreadable = matches!(slot.trouble, Some(Trouble::Source(..)));
                slot.container.ask_release(unreadable);
                if slot.container.waits_for_commit() {
                    self.wanting.insert(holder);
                }
            }
            return false;
        }
        let is_last = last_writer.as_deref() == Some(id.as_str());
        if !settled && !is_last {
            let last = last_writer.as_ref().and_then(|last| self.slot_of(last));
            if last
                .is_some_and(|last| self.slots.get(&last).is_some_and(|slot| slot.selected && slot.trouble.is_none()))
            {
                return false; // It opens first: what it wrote after its last commit stands at the output's end.
            }
            self.settle(route);
            if !self.routes.get(route).is_some_and(|entry| entry.settled) {
                return false; // What comes first can't be written yet.
            }
        }
        if !settled && is_last {
            return true;
        }
        self.look_at_older(ix, route, &age);
        let sharing = self.sharing.get(route).into_iter().flatten();
        let older =
            sharing.filter_map(|other_ix| Some((other_ix, self.slots.get(other_ix)?))).any(|(other_ix, other)| {
                *other_ix != ix
                    && other.selected
                    && other.trouble.is_none()
                    && !other.leaving
                    && (other.container.route == route || other.container.ladder_route == route)
                    && age_of(&other.container) < age
                    && !other.container.is_drained()
                    && !other.container.is_released()
                    && !other.container.lineage.is_empty()
            });
        !older
    }

    /// One that was listed together with a newer one, and wasn't served yet, may have a log all the same. What fails is
    /// told when it is served.
    fn look_at_older(&mut self, ix: usize, route: &str, age: &(i128, String)) {
        for other_ix in self.sharing.get(route).into_iter().flatten().filter(|other_ix| **other_ix != ix) {
            if let Some(Slot { container, .. }) = self.slots.get_mut(other_ix).map(|other| &mut **other)
                && container.lineage.is_empty()
                && !container.is_released()
                && age_of(container) < *age
            {
                let _ = container.lineage.look(&self.os);
            }
        }
    }

    /// Notes that a container may write to an output.
    pub(super) fn share_route(&mut self, ix: usize, route: &str) {
        self.sharing.entry(route.to_owned()).or_default().insert(ix);
    }

    fn unshare_route(&mut self, ix: usize, route: &str) {
        if let Some(sharing) = self.sharing.get_mut(route) {
            sharing.remove(&ix);
            if sharing.is_empty() {
                self.sharing.remove(route);
            }
        }
    }

    /// Completes what the last writer owes, when it is not there any more.
    fn settle(&mut self, route: &str) {
        let at = self.output_at(route, &self.treatment_of(route));
        let entry = self.routes.entry(route.to_owned()).or_default();
        if entry.settled {
            return;
        }
        let row = entry.last_writer.as_ref().and_then(|id| self.stored.get(id)).and_then(|stored| stored.row.as_ref());
        let Some((row, rung)) = row.and_then(|row| Some((row, row.ladder.newest()?))) else {
            entry.settled = true;
            return;
        };
        match settle_owed(&self.os, &at, rung, row.boot != self.boot) {
            Ok(()) => entry.settled = true,
            Err(error) if !std::mem::replace(&mut entry.blamed, true) => {
                tracing::error!(output = %at.path.display(), %error, "cannot complete the output of a container that is gone; it is tried again")
            }
            Err(_) => {}
        }
    }

    /// After the first listing: what containers that are gone still owe their outputs.
    pub(super) fn settle_absent(&mut self) {
        let absent = self.routes.iter().filter(|(name, route)| {
            !route.settled
                && route.last_writer.as_ref().is_some_and(|id| self.slot_of(id).is_none())
                && self.share.as_ref().is_none_or(|share| share.has(name))
        });
        let absent: Vec<String> = absent.map(|(route, _)| route.clone()).collect();
        self.owes_absent = false;
        for route in absent {
            self.settle(&route);
            self.owes_absent |= !self.routes[&route].settled;
        }
    }

    /// How an output is written and kept: as the container that has it asks for, or else by the name of the last one and its labels.
    pub(super) fn treatment_of(&self, route: &str) -> Arc<Treatment> {
        let entry = self.routes.get(route);
        let holder = entry.and_then(|entry| self.slots.get(&entry.holder?));
        let writer = || self.slot_of(entry?.last_writer.as_deref()?).and_then(|ix| self.slots.get(&ix));
        match holder.or_else(writer) {
            Some(slot) => slot.treatment.clone(),
            None => {
                let metadata = entry.map(|entry| Metadata {
                    name: entry.name.clone(),
                    labels: entry.keeping.clone(),
                    ..Metadata::default()
                });
                // Labels that are no good were blamed on the container.
                self.config.treatment(&metadata.unwrap_or_default()).0.into()
            }
        }
    }

    fn output_at(&self, route: &str, treatment: &Treatment) -> OutputAt {
        OutputAt {
            path: self.config.places.log_path.join(route),
            mode: treatment.file_mode,
            limit: treatment.limit,
            segment_min: self.routes.get(route).map_or(1, |route| route.segment_min).max(1),
        }
    }

    /// A container without a row may have lost it: then only the journal tells of it, and perhaps it can be read by now.
    fn read_journal_again(&mut self) {
        if !self.journal.unread {
            return;
        }
        if let Ok(journal) = Journal::load(&self.os, &self.config.places.log_path) {
            self.noted_routes = journal.notes.values().flatten().map(|note| note.route.clone()).collect();
            self.journal = journal;
        }
    }

    fn open(&mut self, ix: usize, route: &str, now: Duration) -> Result<bool, Trouble> {
        let at = self.output_at(route, &self.slots[&ix].treatment);
        let id = self.slots[&ix].container.id.clone();
        let row = self.stored.get(&id).and_then(|stored| stored.row.clone());
        if row.is_none() {
            self.read_journal_again();
        }
        let notes = self.journal.of(&id, route);
        let former = self.former(&id, route);
        let is_from_end = self.is_from_end(ix);
        let entry = self.routes.entry(route.to_owned()).or_default();
        let last_writer = entry.last_writer.as_deref() == Some(id.as_str());
        let began = notes.iter().rev().find_map(|note| note.began);
        // Lines of before are in the log before that, or in another output's.
        let since = notes.iter().filter(|note| note.began == began).map(|note| note.place).min().unwrap_or_default();
        let newest = row.as_ref().and_then(|row| row.ladder.newest());
        let others_from = newest.and_then(|newest| entry.others_from(&id, newest.place));
        let strange = (self.store_bare || self.journal.unread) && !self.noted_routes.contains(route);
        let before = match (&row, notes.is_empty()) {
            (Some(row), _) => Before::Row(Known { row, began, last_writer, others_from, former }),
            (None, false) => {
                let parts = entry.parts_of(&id, since);
                let pruned = self.is_pruned(ix, route, parts.first())?;
                Before::Lost { notes, parts, pruned, former }
            }
            (None, true) if strange && !is_from_end => Before::Lost { notes, parts: Vec::new(), pruned: false, former },
            (None, true) => Before::Nothing,
        };
        let until_ns = self.config.window.until_ns;
        let mut losses = Vec::new();
        let mut tally = Tally::default();
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        slot.container.ladder_route = route.to_owned(); // Its name may have changed since: it leaves later, in order.
        let mut turn = Turn {
            os: &self.os,
            buffer: &mut self.buffer,
            room: &mut self.room,
            quantum_bytes: self.busy.quantum_bytes(),
            steady: false,
            now,
            tally: &mut tally,
            losses: &mut losses,
            meddled: &mut Vec::new(),
        };
        let aligned = slot.container.open(&mut turn, &at, before, &self.boot, until_ns)?;
        self.take_losses(ix, losses);
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        if aligned == Aligned::NotYet {
            slot.first = false; // Its log began after the state was made.
            self.leave_if_finished(ix);
            return Ok(false);
        }
        self.counters.aligned(aligned);
        if let Some(stored) = self.stored.get_mut(&id) {
            stored.row = None;
        }
        self.hold_route(ix, route);
        Ok(true)
    }

    /// Whether all that the container's log has was in its latest part of an output, and retention removed that: then
    /// nothing in the output tells it. The one that began behind it waited for what was there.
    fn is_pruned(&self, ix: usize, route: &str, latest: Option<&Part>) -> Result<bool, Trouble> {
        let (container, log_path) = (&self.slots[&ix].container, &self.config.places.log_path);
        let Some((start, end)) =
            latest.and_then(|part| Some((part.start, part.end?))).filter(|(start, end)| start < end)
        else {
            return Ok(false); // It wrote last, or nothing.
        };
        let follower = self.routes.get(route).and_then(|entry| self.slot_of(entry.follower(&container.id, end)?));
        let Some(follower) = follower.and_then(|ix| self.slots.get(&ix)) else {
            return Ok(false);
        };
        let Some(newest) = container.lineage.generations().last() else {
            return Ok(false);
        };
        let stat = newest.stat(&self.os).map_err(|error| Trouble::Source(container.lineage.log(), error))?;
        if i128::from(stat.modified_ns) >= follower.container.facts.created_ns {
            return Ok(false); // It may have had more since.
        }
        let through = pruned::load(&self.os, log_path).map_err(|error| Trouble::Output(log_path.join(route), error))?;
        let last = if end.offset == 0 { end.segment.saturating_sub(1) } else { end.segment };
        Ok(through.get(route).is_some_and(|through| *through >= last.max(start.segment)))
    }

    /// The outputs that a container wrote to before it came to `route`, the latest first.
    fn former(&self, id: &str, route: &str) -> Vec<Former> {
        let mut former: Vec<Former> = Vec::new();
        for note in self.journal.notes.get(id).into_iter().flatten().rev().filter(|note| note.route != route) {
            let path = self.config.places.log_path.join(&note.route);
            let epoch = Epoch { shape: note.shape.clone(), from: note.place };
            match former.iter_mut().find(|known| known.path == path) {
                Some(known) => known.epochs.insert(0, epoch),
                None => former.push(Former { path, epochs: vec![epoch] }),
            }
        }
        former
    }

    fn reopen(&mut self, ix: usize, route: &str, _now: Duration) -> Result<bool, Trouble> {
        let at = self.output_at(route, &self.slots[&ix].treatment);
        let slot = self.slots.get_mut(&ix).expect("it is being served");
        slot.container.reopen(&self.os, &at)?;
        self.hold_route(ix, route);
        Ok(true)
    }

    fn hold_route(&mut self, ix: usize, route: &str) {
        let container = &self.slots[&ix].container;
        let entry = self.routes.entry(route.to_owned()).or_default();
        if let Some(place) = container.place().filter(|_| entry.last_writer.as_deref() != Some(&container.id)) {
            entry.starts_at(place, &container.id);
            if place == FIRST_PLACE {
                self.noted_routes.insert(route.to_owned()); // This life made it: nothing in it is from before.
            }
        }
        entry.holder = Some(ix);
        entry.settled = true;
        self.sharing.entry(route.to_owned()).or_default().insert(ix);
        entry.last_writer = Some(container.id.clone());
        entry.name.clone_from(&container.facts.metadata.name);
        entry.keeping = labels::keeping(&container.facts.metadata);
        if container.wants_commit() {
            self.wanting.insert(ix);
        }
    }

    /// The container left its output.
    pub(super) fn leave_route(&mut self, ix: usize, container: &Container<O>) {
        let place = container.place();
        self.unshare_route(ix, &container.route);
        self.unshare_route(ix, &container.ladder_route);
        for route in self.routes.values_mut().filter(|route| route.holder == Some(ix)) {
            route.holder = None;
            if let Some(place) = place {
                route.segment_min = route.segment_min.max(place.segment);
            }
        }
    }

    pub(super) fn release_route(&mut self, ix: usize, segment: u64) {
        for route in self.routes.values_mut().filter(|route| route.holder == Some(ix)) {
            route.holder = None;
            route.segment_min = route.segment_min.max(segment);
        }
    }
}

/// The order in which containers of one output go.
fn age_of<O: Os>(container: &Container<O>) -> (i128, String) {
    (container.facts.created_ns, container.id.clone())
}

impl crate::telemetry::Counters {
    fn aligned(&self, how: Aligned) {
        let how = match how {
            Aligned::Fresh | Aligned::NotYet => return,
            Aligned::Resumed => AlignedHow::Resumed,
            Aligned::Searched => AlignedHow::Searched,
            Aligned::Gap => AlignedHow::Gap,
        };
        self.aligned.of(how).inc();
    }
}
