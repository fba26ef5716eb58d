//! `longshore state`: what the agent remembers, in words, as JSON, and a container's row taken out. Needs the lock of
//! the state directory, so no agent may be running.

use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::store::CHANGES_MAX;
use crate::checkpoint::{Row, codec, is_below};
use crate::cli::flags::{ForgetFlags, ImportFlags, PlaceFlags, StateCommand};
use crate::cli::stored::{Held, Pairs, json, pairs, table};
use crate::cli::{Exit, Failure, print};
use crate::config::Places;
use crate::discover::listing::is_container_id;
use crate::forward::removed;
use crate::loss::{self, Ledger, Loss};
use crate::sys::Os;
use crate::sys::unix::Unix;

mod sinks;

use sinks::ExportedSink;

/// 5,000 rows of the longest ladders take less.
const IMPORT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The format of `export`.
const VERSION: u32 = 1;
const ID_DIGITS_MIN: usize = 12;
/// A row's bytes in one commit.
const KEY_OF_FIRST_LISTING: &[u8] = b"agent/first-listing";

/// What `export` writes and `import` reads.
#[derive(Serialize, Deserialize)]
struct Exported {
    version: u32,
    /// `--from end` is over.
    first_listing_stored: bool,
    rows: Vec<Row>,
    ledger: Vec<Loss>,
    #[serde(default)]
    sinks: Vec<ExportedSink>,
}

pub fn state(command: &StateCommand, working_dir: &Path) -> Result<Exit, Failure> {
    match command {
        StateCommand::List(flags) => list(&places(&flags.places, working_dir)?, flags.json),
        StateCommand::Export(flags) => export(&places(flags, working_dir)?),
        StateCommand::Import(flags) => import(&places(&flags.places, working_dir)?, flags),
        StateCommand::Forget(flags) => forget(&places(&flags.places, working_dir)?, flags),
    }
}

fn places(flags: &PlaceFlags, working_dir: &Path) -> Result<Places, Failure> {
    Places::resolve(flags, working_dir)
}

/// A row in words.
#[derive(Serialize)]
struct Listed {
    name: String,
    id: String,
    output: String,
    /// Where the output stood at the newest rung.
    segment: Option<u64>,
    output_offset: Option<u64>,
    /// A whole line of the log was seen, by which its file is known again.
    head_known: bool,
    log_offset: Option<u64>,
    owed_bytes: usize,
    unfinished_bytes: usize,
    rungs: usize,
    drained: usize,
    sequence: u64,
    absent: bool,
}

impl Listed {
    fn of(row: &Row) -> Listed {
        let rung = row.ladder.newest();
        Listed {
            name: row.name.clone(),
            id: row.id.clone(),
            output: row.route.clone(),
            segment: rung.map(|rung| rung.place.segment),
            output_offset: rung.map(|rung| rung.place.offset),
            head_known: rung.is_some_and(|rung| rung.head.is_some()),
            log_offset: rung.map(|rung| rung.offset),
            owed_bytes: rung.map_or(0, |rung| rung.owed.len()),
            unfinished_bytes: rung.map_or(0, |rung| rung.unfinished.bytes()),
            rungs: row.ladder.rungs.len(),
            drained: row.drained.len(),
            sequence: row.sequence,
            absent: row.absent_since_ns.is_some(),
        }
    }
}

fn list(places: &Places, as_json: bool) -> Result<Exit, Failure> {
    let pairs = pairs(&places.state_dir)?;
    let (rows, bad) = codec::rows(&pairs);
    let of_sinks = sinks::listed(&pairs);
    let mut listed: Vec<Listed> = rows.iter().map(|(row, _)| Listed::of(row)).collect();
    listed.sort_by_cached_key(|one| (one.name.clone(), one.id.clone()));
    let text = match as_json {
        true => json(&sinks::Both { rows: listed, sinks: of_sinks })?,
        false => render(&listed) + &sinks::render(&of_sinks),
    };
    print(text.as_bytes());
    for (id, error) in &bad {
        eprintln!("error: the row of {id} can't be used: {error}");
    }
    Ok(if bad.is_empty() { Exit::Done } else { Exit::Failed })
}

fn render(listed: &[Listed]) -> String {
    const HEAD: [&str; 10] =
        ["NAME", "ID", "OUTPUT", "SEGMENT", "OUTPUT BYTES", "LOG HEAD", "LOG BYTES", "RUNGS", "SEQUENCE", "OWED"];
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let row = |row: &Listed| {
        vec![
            row.name.clone(),
            row.id.chars().take(ID_DIGITS_MIN).collect(),
            row.output.clone(),
            number(row.segment),
            number(row.output_offset),
            if row.head_known { "known" } else { "none yet" }.to_owned(),
            number(row.log_offset),
            row.rungs.to_string(),
            row.sequence.to_string(),
            (row.owed_bytes + row.unfinished_bytes).to_string(),
        ]
    };
    table(&HEAD, listed.iter().map(row).collect())
}

