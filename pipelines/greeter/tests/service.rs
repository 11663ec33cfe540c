//! Tests of the built program over a socket.
#![expect(clippy::unwrap_used, reason = "a helper that fails should fail its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

/// A running greeter on a free port; killed when dropped.
struct Greeter {
    process: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Greeter {
    fn start(env: &[(&str, &str)]) -> Greeter {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
        command.env_clear().env("PORT", "0").envs(env.iter().copied()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit_once("http://").unwrap().1.parse().unwrap();
        let greeter = Greeter { process, stdout, address };
        wait_until("it is ready", || greeter.get("/ready").0 == 200);
        greeter
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes and returns the whole response.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read_all(stream)
    }

    fn get(&self, target: &str) -> (u16, Json) {
        let response = self.exchange(format!("GET {target} HTTP/1.1\r\nHost: greeter\r\n\r\n").as_bytes());
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (status(head), serde_json::from_str(body).unwrap())
    }

    fn terminate(&self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Polls a condition that is expected to hold within milliseconds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_all(mut stream: TcpStream) -> String {
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn status(response: &str) -> u16 {
    response.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_greeting_can_be_configured() {
    let greeter = Greeter::start(&[("GREETING", "Ahoy")]);
    assert_eq!(greeter.get("/"), (200, json!({ "greeting": "Ahoy, world!", "version": env!("CARGO_PKG_VERSION") })));
    assert_eq!(greeter.get("/greet?name=Zo%C3%AB").1["greeting"], "Ahoy, Zoë!");
    assert_eq!(greeter.get("/greet?lang=fr&name=Zo%C3%AB").1["greeting"], "Bonjour, Zoë!");
    assert_eq!(greeter.get("/health"), (200, json!({ "status": "up" })));
    assert_eq!(greeter.get("/nowhere").0, 404);
}

#[test]
fn head_has_no_body() {
    let response = Greeter::start(&[]).exchange(b"HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(status(&response), 200);
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

#[test]
fn an_endless_head_is_refused() {
    let greeter = Greeter::start(&[]);
    let mut request = b"GET / HTTP/1.1\r\nx: ".to_vec();
    // Just up to the limit: what is left unread in the socket would reset the connection before the answer is read.
    request.resize(8 * 1024, b'x');
    assert_eq!(status(&greeter.exchange(&request)), 431);
}

#[test]
fn a_silent_client_gets_a_timeout_response() {
    let response = read_all(Greeter::start(&[]).connect());
    assert_eq!(status(&response), 408);
}

#[test]
fn a_running_request_is_completed_before_the_shutdown() {
    let mut greeter = Greeter::start(&[]);
    let mut stream = greeter.connect();
    stream.write_all(b"GET /greet?name=last HTTP/1.1\r\n").unwrap();
    // Connections are accepted in turn: once a later one is answered, the first is under way.
    assert_eq!(greeter.get("/health").0, 200);
    greeter.terminate();
    let mut line = String::new();
    greeter.stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "greeter stops\n");
    wait_until("it has stopped listening", || TcpStream::connect(greeter.address).is_err());
    stream.write_all(b"\r\n").unwrap();
    assert!(read_all(stream).contains("Hello, last!"));
    assert!(greeter.wait().success());
}

#[test]
fn an_invalid_port_is_reported() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
    let output = command.env_clear().env("PORT", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "greeter: PORT must be 0 to 65535\n");
}
