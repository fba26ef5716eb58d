use std::io::Read;

use super::*;
use crate::sim::os::{Errno, SimOs};

const WEB: &str = "/out/web.log";

fn disk(files: &[(&str, &[u8])]) -> SimOs {
    let os = SimOs::new(1);
    os.engine_mkdir("/out").unwrap();
    for (name, bytes) in files {
        os.engine_write_whole(format!("/out/{name}"), bytes).unwrap();
        os.advance(Duration::from_secs(3600));
    }
    os
}

/// Notes of another log-path: none is written here.
fn unnoted() -> Pruned {
    Pruned::new(Path::new("/elsewhere"))
}

fn keep(form: Form) -> Retention {
    Retention { form, mode: 0o640, files_max: None, age_max: None }
}

fn tidy(os: &SimOs, retention: Retention) -> Tidied {
    Chore::Output(WEB.into(), retention).run(os, &unnoted())
}

fn names(os: &SimOs) -> Vec<String> {
    os.engine_list("/out").unwrap().iter().map(|name| name.display().to_string()).collect()
}

/// Compressed, pruned by number, by age and in total, and failed.
fn counts(tidied: &Tidied) -> [u64; 5] {
    let Tidied { compressed, pruned_files, pruned_age, pruned_total, failed } = tidied;
    [*compressed, *pruned_files, *pruned_age, *pruned_total, failed.len() as u64]
}

#[test]
fn segments_are_compressed_whole() {
    let text: Vec<u8> = (0..2 * STEP_BYTES + 1000).map(|ix| (ix * ix / 7 % 251) as u8).collect();
    for (form, suffix) in [(Form::Gzip, "gz"), (Form::Zstd, "zst")] {
        let os = disk(&[("web.log.1", &text), ("web.log.2", b"two\n"), ("web.log", b"now\n")]);
        assert_eq!(counts(&tidy(&os, keep(form))), [2, 0, 0, 0, 0]);
        assert_eq!(names(&os), ["web.log".to_owned(), format!("web.log.1.{suffix}"), format!("web.log.2.{suffix}")]);
        let stored = os.engine_read(format!("{WEB}.1.{suffix}")).unwrap();
        let mut found = Vec::new();
        match form {
            Form::Gzip => flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut found).unwrap(),
            _ => zstd::Decoder::new(&stored[..]).unwrap().read_to_end(&mut found).unwrap(),
        };
        assert!(found == text);
        assert_eq!(os.engine_read(WEB).unwrap(), b"now\n");
        assert_eq!(counts(&tidy(&os, keep(form))), [0; 5], "nothing is left to do");
    }
}

#[test]
fn plain_segments_may_stay_plain() {
    let os = disk(&[("web.log.1", b"one\n"), ("web.log", b"now\n")]);
    assert_eq!(counts(&tidy(&os, keep(Form::Plain))), [0; 5]);
    assert_eq!(names(&os), ["web.log", "web.log.1"]);
}

#[test]
fn what_a_compression_left_half_done_is_cleaned() {
    let os = disk(&[
        ("web.log.1", b"one\n"),
        ("web.log.1.gz", b"whole"),
        ("web.log.2", b"two\n"),
        ("web.log.2.gz.longshore-tmp", b"half"),
        ("web.log", b"now\n"),
    ]);
    assert_eq!(counts(&tidy(&os, keep(Form::Plain))), [0; 5]);
    assert_eq!(names(&os), ["web.log", "web.log.1.gz", "web.log.2"]);
}

#[test]
fn a_compression_that_fails_leaves_the_plain_segment() {
    let os = disk(&[("web.log.1", b"one\n"), ("web.log", b"now\n")]);
    os.set_capacity("/out", Some(8));
    let tidied = tidy(&os, keep(Form::Gzip));
    assert_eq!((counts(&tidied), &tidied.failed[0].0), ([0, 0, 0, 0, 1], &PathBuf::from("/out/web.log.1")));
    assert_eq!(names(&os), ["web.log", "web.log.1"]);
    os.set_capacity("/out", None);
    assert_eq!(counts(&tidy(&os, keep(Form::Gzip))), [1, 0, 0, 0, 0]);
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let files: [(&str, &[u8]); 4] =
        [("web.log.9", b"9\n"), ("web.log.10.gz", b"10"), ("web.log.11", b"11\n"), ("web.log", b"now\n")];
    let told = |files_max, form| {
        let os = disk(&files);
        let tidied = tidy(&os, Retention { files_max: Some(files_max), ..keep(form) });
        (counts(&tidied), names(&os))
    };
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(told(2, Form::Plain), ([0, 1, 0, 0, 0], named(&["web.log", "web.log.10.gz", "web.log.11"])));
    assert_eq!(told(3, Form::Plain).0, [0; 5]);
    assert_eq!(told(9, Form::Plain).0, [0; 5]);
    assert_eq!(told(0, Form::Gzip), ([0, 3, 0, 0, 0], named(&["web.log"])), "what was pruned is no failure");
}

