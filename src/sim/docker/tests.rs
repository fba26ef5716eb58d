use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use super::*;
use crate::sim::os::{Crash, PAGE_BYTES};

const ROOT: &str = "/docker/containers";
const T0: i64 = 1_767_225_600_123_456_789;

struct Host {
    os: SimOs,
    docker: SimDocker,
    id: String,
    time_ns: i64,
}

impl Host {
    fn new(kind: EngineKind, max_size: Option<u64>, max_file: u32, compress: bool) -> Host {
        let os = SimOs::new(1);
        let mut docker = SimDocker::new(&os, ROOT, kind, 2);
        let id = docker.create("web", Options { max_size, max_file, compress, ..Options::default() });
        docker.start(&id);
        Host { os, docker, id, time_ns: T0 }
    }

    fn tick(&mut self) -> i64 {
        self.time_ns += 1_000;
        self.os.advance(Duration::from_micros(1));
        self.time_ns
    }

    fn log(&mut self, text: &str) {
        let time_ns = self.tick();
        self.docker.log(&self.id.clone(), Stream::Stdout, text.as_bytes(), time_ns);
    }

    /// The files of the container by what follows the log's name, with the texts of their records.
    fn files(&self) -> BTreeMap<String, Vec<String>> {
        let directory = self.docker.directory(&self.id);
        let log = format!("{}-json.log", self.id);
        let mut files = BTreeMap::new();
        for name in self.os.engine_list(&directory).unwrap() {
            let name = name.to_string_lossy().into_owned();
            let Some(suffix) = name.strip_prefix(&log) else { continue };
            let Ok(bytes) = self.os.engine_read(directory.join(&name)) else { continue };
            files.insert(suffix.to_string(), texts(&if suffix.ends_with(".gz") { inflated(&bytes) } else { bytes }));
        }
        files
    }

    fn check_files(&self, expected: &[(&str, &[&str])]) {
        let files = self.files();
        let files: Vec<(&str, Vec<&str>)> =
            files.iter().map(|(suffix, texts)| (suffix.as_str(), texts.iter().map(String::as_str).collect())).collect();
        let expected: Vec<(&str, Vec<&str>)> =
            expected.iter().map(|(suffix, texts)| (*suffix, texts.to_vec())).collect();
        assert_eq!(files, expected);
    }

    fn readable(&self) -> Vec<String> {
        let truths = self.docker.completed(&self.id).filter(|truth| truth.is_readable());
        truths.map(|truth| String::from_utf8(truth.text.clone()).unwrap()).collect()
    }

    /// The files hold exactly the messages that the truth calls readable.
    fn check_truth(&self, seed: u64) {
        let in_files: BTreeSet<String> = self.files().into_values().flatten().collect();
        let readable: BTreeSet<String> = self.readable().into_iter().collect();
        let wrong: Vec<&String> = in_files.symmetric_difference(&readable).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    }

    fn bytes(&self) -> Vec<u8> {
        self.os.engine_read(self.docker.log_path(&self.id)).unwrap()
    }
}

/// The `log` fields of whole records, without their newlines. What a record is glued to is left out.
fn texts(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let records = lines.filter_map(|line| {
        let start = line.windows(8).rposition(|window| window == b"{\"log\":\"")?;
        serde_json::from_slice::<serde_json::Value>(&line[start..]).ok()
    });
    records.map(|record| record["log"].as_str().unwrap().trim_end_matches('\n').to_string()).collect()
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = flate2::read::GzDecoder::new(bytes).read_to_end(&mut out);
    out
}

#[test]
fn a_line_is_written_as_docker_writes_it() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    host.log("hello <b>");
    let line =
        "{\"log\":\"hello \\u003cb\\u003e\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.123457789Z\"}\n";
    assert_eq!(String::from_utf8(host.bytes()).unwrap(), line);
    assert_eq!(host.docker.expected_lines(&host.id), [b"2026-01-01T00:00:00.123457789Z hello <b>\n"]);
    let truth = &host.docker.messages(&host.id)[0];
    assert_eq!((truth.pieces[0].start, truth.pieces[0].end), (0, line.len() as u64));
}

#[test]
fn long_lines_are_cut_every_16384_bytes_with_one_time() {
    for (n_bytes, pieces) in [(16_383, vec![16_383]), (16_384, vec![16_384, 0]), (40_000, vec![16_384, 16_384, 7_232])]
    {
        let mut host = Host::new(EngineKind::V20, None, 1, false);
        host.log(&"x".repeat(n_bytes));
        let lengths: Vec<usize> = texts(&host.bytes()).iter().map(String::len).collect();
        assert_eq!(lengths, pieces);
        let times = host.bytes().windows(9).filter(|window| *window == b"123457789").count();
        assert_eq!(times, pieces.len());
        let truths: Vec<&Truth> = host.docker.completed(&host.id).collect();
        assert_eq!((truths.len(), truths[0].text.len(), truths[0].pieces.len()), (1, n_bytes, pieces.len()));
    }
}

