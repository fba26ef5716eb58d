use super::*;

fn end_of(lines: &[&str], prefer: Prefer) -> OutputEnd {
    let lines: Vec<u64> = lines.iter().map(|line| hash(line.as_bytes())).collect();
    OutputEnd::new(&lines, Place::default(), prefer)
}

fn best_of(end: &mut OutputEnd, source: &[&str]) -> Option<usize> {
    let mut best = None;
    for (ix, line) in source.iter().enumerate() {
        if end.observe(line.as_bytes()) {
            best = Some(ix);
        }
    }
    best
}

#[test]
fn the_last_line_with_a_partner_counts() {
    let mut end = end_of(&["a", "b", "c", "lost"], Prefer::Latest);
    assert_eq!(best_of(&mut end, &["x", "a", "b", "c", "d"]), Some(3));
    assert_eq!(end.lines_after_best(), Some(1));
    assert!(!end.ambiguous);
}

#[test]
fn equal_lines_take_the_longest_run_and_say_so() {
    let mut end = end_of(&["a", "ok", "ok"], Prefer::LongestRun);
    assert_eq!(best_of(&mut end, &["a", "ok", "ok", "ok", "b", "ok"]), Some(2));
    let mut end = end_of(&["ok", "ok"], Prefer::LongestRun);
    assert_eq!(best_of(&mut end, &["ok", "ok", "ok"]), Some(1), "a repeat is better than a loss");
    assert!(end.ambiguous);
}

#[test]
fn equal_lines_beyond_all_remembered_places_are_counted() {
    let ticks = |n_ticks: usize| [&["first"][..], &vec!["tick"; n_ticks]].concat();
    let mut end = end_of(&ticks(599), Prefer::LongestRun);
    assert_eq!(best_of(&mut end, &ticks(649)), Some(599), "all of the output");
    assert!(!end.ambiguous);
    let mut end = end_of(&[&["pruned"][..], &ticks(599)].concat(), Prefer::LongestRun);
    assert_eq!(best_of(&mut end, &ticks(649)), Some(599), "all of the source so far");
    let mut end = end_of(&[&ticks(599)[..], &["else"]].concat(), Prefer::LongestRun);
    assert_eq!(best_of(&mut end, &[&ticks(599)[..], &["else", "tick"]].concat()), Some(600));
}

#[test]
fn a_torn_last_line_is_found_by_what_it_begins() {
    let rest = b"one\ntwo\nthr";
    let found = find_line(rest, b"three\n").map(|found| (found.at, found.already));
    assert_eq!(found, Some((8, 3)));
    assert!(find_line(rest, b"four\n").is_none());
    assert_eq!(find_line(rest, b"two\n").map(|found| found.at), Some(4));
}

#[test]
fn only_zeros_are_damage() {
    assert!(only_zeroed(b"ab\0\0e", b"abcde"));
    assert!(!only_zeroed(b"ab\0Xe", b"abcde"));
}
