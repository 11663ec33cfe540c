//! What the cluster keeps about the releases of a service, as ConfigMaps.
//!
//! `stagewright-SERVICE` is the record: the newest fencing token that has acted, the release that serves, and those that were
//! begun since. Each of its changes is conditional on the version that was read, so that of two deploys at the same time
//! one is refused. `stagewright-RELEASE` has the objects of a release, from which it is restored.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kubernetes::{Cluster, Fenced, Identity, SERVICE_LABEL, ServiceRecord, config_map};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, ErrorCode, Result, context, environment};

/// The label of a release's ConfigMap.
const RELEASE: &str = "stagewright/release";
/// The most bytes of a release's objects. A ConfigMap has at most 1 MiB, and these are compressed.
const OBJECTS: u64 = 64 << 20;

/// The releases of a service in the cluster.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) namespace: &'a str,
    pub(crate) service: &'a str,
}

/// The record of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Record {
    /// The newest token that has acted.
    pub(crate) fence: Option<u64>,
    /// The name of the release that serves.
    pub(crate) serving: Option<String>,
    /// The names of the releases that were begun since and aren't finished, oldest first.
    pub(crate) unfinished: Vec<String>,
}

/// A release as the cluster keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Release {
    /// As in `shop-7`.
    pub(crate) name: String,
    pub(crate) artifact: String,
    pub(crate) fence: Option<u64>,
    pub(crate) run: String,
    /// What it consists of, without the marks of this release.
    #[serde(skip)]
    pub(crate) objects: Vec<Json>,
    /// Those that didn't exist before a release created them, and that may be deleted again.
    pub(crate) created: Vec<Identity>,
    /// What the objects were that existed before the service's first release, as far as it is restored.
    #[serde(default)]
    pub(crate) before: Vec<Json>,
}

impl Fenced for Record {
    fn fence(&mut self) -> &mut Option<u64> {
        &mut self.fence
    }
}

impl Records<'_> {
    /// The record; the default if nothing was ever deployed.
    pub(crate) fn read(&self) -> Result<Record> {
        self.of_service(&map_name(self.service)).read()
    }

    /// Changes the record, if no deploy with a newer token has acted. The change is made again if another deploy's comes in
    /// between.
    ///
    /// # Errors
    /// [`ErrorCode::Superseded`] if one has.
    pub(crate) fn change(&self, change: impl Fn(&mut Record)) -> Result<Record> {
        self.of_service(&map_name(self.service)).change(change)
    }

    /// Refuses to act when a deploy with a newer token has.
    pub(crate) fn refuse_stale(&self, record: &Record) -> Result<()> {
        self.of_service(&map_name(self.service)).refuse_stale(&mut record.clone())
    }

    fn of_service<'n>(&'n self, name: &'n str) -> ServiceRecord<'n> {
        ServiceRecord { cluster: self.cluster, namespace: self.namespace, service: self.service, name }
    }

    /// A release by its name.
    ///
    /// # Errors
    /// If the cluster doesn't have it.
    pub(crate) fn release(&self, name: &str) -> Result<Release> {
        let map = self.cluster.get(&self.identity(name))?;
        let map = map.ok_or_else(|| Error::failed(format!("the cluster doesn't have the release {name} any more")))?;
        released(&map).map_err(|error| error.context(format!("the release {name} can't be read")))
    }

    /// The release of an artifact that the ledger has under a token. That is the one that its deploy held when it finished; the
    /// release has the one that it began with, and no other deploy acted in between.
    pub(crate) fn release_of(&self, artifact: &str, fence: u64) -> Result<Option<Release>> {
        let releases = self.release_maps()?.iter().map(released).collect::<Result<Vec<_>>>()?;
        Ok(begun_before(releases, artifact, fence))
    }

    /// Keeps a release. One that is kept already stays as it is.
    pub(crate) fn keep(&self, release: &Release) -> Result<()> {
        match self.cluster.create(&self.identity(&release.name), &self.map_of(release)?) {
            Err(error) if error.code == ErrorCode::Aborted => Ok(()),
            result => result.map_err(|error| error.context(format!("the release {} can't be kept", release.name))),
        }
    }

    /// The ConfigMap of a release.
    pub(crate) fn map_of(&self, release: &Release) -> Result<Json> {
        let mut map = config_map(&self.identity(&release.name), self.service, &[(RELEASE, &release.name)]);
        map["data"] = json!({ "release": serde_json::to_string(release)? });
        map["binaryData"] = json!({ "objects": STANDARD.encode(compressed(&release.objects)?) });
        Ok(map)
    }

    /// Removes a release that isn't needed any more.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let identity = self.identity(name);
        let Some(map) = self.cluster.get(&identity)? else { return Ok(()) };
        self.cluster.delete(&identity, map["metadata"]["uid"].as_str().unwrap_or_default())
    }

    /// Forgets all but the newest releases, and never one of `kept`.
    pub(crate) fn forget(&self, newest: usize, kept: &[&str]) -> Result<()> {
        let mut maps = self.release_maps()?;
        let fence = |map: &Json| released(map).ok().and_then(|release| release.fence);
        maps.sort_by_key(|map| std::cmp::Reverse(fence(map)));
        let old = maps.iter().skip(newest).filter(|map| !kept.contains(&release_name(map)));
        old.into_iter().try_for_each(|map| {
            let uid = map["metadata"]["uid"].as_str().unwrap_or_default();
            self.cluster.delete(&self.identity(release_name(map)), uid)
        })
    }

    fn release_maps(&self) -> Result<Vec<Json>> {
        let labels = format!("{SERVICE_LABEL}={},{RELEASE}", self.service);
        self.cluster.list("v1", "configmaps", self.namespace, &labels)
    }

    fn identity(&self, name: &str) -> Identity {
        Identity {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: Some(self.namespace.to_owned()),
            name: map_name(name),
        }
    }
}

