//! The JSON form of a plan.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_api as api;
use stagewright_model::{CacheUse, NamedBy, PackageOrigin, Permissions, Sandbox, Stage};
use stagewright_plugin_host::Description;
use stagewright_process::sandbox::{MountMode, ToolMount};
use stagewright_report::wire::ToWire as _;
use stagewright_session::{Compared, ConfigChange, DeployChanges, LackedGrant};

use super::{PlanView, texts};
use crate::diagnostics;

impl PlanView<'_> {
    pub(super) fn answer(&self, inputs: &BTreeMap<String, Json>) -> api::PlanAnswer {
        let stages = self.review.plan.stages.iter().zip(&self.review.described);
        api::PlanAnswer {
            pipeline: self.review.plan.name.clone(),
            file: self.review.file.name.clone(),
            lock: comparison(&self.review.compared),
            beyond_policy: self.review.beyond.iter().map(diagnostics::entry).collect(),
            sandbox: match self.review.plan.sandbox {
                Sandbox::Required => api::SandboxName::Required,
                Sandbox::Preferred => api::SandboxName::Preferred,
            },
            inputs: inputs.clone(),
            stages: stages.map(|(stage, description)| self.stage(stage, description)).collect(),
        }
    }

    fn stage(&self, stage: &Stage, description: &Description) -> api::PlanStage {
        let plan = &self.review.plan;
        let ids = |stages: &[_]| stages.iter().map(|&index| plan.stage(index).id.clone()).collect();
        let limits = stage.bounds().entries().into_iter();
        let limits = limits.filter_map(|(key, amount)| Some((key.to_owned(), amount?.to_string())));
        let cache = if self.is_cached(stage, description) { stage.cache } else { CacheUse::Never };
        api::PlanStage {
            id: stage.id.clone(),
            kind: stage.kind.to_wire(),
            uses: stage.uses.to_string(),
            version: description.manifest.version.clone(),
            digest: description.digest.clone(),
            imports: description.imports.interfaces().map(str::to_owned).collect(),
            effect: self.mode.effect_class(stage, description).to_wire(),
            rehearse: stage.rehearsal_grants().map(permissions),
            rehearsal: self.mode.terms(stage).map(|terms| terms.fidelity(stage, description.code()).to_wire()),
            needs: ids(&stage.needs),
            condition: stage.condition.as_ref().map(|condition| condition.source().to_owned()),
            environment: stage.environment.as_ref().map(|environment| environment.name.clone()),
            changes: self.review.deploy_changes(stage).map(deploy_changes),
            approves: stage.approves().map(str::to_owned).collect(),
            compensate: ids(&stage.compensate),
            permissions: permissions(&stage.permissions),
            permission_sets: stage.permission_sets.iter().map(|set| set.name.clone()).collect(),
            lacks: self.review.lacks(stage).iter().map(lacked_grant).collect(),
            package_hosts: self.package_hosts(stage),
            package_hosts_named_by: self.package_origins(stage),
            limits: limits.collect(),
            cache: match cache {
                CacheUse::Never => api::CacheUseName::Never,
                CacheUse::Read => api::CacheUseName::Read,
                CacheUse::ReadWrite => api::CacheUseName::ReadWrite,
            },
            inputs: strings(&stage.inputs),
            outputs: strings(&stage.outputs),
            unsandboxed: !self.unsandboxed_parts(stage).is_empty(),
            toolchain: self.tools(stage).iter().map(tool_mount).collect(),
            notes: self.notes(stage, description),
        }
    }

    fn package_hosts(&self, stage: &Stage) -> BTreeMap<String, Vec<String>> {
        let origins = |manager| texts(self.review.packages().origins(manager));
        stage.package_managers().into_iter().map(|manager| (manager.word().to_owned(), origins(manager))).collect()
    }

    fn package_origins(&self, stage: &Stage) -> Vec<api::PackageOriginEntry> {
        let used = stage.package_managers();
        let named = self.review.packages().open().iter().filter(|named| used.contains(&named.manager));
        named.map(package_origin).collect()
    }
}

fn deploy_changes(deploy: &DeployChanges) -> api::DeployChangesEntry {
    let entry = |ConfigChange { key, before, after }: &ConfigChange| api::ConfigChangeEntry {
        key: key.clone(),
        before: before.clone(),
        after: after.clone(),
    };
    api::DeployChangesEntry { release: deploy.release, changes: deploy.changes.iter().map(entry).collect() }
}

fn comparison(compared: &Compared) -> api::LockComparison {
    match compared {
        Compared::NoLock => api::LockComparison::NoLock,
        Compared::NotLocked => api::LockComparison::NotLocked,
        Compared::Changes(changes) if changes.is_empty() => api::LockComparison::Same,
        Compared::Changes(changes) => {
            let changes = changes.iter().map(|change| {
                let stagewright_model::LockChange { is_wider, text } = change;
                api::LockChangeEntry { wider: *is_wider, text: text.clone() }
            });
            api::LockComparison::Changed { changes: changes.collect() }
        }
    }
}

/// The JSON form of grants.
pub(crate) fn permissions(granted: &Permissions) -> api::PermissionsEntry {
    let Permissions {
        process,
        read,
        write,
        exec,
        net,
        secrets,
        reveal,
        credentials,
        registry,
        service,
        socket,
        env,
        unsandboxed: _,
        credential_files: _,
    } = granted;
    api::PermissionsEntry {
        process: strings(process),
        read: strings(read),
        write: strings(write),
        exec: strings(exec),
        net: strings(net),
        secrets: strings(secrets),
        reveal: strings(reveal),
        credentials: strings(credentials),
        registry: strings(registry),
        service: strings(service),
        socket: strings(socket),
        env: strings(env),
    }
}

/// The JSON form of a grant that a stage lacks.
pub(crate) fn lacked_grant(lacked: &LackedGrant) -> api::LackedGrantEntry {
    let LackedGrant { grant, reason, is_optional } = lacked;
    api::LackedGrantEntry {
        table: grant.table.clone(),
        permission: grant.permission.key().to_owned(),
        entry: grant.entry.clone(),
        reason: reason.clone(),
        optional: *is_optional,
    }
}

fn strings<T: AsRef<str>>(entries: &[T]) -> Vec<String> {
    entries.iter().map(|entry| entry.as_ref().to_owned()).collect()
}

fn package_origin(named: &PackageOrigin) -> api::PackageOriginEntry {
    let PackageOrigin { manager, origin, by, place } = named;
    api::PackageOriginEntry {
        word: manager.word().to_owned(),
        origin: origin.to_string(),
        by: match by {
            NamedBy::Repository => api::PackageOriginSource::Repository,
            NamedBy::Machine => api::PackageOriginSource::Machine,
        },
        place: place.clone(),
    }
}

fn tool_mount(mount: &ToolMount) -> api::ToolMountEntry {
    let ToolMount { path, how, program } = mount;
    api::ToolMountEntry {
        path: path.display().to_string(),
        how: match how {
            MountMode::Execute => api::MountModeName::Execute,
            MountMode::Copy(_) => api::MountModeName::Copy,
            MountMode::Kept => api::MountModeName::Kept,
            MountMode::KeptFile => api::MountModeName::KeptFile,
        },
        program: program.clone(),
    }
}
