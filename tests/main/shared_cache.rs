//! Results that machines share, and shared caches that misbehave.

mod server;

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use self::server::{Behaviour, Server};
use crate::environment::{Ended, TestEnvironment, binary, eventually};

/// A stage that makes `out/made` from `src`.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "shared"

[stages.make]
uses = "command"
with = { run = "cat src/* > out/made; echo making; echo once more >> count/times" }
inputs = ["src/**"]
outputs = ["out/**"]
[stages.make.permissions]
process = ["sh", "cat"]
read = ["src"]
write = ["out", "count"]
"#;

/// A separate machine.
fn machine(settings: &[(&str, &str)]) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("src/a", "one\n");
    settings.iter().for_each(|(name, value)| environment.set(name, value));
    environment
}

/// Runs the pipeline. Returns whether the stage's program ran.
fn works(environment: &TestEnvironment, args: &[&str]) -> (bool, Ended) {
    let times = || std::fs::read_to_string(environment.root().join("count/times")).unwrap_or_default().lines().count();
    let before = times();
    let ended = environment.run(&[&["run"], args].concat()).exits(0);
    assert_eq!(environment.read("out/made"), "one\n");
    (times() > before, ended)
}

#[test]
fn a_result_of_one_machine_is_used_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().display().to_string();
    let maker = machine(&[("STAGEWRIGHT_SHARED_CACHE", &address), ("STAGEWRIGHT_CACHE_TIER", "trusted")]);
    assert!(works(&maker, &[]).0);
    // Only the address is needed to use the cache.
    let taker = machine(&[("STAGEWRIGHT_SHARED_CACHE", &address)]);
    let (worked, ended) = works(&taker, &[]);
    assert!(
        !worked && ended.stdout.contains("its result comes from the shared cache, tier `trusted`"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("making") && ended.stdout.contains("1 cached"), "{}", ended.stdout);
    let explained = taker.run(&["explain", "make"]).exits(0).stdout;
    assert!(explained.contains("did not have to run"), "{explained}");
    // After that the result is in the machine's own cache.
    let (worked, ended) = works(&taker, &["--shared-cache", "off"]);
    assert!(!worked && !ended.stdout.contains("shared cache"), "{}", ended.stdout);
    // Its own results aren't shared, because it has no tier.
    taker.write("src/b", "");
    assert!(works(&taker, &[]).0);
    maker.write("src/b", "");
    assert!(works(&maker, &[]).0);
}

#[test]
fn an_untrusted_run_reads_trusted_results_and_shares_none() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().display().to_string();
    let of = |tier: &str| machine(&[("STAGEWRIGHT_SHARED_CACHE", &address), ("STAGEWRIGHT_CACHE_TIER", tier)]);
    assert!(works(&of("pr-1"), &[]).0);
    assert!(!works(&of("pr-1"), &[]).0, "its own");
    assert!(works(&of("pr-2"), &[]).0, "another's");
    assert!(works(&of("trusted"), &[]).0, "used an untrusted result");
    assert!(!works(&of("pr-3"), &[]).0, "didn't use the trusted result");
    // The same applies to results on one machine.
    let runner = machine(&[]);
    assert!(works(&runner, &["--cache-tier", "pr-1"]).0);
    assert!(works(&runner, &["--cache-tier", "pr-2"]).0);
    assert!(works(&runner, &[]).0);
    assert!(works(&runner, &[]).0, "used a result of an untrusted run");
    assert!(!works(&runner, &["--cache-tier", "pr-3"]).0);
    assert!(!works(&runner, &["--cache-tier", "trusted"]).0);
}

