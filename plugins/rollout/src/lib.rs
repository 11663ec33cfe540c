//! What all plugins that deploy share: bringing a version of a service into being, waiting until it is ready, giving it the
//! requests, and going back.
//!
//! A plugin implements [`Target`] for its kind of target, and exports the stage [`Deploy`] for it. That decides what happens
//! when; the target only knows how. In between is the [`Strategy`], which knows neither.
//!
//! A version that can't be made the serving one is undone, so that after a failed deploy the earlier one serves. Whether an
//! interrupted deploy was applied is decided by what the target keeps with the version that serves: the run, or the fencing
//! token. A deploy that gives the version its requests step by step records each step with the host, and continues there when
//! it is called again.

mod analysis;
mod deliverable;
mod deploy;
mod drift;
mod header_route;
mod image;
mod preview;
mod probe;
mod readiness;
mod release_secrets;
mod rollout;
mod strategy;
mod target;
#[cfg(test)]
mod tests;
mod traffic;

use stagewright_sdk::{Error, Observation, Outcome, Result, context, environment, log, outputs};

pub use analysis::{
    Analysis, CommandQuery, HttpQuery, LogQuery, Metric, MetricVerdict, Phase, Prometheus, Subject, Verdict,
};
pub use deliverable::Deliverable;
pub use deploy::Deploy;
pub use drift::is_overwriting_approved;
pub use header_route::{HeaderMatch, HeaderRoute, HeaderValue};
pub use image::{Image, digest_of};
pub use probe::{Probe, probes};
pub use readiness::wait_until_ready;
pub use release_secrets::{dropped_secret_env, secret_env_problems, secret_handles, secret_parts, secret_requirements};
pub use strategy::{Amount, BlueGreen, Canary, CanaryStep, OnFailure, Pause, Recreate, Rolling, Strategy, Waves};
pub use target::{Described, Progress, ReleaseConfig, Serving, Target};
pub use traffic::{Caddy, Envoy, Haproxy, Nginx, NginxRoutes, Share, Traffic};

use crate::rollout::Rollout;

/// Deploys the release of `config`: it is applied, checked, and given the requests as its strategy says. Sets the outputs
/// `url`, `release`, `image` and `previous` when it has succeeded. It is to be called again after a wait.
///
/// # Errors
/// If any of this fails, or the rollout is aborted; the new version is then undone.
pub(crate) fn run<T: Target>(config: &T::Config) -> Result<Outcome> {
    let restored = environment::restored()?;
    if context::rehearsal() {
        preview::show::<T>(config)?;
        if !T::HAS_STAND_IN {
            T::check(config)?;
            drift::report::<T>(config)?;
            return Ok(Outcome::Succeeded);
        }
    }
    let target = T::open(config, restored.as_ref())?;
    // Neither a rollback nor a rollout that has begun waits for approval.
    if restored.is_none()
        && rollout::begun()?.is_none()
        && let Some(request) = drift::request_approval::<T>(config)?
    {
        return Ok(Outcome::Suspended(request));
    }
    let previous = target.serving()?;
    match Rollout::begin(&target, config, previous.as_ref())?.drive()? {
        Outcome::Suspended(wait) => Ok(Outcome::Suspended(wait)),
        outcome => {
            let serving = deployed(&target, config)?;
            record(&target, config, &serving)?;
            publish(&target, config, &serving, previous.as_ref())?;
            Ok(outcome)
        }
    }
}

/// Whether an interrupted deploy was applied: whether the version that serves was applied by this run or, if the target
/// doesn't keep the run, under this attempt's fencing token. One that hasn't finished counts as not started, and the next
/// call of [`run`] continues it. Without tokens, the artifact's digest decides.
///
/// # Errors
/// If the target can't be asked.
pub(crate) fn observe<T: Target>(config: &T::Config) -> Result<Observation> {
    let target = T::open(config, environment::restored()?.as_ref())?;
    let Some(serving) = target.serving()? else {
        return Ok(Observation::NotStarted);
    };
    let is_same = digest_of(&serving.artifact) == digest_of(target.artifact());
    let is_applied = match (&serving.run, environment::fence(), serving.fence) {
        (Some(run), ..) => *run == context::run_id() && is_same,
        (None, Some(own), Some(serving)) => own == serving,
        _ => is_same,
    };
    if !is_applied {
        return Ok(Observation::NotStarted);
    }
    let Serving { version, artifact, .. } = &serving;
    if serving.has_failed {
        return Ok(Observation::Failed(format!(
            "release {version} of {artifact} was made current, but has exited since"
        )));
    }
    let observation = format!("release {version} of {artifact} serves{}", at(&serving));
    rollout::complete(target.artifact())?;
    record(&target, config, &serving)?;
    publish(&target, config, &serving, None)?;
    Ok(Observation::Applied(observation))
}

