//! What a project keeps of its releases: volumes without content. The labels of a volume can't change, and `docker system
//! prune` leaves it. A release that is being applied has one volume, and the one that serves has another.

use std::collections::BTreeMap;

use compose_file::Release;
use docker_engine::{Engine, Provenance, Volume};
use serde_json::Value as Json;
use stagewright_sdk::{Error, Result};

/// The project whose release it is.
const PROJECT: &str = "stagewright.project";
/// `applying` or `serving`.
const STATE: &str = "stagewright.state";
const APPLYING: &str = "applying";
const SERVING: &str = "serving";
/// The release as JSON.
const CONTENT: &str = "stagewright.content";

/// A release that a project has.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    volume: Volume,
    pub(crate) provenance: Provenance,
}

impl Record {
    /// All releases of a project, from the oldest token to the newest.
    pub(crate) fn all(engine: &Engine, project: &str) -> Result<Vec<Record>> {
        let known = engine.volumes(PROJECT, project)?.into_iter();
        let mut records: Vec<Record> =
            known.filter_map(|volume| Some(Record { provenance: Provenance::of(&volume.labels())?, volume })).collect();
        records.sort_by_key(|record| record.provenance.fence);
        Ok(records)
    }

    /// Keeps a release: before it is applied, and when it serves.
    pub(crate) fn create(
        engine: &Engine,
        project: &str,
        provenance: &Provenance,
        release: &Release,
        serves: bool,
    ) -> Result<()> {
        let state = if serves { SERVING } else { APPLYING };
        let mut labels: BTreeMap<String, String> = provenance.labels();
        let own = [(PROJECT, project), (STATE, state), (CONTENT, &release.to_json().to_string())];
        labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let volume = engine.create_volume(&format!("{}.{state}", provenance.object_name()), &labels)?;
        if volume.labels() == labels {
            return Ok(());
        }
        // The engine returns the one that it has, with the labels that it had.
        Err(Error::failed(format!("the engine already has a volume `{}` of another deploy", volume.name))
            .help("remove the volume, then deploy again"))
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.volume.label(STATE) == Some(SERVING)
    }

    /// What was deployed.
    pub(crate) fn release(&self) -> Result<Release> {
        let content = self.volume.label(CONTENT).unwrap_or_default();
        let content: Json = serde_json::from_str(content).map_err(|error| {
            Error::failed(format!("the engine has no readable content of release {}", self.provenance.release))
                .cause(error.to_string())
        })?;
        Ok(Release::from(content))
    }

    pub(crate) fn remove(&self, engine: &Engine) -> Result<()> {
        engine.remove_volume(&self.volume.name)
    }
}
