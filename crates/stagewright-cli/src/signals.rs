//! Ctrl-C and its like: once to end gracefully, twice to end now.

use stagewright_engine::{Interrupt, RunCommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Those that ask for an end.
struct Signals([(&'static str, Signal); 3]);

impl Signals {
    /// From now on they end nothing by themselves.
    fn new() -> std::io::Result<Signals> {
        Ok(Signals([
            ("Ctrl-C", signal(SignalKind::interrupt())?),
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGHUP", signal(SignalKind::hangup())?),
        ]))
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        let [(one, first), (two, second), (three, third)] = &mut self.0;
        tokio::select! {
            _ = first.recv() => one,
            _ = second.recv() => two,
            _ = third.recv() => three,
        }
    }
}

/// Turns them into requests to cancel, for as long as it is polled.
pub(crate) async fn watch(control: mpsc::Sender<RunCommand>) -> std::io::Result<()> {
    let mut signals = Signals::new()?;
    let mut how = Interrupt::Graceful;
    loop {
        let name = signals.next().await;
        let _ = control.send(RunCommand::Cancel { how, reason: name.to_owned() }).await;
        how = Interrupt::Kill;
    }
}

/// Waits for the next one; forever where they can't be waited for.
pub(crate) async fn any() {
    match Signals::new() {
        Ok(mut signals) => drop(signals.next().await),
        Err(_) => std::future::pending().await,
    }
}
