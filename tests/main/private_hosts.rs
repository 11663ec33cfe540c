//! Private package hosts: real clients download from a registry that requires a credential, which only the proxy has.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, outcomes};
use registry::Registry;

mod registry;
mod signed;

const TOKEN: &str = "hunter2hunter2hunter2";

/// An environment whose engine trusts the registry. `scheme`: that of the secret; `stage`: the rest of the stage, in
/// which `ORIGIN` stands for the registry's origin.
fn environment(registry: &Registry, scheme: &str, stage: &str) -> TestEnvironment {
    let port = registry.port;
    let text = format!(
        "schema = 1\n[pipeline]\nname = \"private\"\n[secrets.token]\nfrom = \"env:REGISTRY_TOKEN\"\n\
         hosts = [\"localhost:{port}\"]\nscheme = \"{scheme}\"\n{stage}"
    );
    let mut environment = TestEnvironment::with_pipeline(&text.replace("ORIGIN", &registry.origin()));
    let authority = environment.root().with_file_name("authority.pem");
    std::fs::write(&authority, &registry.authority).expect("a file");
    environment.set("SSL_CERT_FILE", &authority.display().to_string());
    environment.set("HOME", &std::env::home_dir().expect("a home").display().to_string());
    environment.set("REGISTRY_TOKEN", TOKEN);
    environment
}

/// Which requests carried the credential.
fn carried(asked: &[String]) -> Vec<bool> {
    asked.iter().map(|head| head.contains(TOKEN)).collect()
}

