//! The revisions of a release, as Helm keeps them: each is a Secret of the release's namespace.
//!
//! Its labels have the number and the status. Its content is the release as JSON, compressed and twice in base64: Helm encodes
//! it once, and the cluster encodes the data of all Secrets.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use kubernetes::{Cluster, Identity, Object, documents};
use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{Error, Result};

/// The most bytes of a revision's content. A Secret has at most 1 MiB, and it is compressed.
const CONTENT: u64 = 64 << 20;

/// The label of revisions with the run that has made them, in all of their states.
pub(crate) const RUN: &str = "stagewright/run";

/// A revision without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    /// As in `deployed`, `superseded`, `failed` and `pending-upgrade`.
    pub(crate) status: String,
    /// The run in its label [`RUN`]; empty for one that others have made.
    pub(crate) run: String,
}

impl Revision {
    pub(crate) fn is_deployed(&self) -> bool {
        self.status == "deployed"
    }

    /// Whether Helm works on it, or was killed while it did.
    pub(crate) fn is_pending(&self) -> bool {
        self.status.starts_with("pending-") || self.status == "uninstalling"
    }
}

/// The content of a revision, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    /// The revision's number.
    pub(crate) version: u64,
    /// The documents of its objects, without those of hooks.
    manifest: String,
    hooks: Vec<Hook>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Hook {
    manifest: String,
}

impl Stored {
    /// The objects.
    pub(crate) fn objects(&self) -> Result<Vec<Object>> {
        objects(&self.manifest)
    }

    /// The objects of hooks, which Helm creates and deletes as it goes.
    pub(crate) fn hooks(&self) -> Result<Vec<Object>> {
        let all = self.hooks.iter().map(|hook| objects(&hook.manifest)).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().flatten().collect())
    }
}

fn objects(manifest: &str) -> Result<Vec<Object>> {
    let documents = documents("", manifest)?.into_iter().filter(|document| !document.value.is_null());
    let objects = documents.map(|document| Object::all("", document)).collect::<Result<Vec<_>>>()?;
    Ok(objects.into_iter().flatten().collect())
}

/// The revisions of a release, oldest first.
pub(crate) fn revisions(cluster: &Cluster, namespace: &str, release: &str) -> Result<Vec<Revision>> {
    let secrets = cluster.list("v1", "secrets", namespace, &format!("owner=helm,name={release}"))?;
    let mut found: Vec<Revision> = secrets.iter().filter_map(revision).collect();
    found.sort_by_key(|revision| revision.number);
    Ok(found)
}

fn revision(secret: &Json) -> Option<Revision> {
    let label = |name: &str| secret["metadata"]["labels"][name].as_str();
    let run = label(RUN).unwrap_or_default().to_owned();
    Some(Revision { number: label("version")?.parse().ok()?, status: label("status")?.to_owned(), run })
}

/// The content of a revision.
///
/// # Errors
/// If Helm doesn't keep it any more, or it can't be read.
pub(crate) fn stored(cluster: &Cluster, namespace: &str, release: &str, number: u64) -> Result<Stored> {
    let identity = Identity {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: format!("sh.helm.release.v1.{release}.v{number}"),
    };
    let secret = cluster.get(&identity)?;
    let secret =
        secret.ok_or_else(|| Error::failed(format!("Helm doesn't have revision {number} of `{release}` any more")))?;
    content(&secret).map_err(|error| error.context(format!("revision {number} of `{release}` can't be read")))
}

fn content(secret: &Json) -> Result<Stored> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(error.to_string());
    let encoded =
        STANDARD.decode(secret["data"]["release"].as_str().unwrap_or_default()).map_err(|error| failed(&error))?;
    let packed = STANDARD.decode(encoded).map_err(|error| failed(&error))?;
    let mut json = Vec::new();
    GzDecoder::new(packed.as_slice()).take(CONTENT).read_to_end(&mut json).map_err(|error| failed(&error))?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    /// A Secret as Helm writes it.
    pub(crate) fn secret(release: &str, number: u64, status: &str, manifest: &str) -> Json {
        let content = json!({ "name": release, "version": number, "manifest": manifest, "info": { "status": status },
            "hooks": [{ "name": "migrate", "kind": "Job", "manifest": "apiVersion: batch/v1\nkind: Job\nmetadata: { name: migrate }\n" }] });
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content.to_string().as_bytes()).unwrap();
        let encoded = STANDARD.encode(STANDARD.encode(encoder.finish().unwrap()));
        json!({
            "metadata": { "name": format!("sh.helm.release.v1.{release}.v{number}"),
                "labels": { "owner": "helm", "name": release, "version": number.to_string(), "status": status } },
            "data": { "release": encoded },
        })
    }

    #[test]
    fn a_revision_is_read_as_helm_writes_it() {
        let manifest =
            "---\n# Source: shop/templates/web.yaml\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n---\n";
        let secret = secret("shop", 7, "pending-upgrade", manifest);
        let found = revision(&secret).unwrap();
        assert_eq!((found.number, found.is_pending(), found.is_deployed()), (7, true, false));
        let stored = content(&secret).unwrap();
        let names =
            |objects: Vec<Object>| objects.iter().map(|object| object.identity().to_string()).collect::<Vec<_>>();
        assert_eq!(
            (names(stored.objects().unwrap()), names(stored.hooks().unwrap())),
            (vec!["service/web".to_owned()], vec!["job/migrate".to_owned()])
        );
        assert!(content(&json!({ "data": { "release": "YQ==" } })).is_err());
    }
}
