//! The versions of a function behind an alias as a target.
//!
//! The alias's version is the one that serves. A version that is being rolled out has a weight beside it, which is 1 once it
//! gets all requests, so that until the end taking it away is enough to go back. The alias's description says which version
//! that is, and whose.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use aws::Service;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rollout::{Described, Progress, Serving, Target, digest_of, secret_handles};
use serde_json::Value as Json;
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, ErrorCode, Manifest, Requirement, Result, clock, context, environment, log, secrets};

use crate::config::{Config, Readiness};
use crate::function::{Alias, Answer, Code, Configured, Function, Latest};
use crate::mark::{Mark, Phase};
use crate::{create, variables};

/// Between two looks at a function whose code is being replaced.
const INTERVAL: Duration = Duration::from_secs(1);

/// The versions of one function.
pub(crate) struct Versions {
    config: Config,
    function: Function,
    /// The release of the ledger that is deployed again.
    restored: Option<Release>,
    /// The end of the log of the last check.
    log: RefCell<String>,
}

impl Target for Versions {
    type Config = Config;
    /// Its number.
    type Version = String;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to Lambda");
        let scratch =
            config.zip.iter().map(|_| Requirement::write(&config.scratch).because("has the archive while it is sent"));
        let analyses = config.strategy.iter().flat_map(rollout::Strategy::requirements);
        let secrets = rollout::secret_requirements(&config.secret_env);
        std::iter::once(signs).chain(scratch).chain(secrets).chain(analyses).collect()
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        Ok(rollout::secret_parts(&config.secret_env).collect())
    }

    fn open(config: &Config, restored: Option<&Release>) -> Result<Versions> {
        // Lambda returns variables with all that it says about a function. From here on, the host masks the values of these
        // secrets in what is read. One that can't be had is an error only where it is needed.
        config.secret_env.values().for_each(|name| drop(secrets::get(name)));
        let function = Function::new(Service::of_credential(&config.credential)?, &config.function);
        Ok(Versions { config: config.clone(), function, restored: restored.cloned(), log: RefCell::default() })
    }

    fn artifact(&self) -> &str {
        self.config.artifact()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let Some(alias) = self.alias()? else { return Ok(None) };
        let mark = alias.mark();
        let phase = mark.as_ref().and_then(|mark| Some(mark.rollout.as_ref()?.1));
        if phase == Some(Phase::First) {
            return Ok(None);
        }
        let version = self.function.configuration(&alias.function_version)?;
        // Until it has finished, the alias says who rolls out the next version, and not who deployed this one.
        let of_version = version.mark();
        let deployed = if phase == Some(Phase::Finished) { mark } else { of_version.clone() };
        let digest = of_version.map(|mark| mark.digest);
        Ok(Some(Serving {
            version: self.name(&version.version),
            artifact: digest
                .map_or_else(|| self.name(&version.version), |digest| format!("{}@{digest}", self.artifact_name())),
            address: None,
            fence: deployed.as_ref().and_then(|mark| mark.fence),
            run: deployed.map(|mark| mark.run),
            is_running: version.state.as_deref() != Some("Failed"),
            has_failed: version.state.as_deref() == Some("Failed"),
        }))
    }

    fn unfinished(&self) -> Result<Option<String>> {
        let is_own = |mark: &Mark| mark.is_of_this_run() && mark.digest == self.digest();
        let Some(alias) = self.alias()? else {
            // Before the first release has requests, only its version knows the run.
            let versions = self.versions()?;
            return Ok(versions
                .into_iter()
                .rfind(|code| code.mark().as_ref().is_some_and(is_own))
                .map(|code| code.version));
        };
        let rollout = alias.mark().filter(is_own).and_then(|mark| mark.rollout);
        Ok(rollout.filter(|(_, phase)| matches!(phase, Phase::Begun | Phase::First)).map(|(version, _)| version))
    }

    fn apply(&self) -> Result<String> {
        let latest = self.existing_function()?;
        let versions = self.function.versions()?;
        let alias = self.alias()?;
        self.refuse_stale(alias.as_ref(), &versions)?;
        let version = match self.earlier(&versions, &latest) {
            Some(earlier) => earlier.version.clone(),
            None => self.publish(&latest)?.version,
        };
        if let Some(alias) = alias {
            self.update(&alias, &alias.function_version, None, (&version, Phase::Begun))?;
        }
        Ok(version)
    }

    fn describe(&self, version: &String) -> Described {
        let advice = "the function has to answer the call of `readiness`".to_owned();
        Described { name: self.name(version), address: None, advice }
    }

    fn observe(&self, version: &String) -> Result<Progress> {
        let code = match self.function.configuration(version) {
            Err(failure) if failure.is("ResourceNotFoundException") => {
                return Ok(Progress::Failed("was deleted".to_owned()));
            }
            code => code?,
        };
        let reason = code.state_reason.unwrap_or_default();
        match code.state.as_deref() {
            Some("Pending") => return Ok(Progress::Starting(format!("Lambda is loading it: {reason}"))),
            Some("Failed") => return Ok(Progress::Failed(format!("can't be loaded: {reason}"))),
            _ => {}
        }
        let Readiness { payload: Some(payload), expect, .. } = &self.config.readiness else {
            return Ok(Progress::Running);
        };
        let Answer { is_error, body, log } = self.function.invoke(version, payload)?;
        *self.log.borrow_mut() = log;
        let is_expected = expect
            .as_ref()
            .is_none_or(|expected| serde_json::from_str(&body).is_ok_and(|answer: Json| contains(&answer, expected)));
        Ok(match !is_error && is_expected {
            true => Progress::Running,
            false => Progress::Failed(format!("answered {} to the call", shortened(&body))),
        })
    }

    fn log_tail(&self, _version: &String, lines: u32) -> Result<String> {
        if self.config.readiness.payload.is_none() {
            return Err(Error::new(ErrorCode::Unimplemented, "only calls of `readiness` return their log"));
        }
        let log = self.log.borrow();
        let all: Vec<&str> = log.lines().collect();
        Ok(all[all.len().saturating_sub(lines as usize)..].join("\n"))
    }

    fn shift(&self, version: &String, weight: u32) -> Result<()> {
        let Some(alias) = self.alias()? else {
            // There is nothing else that could answer.
            let mark = self.mark().at(version, Phase::First);
            return Ok(self.function.create_alias(&self.config.alias, version, &mark).map(drop)?);
        };
        if alias.function_version == *version {
            return self.refuse_stale(Some(&alias), &[]);
        }
        let share = (weight > 0).then(|| (version.as_str(), f64::from(weight.min(100)) / 100.0));
        self.update(&alias, &alias.function_version, share, (version, Phase::Begun))
    }

    fn finish(&self, version: &String) -> Result<()> {
        self.update(&self.known_alias()?, version, None, (version, Phase::Finished))
    }

    fn undo(&self, version: &String) -> Result<()> {
        match self.alias()? {
            None => {}
            Some(alias) if alias.function_version == *version && self.is_first(&alias) => {
                self.refuse_stale(Some(&alias), &[])?;
                self.function.delete_alias(&self.config.alias)?;
            }
            Some(alias) => self.update(&alias, &alias.function_version, None, (version, Phase::Undone))?,
        }
        self.delete_published(version)
    }
}