#[test]
fn what_has_no_newline_waits_for_the_end_and_is_a_line_of_its_own() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    let id = host.id.clone();
    for _ in 0..2 {
        host.docker.write(&id, Stream::Stdout, b"abc", T0);
        assert_eq!(host.docker.messages(&id).iter().filter(|truth| !truth.is_complete()).count(), 0);
        let time_ns = host.tick();
        host.docker.restart(&id, time_ns);
    }
    assert_eq!(texts(&host.bytes()), ["abc", "abc"]);
    assert!(!String::from_utf8(host.bytes()).unwrap().contains("\\n"));
    assert!(host.docker.messages(&id).iter().all(|truth| truth.ending == Ending::ShortPiece));
    assert_eq!(host.docker.generation(&id), 0, "a restart appends to the same file");
}

#[test]
fn a_chain_without_end_is_closed_by_the_next_line_or_the_stop() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    let id = host.id.clone();
    host.docker.write(&id, Stream::Stdout, &vec![b'x'; 40_000], T0);
    host.docker.drop_rest(&id, Stream::Stdout);
    host.docker.log(&id, Stream::Stderr, b"other", T0 + 1);
    assert_eq!(host.docker.completed(&id).count(), 1);
    host.docker.log(&id, Stream::Stdout, b"next", T0 + 2);
    host.docker.write(&id, Stream::Stdout, &vec![b'y'; 16_384], T0 + 3);
    host.docker.stop(&id, T0 + 4);
    let completed: Vec<(usize, Ending)> =
        host.docker.completed(&id).map(|truth| (truth.text.len(), truth.ending)).collect();
    use Ending::{Newline, NextTime, Stopped};
    assert_eq!(completed, [(5, Newline), (32_768, NextTime), (4, Newline), (16_384, Stopped)]);
}

#[test]
fn rotation_moves_the_files_up_and_drops_the_oldest() {
    for kind in [EngineKind::V19, EngineKind::V20, EngineKind::V23] {
        let mut host = Host::new(kind, Some(1), 3, false);
        for text in ["a", "b", "c", "d"] {
            host.log(text);
        }
        host.check_files(&[("", &["d"]), (".1", &["c"]), (".2", &["b"])]);
        assert_eq!(host.readable(), ["b", "c", "d"]);
        assert_eq!(host.docker.generation(&host.id), 3);
        assert_eq!(host.docker.expected_lines(&host.id).len(), 4);
    }
}

#[test]
fn three_engines_do_three_things_at_one_file() {
    for (kind, rotated, same_node) in
        [(EngineKind::V19, false, true), (EngineKind::V20, true, false), (EngineKind::V23, false, false)]
    {
        let mut host = Host::new(kind, Some(1), 1, false);
        host.log("a");
        host.log("b");
        let node = host.os.engine_node(host.docker.log_path(&host.id));
        host.log("c");
        assert_eq!(host.os.engine_node(host.docker.log_path(&host.id)) == node, same_node, "{kind:?}");
        let expected: &[(&str, &[&str])] = if rotated { &[("", &["c"]), (".1", &["b"])] } else { &[("", &["c"])] };
        host.check_files(expected);
        assert_eq!(host.readable(), if rotated { vec!["b", "c"] } else { vec!["c"] });
    }
}

#[test]
fn compression_is_seen_half_done_and_then_done() {
    let mut host = Host::new(EngineKind::V20, Some(1), 3, true);
    let id = host.id.clone();
    for text in ["a", "b"] {
        host.log(text);
    }
    assert!(host.docker.start_compression(&id, 30));
    host.check_files(&[("", &["b"]), (".1", &["a"]), (".1.gz", &[])]);
    host.docker.finish_compression(&id);
    host.check_files(&[("", &["b"]), (".1.gz", &["a"])]);
    let gzip = host.os.engine_read(host.docker.rotated_path(&id, 1)).unwrap();
    let extra = b"{\"lastTime\":\"2026-01-01T00:00:00.123457789Z\"}";
    assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    assert_eq!(gzip[12..12 + extra.len()], extra[..]);
    for text in ["c", "d"] {
        host.log(text);
    }
    host.check_files(&[("", &["d"]), (".1", &["c"]), (".2.gz", &["b"])]);
    assert_eq!(host.readable(), ["b", "c", "d"]);
}

