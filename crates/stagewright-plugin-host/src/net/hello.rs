//! What a program says first in a tunnel: whether it is TLS, and which host it asks for.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longer than any greeting: RFC 8446 allows a ClientHello some 130 KiB, and none comes near it.
const LONGEST: usize = 64 * 1024;
/// The types of TLS records (RFC 8446, section 5.1, and RFC 6520). A server may pass over others before the ClientHello,
/// which is why one that begins with them is none that is understood.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;

/// What the first bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Anything but TLS, or nothing.
    Other,
    /// TLS, with the name of the host that is asked for (RFC 6066, section 3), in lower case.
    Tls(Option<String>),
    /// Looks like TLS, and doesn't say plainly what it asks for.
    Unclear,
}

/// Reads as much as shows what it is. Gives what was read, all of which is still to be passed on.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, Greeting)> {
    let mut acceptor = Acceptor::default();
    let mut seen = Vec::with_capacity(2048);
    loop {
        let start = seen.len();
        if from.read_buf(&mut seen).await? == 0 {
            let greeting = if start == 0 { Greeting::Other } else { Greeting::Unclear };
            return Ok((seen, greeting));
        }
        if !RECORD_TYPES.contains(&seen[0]) {
            return Ok((seen, Greeting::Other));
        }
        if let Some(greeting) = parse(&mut acceptor, &seen[start..]) {
            return Ok((seen, greeting));
        }
        if seen.len() >= LONGEST {
            return Ok((seen, Greeting::Unclear));
        }
    }
}

/// None while more is needed.
fn parse(acceptor: &mut Acceptor, mut data: &[u8]) -> Option<Greeting> {
    while !data.is_empty() {
        match acceptor.read_tls(&mut data) {
            Ok(0) | Err(_) => return Some(Greeting::Unclear),
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                return Some(Greeting::Tls(name));
            }
            Err(_) => return Some(Greeting::Unclear),
        }
    }
    None
}
