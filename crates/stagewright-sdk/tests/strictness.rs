//! The fake host refuses what the real one refuses, with the same error.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::fake::{FakeHost, HttpScript, Interface, ProcessScript, ServiceScript};
use stagewright_sdk::gate::{Approval, FieldKind};
use stagewright_sdk::http::{Request, endpoint};
use stagewright_sdk::process::Command;
use stagewright_sdk::workspace::Node;
use stagewright_sdk::{
    Error, ErrorCode, JsonSchema, Manifest, Observation, Outcome, Permission, Problem, Reconcile, Result, Stage,
    artifacts, clock, environment, metrics, outputs, poll, random, registry, secrets, service, workspace,
};

/// The error of a call.
#[track_caller]
fn refused<T: std::fmt::Debug>(host: &FakeHost, call: impl FnOnce() -> Result<T>) -> (ErrorCode, String) {
    let error = host.clone().with(call).0.expect_err("it is refused");
    (error.code, error.message)
}

fn invalid(message: &str) -> (ErrorCode, String) {
    (ErrorCode::InvalidArgument, message.to_owned())
}

fn tool() -> ProcessScript {
    ProcessScript::new("tool", [""; 0])
}

#[test]
fn outputs_have_plain_names_and_a_limited_size() {
    let host = FakeHost::new();
    assert_eq!(refused(&host, || outputs::set("a b", &1)), invalid("invalid output name `a b`"));
    assert_eq!(refused(&host, || outputs::set("", &1)).0, ErrorCode::InvalidArgument);
    let large = "x".repeat(600 << 10);
    let message = "could not set output `b`: a stage's outputs may have at most 1MiB together".to_owned();
    let both = || outputs::set("a", &large).and_then(|()| outputs::set("b", &large));
    assert_eq!(refused(&host, both), (ErrorCode::ResourceExhausted, message));
    let (replaced, report) = host.clone().with(|| outputs::set("a", &large).and_then(|()| outputs::set("a", &large)));
    assert_eq!((replaced, report.outputs.len()), (Ok(()), 1));
    let many = || (0..=1000).try_for_each(|number| outputs::set(&format!("o{number}"), &number));
    assert_eq!(refused(&host, many).1, "could not set output `o1000`: a stage may have at most 1000");
}

#[test]
fn summaries_beyond_the_limit_are_truncated_and_then_dropped() {
    let (_, report) = FakeHost::new().with(|| (0..3).for_each(|_| outputs::summary("é".repeat(400 << 10))));
    assert_eq!(report.summaries.len(), 2);
    assert!(report.summaries[1].ends_with("é\n\n(truncated)"));
    assert_eq!(report.summaries[1].trim_end_matches("\n\n(truncated)").len(), (1 << 20) - (800 << 10));
}

#[test]
fn metrics_are_finite_and_have_plain_names() {
    let host = FakeHost::new();
    assert_eq!(refused(&host, || metrics::set("a b", 1.0, "")), invalid("invalid metric name `a b`"));
    assert_eq!(
        refused(&host, || metrics::set("a", f64::NAN, "")),
        invalid("the value of the metric `a` is NaN, which isn't a number")
    );
    assert_eq!(refused(&host, || metrics::set("a", 1.0, "a\nb")), invalid("the unit of the metric `a` is invalid"));
}

