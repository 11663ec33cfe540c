//! Counting measurements, and the verdict on them.

use stagewright_sdk::{Error, ErrorCode};

use super::measurement::{Measurement, Phase};
use super::metric::Metric;

/// The measurements of a metric so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    taken: u32,
    failed: u32,
    inconclusive: u32,
    /// Without one that could be taken in between.
    consecutive_errors: u32,
    last: Option<Measurement>,
}

impl Tally {
    pub(crate) fn add(&mut self, measurement: Measurement) {
        match measurement.phase {
            Phase::Error => self.consecutive_errors += 1,
            phase => {
                self.taken += 1;
                self.consecutive_errors = 0;
                self.failed += u32::from(phase == Phase::Failed);
                self.inconclusive += u32::from(phase == Phase::Inconclusive);
            }
        }
        self.last = Some(measurement);
    }

    /// The verdict, once it stands. A measurement that could not be taken doesn't count towards `count`.
    pub(crate) fn phase(&self, metric: &Metric) -> Option<Phase> {
        if self.failed > metric.failure_limit {
            return Some(Phase::Failed);
        }
        if self.consecutive_errors > metric.consecutive_error_limit {
            return Some(Phase::Error);
        }
        if self.inconclusive > metric.inconclusive_limit {
            return Some(Phase::Inconclusive);
        }
        (self.taken >= metric.count).then_some(Phase::Successful)
    }

    pub(crate) fn into_verdict(self, metric: &Metric) -> MetricVerdict {
        let phase = self.phase(metric);
        let last = self.last.map(|last| last.to_string()).unwrap_or_default();
        MetricVerdict { name: metric.name.clone(), phase, taken: self.taken, failed: self.failed, last }
    }
}

/// The verdict on a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricVerdict {
    /// Its name.
    pub name: String,
    /// Its verdict; none if another metric decided first.
    pub phase: Option<Phase>,
    /// How often it was measured.
    pub taken: u32,
    /// How many measurements failed.
    pub failed: u32,
    /// The last measurement.
    pub last: String,
}

/// The verdict on an analysis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of each metric, in their order.
    pub metrics: Vec<MetricVerdict>,
    /// Whether it decides nothing.
    pub is_dry_run: bool,
}

impl Verdict {
    /// The worst verdict of a metric; a dry run is always successful.
    pub fn phase(&self) -> Phase {
        let worst = self.metrics.iter().filter_map(|metric| metric.phase).max().unwrap_or(Phase::Successful);
        if self.is_dry_run { Phase::Successful } else { worst }
    }

    /// The metrics that decided against success, with their last measurements.
    pub fn reasons(&self) -> Vec<String> {
        let bad = self.metrics.iter().filter(|metric| metric.phase.is_some_and(Phase::is_bad));
        bad.map(|metric| format!("{}: {}", metric.name, metric.last)).collect()
    }

    /// The error for a verdict that isn't a success.
    pub fn error(&self) -> Option<Error> {
        let (code, what) = match self.phase() {
            Phase::Successful => return None,
            Phase::Failed => (ErrorCode::FailedPrecondition, "the analysis failed"),
            Phase::Error => (ErrorCode::Unavailable, "the analysis could not be carried out"),
            Phase::Inconclusive => (ErrorCode::FailedPrecondition, "the analysis is inconclusive"),
        };
        Some(Error::new(code, what).causes(self.reasons()))
    }
}
