//! Notifications to Slack and Matrix, on servers that check the documented form, and by e-mail, to a real server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value as Json, json};

use crate::environment::{TestEnvironment, failure};

/// A request: the method, the path, the headers by name, and the body.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Json,
}

/// A web server on loopback. `answer` returns the status and the body of the response.
struct Server {
    origin: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request) -> (u16, String) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    match reader.read_line(&mut line) {
                        Ok(length) if length > 2 => lines.push(line.trim_end().to_owned()),
                        _ => break,
                    }
                }
                let Some((first, headers)) = lines.split_first() else { continue };
                let headers = headers.iter().filter_map(|line| line.split_once(": "));
                let headers: BTreeMap<_, _> =
                    headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
                let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let mut words = first.split(' ').map(str::to_owned);
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let request =
                    Request { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() };
                let (status, text) = answer(&request);
                seen.lock().expect("a list").push(request);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                );
            }
        });
        Server { origin, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("a list").clone()
    }
}

/// What Slack refuses, as its documentation says: texts and blocks of the wrong form or size.
fn slack_mistake(body: &Json) -> Option<&'static str> {
    let blocks = body["blocks"].as_array()?;
    let length = |text: &Json| text["text"].as_str().map_or(0, |text| text.chars().count());
    let is_text = |text: &Json| matches!(text["type"].as_str(), Some("plain_text" | "mrkdwn")) && length(text) > 0;
    let fits = |block: &Json| match block["type"].as_str() {
        Some("header") => block["text"]["type"] == "plain_text" && (1..=150).contains(&length(&block["text"])),
        Some("section") => is_text(&block["text"]) && length(&block["text"]) <= 3000,
        Some("context") => block["elements"].as_array().is_some_and(|all| all.len() <= 10 && all.iter().all(is_text)),
        _ => false,
    };
    (blocks.len() > 50 || !blocks.iter().all(fits) || body["text"].as_str().is_none()).then_some("invalid_blocks")
}

/// A pipeline whose only stage fails, and which says so.
fn pipeline(secret: &str, host: &str, with: &str, permissions: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "shop"
        [secrets.{secret}]
        from = "env:SECRET"
        hosts = ["{host}"]
        [stages.work]
        uses = "command"
        with = {{ run = "exit 1" }}
        permissions = {{ process = ["sh"] }}
        [finally.tell]
        uses = "notify"
        with = {{ {with}, message = "${{{{ pipeline.name }}}} ended as ${{{{ run.result }}}} <!channel>" }}
        permissions = {{ {permissions} }}
        "#
    ));
    environment.set("SECRET", "hunter2hunter2");
    environment
}

#[test]
fn slack_gets_blocks_at_the_secret_url() {
    let server = Server::start(|request| match slack_mistake(&request.body) {
        _ if request.path != "/services/T0/B0/hunter2" => (404, "no_service".to_owned()),
        Some(mistake) => (400, mistake.to_owned()),
        None => (200, "ok".to_owned()),
    });
    let slack = format!("slack = {{ secret = \"hook\", origin = \"{}\" }}", server.origin);
    let grants = format!("net = [\"{}\"], secrets = [\"hook\"]", server.origin);
    let mut environment = pipeline("hook", "127.0.0.1", &slack, &grants);
    environment.run(&["validate"]).exits(0);
    environment.set("SECRET", &format!("{}/services/T0/B0/hunter2", server.origin));
    let ended = environment.run(&["run"]).exits(1);
    let [request] = &server.requests()[..] else { panic!("{}\n{}", ended.stdout, ended.stderr) };
    assert_eq!((request.method.as_str(), request.headers["content-type"].as_str()), ("POST", "application/json"));
    let expected = json!({ "type": "plain_text", "text": "shop ended as failed <!channel>" });
    assert_eq!(request.body["blocks"][1]["text"], expected);
    assert_eq!(request.body["text"], "shop: shop ended as failed &lt;!channel&gt;");

    environment.set("SECRET", "services/other");
    let (_, events) = environment.events(&["run"]);
    let failure = failure(&events, "tell");
    assert_eq!(failure["causes"], json!(["no_service"]), "{failure:#}");
    assert!(!format!("{events:?}").contains("services/"), "the URL is a secret: {events:#?}");
}

