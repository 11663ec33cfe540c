//! What the stage tells other stages and people.

use serde::Serialize;

use crate::{Diagnostic, Result, host::outputs as host};

/// Sets an output; a second time replaces the first.
///
/// # Errors
/// When the value can't be JSON, or is larger than the host takes.
pub fn set<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<()> {
    Ok(host::set(name, &serde_json::to_string(value)?)?)
}

/// Markdown to be shown with the run.
pub fn summary(markdown: impl AsRef<str>) {
    host::summary(markdown.as_ref());
}

/// A finding: a failing test, an advisory.
#[expect(clippy::needless_pass_by_value, reason = "made to be reported, and reported once")]
pub fn report(diagnostic: Diagnostic) {
    host::report(&diagnostic);
}
