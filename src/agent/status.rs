//! What the agent tells of its containers to whoever asks.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::agent::control::Question;
use crate::agent::roster::read_facts;
use crate::checkpoint::Row;
use crate::checkpoint::commit::Committer;
use crate::checkpoint::position::Position;
use crate::config::ContainersConfig;
use crate::discover::listing::container_ids;
use crate::sink::tidy::Tidier;
use crate::sys::Os;
use crate::sys::watch::Watcher;
use crate::tail::Lineage;
use crate::telemetry::sinks::SinkGoing;

/// One line of `longshore containers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: String,
    pub id: String,
    pub image: String,
    /// Docker's word.
    pub state: String,
    /// Bytes of the current log and its rotated siblings, as they stand on the disk.
    pub log_bytes: u64,
    /// The current log and its rotated siblings.
    pub generations: u64,
    /// Bytes of the current log that are decided; `None`: it was never read.
    pub position: Option<u64>,
    /// Bytes that are still to be read.
    pub lag_bytes: u64,
    /// The output below log-path, and where it ends.
    pub output: String,
    pub output_segment: Option<u64>,
    pub output_bytes: Option<u64>,
    /// What keeps it from being delivered.
    pub trouble: Option<String>,
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    /// Answers what came over the control socket.
    pub fn answer(&self, question: Question) {
        match question.ask() {
            Some("containers") => match serde_json::to_value(self.status()) {
                Ok(containers) => question.answer(serde_json::json!({ "containers": containers })),
                Err(error) => question.refuse(&error.to_string()),
            },
            Some("rows") => match serde_json::to_value(self.positions()) {
                Ok(rows) => question.answer(serde_json::json!({ "rows": rows })),
                Err(error) => question.refuse(&error.to_string()),
            },
            Some("ledger") => match serde_json::to_value(self.ledger.entries()) {
                Ok(ledger) => question.answer(serde_json::json!({ "ledger": ledger })),
                Err(error) => question.refuse(&error.to_string()),
            },
            Some("status") => match serde_json::to_value(self.going()) {
                Ok(going) => question.answer(going),
                Err(error) => question.refuse(&error.to_string()),
            },
            _ => question.refuse("unknown question; this version knows: containers, rows, ledger, status"),
        }
    }

    /// How far each container is by its last durable commit, selected or not.
    fn positions(&self) -> Vec<Position> {
        let live = self.slots.values().filter_map(|slot| {
            let container = &slot.container;
            let drained = container.lineage.drained().collect();
            let name = &container.facts.metadata.name;
            Position::of(&container.id, name, &container.ladder_route, &container.ladder, drained)
        });
        let mut positions: HashMap<String, Position> = live.map(|position| (position.id.clone(), position)).collect();
        let stored = self.stored.values().filter_map(|stored| stored.row.as_deref());
        for position in stored.filter_map(Position::of_row) {
            positions.entry(position.id.clone()).or_insert(position);
        }
        positions.into_values().collect()
    }

    pub fn status(&self) -> Vec<ContainerStatus> {
        let mut all = Vec::new();
        for slot in self.slots.values().filter(|slot| slot.selected && !slot.leaving) {
            let container = &slot.container;
            let metadata = &container.facts.metadata;
            let place = container.place();
            let (log_bytes, generations) = container.lineage.on_disk(&self.os);
            all.push(ContainerStatus {
                name: metadata.name.clone(),
                id: container.id.clone(),
                image: metadata.image.clone(),
                state: if container.removed { "removed".to_owned() } else { container.facts.state.to_owned() },
                log_bytes,
                generations,
                position: container.lineage.front().map(|front| front.offset),
                lag_bytes: container.lineage.lag_bytes(&self.os),
                output: container.ladder_route.clone(),
                output_segment: place.map(|place| place.segment),
                output_bytes: place.map(|place| place.offset),
                trouble: slot.trouble.as_ref().map(ToString::to_string),
            });
        }
        all.sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
        all
    }
}

/// How the agent gets on: `longshore status`, /status and the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Going {
    pub version: String,
    /// Unix time.
    pub start_time_seconds: f64,
    /// 0: none since the start.
    pub last_commit_timestamp_seconds: f64,
    pub draining: bool,
    pub lines_read: u64,
    pub bytes_read: u64,
    pub records_written: u64,
    pub lost_bytes: u64,
    /// What troubles the agent; one line each.
    pub faults: Vec<String>,
    #[serde(default)]
    pub sinks: Vec<SinkGoing>,
    pub containers: Vec<ContainerGoing>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerGoing {
    pub name: String,
    pub id: String,
    /// Docker's word, or `removed`.
    pub state: String,
    /// Bytes read from the log, averaged over the last seconds.
    pub bytes_per_second: f64,
    /// Bytes that are still to be read.
    pub lag_bytes: u64,
    /// How long there has been something unread without a break; 0: nothing is.
    pub lag_seconds: f64,
    /// Bytes of deleted logs that are kept because they are held open.
    pub held_bytes: u64,
    /// Streams that stand within a line.
    pub open_fragments: u64,
    /// What keeps it from being delivered.
    pub trouble: Option<String>,
    /// What went wrong last since the agent started, whether or not it healed.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    pub text: String,
    /// Since it was met last.
    pub age_seconds: f64,
}

