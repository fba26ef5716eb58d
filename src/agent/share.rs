//! Which agent of a backfill has which containers and outputs: an output has one writer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::agent::roster::read_facts;
use crate::config::Config;
use crate::discover::listing::{ContainerId, listed_ids};
use crate::ordered;
use crate::sys::Os;

/// Which containers and outputs an agent of a backfill takes: all that share an output go together.
#[derive(Clone, Debug)]
pub struct Share {
    pub ix: usize,
    /// The agent of a container id, or of a route.
    pub owners: Arc<HashMap<String, usize>>,
}

impl Share {
    /// A container that nobody planned for belongs to whoever has its output.
    pub(super) fn takes(&self, id: &str, route: &str) -> bool {
        self.owners.get(id).or_else(|| self.owners.get(route)).copied().unwrap_or(0) == self.ix
    }

    /// Whether the plan gives it to another one: its metadata need not be read to tell.
    pub(super) fn is_others(&self, id: &str) -> bool {
        self.owners.get(id).is_some_and(|owner| *owner != self.ix)
    }

    /// An output that nobody planned for belongs to the first one.
    pub(super) fn has(&self, route: &str) -> bool {
        self.owners.get(route).copied().unwrap_or(0) == self.ix
    }
}

/// Parts a backfill's containers among its agents: those that share an output, now or as is remembered, go together.
pub(super) fn plan<O: Os>(os: &O, config: &Config, remembered: &[(String, String)]) -> Vec<Share> {
    let root = &config.places.containers_dir;
    let ids: Vec<String> = listed_ids(os, root).unwrap_or_default().iter().map(ContainerId::to_string).collect();
    let mut groups = Groups::default();
    for (id, route) in remembered {
        groups.join(id, route);
    }
    for id in &ids {
        let (facts, _) = read_facts(os, &config.hostname, &config.needed, id, &root.join(id));
        groups.join(id, &config.path_template.route(&facts.metadata));
    }
    let n_agents = config.threads.clamp(1, ids.len().max(1));
    let owners = Arc::new(groups.deal(n_agents));
    (0..n_agents).map(|ix| Share { ix, owners: owners.clone() }).collect()
}

/// Names that belong together, by union of pairs.
#[derive(Default)]
struct Groups {
    leader: HashMap<String, String>,
}

impl Groups {
    fn find(&mut self, name: &str) -> String {
        let mut at = name.to_owned();
        while let Some(next) = self.leader.get(&at).filter(|next| **next != at) {
            at = next.clone();
        }
        self.leader.insert(name.to_owned(), at.clone());
        at
    }

    fn join(&mut self, one: &str, other: &str) {
        let (one, other) = (self.find(one), self.find(other));
        self.leader.insert(one, other);
    }

    /// Each name's agent, the groups dealt round.
    fn deal(mut self, n_agents: usize) -> HashMap<String, usize> {
        let names = ordered::set(self.leader.keys().cloned());
        let mut agents = HashMap::new();
        let mut next = 0;
        let mut dealt = HashMap::new();
        for name in names {
            let leader = self.find(&name);
            let agent = *agents.entry(leader).or_insert_with(|| {
                next += 1;
                (next - 1) % n_agents
            });
            dealt.insert(name, agent);
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_goes_to_whoever_has_its_output() {
        let mut groups = Groups::default();
        for (id, route) in [("a", "web/web.log"), ("b", "db/db.log"), ("c", "web/web.log"), ("c", "shop/shop.log")] {
            groups.join(id, route);
        }
        let owners = Arc::new(groups.deal(2));
        let shares: Vec<Share> = (0..2).map(|ix| Share { ix, owners: owners.clone() }).collect();
        let taker = |id: &str, route: &str| -> Vec<usize> {
            shares.iter().filter(|share| share.takes(id, route)).map(|share| share.ix).collect()
        };
        for (id, route) in [("a", "web/web.log"), ("b", "db/db.log"), ("c", "shop/shop.log")] {
            let has: Vec<usize> = shares.iter().filter(|share| share.has(route)).map(|share| share.ix).collect();
            assert_eq!(taker(id, route), has, "{id}");
            assert_eq!(taker("later", route), has, "a new container of {route}");
            assert!(shares.iter().all(|share| share.is_others(id) != share.has(route) && !share.is_others("later")));
        }
        assert_eq!(taker("a", "web/web.log"), taker("c", "shop/shop.log"));
        assert_ne!(taker("a", "web/web.log"), taker("b", "db/db.log"));
        assert_eq!(taker("later", "other/other.log"), [0]);
        assert!(shares[0].has("other/other.log") && !shares[1].has("other/other.log"));
    }
}
