//! Parsers don't panic on arbitrary text.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use stagewright_model::{Expression, NeedsStatus, Plan, Scope, Template};

use crate::plugins;

/// A scope with few values.
struct Nothing;

impl Scope for Nothing {
    fn root(&self, name: &str) -> Option<Json> {
        (name == "x").then(|| json!(1))
    }

    fn stage(&self, _: &str) -> Option<Json> {
        Some(json!("x"))
    }

    fn status(&self) -> NeedsStatus {
        NeedsStatus::default()
    }
}

/// Fragments that are difficult for parsers, in any order.
fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![4 => proptest::sample::select(of), 1 => Just("é")], 0..40)
        .prop_map(|pieces| pieces.concat())
}

const CEL: &[&str] = &[
    "stages",
    ".",
    "inputs",
    "a-b",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "'",
    "\"",
    "'''",
    "`",
    "\\",
    "x",
    "1",
    "0x",
    "1e9",
    "u",
    "-",
    "!",
    "?",
    ":",
    ",",
    "&&",
    "||",
    "==",
    "<",
    " in ",
    "has(",
    ".map(",
    "null",
    "r'",
    "b\"",
    "//",
    "\n",
    " ",
    "${{",
    "}}",
    "$",
    "success()",
    "99999999999999999999",
    "\u{0}",
];

const TOML: &[&str] = &[
    "[stages.a]",
    "[stages.b]",
    "[stages]",
    "[finally.c]",
    "[inputs.x]",
    "[pipeline]",
    "[[stages]]",
    "\n",
    "\n",
    "=",
    "uses",
    "needs",
    "matrix",
    "with",
    "if",
    "env",
    "permissions",
    " = ",
    "'noop'",
    "\"${{ stages.a.x }}\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "1",
    "1.5",
    "nan",
    "true",
    "1979-05-27",
    "\"",
    "'",
    "schema = 1",
    "name = 'x'",
    ".",
    "include",
    "a",
    "'a'",
    "retry",
    "timeout",
    "'1h'",
    "#",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn expressions_and_templates_never_panic(text in pieces(CEL)) {
        for text in [text.clone(), format!("${{{{ {text} }}}}")] {
            match Expression::parse(&text) {
                Ok(expression) => {
                    let _ = expression.evaluate(&Nothing);
                }
                Err((_, offset)) => prop_assert!(text.is_char_boundary(offset), "{offset} in {text:?}"),
            }
            if let Err((_, offset)) = Template::parse(&text) {
                prop_assert!(text.is_char_boundary(offset), "{offset} in {text:?}");
            }
        }
    }

    #[test]
    fn files_never_panic(text in pieces(TOML), noise in ".{0,40}") {
        for text in [&text, &noise, &format!("schema = 1\npipeline.name = 'x'\n{text}")] {
            if let Err(diagnostics) = Plan::parse("x.toml", text, &plugins()) {
                prop_assert!(diagnostics.iter().any(|diagnostic| !diagnostic.is_warning()));
                for diagnostic in &diagnostics {
                    let span = diagnostic.span();
                    prop_assert!(text.get(span.start..span.end).is_some(), "{span:?} in {text:?}");
                    diagnostic.position();
                }
            }
        }
    }
}

/// These must not overflow the stack of a thread.
#[test]
fn deep_and_long_expressions_are_rejected_or_parsed() {
    let texts = [
        "(".repeat(10_000),
        "[".repeat(23) + &"]".repeat(23),
        "!".repeat(256) + "true",
        "-".repeat(5_000) + "1",
        "a".to_owned() + &".b".repeat(255),
        vec!["1"; 250].join("+"),
        vec!["true ? 1 "; 120].join(":") + ": 2",
        vec!["a"; 120].join("&&"),
        "{'a':".repeat(24) + "1" + &"}".repeat(24),
        "x".repeat(100_000),
        "1".to_owned() + &"+1".repeat(50_000),
        "a".to_owned() + &".b".repeat(50_000),
    ];
    for text in texts {
        let _ = Expression::parse(&text).map(|expression| expression.evaluate(&Nothing));
        let _ = Template::parse(&format!("${{{{{text}}}}}"));
    }
}

/// Without a budget, each of these would exhaust the memory or take years.
#[test]
fn expressions_beyond_the_budget_fail() {
    let chain = |start: &str, link: &str, count| start.to_owned() + &link.repeat(count);
    let ten = "[1,1,1,1,1,1,1,1,1,1]";
    let nested = (0..8).fold("1".to_owned(), |inner, _| format!("{ten}.map(v, {inner})"));
    let searched = (0..8).fold("false".to_owned(), |inner, _| format!("{ten}.exists(v, {inner})"));
    let texts = [
        nested,
        searched,
        chain("['abcdefgh']", ".map(v, v + v)", 30) + "[0]",
        chain("[1]", ".map(v, [v, v])", 40),
        chain("[{'a': 1}]", ".map(v, {'a': v, 'b': v})", 40),
        chain("'abcdefgh'", ".replace('', 'abcdefgh')", 20),
        chain("'abcdefgh'", ".replace('', 'abcdefgh', -1)", 20),
        chain("'aaaaaaaa'", ".split('').join('aaaaaaaa')", 20),
        // Gigabytes in one step.
        chain("['abcdefgh']", ".map(v, v + v)", 14) + ".map(v, v.replace('', v))",
        "to_json(".repeat(22) + r#"'"'"# + &")".repeat(22),
        chain("['x']", ".map(v, '%s%s%s%s'.format([v, v, v, v]))", 15),
    ];
    for text in texts {
        let expression = Expression::parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let error = expression.evaluate(&Nothing).expect_err("it is too large");
        assert_eq!(error.reason, "its values take more than 1048576 bytes", "{text}");
    }
}

#[test]
fn large_expression_within_the_budget_is_evaluated() {
    let hundred = format!("[{}]", ["1"; 100].join(","));
    let all = Expression::parse(&format!("{hundred}.map(a, {hundred}.map(b, a + b)).all(row, size(row) == 100)"));
    assert_eq!(all.map(|all| all.evaluate(&Nothing)), Ok(Ok(json!(true))));
}