impl<O: Os, C: Committer<O>, T: Tidier, W: Watcher> Agent<O, C, T, W> {
    fn going(&self) -> Going {
        let now = self.os.monotonic();
        let of_interest = self.slots.values().filter(|slot| slot.selected && !slot.leaving);
        let mut containers: Vec<ContainerGoing> = of_interest
            .map(|slot| {
                let container = &slot.container;
                let lag_bytes = container.lineage.lag_bytes(&self.os);
                ContainerGoing {
                    name: container.facts.metadata.name.clone(),
                    id: container.id.clone(),
                    state: if container.removed { "removed".to_owned() } else { container.facts.state.to_owned() },
                    bytes_per_second: slot.pace.bytes_per_second(),
                    lag_bytes,
                    lag_seconds: if lag_bytes == 0 { 0.0 } else { slot.pace.behind(now).as_secs_f64() },
                    held_bytes: container.lineage.held_bytes(&self.os),
                    open_fragments: container.open_lines() as u64,
                    trouble: slot.trouble.as_ref().map(ToString::to_string),
                    last_error: slot.last_error.as_ref().map(|(text, at)| LastError {
                        text: text.clone(),
                        age_seconds: now.saturating_sub(*at).as_secs_f64(),
                    }),
                }
            })
            .collect();
        containers.sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
        Going {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time_seconds: self.counters.start_time_seconds.get(),
            last_commit_timestamp_seconds: self.counters.last_checkpoint_timestamp_seconds.get(),
            draining: self.stopping,
            lines_read: self.counters.lines_read.get(),
            bytes_read: self.counters.bytes_read.get(),
            records_written: self.counters.records_written.get(),
            lost_bytes: self.counters.lost_bytes.total(),
            faults: self.health.faults(),
            sinks: self.health.sinks(),
            containers,
        }
    }
}

/// The same from the directories and the rows, when no agent runs.
pub fn read_status<O: Os>(os: &O, config: &ContainersConfig, rows: &[Row]) -> Vec<ContainerStatus> {
    let root = &config.places.containers_dir;
    let mut all = Vec::new();
    for id in container_ids(&os.list(&root.join(".")).unwrap_or_default()) {
        let (facts, _) = read_facts(os, &config.hostname, &config.needed, &id, &root.join(&id));
        if !config.selection.selects(&facts.metadata) {
            continue;
        }
        let row = rows.iter().find(|row| row.id == id);
        let rung = row.and_then(|row| row.ladder.newest());
        let mut lineage =
            Lineage::<O>::new(&root.join(&id), &id, row.map(|row| row.drained.clone()).unwrap_or_default());
        let trouble = lineage.look(os).err().map(|error| error.to_string());
        let (log_bytes, generations) = lineage.on_disk(os);
        let read = |head| rung.filter(|rung| rung.head.is_some() && rung.head == head).map_or(0, |rung| rung.offset);
        let lag_bytes = lineage
            .generations()
            .map(|held| held.stat(os).map_or(0, |stat| stat.size).saturating_sub(read(held.head)))
            .sum();
        all.push(ContainerStatus {
            name: facts.metadata.name,
            image: facts.metadata.image,
            state: facts.state.to_owned(),
            log_bytes,
            generations,
            position: rung.map(|rung| rung.offset),
            lag_bytes,
            output: row.map(|row| row.route.clone()).unwrap_or_default(),
            output_segment: rung.map(|rung| rung.place.segment),
            output_bytes: rung.map(|rung| rung.place.offset),
            trouble,
            id,
        });
    }
    all.sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
    all
}

/// Whether the flags of the one who asks select it; labels are read from its directory.
pub fn is_selected<O: Os>(os: &O, config: &ContainersConfig, status: &ContainerStatus) -> bool {
    let directory = config.places.containers_dir.join(&status.id);
    let (mut facts, _) = read_facts(os, &config.hostname, &config.needed, &status.id, &directory);
    facts.metadata.name.clone_from(&status.name);
    facts.metadata.image.clone_from(&status.image);
    config.selection.selects(&facts.metadata)
}
