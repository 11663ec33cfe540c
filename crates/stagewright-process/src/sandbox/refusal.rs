//! The connections that the broker didn't make, on their way to the thread of init that reports them.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Refusals of at least this many bytes are not reported: `PIPE_BUF` without the two bytes of a message's length.
const MAX_MESSAGE: u16 = 4094;

/// A connection that a program didn't get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// To the Unix socket at this path, which isn't granted.
    Socket(#[serde(with = "super::wire::path")] PathBuf),
    /// To this address, to which the sandbox has no route.
    Address(SocketAddr),
}

/// The connections that programs didn't get.
pub(super) struct Refusals(PipeReader);

impl Refusals {
    pub(super) fn new(reports: PipeReader) -> Refusals {
        Refusals(reports)
    }

    /// Blocks until one is reported.
    pub(super) fn next(&mut self) -> io::Result<Refusal> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_ne_bytes(length))];
        self.0.read_exact(&mut message)?;
        Ok(serde_json::from_slice(&message)?)
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a serialised [`Refusal`].
pub(super) fn send(mut report: &PipeWriter, message: &[u8]) {
    // Writes of up to `PIPE_BUF` bytes are atomic, so that messages of different threads don't mix.
    let Some(length) = u16::try_from(message.len()).ok().filter(|&length| length < MAX_MESSAGE) else { return };
    // This fails when init has ended.
    let _ = report.write_all(&[&length.to_ne_bytes(), message].concat());
}

/// The Internet address in a socket address, as in ip(7) and ipv6(7); none for other families.
pub(super) fn internet_address(address: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = address.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let ip = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => IpAddr::from(*rest.first_chunk::<4>()?),
        // Four bytes of flow information come first.
        libc::AF_INET6 => IpAddr::from(*rest.get(4..)?.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
