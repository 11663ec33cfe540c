//! The software bill of materials, in CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>).

use std::process::Command;

use serde_json::{Value as Json, json};

use super::ShippedCrate;
use crate::cargo::{Result, capture};

/// The bill for one target. The first crate is the program's; `date` is the time of the commit, as RFC 3339 writes it.
pub(super) fn of(crates: &[ShippedCrate], target: &str, date: &str) -> Result<Vec<u8>> {
    let compiler = capture(Command::new("rustc").arg("--version"))?;
    let bill = bill(crates, target, date, String::from_utf8_lossy(&compiler).trim());
    let mut text = serde_json::to_vec_pretty(&bill).map_err(|error| format!("can't write the SBOM: {error}"))?;
    text.push(b'\n');
    Ok(text)
}

fn bill(crates: &[ShippedCrate], target: &str, date: &str, compiler: &str) -> Json {
    let components: Vec<Json> = crates.iter().skip(1).map(|one| component(one, "library")).collect();
    let dependencies: Vec<Json> = crates
        .iter()
        .map(|one| {
            let on: Vec<String> = one.dependencies.iter().map(|&index| reference(&crates[index])).collect();
            json!({ "ref": reference(one), "dependsOn": on })
        })
        .collect();
    let mut product = crates.first().map(|one| component(one, "application")).unwrap_or_default();
    product["properties"] = json!([
        { "name": "stagewright:target", "value": target },
        { "name": "stagewright:compiler", "value": compiler },
    ]);
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "timestamp": date, "component": product },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(one: &ShippedCrate, kind: &str) -> Json {
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(one),
        "name": one.name,
        "version": one.version,
    });
    if !one.is_own {
        component["purl"] = json!(format!("pkg:cargo/{}@{}", one.name, one.version));
    }
    // Old packages separate alternatives by a slash, which isn't an SPDX expression.
    if let Some(license) = &one.license {
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(digest) = &one.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

fn reference(one: &ShippedCrate) -> String {
    format!("{}@{}", one.name, one.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_each_crate_with_its_licence_digest_and_dependencies() {
        let named =
            |name: &str| ShippedCrate { name: name.to_owned(), version: "1.0.0".to_owned(), ..ShippedCrate::default() };
        let crates = [
            ShippedCrate { is_own: true, dependencies: vec![1], ..named("app") },
            ShippedCrate { license: Some("MIT/Apache-2.0".to_owned()), sha256: Some("ab".to_owned()), ..named("lib") },
        ];
        let bill = bill(&crates, "x", "2026-01-01T00:00:00Z", "rustc 1");
        assert_eq!(bill["metadata"]["component"]["name"], "app");
        assert_eq!(bill["metadata"]["component"].get("purl"), None);
        let library = &bill["components"][0];
        assert_eq!(library["purl"], "pkg:cargo/lib@1.0.0");
        assert_eq!(library["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(library["hashes"][0]["content"], "ab");
        assert_eq!(bill["dependencies"][0], json!({ "ref": "app@1.0.0", "dependsOn": ["lib@1.0.0"] }));
    }
}
