//! Secrets: their sources, the stages that get them, and that they are never shown.

use std::path::Path;

use crate::environment::TestEnvironment;

/// Made with age-keygen and age 1.1.1 for this test: a key, and `token = "age-kept-value-4711"` encrypted with it.
const AGE_KEY: &str = "AGE-SECRET-KEY-1J8MCPWJLGWY5JL4T44558EZ7R62PL22LCP7MP270QKW0X9EFZTHSNGGTWX";
const AGE_FILE: &str = "-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBwdVZ0TG0wanBVWmMzR3NY
ekd2NnJPYzNKR2NCNEFSNVpBUDA5b3duOW1FCmF6WEJEdFJvRVJDWDdrRVBSU2V1
RjlOUWxCbzQxNTF6Y0hhc3pxSXhDQTAKLS0tIFVOQjBvYU1NdmFmb2JCVWtyWWtn
UUhPTHhIZ1dVY2M4bklIM2pDZUF0RVEKvNWlGcR/SFUZjX/uo3KIRHYTvHzSD5dd
PcyaCy7BSvAW8kNHwOZIQarJxUyhp7JvNcuzu0Jz/2oXQRVqBw4=
-----END AGE ENCRYPTED FILE-----
";

/// Secret values with their base64 and hex encodings.
const VALUES: [[&str; 3]; 3] = [
    ["printed-by-a-program", "cHJpbnRlZC1ieS1hLXByb2dyYW0", "7072696e7465642d62792d612d70726f6772616d"],
    ["age-kept-value-4711", "YWdlLWtlcHQtdmFsdWUtNDcxM", "6167652d6b6570742d76616c75652d34373131"],
    ["read-from-a-file-0815", "cmVhZC1mcm9tLWEtZmlsZS0wODE1", "726561642d66726f6d2d612d66696c652d30383135"],
];

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "secrets"
[secrets.printed]
from = "command:sh -c 'echo asked >> $1; cat $0' ./../printed.txt ./asked"
[secrets.encrypted]
from = "age:ci.age#token"
[secrets.plain]
from = "file:../plain.txt"
[stages.uses]
uses = "command"
[stages.uses.with]
secret-env = { PRINTED = "printed", ENCRYPTED = "encrypted", PLAIN = "plain" }
capture = "said"
run = '''
test "$(echo "$PRINTED $ENCRYPTED $PLAIN" | cksum)" = "1462688860 63" || exit 9
for value in "$PRINTED" "$ENCRYPTED" "$PLAIN"; do
  echo "plain $value"; echo "error $value" >&2
  printf %s "$value" | base64; printf 'user:%s' "$value" | base64; printf %s "$value" | od -An -v -tx1 | tr -d ' \n'; echo
  printf '%s\n' "$value" | fold -w 8
done
echo "$PRINTED" > left-behind.txt
'''
[stages.uses.permissions]
process = ["sh"]
write = ["."]
secrets = ["printed:env", "encrypted", "plain"]
[stages.finds]
uses = "command"
needs = ["uses"]
with = { run = "cat left-behind.txt; echo found" }
[stages.finds.permissions]
process = ["sh"]
read = ["."]
"#;

fn environment(pipeline: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(pipeline);
    environment.write("ci.age", AGE_FILE);
    environment.write("../printed.txt", "printed-by-a-program\n");
    environment.write("../plain.txt", "read-from-a-file-0815\n");
    environment.set("STAGEWRIGHT_AGE_IDENTITY", AGE_KEY);
    environment
}

/// The files below a folder that contain one of the values in any encoding.
fn files_with_values(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with_values(&path));
            continue;
        }
        let content = std::fs::read(&path).expect("a file");
        found.extend(spelled_in(&content).map(|spelled| format!("{spelled} in {}", path.display())));
    }
    found
}

fn spelled_in(content: &[u8]) -> impl Iterator<Item = &'static str> {
    let stands = |spelled: &&str| content.windows(spelled.len()).any(|window| window == spelled.as_bytes());
    VALUES.as_flattened().iter().copied().filter(stands)
}

