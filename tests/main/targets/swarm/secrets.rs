//! Secrets of the pipeline as secrets of the swarm.

use std::collections::BTreeSet;

use super::{COMPOSE, DEPLOY, Swarm};
use crate::environment::TestEnvironment;

/// The stack, whose service `web` also has a secret of the pipeline and one that is created by hand.
fn compose() -> String {
    let reads = "configs: [app]\n    secrets: [token, { source: key, target: by-hand }]";
    let declared = "secrets: { token: { external: true }, key: { external: true } }\n";
    COMPOSE.replace("configs: [app]", reads) + declared
}

/// Lets `web` have the secret `token`, from the variable `SHOP_TOKEN`.
pub(super) fn start() -> Swarm {
    let mut swarm = Swarm::ungranted(&compose(), &format!("{DEPLOY}secrets = {{ token = \"token\" }}\n"));
    let declared =
        format!("[secrets.token]\nfrom = \"env:SHOP_TOKEN\"\nhosts = [\"unix://{}\"]\n", swarm.engine.socket);
    let pipeline = swarm.repository.read("stagewright.toml");
    swarm.repository.write("stagewright.toml", &format!("{pipeline}\n{declared}"));
    swarm.repository.run(&["grant", "--yes"]).exits(0);
    swarm.engine.machine.write("key", "of someone else");
    let file = swarm.engine.machine.path("key").display().to_string();
    swarm.engine.docker(&["secret", "create", "key", &file]);
    swarm.repository.set("SHOP_TOKEN", "of the first day");
    swarm
}

