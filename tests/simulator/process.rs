//! The futures of a process, which stall and die with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::world::World;

/// A future of a process. It makes no progress while the process is stalled.
pub(crate) struct ProcessFuture<F: Future> {
    world: Arc<World>,
    run: usize,
    process: u32,
    /// Whether it ends with the process.
    mortal: bool,
    stall: Option<Pin<Box<Sleep>>>,
    inner: Pin<Box<F>>,
}

impl<F: Future> ProcessFuture<F> {
    pub(crate) fn new(world: &Arc<World>, run: usize, process: u32, inner: F) -> ProcessFuture<F> {
        ProcessFuture { world: Arc::clone(world), run, process, mortal: false, stall: None, inner: Box::pin(inner) }
    }

    /// A future that resolves to none when the process dies.
    pub(crate) fn mortal(world: &Arc<World>, run: usize, process: u32, inner: F) -> ProcessFuture<F> {
        ProcessFuture { mortal: true, ..ProcessFuture::new(world, run, process, inner) }
    }

    fn stalled_until(&self) -> Option<tokio::time::Instant> {
        let inner = self.world.lock();
        let run = &inner.runs[self.run];
        run.stalled_until.filter(|until| run.is_driven_by(self.process) && *until > tokio::time::Instant::now())
    }

    fn is_gone(&self, context: &Context<'_>) -> bool {
        let mut inner = self.world.lock();
        let run = &mut inner.runs[self.run];
        let gone = !run.is_driven_by(self.process);
        if !gone && !run.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            run.wakers.push(context.waker().clone());
        }
        gone
    }
}

impl<F: Future> Future for ProcessFuture<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if self.mortal {
            self.world.lock().step(self.run, self.process);
        }
        if let Some(until) = self.stalled_until() {
            let mut sleep = Box::pin(tokio::time::sleep_until(until));
            let _ = sleep.as_mut().poll(context);
            self.stall = Some(sleep);
        } else {
            self.stall = None;
            if !(self.mortal && self.is_gone(context))
                && let Poll::Ready(output) = self.inner.as_mut().poll(context)
            {
                return Poll::Ready(Some(output));
            }
        }
        if self.mortal && self.is_gone(context) { Poll::Ready(None) } else { Poll::Pending }
    }
}
