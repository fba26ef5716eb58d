//! Copies of incarnations among those that are read from the engine's files.

use crate::config::limits::QUANTUM_BYTES;
use crate::tail::tests::{LOG, Log, head_of};
use crate::tail::{Generation, Lineage};

/// Where a copy of `copied` from `first` on, whose lines begin at `start`, and the log part.
fn part(log: &str, copied: &str, first: usize, start: u64) -> u64 {
    let mut log = Log::of(log);
    let mut copy = log.spooled(7, copied, first, start);
    let os = log.os.clone();
    log.lineage.generations_mut().next().unwrap().common_with(&os, &mut copy).unwrap()
}

#[test]
fn a_copy_and_its_original_part_at_a_line() {
    assert_eq!(part("one\ntwo\nthree\n", "one\ntwo\n", 0, 0), 8, "the copy ends first");
    assert_eq!(part("one\ntwo\n", "one\ntwo\nthree\n", 0, 0), 8, "the original ends first");
    assert_eq!(part("one\ntwo\nthree\n", "one\ntwo\nthr", 0, 0), 8);
    assert_eq!(part("one\ntwo\nthree\n", "one\ntwo\nother\n", 0, 0), 8);
    assert_eq!(part("one\ntwo\n", "one\ntwo\n", 0, 0), 8);
    assert_eq!(part("else\n", "one\ntwo\n", 0, 0), 0);
    assert_eq!(part("one\ntwo\nthree\n", "one\ntwo\nthree\n", 2, 4), 14, "the copy begins later");
    assert_eq!(part("one\ntwo\nelse\n", "one\ntwo\nthree\n", 2, 4), 8);
    assert_eq!(part("one\ntwx\n", "one\ntwo\n", 4, 4), 4);
}

#[test]
fn a_long_copy_is_compared_to_its_end() {
    let text = "a line of the log\n".repeat(3 * QUANTUM_BYTES / 18);
    assert_eq!(part(&text, &text, 0, 0), text.len() as u64);
    assert_eq!(part(&format!("{text}more\n"), &text, 0, 0), text.len() as u64);
    assert_eq!(part(&text, &text, 54, 54), text.len() as u64);
    let at = 2 * QUANTUM_BYTES + 100;
    let mut other = text.clone();
    other.replace_range(at..at + 1, "X");
    assert_eq!(part(&other, &text, 0, 0), text[..at].rfind('\n').unwrap() as u64 + 1);
    let whole = "x".repeat(QUANTUM_BYTES - 1) + "\n";
    assert_eq!(part(&whole, &whole, 0, 0), QUANTUM_BYTES as u64);
    assert_eq!(part(&format!("{whole}one\n"), &format!("{whole}two\n"), 0, 0), QUANTUM_BYTES as u64);
}

#[test]
fn a_short_read_of_the_original_is_no_end() {
    use crate::sim::os::{Fault, FaultPlan};
    let mut log = Log::of("one\ntwo\nthree\n");
    let mut copy = log.spooled(7, "one\ntwo\nthree\n", 0, 0);
    let os = log.os.clone();
    let original = log.lineage.generations_mut().next().unwrap();
    os.arm(FaultPlan::at(0, Fault::ShortRead(5)));
    assert!(original.common_with(&os, &mut copy).is_err());
    os.disarm();
    assert_eq!(original.common_with(&os, &mut copy).unwrap(), 14);
}

#[test]
fn reading_goes_on_where_it_is_told() {
    let mut log = Log::of("one\ntwo\nthree\n");
    log.lineage.generations_mut().next().unwrap().go_on_at(8);
    assert_eq!(log.read(), "three\n");
    log.lineage.generations_mut().next().unwrap().go_on_at(4);
    assert_eq!(log.read(), "two\nthree\n");
}

#[test]
fn a_copy_takes_the_place_of_a_deleted_incarnation() {
    let text = "one\ntwo\n";
    let mut log = Log::of(text);
    let os = log.os.clone();
    assert_eq!(log.lineage.held_bytes(&os), 0, "its name leads to it");
    log.os.engine_unlink(LOG).unwrap();
    log.os.engine_write_whole(LOG, b"three\n").unwrap();
    log.look().unwrap();
    let held_bytes = log.lineage.generations().map(|held| held.held_bytes(&os)).collect::<Vec<_>>();
    assert!(held_bytes[0] >= text.len() as u64 && held_bytes[1] == 0, "{held_bytes:?}");
    assert_eq!(log.lineage.held_bytes(&os), held_bytes[0]);
    let copy = log.spooled(7, text, 0, 0);
    let deleted = log.lineage.generations_mut().next().unwrap();
    assert_eq!(deleted.spool_number(), None);
    assert!(deleted.source_again(&os).is_some());
    deleted.put_aside(copy);
    assert_eq!(deleted.spool_number(), Some(7));
    assert!(deleted.source_again(&os).is_none());
    assert_eq!(log.lineage.held_bytes(&os), 0);
    assert_eq!(log.read(), "one\ntwo\nthree\n");
}

#[test]
fn a_copy_of_an_earlier_life_comes_before_the_others() {
    let mut log = Log::of("three\n");
    let copy = log.spooled(7, "one\ntwo\n", 2, 4);
    log.lineage.insert(0, Generation::of_spooled(copy));
    assert_eq!(log.lineage.numbered_mut().map(|(number, _)| number).collect::<Vec<_>>(), [0, 1]);
    let os = log.os.clone();
    let oldest = log.lineage.take_oldest(&os).unwrap().unwrap();
    assert_eq!((oldest.head, oldest.offset), (head_of("one\n"), 4));
    assert_eq!(log.lineage.drained().collect::<Vec<_>>(), [head_of("one\n").unwrap()]);
    assert_eq!(log.lineage.numbered_mut().map(|(number, _)| number).collect::<Vec<_>>(), [1]);
    assert_eq!((log.lineage.passed(), log.lineage.len()), (1, 1));
    log.lineage.insert(0, oldest);
    log.lineage.begin_at(&os, 0, 0, None).unwrap(); // What is before its first line isn't there.
    assert_eq!(log.read(), "two\nthree\n");
    let mut none = Lineage::new(log.lineage.directory(), "none", []);
    assert!(none.take_oldest(&os).unwrap().is_none());
}

#[test]
fn damage_of_a_copy_is_told() {
    let mut log = Log::of("three\n");
    let copy = log.spooled(7, "one\ntwo\n", 0, 0);
    let file = log.os.engine_open("/spool/7").unwrap();
    log.os.engine_write(&file, 14, b"?");
    let mut copy = Generation::of_spooled(copy);
    let os = log.os.clone();
    assert_eq!(copy.source_again(&os).map(drop), None);
    assert_eq!(copy.take_damage(false), []);
    let mut original = log.lineage.take_oldest(&os).unwrap().unwrap();
    let mut spooled = log.spooled(8, "three\n", 0, 0);
    assert_eq!(original.common_with(&os, &mut spooled).unwrap(), 6);
    log.lineage.insert(0, copy);
    assert_eq!(log.read(), "[8 nul]");
    let damage = log.lineage.generations_mut().next().unwrap().take_damage(true);
    assert_eq!((damage.len(), damage[0].start, damage[0].end), (1, Some(0), Some(8)));
}
