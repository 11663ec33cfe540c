//! Parsing and evaluation of expressions and templates.

use serde_json::{Value as Json, json};
use stagewright_model::{Expression, JsonTemplate, NeedsStatus, Scope, Template};

struct Values {
    roots: Json,
    stages: Json,
    status: NeedsStatus,
}

impl Scope for Values {
    fn root(&self, name: &str) -> Option<Json> {
        self.roots.get(name).cloned()
    }

    fn stage(&self, name: &str) -> Option<Json> {
        self.stages.get(name).cloned()
    }

    fn status(&self) -> NeedsStatus {
        self.status
    }
}

fn values() -> Values {
    Values {
        roots: json!({
            "inputs": { "version": "1.2.3", "replicas": 3, "my-input": "hyphen", "dry": false, "in": "keyword" },
            "matrix": { "my-axis": 7, "os": "linux" },
            "event": { "ref": "refs/tags/v1", "labels": ["a", "b"] },
        }),
        stages: json!({
            "build": { "result": "succeeded", "outputs": { "image": "app", "size-1": 5, "n": 2 } },
            "deploy-staging": { "result": "failed", "outputs": { "url": "http://staging", "my-out": 1 } },
        }),
        status: NeedsStatus::default(),
    }
}

#[track_caller]
fn value(source: &str) -> Json {
    let expression = Expression::parse(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    expression.evaluate(&values()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn failure(source: &str) -> String {
    let expression = Expression::parse(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    expression.evaluate(&values()).expect_err("the evaluation fails").to_string()
}

#[test]
fn values_keep_their_types() {
    assert_eq!(value("inputs.replicas * 2"), json!(6));
    assert_eq!(value("inputs.version + '-rc'"), json!("1.2.3-rc"));
    assert_eq!(value("event.labels.map(x, x + '!')"), json!(["a!", "b!"]));
    assert_eq!(value("{'b': 1, 'a': [null, 1.5, true]}"), json!({ "a": [null, 1.5, true], "b": 1 }));
    assert_eq!(value("event.ref.startsWith('refs/tags/v') && !inputs.dry"), json!(true));
    assert_eq!(value("has(inputs.nope) ? inputs.nope : 'none'"), json!("none"));
}

#[test]
fn maps_are_sorted_by_key() {
    let text = value("{'z': 1, 'y': 2, 'x': 3, 'w': 4, 'v': 5, 'u': 6}").to_string();
    assert_eq!(text, r#"{"u":6,"v":5,"w":4,"x":3,"y":2,"z":1}"#);
}

#[test]
fn hyphens_in_names_are_not_subtractions() {
    assert_eq!(value("stages.deploy-staging.outputs.url"), json!("http://staging"));
    assert_eq!(value("stages['deploy-staging'].outputs.my-out"), json!(1));
    assert_eq!(value("stages.build.outputs.size-1"), json!(5));
    assert_eq!(value("inputs.my-input + string(matrix.my-axis)"), json!("hyphen7"));
    assert_eq!(value("inputs.in"), json!("keyword"));
    assert_eq!(value("has(stages.deploy-staging.outputs.my-out)"), json!(true));
    assert_eq!(value("inputs.replicas - 1"), json!(2));
    assert_eq!(value("5-3"), json!(2));
    assert_eq!(value("stages.build.outputs.n - stages.deploy-staging.outputs.my-out"), json!(1));
}

#[test]
fn extension_functions_are_available() {
    assert_eq!(value("event.labels.join(',')"), json!("a,b"));
    assert_eq!(value("to_json({'a': [1, 'x']})"), json!(r#"{"a":[1,"x"]}"#));
    assert_eq!(value("from_json('{\"a\": [1, 2.5]}').a[1]"), json!(2.5));
    assert_eq!(value("'a-b'.replace('-', '_').upperAscii().split('_')"), json!(["A", "B"]));
    assert!(failure("from_json('{')").contains("`from_json`: EOF"), "{}", failure("from_json('{')"));
}

#[test]
fn every_listed_function_exists() {
    for call in [
        "bool('true')",
        "size(bytes('a'))",
        "'a'.charAt(0)",
        "'a'.contains('a')",
        "double(1)",
        "dyn(1)",
        "'a'.endsWith('a')",
        "'%s'.format(['a'])",
        "optional.of(1).hasValue()",
        "'a'.indexOf('a')",
        "int('1')",
        "'a'.lastIndexOf('a')",
        "'A'.lowerAscii()",
        "'a'.matches('a')",
        "optional.none().hasValue()",
        "optional.ofNonZeroValue(1).value()",
        "optional.none().or(optional.of(1)).value()",
        "optional.none().orValue(1)",
        "strings.quote('a')",
        "'a'.reverse()",
        "size('a')",
        "'a'.startsWith('a')",
        "string(1)",
        "'ab'.substring(1)",
        "' a '.trim()",
        "type(1) == int",
        "uint(1)",
        "[1].exists(x, x == 1)",
        "[1].all(x, x == 1)",
        "[1].exists_one(x, x == 1)",
        "[1].filter(x, x == 1)",
    ] {
        value(call);
    }
}

#[test]
fn status_functions_depend_on_the_needs() {
    let answers = |failed, cancelled| {
        let scope = Values { status: NeedsStatus { failed, cancelled }, ..values() };
        ["success()", "failure()", "cancelled()", "always()"]
            .map(|call| Expression::parse(call).and_then(|call| call.holds(&scope).map_err(|e| (e.reason, 0))))
            .map(|answer| answer.unwrap_or_else(|error| panic!("{error:?}")))
    };
    assert_eq!(answers(false, false), [true, false, false, true]);
    assert_eq!(answers(true, false), [false, true, false, true]);
    assert_eq!(answers(false, true), [false, false, true, true]);
    assert_eq!(answers(true, true), [false, false, true, true]);
    let calls_status = |source| Expression::parse(source).map(|expression| expression.calls_status());
    assert_eq!(calls_status("inputs.dry || failure()"), Ok(true));
    assert_eq!(calls_status("inputs.dry"), Ok(false));
}

#[test]
fn variables_of_macros_are_not_collected() {
    let source = "event.labels.exists(inputs2, inputs2 == inputs.version) && stages.a-b.result == stages['c'].result \
                  && type(git.sha) == string && [1].all(event, event > 0)";
    let expression = Expression::parse(source).expect("it parses");
    assert_eq!(expression.roots().iter().collect::<Vec<_>>(), ["event", "git", "inputs", "stages"]);
    assert_eq!(expression.stages().iter().collect::<Vec<_>>(), ["a-b", "c"]);
}

#[test]
fn parse_errors_have_a_reason_and_an_offset() {
    let cases: &[(&str, &str, usize)] = &[
        ("", "an expression is expected here", 0),
        ("a ==", "it ends where more is expected", 4),
        ("inputs.a == = 1", "`=` is not expected here", 12),
        ("stages.a-b.result = 'x'", "`=` is not expected here", 18),
        ("event.ref.startswith('x')", "unknown function `startswith`; did you mean `startsWith`?", 20),
        ("sucess()", "unknown function `sucess`; did you mean `success`?", 6),
        ("size(stages)", "name the stage literally, as in `stages.build` or `stages[\"build\"]`", 5),
        ("stages[inputs.which].result", "name the stage literally, as in `stages.build` or `stages[\"build\"]`", 0),
        ("success('build')", "`success()` takes no arguments", 7),
        ("'é' + 'abc", "a string is never closed", 7),
    ];
    for (source, reason, offset) in cases {
        let error = Expression::parse(source).expect_err(source);
        assert_eq!((error.0.as_str(), error.1), (*reason, *offset), "{source}");
    }
}

#[test]
fn evaluation_errors_name_the_reason() {
    assert_eq!(failure("inputs.nope"), "`inputs.nope`: `nope` does not exist");
    assert_eq!(failure("env.PATH"), "`env.PATH`: `env` has no value here");
    assert_eq!(failure("stages.later.result"), "`stages.later.result`: `later` does not exist");
    assert_eq!(failure("inputs.replicas / 0"), "`inputs.replicas / 0`: it divides by zero");
    assert_eq!(failure("event.labels[9]"), "`event.labels[9]`: the list has no item 9");
    let condition = Expression::parse("inputs.version").expect("it parses");
    let error = condition.holds(&values()).expect_err("it is a string").to_string();
    assert_eq!(error, "`inputs.version`: a condition must be true or false, but this is \"1.2.3\"");
}

#[track_caller]
fn rendered(text: &str) -> Json {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    template.evaluate(&values()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn single_expression_in_template_keeps_its_type() {
    assert_eq!(rendered("${{ inputs.replicas }}"), json!(3));
    assert_eq!(rendered("${{event.labels}}"), json!(["a", "b"]));
    assert_eq!(rendered("n=${{ inputs.replicas }}"), json!("n=3"));
    assert_eq!(rendered("${{ inputs.version }}@${{ inputs.dry }}${{ null }}."), json!("1.2.3@false."));
    assert_eq!(rendered("plain }} text $ {{"), json!("plain }} text $ {{"));
}

#[test]
fn second_dollar_escapes_the_marker() {
    assert_eq!(rendered("$${{ inputs.version }}"), json!("${{ inputs.version }}"));
    assert_eq!(rendered("a $${{ b }} ${{ inputs.version }}"), json!("a ${{ b }} 1.2.3"));
}

#[test]
fn strings_and_maps_in_templates_can_contain_braces() {
    assert_eq!(rendered("${{ '}}' + \"}}\" }}!"), json!("}}}}!"));
    assert_eq!(rendered("${{ {'a': {'b': 1}} }}"), json!({ "a": { "b": 1 } }));
    assert_eq!(rendered("${{ {'a': {'b': 1}}['a']['b'] }}"), json!(1));
}

#[test]
fn template_errors_have_an_offset() {
    let (reason, offset) = Template::parse("ab ${{ inputs.a").expect_err("it isn't closed");
    assert!(reason.starts_with("`${{` is never closed"), "{reason}");
    assert_eq!(offset, 3);
    let (_, offset) = Template::parse("ab ${{  inputs.a = 1 }}").expect_err("it isn't valid CEL");
    assert_eq!(offset, 17);
    let (reason, offset) = Template::parse("${{ }}").expect_err("it is empty");
    assert_eq!((reason.as_str(), offset), ("an expression is expected here", 4));
}

#[test]
fn json_template_is_evaluated_at_every_depth() {
    let with = json!({ "a": ["x", "${{ inputs.replicas }}", { "b": "v${{ inputs.version }}" }], "n": 1, "z": null });
    let expected = json!({ "a": ["x", 3, { "b": "v1.2.3" }], "n": 1, "z": null });
    let with = JsonTemplate::parse(with).unwrap();
    assert_eq!(with.evaluate(&values()), Ok(expected));
}

/// None of these may panic.
#[test]
fn edge_cases_give_an_error_or_a_value() {
    for source in [
        "-9223372036854775807 - 2",
        "(-9223372036854775807 - 1) / -1",
        "(-9223372036854775807 - 1) % -1",
        "-(-9223372036854775807 - 1)",
        "9223372036854775807 * 2",
        "int(1e300)",
        "uint(-1)",
        "int(double('nan'))",
        "string(1.0 / 0.0)",
        "'x'.matches('(')",
        "'%s %d'.format([])",
        "'%d'.format(['x'])",
        "'%.99999999999f'.format([1.0])",
        "'é'.substring(1, 0)",
        "'é'.substring(-1)",
        "'é'.charAt(9)",
        "'é'.indexOf('é', 7)",
        "'é'.replace('', 'x', 99)",
        "'a,b'.split('', -1)",
        "[1, 2][-1]",
        "[1, 2][1.5]",
        "{1: 2}['x']",
        "{'a': 1, 'a': 2}",
        "optional.none().value()",
        "null.x",
        "[1].map(x, x.y)",
        "from_json('[')",
        "to_json(b'a')",
        "type(1)",
    ] {
        if let Ok(expression) = Expression::parse(source) {
            let _ = expression.evaluate(&values());
        }
    }
}

#[test]
fn documented_examples_have_the_documented_values() {
    let document = include_str!("../../../../docs/expressions.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let mut checked = 0;
    for row in rows {
        let [_, example, expected] = row.split(" | ").collect::<Vec<_>>()[..] else { continue };
        let (Some(example), Some(expected)) = (code(example), code(expected)) else { continue };
        assert_eq!(value(example), value(expected), "{example}");
        checked += 1;
    }
    assert!(checked >= 10, "{checked} examples");
}

/// The code that a cell begins with.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.split_once('`').map(|(code, _)| code)
}