impl Versions {
    fn digest(&self) -> &str {
        digest_of(self.config.artifact())
    }

    /// What is before the digest in the code's reference.
    fn artifact_name(&self) -> &str {
        self.config.artifact().split('@').next().unwrap_or_default()
    }

    fn name(&self, version: &str) -> String {
        format!("{}:{version}", self.config.function)
    }

    fn mark(&self) -> Mark {
        Mark::own(self.digest())
    }

    fn alias(&self) -> Result<Option<Alias>> {
        self.function.alias(&self.config.alias)
    }

    fn known_alias(&self) -> Result<Alias> {
        self.alias()?.ok_or_else(|| {
            let Config { function, alias, .. } = &self.config;
            Error::failed(format!("the alias `{alias}` of `{function}` was deleted during the deploy"))
                .help("check who else changes the function, then deploy again")
        })
    }

    fn versions(&self) -> Result<Vec<Code>> {
        match self.function.latest()? {
            Some(_) => self.function.versions(),
            None => Ok(Vec::new()),
        }
    }

    /// Whether the alias was created by this run's deploy, which hasn't finished.
    fn is_first(&self, alias: &Alias) -> bool {
        alias
            .mark()
            .is_some_and(|mark| mark.is_of_this_run() && mark.rollout.is_some_and(|(_, phase)| phase == Phase::First))
    }

