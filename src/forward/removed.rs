//! Rows of sinks that the configuration doesn't name any more. A table that is commented out for an afternoon must not
//! cost a sink its place, so they go a week after the first start without it, or when somebody says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::checkpoint::codec::Change;
use crate::config::limits::ROW_ABSENT_MAX;
use crate::forward::rows::spool_name;
use crate::ordered;

const PREFIX: &[u8] = b"sink/";
/// Nanoseconds since the Unix epoch at which a start first missed the sink.
const ABSENT_SINCE: &str = "absent-since";

type Pair = (Vec<u8>, Vec<u8>);

/// What a start does about a sink that has rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is configured again.
    Back,
    /// It isn't, for so many nanoseconds.
    Waits(i64),
    /// It wasn't for too long.
    Goes,
}

/// The names of all sinks that have rows.
pub fn names(pairs: &[Pair]) -> BTreeSet<String> {
    ordered::set(pairs.iter().filter_map(|(key, _)| name_of(key)))
}

fn name_of(key: &[u8]) -> Option<String> {
    let rest = key.strip_prefix(PREFIX)?;
    let name = rest.split(|byte| *byte == b'/').next()?;
    String::from_utf8(name.to_vec()).ok()
}

/// The changes that leave nothing of a sink.
pub fn forget(pairs: &[Pair], sink: &str) -> Vec<Change> {
    pairs.iter().filter(|(key, _)| name_of(key).as_deref() == Some(sink)).map(|(key, _)| (key.clone(), None)).collect()
}

/// The files of a sink's copies of deleted logs, as its rows name them.
pub fn spool_files(pairs: &[Pair], state_dir: &Path, sink: &str) -> Vec<PathBuf> {
    let prefix = format!("sink/{sink}/spool/");
    let number =
        |(key, _): &Pair| std::str::from_utf8(key.strip_prefix(prefix.as_bytes())?).ok()?.get(..20)?.parse().ok();
    let numbers: BTreeSet<u64> = ordered::set(pairs.iter().filter_map(number));
    numbers.into_iter().map(|number| state_dir.join("spool").join(sink).join(spool_name(number))).collect()
}

/// What becomes of each sink that isn't configured, or wasn't at the last start; and what changes by it.
pub fn fates(pairs: &[Pair], configured: &BTreeSet<&str>, now_ns: i64) -> BTreeMap<String, (Fate, Vec<Change>)> {
    let mut fates = BTreeMap::new();
    for sink in names(pairs) {
        let key = format!("sink/{sink}/{ABSENT_SINCE}").into_bytes();
        let stored = pairs.iter().find(|(found, _)| *found == key).map(|(_, value)| value);
        let since = stored.and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
        let fate = match (configured.contains(sink.as_str()), since) {
            (true, None) if stored.is_none() => continue,
            (true, _) => (Fate::Back, vec![(key, None)]),
            (false, None) => (Fate::Waits(0), vec![(key, Some(now_ns.to_string().into_bytes()))]),
            (false, Some(since)) if now_ns.saturating_sub(since) > ROW_ABSENT_MAX.as_nanos() as i64 => {
                (Fate::Goes, forget(pairs, &sink))
            }
            (false, Some(since)) => (Fate::Waits(now_ns.saturating_sub(since)), Vec::new()),
        };
        fates.insert(sink, fate);
    }
    fates
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: i64 = ROW_ABSENT_MAX.as_nanos() as i64;

    fn apply(pairs: &mut Vec<Pair>, changes: Vec<Change>) {
        for (key, value) in changes {
            pairs.retain(|(known, _)| *known != key);
            pairs.extend(value.map(|value| (key, value)));
        }
    }

    #[test]
    fn a_removed_sink_waits_a_week_and_one_that_comes_back_goes_on() {
        let key = |key: &str| (key.as_bytes().to_vec(), b"x".to_vec());
        let mut pairs = vec![
            key("container/aa/0000"),
            key("sink/loki/container/aa/0000"),
            key("sink/loki/spool/00000000000000000012/0000"),
            key("sink/lok/first-listing"),
        ];
        assert_eq!(names(&pairs), BTreeSet::from(["lok".to_owned(), "loki".to_owned()]));
        let start = |pairs: &mut Vec<Pair>, configured: &[&str], now_ns| {
            let fates = fates(pairs, &configured.iter().copied().collect(), now_ns);
            fates.into_iter().for_each(|(_, (_, changes))| apply(pairs, changes.clone()));
        };
        start(&mut pairs, &["loki", "lok"], 0);
        assert_eq!(pairs.len(), 4);
        start(&mut pairs, &["lok"], 5);
        let fate = |pairs: &[Pair], now_ns| fates(pairs, &BTreeSet::from(["lok"]), now_ns).remove("loki").unwrap().0;
        assert_eq!(fate(&pairs, 5 + WEEK), Fate::Waits(WEEK));
        assert_eq!(fate(&pairs, 6 + WEEK), Fate::Goes);
        start(&mut pairs, &["loki", "lok"], 6 + WEEK);
        assert_eq!(pairs.len(), 4, "it is back, and nothing is counted any more");
        let files = spool_files(&pairs, Path::new("/s"), "loki");
        assert_eq!(files, [Path::new("/s/spool/loki/00000000000000000012")]);
        start(&mut pairs, &["lok"], 7 + WEEK);
        start(&mut pairs, &["lok"], 8 + 2 * WEEK);
        let left: Vec<&[u8]> = pairs.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(left, [b"container/aa/0000".as_slice(), b"sink/lok/first-listing"]);
    }
}