#[test]
fn an_engine_killed_while_compressing_loses_the_good_file_at_the_next_rotation() {
    let mut host = Host::new(EngineKind::V20, Some(1), 3, true);
    let id = host.id.clone();
    host.log("a");
    host.log("b");
    host.docker.start_compression(&id, 60);
    host.docker.kill();
    assert_eq!(host.readable(), ["a", "b"], "the plain file is whole");
    host.docker.start(&id);
    host.log("c");
    host.check_files(&[("", &["c"]), (".1", &["b"]), (".2.gz", &[])]);
    assert_eq!(host.readable(), ["b", "c"]);
    host.docker.finish_compression_after(&id, 80);
    assert_eq!(host.readable(), ["c"]);
}

#[test]
fn a_failed_rotation_truncates_or_drops() {
    for (kind, texts) in [(EngineKind::V19, &["a"][..]), (EngineKind::V20, &["b"]), (EngineKind::V23, &["b"])] {
        let mut host = Host::new(kind, Some(1), 2, false);
        let id = host.id.clone();
        host.docker.block_rotation(&id);
        host.log("a");
        host.log("b");
        assert_eq!(self::texts(&host.bytes()), texts, "{kind:?}");
        assert_eq!(host.readable(), texts);
        host.docker.unblock_rotation(&id);
        host.log("c");
        host.check_files(&[("", &["c"]), (".1", texts)]);
    }
}

#[test]
fn after_a_rotation_a_truncated_log_has_a_hole() {
    let mut host = Host::new(EngineKind::V20, Some(5_000), 2, false);
    let id = host.id.clone();
    host.log("first");
    host.docker.truncate(&id);
    host.log(&"x".repeat(9_000));
    assert_eq!(host.bytes()[0], b'{', "until then it appends");
    host.log(&"y".repeat(4_900));
    host.docker.truncate(&id);
    host.log("after");
    let bytes = host.bytes();
    assert!(bytes[..4_900].iter().all(|byte| *byte == 0));
    assert_eq!(host.readable(), ["x".repeat(9_000), "after".to_string()]);
    let span = host.docker.messages(&id).last().unwrap().pieces[0];
    assert_eq!(bytes[span.start as usize..span.end as usize].first(), Some(&b'{'));
    assert_eq!(host.os.coverage()["sparse_logs"], 1);
}

#[test]
fn a_torn_record_is_glued_to_the_next() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    let id = host.id.clone();
    host.log("a");
    let time_ns = host.tick();
    host.docker.log_torn(&id, Stream::Stdout, b"torn", time_ns, 20);
    host.docker.kill();
    host.docker.start(&id);
    host.log("b");
    let bytes = String::from_utf8(host.bytes()).unwrap();
    assert!(bytes.contains("\n{\"log\":\"torn\\n\",\"str{\"log\":\"b\\n\""), "{bytes}");
    assert_eq!(host.readable(), ["a", "b"]);
    assert_eq!(host.docker.expected_lines(&id).len(), 2);
}

#[test]
fn users_copy_rewrite_and_remove() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    let id = host.id.clone();
    host.log("a");
    host.docker.copy_truncate(&id, ".1");
    host.log("b");
    host.check_files(&[("", &["b"]), (".1", &["a"])]);
    assert_eq!(host.readable(), ["a", "b"]);
    let size = host.bytes().len();
    assert!(host.docker.rewrite_same_size(&id, T0 + 50_000));
    assert_eq!(host.bytes().len(), size);
    assert_eq!(host.readable(), ["a", "r"]);
    host.docker.remove_log(&id);
    host.log("nameless");
    assert_eq!(host.readable(), ["a"]);
    let time_ns = host.tick();
    host.docker.restart(&id, time_ns);
    host.log("c");
    assert_eq!(host.readable(), ["a", "c"]);
}

#[test]
fn a_rewritten_log_of_any_size_is_made_of_whole_records() {
    for n_bytes in [1, 2, 4_000, 5_000, 9_000, 12_300, 30_000] {
        let mut host = Host::new(EngineKind::V20, None, 1, false);
        let id = host.id.clone();
        host.log(&"x".repeat(n_bytes));
        let size = host.bytes().len();
        assert!(host.docker.rewrite_same_size(&id, T0));
        assert_eq!(host.bytes().len(), size);
        assert_eq!(texts(&host.bytes()).len(), host.docker.completed(&id).count() - 1);
    }
}

