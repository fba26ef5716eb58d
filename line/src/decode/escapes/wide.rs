//! 64 bytes at a time, for processors that take bytes out of a vector in one instruction: AVX-512 with VBMI2.
//! At lesser levels the same code was slower than `narrow`: a fifth with AVX2 on access lines, by four with SSE2.

use fearless_simd::{Simd, prelude::*, u8x16, u8x64};

use super::{CONTROL, HIGH, QUOTE_OR_BACKSLASH, SHORT_ESCAPES, Unescaped, hex4};

/// What one bit mask tells of.
const BLOCK_BYTES: usize = 64;

/// [`super::kinds`].
#[inline(always)]
pub fn kinds<S: Simd>(simd: S, text: &[u8], end: usize) -> u8 {
    let mut seen = Seen { lowest: u8x64::splat(simd, u8::MAX), special: lanes(simd, 0), any: u8x64::splat(simd, 0) };
    let mut start = 0;
    while start + BLOCK_BYTES <= end {
        seen.add(Block::at(text, start, end).bytes(simd));
        start += BLOCK_BYTES;
    }
    if start < end {
        let block = Block::at(text, start, end);
        let blank = u8x64::splat(simd, b' ');
        seen.add(lanes(simd, block.within()).select(block.bytes(simd), blank));
    }
    let flag = |is_seen: bool, kind: u8| if is_seen { kind } else { 0 };
    flag(seen.lowest.simd_lt(0x20).any_true(), CONTROL)
        | flag(seen.special.any_true(), QUOTE_OR_BACKSLASH)
        | flag(seen.any.simd_ge(HIGH).any_true(), HIGH)
}

/// Of each lane.
struct Seen<S: Simd> {
    lowest: u8x64<S>,
    special: <u8x64<S> as SimdBase<S>>::Mask,
    /// All of them or-ed.
    any: u8x64<S>,
}

impl<S: Simd> Seen<S> {
    #[inline(always)]
    fn add(&mut self, bytes: u8x64<S>) {
        self.lowest = self.lowest.min(bytes);
        self.special |= bytes.simd_eq(b'"') | bytes.simd_eq(b'\\');
        self.any |= bytes;
    }
}

/// 64 bytes of a text, of which the first `n_bytes` are before its end.
struct Block {
    bytes: [u8; BLOCK_BYTES],
    n_bytes: usize,
}

impl Block {
    /// From `start` on, which is before `end`.
    #[inline(always)]
    fn at(text: &[u8], start: usize, end: usize) -> Block {
        let n_bytes = BLOCK_BYTES.min(end - start);
        let bytes = match text[start..].first_chunk() {
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [b' '; BLOCK_BYTES];
                bytes[..n_bytes].copy_from_slice(&text[start..end]);
                bytes
            }
        };
        Block { bytes, n_bytes }
    }

    #[inline(always)]
    fn bytes<S: Simd>(&self, simd: S) -> u8x64<S> {
        u8x64::load_array_ref(simd, &self.bytes)
    }

    /// A bit a byte.
    #[inline(always)]
    fn within(&self) -> u64 {
        u64::MAX >> (BLOCK_BYTES - self.n_bytes)
    }
}

#[inline(always)]
fn lanes<S: Simd>(simd: S, bits: u64) -> <u8x64<S> as SimdBase<S>>::Mask {
    SimdMask::from_bitmask(simd, bits)
}

/// [`super::unescape`].
#[inline(always)]
pub fn unescape<S: Simd>(simd: S, text: &[u8], end: usize, out: &mut Vec<u8>) -> Option<Unescaped> {
    // Every block is written as a whole, and what is too much overwritten by the next one.
    if out.len() < end + BLOCK_BYTES {
        out.resize(end + BLOCK_BYTES, 0);
    }
    let letters = Letters::new(simd);
    let (mut from, mut to, mut n_replaced) = (0, 0, 0);
    while from < end {
        let block = Block::at(text, from, end);
        let bytes = block.bytes(simd);
        let within = block.within();
        let mask = |byte: u8| bytes.simd_eq(byte).to_bitmask();
        let (quotes, backslashes) = (mask(b'"') & within, mask(b'\\') & within);
        let escapes = escape_starts(backslashes);
        let escaped = escapes << 1;
        let mut n_taken = block.n_bytes;
        // The last byte begins an escape: the next block begins with it, so none begins within one.
        if escapes >> (n_taken - 1) != 0 {
            n_taken -= 1;
            if from + n_taken + 1 == end {
                return None; // It would take the quote that ends the text.
            }
        }
        if quotes & !escaped != 0 {
            return None;
        }
        let (is_letter, meanings) = letters.look_up(bytes);
        let mut resolved = lanes(simd, escaped & is_letter).select(meanings, bytes);
        let mut kept = !escapes;
        let mut longer = escaped & within & !(is_letter | quotes | backslashes | mask(b'/'));
        if longer != 0 {
            let codes = Codes::find(simd, bytes, longer, within);
            resolved = lanes(simd, codes.starts << 3).select(codes.characters, resolved);
            kept &= !(codes.starts | codes.starts << 1 | codes.starts << 2 | codes.starts << 4);
            longer &= !codes.starts;
        }
        if longer != 0 {
            n_taken = longer.trailing_zeros() as usize - 1;
        }
        kept &= !u64::MAX.checked_shl(n_taken as u32).unwrap_or(0);
        // There is room: no escape is shorter than what it stands for, so `to` is never beyond `from`.
        resolved.compress(lanes(simd, kept)).store_array(out[to..].first_chunk_mut()?);
        to += kept.count_ones() as usize;
        from += n_taken;
        if longer != 0 {
            if text[from + 1] != b'u' {
                return None;
            }
            let code = hex4(text[from + 2..end].first_chunk()?)?;
            n_replaced += usize::from(code == 0xfffd);
            to += char::from_u32(code)?.encode_utf8(&mut out[to..]).len();
            from += 6;
        }
    }
    Some(Unescaped { n_bytes: to, n_replaced })
}