#[test]
fn matrix_posts_a_message_once_however_often_it_is_sent() {
    // The first answer is lost after the event was posted; a homeserver answers the same transaction as before.
    let posted = Arc::<Mutex<BTreeMap<String, Json>>>::default();
    let (events, tried) = (Arc::clone(&posted), Mutex::new(0));
    let server = Server::start(move |request| {
        let transaction =
            request.path.strip_prefix("/_matrix/client/v3/rooms/%21ops%3Aexample.org/send/m.room.message/");
        let is_valid = request.body["msgtype"] == "m.text" && request.body["body"].is_string();
        let Some(transaction) = transaction.filter(|id| !id.is_empty() && is_valid && request.method == "PUT") else {
            return (404, r#"{"errcode":"M_UNRECOGNIZED","error":"?"}"#.to_owned());
        };
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer hunter2hunter2") {
            return (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"?"}"#.to_owned());
        }
        events.lock().expect("events").entry(transaction.to_owned()).or_insert(request.body.clone());
        let mut tried = tried.lock().expect("a number");
        *tried += 1;
        if *tried == 1 { (502, String::new()) } else { (200, r#"{"event_id":"$1"}"#.to_owned()) }
    });
    let matrix =
        format!("matrix = {{ homeserver = \"{}\", room = \"!ops:example.org\", secret = \"token\" }}", server.origin);
    let grants = format!("net = [\"{}\"], secrets = [\"token\"]", server.origin);
    let environment = pipeline("token", "127.0.0.1", &matrix, &grants);
    let text = environment
        .read("stagewright.toml")
        .replace("uses = \"notify\"", "uses = \"notify\"\nretry = { max = 2, backoff = \"10ms\" }");
    environment.write("stagewright.toml", &text);
    environment.run(&["run"]).exits(1);
    assert_eq!(server.requests().len(), 2);
    let events = posted.lock().expect("events").values().cloned().collect::<Vec<_>>();
    assert_eq!(events, [json!({ "msgtype": "m.text", "body": "shop\n\nshop ended as failed <!channel>" })]);
    // Another run has a message of its own.
    environment.run(&["run"]).exits(1);
    assert_eq!(posted.lock().expect("events").len(), 2);
}

/// A server for e-mail that demands STARTTLS, or TLS from the beginning, and a login. It prints what it accepts.
const SMTP: &str = r#"
import asyncio, json, ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[2], sys.argv[3])
mode = sys.argv[1]

class Handler:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode()
        if "greylisted" in text:
            return "451 4.7.1 Try again later"
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None,
            "user": getattr(session, "authenticated", False), "text": text}), flush=True)
        return "250 OK"

def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"ci" and data.password == b'hunter2"hunt\\er2$x'
    return AuthResult(success=good, handled=good)

class Server(Controller):
    def factory(self):
        starttls = {"tls_context": context, "require_starttls": True} if mode == "starttls" else {}
        needs = mode != "none"
        return SMTP(self.handler, hostname="localhost", authenticator=authenticate, auth_required=needs,
            auth_require_tls=mode == "starttls", **starttls)

server = Server(Handler(), hostname="127.0.0.1", port=0, ssl_context=context if mode == "tls" else None)
# `Controller` connects to its own port to see whether it listens, and doesn't know it for port 0.
import socket
free = socket.socket(); free.bind(("127.0.0.1", 0)); server.port = free.getsockname()[1]; free.close()
server.start()
print(server.port, flush=True)
time.sleep(600)
"#;

/// The password has the characters that quoting is about.
const PASSWORD: &str = r#"hunter2"hunt\er2$x"#;

