//! `metrics`: figures of a stage.

use std::collections::BTreeMap;

use stagewright_engine::Metric;

use super::outputs::is_name;
use crate::error::{CapabilityError, ErrorCode};
use crate::log::AttemptLog;
use crate::mask::Masker;

/// The most figures of an attempt.
const NUMBER: usize = 1000;
/// The most bytes of a unit.
const UNIT: usize = 32;

/// A figure that a guest is going to report.
#[derive(Clone, Debug)]
pub struct MetricBuilder {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// The figures of an attempt so far, by name.
#[derive(Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, Metric>);

impl Metrics {
    /// Sets a figure; a later value replaces an earlier one.
    pub(crate) fn set(&mut self, metric: MetricBuilder, masker: &Masker) -> Result<(), CapabilityError> {
        let MetricBuilder { name, value, unit } = metric;
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        if !is_name(&name) {
            return Err(invalid(format!("invalid metric name `{name}`"))
                .with_help("use letters, digits, `-`, `_` and `.` only"));
        }
        if [&name, &unit].into_iter().any(|text| masker.finds_in(text)) {
            return Err(
                invalid("the name or the unit of a metric contains a secret".to_owned()).with_help("choose another")
            );
        }
        if unit.len() > UNIT || unit.chars().any(char::is_control) {
            return Err(invalid(format!("the unit of the metric `{name}` is invalid"))
                .with_help(format!("use at most {UNIT} bytes, as in `bytes`, `ms` or `%`")));
        }
        if !value.is_finite() {
            return Err(invalid(format!("the value of the metric `{name}` is {value}, which isn't a number")));
        }
        if self.0.len() >= NUMBER && !self.0.contains_key(&name) {
            let message = format!("could not set the metric `{name}`: a stage may have at most {NUMBER}");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("write more figures to a file, and publish that as an artifact"));
        }
        self.0.insert(name.clone(), Metric { name, value, unit });
        Ok(())
    }

    /// Sends the figures, if there are any.
    pub(crate) async fn finish(&mut self, log: &AttemptLog) {
        let metrics = std::mem::take(&mut self.0).into_values().collect::<Vec<_>>();
        if !metrics.is_empty() {
            log.output().metrics(metrics).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_figure_is_refused() {
        let (mut metrics, masker) = (Metrics::default(), Masker::default());
        let mut set = |name: &str, value: f64, unit: &str| {
            let (name, unit) = (name.to_owned(), unit.to_owned());
            metrics.set(MetricBuilder { name, value, unit }, &masker).map_err(|error| error.code)
        };
        assert_eq!(set("size", 3.5, "bytes"), Ok(()));
        for (name, value, unit) in [("", 1.0, ""), ("a b", 1.0, ""), ("a", f64::NAN, ""), ("a", 1.0, "\n")] {
            assert_eq!(set(name, value, unit), Err(ErrorCode::InvalidArgument), "{name:?} {value} {unit:?}");
        }
        assert!((1..NUMBER).all(|number| set(&format!("m{number}"), 0.0, "").is_ok()));
        assert_eq!(set("one-more", 0.0, ""), Err(ErrorCode::ResourceExhausted));
        assert_eq!(set("size", 4.0, "bytes"), Ok(()), "it replaces the earlier value");
    }
}
