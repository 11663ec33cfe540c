//! Decides which replica gets a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;

use super::matching::CompiledMatches;
use super::table::{Backend, Canary, RoutingTable};
use super::upstream::{InFlight, ReplicaUpstream};

/// The table in effect, and the replicas that it names.
#[derive(Default)]
pub(super) struct Routes(Mutex<State>);

#[derive(Default)]
struct State {
    table: RoutingTable,
    /// Those of the table's canary.
    conditions: CompiledMatches,
    /// By port. Includes replicas that get no more requests, but haven't answered the last ones.
    upstreams: BTreeMap<u16, Arc<ReplicaUpstream>>,
    split: Split,
    /// Counts requests, to use the replicas in turn.
    turn: usize,
}

impl Routes {
    /// Puts a table into effect. Ignores one with an older fencing token than that of the present one.
    pub(super) fn apply(&self, table: RoutingTable) {
        let mut state = self.lock();
        if table.fence < state.table.fence || table == state.table {
            return;
        }
        // A new share is counted from its beginning.
        state.split = Split::default();
        state.conditions =
            CompiledMatches::new(table.canary.as_ref().map_or(&[], |canary| canary.conditions.as_slice()));
        state.table = table;
        state.forget_answered();
    }

    pub(super) fn table(&self) -> RoutingTable {
        self.lock().table.clone()
    }

    /// The replicas of the release that gets a request with these headers, in the order in which they are to be tried; empty if no
    /// release serves. They count as busy from now on, so that a replica that isn't busy after a new table was applied
    /// gets no request by the table before it.
    pub(super) fn next(&self, headers: &HeaderMap) -> Vec<InFlight> {
        let mut state = self.lock();
        let State { table, split, conditions, .. } = &mut *state;
        let backend = match (&table.serving, &table.canary) {
            // These don't count towards the share.
            (_, Some(Canary { backend, .. })) if conditions.is_any_met(headers) => Some(backend),
            (_, Some(Canary { weight, backend, .. })) if split.is_for_canary(*weight) => Some(backend),
            (serving, _) => serving.as_ref(),
        };
        let Some(Backend { ports, .. }) = backend.cloned() else { return Vec::new() };
        state.turn = state.turn.wrapping_add(1);
        let first = state.turn % ports.len().max(1);
        let in_turn = ports[first..].iter().chain(&ports[..first]);
        in_turn
            .map(|port| {
                InFlight::begin(state.upstreams.entry(*port).or_insert_with(|| Arc::new(ReplicaUpstream::new(*port))))
            })
            .collect()
    }

    /// How many requests each replica hasn't answered, by port.
    pub(super) fn in_flight(&self) -> BTreeMap<u16, usize> {
        self.lock().upstreams.iter().map(|(port, upstream)| (*port, upstream.in_flight())).collect()
    }

