//! Responses: always JSON, and always the last one of their connection.

use std::io::{self, Write};

use serde_json::Value as Json;

/// A response.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Json,
}

impl Response {
    pub(crate) fn new(status: u16, body: Json) -> Response {
        Response { status, body }
    }

    /// An error; the bodies of all errors have the same shape.
    pub(crate) fn error(status: u16, message: impl Into<String>) -> Response {
        Response { status, body: serde_json::json!({ "error": message.into() }) }
    }

    /// Writes the response; `with_body` is false for `HEAD`.
    pub(crate) fn write(&self, to: &mut impl Write, with_body: bool) -> io::Result<()> {
        let body = format!("{}\n", self.body);
        let (status, reason, length) = (self.status, reason(self.status), body.len());
        let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
        text += &format!("content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n");
        if status == 405 {
            text += "allow: GET, HEAD\r\n";
        }
        text += "\r\n";
        if with_body {
            text += &body;
        }
        to.write_all(text.as_bytes())?;
        to.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &Response, with_body: bool) -> String {
        let mut bytes = Vec::new();
        response.write(&mut bytes, with_body).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_length_counts_bytes() {
        let text = written(&Response::new(200, serde_json::json!({ "a": "é" })), true);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\nconnection: close\r\n\r\n\
             {\"a\":\"é\"}\n"
        );
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let text = written(&Response::error(405, "no"), false);
        assert!(text.contains("allow: GET, HEAD\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
