//! The operator's policy: the most that any pipeline on a machine may be granted.
//!
//! A policy grants nothing. If a pipeline exceeds it, the whole run is refused, and each error names the place in the
//! pipeline and the line of the policy. Limits that a pipeline doesn't set are set to those of the policy.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::grants::{Bounds, Grant, NamedBy, NetRule, Origin, PackageOrigin, Permission, Permissions, Sandbox};
use crate::plan::{Plan, Stage, Trust};
use crate::read::Places;
use crate::span::SourceSpan;

/// A parsed policy file.
#[derive(Clone, Debug)]
pub struct OperatorPolicy {
    /// The name of the file in diagnostics.
    pub file: String,
    /// `sandbox`.
    pub(crate) sandbox: Option<Sandbox>,
    /// The 1-based line of `native = false`; none if native libraries are allowed.
    pub(crate) no_native: Option<usize>,
    /// `locked`: whether runs require an up-to-date lock file.
    pub requires_lock: bool,
    /// `secret-sources`.
    pub(crate) secret_sources: Option<PolicyList<String>>,
    /// `package-hosts`.
    pub(crate) package_hosts: Option<PolicyList<NetRule>>,
    /// `permissions`: the limits for plugins without limits of their own.
    pub(crate) general: PermissionLimits,
    /// `plugins`: limits by the plugin's name or digest. A key that is present here replaces the general one.
    pub(crate) plugins: BTreeMap<String, PermissionLimits>,
    /// `limits`.
    pub(crate) bounds: Bounds,
    /// `cache.shared`: the location of the shared cache.
    pub shared_cache: Option<PolicyValue>,
    /// `cache.tier`: the tier of runs on this machine, which determines whose cached results they use.
    pub cache_tier: Option<PolicyValue>,
    /// The 1-based lines of the keys of `limits`.
    pub(crate) lines: BTreeMap<String, usize>,
}

/// A string in the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyValue {
    /// The 1-based line.
    pub line: usize,
    /// The string's value.
    pub text: String,
}

/// The most that may be granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct PermissionLimits {
    pub(crate) granted: Permissions,
    /// The 1-based line of each list in the policy. Permissions without a list aren't limited.
    pub(crate) lines: BTreeMap<Permission, usize>,
}

/// A list in the policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyList<T> {
    /// The 1-based line.
    pub(crate) line: usize,
    pub(crate) entries: Vec<T>,
}

/// The limit on one permission of a stage.
#[derive(Clone, Copy)]
struct PermissionLimit<'a> {
    granted: &'a Permissions,
    /// The 1-based line.
    line: usize,
}