/// Deploys the environment's last known-good release again, with its original configuration, all at once.
///
/// # Errors
/// If there is none, if it was deployed by another plugin or is of another service, or if deploying it fails.
pub(crate) fn undo<T: Target>(config: &T::Config) -> Result<()> {
    let Some(good) = environment::last_known_good()? else {
        let serving = T::open(config, None)?.serving()?;
        let serves = serving
            .map_or_else(|| "no release serves".to_owned(), |serving| format!("release {} serves", serving.version));
        return Err(Error::failed(format!(
            "no earlier release of `{}` was marked good, so there is none to roll back to; {serves}",
            config.service()
        ))
        .help("deploy an image that works"));
    };
    let earlier: T::Config = serde_json::from_value(good.config.clone()).map_err(|error| {
        Error::failed(format!("the release of {} was deployed by another version of this plugin", good.artifact))
            .cause(error.to_string())
            .help("deploy an image that works")
    })?;
    if earlier.service() != config.service() {
        return Err(Error::failed(format!(
            "the last known-good release in this environment is of `{}`, not of `{}`",
            earlier.service(),
            config.service()
        ))
        .help("use a separate environment for each service"));
    }
    let target = T::open(&earlier, Some(&good))?;
    let serving = target.serving()?;
    if let Some(serving) = serving.as_ref().filter(|serving| is_rolled_back(serving, &good, target.artifact())) {
        log::info(format!("release {} already runs {}", serving.version, good.artifact));
        return record_again(&target, &good, serving);
    }
    Rollout::back(&target, &earlier, serving.as_ref())?.drive()?;
    let restored = deployed(&target, &earlier)?;
    record_again(&target, &good, &restored)?;
    log::info(format!("rolled back to {}: release {} serves{}", target.artifact(), restored.version, at(&restored)));
    Ok(())
}

/// Whether the release to roll back to already serves, so that [`undo`] has nothing left to do.
///
/// Either the ledger has the serving release as current, with the configuration of the good one. Or the serving release
/// has a newer token than the ledger's current one: then an interrupted `undo` has promoted it, but was interrupted
/// before it could record it in the ledger.
fn is_rolled_back(serving: &Serving, good: &environment::Release, artifact: &str) -> bool {
    let known = environment::current().ok().flatten();
    let is_good = match (serving.fence, known) {
        (Some(fence), Some(known)) if fence == known.fence => known.config == good.config,
        (Some(fence), Some(known)) => fence > known.fence,
        _ => false,
    };
    is_good && serving.is_running && digest_of(&serving.artifact) == digest_of(artifact)
}

/// The version that serves after a rollout.
fn deployed<T: Target>(target: &T, config: &T::Config) -> Result<Serving> {
    target.serving()?.ok_or_else(|| {
        Error::failed(format!("`{}` has no release any more, although the deploy succeeded", config.service()))
            .help("check who else changes the target, then deploy again")
    })
}

/// Records the release of this stage in the environment's ledger, for a stage with an environment.
fn record<T: Target>(target: &T, config: &T::Config, serving: &Serving) -> Result<()> {
    if environment::fence().is_none() {
        return Ok(());
    }
    let parts = match environment::restored()? {
        Some(restored) => restored.parts,
        // What is only compared later mustn't keep a deploy that has succeeded out of the ledger.
        None => preview::parts::<T>(config).map(preview::bounded).unwrap_or_else(|error| {
            log::warn(format!("a later rehearsal can't compare this release: {error}"));
            Default::default()
        }),
    };
    environment::released_with_parts(target.artifact(), serving.address.as_deref(), &parts)
}

/// Records that an earlier release serves again.
fn record_again(target: &impl Target, earlier: &environment::Release, serving: &Serving) -> Result<()> {
    match environment::fence() {
        Some(_) => environment::released_with_parts(target.artifact(), serving.address.as_deref(), &earlier.parts),
        None => Ok(()),
    }
}

fn publish<T: Target>(target: &T, config: &T::Config, serving: &Serving, previous: Option<&Serving>) -> Result<()> {
    let replaced = previous.map(|previous| previous.artifact.as_str());
    if let Some(address) = &serving.address {
        outputs::set("url", address)?;
    }
    outputs::set("release", &serving.version)?;
    outputs::set("image", target.artifact())?;
    outputs::set("previous", &replaced)?;
    let place = serving.address.as_deref().map(|address| format!(" at <{address}>")).unwrap_or_default();
    let after = replaced.map(|image| format!(", after `{image}`")).unwrap_or_default();
    outputs::summary(format!(
        "**{}** runs `{}` as release {}{place}{after}.\n",
        config.service(),
        target.artifact(),
        serving.version
    ));
    Ok(())
}

fn at(serving: &Serving) -> String {
    serving.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default()
}
