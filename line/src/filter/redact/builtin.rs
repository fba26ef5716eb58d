//! What can be redacted by name. Each errs on the side of replacing too much: what was written can't be taken back.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

/// Their order is that of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Builtin {
    Email,
    Ipv4,
    Card,
    Bearer,
    AwsKey,
    PasswordPair,
}

/// The digits of a payment card.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| known(r"(?i-u)[a-z0-9._%+\x80-\xff-]+@[a-z0-9\x80-\xff-]+(?:\.[a-z0-9\x80-\xff-]+)+"));
static IPV4: LazyLock<Regex> = LazyLock::new(|| {
    let octet = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    known(&format!(r"(?-u)\b{octet}(?:\.{octet}){{3}}\b"))
});
static BEARER: LazyLock<Regex> = LazyLock::new(|| known(r"(?i-u)\bbearer[\s:=]+([a-z0-9._~+/-]+=*)"));
/// The names of keys, and the secret that goes with one.
static AWS_KEY: LazyLock<Regex> = LazyLock::new(|| {
    known(
        r#"(?-u)\b((?:AKIA|ASIA|AIDA|AROA|AIPA|ANPA|ANVA|AGPA|ABIA|ACCA)[A-Z0-9]{12,124})\b|(?i-u:aws_?secret_?(?:access_?)?key)["']?\s*[:=]\s*["']?([A-Za-z0-9/+=]{40,})"#,
    )
});
static PASSWORD_PAIR: LazyLock<Regex> = LazyLock::new(|| {
    let key =
        r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)";
    // Quoted within a quoted text, quoted, or up to the next blank; a quote that isn't closed reaches to the end.
    let value = r#"(?:\\"([^"\\]*)|"((?:[^"\\]|\\.)*)|'([^']*)|([^\s"',;&\\][^\s"',;&]*))"#;
    known(&format!(r#"(?i-u){key}\\?["']?\s*(?::=|=>|[:=])\s*{value}"#))
});

impl Builtin {
    pub const ALL: [Builtin; 6] =
        [Builtin::Email, Builtin::Ipv4, Builtin::Card, Builtin::Bearer, Builtin::AwsKey, Builtin::PasswordPair];

    pub fn name(self) -> &'static str {
        match self {
            Builtin::Email => "email",
            Builtin::Ipv4 => "ipv4",
            Builtin::Card => "card",
            Builtin::Bearer => "bearer",
            Builtin::AwsKey => "aws-key",
            Builtin::PasswordPair => "password-pair",
        }
    }

    pub(super) fn marker(self) -> &'static str {
        match self {
            Builtin::Email => "[redacted:email]",
            Builtin::Ipv4 => "[redacted:ipv4]",
            Builtin::Card => "[redacted:card]",
            Builtin::Bearer => "[redacted:bearer]",
            Builtin::AwsKey => "[redacted:aws-key]",
            Builtin::PasswordPair => "[redacted:password-pair]",
        }
    }

    pub(super) fn find(self, text: &[u8], take: &mut dyn FnMut(usize, usize)) {
        match self {
            Builtin::Email => whole(&EMAIL, text, take),
            Builtin::Ipv4 => whole(&IPV4, text, take),
            Builtin::Card => cards(text, take),
            Builtin::Bearer => groups(&BEARER, text, take),
            Builtin::AwsKey => groups(&AWS_KEY, text, take),
            Builtin::PasswordPair => groups(&PASSWORD_PAIR, text, take),
        }
    }
}

fn known(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of ours is one")
}

fn whole(regex: &Regex, text: &[u8], take: &mut dyn FnMut(usize, usize)) {
    regex.find_iter(text).for_each(|found| take(found.start(), found.end()));
}

/// Only what stands in a group: the word before it stays, so that a reader knows what was there.
fn groups(regex: &Regex, text: &[u8], take: &mut dyn FnMut(usize, usize)) {
    // Most lines have none, and a plain search is many times faster than one for groups.
    if !regex.is_match(text) {
        return;
    }
    for captures in regex.captures_iter(text) {
        if let Some(group) = innermost(&captures).filter(|group| !group.is_empty()) {
            take(group.start, group.end);
        }
    }
}

fn innermost(captures: &Captures<'_>) -> Option<Range<usize>> {
    captures.iter().skip(1).flatten().next().map(|group| group.range())
}

/// Card numbers: groups of digits with single blanks or dashes between them, 13 to 19 digits in all, that begin as the
/// numbers of the large networks do and whose check digit is right. A longer run of digits is something else.
fn cards(text: &[u8], take: &mut dyn FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(start) = next_group(text, at) {
        match longest_card(text, start) {
            Some(end) => {
                take(start, end);
                at = end;
            }
            None => at = end_of_digits(text, start),
        }
    }
}

/// Where the next group of digits begins.
fn next_group(text: &[u8], from: usize) -> Option<usize> {
    text[from..].iter().position(u8::is_ascii_digit).map(|at| from + at)
}

fn end_of_digits(text: &[u8], start: usize) -> usize {
    let n_digits = text[start..].iter().position(|byte| !byte.is_ascii_digit());
    n_digits.map_or(text.len(), |n_digits| start + n_digits)
}

/// The end of the longest card number that begins with the group at `start`.
fn longest_card(text: &[u8], start: usize) -> Option<usize> {
    if !matches!(text[start], b'2'..=b'6') {
        return None;
    }
    let mut digits = [0; *CARD_DIGITS.end()];
    let mut n_digits = 0;
    let mut longest = None;
    let mut at = start;
    loop {
        let end = end_of_digits(text, at);
        let group = &text[at..end];
        let room = digits.get_mut(n_digits..n_digits + group.len())?.iter_mut();
        room.zip(group).for_each(|(digit, byte)| *digit = byte - b'0');
        n_digits += group.len();
        if CARD_DIGITS.contains(&n_digits) && has_check_digit(&digits[..n_digits]) {
            longest = Some(end);
        }
        let goes_on = matches!(text.get(end), Some(b' ' | b'-')) && text.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !goes_on || n_digits + 1 > *CARD_DIGITS.end() {
            return longest;
        }
        at = end + 1;
        if n_digits + (end_of_digits(text, at) - at) > *CARD_DIGITS.end() {
            return longest;
        }
    }
}

/// Luhn: every second digit from the right counts twice, digits of a sum added.
fn has_check_digit(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(ix, digit)| u32::from(if ix % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}
