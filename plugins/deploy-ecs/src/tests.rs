//! Tests on the fake host. Those on real tasks are in `tests/main/targets`.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{ErrorCode, Observation, Permission};

use crate::DeployEcs;

const ORIGIN: &str = "https://ecs.eu-central-1.amazonaws.com";
const IMAGE: &str = "app@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const ARN: &str = "arn:aws:ecs:eu-central-1:1:task-definition";

fn host(more: Json) -> FakeHost {
    let mut config = json!({ "service": "api", "credential": "ecs", "image": IMAGE });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    FakeHost::new().config(config).environment("production").fence(7).credential("ecs", ORIGIN)
}

const VAULT: &str = "https://secretsmanager.eu-central-1.amazonaws.com";

/// With a secret of the pipeline as a variable.
fn with_secret(more: Json) -> FakeHost {
    let mut config = json!({ "secret-env": { "TOKEN": "token" }, "secrets-credential": "vault" });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    host(config).credential("vault", VAULT).secret("token", "hunter22")
}

/// The answer of Secrets Manager to the next operation.
fn vault(body: &Json) -> HttpScript {
    HttpScript::post(&format!("{VAULT}/")).body(body.to_string())
}

fn refused(code: &str) -> HttpScript {
    vault(&json!({ "__type": code, "message": "no" })).status(400)
}

/// The answer to the next operation, of which the fake host sees only the order.
fn answer(body: &Json) -> HttpScript {
    HttpScript::post(&format!("{ORIGIN}/")).body(body.to_string())
}

fn deployment(status: &str, revision: u32, state: &str) -> Json {
    json!({ "status": status, "taskDefinition": format!("{ARN}/api:{revision}"), "rolloutState": state,
        "desiredCount": 2, "runningCount": 1 })
}

fn service(deployments: &[Json]) -> HttpScript {
    let primary = deployments.iter().find(|deployment| deployment["status"] == "PRIMARY").unwrap();
    let definition = primary["taskDefinition"].clone();
    answer(&json!({ "services": [{ "status": "ACTIVE", "taskDefinition": definition, "deployments": deployments }] }))
}

fn definition(revision: u32, fence: u64, run: &str, containers: &Json) -> HttpScript {
    let tags =
        [("stagewright.fence", fence.to_string()), ("stagewright.run", run.to_owned()), ("team", "shop".to_owned())];
    let tags: Vec<Json> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    answer(&json!({ "tags": tags, "taskDefinition": {
        "taskDefinitionArn": format!("{ARN}/api:{revision}"), "family": "api", "revision": revision,
        "status": "ACTIVE", "containerDefinitions": containers,
    } }))
}

fn containers(image: &str) -> Json {
    json!([{ "name": "app", "image": image }])
}

fn operations<T>(report: &Report<T>) -> Vec<String> {
    let name = |sent: &stagewright_sdk::fake::Sent| {
        sent.header("x-amz-target").unwrap().rsplit('.').next().unwrap().to_owned()
    };
    report.sent.iter().map(name).filter(|name| !name.starts_with("Describe")).collect()
}

fn run_id() -> String {
    FakeHost::new().with(stagewright_sdk::context::run_id).0
}

#[test]
fn a_task_definition_is_registered_with_the_image_and_the_tags_of_the_deploy() {
    let (old, new) = (containers("app@sha256:old"), containers(IMAGE));
    let completed = [deployment("PRIMARY", 1, "COMPLETED")];
    let after = [deployment("PRIMARY", 2, "COMPLETED")];
    let own = || definition(2, 7, &run_id(), &new);
    let scripts = [
        service(&completed),
        definition(1, 3, "earlier", &old), // serving
        service(&completed),               // unfinished
        service(&completed),
        definition(1, 3, "earlier", &old),
        definition(1, 3, "earlier", &old),
        own(), // apply
        answer(&json!({})),
        service(&after),
        own(),
        service(&after), // observe
        service(&after),
        own(), // shift
        service(&after),
        own(), // serving
    ];
    let report = scripts.into_iter().fold(host(json!({})), FakeHost::http).run::<DeployEcs>();
    assert!(report.result.is_ok(), "{:?}", report.result);
    assert_eq!(operations(&report), ["RegisterTaskDefinition", "UpdateService"]);
    let registered =
        report.sent.iter().find(|sent| sent.header("x-amz-target").unwrap().ends_with("RegisterTaskDefinition"));
    let input: Json = serde_json::from_slice(&registered.unwrap().body).unwrap();
    assert_eq!(
        (&input["containerDefinitions"], &input["revision"], &input["status"]),
        (&new, &Json::Null, &Json::Null)
    );
    let tags = input["tags"].to_string();
    for tag in
        [r#"{"key":"team","value":"shop"}"#, r#"{"key":"stagewright.fence","value":"7"}"#, r#""stagewright.previous""#]
    {
        assert!(tags.contains(tag), "{tags}");
    }
    assert_eq!(tags.matches("stagewright.fence").count(), 1);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let newer = || definition(5, 8, "later", &containers("app@sha256:new"));
    let current = || service(&[deployment("PRIMARY", 5, "COMPLETED")]);
    let scripts = [current(), newer(), current(), current(), newer()];
    let report = scripts.into_iter().fold(host(json!({})), FakeHost::http).run::<DeployEcs>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("api:5 of the service `api` has the token 8, which is newer than 7"), "{error}");
    assert_eq!((error.code.clone(), operations(&report)), (ErrorCode::Superseded, Vec::new()));
}

