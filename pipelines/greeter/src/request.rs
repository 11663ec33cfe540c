//! Reads a request within limits of size and time.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

/// Limit in bytes for the request line and the headers.
const HEAD_LIMIT: usize = 8 * 1024;

/// Limit for the number of headers.
const HEADER_LIMIT: usize = 32;

/// The parts of a request that the routes need.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The method, as in `GET`.
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    /// The decoded query parameters, in order.
    pub(crate) query: Vec<(String, String)>,
}

/// Why a request couldn't be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// The client disconnected, or sent nothing.
    Gone,
    /// It took too long.
    Slow,
    /// The request line and headers are too long.
    TooLarge,
    /// It isn't valid HTTP/1, or its query isn't UTF-8.
    Malformed,
}

impl Request {
    /// Reads the head; a body, which no route wants, is left unread. `patience` is for the whole of it, so that a
    /// client that sends a byte now and then doesn't hold a connection for ever.
    pub(crate) fn read(stream: &mut TcpStream, patience: Duration) -> Result<Request, RequestError> {
        let deadline = Instant::now() + patience;
        let mut head = Vec::with_capacity(1024);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RequestError::Slow);
            }
            stream.set_read_timeout(Some(left)).map_err(|_| RequestError::Gone)?;
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer) {
                Ok(0) => return Err(RequestError::Gone),
                Ok(count) => head.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(RequestError::Slow);
                }
                Err(_) => return Err(RequestError::Gone),
            }
            if let Some(request) = Request::parse(&head)? {
                return Ok(request);
            }
            if head.len() >= HEAD_LIMIT {
                return Err(RequestError::TooLarge);
            }
        }
    }

    /// None while the head is incomplete.
    fn parse(head: &[u8]) -> Result<Option<Request>, RequestError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLarge),
            Err(_) => return Err(RequestError::Malformed),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(RequestError::Malformed) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(decode_pair).collect::<Result<_, _>>()?;
        Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), query }))
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Decodes `name=value` as a form sends it: `+` is a space, `%xx` a byte of UTF-8.
fn decode_pair(pair: &str) -> Result<(String, String), RequestError> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| RequestError::Malformed)?;
        Ok(decoded.into_owned())
    };
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((decode(name)?, decode(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let request = Request::parse(b"GET /greet?name=Ana+Mar%C3%ADa&lang=es&x HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!(request.path, "/greet");
        assert_eq!(request.parameter("name"), Some("Ana María"));
        assert_eq!(request.parameter("lang"), Some("es"));
        assert_eq!(request.parameter("x"), Some(""));
        assert_eq!(request.parameter("absent"), None);
    }

    #[test]
    fn an_encoded_separator_is_part_of_the_value() {
        let request = Request::parse(b"GET /greet?name=a%26lang%3Des HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!(request.query, [("name".to_owned(), "a&lang=es".to_owned())]);
    }

    #[test]
    fn invalid_requests_are_refused() {
        assert_eq!(Request::parse(b"GET /greet?name=%FF HTTP/1.1\r\n\r\n"), Err(RequestError::Malformed));
        assert_eq!(Request::parse(b"\x16\x03\x01\r\n\r\n"), Err(RequestError::Malformed));
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\nHost:"), Ok(None));
        let crowded = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADER_LIMIT + 1));
        assert_eq!(Request::parse(crowded.as_bytes()), Err(RequestError::TooLarge));
    }
}