    /// Closes connections that haven't been used for a while, and forgets replicas that have answered their last request.
    pub(super) fn tidy(&self) {
        let mut state = self.lock();
        state.forget_answered();
        state.upstreams.values().for_each(|upstream| upstream.close_idle());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_answered(&mut self) {
        let named = self.table.ports();
        self.upstreams.retain(|port, upstream| named.contains(port) || upstream.in_flight() > 0);
    }
}

/// Gives a canary its share of the requests.
#[derive(Default)]
struct Split {
    requests: u64,
    given: u64,
}

impl Split {
    /// Whether the next request is for the canary. At no time has it got more than `weight` percent of the requests, and
    /// never two less than that.
    ///
    /// Which request in a row is the canary's is random. Otherwise, clients that always send the same requests in turn
    /// would send it always the same ones.
    fn is_for_canary(&mut self, weight: u32) -> bool {
        self.requests += 1;
        let due = self.requests * u64::from(weight) / 100 - self.given;
        let is_for_canary = due > 1 || due == 1 && fastrand::bool();
        self.given += u64::from(is_for_canary);
        is_for_canary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{HeaderMatch, HeaderValueMatch};

    fn table(fence: u64, weight: u32) -> RoutingTable {
        let backend = |release: &str, ports: &[u16]| Backend { release: release.to_owned(), ports: ports.to_vec() };
        RoutingTable::shared(Some(fence), Some(backend("old", &[1, 2])), backend("new", &[3]), weight, Vec::new())
    }

    #[test]
    fn a_canary_never_gets_more_than_its_share_and_hardly_less() {
        for weight in 1..100 {
            let mut split = Split::default();
            let mut given = 0;
            for requests in 1..=1000 {
                given += u64::from(split.is_for_canary(weight));
                let share = requests * u64::from(weight) / 100;
                assert!(given <= share && given + 1 >= share, "{given} of {requests} at {weight}%");
            }
        }
    }

    #[test]
    fn which_of_the_requests_a_canary_gets_is_not_always_the_same() {
        let mut split = Split::default();
        let even = (1..=2000).filter(|number| split.is_for_canary(50) && number % 2 == 0).count();
        assert!((300..=700).contains(&even), "{even} of 1000 are even");
    }

    #[test]
    fn replicas_get_requests_in_turn_and_the_others_are_tried_after_them() {
        let routes = Routes::default();
        assert!(routes.next(&HeaderMap::new()).is_empty());
        routes.apply(table(1, 0));
        let mut first = BTreeMap::<u16, u32>::new();
        for _ in 0..10 {
            let order = routes.next(&HeaderMap::new());
            assert_eq!(order.len(), 2);
            let busy = routes.in_flight();
            assert_eq!(busy.values().sum::<usize>(), 2);
            drop(order);
            *first.entry(u16::try_from(routes.lock().turn % 2).unwrap()).or_default() += 1;
        }
        assert_eq!(first.into_values().collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn a_request_that_meets_a_condition_goes_to_the_canary_and_does_not_count_towards_its_share() {
        let backend = |release: &str, port: u16| Backend { release: release.to_owned(), ports: vec![port] };
        let value = HeaderValueMatch::Exact("always".to_owned());
        let conditions = vec![HeaderMatch { header: "X-Canary".to_owned(), value }];
        let table = |weight: u32| {
            RoutingTable::shared(Some(1), Some(backend("old", 1)), backend("new", 2), weight, conditions.clone())
        };
        let asked = HeaderMap::from_iter([(http::HeaderName::from_static("x-canary"), "always".parse().unwrap())]);
        let routes = Routes::default();
        let port = |headers: &HeaderMap| {
            drop(routes.next(headers));
            let state = routes.lock();
            let ports: Vec<u16> = state.upstreams.keys().copied().collect();
            drop(state);
            routes.tidy();
            ports
        };
        let canary_of = |requests: u32| {
            let mut given = 0;
            for _ in 0..requests {
                let before = routes.lock().split.given;
                drop(routes.next(&HeaderMap::new()));
                given += routes.lock().split.given - before;
            }
            given
        };
        routes.apply(table(0));
        assert_eq!(port(&asked), [2]);
        assert_eq!(canary_of(100), 0);
        routes.apply(table(10));
        for _ in 0..1000 {
            drop(routes.next(&asked));
        }
        assert!((9..=10).contains(&canary_of(100)));
        routes.apply(RoutingTable::all_to(Some(1), Some(backend("old", 1))));
        routes.tidy();
        drop(routes.next(&asked));
        assert!(!routes.in_flight().contains_key(&2), "no condition is left");
    }

    #[test]
    fn a_table_with_an_older_token_has_no_effect() {
        let routes = Routes::default();
        routes.apply(table(7, 20));
        routes.apply(table(6, 80));
        assert_eq!(routes.table(), table(7, 20));
        routes.apply(table(7, 100));
        assert_eq!(routes.table(), table(7, 100));
    }

    #[test]
    fn a_release_that_gets_no_more_requests_is_busy_until_it_has_answered() {
        let routes = Routes::default();
        routes.apply(table(1, 0));
        let request = routes.next(&HeaderMap::new());
        routes.apply(table(2, 100));
        assert_eq!(routes.in_flight(), BTreeMap::from([(1, 1), (2, 1)]));
        drop(request);
        routes.tidy();
        assert!(routes.in_flight().is_empty());
    }
}
