//! From the `with` table's JSON to a typed configuration, or to a diagnostic that names the key.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::Segment;

use crate::{Diagnostic, Error};

/// The diagnostic's code for a `with` table that doesn't fit.
const CODE: &str = "config";

/// Mistakes of one table that are named.
const MOST: usize = 20;

/// # Errors
/// Lists every mistake. In a key whose value has the wrong type, only the first is found.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Diagnostic>> {
    let mut value: Json = serde_json::from_str(text)
        .map_err(|error| vec![Diagnostic::error(CODE, format!("the `with` table isn't JSON: {error}"))])?;
    let mut found: Vec<Diagnostic> = Vec::new();
    // Serde ends at the first mistake. It is taken out, and the rest looked at again. A key isn't missing that was taken out,
    // or that is there under a misspelt name.
    let mut present: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(value.clone()) {
            Ok(config) if found.is_empty() => return Ok(config),
            Ok(_) => return Err(found),
            Err(error) => error,
        };
        let (path, message) = (error.path().clone(), error.inner().to_string());
        let is_missing = missing_field(&message);
        if is_missing.is_some_and(|field| present.iter().any(|present| present == field)) {
            return Err(found);
        }
        // serde_path_to_error writes `.` for the table itself.
        let place = Some(path.to_string()).filter(|place| place != ".");
        found.push(diagnose(place.as_deref().unwrap_or_default(), &message));
        let is_unknown = message.starts_with("unknown field");
        present.extend(message.strip_prefix("unknown field `").and_then(nearest).map(str::to_owned));
        let key = take_out(&mut value, path.iter(), is_unknown);
        match key {
            Some(key) if is_missing.is_none() && found.len() < MOST => present.push(key),
            _ => return Err(found),
        }
    }
}

/// Removes the key at a path that is unknown, or else the outermost key on the way to a wrong value: what lies around the
/// value may need it. Gives the key.
fn take_out<'p>(value: &mut Json, path: impl Iterator<Item = &'p Segment>, is_unknown: bool) -> Option<String> {
    let mut path = path.peekable();
    let mut at = value;
    loop {
        match path.next()? {
            Segment::Map { key } if !is_unknown || path.peek().is_none() => {
                return at.as_object_mut()?.remove(key).map(|_| key.clone());
            }
            Segment::Map { key } => at = at.get_mut(key)?,
            Segment::Seq { index } => at = at.get_mut(*index)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        }
    }
}

/// As the error of a run.
pub(crate) fn as_error(diagnostics: Vec<Diagnostic>) -> Error {
    let help = diagnostics.iter().find_map(|diagnostic| diagnostic.help.clone());
    let mistakes = diagnostics.into_iter().map(|Diagnostic { message, path, .. }| match path {
        Some(path) => format!("`with.{path}`: {message}"),
        None => format!("`with`: {message}"),
    });
    let mut error = Error::invalid(mistakes.collect::<Vec<_>>().join("; "));
    error.help = help;
    error
}

fn diagnose(path: &str, message: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(CODE, in_words_of_toml(message));
    let help = match message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `")) {
        Some(names) => nearest(names).map(|nearest| format!("did you mean `{nearest}`?")),
        None => missing_field(message).map(|field| format!("add `{field} = …` to the stage's `with` table")),
    };
    let diagnostic = if path.is_empty() { diagnostic } else { diagnostic.at(path) };
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Serde says what it expected by the names of Rust's types.
fn in_words_of_toml(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let words = match expected {
        "a map" => "a table",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "a borrowed string" | "a string" | "string or map" => "a string",
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" | "u64" | "usize" => "an integer, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged enum ") => "a table",
        _ if expected.starts_with("tuple ") => "a list",
        _ if expected.starts_with("enum ") || expected.starts_with("unit ") => "a string",
        other => other,
    };
    let found = found.replacen("map", "a table", usize::from(found.ends_with("map")));
    let found = found.replacen("sequence", "a list", usize::from(found.ends_with("sequence")));
    format!("{found}, expected {words}")
}

/// `names` is serde's own list: the unknown name, a backquote, prose, and the known names in backquotes.
fn nearest(names: &str) -> Option<&str> {
    let mut quoted = names.split('`').step_by(2);
    let unknown = quoted.next()?;
    let known: Vec<&str> = quoted.filter(|name| !name.is_empty()).collect();
    let (distance, nearest) = known.iter().map(|name| (strsim::levenshtein(unknown, name), name)).min()?;
    // Farther than that, a guess confuses more than it helps.
    (distance <= nearest.len().max(unknown.len()) / 2).then_some(*nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it is parsed matters")]
    struct Config {
        checks: Vec<Check>,
        max_latency: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only how it is parsed matters")]
    struct Check {
        path: String,
        status: u16,
    }

    fn diagnostic(text: &str) -> Diagnostic {
        let mut found = diagnostics(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn diagnostics(text: &str) -> Vec<Diagnostic> {
        parse::<Config>(text).expect_err("must not fit")
    }

    #[test]
    fn every_mistake_is_named_once() {
        let found = diagnostics(
            r#"{ "a": 1, "checks": [{ "path": "/", "status": 200, "b": 1, "c": 2 }], "max-latency": "x", "z": 1 }"#,
        );
        let mut paths: Vec<&str> = found.iter().filter_map(|one| one.path.as_deref()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["a", "checks[0].b", "checks[0].c", "max-latency", "z"]);
        let found = diagnostics(r#"{ "max-latency": -1, "checks": 5 }"#);
        assert_eq!(found.len(), 2, "a key that was taken out isn't missing: {found:?}");
        let found = diagnostics(r#"{ "max-latncy": 1 }"#);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].message.contains("missing field `checks`"), "{found:?}");
    }

    #[test]
    fn no_type_of_rust_is_named() {
        for (text, message) in [
            (r#"{ "checks": {} }"#, "invalid type: a table, expected a list"),
            (r#"{ "checks": ["/"] }"#, "invalid type: string \"/\", expected a table"),
            (r#"{ "checks": [], "max-latency": -1 }"#, "invalid value: integer `-1`, expected an integer, 0 or more"),
            (r#"{ "checks": [], "max-latency": [] }"#, "invalid type: a list, expected an integer, 0 or more"),
        ] {
            assert_eq!(diagnostic(text).message, message);
        }
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let found = diagnostic(r#"{ "checks": [{ "path": "/", "status": "ok" }] }"#);
        assert_eq!(found.path.as_deref(), Some("checks[0].status"));
        assert_eq!(found.message, "invalid type: string \"ok\", expected an integer from 0 to 65535");
    }

    #[test]
    fn a_misspelt_key_is_told_its_neighbour() {
        let found = diagnostic(r#"{ "checks": [], "max-latncy": 3 }"#);
        assert_eq!(found.path.as_deref(), Some("max-latncy"));
        assert_eq!(found.help.as_deref(), Some("did you mean `max-latency`?"));
    }

    #[test]
    fn a_key_like_none_gets_no_guess() {
        assert_eq!(diagnostic(r#"{ "checks": [], "zzz": 3 }"#).help, None);
    }

    #[test]
    fn a_missing_key_says_what_to_add() {
        let found = diagnostic("{}");
        assert_eq!(found.path, None);
        assert_eq!(found.help.as_deref(), Some("add `checks = …` to the stage's `with` table"));
    }
}
