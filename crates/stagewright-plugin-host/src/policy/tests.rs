use stagewright_model::{NetRule, PackageManager};

use super::*;
use crate::net::AddressKind;

fn policy(change: impl FnOnce(&mut Permissions)) -> Policy {
    let mut permissions = Permissions::default();
    change(&mut permissions);
    let cargo = PackageHosts::with(PackageManager::Cargo, "https://index.crates.example/i/");
    Policy::new("stages.test", &permissions, &cargo, Arc::new(Reservations::of(&[".stagewright"])))
}

fn help(denied: Result<(), CapabilityError>) -> String {
    let error = denied.unwrap_err();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    error.help.unwrap()
}

fn start(policy: &Policy, call: &[&str], variables: &[&str]) -> Result<(), CapabilityError> {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    policy.program(call[0], &owned(&call[1..]), owned(variables).iter())
}

fn net(entries: &[&str]) -> Vec<NetRule> {
    entries.iter().map(|entry| entry.parse().unwrap()).collect()
}

fn path(text: &str) -> WorkspacePath {
    WorkspacePath::parse(text).unwrap()
}

fn origin(url: &str) -> Origin {
    Origin::of_url(url).unwrap()
}

#[test]
fn nothing_is_granted_by_default() {
    let policy = policy(|_| {});
    let table = "add to [stages.test.permissions]: ";
    assert_eq!(help(start(&policy, &["cargo", "test"], &[])), format!("{table}process = [\"cargo\"]"));
    assert_eq!(help(policy.read(&path("src"))), format!("{table}read = [\"src\"]"));
    assert_eq!(help(policy.write(&path("."))), format!("{table}write = [\".\"]"));
    assert_eq!(help(policy.origin(&origin("https://a.b/c"))), format!("{table}net = [\"https://a.b\"]"));
    assert_eq!(help(policy.image("ghcr.io/a/b:1")), format!("{table}registry = [\"ghcr.io/a/b\"]"));
    assert_eq!(help(policy.service("api")), format!("{table}service = [\"api\"]"));
    assert_eq!(help(policy.secret("token")), format!("{table}secrets = [\"token\"]"));
    assert_eq!(help(policy.reveal("token")), format!("{table}secrets = [\"token\"]"));
}

#[test]
fn a_secret_is_granted_for_both_uses_or_for_one() {
    let policy = policy(|permissions| {
        permissions.secrets =
            vec!["any".parse().unwrap(), "sent:header".parse().unwrap(), "handed:env".parse().unwrap()];
        permissions.reveal = vec!["sent".parse().unwrap(), "foreign".parse().unwrap()];
    });
    for name in ["any", "sent", "handed"] {
        assert!(policy.secret(name).is_ok());
    }
    assert!(policy.secret_use("any", SecretUse::Header).is_ok() && policy.secret_use("any", SecretUse::Env).is_ok());
    assert!(
        policy.secret_use("sent", SecretUse::Header).is_ok() && policy.secret_use("handed", SecretUse::Env).is_ok()
    );
    let table = "change in [stages.test.permissions]: secrets = [\"any\", \"handed:env\", \"sent:";
    assert_eq!(help(policy.secret_use("sent", SecretUse::Env)), format!("{table}env\", \"sent:header\"]"));
    assert!(policy.secret_use("handed", SecretUse::Header).is_err() && policy.secret("handed:env").is_err());
    assert!(policy.reveal("sent").is_ok() && policy.reveal("foreign").is_err() && policy.reveal("any").is_err());
}

#[test]
fn help_includes_what_is_granted_already() {
    let policy = policy(|permissions| permissions.process = vec!["git".parse().unwrap()]);
    assert!(start(&policy, &["git", "push", "--force"], &["GIT_SSH_COMMAND"]).is_ok());
    assert_eq!(
        help(start(&policy, &["cargo"], &[])),
        "change in [stages.test.permissions]: process = [\"cargo\", \"git\"]"
    );
}

#[test]
fn a_denied_command_line_is_named_as_the_entry_that_grants_it() {
    let policy = policy(|permissions| permissions.process = vec!["git fetch origin *".parse().unwrap()]);
    assert!(start(&policy, &["git", "fetch", "origin", "main"], &[]).is_ok());
    let call = ["git", "commit", "-m", "a *", "--", "it's"];
    let denied = start(&policy, &call, &[]);
    assert_eq!(denied.as_ref().unwrap_err().message, "the stage may not start the program `git` with these arguments");
    let advice = help(denied);
    let table: toml::Table = advice.split_once("]: ").unwrap().1.parse().unwrap();
    let entries = table["process"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap());
    assert_eq!(entries.collect::<Vec<_>>(), ["git commit -m 'a *' -- 'it'\\''s'", "git fetch origin *"]);
    let long = "x".repeat(MAX_ENTRY);
    assert!(help(start(&policy, &["git", &long], &[])).ends_with("process = [\"git\", \"git fetch origin *\"]"));
}