#[test]
fn a_newer_deploy_in_between_is_put_back() {
    let (old, new) = (containers("app@sha256:old"), containers(IMAGE));
    let before = || service(&[deployment("PRIMARY", 1, "COMPLETED")]);
    let earlier = || definition(1, 3, "earlier", &old);
    let own = || definition(2, 7, &run_id(), &new);
    let overtaken = service(&[deployment("PRIMARY", 2, "IN_PROGRESS"), deployment("ACTIVE", 5, "IN_PROGRESS")]);
    let scripts = [before(), earlier(), before(), before(), earlier(), earlier(), own(), answer(&json!({}))]
        .into_iter()
        .chain([overtaken, own(), definition(5, 8, "later", &old), answer(&json!({}))]);
    let report = scripts.fold(host(json!({})), FakeHost::http).run::<DeployEcs>();
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.code, ErrorCode::Superseded, "{error}");
    assert_eq!(operations(&report), ["RegisterTaskDefinition", "UpdateService", "UpdateService"]);
    let last: Json = serde_json::from_slice(&report.sent.last().unwrap().body).unwrap();
    assert_eq!(last["taskDefinition"], format!("{ARN}/api:5"));
}

#[test]
fn until_ecs_has_replaced_all_tasks_the_version_before_serves() {
    let observe = |deployments: &[Json], revision: u32, run: &str| {
        let host = host(json!({})).http(service(deployments));
        host.http(definition(revision, 7, run, &containers(IMAGE))).observe::<DeployEcs>().result
    };
    let own = run_id();
    let applied = observe(&[deployment("PRIMARY", 2, "COMPLETED")], 2, &own);
    assert!(matches!(applied, Ok(Observation::Applied(_))), "{applied:?}");
    let replacing = [deployment("PRIMARY", 2, "IN_PROGRESS"), deployment("ACTIVE", 1, "COMPLETED")];
    assert_eq!(observe(&replacing, 1, "earlier"), Ok(Observation::NotStarted));
    let rolled_back = [deployment("PRIMARY", 1, "IN_PROGRESS"), deployment("ACTIVE", 2, "FAILED")];
    assert_eq!(observe(&rolled_back, 1, "earlier"), Ok(Observation::NotStarted));
}

#[test]
fn what_cannot_be_deployed_says_what_to_do() {
    let missing = host(json!({})).http(answer(&json!({ "services": [] }))).run::<DeployEcs>().result.unwrap_err();
    assert!(missing.message.contains("the cluster `default` has no service `api`"), "{missing}");
    let other = json!({ "services": [{ "status": "ACTIVE", "taskDefinition": "x", "deploymentController": { "type": "CODE_DEPLOY" } }] });
    let other = host(json!({})).http(answer(&other)).run::<DeployEcs>().result.unwrap_err();
    assert!(other.message.contains("controlled by CODE_DEPLOY"), "{other}");
    let two = json!([{ "name": "app", "image": "a" }, { "name": "proxy", "image": "b" }]);
    let current = || service(&[deployment("PRIMARY", 1, "COMPLETED")]);
    let earlier = || definition(1, 3, "earlier", &two);
    let scripts = [current(), earlier(), current(), current(), earlier(), earlier()];
    let several = scripts.into_iter().fold(host(json!({})), FakeHost::http).run::<DeployEcs>().result.unwrap_err();
    assert!(several.help.unwrap().contains("container = \"app\""));
}

