//! The egress guard, the proxy and the forwarded ports, over loopback.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use stagewright_model::Permissions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::background::Background;
use super::credentials::ProxyCredentials;
use super::dial::Dialer;
use super::egress::{EgressGuard, WAIT};
use super::proxy::{IDLE, serve};
use super::resolve::addresses;
use super::{Lookup, Upstream};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::OwnOrigins;
use crate::policy::Policy;

mod bounds;
mod download;
mod plain;
mod signed;
mod tunnel;
mod upstream;

/// The timeout for everything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name server that returns these answers in turn, and the last one from then on.
pub(super) struct Script(Mutex<Vec<Vec<IpAddr>>>);

impl Script {
    pub(super) fn new(answers: &[&[&str]]) -> Script {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Script(Mutex::new(answers.iter().rev().map(addresses).collect()))
    }
}

impl Lookup for Script {
    fn lookup(&self, _name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Box::pin(async { answer.ok_or(io::ErrorKind::NotFound.into()) })
    }
}

/// A proxy with an egress guard.
struct Fixture {
    address: SocketAddr,
    egress: Arc<EgressGuard>,
    own: OwnOrigins,
    reported: Arc<Mutex<Vec<CapabilityError>>>,
    handle: Background,
}

struct Setup<'a> {
    net: &'a [&'a str],
    lookup: Script,
    environment: &'a [(&'a str, &'a str)],
    connections: usize,
    wait: Duration,
    idle: Duration,
    credentials: Option<Arc<ProxyCredentials>>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        let lookup = Script::new(&[&["127.0.0.1"]]);
        Setup { net: &[], lookup, environment: &[], connections: 100, wait: WAIT, idle: IDLE, credentials: None }
    }
}

impl Setup<'_> {
    async fn start(self) -> Fixture {
        let net = self.net.iter().map(|entry| entry.parse().unwrap()).collect();
        let permissions = Permissions { net, ..Permissions::default() };
        let policy = Arc::new(Policy::new("stages.test", &permissions, &Default::default(), Arc::default()));
        let environment: BTreeMap<_, _> =
            self.environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let dialer = Arc::new(Dialer::new(&Upstream::of(&environment), Arc::new(self.lookup)));
        let (own, reported) = (OwnOrigins::default(), Arc::new(Mutex::new(Vec::new())));
        let seen = reported.clone();
        let report = Arc::new(move |denied: &CapabilityError| seen.lock().unwrap().push(denied.clone()));
        let egress = Arc::new(EgressGuard::new(policy, own.clone(), dialer, report, self.connections, self.wait));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handle = serve(listener, egress.clone(), self.credentials, self.idle);
        Fixture { address, egress, own, reported, handle }
    }
}

async fn proxy(net: &[&str]) -> Fixture {
    Setup { net, ..Setup::default() }.start().await
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The complete response to `request`, until the connection ends.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    /// A connection after `CONNECT authority`, and the head of the response.
    async fn tunnel(&self, authority: &str) -> (TcpStream, String) {
        let mut stream = self.connect().await;
        stream
            .write_all(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = head(&mut stream).await;
        (stream, head)
    }

    /// The messages of the reported denials.
    fn denials(&self) -> Vec<String> {
        self.reported.lock().unwrap().iter().map(|denied| denied.message.clone()).collect()
    }
}

/// Everything that is received until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset ends the connection too.
    let ended = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    let received = String::from_utf8_lossy(&all).into_owned();
    assert!(ended.is_ok(), "still open after {received:?}");
    received
}

/// The head of a response, including the empty line.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("an answer");
        head.push(byte.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A host. `seen` is what it received, by connection.
struct Host {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    _task: Background,
}

impl Host {
    /// Sends `greeting`, reads up to `end` or the end of the connection, sends `answer`, and closes.
    async fn start(greeting: &'static str, end: &'static str, answer: &'static str) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = Background::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(greeting.as_bytes()).await.unwrap();
                let mut said = Vec::new();
                while end.is_empty() || !said.ends_with(end.as_bytes()) {
                    if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                // One character for each byte, even for binary data.
                log.lock().unwrap().push(said.iter().copied().map(char::from).collect());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Host { port, seen, _task: task }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn each_lookup_is_checked_by_its_own_answer() {
    let rebinding = Script::new(&[&["93.184.215.14"], &["127.0.0.1"]]);
    assert_eq!(addresses(&rebinding, "example.org").await.unwrap(), ["93.184.215.14".parse::<IpAddr>().unwrap()]);
    let refused = addresses(&rebinding, "Example.org").await.unwrap_err().to_string();
    assert_eq!(refused, "`example.org` resolves to 127.0.0.1, which is this machine's loopback");
}

#[tokio::test]
async fn only_the_allowed_addresses_of_a_mixed_answer_are_used() {
    let mixed = Script::new(&[&["127.0.0.1", "93.184.215.14", "::1", "169.254.169.254", "2606:2800::1"]]);
    let found = addresses(&mixed, "example.org").await.unwrap();
    assert_eq!(found, ["93.184.215.14", "2606:2800::1"].map(|address| address.parse::<IpAddr>().unwrap()));
    let nothing = Script::new(&[&[]]);
    assert!(addresses(&nothing, "example.org").await.is_err());
}
