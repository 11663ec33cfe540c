//! `environment`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::Error;
use crate::fake::imports::types;
use crate::fake::rules;
use crate::fake::state::{Interface, on};
use crate::rollout::Rollout;

pub(crate) fn fence() -> Option<u64> {
    on(|host| host.fence)
}

pub(crate) fn settings() -> Option<String> {
    on(|host| host.settings.as_ref().map(ToString::to_string))
}

pub(crate) fn current() -> Option<String> {
    on(|host| host.ledger.0.as_ref().map(ToString::to_string))
}

pub(crate) fn last_known_good() -> Option<String> {
    on(|host| host.ledger.1.as_ref().map(ToString::to_string))
}

pub(crate) fn standing() -> Option<String> {
    on(|host| if host.rehearsal { &host.standing } else { &host.ledger.0 }.as_ref().map(ToString::to_string))
}

pub(crate) fn would(what: &str) {
    on(|host| {
        if host.rehearsal {
            host.would = Some(what.to_owned());
        }
    });
}

pub(crate) fn restored() -> Option<String> {
    on(|host| host.restored.as_ref().map(ToString::to_string))
}

pub(crate) fn good_release(environment: &str) -> Result<Option<String>, types::Error> {
    on(|host| {
        host.fault(Interface::Environment, environment)?;
        let found = host.good_releases.get(environment).ok_or_else(|| {
            Error::failed(format!("the pipeline has no environment `{environment}`"))
                .help(format!("add [environments.{environment}] to the pipeline file"))
        })?;
        Ok(found.as_ref().map(ToString::to_string))
    })
    .map_err(|error: Error| types::Error::from(error))
}

pub(crate) fn rollout() -> Option<String> {
    on(|host| host.rollouts.last().or(host.rollout.as_ref()).and_then(|rollout| serde_json::to_string(rollout).ok()))
}

pub(crate) fn record_rollout(rollout: &str) -> Result<(), types::Error> {
    on(|host| {
        if host.fence.is_none() {
            let message = "could not record a rollout: the stage doesn't act on an environment";
            return Err(Error::failed(message).help("add to the stage: environment = \"staging\"").into());
        }
        let rollout: Rollout = serde_json::from_str(rollout)
            .map_err(|error| types::Error::from(Error::invalid(format!("invalid rollout: {error}"))))?;
        if rollout.step > rollout.steps || rollout.weight > 100 {
            return Err(Error::invalid("invalid rollout: `step` or `weight` is out of range").into());
        }
        host.fault(Interface::Environment, &rollout.message)?;
        host.rollouts.push(rollout);
        Ok(())
    })
}

#[derive(Debug)]
pub(crate) struct Deployment {
    artifact: String,
    url: RefCell<Option<String>>,
    parts: RefCell<BTreeMap<String, String>>,
}

impl Deployment {
    pub(crate) fn new(artifact: &str) -> Deployment {
        Deployment { artifact: artifact.to_owned(), url: RefCell::default(), parts: RefCell::default() }
    }

    pub(crate) fn part(&self, name: &str, text: &str) {
        self.parts.borrow_mut().insert(name.to_owned(), text.to_owned());
    }

    pub(crate) fn url(&self, url: &str) {
        *self.url.borrow_mut() = Some(url.to_owned());
    }

    pub(crate) fn report(&self) -> Result<(), types::Error> {
        let Deployment { artifact, url, parts } = self;
        on(|host| {
            if host.fence.is_none() {
                let message = "could not record a release: the stage doesn't act on an environment";
                return Err(Error::failed(message).help("add to the stage: environment = \"staging\"").into());
            }
            if artifact.trim().is_empty() {
                return Err(Error::invalid("the artifact of a release must not be empty").into());
            }
            let parts = parts.borrow();
            rules::parts(&parts)?;
            host.fault(Interface::Environment, artifact)?;
            host.recorded = Some((artifact.clone(), url.borrow().clone()));
            host.recorded_parts = parts.clone();
            Ok(())
        })
    }
}
