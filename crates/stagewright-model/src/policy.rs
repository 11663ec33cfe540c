//! The operator's policy: the most that any pipeline on a machine may be granted.
//!
//! A policy grants nothing. A pipeline that asks for more is refused as a whole, with the place in the pipeline and the
//! line of the policy; a limit that a pipeline doesn't set is set to the policy's.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::grants::{Bounds, Grant, NamedBy, NetRule, PackageOrigin, Permission, Permissions, Sandbox, SecretRule};
use crate::plan::{Plan, Stage, Trust};
use crate::read::Places;
use crate::span::SourceSpan;

/// A policy file, read.
#[derive(Clone, Debug)]
pub struct OperatorPolicy {
    /// What diagnostics call it.
    pub file: String,
    pub(crate) sandbox: Option<Sandbox>,
    /// None when native libraries are allowed; else the line that says so.
    pub(crate) no_native: Option<usize>,
    /// Whether runs need an up-to-date lock.
    pub requires_lock: bool,
    pub(crate) secret_sources: Option<Listed<String>>,
    pub(crate) package_hosts: Option<Listed<NetRule>>,
    pub(crate) general: PermissionLimits,
    /// By the plugin's name or digest; a key that is there replaces the general one.
    pub(crate) plugins: BTreeMap<String, PermissionLimits>,
    pub(crate) bounds: Bounds,
    /// Where the results are that machines share.
    pub shared_cache: Option<PolicyValue>,
    /// Who takes the results of runs.
    pub cache_tier: Option<PolicyValue>,
    /// Of the keys of `limits`.
    pub(crate) lines: BTreeMap<String, usize>,
}

/// A text of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyValue {
    /// 1-based.
    pub line: usize,
    /// As it stands there.
    pub text: String,
}

/// The most that may be granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct PermissionLimits {
    pub(crate) granted: Permissions,
    /// The line of each list that is there, 1-based. What has no list isn't bounded.
    pub(crate) lines: BTreeMap<Permission, usize>,
}

/// A list of the policy.
#[derive(Clone, Debug)]
pub(crate) struct Listed<T> {
    /// 1-based.
    pub(crate) line: usize,
    pub(crate) entries: Vec<T>,
}

/// What bounds the permissions of one kind.
#[derive(Clone, Copy)]
struct Bound<'a> {
    granted: &'a Permissions,
    line: usize,
}

