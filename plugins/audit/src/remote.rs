//! Reads over HTTP, and distinguishes a server that can't be reached from one that refuses.

use stagewright_sdk::{Error, ErrorCode, Result, http};

/// RustSec's own tarball has about 1.5 MB, the longest file of crates.io's index about 5 MB.
const BODY_LIMIT: usize = 64 << 20;

/// The result of a `GET`.
#[derive(Debug)]
pub(crate) enum Fetched {
    Body(Vec<u8>),
    /// The server answered that it doesn't exist.
    NotFound,
    /// No answer, or one with a status that asks to retry later.
    Unreachable(Error),
}

/// Sends one request.
pub(crate) fn get(url: &str) -> Result<Fetched> {
    receive(url, http::Request::get(url).send())
}

/// Reads a response. A denied permission and a status that a retry wouldn't change are errors, whatever `unreachable` is
/// set to.
pub(crate) fn receive(url: &str, response: Result<http::Response>) -> Result<Fetched> {
    let fetched = response.and_then(|mut response| match response.status() {
        200 => Ok(Fetched::Body(response.bytes(BODY_LIMIT)?)),
        404 | 410 | 451 => Ok(Fetched::NotFound),
        status @ (408 | 429 | 500..=599) => {
            let message = format!("{url} returned status {status}");
            Ok(Fetched::Unreachable(Error::new(ErrorCode::Unavailable, message).retryable()))
        }
        status => Err(Error::failed(format!("{url} returned status {status}"))),
    });
    match fetched {
        Err(error) if is_unreachable(&error) => Ok(Fetched::Unreachable(error.context(format!("can't reach {url}")))),
        other => other,
    }
}

fn is_unreachable(error: &Error) -> bool {
    error.is_retryable() || matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded)
}
