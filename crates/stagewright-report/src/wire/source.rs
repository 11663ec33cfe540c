//! The source of a run: commit, trigger and circumstances.

use stagewright_api as api;
use stagewright_engine::{Change, GitState, RollbackSource, RunSource, Trigger};

use super::ToWire;

impl ToWire for RunSource {
    type Wire = api::RunSource;

    fn to_wire(&self) -> api::RunSource {
        let RunSource { git, trigger, offline, unsandboxed, package_hosts, rollback } = self;
        api::RunSource {
            git: git.to_wire(),
            trigger: trigger.to_wire(),
            offline: *offline,
            unsandboxed: unsandboxed.clone(),
            package_hosts: package_hosts.clone(),
            rollback: rollback.to_wire(),
        }
    }
}

impl ToWire for GitState {
    type Wire = api::GitState;

    fn to_wire(&self) -> api::GitState {
        let GitState { commit, short, branch, tag, dirty, changes } = self;
        api::GitState {
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
    type Wire = api::Trigger;

    fn to_wire(&self) -> api::Trigger {
        let Trigger { name, reference, commit, actor } = self;
        api::Trigger { name: name.clone(), reference: reference.clone(), commit: commit.clone(), actor: actor.clone() }
    }
}

impl ToWire for RollbackSource {
    type Wire = api::RollbackSource;

    fn to_wire(&self) -> api::RollbackSource {
        let RollbackSource { run, release } = self;
        api::RollbackSource { run: run.to_wire(), release: *release }
    }
}

impl ToWire for Change {
    type Wire = api::Change;

    fn to_wire(&self) -> api::Change {
        let Change { what, then, now } = self;
        api::Change { what: what.clone(), then: then.clone(), now: now.clone() }
    }
}
