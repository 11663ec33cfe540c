//! Checks that all JSON output in the tests matches the api's types, without unknown keys.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use stagewright_api as api;

/// Checks a command's output, if it is JSON.
#[track_caller]
pub(crate) fn check(args: &[&str], printed: &str) {
    if args.windows(2).any(|pair| pair == ["--format", "json"]) {
        return printed.lines().for_each(reads_as::<api::EventLine>);
    }
    if !args.contains(&"--json") || printed.is_empty() {
        return;
    }
    match args {
        ["runs", ..] => reads_as::<Vec<api::RunEntry>>(printed),
        ["explain", ..] => reads_as::<Vec<api::ExplainEntry>>(printed),
        ["why", ..] => reads_as::<Vec<api::WhyEntry>>(printed),
        ["plan", ..] => reads_as::<api::PlanAnswer>(printed),
        ["validate", ..] => reads_as::<Vec<api::DiagnosticEntry>>(printed),
        ["env", "list", ..] => reads_as::<Vec<api::EnvironmentEntry>>(printed),
        ["env", "status", ..] => reads_as::<api::EnvironmentEntry>(printed),
        ["rollout", "status", ..] => reads_as::<Vec<api::RolloutStatusEntry>>(printed),
        ["env", "history", ..] => reads_as::<Vec<api::ReleaseEntry>>(printed),
        ["service", "status", ..] => reads_as::<Vec<api::ServiceEntry>>(printed),
        ["artifacts", .., "get", _] | ["artifacts", .., "get", _, "--json"] => {
            reads_as::<api::RunArtifactEntry>(printed);
        }
        ["artifacts", ..] => reads_as::<Vec<api::RunArtifactEntry>>(printed),
        ["plugin", "list", ..] => reads_as::<Vec<api::PluginEntry>>(printed),
        ["plugin", "show", ..] => reads_as::<api::PluginAnswer>(printed),
        ["gc", ..] => reads_as::<api::GcAnswer>(printed),
        ["init", ..] => reads_as::<api::ProposedPipelineAnswer>(printed),
        ["grant", ..] => reads_as::<api::GrantAnswer>(printed),
        other => panic!("the api has no type for {other:?}"),
    }
}

#[track_caller]
fn reads_as<T: Serialize + DeserializeOwned>(printed: &str) {
    let read: T = serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let read = serde_json::to_value(read).expect("it was JSON");
    assert_eq!(read, serde_json::from_str::<Json>(printed).expect("it was JSON"), "of {printed}");
}
