//! An HTTP server for tests, on this machine: each connection carries one request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only the tests of AWS look at it"))]
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// By name, in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only the tests of AWS look at it"))]
    pub(crate) body: Vec<u8>,
}

/// What goes out.
pub(crate) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

pub(crate) fn respond(status: u16, body: &str) -> Response {
    Response { status, headers: Vec::new(), body: body.to_owned() }
}

impl Response {
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.to_owned()));
        self
    }
}

pub(crate) struct Server {
    port: u16,
}

impl Server {
    /// Answers until the test ends.
    pub(crate) fn start(answer: impl Fn(&Received) -> Response + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(received) = receive(&mut BufReader::new(&mut stream)) else { continue };
                let Response { status, headers, body } = answer(&received);
                let mut head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                // A client that has seen enough hangs up.
                let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
            }
        });
        Server { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn receive(stream: &mut impl BufRead) -> Option<Received> {
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
    Some(Received { method, path, headers, body })
}
