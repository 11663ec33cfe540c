//! A web server for a test: it sends configured responses, and records the requests.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on loopback until the test process ends.
pub(super) struct Server {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` returns the whole response for a request's head.
    pub(super) fn start<R: AsRef<[u8]>>(answer: impl Fn(&str) -> R + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let remembered = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // A connection that is closed with unread data is reset, and the response is lost.
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let _ = std::io::copy(&mut (&mut stream).take(length.unwrap_or(0)), &mut std::io::sink());
                let response = answer(&head);
                remembered.lock().expect("a list").push(head);
                // The client may have disconnected before reading everything.
                let _ = stream.write_all(response.as_ref());
            }
        });
        Server { port, asked }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of all requests so far, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }
}

/// A response with a body.
pub(super) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A redirect to `location`.
pub(super) fn to(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// A server with endless responses.
pub(super) struct Endless {
    pub(super) port: u16,
    sent: Arc<AtomicU64>,
}

impl Endless {
    pub(super) fn start() -> Endless {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sent = Arc::<AtomicU64>::default();
        let counted = sent.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || {
                    // An answer before the question is none.
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head);
                    let mut piece: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                    while stream.write_all(piece).is_ok() {
                        counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        piece = &[b'x'; 4096];
                    }
                });
            }
        });
        Endless { port, sent }
    }

    /// How many bytes have been sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
