//! Checklists: evidence, and a form.

use std::process::Command;

use crate::environment::{TestEnvironment, failure, outcomes};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "release"

[environments.production]
target = "process"

[stages.ready]
uses = "checklist"
[stages.ready.with]
environments = ["production"]
items = [
  { name = "check", text = "The check passes", command = ["sh", "check.sh"] },
  { name = "machine", text = "The machine is large enough", machine = { cores = 1, memory-gib = 0.1, disk = { path = "check.sh", gib = 0.1 }, tools = { git = "2" } } },
  { name = "support", text = "The support team knows" },
]
[stages.deploy]
uses = "noop"
needs = ["ready"]
environment = "production"
"#;

fn repository() -> TestEnvironment {
    let repository = TestEnvironment::with_pipeline(PIPELINE);
    repository.write("check.sh", "echo 3 of 3 fine");
    repository.run(&["grant", "--yes"]).exits(0);
    repository
}

#[test]
fn evidence_is_collected_and_a_person_is_asked_for_the_rest() {
    let repository = repository();
    let asked = repository.run(&["run"]).exits(5).stdout;
    assert!(asked.contains("1 item to confirm; found: The check passes: `sh` succeeded: 3 of 3 fine"), "{asked}");
    repository.run(&["approve", "latest", "--field", "support=true"]).exits(0);
    let (code, events) = repository.events(&["resume", "latest"]);
    assert_eq!((code, outcomes(&events)["deploy"].as_str()), (0, "succeeded"), "{events:#?}");
    let ended =
        events.iter().rfind(|event| event["type"] == "attempt-ended" && event["stage-id"] == "ready").expect("an end");
    let items = &ended["outputs"]["items"];
    assert!(items["support"].as_str().is_some_and(|answer| answer.starts_with("yes, says ")), "{items}");
    assert!(items["machine"].as_str().is_some_and(|found| found.contains("git 2.")), "{items}");
}

#[test]
fn evidence_against_an_item_and_a_no_stop_the_run() {
    let repository = repository();
    repository.write("check.sh", "echo 2 of 3 fine; exit 1");
    let (code, events) = repository.events(&["run"]);
    assert_eq!((code, outcomes(&events)["deploy"].as_str()), (1, "skipped"), "{events:#?}");
    assert!(failure(&events, "ready").to_string().contains("ended with exit code 1: 2 of 3 fine"), "{events:#?}");
    repository.write("check.sh", "true");
    repository.run(&["run"]).exits(5);
    repository.run(&["approve", "latest", "--field", "support=false"]).exits(0);
    let (code, events) = repository.events(&["resume", "latest"]);
    assert_eq!(code, 1, "{events:#?}");
    assert!(failure(&events, "ready").to_string().contains("says no to 1 item"), "{events:#?}");
}

#[test]
fn a_certificate_is_looked_at_by_its_name_and_its_days() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let make =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj"];
    let names =
        ["/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", &path("key"), "-out", &path("cert")];
    let made = Command::new("openssl").args(make).args(names).output().expect("openssl starts");
    assert!(made.status.success(), "{made:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let args =
        ["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert", &path("cert"), "-key", &path("key")];
    let mut server =
        Command::new("openssl").args(args).stdin(std::process::Stdio::null()).spawn().expect("openssl starts");
    let pipeline = format!(
        "schema = 1\npipeline.name = \"p\"\n[stages.ready]\nuses = \"checklist\"\nwith.items = [\n\
         {{ name = \"tls\", text = \"The certificate is good\", certificate = {{ host = \"localhost\", port = {port}, days = 1 }} }}]\n"
    );
    let repository = TestEnvironment::with_pipeline(&pipeline);
    repository.run(&["grant", "--yes"]).exits(0);
    let (code, events) = repository.events(&["run"]);
    let _ = (server.kill(), server.wait());
    // No authority vouches for it, which is what the connection is checked for.
    let said = failure(&events, "ready").to_string();
    assert!(code == 1 && said.contains("the certificate of localhost can't be verified"), "{said}");
}

#[test]
fn text_from_outside_is_no_part_of_a_program_or_a_query() {
    let server = "{ postgresql = { host = \"127.0.0.1\", user = \"u\" } }, database = \"shop\", from = { store = { folder = \"b\" } }";
    for (uses, with, key) in [
        (
            "checklist",
            "items = [{ name = \"a\", text = \"b\", command = [\"sh\", \"-c\", \"EXPRESSION\"] }]".to_owned(),
            "command[2]",
        ),
        ("db-verify", format!("server = {server}, checks = [\"EXPRESSION\"]"), "checks[0]"),
        ("db-restore", format!("server = {server}, checks = [\"EXPRESSION\"]"), "checks[0]"),
    ] {
        let with = with.replace("EXPRESSION", "${{ inputs.text }}");
        let repository = TestEnvironment::with_pipeline(&format!(
            "schema = 1\npipeline.name = \"p\"\n[inputs.text]\n[stages.a]\nuses = \"{uses}\"\nwith = {{ {with} }}\n"
        ));
        let refused = repository.run(&["validate"]).exits(3).stderr;
        assert!(refused.contains(key) && refused.contains("is executed as code"), "{uses}: {refused}");
    }
}
