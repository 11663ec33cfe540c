//! Sends requests at a steady rate.
//!
//! A request is due at a time, whatever became of those before it, and its latency counts from there. If it counted from when it is
//! sent, a service that stalls would be measured while nothing is sent to it.

use std::collections::VecDeque;
use std::time::Duration;

use stagewright_sdk::http::{PendingResponse, Request, Response};
use stagewright_sdk::poll::{self, Pollable};
use stagewright_sdk::text::count;
use stagewright_sdk::{Result, clock, log};

use crate::config::{Config, Target};
use crate::sample::Sample;

/// How often the log says how far it is.
const REPORT: Duration = Duration::from_secs(5);

/// A request under way.
struct Flight {
    due: Duration,
    counts: bool,
    place: usize,
    state: State,
    ready: Pollable,
}

enum State {
    Waiting(PendingResponse),
    Reading(Response),
}

/// Sends the requests to each of the places in turn, and returns what was measured of each.
pub(crate) fn measure(config: &Config, places: &[&str]) -> Result<Vec<Sample>> {
    let all = config.warm_up.0 + config.duration.0;
    let each = Duration::from_secs(1) / config.rate;
    let turns = turns(&config.requests);
    let start = clock::monotonic();
    let due_at = |number: u32| start + each * number;
    let mut samples: Vec<Sample> = places.iter().map(|_| Sample::default()).collect();
    let (mut flights, mut next, mut reported): (VecDeque<Flight>, u32, Duration) = (VecDeque::new(), 0, start);
    loop {
        let now = clock::monotonic();
        while due_at(next) <= now && due_at(next) < start + all {
            let (due, place) = (due_at(next), next as usize % places.len());
            let counts = due >= start + config.warm_up.0;
            if due + config.timeout.0 < now {
                let under_way = count(config.connections as usize, "request");
                let waited = || format!("not sent in time beside {under_way} under way");
                note(counts, &mut samples[place], |sample| sample.failed(waited()));
            } else if flights.len() < config.connections as usize {
                let target = turns[next as usize / places.len() % turns.len()];
                flights.push_back(begin(config, places[place], target, due, counts, place));
            } else {
                break;
            }
            next += 1;
        }
        let is_over = due_at(next) >= start + all;
        if is_over && flights.is_empty() {
            samples.iter_mut().for_each(|sample| sample.over = config.duration.0);
            return Ok(samples);
        }
        if now.saturating_sub(reported) >= REPORT {
            reported = now;
            log::progress("sending requests", now.saturating_sub(start).as_secs(), Some(all.as_secs()));
        }
        // The next request is waited for unless there is no room for it.
        let timer = (!is_over && flights.len() < config.connections as usize)
            .then(|| clock::timer(due_at(next).saturating_sub(now).max(Duration::from_millis(1))));
        let waits: Vec<&Pollable> = flights.iter().map(|flight| &flight.ready).chain(timer.as_ref()).collect();
        let first = poll::wait_any(&waits)?;
        if let Some(flight) = flights.remove(first) {
            flights.extend(advance(flight, &mut samples)?);
        }
    }
}

fn begin(config: &Config, place: &str, target: &Target, due: Duration, counts: bool, index: usize) -> Flight {
    let mut request = Request::get(&format!("{}{}", place.trim_end_matches('/'), target.path));
    request.timeout(config.timeout.0).max_redirects(0);
    for (name, value) in &target.headers {
        request.header(name, value);
    }
    let pending = request.start();
    let ready = pending.ready();
    Flight { due, counts, place: index, state: State::Waiting(pending), ready }
}

/// The rest of a flight; none once it has ended, which is noted.
fn advance(flight: Flight, samples: &mut [Sample]) -> Result<Option<Flight>> {
    let Flight { due, counts, place, state, .. } = flight;
    let answer = match state {
        State::Waiting(pending) => pending.response().map(Some),
        State::Reading(mut response) => match response.next_chunk() {
            Ok(Some(_)) => Ok(Some(response)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(Some(response)) if response.status() < 400 => {
            let ready = response.readable();
            Ok(Some(Flight { due, counts, place, state: State::Reading(response), ready }))
        }
        Ok(Some(response)) => {
            note(counts, &mut samples[place], |sample| sample.failed(format!("status {}", response.status())));
            Ok(None)
        }
        Ok(None) => {
            let latency = clock::monotonic().saturating_sub(due);
            note(counts, &mut samples[place], |sample| sample.answered(latency));
            Ok(None)
        }
        // A denial and a cancellation aren't failures of the service.
        Err(error) if error.is_denied() || error.is_cancelled() => Err(error),
        Err(error) => {
            note(counts, &mut samples[place], |sample| sample.failed(error.message));
            Ok(None)
        }
    }
}

fn note(counts: bool, sample: &mut Sample, what: impl FnOnce(&mut Sample)) {
    if counts {
        what(sample);
    }
}

/// The requests in an order in which each comes as often as its weight says, spread evenly.
fn turns(requests: &[Target]) -> Vec<&Target> {
    let all: u32 = requests.iter().map(|target| target.weight).sum();
    let mut credit: Vec<i64> = vec![0; requests.len()];
    (0..all)
        .map(|_| {
            for (credit, target) in credit.iter_mut().zip(requests) {
                *credit += i64::from(target.weight);
            }
            let chosen =
                (0..requests.len()).max_by_key(|index| (credit[*index], std::cmp::Reverse(*index))).unwrap_or(0);
            credit[chosen] -= i64::from(all);
            &requests[chosen]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn requests_come_as_often_as_their_weights_say_and_not_all_at_once() {
        let target = |path: &str, weight| Target { path: path.to_owned(), weight, headers: BTreeMap::new() };
        let requests = [target("a", 3), target("b", 1), target("c", 0)];
        let order: Vec<&str> = turns(&requests).into_iter().map(|target| target.path.as_str()).collect();
        assert_eq!(order, ["a", "a", "b", "a"]);
    }
}
