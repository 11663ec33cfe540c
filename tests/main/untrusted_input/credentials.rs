//! Credentials: the host signs requests to their origins, and no guest has, sees or redirects one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::server::{Server, ok, to};
use super::{DENIED, Ended, content_below, run};
use crate::environment::{TestEnvironment, outcomes};

mod cluster;

use cluster::Cluster;

const TOKEN: &str = "tok-of-the-api-4711";

/// A pipeline whose stage `stranger` performs `actions`. `declared`: tables of credentials and secrets.
fn pipeline(declared: &str, actions: &[&str], permissions: &str) -> String {
    let actions = actions.iter().map(|action| format!("  {{ {action} }},\n")).collect::<String>();
    format!(
        "schema = 1\n[pipeline]\nname = \"credentials\"\n[secrets.token]\nfrom = \"env:API_TOKEN\"\nhosts = [\"127.0.0.1\"]\n\
         {declared}\n[stages.stranger]\nuses = \"stranger\"\nwith.messages = true\nwith.actions = [\n{actions}]\n\
         [stages.stranger.permissions]\n{permissions}\n"
    )
}

/// The credential `api`, with the secret `token`.
fn bearer(origin: &str) -> String {
    format!("[credentials.api]\ntype = \"bearer\"\ntoken = \"token\"\norigins = [\"{origin}\"]\n")
}

const GRANTED: &str = "credentials = [\"api\"]";

fn environment(pipeline: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(pipeline);
    environment.set("API_TOKEN", TOKEN);
    environment
}

#[track_caller]
fn attack(environment: &TestEnvironment) -> Ended {
    let ended = run(environment);
    assert_eq!(ended.code, 0, "{:#?}", ended.events);
    ended
}

fn call(url: &str) -> String {
    format!("do = \"call\", url = \"{url}\"")
}

/// Repeats the request's head, also in the header `x-echo`.
fn echo(head: &str) -> Vec<u8> {
    let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
    ok(&format!("x-echo: {authorization}\r\n"), head)
}

#[test]
fn the_host_signs_what_a_guest_sends_and_the_guest_never_sees_the_credential() {
    let server = Server::start(echo);
    let actions = [
        call(&format!("{}/x", server.origin())),
        format!("do = \"spell\", url = \"{}/x\", secret-headers = {{}}", server.origin()),
        "do = \"endpoint\", credential = \"api\"".to_owned(),
        "do = \"hold\", secret = \"token\"".to_owned(),
    ];
    let environment =
        environment(&pipeline(&bearer(&server.origin()), &actions.each_ref().map(String::as_str), GRANTED));
    let ended = attack(&environment);
    let asked = server.asked();
    assert!(asked.iter().all(|head| head.contains(&format!("authorization: Bearer {TOKEN}\r\n"))), "{asked:?}");
    let answers = ended.answers();
    assert!(answers[0].starts_with("200 Bearer *** GET /x "), "{answers:?}");
    assert!(answers[1].contains("B e a r e r   * * * "), "{answers:?}");
    assert_eq!(answers[2], server.origin());
    assert!(answers[3].starts_with(DENIED), "a grant of the credential isn't one of its secret: {answers:?}");
    let kept = content_below(&environment.root().join(".stagewright"));
    assert!(!kept.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "it is written nowhere");
}

