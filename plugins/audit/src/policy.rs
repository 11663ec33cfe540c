//! Checks the crates' sources, and the list of denied crates.

use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};

use crate::config::{DenyCrate, Sources};
use crate::finding::{Finding, Kind};

/// Finds packages whose source isn't allowed. Packages of the workspace itself have no source and are exempt.
pub(crate) fn check_sources(lockfile: &Lockfile, sources: &Sources) -> Vec<Finding> {
    let denied = lockfile.packages.iter().filter_map(|package| {
        let source = package.source.as_ref()?;
        (!sources.allow.iter().any(|allowed| covers(allowed, source))).then_some((package, source))
    });
    let finding = |(package, source): (&Package, &SourceId)| {
        let message = format!("{} {} comes from {source}, which isn't allowed", package.name, package.version);
        let help = format!(
            "the allowed sources are: {}; add this one to `sources.allow` if you trust it",
            sources.allow.join(", ")
        );
        Finding::denied(Kind::Source, "source-not-allowed", package, message, help)
    };
    denied.map(finding).collect()
}

/// Whether an entry of `allow` covers a source. The entry is `crates-io` or a prefix of the source. A prefix must end at a
/// separator, so that `git+https://host/acme` covers `…/acme/tool` but not `…/acme-evil/tool`.
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

/// Finds packages that `deny-crates` lists.
pub(crate) fn check_denied(lockfile: &Lockfile, denied: &[DenyCrate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &lockfile.packages {
        let entry = denied.iter().find(|entry| {
            entry.name == package.name.as_str()
                && entry.version.as_ref().is_none_or(|denied| denied.matches(&package.version))
        });
        let Some(entry) = entry else { continue };
        let message = format!("{} {} is denied: {}", package.name, package.version, entry.reason);
        let help = format!("run `cargo tree -i {}` to see which crate depends on it", package.name);
        findings.push(Finding::denied(Kind::DeniedCrate, "crate-denied", package, message, help));
    }
    findings
}
