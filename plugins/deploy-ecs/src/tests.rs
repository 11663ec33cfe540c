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
