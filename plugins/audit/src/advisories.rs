//! Which packages of a lock file have advisories, and which of those are known and accepted.

use jiff::civil::Date;
use rustsec::advisory::Advisory;
use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};

use crate::config::Ignore;
use crate::database::Database;
use crate::finding::{Finding, Kind};
use crate::remedy;

/// The advisories that hit, without those that are ignored.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) findings: Vec<Finding>,
    /// Ids that would have been findings, with the reason given.
    pub(crate) ignored: Vec<(String, String)>,
}

/// Looks every package up. An `ignore` that has expired or hits nothing is a finding of its own.
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
        matches.findings.extend(judge_ignore(entry, used, today));
    }
    matches
}

fn judge_ignore(entry: &Ignore, used: bool, today: Date) -> Option<Finding> {
    let (deny, code, message, help) = if has_expired(entry, today) {
        let expired = entry.expires.map(|date| date.to_string()).unwrap_or_default();
        let help = "update the crate, or judge it anew and move `expires`";
        (true, "ignore-expired", format!("the `ignore` of {} ended on {expired}: {}", entry.id, entry.reason), help)
    } else if !used {
        (false, "ignore-unused", format!("the `ignore` of {} hits nothing in the lock file", entry.id), "remove it")
    } else {
        return None;
    };
    Some(Finding::about_audit(deny, code, message, help))
}

fn has_expired(entry: &Ignore, today: Date) -> bool {
    entry.expires.is_some_and(|expires| today > expires)
}

/// An advisory speaks of one registry's crate; a fork from git or a path of the same name is another crate.
fn same_source(advisory: &Advisory, package: &Package) -> bool {
    let Some(source) = &package.source else {
        return false;
    };
    match &advisory.metadata.source {
        None => source.is_default_registry(),
        Some(wanted) if wanted.is_default_registry() => source.is_default_registry(),
        Some(wanted) => same_registry(wanted, source),
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
    let help = remedy::of_advisory(lockfile, package, advisory.versions.patched());
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
