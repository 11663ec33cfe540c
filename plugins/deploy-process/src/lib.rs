//! Deploys to the target `process`: starts a release as a supervised process of this machine, waits until it is healthy, and
//! makes it the current one.
//!
//! Input: an image by digest, and how to run it. Output: the address, the release's name, and the image that it replaced.
//! The old release keeps serving until the new one passes its health check; a new release that doesn't is removed.
//!
//! `observe` compares the fencing token under which the current release was started with the one of the interrupted
//! attempt. `undo` deploys the environment's last known-good release with its original configuration.
//!
//! It doesn't deploy by tag: what was tested and what is deployed must be the same bytes.

mod config;
mod probe;
#[cfg(test)]
mod tests;

use stagewright_sdk::service::{self, Current, Instance, Release, State};
use stagewright_sdk::{
    Error, Manifest, Observation, Outcome, Permission, Problem, Reconcile, Requirement, Result, Stage, context,
    environment, log, outputs, secrets,
};

use crate::config::{Config, Probe, digest_of};

/// The plugin.
#[derive(Debug)]
pub struct DeployProcess;

impl Stage for DeployProcess {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("url", "The release's address")
            .output::<String>("release", "The release's name")
            .output::<String>("image", "The deployed image, by digest")
            .output::<Option<String>>("previous", "The image that was replaced, by digest; null for a first deploy")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        // The grant of the service includes pulling its image from a registry.
        let service = Requirement::service(&config.service).because("runs the image");
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the release gets it as {variable}"))
        });
        let layout = Requirement::image(config.image.as_str());
        let layout = Some(layout).filter(|layout| layout.permission == Permission::Read);
        std::iter::once(service)
            .chain(layout.map(|layout| layout.because("contains the image")))
            .chain(secrets)
            .collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let previous = service::current(&config.service)?;
        let (release, address) = roll_out(&config, previous.as_ref())?;
        publish(&config, &release, &address, previous.as_ref())?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DeployProcess {
    /// The deploy was applied if the current release was started under the attempt's fencing token. A release that was
    /// started but never promoted doesn't serve requests, so it counts as not started. Without tokens, the image's digest
    /// decides.
    fn observe(config: Config) -> Result<Observation> {
        let Some(current) = service::current(&config.service)? else {
            return Ok(Observation::NotStarted);
        };
        let is_applied = match (environment::fence(), current.fence) {
            (Some(own), Some(current)) => own == current,
            _ => digest_of(&current.image) == config.image.digest(),
        };
        if !is_applied {
            return Ok(Observation::NotStarted);
        }
        if current.state == Some(State::Exited) {
            let Current { release, image, .. } = current;
            return Ok(Observation::Failed(format!(
                "release {release} of {image} was made current, but has exited since"
            )));
        }
        record(&config, &current.address)?;
        publish(&config, &current.release, &current.address, None)?;
        Ok(Observation::Applied(format!(
            "release {} of {} serves at {}",
            current.release, current.image, current.address
        )))
    }

    /// Deploys the last known-good release again, with its original configuration.
    fn undo(config: Config) -> Result<()> {
        let serves = service::current(&config.service)?;
        let Some(good) = environment::last_known_good()? else {
            let serving = serves.map_or_else(
                || "no release serves".to_owned(),
                |current| format!("release {} serves", current.release),
            );
            return Err(Error::failed(format!(
                "no earlier release of `{}` was marked good, so there is none to roll back to; {serving}",
                config.service
            ))
            .help("deploy an image that works"));
        };
        let earlier: Config = serde_json::from_value(good.config.clone()).map_err(|error| {
            Error::failed(format!("the release of {} was deployed by another version of this plugin", good.artifact))
                .cause(error.to_string())
                .help("deploy an image that works")
        })?;
        if earlier.service != config.service {
            return Err(Error::failed(format!(
                "the last known-good release in this environment is of `{}`, not of `{}`",
                earlier.service, config.service
            ))
            .help("use a separate environment for each service"));
        }
        if let Some(serves) = serves.as_ref().filter(|serves| is_rolled_back(serves, &good, &earlier)) {
            log::info(format!("release {} already runs {}", serves.release, good.artifact));
            return record(&earlier, &serves.address);
        }
        let (release, address) = roll_out(&earlier, serves.as_ref())?;
        log::info(format!("rolled back to {}: release {release} serves at {address}", earlier.image.as_str()));
        Ok(())
    }
}

stagewright_sdk::export_effectful_stage!(DeployProcess);