fn export(places: &Places) -> Result<Exit, Failure> {
    let pairs = pairs(&places.state_dir)?;
    let (rows, bad) = codec::rows(&pairs);
    let exported = Exported {
        version: VERSION,
        first_listing_stored: pairs.iter().any(|(key, _)| key == KEY_OF_FIRST_LISTING),
        rows: rows.into_iter().map(|(row, _)| row).collect(),
        ledger: loss::entries(&pairs),
        sinks: sinks::exported(&pairs),
    };
    let n_copies = sinks::n_copies(&pairs);
    if n_copies > 0 {
        eprintln!("note: {n_copies} copies of deleted logs in the spools are no part of an export");
    }
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_writer(&mut out, &exported).map_err(std::io::Error::from);
    // Half an export must not pass for one.
    written
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(Exit::Failed, "cannot write the export").caused_by(&error))?;
    for (id, error) in &bad {
        eprintln!("error: the row of {id} is left out: {error}");
    }
    Ok(if bad.is_empty() { Exit::Done } else { Exit::Failed })
}

fn import(places: &Places, flags: &ImportFlags) -> Result<Exit, Failure> {
    let imported = read_import()?;
    check(&imported)?;
    Unix.create_directories(&places.state_dir).map_err(|error| {
        Failure::new(Exit::CannotCreate, format!("cannot create {}", places.state_dir.display()))
            .caused_by(&error)
            .hint("choose another --state-dir, or make it writable for this user")
    })?;
    let mut held = Held::open(&places.state_dir)?;
    let old = codec::rows(&held.pairs).0;
    let old_sinks = removed::names(&held.pairs);
    let is_empty = old.is_empty() && old_sinks.is_empty();
    if !is_empty && !flags.force {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "{} holds {} rows already",
                places.state_dir.display(),
                old.len() + sinks::listed(&held.pairs).len()
            ),
        )
        .hint("--force puts the imported rows in their place"));
    }
    for (row, n_parts) in &old {
        held.commit(&codec::remove(&row.id, *n_parts))?;
    }
    for sink in &old_sinks {
        sinks::forget(&mut held, &places.state_dir, sink)?;
    }
    for row in &imported.rows {
        held.commit(&codec::put(row, 0).0)?;
    }
    for sink in &imported.sinks {
        sink.put(&mut held)?;
    }
    if imported.first_listing_stored {
        held.commit(&[(KEY_OF_FIRST_LISTING.to_vec(), Some(b"1".to_vec()))])?;
    }
    let ledger = Ledger::resume(&held.pairs);
    let known = loss::entries(&held.pairs);
    for loss in imported.ledger.iter().filter(|loss| !known.contains(loss)) {
        held.commit(&ledger.add(loss))?;
    }
    eprintln!("{} rows and {} ledger entries imported", imported.rows.len(), imported.ledger.len());
    Ok(Exit::Done)
}

fn read_import() -> Result<Exported, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(IMPORT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, "cannot read stdin").caused_by(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::usage("stdin is no export")
            .caused_by(&error)
            .hint("longshore state export > FILE; longshore state import < FILE")
    })
}

/// Before anything is written.
fn check(imported: &Exported) -> Result<(), Failure> {
    if imported.version != VERSION {
        return Err(Failure::usage(format!("export has version {}, this one knows {VERSION}", imported.version))
            .hint("import it with the version of longshore that wrote it"));
    }
    for row in &imported.rows {
        if !is_container_id(&row.id) {
            return Err(Failure::usage("a row of the export has no container id"));
        }
        if !is_below(&row.route) {
            return Err(Failure::usage(format!("the output of {} is not below log-path", row.id)));
        }
        if codec::put(row, 0).1 > CHANGES_MAX {
            return Err(Failure::usage(format!("the row of {} is longer than any agent writes", row.id)));
        }
    }
    for sink in &imported.sinks {
        sink.check()?;
    }
    Ok(())
}

fn forget(places: &Places, flags: &ForgetFlags) -> Result<Exit, Failure> {
    let wanted = flags.container.as_deref().unwrap_or_default();
    if flags.container.as_deref() == Some("") {
        return Err(
            Failure::usage("no container is named").hint("give a name or an id; longshore state list shows all")
        );
    }
    let Some(mut held) = Held::open_existing(&places.state_dir)? else {
        return Err(match &flags.sink {
            Some(sink) => sinks::not_known(sink),
            None => not_known(wanted, places),
        });
    };
    if let Some(sink) = &flags.sink {
        return sinks::forget_of(&mut held, &places.state_dir, sink, flags.container.as_deref());
    }
    let found = find(&held.pairs, wanted);
    match found.as_slice() {
        [] => Err(not_known(wanted, places)),
        [(row, n_parts)] => {
            held.commit(&codec::remove(&row.id, *n_parts))?;
            eprintln!("forgot {} ({}); its output {} stays", row.name, &row.id[..ID_DIGITS_MIN], row.route);
            Ok(Exit::Done)
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|(row, _)| &row.id[..ID_DIGITS_MIN]).collect();
            Err(Failure::usage(format!("{} containers are called {wanted}: {}", several.len(), ids.join(", ")))
                .hint("give the id of one"))
        }
    }
}

fn find(pairs: &Pairs, wanted: &str) -> Vec<codec::Parted> {
    let is_wanted = |row: &Row| row.name == wanted || wanted.len() >= ID_DIGITS_MIN && row.id.starts_with(wanted);
    codec::rows(pairs).0.into_iter().filter(|(row, _)| is_container_id(&row.id) && is_wanted(row)).collect()
}

fn not_known(wanted: &str, places: &Places) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("no row of '{}' in {}", crate::cli::stored::printable(wanted), places.state_dir.display()),
    )
    .hint("longshore state list shows all")
}
