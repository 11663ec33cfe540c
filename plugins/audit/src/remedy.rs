//! Suggests how to replace a locked version.
//!
//! A lock file has no version requirements, only which package depends on which. Cargo's default requirement allows every
//! version compatible with the one it names. So `cargo update` is assumed to reach a version that is compatible with the
//! locked one; for any other, the requirement of the crate's dependents has to be raised.

use std::collections::{BTreeSet, VecDeque};

use rustsec::Lockfile;
use rustsec::cargo_lock::Package;
use semver::{Comparator, Op, Version, VersionReq};

/// How many direct dependencies a suggestion lists.
const MAX_LISTED: usize = 3;

/// For a version with an advisory. `patched` are the requirements that match the fixed versions.
pub(crate) fn for_advisory(lockfile: &Lockfile, package: &Package, patched: &[VersionReq]) -> String {
    let texts: Vec<String> = patched.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        let Some(path) = dependency_paths(lockfile, package).into_iter().next() else {
            return "no version fixes it: replace the crate, or add the advisory to `ignore` with a reason".to_owned();
        };
        let direct = &path[0].name;
        return format!(
            "no version fixes it: replace `{direct}`{}, or add the advisory to `ignore` with a reason",
            chain(&path)
        );
    }
    let fixed = texts.join(" or ");
    let compatible = patched.iter().filter_map(lowest).filter(|version| {
        *version > package.version
            && is_compatible(&package.version, version)
            && patched.iter().any(|patched| patched.matches(version))
    });
    if let Some(version) = compatible.min() {
        return format!("{}; fixed in {fixed}", update(lockfile, package, Some(&version)));
    }
    let within = patched.iter().any(|patched| may_hold_compatible(patched, &package.version));
    if within {
        return format!("{}; fixed in {fixed}", update(lockfile, package, None));
    }
    format!("fixed in {fixed}, which isn't compatible with {}: {}", package.version, raise(lockfile, package))
}

/// For a version that was yanked or deleted. `available` are the versions that weren't.
pub(crate) fn for_unavailable(lockfile: &Lockfile, package: &Package, available: &[Version]) -> String {
    let compatible = |version: &&Version| is_compatible(&package.version, version);
    // Prefer the next higher version; otherwise take the highest lower one.
    let higher = available.iter().filter(compatible).filter(|version| **version > package.version).min();
    match higher.or_else(|| available.iter().filter(compatible).max()) {
        Some(version) => update(lockfile, package, Some(version)),
        None => format!("no compatible version is available: {}", raise(lockfile, package)),
    }
}

fn update(lockfile: &Lockfile, package: &Package, precise: Option<&Version>) -> String {
    let precise = precise.map(|version| format!(" --precise {version}")).unwrap_or_default();
    format!("run `cargo update -p {}{precise}`", spec(lockfile, package))
}

/// A package id that is unambiguous in the lock file: "Package ID Specifications" in the Cargo book.
fn spec(lockfile: &Lockfile, package: &Package) -> String {
    let short = format!("{}@{}", package.name, package.version);
    let same = lockfile.packages.iter().filter(|other| other.name == package.name && other.version == package.version);
    match &package.source {
        Some(source) if same.count() > 1 => {
            let source = source.to_string();
            let source = source.split('#').next().unwrap_or_default();
            format!("{source}#{short}")
        }
        _ => short,
    }
}

/// The lowest version that a requirement names and that matches it. None for an exclusive bound such as `>1.2.3`, and for
/// a requirement without a lower bound.
fn lowest(requirement: &VersionReq) -> Option<Version> {
    let bound = |comparator: &Comparator| {
        let Comparator { major, minor, patch, pre, .. } = comparator.clone();
        let is_met = matches!(comparator.op, Op::GreaterEq | Op::Exact | Op::Caret | Op::Tilde);
        is_met.then(|| Version { pre, ..Version::new(major, minor.unwrap_or(0), patch.unwrap_or(0)) })
    };
    let highest_bound = requirement.comparators.iter().filter_map(bound).max()?;
    requirement.matches(&highest_bound).then_some(highest_bound)
}

