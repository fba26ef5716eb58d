//! One measurement each, of one program. A figure counts only when the output was complete.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use longshore::decode::{Decoded, Decoder};
use longshore::format::{Formatter, Metadata, Template};

use crate::corpus::{self, Corpus, Kind};
use crate::host::{Content, Host, Writer};
use crate::process::Process;
use crate::tools::{self, Tool};

/// Figures by the name of their row.
pub type Figures = BTreeMap<&'static str, f64>;

/// How much of everything: the real thing, or as little as shows that it works.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub corpus_bytes: usize,
    pub backlog_bytes: u64,
    pub n_idle: usize,
    pub n_latency_lines: usize,
    pub n_first_lines: usize,
    pub steady: Duration,
    pub rounds: usize,
}

impl Scale {
    pub const FULL: Scale = Scale {
        corpus_bytes: 512 << 20,
        backlog_bytes: 8 << 30,
        n_idle: 5_000,
        n_latency_lines: 300,
        n_first_lines: 20,
        steady: Duration::from_secs(20),
        rounds: 3,
    };
    pub const TINY: Scale = Scale {
        corpus_bytes: 1 << 20,
        backlog_bytes: 4 << 20,
        n_idle: 5,
        n_latency_lines: 3,
        n_first_lines: 1,
        steady: Duration::from_millis(300),
        rounds: 1,
    };
}

pub type Measure = fn(&Tool, &Scale, &mut Figures);

pub const MEASURES: &[(&str, Measure)] = &[
    ("throughput", throughput),
    ("backlog", backlog),
    ("one_file", |tool, scale, figures| steady(tool, scale, figures, 1)),
    ("fifty_files", |tool, scale, figures| steady(tool, scale, figures, 50)),
    ("idle", idle),
    ("latency", latency),
    ("first_line", first_line),
    ("backfill", backfill),
    ("size", size),
];

const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(5);

/// What this machine can do with the same text, in memory that is warm: no program under measurement is needed.
pub fn floors(scale: &Scale) -> Figures {
    let host = Host::new();
    let (source, _) = corpus::log(Kind::Mixed, scale.corpus_bytes);
    let (from, to) = (host.path().join("from"), host.path().join("to"));
    fs::write(&from, &source).expect("room on the disk");
    let mut figures = Figures::new();
    let formatter = Formatter::text(&Template::default(), &Metadata::default());
    for _ in 0..scale.rounds {
        let split = |lines: &[u8], out: &mut Vec<u8>| {
            std::hint::black_box(memchr::memchr_iter(b'\n', lines).count());
            out.extend_from_slice(lines);
        };
        keep_highest(&mut figures, "bare loop (read, split, write)", copy(&from, &to, split));
        let mut decoder = Decoder::new();
        let decode = |lines: &[u8], out: &mut Vec<u8>| {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', lines) {
                let line = &lines[start..end];
                start = end + 1;
                let Decoded::Entry(entry) = decoder.decode(line) else { unreachable!("the corpus has only entries") };
                formatter.append(&entry.record, out);
            }
        };
        keep_highest(&mut figures, "decode loop (read, decode, write)", copy(&from, &to, decode));
    }
    figures
}

/// MB/s per CPU second of this process.
fn copy(from: &Path, to: &Path, mut work: impl FnMut(&[u8], &mut Vec<u8>)) -> f64 {
    const READ_BYTES: usize = 256 * 1024;
    let (from, to) = (fs::File::open(from).expect("just written"), fs::File::create(to).expect("room on the disk"));
    let (mut buffer, mut out, mut offset) = (vec![0; READ_BYTES], Vec::new(), 0);
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    let before = cpu();
    loop {
        let n_read = from.read_at(&mut buffer, offset).expect("just written");
        let Some(last) = memchr::memrchr(b'\n', &buffer[..n_read]) else { break };
        out.clear();
        work(&buffer[..=last], &mut out);
        (&to).write_all(&out).expect("room on the disk");
        offset += last as u64 + 1;
    }
    offset as f64 / 1e6 / (cpu() - before)
}

