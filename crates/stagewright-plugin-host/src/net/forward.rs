//! Granted ports of this machine's loopback, for programs that have a loopback of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::background::Background;
use super::egress::EgressGuard;
use crate::error::CapabilityError;

/// When no connection can be accepted, which is so when the engine has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever connects to `listener` is connected to `to`, until the handle is dropped, which ends all connections too.
///
/// `to` must be granted with its port, or be a service of the attempt. Each connection takes one of the guard's places;
/// without one it is closed at once, as it is when nothing listens at `to`. It may be silent for as long as it likes:
/// databases' connections are. Must be called within the runtime.
pub(crate) fn forward(
    listener: TcpListener,
    to: SocketAddr,
    egress: Arc<EgressGuard>,
) -> Result<Background, CapabilityError> {
    egress.forward(to)?;
    Ok(Background::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match (accepted, egress.place()) {
                    (Err(_), _) => sleep(PAUSE).await,
                    (Ok((mut program, _)), Ok(place)) => {
                        connections.spawn(async move {
                            if let Ok(mut host) = TcpStream::connect(to).await {
                                // Ends with whichever side breaks off.
                                let _ = copy_bidirectional(&mut program, &mut host).await;
                            }
                            drop(place);
                        });
                    }
                    (Ok(_), Err(_)) => {}
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}