#[test]
fn restricted_arguments_restrict_the_variables_too() {
    let policy = policy(|permissions| {
        permissions.process = vec!["git fetch origin *".parse().unwrap()];
        permissions.env = vec!["GIT_TRACE".parse().unwrap()];
    });
    let call = ["git", "fetch", "origin", "main"];
    assert!(start(&policy, &call, &["GIT_TRACE"]).is_ok());
    let help = help(start(&policy, &call, &["GIT_TRACE", "GIT_SSH_COMMAND"]));
    assert_eq!(help, "change in [stages.test.permissions]: env = [\"GIT_SSH_COMMAND\", \"GIT_TRACE\"]");
}

#[test]
fn write_implies_read_but_not_the_reverse() {
    let policy = policy(|permissions| {
        permissions.read = vec!["src".parse().unwrap()];
        permissions.write = vec!["target".parse().unwrap()];
    });
    assert!(policy.read(&path("src/lib.rs")).is_ok() && policy.read(&path("target/a")).is_ok());
    assert!(policy.write(&path("target/a")).is_ok() && policy.write(&path("src/lib.rs")).is_err());
    assert!(policy.may_list(&path(".")) && !policy.may_list(&path("docs")));
}

#[test]
fn no_grant_opens_a_reserved_path() {
    let policy = policy(|permissions| permissions.write = vec![".".parse().unwrap()]);
    assert!(policy.read(&path(".stagewright/journal")).is_err() && policy.write(&path(".stagewright")).is_err());
    assert!(!policy.may_list(&path(".stagewright")) && policy.write(&path(".stagewrights")).is_ok());
}

#[test]
fn the_word_cargo_grants_the_hosts_that_cargo_uses() {
    let policy = policy(|permissions| permissions.net = net(&["cargo"]));
    assert!(policy.origin(&origin("https://index.crates.example/config.json")).is_ok());
    assert!(policy.origin(&origin("https://cargo/")).is_err());
}

#[test]
fn the_denial_of_a_refused_address_names_the_address_to_grant() {
    let policy = policy(|permissions| permissions.net = net(&["https://a.b:8443"]));
    let (name, address) = ("a.b".to_owned(), [127, 0, 0, 1].into());
    let refused = AddressRefused { name, address, kind: AddressKind::Loopback };
    let denied = policy.deny_address(&origin("https://a.b:8443"), &refused);
    assert_eq!(
        denied.message,
        "the stage may not call https://a.b:8443: `a.b` resolves to 127.0.0.1, which is this machine's loopback"
    );
    assert_eq!(
        help(Err(denied)),
        "if this is intended, call the address itself, and change in [stages.test.permissions]: \
         net = [\"https://127.0.0.1:8443\", \"https://a.b:8443\"]"
    );
}

#[test]
fn tunnels_are_granted_by_host_and_port() {
    let policy = policy(|permissions| {
        permissions.net = net(&["tcp://db.example.org:5432", "http://localhost:80", "a.b"]);
    });
    assert!(policy.has_network() && !super::tests::policy(|_| {}).has_network());
    let tunnel = |authority| policy.tunnel(&Origin::of_tunnel(authority).unwrap());
    assert!(tunnel("db.example.org:5432").is_ok() && tunnel("a.b:443").is_ok() && tunnel("localhost:80").is_ok());
    assert!(help(tunnel("a.b:22")).contains("\"tcp://a.b:22\""));
    assert_eq!(policy.loopback_ports(), ["127.0.0.1:80".parse().unwrap()].into());
}

#[test]
fn repositories_are_matched_without_tag_and_digest() {
    let policy = policy(|permissions| {
        permissions.registry = vec!["local/app".parse().unwrap(), "host:5000/acme/*".parse().unwrap()];
    });
    for image in ["local/app", "local/app:1.2", "local/app@sha256:ab", "host:5000/acme/api:2@sha256:ab"] {
        assert!(policy.image(image).is_ok(), "{image}");
    }
    for image in ["local/app2", "local/apps:1", "host:5000/other/api", "ghcr.io/local/app"] {
        assert!(policy.image(image).is_err(), "{image}");
    }
}
