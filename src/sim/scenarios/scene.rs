//! What a failure shows: the last calls, and what is on the disk and in the store.

use std::io::Read;

use crate::sim::oracle::outputs;
use crate::sim::world::World;
use crate::sys::places::variable;

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("it panicked: {}\n", text.unwrap_or_default())
}

pub fn last_calls(world: &World) -> String {
    let n_shown: usize = variable("LONGSHORE_SIM_CALLS").map_or(12, |typed| typed.parse().expect("a number"));
    let short =
        |call: &String| call.replace("/docker/containers/", "").chars().filter(|c| *c != '/').collect::<String>();
    let short = |call: &String| if call.len() > 200 { short(call).replace("-json", "") } else { call.clone() };
    let of = |calls: &[String]| {
        let calls: Vec<String> = calls[calls.len().saturating_sub(n_shown)..].iter().map(short).collect();
        calls.join("\n    ")
    };
    format!(
        "  lives: {}; before the last death:\n    {}\n  at the end:\n    {}\n",
        world.lives,
        of(&world.obituary),
        of(&world.os.last_calls().split_off(world.os.last_calls().len().saturating_sub(n_shown)))
    ) + &scene(world)
}

/// What is on the disk and in the store.
pub fn scene(world: &World) -> String {
    let mut text = String::new();
    for id in world.docker.ids() {
        let directory = world.docker.directory(&id);
        for name in world.os.engine_list(&directory).unwrap_or_default() {
            let Ok(mut bytes) = world.os.engine_read(directory.join(&name)) else { continue };
            if name.extension().is_some_and(|extension| extension == "gz") {
                let mut text = Vec::new();
                let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text);
                bytes = text;
            }
            let name = name.to_string_lossy().replace(&id, &id[..6]);
            if name.contains("json.log") {
                let lines: Vec<String> = numbers(&bytes);
                text += &format!("  {name}: {} bytes, lines {}\n", bytes.len(), lines.join(" "));
            }
        }
    }
    for output in outputs(&world.os) {
        text +=
            &format!("  {}: {} bytes, lines {}\n", output.route, output.bytes.len(), numbers(&output.bytes).join(" "));
    }
    let pairs: Vec<_> = world.store.rows().into_iter().collect();
    for (row, _) in crate::checkpoint::codec::rows(&pairs).0 {
        text += &format!("  row of {} on {}, boot {}:\n", &row.id[..6], row.route, row.boot);
        for rung in &row.ladder.rungs {
            text += &format!(
                "    {:?} at {} -> {:?} owed {} open {} {}\n",
                rung.head.map(|head| head.hash % 1000),
                rung.offset,
                (rung.place.segment, rung.place.offset),
                rung.owed.len(),
                rung.unfinished.chains.len(),
                if rung.synced { "synced" } else { "" }
            );
        }
    }
    for loss in crate::loss::entries(&pairs) {
        text += &format!("  lost: {:?} {:?}..{:?} {}\n", loss.reason, loss.start, loss.end, loss.detail);
    }
    text
}

/// The numbers of the lines in a text.
fn numbers(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let found = text
        .split("line ")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").to_owned());
    found.collect()
}
