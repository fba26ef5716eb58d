use super::*;
use proptest::prelude::*;

fn redaction(typed: &[&str]) -> Redaction {
    Redaction::new(typed.iter().map(|typed| typed.parse().unwrap()).collect()).unwrap()
}

fn redacted(typed: &[&str], text: &str) -> String {
    let mut counts = Redacted::default();
    String::from_utf8(redaction(typed).apply(text.as_bytes(), &mut counts).into_owned()).unwrap()
}

/// Each pair: a text, and what is left of it.
fn check(name: &str, pairs: &[(&str, &str)]) {
    for (text, expected) in pairs {
        let marker = format!("[redacted:{name}]");
        assert_eq!(redacted(&[name], text), expected.replace("***", &marker), "{name}: {text}");
    }
}

#[test]
fn emails() {
    check(
        "email",
        &[
            ("from bob.o'neil+x@mail.example.com.", "from bob.o'***."),
            ("mailto:a@b.co,c_d@e-f.org", "mailto:***,***"),
            ("<jürgen@münchen.de>", "<***>"),
            ("user=a%b@x.y.z ok", "user=*** ok"),
            ("@handle a@ @b.c a@b", "@handle a@ @b.c a@b"),
        ],
    );
}

#[test]
fn addresses() {
    check(
        "ipv4",
        &[
            ("10.0.0.1 - 255.255.255.255:443", "*** - ***:443"),
            ("peer=192.168.1.20.", "peer=***."),
            ("256.1.1.1 1.2.3 v1.2.3.4x", "256.1.1.1 1.2.3 v1.2.3.4x"),
        ],
    );
}

#[test]
fn cards_have_a_check_digit() {
    check(
        "card",
        &[
            ("4111111111111111", "***"),
            ("pan 4111 1111 1111 1111 123 exp", "pan *** 123 exp"),
            ("5500-0055-5555-5559;378282246310005", "***;***"),
            ("order 12 4012888888881881", "order 12 ***"),
            ("at 1764072000123456789 ns", "at 1764072000123456789 ns"),
            ("4111111111111112", "4111111111111112"),
            ("94111111111111111", "94111111111111111"),
            ("411111111111111100000000", "411111111111111100000000"),
            ("4444444444444444", "4444444444444444"),
            ("2024-01-02 03:04:05", "2024-01-02 03:04:05"),
        ],
    );
}

#[test]
fn tokens_and_keys() {
    check(
        "bearer",
        &[
            ("Authorization: Bearer abc.DEF-1_2~/+==, x", "Authorization: Bearer ***, x"),
            ("BEARER=tok", "BEARER=***"),
            ("forbearer x bearer", "forbearer x bearer"),
        ],
    );
    check(
        "aws-key",
        &[
            ("key AKIAIOSFODNN7EXAMPLE ok", "key *** ok"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = ***"),
            ("AKIA xAKIAIOSFODNN7EXAMPLE", "AKIA xAKIAIOSFODNN7EXAMPLE"),
        ],
    );
}

#[test]
fn pairs_keep_their_key() {
    check(
        "password-pair",
        &[
            ("user=a password=hunter2&x=1", "user=a password=***&x=1"),
            (r#"{"passwd": "a b\"c", "n": 1}"#, r#"{"passwd": "***", "n": 1}"#),
            (r#"{\"password\":\"x y\",\"n\":1}"#, r#"{\"password\":\"***\",\"n\":1}"#),
            ("PGPASSWORD='a b' psql", "PGPASSWORD='***' psql"),
            ("api_key: abc, token => t; secret := s", "api_key: ***, token => ***; secret := ***"),
            ("password reset for a", "password reset for a"),
            ("password=", "password="),
        ],
    );
}

#[test]
fn patterns_of_ones_own_and_their_order() {
    assert_eq!(redacted(&[r"id-\d+"], "id-1 id-x id-22"), "[redacted] id-x [redacted]");
    assert_eq!(redacted(&["email", "e"], "me@x.de e"), "[r[redacted]dact[redacted]d:[redacted]mail] [redacted]");
    let mut counts = Redacted::default();
    redaction(&["ipv4", "x", "y"]).apply(b"1.1.1.1 x y x", &mut counts);
    assert_eq!(counts, [0, 1, 0, 0, 0, 0, 3]);
}

#[test]
fn names_are_not_misspelt_in_silence() {
    for (typed, expected) in [
        ("emails", "did you mean email?"),
        ("Email", "did you mean email?"),
        ("aws_key", "did you mean aws-key?"),
        ("cards", "did you mean card?"),
        ("a*", "matches the empty text"),
        ("(", "no regular expression"),
        ("", "empty"),
    ] {
        let error = typed.parse::<Redactor>().unwrap_err();
        assert!(error.starts_with(expected), "{typed}: {error}");
    }
    assert!(Redaction::new(vec!["x".parse().unwrap(); 33]).is_err());
}

#[test]
fn it_is_stored_as_typed() {
    let redaction = redaction(&["card", r"\d+x"]);
    let stored = serde_json::to_string(&redaction).unwrap();
    assert_eq!(stored, r#"["card","\\d+x"]"#);
    assert_eq!(serde_json::from_str::<Redaction>(&stored).unwrap(), redaction);
    assert_eq!(postcard::from_bytes::<Redaction>(&postcard::to_stdvec(&redaction).unwrap()).unwrap(), redaction);
}

fn all() -> Redaction {
    redaction(&Builtin::ALL.map(Builtin::name))
}

/// 16 digits that end in the right one.
fn card(digits: [u8; 14]) -> String {
    let body: Vec<u8> = std::iter::once(4).chain(digits).collect();
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        body.iter().rev().enumerate().map(|(ix, d)| u32::from(if ix % 2 == 0 { doubled(*d) } else { *d })).sum();
    body.iter().map(|digit| char::from(b'0' + digit)).chain([char::from(b'0' + ((10 - sum % 10) % 10) as u8)]).collect()
}

proptest! {
    #[test]
    fn what_is_planted_goes_and_its_surroundings_stay(
        before in "[A-Z ,;]{0,20}", after in "[A-Z ,;]{0,20}",
        octets in any::<[u8; 4]>(), digits in proptest::array::uniform14(0u8..10), user in "[a-z][a-z0-9.]{0,10}",
    ) {
        let [a, b, c, d] = octets;
        for (name, planted) in [
            ("ipv4", format!("{a}.{b}.{c}.{d}")),
            ("card", card(digits)),
            ("email", format!("{user}@example.org")),
        ] {
            let text = format!("{before} {planted} {after}");
            prop_assert_eq!(redacted(&[name], &text), format!("{before} [redacted:{name}] {after}"));
        }
    }

    #[test]
    fn a_second_pass_changes_nothing(text in r"(?s)[ -~\n]{0,60}((password|token)[=:] ?|bearer |1\.2\.3\.4|a@b\.c|4111 1111 1111 1111|[ -~]{0,9}){0,6}") {
        let once = all().apply(text.as_bytes(), &mut Redacted::default()).into_owned();
        let twice = all().apply(&once, &mut Redacted::default()).into_owned();
        prop_assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
    }

    #[test]
    fn any_bytes_are_taken_and_what_does_not_match_is_borrowed(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut counts = Redacted::default();
        let out = all().apply(&text, &mut counts);
        prop_assert_eq!(counts.iter().sum::<u64>() == 0, matches!(out, Cow::Borrowed(_)));
        prop_assert!(Redaction::default().apply(&text, &mut counts).as_ref() == text);
    }
}
