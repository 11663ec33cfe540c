//! What was measured.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many kinds of errors are kept apart.
const KINDS: usize = 20;

/// The measurements of a service.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// In milliseconds, which is what the host's clock tells apart.
    latencies: Vec<u32>,
    /// How often each error was seen.
    errors: BTreeMap<String, u64>,
    failed: u64,
    /// How long requests were sent that count.
    pub(crate) over: Duration,
}

/// The measurements in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    /// Answered requests per second.
    pub(crate) rate: f64,
    /// In percent.
    pub(crate) errors: f64,
    /// Milliseconds; none without a response.
    pub(crate) p50: Option<u32>,
    pub(crate) p95: Option<u32>,
    pub(crate) p99: Option<u32>,
}

impl Sample {
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.latencies.push(u32::try_from(latency.as_millis()).unwrap_or(u32::MAX));
    }

    pub(crate) fn failed(&mut self, error: String) {
        self.failed += 1;
        if self.errors.len() < KINDS || self.errors.contains_key(&error) {
            *self.errors.entry(error).or_default() += 1;
        }
    }

    /// The errors, the most frequent first.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors: Vec<(&String, &u64)> = self.errors.iter().collect();
        errors.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
        errors.into_iter().map(|(error, number)| format!("{number} × {error}")).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of requests are far below 2^52")]
    pub(crate) fn measured(&mut self) -> Measured {
        self.latencies.sort_unstable();
        let answered = self.latencies.len() as u64;
        let requests = answered + self.failed;
        Measured {
            requests,
            rate: answered as f64 / self.over.as_secs_f64().max(f64::MIN_POSITIVE),
            errors: if requests == 0 { 0.0 } else { self.failed as f64 * 100.0 / requests as f64 },
            p50: self.percentile(50),
            p95: self.percentile(95),
            p99: self.percentile(99),
        }
    }

    /// By the nearest-rank method, of sorted latencies.
    fn percentile(&self, percent: usize) -> Option<u32> {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.checked_sub(1)?).copied()
    }
}

impl Measured {
    /// As in `29970 requests, 499.5 per second, p50 3 ms, p95 12 ms, p99 40 ms, 0.10 % errors`.
    pub(crate) fn described(&self) -> String {
        let latency =
            |name: &str, value: Option<u32>| value.map(|value| format!(", {name} {value} ms")).unwrap_or_default();
        format!(
            "{} requests, {:.1} per second{}{}{}, {:.2} % errors",
            self.requests,
            self.rate,
            latency("p50", self.p50),
            latency("p95", self.p95),
            latency("p99", self.p99),
            self.errors
        )
    }
}
