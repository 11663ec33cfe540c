//! The variables of a function, some of which are secrets.
//!
//! Lambda has all variables as one value, which a change replaces. So those that the deploy doesn't set are read, and written
//! back as they were. The host masks the values of secrets in what is read: a variable that contains one can't be written back.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use stagewright_sdk::{Error, ErrorCode, Result, secrets};

/// What the host puts in the place of a secret's value.
const MASK: &str = "***";

/// The variables that a function gets: those of `secret_env`, with the placeholders of their values, and all that it has but
/// those of `dropped`.
///
/// # Errors
/// If it has a variable that can't be written back.
pub(crate) fn merged(
    function: &str,
    existing: BTreeMap<String, String>,
    secret_env: &BTreeMap<String, String>,
    dropped: &[String],
) -> Result<Map<String, Json>> {
    let mut merged = Map::new();
    let kept = existing.into_iter().filter(|(name, _)| !secret_env.contains_key(name) && !dropped.contains(name));
    for (name, value) in kept {
        if value.contains(MASK) {
            let message = format!(
                "the variable `{name}` of `{function}` contains a secret's value, which the deploy neither sees nor keeps"
            );
            return Err(Error::new(ErrorCode::FailedPrecondition, message)
                .help(format!("name its secret in `secret-env`, or remove `{name}` from the function")));
        }
        merged.insert(name, value.into());
    }
    merged.extend(secret_env.iter().map(|(name, secret)| (name.clone(), secrets::placeholder(secret).into())));
    Ok(merged)
}

/// Why a function can't have a variable of this name.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() >= 2
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match is_word {
        _ if RESERVED.contains(&name) => Some("Lambda sets it itself"),
        true => None,
        false => Some("a variable of a function has at least 2 letters, digits and `_`, and begins with a letter"),
    }
}

/// The variables that Lambda sets, and that a function's configuration can't have.
const RESERVED: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn table<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
        entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn variables_of_others_stay_and_those_of_earlier_releases_go() {
        let existing = table([("LEVEL", "info"), ("TOKEN", "***"), ("OLD", "***")]);
        let merged = merged("orders", existing, &table([("TOKEN", "token")]), &["OLD".to_owned()]).unwrap();
        let token = secrets::placeholder("token");
        assert_eq!(Json::from(merged), serde_json::json!({ "LEVEL": "info", "TOKEN": token }));
    }

    #[test]
    fn a_variable_that_was_masked_is_not_overwritten() {
        let error = merged("orders", table([("URL", "https://user:***@db")]), &table([]), &[]).unwrap_err();
        assert!(error.message.starts_with("the variable `URL` of `orders` contains a secret's value"), "{error}");
    }

    #[test]
    fn names_are_those_that_lambda_takes() {
        for name in ["AWS_REGION", "_HANDLER", "A", "1A", "A-B", ""] {
            assert!(name_problem(name).is_some(), "{name}");
        }
        assert_eq!(["AB", "api_key", "API_KEY_2"].map(name_problem), [None; 3]);
    }
}
