//! Which incarnations there are, in order, and where reading begins and ends.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::config::limits::{DRAINED_HEADS_MAX, LINE_BYTES_MAX, QUANTUM_BYTES};
use crate::sim::os::{Errno, Fault, FaultPlan, SimOs};
use crate::tail::tests::{DIRECTORY, LOG, Log, gzip, head_of, told_at_every_call};
use crate::tail::{Chunk, Fingerprint, Lineage, Look};

impl Log {
    /// As a new agent meets it.
    fn found_by_nobody(self) -> Log {
        Log { lineage: Lineage::new(Path::new(DIRECTORY), "web", []), ..self }
    }

    /// As a later life finds it, which has read what these lines begin.
    fn found(self, drained: &[&str]) -> Log {
        let heads = drained.iter().map(|head| head_of(head).unwrap());
        let mut log = Log { lineage: Lineage::new(Path::new(DIRECTORY), "web", heads), ..self };
        log.look().unwrap();
        log
    }
}

#[test]
fn incarnations_are_read_in_their_order() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.rotate("three\n");
    log.compress(2);
    let mut log = log.found(&[]);
    assert_eq!((log.lineage.len(), log.lineage.is_empty()), (3, false));
    assert_eq!(log.read(), "one\ntwo\nthree\n");
    assert_eq!((log.lineage.passed(), log.lineage.len()), (2, 1));
    for n in 4..8 {
        log.rotate(&format!("{n}\n"));
    }
    assert_eq!(log.look().unwrap(), Look::Grown(4));
    assert_eq!(log.look().unwrap(), Look::Same);
    assert_eq!(log.read(), "4\n5\n6\n7\n");
}

/// One rename or new file of the engine's.
type Step = Box<dyn Fn(&SimOs) + Send>;

/// The steps of rotations that begin `texts`, as dockerd takes them with `files_max` files.
fn rotations(texts: &[&'static str], files_max: u32) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let rename = |from: String, to: String| -> Step {
        Box::new(move |os: &SimOs| {
            if os.engine_exists(&from) {
                os.engine_rename(&from, &to).unwrap();
            }
        })
    };
    for text in texts {
        for n in (1..files_max - 1).rev() {
            steps.push(rename(Log::path(&format!(".{n}")), Log::path(&format!(".{}", n + 1))));
        }
        steps.push(rename(LOG.to_owned(), Log::path(".1")));
        let text = *text;
        steps.push(Box::new(move |os: &SimOs| os.engine_write_whole(LOG, text.as_bytes()).unwrap()));
    }
    steps
}

/// What is read when the engine takes its steps while the agent looks and reads: some of them before, and `at_once` of
/// them before each call from `call` on.
fn read_while_it_rotates(mut log: Log, steps: Vec<Step>, n_before: usize, call: u64, at_once: usize) -> String {
    let mut told = String::new();
    log.os.arm(FaultPlan::none());
    let mut steps = steps.into_iter().peekable();
    steps.by_ref().take(n_before).for_each(|step| step(&log.os));
    for call in call.. {
        let now: Vec<Step> = steps.by_ref().take(at_once).collect();
        log.os.act_before(call, move |os| now.iter().for_each(|step| step(os)));
        if steps.peek().is_none() {
            break;
        }
    }
    for _ in 0..60 {
        // Rotations on the way may be an error, and the next look's.
        if let Err(error) = log.look().and_then(|_| log.read_into(&mut told)) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }
    told
}

#[test]
fn rotations_during_a_look_hide_nothing_and_change_no_order() {
    const TEXTS: [&str; 6] = ["5\n", "6\n", "7\n", "8\n", "9\n", "10\n"];
    let new = || {
        let mut log = Log::of("1\n");
        ["2\n", "3\n", "4\n"].iter().for_each(|text| log.rotate(text));
        log.found_by_nobody()
    };
    let held = || {
        let mut log = Log::of("1\n");
        ["2\n", "3\n", "4\n"].iter().for_each(|text| log.rotate(text));
        log
    };
    let expected = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
    const FILES_MAX: u32 = 12;
    const STEPS: usize = FILES_MAX as usize;
    for call in 0..40 {
        for at_once in (1..STEPS).chain([2 * STEPS, 3 * STEPS]) {
            // Also when no file stands under the log's name at any call.
            for n_before in [0, STEPS - 1] {
                for of in [new, held] as [fn() -> Log; 2] {
                    let told = read_while_it_rotates(of(), rotations(&TEXTS, FILES_MAX), n_before, call, at_once);
                    assert_eq!(told, expected, "{n_before}, then {at_once} steps before each call from {call} on");
                }
            }
        }
    }
}

