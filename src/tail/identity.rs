//! What a file is, its bytes say: the first whole record, and the last bytes before an offset.
//! An inode proves nothing across a restart, because ext4 gives it out again at once.

use serde::{Deserialize, Serialize};

use crate::config::limits::PROOF_BYTES;
use crate::hash::hash;

/// A hash of some bytes, with how many they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint {
    pub bytes: u32,
    pub hash: u64,
}

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Fingerprint {
        let length = u32::try_from(bytes.len()).expect("only lines, of at most LINE_BYTES_MAX, are fingerprinted");
        Fingerprint { bytes: length, hash: hash(bytes) }
    }

    /// Whether it stands for a hole.
    pub fn is_of_nuls(self) -> bool {
        let bytes = self.bytes as usize;
        bytes <= PROOF_BYTES && self == Fingerprint::of(&[0; PROOF_BYTES][..bytes])
    }
}

/// The part of a line that proves it: Docker writes the nanosecond time last, so a suffix tells records apart
/// where a prefix of the same length is equal across generations.
pub fn proof(line: &[u8]) -> &[u8] {
    &line[line.len().saturating_sub(PROOF_BYTES)..]
}
