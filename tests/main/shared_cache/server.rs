//! A server that stores what is uploaded, and misbehaves on request.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server responds to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Works,
    /// Responds with status 500.
    Broken,
    /// Reads the request and doesn't respond.
    Silent,
    /// Closes the connection within the response.
    BreaksOff,
    /// Responds with other content.
    Lies,
}

/// The stored content and the requests.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) authorizations: Vec<String>,
    pub(super) requests: usize,
}

pub(super) struct Server {
    pub(super) address: String,
    pub(super) kept: Arc<Mutex<Kept>>,
    manner: Arc<Mutex<Behaviour>>,
}

impl Server {
    pub(super) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (kept, manner) = (Arc::new(Mutex::new(Kept::default())), Arc::new(Mutex::new(Behaviour::Works)));
        let server = Server { address, kept: Arc::clone(&kept), manner: Arc::clone(&manner) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, manner) = (Arc::clone(&kept), Arc::clone(&manner));
                thread::spawn(move || answer(&stream, &kept, &manner));
            }
        });
        server
    }

    pub(super) fn behaves(&self, manner: Behaviour) {
        *self.manner.lock().expect("a lock") = manner;
    }

    pub(super) fn requests(&self) -> usize {
        self.kept.lock().expect("a lock").requests
    }
}

fn answer(stream: &TcpStream, kept: &Mutex<Kept>, manner: &Mutex<Behaviour>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or_default() == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let header = |name: &str| {
            head.iter().filter_map(|line| line.split_once(": ")).find(|(is, _)| is.eq_ignore_ascii_case(name))
        };
        let length = header("content-length").map_or(0, |(_, length)| length.parse().expect("a number"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let mut words = head[0].split(' ').map(str::to_owned);
        let (method, path) = (words.next().expect("a word"), words.next().expect("a word"));
        let mut kept = kept.lock().expect("a lock");
        kept.requests += 1;
        kept.authorizations.extend(header("authorization").map(|(_, value)| value.to_owned()));
        let manner = *manner.lock().expect("a lock");
        let (status, mut content) = match (method.as_str(), kept.files.get(&path).cloned()) {
            ("GET", Some(content)) => ("200 OK", content),
            ("GET", None) => ("404 Not Found", Vec::new()),
            _ => {
                kept.files.insert(path, body);
                ("201 Created", Vec::new())
            }
        };
        drop(kept);
        if manner == Behaviour::Lies && status == "200 OK" {
            content = b"<html>Welcome to the hotel's network</html>".to_vec();
        }
        let announced = content.len();
        match manner {
            Behaviour::Silent => thread::sleep(Duration::from_secs(120)),
            Behaviour::BreaksOff => content.truncate(announced / 2),
            Behaviour::Works | Behaviour::Broken | Behaviour::Lies => {}
        }
        let status = if manner == Behaviour::Broken { "500 Internal Server Error" } else { status };
        let modified = "Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\nETag: \"1\"";
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {announced}\r\n{modified}\r\n\r\n");
        let mut stream = stream;
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&content)).is_err()
            || manner == Behaviour::BreaksOff
        {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
