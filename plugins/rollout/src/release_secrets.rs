//! Secrets of a release: for each name under which the release finds one, the name of a secret of the pipeline.
//!
//! A plugin knows the names alone. The host writes the values into the requests that bring the release to its target.

use std::collections::BTreeMap;

use stagewright_sdk::secrets::{self, Secret};
use stagewright_sdk::{Problem, Requirement, Result, environment};

/// The grants of these secrets, which are written into requests.
pub fn secret_requirements(secrets: &BTreeMap<String, String>) -> impl Iterator<Item = Requirement> {
    secrets
        .iter()
        .map(|(name, secret)| Requirement::secret_header(secret).because(format!("the release gets it as {name}")))
}

/// What a rehearsal compares of them: `secret/NAME`, with the name of the pipeline's secret.
pub fn secret_parts(secrets: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    secrets.iter().map(|(name, secret)| (format!("secret/{name}"), format!("the value of `{secret}`\n")))
}

/// The secrets, for the request into which the host writes their values.
///
/// # Errors
/// If one of them isn't granted, or has no value.
pub fn secret_handles(secrets: &BTreeMap<String, String>) -> Result<Vec<Secret>> {
    secrets.values().map(|name| secrets::get(name)).collect()
}

/// The variables in `secret-env` of the environment's current release that this one doesn't have. Where a release builds on what
/// the target has, they have to be removed.
///
/// # Errors
/// If the ledger can't be read.
pub fn dropped_secret_env(secret_env: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let Some(current) = environment::current()? else { return Ok(Vec::new()) };
    let earlier = current.config["secret-env"].as_object();
    let names = earlier.into_iter().flat_map(|earlier| earlier.keys());
    Ok(names.filter(|name| !secret_env.contains_key(*name)).cloned().collect())
}

/// Mistakes in `secret-env`: variables that no process can have, and those that `env`, at this key, sets as well.
pub fn secret_env_problems(
    secret_env: &BTreeMap<String, String>,
    env: &BTreeMap<String, String>,
    env_key: &str,
) -> Vec<Problem> {
    let mut found = Vec::new();
    for variable in secret_env.keys() {
        let key = format!("secret-env.{variable}");
        if variable.is_empty() || variable.contains(['=', '\0']) {
            let problem = Problem::at(&key, format!("`{variable}` isn't the name of a variable"));
            found.push(problem.help("use letters, digits and `_`"));
        }
        if env.contains_key(variable) {
            let problem = Problem::at(key, format!("`{variable}` is in `{env_key}`, too"));
            found.push(problem.help("remove one of them"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn table<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
        entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_variable_is_set_once_and_has_a_name_that_a_process_can_have() {
        let secrets = table([("TOKEN", "token"), ("A=B", "token"), ("", "token"), ("discovery.type", "token")]);
        let found = secret_env_problems(&secrets, &table([("TOKEN", "x")]), "env");
        let keys: Vec<&str> = found.iter().filter_map(|problem| problem.key.as_deref()).collect();
        assert_eq!(keys, ["secret-env.", "secret-env.A=B", "secret-env.TOKEN"]);
        assert_eq!(found[2].message, "`TOKEN` is in `env`, too");
    }

    #[test]
    fn variables_that_the_current_release_has_and_this_one_does_not_are_dropped() {
        let current = json!({ "artifact": "app@sha256:1", "config": { "secret-env": { "OLD": "a", "TOKEN": "b" } } });
        let host = FakeHost::new().environment("production").fence(7).ledger(Some(current), None);
        let (dropped, _) = host.with(|| dropped_secret_env(&table([("TOKEN", "token")])));
        assert_eq!(dropped, Ok(vec!["OLD".to_owned()]));
        assert_eq!(FakeHost::new().with(|| dropped_secret_env(&table([]))).0, Ok(Vec::new()));
    }

    #[test]
    fn parts_and_grants_have_names_alone() {
        let secrets = table([("API_KEY", "api-key")]);
        let parts: Vec<(String, String)> = secret_parts(&secrets).collect();
        assert_eq!(parts, [("secret/API_KEY".to_owned(), "the value of `api-key`\n".to_owned())]);
        let grants: Vec<String> = secret_requirements(&secrets).map(|grant| grant.entry).collect();
        assert_eq!(grants, ["api-key:header"]);
    }
}