#[test]
fn a_guest_neither_replaces_a_signature_nor_takes_it_elsewhere() {
    let other = Server::start(echo);
    let location = other.origin();
    let server = Server::start(move |_| to(&location));
    let own = format!("{}, headers = {{ Authorization = \"Bearer mine\" }}", call(&server.origin()));
    let actions = [call(&server.origin()), own, call(&format!("http://localhost:{}/", server.port))];
    let actions = actions.each_ref().map(String::as_str);
    let net = format!("{GRANTED}\nnet = [\"{}\"]", other.origin());
    let answers = attack(&environment(&pipeline(&bearer(&server.origin()), &actions, &net))).answers();
    assert!(answers[0].starts_with("200  GET / "), "followed without a signature: {answers:?}");
    assert!(!other.asked()[0].contains("authorization"), "{:?}", other.asked());
    let refused = "the plugin sets the header `authorization` in a request to";
    assert!(answers[1].contains(refused) && answers[1].ends_with("which the credential `api` signs"), "{answers:?}");
    assert!(answers[2].starts_with(DENIED), "another name of the same server isn't the origin: {answers:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn plan_lock_and_policy_know_what_a_credential_gives_access_to() {
    let (origin, more) = ("https://127.0.0.1:1", "https://127.0.0.1:2");
    let mut environment = environment(&pipeline(&bearer(origin), &[], GRANTED));
    let plan = environment.run(&["plan"]).exits(0).stdout;
    assert!(plan.contains("credentials  api") || plan.contains("credentials"), "{plan}");
    assert!(plan.contains(&format!("the credential `api` (bearer) allows and signs requests to {origin}")), "{plan}");
    assert!(plan.contains("external"), "{plan}");
    let json = environment.run(&["plan", "--json"]).exits(0).stdout;
    assert!(json.contains("\"credentials\": [") && json.contains("allows and signs requests to"), "{json}");
    environment.run(&["lock"]).exits(0);
    let lock = environment.read("stagewright.lock");
    assert!(lock.contains("[pipelines.credentials.credentials.api]\ntype = \"bearer\"\n"), "{lock}");
    environment.run(&["run", "--locked"]).exits(0);
    environment.write("stagewright.toml", &pipeline(&bearer(more), &[], GRANTED));
    let refused = environment.run(&["run", "--locked"]).exits(4).stderr;
    assert!(refused.contains(&format!("+ the credential `api` may now sign requests to {more}")), "{refused}");
    environment.write("../policy.toml", "schema = 1\n[permissions]\nnet = [\"https://127.0.0.1:1\"]\n");
    environment.set("STAGEWRIGHT_POLICY", &environment.root().join("../policy.toml").display().to_string());
    let refused = environment.run(&["run"]).exits(4).stderr;
    assert!(refused.contains("by the credential `api`, `stranger` may call https://127.0.0.1:2"), "{refused}");
}

/// A kubeconfig for a server.
fn kubeconfig(server: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters:\n- name: one\n  cluster: {{server: \"{server}\"}}\n\
         contexts:\n- name: here\n  context: {{cluster: one, user: me}}\nusers:\n- name: me\n  user: {user}\n"
    )
}

const CLUSTER: &str = "[secrets.kube]\nfrom = \"file:../kubeconfig\"\nhosts = [\"127.0.0.1\"]\n[credentials.cluster]\n\
                       type = \"kubeconfig\"\nfile = \"kube\"\n";

#[test]
fn a_guest_learns_the_server_of_a_kubeconfig_and_nothing_else_of_it() {
    let server = Server::start(echo);
    let actions = [
        "do = \"endpoint\", credential = \"cluster\"",
        "do = \"call-endpoint\", credential = \"cluster\", path = \"/version\"",
        "do = \"endpoint\", credential = \"other\"",
        "do = \"hold\", secret = \"kube\"",
    ];
    let environment = environment(
        &pipeline(CLUSTER, &actions, "credentials = [\"cluster\"]")
            .replace("[secrets.token]\nfrom = \"env:API_TOKEN\"\nhosts = [\"127.0.0.1\"]\n", ""),
    );
    environment.write("../kubeconfig", &kubeconfig(&server.origin(), &format!("{{token: {TOKEN}}}")));
    let answers = attack(&environment).answers();
    assert_eq!(answers[0], server.origin());
    assert!(answers[1].starts_with("200 Bearer *** GET /version "), "{answers:?}");
    assert!(server.asked()[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{:?}", server.asked());
    assert!(answers[2..].iter().all(|answer| answer.starts_with(DENIED)), "{answers:?}");
}

#[test]
fn a_client_certificate_of_a_kubeconfig_authenticates_at_a_real_server() {
    let cluster = Cluster::start();
    let actions = ["do = \"call-endpoint\", credential = \"cluster\", path = \"/version\""];
    let environment = environment(&pipeline(CLUSTER, &actions, "credentials = [\"cluster\"]"));
    environment.write("../kubeconfig", &cluster.kubeconfig(true));
    assert_eq!(attack(&environment).answers(), ["200  v1"]);
    environment.write("../kubeconfig", &cluster.kubeconfig(false));
    let refused = attack(&environment).answers();
    assert!(refused[0].starts_with("ErrorCode::Unavailable: could not call https://127.0.0.1:"), "{refused:?}");
    assert_eq!(cluster.asked().len(), 1);
    // Without the kubeconfig's authority, the server isn't trusted.
    let direct = pipeline("", &[&call(&cluster.origin)], &format!("net = [\"{}\"]", cluster.origin));
    environment.write("stagewright.toml", &direct);
    assert!(attack(&environment).answers()[0].starts_with("ErrorCode::Unavailable"));
}

#[test]
fn an_aws_signature_is_for_the_body_that_is_sent() {
    let server = Server::start(|_| ok("", "stored"));
    let declared = format!(
        "[secrets.id]\nfrom = \"env:KEY_ID\"\nhosts = [\"127.0.0.1\"]\n[credentials.s3]\ntype = \"aws-sigv4\"\n\
         access-key-id = \"id\"\nsecret-access-key = \"token\"\nregion = \"us-east-1\"\nservice = \"s3\"\n\
         origins = [\"{}\"]\n",
        server.origin()
    );
    let put = |body: &str| {
        format!("do = \"call-endpoint\", credential = \"s3\", method = \"PUT\", path = \"/b/k\", body = \"{body}\"")
    };
    let forged = format!("{}, headers = {{ x-amz-content-sha256 = \"UNSIGNED-PAYLOAD\" }}", call(&server.origin()));
    let actions = [put("hello"), put("@in.txt"), forged];
    let granted = "credentials = [\"s3\"]\nread = [\"in.txt\"]";
    let mut environment = environment(&pipeline(&declared, &actions.each_ref().map(String::as_str), granted));
    environment.set("KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    environment.write("in.txt", "from a file");
    let answers = attack(&environment).answers();
    assert_eq!(answers[..2], ["200  stored", "200  stored"]);
    assert!(answers[2].starts_with("ErrorCode::InvalidArgument: the plugin sets the header `x-amz-content-sha256`"));
    for (head, body) in server.asked().iter().zip(["hello", "from a file"]) {
        let digest = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(head.contains(&format!("x-amz-content-sha256: {digest}\r\n")), "{head}");
        let scope = "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/";
        assert!(
            head.contains(scope)
                && head.contains("/us-east-1/s3/aws4_request, SignedHeaders=")
                && !head.contains(TOKEN)
        );
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_refused_before_anything_starts() {
    let environment = environment(&pipeline(CLUSTER, &[], "credentials = [\"cluster\"]"));
    let refusal = |text: &str| {
        environment.write("../kubeconfig", text);
        environment.run(&["run"]).exits(4).stderr
    };
    let program = refusal(&kubeconfig("https://127.0.0.1", "{exec: {command: aws}}"));
    assert!(program.contains("the user of the context `here` logs in through a program (`exec`)"), "{program}");
    let elsewhere = refusal(&kubeconfig("https://10.0.0.1:6443", "{token: hunter2hunter2}"));
    let expected = "its server is https://10.0.0.1:6443, which isn't among the `hosts` of the secret `kube`";
    assert!(elsewhere.contains(expected) && !elsewhere.contains("hunter2"), "{elsewhere}");
}

#[test]
fn a_rehearsal_signs_only_what_it_grants_and_fetches_no_secret_for_the_rest() {
    let server = Server::start(echo);
    let declared = bearer(&server.origin()).replace(
        "[credentials.api]",
        "[secrets.asked]\nfrom = \"command:sh -c 'echo asked >> $0; echo tok-12345678' ./asked\"\nhosts = [\"127.0.0.1\"]\n\
         [credentials.api]",
    );
    let declared = declared.replace("token = \"token\"", "token = \"asked\"");
    let text = pipeline(&declared, &[&call(&server.origin())], GRANTED);
    let environment = environment(&text);
    let (code, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!((code, outcomes(&events)["stranger"].as_str()), (0, "rehearsed"), "{events:#?}");
    let shown = format!("{events:?}");
    assert!(shown.contains("signed with the credential `api`"), "{shown}");
    assert_eq!((server.asked().len(), environment.root().join("asked").exists()), (0, false));
    let granted = format!("{text}[stages.stranger.rehearse.permissions]\n{GRANTED}\n");
    environment.write("stagewright.toml", &granted);
    let (_, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!(outcomes(&events)["stranger"], "succeeded", "{events:#?}");
    assert!(server.asked()[0].contains("authorization: Bearer tok-12345678"), "{:?}", server.asked());
}

#[test]
fn a_token_that_was_exchanged_is_used_for_all_requests_and_masked() {
    let authority =
        Server::start(|_| ok("", r#"{"token_type":"Bearer","expires_in":3600,"access_token":"issued-4711"}"#));
    let server = Server::start(echo);
    let declared = format!(
        "[credentials.azure]\ntype = \"azure\"\ntenant = \"contoso.example\"\nclient-id = \"app\"\n\
         client-secret = \"token\"\nscope = \"https://management.azure.com/.default\"\nauthority = \"{}\"\n\
         origins = [\"{}\"]\n",
        authority.origin(),
        server.origin()
    );
    let actions = [call(&format!("{}/1", server.origin())), call(&format!("{}/2", server.origin()))];
    let text = pipeline(&declared, &actions.each_ref().map(String::as_str), "credentials = [\"azure\"]");
    let environment = environment(&text);
    let (_, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!((outcomes(&events)["stranger"].as_str(), authority.asked().len()), ("rehearsed", 0), "{events:#?}");
    let answers = attack(&environment).answers();
    assert!(answers.iter().all(|answer| answer.starts_with("200 Bearer *** GET /")), "{answers:?}");
    assert!(server.asked().iter().all(|head| head.contains("authorization: Bearer issued-4711\r\n")));
    assert_eq!(authority.asked().len(), 1);
    assert!(authority.asked()[0].starts_with("POST /contoso.example/oauth2/v2.0/token "), "{:?}", authority.asked());
    // A guest can't ask for a token itself.
    let direct = pipeline(&declared, &[&call(&authority.origin())], "credentials = [\"azure\"]");
    environment.write("stagewright.toml", &direct);
    assert!(attack(&environment).answers()[0].starts_with(DENIED));
}

#[test]
fn the_login_of_a_registry_goes_with_its_pulls_over_dockers_socket_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.expect("a connection"), Vec::new());
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            seen.lock().expect("a list").push(String::from_utf8(head).expect("text"));
            let _ = stream.write_all(&ok("", "pulled"));
        }
    });
    let socket = format!("unix://{}", socket.display());
    let declared = format!(
        "[credentials.hub]\ntype = \"docker-registry\"\nregistry = \"127.0.0.1:5000\"\nusername = \"ada\"\n\
         password = \"token\"\norigins = [\"{socket}\"]\n"
    );
    let post = |target: &str| format!("do = \"call\", method = \"POST\", url = \"{socket}:{target}\"");
    let actions = [
        post("/v1.41/images/create?fromImage=127.0.0.1:5000/app"),
        post("/images/create?fromImage=evil.example/app"),
        post("/containers/create?fromImage=127.0.0.1:5000/app"),
    ];
    let actions = actions.each_ref().map(String::as_str);
    let granted = format!("credentials = [\"hub\"]\nnet = [\"{socket}\"]");
    let answers = attack(&environment(&pipeline(&declared, &actions, &granted))).answers();
    assert_eq!(answers, ["200  pulled", "200  pulled", "200  pulled"]);
    let logins =
        asked.lock().expect("a list").iter().map(|head| head.contains("x-registry-auth: ")).collect::<Vec<_>>();
    assert_eq!(logins, [true, false, false]);
    let without = attack(&environment(&pipeline(&declared, &actions, "credentials = [\"hub\"]"))).answers();
    assert!(without.iter().all(|answer| answer.starts_with(DENIED)), "the socket is granted by `net`: {without:?}");
}

#[test]
fn a_missing_grant_of_a_credential_is_proposed_and_written() {
    let server = Server::start(echo);
    let actions = ["do = \"endpoint\", credential = \"api\""];
    let environment = environment(&pipeline(&bearer(&server.origin()), &actions, ""));
    assert!(attack(&environment).answers()[0].starts_with(DENIED));
    environment.run(&["grant", "--run", "latest", "--yes"]).exits(0);
    assert!(environment.read("stagewright.toml").contains("credentials = [\"api\"]"));
    assert_eq!(attack(&environment).answers(), [server.origin()]);
}

#[test]
fn a_credential_whose_secret_is_missing_fails_the_run_before_anything_starts() {
    let mut environment = environment(&pipeline(&bearer("https://127.0.0.1:1"), &[], GRANTED));
    environment.unset("API_TOKEN");
    let refused = environment.run(&["run"]).exits(4).stderr;
    assert!(refused.contains("the secret `token` is not set"), "{refused}");
    let stray = pipeline(&bearer("https://127.0.0.1:1").replace("token =", "tokne ="), &[], GRANTED);
    environment.write("stagewright.toml", &stray);
    let invalid = environment.run(&["validate"]).exits(3).stderr;
    assert!(invalid.contains("has no key `tokne`") && invalid.contains("stagewright.toml:9:1"), "{invalid}");
}
