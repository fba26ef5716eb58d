//! The inside of a JSON string, many bytes at once: which kinds of byte it has, and its escapes.
//! Owns the choice of vectors, made where the program runs; knows nothing of Docker's fields.

mod narrow;
#[cfg(target_arch = "x86_64")]
mod wide;

use fearless_simd::Level;
#[cfg(target_arch = "x86_64")]
use fearless_simd::Simd;

pub const CONTROL: u8 = 1;
pub const QUOTE_OR_BACKSLASH: u8 = 2;
pub const HIGH: u8 = 0x80;

/// Letters behind a backslash, and what each stands for. Quotes, backslashes and slashes stand for themselves.
const SHORT_ESCAPES: [&[u8; 2]; 5] = [b"n\n", b"r\r", b"t\t", b"b\x08", b"f\x0c"];

/// The kinds of byte that occur in `text[..end]`. Looks at every byte, and has no branch on what it sees. `text` may go
/// on behind `end`: what is there may be read, and is not minded.
#[inline]
pub fn kinds(level: Level, text: &[u8], end: usize) -> u8 {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(simd) => simd.vectorize(
            #[inline(always)]
            || wide::kinds(simd, text, end),
        ),
        _ => narrow::kinds(&text[..end]),
    }
}

/// What escapes were resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unescaped {
    pub n_bytes: usize,
    /// How many `\ufffd` there were.
    pub n_replaced: usize,
}

/// Writes `text[..end]` to the beginning of `out`, its escapes resolved; `out` grows as needed, and what is behind has no
/// meaning. `text` may go on behind `end`. None: it isn't the inside of a string, or has surrogates, which are rare enough
/// for serde_json.
#[inline]
pub fn unescape(level: Level, text: &[u8], end: usize, out: &mut Vec<u8>) -> Option<Unescaped> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(simd) => simd.vectorize(
            #[inline(always)]
            || wide::unescape(simd, text, end, out),
        ),
        _ => narrow::unescape(text, end, out),
    }
}

fn hex4(digits: &[u8; 4]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | (*digit as char).to_digit(16)?))
}

#[cfg(test)]
#[path = "escapes_tests.rs"]
mod tests;
