//! 16 bytes at a time, with what every processor has, and from one escape to the next.

use wide::u8x16;

use super::{CONTROL, HIGH, QUOTE_OR_BACKSLASH, SHORT_ESCAPES, Unescaped, hex4};

/// Which kinds of byte occur. Looks at every byte, and has no branch on what it sees.
#[inline]
pub fn kinds(text: &[u8]) -> u8 {
    let mut seen = Seen { lowest: u8x16::MAX, special: u8x16::ZERO, any: u8x16::ZERO };
    // Four vectors a turn: the compiler is not asked to unroll loops.
    let (blocks, rest) = text.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        let (vectors, _) = block.as_chunks::<LANES>();
        seen.add(&vectors[0]);
        seen.add(&vectors[1]);
        seen.add(&vectors[2]);
        seen.add(&vectors[3]);
    }
    rest.as_chunks::<LANES>().0.iter().for_each(|vector| seen.add(vector));
    if let Some(last) = text.last_chunk::<LANES>() {
        seen.add(last); // overlaps: seeing a byte twice does no harm
    } else {
        let mut padded = [b' '; LANES];
        padded[..text.len()].copy_from_slice(text);
        seen.add(&padded);
    }
    let flag = |lanes: u8x16, kind: u8| if lanes.to_bitmask() == 0 { 0 } else { kind };
    let control = seen.lowest.simd_le(u8x16::splat(0x1f));
    flag(control, CONTROL) | flag(seen.special, QUOTE_OR_BACKSLASH) | flag(seen.any, HIGH)
}

const LANES: usize = 16;

/// Of each lane.
struct Seen {
    lowest: u8x16,
    special: u8x16,
    /// All of them or-ed.
    any: u8x16,
}

impl Seen {
    #[inline(always)]
    fn add(&mut self, bytes: &[u8; LANES]) {
        let bytes = u8x16::new(*bytes);
        self.lowest = self.lowest.min(bytes);
        self.special |= bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
        self.any |= bytes;
    }
}

/// What is copied at once, also when fewer bytes are wanted: what is too much is overwritten by what comes next.
const COPY_BYTES: usize = 16;
/// Bytes of a bit mask.
const BLOCK_BYTES: usize = 64;
/// A block with what one copy, or the rest of an escape, may take beyond it.
const WINDOW_BYTES: usize = BLOCK_BYTES + COPY_BYTES;

/// [`super::unescape`]: a block at a time. Where its escapes begin is known before the first is resolved, so that none waits
/// for the one before it, and in arrays of a fixed size no access has to be checked.
pub fn unescape(text: &[u8], end: usize, out: &mut Vec<u8>) -> Option<Unescaped> {
    out.clear();
    out.reserve(end);
    let mut n_replaced = 0;
    let mut is_escaped = false;
    // Bytes of the block that belong to the last escape of the one before it.
    let mut n_taken = 0;
    let mut start = 0;
    while start < end {
        let n_bytes = BLOCK_BYTES.min(end - start);
        let mut window = [b' '; WINDOW_BYTES];
        match text[start..].first_chunk() {
            Some(bytes) => window = *bytes,
            None => window[..text.len() - start].copy_from_slice(&text[start..]),
        }
        let (mut escapes, has_raw_quote) = Special::find(&window, n_bytes).escapes(&mut is_escaped);
        // The last byte's escape would take the quote that ends the text.
        let is_cut = start + n_bytes == end && escapes >> (n_bytes - 1) != 0;
        if has_raw_quote || is_cut {
            return None;
        }
        // `window[..from]` is in `block[..to]`.
        let mut block = [0; WINDOW_BYTES];
        let (mut from, mut to) = (n_taken, 0);
        while escapes != 0 {
            let at = escapes.trailing_zeros() as usize;
            escapes &= escapes - 1;
            copy(&window, from, at, &mut block, to);
            to += at - from;
            let code = window[(at & MASK) + 1];
            from = at + 1; // A quote stands for itself, and begins what is copied next.
            if matches!(code, b'"' | b'\\' | b'/') {
                continue;
            }
            let short = MEANINGS[usize::from(code)];
            if short != 0 {
                block[to & MASK] = short;
                to += 1;
                from = at + 2;
            } else if code == b'u' {
                let code = hex4(text[start + at + 2..end].first_chunk()?)?;
                n_replaced += usize::from(code == 0xfffd);
                out.extend_from_slice(&block[..to]);
                to = 0;
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                from = at + 6;
            } else {
                return None;
            }
        }
        copy(&window, from, n_bytes, &mut block, to);
        to += n_bytes.saturating_sub(from);
        n_taken = from.saturating_sub(n_bytes);
        out.extend_from_slice(&block[..to]);
        start += BLOCK_BYTES;
    }
    Some(Unescaped { n_bytes: out.len(), n_replaced })
}