#[test]
fn secrets_of_all_sources_reach_their_stage_and_are_masked() {
    let environment = environment(PIPELINE);
    let ended = environment.run(&["run", "--format", "json"]).exits(0);
    let shown = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(spelled_in(shown.as_bytes()).collect::<Vec<_>>(), Vec::<&str>::new(), "{shown}");
    assert!(shown.contains("plain ***") && shown.contains("error ***") && shown.contains("found"), "{shown}");
    let logs = environment.run(&["logs", "latest", "uses"]).exits(0).stdout;
    assert!(!logs.contains("printed-") && !logs.contains("-program"), "a part of a wrapped value is shown: {logs}");
    assert_eq!(environment.run(&["logs", "latest", "finds"]).exits(0).stdout, "***\nfound\n");
    let kept = files_with_values(&environment.root().join(".stagewright"));
    assert_eq!(kept, Vec::<String>::new());
    // Check that the search works: the values are in this file.
    assert_eq!(spelled_in(environment.read("left-behind.txt").as_bytes()).count(), 1);
    assert_eq!(environment.read("asked"), "asked\n", "a run fetches a secret once");
}

#[test]
fn all_missing_secrets_are_reported_before_anything_starts() {
    let pipeline = PIPELINE
        .replace("file:../plain.txt", "env:NOT_SET_ANYWHERE")
        .replace("cat $0'", "cat $0; echo locked: no agent >&2; exit 4'")
        .replace("ci.age#token", "ci.age#other");
    let ended = environment(&pipeline).run(&["run"]).exits(4);
    for part in [
        "could not resolve 3 secrets",
        "the secret `printed` can't be fetched: `sh` ended with exit code 4: locked: no agent",
        "the secret `encrypted` is not in ci.age: the key `other` does not exist",
        "the secret `plain` is not set: the environment variable NOT_SET_ANYWHERE does not exist",
        "export NOT_SET_ANYWHERE",
    ] {
        assert!(ended.stderr.contains(part), "{part:?} is not in:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("printed-by-a-program"));
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_secret_for_requests_is_not_passed_to_a_program() {
    let environment = environment(&PIPELINE.replace("printed:env", "printed:header"));
    let refused = environment.run(&["validate"]).exits(3);
    assert!(refused.stderr.contains("printed:env"), "{}", refused.stderr);
    // A plugin that doesn't say what it requires is denied when it passes the secret on.
    let text = environment.read("stagewright.toml");
    let (before, stage) = text.split_once("uses = \"command\"\n").expect("a plugin");
    let (_, after) = stage.split_once("[stages.uses.permissions]").expect("grants");
    let action = "{ do = \"start\", program = \"sh\", secret-env = { T = \"printed\" } }";
    let stage = format!("uses = \"stranger\"\nwith.actions = [{action}]\n[stages.uses.permissions]");
    environment.write("stagewright.toml", &[before, &stage, after].concat());
    let (_, events) = environment.events(&["run", "--only", "uses"]);
    let denied = events.iter().find(|event| event["type"] == "problem").expect("a denial");
    assert_eq!(
        denied["problem"]["help"],
        r#"change in [stages.uses.permissions]: secrets = ["encrypted", "plain", "printed:env", "printed:header"]"#
    );
}

#[test]
fn an_unknown_use_of_a_secret_is_an_error() {
    let ended = environment(&PIPELINE.replace("printed:env", "printed:stdin")).run(&["validate"]).exits(3);
    assert!(ended.stderr.contains("unknown-secret-use") && ended.stderr.contains("printed:header"), "{}", ended.stderr);
}

#[test]
fn a_secret_too_short_to_be_masked_is_warned_of() {
    let environment = environment(&PIPELINE.replace("cat $0", "echo abc").replace("|| exit 9", "|| true"));
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stderr.contains("the secret `printed` is shorter than 4 bytes"), "{}", ended.stderr);
}

/// A stage that can write to the folder of a secret's file replaces the file.
#[test]
fn links_and_pipes_in_place_of_a_secrets_file_are_refused() {
    for (exchange, reason) in [
        ("mkfifo secrets/token", "it is a pipe"),
        ("ln -s /etc/hostname secrets/token", "it is a link"),
        ("ln -s /dev/zero secrets/token", "it is a link"),
        ("ln -s ../other secrets/token", "it is a link"),
        ("mkdir secrets/token", "it is a folder"),
    ] {
        let environment = TestEnvironment::with_pipeline(&format!(
            "schema = 1\npipeline.name = \"p\"\n[secrets.s]\nfrom = \"file:secrets/token\"\n\
             [stages.swap]\nuses = \"command\"\nwith.run = \"rm -rf secrets/token; {exchange}\"\n\
             permissions = {{ process = [\"*\"], write = [\"secrets\"] }}\n\
             [stages.use]\nneeds = [\"swap\"]\nuses = \"command\"\nwith = {{ run = \"true\", secret-env = {{ S = \"s\" }} }}\n\
             permissions = {{ process = [\"sh\"], secrets = [\"s\"] }}\n"
        ));
        environment.write("secrets/token", "the-real-value");
        environment.write("other", "of another stage");
        environment.run(&["run"]).exits(0);
        let refused = environment.run(&["run"]).exits(4);
        assert!(refused.stderr.contains(reason), "{exchange}: {}", refused.stderr);
    }
}

/// Pipes in place of files that the engine reads itself, in a malicious repository.
#[test]
fn pipes_in_place_of_the_repositorys_files_do_not_block() {
    let pipeline = "schema = 1\npipeline.name = \"p\"\n[stages.a]\nuses = \"command\"\nwith.argv = [\"true\"]\n\
                    permissions = { process = [\"true\"], net = [\"npm\", \"cargo\"] }\n";
    for path in ["stagewright.lock", ".npmrc", ".cargo/config.toml", ".gitignore", "stagewright.toml"] {
        let environment = TestEnvironment::with_pipeline(pipeline);
        let place = environment.root().join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&place);
        assert!(environment.program("mkfifo").arg(&place).status().unwrap().success());
        let asked = environment.program("timeout").arg("20").arg(crate::environment::binary()).arg("plan").output();
        let ended = crate::environment::Ended::of(&asked.unwrap());
        assert!(ended.code != 124 && ended.code != -1, "{path} held it: {}", ended.stderr);
    }
}

const DOTENV: &str = r#"
schema = 1
[pipeline]
name = "dotenv"
[secrets.token]
from = ".env#TOKEN"
[stages.uses]
uses = "command"
with = { secret-env = { TOKEN = "token" }, run = "test \"$(echo \"$TOKEN\" | cksum)\" = \"4125010186 19\"" }
permissions = { process = ["sh"], secrets = ["token:env"] }
[stages.reads]
uses = "command"
with = { run = "cat .env; cat app/alias; cat app/main; rm .env 2>&1 || mv .env moved 2>&1 || true" }
permissions = { process = ["sh"], read = ["."], write = ["."] }
"#;

fn dotenv_environment() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(DOTENV);
    environment.write(".env", "export TOKEN='of-a-dotenv-file-1' # comment\nOTHER=never-shown-either\n");
    environment.write("app/main", "visible\n");
    std::os::unix::fs::symlink("../.env", environment.root().join("app/alias")).expect("a link");
    environment.git(&["init", "--quiet"]);
    environment
}