    /// Changes the alias as the deploy of a version goes on. Lambda refuses it if something else has changed the alias since.
    fn update(&self, known: &Alias, version: &str, share: Option<(&str, f64)>, rollout: (&str, Phase)) -> Result<()> {
        self.refuse_stale(Some(known), &[])?;
        let Config { alias, function, .. } = &self.config;
        let mark = self.mark().at(rollout.0, rollout.1);
        match self.function.update_alias(alias, known, version, share, &mark) {
            Err(failure) if failure.has_status(412) => {
                self.refuse_stale(self.alias()?.as_ref(), &[])?;
                let error =
                    Error::from(failure).context(format!("something else changed the alias `{alias}` of `{function}`"));
                Err(error.help("check who else changes the function, then deploy again"))
            }
            result => Ok(result?),
        }
    }

    /// Refuses to act when a deploy with a newer token has changed the alias, or published a version.
    fn refuse_stale(&self, alias: Option<&Alias>, versions: &[Code]) -> Result<()> {
        let Some(own) = environment::fence() else { return Ok(()) };
        let of_alias =
            alias.and_then(|alias| Some((format!("the alias `{}`", self.config.alias), alias.mark()?.fence?)));
        let of_versions =
            versions.iter().filter_map(|code| Some((format!("version {}", code.version), code.mark()?.fence?)));
        let Some((what, fence)) = of_alias.into_iter().chain(of_versions).find(|(_, fence)| *fence > own) else {
            return Ok(());
        };
        let message = format!("{what} of `{}` has the token {fence}, which is newer than {own}", self.config.function);
        Err(Error::new(ErrorCode::Superseded, message).help("start a new run"))
    }

    /// The function, which is created if it doesn't exist and the configuration says with what.
    fn existing_function(&self) -> Result<Latest> {
        if let Some(latest) = self.function.latest()? {
            return Ok(latest);
        }
        let name = &self.config.function;
        let Some(new) = &self.config.create else {
            return Err(Error::new(ErrorCode::NotFound, format!("the function `{name}` doesn't exist"))
                .help("create it first, or add `create` with the role that it runs as"));
        };
        log::info(format!("creating the function {name}"));
        create::with_creation(&self.config, new, |body| Ok(self.function.create(body)?))?;
        self.wait_until_updated()?;
        self.function
            .latest()?
            .ok_or_else(|| Error::failed(format!("the function `{name}` was deleted after it was created")))
    }

