//! The secrets that a deploy creates on the swarm.
//!
//! A secret of a swarm can't be changed, and nothing here knows whether its value has. So each deploy has secrets of its own:
//! their names have the run, and their labels say which deploy they come from. The containers don't notice, since a file in
//! `/run/secrets` has the name that the stack's file has.

use docker_engine::{Engine, Provenance, SwarmObject};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{Error, ErrorCode, Result, context, environment, log, secrets};

use crate::config::Config;
use crate::records::STACK;
use crate::spec::NAMESPACE;
use crate::version::{DIGITS, SecretNames};

/// What the stack's file calls the secret.
const NAME: &str = "stagewright.secret";
/// The names of the secrets that the release of `config` has: those of the release to restore as far as the swarm still has
/// them, and otherwise new ones of this run.
pub(crate) fn names(
    engine: &Engine,
    config: &Config,
    artifact: &str,
    restored: Option<&environment::Release>,
) -> Result<SecretNames> {
    let kept = match restored.filter(|_| !config.secrets.is_empty()) {
        Some(release) => of_release(engine, &config.stack, artifact, release.fence)?,
        None => SecretNames::new(),
    };
    let own = |name: &String| kept.get(name).cloned().unwrap_or_else(|| own_name(&config.stack, name, artifact));
    Ok(config.secrets.keys().map(|name| (name.clone(), own(name))).collect())
}

/// The secrets of a release that the ledger has under a token. That is the one that its deploy held when it finished; the
/// secrets have the one that it began with, and no other deploy acted in between.
fn of_release(engine: &Engine, stack: &str, artifact: &str, fence: u64) -> Result<SecretNames> {
    let known = engine.secrets(STACK, stack)?;
    let mut found: Vec<(u64, &SwarmObject)> = known
        .iter()
        .filter_map(|secret| {
            let provenance = Provenance::of(&secret.spec.labels).filter(|of| of.artifact == artifact)?;
            Some((provenance.fence.filter(|own| *own <= fence)?, secret))
        })
        .collect();
    found.sort_by_key(|(fence, _)| *fence);
    // The newest of each name is the last one.
    let named = |secret: &SwarmObject| Some((secret.spec.labels.get(NAME)?.clone(), secret.spec.name.clone()));
    Ok(found.into_iter().filter_map(|(_, secret)| named(secret)).collect())
}

/// The name of a secret of this run, which is the same when an attempt is repeated.
fn own_name(stack: &str, name: &str, artifact: &str) -> String {
    let digest = Sha256::digest(format!("{}\n{artifact}", context::run_id()));
    let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{stack}_{name}.{}", &digits[..DIGITS])
}

/// Checks that those that have to be created can be, before anything is changed.
pub(crate) fn check(engine: &Engine, config: &Config, names: &SecretNames) -> Result<()> {
    for (name, on_swarm) in names {
        match engine.secret(on_swarm)? {
            Some(found) if found.spec.labels.get(STACK) == Some(&config.stack) => {}
            Some(_) => {
                let message = format!("the secret {on_swarm} doesn't belong to the stack `{}`", config.stack);
                return Err(Error::new(ErrorCode::FailedPrecondition, message)
                    .help(format!("remove it: docker secret rm {on_swarm}")));
            }
            None => drop(secrets::get(&config.secrets[name])?),
        }
    }
    Ok(())
}

/// Creates those that the swarm doesn't have, with the values of now.
pub(crate) fn create_missing(
    engine: &Engine,
    config: &Config,
    names: &SecretNames,
    provenance: &Provenance,
) -> Result<()> {
    for (name, on_swarm) in names {
        if engine.secret(on_swarm)?.is_some() {
            continue;
        }
        log::info(format!("creating the secret {on_swarm}"));
        let secret = secrets::get(&config.secrets[name])?;
        let mut labels = provenance.labels();
        let own = [(STACK, &config.stack), (NAME, name), (NAMESPACE, &config.stack)];
        labels.extend(own.map(|(label, value)| (label.to_owned(), value.clone())));
        let data = secrets::base64_placeholder(&config.secrets[name]);
        engine.create_secret(&json!({ "Name": on_swarm, "Labels": labels, "Data": data }), &[secret])?;
    }
    Ok(())
}

/// Removes the secrets that deploys of the stack have created, that are in none of `kept`, and that are meant. One that can't
/// be removed stays until the next deploy.
pub(crate) fn remove(
    engine: &Engine,
    stack: &str,
    kept: &[SecretNames],
    is_meant: impl Fn(&Provenance) -> bool,
) -> Result<()> {
    for secret in engine.secrets(STACK, stack)? {
        let name = &secret.spec.name;
        let is_kept = kept.iter().any(|names| names.values().any(|kept| kept == name));
        let Some(provenance) = Provenance::of(&secret.spec.labels) else { continue };
        // A newer deploy may be about to use it.
        if is_kept || !is_meant(&provenance) || provenance.refuse_newer(stack).is_err() {
            continue;
        }
        log::info(format!("removing the secret {name}, which no release needs any more"));
        if let Err(error) = engine.remove_secret(&secret.id) {
            log::warn(format!("the secret {name} stays until the next deploy: {error}"));
        }
    }
    Ok(())
}
