//! The audit: renders again everything the engine still has and compares it with the outputs. It decodes and joins on
//! its own, so that it can disagree with the agent. Reads only, also beside a running one.
//!
//! The order makes it sound while others write: first how far the agent was, then where the outputs end, then the
//! logs. So everything below the agent's position must be in the outputs, and everything in the outputs must be in the
//! logs or have left them at their old end.

mod compare;
mod decode;
mod gap;
mod join;
mod lines;
mod output;
mod owners;
mod report;
mod source;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use crate::cli::stored::{self, Told};
use crate::cli::{Exit, Failure, print};
use crate::config::ContainersConfig;
use crate::discover::ContainerConfig;
use crate::discover::listing::container_ids;
use crate::format::{Formatter, Metadata, Template};
use crate::loss::{Loss, Reason};
use crate::ordered;
use crate::shape::Shape;
use crate::sys::Os;
use crate::sys::unix::Unix;
use crate::verify::compare::Comparison;
use crate::verify::gap::Known;
use crate::verify::join::{Joiner, Joining};
use crate::verify::output::{Actual, Actuals, Output};
use crate::verify::owners::{Owned, owners};
use crate::verify::report::{ContainerReport, is_lost_to_files, render};
use crate::verify::source::{Messages, generations};
use crate::verify::standing::{Standing, began};

pub fn verify(config: &ContainersConfig) -> Result<Exit, Failure> {
    let audit = Audit::begin(config)?;
    let mut reports = Vec::new();
    for (id, name) in audit.containers() {
        let mut report = ContainerReport { name, id, ..ContainerReport::default() };
        if let Err(error) = audit.check(&mut report) {
            report.trouble = Some(error.to_string());
        }
        report.hold_against(&audit.told.ledger);
        reports.push(report);
    }
    if reports.is_empty() && config.selection.asks() {
        // A mistyped name must not pass for a clean audit.
        return Err(Failure::new(Exit::Failed, "no container matches the selection, so nothing was checked")
            .hint("`longshore containers` lists their names"));
    }
    reports.sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
    let fine = reports.iter().all(ContainerReport::is_fine);
    let text = if config.json { stored::json(&reports)? } else { render(&reports) };
    print(text.as_bytes());
    Ok(if fine { Exit::Done } else { Exit::Failed })
}

struct Audit<'a> {
    config: &'a ContainersConfig,
    told: Told,
    owners: BTreeMap<String, Owned>,
    /// Containers whose directory is there.
    present: BTreeSet<String>,
}

