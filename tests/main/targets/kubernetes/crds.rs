//! The kinds of the Gateway API and of Istio, as the cluster of the tests can have them: with the schemas of packages of npm,
//! which are generated from the projects' definitions. The rules in CEL, which this version of Kubernetes doesn't know, and the
//! kinds of lists aren't in them; `rules` and `http` are lists of one owner in the originals as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value as Json, json};

use super::Namespace;

/// A kind, and the file of a package that has its schema.
struct Definition {
    package: &'static str,
    file: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

const HTTP_ROUTE: Definition = Definition {
    package: "@kubernetes-models/gateway-api@0.5.1",
    file: "package/gateway.networking.k8s.io/v1/HTTPRoute.js",
    group: "gateway.networking.k8s.io",
    version: "v1",
    kind: "HTTPRoute",
    plural: "httproutes",
};

const VIRTUAL_SERVICE: Definition = Definition {
    package: "@kubernetes-models/istio@2.3.0",
    file: "package/networking.istio.io/v1beta1/VirtualService.js",
    group: "networking.istio.io",
    version: "v1beta1",
    kind: "VirtualService",
    plural: "virtualservices",
};

/// Lets the cluster have HTTPRoutes.
pub(super) fn install_http_route(namespace: &Namespace) {
    install(namespace, &HTTP_ROUTE);
}

/// Lets the cluster have VirtualServices.
pub(super) fn install_virtual_service(namespace: &Namespace) {
    install(namespace, &VIRTUAL_SERVICE);
}

fn install(namespace: &Namespace, definition: &Definition) {
    let Definition { group, version, kind, plural, .. } = definition;
    let name = format!("{plural}.{group}");
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        // The API server demands the annotation for groups of Kubernetes' own domain.
        "metadata": { "name": name, "annotations": { "api-approved.kubernetes.io": "unapproved, for tests" } },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_ascii_lowercase(), "listKind": format!("{kind}List") },
            "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema(definition) }, "subresources": { "status": {} },
            }],
        },
    });
    namespace.repository.write("crd.json", &object.to_string());
    namespace.kubectl(&["apply", "--filename", &namespace.repository.root().join("crd.json").display().to_string()]);
    namespace.kubectl(&["wait", "--for=condition=Established", &format!("crd/{name}"), "--timeout=30s"]);
}

/// The schema of a kind, in the form of a definition.
fn schema(definition: &Definition) -> Json {
    let source =
        std::fs::read_to_string(package(definition.package).join(definition.file)).expect("the package has it");
    let text = source.split_once("const schema = ").and_then(|(_, rest)| rest.split_once("\n};")).expect("a schema").0;
    let mut schema: Json = serde_json::from_str(&format!("{text}\n}}")).expect("JSON");
    schema["properties"]["apiVersion"] = json!({ "type": "string" });
    schema["properties"]["kind"] = json!({ "type": "string" });
    schema["properties"]["metadata"] = json!({ "type": "object" });
    simplify(&mut schema);
    schema
}

/// Removes null, which the packages permit everywhere and the definitions nowhere, and defaults that are an empty text, which
/// this version of Kubernetes takes for null.
fn simplify(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            fields.retain(|key, value| !(key == "nullable" && value.is_boolean() || key == "default" && value == ""));
            fields.values_mut().for_each(simplify);
        }
        Json::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// The folder of a package of npm, which is downloaded once.
fn package(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm").join(name.replace(['@', '/'], "-"));
    if folder.join("package").is_dir() {
        return folder;
    }
    let parent = folder.parent().expect("a parent");
    std::fs::create_dir_all(parent).expect("a writable target folder");
    let new = tempfile::tempdir_in(parent).expect("a writable target folder");
    let packed = Command::new("npm").args(["pack", "--silent", name]).current_dir(new.path()).output();
    let packed = packed.expect("these tests need npm: as root: apt-get install npm");
    assert!(packed.status.success(), "npm pack {name}: {}", String::from_utf8_lossy(&packed.stderr));
    let archive = String::from_utf8(packed.stdout).expect("UTF-8");
    let unpacked = Command::new("tar").args(["-xzf", archive.trim()]).current_dir(new.path()).status();
    assert!(unpacked.expect("tar starts").success());
    // Another test may have been faster.
    if let Err(error) = std::fs::rename(new.path(), &folder) {
        assert!(folder.join("package").is_dir(), "{error}");
    }
    folder
}
