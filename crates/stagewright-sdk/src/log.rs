//! Words for the stage's log.

use crate::host::logging as host;

pub use crate::bindings::stage::stagewright::stage::logging::Level;

/// For the plugin's author.
pub fn trace(message: impl AsRef<str>) {
    fields(Level::Trace, message, &[]);
}

/// For whoever looks for a fault.
pub fn debug(message: impl AsRef<str>) {
    fields(Level::Debug, message, &[]);
}

/// For everybody.
pub fn info(message: impl AsRef<str>) {
    fields(Level::Info, message, &[]);
}

/// Should be looked at.
pub fn warn(message: impl AsRef<str>) {
    fields(Level::Warn, message, &[]);
}

/// Went wrong.
pub fn error(message: impl AsRef<str>) {
    fields(Level::Error, message, &[]);
}

/// With values by name.
pub fn fields(level: Level, message: impl AsRef<str>, fields: &[(&str, &str)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    host::log(level, message.as_ref(), &fields);
}

/// How far the stage is, in units of its own.
pub fn progress(message: impl AsRef<str>, current: u32, total: Option<u32>) {
    host::progress(message.as_ref(), current, total);
}
