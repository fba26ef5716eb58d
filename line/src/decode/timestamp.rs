//! A record's time, kept as text: what the engine wrote is what the operator gets, padded to nine digits.
//! Docker's own layout is checked by hand; every other RFC 3339 form goes through jiff. Asks no clock.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wide::u8x16;

/// Nanosecond UTC time in years 0001 to 9999, as `2026-11-25T16:09:50.123456789Z`. Ordered by time.
// Aligned, so that it never shares a vector with what stands before it, such as the tag of a `Result`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(align(16))]
pub struct Timestamp {
    // Digits within their calendar ranges: the first and the last 16 of the 30 bytes. A time is copied several times a
    // line; two vectors a copy, and none that reads what two stores wrote, which a processor has to wait for.
    head: [u8; VECTOR_BYTES],
    tail: [u8; VECTOR_BYTES],
}

const VECTOR_BYTES: usize = 16;
/// Where [`Timestamp::tail`] begins.
const TAIL: usize = Timestamp::BYTES - VECTOR_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    #[error("not an RFC 3339 time")]
    Syntax,
    #[error("no such time in the years 0001 to 9999")]
    Range,
}

const NS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// From 0000-03-01, where the 400-year cycle below begins, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
const DAYS_PER_ERA: i64 = 146_097;
const UNIX_SECONDS_MIN: i64 = -62_135_596_800;
const UNIX_SECONDS_MAX: i64 = 253_402_300_799;

/// Lowest and highest byte of each place; two equal ones are punctuation. Minutes and seconds need no other check.
const LOWEST: &[u8; Timestamp::BYTES] = b"0000-00-00T00:00:00.000000000Z";
const HIGHEST: &[u8; Timestamp::BYTES] = b"9999-19-39T29:59:59.999999999Z";
const LONG_ENOUGH: &str = "a time has 30 bytes";

impl Timestamp {
    pub const BYTES: usize = 30;

    /// Any RFC 3339 time, with an offset or `Z`; a leap second (`:60`) is refused, since Docker never writes one.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Timestamp, TimestampError> {
        match text.as_array() {
            Some(whole) if is_layout(whole) => checked(whole),
            _ => parse_shorter(text),
        }
    }

    /// As text: `2026-11-25T16:09:50.123456789Z`.
    pub fn bytes(&self) -> [u8; Timestamp::BYTES] {
        let mut bytes = *LOWEST;
        bytes[..VECTOR_BYTES].copy_from_slice(&self.head);
        bytes[TAIL..].copy_from_slice(&self.tail);
        bytes
    }

    /// The bytes again, without their detour.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[..TAIL]);
        out.extend_from_slice(&self.tail);
    }

    /// `bytes` are a time.
    #[inline]
    fn from_bytes(bytes: &[u8; Timestamp::BYTES]) -> Timestamp {
        let [head, tail] = halves(bytes);
        Timestamp { head, tail }
    }

    /// Nanoseconds since 1970; negative before.
    pub fn unix_ns(&self) -> i128 {
        i128::from(self.unix_seconds()) * NS_PER_SECOND + i128::from(self.subsecond_ns())
    }

    /// Whole seconds since 1970, rounded down; add [`Timestamp::subsecond_ns`].
    pub fn unix_seconds(&self) -> i64 {
        let (year, month, day) = (self.number(0..4), self.number(5..7), self.number(8..10));
        // Years from March, so that the leap day comes last (Howard Hinnant, days_from_civil).
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let day_of_year = (153 * month + 2) / 5 + day - 1;
        let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
        let days = era * DAYS_PER_ERA + year * 365 + year / 4 - year / 100 + day_of_year - EPOCH_DAYS;
        days * SECONDS_PER_DAY + self.number(11..13) * 3600 + self.number(14..16) * 60 + self.number(17..19)
    }

    /// 0 to 999,999,999.
    pub fn subsecond_ns(&self) -> u32 {
        self.number(20..29) as u32
    }

    pub fn from_unix_ns(unix_ns: i128) -> Result<Timestamp, TimestampError> {
        let seconds = i64::try_from(unix_ns.div_euclid(NS_PER_SECOND)).map_err(|_| TimestampError::Range)?;
        if !(UNIX_SECONDS_MIN..=UNIX_SECONDS_MAX).contains(&seconds) {
            return Err(TimestampError::Range);
        }
        let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let days = days + EPOCH_DAYS;
        let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year + i64::from(month >= 10);
        let month = if month < 10 { month + 3 } else { month - 9 };

        let mut bytes = *LOWEST;
        write_digits(&mut bytes[0..4], year);
        write_digits(&mut bytes[5..7], month);
        write_digits(&mut bytes[8..10], day);
        write_digits(&mut bytes[11..13], second / 3600);
        write_digits(&mut bytes[14..16], second / 60 % 60);
        write_digits(&mut bytes[17..19], second % 60);
        write_digits(&mut bytes[20..29], unix_ns.rem_euclid(NS_PER_SECOND) as i64);
        Ok(Timestamp::from_bytes(&bytes))
    }

    fn number(&self, place: std::ops::Range<usize>) -> i64 {
        self.bytes()[place].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
    }
}

