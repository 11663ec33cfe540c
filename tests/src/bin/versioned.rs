//! A service for deploys: it responds to `/health`, and returns its `VERSION` at `/`. With `BROKEN` it is healthy but
//! responds with errors at `/`, and logs them. At `/slow` it responds after a while, piece by piece, and at `/echo` it changes
//! the protocol and returns what it gets. With `WAIT_FOR` it doesn't respond before that file exists. With `CALL` and
//! `CALL_SOCKET` it first connects to a port of this machine and to a Unix socket. With `EXIT` it ends at once, with that code.
//! At `/read/PATH` it returns a file, and at `/append/PATH` it appends its version to one, and returns it.
//! With the argument `check` it asks the one that runs for its health, and fails unless that responds.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a separate program, configured by its environment like a service"
)]

use std::fs::{File, read_to_string};
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

fn main() -> Result<()> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
    if std::env::args().nth(1).is_some_and(|argument| argument == "check") {
        return check(port);
    }
    if let Some(code) = std::env::var("EXIT").ok().and_then(|code| code.parse().ok()) {
        eprintln!("no database");
        std::process::exit(code);
    }
    // Whether the connections succeed is checked by the listeners.
    if let Ok(port) = std::env::var("CALL") {
        let _ = TcpStream::connect(format!("127.0.0.1:{port}"));
    }
    if let Ok(path) = std::env::var("CALL_SOCKET") {
        let _ = UnixStream::connect(path);
    }
    let host = std::env::var("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
    for stream in TcpListener::bind((host, port))?.incoming() {
        // A client that disconnects, or takes its time, must not affect other clients.
        std::thread::spawn(move || stream.and_then(answer));
    }
    Ok(())
}

fn check(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /health HTTP/1.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(Error::other("not healthy")) }
}

fn answer(stream: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    if std::env::var("WAIT_FOR").is_ok_and(|file| !file.is_empty() && !Path::new(&file).exists()) {
        return Ok(());
    }
    match request.split(' ').nth(1) {
        Some("/slow") => return answer_slowly(stream),
        Some("/echo") => return echo(stream),
        _ => {}
    }
    let broken = std::env::var("BROKEN").is_ok_and(|broken| !broken.is_empty());
    let (status, body) = match request.split(' ').nth(1) {
        Some(path) if path.starts_with("/read/") => file(read_to_string(&path[5..])),
        Some(path) if path.starts_with("/append/") => file(append(&path[7..])),
        Some("/health") => ("200 OK", "up".to_owned()),
        Some("/") if !broken => ("200 OK", version()),
        _ => {
            eprintln!("no stock");
            ("500 Internal Server Error", "broken".to_owned())
        }
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.flush()
}

fn file(content: Result<String>) -> (&'static str, String) {
    match content {
        Ok(text) => ("200 OK", text),
        Err(error) => ("404 Not Found", error.to_string()),
    }
}

fn append(path: &str) -> Result<String> {
    writeln!(File::options().create(true).append(true).open(path)?, "{}", version())?;
    read_to_string(path)
}

fn version() -> String {
    format!("version {}", std::env::var("VERSION").unwrap_or_default())
}

/// Takes two seconds for ten pieces of the response.
fn answer_slowly(mut stream: TcpStream) -> Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200));
        let piece = format!("{};", version());
        write!(stream, "{:x}\r\n{piece}\r\n", piece.len())?;
        stream.flush()?;
    }
    stream.write_all(b"0\r\n\r\n")
}

fn echo(mut stream: TcpStream) -> Result<()> {
    write!(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")?;
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        writeln!(stream, "{}: {}", version(), line?)?;
    }
    Ok(())
}
