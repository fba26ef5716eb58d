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
    let mut joiner = Joiner::new(&[shape(1 << 20)]);
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

/// The records must be the same as if the line were held whole, under each of the lengths.
#[test]
fn a_line_without_an_end_comes_in_messages_of_whole_records() {
    const LENGTHS: [u64; 4] = [16_384, 16_385, 500_001, 2 << 20];
    let docker = Shape { formatter: Formatter::Docker, ..shape(16_384) };
    let texts = LENGTHS.map(shape).to_vec();
    for shapes in [texts.clone(), [texts, vec![docker.clone()]].concat()] {
        let mut joiner = Joiner::new(&shapes);
        let (mut whole, mut messages, mut n_pieces, mut held) = (Vec::new(), Vec::<Rc<Message>>::new(), 0, 0);
        for end in ["", "", "its end\n"] {
            let n = if end.is_empty() { 700 } else { 1 };
            for _ in 0..n {
                let text = match end {
                    "" => format!("{n_pieces:04}{}", ["ü", "€", "𝄞"][n_pieces % 3].repeat(8190)),
                    end => end.to_owned(),
                };
                whole.extend_from_slice(text.trim_end().as_bytes());
                let raw_bytes = text.len();
                let stream = Stream::Stdout;
                let line = n_pieces.to_string();
                let entry =
                    Entry { stream, time: TIME.parse().unwrap(), text, raw_bytes, attrs: None, range: 0..line.len() };
                let spot = Spot { generation: 0, start: n_pieces as u64, end: n_pieces as u64 + 1 };
                joiner.push(entry, line.as_bytes(), spot, &mut |message| messages.push(message));
                n_pieces += 1;
                held = held.max(joiner.open.iter().map(|message| message.text.len()).sum());
            }
        }
        assert!(joiner.open.is_empty() && messages.len() > 3, "{} messages", messages.len());
        assert!(held < TEXT_BYTES_MAX + (2 << 20) + (2 << 15), "{held} bytes held");
        for shape in &shapes {
            let found: Vec<Vec<u8>> = messages.iter().flat_map(|message| message.lines(shape)).collect();
            if shape.formatter == Formatter::Docker {
                let lines: Vec<Vec<u8>> = (0..n_pieces).map(|n| format!("{n}\n").into_bytes()).collect();
                assert_eq!(found, lines);
                continue;
            }
            let expected: Vec<Vec<u8>> =
                parts(&whole, shape.max_line_bytes as usize).iter().map(|part| [part, &b"\n"[..]].concat()).collect();
            assert!(found == expected, "{}", shape.max_line_bytes);
        }
        for (one, next) in messages.iter().zip(&messages[1..]) {
            assert!(one.first() < next.first() && next.first() <= one.last() && one.last() < next.last());
        }
        assert!(messages.iter().all(|message| message.ended));
        assert_eq!(messages.iter().filter(|message| message.headless).count(), 1);
    }
}
