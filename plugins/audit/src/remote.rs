//! What is read over HTTP, where "it didn't answer" must be told from "it said no".

use stagewright_sdk::{Error, ErrorCode, Result, http};

/// RustSec's own tarball has about 1.5 MB, the longest file of crates.io's index about 5 MB.
const BODY_LIMIT: usize = 64 << 20;

/// What came of a `GET`.
#[derive(Debug)]
pub(crate) enum Answer {
    Body(Vec<u8>),
    /// The server is there, and has no such thing.
    Missing,
    /// There was no answer, or one that says to try again later.
    Unreachable(Error),
}

/// Asks once. A denied permission and an answer that no retry mends are errors, whatever `unreachable` says.
pub(crate) fn get(url: &str) -> Result<Answer> {
    let mut request = http::Request::get(url);
    let answer = request.send().and_then(|mut response| match response.status() {
        200 => Ok(Answer::Body(response.bytes(BODY_LIMIT)?)),
        404 | 410 | 451 => Ok(Answer::Missing),
        status @ (408 | 429 | 500..=599) => {
            let message = format!("{url} answers with status {status}");
            Ok(Answer::Unreachable(Error::new(ErrorCode::Unavailable, message).retryable()))
        }
        status => Err(Error::failed(format!("{url} answers with status {status}"))),
    });
    match answer {
        Err(error) if is_unreachable(&error) => Ok(Answer::Unreachable(error.context(format!("can't reach {url}")))),
        other => other,
    }
}

fn is_unreachable(error: &Error) -> bool {
    error.retryable || matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded)
}
