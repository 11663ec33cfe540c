//! How large numbers may be that pipelines, command lines, policies and plugins give: all of the ranges, in one place.
//!
//! Times are added to clocks, sizes to sizes, and counts become lists: a number that nobody means would overflow one or
//! fill the memory. What is beyond a range is an error that names it, where the number stands.

use std::fmt;
use std::time::Duration;

use crate::grants::Amount;

/// Both bounds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// The smallest.
    pub least: T,
    /// The largest.
    pub most: T,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether a number is in it.
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

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", Amount::Size(self.0.least), Amount::Size(self.0.most))
    }
}

/// A range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub Range<u64>);

const DAY: u64 = 24 * 60 * 60;

/// Approvals that a gate takes.
pub const APPROVALS: Range<u64> = Range { least: 1, most: 100 };

/// How long a gate stays open, and a freeze in force.
pub const WAIT: Range<Duration> = Range { least: Duration::from_millis(1), most: Duration::from_secs(366 * DAY) };

/// `timeout` and `limits.cpu`.
pub const TIMEOUT: Range<Duration> = Range { least: Duration::from_millis(1), most: Duration::from_secs(366 * DAY) };

/// Waits between retries.
pub const BACKOFF: Range<Duration> = Range { least: Duration::ZERO, most: Duration::from_secs(30 * DAY) };

/// `backoff.factor`.
pub const FACTOR: Range<u64> = Range { least: 1, most: 100 };

/// Tries after the first.
pub const RETRIES: Range<u64> = Range { least: 0, most: 100 };

/// Memory, logs, artifacts, what is written.
pub const SIZE: Bytes = Bytes(Range { least: 1, most: 1 << 50 });

/// `limits.processes`: what Linux can number.
pub const PROCESSES: Range<u64> = Range { least: 1, most: 4_194_304 };

/// `limits.requests`.
pub const REQUESTS: Range<u64> = Range { least: 1, most: 100_000 };

/// `limits.log-lines`.
pub const LOG_LINES: Range<u64> = Range { least: 1, most: 1_000_000_000 };

/// Cells of a matrix, in all and at a time.
pub const CELLS: Range<u64> = Range { least: 1, most: 1024 };

/// `--jobs`.
pub const JOBS: Range<u64> = Range { least: 1, most: 1000 };

/// `gc --days`: a hundred years.
pub const DAYS: Range<u64> = Range { least: 0, most: 36_525 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shown_as_they_are_written_in_a_file() {
        assert_eq!(APPROVALS.to_string(), "1 to 100");
        assert_eq!(WAIT.to_string(), "1ms to 366d");
        assert_eq!(SIZE.to_string(), "1B to 1048576GiB");
        assert!(WAIT.contains(WAIT.most) && !WAIT.contains(Duration::ZERO));
    }
}
