//! Cargo's `config.toml`.
//!
//! Tokens, credential providers, proxies (the sandbox has one of its own), variables, aliases, and all keys that aren't
//! listed are left out.

use toml::{Table, Value};

use super::value::{ValueKind, admit, is_known};

/// The form that the value of a key must have to be copied.
enum ValueRule {
    /// A value of this kind, or a list of them.
    Is(ValueKind),
    /// A table with these keys.
    Table(&'static [(&'static str, ValueRule)]),
    /// A table with any keys, each of whose values has this form.
    Each(&'static ValueRule),
    /// The first of these forms that matches.
    Either(&'static [ValueRule]),
}

const SCALAR: ValueRule = ValueRule::Is(ValueKind::Scalar);
const WORD: ValueRule = ValueRule::Is(ValueKind::Word);
const TEXT: ValueRule = ValueRule::Is(ValueKind::Text);
const PROGRAM: ValueRule = ValueRule::Is(ValueKind::Program);
const URL: ValueRule = ValueRule::Is(ValueKind::Url);

static CONFIG: &[(&str, ValueRule)] = &[
    ("build", ValueRule::Table(BUILD)),
    ("cargo-new", ValueRule::Table(&[("vcs", WORD)])),
    ("future-incompat-report", ValueRule::Table(&[("frequency", WORD)])),
    ("http", ValueRule::Table(HTTP)),
    ("net", ValueRule::Table(NET)),
    ("patch", ValueRule::Each(&ValueRule::Each(&ValueRule::Table(PATCH)))),
    ("paths", TEXT),
    ("profile", ValueRule::Each(&ValueRule::Table(PROFILE))),
    ("registries", ValueRule::Each(&ValueRule::Table(&[("index", URL), ("protocol", WORD)]))),
    ("registry", ValueRule::Table(&[("default", WORD), ("index", URL)])),
    ("resolver", ValueRule::Table(&[("feature-unification", WORD), ("incompatible-rust-versions", WORD)])),
    ("source", ValueRule::Each(&ValueRule::Table(SOURCE))),
    ("target", ValueRule::Each(&ValueRule::Table(TARGET))),
    ("term", ValueRule::Table(TERM)),
    ("unstable", ValueRule::Each(&SCALAR)),
];

static BUILD: &[(&str, ValueRule)] = &[
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

static HTTP: &[(&str, ValueRule)] = &[
    ("cainfo", TEXT),
    ("check-revoke", WORD),
    ("low-speed-limit", WORD),
    ("multiplexing", WORD),
    ("ssl-version", ValueRule::Either(&[WORD, ValueRule::Table(&[("max", WORD), ("min", WORD)])])),
    ("timeout", WORD),
];

static NET: &[(&str, ValueRule)] = &[("git-fetch-with-cli", WORD), ("offline", WORD), ("retry", WORD)];

static SOURCE: &[(&str, ValueRule)] = &[
    ("branch", TEXT),
    ("directory", TEXT),
    ("git", URL),
    ("local-registry", TEXT),
    ("registry", URL),
    ("replace-with", TEXT),
    ("rev", WORD),
    ("tag", TEXT),
];

static PATCH: &[(&str, ValueRule)] = &[
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

static PROFILE: &[(&str, ValueRule)] = &[
    ("build-override", ValueRule::Table(OVERRIDE)),
    ("codegen-backend", WORD),
    ("codegen-units", WORD),
    ("debug", WORD),
    ("debug-assertions", WORD),
    ("incremental", WORD),
    ("inherits", WORD),
    ("lto", WORD),
    ("opt-level", WORD),
    ("overflow-checks", WORD),
    ("package", ValueRule::Each(&ValueRule::Table(OVERRIDE))),
    ("panic", WORD),
    ("rpath", WORD),
    ("split-debuginfo", WORD),
    ("strip", WORD),
];

static OVERRIDE: &[(&str, ValueRule)] = &[
    ("codegen-units", WORD),
    ("debug", WORD),
    ("debug-assertions", WORD),
    ("incremental", WORD),
    ("opt-level", WORD),
    ("overflow-checks", WORD),
    ("strip", WORD),
];

static PROGRESS: &[(&str, ValueRule)] = &[("term-integration", SCALAR), ("when", WORD), ("width", SCALAR)];

static TERM: &[(&str, ValueRule)] = &[
    ("color", WORD),
    ("hyperlinks", SCALAR),
    ("progress", ValueRule::Table(PROGRESS)),
    ("quiet", SCALAR),
    ("unicode", SCALAR),
    ("verbose", SCALAR),
];

static TARGET: &[(&str, ValueRule)] =
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

fn is_value_harmless(rule: Option<&ValueRule>, found: &Value) -> bool {
    match (rule, found) {
        (_, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)) => true,
        (Some(ValueRule::Either(rules)), found) => rules.iter().any(|rule| is_value_harmless(Some(rule), found)),
        (Some(ValueRule::Is(kind)), Value::String(text)) => is_known(Some(*kind), text),
        (_, Value::String(text)) => is_known(None, text),
        (Some(ValueRule::Is(ValueKind::Program)), Value::Array(_)) => false,
        (rule, Value::Array(items)) => items.iter().all(|item| is_value_harmless(rule, item)),
        (Some(ValueRule::Table(rules)), Value::Table(found)) => found.iter().all(|(key, found)| {
            let rule = rules.iter().find(|(name, _)| name == key).map(|(_, rule)| rule);
            is_value_harmless(rule, found)
        }),
        (Some(ValueRule::Each(rule)), Value::Table(found)) => {
            found.values().all(|found| is_value_harmless(Some(rule), found))
        }
        (_, Value::Table(found)) => found.values().all(|found| is_value_harmless(None, found)),
    }
}

fn table(rules: &[(&str, ValueRule)], found: &Table) -> Option<Table> {
    let kept = rules.iter().filter_map(|(key, rule)| Some(((*key).to_owned(), value(rule, found.get(*key)?)?)));
    Some(kept.collect::<Table>()).filter(|kept| !kept.is_empty())
}

fn value(rule: &ValueRule, found: &Value) -> Option<Value> {
    match (rule, found) {
        (ValueRule::Is(_), Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => Some(found.clone()),
        (ValueRule::Is(kind), Value::String(text)) => admit(*kind, text).map(Value::String),
        // A program with arguments, which could contain a password.
        (ValueRule::Is(ValueKind::Program), Value::Array(_)) => None,
        (ValueRule::Is(_), Value::Array(items)) => {
            let kept = items.iter().map(|item| match item {
                // A list is copied completely or not at all, since a part of a command could mean something else.
                Value::Array(_) | Value::Table(_) => None,
                item => value(rule, item),
            });
            kept.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (ValueRule::Table(rules), Value::Table(found)) => table(rules, found).map(Value::Table),
        (ValueRule::Each(rule), Value::Table(found)) => {
            // A key can be a URL, as in `[patch."https://host/x"]`.
            let name = |name: &str| admit(ValueKind::Url, name).or_else(|| admit(ValueKind::Text, name));
            let kept = found.iter().filter_map(|(key, found)| Some((name(key)?, value(rule, found)?)));
            Some(kept.collect::<Table>()).filter(|kept| !kept.is_empty()).map(Value::Table)
        }
        (ValueRule::Either(rules), found) => rules.iter().find_map(|rule| value(rule, found)),
        _ => None,
    }
}