impl OperatorPolicy {
    /// Checks a plan against the policy. `text` is the text of its file; `digests` are its plugins' by plan index.
    ///
    /// # Errors
    /// A diagnostic for everything in the plan that exceeds the policy.
    pub fn check(&self, plan: &Plan, file_name: &str, text: &str, digests: &[String]) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::parse(text);
        let mut seen = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for (stage, digest) in plan.stages.iter().zip(digests) {
            // All cells of a matrix have the same grants.
            if seen.insert(&stage.name) {
                self.check_stage(stage, digest, &places, &mut report);
                self.check_credentials(plan, stage, digest, &places, &mut report);
                let granted = std::iter::once(&*stage.permissions).chain(stage.rehearsal_grants());
                secrets.extend(granted.flat_map(|granted| plan.secrets_of(granted)));
            }
        }
        for (name, secret) in secrets.iter().filter_map(|name| Some((name, plan.secrets.get(name)?))) {
            let source = secret.from.source();
            if let Some(rule) =
                self.secret_sources.as_ref().filter(|rule| !rule.entries.iter().any(|one| one == source))
            {
                let place = places.secret_source(name).unwrap_or_default();
                let message =
                    format!("the secret `{name}` comes from `{}`, which the policy doesn't allow", secret.from);
                report.error(|| beyond(place, message, self.allows("secret-sources", rule.line, &rule.entries)));
            }
        }
        report.finish(Some(())).map(|_| ())
    }

    /// Checks the configured origins of package managers against the policy. An origin is allowed if `net` or
    /// `package-hosts` of the policy include it, or if the policy has neither of them. `digests` as in
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// A diagnostic for each stage and origin that the policy doesn't allow.
    pub fn check_packages(
        &self,
        plan: &Plan,
        file_name: &str,
        text: &str,
        digests: &[String],
        packages: &[PackageOrigin],
    ) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::parse(text);
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
                let place = places.grant(stage, "net", named.manager.word()).unwrap_or(stage.location);
                report.error(|| self.beyond_packages(stage, named, place, line));
            }
        }
        report.finish(Some(())).map(|_| ())
    }

    fn beyond_packages(&self, stage: &Stage, named: &PackageOrigin, place: SourceSpan, line: usize) -> Problem {
        let PackageOrigin { manager, origin, by, place: named_at } = named;
        let stage = &stage.name;
        let message = format!(
            "`{stage}` may call {origin}, which {named_at} sets for `{manager}`, but the policy doesn't allow it"
        );
        let whose = match by {
            NamedBy::Repository => "remove it from the repository",
            NamedBy::Machine => "remove it from this machine's configuration",
        };
        let key = if self.package_hosts.is_some() { "package-hosts" } else { "net" };
        let help =
            format!("{}:{line} limits `{key}`: {whose}, or ask this machine's operator to add it there", self.file);
        beyond(place, message, help)
    }

    /// Checks whether the plan's plugins may be loaded. This is the part of [`check`](Self::check) that needs no
    /// digests, so that it can be done before any plugin is opened.
    ///
    /// # Errors
    /// A diagnostic for each native library, unless the policy allows them.
    pub fn check_trust(&self, plan: &Plan, file_name: &str, text: &str) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let places = Places::parse(text);
        plan.stages.iter().for_each(|stage| self.check_code(stage, &places, &mut report));
        report.finish(Some(())).map(|_| ())
    }

    fn check_code(&self, stage: &Stage, places: &Places<'_>, report: &mut Report) {
        if let (Trust::Native { .. }, Some(line)) = (&stage.trust, self.no_native) {
            let place = places.key(stage, "trust").unwrap_or(stage.location);
            let message = format!("`{}` is a native library, which the policy doesn't allow", stage.name);
            let help = format!(
                "{}:{line} sets `native = false`: use a component, which can access only what is granted",
                self.file
            );
            report.error(|| beyond(place, message, help));
        }
    }

    fn check_stage(&self, stage: &Stage, digest: &str, places: &Places<'_>, report: &mut Report) {
        self.check_code(stage, places, report);
        // A grant is within the policy if all of the policy's lists together allow it: `write` in the policy also
        // allows `read` in the pipeline. The lists can come from different tables, so they are collected first.
        let mut most = Permissions::default();
        let bounded = |kind: &Permission| Some((*kind, self.bound(*kind, stage, digest)?));
        let bounds: BTreeMap<Permission, PermissionLimit<'_>> = Permission::ALL.iter().filter_map(bounded).collect();
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
            let place = places.grant(stage, key, grant.as_str()).unwrap_or(stage.location);
            let message = format!("`{}` may {}, which the policy doesn't allow", stage.name, grant.phrase());
            report.error(|| beyond(place, message, help));
        }
        if stage.permissions.unsandboxed && self.sandbox.is_some() {
            let place = places.key(stage, "sandbox").unwrap_or(stage.location);
            let message =
                format!("the programs of `{}` run without a sandbox, which the policy doesn't allow", stage.name);
            let help = "remove `sandbox` here: the policy's own `sandbox` applies to all stages".to_owned();
            report.error(|| beyond(place, message, help));
        }
        let rehearsed = stage.rehearsal_grants().into_iter().flat_map(Permissions::entries);
        for (grant, (key, help)) in rehearsed.filter_map(|grant| Some((grant, beyond_most(&grant)?))) {
            let place = places.rehearsal_grant(stage, key, grant.as_str()).unwrap_or(stage.location);
            let (name, phrase) = (&stage.name, grant.phrase());
            let message = format!("a rehearsal of `{name}` may {phrase}, which the policy doesn't allow");
            report.error(|| beyond(place, message, help));
        }
        // Limits that the stage doesn't set can't exceed the policy: `impose` sets them.
        let larger =
            stage.bounds().beyond(&self.bounds).into_iter().filter_map(|(key, own, most)| Some((key, own?, most)));
        for (key, own, most) in larger {
            let place = places.limit(stage, key).unwrap_or(stage.location);
            let message =
                format!("`{}` sets the limit `{key}` to {own}, but the policy allows at most {most}", stage.name);
            let line = self.lines.get(key).copied().unwrap_or_default();
            let help = format!("{}:{line} sets the maximum: lower the stage's limit, or remove it", self.file);
            report.error(|| beyond(place, message, help));
        }
    }

    /// A credential grants requests to its origins, so that these must be within `net` of the policy as well.
    fn check_credentials(&self, plan: &Plan, stage: &Stage, digest: &str, places: &Places<'_>, report: &mut Report) {
        let Some(net) = self.bound(Permission::Net, stage, digest) else { return };
        let rehearsed = stage.rehearsal_grants().into_iter().flat_map(|granted| &granted.credentials);
        let granted = stage.permissions.credentials.iter().chain(rehearsed).collect::<BTreeSet<_>>();
        for (rule, declared) in granted.iter().filter_map(|rule| Some((rule, plan.credentials.get(rule.name())?))) {
            let name = rule.name();
            let own = places.grant(stage, "credentials", rule.as_str());
            let place = own.or_else(|| places.rehearsal_grant(stage, "credentials", rule.as_str()));
            let place = place.unwrap_or(stage.location);
            let allows = |origin: &Origin| net.granted.net.iter().any(|rule| rule.grants(origin));
            let of_ssh = declared.ssh_hosts().map(|(_, host)| host.address.place());
            let origins = declared.hosts().chain(declared.authority()).chain(of_ssh);
            for origin in origins.filter(|origin| !allows(origin)) {
                let message = format!(
                    "by the credential `{name}`, `{}` may call {origin}, which the policy doesn't allow",
                    stage.name
                );
                report.error(|| beyond(place, message, self.allows("net", net.line, &net.granted.net)));
            }
            if declared.has_unknown_origin() {
                let message = format!(
                    "by the credential `{name}`, `{}` may call a server that only its kubeconfig names, but the policy \
                     limits `net`",
                    stage.name
                );
                let help = format!(
                    "add to [credentials.{name}] the server that the policy allows: `origins = [\"https://HOST:PORT\"]`"
                );
                report.error(|| beyond(place, message, help));
            }
        }
    }

    /// Applies the policy's sandbox mode and limits to a plan that passed [`check`](Self::check). `defaults` are the
    /// runner's limits.
    pub fn impose(&self, plan: &mut Plan, defaults: &Bounds) {
        plan.sandbox = self.sandbox.map_or(plan.sandbox, |most| plan.sandbox.min(most));
        // The defaults are filled in before the policy is applied. In the other order, a limit that the stage doesn't
        // set would become the policy's even if the runner's default is smaller: a generous policy would raise the
        // limits of all stages.
        for stage in &mut plan.stages {
            stage.set_bounds(stage.bounds().or(defaults).at_most(&self.bounds));
        }
    }

    /// The limit on one permission of a stage: by the plugin's digest, by its name, or the general one, in this order.
    fn bound(&self, kind: Permission, stage: &Stage, digest: &str) -> Option<PermissionLimit<'_>> {
        let uses = stage.uses.to_string();
        let own = [digest, &uses].into_iter().filter_map(|name| self.plugins.get(name));
        let mut limits = own.chain([&self.general]);
        limits.find_map(|limits| Some(PermissionLimit { granted: &limits.granted, line: *limits.lines.get(&kind)? }))
    }

    fn allows<T: AsRef<str>>(&self, key: &str, line: usize, entries: &[T]) -> String {
        let entries: Vec<String> = entries.iter().map(|entry| toml::Value::from(entry.as_ref()).to_string()).collect();
        format!(
            "{}:{line} allows {key} = [{}]: request no more than that, or ask this machine's operator to allow it",
            self.file,
            entries.join(", ")
        )
    }
}

fn beyond(place: SourceSpan, message: String, help: String) -> Problem {
    Problem::new("stagewright::beyond-policy", place, message).label("beyond the policy").help(help)
}
