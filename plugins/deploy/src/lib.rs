//! Starts a release, waits until it is healthy, and makes it the current one.
//!
//! In flow an image by digest and what it is run with; out go the address, the release's name, and the image that it
//! took over from. The old release serves until the new one has answered; a new one that doesn't is taken away again.
//!
//! Asked about a deploy that was broken off, it goes by the token that the current release was started under; an undo
//! deploys the environment's last good release as it was configured then.
//!
//! It may not deploy by tag: what was tested and what is deployed must be the same bytes.

mod config;
mod probe;
#[cfg(test)]
mod tests;

use stagewright_sdk::service::{self, Current, Instance, Release, State};
use stagewright_sdk::{
    Capability, Diagnostic, Error, ErrorCode, Manifest, Observation, Outcome, Reconcile, Result, Stage, context,
    environment, log, outputs, secrets,
};

use crate::config::{Config, Probe, digest_of};

/// The plugin.
#[derive(Debug)]
pub struct Deploy;

impl Stage for Deploy {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("deploy", env!("CARGO_PKG_VERSION"))
            .description("Starts a release, waits until it is healthy, and makes it the current one")
            .capability(Capability::Service)
            .capability(Capability::Http)
            .capability(Capability::Secrets)
            .output("url", "Where the release answers")
            .output("release", "The release's name")
            .output("image", "What was deployed, by digest")
            .output("previous", "The image that was current before, by digest; null for a first deploy")
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        let mistakes = config::mistakes(config).into_iter();
        mistakes.map(|(key, message)| Diagnostic::error("config", message).at(key)).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let previous = service::current(&config.service)?;
        let (release, address) = put_in_place(&config, previous.as_ref())?;
        publish(&config, &release, &address, previous.as_ref())?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for Deploy {
    /// By token: the current release was started under the one of the attempt in question, or the deploy isn't there.
    /// One that was started and never promoted doesn't serve anybody, and counts as not there. Where there are no
    /// tokens, by content.
    fn observe(config: Config) -> Result<Observation> {
        let Some(current) = service::current(&config.service)? else {
            return Ok(Observation::NotStarted);
        };
        let is_there = match (environment::fence(), current.fence) {
            (Some(own), Some(there)) => own == there,
            _ => digest_of(&current.image) == config.image.digest(),
        };
        if !is_there {
            return Ok(Observation::NotStarted);
        }
        if current.state == Some(State::Exited) {
            let Current { release, image, .. } = current;
            return Ok(Observation::Failed(format!("release {release} of {image} was made current, and has exited")));
        }
        record(&config, &current.address)?;
        publish(&config, &current.release, &current.address, None)?;
        Ok(Observation::Applied(format!(
            "release {} of {} serves at {}",
            current.release, current.image, current.address
        )))
    }

    /// Deploys the last known good release once more, as it was configured then.
    fn undo(config: Config) -> Result<()> {
        let serves = service::current(&config.service)?;
        let Some(good) = environment::last_known_good()? else {
            let still = serves.map_or_else(|| "nothing".to_owned(), |current| format!("release {}", current.release));
            return Err(Error::failed(format!(
                "no earlier release of `{}` proved good, so there is none to go back to; {still} serves",
                config.service
            ))
            .help("deploy an image that works"));
        };
        let earlier: Config = serde_json::from_value(good.config.clone()).map_err(|error| {
            Error::failed(format!("the release of {} was made by another version of this plugin", good.artifact))
                .cause(error.to_string())
                .help("deploy an image that works")
        })?;
        if earlier.service != config.service {
            return Err(Error::failed(format!(
                "the last good release in this environment is of `{}`, not of `{}`",
                earlier.service, config.service
            ))
            .help("give each service an environment of its own"));
        }
        if let Some(serves) = serves.as_ref().filter(|serves| is_back(serves, &good, &earlier)) {
            log::info(format!("release {} is {} already", serves.release, good.artifact));
            return record(&earlier, &serves.address);
        }
        let (release, address) = put_in_place(&earlier, serves.as_ref())?;
        log::info(format!("went back to {}: release {release} serves at {address}", earlier.image.as_str()));
        Ok(())
    }
}

stagewright_sdk::export_effectful_stage!(Deploy);

/// Whether the release that serves is the one to go back to: the ledger knows it as such, or it came after the one that
/// the ledger knows, which only an undo that was broken off can have brought about.
fn is_back(serves: &Current, good: &environment::Release, earlier: &Config) -> bool {
    let known = environment::current().ok().flatten();
    let is_good = match (serves.fence, known) {
        (Some(there), Some(known)) if there == known.fence => known.config == good.config,
        (Some(there), Some(known)) => there > known.fence,
        _ => false,
    };
    is_good && serves.state == Some(State::Running) && digest_of(&serves.image) == earlier.image.digest()
}

/// Starts a release, and makes it the current one once it is healthy. Gives its name and address.
fn put_in_place(config: &Config, previous: Option<&Current>) -> Result<(String, String)> {
    let instance = start(config)?;
    log::info(format!("release {} started at {}", instance.release(), instance.address()));
    if let Err(error) = check(config, &instance) {
        return Err(give_up(config, &instance, error, previous));
    }
    if let Err(error) = instance.promote() {
        let error = error.context(format!("release {} was healthy, but can't be made current", instance.release()));
        return Err(give_up(config, &instance, error, previous));
    }
    record(config, &instance.address())?;
    Ok((instance.release(), instance.address()))
}

/// For the environment's ledger.
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
            .map_err(|error| error.context(format!("`with.secret-env.{name}` asks for the secret `{secret}`")))?;
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

/// Health first, then readiness; with neither configured, health by its defaults: an unprobed release can't
/// be called good.
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

/// Takes the new release away and says what serves now.
fn give_up(config: &Config, instance: &Instance, error: Error, previous: Option<&Current>) -> Error {
    let serves = match previous {
        Some(previous) => format!("release {} ({}) still serves", previous.release, previous.image),
        None => "there is no earlier release, so nothing serves".to_owned(),
    };
    let cancelled = error.code == ErrorCode::Cancelled || context::cancelled();
    let doing = if cancelled { "cancelled" } else { "failed" };
    match instance.discard() {
        Ok(()) => error.context(format!(
            "the deploy of `{}` {doing}: release {} was taken away, and {serves}",
            config.service,
            instance.release()
        )),
        Err(left) => error
            .context(format!(
                "the deploy of `{}` {doing}, and release {} could not be taken away",
                config.service,
                instance.release()
            ))
            .cause(format!("taking it away: {left}"))
            .help("stop the release by hand before the next deploy"),
    }
}

fn publish(config: &Config, release: &str, address: &str, previous: Option<&Current>) -> Result<()> {
    let before = previous.map(|previous| previous.image.as_str());
    outputs::set("url", address)?;
    outputs::set("release", release)?;
    outputs::set("image", config.image.as_str())?;
    outputs::set("previous", &before)?;
    let before = before.map(|image| format!(", after `{image}`")).unwrap_or_default();
    outputs::summary(format!(
        "**{}** runs `{}` as release {release} at <{address}>{before}.\n",
        config.service,
        config.image.as_str()
    ));
    Ok(())
}
