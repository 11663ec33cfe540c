//! An HTTP server for tests, on the loopback interface. Each connection is closed after one request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;

/// A request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct StubRequest {
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only the tests of AWS use it"))]
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) path: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// The response to a request.
pub(crate) struct StubResponse {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A response without headers other than those that HTTP requires.
pub(crate) fn respond(status: u16, body: &str) -> StubResponse {
    StubResponse { status, headers: Vec::new(), body: body.to_owned() }
}

impl StubResponse {
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> StubResponse {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A running server; its thread ends with the test process.
pub(crate) struct StubServer {
    port: u16,
}

impl StubServer {
    /// Starts a server on a free port that responds to each request with the result of `handler`.
    pub(crate) fn start(handler: impl Fn(&StubRequest) -> StubResponse + Send + 'static) -> StubServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(received) = receive(&mut BufReader::new(&mut stream)) else { continue };
                let StubResponse { status, headers, body } = handler(&received);
                let mut head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                // Fails if the client has closed the connection early, as it does when a response is too large.
                let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
            }
        });
        StubServer { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Reads a request; none if the connection ends before it is complete.
fn receive(stream: &mut impl BufRead) -> Option<StubRequest> {
    let mut lines = (&mut *stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let headers = headers.collect::<BTreeMap<_, _>>();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(StubRequest { method, path, headers, body })
}
