//! What words of `net` stand for, as far as a person has to know of it: what the policy refuses, what no word can stand
//! for, and what a run was started with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use stagewright_engine::{Change, Event, EventKind, RunSource};
use stagewright_model::{
    Diagnostic, NamedBy, OperatorPolicy, PackageManager, PackageOrigin, Plan, Stage, WorkspacePath,
};
use stagewright_plugin_host::{ClosedOrigin, Description, PackageHosts, credential_files};

use crate::error::SessionError;
use crate::notice::{Notice, Notices};
use crate::repository::PipelineFile;

/// What a pipeline has beyond the policy: its grants, and what its words stand for here.
pub(crate) fn beyond(
    policy: &OperatorPolicy,
    plan: &Plan,
    file: &PipelineFile,
    plugins: &[std::sync::Arc<Description>],
    hosts: &PackageHosts,
) -> Vec<Diagnostic> {
    let digests: Vec<String> = plugins.iter().map(|plugin| plugin.digest.clone()).collect();
    let grants = policy.check(plan, &file.name, &file.text, &digests).err();
    let words = policy.check_packages(plan, &file.name, &file.text, &digests, hosts.open()).err();
    grants.into_iter().chain(words).flatten().collect()
}

/// Refuses a pipeline in which a keyword would have to stand for an origin that it can't stand for: a file of the
/// repository names the origin, so that everyone needs it, and a stage that uses the keyword doesn't grant it
/// explicitly.
pub(crate) fn refuse_closed(plan: &Plan, hosts: &PackageHosts) -> Result<(), SessionError> {
    let of_repository = hosts.closed().iter().filter(|closed| closed.named.by == NamedBy::Repository);
    let refused = of_repository.filter_map(|closed| {
        let stage = plan.stages.iter().find(|stage| needs(stage, closed))?;
        let ClosedOrigin { named, why } = closed;
        let line = format!(
            "stage `{}`: {} names {} for `{}`, which is {why}",
            stage.id, named.place, named.origin, named.manager
        );
        Some((line, remedy(stage, closed)))
    });
    let (lines, remedies): (Vec<String>, BTreeSet<String>) = refused.unzip();
    if lines.is_empty() {
        return Ok(());
    }
    let message = "a keyword of `net` can't stand for an origin that the repository names; nothing was run";
    let mut error = SessionError::not_ready(message).details(lines);
    error.hints.extend(remedies);
    Err(error)
}

/// Marks in a plan the stages that can read a file with a credential for a package host that they reach.
pub(crate) fn note_credentials(root: &Path, plan: &mut Plan) {
    if plan.package_managers().is_empty() {
        return;
    }
    let found = credential_files(root);
    for stage in plan.stages.iter_mut().filter(|_| !found.is_empty()) {
        let managers = stage.package_managers();
        let granted = &stage.permissions;
        let in_reach = found.iter().filter(|file| {
            let is_meant = file.manager.map_or(!managers.is_empty(), |manager| managers.contains(&manager));
            is_meant && WorkspacePath::parse(&file.path).is_ok_and(|path| granted.reads(&path))
        });
        let files: Vec<String> = in_reach.map(|file| file.path.clone()).collect();
        if !files.is_empty() {
            Arc::make_mut(&mut stage.permissions).credential_files = files;
        }
    }
}

/// Remarks for reviewers on the keywords in a stage's `net`.
pub(crate) fn notes(stage: &Stage, hosts: &PackageHosts) -> Vec<String> {
    let publishing = stage.permissions.credential_files.iter().map(|file| {
        format!("`{file}` holds, or could hold, a credential for package hosts that this stage reaches: its programs can publish")
    });
    notes_of_machine(stage, hosts).into_iter().chain(publishing).collect()
}

/// The origins in the user's own configuration that a stage's keywords don't stand for.
fn notes_of_machine(stage: &Stage, hosts: &PackageHosts) -> Vec<String> {
    let of_machine = hosts.closed().iter().filter(|closed| closed.named.by == NamedBy::Machine && needs(stage, closed));
    let notes = of_machine.map(|closed| {
        let ClosedOrigin { named, why } = closed;
        let what =
            format!("`{}` doesn't stand for {}, which {} names: it is {why}", named.manager, named.origin, named.place);
        format!("{what}; {}", remedy(stage, closed))
    });
    notes.collect()
}

/// The same as notices, each once. They are needed because a client that can't reach its registry doesn't report why.
pub(crate) fn notice_hosts_of_machine(notices: &dyn Notices, plan: &Plan, hosts: &PackageHosts) {
    let notes = plan.stages.iter().flat_map(|stage| notes_of_machine(stage, hosts)).collect::<BTreeSet<_>>();
    let unreadable =
        hosts.unreadable().iter().map(|file| format!("a configuration of package hosts is ignored: {file}"));
    let unreadable = unreadable.filter(|_| !plan.package_managers().is_empty());
    let managers = plan.package_managers();
    let withheld = hosts.withheld().iter().filter(|named| managers.contains(&named.manager));
    let withheld = withheld.map(|named| {
        let PackageOrigin { manager, origin, place, .. } = named;
        format!("in a rehearsal `{manager}` doesn't stand for {origin}, which {place} names and the lock doesn't hold: `stagewright lock` adds it")
    });
    for note in notes.into_iter().chain(unreadable).chain(withheld) {
        notices.notice(&Notice::PackageHosts(note));
    }
}

/// Whether a stage uses the keyword without granting the origin explicitly.
fn needs(stage: &Stage, closed: &ClosedOrigin) -> bool {
    let net = &stage.permissions.net;
    stage.package_managers().contains(&closed.named.manager)
        && !net.iter().filter_map(|rule| rule.origin()).any(|rule| rule.grants(&closed.named.origin))
}