#[test]
fn paths_stay_in_the_workspace() {
    let host = FakeHost::new().file("a/b.txt", "text");
    for (path, problem) in [
        ("", "path `` is empty"),
        ("/etc/passwd", "path `/etc/passwd` is absolute"),
        ("a/../b", "path `a/../b` leaves a folder with `..`"),
        ("a\0", "path `a\0` contains a NUL character"),
    ] {
        assert_eq!(refused(&host, || workspace::read(path)), invalid(problem));
        assert_eq!(refused(&host, || workspace::write(path, "")), invalid(problem));
        assert_eq!(refused(&host, || workspace::append(path, "")), invalid(problem));
        assert_eq!(refused(&host, || workspace::remove(path)), invalid(problem));
        assert_eq!(refused(&host, || workspace::glob(path)), invalid(problem));
        assert_eq!(refused(&host, || workspace::gzip("a/b.txt", path)), invalid(problem));
        assert_eq!(refused(&host, || artifacts::publish("x", path, None)), invalid(problem));
        assert_eq!(
            refused(&host.clone().process(tool()), || Command::new("tool").current_dir(path).spawn()),
            invalid(problem)
        );
    }
    let (text, _) = host.clone().with(|| workspace::read_text(".//a/./b.txt"));
    assert_eq!(text.as_deref(), Ok("text"), "a path has several spellings");
    assert_eq!(
        refused(&host, || workspace::glob("[a")),
        invalid("pattern `[a`: unclosed character class; missing ']'")
    );
    let root = invalid("the workspace's root itself can't be replaced or removed");
    assert_eq!(
        (refused(&host, || workspace::write(".", "")), refused(&host, || workspace::remove("./"))),
        (root.clone(), root)
    );
}

#[test]
fn folders_are_not_files_and_missing_files_are_not_found() {
    let host = FakeHost::new().file("a/b.txt", "text").node("link", Node::Link("gone".to_owned()));
    assert_eq!(refused(&host, || workspace::read("a")), invalid("`a` is a folder, not a file"));
    assert_eq!(refused(&host, || workspace::read("none")).0, ErrorCode::NotFound);
    assert_eq!(refused(&host, || workspace::digest("link")).0, ErrorCode::NotFound);
    assert_eq!(refused(&host, || workspace::read("a/b.txt/c")).0, ErrorCode::InvalidArgument);
    assert_eq!(refused(&host, || workspace::write("a", "")).0, ErrorCode::InvalidArgument);
    assert_eq!(refused(&host, || workspace::append("a", "")).0, ErrorCode::InvalidArgument);
    assert_eq!(refused(&host, || workspace::write("a/b.txt/c", "")).0, ErrorCode::InvalidArgument);
    let (removed, report) = host.with(|| workspace::remove("link").and_then(|()| workspace::remove("none")));
    assert_eq!((removed, report.files.len()), (Ok(()), 1));
}

#[test]
fn a_denial_names_the_line_that_would_grant_the_call() {
    let host =
        FakeHost::new().file("a.txt", "").process(tool()).secret("token", "hush").deny(Permission::Read, "a.txt");
    let error = host.clone().with(|| workspace::read("./a.txt")).0.unwrap_err();
    assert_eq!(error.message, "the stage may not read `a.txt`");
    assert_eq!(error.help.as_deref(), Some("add to [stages.stage.permissions]: read = [\"a.txt\"]"));
    assert_eq!(host.clone().with(|| workspace::glob("*")).0, Ok(Vec::new()), "a listing leaves it out");
    assert!(host.clone().with(|| workspace::write("a.txt", "")).0.is_ok(), "only reading is denied");
    let denied = |permission, subject: &str, call: &dyn Fn() -> Result<()>| {
        refused(&host.clone().deny(permission, subject), call)
    };
    let written = denied(Permission::Write, "*", &|| workspace::write("b.txt", ""));
    assert_eq!(written, (ErrorCode::PermissionDenied, "the stage may not write `b.txt`".to_owned()));
    let called = denied(Permission::Net, "https://a.org", &|| Request::get("https://a.org/x").send().map(drop));
    assert_eq!(called, (ErrorCode::PermissionDenied, "the stage may not call https://a.org".to_owned()));
    let image = denied(Permission::Registry, "local/app", &|| registry::resolve("local/app:1").map(drop));
    assert_eq!(
        image,
        (ErrorCode::PermissionDenied, "the stage may not use the image repository `local/app`".to_owned())
    );
    assert_eq!(refused(&host, || secrets::get("other")).1, "the stage may not use the secret `other`");
    let revealed = refused(&host, || secrets::get("token")?.reveal());
    assert_eq!(
        revealed,
        (ErrorCode::PermissionDenied, "the stage may not read the value of the secret `token`".to_owned())
    );
    let folder = FakeHost::new().file("private/a/b.txt", "").deny(Permission::Read, "./private/");
    assert_eq!(refused(&folder, || workspace::read("private/a/b.txt")).1, "the stage may not read `private/a/b.txt`");
    let failing = host.fail(Interface::Secrets, "token", Error::internal("down"));
    assert_eq!(refused(&failing, || secrets::get("token")), (ErrorCode::Internal, "down".to_owned()));
}

