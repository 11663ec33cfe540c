//! From the `with` table's JSON to a typed configuration, or to a diagnostic that names the key.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{Diagnostic, Error};

/// The diagnostic's code for a `with` table that doesn't fit.
const CODE: &str = "config";

pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Diagnostic> {
    let value: Json = serde_json::from_str(text)
        .map_err(|error| Diagnostic::error(CODE, format!("the `with` table isn't JSON: {error}")))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        diagnose(&path, &error.into_inner().to_string())
    })
}

/// As the error of a run.
pub(crate) fn as_error(diagnostic: Diagnostic) -> Error {
    let Diagnostic { message, path, help, .. } = diagnostic;
    let mut error = Error::invalid(match path {
        Some(path) => format!("`with.{path}`: {message}"),
        None => format!("`with`: {message}"),
    });
    error.help = help;
    error
}

fn diagnose(path: &str, message: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(CODE, message);
    // serde_path_to_error writes `.` for the table itself.
    let inside = if path == "." { "" } else { path };
    let help =
        if let Some(names) = message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `")) {
            nearest_help(names)
        } else {
            message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.strip_suffix('`'))
                .map(|field| format!("add `{field} = …` to the stage's `with` table"))
        };
    let diagnostic = if inside.is_empty() { diagnostic } else { diagnostic.at(inside) };
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// `names` is serde's own list: the unknown name, a backquote, prose, and the known names in backquotes.
fn nearest_help(names: &str) -> Option<String> {
    let mut quoted = names.split('`').step_by(2);
    let unknown = quoted.next()?;
    let known: Vec<&str> = quoted.filter(|name| !name.is_empty()).collect();
    let (distance, nearest) = known.iter().map(|name| (strsim::levenshtein(unknown, name), name)).min()?;
    // Farther than that, a guess confuses more than it helps.
    (distance <= nearest.len().max(unknown.len()) / 2).then(|| format!("did you mean `{nearest}`?"))
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
        parse::<Config>(text).expect_err("must not fit")
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let found = diagnostic(r#"{ "checks": [{ "path": "/", "status": "ok" }] }"#);
        assert_eq!(found.path.as_deref(), Some("checks[0].status"));
        assert_eq!(found.message, "invalid type: string \"ok\", expected u16");
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
