//! `poll`: waiting for several things at a time.

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, select_all};
use tokio::time::Instant;

use crate::error::{CapabilityError, ErrorCode};
use crate::stop::Cancel;

/// Something that will be ready at some time, and stays so. Clones are the same thing.
#[derive(Clone)]
pub struct Pollable(Shared<BoxFuture<'static, ()>>);

impl Pollable {
    /// Ready once the future is.
    pub(crate) fn new(ready: impl Future<Output = ()> + Send + 'static) -> Pollable {
        Pollable(ready.boxed().shared())
    }

    /// Ready after a time, counted from now.
    pub(crate) fn after(duration: Duration) -> Pollable {
        let now = Instant::now();
        // Some thirty years, as tokio does it for times that it can't add.
        let at = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30));
        Pollable::new(tokio::time::sleep_until(at))
    }

    /// Whether it is ready now.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.clone().now_or_never().is_some()
    }
}

impl fmt::Debug for Pollable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pollable").field(&self.0.peek().is_some()).finish()
    }
}

/// Waits until one of them is ready, and returns the index of the first one that is.
pub(crate) async fn wait_any(pollables: &[Pollable], cancel: &Cancel) -> Result<usize, CapabilityError> {
    if pollables.is_empty() {
        return Err(CapabilityError::new(ErrorCode::InvalidArgument, "nothing to wait for"));
    }
    let first = select_all(pollables.iter().map(|pollable| pollable.0.clone()));
    tokio::select! {
        biased;
        () = cancel.wait() => Err(CapabilityError::new(ErrorCode::Cancelled, "the stage is being cancelled")),
        // `select_all` polls in order, so that it finds the first one of those that are ready.
        ((), index, _) = first => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_that_is_ready_ends_the_wait() {
        let cancel = Cancel::default();
        let (slow, fast) = (Pollable::after(Duration::from_secs(9)), Pollable::after(Duration::from_secs(2)));
        let began = Instant::now();
        assert_eq!(wait_any(&[slow.clone(), fast.clone()], &cancel).await, Ok(1));
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert!(fast.is_ready() && !slow.is_ready());
        assert_eq!(wait_any(&[slow.clone(), fast], &cancel).await, Ok(1), "it stays ready");
        assert_eq!(wait_any(std::slice::from_ref(&slow), &cancel).await, Ok(0));
        assert_eq!(began.elapsed(), Duration::from_secs(9), "the time counts from its creation");
        assert_eq!(wait_any(&[], &cancel).await.unwrap_err().code, ErrorCode::InvalidArgument);
        cancel.set();
        assert_eq!(wait_any(&[slow], &cancel).await.unwrap_err().code, ErrorCode::Cancelled);
    }
}
