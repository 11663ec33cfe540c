//! Waiting for several things at a time: the ends of programs, their output, responses, times.
//!
//! ```
//! use std::time::Duration;
//!
//! use stagewright_sdk::fake::{FakeHost, ProcessScript};
//! use stagewright_sdk::process::Command;
//! use stagewright_sdk::{clock, poll};
//!
//! let server = ProcessScript::new("server", ["--once"]).takes(Duration::from_secs(90));
//! let (first, _) = FakeHost::new().process(server).with(|| {
//!     let child = Command::new("server").args(["--once"]).spawn()?;
//!     poll::wait_any(&[&child.ended(), &clock::timer(Duration::from_secs(60))])
//! });
//! assert_eq!(first, Ok(1), "the minute is over before the program ends");
//! ```

use crate::{Result, host::poll as host};

/// Something that will be ready at some time, and stays so.
#[derive(Debug)]
pub struct Pollable(pub(crate) host::Pollable);

impl Pollable {
    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.0.ready()
    }
}

/// Waits until one of them is ready, and returns the index of the first one that is.
///
/// # Errors
/// [`crate::ErrorCode::Cancelled`] as soon as the stage is asked to stop, and when there is nothing to wait for.
pub fn wait_any(pollables: &[&Pollable]) -> Result<usize> {
    let pollables: Vec<&host::Pollable> = pollables.iter().map(|pollable| &pollable.0).collect();
    Ok(host::wait_any(&pollables)? as usize)
}
