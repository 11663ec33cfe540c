//! Time, as the host tells it.

use std::time::Duration;

use crate::duration::millis;
use crate::{Result, host::clock as host};

/// Since the Unix epoch.
pub fn now() -> Duration {
    Duration::from_millis(host::now_ms())
}

/// Since an arbitrary moment; never goes back.
pub fn monotonic() -> Duration {
    Duration::from_millis(host::monotonic_ms())
}

/// Waits.
///
/// # Errors
/// [`crate::ErrorCode::Cancelled`] as soon as the stage is asked to stop.
pub fn sleep(duration: Duration) -> Result<()> {
    Ok(host::sleep_ms(millis(duration))?)
}
