//! The network: one port of this machine is granted, and no other service can be reached.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use super::{holds, log, repository, stage, tries, write_pipeline};

/// A server that responds to every request and keeps the requests.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `away`: the port to which requests for `/away` are redirected.
    fn new(away: u16) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut buffer = [0; 4096];
                // A client that sends nothing counts as connected.
                let length = stream.read(&mut buffer).unwrap_or(0);
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let answer = match said.contains("/away") {
                    true => format!("302 Found\r\nLocation: http://127.0.0.1:{away}/secret"),
                    false => "200 OK".to_owned(),
                };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                // The client may have disconnected.
                let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 8\r\nConnection: close\r\n\r\nwelcome\n");
            }
        });
        Server { port, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const PROGRAMS: &str = r#"process = ["sh", "tools/hostile", "curl"]"#;

#[test]
fn a_stage_without_a_network_reaches_nothing() {
    let environment = repository();
    let server = Server::new(0);
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
    datagrams.set_nonblocking(true).expect("a socket");
    let (tcp, udp) = (server.port, datagrams.local_addr().expect("an address").port());
    let script = format!(
        "may curl --version
        never tools/hostile tcp 127.0.0.1:{tcp}
        never tools/hostile tcp [::1]:{tcp}
        never tools/hostile tcp 169.254.169.254:80
        never tools/hostile tcp 10.255.255.1:443
        never tools/hostile udp 10.255.255.53:53
        never tools/hostile udp 169.254.169.254:53
        tools/hostile udp 127.0.0.1:{udp}
        never curl -sS -m 20 http://127.0.0.1:{tcp}/
        never curl -sSf -m 20 http://example.org/
        never getent hosts example.org
        never getent hosts localhost.example.org
        never curl -sS -m 20 --noproxy '*' http://example.org/
        never curl -sSf -m 20 -x $HTTPS_PROXY http://127.0.0.1:{tcp}/
        never curl -sSk -m 20 -x $HTTPS_PROXY -p https://127.0.0.1:{tcp}/
        never curl -sS -m 20 -x socks5h://${{HTTPS_PROXY#http://}} http://127.0.0.1:{tcp}/
        never sh -c 'grep -v -e lo: -e \"|\" /proc/net/dev'"
    );
    tries(&environment, PROGRAMS, &script);
    assert_eq!(server.seen(), Vec::<String>::new());
    assert!(datagrams.recv(&mut [0; 8]).is_err(), "a datagram came through");
}

#[test]
fn what_was_granted_is_reached_and_its_neighbours_are_not() {
    let environment = repository();
    let (granted, other) = (Server::new(0), Server::new(0));
    let (port, closed) = (granted.port, other.port);
    let script = format!(
        "may curl -sS -m 20 http://127.0.0.1:{port}/direct
        may curl -sS -m 20 --noproxy '' http://127.0.0.1:{port}/by-proxy
        never tools/hostile tcp 127.0.0.1:{closed}
        never tools/hostile tcp 169.254.169.254:80
        never tools/hostile udp 10.255.255.53:53
        asks() {{ curl -sSf -m 20 --noproxy '' \"$@\"; }}
        never asks http://127.0.0.1:{closed}/
        never asks http://localhost:{closed}/
        never asks http://2130706433:{closed}/
        never asks 'http://[::ffff:127.0.0.1]:{closed}/'
        never asks http://0.0.0.0:{closed}/
        never asks http://127.0.0.1:{port}@127.0.0.1:{closed}/
        never asks -H 'Host: 127.0.0.1:{port}' http://127.0.0.1:{closed}/
        never asks http://169.254.169.254/latest/meta-data/
        never asks -p http://127.0.0.1:{closed}/
        never asks -p http://169.254.169.254/
        never asks -x socks5h://${{HTTP_PROXY#http://}} http://127.0.0.1:{closed}/"
    );
    tries(&environment, &format!("{PROGRAMS}\nnet = [\"http://127.0.0.1:{port}\"]"), &script);
    assert_eq!(other.seen(), Vec::<String>::new());
    // A program may not print the refusal, so look into the journal.
    let recorded = environment.run(&["show", "latest", "--format", "json"]).exits(0).stdout;
    for host in [&format!("127.0.0.1:{closed}"), "169.254.169.254"] {
        let is_denial = |line: &&str| line.contains(r#""code":"permission-denied""#) && line.contains(host);
        assert!(recorded.lines().any(|line| is_denial(&line)), "{host} is not in the journal: {recorded}");
    }
    let seen = granted.seen();
    assert!(seen.iter().any(|said| said.contains("/direct")) && seen.iter().any(|said| said.contains("/by-proxy")));
}

#[test]
fn a_granted_host_cannot_redirect_a_program_to_another_one() {
    let environment = repository();
    let other = Server::new(0);
    let granted = Server::new(other.port);
    let port = granted.port;
    let script = format!(
        "may curl -sSf -m 20 -L http://127.0.0.1:{port}/here
        may curl -sSf -m 20 http://127.0.0.1:{port}/away
        never curl -sSf -m 20 -L http://127.0.0.1:{port}/away
        never curl -sSf -m 20 -L --noproxy '' http://127.0.0.1:{port}/away"
    );
    tries(&environment, &format!("{PROGRAMS}\nnet = [\"http://127.0.0.1:{port}\"]"), &script);
    assert_eq!(other.seen(), Vec::<String>::new());
    assert_eq!(granted.seen().len(), 4);
}

/// A refusal names the requested host, which may contain a secret.
#[test]
fn secrets_in_a_refusal_are_masked() {
    let mut environment = repository();
    environment.set("TOKEN", "hunter2-hunter2");
    let script = "may test -n \"$HTTP_PROXY\"; never curl -sSf -m 20 http://$TOKEN.test/";
    let permissions = format!("{PROGRAMS}\nnet = [\"http://granted.test\"]\nsecrets = [\"token\"]");
    let with = "with = { secret-env = { TOKEN = \"token\" },";
    let attack = stage("attack", "", &permissions, script).replacen("with = {", with, 1);
    write_pipeline(&environment, &["[secrets.token]\nfrom = \"env:TOKEN\"\n".to_owned(), attack]);
    let mut shown = environment.run(&["run", "--format", "json"]).exits(0).stdout;
    shown += &log(&environment, "attack");
    shown += &environment.run(&["show", "latest", "--format", "json"]).exits(0).stdout;
    holds(&log(&environment, "attack"));
    assert!(!shown.contains("hunter2-hunter2"), "{shown}");
    assert!(shown.contains("denied: the stage may not call http://***.test"), "{shown}");
}

/// If several hosts share an address, the name in the TLS handshake selects one of them.
#[test]
fn a_tunnel_to_one_host_cannot_be_used_for_another() {
    let environment = repository();
    let server = Server::new(0);
    let port = server.port;
    // The server doesn't speak TLS: the test checks which handshakes reach it.
    let script = format!(
        "tunnel() {{ curl -sSk -m 20 --noproxy '' -x $HTTPS_PROXY --connect-to \"$1:443:localhost:{port}\" https://$1/; }}
        never tunnel other.test
        never tunnel localhost
        may test -n \"$HTTPS_PROXY\""
    );
    tries(&environment, &format!("{PROGRAMS}\nnet = [\"https://localhost:{port}\"]"), &script);
    let seen = server.seen();
    assert!(seen.iter().any(|said| said.contains("localhost")), "the granted name is refused: {seen:?}");
    assert!(!seen.iter().any(|said| said.contains("other.test")), "{seen:?}");
}
