//! Tests on the fake host. Those of the files themselves are in the library `compose-file`.

use serde_json::{Value as Json, json};
use stagewright_sdk::Outcome;
use stagewright_sdk::fake::FakeHost;

use crate::ComposeRelease;

const IMAGE: &str = "acme/web@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const FILE: &str = "services:\n  web:\n    build: .\n    configs: [app]\nconfigs: { app: { file: ./app.toml } }\n";

fn host(with: Json) -> FakeHost {
    FakeHost::new().config(with)
}

#[test]
fn a_release_includes_the_files_beside_the_file() {
    let with = json!({ "file": "deploy/compose.yaml", "images": { "web": IMAGE } });
    let report =
        host(with).file("deploy/compose.yaml", FILE).file("deploy/app.toml", "a = 1\n").run::<ComposeRelease>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let compose = &report.outputs["release"]["compose"];
    assert_eq!(compose["services"]["web"]["image"], IMAGE);
    assert_eq!(compose["configs"]["app"]["content"], "a = 1\n");
    assert!(report.outputs["artifact"].as_str().is_some_and(|text| text.starts_with("deploy/compose.yaml@sha256:")));
}

#[test]
fn mistakes_are_findings_with_their_lines() {
    let report = host(json!({})).file("compose.yaml", FILE).run::<ComposeRelease>();
    let error = report.result.unwrap_err();
    assert_eq!(error.message, "`compose.yaml` can't be deployed: 2 mistakes");
    assert!(error.causes[0].starts_with("compose.yaml:2: services.web: `web` is only built"), "{:?}", error.causes);
    let lines: Vec<Option<u32>> =
        report.findings.iter().map(|finding| finding.range.map(|(start, _)| start.line)).collect();
    assert_eq!(lines, [Some(2), Some(5)]);
    assert!(report.outputs.is_empty());
}

#[test]
fn images_need_digests_and_a_swarm_has_its_own_secrets() {
    let keys = |with: Json| -> Vec<String> {
        host(with).validate::<ComposeRelease>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({ "images": { "web": "acme/web:1" } })), ["images.web"]);
    assert_eq!(keys(json!({ "target": "swarm", "secrets": ["KEY"] })), ["secrets"]);
    assert!(keys(json!({ "images": { "web": IMAGE }, "secrets": ["KEY"] })).is_empty());
}