#[test]
fn a_credential_signs_requests_to_its_server_alone() {
    let host = FakeHost::new()
        .credential("cluster", "https://10.0.0.1:6443/base/")
        .http(HttpScript::get("https://10.0.0.1:6443/base/version"))
        .http(HttpScript::get("https://10.0.0.1/"))
        .deny(Permission::Net, "https://10.0.0.1:6443");
    let (signed, report) = host.clone().with(|| {
        Request::get(&format!("{}/version", endpoint("cluster")?)).send()?;
        Request::get("https://10.0.0.1/").send().map(drop)
    });
    assert_eq!(signed, Ok(()));
    assert_eq!(report.sent.iter().map(|sent| sent.credential.as_deref()).collect::<Vec<_>>(), [Some("cluster"), None]);
    assert_eq!(refused(&host, || endpoint("other")).1, "the stage may not use the credential `other`");
    let own = || Request::get("https://10.0.0.1:6443/").header("Authorization", "Bearer x").send().map(drop);
    let message = "the plugin sets the header `authorization` in a request to https://10.0.0.1:6443/, which the credential \
                   `cluster` signs";
    assert_eq!(refused(&host, own), invalid(message));
    let denied = host.deny(Permission::Credentials, "cluster");
    assert_eq!(refused(&denied, || endpoint("cluster")).0, ErrorCode::PermissionDenied);
    let call = || Request::get("https://10.0.0.1:6443/base/version").send().map(drop);
    assert_eq!(refused(&denied, call).1, "the stage may not call https://10.0.0.1:6443");
}

#[test]
fn artifacts_have_plain_names_and_one_publisher() {
    let host = FakeHost::new().file("a.txt", "x").file("out/a/b", "y").file("out/c", "z").artifact("taken", "w");
    for name in ["", ".a", "a/b", "a b", &"x".repeat(129)] {
        assert_eq!(
            refused(&host, || artifacts::publish(name, "a.txt", None)),
            invalid(&format!("invalid artifact name `{name}`"))
        );
        assert_eq!(refused(&host, || artifacts::fetch(name, "b.txt")).0, ErrorCode::InvalidArgument);
    }
    let message = "the stage `earlier` has already published an artifact `taken`".to_owned();
    assert_eq!(refused(&host, || artifacts::publish("taken", "a.txt", None)), (ErrorCode::AlreadyExists, message));
    let message = "no stage of this run has published an artifact `none`".to_owned();
    assert_eq!(refused(&host, || artifacts::fetch("none", "b.txt")), (ErrorCode::NotFound, message));
    let (listed, report) = host.with(|| {
        artifacts::publish("folder", "./out/", None)?;
        artifacts::fetch("folder", "in")?;
        artifacts::publish("again", "a.txt", None)?;
        artifacts::publish("again", "a.txt", None)?;
        artifacts::published()
    });
    assert_eq!(
        listed.unwrap().into_iter().map(|artifact| (artifact.name, artifact.stage_id)).collect::<Vec<_>>(),
        [("taken".to_owned(), "earlier".to_owned())]
    );
    assert_eq!((report.text("in/a/b"), report.text("in/c"), report.published.len()), ("y", "z", 2));
    assert_eq!(
        (report.published[0].folder, report.published[0].media_type.as_str()),
        (true, "application/vnd.stagewright.folder.v1.tar")
    );
}

