//! The small Docker data root that the README shows: a real engine wrote it, with rotation, compression,
//! long lines and labels. `containers.expected/NAME.log` is what its programs wrote, with dockerd's times.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Longshore, assert_same};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn backfill_of_the_fixture_equals_what_its_programs_wrote() {
    let agent = Longshore::new(&fixtures().join("containers"));
    for round in ["first", "second"] {
        let done = agent.backfill(&["--progress", "never"]);
        assert_eq!(done.status.code(), Some(0), "{round} backfill: {}", String::from_utf8_lossy(&done.stderr));
        let mut n = 0;
        for entry in fs::read_dir(fixtures().join("containers.expected")).expect("list the expected outputs") {
            let path = entry.expect("list the expected outputs").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            assert_same(
                &format!("{name}, {round}"),
                &agent.outputs(&name),
                &fs::read(&path).expect("read an expected output"),
            );
            n += 1;
        }
        assert_eq!(n, 4, "every container of the fixture has an expected output");
    }
}

#[test]
fn run_drains_the_fixture_and_exits_0() {
    let mut agent = Longshore::new(&fixtures().join("containers"));
    agent.start(&["--limit", "4kB", "-c", "gzip"]);
    let expected = fs::read(fixtures().join("containers.expected/web.log")).expect("read an expected output");
    agent.wait_for_lines("web", crate::harness::n_lines(&expected));
    agent.drain();
    assert_same("web", &agent.outputs("web"), &expected);
    assert!(agent.n_rotated("web") > 1, "the output was rotated");
}

/// As the README promises: what the operator took away is not written again.
#[test]
fn a_deleted_or_emptied_output_is_not_written_again() {
    let agent = Longshore::new(&fixtures().join("containers"));
    let output = |name: &str| agent.log_path().join(name).join(format!("{name}.log"));
    assert_eq!(agent.backfill(&["--progress", "never"]).status.code(), Some(0));
    fs::remove_file(output("web")).expect("remove an output");
    fs::write(output("cron"), "").expect("empty an output");
    let again = agent.backfill(&["--progress", "never"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    assert_same("a deleted output", &agent.outputs("web"), b"");
    assert_same("an emptied output", &agent.outputs("cron"), b"");
}
