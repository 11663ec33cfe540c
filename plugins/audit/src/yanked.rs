//! Finds yanked versions in crates.io's sparse index. Its format is in the Cargo book under "Registry Index".

use std::collections::BTreeMap;

use rustsec::cargo_lock::Package;
use rustsec::{Lockfile, SourceId};
use serde::Deserialize;
use stagewright_sdk::http::{Request, send_all};
use stagewright_sdk::{Error, Result, log};

use crate::finding::{Finding, Kind};
use crate::remedy;
use crate::remote::{self, Fetched};

/// How many files of the index are requested at a time.
const AT_ONCE: usize = 16;

/// The versions of a crate, each with whether it was yanked.
type Versions = Vec<(String, bool)>;

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

/// The versions in a file of the index.
pub(crate) fn versions(index_file: &[u8]) -> std::result::Result<Versions, String> {
    let lines = index_file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_slice(line).map(|Line { vers, yanked }| (vers, yanked)));
    parsed.collect::<std::result::Result<_, _>>().map_err(|error| format!("invalid line: {error}"))
}

/// Looks up each package that comes from crates.io. Stops when the index can't be reached.
pub(crate) fn check(lockfile: &Lockfile, index: &str, deny: bool) -> Result<YankedCheck> {
    let from_crates_io = |package: &&Package| package.source.as_ref().is_some_and(SourceId::is_default_registry);
    let packages: Vec<&Package> = lockfile.packages.iter().filter(from_crates_io).collect();
    let mut names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let url = |name: &str| format!("{}/{}", index.trim_end_matches('/'), index_path(name));
    let mut known: BTreeMap<&str, Versions> = BTreeMap::new();
    let mut unreachable = None;
    let looked_up = send_all(names.iter().map(|name| Request::get(&url(name))), AT_ONCE, |at, response| {
        let name = names[at];
        let found = match remote::receive(&url(name), response)? {
            Fetched::Body(body) => versions(&body)
                .map_err(|error| Error::failed(format!("the index at {index} can't be read: {name}: {error}")))?,
            Fetched::NotFound => Vec::new(),
            Fetched::Unreachable(error) => {
                unreachable = Some(error.clone());
                return Err(error);
            }
        };
        known.insert(name, found);
        log::progress("looking up yanked versions", known.len() as u64, Some(names.len() as u64));
        Ok(())
    });
    if let Some(error) = unreachable {
        return Ok(YankedCheck::Unreachable(error));
    }
    looked_up?;
    let find = |package: &Package| check_package(lockfile, package, &known[package.name.as_str()], deny);
    Ok(YankedCheck::Done(packages.into_iter().filter_map(find).collect()))
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