#[test]
fn gates_have_the_hosts_limits() {
    let host = FakeHost::new();
    let open = |build: &dyn Fn(&mut Approval) -> &mut Approval| {
        refused(&host, || {
            let mut approval = Approval::new("Ship it?");
            build(&mut approval);
            approval.open()
        })
    };
    assert_eq!(refused(&host, || Approval::new(" ").open()), invalid("the message of an approval must not be empty"));
    assert_eq!(open(&|approval| approval.approvals(0)), invalid("the number of approvals must be 1 to 100, not 0"));
    assert_eq!(open(&|approval| approval.approvals(101)).0, ErrorCode::InvalidArgument);
    let listed = invalid("an approval may have at most 100 approvers and 100 fields");
    assert_eq!(open(&|approval| (0..101).fold(approval, |approval, _| approval.approver("ada"))), listed);
    let expires = invalid("a gate must expire after 1ms to 366d, not after 0 ms");
    assert_eq!(open(&|approval| approval.expires(Duration::ZERO)), expires);
    assert_eq!(open(&|approval| approval.expires(Duration::from_secs(367 * 86_400))).0, ErrorCode::InvalidArgument);
    let names = ["x".to_owned()];
    let twice = open(&|approval| approval.field("a", FieldKind::Text, "", false).choice("a", &names, "", false));
    assert_eq!(twice, invalid("two fields of the approval have the same name"));
    for choices in [vec![], vec!["x".to_owned(), "x".to_owned()]] {
        let message = invalid("the field `a` must have 1 to 100 different choices");
        assert_eq!(open(&|approval| approval.choice("a", &choices, "", false)), message);
    }
}

#[test]
fn requests_are_checked_before_they_are_sent() {
    let host = FakeHost::new().secret("token", "hush").file("a.txt", "body");
    let send = |url: &str| refused(&host, || Request::get(url).send());
    assert_eq!(send("example.org"), invalid("`example.org` is not a URL: relative URL without a base"));
    assert_eq!(send("ftp://example.org/a"), invalid("`ftp://example.org/a` is not an http or https URL"));
    let user = "the URL of https://example.org contains a user or a password, which would end up in logs";
    assert_eq!(send("https://me:secret@example.org/"), invalid(user));
    assert_eq!(refused(&host, || Request::new("G T", "https://a/").send()), invalid("`G T` is not an HTTP method"));
    let header = |name: &str, value: &str| refused(&host, || Request::get("https://a/").header(name, value).send());
    assert_eq!(header("a b", "x"), invalid("invalid header name `a b`"));
    assert_eq!(header("Host", "x"), invalid("the header `Host` is set by the host"));
    assert_eq!(header("x-a", "a\nb"), invalid("the value of header `x-a` contains invalid characters"));
    let plain = refused(&host, || Request::get("http://a/").secret_header("x-a", "", &secrets::get("token")?).send());
    assert_eq!(
        plain,
        (ErrorCode::PermissionDenied, "the secret `token` may not be sent to http://a in plain text".to_owned())
    );
    assert_eq!(refused(&host, || Request::get("https://a/").body_file("none").send()).0, ErrorCode::NotFound);
    let slow = host.clone().http(HttpScript::get("https://a/x?y").takes(Duration::from_secs(2)));
    let timed_out = refused(&slow, || Request::get("https://a/x?y").timeout(Duration::from_secs(1)).send());
    assert_eq!(timed_out, (ErrorCode::DeadlineExceeded, "could not call https://a/x: timed out".to_owned()));
}

