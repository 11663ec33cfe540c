//! Finds yanked versions in crates.io's sparse index. Its format is in the Cargo book under "Registry Index".

use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};
use serde::Deserialize;
use stagewright_sdk::{Error, Result, log};

use crate::finding::{Finding, Kind};
use crate::remedy;
use crate::remote::{self, Fetched};

#[derive(Deserialize)]
struct Line {
    vers: String,
    #[serde(default)]
    yanked: bool,
}

/// The path of a crate's file below the index's URL.
pub(crate) fn index_path(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    // `get` instead of slicing: a name in a lock file may have characters beyond ASCII, where a slice could panic.
    match (name.len(), name.get(..2), name.get(2..4), name.get(..1)) {
        (1, ..) => format!("1/{name}"),
        (2, ..) => format!("2/{name}"),
        (3, _, _, Some(first)) => format!("3/{first}/{name}"),
        (_, Some(first), Some(second), _) => format!("{first}/{second}/{name}"),
        _ => name,
    }
}

/// The versions in a file of the index, each with whether it was yanked.
pub(crate) fn versions(index_file: &[u8]) -> std::result::Result<Vec<(String, bool)>, String> {
    let lines = index_file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_slice(line).map(|Line { vers, yanked }| (vers, yanked)));
    parsed.collect::<std::result::Result<_, _>>().map_err(|error| format!("invalid line: {error}"))
}

/// Looks up each package that comes from crates.io. Stops when the index can't be reached.
pub(crate) fn check(lockfile: &Lockfile, index: &str, deny: bool) -> Result<YankedCheck> {
    let from_crates_io = |package: &&Package| package.source.as_ref().is_some_and(SourceId::is_default_registry);
    let packages: Vec<&Package> = lockfile.packages.iter().filter(from_crates_io).collect();
    let total = u32::try_from(packages.len()).ok();
    let mut findings = Vec::new();
    let mut last: Option<(&str, Vec<u8>)> = None;
    for (done, package) in (0..).zip(packages) {
        let name = package.name.as_str();
        log::progress("looking up yanked versions", done, total);
        // A lock file is sorted by name, so the versions of a crate are adjacent and its file is fetched once.
        if last.as_ref().is_none_or(|(known, _)| *known != name) {
            let url = format!("{}/{}", index.trim_end_matches('/'), index_path(name));
            last = match remote::get(&url)? {
                Fetched::Body(body) => Some((name, body)),
                Fetched::NotFound => Some((name, Vec::new())),
                Fetched::Unreachable(error) => return Ok(YankedCheck::Unreachable(error)),
            };
        }
        let file = last.as_ref().map(|(_, file)| file.as_slice()).unwrap_or_default();
        let known = versions(file)
            .map_err(|error| Error::failed(format!("the index at {index} can't be read: {name}: {error}")))?;
        findings.extend(check_package(lockfile, package, &known, deny));
    }
    Ok(YankedCheck::Done(findings))
}

/// The result of looking up yanked versions.
#[derive(Debug)]
pub(crate) enum YankedCheck {
    Done(Vec<Finding>),
    Unreachable(Error),
}

fn check_package(lockfile: &Lockfile, package: &Package, known: &[(String, bool)], deny: bool) -> Option<Finding> {
    let own = package.version.to_string();
    let (code, what) = match known.iter().find(|(version, _)| *version == own) {
        Some((_, false)) => return None,
        Some((_, true)) => ("yanked", "was yanked from crates.io"),
        None => ("not-in-index", "isn't in the index: it was deleted or never published there"),
    };
    let message = format!("{} {} {what}", package.name, package.version);
    let available = known.iter().filter(|(_, yanked)| !yanked).filter_map(|(version, _)| version.parse().ok());
    let help = remedy::for_unavailable(lockfile, package, &available.collect::<Vec<_>>());
    Some(Finding { deny, ..Finding::denied(Kind::Yanked, code, package, message, help) })
}