impl OperatorPolicy {
    /// All that a plan has beyond the policy, placed in the plan's own text. `digests`: those of its plugins, by plan
    /// index.
    pub fn check(&self, plan: &Plan, file_name: &str, text: &str, digests: &[String]) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::of(text);
        let mut seen = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for (stage, digest) in plan.stages.iter().zip(digests) {
            // The cells of a matrix are granted the same.
            if seen.insert(&stage.name) {
                self.check_stage(stage, digest, &places, &mut report);
                let rehearsed = stage.rehearsal_grants().into_iter().flat_map(|granted| &granted.secrets);
                secrets.extend(stage.permissions.secrets.iter().chain(rehearsed).map(SecretRule::name));
            }
        }
        for (name, secret) in secrets.into_iter().filter_map(|name| Some((name, plan.secrets.get(name)?))) {
            let source = secret.from.source();
            if let Some(rule) =
                self.secret_sources.as_ref().filter(|rule| !rule.entries.iter().any(|one| one == source))
            {
                let place = places.of_secret(name).unwrap_or_default();
                let message =
                    format!("the secret `{name}` comes from `{}`, which the policy doesn't allow", secret.from);
                report.error(|| beyond(place, message, self.allows("secret-sources", rule.line, &rule.entries)));
            }
        }
        report.finish(Some(())).map(|_| ())
    }

    /// What words of `net` stand for beyond the policy. An origin that a configuration names is allowed where `net` of the
    /// policy or its `package-hosts` name it, and where neither is there. `digests` as in [`check`](Self::check).
    pub fn check_packages(
        &self,
        plan: &Plan,
        file_name: &str,
        text: &str,
        digests: &[String],
        packages: &[PackageOrigin],
    ) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::of(text);
        let mut seen = BTreeSet::new();
        for (stage, digest) in plan.stages.iter().zip(digests).filter(|(stage, _)| seen.insert(&stage.name)) {
            let net = self.bound(Permission::Net, stage, digest);
            let hosts = self.package_hosts.as_ref();
            let allows = |named: &PackageOrigin| {
                let mut rules = net.iter().flat_map(|bound| &bound.granted.net);
                let mut hosts = hosts.iter().flat_map(|hosts| &hosts.entries);
                rules.any(|rule| rule.grants(&named.origin)) || hosts.any(|rule| rule.grants(&named.origin))
            };
            let Some(line) = hosts.map(|hosts| hosts.line).or(net.map(|bound| bound.line)) else { continue };
            let managers = stage.package_managers();
            for named in packages.iter().filter(|named| managers.contains(&named.manager) && !allows(named)) {
                let place = places.of_grant(stage, "net", named.manager.word()).unwrap_or(stage.location);
                report.error(|| self.beyond_packages(stage, named, place, line));
            }
        }
        report.finish(Some(())).map(|_| ())
    }

    fn beyond_packages(&self, stage: &Stage, named: &PackageOrigin, place: SourceSpan, line: usize) -> Problem {
        let PackageOrigin { manager, origin, by, place: named_at } = named;
        let stage = &stage.name;
        let message =
            format!("`{stage}` may call {origin}, which {named_at} names for `{manager}` and the policy doesn't allow");
        let whose = match by {
            NamedBy::Repository => "remove it from the repository",
            NamedBy::Machine => "remove it from this machine's configuration",
        };
        let key = if self.package_hosts.is_some() { "package-hosts" } else { "net" };
        let help = format!("{}:{line} bounds {key}: {whose}, or ask who runs this machine to add it there", self.file);
        beyond(place, message, help)
    }

    /// Whether the code of a plan's plugins may be looked at: all that can be said before they are.
    pub fn check_trust(&self, plan: &Plan, file_name: &str, text: &str) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::of(text);
        plan.stages.iter().for_each(|stage| self.check_code(stage, &places, &mut report));
        report.finish(Some(())).map(|_| ())
    }

    fn check_code(&self, stage: &Stage, places: &Places<'_>, report: &mut Report) {
        if let (Trust::Native { .. }, Some(line)) = (&stage.trust, self.no_native) {
            let place = places.of_key(stage, "trust").unwrap_or(stage.location);
            let message = format!("`{}` is a native library, which the policy doesn't allow", stage.name);
            let help =
                format!("{}:{line} says `native = false`: use a component, which has no powers of its own", self.file);
            report.error(|| beyond(place, message, help));
        }
    }

    fn check_stage(&self, stage: &Stage, digest: &str, places: &Places<'_>, report: &mut Report) {
        self.check_code(stage, places, report);
        let mut most = Permissions::default();
        let bounded = |kind: &Permission| Some((*kind, self.bound(*kind, stage, digest)?));
        let bounds: BTreeMap<Permission, Bound<'_>> = Permission::ALL.iter().filter_map(bounded).collect();
        for (kind, bound) in &bounds {
            bound.granted.of(*kind).into_iter().for_each(|grant| most.push(grant));
        }
        let beyond_most = |grant: &Grant<'_>| {
            let bound = bounds.get(&grant.permission()).filter(|_| !grant.is_within(&most))?;
            let key = grant.permission().key();
            Some((key, self.allows(key, bound.line, &bound.granted.of(grant.permission()))))
        };
        for (grant, (key, help)) in stage.permissions.entries().filter_map(|grant| Some((grant, beyond_most(&grant)?)))
        {
            let place = places.of_grant(stage, key, grant.as_str()).unwrap_or(stage.location);
            let message = format!("`{}` may {}, which the policy doesn't allow", stage.name, grant.phrase());
            report.error(|| beyond(place, message, help));
        }
        let rehearsed = stage.rehearsal_grants().into_iter().flat_map(Permissions::entries);
        for (grant, (key, help)) in rehearsed.filter_map(|grant| Some((grant, beyond_most(&grant)?))) {
            let place = places.of_rehearsal_grant(stage, key, grant.as_str()).unwrap_or(stage.location);
            let (name, phrase) = (&stage.name, grant.phrase());
            let message = format!("a rehearsal of `{name}` may {phrase}, which the policy doesn't allow");
            report.error(|| beyond(place, message, help));
        }
        // What isn't there is set to what the policy has.
        let larger =
            stage.bounds().beyond(&self.bounds).into_iter().filter_map(|(key, own, most)| Some((key, own?, most)));
        for (key, own, most) in larger {
            let place = places.of_limit(stage, key).unwrap_or(stage.location);
            let message = format!("`{}` has the limit `{key}` of {own}, and the policy allows {most}", stage.name);
            let line = self.lines.get(key).copied().unwrap_or_default();
            let help = format!("{}:{line} has the largest that is allowed: lower the stage's, or remove it", self.file);
            report.error(|| beyond(place, message, help));
        }
    }

    /// Makes a plan that the policy allows what it is under the policy. `defaults`: the runner's own limits.
    pub fn impose(&self, plan: &mut Plan, defaults: &Bounds) {
        plan.sandbox = self.sandbox.map_or(plan.sandbox, |most| plan.sandbox.min(most));
        for stage in &mut plan.stages {
            stage.set_bounds(stage.bounds().or(defaults).at_most(&self.bounds));
        }
    }

    fn bound(&self, kind: Permission, stage: &Stage, digest: &str) -> Option<Bound<'_>> {
        let uses = stage.uses.to_string();
        let own = [digest, &uses].into_iter().filter_map(|name| self.plugins.get(name));
        let mut limits = own.chain([&self.general]);
        limits.find_map(|limits| Some(Bound { granted: &limits.granted, line: *limits.lines.get(&kind)? }))
    }

    fn allows<T: AsRef<str>>(&self, key: &str, line: usize, entries: &[T]) -> String {
        let entries: Vec<String> = entries.iter().map(|entry| toml::Value::from(entry.as_ref()).to_string()).collect();
        format!(
            "{}:{line} allows {key} = [{}]: keep to it, or ask who runs this machine to allow more",
            self.file,
            entries.join(", ")
        )
    }
}

fn beyond(place: SourceSpan, message: String, help: String) -> Problem {
    Problem::new("stagewright::beyond-policy", place, message).label("beyond the policy").help(help)
}
