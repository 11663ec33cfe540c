//! The environment variables of a stage's programs.

use std::collections::BTreeMap;

use stagewright_model::{Interface, PROXY_VARIABLES, VariableName};

/// Tells tools that no person is at a terminal: test runners then neither watch files nor update snapshots. It is set on
/// every machine alike, so that a rehearsal on a laptop does what a server does.
const CI: (&str, &str) = ("CI", "true");

/// The environment of a stage's programs, without the variables that the plugin adds. It consists of [`CI`], the variables
/// in `inherited` that every program gets, those that are granted, and the stage's `env` table.
pub(crate) fn program_environment(
    inherited: &BTreeMap<String, String>,
    granted: &[VariableName],
    stage: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let names = Interface::Process
        .inherited_variables()
        .iter()
        .map(|variable| variable.name)
        .chain(granted.iter().map(VariableName::as_str));
    let mut environment = BTreeMap::from([(CI.0.to_owned(), CI.1.to_owned())]);
    environment.extend(names.filter_map(|name| Some((name.to_owned(), inherited.get(name)?.clone()))));
    environment.extend(stage.iter().map(|(name, value)| (name.clone(), value.clone())));
    environment
}

/// Removes user names and passwords from the addresses of proxies. A program in a sandbox connects through the engine's
/// own proxy, and doesn't need them.
pub(crate) fn without_proxy_credentials(environment: &mut BTreeMap<String, String>) {
    for (name, value) in environment {
        if PROXY_VARIABLES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)) {
            let (scheme, rest) = value.split_once("://").map_or(("", value.as_str()), |(scheme, rest)| (scheme, rest));
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            *value = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
        }
    }
}
