//! What a stack keeps of its releases: a config of the swarm for each, with the release as its content. Its labels say which
//! deploy it comes from, and whether it serves.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compose_file::Release;
use docker_engine::{Engine, Provenance, SwarmObject};
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, Result};

use crate::spec::NAMESPACE;
use crate::version::{SecretNames, StackRelease};

/// The stack whose release it is.
pub(crate) const STACK: &str = "stagewright.stack";
/// `applying` or `serving`.
const STATE: &str = "stagewright.state";
const APPLYING: &str = "applying";
const SERVING: &str = "serving";
/// The names of the release's secrets on the swarm, as JSON.
const SECRETS: &str = "stagewright.secrets";

/// A release that a stack has.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    object: SwarmObject,
    pub(crate) provenance: Provenance,
}

impl Record {
    /// All releases of a stack, from the oldest token to the newest.
    pub(crate) fn all(engine: &Engine, stack: &str) -> Result<Vec<Record>> {
        let known = engine.configs(STACK, stack)?.into_iter();
        let mut records: Vec<Record> = known
            .filter_map(|object| Some(Record { provenance: Provenance::of(&object.spec.labels)?, object }))
            .collect();
        records.sort_by_key(|record| record.provenance.fence);
        Ok(records)
    }

    /// Keeps a release that is about to be applied.
    pub(crate) fn create(engine: &Engine, stack: &str, version: &StackRelease, release: &Release) -> Result<()> {
        let provenance = &version.provenance;
        let content = STANDARD.encode(release.to_json().to_string());
        engine
            .create_config(&json!({
                "Name": provenance.object_name(),
                "Labels": labels(stack, version, APPLYING),
                "Data": content,
            }))
            .map(drop)
            .map_err(|error| error.context(format!("the swarm can't keep the release {}", provenance.release)))
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.object.spec.labels.get(STATE).is_some_and(|state| state == SERVING)
    }

    /// What was deployed.
    pub(crate) fn release(&self) -> Result<Release> {
        let bytes = STANDARD.decode(&self.object.spec.data).unwrap_or_default();
        let content: Json = serde_json::from_slice(&bytes).map_err(|error| {
            Error::failed(format!("the swarm has no readable content of release {}", self.provenance.release))
                .cause(error.to_string())
        })?;
        Ok(Release::from(content))
    }

    /// The secrets that deploys have created for the release.
    pub(crate) fn secrets(&self) -> SecretNames {
        let names = self.object.spec.labels.get(SECRETS);
        names.and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
    }

    /// Marks the release as the one that serves, or as one that is applied under a newer token.
    pub(crate) fn mark(&self, engine: &Engine, stack: &str, version: &StackRelease, serves: bool) -> Result<()> {
        let labels = labels(stack, version, if serves { SERVING } else { APPLYING });
        match engine.label_config(&self.object, &labels)? {
            true => Ok(()),
            false => {
                let message = format!("release {} was changed at the same moment", self.provenance.release);
                Err(Error::failed(message).help("check who else deploys to the stack, then deploy again"))
            }
        }
    }

    pub(crate) fn remove(&self, engine: &Engine) -> Result<()> {
        engine.remove_config(&self.object.id)
    }
}

fn labels(stack: &str, version: &StackRelease, state: &str) -> BTreeMap<String, String> {
    let mut labels = version.provenance.labels();
    labels.extend(
        [(STACK, stack), (STATE, state), (NAMESPACE, stack)].map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    if !version.secrets.is_empty() {
        labels.insert(SECRETS.to_owned(), json!(version.secrets).to_string());
    }
    labels
}
