//! Times of recoveries.

use std::time::Duration;

use stagewright_sdk::{Error, Result};

use crate::Backup;

/// A time since the epoch as a time stamp.
///
/// # Errors
/// If it is beyond the year 9999.
pub fn timestamp(since_epoch: Duration) -> Result<jiff::Timestamp> {
    let at = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).map_err(|error| Error::internal(error.to_string()))
}

/// The moment of a backup since the epoch.
pub fn since_epoch(backup: &Backup) -> Duration {
    Duration::from_millis(u64::try_from(backup.moment.as_millisecond()).unwrap_or_default())
}

/// Milliseconds for outputs.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration for people, as in `1.2 s`, `3 min 20 s` or `4 h 10 min`.
pub fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
