//! A service to deploy: answers `/health`, and tells its `VERSION` at `/`. With `BROKEN` set it is healthy and of no
//! use; with `WAIT_FOR` it answers nothing before that file is there, and with `CALL` and
//! `CALL_SOCKET` it first connects to a port of this machine and to a Unix socket.

#![expect(clippy::disallowed_methods, reason = "a program of its own, configured by its environment as services are")]

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

fn main() -> Result<()> {
    // To see whether anybody can be reached; what comes of it is for them to say.
    if let Ok(port) = std::env::var("CALL") {
        let _ = TcpStream::connect(format!("127.0.0.1:{port}"));
    }
    if let Ok(path) = std::env::var("CALL_SOCKET") {
        let _ = UnixStream::connect(path);
    }
    let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        // A caller that goes away is none of the others' business.
        let _ = stream.and_then(answer);
    }
    Ok(())
}

fn answer(stream: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    if std::env::var("WAIT_FOR").is_ok_and(|file| !file.is_empty() && !Path::new(&file).exists()) {
        return Ok(());
    }
    let broken = std::env::var("BROKEN").is_ok_and(|broken| !broken.is_empty());
    let (status, body) = match request.split(' ').nth(1) {
        Some("/health") => ("200 OK", "up".to_owned()),
        Some("/") if !broken => ("200 OK", format!("version {}", std::env::var("VERSION").unwrap_or_default())),
        _ => ("500 Internal Server Error", "of no use".to_owned()),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.flush()
}
