//! Replicas that are replaced a few at a time.

use serde::{Deserialize, Serialize};
use stagewright_sdk::{JsonSchema, Problem, schemars};

/// Replaces replicas a few at a time. The names and their meaning are those of a Deployment of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(example = serde_json::json!({ "max-surge": 1, "max-unavailable": 0 }))]
pub struct Rolling {
    /// How many replicas may run beyond the wanted number, as a number or in percent of it. Default: what the target has.
    pub max_surge: Option<Amount>,
    /// How many replicas may be missing from the wanted number, as a number or in percent of it. Default: what the target has.
    pub max_unavailable: Option<Amount>,
    /// How many seconds a new replica has to be ready until it counts as available. Default: what the target has.
    pub min_ready_seconds: Option<u32>,
    /// After how many seconds without progress the release has failed. Default: what the target has.
    pub progress_deadline_seconds: Option<u32>,
}

/// A number of replicas, as in `1`, or a percentage of them, as in `"25%"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many percent.
    Percent(String),
}

impl Amount {
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Amount::Count(_) => true,
            Amount::Percent(text) => {
                let digits = text.strip_suffix('%').unwrap_or_default();
                digits.parse::<u32>().is_ok() && digits.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }

    /// How many of `total` replicas it is. A part of a replica counts as one if `rounds_up`, and as none otherwise.
    pub fn of(&self, total: u32, rounds_up: bool) -> u32 {
        match self {
            Amount::Count(count) => *count,
            Amount::Percent(text) => {
                let percent: u64 = text.trim_end_matches('%').parse().unwrap_or(0);
                let hundredths = percent * u64::from(total);
                let count = if rounds_up { hundredths.div_ceil(100) } else { hundredths / 100 };
                u32::try_from(count).unwrap_or(u32::MAX)
            }
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Amount::Count(0)) || matches!(self, Amount::Percent(text) if text.trim_start_matches('0') == "%")
    }
}

impl Rolling {
    pub(super) fn problems(&self, key: &str) -> Vec<Problem> {
        let amounts = [("max-surge", &self.max_surge), ("max-unavailable", &self.max_unavailable)];
        let invalid =
            amounts.into_iter().filter(|(_, amount)| amount.as_ref().is_some_and(|amount| !amount.is_valid()));
        let mut found: Vec<Problem> = invalid
            .map(|(name, _)| Problem::at(format!("{key}.{name}"), "must be a number, or a percentage as in \"25%\""))
            .collect();
        if amounts.iter().all(|(_, amount)| amount.as_ref().is_some_and(Amount::is_zero)) {
            let message = "one of `max-surge` and `max-unavailable` must be above 0, or no replica can be replaced";
            found.push(Problem::at(format!("{key}.max-surge"), message));
        }
        if let (Some(ready), Some(deadline)) = (self.min_ready_seconds, self.progress_deadline_seconds)
            && deadline <= ready
        {
            let message = format!("must be above `min-ready-seconds`, which is {ready}");
            found.push(Problem::at(format!("{key}.progress-deadline-seconds"), message));
        }
        found
    }
}
