//! The host's clock.

use std::time::Duration;

use crate::duration::millis;
use crate::poll::Pollable;
use crate::{Result, host::clock as host};

/// The time since the Unix epoch.
pub fn now() -> Duration {
    Duration::from_millis(host::now_ms())
}

/// The time since an arbitrary starting point. It never decreases.
pub fn monotonic() -> Duration {
    Duration::from_millis(host::monotonic_ms())
}

/// Suspends the stage for a duration.
///
/// # Errors
/// [`crate::ErrorCode::Cancelled`] as soon as the stage is asked to stop.
pub fn sleep(duration: Duration) -> Result<()> {
    Ok(host::sleep_ms(millis(duration))?)
}

/// Ready after this time.
pub fn timer(duration: Duration) -> Pollable {
    Pollable(host::timer_ms(millis(duration)))
}