/// Such a result may depend on files of the machine that aren't declared.
#[test]
fn unconfined_results_are_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().display().to_string();
    let environment = machine(&[("STAGEWRIGHT_SHARED_CACHE", &address), ("STAGEWRIGHT_CACHE_TIER", "trusted")]);
    environment.write(
        "stagewright.toml",
        &PIPELINE.replace("name = \"shared\"", "name = \"shared\"\nsandbox = \"preferred\""),
    );
    for folder in ["out", "count"] {
        std::fs::create_dir(environment.root().join(folder)).unwrap();
    }
    // In a user namespace that can't have nested ones, sandboxes can't be made.
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {} run", binary().display());
    let output = environment.program("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).output();
    Ended::of(&output.expect("unshare starts")).exits(0);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    assert!(works(&environment, &[]).0);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn the_policy_bounds_the_shared_cache() {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = machine(&[]);
    let shared = folder.path().display();
    runner.write("../policy.toml", &format!("schema = 1\n[cache]\nshared = \"{shared}\"\ntier = \"pr-1\"\n"));
    let policy = runner.root().with_file_name("policy.toml").display().to_string();
    runner.set("STAGEWRIGHT_POLICY", &policy);
    for (flag, value) in [("--cache-tier", "trusted"), ("--shared-cache", "/elsewhere"), ("--shared-cache", "off")] {
        let refused = runner.run(&["run", flag, value]).exits(4).stderr;
        assert!(refused.contains(&format!("{flag} is `{value}`")) && refused.contains("policy.toml:"), "{refused}");
    }
    assert!(works(&runner, &[]).0);
    assert!(folder.path().join("tiers/pr-1").is_dir() && !folder.path().join("trusted").exists());
}

#[test]
fn invalid_cache_settings_are_refused_before_anything_runs() {
    let environment = machine(&[]);
    for (args, words) in [
        (["--shared-cache", "results"], "its path isn't absolute"),
        (["--shared-cache", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--shared-cache", "https://me:hidden@example.org/"], "it contains a user's name"),
        (["--cache-tier", " "], "isn't a valid name of a cache tier"),
    ] {
        let refused = environment.run(&[&["run"], args.as_slice()].concat()).exits(2).stderr;
        assert!(refused.contains(words) && !refused.contains("hidden"), "{refused}");
    }
    // Stages could put forged results there.
    let inside = environment.root().join("results");
    std::fs::create_dir(&inside).unwrap();
    for address in [inside.display().to_string(), format!("file://{}", inside.display())] {
        let refused = environment.run(&["run", "--shared-cache", &address]).exits(2).stderr;
        assert!(refused.contains("lies in the workspace, where stages can write"), "{refused}");
    }
    assert!(!environment.root().join("out").exists());
}

#[test]
fn an_http_cache_stores_results_and_gets_the_token() {
    let server = Server::start();
    let address = format!("http://{}/results", server.address);
    let settings = [
        ("STAGEWRIGHT_SHARED_CACHE", address.as_str()),
        ("STAGEWRIGHT_CACHE_TIER", "trusted"),
        ("STAGEWRIGHT_SHARED_CACHE_TOKEN", "the-token"),
    ];
    assert!(works(&machine(&settings), &[]).0);
    let (worked, ended) = works(&machine(&settings), &[]);
    assert!(!worked, "{}", ended.stdout);
    let kept = server.kept.lock().unwrap();
    assert_eq!(
        kept.files.keys().filter(|path| path.starts_with("/results/trusted/")).count(),
        1,
        "{:?}",
        kept.files.keys()
    );
    assert_eq!(kept.authorizations.len(), kept.requests);
    assert!(kept.authorizations.iter().all(|value| value == "Bearer the-token"), "{:?}", kept.authorizations);
}

/// Not even to read, because that would send its credentials.
#[test]
fn a_rehearsal_does_not_use_the_shared_cache() {
    let server = Server::start();
    let address = format!("http://{}/results", server.address);
    let mut environment = machine(&[
        ("STAGEWRIGHT_SHARED_CACHE", address.as_str()),
        ("STAGEWRIGHT_CACHE_TIER", "trusted"),
        ("STAGEWRIGHT_SHARED_CACHE_TOKEN", "the-token"),
    ]);
    assert!(works(&environment, &["--rehearse"]).0);
    assert!(works(&environment, &["--rehearse", "--cache", "refresh", "--shared-cache", &address]).0);
    environment.write("../policy.toml", &format!("schema = 1\n[cache]\nshared = \"{address}\"\n"));
    let policy = environment.root().with_file_name("policy.toml").display().to_string();
    environment.set("STAGEWRIGHT_POLICY", &policy);
    assert!(works(&environment, &["--rehearse", "--cache", "refresh"]).0);
    assert_eq!(server.requests(), 0);
    works(&environment, &[]);
    assert!(server.requests() > 0);
}

#[test]
fn no_pipeline_gets_the_caches_credentials() {
    let environment = machine(&[("STAGEWRIGHT_SHARED_CACHE_TOKEN", "the-token"), ("OTHER", "is-there")]);
    environment.write(
        "stagewright.toml",
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.s]\nuses = \"command\"\nwith = { run = \"env\" }\n\
         permissions = { process = [\"sh\", \"env\"], env = [\"OTHER\", \"STAGEWRIGHT_SHARED_CACHE_TOKEN\"] }\n",
    );
    let shown = environment.run(&["run"]).exits(0).stdout;
    assert!(shown.contains("OTHER=is-there") && !shown.contains("the-token"), "{shown}");
    let secret = "schema = 1\n[pipeline]\nname = \"p\"\n[secrets.t]\nfrom = \"env:STAGEWRIGHT_SHARED_CACHE_TOKEN\"\n\
                  [stages.s]\nuses = \"command\"\nwith = { run = \"env\" }\n\
                  permissions = { process = [\"sh\", \"env\"], secrets = [\"t\"] }\n";
    environment.write("stagewright.toml", secret);
    environment.run(&["run"]).exits(4);
}

#[test]
fn requests_to_a_bucket_are_signed() {
    let server = Server::start();
    let endpoint = format!("http://{}", server.address);
    let settings = [
        ("STAGEWRIGHT_SHARED_CACHE", "s3://bucket/some/prefix"),
        ("STAGEWRIGHT_CACHE_TIER", "feature/x"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "the-key"),
        ("AWS_SECRET_ACCESS_KEY", "another account's key"),
        ("STAGEWRIGHT_SHARED_CACHE_AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_REGION", "eu-west-1"),
    ];
    assert!(works(&machine(&settings), &[]).0);
    assert!(!works(&machine(&settings), &[]).0);
    let kept = server.kept.lock().unwrap();
    let placed = |path: &&String| path.starts_with("/bucket/some/prefix/tiers/feature%2") && path.ends_with(".gz");
    assert_eq!(kept.files.keys().filter(placed).count(), 1, "{:?}", kept.files.keys());
    let signed =
        |value: &String| value.starts_with("AWS4-HMAC-SHA256 Credential=the-key/") && value.contains("/eu-west-1/s3/");
    assert!(kept.authorizations.len() == kept.requests && kept.authorizations.iter().all(signed));
}

#[test]
fn a_cache_that_fails_costs_a_run_little_time_and_nothing_else() {
    let server = Server::start();
    let address = format!("http://{}/results", server.address);
    let settings = [("STAGEWRIGHT_SHARED_CACHE", address.as_str()), ("STAGEWRIGHT_CACHE_TIER", "trusted")];
    assert!(works(&machine(&settings), &[]).0);
    for (manner, words) in [
        (Behaviour::Broken, "this run continues without the shared cache: "),
        (Behaviour::BreaksOff, "this run continues without the shared cache: "),
        (Behaviour::Lies, "found its result in the shared cache, but could not use it: "),
    ] {
        server.behaves(manner);
        let (worked, ended) = works(&machine(&settings), &[]);
        assert!(worked && ended.stdout.contains(words), "{words}: {}{}", ended.stdout, ended.stderr);
    }
    // The run that ran the stage has replaced the damaged result.
    server.behaves(Behaviour::Works);
    assert!(!works(&machine(&settings), &[]).0);
    let unreachable =
        machine(&[("STAGEWRIGHT_SHARED_CACHE", "http://127.0.0.1:9/"), ("STAGEWRIGHT_CACHE_TIER", "trusted")]);
    let (worked, ended) = works(&unreachable, &[]);
    assert!(
        worked && ended.stderr.contains("warning: a result was not put into the shared cache: "),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_silent_cache_times_out_once_and_does_not_delay_cancellation() {
    let server = Server::start();
    server.behaves(Behaviour::Silent);
    let address = format!("http://{}/results", server.address);
    let environment = machine(&[("STAGEWRIGHT_SHARED_CACHE", &address)]);
    let mut run = environment.start(&["run"]);
    eventually("a request", || (server.requests() > 0).then_some(()));
    let cancelled = Instant::now();
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(cancelled.elapsed() < Duration::from_secs(9), "{:?}", cancelled.elapsed());
    let two = PIPELINE.to_owned() + &PIPELINE[PIPELINE.find("[stages.make]").unwrap()..].replace("make", "more");
    environment.write("stagewright.toml", &two);
    let ended = environment.run(&["run", "--jobs", "1"]).exits(0);
    assert_eq!(ended.stdout.matches("this run continues without the shared cache: ").count(), 1, "{}", ended.stdout);
}