/// One that is held is met behind two new ones, of which the newer one came to lie behind the older.
#[test]
fn two_rotations_within_a_look_that_finds_two_change_no_order() {
    const FILES_MAX: u32 = 9;
    for call in 0..20 {
        let log = Log::of("1\n");
        let steps = rotations(&["2\n", "3\n", "4\n"], FILES_MAX);
        let told = read_while_it_rotates(log, steps, FILES_MAX as usize, call, 2 * FILES_MAX as usize);
        assert_eq!(told, "1\n2\n3\n4\n", "two rotations before call {call}");
    }
}

#[test]
fn a_first_line_that_comes_between_two_calls_and_is_rotated_and_compressed_comes_once() {
    let steps = || {
        let mut steps = rotations(&["2\n", "3\n"], 5);
        steps.insert(0, Box::new(|os: &SimOs| os.engine_write_whole(LOG, b"1\n").unwrap()));
        steps.push(Box::new(|os: &SimOs| {
            let text = os.engine_read(Log::path(".2")).unwrap();
            os.engine_write_whole(Log::path(".2.gz"), &gzip(&text)).unwrap();
            os.engine_unlink(Log::path(".2")).unwrap();
        }));
        steps
    };
    for call in 0..30 {
        for at_once in 1..=steps().len() {
            let told = read_while_it_rotates(Log::of(""), steps(), 0, call, at_once);
            assert_eq!(told.replace("[0..0]", ""), "1\n2\n3\n", "{at_once} steps before each call from {call} on");
        }
    }
}

#[test]
fn what_came_behind_the_held_one_is_read_though_the_log_has_no_name() {
    let mut log = Log::of("1\n");
    assert_eq!(log.read(), "1\n");
    log.rotate("2\n");
    rotations(&["3\n"], 9).iter().take(8).for_each(|step| step(&log.os)); // The engine died before it made the new file.
    assert!(!log.os.engine_exists(LOG));
    assert_eq!((log.look().unwrap(), log.look().unwrap()), (Look::Grown(1), Look::Missing));
    assert_eq!(log.read(), "2\n");
    log.os.engine_write_whole(LOG, b"3\n").unwrap();
    assert_eq!((log.look().unwrap(), log.read()), (Look::Grown(1), "3\n".to_owned()));
    // The one that is held is deleted: what it was rotated from was read.
    log.os.engine_unlink(LOG).unwrap();
    assert_eq!((log.look().unwrap(), log.read()), (Look::Missing, String::new()));
}

#[test]
fn a_deleted_log_that_is_still_written_costs_a_look_behind_it_once_a_second() {
    let mut log = Log::of("1\n");
    log.rotate("2\n");
    let mut log = log.found(&[]);
    let file = log.os.engine_open(LOG).unwrap();
    log.os.engine_unlink(LOG).unwrap();
    let calls_of_a_look = |log: &mut Log| {
        log.os.arm(FaultPlan::none());
        assert_eq!(log.look().unwrap(), Look::Missing);
        log.os.calls().len()
    };
    assert!(calls_of_a_look(&mut log) > 1);
    log.os.engine_append(&file, b"3\n");
    assert_eq!(calls_of_a_look(&mut log), 1);
    assert_eq!(log.read(), "1\n2\n3\n");
    log.os.advance(Duration::from_secs(1));
    assert!(calls_of_a_look(&mut log) > 1);
    // What comes there is found a second later.
    log.os.engine_rename(Log::path(".1"), Log::path(".2")).unwrap();
    log.os.engine_write_whole(Log::path(".1"), b"4\n").unwrap();
    assert_eq!(calls_of_a_look(&mut log), 1);
    log.os.advance(Duration::from_secs(1));
    assert_eq!((log.look().unwrap(), log.read()), (Look::Grown(1), "4\n".to_owned()));
}

