//! Analysis: measurements of a release, and the verdict on them. The names and their meaning are those of Argo Rollouts.
//!
//! ```text
//! a measurement ─┬─> successful, failed or inconclusive: its conditions
//!                └─> error: it could not be taken
//! a metric ──────> the same four, by its limits
//! an analysis ───> the worst of its metrics
//! ```

mod condition;
mod measurement;
mod metric;
mod provider;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, clock, context, log, schemars};

pub use measurement::Phase;
pub use metric::Metric;
pub use provider::{CommandQuery, HttpQuery, LogQuery, Prometheus};
pub use verdict::{MetricVerdict, Verdict};

use crate::analysis::verdict::Tally;

/// The most metrics of an analysis.
const MOST_METRICS: usize = 50;

/// Measurements that decide whether a release is good.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Analysis {
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// Whether the verdict is only reported, and decides nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What the queries of an analysis can name, as `$version`, `$serving` and `$address`; and the log of the new version.
#[derive(Default)]
pub struct Subject<'a> {
    /// The name of the new version on its target.
    pub version: String,
    /// The name of the version that serves; empty if there is none.
    pub serving: String,
    /// Where the new version answers, as in `http://127.0.0.1:32768`; empty if it can't be reached.
    pub address: String,
    /// Reads the last lines of the new version's log; none outside of a rollout.
    pub log: Option<&'a dyn Fn(u32) -> Result<String>>,
}

impl Subject<'_> {
    /// Fills in the names in a query. A `$` before anything else stays.
    pub(crate) fn fill(&self, text: &str) -> String {
        let Subject { version, serving, address, .. } = self;
        text.replace("$version", version).replace("$serving", serving).replace("$address", address)
    }
}

/// A metric that is being measured.
struct Running<'a> {
    metric: &'a Metric,
    tally: Tally,
    /// When it is measured next; none once its verdict stands.
    due: Option<Duration>,
}

impl Analysis {
    /// Takes the measurements until the verdict on each metric stands, or one of them has failed.
    ///
    /// # Errors
    /// When the stage is asked to stop. A measurement that can't be taken is part of the verdict.
    pub fn run(&self, subject: &Subject<'_>) -> Result<Verdict> {
        let start = clock::monotonic();
        let mut running: Vec<Running<'_>> =
            self.metrics.iter().map(|metric| Running::starting(metric, start)).collect();
        loop {
            if context::cancelled() {
                return Err(Error::cancelled("cancelled during an analysis"));
            }
            let has_failed =
                running.iter().any(|running| running.tally.phase(running.metric).is_some_and(Phase::is_bad));
            let next = running
                .iter_mut()
                .filter(|_| !has_failed)
                .filter(|next| next.due.is_some())
                .min_by_key(|next| next.due);
            let Some(next) = next else { break };
            let now = clock::monotonic();
            let due = next.due.unwrap_or(now);
            if due > now {
                clock::sleep(due.saturating_sub(now))?;
            }
            next.measure(subject);
        }
        let metrics = running.into_iter().map(|Running { metric, tally, .. }| tally.into_verdict(metric)).collect();
        Ok(Verdict { metrics, is_dry_run: self.dry_run })
    }

    /// The grants that the measurements take.
    pub fn requirements(&self) -> Vec<Requirement> {
        self.metrics.iter().flat_map(Metric::requirements).collect()
    }

    /// Mistakes that parsing doesn't catch, at this key of `with`; `is_rollout` if there is a version whose log can be read.
    pub fn problems(&self, key: &str, is_rollout: bool) -> Vec<Problem> {
        let path = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        let mut found = Vec::new();
        if self.metrics.is_empty() || self.metrics.len() > MOST_METRICS {
            let message = format!("an analysis has 1 to {MOST_METRICS} metrics, not {}", self.metrics.len());
            found.push(Problem::at(path("metrics"), message));
        }
        for (index, metric) in self.metrics.iter().enumerate() {
            found.extend(metric.problems(&path(&format!("metrics[{index}]")), is_rollout));
            if self.metrics[..index].iter().any(|earlier| earlier.name == metric.name) {
                let message = format!("the metric `{}` is defined twice", metric.name);
                found.push(Problem::at(path(&format!("metrics[{index}].name")), message));
            }
        }
        found
    }
}

impl<'a> Running<'a> {
    fn starting(metric: &'a Metric, start: Duration) -> Running<'a> {
        let delay = metric.initial_delay.map_or(Duration::ZERO, |delay| delay.0);
        Running { metric, tally: Tally::default(), due: Some(start + delay) }
    }

    fn measure(&mut self, subject: &Subject<'_>) {
        let metric = self.metric;
        let measurement = metric.measure(subject);
        log::info(format!("{}: {measurement}", metric.name));
        self.tally.add(measurement);
        let is_last = self.tally.phase(metric).is_some();
        self.due = (!is_last).then(|| clock::monotonic() + metric.interval.0);
    }
}
