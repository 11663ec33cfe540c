//! A service of ECS as a target.
//!
//! ECS gives a task requests as soon as it runs, and replaces the tasks step by step, so that applying a version is all that a
//! deploy does; it is ready once ECS has replaced the last task. Until then the version before it counts as the serving one.

use std::collections::BTreeMap;

use aws::Service;
use rollout::{Described as Presented, Progress, Serving, Target};
use serde_json::{Map, Value as Json};
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, ErrorCode, Manifest, Requirement, Result, clock, environment, log, workspace};

use crate::config::Config;
use crate::definition::{self, Definition};
use crate::ecs::{Deployment, Described, Ecs, RolloutState};
use crate::vault::Vault;

/// Between two looks at a service that goes back.
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

/// A service.
pub(crate) struct Services {
    config: Config,
    ecs: Ecs,
    /// The release of the ledger that is deployed again.
    restored: Option<Release>,
}

impl Target for Services {
    type Config = Config;
    type Version = Definition;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to ECS");
        let template = config
            .task_definition
            .iter()
            .map(|path| Requirement::read(path.as_str()).because("is the template of the task definition"));
        let stores = config.secrets_credential.iter().map(|credential| {
            Requirement::credential(credential).because("signs the requests that write to Secrets Manager")
        });
        let secrets = rollout::secret_requirements(&config.secret_env);
        std::iter::once(signs).chain(stores).chain(secrets).chain(template).collect()
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        let template = config.task_definition.iter();
        let template = template.map(|path| Ok((path.as_str().to_owned(), workspace::read_text(path.as_str())?)));
        template.chain(rollout::secret_parts(&config.secret_env).map(Ok)).collect()
    }

    fn open(config: &Config, restored: Option<&Release>) -> Result<Services> {
        let ecs = Ecs::new(Service::of_credential(&config.credential)?, &config.cluster, &config.service);
        Ok(Services { config: config.clone(), ecs, restored: restored.cloned() })
    }

    fn artifact(&self) -> &str {
        self.config.artifact()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let described = self.ecs.describe()?;
        let serving = self.ecs.definition(&self.serving_definition(&described)?)?;
        Ok(Some(Serving {
            version: serving.name(),
            artifact: serving.image(&self.config).unwrap_or_default().to_owned(),
            address: None,
            fence: serving.fence(),
            run: serving.run().map(str::to_owned),
            is_running: true,
            has_failed: false,
        }))
    }

    fn unfinished(&self) -> Result<Option<Definition>> {
        let described = self.ecs.describe()?;
        let open = described.deployments.iter().filter(|deployment| !deployment.is(RolloutState::Completed));
        for deployment in open {
            let found = self.ecs.definition(&deployment.task_definition)?;
            let is_own = found.is_of_this_run() && found.image(&self.config) == Some(self.config.artifact());
            // ECS still lists a deployment that has failed and was undone.
            if is_own && !found.is_inactive() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn apply(&self) -> Result<Definition> {
        let described = self.ecs.describe()?;
        self.refuse_stale(&described)?;
        let serving = self.serving_definition(&described)?;
        let new = match self.earlier(&serving)? {
            Some(earlier) => {
                self.ecs.tag(earlier.arn(), &definition::deploy_tags(&serving).into())?;
                self.ecs.definition(earlier.arn())?
            }
            None => self.register(&serving)?,
        };
        self.ecs.update(new.arn())?;
        self.restore_newer(&described)?;
        Ok(new)
    }

    fn describe(&self, version: &Definition) -> Presented {
        let advice = "its tasks have to keep running, and to pass the health checks of the service".to_owned();
        Presented { name: version.name(), address: None, advice }
    }

    fn observe(&self, version: &Definition) -> Result<Progress> {
        let described = self.ecs.describe()?;
        let own = described.deployments.iter().find(|deployment| deployment.task_definition == version.arn());
        let Some(own) = own else {
            return Ok(Progress::Failed(format!("was replaced by {}", short(&described.task_definition))));
        };
        let Deployment { desired_count, running_count, failed_tasks, rollout_state_reason, .. } = own;
        Ok(match own.rollout_state {
            Some(RolloutState::Failed) => {
                Progress::Failed(format!("failed: {rollout_state_reason}{}", self.reasons(version)?))
            }
            _ if !own.is_primary() => {
                Progress::Failed(format!("was replaced by {}", short(&described.task_definition)))
            }
            Some(RolloutState::Completed) => Progress::Running,
            Some(RolloutState::InProgress) | None => {
                let counts = format!("{running_count} of {desired_count} tasks run, {failed_tasks} failed");
                // Also while all run: ECS starts those that have stopped again and again.
                Progress::Starting(format!("{counts}{}", self.reasons(version)?))
            }
        })
    }

    fn log_tail(&self, _version: &Definition, _lines: u32) -> Result<String> {
        Err(Error::new(ErrorCode::Unimplemented, "ECS keeps no logs; a log driver sends them elsewhere"))
    }

    /// Its tasks have got their share as they were started.
    fn shift(&self, _version: &Definition, _weight: u32) -> Result<()> {
        self.refuse_stale(&self.ecs.describe()?)
    }

    fn finish(&self, _version: &Definition) -> Result<()> {
        Ok(())
    }

    fn undo(&self, version: &Definition) -> Result<()> {
        let described = self.ecs.describe()?;
        self.refuse_stale(&described)?;
        if described.task_definition == version.arn() {
            let previous = self.serving_definition(&described)?;
            log::info(format!("going back to {}", short(&previous)));
            self.ecs.update(&previous)?;
        }
        self.wait_until_replaced()?;
        match version.is_registered_by_this_run() {
            true => self.ecs.deregister(version.arn()),
            false => Ok(()),
        }
    }
}

impl Services {
    /// The task definition that was the service's when its last deployment finished.
    fn serving_definition(&self, described: &Described) -> Result<String> {
        let primary = described.deployments.iter().find(|deployment| deployment.is_primary());
        let Some(primary) = primary.filter(|primary| !primary.is(RolloutState::Completed)) else {
            return Ok(described.task_definition.clone());
        };
        let mut others = described.deployments.iter().filter(|deployment| !deployment.is_primary());
        let has_failed = |deployment: &&Deployment| deployment.is(RolloutState::Failed);
        if let Some(replaced) = others.clone().find(|deployment| !has_failed(deployment)) {
            return Ok(replaced.task_definition.clone());
        }
        // After a failure, the circuit breaker has made the version before it the newest one.
        if others.any(|deployment| has_failed(&deployment)) {
            return Ok(primary.task_definition.clone());
        }
        let previous = self.ecs.definition(&primary.task_definition)?.previous().map(str::to_owned);
        Ok(previous.unwrap_or_else(|| primary.task_definition.clone()))
    }

    /// Refuses to act when the service has a version that was deployed under a newer token.
    fn refuse_stale(&self, described: &Described) -> Result<()> {
        let Some(own) = environment::fence() else { return Ok(()) };
        match self.newest(described)?.filter(|(_, fence)| *fence > own) {
            Some((newer, fence)) => Err(self.superseded(&newer, fence, own)),
            None => Ok(()),
        }
    }

    /// ECS can't compare and update in one step. If a newer deploy came in between, its version is put back.
    fn restore_newer(&self, before: &Described) -> Result<()> {
        let Some(own) = environment::fence() else { return Ok(()) };
        let after = self.ecs.describe()?;
        let is_new =
            |newer: &Definition| before.deployments.iter().all(|deployment| deployment.task_definition != newer.arn());
        let Some((newer, fence)) = self.newest(&after)?.filter(|(newer, fence)| *fence > own && is_new(newer)) else {
            return Ok(());
        };
        self.ecs.update(newer.arn())?;
        Err(self.superseded(&newer, fence, own))
    }

    /// The version with the newest token among those that the service has.
    fn newest(&self, described: &Described) -> Result<Option<(Definition, u64)>> {
        let mut newest: Option<(Definition, u64)> = None;
        for deployment in &described.deployments {
            let found = self.ecs.definition(&deployment.task_definition)?;
            if let Some(fence) = found.fence().filter(|fence| newest.as_ref().is_none_or(|(_, newest)| fence > newest))
            {
                newest = Some((found, fence));
            }
        }
        Ok(newest)
    }

    fn superseded(&self, newer: &Definition, fence: u64, own: u64) -> Error {
        let (service, name) = (&self.config.service, newer.name());
        let message = format!("{name} of the service `{service}` has the token {fence}, which is newer than {own}");
        Error::new(ErrorCode::Superseded, message).help("start a new run")
    }

    /// The task definition of the release that is restored: it is needed as it was, whatever has become of the template and of
    /// the values of secrets.
    fn earlier(&self, serving: &str) -> Result<Option<Definition>> {
        let Some(restored) = &self.restored else { return Ok(None) };
        let mut with_image = Vec::new();
        for arn in self.ecs.family(self.ecs.definition(serving)?.family())? {
            let found = self.ecs.definition(&arn)?;
            if found.image(&self.config) == Some(self.config.artifact()) && found.fence().is_some() {
                if found.fence() == Some(restored.fence) {
                    return Ok(Some(found));
                }
                with_image.push(found);
            }
        }
        // The token that the ledger has is the one that its deploy ended with; the tag has the one that it began with.
        let begun_before = with_image.iter().position(|found| found.fence() <= Some(restored.fence));
        Ok(with_image.into_iter().nth(begun_before.unwrap_or_default()))
    }

    fn register(&self, previous: &str) -> Result<Definition> {
        let mut input = match &self.config.task_definition {
            None => {
                let dropped = rollout::dropped_secret_env(&self.config.secret_env)?;
                self.ecs.definition(previous)?.with_image(&self.config, previous, &dropped)?
            }
            Some(path) => {
                let unreadable = |error: Error| error.context(format!("`{}` isn't a task definition", path.as_str()));
                let template: Map<String, Json> = serde_json::from_slice(&workspace::read(path.as_str())?)
                    .map_err(|error| unreadable(error.into()))?;
                definition::from_template(template, &self.config, previous)
                    .map_err(|error| error.context(format!("`{}` can't be deployed", path.as_str())))?
            }
        };
        if let Some(vault) = Vault::of(&self.config)? {
            let stored = self
                .config
                .secret_env
                .iter()
                .map(|(variable, secret)| Ok((variable.clone(), vault.store(variable, secret)?)));
            definition::add_secrets(&mut input, &self.config, stored.collect::<Result<_>>()?);
        }
        self.ecs.register(&input)
    }

    /// Waits until ECS has gone back. A cancelled deploy doesn't wait.
    fn wait_until_replaced(&self) -> Result<()> {
        let (start, deadline) = (clock::monotonic(), self.config.readiness.deadline.0);
        loop {
            let described = self.ecs.describe()?;
            let primary = described.deployments.iter().find(|deployment| deployment.is_primary());
            let Some(primary) = primary.filter(|primary| primary.is(RolloutState::InProgress)) else { return Ok(()) };
            if clock::monotonic().saturating_sub(start) > deadline {
                let Deployment { desired_count, running_count, task_definition, .. } = primary;
                let message = format!(
                    "{running_count} of {desired_count} tasks of {} run after {} s",
                    short(task_definition),
                    deadline.as_secs()
                );
                return Err(Error::failed(message));
            }
            match clock::sleep(INTERVAL) {
                Err(error) if error.is_cancelled() => return Ok(()),
                result => result?,
            }
        }
    }

    /// Why tasks of a version have stopped, as the end of a sentence.
    fn reasons(&self, version: &Definition) -> Result<String> {
        let reasons = self.ecs.stopped(version.arn())?.join("; ");
        Ok(if reasons.is_empty() { reasons } else { format!(" ({reasons})") })
    }
}

/// The name of a task definition, as in `api:12`, of its ARN.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