    /// The version that was deployed before, if it is needed as it was then: Lambda keeps versions as they are.
    fn earlier<'a>(&self, versions: &'a [Code], latest: &Latest) -> Option<&'a Code> {
        let with_code = |fence: Option<u64>| {
            versions.iter().rfind(|code| {
                code.mark().is_some_and(|mark| {
                    let is_known = fence.is_none_or(|fence| mark.fence.is_none_or(|own| own <= fence));
                    mark.digest == self.digest() && is_known
                })
            })
        };
        match &self.restored {
            // A later version of the same code can have other values of secrets.
            Some(release) => with_code(Some(release.fence)),
            None if self.config.secret_env.is_empty() => with_code(None).filter(|_| !self.is_latest(latest)),
            // Nothing here knows whether the values have changed since.
            None => None,
        }
    }

    /// Whether `$LATEST` has the code to deploy.
    fn is_latest(&self, latest: &Latest) -> bool {
        match (&self.config.image, self.code_sha256()) {
            (Some(image), _) => latest.code.image_uri.as_deref() == Some(image.as_str()),
            (None, own) => latest.configuration.code_sha256 == own,
        }
    }

    /// The archive's digest as Lambda writes it: in Base64.
    fn code_sha256(&self) -> String {
        let hex = self.digest().trim_start_matches("sha256:");
        let byte = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        STANDARD.encode((0..hex.len()).step_by(2).filter_map(byte).collect::<Vec<_>>())
    }

    /// Brings the code to `$LATEST`, and publishes it.
    fn publish(&self, latest: &Latest) -> Result<Code> {
        if !self.is_latest(latest) {
            log::info(format!("sending {} to {}", self.config.artifact(), self.config.function));
            let revision = &latest.configuration.revision_id;
            create::with_update(&self.config, revision, |body| Ok(self.function.update_code(body)?))?;
        }
        let mut updated = self.wait_until_updated()?;
        if self.set_variables()? {
            updated = self.wait_until_updated()?;
        }
        if self.config.image.is_none() && updated.code_sha256 != self.code_sha256() {
            let message = format!("something else replaced the code of `{}` during the deploy", self.config.function);
            return Err(
                Error::new(ErrorCode::Aborted, message).help("check who else deploys the function, then deploy again")
            );
        }
        Ok(self.function.publish(&updated, &self.mark())?)
    }

    /// Gives `$LATEST` the secrets of the release as variables. Returns whether there was something to change.
    fn set_variables(&self) -> Result<bool> {
        let Config { function, secret_env, .. } = &self.config;
        let dropped = rollout::dropped_secret_env(secret_env)?;
        if secret_env.is_empty() && dropped.is_empty() {
            return Ok(false);
        }
        let Configured { revision_id, environment } = self.function.configured()?;
        if let Some(reason) = environment.error {
            let message = format!("Lambda doesn't show the variables of `{function}`: {reason}");
            return Err(Error::failed(message).help("let the credential's user decrypt them with the function's key"));
        }
        let variables = variables::merged(function, environment.variables, secret_env, &dropped)?;
        let names: Vec<&str> = secret_env.keys().chain(&dropped).map(String::as_str).collect();
        log::info(format!("setting variables of {function}: {}", names.join(", ")));
        match self.function.update_variables(&revision_id, &variables, &secret_handles(secret_env)?) {
            Err(failure) if failure.has_status(412) => {
                let error = Error::from(failure).context(format!("something else changed `{function}`"));
                Err(error.help("check who else changes the function, then deploy again"))
            }
            result => result.map(|()| true).map_err(Error::from),
        }
    }

    /// Waits until Lambda has replaced the code, or the variables.
    fn wait_until_updated(&self) -> Result<Code> {
        let (start, deadline) = (clock::monotonic(), self.config.readiness.deadline.0);
        loop {
            if context::cancelled() {
                return Err(Error::cancelled("cancelled while Lambda replaced the code"));
            }
            let code = self.function.configuration("$LATEST")?;
            let reason = code.last_update_status_reason.as_deref().or(code.state_reason.as_deref()).unwrap_or_default();
            match (code.last_update_status.as_deref(), code.state.as_deref()) {
                (Some("Failed"), _) | (_, Some("Failed")) => {
                    return Err(Error::failed(format!("Lambda can't load {}: {reason}", self.config.artifact())));
                }
                (Some("InProgress"), _) | (_, Some("Pending")) => {}
                _ => return Ok(code),
            }
            if clock::monotonic().saturating_sub(start) > deadline {
                let message = format!("Lambda didn't load the code within {} s: {reason}", deadline.as_secs());
                return Err(Error::failed(message).help("if it needs more time, raise `readiness.deadline`"));
            }
            clock::sleep(INTERVAL)?;
        }
    }

    /// Deletes a version that this run has published. One that was deployed before stays, and so does one that another
    /// alias has.
    fn delete_published(&self, version: &str) -> Result<()> {
        let code = match self.function.configuration(version) {
            Err(failure) if failure.is("ResourceNotFoundException") => return Ok(()),
            code => code?,
        };
        if !code.mark().is_some_and(|mark| mark.is_of_this_run()) {
            return Ok(());
        }
        match self.function.delete_version(version) {
            Err(failure) if failure.is("ResourceConflictException") => {
                log::info(format!("{} stays, because another alias has it", self.name(version)));
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

/// Whether an answer has what is expected: of a table these keys with these values, anything else as a whole.
fn contains(answer: &Json, expected: &Json) -> bool {
    match (answer, expected) {
        (Json::Object(answer), Json::Object(expected)) => {
            expected.iter().all(|(key, value)| answer.get(key).is_some_and(|own| contains(own, value)))
        }
        (answer, expected) => answer == expected,
    }
}

/// The beginning of an answer, for an error.
fn shortened(body: &str) -> String {
    const SHOWN: usize = 300;
    match body.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &body[..end]),
        None => body.to_owned(),
    }
}
