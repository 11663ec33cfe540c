//! Parses the `with` table's JSON into a typed configuration, or into problems that name the key.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::Segment;

use crate::{Problem, text};

/// The most mistakes that are reported for one table.
const MAX_MISTAKES: usize = 20;

/// # Errors
/// Lists all mistakes. Of a value with the wrong type, only the first one is found.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    let mut value: Json = serde_json::from_str(text)
        .map_err(|error| vec![Problem::error(format!("the `with` table isn't valid JSON: {error}"))])?;
    let mut found: Vec<Problem> = Vec::new();
    // Serde stops at the first mistake. So remove the key with the mistake, and parse the rest again until nothing is wrong.
    // A removed key, and the key that a misspelt one was meant to be, must not be reported as missing in a later round:
    // `present` has their names.
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
        let key = remove_key(&mut value, path.iter(), is_unknown);
        match key {
            Some(key) if is_missing.is_none() && found.len() < MAX_MISTAKES => present.push(key),
            _ => return Err(found),
        }
    }
}

/// Removes an unknown key, or the outermost key on the path to an invalid value, because its other parts may not be valid
/// without the value. Returns the key.
fn remove_key<'p>(value: &mut Json, path: impl Iterator<Item = &'p Segment>, is_unknown: bool) -> Option<String> {
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

fn diagnose(path: &str, message: &str) -> Problem {
    let key = Some(path.to_owned()).filter(|path| !path.is_empty());
    let help = match message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `")) {
        Some(names) => nearest(names).map(|nearest| format!("did you mean `{nearest}`?")),
        None => missing_field(message).map(|field| format!("add `{field} = …` to the stage's `with` table")),
    };
    Problem { key, help, ..Problem::error(in_toml_terms(message)) }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Replaces the names of Rust types in serde's messages.
fn in_toml_terms(message: &str) -> String {
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

/// The known name that is most similar to an unknown one. `names` is the rest of serde's message: the unknown name, a
/// backquote, and text with the known names in backquotes.
fn nearest(names: &str) -> Option<&str> {
    let mut quoted = names.split('`').step_by(2);
    let unknown = quoted.next()?;
    text::nearest(unknown, quoted.filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Config {
        checks: Vec<Check>,
        max_latency: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Check {
        path: String,
        status: u16,
    }

    fn problem(text: &str) -> Problem {
        let mut found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn problems(text: &str) -> Vec<Problem> {
        parse::<Config>(text).expect_err("invalid")
    }

    #[test]
    fn each_mistake_is_reported_once() {
        let found = problems(
            r#"{ "a": 1, "checks": [{ "path": "/", "status": 200, "b": 1, "c": 2 }], "max-latency": "x", "z": 1 }"#,
        );
        let mut paths: Vec<&str> = found.iter().filter_map(|problem| problem.key.as_deref()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["a", "checks[0].b", "checks[0].c", "max-latency", "z"]);
        let found = problems(r#"{ "max-latency": -1, "checks": 5 }"#);
        assert_eq!(found.len(), 2, "a removed key isn't reported as missing: {found:?}");
        let found = problems(r#"{ "max-latncy": 1 }"#);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].message.contains("missing field `checks`"), "{found:?}");
    }

    #[test]
    fn messages_do_not_mention_rust_types() {
        for (text, message) in [
            (r#"{ "checks": {} }"#, "invalid type: a table, expected a list"),
            (r#"{ "checks": ["/"] }"#, "invalid type: string \"/\", expected a table"),
            (r#"{ "checks": [], "max-latency": -1 }"#, "invalid value: integer `-1`, expected an integer, 0 or more"),
            (r#"{ "checks": [], "max-latency": [] }"#, "invalid type: a list, expected an integer, 0 or more"),
        ] {
            assert_eq!(problem(text).message, message);
        }
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let found = problem(r#"{ "checks": [{ "path": "/", "status": "ok" }] }"#);
        assert_eq!(found.key.as_deref(), Some("checks[0].status"));
        assert_eq!(found.message, "invalid type: string \"ok\", expected an integer from 0 to 65535");
    }

    #[test]
    fn a_misspelt_key_gets_a_suggestion() {
        let found = problem(r#"{ "checks": [], "max-latncy": 3 }"#);
        assert_eq!(found.key.as_deref(), Some("max-latncy"));
        assert_eq!(found.help.as_deref(), Some("did you mean `max-latency`?"));
    }

    #[test]
    fn a_key_without_a_similar_one_gets_no_suggestion() {
        assert_eq!(problem(r#"{ "checks": [], "zzz": 3 }"#).help, None);
    }

    #[test]
    fn a_missing_key_is_reported_with_help() {
        let found = problem("{}");
        assert_eq!(found.key, None);
        assert_eq!(found.help.as_deref(), Some("add `checks = …` to the stage's `with` table"));
    }
}
