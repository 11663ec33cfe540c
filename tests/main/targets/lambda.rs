//! The target `lambda`, on functions that run as processes.

mod faults;

use serde_json::{Value as Json, json};

use super::aws::{Aws, credential, deploy};
use super::engine::kill_at_every_write;
use crate::environment::TestEnvironment;

/// DEPLOY is replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "function"
[inputs.version]
[inputs.broken]
default = ""

[environments.production]
target = "lambda"

[stages.package]
uses = "command"
with = { argv = ["python3", "package.py"], artifacts = [{ path = "function.zip", name = "function" }] }
env = { VERSION = "${{ inputs.version }}", BROKEN = "${{ inputs.broken }}" }
permissions = { process = ["python3"], read = ["package.py", "function.zip"], write = ["function.zip"] }

[stages.deploy]
uses = "deploy"
needs = ["package"]
environment = "production"
[stages.deploy.with]
function = "orders"
credential = "lambda"
zip = "${{ stages.package.outputs.artifacts.function }}"
readiness = { payload = { check = true }, expect = { status = "ok" } }
DEPLOY
"#;

const CREATE: &str =
    r#"create = { role = "arn:aws:iam::000000000000:role/orders", runtime = "python3.12", handler = "app.handler" }"#;

/// Writes the archive of a function, which is the same whenever its version is.
const PACKAGE: &str = r#"
import os, zipfile
version, broken = os.environ["VERSION"], os.environ["BROKEN"]
line = "raise ValueError('no database')" if broken else f"return {{'status': 'ok', 'version': {version!r}}}"
code = f"def handler(event, context):\n    {line}\n"
with zipfile.ZipFile("function.zip", "w") as archive:
    archive.writestr(zipfile.ZipInfo("app.py"), code)
"#;

const FUNCTION: &str = "/2015-03-31/functions/orders";

struct Functions {
    aws: Aws,
    repository: TestEnvironment,
}

impl Functions {
    fn with(more: &str) -> Functions {
        let aws = Aws::start();
        let trust = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A\
                     %7B%22Service%22%3A%22lambda.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";
        let role = format!("Action=CreateRole&Version=2010-05-08&RoleName=orders&AssumeRolePolicyDocument={trust}");
        aws.send("iam", "POST", "/", &["content-type: application/x-www-form-urlencoded"], &role).ok();
        let pipeline =
            format!("{}\n{}", PIPELINE.replace("DEPLOY", more), credential("lambda", "lambda", "127.0.0.1:4566"));
        let repository = aws.repository(&pipeline, &[("package.py", PACKAGE)]);
        Functions { aws, repository }
    }

    fn get(&self, path: &str) -> Json {
        self.aws.send("lambda", "GET", &format!("{FUNCTION}{path}"), &[], "").json()
    }

    fn alias(&self) -> Json {
        self.get("/aliases/live")
    }

    /// The numbers of the published versions.
    fn versions(&self) -> Vec<String> {
        let listed = self.get("/versions");
        let numbers =
            listed["Versions"].as_array().expect("a list").iter().filter_map(|version| version["Version"].as_str());
        numbers.filter(|number| *number != "$LATEST").map(str::to_owned).collect()
    }

    /// What the version that serves answers.
    fn serves(&self) -> String {
        serves(&self.aws)
    }
}

