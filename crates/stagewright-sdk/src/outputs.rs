//! The stage's results: outputs for other stages, and summaries for people.

use serde::Serialize;

use crate::{Result, host::outputs as host};

/// Sets an output. A later value replaces an earlier one.
///
/// # Errors
/// When the value can't be serialized, the name is invalid, or the outputs exceed the host's size limit.
pub fn set<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<()> {
    Ok(host::set(name, &serde_json::to_string(value)?)?)
}

/// Adds Markdown to the run's summary.
pub fn summary(markdown: impl AsRef<str>) {
    host::summary(markdown.as_ref());
}
