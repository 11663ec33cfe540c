//! The proxy over real connections.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::control::{ProxyReport, reload};
use super::matching::{HeaderMatch, HeaderValueMatch};
use super::serve::run;
use super::table::{Backend, RoutingTable};

/// A replica that answers by a function of the request's head, and keeps connections open.
struct Replica {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Replica {
    /// `answer` gets the head of each request, and the number of its connection, from 1.
    async fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + Copy + 'static) -> Replica {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        let answer = answer(&head, number);
                        tokio::time::sleep(answer.after).await;
                        if stream.write_all(answer.text.as_bytes()).await.is_err() || answer.closes {
                            break;
                        }
                    }
                });
            }
        });
        Replica { port, connections }
    }

    async fn named(name: &'static str) -> Replica {
        match name {
            "old" => Replica::start(|_, _| Answer::body("old")).await,
            _ => Replica::start(|_, _| Answer::body("new")).await,
        }
    }

    fn backend(&self, release: &str) -> Backend {
        Backend { release: release.to_owned(), ports: vec![self.port] }
    }
}

struct Answer {
    text: String,
    after: Duration,
    closes: bool,
}

impl Answer {
    fn body(body: &str) -> Answer {
        Answer::raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn raw(text: &str) -> Answer {
        Answer { text: text.to_owned(), after: Duration::ZERO, closes: false }
    }

    fn close() -> Answer {
        Answer { closes: true, ..Answer::raw("") }
    }
}

/// The head of a message, without a body that follows it; none at the end of the connection.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A proxy in this process.
struct Running {
    dir: TempDir,
    address: std::net::SocketAddr,
}

impl Running {
    async fn with(table: RoutingTable) -> Running {
        let dir = tempfile::tempdir().unwrap();
        table.write(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = dir.path().to_owned();
        tokio::spawn(async move { run(listener, &folder, 64).await.unwrap() });
        let running = Running { dir, address };
        running.report().await;
        running
    }

    /// Replaces the table, and has the proxy read it.
    async fn direct(&self, table: &RoutingTable) {
        table.write(self.dir.path()).unwrap();
        assert_eq!(self.report().await.table, *table);
    }

    async fn report(&self) -> ProxyReport {
        let dir = self.dir.path().to_owned();
        let asked = |dir: &Path| (0..100).find_map(|_| reload(dir).ok().or_else(pause)).unwrap();
        tokio::task::spawn_blocking(move || asked(&dir)).await.unwrap()
    }

    async fn busy(&self) -> usize {
        self.report().await.in_flight.values().sum()
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }
}

fn pause<T>() -> Option<T> {
    std::thread::sleep(super::PAUSE);
    None
}

/// A client that keeps its connection.
struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The head and the body of a response with a length.
    async fn receive(&mut self) -> (String, String) {
        let head = timeout(Duration::from_secs(10), read_head(&mut self.0)).await.unwrap().expect("a response");
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    async fn get(&mut self) -> String {
        self.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await;
        self.receive().await.1
    }
}

#[tokio::test]
async fn the_requests_of_one_connection_are_shared_among_releases() {
    let (old, new) = (Replica::named("old").await, Replica::named("new").await);
    let shared =
        |weight| RoutingTable::shared(Some(1), Some(old.backend("old")), new.backend("new"), weight, Vec::new());
    let proxy = Running::with(shared(25)).await;
    let mut client = proxy.client().await;
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        *answers.entry(client.get().await).or_default() += 1;
    }
    let canary = answers["new"];
    assert!((49..=50).contains(&canary) && canary + answers["old"] == 200, "{answers:?}");
    proxy.direct(&shared(100)).await;
    assert_eq!(client.get().await, "new");
    proxy.direct(&shared(0)).await;
    assert_eq!(client.get().await, "old");
    assert!(old.connections.load(Ordering::SeqCst) < 20, "connections are used again");
}

#[tokio::test]
async fn requests_go_to_a_release_by_their_headers_beside_its_share() {
    let (old, new) = (Replica::named("old").await, Replica::named("new").await);
    let value = HeaderValueMatch::Regex(r"(.*;\s*)?canary=(yes|\d+)(;.*)?".to_owned());
    let conditions = vec![
        HeaderMatch { header: "X-Canary".to_owned(), value: HeaderValueMatch::Exact("always".to_owned()) },
        HeaderMatch { header: "Cookie".to_owned(), value },
    ];
    let table = |weight| {
        let (old, new) = (Some(old.backend("old")), new.backend("new"));
        RoutingTable::shared(Some(1), old, new, weight, conditions.clone())
    };
    let proxy = Running::with(table(0)).await;
    let mut client = proxy.client().await;
    for (headers, release) in [
        ("X-CANARY: always\r\n", "new"),
        ("Cookie: a=1\r\nCookie: canary=17\r\n", "new"),
        ("X-Canary: always2\r\n", "old"),
        ("Cookie: canary=no\r\n", "old"),
        ("", "old"),
    ] {
        client.send(&format!("GET / HTTP/1.1\r\nHost: app\r\n{headers}\r\n")).await;
        assert_eq!(client.receive().await.1, release, "{headers}");
    }
    proxy.direct(&table(25)).await;
    let mut canary = 0;
    for _ in 0..100 {
        client.send("GET / HTTP/1.1\r\nHost: app\r\nX-Canary: always\r\n\r\n").await;
        assert_eq!(client.receive().await.1, "new");
        canary += u32::from(client.get().await == "new");
    }
    assert!((24..=25).contains(&canary), "{canary} of 100 without the header");
    proxy.direct(&RoutingTable::all_to(Some(1), Some(old.backend("old")))).await;
    client.send("GET / HTTP/1.1\r\nHost: app\r\nX-Canary: always\r\n\r\n").await;
    assert_eq!(client.receive().await.1, "old");
}

#[tokio::test]
async fn without_a_release_requests_are_refused() {
    let proxy = Running::with(RoutingTable::default()).await;
    let mut client = proxy.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await;
    let (head, body) = client.receive().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("retry-after: 1"), "{head}");
    assert_eq!(body, "no release serves\n");
    client.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(client.receive().await.0.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn a_replica_that_accepts_no_connection_is_passed_over() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = gone.local_addr().unwrap().port();
    drop(gone);
    let old = Replica::named("old").await;
    let backend = |ports: &[u16]| Some(Backend { release: "old".to_owned(), ports: ports.to_vec() });
    let proxy = Running::with(RoutingTable::all_to(None, backend(&[dead, old.port]))).await;
    let mut client = proxy.client().await;
    for _ in 0..4 {
        assert_eq!(client.get().await, "old");
    }
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.receive().await.1, "old", "it was sent to one of the two");
    proxy.direct(&RoutingTable::all_to(None, backend(&[dead]))).await;
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await;
    assert!(client.receive().await.0.starts_with("HTTP/1.1 502 "));
}