#[test]
fn requests_over_a_socket_are_granted_by_method_and_path() {
    let url = "unix:///run/x.sock:/info?a=b";
    let host = FakeHost::new().secret("token", "hush").http(HttpScript::get(url).body("z"));
    let (shown, _) = host.clone().with(|| Request::get(url).send().unwrap().url());
    assert_eq!(shown, "unix:///run/x.sock:/info");
    let with_secret = || Request::get(url).secret_header("x-a", "", &secrets::get("token")?).send().map(drop);
    assert_eq!(host.clone().with(with_secret).0, Ok(()), "which sockets a secret may be sent to is in its `hosts`");
    let denying = host.deny(Permission::Net, "GET unix:///run/x.sock:/info");
    let denied = refused(&denying, || Request::get(url).send());
    assert_eq!(denied.0, ErrorCode::PermissionDenied);
    let shapeless = invalid("`unix:/run/x.sock` is not an http or https URL");
    assert_eq!(refused(&FakeHost::new(), || Request::get("unix:/run/x.sock").send()), shapeless);
}

#[test]
fn responses_have_all_values_of_a_header_and_a_limit_of_their_number() {
    let script = HttpScript::get("https://a/x?y").header("Set-Cookie", "a").header("set-cookie", "b").body("z");
    let host = FakeHost::new().http(script).http(HttpScript::get("https://b/"));
    let (_, report) = host.clone().with(|| {
        let mut response = Request::new("get", "https://a/x?y").send().unwrap();
        assert_eq!(
            (response.headers("SET-COOKIE"), response.header("set-cookie").as_deref()),
            (vec!["a".to_owned(), "b".to_owned()], Some("a"))
        );
        assert_eq!((response.all_headers().len(), response.url().as_str()), (2, "https://a/x"));
        assert_eq!(response.text().as_deref(), Ok("z"));
    });
    assert_eq!(report.sent[0].method, "GET");
    let hoard = || (0..257).map(|_| Request::get("https://b/").send()).collect::<Result<Vec<_>>>();
    let message = "the plugin already has 256 responses open, which is its limit".to_owned();
    assert_eq!(refused(&host, hoard), (ErrorCode::ResourceExhausted, message));
    let read = || {
        let read = |_| {
            let mut response = Request::get("https://b/").send()?;
            response.text().map(|_| response)
        };
        (0..257).map(read).collect::<Result<Vec<_>>>().map(|kept| kept.len())
    };
    assert_eq!(host.with(read).0, Ok(257), "one whose body was read isn't open any more");
}

#[test]
fn programs_are_captured_only_on_request() {
    let host = FakeHost::new().process(tool().stdout("0123456789"));
    let message = "the output of `tool` would be lost: `quiet` requires `capture`";
    assert_eq!(refused(&host, || Command::new("tool").quiet().spawn()), invalid(message));
    let unread = refused(&host, || Command::new("tool").spawn()?.next_chunk());
    assert_eq!(unread, (ErrorCode::FailedPrecondition, "the output of `tool` isn't captured".to_owned()));
    let output = refused(&host, || Command::new("tool").capture_limit(9).output());
    assert_eq!(
        output,
        (ErrorCode::ResourceExhausted, "the output of `tool` exceeds the capture limit of 9B".to_owned())
    );
    assert_eq!(refused(&host, || Command::new("tool").current_dir("none").spawn()).0, ErrorCode::NotFound);
    let file = host.clone().file("a.txt", "");
    assert_eq!(
        refused(&file, || Command::new("tool").current_dir("a.txt").spawn()),
        invalid("`a.txt` is not a folder")
    );
}

