//! Holds what is in the outputs against what the engine wrote. Shares nothing with the agent but the names of segments
//! and the codec of its rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::docker::{Ending, PIECE_BYTES, Truth};
use super::world::{OUT, World};
use crate::checkpoint::codec;
use crate::loss;
use crate::sink::rolling::{Form, Segments, segment_path};

/// Pieces of a line that are told apart.
const PIECES_MAX: usize = 10;

/// What may be missing, or more, because the world was like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// A lost line needs no entry in the ledger: nobody could know of it.
    pub unknown_losses: bool,
    /// Open lines may have been ended by decision, so that their pieces come as lines of their own.
    pub decisions: bool,
    /// Readable lines may be missing: the place was found among equal lines, or an operator removed output.
    pub missing: bool,
}

impl Allowance {
    pub const NONE: Allowance = Allowance { unknown_losses: false, decisions: false, missing: false };
    pub const UNKNOWN_LOSSES: Allowance = Allowance { unknown_losses: true, ..Allowance::NONE };
}

/// One output as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Below log-path.
    pub route: String,
    pub bytes: Vec<u8>,
    current_bytes: u64,
}

/// Every output there is.
pub fn outputs(os: &crate::sim::os::SimOs) -> Vec<Output> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(OUT)];
    while let Some(directory) = directories.pop() {
        let names = os.engine_list(&directory).expect("a directory that was listed");
        let mut stems: BTreeSet<String> = BTreeSet::new();
        for name in &names {
            let path = directory.join(name);
            if os.engine_list(&path).is_ok() {
                if name != Path::new(".longshore") {
                    directories.push(path);
                }
            } else if let Some((stem, _)) = name.to_string_lossy().split_once(".log") {
                stems.insert(format!("{stem}.log"));
            }
        }
        let names: Vec<std::ffi::OsString> = names.into_iter().map(PathBuf::into_os_string).collect();
        for stem in stems {
            found.push(output(os, &directory.join(&stem), &Segments::among(&stem, &names)));
        }
    }
    found.sort_by(|a, b| a.route.cmp(&b.route));
    found
}

fn output(os: &crate::sim::os::SimOs, current: &Path, segments: &Segments) -> Output {
    let mut bytes = Vec::new();
    for (number, forms) in &segments.forms {
        let texts: Vec<Vec<u8>> =
            forms.iter().map(|form| text(os, &segment_path(current, *number, *form), *form)).collect();
        assert!(texts.iter().all(|text| text == &texts[0]), "{} {number} differs from its twin", current.display());
        bytes.extend_from_slice(&texts[0]);
    }
    let last = os.engine_read(current).unwrap_or_default();
    bytes.extend_from_slice(&last);
    Output {
        route: current.strip_prefix(OUT).expect("outputs lie below it").to_string_lossy().into_owned(),
        bytes,
        current_bytes: last.len() as u64,
    }
}

fn text(os: &crate::sim::os::SimOs, path: &Path, form: Form) -> Vec<u8> {
    let stored = os.engine_read(path).expect("it was listed");
    let mut text = Vec::new();
    let result = match form {
        Form::Plain => return stored,
        Form::Gzip => flate2::read::MultiGzDecoder::new(stored.as_slice()).read_to_end(&mut text),
        Form::Zstd => {
            zstd::stream::read::Decoder::new(stored.as_slice()).and_then(|mut decoder| decoder.read_to_end(&mut text))
        }
    };
    result.unwrap_or_else(|error| panic!("{} doesn't inflate: {error}", path.display()));
    text
}

/// Which message a line is, and by which template.
#[derive(Clone, Copy)]
struct Known {
    container: usize,
    message: usize,
    template: usize,
}

struct Told<'a> {
    id: String,
    messages: &'a [Truth],
    /// By message: the place in the order of completion.
    completed: Vec<Option<usize>>,
    delivered: Vec<u32>,
    fragments: u32,
}