/// One time of ten: Docker cuts the zeros at the end. What is no time comes here, too.
#[inline(never)]
fn parse_shorter(text: &[u8]) -> Result<Timestamp, TimestampError> {
    match pad(text) {
        Some(padded) if is_layout(&padded) => checked(&padded),
        _ => parse_other(text),
    }
}

/// Docker's layout with its cut zeros put back, or None: another layout.
fn pad(text: &[u8]) -> Option<[u8; Timestamp::BYTES]> {
    let (second, rest) = text.split_at_checked(19)?;
    let fraction = match rest {
        b"Z" => &[],
        [b'.', fraction @ .., b'Z'] if (1..9).contains(&fraction.len()) => fraction,
        _ => return None,
    };
    let mut padded = *LOWEST;
    padded[..19].copy_from_slice(second);
    padded[20..20 + fraction.len()].copy_from_slice(fraction);
    Some(padded)
}

/// Docker's layout, each place within its bounds: hours and dates are to be [checked].
#[inline]
fn is_layout(padded: &[u8; Timestamp::BYTES]) -> bool {
    // As vectors: whether a compiler makes such of a loop over the bytes depends on its level.
    let [bytes, lowest, highest] = [padded, LOWEST, HIGHEST].map(|bytes| halves(bytes).map(u8x16::new));
    let fits = |half: usize| bytes[half].simd_ge(lowest[half]) & bytes[half].simd_le(highest[half]);
    (fits(0) & fits(1)).to_bitmask() == 0xffff
}

/// `padded` is of the [layout](is_layout); is it a time? By reference: read where it stands, and copied once.
#[inline]
fn checked(padded: &[u8; Timestamp::BYTES]) -> Result<Timestamp, TimestampError> {
    let two = |place: usize| (padded[place] - b'0') * 10 + (padded[place + 1] - b'0');
    let (month, day) = (two(5), two(8));
    // Every month has a 28th: the lengths matter on few days only.
    let is_date = (1..=12).contains(&month) && (1..=28).contains(&day) || is_late_day(two(0), two(2), month, day);
    if is_date && two(11) < 24 && (two(0) | two(2)) != 0 {
        Ok(Timestamp::from_bytes(padded))
    } else {
        Err(TimestampError::Range)
    }
}

fn is_late_day(century: u8, year: u8, month: u8, day: u8) -> bool {
    let is_leap = if year == 0 { century } else { year }.is_multiple_of(4);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        _ => 28,
    };
    (1..=12).contains(&month) && (29..=days).contains(&day)
}

/// Offsets, lower case, a blank for the `T`: podman and people write these. And what is wrong with all others.
#[cold]
fn parse_other(text: &[u8]) -> Result<Timestamp, TimestampError> {
    // jiff takes more than RFC 3339 (weeks, years of six digits, zone names) and rounds second 60 to 59.
    let head = text.get(..19).ok_or(TimestampError::Syntax)?;
    if !is_rfc3339(head) || text.contains(&b'[') {
        return Err(TimestampError::Syntax);
    }
    if &head[17..] == b"60" {
        return Err(TimestampError::Range);
    }
    let time = std::str::from_utf8(text).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match time {
        Some(time) => Timestamp::from_unix_ns(time.as_nanosecond()),
        None if text.as_array().copied().or_else(|| pad(text)).is_some_and(|time| is_rfc3339(&time)) => {
            Err(TimestampError::Range)
        }
        None => Err(TimestampError::Syntax),
    }
}

/// As far as it goes: digits where digits belong, whatever they say.
fn is_rfc3339(text: &[u8]) -> bool {
    text.iter().zip(LOWEST).all(|(byte, model)| match model {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        punctuation => byte == punctuation,
    })
}

/// The first and the last bytes; they overlap.
#[inline]
fn halves(bytes: &[u8; Timestamp::BYTES]) -> [[u8; VECTOR_BYTES]; 2] {
    [*bytes.first_chunk().expect(LONG_ENOUGH), *bytes.last_chunk().expect(LONG_ENOUGH)]
}

fn text(bytes: &[u8; Timestamp::BYTES]) -> &str {
    std::str::from_utf8(bytes).expect("a time is ASCII")
}

fn write_digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.bytes()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.bytes()))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Timestamp, TimestampError> {
        Timestamp::parse(text.as_bytes())
    }
}