#[test]
fn mistakes_name_their_key_and_the_template_is_required() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployEcs>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(
        keys(json!({ "image": "app:1", "service": "arn:aws:x", "cluster": "" })),
        ["image", "service", "cluster"]
    );
    assert_eq!(keys(json!({ "strategy": { "recreate": {} } })), ["strategy"]);
    assert!(keys(json!({})).is_empty());
    let required = host(json!({ "task-definition": "ecs/task.json" })).requirements::<DeployEcs>();
    let required: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    assert_eq!(required, [(Permission::Credentials, "ecs"), (Permission::Read, "ecs/task.json")]);
}

/// What a deploy of a first release asks of ECS before it stores secrets.
fn before_registration(earlier: &Json) -> Vec<HttpScript> {
    let current = || service(&[deployment("PRIMARY", 1, "COMPLETED")]);
    let earlier = || definition(1, 3, "earlier", earlier);
    vec![current(), earlier(), current(), current(), earlier(), earlier()]
}

/// What was sent to Secrets Manager.
fn stored<T>(report: &Report<T>) -> Vec<(String, Json)> {
    let sent = report.sent.iter().filter(|sent| sent.url.starts_with(VAULT));
    let target = |sent: &stagewright_sdk::fake::Sent| sent.header("x-amz-target").unwrap().to_owned();
    sent.map(|sent| (target(sent), serde_json::from_slice(&sent.body).unwrap())).collect()
}

fn registered<T>(report: &Report<T>) -> Json {
    let sent = report.sent.iter().find(|sent| sent.header("x-amz-target").unwrap().ends_with("RegisterTaskDefinition"));
    serde_json::from_slice(&sent.expect("a registration").body).unwrap()
}

#[test]
fn secrets_are_stored_as_versions_of_the_run_and_the_task_definition_names_these() {
    let earlier = json!([{ "name": "app", "image": "app@sha256:old",
        "environment": [{ "name": "TOKEN", "value": "plain" }, { "name": "LEVEL", "value": "info" }],
        "secrets": [{ "name": "OLD", "valueFrom": "arn:old" }, { "name": "BY_HAND", "valueFrom": "arn:by-hand" }] }]);
    let arn = "arn:aws:secretsmanager:eu-central-1:1:secret:default/api/TOKEN-AbCdEf";
    let current = json!({ "artifact": "app@sha256:old", "config": { "secret-env": { "OLD": "old" } } });
    let deploy = || {
        let host = with_secret(json!({})).ledger(Some(current.clone()), None);
        let answers =
            [refused("ResourceNotFoundException"), vault(&json!({})), vault(&json!({ "ARN": arn, "VersionId": "v1" }))];
        before_registration(&earlier).into_iter().chain(answers).fold(host, FakeHost::http).run::<DeployEcs>()
    };
    let report = deploy();
    let calls = stored(&report);
    let operations: Vec<&str> = calls.iter().map(|(operation, _)| operation.as_str()).collect();
    assert_eq!(
        operations,
        ["secretsmanager.DescribeSecret", "secretsmanager.CreateSecret", "secretsmanager.PutSecretValue"]
    );
    assert_eq!(calls[1].1["Tags"], json!([{ "Key": "stagewright.service", "Value": "default/api" }]));
    assert_eq!((&calls[1].1["SecretString"], &calls[2].1["SecretString"]), (&Json::Null, &json!("{secret token}")));
    assert_eq!(calls[2].1["SecretId"], "default/api/TOKEN");
    let token = calls[2].1["ClientRequestToken"].as_str().unwrap();
    assert!((32..=64).contains(&token.len()), "{token}");
    assert_eq!(stored(&deploy()), calls, "a repeated attempt stores the same version");

    let container = &registered(&report)["containerDefinitions"][0];
    assert_eq!(container["environment"], json!([{ "name": "LEVEL", "value": "info" }]));
    let reference = json!({ "name": "TOKEN", "valueFrom": format!("{arn}:::v1") });
    assert_eq!(container["secrets"], json!([{ "name": "BY_HAND", "valueFrom": "arn:by-hand" }, reference]));
}

#[test]
fn the_secret_of_someone_else_is_not_written_to() {
    let foreign = vault(&json!({ "Tags": [{ "Key": "stagewright.service", "Value": "default/other" }] }));
    let scripts = before_registration(&containers("app@sha256:old")).into_iter().chain([foreign]);
    let report = scripts.fold(with_secret(json!({})), FakeHost::http).run::<DeployEcs>();
    let error = report.result.as_ref().unwrap_err();
    let message = "the secret `default/api/TOKEN` exists in Secrets Manager, and isn't of the service default/api";
    assert_eq!(error.message, message);
    assert_eq!((stored(&report).len(), operations(&report)), (1, Vec::new()));
}

