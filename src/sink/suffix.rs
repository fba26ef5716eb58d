//! How many of an output's last lines a source's last lines so far equal, when lines may be equal by the thousand.
//!
//! Two matches are told apart: the source so far ends with all of the output, and the source so far is, from its first
//! line on, what the output ends with. Both are found line by line, whatever repeats, in space for the output's lines.

/// The prime 2^61 - 1.
const MODULUS: u64 = (1 << 61) - 1;
/// Any number below the modulus that nobody chooses lines by.
const BASE: u64 = 0x1b3a_55c7_90d2_7e41;

pub struct Suffix {
    lines: Vec<u64>,
    /// Knuth, Morris and Pratt: of the output's first n lines, how many last ones are its first ones as well.
    borders: Vec<u32>,
    /// The output's first so many lines are the source's last ones.
    n_matched: usize,
    /// Hash of the source so far, and of the output's last lines, equally many.
    source: u64,
    output: u64,
    n_source: usize,
    power: u64,
}

impl Suffix {
    /// `lines`: the hashes of the output's last lines.
    pub fn new(lines: Vec<u64>) -> Suffix {
        let mut borders = vec![0u32; lines.len()];
        let mut n = 0;
        for ix in 1..lines.len() {
            while n > 0 && lines[ix] != lines[n] {
                n = borders[n - 1] as usize;
            }
            n += usize::from(lines[ix] == lines[n]);
            borders[ix] = n as u32;
        }
        Suffix { lines, borders, n_matched: 0, source: 0, output: 0, n_source: 0, power: 1 }
    }

    /// Takes the source's next line. Gives the number of the output's last lines that it and those before it are.
    pub fn observe(&mut self, line: u64) -> Option<usize> {
        let whole = self.ends_with_all(line);
        let begun = self.is_all_an_end(line);
        whole.or(begun)
    }

    fn ends_with_all(&mut self, line: u64) -> Option<usize> {
        let n_lines = self.lines.len();
        while self.n_matched > 0 && (self.n_matched == n_lines || self.lines[self.n_matched] != line) {
            self.n_matched = self.borders[self.n_matched - 1] as usize;
        }
        self.n_matched += usize::from(self.lines.get(self.n_matched) == Some(&line));
        (n_lines > 0 && self.n_matched == n_lines).then_some(n_lines)
    }

    fn is_all_an_end(&mut self, line: u64) -> Option<usize> {
        let added = *self.lines.get(self.lines.len().checked_sub(self.n_source + 1)?)?;
        self.source = sum(product(self.source, BASE), line % MODULUS);
        self.output = sum(product(added % MODULUS, self.power), self.output);
        self.power = product(self.power, BASE);
        self.n_source += 1;
        (self.source == self.output).then_some(self.n_source)
    }
}

fn product(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(MODULUS)) as u64
}

fn sum(a: u64, b: u64) -> u64 {
    (a + b) % MODULUS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The word of Thue and Morse and its complement have one hash modulo any power of two up to here, whatever the base.
    #[test]
    fn lines_of_two_kinds_in_an_order_that_deceives_hashes_are_told_apart() {
        let word = |first: u32| (0..2_048_u32).map(move |ix| u64::from((first + ix.count_ones()) % 2));
        let mut suffix = Suffix::new(word(0).collect());
        assert_eq!(word(1).map(|line| suffix.observe(line)).last(), Some(None));
        let mut suffix = Suffix::new(word(0).collect());
        assert_eq!(word(0).map(|line| suffix.observe(line)).last(), Some(Some(2_048)));
    }

    proptest! {
        /// Held against comparing every end with every beginning.
        #[test]
        fn finds_what_comparing_all_would(
            output in proptest::collection::vec(0u64..3, 0..12), source in proptest::collection::vec(0u64..3, 0..40),
        ) {
            let mut suffix = Suffix::new(output.clone());
            for n in 1..=source.len() {
                let so_far = &source[..n];
                let whole = (!output.is_empty() && so_far.ends_with(&output)).then_some(output.len());
                let begun = output.ends_with(so_far).then_some(n);
                prop_assert_eq!(suffix.observe(source[n - 1]), whole.or(begun));
            }
        }
    }
}