fn serves(aws: &Aws) -> String {
    let path = format!("{FUNCTION}/invocations?Qualifier=live");
    let answer = aws.send("lambda", "POST", &path, &[], "{}").json();
    answer["version"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_version_serves_once_it_answers_and_a_rollback_moves_the_alias_back() {
    let functions = Functions::with("");
    let missing = deploy(&functions.repository, &["version=1"], 1);
    assert!(missing.stdout.contains("the function `orders` doesn't exist"), "{}", missing.stdout);
    let text = functions
        .repository
        .read("stagewright.toml")
        .replace("function = \"orders\"", &format!("function = \"orders\"\n{CREATE}"));
    functions.repository.write("stagewright.toml", &text);

    deploy(&functions.repository, &["version=1"], 0);
    assert_eq!((functions.serves(), functions.versions()), ("1".to_owned(), vec!["1".to_owned()]));
    deploy(&functions.repository, &["version=2"], 0);
    assert_eq!((functions.serves(), functions.versions().len()), ("2".to_owned(), 2));

    let broken = deploy(&functions.repository, &["version=3", "broken=yes"], 1);
    assert!(broken.stdout.contains(r#"the release answered {"errorMessage": "no database""#), "{}", broken.stdout);
    assert!(broken.stdout.contains("ValueError: no database"), "the log of the call is shown: {}", broken.stdout);
    assert_eq!((functions.serves(), functions.versions().len()), ("2".to_owned(), 2));

    let rolled_back = functions.repository.run(&["rollback", "production"]).exits(0);
    assert!(!rolled_back.stdout.contains("sending"), "{}", rolled_back.stdout);
    assert_eq!((functions.serves(), functions.alias()["FunctionVersion"].as_str()), ("1".to_owned(), Some("1")));
    assert_eq!(functions.versions().len(), 2);
}

const CANARY: &str = r#"strategy = { canary = { steps = [{ set-weight = 20 }, { pause = {} }] } }"#;

#[test]
fn a_canary_has_a_weight_beside_the_version_that_serves() {
    let functions = Functions::with(&format!("{CREATE}\n{CANARY}"));
    deploy(&functions.repository, &["version=1"], 5);
    functions.repository.run(&["rollout", "promote", "production"]).exits(0);
    deploy(&functions.repository, &["version=2"], 5);
    let alias = functions.alias();
    assert_eq!(alias["FunctionVersion"], "1");
    assert_eq!(alias["RoutingConfig"], json!({ "AdditionalVersionWeights": { "2": 0.2 } }));
    functions.repository.run(&["rollout", "abort", "production"]).exits(1);
    let alias = functions.alias();
    assert_eq!((alias["FunctionVersion"].as_str(), &alias["RoutingConfig"]), (Some("1"), &Json::Null));
    assert_eq!(functions.versions(), ["1"]);

    deploy(&functions.repository, &["version=3"], 5);
    // Something else moves the alias: the weights are gone.
    let moved = json!({ "FunctionVersion": "1", "RoutingConfig": { "AdditionalVersionWeights": {} } });
    functions.aws.send("lambda", "PUT", &format!("{FUNCTION}/aliases/live"), &[], &moved.to_string()).ok();
    functions.repository.run(&["rollout", "promote", "production"]).exits(0);
    let alias = functions.alias();
    assert_eq!((functions.serves(), &alias["RoutingConfig"]), ("3".to_owned(), &Json::Null));
}

#[test]
fn a_deploy_that_was_overtaken_is_refused_by_the_alias() {
    let functions = Functions::with(CREATE);
    deploy(&functions.repository, &["version=1"], 0);
    let newer = json!({ "Description": "stagewright fence=1000 run=other digest=sha256:00 version=1 phase=finished" });
    functions.aws.send("lambda", "PUT", &format!("{FUNCTION}/aliases/live"), &[], &newer.to_string()).ok();
    let stale = deploy(&functions.repository, &["version=2"], 1);
    assert!(
        stale.stdout.contains("the alias `live` of `orders` has the token 1000, which is newer than 2"),
        "{}",
        stale.stdout
    );
    assert_eq!((functions.serves(), functions.versions()), ("1".to_owned(), vec!["1".to_owned()]));
}

#[test]
fn a_wrong_key_is_named() {
    let mut functions = Functions::with(CREATE);
    functions.repository.set("KEY_ID", "AKIAOTHER");
    let refused = deploy(&functions.repository, &["version=1"], 1);
    assert!(refused.stdout.contains("was refused with 403: UnrecognizedClientException"), "{}", refused.stdout);
    assert!(
        refused.stdout.contains("check the secrets `access-key-id` and `session-token` of [credentials.lambda]"),
        "{}",
        refused.stdout
    );
}

const SHORT: &str = r#"strategy = { canary = { steps = [{ set-weight = 30 }, { pause = { duration = "1s" } }] } }"#;

#[test]
fn a_canary_survives_a_kill_at_any_write_to_the_journal() {
    let functions = Functions::with(&format!("{CREATE}\n{SHORT}"));
    deploy(&functions.repository, &["version=0"], 0);
    kill_at_every_write(&functions.repository, 17, |version| {
        let alias = functions.alias();
        assert_eq!((functions.serves(), &alias["RoutingConfig"]), (version.to_string(), &Json::Null));
        assert_eq!(functions.versions().len(), version + 1, "a version was published twice");
    });
}

/// Adds `secret-env` to the deploy, and the secret `token` of the variable `SHOP_TOKEN`.
fn with_token(repository: &TestEnvironment, secret_env: &str) {
    let secret = "[secrets.token]\nfrom = \"env:SHOP_TOKEN\"\nhosts = [\"127.0.0.1\"]\n[credentials.lambda]";
    let text = repository.read("stagewright.toml").replace("[credentials.lambda]", secret);
    let with = format!("function = \"orders\"\nsecret-env = {secret_env}");
    repository.write("stagewright.toml", &text.replace("function = \"orders\"", &with));
    repository.run(&["grant", "--yes"]).exits(0);
}

impl Functions {
    /// The variables of a version.
    fn variables(&self, version: &str) -> Json {
        self.get(&format!("/configuration?Qualifier={version}"))["Environment"]["Variables"].clone()
    }

    /// Sets the variables of the function by hand.
    fn set_variables(&self, variables: &Json) {
        let body = json!({ "Environment": { "Variables": variables } }).to_string();
        self.aws.send("lambda", "PUT", &format!("{FUNCTION}/configuration"), &[], &body).ok();
    }
}

#[test]
fn secrets_are_variables_of_a_version_and_a_rollback_has_those_of_then() {
    let mut functions = Functions::with(CREATE);
    deploy(&functions.repository, &["version=1"], 0);
    functions.set_variables(&json!({ "LEVEL": "info" }));
    with_token(&functions.repository, r#"{ TOKEN = "token" }"#);
    let value = "correct \"horse\" battery";
    functions.repository.set("SHOP_TOKEN", value);
    let deployed = deploy(&functions.repository, &["version=1"], 0);
    assert_eq!(functions.alias()["FunctionVersion"], "2");
    assert_eq!(functions.variables("2"), json!({ "LEVEL": "info", "TOKEN": value }));
    let live = functions.repository.run(&["env", "status", "production", "--live"]).exits(0);
    let status = functions.repository.run(&["env", "history", "production", "--json"]).exits(0);
    for text in [deployed.stdout + &deployed.stderr, live.stdout, status.stdout] {
        assert!(!text.contains("battery"), "{text}");
    }
    let state = functions.repository.root().join(".stagewright");
    let found = functions.repository.program("grep").args(["-r", "-l", "battery"]).arg(state).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the state folder has a value");

    // The value alone has changed.
    functions.repository.set("SHOP_TOKEN", "another value");
    deploy(&functions.repository, &["version=1"], 0);
    assert_eq!((functions.alias()["FunctionVersion"].as_str(), functions.versions().len()), (Some("3"), 3));
    assert_eq!(functions.variables("3")["TOKEN"], "another value");
    deploy(&functions.repository, &["version=2"], 0);
    functions.repository.set("SHOP_TOKEN", "today-only");
    functions.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((functions.alias()["FunctionVersion"].as_str(), functions.serves()), (Some("3"), "1".to_owned()));
    assert_eq!(functions.versions().len(), 4);

    // The host masks the value in what the plugin reads, and the plugin doesn't write that back.
    functions.set_variables(&json!({ "URL": "https://user:today-only@db" }));
    let refused = deploy(&functions.repository, &["version=1"], 1).stdout;
    assert!(refused.contains("the variable `URL` of `orders` contains a secret's value"), "{refused}");
    assert_eq!(functions.variables("$LATEST")["URL"], "https://user:today-only@db");
    assert!(functions.variables("$LATEST").get("TOKEN").is_none());

    // A release without the variable doesn't keep it.
    functions.set_variables(&json!({ "LEVEL": "info", "TOKEN": "another value" }));
    let text = functions.repository.read("stagewright.toml");
    functions.repository.write("stagewright.toml", &text.replace("secret-env = { TOKEN = \"token\" }", ""));
    deploy(&functions.repository, &["version=1"], 0);
    assert_eq!((functions.variables("$LATEST"), functions.serves()), (json!({ "LEVEL": "info" }), "1".to_owned()));
}

#[test]
fn a_secret_is_shown_by_its_name_and_sent_only_to_its_hosts() {
    let mut functions = Functions::with(CREATE);
    functions.repository.set("SHOP_TOKEN", "correct battery");
    deploy(&functions.repository, &["version=1"], 0);
    with_token(&functions.repository, r#"{ TOKEN = "token" }"#);
    functions.repository.unset("SHOP_TOKEN");
    let rehearsed = functions.repository.run(&["run", "--rehearse", "--input", "version=1"]).exits(0).stdout;
    assert!(rehearsed.contains("+ secret/TOKEN") && rehearsed.contains("1 changed, 1 new"), "{rehearsed}");
    functions.repository.set("SHOP_TOKEN", "correct battery");
    let text = functions.repository.read("stagewright.toml");
    let elsewhere = text.replace("hosts = [\"127.0.0.1\"]\n[cred", "hosts = [\"elsewhere.example.org\"]\n[cred");
    functions.repository.write("stagewright.toml", &elsewhere);
    let refused = deploy(&functions.repository, &["version=1"], 1).stdout;
    assert!(refused.contains("the secret `token` may not be sent to 127.0.0.1"), "{refused}");
    assert_eq!(functions.variables("$LATEST"), json!({}));
}