#[test]
fn a_value_that_changes_between_two_attempts_of_a_run_is_a_version_of_its_own() {
    let own = vault(&json!({ "Tags": [{ "Key": "stagewright.service", "Value": "default/api" }] }));
    let answers = [own, refused("ResourceExistsException"), vault(&json!({ "ARN": "arn:a", "VersionId": "v2" }))];
    let scripts = before_registration(&containers("app@sha256:old")).into_iter().chain(answers);
    let report = scripts.fold(with_secret(json!({})), FakeHost::http).run::<DeployEcs>();
    let calls = stored(&report);
    assert_ne!(calls[1].1["ClientRequestToken"], calls[2].1["ClientRequestToken"]);
    let secrets = &registered(&report)["containerDefinitions"][0]["secrets"];
    assert_eq!(*secrets, json!([{ "name": "TOKEN", "valueFrom": "arn:a:::v2" }]));
}

#[test]
fn a_variable_is_either_in_the_template_or_a_secret() {
    let template = |key: &str| {
        let entry = json!([{ "name": "TOKEN", "value": "plain" }]);
        json!({ "family": "api", "containerDefinitions": [{ "name": "app", "image": "x", key: entry }] }).to_string()
    };
    for key in ["environment", "secrets"] {
        let host = with_secret(json!({ "task-definition": "task.json" })).file("task.json", template(key));
        let mut scripts = before_registration(&containers("app@sha256:old"));
        scripts.pop();
        let report = scripts.into_iter().fold(host, FakeHost::http).run::<DeployEcs>();
        let error = report.result.as_ref().unwrap_err();
        let causes = error.to_string() + &error.causes.join(" ");
        let message = format!("`{key}` of the container sets `TOKEN`, and so does `secret-env`");
        assert!(causes.contains(&message), "{error:?}");
        assert_eq!((stored(&report).len(), operations(&report)), (0, Vec::new()));
    }
}

#[test]
fn secrets_need_a_credential_of_their_own_and_names_that_secrets_manager_takes() {
    let keys = |more: Json| -> Vec<String> {
        with_secret(more).validate::<DeployEcs>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({})), [""; 0]);
    assert_eq!(keys(json!({ "secrets-credential": null })), ["secrets-credential"]);
    assert_eq!(keys(json!({ "secrets-credential": "ecs" })), ["secrets-credential"]);
    assert_eq!(
        keys(json!({ "secret-env": { "A B": "token" }, "secrets-prefix": "a:b" })),
        ["secret-env.A B", "secrets-prefix"]
    );
    let required = with_secret(json!({})).requirements::<DeployEcs>();
    let required: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected =
        [(Permission::Credentials, "ecs"), (Permission::Credentials, "vault"), (Permission::Secrets, "token:header")];
    assert_eq!(required, expected);
}

#[test]
fn a_restored_release_has_its_own_task_definition_among_those_of_its_image() {
    let restored = json!({ "artifact": IMAGE, "config": {}, "fence": 4 });
    let current = || service(&[deployment("PRIMARY", 3, "COMPLETED")]);
    let third = || definition(3, 6, "later", &containers(IMAGE));
    let listed = answer(
        &json!({ "taskDefinitionArns": [format!("{ARN}/api:3"), format!("{ARN}/api:2"), format!("{ARN}/api:1")] }),
    );
    let (second, first) =
        (definition(2, 4, "restored", &containers(IMAGE)), definition(1, 2, "first", &containers(IMAGE)));
    let scripts = [current(), third(), current(), current(), third(), third(), listed, third(), second, first];
    let host = with_secret(json!({})).restored(restored);
    let report = scripts.into_iter().fold(host, FakeHost::http).run::<DeployEcs>();
    let tagged = report.sent.iter().find(|sent| sent.header("x-amz-target").unwrap().ends_with("TagResource"));
    let tagged: Json = serde_json::from_slice(&tagged.expect("a task definition that exists").body).unwrap();
    assert_eq!(tagged["resourceArn"], format!("{ARN}/api:2"));
    assert!(stored(&report).is_empty() && !operations(&report).contains(&"RegisterTaskDefinition".to_owned()));
}