/// With lines of the length that OpenSSL reads.
fn pem_of(what: &str, der: &[u8]) -> String {
    let encoded: Vec<char> = base64::engine::general_purpose::STANDARD.encode(der).chars().collect();
    let lines: Vec<String> = encoded.chunks(64).map(|line| line.iter().collect()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

struct Smtp {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: String,
    certificate: String,
}

impl Smtp {
    fn start(mode: &str) -> Smtp {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate =
            CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("a certificate");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let authority = pem_of("CERTIFICATE", certificate.der());
        let (cert_file, key_file) =
            (file("cert.pem", &authority), file("key.pem", &pem_of("PRIVATE KEY", &key.serialize_der())));
        let target = std::env::current_exe().expect("a test binary");
        let target = target.ancestors().nth(3).expect("the target folder");
        let mut process = Command::new(target.join("stagewright/python/bin/python"))
            .args(["-c", SMTP, mode])
            .args([&cert_file, &key_file])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts: run `cargo xtask test`");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let port = lines.next().and_then(Result::ok).expect("the server prints its port");
        Smtp { process, lines, port, certificate: authority }
    }

    /// The next e-mail that it has accepted.
    fn accepted(&mut self) -> Json {
        let line = self.lines.next().and_then(Result::ok).expect("an e-mail");
        serde_json::from_str(&line).expect("JSON")
    }

    fn environment(&self, email: &str, permissions: &str) -> TestEnvironment {
        let common = "from = \"ci@example.org\", to = [\"ada@example.org\", \"bob@example.org\"]";
        let with = format!("email = {{ server = \"127.0.0.1:{}\", {email}, {common} }}", self.port);
        let grants = format!(
            "process = [\"curl --disable --config -\"], net = [\"tcp://127.0.0.1:{}\"], {permissions}",
            self.port
        );
        let mut environment = pipeline("password", "127.0.0.1", &with, &grants);
        environment.write("ca.pem", &self.certificate);
        environment.set("SECRET", PASSWORD);
        environment
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The text of a part in quoted-printable, without its soft line breaks.
fn readable(text: &str) -> String {
    text.replace("=\r\n", "").replace("=3D", "=")
}

const LOGIN: &str = "user = \"ci\", secret = \"password\", ca = \"ca.pem\"";
const GRANTS: &str = "secrets = [\"password\"], read = [\"ca.pem\"]";

#[test]
fn an_email_is_submitted_with_starttls_and_a_password() {
    let mut server = Smtp::start("starttls");
    let environment = server.environment(LOGIN, GRANTS);
    environment.run(&["validate"]).exits(0);
    let ended = environment.run(&["run"]).exits(1);
    assert!(!ended.stdout.contains("did not take"), "{}", ended.stdout);
    let mail = server.accepted();
    assert_eq!(mail["to"], json!(["ada@example.org", "bob@example.org"]), "{mail:#}");
    assert_eq!((&mail["from"], &mail["tls"], &mail["user"]), (&json!("ci@example.org"), &json!(true), &json!(true)));
    let text = readable(mail["text"].as_str().expect("a text"));
    for expected in
        ["Subject: shop\r\n", "From: <ci@example.org>\r\n", "shop ended as failed <!channel>", "charset=utf-8"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // It is neither in the journal nor in the log.
    let shown = environment.run(&["show", "latest", "--format", "json"]).stdout;
    assert!(!shown.contains("hunter2") && !environment.run(&["logs"]).stdout.contains("hunter2"), "{shown}");
}

#[test]
fn an_email_is_submitted_over_tls_and_special_characters_arrive() {
    let mut server = Smtp::start("tls");
    let environment = server.environment(&format!("security = \"tls\", {LOGIN}"), GRANTS);
    let text = environment.read("stagewright.toml").replace(
        "message = \"",
        r#"title = "Grüße; \"x\"", message = "é \"a\"; type=x \\\\ @file\n.\nBcc: eve@example.org\n"#,
    );
    environment.write("stagewright.toml", &text);
    environment.run(&["run"]).exits(1);
    let mail = server.accepted();
    let raw = mail["text"].as_str().expect("a text");
    assert!(raw.contains("Subject: =?utf-8?B?R3LDvMOfZTsgIngi?=\r\n"), "{raw}");
    let text = readable(raw);
    assert!(text.contains("=C3=A9 \"a\"; type=x \\\\ @file\r\n.\r\nBcc: eve@example.org\r\nshop ended"), "{text}");
    assert_eq!(mail["to"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_server_that_is_unknown_unencrypted_or_busy_gets_nothing() {
    let server = Smtp::start("starttls");
    let failed = |environment: &TestEnvironment| {
        let (_, events) = environment.events(&["run"]);
        failure(&events, "tell")
    };
    let environment = server.environment("user = \"ci\", secret = \"password\"", "secrets = [\"password\"]");
    let unknown = failed(&environment);
    assert!(
        unknown["help"].to_string().contains("email.ca") && unknown["causes"].to_string().contains("certificate"),
        "{unknown:#}"
    );

    let mut environment = server.environment(LOGIN, GRANTS);
    environment.set("SECRET", "another password");
    let denied = failed(&environment);
    assert!(denied["causes"].to_string().contains("Login denied"), "{denied:#}");
    assert_eq!(denied["retryable"], json!(false), "{denied:#}");

    let environment = server.environment(LOGIN, GRANTS);
    let text = environment.read("stagewright.toml").replace("message = \"", "message = \"greylisted ");
    environment.write("stagewright.toml", &text);
    let busy = failed(&environment);
    assert_eq!(busy["retryable"], json!(true), "{busy:#}");

    // A server without STARTTLS: the password isn't sent.
    let plain = Smtp::start("none");
    let refused = failed(&plain.environment(LOGIN, GRANTS));
    assert!(
        refused["message"].as_str().is_some_and(|message| message.contains("did not take the e-mail")),
        "{refused:#}"
    );
}

#[test]
fn a_notification_that_fails_is_a_warning_with_best_effort() {
    let environment = pipeline(
        "hook",
        "127.0.0.1",
        "url = \"http://127.0.0.1:9/\", best-effort = true",
        "net = [\"http://127.0.0.1:9\"]",
    );
    let text = environment.read("stagewright.toml").replace("exit 1", "exit 0");
    environment.write("stagewright.toml", &text);
    let ended = environment.run(&["run"]).exits(0);
    assert!(
        ended.stdout.contains("not-notified") || ended.stdout.contains("can't send the notification"),
        "{}",
        ended.stdout
    );
    environment.write("stagewright.toml", &text.replace(", best-effort = true", ""));
    environment.run(&["run"]).exits(1);
}