#[test]
fn what_an_earlier_life_read_is_left_out() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.rotate("three\n");
    log.rotate("four\n");
    log.compress(2);
    let mut log = log.found(&["two\n"]);
    assert_eq!(log.read(), "three\nfour\n");
    let mut log = log.found(&["three\n", "one\n"]);
    assert_eq!(log.read(), "four\n");
    let mut log = log.found(&["lost\n"]);
    assert_eq!(log.read(), "one\ntwo\nthree\nfour\n");
    let mut log = log.found(&["four\n"]);
    assert_eq!((log.lineage.len(), log.read()), (0, String::new()));
}

#[test]
fn a_text_that_stands_plain_and_compressed_is_read_once() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"one\n")).unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "one\ntwo\n");
    // Half of the compressed one is there.
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"one\n")[..12]).unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.lineage.len(), 2);
    assert_eq!(log.read(), "one\ntwo\n");
    // A power loss emptied the plain one.
    log.os.engine_write_whole(Log::path(".1"), b"").unwrap();
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"one\n")).unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.lineage.len(), 2);
    assert_eq!(log.read(), "one\ntwo\n");
    // Another one's text under the same number is older.
    log.os.engine_write_whole(Log::path(".1"), b"copy\n").unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "one\ncopy\ntwo\n");
    // The engine moved on, and left the compressed twin behind.
    log.os.engine_rename(Log::path(".1"), Log::path(".2")).unwrap();
    log.os.engine_write_whole(Log::path(".2.gz"), b"").unwrap();
    log.os.engine_write_whole(Log::path(".1.gz"), &gzip(b"copy\n")).unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "copy\ntwo\n");
}

#[test]
fn pieces_of_one_line_are_read_also_when_they_are_compressed() {
    for compressed in [&[1, 2][..], &[2]] {
        let mut log = Log::of("same\n");
        log.rotate("same\n");
        log.rotate("same\n");
        compressed.iter().for_each(|n| log.compress(*n));
        let mut log = log.found(&[]);
        assert_eq!(log.read(), "same\nsame\nsame\n", "{compressed:?}");
    }
}

#[test]
fn pieces_of_one_line_are_incarnations_of_their_own() {
    let mut log = Log::of("same\n");
    log.rotate("same\n");
    log.rotate("same\n");
    log.look().unwrap();
    assert_eq!(log.read(), "same\nsame\nsame\n");
    log.rotate("same\n");
    assert_eq!(log.look().unwrap(), Look::Grown(1));
    assert_eq!(log.read(), "same\n");
}

#[test]
fn nothing_under_the_log_s_name_is_missing_and_what_is_no_file_is_an_error() {
    let mut log = Log::of("one\n");
    log.os.engine_rename(LOG, Log::path(".1")).unwrap();
    assert_eq!(log.look().unwrap(), Look::Missing);
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "one\n", "rotated ones are read without it");
    assert_eq!(log.look().unwrap(), Look::Missing);
    log.lineage.close();
    assert_eq!((log.look().unwrap(), log.lineage.len(), log.lineage.passed()), (Look::Missing, 0, 1));
    log.os.engine_mkdir(LOG).unwrap();
    assert_eq!(log.look().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    log.os.engine_unlink(LOG).unwrap();
    log.os.engine_special(LOG).unwrap();
    assert_eq!(log.look().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    log.os.engine_rmdir(DIRECTORY).unwrap();
    assert_eq!(log.look().unwrap(), Look::Missing, "the directory is gone");
}

#[test]
fn a_sibling_that_can_t_be_looked_at_is_an_error_and_no_gap() {
    for form in ["", ".gz"] {
        let mut log = Log::of("one\n");
        log.rotate("two\n");
        if !form.is_empty() {
            log.compress(1);
        }
        let path = Log::path(&format!(".1{form}"));
        log.os.set_failing(&path, Some(Errno::Access));
        log.lineage = Lineage::new(Path::new(DIRECTORY), "web", []);
        assert!(log.look().is_err());
        log.os.set_failing(&path, None);
        log.look().unwrap();
        assert_eq!(log.read(), "one\ntwo\n");
    }
}

#[test]
fn a_log_that_can_t_be_looked_at_is_an_error_at_each_look() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.os.set_failing(LOG, Some(Errno::Access));
    for _ in 0..2 {
        assert_eq!(log.look().unwrap_err().kind(), ErrorKind::PermissionDenied, "it isn't missing");
    }
    log.os.set_failing(LOG, None);
    assert_eq!(log.look().unwrap(), Look::Same);
}