/// Where escapes begin. The first byte is in none that began before.
#[inline(always)]
fn escape_starts(backslashes: u64) -> u64 {
    // In a run of backslashes every second one begins an escape. Adding the run's first bit to it carries to the bit
    // behind the run, whatever its length (simdjson, find_escaped_branchless).
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let follows = backslashes << 1;
    let odd_starts = backslashes & !EVEN & !follows;
    let carried = odd_starts.wrapping_add(backslashes);
    let escaped = (EVEN ^ (carried << 1)) & follows;
    backslashes & !escaped
}

/// Escapes `\u0000` to `\u007f`: of json-file logs nearly all, for Docker writes `<`, `>`, `&` and control characters so.
struct Codes<S: Simd> {
    /// Where their `u`s are.
    starts: u64,
    /// In place of the first digit that counts, the character.
    characters: u8x64<S>,
}

impl<S: Simd> Codes<S> {
    /// Of the escapes whose letters are at `letters`, those that end within the block.
    #[inline(always)]
    fn find(simd: S, bytes: u8x64<S>, letters: u64, within: u64) -> Codes<S> {
        let mask = |lanes: <u8x64<S> as SimdBase<S>>::Mask| lanes.to_bitmask() & within;
        let is_high = (bytes | 0x20).simd_ge(b'a');
        let digits = (bytes & 15) + is_high.select(u8x64::splat(simd, 9), u8x64::splat(simd, 0));
        let zeros = mask(bytes.simd_eq(b'0'));
        let below_8 = mask((bytes & !7).simd_eq(b'0'));
        let hex = mask((bytes - b'0').simd_lt(10)) | mask(((bytes | 0x20) - b'a').simd_lt(6));
        let starts = letters & mask(bytes.simd_eq(b'u')) & zeros >> 1 & zeros >> 2 & below_8 >> 3 & hex >> 4;
        let next_digits = digits.slide::<1>(u8x64::splat(simd, 0));
        Codes { starts, characters: digits << 4 | next_digits }
    }
}

/// The letters that stand for a control character behind a backslash. They differ in bits 1 to 4: tables of 16.
struct Letters<S: Simd> {
    letters: u8x64<S>,
    meanings: u8x64<S>,
}

impl<S: Simd> Letters<S> {
    #[inline(always)]
    fn new(simd: S) -> Letters<S> {
        let table = |table: [u8; 16]| u8x64::block_splat(u8x16::load_array(simd, table));
        Letters { letters: table(LETTERS.0), meanings: table(LETTERS.1) }
    }

    /// Which bytes are such letters, and what each is then.
    #[inline(always)]
    fn look_up(&self, bytes: u8x64<S>) -> (u64, u8x64<S>) {
        let row = (bytes >> 1) & 15;
        let is_letter = self.letters.swizzle_dyn_within_blocks(row).simd_eq(bytes).to_bitmask();
        (is_letter, self.meanings.swizzle_dyn_within_blocks(row))
    }
}

const LETTERS: ([u8; 16], [u8; 16]) = {
    // A row without a letter has one of another row: NUL is of row 0, and 0xff of row 15.
    let (mut letters, mut meanings) = ([0; 16], [0; 16]);
    letters[0] = 0xff;
    let mut ix = 0;
    while ix < SHORT_ESCAPES.len() {
        let [letter, meaning] = *SHORT_ESCAPES[ix];
        let row = (letter >> 1 & 15) as usize;
        (letters[row], meanings[row]) = (letter, meaning);
        ix += 1;
    }
    (letters, meanings)
};
