//! The ranges of all numbers in pipelines, command lines, policies and requests of plugins.
//!
//! Durations are added to clocks, sizes to other sizes, and counts become lengths of lists: an absurdly large number
//! would overflow or exhaust the memory. A number outside of its range is an error that names the range, at the
//! number's place.

use std::fmt;
use std::time::Duration;

use crate::grants::Amount;

/// An inclusive range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// The smallest value.
    pub least: T,
    /// The largest value.
    pub most: T,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether a number is in the range.
    pub fn contains(&self, number: T) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

impl fmt::Display for Range<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.most)
    }
}

impl fmt::Display for Range<Duration> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", Amount::Time(self.least), Amount::Time(self.most))
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", Amount::Size(self.0.least), Amount::Size(self.0.most))
    }
}

/// A range of sizes in bytes, displayed with units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange(pub Range<u64>);

/// Regions of a wave.
pub const REGIONS: Range<u64> = Range { least: 1, most: 100 };

const DAY: u64 = 24 * 60 * 60;

/// Approvals that a gate requires.
pub const APPROVALS: Range<u64> = Range { least: 1, most: 100 };

/// How long a gate stays open, and how long a manual freeze stays in force.
pub const WAIT: Range<Duration> = Range { least: Duration::from_millis(1), most: Duration::from_secs(366 * DAY) };

/// `poll-after-ms` of a plugin that waits. Each poll takes three records of the journal and a call of the plugin.
pub const POLL: Range<Duration> = Range { least: Duration::from_secs(1), most: Duration::from_secs(30 * DAY) };

/// `timeout` and `limits.cpu`.
pub const TIMEOUT: Range<Duration> = Range { least: Duration::from_millis(1), most: Duration::from_secs(366 * DAY) };

/// Waits between retries.
pub const BACKOFF: Range<Duration> = Range { least: Duration::ZERO, most: Duration::from_secs(30 * DAY) };

/// `backoff.factor`.
pub const FACTOR: Range<u64> = Range { least: 1, most: 100 };

/// `retry.max`: attempts after the first.
pub const RETRIES: Range<u64> = Range { least: 0, most: 100 };

/// Limits on memory, logs, artifacts and written files.
pub const SIZE: SizeRange = SizeRange(Range { least: 1, most: 1 << 50 });

/// `limits.processes`: up to the largest number of processes on Linux.
pub const PROCESSES: Range<u64> = Range { least: 1, most: 4_194_304 };

/// `limits.requests`.
pub const REQUESTS: Range<u64> = Range { least: 1, most: 100_000 };

/// `limits.log-lines`.
pub const LOG_LINES: Range<u64> = Range { least: 1, most: 1_000_000_000 };

/// Cells of a matrix, and `max-parallel`.
pub const CELLS: Range<u64> = Range { least: 1, most: 1024 };

/// `--jobs`.
pub const JOBS: Range<u64> = Range { least: 1, most: 1000 };

/// `gc --days`: up to a hundred years.
pub const DAYS: Range<u64> = Range { least: 0, most: 36_525 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_displayed_in_the_units_of_pipeline_files() {
        assert_eq!(APPROVALS.to_string(), "1 to 100");
        assert_eq!(WAIT.to_string(), "1ms to 366d");
        assert_eq!(SIZE.to_string(), "1B to 1048576GiB");
        assert!(WAIT.contains(WAIT.most) && !WAIT.contains(Duration::ZERO));
    }
}
