//! Checks each crate's licence against the allowed ones.
//!
//! A lock file has no licences. They come from the manifests: from the output of `cargo metadata`, or from the `Cargo.toml`
//! files of a vendor folder.

use std::collections::BTreeMap;

use rustsec::Lockfile;
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::config::Licenses;
use crate::finding::{Finding, Kind};

/// Licence expressions by crate name and version; none for a crate whose manifest has no `license`.
pub(crate) type Manifests = BTreeMap<(String, String), Option<String>>;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct CargoToml {
    package: Manifest,
}

/// Parses the output of `cargo metadata --format-version 1`.
pub(crate) fn from_metadata(json: &[u8]) -> Result<Manifests, String> {
    let metadata: Metadata =
        serde_json::from_slice(json).map_err(|error| format!("unexpected output of `cargo metadata`: {error}"))?;
    Ok(metadata.packages.into_iter().map(|package| ((package.name, package.version), package.license)).collect())
}

/// Adds the licence from a `Cargo.toml`.
pub(crate) fn add_manifest(manifests: &mut Manifests, path: &str, text: &str) -> Result<(), String> {
    let manifest: CargoToml = toml::from_str(text).map_err(|error| format!("{path}: {error}"))?;
    manifests.insert((manifest.package.name, manifest.package.version), manifest.package.license);
    Ok(())
}

/// Finds packages whose licence isn't allowed or is unknown. Packages of the workspace itself are exempt.
pub(crate) fn check(lockfile: &Lockfile, manifests: &Manifests, licenses: &Licenses) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in lockfile.packages.iter().filter(|package| package.source.is_some()) {
        let (name, version) = (package.name.to_string(), package.version.to_string());
        let manifest = manifests.get(&(name.clone(), version.clone()));
        let exceptions = licenses.exceptions.get(&name).map(Vec::as_slice).unwrap_or_default();
        if let Err((reason, help)) = check_license(manifest, &licenses.allow, exceptions) {
            let message = format!("{name} {version} {reason}");
            findings.push(Finding::denied(Kind::License, "license-not-allowed", package, message, help));
        }
    }
    findings
}

fn check_license(
    manifest: Option<&Option<String>>,
    allow: &[String],
    exceptions: &[String],
) -> Result<(), (String, String)> {
    let Some(license) = manifest else {
        let help = "fetch or vendor the crates of the lock file first (`cargo fetch`, `cargo vendor`)";
        return Err(("is in the lock file, but its manifest is missing".to_owned(), help.to_owned()));
    };
    let Some(license) = license else {
        return Err((
            "has no `license` in its manifest".to_owned(),
            "replace it, or ask its authors to add a `license` key".to_owned(),
        ));
    };
    // Parse in lax mode: older manifests on crates.io have the form `MIT/Apache-2.0`.
    let expression = Expression::parse_mode(license, ParseMode::LAX).map_err(|error| {
        (
            format!("has the licence `{license}`, which isn't a valid SPDX expression: {}", error.reason),
            "replace it, or ask its authors to add an SPDX expression".to_owned(),
        )
    })?;
    let allowed: Vec<Licensee> = allow.iter().chain(exceptions).filter_map(|id| Licensee::parse(id).ok()).collect();
    if expression.evaluate(|requirement| allowed.iter().any(|licensee| licensee.satisfies(requirement))) {
        return Ok(());
    }
    Err((
        format!("has the licence `{license}`, which isn't allowed"),
        format!(
            "the allowed licences are: {}; add this one to `licenses.allow` or `licenses.exceptions`",
            allow.join(", ")
        ),
    ))
}
