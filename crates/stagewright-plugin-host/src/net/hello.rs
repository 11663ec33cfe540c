//! Reads the first bytes that a program sends in a tunnel: whether they are TLS, and which host they request.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most bytes of a ClientHello. RFC 8446 allows some 130 KiB, but real ones are much shorter.
const LONGEST: usize = 64 * 1024;
/// The types of TLS records (RFC 8446, section 5.1, and RFC 6520). A server may skip other records before the ClientHello, so
/// that a stream which begins with one of these could still be TLS: it counts as unclear.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;

/// The meaning of the first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Not TLS, or no bytes at all.
    Other,
    /// TLS, with the requested host name (RFC 6066, section 3) in lower case, if it has one.
    Tls(Option<String>),
    /// Something like TLS whose requested host can't be determined.
    Unclear,
}

/// Reads until the meaning is known. Returns the bytes, which must still be forwarded.
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
