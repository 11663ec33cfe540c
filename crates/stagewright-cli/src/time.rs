//! Formats points in time for people.

use stagewright_engine::Timestamp;

/// As in `2026-11-21 03:40:58`, UTC.
pub(crate) fn readable(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%d %H:%M:%S").to_string()
}
