use proptest::prelude::*;

use super::*;

/// Both ways, where the machine has both.
fn levels() -> [Level; 2] {
    [Level::baseline(), Level::new()]
}

/// What every level makes of it, with the rest of a line behind it and the text of the line before in `out`.
fn unescaped(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut results = Vec::new();
    for level in levels() {
        for behind in [&b""[..], b"\"\\n\x01\xff", &[b'\\'; 200], b"003c", b"03c", b"3c", b"c"] {
            let line = [text, behind].concat();
            let mut out = b"of the line before".to_vec();
            let unescaped = unescape(level, &line, text.len(), &mut out);
            results.push((level, unescaped.map(|it| (out[..it.n_bytes].to_vec(), it.n_replaced))));
        }
    }
    let (_, best) = results.last().expect("each machine has a level").clone();
    for (level, result) in results {
        assert_eq!(result, best, "{level:?}: {}", text.escape_ascii());
    }
    best
}

/// By the definition, escape by escape.
fn expected(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut n_replaced) = (Vec::new(), 0);
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'"' {
            return None;
        } else if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&code, after) = rest.split_first()?;
        rest = after;
        match code {
            b'"' | b'\\' | b'/' => out.push(code),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (digits, after) = rest.split_at_checked(4)?;
                rest = after;
                let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
                let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                n_replaced += usize::from(character == '\u{fffd}');
                out.extend(character.to_string().bytes());
            }
            _ => return None,
        }
    }
    Some((out, n_replaced))
}

#[test]
fn kinds_sees_every_place_and_nothing_behind() {
    for level in levels() {
        for length in 0..140 {
            for (byte, kind) in [(0x1f, CONTROL), (b'"', QUOTE_OR_BACKSLASH), (b'\\', QUOTE_OR_BACKSLASH), (0x80, HIGH)]
            {
                let mut text = vec![b' '; length];
                text.extend_from_slice(b"\"\\\x00\xff");
                assert_eq!(kinds(level, &text, length), 0, "{level:?}");
                for at in 0..length {
                    text[at] = byte;
                    assert_eq!(kinds(level, &text, length), kind, "{level:?}: at {at} of {length}");
                    text[at] = b' ';
                }
            }
        }
    }
}

/// Alone and in runs, at each place of two blocks, with every letter.
#[test]
fn escapes_at_every_place() {
    let letters = (0..=u8::MAX).map(|letter| vec![b'\\', letter]);
    let codes = [
        "003c", "0000", "007F", "0080", "00a0", "0100", "20AC", "fffd", "d83d", "12g4", "+123", "00+1", "000G", "003",
        "00", "0", "",
    ];
    let codes = codes.map(|code| format!("\\u{code}").into_bytes());
    let others: [&[u8]; 5] = [br"\\\", br"\\\n\\\", br#"\"\""#, br"\u001b[0m\u001b", br"\\u001b\u\u001b"];
    for escape in letters.chain(codes).chain(others.map(<[u8]>::to_vec)) {
        for n_before in (0..10).chain(54..74).chain(120..132) {
            for n_behind in [0, 1, 30, 80] {
                let text = [vec![b'a'; n_before], escape.clone(), vec![b'z'; n_behind]].concat();
                assert_eq!(unescaped(&text), expected(&text), "{}", text.escape_ascii());
            }
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-z ]{0,40}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "\\\"", "\\\\", "\\n", "\\t", "\\u003c", "\\u001B", "\\u00e9", "\\u20ac", "\\ufffd", "ž", "日本", "\\",
            "\""
        ])
        .prop_map(|part| part.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn unescaped_is_what_is_expected(text in texts()) {
        prop_assert_eq!(unescaped(&text), expected(&text));
    }
}
