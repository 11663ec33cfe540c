//! Hosts that aren't the right ones, and hosts that don't let the deploy in.

use super::fleet::{Agent, Fleet, deploy};
use super::pipeline;

#[test]
fn another_host_key_is_refused_with_its_fingerprint() {
    let mut fleet = Fleet::start(2);
    let repository = fleet.repository(&pipeline(""));
    fleet.machine.run("rm", &[&fleet.folder(1).join("host_key").display().to_string()]);
    let key = fleet.folder(1).join("host_key").display().to_string();
    fleet.machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let fingerprint = fleet.machine.run("ssh-keygen", &["-l", "-f", &key]);
    let fingerprint = fingerprint.split(' ').nth(1).expect("a fingerprint").to_owned();
    fleet.boot(1, "");
    let refused = deploy(&repository, "1", "", 1);
    let message =
        format!("`web2` of the credential `web` (root@127.0.0.1:2202) offered the host key ssh-ed25519 {fingerprint}");
    assert!(refused.stdout.contains(&message), "{}", refused.stdout);
    assert!(!fleet.log(1).contains("Accepted"), "nothing is sent to the wrong host");
    assert_eq!(fleet.versions(), ["", ""]);
}

#[test]
fn the_users_own_files_change_nothing() {
    let fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline(""));
    let home = repository.root().parent().expect("a folder").join("home/.ssh");
    std::fs::create_dir_all(&home).expect("a folder");
    std::fs::write(home.join("config"), "Host *\n  ProxyCommand touch /tmp/read-the-config\n").expect("a file");
    deploy(&repository, "1", "", 0);
    assert!(!home.join("known_hosts").exists());
    assert_eq!(fleet.versions(), ["1"]);
}

#[test]
fn a_server_with_passwords_only_is_refused_and_so_is_a_key_that_was_removed() {
    let mut fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline(""));
    deploy(&repository, "1", "", 0);
    fleet.boot(0, "PasswordAuthentication yes\nPubkeyAuthentication no");
    let refused = deploy(&repository, "2", "", 1);
    assert!(refused.stdout.contains("accepts no keys, only: password"), "{}", refused.stdout);
    assert!(!fleet.log(0).contains("Failed password"), "no password is tried");
    fleet.boot(0, "");
    fleet.write(0, "authorized_keys", "");
    let removed = deploy(&repository, "2", "", 1);
    assert!(removed.stdout.contains("(root@127.0.0.1:2201) doesn't accept the key"), "{}", removed.stdout);
    assert_eq!(fleet.versions(), ["1"]);
}

#[test]
fn a_host_that_is_down_stops_the_deploy_before_any_host_is_switched() {
    let mut fleet = Fleet::start(2);
    let repository = fleet.repository(&pipeline(""));
    deploy(&repository, "1", "", 0);
    fleet.shut_down(1);
    let failed = deploy(&repository, "2", "", 1);
    for part in ["could not connect to `web2` of the credential `web`", "Connection refused"] {
        assert!(failed.stdout.contains(part), "{part} in {}", failed.stdout);
    }
    assert_eq!(fleet.versions(), ["1", "1"]);
    fleet.boot(1, "");
    deploy(&repository, "2", "", 0);
    assert_eq!(fleet.versions(), ["2", "2"]);
}

#[test]
fn the_keys_of_an_agent_can_be_used_instead_of_a_secret() {
    let fleet = Fleet::start(1);
    let text = pipeline("").replace("key = \"deploy-key\"", "agent = true");
    let mut repository = fleet.repository(&text);
    let missing = deploy(&repository, "1", "", 1);
    assert!(missing.stdout.contains("uses the keys of an agent, but SSH_AUTH_SOCK isn't set"), "{}", missing.stdout);
    let agent = Agent::start(&fleet);
    repository.set("SSH_AUTH_SOCK", &agent.socket);
    deploy(&repository, "1", "", 0);
    assert_eq!(fleet.versions(), ["1"]);
}

#[test]
fn a_secret_that_is_no_key_is_named() {
    let fleet = Fleet::start(1);
    let mut repository = fleet.repository(&pipeline(""));
    repository.set("DEPLOY_KEY", "hunter2-hunter2");
    let refused = deploy(&repository, "1", "", 1);
    assert!(refused.stdout.contains("the key of the credential `web` can't be used"), "{}", refused.stdout);
    assert!(!refused.stdout.contains("hunter2"), "{}", refused.stdout);
}
