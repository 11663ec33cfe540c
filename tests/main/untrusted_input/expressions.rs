//! Outputs of a stage are data: they are never evaluated as expressions, run by a shell or converted to another type.

use super::{Ended, attack, pipeline, repository, run};
use crate::environment::{outcomes, text};

/// Runs a stage whose output is a file's content, and another stage that uses the output. The value comes from a file,
/// because in the pipeline itself `${{ }}` would be an expression.
fn downstream(value: &str, stage: &str) -> Ended {
    let environment = repository();
    environment.write("open/poison", value);
    let action = r#"do = "say", place = "output", text = "{}", file = "open/poison""#;
    let after = format!("\n[stages.after]\nneeds = [\"stranger\"]\n{stage}\n");
    environment.write("stagewright.toml", &(pipeline(&[action], "", "read = [\"open\"]") + &after));
    let ended = run(&environment);
    assert_eq!(ended.ended("stranger")["outputs"]["said"], value);
    assert!(!environment.root().join("pwned").exists(), "{value} was executed");
    ended
}

const POISON: [&str; 9] = [
    "${{ stages.stranger.outputs.answers }}",
    "${{ 1 + 1 }} }} ${{",
    "' || true || '",
    "\"; touch pwned; \"",
    "$(touch pwned) `touch pwned`",
    "line\nTOKEN=x\n::set-output name=x::y",
    r#"{"answers": ["a"]}"#,
    "__proto__",
    "null",
];

#[test]
fn text_like_an_expression_is_passed_on_unchanged() {
    let noop = "uses = \"noop\"\nwith.outputs.got = \"${{ stages.stranger.outputs.said }}\"";
    let echo = "uses = \"command\"\nenv.V = \"${{ stages.stranger.outputs.said }}\"\n\
                with = { run = 'printf %s \"$V\"', capture = \"got\" }\n\
                permissions = { process = [\"sh\"], write = [\".\"] }";
    for value in POISON {
        for stage in [noop, echo] {
            assert_eq!(text(&downstream(value, stage).ended("after")["outputs"]["got"]), value, "{stage}");
        }
    }
}

#[test]
fn conditions_compare_outputs_as_data() {
    let condition = "uses = \"noop\"\nif = \"stages.stranger.outputs.said == 'yes'\"";
    for (value, outcome) in [
        ("yes", "succeeded"),
        ("yes' || 'a' == 'a", "skipped"),
        ("true", "skipped"),
        ("YES", "skipped"),
        ("yes ", "skipped"),
        ("${{ 'yes' }}", "skipped"),
    ] {
        assert_eq!(outcomes(&downstream(value, condition).events)["after"], outcome, "{value}");
    }
}

#[test]
fn a_condition_of_another_type_is_not_true() {
    for value in ["true", "1", "[\"yes\"]", "{ a = \"yes\" }", "'true'"] {
        let environment = repository();
        let action = format!(r#"do = "output", name = "v", value = {value}"#);
        for (condition, yes) in
            [("stages.stranger.outputs.v == 'yes'", None), ("stages.stranger.outputs.v", Some("true"))]
        {
            let after = format!("\n[stages.after]\nneeds = [\"stranger\"]\nuses = \"noop\"\nif = \"{condition}\"\n");
            environment.write("stagewright.toml", &(pipeline(&[&action], "", "") + &after));
            let outcome = outcomes(&run(&environment).events)["after"].clone();
            assert_eq!(outcome == "succeeded", yes == Some(value), "{condition}, {value}: {outcome}");
        }
    }
}

#[test]
fn a_nul_character_is_never_passed_to_a_program() {
    let stage = "uses = \"command\"\nenv.V = \"${{ stages.stranger.outputs.said }}\"\n\
                 with = { run = 'printf %s \"$V\"' }\npermissions = { process = [\"sh\"] }";
    let ended = downstream("a\0b", stage);
    let after = ended.ended("after");
    assert!(after["outcome"] != "succeeded" && !after["failure"]["message"].is_null(), "{after:#}");
}

#[test]
fn an_output_has_one_value_a_plain_name_and_a_size() {
    let environment = repository();
    let set = |name: &str, value: &str| format!(r#"do = "output", name = "{name}", value = {value}"#);
    let long = format!("'{}'", "y".repeat(2 << 20));
    let actions = [
        set("v", "'first'"),
        set("v", "'last'"),
        set("__proto__", "'x'"),
        set("a b", "1"),
        set("", "1"),
        set("a/../b", "1"),
        set("a\\u0000", "1"),
        set("é", "1"),
        set("long", &long),
    ];
    let ended = attack(&environment, &actions.each_ref().map(String::as_str), "");
    let invalid = "ErrorCode::InvalidArgument";
    let expected =
        ["done", "done", "done", invalid, invalid, invalid, invalid, invalid, "ErrorCode::ResourceExhausted"];
    assert_eq!(ended.answers(), expected);
    assert_eq!(ended.ended("stranger")["outputs"]["v"], "last");
}

/// A branch, an input and an output with a command, used in every key whose text is executed.
#[test]
fn text_from_outside_is_refused_in_what_is_executed() {
    for with in [
        r#"run = "echo ${{ git.branch }}""#,
        r#"run = "echo ${{ inputs.title }}""#,
        r#"run = "echo ${{ stages.first.outputs.said }}""#,
        r#"argv = ["sh", "-ec", "echo ${{ git.branch }}"]"#,
        r#"argv = ["env", "A=1", "bash", "-c", "echo ${{ git.branch }}"]"#,
        r#"argv = ["sh"], stdin = "echo ${{ inputs.title }}""#,
    ] {
        let environment = repository();
        environment.write(
            "stagewright.toml",
            &format!(
                "schema = 1\npipeline.name = \"p\"\n[inputs.title]\ndefault = \"$(touch pwned)\"\n\
                 [stages.first]\nuses = \"noop\"\nwith.outputs.said = \"$(touch pwned)\"\n\
                 [stages.shell]\nneeds = [\"first\"]\nuses = \"command\"\nwith = {{ {with} }}\n\
                 permissions = {{ process = [\"*\"], write = [\".\"] }}\n"
            ),
        );
        for command in [&["validate"][..], &["plan"], &["run"]] {
            let refused = environment.run(command).exits(3);
            let shown = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in ["stagewright.toml:11:", "[stages.shell]", "expression-in-code", "env = {"] {
                assert!(shown.contains(part), "{command:?} of {with} lacks {part:?}: {}", refused.stderr);
            }
        }
        assert!(!environment.root().join("pwned").exists(), "{with}");
    }
}
