//! By what lines and heads of files are known again: XXH3, 64 bits (<https://xxhash.com>).

use twox_hash::XxHash3_64;

/// Kept in rows of the state store: it may never be another one.
pub fn hash(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the reference implementation's own test: no bytes, seed 0.
    #[test]
    fn it_is_xxh3() {
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
    }
}
