//! What the agent takes from its node, from Docker's file to the output: the built program under load and at rest,
//! beside others where the environment names them. `scripts/bench [MEASURE…]`; under `cargo test`, or with `--test`,
//! everything tiny, once.

#![allow(clippy::disallowed_methods, reason = "a bench makes its own files and asks the clock")]

#[path = "../corpus/mod.rs"]
mod corpus;
mod host;
mod measures;
mod process;
mod tools;

use measures::{Figures, MEASURES, Scale};
use tools::Tool;

/// What the figures should be: the row, the bound, and whether more is better.
const GOALS: &[(&str, f64, bool)] = &[
    ("MB/s per CPU second", 1300.0, true),
    ("10 MB/s, one file: CPU %", 1.5, false),
    ("10 MB/s, 50 files: CPU %", 3.0, false),
    ("10 MB/s, one file: write(2) against alone", 1.3, false),
    ("10 MB/s, 50 files: write(2) against alone", 1.3, false),
    ("idle, 5,000 files: CPU %", 0.3, false),
    ("idle, 5,000 files: RSS, MB", 40.0, false),
    ("write to output: p50, ms", 3.0, false),
    ("write to output: p99, ms", 12.0, false),
    ("a new container's first line: p50, ms", 20.0, false),
    ("backfill, two threads against one", 1.8, true),
    ("large backlog: peak RSS, MB", 48.0, false),
    ("binary, stripped, MB", 8.0, false),
    ("start with 5,000 files: first line, s", 1.0, false),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` says --bench.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_test = has("--test") || !has("--bench");
    let scale = if is_test { Scale::TINY } else { Scale::FULL };
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let tools = Tool::all();
    let mut figures: Vec<Figures> = vec![Figures::new(); tools.len()];
    for (name, measure) in MEASURES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name == wanted) {
            continue;
        }
        for (tool, figures) in tools.iter().zip(&mut figures) {
            eprintln!("{name}: {}", tool.name);
            measure(tool, &scale, figures);
        }
    }
    if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == "throughput") {
        for (row, figure) in measures::floors(&scale) {
            println!("{row:<42} {:>8} {figure:>10.2}", "");
        }
    }
    print(&tools, &figures);
}

fn print(tools: &[Tool], figures: &[Figures]) {
    print!("{:<42} {:>8} {:>10}", "", "goal", tools[0].name);
    for tool in &tools[1..] {
        print!(" {:>10} {:>7}", tool.name, "ratio");
    }
    println!();
    for (row, ours) in &figures[0] {
        let goal = GOALS.iter().find(|(name, ..)| name == row);
        let mark = match goal {
            None => String::new(),
            Some((_, bound, true)) => format!(">{bound}"),
            Some((_, bound, false)) => format!("<{bound}"),
        };
        print!("{row:<42} {mark:>8} {ours:>10.2}");
        for theirs in &figures[1..] {
            match theirs.get(row) {
                Some(theirs) => print!(" {theirs:>10.2} {:>7.2}", theirs / ours),
                None => print!(" {:>10} {:>7}", "-", "-"),
            }
        }
        println!();
    }
}
