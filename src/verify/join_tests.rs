use super::*;
use crate::format::{Metadata, Template};

const TIME: &str = "2026-11-25T16:09:50.123456789Z";
const LATER: &str = "2026-11-25T16:09:51.123456789Z";

fn shape(max_line_bytes: u64) -> Shape {
    let formatter = Formatter::text(&Template::parse("{log}").unwrap(), &Metadata::default());
    Shape { formatter, max_line_bytes, since_ns: None, filter: Default::default(), redaction: Default::default() }
}

/// Each word is an entry: stream, time, text; a text of digits is so many bytes.
fn joined(entries: &[(Stream, &str, &str)]) -> Vec<Rc<Message>> {
    let mut joiner = Joiner::new(Joining::Messages { keep_lines: false });
    let mut messages = Vec::new();
    for (ix, (stream, time, text)) in entries.iter().enumerate() {
        let text = match text.parse() {
            Ok(length) => "x".repeat(length),
            Err(_) => (*text).to_owned(),
        };
        let (raw_bytes, time) = (text.len(), time.parse().unwrap());
        let entry = Entry { stream: *stream, time, text, raw_bytes, attrs: None, range: 0..0 };
        let spot = Spot { generation: 0, start: ix as u64, end: ix as u64 + 1 };
        joiner.push(entry, b"", spot, &mut |message| messages.push(message));
    }
    joiner.finish(&mut |message| messages.push(message));
    messages
}

fn lengths(messages: &[Rc<Message>]) -> Vec<usize> {
    messages.iter().map(|message| message.text.len()).collect()
}

#[test]
fn full_pieces_of_one_time_are_one_message() {
    use Stream::*;
    let messages = joined(&[(Stdout, TIME, "16384"), (Stderr, TIME, "b\n"), (Stdout, TIME, "\n")]);
    assert_eq!(lengths(&messages), [1, 16_384]);
    assert_eq!((messages[1].first().start, messages[1].last().start), (0, 2));
    assert!(messages[1].ended);
}

#[test]
fn a_short_piece_or_another_time_ends_a_message() {
    use Stream::*;
    let messages =
        joined(&[(Stdout, TIME, "abc"), (Stdout, TIME, "abc"), (Stdout, TIME, "16384"), (Stdout, LATER, "d\n")]);
    assert_eq!(lengths(&messages), [3, 3, 16_384, 1]);
    let ended: Vec<bool> = messages.iter().map(|message| message.ended).collect();
    assert_eq!(ended, [true, true, false, true], "no byte ended the third one");
}

#[test]
fn what_is_too_long_goes_on_in_further_records() {
    let messages = joined(&[(Stream::Stdout, TIME, "16384"), (Stream::Stdout, TIME, "100")]);
    let lines: Vec<usize> = messages[0].lines(&shape(16_400)).iter().map(Vec::len).collect();
    assert_eq!(lines, [16_401, 85]);
    assert_eq!(parts("aüüb".as_bytes(), 5).concat(), "aüüb".as_bytes());
    assert_eq!(parts("aüüb".as_bytes(), 5)[0], "aüü".as_bytes());
    assert_eq!(parts(b"", 5), [b""]);
}

#[test]
fn a_decision_after_any_piece_gives_the_parts() {
    let messages = joined(&[(Stream::Stdout, TIME, "16384"), (Stream::Stdout, TIME, "\n")]);
    let lines = |pieces| messages[0].lines_of(&shape(1 << 20), pieces).len();
    assert_eq!((lines(0..1), lines(1..2), lines(0..2)), (1, 0, 1), "the late newline is no line");
}

#[test]
fn a_text_with_newlines_is_several_lines() {
    let messages = joined(&[(Stream::Stdout, TIME, "a\nb\n")]);
    assert_eq!(messages[0].lines(&shape(1 << 20)), [b"a\n", b"b\n"]);
}