impl<'a> Audit<'a> {
    fn begin(config: &'a ContainersConfig) -> Result<Audit<'a>, Failure> {
        let root = &config.places.containers_dir;
        let told = stored::ask_or_read(&config.places.state_dir)?;
        let owners = owners(&config.places.log_path, &told.positions).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot read the journal in {}", config.places.log_path.display()))
                .caused_by(&error)
        })?;
        let names = Unix.list(&root.join(".")).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot list {}", root.display()))
                .caused_by(&error)
                .hint("--containers-dir names the directory that holds one directory a container")
        })?;
        let present = container_ids(&names).into_iter().collect();
        Ok(Audit { config, told, owners, present })
    }

    /// Those that are there, those that the outputs tell of, and those that nothing is left of but what they lost; each
    /// with its name.
    fn containers(&self) -> Vec<(String, String)> {
        let lost = self.told.ledger.iter().filter(|loss| is_lost_to_files(loss));
        let lost = ordered::map(lost.map(|loss| (&loss.container, &loss.name)));
        let ids = ordered::set(self.present.iter().chain(self.owners.keys()).chain(lost.keys().copied()));
        let mut selected = Vec::new();
        for id in ids {
            let owner = self.owners.get(id).map(|owned| &owned.name);
            let told = owner.or(lost.get(id).copied()).cloned();
            let metadata = self.metadata(id, told);
            if self.config.selection.selects(&metadata) {
                selected.push((id.clone(), metadata.name));
            }
        }
        selected
    }

    fn metadata(&self, id: &str, told: Option<String>) -> Metadata {
        let path = self.config.places.containers_dir.join(id).join("config.v2.json");
        let parsed = stored::read_whole(&path, crate::config::limits::CONFIG_BYTES_MAX)
            .ok()
            .and_then(|bytes| ContainerConfig::parse(id, &self.config.hostname, &self.config.needed, &bytes).ok());
        match parsed {
            Some(config) => config.metadata,
            None => Metadata {
                name: told.unwrap_or_else(|| id.chars().take(12).collect()),
                id: id.to_owned(),
                hostname: self.config.hostname.clone(),
                ..Metadata::default()
            },
        }
    }

    fn check(&self, report: &mut ContainerReport) -> io::Result<()> {
        let mut owned = self.owners.get(&report.id).cloned().unwrap_or_default();
        if owned.shapes.is_empty() {
            owned.shapes.push(default_shape());
        }
        // Outputs before logs: what is in them then is in the logs too.
        let outputs = Rc::new(self.outputs(&owned)?);
        report.outputs = outputs.keys().cloned().collect();
        let ranges = Rc::new(owned.ranges);
        let mut actuals = Actuals::new(outputs, ranges.clone());
        let directory = self.config.places.containers_dir.join(&report.id);
        let found = match self.present.contains(&report.id).then(|| generations(&directory, &report.id)) {
            Some(Ok(found)) => found,
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => Vec::new(),
        };
        if found.is_empty() {
            while let Some(actual) = actuals.next()? {
                report.only_copy += u64::from(matches!(actual, Actual::Line(_)));
            }
            report.damaged.append(&mut actuals.damaged);
            return Ok(());
        }
        let position = self.told.positions.iter().find(|position| position.id == report.id);
        let standing = Standing::new(position, &found, self.told.beside_agent);
        let unmatched = |loss: &&Loss| loss.container == report.id && loss.reason == Reason::Unmatched;
        let known = Known {
            standing: &standing,
            ranges: &ranges,
            shapes: &owned.shapes,
            unmatched: noted_bytes(self.told.ledger.iter().filter(unmatched)),
            lenient: Joining::of(&owned.shapes) == Joining::Messages { keep_lines: true },
        };
        let start = began(owned.began, &found);
        let found = Rc::new(found);
        let messages = Messages::new(found.clone(), Joiner::new(&owned.shapes), start);
        Comparison::new(messages, actuals, known, report).run(|ix| found[ix].file_name.clone())
    }

    fn outputs(&self, owned: &Owned) -> io::Result<BTreeMap<String, Output>> {
        let mut outputs = BTreeMap::new();
        for route in owned.ranges.iter().map(|range| &range.route) {
            if !outputs.contains_key(route) {
                let output = Output::look(&self.config.places.log_path, route, self.segment_min(route))?;
                outputs.insert(route.clone(), output);
            }
        }
        let pruned = crate::sink::pruned::load(&Unix, &self.config.places.log_path)?;
        for (route, output) in &mut outputs {
            output.set_pruned(pruned.get(route).copied());
        }
        Ok(outputs)
    }

    /// The newest number that anybody names.
    fn segment_min(&self, route: &str) -> u64 {
        let of_positions = self.told.positions.iter().filter(|position| position.route == route);
        let of_ranges = self.owners.values().flat_map(|owned| &owned.ranges).filter(|range| range.route == route);
        let named =
            of_positions.map(|position| position.place.segment).chain(of_ranges.map(|range| range.start.segment));
        named.max().unwrap_or(1).max(1)
    }
}

/// By output.
fn noted_bytes<'a>(unmatched: impl Iterator<Item = &'a Loss>) -> BTreeMap<String, u64> {
    let mut by_route = BTreeMap::new();
    for loss in unmatched {
        // A torn line has got a newline since.
        *by_route.entry(loss.file.clone()).or_default() += loss.bytes.unwrap_or(0) + 1;
    }
    by_route
}

/// For a container that nobody wrote yet: only its lines are counted.
fn default_shape() -> Shape {
    Shape {
        formatter: Formatter::text(&Template::default(), &Metadata::default()),
        max_line_bytes: crate::config::limits::MAX_LINE_BYTES_MAX as u64,
        since_ns: None,
        filter: Default::default(),
        redaction: Default::default(),
    }
}
