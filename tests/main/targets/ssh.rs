//! The target `ssh`, on hosts with servers of the test's own.

use std::os::unix::fs::MetadataExt as _;

use self::fleet::{Fleet, deploy};
use super::engine::kill_at_every_write;

mod faults;
mod fleet;
mod login;
mod waves;

/// The value of the secret that is written to the hosts.
const SECRET: &str = "postgres://shop:p\"a$$`w\\d@db.internal/shop";

/// HOSTS, NAMES and MORE are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "shop"
[inputs.version]
[inputs.broken]
default = ""

[environments.production]
target = "ssh"

[secrets.deploy-key]
from = "env:DEPLOY_KEY"
hosts = ["127.0.0.1"]

[secrets.database-url]
from = "env:DATABASE_URL"
hosts = ["127.0.0.1"]

[credentials.web]
type = "ssh"
key = "deploy-key"
HOSTS

[stages.build]
uses = "command"
env = { VERSION = "${{ inputs.version }}", BROKEN = "${{ inputs.broken }}" }
permissions = { process = ["sh"], write = ["dist"] }
[stages.build.with]
run = 'mkdir -p dist/bin && echo "$VERSION" > dist/version && echo "$BROKEN" > dist/broken && echo "echo $VERSION" > dist/bin/app && chmod +x dist/bin/app'
artifacts = ["dist"]

[stages.deploy]
uses = "deploy"
needs = ["build"]
environment = "production"
[stages.deploy.with]
service = "shop"
credential = "web"
hosts = NAMES
artifact = "${{ stages.build.outputs.artifacts.dist }}"
unit = "shop.service"
MORE
"#;

fn pipeline(more: &str) -> String {
    PIPELINE.replace("MORE", more)
}

#[test]
fn a_release_is_switched_on_all_hosts_and_rolled_back_without_sending_anything() {
    let fleet = Fleet::start(2);
    let repository =
        fleet.repository(&pipeline("keep = 1\nshared = [\"data/uploads\"]\nvariables = { LEVEL = 'a \"b\" $c' }"));
    deploy(&repository, "1", "", 0);
    assert_eq!(fleet.versions(), ["1", "1"]);
    assert_eq!(fleet.read(0, "srv/shop/current/variables.env"), "LEVEL=\"a \\\"b\\\" \\$c\"");
    let app = fleet.folder(0).join("srv/shop/releases").join(&fleet.releases(0)[0]).join("bin/app");
    assert_eq!(std::fs::metadata(app).expect("a program").mode() & 0o777, 0o755);
    fleet.write(0, "srv/shop/shared/data/uploads/photo", "of a user");

    let second = deploy(&repository, "2", "", 0);
    assert!(second.stdout.contains("sending release"), "{}", second.stdout);
    assert_eq!(fleet.versions(), ["2", "2"]);
    let (link, shared) = (fleet.folder(0).join("srv/shop/current"), "srv/shop/shared/data/uploads/photo");
    assert!(std::fs::read_link(link).expect("a link").starts_with("releases"), "the link is relative");
    assert_eq!(fleet.read(0, shared), "of a user", "data outlives releases");

    let rolled_back = repository.run(&["rollback", "production"]).exits(0);
    assert!(!rolled_back.stdout.contains("sending"), "{}", rolled_back.stdout);
    assert_eq!(fleet.versions(), ["1", "1"]);

    deploy(&repository, "3", "", 0);
    deploy(&repository, "4", "", 0);
    assert_eq!(fleet.releases(0).len(), 2, "the one that serves, and one more");
    assert_eq!(fleet.state(0, "candidate"), "");
    assert!(!fleet.read(0, "systemctl.log").contains("stop"));
}

#[test]
fn a_deploy_with_an_older_token_is_refused_by_the_host_even_if_the_ledger_is_lost() {
    let fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline(""));
    deploy(&repository, "1", "", 0);
    deploy(&repository, "2", "", 0);
    let before = (fleet.state(0, "serving"), fleet.releases(0));
    std::fs::remove_dir_all(repository.root().join(".stagewright")).expect("the state folder");
    let stale = deploy(&repository, "3", "", 1);
    assert!(stale.stdout.contains("a deploy to `web1` has the token 2, which is newer than 1"), "{}", stale.stdout);
    assert_eq!((fleet.state(0, "serving"), fleet.releases(0)), before);
    assert_eq!(fleet.versions(), ["2"]);
    // A damaged file isn't taken for one without a token.
    fleet.write(0, "srv/shop/.stagewright/state", "fence x\n");
    let damaged = deploy(&repository, "3", "", 1);
    assert!(damaged.stdout.contains("is damaged: its token is `x`"), "{}", damaged.stdout);
}

