//! The stage's results: outputs for other stages, summaries and diagnostics for people.

use serde::Serialize;

use crate::{Diagnostic, Result, host::outputs as host};

/// Sets an output. A later value replaces an earlier one.
///
/// # Errors
/// When the value can't be serialized, or exceeds the host's size limit.
pub fn set<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<()> {
    Ok(host::set(name, &serde_json::to_string(value)?)?)
}

/// Adds Markdown to the run's summary.
pub fn summary(markdown: impl AsRef<str>) {
    host::summary(markdown.as_ref());
}

/// Reports a diagnostic, such as a failed test or an advisory.
#[expect(clippy::needless_pass_by_value, reason = "callers create it only to report it")]
pub fn report(diagnostic: Diagnostic) {
    host::report(&diagnostic);
}