/// Whether the release to roll back to already serves, so that `undo` has nothing left to do.
///
/// Either the ledger has the serving release as current, with the configuration of the good one. Or the serving release
/// has a newer token than the ledger's current one: then an interrupted `undo` has promoted it, but was interrupted
/// before it could record it in the ledger.
fn is_rolled_back(serves: &Current, good: &environment::Release, earlier: &Config) -> bool {
    let known = environment::current().ok().flatten();
    let is_good = match (serves.fence, known) {
        (Some(fence), Some(known)) if fence == known.fence => known.config == good.config,
        (Some(fence), Some(known)) => fence > known.fence,
        _ => false,
    };
    is_good && serves.state == Some(State::Running) && digest_of(&serves.image) == earlier.image.digest()
}

/// Starts a release, and makes it the current one once it is healthy. Returns its name and address.
fn roll_out(config: &Config, previous: Option<&Current>) -> Result<(String, String)> {
    let instance = start(config)?;
    log::info(format!("release {} started at {}", instance.release(), instance.address()));
    if let Err(error) = check(config, &instance) {
        return Err(discard(config, &instance, error, previous));
    }
    if let Err(error) = instance.promote() {
        let error = error.context(format!("release {} is healthy, but can't be made current", instance.release()));
        return Err(discard(config, &instance, error, previous));
    }
    record(config, &instance.address())?;
    Ok((instance.release(), instance.address()))
}

/// Records the release in the environment's ledger, for a stage with an environment.
fn record(config: &Config, address: &str) -> Result<()> {
    match environment::fence() {
        Some(_) => environment::released(config.image.as_str(), Some(address)),
        None => Ok(()),
    }
}

fn start(config: &Config) -> Result<Instance> {
    let mut release = Release::new(&config.service, config.image.as_str());
    release.args(config.args.iter().cloned());
    for (name, value) in &config.env {
        release.env(name, value);
    }
    for (name, secret) in &config.secret_env {
        let secret = secrets::get(secret)
            .map_err(|error| error.context(format!("can't get the secret `{secret}` of `with.secret-env.{name}`")))?;
        release.secret_env(name, &secret);
    }
    if let Some(port) = config.port {
        release.port(port);
    }
    if let Some(keep) = config.keep {
        release.keep(keep);
    }
    if let Some(grace) = config.stop_grace {
        release.stop_grace(grace.0);
    }
    release
        .start()
        .map_err(|error| error.context(format!("can't start {} as `{}`", config.image.as_str(), config.service)))
}

/// Checks health, then readiness. If neither is configured, checks health with the defaults, so that no release is
/// promoted unchecked.
fn check(config: &Config, instance: &Instance) -> Result<()> {
    let default = Probe::default();
    let health = match (&config.health, &config.readiness) {
        (None, None) => Some(&default),
        (health, _) => health.as_ref(),
    };
    for (name, probe) in [("health", health), ("readiness", config.readiness.as_ref())] {
        if let Some(probe) = probe {
            probe::wait(instance, name, probe)?;
        }
    }
    Ok(())
}

/// Removes the new release, and adds to the error what serves now.
fn discard(config: &Config, instance: &Instance, error: Error, previous: Option<&Current>) -> Error {
    let serves = match previous {
        Some(previous) => format!("release {} ({}) still serves", previous.release, previous.image),
        None => "no release serves, since there is no earlier one".to_owned(),
    };
    let outcome = if error.is_cancelled() || context::cancelled() { "was cancelled" } else { "failed" };
    match instance.discard() {
        Ok(()) => error.context(format!(
            "the deploy of `{}` {outcome}: release {} was removed, and {serves}",
            config.service,
            instance.release()
        )),
        Err(failure) => error
            .context(format!(
                "the deploy of `{}` {outcome}, and release {} could not be removed",
                config.service,
                instance.release()
            ))
            .cause(format!("removing it failed: {failure}"))
            .help("stop the release manually before the next deploy"),
    }
}

fn publish(config: &Config, release: &str, address: &str, previous: Option<&Current>) -> Result<()> {
    let replaced = previous.map(|previous| previous.image.as_str());
    outputs::set("url", address)?;
    outputs::set("release", release)?;
    outputs::set("image", config.image.as_str())?;
    outputs::set("previous", &replaced)?;
    let after = replaced.map(|image| format!(", after `{image}`")).unwrap_or_default();
    outputs::summary(format!(
        "**{}** runs `{}` as release {release} at <{address}>{after}.\n",
        config.service,
        config.image.as_str()
    ));
    Ok(())
}