/// A log that is there and cached, read to its end by a program that follows it.
fn throughput(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let (source, output) = corpus::log(Kind::Mixed, scale.corpus_bytes);
    host.add_log(0, &source);
    let (megabytes, expected) = (source.len() as f64 / 1e6, Content::of(&output));
    drop((source, output));
    for _ in 0..scale.rounds {
        host.clear_outputs();
        let started = Instant::now();
        let process = Process::start(tool.follow(&host), &host.messages());
        let done = host.await_bytes(expected.n_bytes, PATIENCE, LOOK);
        let (cpu, wall) = (process.cpu_seconds(), started.elapsed().as_secs_f64());
        let peak = process.rss().1;
        drop(process);
        assert!(done && is_complete(tool, &host, 0, expected), "{}: the output is not complete", tool.name);
        keep_highest(figures, "MB/s per CPU second", megabytes / cpu);
        keep_highest(figures, "MB/s", megabytes / wall);
        figures.insert("512 MB log: peak RSS, MB", peak);
    }
}

/// Much more than memory could keep, in eight containers; the lines are one log's, whose names are many.
fn backlog(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let (source, output) = corpus::log(Kind::Mixed, scale.corpus_bytes);
    let first = host.add_container(0);
    fs::write(&first, &source).expect("room on the disk");
    let n_containers = (scale.backlog_bytes / source.len() as u64).max(1) as usize;
    for container_ix in 1..n_containers {
        fs::hard_link(&first, host.add_container(container_ix)).expect("a second name");
    }
    let expected = Content::of(&output);
    drop((source, output));
    let process = Process::start(tool.follow(&host), &host.messages());
    let done = host.await_bytes(expected.n_bytes * n_containers as u64, PATIENCE, LOOK * 10);
    figures.insert("large backlog: peak RSS, MB", process.rss().1);
    drop(process);
    let complete = done && (0..n_containers).all(|ix| is_complete(tool, &host, ix, expected));
    assert!(complete, "{}: the output is not complete", tool.name);
}

/// 10 MB/s of 512-byte lines: what the program takes, and what it does to the writer.
fn steady(tool: &Tool, scale: &Scale, figures: &mut Figures, n_files: usize) {
    let (cpu_row, write_row) = match n_files {
        1 => ("10 MB/s, one file: CPU %", "10 MB/s, one file: write(2) against alone"),
        _ => ("10 MB/s, 50 files: CPU %", "10 MB/s, 50 files: write(2) against alone"),
    };
    let host = Host::new();
    let logs: Vec<PathBuf> = (0..n_files).map(|ix| host.add_container(ix)).collect();
    let alone_us = {
        let apart = Host::new();
        let logs: Vec<PathBuf> = (0..n_files).map(|ix| apart.add_container(ix)).collect();
        let mut writer = Writer::new(&logs);
        write_steadily(&mut writer, &mut vec![Corpus::new(Kind::Exactly512); n_files], scale.steady / 2);
        writer.write_us()
    };
    let mut writer = Writer::new(&logs);
    let process = Process::start(tool.follow(&host), &host.messages());
    let mut corpora = vec![Corpus::new(Kind::Exactly512); n_files];
    // Until it runs evenly.
    let mut outputs = write_steadily(&mut writer, &mut corpora, scale.steady / 4);
    writer.write_ns.clear();
    let (cpu_before, started) = (process.cpu_seconds(), Instant::now());
    let more = write_steadily(&mut writer, &mut corpora, scale.steady);
    let percent = (process.cpu_seconds() - cpu_before) * 100.0 / started.elapsed().as_secs_f64();
    for (output, more) in outputs.iter_mut().zip(more) {
        output.extend(more);
    }
    let n_bytes = outputs.iter().map(|output| output.len() as u64).sum();
    let done = host.await_bytes(n_bytes, PATIENCE / 10, LOOK);
    drop(process);
    let complete = done && outputs.iter().enumerate().all(|(ix, text)| is_complete(tool, &host, ix, Content::of(text)));
    assert!(complete, "{}: the output is not complete", tool.name);
    figures.insert(cpu_row, percent);
    figures.insert(write_row, writer.write_us() / alone_us);
}

