//! What a line is: streams, long lines, terminals, any byte, attributes.
//! Every test names its containers after itself and reads no others.

use crate::docker::engine;
use crate::harness::{Longshore, assert_same, texts};
use crate::scripts;

#[test]
fn two_streams_come_out_in_the_order_of_the_source() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "streams"]);
    engine.run(
        "streams",
        &[],
        "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo \"out $i\"; echo \"err $i\" >&2; [ $((i % 50)) = 0 ] && usleep 2000; done; :",
    );
    engine.wait_well("streams");
    agent.wait_for_lines("streams", 2000);
    agent.drain();

    let output = agent.outputs("streams");
    // Which of two pipes is read first is dockerd's choice, so the order is the file's ...
    assert_same("both streams", &output, &engine.logs_with_timestamps("streams"));
    // ... and of each stream alone it is the program's.
    let texts = texts(&output);
    for stream in ["out", "err"] {
        let found: Vec<&[u8]> =
            texts.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(stream.as_bytes())).collect();
        let wanted: String = (1..=1000).map(|number| format!("{stream} {number}\n")).collect();
        assert_same(stream, &found.concat(), wanted.as_bytes());
    }
    engine.rm("streams");
}

#[test]
fn docker_logs_prints_what_our_file_holds() {
    let Some(engine) = engine() else { return };
    // Every byte but the newline, alone and within a line: escapes, controls and invalid UTF-8.
    let mut bytes = Vec::new();
    for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
        bytes.extend_from_slice(&[byte, b'\n']);
        bytes.extend_from_slice(&[b'<', byte, b'"', byte, byte, b'\\', b'\n']);
    }
    for text in [
        "",
        "{\"log\":\"no record\\n\"}",
        "\u{2028}\u{2029}\u{feff}\u{fffd}",
        "tab\there",
        "日本語 🚢",
        "crlf\r",
        "   ",
    ] {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
    }
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "logs-twin"]);
    engine.run_cat("logs-twin", &[], &bytes);
    engine.wait_well("logs-twin");
    let expected = engine.logs_with_timestamps("logs-twin");
    agent.wait_for_lines("logs-twin", crate::harness::n_lines(&expected));
    agent.drain();
    let output = agent.outputs("logs-twin");
    assert_same("docker logs --timestamps", &output, &expected);
    assert_same("the program's bytes", &texts(&output), &as_dockerd_stores(&bytes));
    engine.rm("logs-twin");
}

#[test]
fn long_lines_cut_inside_a_character_come_out_as_one() {
    let Some(engine) = engine() else { return };
    let mut bytes = Vec::new();
    // Characters of two, three and four bytes, shifted so that every cut of the 40 KB lines hits one
    // at a different byte; then lengths around a whole number of pieces.
    for character in ["é", "€", "🚢"] {
        for shift in 0..=character.len() {
            bytes.extend_from_slice("x".repeat(shift).as_bytes());
            bytes.extend_from_slice(character.repeat(40_000 / character.len()).as_bytes());
            bytes.push(b'\n');
        }
    }
    for length in [16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 200_000] {
        bytes.extend_from_slice(&vec![b'y'; length]);
        bytes.push(b'\n');
        bytes.extend_from_slice(b"a short one\n");
    }
    let expected = as_dockerd_stores(&bytes);
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "long"]);
    engine.run_cat("long", &[], &bytes);
    engine.wait_well("long");
    agent.wait_for_lines("long", crate::harness::n_lines(&expected));
    agent.drain();
    assert_same("long lines", &texts(&agent.outputs("long")), &expected);
    engine.rm("long");
}