/// Closes every connection with its second request, which is a race that a server with a short timeout loses.
async fn closing_replica() -> Replica {
    Replica::start(|head, number| match (head.contains("second"), number) {
        (true, 1) => Answer::close(),
        _ => Answer::body("old"),
    })
    .await
}

#[tokio::test]
async fn a_request_is_sent_again_only_if_that_is_safe() {
    let replica = closing_replica().await;
    let proxy = Running::with(RoutingTable::all_to(None, Some(replica.backend("old")))).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get().await, "old");
    client.send("GET /second HTTP/1.1\r\nHost: app\r\n\r\n").await;
    assert_eq!(client.receive().await.1, "old");
    assert_eq!(replica.connections.load(Ordering::SeqCst), 2);

    // The only connection was used before, so that a request that must not be repeated gets another one.
    let replica = Replica::start(|_, number| if number == 2 { Answer::close() } else { Answer::body("old") }).await;
    proxy.direct(&RoutingTable::all_to(None, Some(replica.backend("old")))).await;
    assert_eq!(client.get().await, "old");
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi").await;
    assert!(client.receive().await.0.starts_with("HTTP/1.1 502 "));
    assert_eq!(replica.connections.load(Ordering::SeqCst), 2, "it wasn't sent again");
}

#[tokio::test]
async fn a_slow_request_ends_where_it_began_and_keeps_the_replica_busy() {
    let old = Replica::start(|_, _| Answer { after: Duration::from_millis(300), ..Answer::body("old") }).await;
    let new = Replica::named("new").await;
    let proxy = Running::with(RoutingTable::all_to(Some(1), Some(old.backend("old")))).await;
    let mut slow = proxy.client().await;
    slow.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await;
    while proxy.busy().await == 0 {
        tokio::time::sleep(super::PAUSE).await;
    }
    proxy.direct(&RoutingTable::all_to(Some(2), Some(new.backend("new")))).await;
    assert_eq!(proxy.report().await.in_flight[&old.port], 1);
    assert_eq!(proxy.client().await.get().await, "new");
    assert_eq!(slow.receive().await.1, "old");
    while proxy.busy().await > 0 {
        tokio::time::sleep(super::PAUSE).await;
    }
    assert_eq!(slow.get().await, "new", "the connection stays, its next request goes to the new release");
}

