//! Records of the DNS, on a real server.

use crate::crash::{killed, stride};
use crate::environment::TestEnvironment;
use crate::targets::engine::{latest_run, to_the_end};
use crate::targets::machine::Machine;

const KEY: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI=";

/// FOLDER is replaced.
const NAMED: &str = r#"
options { directory "FOLDER"; listen-on port 5353 { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none; recursion no;
          session-keyfile none; dnssec-validation no; };
controls { };
key "deploy" { algorithm hmac-sha256; secret "KEY"; };
zone "example.org" { type primary; file "zone"; allow-update { key deploy; }; };
"#;

const ZONE: &str = "$TTL 60\n@ IN SOA ns admin 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n\
                    www 300 IN A 192.0.2.1\nwww 300 IN A 192.0.2.2\n";

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "failover"
[inputs.to]
default = "192.0.2.9"

[environments.production]
target = "process"

[secrets.key]
from = "env:KEY"
hosts = ["127.0.0.1"]

[stages.switch]
uses = "dns-update"
environment = "production"
[stages.switch.with]
server = { rfc2136 = { host = "127.0.0.1", port = 5353, zone = "example.org", key = { name = "deploy", secret = "key" } } }
records = [
  { name = "www.example.org", type = "A", values = ["${{ inputs.to }}"] },
  { name = "api.example.org", type = "CNAME", values = ["www.example.org"] },
]
"#;

fn start() -> (Machine, TestEnvironment) {
    let machine = Machine::start();
    let folder = machine.path("").display().to_string();
    machine.write("zone", ZONE);
    let config = machine.write("named.conf", &NAMED.replace("FOLDER", &folder).replace("KEY", KEY));
    machine.serve("named", &["-g", "-c", &config.display().to_string()], |machine| {
        !values(machine, "www", "A").is_empty()
    });
    let mut repository = machine.repository(PIPELINE);
    repository.set("KEY", KEY);
    repository.run(&["grant", "--yes"]).exits(0);
    (machine, repository)
}

fn values(machine: &Machine, name: &str, kind: &str) -> String {
    let name = format!("{name}.example.org");
    let args = ["@127.0.0.1", "-p", "5353", "+tcp", "+short", "+time=2", "+tries=1", &name, kind];
    let output = machine.command("dig").args(args).output().expect("dig starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(';')).collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn records_change_together_and_an_older_run_or_a_wrong_key_changes_nothing() {
    let (machine, mut repository) = start();
    repository.run(&["run"]).exits(0);
    assert_eq!(
        (values(&machine, "www", "A"), values(&machine, "api", "CNAME")),
        ("192.0.2.9".into(), "www.example.org.".into())
    );
    let note = values(&machine, "_stagewright-a.www", "TXT");
    assert!(note.contains("before=192.0.2.1 before=192.0.2.2"), "{note}");

    repository.set("KEY", "d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nMTI=");
    let refused = repository.run(&["run", "--input", "to=192.0.2.10"]).exits(1).stdout;
    assert!(refused.contains("check `key.name`") && !refused.contains("d3Jvbmd3"), "{refused}");
    repository.set("KEY", KEY);
    // A newer run of another machine.
    let newer = format!(
        "server 127.0.0.1 5353\nzone example.org\nkey hmac-sha256:deploy {KEY}\n\
         update delete _stagewright-a.www.example.org. TXT\n\
         update add _stagewright-a.www.example.org. 60 TXT \"stagewright token=99 run=other ttl=60\"\nsend\n"
    );
    let script = machine.write("newer", &newer);
    machine.run("nsupdate", &["-v", &script.display().to_string()]);
    let refused = repository.run(&["run", "--input", "to=192.0.2.10"]).exits(1).stdout;
    assert!(refused.contains("the newer run other has changed www.example.org."), "{refused}");
    assert_eq!(values(&machine, "www", "A"), "192.0.2.9");

    machine.stop("named");
    let down = repository.run(&["run"]).exits(1).stdout;
    assert!(down.contains("127.0.0.1:5353 doesn't answer for www.example.org."), "{down}");
}

#[test]
fn a_switch_that_is_killed_anywhere_is_made_once_and_known_by_its_note() {
    let (machine, repository) = start();
    let mut kills = 0;
    for write in (1..).step_by(stride(5)) {
        let to = format!("to=192.0.2.{}", 10 + kills);
        let earlier = latest_run(&repository);
        let before = values(&machine, "www", "A").replace(' ', " before=");
        if killed(&repository, &["run", "--input", &to], write).is_none() {
            break;
        }
        kills += 1;
        to_the_end(&repository, &["run", "--input", &to], &earlier);
        assert_eq!(format!("to={}", values(&machine, "www", "A")), to, "killed at {write}");
        let note = values(&machine, "_stagewright-a.www", "TXT");
        assert!(note.contains(&format!("before={before}\"")), "killed at {write}: {before} {note}");
    }
    assert!(kills > 3, "the engine was killed {kills} times");
}