/// The name of the ConfigMap of a service or a release.
fn map_name(name: &str) -> String {
    format!("stagewright-{name}")
}

/// The last release of an artifact that was begun under this token or an earlier one.
fn begun_before(releases: Vec<Release>, artifact: &str, fence: u64) -> Option<Release> {
    let is_candidate =
        |release: &Release| release.artifact == artifact && release.fence.is_some_and(|own| own <= fence);
    releases.into_iter().filter(is_candidate).max_by_key(|release| release.fence)
}

fn release_name(map: &Json) -> &str {
    map["metadata"]["labels"][RELEASE].as_str().unwrap_or_default()
}

fn released(map: &Json) -> Result<Release> {
    let release: Release = serde_json::from_str(map["data"]["release"].as_str().unwrap_or_default())?;
    let packed = STANDARD
        .decode(map["binaryData"]["objects"].as_str().unwrap_or_default())
        .map_err(|error| Error::failed(error.to_string()))?;
    let mut objects = Vec::new();
    GzDecoder::new(packed.as_slice())
        .take(OBJECTS)
        .read_to_end(&mut objects)
        .map_err(|error| Error::failed(error.to_string()))?;
    Ok(Release { objects: serde_json::from_slice(&objects)?, ..release })
}

fn compressed(objects: &[Json]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::internal(error.to_string());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&serde_json::to_vec(objects)?).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// The name of the release that this attempt deploys. Tokens are unique, and so are runs.
pub(crate) fn own_name(service: &str) -> String {
    let mark = environment::fence().map_or_else(|| context::run_id().to_ascii_lowercase(), |fence| fence.to_string());
    format!("{service}-{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(fence: u64, artifact: &str) -> Release {
        Release {
            name: format!("shop-{fence}"),
            artifact: artifact.to_owned(),
            fence: Some(fence),
            run: "r".to_owned(),
            objects: Vec::new(),
            created: Vec::new(),
            before: Vec::new(),
        }
    }

    #[test]
    fn a_release_is_found_under_the_token_that_its_deploy_ended_with() {
        let releases = vec![release(1, "a"), release(4, "b"), release(6, "a"), release(9, "a")];
        let found = |fence| begun_before(releases.clone(), "a", fence).and_then(|release| release.fence);
        assert_eq!([found(0), found(1), found(3), found(8), found(9)], [None, Some(1), Some(1), Some(6), Some(9)]);
    }

    #[test]
    fn a_release_survives_its_config_map() {
        let objects = vec![json!({ "kind": "Service", "metadata": { "name": "a" } })];
        let release = Release { objects, before: vec![json!({ "kind": "Deployment" })], ..release(7, "app@sha256:1") };
        let map = json!({
            "data": { "release": serde_json::to_string(&release).unwrap() },
            "binaryData": { "objects": STANDARD.encode(compressed(&release.objects).unwrap()) },
        });
        assert_eq!(released(&map), Ok(release));
        assert!(released(&json!({})).is_err());
    }
}