#[tokio::test]
async fn an_upgraded_connection_passes_through_and_keeps_the_replica_busy() {
    let echo =
        Replica::start(|head, _| match head.contains("Upgrade: websocket") || head.contains("upgrade: websocket") {
            true => {
                Answer::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            }
            false => Answer::raw(head),
        })
        .await;
    let proxy = Running::with(RoutingTable::all_to(None, Some(echo.backend("old")))).await;
    let mut client = proxy.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let (head, _) = client.receive().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket"), "{head}");
    proxy.direct(&RoutingTable::default()).await;
    client.send("ping\r\n\r\n").await;
    assert_eq!(read_head(&mut client.0).await.as_deref(), Some("ping\r\n\r\n"));
    assert_eq!(proxy.busy().await, 1);
    drop(client);
    while proxy.busy().await > 0 {
        tokio::time::sleep(super::PAUSE).await;
    }
}

#[tokio::test]
async fn a_streamed_response_arrives_piece_by_piece() {
    let replica =
        Replica::start(|_, _| Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")).await;
    let proxy = Running::with(RoutingTable::all_to(None, Some(replica.backend("old")))).await;
    let mut client = proxy.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n").await;
    assert!(read_head(&mut client.0).await.unwrap().to_lowercase().contains("transfer-encoding: chunked"));
    let mut piece = [0; 7];
    timeout(Duration::from_secs(10), client.0.read_exact(&mut piece)).await.expect("before the response ends").unwrap();
    assert_eq!(&piece, b"2\r\nhi\r\n");
    assert_eq!(proxy.busy().await, 1);
}

#[tokio::test]
async fn headers_for_the_next_hop_alone_are_removed() {
    let echo = Replica::start(|head, _| {
        let body = head.replace("\r\n", "|");
        Answer::raw(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: x-inner\r\nX-Inner: 1\r\n\r\n{body}",
            body.len()
        ))
    })
    .await;
    let proxy = Running::with(RoutingTable::all_to(None, Some(echo.backend("old")))).await;
    let mut client = proxy.client().await;
    let lines = [
        "GET http://named.example/a?b HTTP/1.1",
        "Host: other.example",
        "X-Forwarded-For: 10.0.0.1",
        "Connection: X-Hop, keep-alive",
        "X-Hop: 1",
        "Keep-Alive: 5",
        "X-Cased-Name: kept",
    ];
    client.send(&format!("{}\r\n\r\n", lines.join("\r\n"))).await;
    let (head, seen) = client.receive().await;
    assert!(!head.to_lowercase().contains("x-inner"), "{head}");
    assert!(seen.starts_with("GET /a?b HTTP/1.1|"), "{seen}");
    assert!(seen.contains("|Host: named.example|") && seen.contains("|X-Cased-Name: kept|"), "{seen}");
    assert!(seen.contains("10.0.0.1") && seen.to_lowercase().contains("x-forwarded-for: 127.0.0.1"), "{seen}");
    assert!(!seen.to_lowercase().contains("x-hop") && !seen.to_lowercase().contains("keep-alive"), "{seen}");
}