#[test]
fn programs_end_with_their_timeout_or_their_stage() {
    let slow = FakeHost::new().process(tool().takes(Duration::from_secs(5)));
    let late = refused(&slow, || Command::new("tool").timeout(Duration::from_secs(2)).status());
    assert_eq!(late, (ErrorCode::DeadlineExceeded, "`tool` took longer than 2s and was killed".to_owned()));
    let stopped = refused(&slow.clone().cancelled(), || Command::new("tool").spawn());
    assert_eq!(stopped, (ErrorCode::Cancelled, "`tool` was not started: the stage is being cancelled".to_owned()));
    let (killed, _) = slow.clone().with(|| {
        let mut child = Command::new("tool").spawn()?;
        child.kill()?;
        child.wait()
    });
    assert_eq!(killed.unwrap().signal, Some(9));
    let many = || (0..257).map(|_| Command::new("tool").spawn()).collect::<Result<Vec<_>>>();
    assert_eq!(refused(&slow, many).1, "could not start `tool`: the stage already runs 256 programs");
    let two = slow.with(|| {
        let mut command = Command::new("tool");
        command.spawn().and_then(|_| command.spawn()).map(drop)
    });
    assert_eq!((two.0, two.1.spawned.len()), (Ok(()), 2), "a command can be started again");
}

#[test]
fn waiting_ends_with_the_stage_and_needs_something_to_wait_for() {
    let host = FakeHost::new();
    assert_eq!(refused(&host, || poll::wait_any(&[])), invalid("nothing to wait for"));
    let cancelled = host.cancelled();
    let stopped = (ErrorCode::Cancelled, "the stage is being cancelled".to_owned());
    assert_eq!(refused(&cancelled, || poll::wait_any(&[&clock::timer(Duration::ZERO)])), stopped);
}

#[test]
fn a_proxy_needs_a_grant_of_its_address_and_a_release_that_fits() {
    let host = FakeHost::new().environment("staging").service(ServiceScript::new("app"));
    let image = format!("local/app@sha256:{}", "0".repeat(64));
    let start = |build: fn(&mut service::Release) -> &mut service::Release| {
        let mut release = service::Release::new("app", &image);
        build(&mut release);
        release.start()
    };
    let builders: [fn(&mut service::Release) -> &mut service::Release; 4] = [
        |release| release.proxy("8080"),
        |release| release.replicas(2),
        |release| release.proxy("127.0.0.1:8080").port(8081),
        |release| release.proxy("127.0.0.1:8080").replicas(65),
    ];
    for build in builders {
        assert_eq!(refused(&host, || start(build)).0, ErrorCode::InvalidArgument);
    }
    let direct = "release release-1 was started without a proxy";
    assert_eq!(refused(&host, || start(|release| release)?.route(20)), invalid(direct));
    assert_eq!(refused(&host, || start(|release| release)?.scale(2, 1)), invalid(direct));
    let matches = service::HeaderMatches::new();
    assert_eq!(refused(&host, || start(|release| release)?.route_matching(20, &matches)), invalid(direct));
    let over = invalid("a weight is 0 to 100 percent, not 101");
    assert_eq!(refused(&host, || start(|release| release.proxy("127.0.0.1:8080"))?.route(101)), over);
    let host = host.deny(Permission::Service, "app:8080");
    let denied = refused(&host, || start(|release| release.proxy("127.0.0.1:8080")));
    let message = "the stage may not accept requests for the service `app` at 127.0.0.1:8080";
    assert_eq!(denied, (ErrorCode::PermissionDenied, message.to_owned()));
}

#[test]
fn releases_need_an_environment_a_digest_and_an_artifact() {
    let host = FakeHost::new().service(ServiceScript::new("app"));
    let image = format!("local/app@sha256:{}", "0".repeat(64));
    let nowhere = (ErrorCode::FailedPrecondition, "the stage has no environment to deploy to".to_owned());
    assert_eq!(refused(&host, || service::Release::new("app", &image).start()), nowhere);
    assert_eq!(refused(&host, || service::current("app")), nowhere);
    let unrecorded = (
        ErrorCode::FailedPrecondition,
        "could not record a release: the stage doesn't act on an environment".to_owned(),
    );
    assert_eq!(refused(&host, || environment::released("app@1", None)), unrecorded);
    let host = host.environment("staging");
    assert_eq!(
        refused(&host, || environment::released(" ", None)),
        invalid("the artifact of a release must not be empty")
    );
    assert_eq!(
        refused(&host, || service::Release::new("app", "local/app:1").start()),
        invalid("`local/app:1` doesn't specify the image by digest")
    );
    assert_eq!(
        refused(&host, || service::Release::new("app", "app:1").start()),
        invalid("image reference `app:1` names no registry")
    );
    let twice = || {
        let instance = service::Release::new("app", &image).start()?;
        instance.promote()?;
        instance.discard()
    };
    let settled = "release release-1 was already promoted or discarded".to_owned();
    assert_eq!(refused(&host, twice), (ErrorCode::FailedPrecondition, settled));
}

