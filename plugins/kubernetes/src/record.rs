//! What the cluster keeps about a service, in a ConfigMap. Each change is conditional on the version that was read, so that of
//! two deploys at the same time one is refused.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, ErrorCode, Result, environment};

use crate::cluster::Cluster;
use crate::object::Identity;

/// The label of everything that belongs to a service.
pub const SERVICE_LABEL: &str = "stagewright/service";

/// How often a conditional change is tried.
const ATTEMPTS: usize = 10;

/// What is kept about a service.
pub trait Fenced: Default + Serialize + DeserializeOwned {
    /// The newest token that has acted.
    fn fence(&mut self) -> &mut Option<u64>;
}

/// The ConfigMap of a service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceRecord<'a> {
    /// Where it is.
    pub cluster: &'a Cluster,
    /// The ConfigMap's namespace.
    pub namespace: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// The ConfigMap's name.
    pub name: &'a str,
}

impl ServiceRecord<'_> {
    /// The record; the default if nothing was ever deployed.
    ///
    /// # Errors
    /// If the cluster can't be asked, or the record can't be read.
    pub fn read<R: Fenced>(&self) -> Result<R> {
        self.versioned().map(|(record, _)| record)
    }

    /// Changes the record, if no deploy with a newer token has acted. The change is made again if another deploy's comes in
    /// between.
    ///
    /// # Errors
    /// [`ErrorCode::Superseded`] if one has.
    pub fn change<R: Fenced>(&self, change: impl Fn(&mut R)) -> Result<R> {
        for _ in 0..ATTEMPTS {
            let (mut record, version) = self.versioned::<R>()?;
            self.refuse_stale(&mut record)?;
            *record.fence() = (*record.fence()).max(environment::fence());
            change(&mut record);
            match self.write(&record, version.as_deref()) {
                Err(error) if error.code == ErrorCode::Aborted => {}
                Err(error) => return Err(error.context("the service's record can't be changed")),
                Ok(()) => return Ok(record),
            }
        }
        Err(Error::new(ErrorCode::Aborted, "the service's record was changed by others all the time").retryable())
    }

    /// Refuses to act when a deploy with a newer token has.
    ///
    /// # Errors
    /// [`ErrorCode::Superseded`] if one has.
    pub fn refuse_stale(&self, record: &mut impl Fenced) -> Result<()> {
        match (*record.fence(), environment::fence()) {
            (Some(newer), Some(own)) if newer > own => {
                let service = self.service;
                let message =
                    format!("a deploy of `{service}` with the token {newer}, which is newer than {own}, has acted");
                Err(Error::new(ErrorCode::Superseded, message).help("start a new run"))
            }
            _ => Ok(()),
        }
    }

    fn versioned<R: Fenced>(&self) -> Result<(R, Option<String>)> {
        let Some(map) = self.cluster.get(&self.identity())? else { return Ok((R::default(), None)) };
        let record = serde_json::from_str(map["data"]["record"].as_str().unwrap_or_default()).map_err(|error| {
            Error::failed(format!("the record of `{}` can't be read", self.service))
                .cause(error.to_string())
                .help(format!("restore the ConfigMap {} of the namespace {}", self.name, self.namespace))
        })?;
        Ok((record, map["metadata"]["resourceVersion"].as_str().map(ToOwned::to_owned)))
    }

    fn write(&self, record: &impl Fenced, version: Option<&str>) -> Result<()> {
        let identity = self.identity();
        let mut map = config_map(&identity, self.service, &[]);
        map["data"] = json!({ "record": serde_json::to_string(record)? });
        match version {
            None => self.cluster.create(&identity, &map),
            Some(version) => {
                map["metadata"]["resourceVersion"] = version.into();
                self.cluster.replace(&identity, &map)
            }
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: Some(self.namespace.to_owned()),
            name: self.name.to_owned(),
        }
    }
}

/// A ConfigMap of a service, without content.
pub fn config_map(identity: &Identity, service: &str, labels: &[(&str, &str)]) -> Json {
    let mut map = json!({
        "apiVersion": identity.api_version,
        "kind": identity.kind,
        "metadata": { "name": identity.name, "namespace": identity.namespace, "labels": { SERVICE_LABEL: service } },
    });
    for (label, value) in labels {
        map["metadata"]["labels"][*label] = (*value).into();
    }
    map
}