/// Checks that every request to the registry carried the credential, and that nothing shows it.
#[track_caller]
fn is_authenticated(registry: &Registry, ended: &Ended, authorization: &str) {
    let asked = registry.asked();
    assert!(!asked.is_empty());
    for head in asked {
        assert!(head.contains(&format!("authorization: {authorization}\r\n")), "{head}");
    }
    assert!(!ended.stdout.contains(TOKEN) && !ended.stderr.contains(TOKEN), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn npm_installs_a_private_package() {
    let registry = Registry::start("Bearer hunter2hunter2hunter2");
    registry.serve_npm();
    let environment = environment(
        &registry,
        "bearer",
        r#"
        [stages.install]
        uses = "command"
        with = { argv = ["npm", "install", "--no-audit", "private-package"], cwd = "web" }
        [stages.install.permissions]
        process = ["npm"]
        write = ["web"]
        net = ["ORIGIN"]
        secrets = ["token:proxy"]
        "#,
    );
    environment.write("web/package.json", r#"{ "name": "web" }"#);
    environment.write("web/.npmrc", &format!("registry={}/npm/\n", registry.origin()));
    let ended = environment.run(&["run"]).exits(0);
    assert!(environment.root().join("web/node_modules/private-package/index.js").is_file(), "{}", ended.stdout);
    is_authenticated(&registry, &ended, "Bearer hunter2hunter2hunter2");
    let why = environment.run(&["why", "install"]).exits(0).stdout;
    let words = format!("token: to localhost:{}, with downloads of its programs", registry.port);
    assert!(why.contains(&words), "{why}");
}

#[test]
fn pip_installs_a_private_package() {
    let registry = Registry::start("Basic YWRhOmh1bnRlcjJodW50ZXIyaHVudGVyMg==");
    let mut environment = environment(
        &registry,
        "basic",
        r#"
        [stages.install]
        uses = "command"
        env = { PIP_INDEX_URL = "ORIGIN/pip/" }
        [stages.install.with]
        run = """
        python3 -m venv py/venv && py/venv/bin/pip install --no-cache-dir --disable-pip-version-check private-wheel
        py/venv/bin/python -c 'import private_wheel; print("the answer is", private_wheel.answer)'
        """
        [stages.install.permissions]
        process = ["sh", "python3", "pip"]
        write = ["py"]
        net = ["ORIGIN"]
        secrets = ["token:proxy"]
        "#,
    );
    environment.set("REGISTRY_TOKEN", &format!("ada:{TOKEN}"));
    registry.serve_pip(&environment.root());
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("the answer is 42"), "{}", ended.stdout);
    is_authenticated(&registry, &ended, "Basic YWRhOmh1bnRlcjJodW50ZXIyaHVudGVyMg==");
}

/// Cargo sends no request to a registry that requires a token without one, so the stage gives it a placeholder.
#[test]
fn cargo_builds_with_a_private_crate() {
    let registry = Registry::start(TOKEN);
    registry.serve_cargo();
    let environment = environment(
        &registry,
        "plain",
        r#"
        [stages.build]
        uses = "command"
        with = { argv = ["cargo", "run", "--quiet"], cwd = "app" }
        [stages.build.env]
        CARGO_REGISTRIES_PRIVATE_INDEX = "sparse+ORIGIN/cargo/"
        CARGO_REGISTRIES_PRIVATE_TOKEN = "proxy"
        CARGO_REGISTRIES_PRIVATE_CREDENTIAL_PROVIDER = "cargo:token"
        [stages.build.permissions]
        process = ["cargo"]
        write = ["app"]
        net = ["ORIGIN"]
        secrets = ["token:proxy"]
        env = ["CARGO_HOME", "RUSTUP_HOME"]
        "#,
    );
    let dependency = "private-crate = { version = \"1\", registry = \"private\" }";
    let manifest = format!(
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{dependency}\n[workspace]\n"
    );
    environment.write("app/Cargo.toml", &manifest);
    environment.write("app/src/main.rs", "fn main() { println!(\"the answer is {}\", private_crate::ANSWER) }\n");
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("the answer is 42"), "{}", ended.stdout);
    is_authenticated(&registry, &ended, TOKEN);
}

/// The proxy adds the credential to nothing but downloads, and a program finds it nowhere.
#[test]
fn programs_can_neither_publish_with_the_credential_nor_find_it() {
    let registry = Registry::start("Bearer hunter2hunter2hunter2");
    registry.serve("/package", format!("content, and {TOKEN}"));
    let other = Registry::start("Bearer hunter2hunter2hunter2");
    let stage = r#"
        [stages.try]
        uses = "command"
        env = { MINE = "1" }
        [stages.try.with]
        run = '''
        curl --silent --show-error ORIGIN/package > package; echo
        echo "downloaded: $(cut -c 1-12 package)"
        curl --silent --request PUT --data x --header 'Authorization: Bearer proxy' ORIGIN/package; echo
        curl --silent --request POST --header 'X-HTTP-Method-Override: GET' ORIGIN/package; echo
        curl --silent --insecure OTHER/package; echo
        https_proxy=$HTTPS_PROXY curl --silent --noproxy '' ORIGIN/package > /dev/null && echo "through a tunnel"
        test -r "$SSL_CERT_FILE" && echo "trusts $SSL_CERT_FILE"
        grep -rIls 'hunter2hunte[r]2' /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run /tmp "$HOME" . && echo "found it"
        echo "looked for it"
        '''
        [stages.try.permissions]
        process = ["sh", "curl"]
        write = ["."]
        net = ["ORIGIN", "OTHER"]
        secrets = ["token:proxy"]
    "#;
    let environment = environment(&registry, "bearer", &stage.replace("OTHER", &other.origin()));
    let ended = environment.run(&["run"]).exits(0);
    for words in
        ["downloaded: content, and", "through a tunnel", "trusts /run/stagewright/authorities.pem", "looked for it"]
    {
        assert!(ended.stdout.contains(words), "{words} is missing in {}", ended.stdout);
    }
    assert_eq!(ended.stdout.matches("who are you?").count(), 3, "{}", ended.stdout);
    assert!(!ended.stdout.contains("found it"), "{}", ended.stdout);
    assert_eq!(environment.read("package"), "content, and ***", "a host that repeats the credential");
    assert_eq!(carried(&registry.asked()), [true, false, false, true], "{:#?}", registry.asked());
    assert_eq!(carried(&other.asked()), [false], "{:#?}", other.asked());
}

#[test]
fn a_rehearsal_sends_the_credential_only_where_it_is_granted() {
    let registry = Registry::start("Bearer hunter2hunter2hunter2");
    let stage = |name: &str, secrets: &str| {
        format!(
            "[stages.{name}]\nuses = \"command\"\nwith = {{ run = \"curl --silent --fail --insecure ORIGIN/{name}\" }}\n\
             permissions = {{ process = [\"sh\", \"curl\"], net = [\"ORIGIN\"], secrets = [\"token:proxy\"] }}\n\
             rehearse = {{ permissions = {{ net = [\"ORIGIN\"], secrets = [{secrets}] }} }}\n"
        )
    };
    registry.serve("/with", "content");
    registry.serve("/without", "content");
    let stages = stage("with", "\"token:proxy\"") + &stage("without", "");
    let environment = environment(&registry, "bearer", &stages);
    let (_, events) = environment.events(&["run", "--rehearse"]);
    let expected = [("with", "succeeded"), ("without", "failed")];
    assert_eq!(outcomes(&events), expected.map(|(stage, end)| (stage.to_owned(), end.to_owned())).into());
    let carried = registry.asked().into_iter().map(|head| (head.contains("/with "), head.contains(TOKEN)));
    assert_eq!(carried.collect::<BTreeMap<_, _>>(), [(true, true), (false, false)].into());
}

/// A stage that downloads stays a local one, and every view shows the grant.
#[test]
fn the_grant_is_shown_locked_and_limited_by_the_policy() {
    let stage = r#"
        [stages.install]
        uses = "command"
        with = { argv = ["npm", "ci"] }
        [stages.install.permissions]
        process = ["npm"]
        write = ["node_modules"]
        net = ["npm"]
    "#;
    let pipeline = |stage: &str| {
        format!(
            "schema = 1\n[pipeline]\nname = \"private\"\n[secrets.token]\nfrom = \"env:REGISTRY_TOKEN\"\n\
             hosts = [\"npm.example.org\"]\n{stage}"
        )
    };
    let granting = pipeline(&format!("{stage}secrets = [\"token:proxy\"]\n"));
    let mut environment = TestEnvironment::with_pipeline(&pipeline(stage));
    environment.run(&["lock"]).exits(0);
    environment.write("stagewright.toml", &granting);
    let shown = environment.run(&["plan"]).exits(0).stdout;
    for words in [
        "+ `install` may now authenticate downloads of programs with the secret `token`",
        "+ the secret `token` may now be sent to `npm.example.org`",
        "programs can download everything from npm.example.org that the secret `token` gives access to",
    ] {
        assert!(shown.contains(words), "{words} is missing in {shown}");
    }
    assert!(!shown.contains("not requested by the plugin"), "{shown}");
    let json: Json = serde_json::from_str(&environment.run(&["plan", "--json"]).exits(0).stdout).expect("JSON");
    assert_eq!(json["stages"][0]["effect"], "local", "{json:#}");
    environment.run(&["run", "--locked"]).exits(4);
    environment.run(&["lock"]).exits(0);
    assert!(environment.run(&["validate"]).exits(0).stderr.is_empty());

    let policy = environment.root().with_file_name("policy.toml");
    environment.set("STAGEWRIGHT_POLICY", &policy.display().to_string());
    let rest = "process = [\"*\"]\nread = [\".\"]\nwrite = [\".\"]\nnet = [\"npm\"]";
    environment.write("../policy.toml", &format!("schema = 1\n[permissions]\n{rest}\nsecrets = [\"token\"]\n"));
    let refused = environment.run(&["run"]).exits(4).stderr;
    assert!(refused.contains("token:proxy"), "{refused}");
    environment.write("../policy.toml", &format!("schema = 1\n[permissions]\n{rest}\nsecrets = [\"token:proxy\"]\n"));
    environment.run(&["validate"]).exits(0);
}