#[test]
fn links_and_directories_among_the_siblings_are_passed_over() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.rotate("three\n");
    log.os.engine_special(Log::path(".3")).unwrap();
    log.os.engine_mkdir(Log::path(".4.gz")).unwrap();
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "one\ntwo\nthree\n");
}

#[test]
fn from_the_end_on_only_later_lines_are_read() {
    let begin_at_end = |log: &mut Log| log.lineage.begin_at_end(&log.os).unwrap();
    let mut log = Log::of("zero\n");
    log.rotate("one\ntw");
    log.look().unwrap();
    begin_at_end(&mut log);
    log.write("o\nthree\n");
    assert_eq!(log.read(), "two\nthree\n");
    // A last line longer than what is looked at at once.
    let mut log = Log::of(&format!("one\n{}", "x".repeat(200_000)));
    begin_at_end(&mut log);
    log.write("\ntwo\n");
    assert_eq!(log.read(), format!("{}\ntwo\n", "x".repeat(200_000)));
    let text = format!("{}\nyy", "x".repeat(64 * 1024));
    let mut log = Log::of(&text);
    begin_at_end(&mut log);
    assert_eq!(log.lineage.front().unwrap().offset, 64 * 1024 + 1);
    let mut log = Log::of("torn");
    begin_at_end(&mut log);
    log.write("\n");
    assert_eq!(log.read(), "torn\n");
    let mut none = Lineage::new(Path::new(DIRECTORY), "none", []);
    none.begin_at_end(&log.os).unwrap();
    assert!(none.is_empty());
}

#[test]
fn a_log_that_is_cut_while_its_end_is_looked_for_is_an_error() {
    let log = || Log::of("one\ntwo\nth");
    let mut undisturbed = log();
    undisturbed.os.arm(FaultPlan::none());
    undisturbed.lineage.begin_at_end(&undisturbed.os).unwrap();
    let calls = undisturbed.os.calls();
    assert_eq!(calls.last(), Some(&"read_at"), "{calls:?}");
    let n_reads = calls.iter().rev().take_while(|call| **call == "read_at").count();
    assert_eq!(n_reads, 2, "the end, and the proof of it: {calls:?}");
    for call in calls.len() - n_reads..calls.len() {
        let mut log = log();
        log.os.arm(FaultPlan::at(call as u64, Fault::ShortRead(1)));
        assert_eq!(log.lineage.begin_at_end(&log.os).unwrap_err().kind(), ErrorKind::UnexpectedEof, "call {call}");
    }
}

#[test]
fn from_the_end_on_a_cut_is_noticed() {
    let mut log = Log::of("one\ntwo\n");
    log.lineage.begin_at_end(&log.os).unwrap();
    log.rewrite("one\nTWO\nthree\n");
    assert_eq!(log.read(), "[8..8]one\nTWO\nthree\n");
}

#[test]
fn reading_begins_at_a_proved_place() {
    let mut log = Log::of("one\n");
    log.rotate("two\nthree\n");
    log.look().unwrap();
    log.lineage.begin_at(&log.os, 1, 4, Some(Fingerprint::of(b"two\n"))).unwrap();
    assert_eq!(log.lineage.passed(), 1);
    assert_eq!(log.read(), "three\n");
    let mut log = log.found(&[]);
    assert!(log.lineage.begin_at(&log.os, 1, 20, Some(Fingerprint::of(b"two\n"))).is_err(), "it isn't as long");
}

