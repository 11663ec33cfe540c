use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{ErrorCode, Observation, Outcome, Result, artifacts};

use crate::Terraform;

fn host(more: &Json) -> FakeHost {
    let mut with = json!({ "action": "plan", "dir": "infra/net", "secrets": { "AWS_SECRET_ACCESS_KEY": "key" } });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    FakeHost::new().config(with).secret("key", "hush")
}

fn terraform(word: &str) -> ProcessScript {
    ProcessScript::new("terraform", ["-chdir=infra/net", word])
}

fn state(serial: u32) -> String {
    json!({ "version": 4, "serial": serial, "lineage": "l" }).to_string()
}

const SHOWN: &str = r#"{"resource_changes": [
    {"address": "a.new", "change": {"actions": ["create"]}}, {"address": "a.same", "change": {"actions": ["no-op"]}},
    {"address": "a.read", "change": {"actions": ["read"]}}, {"address": "a.swap[\"x\"]", "change": {"actions": ["delete", "create"]}},
    {"address": "a.edit", "change": {"actions": ["update"]}}, {"address": "a.old", "change": {"actions": ["delete"]}}]}"#;

fn planning(more: &Json, code: i32) -> Report<Result<Outcome>> {
    host(more)
        .process(terraform("init"))
        .process(terraform("state").stdout(state(4)))
        .process(terraform("plan").exit(code).writes("infra/net/.stagewright-plan/tfplan", "PLAN"))
        .process(terraform("show").stdout(SHOWN))
        .run::<Terraform>()
}

#[test]
fn a_plan_is_published_with_its_state_and_says_what_it_would_do() {
    let report = planning(&json!({ "vars": { "b": "2", "a": "x y" }, "var-files": ["common.tfvars"] }), 2);
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert_eq!(
        report.spawned[2].args[2..],
        [
            "-input=false",
            "-no-color",
            "-detailed-exitcode",
            "-lock-timeout=60s",
            "-out=.stagewright-plan/tfplan",
            "-var=a=x y",
            "-var=b=2",
            "-var-file=../../common.tfvars",
        ]
    );
    assert_eq!(report.spawned[2].secret_env["AWS_SECRET_ACCESS_KEY"], "key");
    let numbers = ["added", "changed", "destroyed"].map(|name| report.outputs[name].as_u64().unwrap());
    assert_eq!((numbers, &report.outputs["changes"]), ([2, 1, 2], &json!(true)));
    assert!(report.outputs["plan"].as_str().unwrap().starts_with("infra-net-tfplan@sha256:"));
    assert!(report.summaries.concat().contains("- replace `a.swap[\"x\"]`"), "{:?}", report.summaries);
    assert!(report.files.is_empty(), "the plan has secrets: {:?}", report.files.keys());
}

#[test]
fn a_plan_without_changes_is_one_too_and_one_that_fails_is_not() {
    let same = planning(&json!({}), 0);
    assert_eq!(same.outputs["changes"], false);
    let failed = planning(&json!({}), 1);
    assert!(failed.result.unwrap_err().message.contains("`terraform plan` ended with exit code 1"));
    assert!(failed.files.is_empty());
}

/// A run that applies the plan for the fourth state; the folder that is published has it with the plan.
fn applying() -> FakeHost {
    let files = [("tfplan", "PLAN"), ("state.json", r#"{"lineage":"l","serial":4}"#)];
    let published = FakeHost::new().artifact_folder("infra-net-tfplan", files).with(artifacts::published).0.unwrap();
    let plan = format!("{}@{}", published[0].name, published[0].digest);
    host(&json!({ "action": "apply", "plan": plan })).artifact_folder("infra-net-tfplan", files)
}

#[test]
fn another_plan_of_the_same_name_is_not_applied() {
    let other = [("tfplan", "OTHER"), ("state.json", "{}")];
    let report = applying().artifact_folder("infra-net-tfplan", other).run::<Terraform>();
    assert!(report.result.as_ref().unwrap_err().message.contains("has the digest"), "{report:#?}");
    assert!(report.spawned.is_empty());
}

#[test]
fn exactly_the_plan_is_applied_to_the_state_that_it_is_for() {
    let outputs =
        r#"{"url": {"sensitive": false, "value": "https://x"}, "password": {"sensitive": true, "value": "hush"}}"#;
    let report = applying()
        .process(terraform("init"))
        .process(terraform("state").stdout(state(4)))
        .process(terraform("apply"))
        .process(terraform("output").stdout(outputs))
        .run::<Terraform>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert_eq!(report.spawned[2].args.last().unwrap(), ".stagewright-plan/tfplan");
    assert_eq!(report.outputs["outputs"], json!({ "url": "https://x" }));

    for now in [state(5), String::new()] {
        let report = applying().process(terraform("init")).process(terraform("state").stdout(now)).run::<Terraform>();
        let error = report.result.as_ref().unwrap_err();
        assert_eq!(error.code, ErrorCode::FailedPrecondition);
        assert!(error.message.contains("the state has changed since the plan was made"), "{error:?}");
        assert_eq!(report.spawned.len(), 2);
    }
}

#[test]
fn an_interrupted_apply_is_for_a_person_to_decide() {
    for (now, says) in [(state(4), "the state is as it was before"), (state(5), "the state has changed since the plan")]
    {
        let report = applying().process(terraform("state").stdout(now)).observe::<Terraform>();
        let Ok(Observation::Unknown(reason)) = &report.result else { panic!("{:?}", report.result) };
        assert!(reason.contains(says) && report.spawned[0].read_only, "{reason}");
    }
    assert_eq!(host(&json!({})).observe::<Terraform>().result, Ok(Observation::NotStarted));
}

#[test]
fn mistakes_are_named_with_their_keys() {
    for (more, key) in [
        (json!({ "action": "apply" }), "plan"),
        (json!({ "action": "apply", "plan": "x" }), "plan"),
        (json!({ "action": "apply", "plan": "x@sha256:0", "vars": { "a": "b" } }), "vars"),
        (json!({ "action": "apply", "plan": "x@sha256:0", "destroy": true }), "destroy"),
        (json!({ "plan": "x@sha256:0" }), "plan"),
        (json!({ "vars": { "a=b": "c" } }), "vars.a=b"),
    ] {
        let found = host(&more).validate::<Terraform>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{more}");
    }
}
