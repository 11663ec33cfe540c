//! `stagewright.lock`: what each pipeline of a repository may do, as it was last reviewed.
//!
//! A lock grants nothing. It is compared with a plan, and whatever the plan has beyond the lock is reported, or refused
//! with `--locked`. Each pipeline's section has a checksum of its own: a section that was edited by hand or merged
//! badly is invalid, but changes to the sections of different pipelines can be merged as text.

mod change;
mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use self::change::LockChange;
use crate::credential::CredentialDeclaration;
use crate::grants::{
    Bounds, CredentialRule, HostPattern, NamedBy, Origin, PackageManager, PackageOrigin, Permissions, Sandbox,
};
use crate::plan::{Plan, Trust, lock_of};
use crate::secret::SecretFrom;

/// The content of a lock file.
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
    /// The secrets that stages use, by name.
    pub secrets: BTreeMap<String, LockedSecret>,
    /// The credentials that stages use, by name. Their origins are sorted.
    pub credentials: BTreeMap<String, CredentialDeclaration>,
    /// The origins that files of the repository add to the package managers in the stages' `net`. A package manager
    /// without any has no entry.
    pub package_hosts: BTreeMap<PackageManager, BTreeSet<Origin>>,
    /// The plugins, by the stages' `uses`.
    pub plugins: BTreeMap<String, PluginPin>,
    /// The stages, by name. All cells of a matrix have the same grants.
    pub stages: BTreeMap<String, LockedStage>,
}

/// Where a secret comes from, and where it may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedSecret {
    /// `from`; none in [`Default`], to which a new secret is compared.
    pub from: Option<SecretFrom>,
    /// `hosts`.
    pub hosts: Vec<HostPattern>,
    /// `programs`.
    pub programs: Vec<String>,
}

/// The identity of a plugin's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginPin {
    /// `sha256:…` of the plugin's file.
    pub digest: String,
    /// The version of the contract that the plugin was built for; none for a native library.
    pub wit: Option<String>,
    /// The names of the host's interfaces that the plugin imports.
    pub imports: BTreeSet<String>,
}

/// What one stage may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockedStage {
    /// `uses`.
    pub uses: String,
    /// Whether the plugin is a native library.
    pub is_native: bool,
    /// The environment that the stage acts on.
    pub environment: Option<String>,
    /// `permissions`.
    pub permissions: Permissions,
    /// `rehearse.permissions`.
    pub rehearse: Permissions,
    /// The limits that the pipeline sets; the runner's defaults apply to others.
    pub bounds: Bounds,
}

impl LockedPipeline {
    /// Describes what a plan may do. `plugins` are those of its stages by plan index. `packages` are the configured
    /// origins of package managers; those that are configured outside of the repository aren't locked, since they
    /// differ between machines.
    pub fn of(plan: &Plan, plugins: &[PluginPin], packages: &[PackageOrigin]) -> LockedPipeline {
        let mut locked = LockedPipeline { sandbox: plan.sandbox, ..LockedPipeline::default() };
        let used = plan.package_managers();
        for named in packages.iter().filter(|named| named.by == NamedBy::Repository && used.contains(&named.manager)) {
            locked.package_hosts.entry(named.manager).or_default().insert(named.origin.clone());
        }
        for (stage, plugin) in plan.stages.iter().zip(plugins) {
            locked.plugins.insert(stage.uses.to_string(), plugin.clone());
            let of_table = locked.stages.entry(stage.name.clone()).or_insert_with(|| LockedStage {
                uses: stage.uses.to_string(),
                is_native: matches!(stage.trust, Trust::Native { .. }),
                environment: stage.environment.as_ref().map(|environment| lock_of(&environment.name).to_owned()),
                permissions: stage.permissions.sorted(),
                rehearse: stage.rehearsal_grants().map(Permissions::sorted).unwrap_or_default(),
                bounds: stage.bounds(),
            });
            // Those of a table only differ in the credentials of single regions.
            add_credentials(&mut of_table.permissions, &stage.permissions);
            if let Some(rehearsed) = stage.rehearsal_grants() {
                add_credentials(&mut of_table.rehearse, rehearsed);
            }
            for granted in std::iter::once(&*stage.permissions).chain(stage.rehearsal_grants()) {
                locked.add_used(plan, granted);
            }
        }
        locked
    }

    /// Adds the secrets and credentials that these permissions give access to.
    fn add_used(&mut self, plan: &Plan, granted: &Permissions) {
        for name in plan.secrets_of(granted) {
            let declared = plan.secrets.get(&name);
            self.secrets.extend(declared.map(|secret| {
                let (from, hosts, programs) =
                    (Some(secret.from.clone()), order(&secret.hosts), order(&secret.programs));
                (name, LockedSecret { from, hosts, programs })
            }));
        }
        for name in granted.credentials.iter().map(CredentialRule::name) {
            let declared = plan.credentials.get(name);
            self.credentials.extend(declared.map(|declared| {
                (name.to_owned(), CredentialDeclaration { origins: order(&declared.origins), ..declared.clone() })
            }));
        }
    }

    /// The changes from this pipeline to `now`. `defaults` are the runner's limits.
    pub fn changes(&self, now: &LockedPipeline, defaults: &Bounds) -> Vec<LockChange> {
        change::between(self, now, defaults)
    }
}

/// Sorts entries and removes duplicates: the order in a pipeline has no meaning.
fn order<T: Ord + Clone>(entries: &[T]) -> Vec<T> {
    entries.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn add_credentials(to: &mut Permissions, from: &Permissions) {
    let missing: Vec<CredentialRule> =
        from.credentials.iter().filter(|rule| !to.credentials.contains(rule)).cloned().collect();
    if !missing.is_empty() {
        to.credentials.extend(missing);
        *to = to.sorted();
    }
}
