//! Requests go only to granted origins, regardless of redirects and name resolution, and secrets only to their hosts.

use super::server::{Endless, Server, ok, to};
use super::{DENIED, TOKEN, attack, pipeline, repository};
use crate::environment::{Ended, TestEnvironment, binary};

fn call(url: &str) -> String {
    format!(r#"do = "call", url = "{url}""#)
}

/// A call with the secret in the header `authorization`.
fn call_with_secret(url: &str) -> String {
    format!(r#"do = "call", url = "{url}", secret-headers = {{ authorization = "token" }}"#)
}

/// The same, with a result that is spelled letter by letter, so that masking doesn't hide what the guest got.
fn spell_with_secret(url: &str) -> String {
    format!(r#"do = "spell", url = "{url}", secret-headers = {{ authorization = "token" }}"#)
}

#[test]
fn redirects_are_followed_only_to_granted_origins() {
    let other = Server::start(|_| ok("", "other"));
    let targets = [
        other.origin(),
        "http://169.254.169.254/latest/meta-data/iam".to_owned(),
        "http://[::ffff:169.254.169.254]/".to_owned(),
        "http://2852039166/".to_owned(),
        "https://127.0.0.1/".to_owned(),
        "file:///etc/hostname".to_owned(),
    ];
    for target in targets {
        let location = target.clone();
        let server = Server::start(move |_| to(&location));
        let grant = format!("net = [\"{}\"]", server.origin());
        let answers = attack(&repository(), &[&call(&server.origin())], &grant).answers();
        let refused = [DENIED, "ErrorCode::InvalidArgument"];
        assert!(refused.contains(&answers[0].as_str()), "{target}: {answers:?}");
    }
    assert_eq!(other.asked(), Vec::<String>::new());
    let location = other.origin();
    let server = Server::start(move |_| to(&location));
    let grant = format!("net = [\"{}\", \"{}\"]", server.origin(), other.origin());
    assert_eq!(attack(&repository(), &[&call(&server.origin())], &grant).answers(), ["200  other"]);
}

/// Names that resolve to this machine, and to the metadata service of clouds.
#[test]
fn a_name_leads_neither_to_this_machine_nor_to_its_clouds_credentials() {
    let server = Server::start(|_| ok("", "served"));
    let port = server.port;
    let environment = repository();
    environment.write("hosts", "127.0.0.1 localhost\n127.0.0.1 rebound.test\n169.254.169.254 cloud.test\n");
    let urls = [
        format!("http://rebound.test:{port}/"),
        "http://cloud.test/latest/meta-data".to_owned(),
        format!("http://localhost:{port}/"),
    ];
    let actions = urls.each_ref().map(|url| call(url));
    let grant = format!("net = [\"http://rebound.test:{port}\", \"http://cloud.test\", \"http://localhost:{port}\"]");
    environment.write("stagewright.toml", &pipeline(&actions.each_ref().map(String::as_str), "", &grant));
    let shown = with_hosts(&environment).exits(0).stdout;
    let answers = shown.lines().find(|line| line.contains(r#""answers""#)).unwrap();
    assert!(answers.contains(&format!(r#"["{DENIED}","{DENIED}","200  served"]"#)), "{answers}");
    assert!(shown.contains("rebound.test") && shown.contains("metadata service"), "{shown}");
    assert_eq!(server.asked().len(), 1, "only `localhost`, which is granted by name, is called");
}

/// Runs the pipeline on a machine where the file `hosts` is `/etc/hosts`.
fn with_hosts(environment: &TestEnvironment) -> Ended {
    let script = format!("mount --bind hosts /etc/hosts; exec {} run --format json", binary().display());
    let root = rustix::process::geteuid().is_root();
    let mut command = environment.program("unshare");
    command.args(if root { &["--mount"][..] } else { &["--mount", "--map-root-user"] }).args(["sh", "-ec", &script]);
    Ended::of(&command.output().expect("unshare starts"))
}

#[test]
fn a_secret_goes_to_its_hosts_alone_and_not_in_plain_text() {
    let server = Server::start(|_| ok("", "served"));
    let actions = [
        call_with_secret("http://10.255.255.1/"),
        call_with_secret(&format!("http://sub.localhost:{}/", server.port)),
        call_with_secret(&server.origin()),
    ];
    let grant = format!(
        "secrets = [\"token\"]\nnet = [\"http://10.255.255.1\", \"{}\", \"http://sub.localhost:{}\"]",
        server.origin(),
        server.port
    );
    let ended = attack(&repository(), &actions.each_ref().map(String::as_str), &grant);
    assert_eq!(ended.answers(), [DENIED, DENIED, "200  served"]);
    let denials = ended.denials().join("\n");
    assert!(denials.contains("plain text") && denials.contains("sub.localhost"), "{denials}");
    let asked = server.asked();
    assert!(asked.len() == 1 && asked[0].contains(&format!("authorization: Bearer {TOKEN}")), "{asked:?}");
}

#[test]
fn a_secret_stays_behind_when_a_redirect_leaves_its_origin() {
    let other = Server::start(|_| ok("", "other"));
    let location = other.origin();
    let server = Server::start(move |head| match head.starts_with("GET /within") {
        true => to("/landed"),
        false if head.starts_with("GET /landed") => ok("", "landed"),
        false => to(&location),
    });
    let actions = [call_with_secret(&format!("{}/within", server.origin())), call_with_secret(&server.origin())];
    let grant = format!("secrets = [\"token\"]\nnet = [\"{}\", \"{}\"]", server.origin(), other.origin());
    let ended = attack(&repository(), &actions.each_ref().map(String::as_str), &grant);
    assert_eq!(ended.answers(), ["200  landed", "200  other"]);
    assert!(server.asked().iter().all(|head| head.contains(TOKEN)), "{:?}", server.asked());
    assert!(other.asked().iter().all(|head| !head.contains("authorization")), "{:?}", other.asked());
}

#[test]
fn a_secret_echoed_by_a_server_is_masked() {
    let server = Server::start(|head| {
        let got = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default().to_owned();
        // In two chunks that split the secret, and again in a trailer.
        let (first, second) = got.split_at(got.len() / 2);
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\nx-echo: {got}\r\ntransfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nx-late: {got}\r\n\r\n",
            first.len(),
            second.len()
        )
    });
    let grant = format!("secrets = [\"token\"]\nnet = [\"{}\"]", server.origin());
    let ended = attack(&repository(), &[&spell_with_secret(&server.origin())], &grant);
    assert_eq!(ended.answers()[0], "2 0 0   B e a r e r   * * *   B e a r e r   * * * ");
    assert!(server.asked()[0].contains(TOKEN), "the server got the secret");
}

/// The error for a redirect that can't be followed contains its target.
#[test]
fn a_secret_in_a_redirect_is_masked() {
    let environment = repository();
    environment.write("../token.txt", "hunter2-of-the-registry");
    for place in ["http://{}.test/", "http://[{}"] {
        let server = Server::start(move |head| {
            let got = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
            to(&place.replace("{}", got))
        });
        let grant = format!("secrets = [\"token\"]\nnet = [\"{}\"]", server.origin());
        let ended = attack(&environment, &[&spell_with_secret(&server.origin())], &grant);
        assert!(server.asked()[0].contains("hunter2-of-the-registry"), "the server got the secret");
        let said = ended.answers()[0].split(' ').collect::<String>();
        assert!(said.contains("***") && !said.contains("hunter2"), "{place}: {said}");
        assert!(!format!("{:?}", ended.events).contains("hunter2"), "{place}: {:#?}", ended.events);
    }
}

#[test]
fn header_and_url_injection_is_refused() {
    let server = Server::start(|_| ok("", "served"));
    let origin = server.origin();
    let with =
        |header: &str, value: &str| format!(r#"do = "call", url = "{origin}", headers = {{ "{header}" = "{value}" }}"#);
    let actions = [
        with("host", "169.254.169.254"),
        with("transfer-encoding", "chunked"),
        with("x", "a\\r\\nhost: evil"),
        with("x\\r\\nhost", "evil"),
        format!(r#"do = "call", url = "http://user:{TOKEN_IN_URL}@127.0.0.1:{}/""#, server.port),
        format!(r#"do = "call", url = "{origin}", method = "GET / HTTP/1.1\r\nhost: evil""#),
        with("x-plain", "value"),
    ];
    let ended = attack(&repository(), &actions.each_ref().map(String::as_str), &format!("net = [\"{origin}\"]"));
    let answers = ended.answers();
    let (granted, refused) = answers.split_last().unwrap();
    assert_eq!(granted, "200  served");
    assert!(refused.iter().all(|answer| answer == "ErrorCode::InvalidArgument"), "{refused:#?}");
    assert_eq!(server.asked().len(), 1, "{:?}", server.asked());
}

/// Unread responses must be buffered neither in the engine's memory nor on its disk.
#[test]
fn unread_responses_are_limited_in_number_and_size() {
    let server = Endless::start();
    let url = format!("http://127.0.0.1:{}", server.port);
    let environment = repository();
    let hoard = format!(r#"do = "hoard", url = "{url}", times = 1000"#);
    let wait = r#"do = "wait", for-ms = 500"#;
    let grant = format!("net = [\"{url}\"]");
    environment.write("stagewright.toml", &pipeline(&[&hoard, wait], "limits.requests = 8", &grant));
    let ended = super::run(&environment);
    assert_eq!(ended.answers(), ["8", "done"]);
    // The buffers of a connection have a few megabytes.
    let sent = server.sent();
    assert!(sent > 0 && sent < 8 * (16 << 20), "{sent} bytes");
}

const TOKEN_IN_URL: &str = "password";

#[test]
fn a_socket_is_called_only_by_the_granted_methods_and_paths() {
    let environment = repository();
    let socket = environment.root().join("own.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut connection = connection.expect("a connection");
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(&ok("", "served"));
        }
    });
    let url = |path: &str| format!("unix://{}:{path}", socket.display());
    let grant = format!("net = [\"GET {}\"]", url("/info/*"));
    let linked = environment.root().join("linked.sock");
    std::os::unix::fs::symlink(&socket, &linked).expect("a link");
    let actions = [
        call(&url("/info/a?b=c")),
        call(&url("/containers/a")),
        call(&url("/info/../containers/a")),
        call(&url("/info/%2e%2e/containers/a")),
        call(&format!("unix://{}:/info/a", linked.display())),
        call(&format!("unix://{}/../own.sock:/info/a", environment.root().join("src").display())),
    ];
    let answers = attack(&environment, &actions.each_ref().map(String::as_str), &grant).answers();
    let invalid = "ErrorCode::InvalidArgument";
    assert_eq!(answers, ["200  served", DENIED, invalid, invalid, DENIED, invalid]);
    let posted = format!("net = [\"POST {}\"]", url("/info/*"));
    assert_eq!(attack(&environment, &[&call(&url("/info/a"))], &posted).answers(), [DENIED]);
}