#[test]
fn what_is_too_old_goes() {
    let files: [(&str, &[u8]); 4] =
        [("web.log.1", b"1\n"), ("web.log.2", b"2\n"), ("web.log.3", b"3\n"), ("web.log", b"now\n")];
    let os = disk(&files); // An hour apart; the newest is an hour old.
    let aged = |hours: f64| Retention { age_max: Some(Duration::from_secs_f64(3600.0 * hours)), ..keep(Form::Plain) };
    assert_eq!(counts(&tidy(&os, aged(4.0))), [0; 5], "just as old is not older");
    assert_eq!(counts(&tidy(&os, aged(2.5))), [0, 0, 2, 0, 0]);
    assert_eq!(names(&os), ["web.log", "web.log.3"]);
    let os = disk(&files);
    let file = os.engine_open("/out/web.log.1").unwrap();
    os.engine_append(&file, b"touched\n");
    assert_eq!(counts(&tidy(&os, aged(2.5))), [0; 5], "nothing goes before what is older by number");
}

/// Numbers that no file has before the first one kept are nobody's.
#[test]
fn what_goes_is_noted_up_to_what_is_kept() {
    let ten: &[u8] = b"123456789\n";
    let files = ["web.log.1", "web.log.2", "web.log.5", "web.log.6", "web.log"].map(|name| (name, ten));
    let noted = |chore: Chore| {
        let os = disk(&files);
        os.engine_mkdir("/out/.longshore").unwrap();
        chore.run(&os, &Pruned::new(Path::new("/out")));
        crate::sink::pruned::load(&os, Path::new("/out")).unwrap()["web.log"]
    };
    let plain = || keep(Form::Plain);
    let output = |retention| Chore::Output(WEB.into(), retention);
    assert_eq!(noted(output(plain())), 0);
    assert_eq!(noted(output(Retention { files_max: Some(2), ..plain() })), 4);
    assert_eq!(noted(output(Retention { files_max: Some(0), ..plain() })), 6);
    assert_eq!(noted(output(Retention { age_max: Some(Duration::from_secs(3600 * 7 / 2)), ..plain() })), 4);
    assert_eq!(noted(Chore::All { outputs: vec![(WEB.into(), plain())], total_max: Some(30) }), 4);
}

fn all(os: &SimOs, current: &[&str], total_max: Option<u64>) -> Tidied {
    let outputs = current.iter().map(|current| (PathBuf::from(format!("/out/{current}")), keep(Form::Plain)));
    Chore::All { outputs: outputs.collect(), total_max }.run(os, &unnoted())
}

#[test]
fn of_all_outputs_the_largest_gives_its_oldest_first() {
    let ten: &[u8] = b"123456789\n";
    let os = disk(&[
        ("a.log.1", ten),
        ("a.log.2", ten),
        ("a.log.3", ten),
        ("a.log", b"now\n"),
        ("b.log.1", ten),
        ("b.log.2", ten),
        ("b.log", b"now\n"),
    ]);
    let outputs = ["a.log", "b.log"];
    assert_eq!(counts(&all(&os, &outputs, None)), [0; 5]);
    assert_eq!(counts(&all(&os, &outputs, Some(58))), [0; 5], "just as much is not too much");
    assert_eq!(counts(&all(&os, &outputs, Some(57))), [0, 0, 0, 1, 0]);
    assert_eq!(names(&os), ["a.log", "a.log.2", "a.log.3", "b.log", "b.log.1", "b.log.2"]);
    assert_eq!(counts(&all(&os, &outputs, Some(28))), [0, 0, 0, 2, 0]);
    assert_eq!(names(&os), ["a.log", "a.log.3", "b.log", "b.log.2"]);
    assert_eq!(counts(&all(&os, &outputs, Some(0))), [0, 0, 0, 2, 0]);
    assert_eq!(names(&os), ["a.log", "b.log"], "current files stay");
}

#[test]
fn all_outputs_are_tidied_each_for_itself() {
    let os = disk(&[("a.log.1", b"1\n"), ("a.log.1.gz", b"whole"), ("b.log.2.gz.longshore-tmp", b"half")]);
    assert_eq!(counts(&all(&os, &["a.log", "b.log", "none.log"], None)), [0; 5]);
    assert_eq!(names(&os), ["a.log.1.gz"]);
    os.engine_rmdir("/out").unwrap();
    assert_eq!(counts(&all(&os, &["a.log"], Some(0))), [0; 5], "no directory, nothing to tidy");
}

#[test]
fn what_can_t_be_removed_is_told_and_not_counted() {
    let os = disk(&[("web.log.1", b"1\n"), ("web.log.2", b"2\n"), ("web.log", b"now\n")]);
    os.set_failing("/out/web.log.1", Some(Errno::Access));
    let tidied = tidy(&os, Retention { files_max: Some(1), ..keep(Form::Plain) });
    assert_eq!((counts(&tidied), &tidied.failed[0].0), ([0, 0, 0, 0, 1], &PathBuf::from("/out/web.log.1")));
    let tidied = all(&os, &["web.log"], Some(5));
    assert_eq!(counts(&tidied), [0, 0, 0, 1, 1], "the next one went");
    assert_eq!(names(&os), ["web.log", "web.log.1"]);
    os.set_failing("/out/web.log.1", None);
    os.set_failing("/out", Some(Errno::Io));
    assert_eq!(counts(&tidy(&os, keep(Form::Gzip))), [0, 0, 0, 0, 1], "a directory that can't be listed");
}