impl Swarm {
    /// The names of the secrets that deploys have created.
    pub(super) fn secrets(&self) -> BTreeSet<String> {
        let filter = "label=stagewright.stack=shop";
        let listed = self.engine.docker(&["secret", "ls", "--format", "{{.Name}}", "--filter", filter]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The name on the swarm of the secret that `web` has as `token`.
    fn token(&self) -> String {
        let secrets = self.inspect("shop_web")["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"].clone();
        let secrets = secrets.as_array().expect("a list");
        let token = secrets.iter().find(|secret| secret["File"]["Name"] == "token").expect("a secret");
        token["SecretName"].as_str().expect("a name").to_owned()
    }

    /// What a container of `web` reads in a file of `/run/secrets`.
    pub(super) fn read(&self, file: &str) -> String {
        let containers = self.containers("shop_web");
        let id = containers.lines().next().expect("a container");
        let process = self.engine.docker(&["inspect", "--format", "{{.State.Pid}}", id]);
        self.engine.machine.run("cat", &[&format!("/proc/{}/root/run/secrets/{file}", process.trim())])
    }
}

/// Whether a file of the state folder has this text.
fn state_has(repository: &TestEnvironment, text: &str) -> bool {
    let state = repository.root().join(".stagewright");
    let found = repository.program("grep").args(["-r", "-F", "-l", "-e", text]).arg(state).output().expect("grep");
    !found.stdout.is_empty()
}

#[test]
fn each_release_has_its_secrets_and_a_rollback_has_those_of_then() {
    let mut swarm = start();
    let value = "correct \"horse\" battery";
    swarm.repository.set("SHOP_TOKEN", value);
    let deployed = swarm.deploy("1", &[], 0);
    assert_eq!((swarm.read("token"), swarm.read("by-hand")), (value.to_owned(), "of someone else".to_owned()));
    let of_first = swarm.token();
    assert_eq!(swarm.secrets(), BTreeSet::from([of_first.clone()]));
    assert!(!(deployed.stdout + &deployed.stderr).contains("battery") && !state_has(&swarm.repository, "battery"));
    let records = swarm.engine.docker(&["config", "ls", "--quiet"]);
    let records: Vec<&str> = ["config", "inspect"].into_iter().chain(records.lines()).collect();
    assert!(!swarm.engine.docker(&records).contains("battery"), "the swarm keeps names with its releases");

    // The value alone has changed.
    swarm.repository.set("SHOP_TOKEN", "another value");
    swarm.deploy("1", &[], 0);
    swarm.serves(&["version 1", "version 1"]);
    let of_second = swarm.token();
    assert_eq!(swarm.read("token"), "another value");
    assert_eq!(swarm.secrets(), BTreeSet::from([of_first.clone(), of_second.clone()]));
    let live = swarm.repository.run(&["env", "status", "production", "--live"]).exits(0).stdout;
    assert!(live.contains("in place     as it was deployed"), "{live}");

    // Of releases that are neither current nor the one before, no secret is left; the one of others stays.
    swarm.repository.set("SHOP_TOKEN", "a third value");
    swarm.deploy("2", &[], 0);
    let of_third = swarm.token();
    assert_eq!(swarm.secrets(), BTreeSet::from([of_second.clone(), of_third.clone()]));
    swarm.repository.set("SHOP_TOKEN", "the value of today");
    swarm.repository.run(&["rollback", "production"]).exits(0);
    swarm.serves(&["version 1", "version 1"]);
    assert_eq!((swarm.token(), swarm.read("token")), (of_second.clone(), "another value".to_owned()));
    assert_eq!(swarm.secrets(), BTreeSet::from([of_second.clone(), of_third]));

    // The restored release has its secrets when the deploy after it is taken back, too.
    swarm.deploy("3", &[], 0);
    assert_eq!(swarm.secrets(), BTreeSet::from([of_second.clone(), swarm.token()]));
    swarm.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((swarm.token(), swarm.read("by-hand")), (of_second, "of someone else".to_owned()));
}

#[test]
fn a_deploy_that_fails_leaves_no_secret_and_one_that_is_missing_is_created_again() {
    let mut swarm = start();
    swarm.deploy("1", &[], 0);
    let of_first = swarm.token();
    swarm.repository.set("SHOP_TOKEN", "another value");
    let failed = swarm.deploy("2", &["exit=7"], 1);
    assert!(failed.stdout.contains("creating the secret shop_token."), "{}", failed.stdout);
    assert_eq!((swarm.token(), swarm.secrets()), (of_first.clone(), BTreeSet::from([of_first.clone()])));

    swarm.deploy("2", &[], 0);
    swarm.engine.docker(&["secret", "rm", &of_first]);
    swarm.repository.set("SHOP_TOKEN", "the value of today");
    swarm.repository.run(&["rollback", "production"]).exits(0);
    swarm.serves(&["version 1", "version 1"]);
    assert_eq!(swarm.read("token"), "the value of today");

    // The swarm doesn't remove a secret that is in use; without its service it does.
    let of_rollback = swarm.token();
    swarm.engine.docker(&["service", "rm", "shop_web"]);
    swarm.engine.docker(&["secret", "rm", &of_rollback]);
    let live = swarm.repository.run(&["env", "status", "production", "--live"]).exits(8).stdout;
    assert!(live.contains(&format!("secret {of_rollback}: missing")), "{live}");
    swarm.deploy("3", &[], 0);
    assert_eq!(swarm.read("token"), "the value of today");
}

#[test]
fn secrets_are_shown_by_name_and_mistakes_are_found_before_anything_is_deployed() {
    let mut swarm = start();
    swarm.deploy("1", &[], 0);
    let before = swarm.inspect("shop_web")["Version"].clone();

    // A rehearsal asks no source for a value.
    swarm.repository.unset("SHOP_TOKEN");
    let pipeline = swarm.repository.read("stagewright.toml");
    let two = "secrets = { token = \"token\", key = \"token\" }";
    swarm.repository.write("stagewright.toml", &pipeline.replace("secrets = { token = \"token\" }", two));
    let rehearsed = swarm.repository.run(&["run", "--rehearse", "--input", "version=2"]).exits(0).stdout;
    assert!(rehearsed.contains("+ secret/key") && rehearsed.contains("1 changed, 1 new"), "{rehearsed}");

    let undeclared = "secrets = { token = \"nobodys\" }";
    swarm.repository.write("stagewright.toml", &pipeline.replace("secrets = { token = \"token\" }", undeclared));
    let refused = swarm.repository.run(&["validate"]);
    assert!(refused.code != 0 && refused.stderr.contains("nobodys"), "{} {}", refused.stdout, refused.stderr);

    // The file is known only when it was made.
    let other = "secrets = { other = \"token\" }";
    swarm.repository.set("SHOP_TOKEN", "of the first day");
    swarm.repository.write("stagewright.toml", &pipeline.replace("secrets = { token = \"token\" }", other));
    let refused = swarm.deploy("2", &[], 1).stdout;
    assert!(refused.contains("the release has no secret `other`"), "{refused}");
    assert!(refused.contains("secrets: { other: { external: true } }"), "{refused}");
    assert_eq!(swarm.inspect("shop_web")["Version"], before);
}
