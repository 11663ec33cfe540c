//! Turns signals into cancellation: the first one cancels gracefully, the second one kills.

use stagewright_engine::{Interrupt, RunCommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The signals that request the end of the process.
struct Signals([(&'static str, Signal); 3]);

impl Signals {
    /// Installs handlers, so that the signals no longer end the process by themselves.
    fn new() -> std::io::Result<Signals> {
        Ok(Signals([
            ("Ctrl-C", signal(SignalKind::interrupt())?),
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGHUP", signal(SignalKind::hangup())?),
        ]))
    }

    /// Waits for the next signal, and returns its name.
    async fn next(&mut self) -> &'static str {
        let [(first_name, first), (second_name, second), (third_name, third)] = &mut self.0;
        tokio::select! {
            _ = first.recv() => first_name,
            _ = second.recv() => second_name,
            _ = third.recv() => third_name,
        }
    }
}

/// Sends a request to cancel for each signal from now on, for as long as it is polled.
pub(crate) fn watch(control: mpsc::Sender<RunCommand>) -> impl Future<Output = std::io::Result<()>> {
    // Not in the future, which could be polled for the first time after a signal.
    let signals = Signals::new();
    async move {
        let mut signals = signals?;
        let mut how = Interrupt::Graceful;
        loop {
            let name = signals.next().await;
            let _ = control.send(RunCommand::Cancel { how, reason: name.to_owned() }).await;
            how = Interrupt::Kill;
        }
    }
}

/// Waits for the first signal from now on; forever if the handlers can't be installed.
pub(crate) fn any() -> impl Future<Output = ()> {
    let signals = Signals::new();
    async move {
        match signals {
            Ok(mut signals) => drop(signals.next().await),
            Err(_) => std::future::pending().await,
        }
    }
}
