//! Expressions inside of code that stages execute.

use serde_json::{Value as Json, json};
use stagewright_model::{Diagnostic, Plan};

use crate::{file, plan, render};

/// The schema in the manifest of `command`.
fn schema() -> Json {
    json!({ "properties": {
        "run": { "x-stagewright-code": "text" },
        "argv": { "x-stagewright-code": "argv" },
        "stdin": { "x-stagewright-code": "stdin" },
    } })
}

fn check(text: &str, schema: &Json) -> Vec<Diagnostic> {
    let plan: Plan = plan(text);
    let schemas = plan.stages.iter().map(|_| schema);
    plan.check_code("stagewright.toml", text, schemas).err().into_iter().flatten().collect()
}

const HEAD: &str = r#"
[inputs.title]
type = "string"
default = "x"
[inputs.count]
type = "number"
default = 1
[inputs.fast]
type = "boolean"
default = true
[inputs.level]
type = "choice"
options = ["debug", "release"]
default = "debug"
[env]
KNOWN = "a ${{ inputs.count }}"
BRANCH = "${{ git.branch }}"
[stages.first]
uses = "noop"
"#;

/// The errors about a `with` table of a stage that needs `first`.
fn found(with: &str) -> Vec<Diagnostic> {
    let text = file(&format!(
        "{HEAD}\n[stages.code]\nuses = \"exec\"\nneeds = [\"first\"]\nmatrix = {{ os = [\"a\", \"b\"] }}\nwith = {with}\n"
    ));
    check(&text, &schema())
}

#[track_caller]
fn refused(with: &str, expression: &str) {
    match &found(with)[..] {
        [one] => {
            assert_eq!(one.code(), "stagewright::expression-in-code");
            assert!(one.message().contains(&format!("`{expression}`")), "{one}");
        }
        other => panic!("{with}: {other:?}"),
    }
}

#[track_caller]
fn allowed(with: &str) {
    let found = found(with);
    assert!(found.is_empty(), "{with}: {}", render(&found));
}

