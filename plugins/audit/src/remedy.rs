//! What to do about a locked version that may not stay.
//!
//! A lock file holds no requirements, only which package uses which. Cargo's default requirement takes every version
//! that is compatible with the one it names, so a version that is compatible with the locked one is taken to be within
//! reach of `cargo update`, and any other is not: whatever requires the crate has to be raised for it.

use std::collections::{BTreeSet, VecDeque};

use rustsec::Lockfile;
use rustsec::cargo_lock::Package;
use semver::{Comparator, Op, Version, VersionReq};

/// Direct dependencies that a remedy names.
const NAMED: usize = 3;

/// For a version with an advisory: `patched` are the requirements that a repaired version meets.
pub(crate) fn of_advisory(lockfile: &Lockfile, package: &Package, patched: &[VersionReq]) -> String {
    let texts: Vec<String> = patched.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        let Some(way) = ways(lockfile, package).into_iter().next() else {
            return "no version repairs it: replace the crate, or put it under `ignore` with a reason".to_owned();
        };
        let direct = &way[0].name;
        return format!(
            "no version repairs it: replace `{direct}`{}, or put the advisory under `ignore` with a reason",
            chain(&way)
        );
    }
    let repaired = texts.join(" or ");
    let compatible = patched.iter().filter_map(lowest).filter(|version| {
        *version > package.version
            && is_compatible(&package.version, version)
            && patched.iter().any(|patched| patched.matches(version))
    });
    if let Some(version) = compatible.min() {
        return format!("{}; repaired in {repaired}", update(lockfile, package, Some(&version)));
    }
    let within = patched.iter().any(|patched| may_hold_compatible(patched, &package.version));
    if within {
        return format!("{}; repaired in {repaired}", update(lockfile, package, None));
    }
    format!("repaired in {repaired}, which isn't compatible with {}: {}", package.version, raise(lockfile, package))
}

/// For a version that isn't to be had any more: `there` are the versions that are.
pub(crate) fn of_absence(lockfile: &Lockfile, package: &Package, there: &[Version]) -> String {
    let compatible = |version: &&Version| is_compatible(&package.version, version);
    // The nearest later one; else the latest of before.
    let later = there.iter().filter(compatible).filter(|version| **version > package.version).min();
    match later.or_else(|| there.iter().filter(compatible).max()) {
        Some(version) => update(lockfile, package, Some(version)),
        None => format!("no compatible version is left: {}", raise(lockfile, package)),
    }
}

fn update(lockfile: &Lockfile, package: &Package, precise: Option<&Version>) -> String {
    let precise = precise.map(|version| format!(" --precise {version}")).unwrap_or_default();
    format!("run `cargo update -p {}{precise}`", spec(lockfile, package))
}

/// A package id specification that means this package alone: "Package ID Specifications" in the Cargo book.
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

/// The lowest version that a requirement names as met; none where it names a bound that isn't met itself, or none.
fn lowest(requirement: &VersionReq) -> Option<Version> {
    let bound = |comparator: &Comparator| {
        let Comparator { major, minor, patch, pre, .. } = comparator.clone();
        let is_met = matches!(comparator.op, Op::GreaterEq | Op::Exact | Op::Caret | Op::Tilde);
        is_met.then(|| Version { pre, ..Version::new(major, minor.unwrap_or(0), patch.unwrap_or(0)) })
    };
    let highest_bound = requirement.comparators.iter().filter_map(bound).max()?;
    requirement.matches(&highest_bound).then_some(highest_bound)
}

/// Whether a later version that is compatible with `version` may meet a requirement that names no such version.
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
        // Nothing later than a version that isn't below the bound is.
        _ => requirement.comparators.len() > 1,
    })
}

/// As a caret requirement takes it.
fn is_compatible(with: &Version, version: &Version) -> bool {
    match (with.major, with.minor) {
        (0, 0) => (version.major, version.minor, version.patch) == (0, 0, with.patch),
        (0, minor) => (version.major, version.minor) == (0, minor),
        (major, _) => version.major == major,
    }
}

/// Which direct dependencies to raise.
fn raise(lockfile: &Lockfile, package: &Package) -> String {
    let ways = ways(lockfile, package);
    if ways.iter().all(|way| way.len() == 1) {
        return format!("raise the requirement on `{}` in Cargo.toml", package.name);
    }
    let steps: Vec<String> = ways
        .iter()
        .take(NAMED)
        .map(|way| match way.as_slice() {
            [direct] => format!("raise the requirement on `{}` in Cargo.toml", direct.name),
            way => format!("upgrade `{}`{}", way[0].name, chain(way)),
        })
        .collect();
    let more = if ways.len() > NAMED { format!(", and {} more", ways.len() - NAMED) } else { String::new() };
    format!("{}{more}", steps.join(", and "))
}

