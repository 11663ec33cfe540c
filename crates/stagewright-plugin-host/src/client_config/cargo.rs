//! Cargo's `config.toml`.
//!
//! Tokens, credential providers, proxies (the sandbox has one of its own), variables, aliases, and all keys that aren't
//! listed are left out.

use toml::{Table, Value};

use super::value::{Kind, admit, is_known};

/// The form that the value of a key must have to be copied.
enum Rule {
    /// A value of this kind, or a list of them.
    Is(Kind),
    /// A table with these keys.
    Table(&'static [(&'static str, Rule)]),
    /// A table with any keys, each of whose values has this form.
    Each(&'static Rule),
    /// The first of these forms that matches.
    Either(&'static [Rule]),
}

const SCALAR: Rule = Rule::Is(Kind::Scalar);
const WORD: Rule = Rule::Is(Kind::Word);
const TEXT: Rule = Rule::Is(Kind::Text);
const PROGRAM: Rule = Rule::Is(Kind::Program);
const URL: Rule = Rule::Is(Kind::Url);

static CONFIG: &[(&str, Rule)] = &[
    ("build", Rule::Table(BUILD)),
    ("cargo-new", Rule::Table(&[("vcs", WORD)])),
    ("future-incompat-report", Rule::Table(&[("frequency", WORD)])),
    ("http", Rule::Table(HTTP)),
    ("net", Rule::Table(NET)),
    ("patch", Rule::Each(&Rule::Each(&Rule::Table(PATCH)))),
    ("paths", TEXT),
    ("profile", Rule::Each(&Rule::Table(PROFILE))),
    ("registries", Rule::Each(&Rule::Table(&[("index", URL), ("protocol", WORD)]))),
    ("registry", Rule::Table(&[("default", WORD), ("index", URL)])),
    ("resolver", Rule::Table(&[("feature-unification", WORD), ("incompatible-rust-versions", WORD)])),
    ("source", Rule::Each(&Rule::Table(SOURCE))),
    ("target", Rule::Each(&Rule::Table(TARGET))),
    ("term", Rule::Table(TERM)),
    ("unstable", Rule::Each(&SCALAR)),
];

static BUILD: &[(&str, Rule)] = &[
    ("build-dir", TEXT),
    ("dep-info-basedir", TEXT),
    ("incremental", WORD),
    ("jobs", WORD),
    ("rustc", PROGRAM),
    ("rustc-wrapper", PROGRAM),
    ("rustc-workspace-wrapper", PROGRAM),
    ("rustdoc", PROGRAM),
    ("rustdocflags", TEXT),
    ("rustflags", TEXT),
    ("target", TEXT),
    ("target-dir", TEXT),
];

static HTTP: &[(&str, Rule)] = &[
    ("cainfo", TEXT),
    ("check-revoke", WORD),
    ("low-speed-limit", WORD),
    ("multiplexing", WORD),
    ("ssl-version", Rule::Either(&[WORD, Rule::Table(&[("max", WORD), ("min", WORD)])])),
    ("timeout", WORD),
];

static NET: &[(&str, Rule)] = &[("git-fetch-with-cli", WORD), ("offline", WORD), ("retry", WORD)];

static SOURCE: &[(&str, Rule)] = &[
    ("branch", TEXT),
    ("directory", TEXT),
    ("git", URL),
    ("local-registry", TEXT),
    ("registry", URL),
    ("replace-with", TEXT),
    ("rev", WORD),
    ("tag", TEXT),
];

static PATCH: &[(&str, Rule)] = &[
    ("branch", TEXT),
    ("default-features", WORD),
    ("features", WORD),
    ("git", URL),
    ("package", WORD),
    ("path", TEXT),
    ("registry", WORD),
    ("rev", WORD),
    ("tag", TEXT),
    ("version", TEXT),
];

static PROFILE: &[(&str, Rule)] = &[
    ("build-override", Rule::Table(OVERRIDE)),
    ("codegen-backend", WORD),
    ("codegen-units", WORD),
    ("debug", WORD),
    ("debug-assertions", WORD),
    ("incremental", WORD),
    ("inherits", WORD),
    ("lto", WORD),
    ("opt-level", WORD),
    ("overflow-checks", WORD),
    ("package", Rule::Each(&Rule::Table(OVERRIDE))),
    ("panic", WORD),
    ("rpath", WORD),
    ("split-debuginfo", WORD),
    ("strip", WORD),
];

static OVERRIDE: &[(&str, Rule)] = &[
    ("codegen-units", WORD),
    ("debug", WORD),
    ("debug-assertions", WORD),
    ("incremental", WORD),
    ("opt-level", WORD),
    ("overflow-checks", WORD),
    ("strip", WORD),
];

static PROGRESS: &[(&str, Rule)] = &[("term-integration", SCALAR), ("when", WORD), ("width", SCALAR)];

static TERM: &[(&str, Rule)] = &[
    ("color", WORD),
    ("hyperlinks", SCALAR),
    ("progress", Rule::Table(PROGRESS)),
    ("quiet", SCALAR),
    ("unicode", SCALAR),
    ("verbose", SCALAR),
];

static TARGET: &[(&str, Rule)] =
    &[("ar", PROGRAM), ("linker", PROGRAM), ("runner", PROGRAM), ("rustdocflags", TEXT), ("rustflags", TEXT)];

/// The copy of a file's text; empty for invalid TOML.
pub(super) fn copy(text: &str) -> String {
    let Ok(config) = text.parse::<Table>() else { return String::new() };
    table(CONFIG, &config).map(|kept| kept.to_string()).unwrap_or_default()
}

/// Whether no value could be a credential. Aliases and variables aren't copied, but they are common in a repository's
/// configuration, and harmless unless they are named like a credential.
pub(super) fn is_harmless(text: &str) -> bool {
    let Ok(config) = text.parse::<Table>() else { return false };
    config.iter().all(|(key, found)| match key.as_str() {
        "alias" => !found.to_string().contains("token"),
        "env" => found.as_table().is_some_and(|variables| variables.keys().all(|name| is_plain_variable(name))),
        key => {
            let rule = CONFIG.iter().find(|(name, _)| *name == key).map(|(_, rule)| rule);
            is_value_harmless(rule, found)
        }
    })
}

fn is_plain_variable(name: &str) -> bool {
    const WORDS: [&str; 6] = ["AUTH", "CREDENTIAL", "KEY", "PASS", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    !WORDS.iter().any(|word| name.contains(word))
}

fn is_value_harmless(rule: Option<&Rule>, found: &Value) -> bool {
    match (rule, found) {
        (_, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)) => true,
        (Some(Rule::Either(rules)), found) => rules.iter().any(|rule| is_value_harmless(Some(rule), found)),
        (Some(Rule::Is(kind)), Value::String(text)) => is_known(Some(*kind), text),
        (_, Value::String(text)) => is_known(None, text),
        (Some(Rule::Is(Kind::Program)), Value::Array(_)) => false,
        (rule, Value::Array(items)) => items.iter().all(|item| is_value_harmless(rule, item)),
        (Some(Rule::Table(rules)), Value::Table(found)) => found.iter().all(|(key, found)| {
            let rule = rules.iter().find(|(name, _)| name == key).map(|(_, rule)| rule);
            is_value_harmless(rule, found)
        }),
        (Some(Rule::Each(rule)), Value::Table(found)) => {
            found.values().all(|found| is_value_harmless(Some(rule), found))
        }
        (_, Value::Table(found)) => found.values().all(|found| is_value_harmless(None, found)),
    }
}

fn table(rules: &[(&str, Rule)], found: &Table) -> Option<Table> {
    let kept = rules.iter().filter_map(|(key, rule)| Some(((*key).to_owned(), value(rule, found.get(*key)?)?)));
    Some(kept.collect::<Table>()).filter(|kept| !kept.is_empty())
}

fn value(rule: &Rule, found: &Value) -> Option<Value> {
    match (rule, found) {
        (Rule::Is(_), Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => Some(found.clone()),
        (Rule::Is(kind), Value::String(text)) => admit(*kind, text).map(Value::String),
        // A program with arguments, which could contain a password.
        (Rule::Is(Kind::Program), Value::Array(_)) => None,
        (Rule::Is(_), Value::Array(items)) => {
            let kept = items.iter().map(|item| match item {
                // A list is copied completely or not at all, since a part of a command could mean something else.
                Value::Array(_) | Value::Table(_) => None,
                item => value(rule, item),
            });
            kept.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (Rule::Table(rules), Value::Table(found)) => table(rules, found).map(Value::Table),
        (Rule::Each(rule), Value::Table(found)) => {
            // A key can be a URL, as in `[patch."https://host/x"]`.
            let name = |name: &str| admit(Kind::Url, name).or_else(|| admit(Kind::Text, name));
            let kept = found.iter().filter_map(|(key, found)| Some((name(key)?, value(rule, found)?)));
            Some(kept.collect::<Table>()).filter(|kept| !kept.is_empty()).map(Value::Table)
        }
        (Rule::Either(rules), found) => rules.iter().find_map(|rule| value(rule, found)),
        _ => None,
    }
}
