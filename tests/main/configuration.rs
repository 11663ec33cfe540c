//! Layers of configuration, and templates that are filled in with them.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, text};

const PIPELINE: &str = r#"
schema = 1
pipeline.name = "shop"

[environments.staging]
config = ["config/base.yaml"]

[environments.production]
approvers = ["ada"]
config = ["config/base.yaml", "config/production.toml"]

[stages.configure]
uses = "render"
with.layers = "${{ environments.production.config }}"
with.values = { commit = "${{ inputs.version }}" }
with.templates = [{ from = "deploy/*.conf", to = "rendered" }]
with.merged = [{ to = "rendered/server.env", key = "server" }]

[stages.show]
uses = "command"
needs = ["configure"]
with.run = ". rendered/server.env && cat rendered/app.conf && echo port $PORT"
permissions = { process = ["sh", "cat"], read = ["rendered"] }

[inputs.version]
type = "string"
default = "1"
"#;

fn shop() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("config/base.yaml", "database:\n  host: db\n  pool: 10\nserver:\n  PORT: 80\n");
    environment.write("config/production.toml", "[database]\npool = 50\n[server]\nPORT = 8080\n");
    environment.write("deploy/app.conf", "{{ database.host }} {{ database.pool }} {{ commit }}\n");
    environment
}

#[test]
fn an_environments_layers_are_merged_and_later_stages_read_what_was_rendered() {
    let environment = shop();
    // What the layers are is known before the run, and so is what the stage lacks.
    let refused = environment.run(&["validate"]).exits(3);
    for line in ["read = [\"config/base.yaml\", \"config/production.toml\", \"deploy/*.conf\"]", "write = ["] {
        let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(line), "{line}: {said}");
    }
    environment.run(&["grant", "--yes"]).exits(0);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let said: Vec<String> = events.iter().map(|event| text(&event["line"]["text"])).collect();
    let said = format!("{said:?} {events:?}");
    assert!(said.contains("db 50 1") && said.contains("port 8080"), "{said}");
    let is_end = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == "configure";
    let ended = events.iter().find(is_end).expect("an end");
    assert_eq!(ended["outputs"]["origins"]["database.pool"], "config/production.toml:2", "{ended}");
    assert_eq!(ended["outputs"]["origins"]["database.host"], "config/base.yaml:2");
}

#[test]
fn a_placeholder_without_a_value_fails_the_stage_with_its_line_and_writes_nothing() {
    let environment = shop();
    environment.run(&["grant", "--yes"]).exits(0);
    environment.write("deploy/app.conf", "{{ database.host }}\n{{ database.user }}\n");
    let failed = environment.run(&["run"]).exits(1);
    let said = format!("{}{}", failed.stdout, failed.stderr);
    assert!(said.contains("deploy/app.conf:2: `database.user`: no layer has a value for it"), "{said}");
    assert!(!environment.root().join("rendered").exists());
    // A setting of an environment that doesn't exist is found before the run.
    environment.write(
        "stagewright.toml",
        &PIPELINE.replace("environments.production.config }}", "environments.prod.config }}"),
    );
    let refused = environment.run(&["validate"]).exits(3);
    assert!(refused.stderr.contains("use one of `production`, `staging`"), "{}", refused.stderr);
}
