//! What a run is bound to (plugins, the pipeline with its grants, inputs, and the commit), and which of these have
//! changed when it is resumed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use stagewright_engine::{Change, Event, EventKind, GitState, PluginFacts, RunSource};
use stagewright_model::Plan;

use crate::error::SessionError;
use crate::packages;
use crate::repository::PipelineFile;

/// Digest of everything that an approval is given for, except captured files. `git` is the current checkout and
/// included for gates that captured no files: an approval is for what will be built, even if the run was started on
/// another commit. A rollback builds nothing, so its digest doesn't include the checkout.
pub(crate) fn digest(
    pipeline_text: &str,
    inputs: &BTreeMap<String, Json>,
    source: &RunSource,
    git: Option<&GitState>,
    plugins: &[PluginFacts],
) -> String {
    let tree = git.filter(|_| !is_rollback(source)).map(|git| [git.commit.as_str(), &git.changes]);
    let plugins = plugins.iter().map(|plugin| plugin.digest.as_deref()).collect();
    let bound =
        FingerprintInput { pipeline: pipeline_text, inputs, tree, plugins, packages: packages::recorded(source) };
    // Serialising text and numbers can't fail.
    sha256(&serde_json::to_vec(&bound).unwrap_or_default())
}

/// The digest as `sha256:` and hexadecimal digits.
fn sha256(content: &[u8]) -> String {
    let digits = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{digits}")
}

/// The order of the fields is part of the digest.
#[derive(Serialize)]
struct FingerprintInput<'a> {
    pipeline: &'a str,
    inputs: &'a BTreeMap<String, Json>,
    tree: Option<[&'a str; 2]>,
    plugins: Vec<Option<&'a str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    packages: BTreeMap<&'a str, &'a [String]>,
}

/// Whether a run is a rollback; see [`crate::rollback`].
pub(crate) fn is_rollback(source: &RunSource) -> bool {
    source.rollback.is_some()
}

/// The changes since the run started, or since a change was last accepted. `git` is the current checkout; none if no
/// stage that still has to run depends on it.
pub(crate) fn changes(
    plan: &Plan,
    past: &[Event],
    source: &RunSource,
    plugins: &[PluginFacts],
    git: Option<&GitState>,
) -> Vec<Change> {
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    let mut then: BTreeMap<String, String> = BTreeMap::new();
    if let Some(git) = git.filter(|_| !is_rollback(source)) {
        then.insert("commit".to_owned(), source.git.commit.clone());
        now.insert("commit".to_owned(), git.commit.clone());
        then.insert(Change::TRACKED_FILES.to_owned(), source.git.changes.clone());
        now.insert(Change::TRACKED_FILES.to_owned(), git.changes.clone());
    }
    for (index, facts) in plan.indices().zip(plugins) {
        if let Some(digest) = &facts.digest {
            now.insert(format!("plugin {}", plan.stage(index).uses), digest.as_ref().to_owned());
        }
    }
    for event in past {
        match &event.kind {
            EventKind::RunStarted { stages, .. } => {
                let plugins = stages.iter().filter_map(|stage| Some((&stage.uses, stage.plugin.clone()?)));
                then.extend(plugins.map(|(uses, digest)| (format!("plugin {uses}"), digest.as_ref().to_owned())));
            }
            EventKind::RunResumed { changed, .. } => {
                then.extend(changed.iter().map(|change| (change.what.clone(), change.now.clone())));
            }
            _ => {}
        }
    }
    let changed = then.into_iter().filter_map(|(what, then)| {
        let now = now.get(&what)?.clone();
        (now != then).then_some(Change { what, then, now })
    });
    changed.collect()
}

/// The change of the text that a run uses.
pub(crate) fn text_change(used: &PipelineFile, revised: &PipelineFile) -> Change {
    let [then, now] = [used, revised].map(|file| sha256(file.text.as_bytes()));
    Change { what: format!("pipeline file {}", used.name), then, now }
}