/// A string where people read it, nanoseconds (about ten bytes) in the state store.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(text(&self.bytes()))
        } else {
            serializer.serialize_i128(self.unix_ns())
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let time = if deserializer.is_human_readable() {
            Timestamp::parse(Cow::<str>::deserialize(deserializer)?.as_bytes())
        } else {
            Timestamp::from_unix_ns(i128::deserialize(deserializer)?)
        };
        time.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match Timestamp::parse(text.as_bytes()) {
            Ok(time) => time.to_string(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn docker_layout() {
        check("2026-11-25T16:09:50.123456789Z", "2026-11-25T16:09:50.123456789Z");
        check("2026-11-25T16:09:50.12345678Z", "2026-11-25T16:09:50.123456780Z");
        check("2026-11-25T16:09:50.1Z", "2026-11-25T16:09:50.100000000Z");
        check("2026-11-25T16:09:50Z", "2026-11-25T16:09:50.000000000Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z");
        check("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn calendar() {
        check("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000000Z");
        check("2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000000Z");
        for day in ["2026-02-29", "2100-02-29", "1900-02-29", "2026-04-31", "2026-01-32", "2026-02-30"] {
            check(&format!("{day}T00:00:00Z"), "Range");
        }
        for day in ["2026-00-01", "2026-13-01", "2026-01-00", "2026-13-31", "0000-01-01", "2026-99-99"] {
            check(&format!("{day}T00:00:00Z"), "Range");
        }
        for time in ["24:00:00", "00:60:00", "23:59:60", "99:00:00"] {
            check(&format!("2026-11-25T{time}Z"), "Range");
            check(&format!("2026-11-25T{time}.123456789Z"), "Range");
            check(&format!("2026-11-25 {time}Z"), "Range");
        }
    }

    #[test]
    fn other_layouts() {
        check("2026-11-25T16:09:50.5+02:00", "2026-11-25T14:09:50.500000000Z");
        check("2026-11-25t16:09:50z", "2026-11-25T16:09:50.000000000Z");
        check("2026-11-25 16:09:50Z", "2026-11-25T16:09:50.000000000Z");
        check("2026-11-25t23:59:60z", "Range");
        check("0001-01-01T00:00:00+01:00", "Range");
        for text in ["", "Z", "now", "2026-11-25", "2026-11-25T16:09:50", "2026-11-25T16:09:50.Z", "20261125T160950Z"] {
            check(text, "Syntax");
        }
        check("2026-11-25T16:09:50.1234567890Z", "Syntax");
        check("2026-11-25T16:09:50+01:00[Europe/Paris]", "Syntax");
        check("2026-11-25T16:09:5\u{0660}Z", "Syntax");
    }

    #[test]
    fn ends_of_the_range() {
        for text in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"] {
            let time = Timestamp::parse(text.as_bytes()).unwrap();
            assert_eq!(Timestamp::from_unix_ns(time.unix_ns()), Ok(time));
        }
        let outside =
            [i128::from(UNIX_SECONDS_MIN) * NS_PER_SECOND - 1, (i128::from(UNIX_SECONDS_MAX) + 1) * NS_PER_SECOND];
        for ns in [outside[0], outside[1], i128::MIN, i128::MAX] {
            assert_eq!(Timestamp::from_unix_ns(ns), Err(TimestampError::Range));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(seconds in UNIX_SECONDS_MIN..=253_402_200_000, ns in 0..NS_PER_SECOND, n_cut in 0u32..=9) {
            let divisor = 10i128.pow(n_cut);
            let unix_ns = i128::from(seconds) * NS_PER_SECOND + ns / divisor * divisor;
            let oracle = jiff::Timestamp::from_nanosecond(unix_ns).unwrap();
            let text = oracle.to_string();
            let time = Timestamp::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(time.unix_ns(), unix_ns);
            prop_assert_eq!(Timestamp::from_unix_ns(unix_ns), Ok(time));
            prop_assert_eq!(time.to_string(), format!("{oracle:.9}"));
            prop_assert_eq!(parse_other(text.as_bytes()), Ok(time));
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        }

        /// Digits that need not be a time: the hand-written ranges refuse what jiff refuses, and nothing else.
        #[test]
        fn refuses_what_jiff_refuses(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z",
        ) {
            let year_zero = text.starts_with("0000");
            let oracle = text.parse::<jiff::Timestamp>().ok().filter(|_| !year_zero).map(|time| time.as_nanosecond());
            prop_assert_eq!(Timestamp::parse(text.as_bytes()).ok().map(|time| time.unix_ns()), oracle);
        }

        #[test]
        fn order_is_time(a in any::<i64>(), b in any::<i64>()) {
            let time = |ns: i64| Timestamp::from_unix_ns(ns.into()).unwrap();
            prop_assert_eq!(time(a).cmp(&time(b)), a.cmp(&b));
        }
    }
}