/// From two state folders, whose tokens can be the same. Both can lose then, but the hosts never have different releases.
#[test]
fn of_two_deploys_at_once_at_most_one_wins_and_as_a_whole() {
    let fleet = Fleet::start(2);
    let text = pipeline("");
    let repositories = [fleet.repository(&text), fleet.repository(&text)];
    deploy(&repositories[0], "0", "", 0);
    let mut runs = repositories
        .iter()
        .zip(["1", "2"])
        .map(|(repository, version)| repository.start(&["run", "--input", &format!("version={version}")]))
        .collect::<Vec<_>>();
    let codes = runs.iter_mut().map(|run| run.wait().expect("an end").code()).collect::<Vec<_>>();
    let versions = fleet.versions();
    let expected: &[&str] = match codes[..] {
        [Some(0), Some(0)] => &["1", "2"],
        [Some(0), _] => &["1"],
        [_, Some(0)] => &["2"],
        _ => &["0"],
    };
    assert!(expected.iter().any(|version| versions == [*version, *version]), "{codes:?}: {versions:?}");
    for at in 0..2 {
        let serving = fleet.state(at, "serving");
        let release = serving.split(' ').next().expect("a release").to_owned();
        let current = std::fs::read_link(fleet.folder(at).join("srv/shop/current")).expect("a link");
        assert!(current.ends_with(&release), "{serving} but {}", current.display());
        assert_eq!(fleet.state(at, "running"), release);
    }
}

#[test]
fn a_deploy_survives_a_kill_at_any_write_to_the_journal() {
    let fleet = Fleet::start(2);
    let repository = fleet.repository(&pipeline("secrets = { DATABASE_URL = \"database-url\" }"));
    deploy(&repository, "0", "", 0);
    kill_at_every_write(&repository, 13, |version| {
        assert_eq!(fleet.versions(), [version.to_string(), version.to_string()]);
        assert_eq!((fleet.state(0, "candidate"), fleet.state(1, "candidate")), (String::new(), String::new()));
    });
}

#[test]
fn a_release_that_is_not_healthy_leaves_the_one_before() {
    let fleet = Fleet::start(2);
    let repository = fleet.repository(&pipeline(""));
    // There is nothing to go back to: the unit is stopped, and the link is gone.
    let first = deploy(&repository, "0", "web2", 1);
    assert!(first.stdout.contains("no release serves, because none did before"), "{}", first.stdout);
    assert_eq!(fleet.versions(), ["", ""]);
    assert!(!fleet.folder(0).join("srv/shop/current").exists() && fleet.releases(0).is_empty());

    deploy(&repository, "1", "", 0);
    let failed = deploy(&repository, "2", "web2", 1);
    for part in ["the state of its unit is `failed`", "the last line of the unit", "release ", " still serves"] {
        assert!(failed.stdout.contains(part), "{part} in {}", failed.stdout);
    }
    assert_eq!(fleet.versions(), ["1", "1"]);
    assert_eq!((fleet.releases(0).len(), fleet.releases(1).len()), (1, 1));

    fleet.write(1, "refuses", "");
    let refused = deploy(&repository, "3", "", 1);
    assert!(refused.stdout.contains("the unit is masked"), "{}", refused.stdout);
    assert_eq!(fleet.versions()[0], "1");
}

#[test]
fn a_check_on_the_host_decides_and_so_does_one_from_here() {
    let fleet = Fleet::start(1);
    let checked = "restart = [\"sh\", \"-c\", \"cp version /run/served/health\"]\naddresses = { web1 = \"http://127.0.0.1:8080\" }\n\
                   check = { command = [\"grep\", \"--quiet\", \"ok\", \"version\"] }\n\
                   health = { path = \"/health\", deadline = \"3s\" }";
    let text = pipeline(checked).replace("unit = \"shop.service\"\n", "");
    let served = fleet.folder(0).join("run/served");
    std::fs::create_dir_all(&served).expect("a folder");
    let args = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", &served.display().to_string(), "8080"];
    fleet.machine.serve("python3", &args, |machine| machine.get("http://127.0.0.1:8080/").is_some());
    let repository = fleet.repository(&text);
    deploy(&repository, "ok-1", "", 0);
    assert_eq!(fleet.read(0, "run/served/health"), "ok-1");
    let failed = deploy(&repository, "bad-2", "", 1);
    assert!(failed.stdout.contains("`grep` on `web1` ended with exit code 1"), "{}", failed.stdout);
    assert_eq!(fleet.read(0, "run/served/health"), "ok-1", "the release before was started again");
}

