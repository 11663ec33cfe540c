//! Forwards granted ports of this machine's loopback into a sandbox, which has a loopback of its own.

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

/// The pause after a connection could not be accepted, which happens when the engine runs out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Forwards connections from `listener` to `to` until the handle is dropped, which also closes them.
///
/// `to` must be granted with its port, or be a service of the attempt. Each connection takes one of the guard's permits; it
/// is closed at once if none is left, or nothing listens at `to`. There is no idle timeout, since connections to databases
/// are idle for long. Must be called within the async runtime.
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
                                // An error means that one side reset the connection.
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