/// The stage's `with` table.
#[derive(Deserialize, JsonSchema)]
struct Config {
    /// The effect to have.
    effect: String,
}

struct Meddler;

impl Stage for Meddler {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("meddler", "1.0.0")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        if config.effect == "validate" {
            // The result doesn't matter, since the call itself isn't allowed.
            drop(workspace::read("a.txt"));
        }
        Vec::new()
    }

    fn run(config: Config) -> Result<Outcome> {
        Meddler::observe(config).map(|_| Outcome::Succeeded)
    }
}

impl Reconcile for Meddler {
    fn observe(config: Config) -> Result<Observation> {
        let image = format!("local/app@sha256:{}", "0".repeat(64));
        match config.effect.as_str() {
            "run" => drop(Command::new("tool").status()?),
            "look" => drop(Command::new("tool").read_only().status()?),
            "post" => drop(Request::post("https://a/x?y").send()?),
            "get" => drop(Request::get("https://a/x?y").send()?),
            "push" => drop(registry::push("image", "local/app:1")?),
            "copy" => drop(registry::copy("local/app:1", "local/app:2")?),
            "start" => drop(service::Release::new("app", &image).start()?),
            other => unreachable!("{other}"),
        }
        Ok(Observation::NotStarted)
    }

    fn undo(_config: Config) -> Result<()> {
        Ok(())
    }
}

#[test]
fn observe_may_read_but_not_act() {
    let host = |effect: &str| {
        FakeHost::new()
            .config(json!({ "effect": effect }))
            .environment("staging")
            .process(tool())
            .http(HttpScript::get("https://a/x?y"))
            .http(HttpScript::post("https://a/x?y"))
            .service(ServiceScript::new("app"))
            .file("image/index.json", json!({ "manifests": [{ "digest": "sha256:aa", "size": 1 }] }).to_string())
            .image("local/app:1", "sha256:aa")
    };
    for (effect, what) in [
        ("run", "run tool"),
        ("post", "POST https://a/x"),
        ("push", "push local/app:1"),
        ("copy", "copy to local/app:2"),
        ("start", "start a release of app in staging"),
    ] {
        let report = host(effect).observe::<Meddler>();
        assert_eq!(report.result, Err(Error::failed(format!("`observe` may not have effects: {what}"))));
        assert!(report.spawned.is_empty() && report.sent.is_empty() && report.releases.is_empty());
        assert_eq!(host(effect).run::<Meddler>().result, Ok(Outcome::Succeeded));
    }
    for effect in ["look", "get"] {
        assert_eq!(host(effect).observe::<Meddler>().result, Ok(Observation::NotStarted));
    }
}

#[test]
#[should_panic(expected = "`validate` and `requirements` may only call `context`")]
fn validate_may_only_call_the_context() {
    FakeHost::new().config(json!({ "effect": "validate" })).validate::<Meddler>();
}

#[test]
#[should_panic(expected = "`socket` has no effect")]
fn a_denial_that_would_do_nothing_panics() {
    // The panic is the result.
    let _ = FakeHost::new().deny(Permission::Socket, "docker");
}

#[test]
#[should_panic(expected = "at most 64 KiB")]
fn random_bytes_are_limited() {
    FakeHost::new().with(|| random::bytes(65_537));
}
