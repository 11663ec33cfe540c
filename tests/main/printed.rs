//! Untrusted text on the terminal: it can't command the terminal, hide text or add lines. That no raw control characters
//! are printed is checked by [`TestEnvironment::run`] in every test.

use crate::environment::TestEnvironment;

/// The suffix of all untrusted texts: its spelling in TOML, and the text itself.
const NASTY: (&str, &str) = (
    r"\u001b]0;t\u0007\u009b2J\u202e\u200b\u2066\U000e0041\r\n  9. forged  (noop, pure)\n\u2028help: forged",
    "\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\u{200b}\u{2066}\u{e0041}\r\n  9. forged  (noop, pure)\n\u{2028}help: forged",
);

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "p"
description = "d@"
[concurrency]
group = "c@"
[inputs.v]
type = "string"
default = "v@"
description = "d@"
[environments.production]
target = "process"
url = "http://x@"
approvers = ["ada", "bob@"]
[[environments.production.freeze]]
from = 2020-01-01T00:00:00Z
until = 2090-01-01T00:00:00Z
reason = "r@"
[env]
A = "a@"
[secrets.s]
from = "command:true @"
hosts = ["a.example"]
[stages.gate]
uses = "approve"
with = { message = "go@ ${{ inputs.v }} ${{ git.branch }}", fields = [{ name = "t", description = "d@", required = true }] }
[stages.work]
uses = "command"
needs = ["gate"]
environment = "production"
if = "inputs.v != 'w'"
with = { run = "true '@'" }
inputs = ["i@"]
permissions = { process = ["sh", "curl@"], read = ["a@"], write = ["b@"], service = ["d@"] }
"#;

fn environment() -> TestEnvironment {
    let (in_toml, text) = NASTY;
    let environment = TestEnvironment::with_pipeline(&PIPELINE.replace('@', in_toml));
    environment.git(&["init", "-q"]);
    environment.git(&["config", "user.name", &format!("me{}", text.replace('\n', ""))]);
    environment.git(&["config", "user.email", "me@example.org"]);
    environment.git(&["add", "-A"]);
    environment.git(&["commit", "-q", "-m", &format!("message{text}")]);
    environment
}

/// The commands, run in this order on one repository. `@` is replaced by the text.
const COMMANDS: &[&[&str]] = &[
    &["validate"],
    &["validate", "--json"],
    &["plan"],
    &["plan", "--json"],
    &["graph"],
    &["graph", "--format", "dot"],
    &["graph", "--format", "svg"],
    &["lock", "--check"],
    &["lock"],
    &["run", "-i", "v=w@", "-i", "u@=1"],
    &["run", "-i", "x@"],
    &["run", "-i", "v=w@"],
    &["runs"],
    &["runs", "--waiting"],
    &["runs", "--json"],
    &["show", "latest"],
    &["show", "latest", "--format", "json"],
    &["show", "latest", "--format", "github"],
    &["logs", "latest"],
    &["logs", "latest", "n@"],
    &["explain", "gate"],
    &["explain", "n@"],
    &["why", "gate"],
    &["why", "n@"],
    &["approve", "latest", "gate", "--field", "n@"],
    &["approve", "latest", "gate", "--field", "n@=v@"],
    &["approve", "latest", "gate", "--by", "eve@", "--reason", "r@"],
    &["approve", "latest", "gate", "--field", "t=v@", "--by", "eve@", "--reason", "r@"],
    &["approve", "n@"],
    &["settle", "latest", "n@", "applied"],
    &["resume", "latest", "--from", "n@"],
    &["resume", "latest"],
    &["cancel", "latest", "--reason", "r@"],
    &["show", "latest"],
    &["rerun", "n@"],
    &["rollback", "n@"],
    &["env", "freeze", "n@", "--reason", "r@", "--by", "b@"],
    &["env", "freeze", "production", "--reason", "r@", "--for", "n@"],
    &["env", "list"],
    &["env", "status", "n@"],
    &["env", "history", "n@"],
    &["service", "logs", "n@", "m@"],
    &["service", "status"],
    &["plugin", "new", "N@"],
    &["plugin", "check", "n@"],
    &["plugin", "build", "n@"],
    &["plugin", "upgrade", "n@"],
    &["run", "n@"],
    &["run", "--only", "n@"],
    &["run", "--affected", "--base", "n@"],
    &["run", "--cache-tier", "n@"],
    &["run", "--shared-cache", "n@"],
    &["-C", "n@", "plan"],
    &["--policy", "n@", "plan"],
    &["--n@", "plan"],
    &["plan", "--format", "n@"],
    &["run", "--jobs", "n@"],
    &["n@"],
    &["gc"],
];

#[test]
fn untrusted_text_is_escaped_and_adds_no_lines() {
    let environment = environment();
    for args in COMMANDS {
        let args: Vec<String> = args.iter().map(|arg| arg.replace('@', NASTY.1)).collect();
        let ended = environment.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        for shown in [&ended.stdout, &ended.stderr] {
            // Each line of a multi-line text has a mark before it, and so have the wrapped lines of a diagnostic.
            let is_forged = |line: &&str| {
                let line = line.trim_start();
                line.starts_with("9. forged") || line.starts_with("help: forged")
            };
            assert_eq!(shown.lines().find(is_forged), None, "{args:?}\n{shown}");
        }
    }
}