#[test]
fn text_from_outside_of_the_file_is_rejected_in_code() {
    for expression in [
        "git.branch",
        "git.commit",
        "event.ref",
        "inputs.title",
        "inputs.count + inputs.title",
        "stages.first.outputs.name",
        "string(inputs.title)",
        "inputs.fast ? inputs.title : 'x'",
        "env.BRANCH",
        "to_json(inputs)",
        "from_json(stages.first.outputs.json).n",
        "['a', git.tag].join(' ')",
    ] {
        refused(&format!(r#"{{ run = "echo ${{{{ {expression} }}}} done" }}"#), expression);
        refused(&format!(r#"{{ run = "${{{{ {expression} }}}}" }}"#), expression);
    }
}

#[test]
fn values_fixed_by_the_file_are_allowed_in_code() {
    for expression in [
        "inputs.count",
        "inputs.fast",
        "inputs.level",
        "matrix.os",
        "matrix.os + '-' + inputs.level",
        "inputs.fast ? '--release' : ''",
        "git.branch == 'main'",
        "git.branch == 'main' ? 'stable' : 'dev'",
        "{'main': 'stable'}[git.branch]",
        "git.dirty",
        "size(inputs.title)",
        "int(stages.first.outputs.n)",
        "stages.first.result",
        "run.id",
        "pipeline.name",
        "env.KNOWN",
    ] {
        allowed(&format!(r#"{{ run = "echo ${{{{ {expression} }}}}" }}"#));
    }
    allowed(r#"{ run = "echo $${{ git.branch }}", other = "${{ git.branch }}", env = { A = "${{ git.branch }}" } }"#);
}

#[test]
fn code_of_an_interpreter_is_checked_in_any_list() {
    refused(r#"{ argv = ["bash", "-euc", "echo ${{ git.branch }}"] }"#, "git.branch");
    refused(r#"{ argv = ["docker", "exec", "x", "python3", "-c", "print('${{ git.branch }}')"] }"#, "git.branch");
    // A key that the plugin doesn't mark.
    refused(r#"{ image = { entrypoint = ["sh", "-c", "serve ${{ inputs.title }}"] } }"#, "inputs.title");
    refused(r#"{ argv = "${{ from_json(inputs.title) }}" }"#, "from_json(inputs.title)");
    allowed(r#"{ argv = ["sh", "-c", "echo \"$1\"", "sh", "${{ git.branch }}"] }"#);
    allowed(r#"{ argv = ["git", "checkout", "${{ git.branch }}"] }"#);
    allowed(r#"{ argv = ["sh", "-c", "echo ${{ inputs.count }}"] }"#);
}

#[test]
fn standard_input_of_an_interpreter_is_code() {
    refused(r#"{ argv = ["sh"], stdin = "echo ${{ git.branch }}" }"#, "git.branch");
    refused(r#"{ argv = ["bash", "-s", "x"], stdin = "echo ${{ git.branch }}" }"#, "git.branch");
    allowed(r#"{ argv = ["cat"], stdin = "echo ${{ git.branch }}" }"#);
    allowed(r#"{ argv = ["sh", "-c", "cat"], stdin = "${{ git.branch }}" }"#);
}

#[test]
fn error_has_the_place_and_suggests_a_replacement() {
    let text = file("[stages.a]\nuses = \"exec\"\nwith.run = \"\"\"\nset -e\necho ${{ git.branch }}\n\"\"\"\n");
    let found = check(&text, &schema());
    assert_eq!(found.iter().map(Diagnostic::position).collect::<Vec<_>>(), [(8, 10)]);
    let shown = render(&found);
    for part in
        ["with.run of [stages.a]", r#"env = { BRANCH = "${{ git.branch }}" }"#, r#""$BRANCH""#, "stagewright.toml:8:10"]
    {
        assert!(
            shown.split_whitespace().collect::<String>().contains(&part.replace(' ', "")),
            "{part} isn't in\n{shown}"
        );
    }
}

#[test]
fn matrix_is_reported_once_and_unmarked_keys_are_not_code() {
    let text = file("[stages.a]\nuses = \"exec\"\nwith.run = \"${{ git.tag }}\"\nmatrix.n = [1, 2, 3]\n");
    assert_eq!(check(&text, &schema()).len(), 1);
    assert_eq!(check(&text, &Json::Null).len(), 0);
}

#[test]
fn executed_variables_are_code() {
    let text = |table: &str, value: &str| file(&format!("{HEAD}\n[stages.code]\nuses = \"exec\"\n{table} = {value}\n"));
    for (table, place) in [("env", "env"), ("with", "with.env")] {
        let value = r#"{ BASH_ENV = "x ${{ git.branch }}", GIT_BRANCH = "${{ git.branch }}" }"#;
        let value = if table == "with" { format!("{{ env = {value} }}") } else { value.to_owned() };
        let [one] = &check(&text(table, &value), &schema())[..] else { panic!("{table}: not rejected") };
        assert!(one.message().starts_with(&format!("{place}.BASH_ENV of [stages.code] is executed")), "{one}");
    }
    assert_eq!(check(&text("env", r#"{ PATH = "/opt/${{ inputs.level }}/bin" }"#), &schema()).len(), 0);
}

#[test]
fn code_of_a_rehearsal_is_checked() {
    let text = file(&format!(
        "{HEAD}\n[stages.code]\nuses = \"exec\"\nwith = {{ run = \"true\" }}\n\
         rehearse = {{ with = {{ run = \"echo ${{{{ git.branch }}}}\" }} }}\n"
    ));
    let [one] = &check(&text, &schema())[..] else { panic!("not rejected") };
    assert!(one.message().starts_with("rehearse.with.run of [stages.code] is executed"), "{one}");
}
