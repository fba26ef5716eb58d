//! Holds what is in the outputs against what the engine wrote. Shares nothing with the agent but the names of segments
//! and the codec of its rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::docker::{Ending, PIECE_BYTES, Truth, record, rfc3339};
use super::world::{Look, Mark, OUT, World};
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
    /// The oldest lines of each container may be missing: old outputs are removed. None behind one that is there.
    pub pruned: bool,
    /// Lines may be missing if the ledger says that the place was found among equal lines.
    pub ambiguous: bool,
}

impl Allowance {
    pub const NONE: Allowance =
        Allowance { unknown_losses: false, decisions: false, missing: false, pruned: false, ambiguous: false };
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
    look: usize,
    /// Which line of the message's, and whether it is the last.
    part: usize,
    last: bool,
}

struct Told<'a> {
    id: String,
    messages: &'a [Truth],
    /// By message: the place in the order of completion.
    completed: Vec<Option<usize>>,
    /// By message and part.
    delivered: Vec<BTreeMap<usize, u32>>,
    fragments: u32,
}

/// Everything the world's outputs must be, or what is wrong with them.
pub fn check(world: &World, allowance: Allowance) -> Result<(), String> {
    let mut told: Vec<Told> = world.docker.ids().into_iter().map(|id| tell(world, id)).collect();
    let mut known: HashMap<Vec<u8>, Vec<Known>> = HashMap::new();
    let mut wrong = String::new();
    for (container, told) in told.iter().enumerate() {
        for (message, truth) in told.messages.iter().enumerate() {
            for (look, typed) in world.looks.iter().enumerate() {
                let lines = lines(world, typed, &told.id, truth);
                let n_lines = lines.len();
                for (part, line) in lines.into_iter().enumerate() {
                    let candidates = known.entry(line).or_default();
                    // A line that looks alike under other settings is the same line.
                    if !candidates.iter().any(|other| (other.container, other.message) == (container, message)) {
                        candidates.push(Known { container, message, look, part, last: part + 1 == n_lines });
                    }
                }
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
        let writer = known.get(line).map(|found| found[0].container);
        let writer = writer.or_else(|| fragment_of(world, line, &told, allowance)).map(|ix| told[ix].id.as_str());
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
    Told { id, messages, completed, delivered: vec![BTreeMap::new(); messages.len()], fragments: 0 }
}

/// The lines of a message.
fn lines(world: &World, look: &Look, id: &str, truth: &Truth) -> Vec<Vec<u8>> {
    if *look == Look::Docker {
        return (0..truth.pieces.len()).map(|piece| docker_line(truth, piece)).collect();
    }
    parts(world, &truth.text).map(|part| render(world, look, id, truth, part)).collect()
}

/// As `max-line-bytes` cuts a text that is ASCII.
fn parts<'a>(world: &World, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let empty = text.is_empty().then_some(text);
    empty.into_iter().chain(text.chunks(world.max_line_bytes))
}

fn docker_line(truth: &Truth, piece: usize) -> Vec<u8> {
    let at = |piece: usize| (piece * PIECE_BYTES).min(truth.text.len());
    let is_last = piece + 1 == truth.pieces.len();
    let end = if is_last { truth.text.len() } else { at(piece + 1) };
    let terminator: &[u8] = if is_last && truth.ending == Ending::Newline { b"\n" } else { b"" };
    let text = [&truth.text[at(piece)..end], terminator].concat();
    record(&text, truth.stream.name(), &BTreeMap::new(), &rfc3339(truth.time_ns))
}

/// One line with such a text.
fn render(world: &World, look: &Look, id: &str, truth: &Truth, text: &[u8]) -> Vec<u8> {
    let template = match look {
        Look::Text(template) => template,
        Look::Json => {
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            return format!(
                "{{\"time\":\"{}\",\"stream\":\"{}\",\"log\":{},\"name\":{},\"id\":\"{id}\",\"image\":\"busybox:latest\"}}\n",
                truth.time_padded,
                truth.stream.name(),
                quoted(&String::from_utf8_lossy(text)),
                quoted(world.docker.name(id)),
            )
            .into_bytes();
        }
        Look::Docker => return record(text, truth.stream.name(), &BTreeMap::new(), &rfc3339(truth.time_ns)),
    };
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
    known: &HashMap<Vec<u8>, Vec<Known>>,
    told: &mut [Told<'_>],
    allowance: Allowance,
    wrong: &mut String,
) {
    let mut newest: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut look = 0;
    // A power loss that takes the engine's renames back puts its files in another order. What it takes out of the middle of
    // an output leaves a trace there, and is written again at the end.
    let mut reordered = world.scrambled;
    for (number, line) in output.bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // Of messages that look alike the first one that has no line yet, and rather one that can still be read.
        let undelivered = |found: &&Known| !told[found.container].delivered[found.message].contains_key(&found.part);
        let readable = |found: &&Known| told[found.container].messages[found.message].is_readable();
        let found = known.get(line).map(|all| {
            let wanted = all.iter().filter(undelivered).find(readable);
            *wanted.or_else(|| all.iter().find(undelivered)).unwrap_or(&all[0])
        });
        let Some(found) = found else {
            let whose = fragment_of(world, line, told, allowance);
            if let Some(ix) = whose {
                told[ix].fragments += 1;
            }
            let damaged = is_damage(world, line, told);
            reordered |= damaged && world.power_losses > 0;
            if whose.is_none() && !damaged {
                let _ = writeln!(wrong, "{} line {number}: nobody wrote {}", output.route, shown(line));
            }
            continue;
        };
        let container = &mut told[found.container];
        let n_times = container.delivered[found.message].entry(found.part).or_default();
        *n_times += 1;
        let truth = &container.messages[found.message];
        // A power loss may take the place where `--from end` began out of the log: rather too many lines than too few.
        if is_marked(world, &container.id, found.message, Mark::Skipped) && world.power_losses == 0 {
            let _ = writeln!(wrong, "{} line {number}: it was to be skipped: {}", output.route, shown(line));
        }
        if *n_times > 1 && !world.scrambled {
            let _ = writeln!(wrong, "{} line {number}: once more {}", output.route, shown(line));
        }
        // What was rendered before the settings changed, and owed, comes behind what the power loss left.
        if found.look < look && world.power_losses == 0 {
            let _ = writeln!(wrong, "{} line {number}: an older template again: {}", output.route, shown(line));
        }
        look = found.look;
        // Lines that a decision ends stand wherever the decision fell.
        let decided = matches!(truth.ending, Ending::Stopped | Ending::NextTime | Ending::Open);
        let is_late = world.power_losses > 0 && may_come_late(world, &container.id, found.message, truth, allowance);
        let placed = found.last && !reordered && !decided && !is_late;
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

/// A power loss leads back to before what an operator took out of the output, retention removed, or `--from end` left out;
/// and it may bring back what the engine had deleted. Then such a line is written behind those that came since.
fn may_come_late(world: &World, id: &str, message: usize, truth: &Truth, allowance: Allowance) -> bool {
    let marked = [Mark::Skipped, Mark::Optional].into_iter().any(|mark| is_marked(world, id, message, mark));
    marked || allowance.pruned || truth.pieces.iter().any(|piece| piece.came_back)
}

/// Whose line a part of which is there: its other pieces are gone, or it was ended by decision.
fn fragment_of(world: &World, line: &[u8], told: &[Told<'_>], allowance: Allowance) -> Option<usize> {
    for (ix, told) in told.iter().enumerate() {
        for truth in told.messages.iter().filter(|truth| truth.pieces.len() > 1 || truth.ending == Ending::Open) {
            // Where names tell no order, a piece may be taken for one that was read long ago.
            let torn_apart =
                !truth.is_readable() || allowance.decisions || truth.ending == Ending::Open || world.scrambled;
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
                let is_line = |look: &Look, part: &[u8]| render(world, look, &told.id, truth, part) == line;
                if world.looks.iter().any(|look| parts(world, &part).any(|part| is_line(look, part))) {
                    return Some(ix);
                }
            }
        }
    }
    None
}

/// What is left of a line whose source is gone, or that an operator cut: its beginning, and after a power loss zeros or
/// its end.
fn is_damage(world: &World, line: &[u8], told: &[Told<'_>]) -> bool {
    let with_power = world.power_losses > 0;
    let gone = told.iter().any(|told| told.messages.iter().any(|truth| !truth.is_readable()));
    let is_cut = |id: &str, message: usize| with_power && is_marked(world, id, message, Mark::Optional);
    if line.contains(&0) || line == b"\n" {
        // Without its state the agent can't tell pages that were lost from text: it writes the lines again behind them.
        return (gone || world.store_losses > 0) && with_power;
    }
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    told.iter().any(|told| {
        let messages = told.messages.iter().enumerate();
        messages.filter(|(ix, truth)| !truth.is_readable() || is_cut(&told.id, *ix)).any(|(_, truth)| {
            // Of a line that was torn apart, what is left begins with any of its pieces.
            let starts = (0..truth.pieces.len()).map(|piece| (piece * PIECE_BYTES).min(truth.text.len()));
            world.looks.iter().any(|typed| {
                let parts = starts.clone().map(|at| render(world, typed, &told.id, truth, &truth.text[at..]));
                parts.into_iter().any(|part| part.starts_with(body) || with_power && part.ends_with(line))
            })
        })
    })
}

fn is_marked(world: &World, id: &str, message: usize, mark: Mark) -> bool {
    world.marks.get(id).is_some_and(|(before, marked)| message < *before && *marked == mark)
}

fn check_delivered(world: &World, told: &Told<'_>, allowance: Allowance, wrong: &mut String) {
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    let entries = loss::entries(&pairs);
    let ambiguous = entries.iter().any(|loss| loss.container == told.id && loss.reason == loss::Reason::Ambiguous);
    let missing = allowance.missing || allowance.ambiguous && ambiguous;
    let n_times = |message: usize| {
        let counts = &told.delivered[message];
        let least = |look: &Look| {
            let n_parts = lines(world, look, &told.id, &told.messages[message]).len();
            (0..n_parts).map(|part| counts.get(&part).copied().unwrap_or(0)).min().unwrap_or(0)
        };
        world.looks.iter().map(least).max().unwrap_or(0)
    };
    let first = (0..told.messages.len()).filter(|ix| n_times(*ix) > 0).filter_map(|ix| told.completed[ix]).min();
    // After a power loss removed lines are written again, behind later ones that retention removes before them.
    let is_before =
        |ix: usize| told.completed[ix].zip(first).is_some_and(|(place, first)| place < first || world.power_losses > 0);
    let is_pruned = |ix: usize| allowance.pruned && is_before(ix);
    let mut lost = Vec::new();
    for (ix, truth) in told.messages.iter().enumerate() {
        let n_delivered = n_times(ix);
        let marked = [Mark::Skipped, Mark::Optional].into_iter().any(|mark| is_marked(world, &told.id, ix, mark));
        if marked || is_pruned(ix) {
            continue;
        }
        let complete = truth.is_complete();
        // What the engine lost with the power was never there. What went before that may have been delivered, into pages of
        // the output that weren't on the disk either: only rungs tell of it (`agent/opening/unsynced.rs`), where they are.
        let gone_by_then = truth.destroyed_ns().is_some_and(|at| world.power_lost_ns.is_some_and(|lost| at <= lost));
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
        if truth.is_readable() && !decided && !missing && !removed && !world.scrambled {
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
        } else if !removed && !gone_by_then {
            lost.push(truth);
        }
    }
    let noted = entries.iter().any(|loss| loss.container == told.id && loss.reason.is_loss());
    if let Some(first) = lost.first().filter(|_| !noted && !allowance.unknown_losses) {
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
