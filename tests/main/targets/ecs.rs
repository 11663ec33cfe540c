//! The target `ecs`, with tasks as containers of an engine of the test's own.

mod faults;

use std::cell::RefCell;

use serde_json::{Value as Json, json};

use super::aws::{Aws, credential, deploy};
use super::engine::{DockerEngine, REGISTRY, compile_service, image_stages, kill_at_every_write};
use crate::environment::{TestEnvironment, eventually};

/// IMAGE_STAGES and DEPLOY are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "service"
[inputs.version]
[inputs.exit]
default = ""

[environments.production]
target = "ecs"

IMAGE_STAGES

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
[stages.deploy.with]
cluster = "main"
service = "api"
credential = "ecs"
image = "${{ stages.push.outputs.reference }}"
DEPLOY
"#;

/// The variables of the service that runs in the tasks.
const VARIABLES: &str = r#", HOST = "0.0.0.0", PORT = "8080", EXIT = "${{ inputs.exit }}""#;

struct Cluster {
    aws: Aws,
    repository: TestEnvironment,
    socket: String,
}

impl Cluster {
    /// A service without tasks, which has never been deployed.
    fn with(more: &str) -> Cluster {
        Cluster::declaring(more, "")
    }

    /// `declared`: more tables of the pipeline file.
    fn declaring(more: &str, declared: &str) -> Cluster {
        let DockerEngine { machine, socket } = DockerEngine::start();
        let aws = Aws::on(machine, &socket);
        let pipeline = format!(
            "{}\n{}\n{declared}",
            PIPELINE.replace("IMAGE_STAGES", &image_stages(REGISTRY, VARIABLES)).replace("DEPLOY", more),
            credential("ecs", "ecs", "127.0.0.1:4566")
        );
        let repository = aws.repository(&pipeline, &[]);
        compile_service(&repository);
        let cluster = Cluster { aws, repository, socket };
        cluster.call("CreateCluster", &json!({ "clusterName": "main" }));
        let image = format!("127.0.0.1:5000/none@sha256:{}", "0".repeat(64));
        cluster.call(
            "RegisterTaskDefinition",
            &json!({
                "family": "api",
                "containerDefinitions": [{ "name": "app", "image": image, "memory": 64 }],
                "tags": [{ "key": "team", "value": "shop" }],
            }),
        );
        let breaker = json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": true } });
        let service = json!({ "cluster": "main", "serviceName": "api", "taskDefinition": "api", "desiredCount": 0, "deploymentConfiguration": breaker });
        cluster.call("CreateService", &service);
        cluster
    }

    fn call(&self, operation: &str, input: &Json) -> Json {
        self.call_of("ecs", "AmazonEC2ContainerServiceV20141113", operation, input)
    }

    fn call_of(&self, service: &str, api: &str, operation: &str, input: &Json) -> Json {
        let target = format!("x-amz-target: {api}.{operation}");
        let headers = ["content-type: application/x-amz-json-1.1", &target];
        self.aws.send(service, "POST", "/", &headers, &input.to_string()).ok().json()
    }

    fn service(&self) -> Json {
        let described = self.call("DescribeServices", &json!({ "cluster": "main", "services": ["api"] }));
        described["services"][0].clone()
    }

    /// The name of the task definition that the service has, and how far its deployment is.
    fn state(&self) -> (String, String) {
        let service = self.service();
        let deployments = service["deployments"].as_array().expect("a list");
        let primary = deployments.iter().find(|deployment| deployment["status"] == "PRIMARY").expect("a deployment");
        let arn = primary["taskDefinition"].as_str().expect("an ARN");
        let name = arn.rsplit('/').next().unwrap_or_default();
        (name.to_owned(), primary["rolloutState"].as_str().unwrap_or_default().to_owned())
    }

    /// Sets how many tasks the service has, and waits for them.
    fn scale(&self, count: u32) {
        self.call("UpdateService", &json!({ "cluster": "main", "service": "api", "desiredCount": count }));
        eventually("the tasks run", || (self.service()["runningCount"] == count).then_some(()));
    }