/// So many lines every millisecond make 10 MB/s. Gives what must come of them, for each log.
fn write_steadily(writer: &mut Writer, corpora: &mut [Corpus], during: Duration) -> Vec<Vec<u8>> {
    const LINES_PER_SECOND: f64 = 10_000_000.0 / 512.0;
    let mut outputs = vec![Vec::new(); corpora.len()];
    let mut line = Vec::new();
    let started = Instant::now();
    let mut n_lines = 0;
    loop {
        let elapsed = started.elapsed();
        if elapsed >= during {
            return outputs;
        }
        while f64::from(n_lines) < elapsed.as_secs_f64() * LINES_PER_SECOND {
            let ix = writer.next_ix() % corpora.len();
            line.clear();
            corpora[ix].append(&mut line, &mut outputs[ix]);
            writer.write(&line);
            n_lines += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Thousands of containers that once wrote a little, and say nothing more.
fn idle(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let (source, output) = corpus::log(Kind::Plain, 512);
    for container_ix in 0..scale.n_idle {
        host.add_log(container_ix, &source);
    }
    let expected = Content::of(&output);
    let started = Instant::now();
    let process = Process::start(tool.follow(&host), &host.messages());
    let first = host.await_bytes(1, PATIENCE, Duration::from_millis(1));
    figures.insert("start with 5,000 files: first line, s", started.elapsed().as_secs_f64());
    let done = first && host.await_bytes(expected.n_bytes * scale.n_idle as u64, PATIENCE, LOOK * 10);
    figures.insert("start with 5,000 files: all lines, s", started.elapsed().as_secs_f64());
    std::thread::sleep(scale.steady); // Commits, watches: until it is at rest.
    let (cpu_before, started) = (process.cpu_seconds(), Instant::now());
    std::thread::sleep(scale.steady * 2);
    let percent = (process.cpu_seconds() - cpu_before) * 100.0 / started.elapsed().as_secs_f64();
    figures.insert("idle, 5,000 files: CPU %", percent);
    figures.insert("idle, 5,000 files: RSS, MB", process.rss().0);
    drop(process);
    let complete = done && (0..scale.n_idle).all(|ix| is_complete(tool, &host, ix, expected));
    assert!(complete, "{}: the output is not complete", tool.name);
}

/// One file, a line every 20 to 80 ms: from the end of its write(2) until it stands in the output.
fn latency(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let log = host.add_container(0);
    let mut writer = Writer::new(&[log]);
    let mut corpus = Corpus::new(Kind::Plain);
    let (mut line, mut output) = (Vec::new(), Vec::new());
    let process = Process::start(tool.follow(&host), &host.messages());
    let mut seconds = Vec::new();
    for line_ix in 0..scale.n_latency_lines + 10 {
        std::thread::sleep(Duration::from_millis(20 + (line_ix as u64 * 37) % 61));
        line.clear();
        corpus.append(&mut line, &mut output);
        writer.write(&line);
        let written = Instant::now();
        let came = host.await_bytes(output.len() as u64, PATIENCE / 60, Duration::from_micros(100));
        assert!(came, "{}: a line did not come", tool.name);
        // The first ones come while it starts.
        if line_ix >= 10 {
            seconds.push(written.elapsed().as_secs_f64());
        }
    }
    drop(process);
    assert!(is_complete(tool, &host, 0, Content::of(&output)), "{}: the output is not complete", tool.name);
    figures.insert("write to output: p50, ms", percentile(&mut seconds, 50) * 1000.0);
    figures.insert("write to output: p99, ms", percentile(&mut seconds, 99) * 1000.0);
}

/// From the first line's write(2) of a container made that moment until it stands in its output.
fn first_line(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let (source, output) = corpus::log(Kind::Plain, 1);
    host.add_log(0, &source);
    let process = Process::start(tool.follow(&host), &host.messages());
    let mut n_bytes = output.len() as u64;
    assert!(host.await_bytes(n_bytes, PATIENCE / 10, LOOK), "{}: it does not start", tool.name);
    let mut seconds = Vec::new();
    for container_ix in 1..=scale.n_first_lines {
        std::thread::sleep(Duration::from_millis(300 + (container_ix as u64 * 370) % 610));
        host.add_log(container_ix, &source);
        let written = Instant::now();
        n_bytes += output.len() as u64;
        let came = host.await_bytes(n_bytes, PATIENCE / 10, Duration::from_micros(100));
        assert!(came, "{}: the first line of a container did not come", tool.name);
        seconds.push(written.elapsed().as_secs_f64());
    }
    drop(process);
    let expected = Content::of(&output);
    let complete = (0..=scale.n_first_lines).all(|ix| is_complete(tool, &host, ix, expected));
    assert!(complete, "{}: the output is not complete", tool.name);
    figures.insert("a new container's first line: p50, ms", percentile(&mut seconds, 50) * 1000.0);
    figures.insert("a new container's first line: worst, ms", percentile(&mut seconds, 100) * 1000.0);
}

/// Eight containers on two threads and on one.
fn backfill(tool: &Tool, scale: &Scale, figures: &mut Figures) {
    const CONTAINERS: usize = 8;
    if tool.kind != tools::Kind::Longshore {
        return;
    }
    let host = Host::new();
    let (source, output) = corpus::log(Kind::Mixed, scale.corpus_bytes / CONTAINERS);
    (0..CONTAINERS).for_each(|ix| host.add_log(ix, &source));
    let megabytes = (source.len() * CONTAINERS) as f64 / 1e6;
    for _ in 0..scale.rounds {
        for (row, threads) in [("backfill, one thread: MB/s", "1"), ("backfill, two threads: MB/s", "2")] {
            host.clear_outputs();
            let command = tool.command(&host, "backfill", &["--threads", threads, "--progress", "never"]);
            let started = Instant::now();
            assert!(Process::start(command, &host.messages()).wait(), "the backfill failed");
            keep_highest(figures, row, megabytes / started.elapsed().as_secs_f64());
            let complete = (0..CONTAINERS).all(|ix| is_complete(tool, &host, ix, Content::of(&output)));
            assert!(complete, "the output is not complete");
        }
    }
    let ratio = figures["backfill, two threads: MB/s"] / figures["backfill, one thread: MB/s"];
    figures.insert("backfill, two threads against one", ratio);
}

fn size(tool: &Tool, _scale: &Scale, figures: &mut Figures) {
    let host = Host::new();
    let copy = host.path().join("stripped");
    let done = Command::new("strip").arg("-o").arg(&copy).arg(tool.binary()).status();
    if done.is_ok_and(|status| status.success()) {
        figures.insert("binary, stripped, MB", fs::metadata(copy).expect("just made").len() as f64 / 1e6);
    }
}

/// Ours byte for byte; the others may write times in another way, so their lines are counted.
fn is_complete(tool: &Tool, host: &Host, container_ix: usize, expected: Content) -> bool {
    let found = host.read_output(container_ix);
    match tool.kind {
        tools::Kind::Longshore => found == expected,
        _ => found.n_lines == expected.n_lines,
    }
}

fn keep_highest(figures: &mut Figures, row: &'static str, figure: f64) {
    let best = figures.entry(row).or_insert(figure);
    *best = best.max(figure);
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() * percent).div_ceil(100)).clamp(1, values.len()) - 1]
}