#[test]
fn secrets_reach_a_file_of_the_host_and_nothing_else() {
    let fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline("secrets = { DATABASE_URL = \"database-url\" }"));
    let run = deploy(&repository, "1", "", 0);
    let release = &fleet.releases(0)[0];
    let file = fleet.folder(0).join(format!("run/shop/{release}.env"));
    let metadata = std::fs::metadata(&file).expect("the secrets' file");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    // A shell reads the value back, and so does systemd, whose quotes are the same.
    let script = format!(". {} && printf %s \"$DATABASE_URL\"", file.display());
    assert_eq!(fleet.machine.run("sh", &["-c", &script]), SECRET);
    let link = fleet.folder(0).join(format!("srv/shop/releases/{release}/secrets.env"));
    assert_eq!(std::fs::read_link(link).expect("a link").display().to_string(), format!("/run/shop/{release}.env"));

    let key = std::fs::read_to_string(fleet.machine.path("deploy_key")).expect("a key");
    let key = key.lines().nth(1).expect("a line of the key").to_owned();
    let processes = fleet.read(0, "processes");
    assert!(processes.contains("ssh -F none"), "the client runs meanwhile: {processes}");
    for (what, text) in [("a command line", processes), ("the output", run.stdout + &run.stderr)] {
        assert!(!text.contains("p\"a$$") && !text.contains(&key), "{what} has a secret");
    }
    for secret in ["p\"a$$", &key] {
        let state = repository.root().join(".stagewright");
        let found =
            repository.program("grep").args(["-r", "-F", "-l", "-e", secret]).arg(state).output().expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the state folder has a secret");
    }
}

#[test]
fn a_changed_value_alone_starts_the_service_again() {
    let fleet = Fleet::start(1);
    let restart = "restart = [\"sh\", \"-c\", \"cat secrets.env >> /run/started\"]";
    let text = pipeline(&format!("{restart}\nsecrets = {{ DATABASE_URL = \"database-url\" }}"));
    let mut repository = fleet.repository(&text.replace("unit = \"shop.service\"\n", ""));
    let started = || {
        let lines = fleet.read(0, "run/started");
        lines.lines().filter(|line| line.starts_with("DATABASE_URL=")).map(str::to_owned).collect::<Vec<_>>()
    };
    deploy(&repository, "1", "", 0);
    deploy(&repository, "1", "", 0);
    assert_eq!(started().len(), 1, "nothing has changed");
    repository.set("DATABASE_URL", "postgres://another");
    deploy(&repository, "1", "", 0);
    assert_eq!((started().len(), started()[1].as_str()), (2, "DATABASE_URL=\"postgres://another\""));
}

/// What the host's server has logged about connections.
fn connections(fleet: &Fleet) -> usize {
    fleet.log(0).matches("Accepted publickey").count()
}

#[test]
fn a_rehearsal_connects_to_nothing() {
    let fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline(""));
    let rehearsed = repository.run(&["run", "--rehearse", "--input", "version=1"]).exits(0);
    let would = "would deploy shop to production: 1 part new";
    assert!(rehearsed.stdout.contains(would), "{}", rehearsed.stdout);
    assert_eq!((connections(&fleet), fleet.releases(0).len()), (0, 0));
    deploy(&repository, "1", "", 0);
    assert_eq!(connections(&fleet), 1, "all commands of an attempt go over one connection");
    // What others have changed would be read from the host, which needs a grant.
    let rehearsed = repository.run(&["run", "--rehearse", "--input", "version=2"]).exits(0).stdout;
    for line in
        ["would run `sh` on `web1`, with the credential `web`", "~ with", "would deploy shop to production: 1 changed"]
    {
        assert!(rehearsed.contains(line), "{line}: {rehearsed}");
    }
    assert_eq!(connections(&fleet), 1);
}

#[test]
fn a_credential_has_to_be_granted() {
    let fleet = Fleet::start(1);
    let repository = fleet.ungranted(&pipeline("secrets = { DATABASE_URL = \"database-url\" }"));
    let refused = repository.run(&["run", "--input", "version=1"]).exits(4);
    assert!(refused.stderr.contains("credentials = [\"web\"]"), "{}", refused.stderr);
    let granted = repository.run(&["grant", "--yes"]).exits(0);
    for line in ["credentials = [\"web\"]", "secrets = [\"database-url:header\"]"] {
        assert!(repository.read("stagewright.toml").contains(line), "{line}: {}", granted.stdout);
    }
    let plan = repository.run(&["plan", "--input", "version=1"]).exits(0);
    assert!(plan.stdout.contains("the credential `web` (ssh) allows all that its user may do on root@127.0.0.1:2201"));
    // The lock has the hosts with their keys, and another one is wider.
    repository.run(&["lock"]).exits(0);
    let pinned = repository.read("stagewright.lock");
    assert!(pinned.contains("[pipelines.shop.credentials.web.hosts.web1]") && pinned.contains(&fleet.host_key(0)));
    let text = repository.read("stagewright.toml").replace("root@127.0.0.1:2201", "root@127.0.0.1:2209");
    repository.write("stagewright.toml", &text);
    let widened = repository.run(&["run", "--locked", "--input", "version=1"]).exits(4);
    assert!(widened.stderr.contains("may now run commands on `web1`, root@127.0.0.1:2209"), "{}", widened.stderr);
    assert_eq!(connections(&fleet), 0);
}
