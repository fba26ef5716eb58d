//! Ordered maps and sets, filled one by one. `collect` sorts first, with a sort of its own for each type of key: 4 kB of
//! program each, where our lists are short, or in order already.

use std::collections::{BTreeMap, BTreeSet};

/// Of two values of one key the last one stays, as with `collect`.
pub fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(pairs);
    map
}

/// Of two equal items the first one stays.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_collect_does_it() {
        let pairs = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')];
        assert_eq!(map(pairs), pairs.into_iter().collect());
        assert_eq!(set(pairs), pairs.into_iter().collect());
        assert_eq!(map(pairs)[&3], 'c');
    }
}