#[test]
fn the_same_incarnations_can_be_read_once_more_when_their_names_are_gone() {
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.look().unwrap();
    log.os.engine_unlink(Log::path(".1")).unwrap();
    assert_eq!(log.read(), "one\ntwo\n");
    let mut log = Log::of("one\n");
    log.rotate("two\n");
    log.look().unwrap();
    log.os.engine_unlink(Log::path(".1")).unwrap();
    let again = log.lineage.reread(&log.os).unwrap();
    assert_eq!(log.read(), "one\ntwo\n");
    log.lineage = again;
    assert_eq!(log.look().unwrap(), Look::Same);
    assert_eq!(log.read(), "one\ntwo\n");
}

#[test]
fn a_first_line_as_long_as_is_looked_at_is_no_sign_of_a_cut() {
    for n_bytes in [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1] {
        let mut log = Log::of(&"x".repeat(n_bytes));
        log.rotate("next\n");
        let mut log = log.found(&[]);
        let told = log.read();
        assert!(told.ends_with("next\n") && !told.contains(".."), "{n_bytes} bytes: {told}");
    }
}

#[test]
fn a_log_that_was_cut_before_it_is_read_once_more_tells_so() {
    let mut log = Log::of("one\n");
    log.lineage = log.lineage.reread(&log.os).unwrap();
    log.rewrite("two\n");
    assert_eq!(log.read(), "[0..0]two\n");
}

#[test]
fn heads_that_were_read_are_remembered_up_to_a_bound_and_not_while_they_are_held() {
    let mut log = Log::of("held\n");
    let heads: Vec<Fingerprint> = (0..DRAINED_HEADS_MAX + 5).map(|n| Fingerprint::of(&n.to_le_bytes())).collect();
    log.heads_of_held();
    log.lineage.remember_drained(&[head_of("held\n").unwrap()]);
    assert_eq!(log.lineage.drained().count(), 0);
    log.lineage.remember_drained(&heads[..DRAINED_HEADS_MAX]);
    assert_eq!(log.lineage.drained().count(), DRAINED_HEADS_MAX);
    log.lineage.remember_drained(&heads[..2]);
    assert_eq!(log.lineage.drained().collect::<Vec<_>>(), heads[..DRAINED_HEADS_MAX], "each once");
    let mut log = log.found(&[]);
    log.lineage.remember_drained(&heads);
    assert_eq!(log.lineage.drained().collect::<Vec<_>>(), heads[5..]);
}

impl Log {
    fn heads_of_held(&mut self) -> Vec<Option<Fingerprint>> {
        let os = self.os.clone();
        self.lineage.generations_mut().map(|held| held.learn_head(&os).unwrap()).collect()
    }
}

#[test]
fn what_is_unread_and_what_is_on_the_disk_is_told() {
    let mut log = Log::of("one\ntwo\n");
    log.rotate("three\n");
    log.compress(1);
    let gzip_bytes = gzip(b"one\ntwo\n").len() as u64;
    let mut log = log.found(&[]);
    assert_eq!(log.lineage.lag_bytes(&log.os), gzip_bytes + 6);
    assert_eq!(log.lineage.on_disk(&log.os), (gzip_bytes + 6, 2));
    assert!(log.lineage.oldest_deleted(&log.os).is_none());
    log.os.engine_unlink(Log::path(".1.gz")).unwrap();
    let (held_bytes, unread, is_last) = log.lineage.oldest_deleted(&log.os).unwrap();
    assert!(held_bytes >= gzip_bytes && unread == (0..gzip_bytes) && !is_last);
    assert_eq!(log.read(), "one\ntwo\nthree\n");
    assert_eq!(log.lineage.lag_bytes(&log.os), 0);
    log.write("four\n");
    assert_eq!(log.lineage.lag_bytes(&log.os), 5);
    log.os.engine_unlink(LOG).unwrap();
    let (_, unread, is_last) = log.lineage.oldest_deleted(&log.os).unwrap();
    assert_eq!((unread, is_last), (6..11, true));
    assert_eq!(log.lineage.on_disk(&log.os), (0, 0));
}

#[test]
fn a_compressed_incarnation_that_was_read_is_no_lag() {
    let mut log = Log::of("one\n");
    log.rotate("");
    log.compress(1);
    let mut log = log.found(&[]);
    assert_eq!(log.read(), "one\n", "its successor has no line yet");
    assert_eq!(log.lineage.lag_bytes(&log.os), 0);
}

