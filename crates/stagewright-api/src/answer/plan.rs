//! `plan --json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::diagnostic::DiagnosticEntry;
use crate::event::{EffectClassName, FidelityName, StageKindName};

/// A plan: the stages in order, and what each may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanAnswer {
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The pipeline file, relative to the repository.
    pub file: String,
    /// How the plan differs from the lock file.
    pub lock: LockComparison,
    /// What the operator's policy doesn't allow.
    pub beyond_policy: Vec<DiagnosticEntry>,
    /// `[pipeline] sandbox`.
    pub sandbox: SandboxName,
    /// Values of the pipeline's inputs by name, defaults included.
    pub inputs: BTreeMap<String, Json>,
    /// The stages in the order of the plan.
    pub stages: Vec<PlanStage>,
}

/// How a plan differs from the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum LockComparison {
    /// The lock file does not exist.
    NoLock,
    /// The lock file doesn't contain the pipeline.
    NotLocked,
    /// It doesn't differ.
    Same,
    /// It differs.
    Changed {
        /// Every difference; at least one.
        changes: Vec<LockChangeEntry>,
    },
}

/// A difference from the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LockChangeEntry {
    /// Whether the plan may do more than what is locked, or something that wasn't reviewed.
    pub wider: bool,
    /// The difference, in a sentence.
    pub text: String,
}

/// What happens on a machine that can't confine programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxName {
    /// They aren't started.
    Required,
    /// They are started unsandboxed.
    Preferred,
}

/// A grant that a stage lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LackedGrantEntry {
    /// The table that lacks it, as in `stages.test.permissions`.
    pub table: String,
    /// Its key in the table, as in `read`.
    pub permission: String,
    /// An entry of that key, as in `Cargo.toml`.
    pub entry: String,
    /// What the stage uses it for, or which run it was denied in; empty when the plugin doesn't say.
    pub reason: String,
    /// Whether the stage also works without it.
    pub optional: bool,
}

/// A stage of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanStage {
    /// Its unique name, matrix values included.
    pub id: String,
    /// When it runs.
    pub kind: StageKindName,
    /// `uses`.
    pub uses: String,
    /// Version of its plugin; empty when the plugin names none.
    pub version: String,
    /// Digest of its plugin.
    pub digest: String,
    /// Names of the host's interfaces that the plugin imports. Empty for a native library, which has the powers of the
    /// engine.
    pub imports: Vec<String>,
    /// How far its effects can reach.
    pub effect: EffectClassName,
    /// What it is granted in a rehearsal, by `[stages.NAME.rehearse.permissions]`.
    pub rehearse: Option<PermissionsEntry>,
    /// How much of it is real; none without `--rehearse`.
    pub rehearsal: Option<FidelityName>,
    /// Unique names of the stages that it needs.
    pub needs: Vec<String>,
    /// `if`.
    #[serde(rename = "if")]
    pub condition: Option<String>,
    /// Name of the environment that it acts on.
    pub environment: Option<String>,
    /// What it would change of the release that its environment runs. Left out if it hasn't deployed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<DeployChangesEntry>,
    /// Names of the environments that its gate approves.
    pub approves: Vec<String>,
    /// Unique names of the stages that are undone when it fails.
    pub compensate: Vec<String>,
    /// What it is granted, including the entries of the sets that it uses.
    pub permissions: PermissionsEntry,
    /// Names of the sets of permissions that it uses.
    pub permission_sets: Vec<String>,
    /// What its plugin will use and isn't granted.
    pub lacks: Vec<LackedGrantEntry>,
    /// The origins that the words `cargo`, `npm` and `pip` of its `net` stand for, by that word.
    pub package_hosts: BTreeMap<String, Vec<String>>,
    /// Those of them that a configuration names.
    pub package_hosts_named_by: Vec<PackageOriginEntry>,
    /// Its limits by key, as text with the unit, as in `256MiB`. Limits that aren't set are left out.
    pub limits: BTreeMap<String, String>,
    /// How it uses the cache.
    pub cache: CacheUseName,
    /// Globs of the files that its result depends on.
    pub inputs: Vec<String>,
    /// Globs of the files that it makes.
    pub outputs: Vec<String>,
    /// Whether something of it runs unsandboxed.
    pub unsandboxed: bool,
    /// What its programs get of the machine, beyond the system's own files.
    pub toolchain: Vec<ToolMountEntry>,
    /// What a reviewer could overlook, a sentence each.
    pub notes: Vec<String>,
}

/// What a stage would change of the release that its environment runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeployChangesEntry {
    /// The release's number.
    pub release: u64,
    /// The values of its `with` table that differ.
    pub changes: Vec<ConfigChangeEntry>,
}

/// A value of a `with` table that differs from that of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigChangeEntry {
    /// Where it is, as in `env.VERSION`.
    pub key: String,
    /// The value in the release; null if it hasn't the key.
    pub before: Option<Json>,
    /// The value in the pipeline file, with its expressions; null if it hasn't the key.
    pub after: Option<Json>,
}

/// Grants by kind, as they are written in the pipeline file. Kinds without grants are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PermissionsEntry {
    /// Programs that it may start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<String>,
    /// Globs of files that it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// Globs of files that it may read and write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Globs of files that it may read, and start as programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// Origins that it may call, and words for those of package managers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<String>,
    /// Secrets that it may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Secrets whose value it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<String>,
    /// Credentials with which the host signs its requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// Image repositories that it may push to or resolve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registry: Vec<String>,
    /// Services that it may start and stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<String>,
    /// Unix sockets that its programs may connect to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub socket: Vec<String>,
    /// Variables that its programs inherit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

/// An origin of packages that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageOriginEntry {
    /// `cargo`, `npm` or `pip`.
    pub word: String,
    /// As in `https://npm.example.org`.
    pub origin: String,
    /// Whose configuration names it.
    pub by: PackageOriginSource,
    /// Where it is named, as in `.npmrc:3` or `$PIP_INDEX_URL`.
    pub place: String,
}

/// Whose configuration names an origin of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageOriginSource {
    /// A file of the repository; the lock file contains it.
    Repository,
    /// A file or variable of this machine; the lock file doesn't contain it.
    Machine,
}

/// How a stage uses the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheUseName {
    /// Not at all: it runs each time.
    Never,
    /// It takes results and keeps none.
    Read,
    /// It takes and keeps results.
    ReadWrite,
}

/// A path of the machine that a stage's programs get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolMountEntry {
    /// Absolute; the same inside and outside of the sandbox.
    pub path: String,
    /// How they get it.
    pub how: MountModeName,
    /// The program that it is for.
    pub program: String,
}

/// How a path of the machine gets into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountModeName {
    /// To be read and started.
    Execute,
    /// A copy of a configuration file, without credentials.
    Copy,
    /// A folder of the stage's own that is kept for its next attempt, such as a download cache.
    Kept,
    /// A file of the stage's own that is kept for its next attempt.
    KeptFile,
}
