//! How far this machine's clock is from that of a service.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use stagewright_sdk::clock;

/// What AWS tolerates: 5 min, and 15 min in S3. A smaller difference is no reason for a refusal.
const TOLERATED: Duration = Duration::from_secs(5 * 60);

/// A difference that is large enough for AWS to refuse signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockLag {
    minutes: u32,
    is_behind: bool,
}

impl ClockLag {
    /// Compares the clock with the header `Date` of an answer that has just come.
    pub(crate) fn of_date(date: &str) -> Option<ClockLag> {
        let theirs = httpdate::parse_http_date(date.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let own = clock::now();
        let by = own.abs_diff(theirs);
        let minutes = u32::try_from(by.as_secs() / 60).ok()?;
        (by >= TOLERATED).then_some(ClockLag { minutes, is_behind: own < theirs })
    }
}

impl fmt::Display for ClockLag {
    /// As in `1 h 3 min behind`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes) = (self.minutes / (24 * 60), self.minutes / 60 % 24, self.minutes % 60);
        for (count, unit) in [(days, "d"), (hours, "h"), (minutes, "min")] {
            if count > 0 {
                write!(f, "{count} {unit} ")?;
            }
        }
        f.write_str(if self.is_behind { "behind" } else { "ahead of" })
    }
}