/// ` (required by a 1.2.0 -> b 0.3.0)`: what lies between the workspace and the last package of a way.
fn chain(way: &[&Package]) -> String {
    let above: Vec<String> =
        way[..way.len() - 1].iter().map(|package| format!("{} {}", package.name, package.version)).collect();
    if above.is_empty() { String::new() } else { format!(" (required by {})", above.join(" -> ")) }
}

/// For each direct dependency of the workspace that leads to the package, the shortest way there, both ends included.
/// Packages without a source are the workspace's own, or lie beside it, and can be changed.
fn ways<'a>(lockfile: &'a Lockfile, package: &'a Package) -> Vec<Vec<&'a Package>> {
    let users = |used: &Package| {
        let uses = |user: &&Package| user.dependencies.iter().any(|dependency| dependency.matches(used));
        lockfile.packages.iter().filter(uses).collect::<Vec<_>>()
    };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = VecDeque::from([vec![package]]);
    while let Some(way) = waiting.pop_front() {
        let users = users(way[0]);
        if users.is_empty() || users.iter().any(|user| user.source.is_none()) {
            found.push(way.clone());
        }
        for user in users.into_iter().filter(|user| user.source.is_some()) {
            if seen.insert((user.name.as_str(), &user.version)) {
                waiting.push_back([vec![user], way.clone()].concat());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workspace packages; `ring` twice, and once more behind two others.
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
        of_advisory(&lockfile, package, &patched)
    }

    #[test]
    fn a_compatible_version_is_reached_by_an_update_of_that_package_alone() {
        let run = "run `cargo update -p ring@0.17.5 --precise 0.17.12`; repaired in ";
        assert_eq!(remedy(LOCK, "0.17.5", &[">=0.17.12"]), format!("{run}>=0.17.12"));
        assert_eq!(remedy(LOCK, "0.17.5", &["^0.17.12", ">=0.18.1"]), format!("{run}^0.17.12 or >=0.18.1"));
        assert_eq!(remedy(LOCK, "0.17.5", &[">0.17.11"]), "run `cargo update -p ring@0.17.5`; repaired in >0.17.11");
    }

    #[test]
    fn an_incompatible_version_takes_an_upgrade_of_what_requires_it() {
        assert_eq!(
            remedy(LOCK, "0.16.20", &[">=0.17.12"]),
            "repaired in >=0.17.12, which isn't compatible with 0.16.20: upgrade `a` (required by a 1.2.0 -> b 0.3.1)"
        );
        let direct = remedy(LOCK, "0.17.5", &[">=0.18.0"]);
        assert!(direct.ends_with("0.17.5: raise the requirement on `ring` in Cargo.toml"), "{direct}");
        assert!(!remedy(LOCK, "0.17.5", &[">=1, <2"]).contains("cargo update"));
        assert!(!remedy(LOCK, "0.17.5", &["<0.17.0"]).contains("cargo update"));
        let none = remedy(LOCK, "0.16.20", &[]);
        assert!(none.starts_with("no version repairs it: replace `a` (required by a 1.2.0 -> b 0.3.1)"), "{none}");
    }

    #[test]
    fn a_circle_of_packages_ends() {
        let circle = LOCK.replace("dependencies = [\"ring 0.16.20\"]", "dependencies = [\"a\", \"ring 0.16.20\"]");
        assert!(remedy(&circle, "0.16.20", &[">=0.17.12"]).contains("upgrade `a`"));
    }

    #[test]
    fn a_version_that_is_gone_is_replaced_by_the_nearest_compatible_one() {
        let lockfile: Lockfile = LOCK.parse().unwrap();
        let ring = lockfile.packages.iter().find(|package| package.version == Version::new(0, 17, 5)).unwrap();
        let remedy = |there: &[&str]| {
            let there: Vec<Version> = there.iter().map(|version| version.parse().unwrap()).collect();
            of_absence(&lockfile, ring, &there)
        };
        let run = |version: &str| format!("run `cargo update -p ring@0.17.5 --precise {version}`");
        assert_eq!(remedy(&["0.17.4", "0.17.6", "0.17.9", "0.18.0"]), run("0.17.6"));
        assert_eq!(remedy(&["0.17.3", "0.17.4", "0.18.0"]), run("0.17.4"));
        assert!(remedy(&["0.18.0"]).contains("no compatible version is left: raise the requirement on `ring`"));
    }

    #[test]
    fn a_name_and_version_of_two_sources_is_told_apart() {
        let twice = format!(
            "{LOCK}\n[[package]]\nname = \"ring\"\nversion = \"0.17.5\"\nsource = \"registry+https://example.org/index\"\n"
        )
        .replace("\"ring 0.17.5\"", "\"ring 0.17.5 (registry+https://github.com/rust-lang/crates.io-index)\"");
        let told = remedy(&twice, "0.17.5", &[">=0.17.12"]);
        assert!(told.contains("-p registry+https://github.com/rust-lang/crates.io-index#ring@0.17.5 "), "{told}");
    }
}