#[test]
fn pages_and_tails_are_lost() {
    let mut host = Host::new(EngineKind::V20, None, 1, false);
    let id = host.id.clone();
    for number in 0..200 {
        host.log(&format!("line {number:04}"));
    }
    assert!(host.docker.zero_page(&id, 1));
    assert!(!host.docker.zero_page(&id, 99));
    let page = &host.bytes()[PAGE_BYTES as usize..2 * PAGE_BYTES as usize];
    assert!(page.iter().all(|byte| *byte == 0));
    let n_readable = host.readable().len();
    assert!((100..160).contains(&n_readable), "{n_readable}");
    host.docker.lose_tail(&id, 100);
    assert_eq!(host.readable().len(), n_readable - 2);
    host.log("regrown");
    assert_eq!(host.readable().last().unwrap(), "regrown");
    assert_eq!(host.os.coverage()["records_glued"], 1);
}

#[test]
fn after_a_power_loss_the_truth_is_what_the_files_say() {
    let mut n_destroyed = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let kind = *random.pick(&[EngineKind::V19, EngineKind::V20, EngineKind::V23]);
        let max_file = random.within(1..=3) as u32;
        let mut host = Host::new(kind, Some(6_000), max_file, max_file > 1 && random.coin());
        let id = host.id.clone();
        for number in 0..300 {
            host.log(&format!("line {number:04}"));
            if number % 60 == 59 {
                host.os.write_back(ROOT, &mut random);
            }
        }
        let before = host.readable().len();
        host.os.crash(Crash::Power, &mut random);
        host.docker.power_lost();
        host.check_truth(seed);
        n_destroyed += before.saturating_sub(host.readable().len());
        host.docker.start(&id);
        host.log("back again");
        assert_eq!(host.readable().last().unwrap(), "back again", "seed {seed}");
    }
    assert!(n_destroyed > 100);
}

#[test]
fn metadata_follows_the_life_of_a_container() {
    let mut host = Host::new(EngineKind::V20, Some(10_000), 3, true);
    let config = |host: &Host, id: &str| -> serde_json::Value {
        serde_json::from_slice(&host.os.engine_read(host.docker.directory(id).join("config.v2.json")).unwrap()).unwrap()
    };
    let id = host.id.clone();
    assert_eq!(id.len(), 64);
    assert_eq!((&config(&host, &id)["Name"], &config(&host, &id)["State"]["Running"]), (&"/web".into(), &true.into()));
    let host_config = host.os.engine_read(host.docker.directory(&id).join("hostconfig.json")).unwrap();
    let host_config: serde_json::Value = serde_json::from_slice(&host_config).unwrap();
    assert_eq!(host_config["LogConfig"]["Config"]["max-size"], "10000");
    host.docker.rename(&id, "shop");
    host.log("x");
    let time_ns = host.tick();
    let new = host.docker.recreate(&id, time_ns);
    assert!(!host.os.engine_exists(host.docker.directory(&id)));
    assert_eq!(config(&host, &new)["Name"], "/shop");
    assert!(host.docker.is_removed(&id) && host.docker.is_running(&new));
    assert_eq!((host.readable().len(), host.docker.expected_lines(&id).len()), (0, 1));
    assert_eq!(host.docker.ids(), [id, new]);
}

/// Whatever the engine does, the files hold exactly the messages that the truth calls readable.
#[test]
fn the_truth_agrees_with_the_files_through_anything() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let kind = *random.pick(&[EngineKind::V19, EngineKind::V20, EngineKind::V23]);
        let max_file = random.within(1..=4) as u32;
        let compress = max_file > 1 && random.coin();
        let mut host = Host::new(kind, Some(random.within(1..=4_000)), max_file, compress);
        let id = host.id.clone();
        for number in 0..60 {
            let time_ns = host.tick();
            match random.below(24) {
                0 => host.docker.restart(&id, time_ns),
                1 => drop(host.docker.start_compression(&id, random.below(200) as usize)),
                2 => host.docker.finish_compression(&id),
                3 => host.docker.finish_compression_after(&id, random.below(100) as usize),
                4 => {
                    host.docker.kill();
                    host.docker.start(&id);
                }
                5 if host.os.engine_exists(host.docker.log_path(&id)) => host.docker.truncate(&id),
                6 if host.os.engine_exists(host.docker.log_path(&id)) => host.docker.copy_truncate(&id, ".1"),
                7 if host.os.engine_exists(host.docker.log_path(&id)) => host.docker.lose_tail(&id, random.below(300)),
                8 if host.os.engine_exists(host.docker.log_path(&id)) => host.docker.remove_log(&id),
                9 => drop(host.docker.log_torn(&id, Stream::Stdout, b"torn", time_ns, random.below(90) as usize)),
                _ => host.log(&format!("{number} {}", "x".repeat(random.below(300) as usize))),
            }
        }
        host.check_truth(seed);
    }
}