/// Of a place in a block.
const MASK: usize = BLOCK_BYTES - 1;

/// Copies `window[from..end]` to `block[to..]`, in pieces of a fixed size. Nothing when `from` is beyond `end`.
#[inline(always)]
fn copy(window: &[u8; WINDOW_BYTES], mut from: usize, end: usize, block: &mut [u8; WINDOW_BYTES], mut to: usize) {
    while from < end {
        let piece: [u8; COPY_BYTES] = *window[from & MASK..].first_chunk().expect("a window is longer than a block");
        *block[to & MASK..].first_chunk_mut().expect("a window is longer than a block") = piece;
        (from, to) = (from + COPY_BYTES, to + COPY_BYTES);
    }
}

/// Places of quotes and backslashes in a block: a bit a byte.
struct Special {
    quotes: u64,
    backslashes: u64,
}

impl Special {
    /// In the first `n_bytes`.
    #[inline(always)]
    fn find(window: &[u8; WINDOW_BYTES], n_bytes: usize) -> Special {
        let (mut quotes, mut backslashes) = (0, 0);
        for (ix, bytes) in window.as_chunks::<16>().0.iter().take(BLOCK_BYTES / 16).enumerate() {
            let bytes = u8x16::new(*bytes);
            quotes |= u64::from(bytes.simd_eq(u8x16::splat(b'"')).to_bitmask()) << (16 * ix);
            backslashes |= u64::from(bytes.simd_eq(u8x16::splat(b'\\')).to_bitmask()) << (16 * ix);
        }
        let kept = u64::MAX >> (BLOCK_BYTES - n_bytes);
        Special { quotes: quotes & kept, backslashes: backslashes & kept }
    }

    /// Where escapes begin, and whether there is a quote that none of them holds. `is_escaped`: the first byte is the
    /// second of an escape; afterwards, whether the next block's is.
    #[inline(always)]
    fn escapes(&self, is_escaped: &mut bool) -> (u64, bool) {
        // In a run of backslashes every second one begins an escape. Adding the run's first bit to it carries to the
        // bit behind the run, whatever its length (simdjson, find_escaped_branchless).
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let escaped_first = u64::from(*is_escaped);
        let backslashes = self.backslashes & !escaped_first;
        let follows = backslashes << 1 | escaped_first;
        let odd_starts = backslashes & !EVEN & !follows;
        let (carried, overflowed) = odd_starts.overflowing_add(backslashes);
        let escaped = (EVEN ^ (carried << 1)) & follows;
        *is_escaped = overflowed;
        (backslashes & !escaped, self.quotes & !escaped != 0)
    }
}

/// What a letter behind a backslash stands for; 0: nothing, or more than it.
const MEANINGS: [u8; 256] = {
    let mut table = [0; 256];
    let mut ix = 0;
    while ix < SHORT_ESCAPES.len() {
        let [letter, meaning] = *SHORT_ESCAPES[ix];
        table[letter as usize] = meaning;
        ix += 1;
    }
    table
};