fn remedy(stage: &Stage, closed: &ClosedOrigin) -> String {
    let net = stage.permissions.net.iter().map(|rule| rule.as_str().to_owned());
    let net = net.chain([closed.named.origin.to_string()]).map(|entry| serde_json::Value::from(entry).to_string());
    format!(
        "remove it there, or, if the stage is meant to reach it, grant it by itself: net = [{}]",
        net.collect::<Vec<_>>().join(", ")
    )
}

/// For each keyword that stages use, the origins that it stands for in addition to the usual ones.
fn named(plan: &Plan, hosts: &PackageHosts) -> BTreeMap<PackageManager, BTreeSet<String>> {
    let of = |manager| {
        let named = hosts.open().iter().filter(|named| named.manager == manager);
        named.map(|named| named.origin.to_string()).collect()
    };
    plan.package_managers().into_iter().map(|manager| (manager, of(manager))).collect()
}

/// Records in a run's `source` what its keywords stand for. Nothing for a pipeline without keywords.
pub(crate) fn record(source: &mut RunSource, plan: &Plan, hosts: &PackageHosts) {
    let named = named(plan, hosts);
    if !named.is_empty() {
        let words = named.into_iter().map(|(manager, origins)| (manager.word().to_owned(), Vec::from_iter(origins)));
        source.package_hosts = words.collect();
    }
}

/// The recorded origins, which approvals are bound to. Empty for keywords that stand for the usual origins only.
pub(crate) fn recorded(source: &RunSource) -> BTreeMap<&str, &[String]> {
    let named = source.package_hosts.iter().filter(|(_, origins)| !origins.is_empty());
    named.map(|(word, origins)| (word.as_str(), origins.as_slice())).collect()
}

/// The origins that a keyword stands for now and didn't when the run was started or a change was last accepted. Origins
/// that it no longer stands for aren't changes, since a resumed run then reaches less. Runs of earlier versions
/// recorded nothing.
pub(crate) fn changes(past: &[Event], source: &RunSource, plan: &Plan, hosts: &PackageHosts) -> Vec<Change> {
    let accepted = past.iter().filter_map(|event| match &event.kind {
        EventKind::RunResumed { changed, .. } => Some(changed),
        _ => None,
    });
    let accepted = accepted.flatten().collect::<Vec<_>>();
    let mut changes = Vec::new();
    for (manager, now) in named(plan, hosts) {
        let what = format!("package hosts of {manager}");
        let last = accepted.iter().rev().find(|change| change.what == what).map(|change| change.now.clone());
        let recorded = source.package_hosts.get(manager.word()).map(|origins| origins.join(", "));
        let Some(then) = last.or(recorded) else { continue };
        let known = then.split(", ").collect::<BTreeSet<_>>();
        if now.iter().any(|origin| !known.contains(origin.as_str())) {
            changes.push(Change { what, then, now: now.into_iter().collect::<Vec<_>>().join(", ") });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let text =
            "schema = 1\n[pipeline]\nname = \"x\"\n[stages.a]\nuses = \"noop\"\npermissions = { net = [\"npm\"] }\n";
        Plan::parse("stagewright.toml", text, &["noop".to_owned()].into_iter().collect()).unwrap().0
    }

    fn hosts(npmrc: &str) -> PackageHosts {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(".npmrc"), npmrc).unwrap();
        PackageHosts::read(root.path(), &BTreeMap::new())
    }

    #[test]
    fn new_origins_of_a_keyword_are_changes_until_accepted() {
        let (none, one) = (hosts(""), hosts("registry=https://one.example/\n"));
        let mut source = RunSource::default();
        record(&mut source, &plan(), &none);
        assert_eq!(source.package_hosts, BTreeMap::from([("npm".to_owned(), Vec::new())]));
        assert_eq!(changes(&[], &source, &plan(), &none), []);
        let found = changes(&[], &source, &plan(), &one);
        let expected = Change {
            what: "package hosts of npm".to_owned(),
            then: String::new(),
            now: "https://one.example".to_owned(),
        };
        assert_eq!(found, [expected]);
        let kind = EventKind::RunResumed { reason: String::new(), again: Vec::new(), changed: found, pipeline: None };
        let accepted = [Event { seq: 1, at: stagewright_engine::Timestamp(0), kind }];
        assert_eq!(changes(&accepted, &source, &plan(), &one), [], "it was accepted");
        record(&mut source, &plan(), &one);
        assert_eq!(changes(&[], &source, &plan(), &none), [], "less is fine");
        assert_eq!(changes(&[], &RunSource::default(), &plan(), &one), [], "an earlier version recorded nothing");
    }

    #[test]
    fn origin_that_no_keyword_covers_is_refused_unless_granted_explicitly() {
        let loopback = hosts("registry=http://127.0.0.1:4873/\n");
        let refused = refuse_closed(&plan(), &loopback).unwrap_err();
        let refused = [refused.details, refused.hints].concat().join("\n");
        for part in
            [".npmrc:1 names http://127.0.0.1:4873", "this machine", "net = [\"npm\", \"http://127.0.0.1:4873\"]"]
        {
            assert!(refused.contains(part), "{part} is not in {refused}");
        }
        let mut granted = plan();
        let stage = &mut granted.stages[0];
        let mut permissions = (*stage.permissions).clone();
        permissions.net.push("http://127.0.0.1:4873".parse().unwrap());
        stage.permissions = permissions.into();
        assert!(refuse_closed(&granted, &loopback).is_ok());
    }
}
