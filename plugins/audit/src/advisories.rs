//! Matches the packages of a lock file against the advisories, minus those that the configuration ignores.

use jiff::civil::Date;
use rustsec::advisory::Advisory;
use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};

use crate::config::Ignore;
use crate::database::Database;
use crate::finding::{Finding, Kind};
use crate::remedy;

/// The advisories that apply to the lock file, split by whether they are ignored.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) findings: Vec<Finding>,
    /// Ignored advisories, each with the reason from the configuration.
    pub(crate) ignored: Vec<(String, String)>,
}

/// Looks up every package. An `ignore` entry that has expired or matches nothing becomes a finding of its own.
pub(crate) fn check(
    lockfile: &Lockfile,
    database: &Database,
    ignore: &[Ignore],
    deny_warnings: bool,
    today: Date,
) -> Matches {
    let mut matches = Matches::default();
    let mut used = vec![false; ignore.len()];
    for package in &lockfile.packages {
        for advisory in database.affecting(package.name.as_str(), &package.version) {
            if !same_source(advisory, package) {
                continue;
            }
            let entry = ignore.iter().position(|entry| &entry.id == advisory.id());
            if let Some(index) = entry {
                used[index] = true;
                if !has_expired(&ignore[index], today) {
                    matches.ignored.push((advisory.id().to_string(), ignore[index].reason.clone()));
                    continue;
                }
            }
            matches.findings.push(finding(lockfile, advisory, package, deny_warnings));
        }
    }
    for (entry, used) in ignore.iter().zip(used) {
        matches.findings.extend(check_ignore_entry(entry, used, today));
    }
    matches
}

fn check_ignore_entry(entry: &Ignore, used: bool, today: Date) -> Option<Finding> {
    let (deny, code, message, help) = if has_expired(entry, today) {
        let expired = entry.expires.map(|date| date.to_string()).unwrap_or_default();
        let help = "update the crate, or review the advisory again and extend `expires`";
        (
            true,
            "ignore-expired",
            format!("the `ignore` entry for {} expired on {expired}: {}", entry.id, entry.reason),
            help,
        )
    } else if !used {
        (
            false,
            "ignore-unused",
            format!("the `ignore` entry for {} matches nothing in the lock file", entry.id),
            "remove it",
        )
    } else {
        return None;
    };
    Some(Finding::about_audit(deny, code, message, help))
}

fn has_expired(entry: &Ignore, today: Date) -> bool {
    entry.expires.is_some_and(|expires| today > expires)
}

/// An advisory is about a crate of one registry. A git or path dependency of the same name is a different crate, and so is
/// one of the workspace.
fn same_source(advisory: &Advisory, package: &Package) -> bool {
    let Some(source) = &package.source else {
        return false;
    };
    match &advisory.metadata.source {
        None => source.is_default_registry(),
        Some(expected) if expected.is_default_registry() => source.is_default_registry(),
        Some(expected) => same_registry(expected, source),
    }
}

fn same_registry(a: &SourceId, b: &SourceId) -> bool {
    a.kind() == b.kind() && a.url() == b.url()
}

fn finding(lockfile: &Lockfile, advisory: &Advisory, package: &Package, deny_warnings: bool) -> Finding {
    let patched: Vec<String> = advisory.versions.patched().iter().map(ToString::to_string).collect();
    let informational = advisory.metadata.informational.as_ref();
    let severity = advisory.severity().map(|severity| format!(" ({})", severity.as_str())).unwrap_or_default();
    let what = match informational {
        Some(kind) => format!("[{}] ", kind.as_str()),
        None => String::new(),
    };
    let help = remedy::for_advisory(lockfile, package, advisory.versions.patched());
    Finding {
        kind: if informational.is_some() { Kind::Informational } else { Kind::Vulnerability },
        deny: informational.is_none() || deny_warnings,
        code: advisory.id().to_string(),
        package: package.name.to_string(),
        version: package.version.to_string(),
        message: format!("{} {}: {what}{}{severity}", package.name, package.version, advisory.title()),
        help: Some(help),
        url: advisory.id().url().or_else(|| advisory.metadata.url.as_ref().map(ToString::to_string)),
        patched,
    }
}
