//! Objects of Kubernetes, and what identifies them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_sdk::{Error, Position, Result};

use crate::yaml::{Document, Lines};

/// Stands for the name of the release in names and labels, until an object is applied.
pub const MARK: &str = "{release}";

/// An object as the release's files have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// All of it.
    pub json: Json,
    /// Where it was written.
    pub origin: Origin,
}

/// Where an object was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// Relative to the workspace; the command for what a program has rendered. Empty for what was stored in the cluster.
    pub file: String,
    /// The lines of its values.
    pub lines: Lines,
}

/// What identifies an object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// As in `apps/v1`.
    pub api_version: String,
    /// As in `Deployment`.
    pub kind: String,
    /// None for an object of the whole cluster.
    pub namespace: Option<String>,
    /// Its `metadata.name`.
    pub name: String,
}

impl Identity {
    /// Whether it is the same object, possibly in another version of its API.
    pub fn is(&self, other: &Identity) -> bool {
        let group = |identity: &Identity| identity.api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        (group(self), &self.kind, &self.namespace, &self.name)
            == (group(other), &other.kind, &other.namespace, &other.name)
    }
}

/// As in `deployment/web`.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

impl Object {
    /// The objects of a document. A `List` is those that it contains.
    ///
    /// # Errors
    /// If one has no kind, version or name.
    pub fn all(file: &str, document: Document) -> Result<Vec<Object>> {
        let Document { value, lines } = document;
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
        if !is_list {
            let object = Object { json: value, origin: Origin { file: file.to_owned(), lines } };
            object.check()?;
            return Ok(vec![object]);
        }
        let items = value["items"].as_array().into_iter().flatten().enumerate();
        let nested = items.map(|(index, item)| {
            Object::all(file, Document { value: item.clone(), lines: lines.within(&format!("/items/{index}")) })
        });
        Ok(nested.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn check(&self) -> Result<()> {
        if !self.json.is_object() {
            return Err(self.error("", "it isn't an object of Kubernetes"));
        }
        for (pointer, key) in [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")] {
            if self.json.pointer(pointer).and_then(Json::as_str).is_none_or(str::is_empty) {
                return Err(self.error("", &format!("an object has no `{key}`")));
            }
        }
        Ok(())
    }

    /// As it is in the cluster, if it isn't in a namespace of its own.
    pub fn identity(&self) -> Identity {
        let text = |pointer: &str| self.json.pointer(pointer).and_then(Json::as_str).map(ToOwned::to_owned);
        Identity {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
        }
    }

    /// As in `apps/v1`.
    pub fn api_version(&self) -> &str {
        self.json["apiVersion"].as_str().unwrap_or_default()
    }

    /// As in `Deployment`.
    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or_default()
    }

    /// Its `metadata.name`.
    pub fn name(&self) -> &str {
        self.json["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its `metadata.namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.json["metadata"]["namespace"].as_str()
    }

    /// The JSON pointer of its pod's specification; none if it has no pods.
    pub fn pod_pointer(&self) -> Option<&'static str> {
        pod_pointer(self.kind())
    }

    /// A mistake at this JSON pointer.
    pub fn error(&self, pointer: &str, message: &str) -> Error {
        let object = match self.name() {
            "" => String::new(),
            name => {
                let name = name.strip_suffix(MARK).map_or(name, |name| name.trim_end_matches('-'));
                format!("{}/{name}: ", self.kind().to_ascii_lowercase())
            }
        };
        let error = Error::invalid(format!("{object}{message}"));
        if self.origin.file.is_empty() {
            return error;
        }
        error.file(&self.origin.file, self.origin.lines.of(pointer).map(Position::line))
    }
}

/// Lets a name end with that of the release.
pub fn mark_name(name: &mut Json) {
    *name = format!("{}-{MARK}", name.as_str().unwrap_or_default()).into();
}

/// Where a kind has the specification of its pods.
pub fn pod_pointer(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "/spec",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController" => {
            "/spec/template/spec"
        }
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    })
}

/// The containers of a pod's specification with their JSON pointers in the object, those that initialise it included.
pub fn containers(object: &Json) -> Vec<(String, &Json)> {
    let Some(pod) = pod_pointer(object["kind"].as_str().unwrap_or_default()) else { return Vec::new() };
    let lists = ["initContainers", "containers"].map(|list| format!("{pod}/{list}"));
    let of_list = |list: &String| {
        let containers = object.pointer(list).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        containers.iter().enumerate().map(|(index, container)| (format!("{list}/{index}"), container)).collect()
    };
    lists.iter().flat_map(|list: &String| -> Vec<(String, &Json)> { of_list(list) }).collect()
}

/// The position of a kind in the order in which objects are applied: what others need comes first.
pub fn rank(kind: &str) -> usize {
    const FIRST: [&str; 12] = [
        "Namespace",
        "CustomResourceDefinition",
        "ResourceQuota",
        "LimitRange",
        "ServiceAccount",
        "Role",
        "ClusterRole",
        "RoleBinding",
        "ClusterRoleBinding",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "ConfigMap",
    ];
    const WORKLOADS: [&str; 6] = ["Service", "DaemonSet", "StatefulSet", "Deployment", "Job", "CronJob"];
    let position = |kinds: &[&str]| kinds.iter().position(|first| *first == kind);
    position(&FIRST).or_else(|| position(&WORKLOADS).map(|position| FIRST.len() + position)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::documents;

    fn objects(text: &str) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        for document in documents("app.yaml", text)? {
            found.extend(Object::all("app.yaml", document)?);
        }
        Ok(found)
    }

    #[test]
    fn a_list_is_the_objects_in_it() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: { name: a }\n";
        let read = objects(text).unwrap();
        assert_eq!(read.iter().map(|object| object.identity().to_string()).collect::<Vec<_>>(), ["service/a"]);
        assert_eq!(read[0].origin.lines.of("/kind"), Some(5));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_line() {
        for (text, line, reason) in [
            ("a: 1\n", 1, "an object has no `apiVersion`"),
            ("---\n- 1\n", 2, "it isn't an object of Kubernetes"),
            ("\napiVersion: v1\nkind: Pod\nmetadata: { generateName: a }\n", 2, "an object has no `metadata.name`"),
        ] {
            let error = objects(text).unwrap_err();
            assert_eq!(error.message, reason);
            assert_eq!(error.file.as_deref(), Some(&("app.yaml".to_owned(), Some(Position::line(line)))));
        }
    }

    #[test]
    fn an_object_stays_the_same_in_another_version_of_its_api() {
        let identity = |api_version: &str, kind: &str| Identity {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "a".to_owned(),
        };
        assert!(identity("autoscaling/v1", "H").is(&identity("autoscaling/v2", "H")));
        assert!(!identity("extensions/v1", "H").is(&identity("networking/v1", "H")));
        assert!(!identity("v1", "Service").is(&identity("v1", "Pod")));
    }

    #[test]
    fn what_others_need_is_applied_first() {
        let mut kinds = ["Ingress", "Deployment", "Service", "ConfigMap", "Namespace"];
        kinds.sort_by_key(|kind| rank(kind));
        assert_eq!(kinds, ["Namespace", "ConfigMap", "Service", "Deployment", "Ingress"]);
    }
}
