//! Licences of all dependencies: none may require a licence of the GPL family.

use spdx::{Expression, LicenseReq, ParseMode};

use super::TidyFinding;
use super::graph::{DependencyGraph, Package};

/// Every package without a licence, or with one that can't be satisfied without the GPL family.
pub(super) fn check(graph: &DependencyGraph) -> Vec<TidyFinding> {
    graph.packages.iter().filter_map(check_package).collect()
}

fn check_package(package: &Package) -> Option<TidyFinding> {
    let name = &package.name;
    let Some(license) = &package.license else {
        let help = "find out its licence, or replace the package";
        return Some(TidyFinding::error("Cargo.lock", format!("{name} names no licence"), help));
    };
    let Ok(expression) = Expression::parse_mode(license, ParseMode::LAX) else {
        let help = "find out its licence, or replace the package";
        let message = format!("the licence of {name} isn't an SPDX expression: {license:?}");
        return Some(TidyFinding::error("Cargo.lock", message, help));
    };
    if expression.evaluate(|requirement| !is_copyleft(requirement)) {
        return None;
    }
    let help = "GPL, LGPL and AGPL aren't permitted: replace or remove the package";
    Some(TidyFinding::error("Cargo.lock", format!("{name} is under {license}"), help))
}

fn is_copyleft(requirement: &LicenseReq) -> bool {
    let name = requirement.to_string();
    ["GPL", "LGPL", "AGPL"].iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permitted(license: Option<&str>) -> bool {
        let package = Package { name: "x".to_owned(), license: license.map(str::to_owned), ..Package::default() };
        check_package(&package).is_none()
    }

    #[test]
    fn permissive_licences_are_permitted() {
        for license in ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MPL-2.0"] {
            assert!(is_permitted(Some(license)), "{license}");
        }
    }

    #[test]
    fn a_choice_with_a_permissive_licence_is_permitted() {
        assert!(is_permitted(Some("MIT OR Apache-2.0 OR LGPL-2.1-or-later")));
    }

    #[test]
    fn copyleft_missing_and_invalid_licences_are_found() {
        for license in ["GPL-3.0-only", "LGPL-2.1-or-later", "AGPL-3.0", "MIT AND GPL-2.0-or-later", "as you like"] {
            assert!(!is_permitted(Some(license)), "{license}");
        }
        assert!(!is_permitted(None));
    }
}