/// Refuses changes that were not accepted. `command`: what accepts them with an option, as in `resume RUN`.
pub(crate) fn refuse(run: &str, command: &str, changes: &[Change]) -> Result<(), SessionError> {
    if changes.is_empty() {
        return Ok(());
    }
    let message = format!("the files or plugins of run {run} have changed since it was started:");
    let mut error = SessionError::not_ready(message).details(changes.iter().map(ToString::to_string));
    if let Some(commit) = changes.iter().find(|change| change.what == "commit" && !change.then.is_empty()) {
        error = error
            .hint(format!("to restore its commit: git checkout {}", commit.then.get(..12).unwrap_or(&commit.then)));
    }
    Err(error.hint(format!("to continue with the current state: stagewright {command} --accept-changes")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use stagewright_engine::{EffectClass, Timestamp};

    fn facts(digest: &str) -> PluginFacts {
        PluginFacts { digest: Some(digest.into()), effect: EffectClass::Pure, ..PluginFacts::default() }
    }

    fn plan() -> Plan {
        let text = "schema = 1\n[pipeline]\nname = \"x\"\n[stages.a]\nuses = \"noop\"\n";
        Plan::parse("stagewright.toml", text, &["noop".to_owned()].into_iter().collect()).unwrap().0
    }

    fn resumed(change: Change) -> Event {
        let kind =
            EventKind::RunResumed { reason: String::new(), again: Vec::new(), changed: vec![change], pipeline: None };
        Event { seq: 1, at: Timestamp(0), kind }
    }

    #[test]
    fn a_change_is_reported_until_it_is_accepted() {
        let source =
            RunSource { git: GitState { commit: "a".repeat(40), ..GitState::default() }, ..RunSource::default() };
        let git = GitState { commit: "b".repeat(40), ..GitState::default() };
        let found = changes(&plan(), &[], &source, &[facts("sha256:1")], Some(&git));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].what.as_str(), &found[0].now), ("commit", &git.commit));
        let error = refuse("r1", "resume", &found).unwrap_err();
        let error = [error.details, error.hints].concat().join("\n");
        assert!(error.contains("commit: aaaaaaaaaaaa -> bbbbbbbbbbbb") && error.contains("git checkout aaaaaaaaaaaa"));
        let accepted = [resumed(found[0].clone())];
        assert_eq!(changes(&plan(), &[], &source, &[facts("sha256:1")], None), [], "no stage depends on the files");
        assert_eq!(changes(&plan(), &accepted, &source, &[facts("sha256:1")], Some(&git)), []);
    }

    #[test]
    fn approvals_are_bound_to_plugins_inputs_grants_and_commit() {
        let inputs = BTreeMap::from([("version".to_owned(), json!("1"))]);
        let (source, git) = (RunSource::default(), GitState { commit: "a".to_owned(), ..GitState::default() });
        let one = [facts("sha256:1")];
        let whole = digest("text", &inputs, &source, Some(&git), &one);
        assert_eq!(whole, digest("text", &inputs, &source, Some(&git), &one));
        let with_hosts = |origins: &[&str]| {
            let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
            RunSource { package_hosts: BTreeMap::from([("npm".to_owned(), origins)]), ..RunSource::default() }
        };
        let usual = with_hosts(&[]);
        assert_eq!(whole, digest("text", &inputs, &usual, Some(&git), &one));
        let written = json!({ "pipeline": "text", "inputs": inputs, "tree": ["a", ""], "plugins": ["sha256:1"] });
        assert_eq!(
            whole,
            sha256(written.to_string().as_bytes()),
            "waiting runs of earlier versions have recorded this digest"
        );
        let (other_commit, other_files) =
            (GitState { commit: "b".to_owned(), ..git.clone() }, GitState { changes: "c".to_owned(), ..git.clone() });
        for other in [
            digest("text", &inputs, &source, None, &one),
            digest("text ", &inputs, &source, Some(&git), &one),
            digest("text", &BTreeMap::new(), &source, Some(&git), &one),
            digest("text", &inputs, &source, Some(&other_commit), &one),
            digest("text", &inputs, &source, Some(&other_files), &one),
            digest("text", &inputs, &source, Some(&git), &[facts("sha256:2")]),
            digest("text", &inputs, &with_hosts(&["https://a.b"]), Some(&git), &one),
        ] {
            assert_ne!(whole, other);
        }
    }
}
