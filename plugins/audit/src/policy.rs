//! Which crates may be there at all, and from where.

use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};

use crate::config::{DenyCrate, Sources};
use crate::finding::{Finding, Kind};

/// Packages whose source isn't allowed. Packages of the workspace itself have none, and always may be there.
pub(crate) fn check_sources(lockfile: &Lockfile, sources: &Sources) -> Vec<Finding> {
    let banned = lockfile.packages.iter().filter_map(|package| {
        let source = package.source.as_ref()?;
        (!sources.allow.iter().any(|allowed| covers(allowed, source))).then_some((package, source))
    });
    let finding = |(package, source): (&Package, &SourceId)| {
        let message = format!("{} {} comes from {source}, which isn't allowed", package.name, package.version);
        let help = format!("allowed are: {}; add it to `sources.allow` if it is trusted", sources.allow.join(", "));
        Finding::denied(Kind::Source, "source-not-allowed", package, message, help)
    };
    banned.map(finding).collect()
}

/// Whether an entry of `allow` covers a source: `crates-io`, or the beginning of the source up to a separator, so that
/// `git+https://host/acme` covers `…/acme/tool` and not `…/acme-evil/tool`.
fn covers(allowed: &str, source: &SourceId) -> bool {
    if allowed == "crates-io" {
        return source.is_default_registry();
    }
    let source = source.to_string();
    let Some(rest) = source.strip_prefix(allowed) else {
        return false;
    };
    rest.is_empty() || allowed.ends_with('/') || rest.starts_with(['/', '?', '#']) || rest.starts_with(".git")
}

/// Packages that are denied by name.
pub(crate) fn check_denied(lockfile: &Lockfile, denied: &[DenyCrate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &lockfile.packages {
        let entry = denied.iter().find(|entry| {
            entry.name == package.name.as_str()
                && entry.version.as_ref().is_none_or(|wanted| wanted.matches(&package.version))
        });
        let Some(entry) = entry else { continue };
        let message = format!("{} {} is denied: {}", package.name, package.version, entry.reason);
        let help = format!("`cargo tree -i {}` says what pulls it in", package.name);
        findings.push(Finding::denied(Kind::DeniedCrate, "crate-denied", package, message, help));
    }
    findings
}