#[test]
fn long_lines_on_both_streams_do_not_mix() {
    let Some(engine) = engine() else { return };
    let script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); \
                    { head -c 40000 /dev/zero | cat - /ctl/out; } & { head -c 50000 /dev/zero | cat - /ctl/err; } >&2 & wait; \
                  done";
    std::fs::write(engine.ctl("long-two").join("out"), b"out\n").expect("write a control file");
    std::fs::write(engine.ctl("long-two").join("err"), b"err\n").expect("write a control file");
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "long-two"]);
    engine.run("long-two", &[], script);
    engine.wait_well("long-two");
    agent.wait_for_lines("long-two", 40);
    agent.drain();
    let texts = texts(&agent.outputs("long-two"));
    let (mut n_out, mut n_err) = (0, 0);
    for line in texts.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"out\n") {
            Some(zeros) => {
                n_out += 1;
                assert_same("a line of stdout", zeros, &[0; 40_000]);
            }
            None => {
                n_err += 1;
                assert_same("a line of stderr", line, &[&[0; 50_000], b"err\n".as_slice()].concat());
            }
        }
    }
    assert_eq!((n_out, n_err), (20, 20));
    engine.rm("long-two");
}

#[test]
fn an_end_without_newline_is_a_line() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "no-newline"]);
    engine.run("no-newline", &[], "echo one; printf two");
    engine.wait_well("no-newline");
    agent.wait_for_lines("no-newline", 2);
    // The same file goes on, and the unfinished line is not continued by another run's.
    engine.start_again("no-newline");
    engine.wait_well("no-newline");
    agent.wait_for_lines("no-newline", 4);
    agent.drain();
    assert_same("two runs", &texts(&agent.outputs("no-newline")), b"one\ntwo\none\ntwo\n");
    engine.rm("no-newline");
}

#[test]
fn a_terminal_ends_its_lines_with_cr() {
    let Some(engine) = engine() else { return };
    let mut agent = Longshore::new(&engine.containers_dir());
    agent.start(&["-n", "tty"]);
    engine.run("tty", &["--tty"], "seq 1 2000; echo to stderr >&2");
    engine.wait_well("tty");
    agent.wait_for_lines("tty", 2001);
    agent.drain();
    let mut expected: String = (1..=2000).map(|number| format!("{number}\r\n")).collect();
    expected.push_str("to stderr\r\n");
    assert_same("a terminal", &texts(&agent.outputs("tty")), expected.as_bytes());
    engine.rm("tty");
}

#[test]
fn attributes_of_the_log_driver_do_no_harm_and_are_tags() {
    let Some(engine) = engine() else { return };
    let options = [
        "--label=tier=front",
        "--label=log=a label of this name",
        "--env=STAGE=test <&>",
        "--log-opt=labels=tier,log",
        "--log-opt=env=STAGE",
        "--log-opt=tag={{.Name}}/{{.ID}}",
    ];
    let id = engine.run("attrs", &options, &scripts::paced("attrs", 1, 500, 50, 1000));
    engine.wait_well("attrs");
    let source = std::fs::read(engine.log_file(&id)).expect("read the source");
    assert!(source.starts_with(b"{\"log\":\"attrs 1 ") && memchr::memmem::find(&source, b"\"attrs\":{").is_some());
    let expected = scripts::lines("attrs", 1, 500);

    let agent = Longshore::new(&engine.containers_dir());
    let done = agent.backfill(&["-n", "attrs"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_same("the default template", &texts(&agent.outputs("attrs")), &expected);

    let agent = Longshore::new(&engine.containers_dir());
    let done = agent.backfill(&[
        "--label",
        "tier=front",
        "-n",
        "attrs",
        "--template",
        "{time} {label.tier}|{env.STAGE}|{stream}|{log}",
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let tagged: Vec<u8> = expected
        .split_inclusive(|byte| *byte == b'\n')
        .flat_map(|line| [b"front|test <&>|stdout|", line].concat())
        .collect();
    assert_same("tags", &texts(&agent.outputs("attrs")), &tagged);

    let agent = Longshore::new(&engine.containers_dir());
    let done = agent.backfill(&["-n", "attrs", "--format", "docker"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_same("--format docker", &agent.outputs("attrs"), &source);
    engine.rm("attrs");
}

/// What dockerd makes of a program's bytes: it cuts lines into pieces of 16,384 bytes, and in each piece
/// stores one U+FFFD for every byte that is not valid UTF-8 there. What joins the pieces can't undo that.
fn as_dockerd_stores(bytes: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        for piece in line.chunks(16_384) {
            for chunk in piece.utf8_chunks() {
                stored.extend_from_slice(chunk.valid().as_bytes());
                for _ in chunk.invalid() {
                    stored.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
    stored
}