#[test]
fn a_line_longer_than_any_engine_writes_is_passed_over() {
    let text = format!("one\n{}\ntwo\n", "x".repeat(LINE_BYTES_MAX + QUANTUM_BYTES));
    let mut log = Log::of(&text);
    let told = log.read();
    assert!(told.starts_with("one\n[") && told.ends_with("]two\n"), "{}", &told[..60.min(told.len())]);
    let n_passed: usize = told.split(['[', ']']).filter_map(|n_bytes| n_bytes.parse::<usize>().ok()).sum();
    assert_eq!(n_passed, text.len() - 8);
    let line = format!("{}\n", "x".repeat(LINE_BYTES_MAX / 2));
    assert_eq!(Log::of(&line).read(), line);
}

#[test]
fn nuls_are_passed_over_once_text_follows() {
    let mut log = Log::of("one\n");
    assert_eq!(log.read(), "one\n");
    log.write("\0\0\0\0");
    for wanted in [1, 2, QUANTUM_BYTES] {
        let chunk = log.lineage.read(&log.os, &mut Vec::new(), wanted).unwrap();
        assert_eq!(chunk, Chunk::Quiet { rest: 4 }, "read by {wanted}");
    }
    assert_eq!(log.read(), "");
    log.write("two\n");
    assert_eq!(log.read(), "[4 nul]two\n");
    let file = log.os.engine_open(LOG).unwrap();
    log.os.engine_write(&file, 3_000_000, b"three\n");
    let told = log.read();
    let n_nuls: usize =
        told.split(['[', ']']).filter_map(|told| told.strip_suffix(" nul")?.parse::<usize>().ok()).sum();
    assert_eq!((n_nuls, told.ends_with("]three\n")), (3_000_000 - 12, true));
    assert_eq!(Log::of("\0\0\0one\n").read(), "[3 nul]one\n");
    assert_eq!(Log::of("\0\0\0\0").read(), "", "the text that belongs there may still come");
    let mut log = Log::of("\0\0\0\0");
    log.rotate("two\n");
    log.compress(1);
    assert_eq!(log.found(&[]).read(), "[4 nul]two\n", "to a compressed one nothing will be added");
}

#[test]
fn a_part_of_what_is_passed_over_is_no_proof_of_it() {
    let mut log = Log::of("\0\0\0\0\0\0one\n");
    let chunk = log.lineage.read(&log.os, &mut Vec::new(), QUANTUM_BYTES).unwrap();
    assert_eq!(chunk, Chunk::Waste { offset: 0, bytes: 6, nul: true });
    log.os.arm(FaultPlan::at(0, Fault::ShortRead(3)));
    assert!(log.lineage.pass_over(&log.os, 0, 6).is_err());
    log.os.disarm();
    assert_eq!(log.read(), "[6 nul]one\n");
}

#[test]
fn the_rest_of_a_log_is_the_line_without_an_end() {
    let mut log = Log::of("one\ntwo");
    let mut buffer = Vec::new();
    assert_eq!(log.read(), "one\n");
    assert_eq!(log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).unwrap(), Chunk::Quiet { rest: 3 });
    log.write("?");
    assert_eq!(log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).unwrap(), Chunk::Quiet { rest: 4 });
    log.os.arm(FaultPlan::at(0, Fault::ShortRead(2)));
    assert!(log.lineage.rest(&log.os, &mut buffer, 4).is_err(), "a part of it is no record");
    log.os.disarm();
    buffer.clear(); // Another log had it meanwhile.
    let (offset, range) = log.lineage.rest(&log.os, &mut buffer, 3).unwrap();
    assert_eq!((offset, &buffer[range]), (4, &b"two"[..]));
    log.write("\n");
    assert_eq!(log.read(), "two?\n");
    log.write("three");
    assert_eq!(log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).unwrap(), Chunk::Quiet { rest: 5 });
    log.os.engine_truncate(&log.os.engine_open(LOG).unwrap(), 11);
    let (offset, range) = log.lineage.rest(&log.os, &mut buffer, 5).unwrap();
    assert_eq!((offset, &buffer[range]), (9, &b"th"[..]), "it was cut meanwhile");
}

