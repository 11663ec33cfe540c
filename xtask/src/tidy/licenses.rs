//! Licences of all dependencies: none may bind the product to the GPL's terms.

use spdx::{Expression, LicenseReq, ParseMode};

use super::TidyFinding;
use super::graph::{DependencyGraph, Package};

/// Every package that can't be had without a GPL-like licence, or says nothing.
pub(super) fn check(graph: &DependencyGraph) -> Vec<TidyFinding> {
    graph.packages.iter().filter_map(check_package).collect()
}

fn check_package(package: &Package) -> Option<TidyFinding> {
    let name = &package.name;
    let Some(license) = &package.license else {
        let help = "find out its licence, or replace it";
        return Some(TidyFinding::error("Cargo.lock", format!("{name} names no licence"), help));
    };
    let Ok(expression) = Expression::parse_mode(license, ParseMode::LAX) else {
        let help = "an SPDX expression is expected; find out its licence, or replace it";
        return Some(TidyFinding::error("Cargo.lock", format!("{name} has the licence {license:?}"), help));
    };
    if expression.evaluate(|requirement| !is_copyleft(requirement)) {
        return None;
    }
    let help = "GPL, LGPL and AGPL are out: replace it, or do without";
    Some(TidyFinding::error("Cargo.lock", format!("{name} is under {license}"), help))
}

fn is_copyleft(requirement: &LicenseReq) -> bool {
    let name = requirement.to_string();
    ["GPL", "LGPL", "AGPL"].iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(license: Option<&str>) -> bool {
        let package = Package { name: "x".to_owned(), license: license.map(str::to_owned), ..Package::default() };
        check_package(&package).is_none()
    }

    #[test]
    fn permissive_licences_pass() {
        for license in ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MPL-2.0"] {
            assert!(is_fine(Some(license)), "{license}");
        }
    }

    #[test]
    fn a_choice_without_copyleft_passes() {
        assert!(is_fine(Some("MIT OR Apache-2.0 OR LGPL-2.1-or-later")));
    }

    #[test]
    fn copyleft_silence_and_nonsense_are_found() {
        for license in ["GPL-3.0-only", "LGPL-2.1-or-later", "AGPL-3.0", "MIT AND GPL-2.0-or-later", "as you like"] {
            assert!(!is_fine(Some(license)), "{license}");
        }
        assert!(!is_fine(None));
    }
}