    /// The versions whose tasks run.
    fn runs(&self) -> Vec<String> {
        let host = format!("unix://{}", self.socket);
        let ids = self.aws.machine.run("docker", &["--host", &host, "ps", "--quiet"]);
        // A container may be removed in between.
        let version = |id: &str| {
            let format = ["--host", &host, "inspect", "--format", "{{.Config.Env}}", id];
            let output = self.aws.machine.command("docker").args(format).output().expect("docker starts");
            let env = String::from_utf8(output.stdout).expect("UTF-8");
            Some(env.split("VERSION=").nth(1)?.split([' ', ']']).next()?.to_owned())
        };
        let mut found: Vec<String> = ids.lines().filter_map(version).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[test]
fn tasks_are_replaced_and_a_release_that_exits_is_rolled_back_by_the_circuit_breaker() {
    let cluster = Cluster::with("");
    deploy(&cluster.repository, &["version=1"], 0);
    cluster.scale(2);
    deploy(&cluster.repository, &["version=2"], 0);
    assert_eq!(cluster.state(), ("api:3".to_owned(), "COMPLETED".to_owned()));
    eventually("the tasks of version 1 have stopped", || (cluster.runs() == ["2"]).then_some(()));
    let tags = cluster.call("DescribeTaskDefinition", &json!({ "taskDefinition": "api:3", "include": ["TAGS"] }));
    let tags = tags["tags"].to_string();
    assert!(tags.contains("shop") && tags.contains("stagewright.fence"), "{tags}");

    let exits = deploy(&cluster.repository, &["version=3", "exit=7"], 1);
    assert!(
        exits.stdout.contains("circuit breaker") && exits.stdout.contains("app exited with code 7"),
        "{}",
        exits.stdout
    );
    assert!(exits.stdout.contains("release api:4 was removed, and release api:3"), "{}", exits.stdout);
    assert_eq!((cluster.state().0, cluster.runs()), ("api:3".to_owned(), vec!["2".to_owned()]));

    let rolled_back = cluster.repository.run(&["rollback", "production"]).exits(0);
    assert!(rolled_back.stdout.contains("release api:2 started"), "as it was, and not another: {}", rolled_back.stdout);
    eventually("the tasks of version 2 have stopped", || (cluster.runs() == ["1"]).then_some(()));

    // A deploy under a newer token, for example from another machine.
    let arn = cluster.service()["taskDefinition"].clone();
    cluster
        .call("TagResource", &json!({ "resourceArn": arn, "tags": [{ "key": "stagewright.fence", "value": "1000" }] }));
    let stale = deploy(&cluster.repository, &["version=4"], 1);
    assert!(
        stale.stdout.contains("api:2 of the service `api` has the token 1000, which is newer than"),
        "{}",
        stale.stdout
    );
    assert_eq!(cluster.runs(), ["1"]);
}

#[test]
fn a_release_that_does_not_start_in_time_is_replaced_by_the_one_before_it() {
    let cluster = Cluster::with("task-definition = \"task.json\"\nreadiness = { deadline = \"20s\" }");
    let template = json!({ "family": "api", "containerDefinitions": [
        { "name": "app", "image": "replaced", "memory": 64, "environment": [{ "name": "LEVEL", "value": "info" }] },
    ] });
    cluster.repository.write("task.json", &template.to_string());
    deploy(&cluster.repository, &["version=1"], 0);
    let registered = cluster.call("DescribeTaskDefinition", &json!({ "taskDefinition": "api:2" })).to_string();
    assert!(registered.contains("LEVEL") && registered.contains("127.0.0.1:5000/versioned@sha256:"), "{registered}");
    // Without the circuit breaker, ECS would try for hours.
    let breaker = json!({ "deploymentCircuitBreaker": { "enable": false, "rollback": false } });
    cluster.call("UpdateService", &json!({ "cluster": "main", "service": "api", "deploymentConfiguration": breaker }));
    cluster.scale(1);
    let late = deploy(&cluster.repository, &["version=2", "exit=7"], 1);
    assert!(late.stdout.contains("the readiness check didn't pass within 20 s"), "{}", late.stdout);
    assert!(late.stdout.contains("app exited with code 7"), "{}", late.stdout);
    assert_eq!((cluster.state().0, cluster.runs()), ("api:2".to_owned(), vec!["1".to_owned()]));
}

#[test]
fn a_deploy_survives_a_kill_at_any_write_to_the_journal() {
    let cluster = Cluster::with_token();
    deploy(&cluster.repository, &["version=0"], 0);
    cluster.scale(1);
    let earlier = RefCell::new(cluster.token().0);
    kill_at_every_write(&cluster.repository, 25, |version| {
        assert_eq!(cluster.state().1, "COMPLETED", "{version}");
        let (of_release, value) = cluster.token();
        let before = earlier.replace(of_release.clone());
        assert_eq!(
            (cluster.labelled(), value.as_str()),
            ([of_release, before], "of the first day"),
            "stored more than once"
        );
        let expected = version.to_string();
        eventually("the tasks of the version before have stopped", || {
            (cluster.runs() == [expected.clone()]).then_some(())
        });
    });
}

/// Secrets of the service, whose values go to Secrets Manager at another origin.
const SECRETS: &str = r#"secret-env = { TOKEN = "token" }
secrets-credential = "vault""#;

impl Cluster {
    fn with_token() -> Cluster {
        let secret = "[secrets.token]\nfrom = \"env:SHOP_TOKEN\"\nhosts = [\"localhost\"]\n";
        let vault = credential("vault", "secretsmanager", "localhost:4566");
        let mut cluster = Cluster::declaring(SECRETS, &format!("{secret}{vault}"));
        cluster.repository.set("SHOP_TOKEN", "of the first day");
        cluster
    }

    fn vault(&self, operation: &str, input: &Json) -> Json {
        self.call_of("secretsmanager", "secretsmanager", operation, input)
    }

    /// The version of `TOKEN` that the service's task definition refers to, and its value.
    fn token(&self) -> (String, String) {
        let arn = self.service()["taskDefinition"].clone();
        let definition = self.call("DescribeTaskDefinition", &json!({ "taskDefinition": arn }));
        let secrets = &definition["taskDefinition"]["containerDefinitions"][0]["secrets"];
        let from = secrets[0]["valueFrom"].as_str().unwrap_or_else(|| panic!("no secret: {definition}"));
        let (secret, version) = from.split_once(":::").expect("an ARN and a version");
        let value = self.vault("GetSecretValue", &json!({ "SecretId": secret, "VersionId": version }));
        (version.to_owned(), value["SecretString"].as_str().expect("a text").to_owned())
    }

    /// The versions of `TOKEN` with the labels `AWSCURRENT` and `AWSPREVIOUS`.
    fn labelled(&self) -> [String; 2] {
        let described = self.vault("DescribeSecret", &json!({ "SecretId": "main/api/TOKEN" }));
        ["AWSCURRENT", "AWSPREVIOUS"].map(|label| {
            let versions = described["VersionIdsToStages"].as_object().expect("versions");
            let labelled =
                versions.iter().find(|(_, labels)| labels.as_array().is_some_and(|of| of.contains(&json!(label))));
            labelled.map(|(version, _)| version.clone()).unwrap_or_default()
        })
    }

    /// What a container of the service has as `TOKEN`.
    fn reads(&self) -> String {
        let host = format!("unix://{}", self.socket);
        let id = self.aws.machine.run("docker", &["--host", &host, "ps", "--quiet", "--latest"]);
        let format = ["--host", &host, "inspect", "--format", "{{json .Config.Env}}", id.trim()];
        let variables: Vec<String> = serde_json::from_str(&self.aws.machine.run("docker", &format)).expect("JSON");
        variables.iter().find_map(|variable| variable.strip_prefix("TOKEN=")).unwrap_or_default().to_owned()
    }
}

#[test]
fn secrets_go_to_secrets_manager_and_a_rollback_has_the_values_of_then() {
    let mut cluster = Cluster::with_token();
    let value = "correct \"horse\" battery";
    cluster.repository.set("SHOP_TOKEN", value);
    let deployed = deploy(&cluster.repository, &["version=1"], 0);
    cluster.scale(1);
    let first = cluster.token();
    assert_eq!((first.1.as_str(), cluster.reads().as_str()), (value, value));
    let arn = cluster.service()["taskDefinition"].clone();
    let definition = cluster.call("DescribeTaskDefinition", &json!({ "taskDefinition": arn })).to_string();
    assert!(!definition.contains("battery"), "{definition}");
    let live = cluster.repository.run(&["env", "status", "production", "--live"]).exits(0);
    for text in [deployed.stdout + &deployed.stderr, live.stdout] {
        assert!(!text.contains("battery"), "{text}");
    }
    let state = cluster.repository.root().join(".stagewright");
    let found = cluster.repository.program("grep").args(["-r", "-l", "battery"]).arg(state).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the state folder has a value");

    // The value alone has changed.
    cluster.repository.set("SHOP_TOKEN", "another value");
    deploy(&cluster.repository, &["version=1"], 0);
    let second = cluster.token();
    assert_eq!((second.1.as_str(), cluster.labelled()), ("another value", [second.0.clone(), first.0]));
    eventually("the task has the new value", || (cluster.reads() == "another value").then_some(()));

    deploy(&cluster.repository, &["version=2"], 0);
    let third = cluster.token();
    cluster.repository.set("SHOP_TOKEN", "the value of today");
    cluster.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((cluster.token(), cluster.labelled()), (second.clone(), [third.0, second.0]), "nothing was stored");

    // A secret that others have created stays as it is.
    cluster.vault("CreateSecret", &json!({ "Name": "shared/TOKEN", "SecretString": "of someone else" }));
    let text = cluster.repository.read("stagewright.toml");
    let prefix = format!("{SECRETS}\nsecrets-prefix = \"shared\"");
    cluster.repository.write("stagewright.toml", &text.replace(SECRETS, &prefix));
    let refused = deploy(&cluster.repository, &["version=1"], 1).stdout;
    assert!(
        refused.contains("the secret `shared/TOKEN` exists in Secrets Manager, and isn't of the service"),
        "{refused}"
    );
    let untouched = cluster.vault("GetSecretValue", &json!({ "SecretId": "shared/TOKEN" }));
    assert_eq!(untouched["SecretString"], "of someone else");
}
