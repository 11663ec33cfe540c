//! What people and editors learn about plugins: `plugin list`, `plugin show` and `schema`.

use serde_json::Value as Json;

use crate::environment::TestEnvironment;

/// The built-in plugins, as the documentation lists them.
const BUILTIN: [&str; 12] = [
    "approve",
    "audit",
    "build-image",
    "cargo-test",
    "command",
    "deploy-process",
    "image-meta",
    "noop",
    "notify",
    "push-image",
    "release-notes",
    "smoke-test",
];

fn json(environment: &TestEnvironment, args: &[&str]) -> Json {
    serde_json::from_str(&environment.run(args).exits(0).stdout).expect("JSON")
}

#[test]
fn the_list_has_the_built_in_plugins_and_those_that_a_pipeline_uses() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"p\"\n[stages.a]\nuses = \"noop\"\n[stages.b]\nuses = \"path:plugins/mine\"\n",
    );
    let listed = json(&environment, &["plugin", "list", "--json"]);
    let find = |uses: &str| listed.as_array().unwrap().iter().find(|plugin| plugin["uses"] == uses).unwrap();
    for name in BUILTIN {
        let plugin = find(name);
        assert_eq!((&plugin["origin"], &plugin["error"]), (&Json::from("folder"), &Json::Null), "{plugin}");
        assert!(!plugin["description"].as_str().unwrap().is_empty() && plugin["digest"].is_string(), "{plugin}");
    }
    assert_eq!(find("noop")["pipelines"], serde_json::json!(["stagewright.toml"]));
    let mine = find("path:plugins/mine");
    assert_eq!(mine["origin"], "repository");
    assert!(mine["error"].as_str().unwrap().contains("does not exist"), "{mine}");
    let text = environment.run(&["plugin", "list"]).exits(0).stdout;
    assert!(text.contains("noop") && text.contains("Does nothing but set outputs"), "{text}");
}

#[test]
fn a_plugin_is_shown_with_a_stage_that_validates() {
    for name in BUILTIN {
        let environment = TestEnvironment::new();
        let shown = json(&environment, &["plugin", "show", name, "--json"]);
        let example = shown["example"].as_str().unwrap();
        // What the examples refer to: an input, and a stage that has pushed an image.
        let mut pipeline = format!("schema = 1\npipeline.name = \"p\"\n[inputs.version]\ndefault = \"1\"\n\n{example}");
        if example.contains("stages.push.") {
            pipeline = pipeline.replace("uses = \"deploy\"", "uses = \"deploy\"\nneeds = [\"push\"]");
            let push = json(&environment, &["plugin", "show", "push-image", "--json"]);
            let push = push["example"].as_str().unwrap().replace("stages.push-image", "stages.push");
            pipeline.push_str(&format!("\n{push}"));
        }
        environment.write("stagewright.toml", &pipeline);
        let validated = environment.run(&["validate"]);
        assert_eq!(validated.code, 0, "{name}: {}{}\n{pipeline}", validated.stdout, validated.stderr);
        let text = environment.run(&["plugin", "show", name]).exits(0).stdout;
        assert!(text.contains("A stage that uses it:"), "{text}");
    }
}

#[test]
fn deploy_is_shown_as_the_plugins_that_it_stands_for() {
    let shown = TestEnvironment::new().run(&["plugin", "show", "deploy"]).exits(2).stderr;
    assert!(shown.contains("stands for the plugin of the target") && shown.contains("deploy-process"), "{shown}");
}

#[test]
fn an_unknown_plugin_is_an_error_that_names_the_known_ones() {
    let shown = TestEnvironment::new().run(&["plugin", "show", "comand"]);
    assert_eq!(shown.code, 4);
    assert!(
        shown.stderr.contains("built-in plugin `comand` not found") && shown.stderr.contains("command"),
        "{shown:?}"
    );
}

#[test]
fn the_schema_has_the_table_of_each_built_in_plugin_and_can_be_written_for_editors() {
    let environment = TestEnvironment::new();
    let schema = json(&environment, &["schema"]);
    for name in BUILTIN {
        let case = &schema["definitions"][format!("uses-{name}")];
        assert_eq!(case["if"]["properties"]["uses"]["const"], name);
        assert!(schema["definitions"][format!("with-{name}")]["properties"].is_object(), "{name}");
    }
    let written = environment.run(&["schema", "--output", "pipelines/schema.json"]).exits(0);
    assert!(written.stdout.contains("#:schema ./schema.json"), "{}", written.stdout);
    assert_eq!(serde_json::from_str::<Json>(&environment.read("pipelines/schema.json")).expect("JSON"), schema);
}

#[test]
fn manual_pages_are_written_for_each_command() {
    let environment = TestEnvironment::new();
    environment.run(&["man", "man1"]).exits(0);
    assert!(environment.read("man1/stagewright-plugin-show.1").contains("stagewright"));
    assert!(environment.read("man1/stagewright.1").contains(".SH NAME"));
}
