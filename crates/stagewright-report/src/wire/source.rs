//! The source of a run: commit, trigger and circumstances.

use stagewright_api as api;
use stagewright_engine::{Change, GitState, ReleaseSource, RunSource, Trigger};

use super::ToWire;

impl ToWire for RunSource {
    type Wire = api::RunSourceEntry;

    fn to_wire(&self) -> api::RunSourceEntry {
        let RunSource { git, trigger, base, offline, learning, unsandboxed, package_hosts, rollback, promotion } = self;
        api::RunSourceEntry {
            git: git.to_wire(),
            trigger: trigger.to_wire(),
            base: base.clone(),
            offline: *offline,
            learning: *learning,
            unsandboxed: unsandboxed.clone(),
            package_hosts: package_hosts.clone(),
            rollback: rollback.to_wire(),
            promotion: promotion.to_wire(),
        }
    }
}

impl ToWire for GitState {
    type Wire = api::GitStateEntry;

    fn to_wire(&self) -> api::GitStateEntry {
        let GitState { commit, short, branch, tag, dirty, changes } = self;
        api::GitStateEntry {
            commit: commit.clone(),
            short: short.clone(),
            branch: branch.clone(),
            tag: tag.clone(),
            dirty: *dirty,
            changes: changes.clone(),
        }
    }
}

impl ToWire for Trigger {
    type Wire = api::TriggerEntry;

    fn to_wire(&self) -> api::TriggerEntry {
        let Trigger { name, reference, commit, actor } = self;
        api::TriggerEntry {
            name: name.clone(),
            reference: reference.clone(),
            commit: commit.clone(),
            actor: actor.clone(),
        }
    }
}

impl ToWire for ReleaseSource {
    type Wire = api::ReleaseSourceEntry;

    fn to_wire(&self) -> api::ReleaseSourceEntry {
        let ReleaseSource { run, release, others } = self;
        api::ReleaseSourceEntry { run: run.to_wire(), release: *release, others: others.clone() }
    }
}

impl ToWire for Change {
    type Wire = api::SourceChangeEntry;

    fn to_wire(&self) -> api::SourceChangeEntry {
        let Change { what, then, now } = self;
        api::SourceChangeEntry { what: what.clone(), then: then.clone(), now: now.clone() }
    }
}