/// Everything the world's outputs must be, or what is wrong with them.
pub fn check(world: &World, allowance: Allowance) -> Result<(), String> {
    let mut told: Vec<Told> = world.docker.ids().into_iter().map(|id| tell(world, id)).collect();
    let mut known: HashMap<Vec<u8>, Known> = HashMap::new();
    let mut wrong = String::new();
    for (container, told) in told.iter().enumerate() {
        for (message, truth) in told.messages.iter().enumerate() {
            for (template, typed) in world.templates.iter().enumerate() {
                let line = render(world, typed, &told.id, truth, &truth.text);
                known.entry(line).or_insert(Known { container, message, template });
            }
        }
    }
    for output in outputs(&world.os) {
        check_output(world, &output, &known, &mut told, allowance, &mut wrong);
    }
    for told in &told {
        check_delivered(world, told, allowance, &mut wrong);
    }
    let others = |route: &str, line: &[u8]| {
        let writer = known.get(line).map(|found| told[found.container].id.as_str());
        writer.is_some_and(|id| world.docker.is_removed(id) && !has_row(world, id, route))
    };
    check_rows(world, others, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn tell(world: &World, id: String) -> Told<'_> {
    let messages = world.docker.messages(&id);
    let mut completed = vec![None; messages.len()];
    for (place, truth) in world.docker.completed(&id).enumerate() {
        // Of one container's messages no two have stream and time alike.
        let ix = messages.iter().position(|other| std::ptr::eq(other, truth)).expect("it is one of them");
        completed[ix] = Some(place);
    }
    Told { id, messages, completed, delivered: vec![0; messages.len()], fragments: 0 }
}

fn render(world: &World, template: &str, id: &str, truth: &Truth, text: &[u8]) -> Vec<u8> {
    let replaced = template
        .replace("{time}", &truth.time_padded)
        .replace("{stream}", truth.stream.name())
        .replace("{name}", world.docker.name(id))
        .replace("{short_id}", &id[..12]);
    let (before, after) = replaced.split_once("{log}").expect("every template has the text");
    [before.as_bytes(), text, after.as_bytes(), b"\n"].concat()
}

fn check_output(
    world: &World,
    output: &Output,
    known: &HashMap<Vec<u8>, Known>,
    told: &mut [Told<'_>],
    allowance: Allowance,
    wrong: &mut String,
) {
    let mut newest: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut template = 0;
    // A power loss that takes the engine's renames back puts its files in another order; what it takes out of the middle
    // of an output is written again at the end.
    let reordered = world.power_losses > 0;
    for (number, line) in output.bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(found) = known.get(line) else {
            if !is_fragment(world, line, told, allowance) && !is_damage(world, line, told) {
                let _ = writeln!(wrong, "{} line {number}: nobody wrote {}", output.route, shown(line));
            }
            continue;
        };
        let container = &mut told[found.container];
        container.delivered[found.message] += 1;
        let truth = &container.messages[found.message];
        if container.delivered[found.message] > 1 && !world.scrambled {
            let _ = writeln!(wrong, "{} line {number}: once more {}", output.route, shown(line));
        }
        if found.template < template && !reordered {
            let _ = writeln!(wrong, "{} line {number}: an older template again: {}", output.route, shown(line));
        }
        template = found.template;
        // Lines that a decision ends stand wherever the decision fell.
        let placed = !reordered && !matches!(truth.ending, Ending::Stopped | Ending::NextTime | Ending::Open);
        if let Some(place) = container.completed[found.message].filter(|_| placed) {
            if let Some((before, line_before)) = newest.get(&found.container).filter(|(before, _)| *before > place) {
                let _ = writeln!(
                    wrong,
                    "{} line {number}: message {place} after {before} (line {line_before}): {}",
                    output.route,
                    shown(line)
                );
            }
            newest.insert(found.container, (place, number));
        }
    }
}

/// A part of a line whose other pieces are gone, or that was ended by decision.
fn is_fragment(world: &World, line: &[u8], told: &mut [Told<'_>], allowance: Allowance) -> bool {
    for told in told.iter_mut() {
        for truth in told.messages.iter().filter(|truth| truth.pieces.len() > 1 || truth.ending == Ending::Open) {
            let torn_apart = !truth.is_readable() || allowance.decisions || truth.ending == Ending::Open;
            if !torn_apart {
                continue;
            }
            // Any of the pieces, in order: one in the middle may be the one that is gone.
            let n_pieces = truth.pieces.len().min(PIECES_MAX);
            let at = |piece: usize| (piece * PIECE_BYTES).min(truth.text.len());
            for kept in 1..(1u32 << n_pieces) {
                let mut part = Vec::new();
                for piece in (0..n_pieces).filter(|piece| kept & (1 << piece) != 0) {
                    let end = if piece + 1 == truth.pieces.len() { truth.text.len() } else { at(piece + 1) };
                    part.extend_from_slice(&truth.text[at(piece)..end]);
                }
                let matches = |typed: &String| render(world, typed, &told.id, truth, &part) == line;
                if world.templates.iter().any(matches) {
                    told.fragments += 1;
                    return true;
                }
            }
        }
    }
    false
}

/// What is left of a line whose source is gone: its beginning, and after a power loss zeros or its end.
fn is_damage(world: &World, line: &[u8], told: &[Told<'_>]) -> bool {
    let with_power = world.power_losses > 0;
    let gone = told.iter().any(|told| told.messages.iter().any(|truth| !truth.is_readable()));
    if line.contains(&0) || line == b"\n" {
        return gone && with_power;
    }
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    told.iter().any(|told| {
        told.messages.iter().filter(|truth| !truth.is_readable()).any(|truth| {
            // Of a line that was torn apart, what is left begins with any of its pieces.
            let starts = (0..truth.pieces.len()).map(|piece| (piece * PIECE_BYTES).min(truth.text.len()));
            world.templates.iter().any(|typed| {
                let parts = starts.clone().map(|at| render(world, typed, &told.id, truth, &truth.text[at..]));
                parts.into_iter().any(|part| part.starts_with(body) || with_power && part.ends_with(line))
            })
        })
    })
}

fn check_delivered(world: &World, told: &Told<'_>, allowance: Allowance, wrong: &mut String) {
    let mut lost = Vec::new();
    for (ix, truth) in told.messages.iter().enumerate() {
        let n_delivered = told.delivered[ix];
        let complete = truth.is_complete();
        if truth.ending == Ending::Torn && n_delivered > 0 && truth.is_readable() {
            let _ =
                writeln!(wrong, "{}: a torn record is a line: {}", world.docker.name(&told.id), shown(&truth.line()));
        }
        if !complete || n_delivered > 0 {
            continue;
        }
        let is_there = |later: &Truth| {
            later.ending != Ending::Torn && later.pieces.iter().any(|piece| piece.destroyed_ns.is_none())
        };
        let mut later = told.messages[ix + 1..].iter().filter(|later| later.stream == truth.stream);
        let waits = match truth.ending {
            Ending::NextTime => true,
            Ending::Stopped => world.docker.is_running(&told.id), // It was started again before the agent looked.
            _ => false,
        };
        if waits && !later.any(is_there) {
            continue; // What ended it is gone: it may still be waiting for silence.
        }
        let decided = allowance.decisions && truth.pieces.len() > 1;
        let removed = world.docker.is_removed(&told.id);
        if truth.is_readable() && !decided && !allowance.missing && !removed && !world.scrambled {
            let pieces: Vec<String> = truth
                .pieces
                .iter()
                .map(|piece| format!("{}:{}..{}", piece.generation, piece.start, piece.end))
                .collect();
            let _ = writeln!(
                wrong,
                "{}: missing {} ({}, {:?})",
                world.docker.name(&told.id),
                shown(&truth.line()),
                pieces.join(" "),
                truth.ending
            );
        } else if !removed {
            lost.push(truth);
        }
    }
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    // What the engine itself lost with the power was never there.
    let noted = loss::entries(&pairs).iter().any(|loss| loss.container == told.id && loss.reason.is_loss());
    if let Some(first) = lost.first().filter(|_| !noted && !allowance.unknown_losses && world.power_losses == 0) {
        let _ = writeln!(
            wrong,
            "{}: {} lines were lost in silence, the first {}",
            world.docker.name(&told.id),
            lost.len(),
            shown(&first.line())
        );
    }
}

fn has_row(world: &World, id: &str, route: &str) -> bool {
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    codec::rows(&pairs).0.iter().any(|(row, _)| row.id == id && row.route == route)
}

/// I3, I4: what is stored is where the output ends, and nothing is owed.
/// `others`: whether a line of an output is of a container whose row went with it.
fn check_rows(world: &World, others: impl Fn(&str, &[u8]) -> bool, wrong: &mut String) {
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    let (rows, bad) = codec::rows(&pairs);
    for (id, error) in bad {
        let _ = writeln!(wrong, "the row of {id} is damaged: {error}");
    }
    let outputs = outputs(&world.os);
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (row, _) in &rows {
        let newest = last.entry(&row.route).or_default();
        *newest = row.sequence.max(*newest);
    }
    for (row, _) in &rows {
        let Some(rung) = row.ladder.newest() else { continue };
        let is_last = last.get(row.route.as_str()) == Some(&row.sequence);
        if !is_last || world.docker.is_removed(&row.id) {
            continue;
        }
        let output = outputs.iter().find(|output| output.route == row.route);
        let end = output.map_or(0, |output| output.current_bytes);
        // A container that was removed may have come last, after its output was mended.
        let last = output.and_then(|output| output.bytes.split_inclusive(|byte| *byte == b'\n').next_back());
        let is_others = last.is_some_and(|line| others(&row.route, line));
        if rung.place.offset != end && !is_others || !rung.owed.is_empty() {
            let _ = writeln!(
                wrong,
                "{}: the newest rung stands at {:?} and owes {}, the output ends at {end}",
                row.route,
                rung.place,
                rung.owed.len()
            );
        }
        let held: usize = rung.unfinished.chains.len();
        let open = world.docker.messages(&row.id).iter().filter(|truth| truth.ending == Ending::Open).count();
        if held > 2 || held > open + 1 && world.power_losses == 0 {
            let _ = writeln!(wrong, "{}: {held} open lines are stored, {open} are open", row.route);
        }
    }
    let n_open = world.os.open_files();
    let n_there = world.docker.ids().len() as u64;
    if n_open > n_there * 16 + 4 {
        let _ = writeln!(wrong, "{n_open} files are open for {n_there} containers");
    }
}

/// Short enough for a message.
fn shown(line: &[u8]) -> String {
    const SHOWN_MAX: usize = 90;
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_MAX)]).into_owned();
    format!("{text:?}{}", if line.len() > SHOWN_MAX { format!(" … {} bytes", line.len()) } else { String::new() })
}
