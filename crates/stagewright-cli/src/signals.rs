//! Ctrl-C: once to end gracefully, twice to end now.

use stagewright_engine::{Control, Interrupt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Turns SIGINT, SIGTERM and SIGHUP into wishes to cancel, for as long as it is polled.
pub(crate) async fn watch(control: mpsc::Sender<Control>) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut how = Interrupt::Graceful;
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        };
        let _ = control.send(Control::Cancel { how, reason: name.to_owned() }).await;
        how = Interrupt::Kill;
    }
}