/// Whether a version above `version` and compatible with it can match a requirement, whose lowest version [`lowest`]
/// couldn't give.
fn may_hold_compatible(requirement: &VersionReq, version: &Version) -> bool {
    requirement.comparators.iter().all(|comparator| match comparator.op {
        Op::Greater => {
            let bound = Version::new(comparator.major, comparator.minor.unwrap_or(0), comparator.patch.unwrap_or(0));
            bound <= *version || is_compatible(version, &bound)
        }
        Op::GreaterEq | Op::Exact | Op::Caret | Op::Tilde => {
            let bound = Version::new(comparator.major, comparator.minor.unwrap_or(0), comparator.patch.unwrap_or(0));
            bound <= *version
        }
        // An upper bound alone, as in `<1.2.3`: `version` is already at or above it, and so is every later version.
        _ => requirement.comparators.len() > 1,
    })
}

/// By the rules of a caret requirement.
fn is_compatible(with: &Version, version: &Version) -> bool {
    match (with.major, with.minor) {
        (0, 0) => (version.major, version.minor, version.patch) == (0, 0, with.patch),
        (0, minor) => (version.major, version.minor) == (0, minor),
        (major, _) => version.major == major,
    }
}

/// Lists the direct dependencies to upgrade.
fn raise(lockfile: &Lockfile, package: &Package) -> String {
    let paths = dependency_paths(lockfile, package);
    if paths.iter().all(|path| path.len() == 1) {
        return format!("raise the requirement on `{}` in Cargo.toml", package.name);
    }
    let steps: Vec<String> = paths
        .iter()
        .take(MAX_LISTED)
        .map(|path| match path.as_slice() {
            [direct] => format!("raise the requirement on `{}` in Cargo.toml", direct.name),
            path => format!("upgrade `{}`{}", path[0].name, chain(path)),
        })
        .collect();
    let more =
        if paths.len() > MAX_LISTED { format!(", and {} more", paths.len() - MAX_LISTED) } else { String::new() };
    format!("{}{more}", steps.join(", and "))
}

/// ` (required by a 1.2.0 -> b 0.3.0)`: the packages between the workspace and the last package of a path.
fn chain(path: &[&Package]) -> String {
    let above: Vec<String> =
        path[..path.len() - 1].iter().map(|package| format!("{} {}", package.name, package.version)).collect();
    if above.is_empty() { String::new() } else { format!(" (required by {})", above.join(" -> ")) }
}

