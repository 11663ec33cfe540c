//! The stage's log.

use crate::host::logging as host;

pub use crate::bindings::imports::logging::Level;

/// Logs details for the plugin's author.
pub fn trace(message: impl AsRef<str>) {
    fields(Level::Trace, message, &[]);
}

/// Logs details for debugging a pipeline.
pub fn debug(message: impl AsRef<str>) {
    fields(Level::Debug, message, &[]);
}

/// Logs what the stage does.
pub fn info(message: impl AsRef<str>) {
    fields(Level::Info, message, &[]);
}

/// Logs a possible problem.
pub fn warn(message: impl AsRef<str>) {
    fields(Level::Warn, message, &[]);
}

/// Logs a failure.
pub fn error(message: impl AsRef<str>) {
    fields(Level::Error, message, &[]);
}

/// Logs a message with named values.
pub fn fields(level: Level, message: impl AsRef<str>, fields: &[(&str, &str)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    host::log(level, message.as_ref(), &fields);
}

/// Reports progress, in units of the stage's choice.
pub fn progress(message: impl AsRef<str>, current: u64, total: Option<u64>) {
    host::progress(message.as_ref(), current, total);
}