#[test]
fn a_value_of_a_dotenv_file_is_passed_on_and_no_grant_shows_the_file() {
    let environment = dotenv_environment();
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let shown = format!("{events:?}");
    assert!(shown.contains("visible") && !shown.contains("never-shown-either"), "{events:#?}");
    let kept = std::fs::read_to_string(environment.root().join(".env")).expect("the file");
    assert!(kept.contains("never-shown-either"), "it was neither removed nor replaced");
    let plan = environment.run(&["plan"]);
    let note = "`.env` stays hidden, because it has the values of secrets";
    assert_eq!(plan.stdout.matches(note).count(), 1, "{}", plan.stdout);
}

#[test]
fn a_dotenv_file_that_git_or_other_users_can_read_is_warned_of() {
    let environment = dotenv_environment();
    let warnings = || {
        let stderr = environment.run(&["run"]).stderr;
        [stderr.contains("warning: git doesn't ignore `.env`"), stderr.contains("warning: other users can read `")]
    };
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(environment.root().join(".env"), mode(0o644)).expect("a mode");
    assert_eq!(warnings(), [true, true]);
    std::fs::set_permissions(environment.root().join(".env"), mode(0o600)).expect("a mode");
    assert_eq!(warnings(), [true, false]);
    environment.write(".gitignore", ".env\n.stagewright\n");
    assert_eq!(warnings(), [false, false]);
}

#[test]
fn the_policy_bounds_dotenv_files_and_the_lock_records_them() {
    let mut environment = dotenv_environment();
    assert_eq!(environment.run(&["lock"]).code, 0);
    let lock = std::fs::read_to_string(environment.root().join("stagewright.lock")).expect("a lock");
    assert!(lock.contains("from = \".env#TOKEN\""), "{lock}");
    environment.write("../policy.toml", "schema = 1\nsecret-sources = [\"env\"]\n");
    let policy = environment.root().join("../policy.toml").canonicalize().expect("a policy");
    environment.set("STAGEWRIGHT_POLICY", policy.to_str().expect("UTF-8"));
    let refused = environment.run(&["run"]);
    assert!(refused.stderr.contains("comes from `.env#TOKEN`, which the policy doesn't allow"), "{}", refused.stderr);
    environment.write("../policy.toml", "schema = 1\nsecret-sources = [\"dotenv\"]\n");
    assert_eq!(environment.run(&["run"]).code, 0);
}
