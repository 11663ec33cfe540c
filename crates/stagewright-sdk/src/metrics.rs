//! Figures to compare between runs: a size, a coverage, a time.

use crate::{Result, host::metrics as host};

/// Sets a figure. A later value of the same name replaces an earlier one. `unit` as in `bytes`, `ms` or `%`; empty for a
/// count.
///
/// # Errors
/// When the name or the unit is invalid, or the value isn't finite.
pub fn set(name: &str, value: f64, unit: &str) -> Result<()> {
    let metric = host::Metric::new(name, value);
    if !unit.is_empty() {
        metric.unit(unit);
    }
    Ok(metric.report()?)
}
