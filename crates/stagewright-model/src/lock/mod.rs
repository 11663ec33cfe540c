//! `stagewright.lock`: what each pipeline of a repository may do, as somebody has looked at it.
//!
//! A lock grants nothing. It is compared with a plan, and what the plan has beyond it is told or refused. Each pipeline's
//! section carries a checksum, so that one that was changed by hand or merged badly is no lock at all, while sections of
//! different pipelines merge as text does.

mod change;
mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use self::change::Change;
use crate::grants::{
    Bounds, HostPattern, NamedBy, Origin, PackageManager, PackageOrigin, Permissions, Sandbox, SecretRule,
};
use crate::plan::{Plan, Trust};
use crate::secret::SecretFrom;

/// What a lock file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock {
    /// By the pipeline's name.
    pub pipelines: BTreeMap<String, LockedPipeline>,
}

/// What one pipeline may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockedPipeline {
    /// `[pipeline] sandbox`.
    pub sandbox: Sandbox,
    /// By name, those that stages use.
    pub secrets: BTreeMap<String, LockedSecret>,
    /// For each word of `net` that stages use, the origins that files of the repository add to it; none without any.
    pub package_hosts: BTreeMap<PackageManager, BTreeSet<Origin>>,
    /// By what `uses` says.
    pub plugins: BTreeMap<String, PluginPin>,
    /// By name; all cells of a matrix may do the same.
    pub stages: BTreeMap<String, LockedStage>,
}

/// Where a secret comes from, and where it may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedSecret {
    /// `from`; none in a lock that doesn't say it.
    pub from: Option<SecretFrom>,
    /// `hosts`
    pub hosts: Vec<HostPattern>,
    /// `programs`
    pub programs: Vec<String>,
}

/// Which code a plugin is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginPin {
    /// `sha256:…` of its file.
    pub digest: String,
    /// The version of the contract that it was built for; none for a native library.
    pub wit: Option<String>,
    /// The host's interfaces that it can call.
    pub imports: BTreeSet<String>,
}

/// What one stage may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockedStage {
    /// `uses`
    pub uses: String,
    /// Whether the plugin is a native library.
    pub is_native: bool,
    /// The environment that it acts on.
    pub environment: Option<String>,
    /// `permissions`
    pub permissions: Permissions,
    /// `rehearse.permissions`
    pub rehearse: Permissions,
    /// As the pipeline has them; what isn't there is the runner's default.
    pub bounds: Bounds,
}

impl LockedPipeline {
    /// What a plan may do. `plugins`: those of its stages, by plan index. `packages`: what words of `net` stand for; what
    /// the user's machine adds isn't locked, as it differs from one machine to the next.
    pub fn of(plan: &Plan, plugins: &[PluginPin], packages: &[PackageOrigin]) -> LockedPipeline {
        let mut locked = LockedPipeline { sandbox: plan.sandbox, ..LockedPipeline::default() };
        let used = plan.package_managers();
        for named in packages.iter().filter(|named| named.by == NamedBy::Repository && used.contains(&named.manager)) {
            locked.package_hosts.entry(named.manager).or_default().insert(named.origin.clone());
        }
        for (stage, plugin) in plan.stages.iter().zip(plugins) {
            locked.plugins.insert(stage.uses.to_string(), plugin.clone());
            locked.stages.entry(stage.name.clone()).or_insert_with(|| LockedStage {
                uses: stage.uses.to_string(),
                is_native: matches!(stage.trust, Trust::Native { .. }),
                environment: stage.environment.as_ref().map(|environment| environment.name.clone()),
                permissions: stage.permissions.sorted(),
                rehearse: stage.rehearsal_grants().map(Permissions::sorted).unwrap_or_default(),
                bounds: stage.bounds(),
            });
            let rehearsed = stage.rehearsal_grants().into_iter().flat_map(|granted| &granted.secrets);
            for name in stage.permissions.secrets.iter().chain(rehearsed).map(SecretRule::name) {
                let declared = plan.secrets.get(name);
                locked.secrets.extend(declared.map(|secret| {
                    let (from, hosts, programs) =
                        (Some(secret.from.clone()), order(&secret.hosts), order(&secret.programs));
                    (name.to_owned(), LockedSecret { from, hosts, programs })
                }));
            }
        }
        locked
    }

    /// What `now` may do that this may not, and the other way round. `defaults`: the runner's own limits.
    pub fn changes(&self, now: &LockedPipeline, defaults: &Bounds) -> Vec<Change> {
        change::between(self, now, defaults)
    }
}

/// The order in which a pipeline lists its grants means nothing.
fn order<T: Ord + Clone>(entries: &[T]) -> Vec<T> {
    entries.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