/// For each direct dependency of the workspace that leads to the package, the shortest path to it, both ends included.
/// Packages without a source belong to the workspace or are path dependencies, whose requirements the user can change.
fn dependency_paths<'a>(lockfile: &'a Lockfile, package: &'a Package) -> Vec<Vec<&'a Package>> {
    let users = |used: &Package| {
        let uses = |user: &&Package| user.dependencies.iter().any(|dependency| dependency.matches(used));
        lockfile.packages.iter().filter(uses).collect::<Vec<_>>()
    };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = VecDeque::from([vec![package]]);
    while let Some(path) = waiting.pop_front() {
        let users = users(path[0]);
        if users.is_empty() || users.iter().any(|user| user.source.is_none()) {
            found.push(path.clone());
        }
        for user in users.into_iter().filter(|user| user.source.is_some()) {
            if seen.insert((user.name.as_str(), &user.version)) {
                waiting.push_back([vec![user], path.clone()].concat());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The workspace depends on `ring` 0.17 directly, and on `ring` 0.16 through `a` and `b`.
    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "mine"
        version = "0.1.0"
        dependencies = ["a", "ring 0.17.5"]
        [[package]]
        name = "a"
        version = "1.2.0"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        dependencies = ["b"]
        [[package]]
        name = "b"
        version = "0.3.1"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        dependencies = ["ring 0.16.20"]
        [[package]]
        name = "ring"
        version = "0.16.20"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        [[package]]
        name = "ring"
        version = "0.17.5"
        source = "registry+https://github.com/rust-lang/crates.io-index"
    "#;

    fn remedy(lock: &str, version: &str, patched: &[&str]) -> String {
        let lockfile: Lockfile = lock.parse().unwrap();
        let package = lockfile.packages.iter().find(|package| package.version.to_string() == version).unwrap();
        let patched: Vec<VersionReq> = patched.iter().map(|patched| patched.parse().unwrap()).collect();
        for_advisory(&lockfile, package, &patched)
    }

    #[test]
    fn a_compatible_version_needs_an_update_of_that_package_alone() {
        let run = "run `cargo update -p ring@0.17.5 --precise 0.17.12`; fixed in ";
        assert_eq!(remedy(LOCK, "0.17.5", &[">=0.17.12"]), format!("{run}>=0.17.12"));
        assert_eq!(remedy(LOCK, "0.17.5", &["^0.17.12", ">=0.18.1"]), format!("{run}^0.17.12 or >=0.18.1"));
        assert_eq!(remedy(LOCK, "0.17.5", &[">0.17.11"]), "run `cargo update -p ring@0.17.5`; fixed in >0.17.11");
    }

    #[test]
    fn an_incompatible_version_needs_an_upgrade_of_the_dependents() {
        assert_eq!(
            remedy(LOCK, "0.16.20", &[">=0.17.12"]),
            "fixed in >=0.17.12, which isn't compatible with 0.16.20: upgrade `a` (required by a 1.2.0 -> b 0.3.1)"
        );
        let direct = remedy(LOCK, "0.17.5", &[">=0.18.0"]);
        assert!(direct.ends_with("0.17.5: raise the requirement on `ring` in Cargo.toml"), "{direct}");
        assert!(!remedy(LOCK, "0.17.5", &[">=1, <2"]).contains("cargo update"));
        assert!(!remedy(LOCK, "0.17.5", &["<0.17.0"]).contains("cargo update"));
        let none = remedy(LOCK, "0.16.20", &[]);
        assert!(none.starts_with("no version fixes it: replace `a` (required by a 1.2.0 -> b 0.3.1)"), "{none}");
    }

    #[test]
    fn a_dependency_cycle_terminates() {
        let cycle = LOCK.replace("dependencies = [\"ring 0.16.20\"]", "dependencies = [\"a\", \"ring 0.16.20\"]");
        assert!(remedy(&cycle, "0.16.20", &[">=0.17.12"]).contains("upgrade `a`"));
    }

    #[test]
    fn an_unavailable_version_is_replaced_by_the_nearest_compatible_one() {
        let lockfile: Lockfile = LOCK.parse().unwrap();
        let ring = lockfile.packages.iter().find(|package| package.version == Version::new(0, 17, 5)).unwrap();
        let remedy = |available: &[&str]| {
            let available: Vec<Version> = available.iter().map(|version| version.parse().unwrap()).collect();
            for_unavailable(&lockfile, ring, &available)
        };
        let run = |version: &str| format!("run `cargo update -p ring@0.17.5 --precise {version}`");
        assert_eq!(remedy(&["0.17.4", "0.17.6", "0.17.9", "0.18.0"]), run("0.17.6"));
        assert_eq!(remedy(&["0.17.3", "0.17.4", "0.18.0"]), run("0.17.4"));
        assert!(remedy(&["0.18.0"]).contains("no compatible version is available: raise the requirement on `ring`"));
    }

    #[test]
    fn packages_of_two_sources_are_distinguished() {
        let twice = format!(
            "{LOCK}\n[[package]]\nname = \"ring\"\nversion = \"0.17.5\"\nsource = \"registry+https://example.org/index\"\n"
        )
        .replace("\"ring 0.17.5\"", "\"ring 0.17.5 (registry+https://github.com/rust-lang/crates.io-index)\"");
        let help = remedy(&twice, "0.17.5", &[">=0.17.12"]);
        assert!(help.contains("-p registry+https://github.com/rust-lang/crates.io-index#ring@0.17.5 "), "{help}");
    }
}