#[test]
fn the_head_is_known_before_anything_is_read() {
    let head = |log: &mut Log| log.lineage.head(&log.os).unwrap();
    let mut log = Log::of("");
    assert_eq!(head(&mut log), None);
    log.write("one\n");
    assert_eq!(head(&mut log), head_of("one\n"));
    let mut log = Log::of("");
    log.write("one\n");
    log.copytruncate("two\n");
    assert_eq!(head(&mut log), head_of("one\n"), "a copy is the oldest");
    assert_eq!(log.read(), "one\ntwo\n");
    let mut log = Log::of("one\n");
    log.os.engine_write_whole(Log::path(".1"), b"else\n").unwrap();
    assert_eq!(head(&mut log), head_of("one\n"), "what comes beside a log that had a line is none of its copies");
    let mut log = Log::of("\0\0\0\0");
    log.write("one\n");
    assert_eq!(log.read(), "[4 nul]one\n");
    log.os.engine_write_whole(Log::path(".1"), b"else\n").unwrap();
    assert_eq!((head(&mut log), log.read()), (head_of("one\n"), String::new()), "it was read already");
    let long = "x".repeat(10_000) + "\n";
    let mut log = Log::of(&long);
    assert_eq!(head(&mut log), head_of(&long));
    let mut log = Log::of(&format!("{}{long}", "\0".repeat(5_000)));
    assert_eq!(head(&mut log), head_of(&long));
    assert_eq!(head(&mut Log::of(&"\0".repeat(4096))), None);
    let endless = "x".repeat(LINE_BYTES_MAX + 1);
    assert_eq!(head(&mut Log::of(&endless)), Some(Fingerprint::of(&endless.as_bytes()[..LINE_BYTES_MAX])));
    assert_eq!(Lineage::new(Path::new(DIRECTORY), "none", []).head(&log.os).unwrap(), None);
}

#[test]
fn a_call_that_fails_costs_no_line_of_a_rotation() {
    let told = told_at_every_call(|| {
        let mut log = Log::of("one\n");
        log.read();
        log.write("two\n");
        log.rotate("three\n");
        log.compress(1);
        log.rotate("four\n");
        log.rotate("");
        log
    });
    assert_eq!(told, "two\nthree\nfour\n");
    let told = told_at_every_call(|| {
        let mut log = Log::of("one\n");
        log.rotate("two\n");
        log.compress(1);
        log.os.engine_rename(LOG, Log::path(".2")).unwrap();
        Log { lineage: Lineage::new(Path::new(DIRECTORY), "web", []), ..log }
    });
    assert_eq!(told, "two\none\n", "rotated ones, without a current file");
}

#[test]
fn lines_that_were_not_taken_are_read_again() {
    let mut log = Log::of("one\n\n");
    let mut buffer = Vec::new();
    let lines = log.lineage.read(&log.os, &mut buffer, QUANTUM_BYTES).unwrap();
    assert_eq!(lines, Chunk::Lines { offset: 0, bytes: 0..5 });
    log.lineage.advance(4, b"one\n");
    assert_eq!(log.read(), "\n");
}

#[test]
fn a_compressed_log_that_ends_early_is_damaged() {
    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let mut log = Log::of(&text);
    log.rotate("");
    let whole = gzip(text.as_bytes());
    log.os.engine_unlink(Log::path(".1")).unwrap();
    log.os.engine_write_whole(Log::path(".1.gz"), &whole).unwrap();
    let mut log = log.found(&[]);
    assert!(log.read() == text);
    assert_eq!(log.lineage.front().unwrap().damage(), None);
    log.os.engine_write_whole(Log::path(".1.gz"), &whole[..whole.len() / 2]).unwrap();
    let mut log = log.found(&[]);
    let told = log.read();
    assert!(!told.is_empty() && text.starts_with(&told));
    let why = log.lineage.front().unwrap().damage().unwrap().to_owned();
    assert!(why.len() > 5 && why != "xyzzy", "{why}");
    let os = log.os.clone();
    let mut torn = log.lineage.take_oldest(&os).unwrap().unwrap();
    assert!(torn.take_damage(false).is_empty(), "told at its end");
    assert_eq!(torn.take_damage(true).iter().map(|damage| &damage.why).collect::<Vec<_>>(), [&why]);
}
