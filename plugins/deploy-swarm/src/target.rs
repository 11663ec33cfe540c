//! A stack of a swarm as a target.

use std::collections::{BTreeMap, BTreeSet};

use compose_file::Release;
use docker_engine::{Engine, Provenance, Service};
use rollout::{Described, Progress, Serving, Target};
use stagewright_sdk::{Error, ErrorCode, LiveDifference, Manifest, Requirement, Result, environment, log};

use crate::config::Config;
use crate::drift;
use crate::progress::{failing_task, progress};
use crate::records::Record;
use crate::secrets;
use crate::spec::{Desired, DesiredService, Ids, NAMESPACE};
use crate::version::{SecretNames, StackRelease};

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 19] = [
    ("GET", "/services", "finds the stack's services"),
    ("GET", "/services/*", "observes the services"),
    ("POST", "/services/create", "creates the services"),
    ("POST", "/services/*/update", "updates the services"),
    ("DELETE", "/services/*", "removes services that the release doesn't have"),
    ("GET", "/tasks", "observes the services"),
    ("GET", "/tasks/*/logs", "shows why a release failed"),
    ("GET", "/configs", "finds the releases"),
    ("GET", "/configs/*", "finds the release's configs"),
    ("POST", "/configs/create", "keeps the release and its configs"),
    ("POST", "/configs/*/update", "marks the release that serves"),
    ("DELETE", "/configs/*", "removes what earlier releases kept"),
    ("GET", "/secrets", "finds the secrets of releases, without their values"),
    ("GET", "/secrets/*", "finds the release's secrets, without their values"),
    ("DELETE", "/secrets/*", "removes secrets that no release needs any more"),
    ("GET", "/networks", "finds the stack's networks"),
    ("POST", "/networks/create", "creates the stack's networks"),
    ("GET", "/images/json", "looks whether the manager has the images"),
    ("GET", "/distribution/**", "looks whether the registry has the images"),
];

/// How often a service is read again when it has changed between a check and a change.
const TRIES: usize = 5;

/// A stack of a swarm.
pub(crate) struct Stack {
    config: Config,
    engine: Engine,
    /// What identifies the release: its file, and the names of its secrets.
    artifact: String,
    /// The release of the ledger that is deployed again.
    restored: Option<environment::Release>,
}

impl Target for Stack {
    type Config = Config;
    type Version = StackRelease;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let checks = config.url.as_deref().and_then(Requirement::url).map(|net| net.because("checks the release"));
        let create = (!config.secrets.is_empty())
            .then(|| engine.requirement("POST", "/secrets/create").because("creates the release's secrets"));
        REQUESTS
            .iter()
            .map(|(method, path, reason)| engine.requirement(method, path).because(*reason))
            .chain(create)
            .chain(rollout::secret_requirements(&config.secrets))
            .chain(checks)
            .collect()
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        Ok(rollout::secret_parts(&config.secrets).collect())
    }

    /// The configuration has the whole release, so that one to restore needs nothing else.
    fn open(config: &Config, restored: Option<&environment::Release>) -> Result<Stack> {
        let engine = Engine::at(&config.socket);
        Ok(Stack { artifact: config.artifact(), config: config.clone(), engine, restored: restored.cloned() })
    }

    fn artifact(&self) -> &str {
        &self.artifact
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let records = Record::all(&self.engine, &self.config.stack)?;
        let Some(record) = serving(&records) else { return Ok(None) };
        let Provenance { release, artifact, fence, run } = record.provenance.clone();
        let is_running = self.progress_of(&record.release()?, &record.secrets())? == Progress::Running;
        Ok(Some(Serving {
            version: release,
            artifact,
            address: self.config.url.clone(),
            fence,
            run,
            is_running,
            // Swarm starts tasks that have ended again.
            has_failed: false,
        }))
    }

    fn unfinished(&self) -> Result<Option<StackRelease>> {
        let records = Record::all(&self.engine, &self.config.stack)?;
        let own = |record: &&Record| {
            record.provenance.is_of_this_run() && record.provenance.artifact == self.artifact() && !record.is_serving()
        };
        let Some(record) = records.iter().find(own) else { return Ok(None) };
        self.refuse_stale(&records)?;
        let version = StackRelease { provenance: self.provenance(), secrets: record.secrets() };
        record.mark(&self.engine, &self.config.stack, &version, false)?;
        self.bring(&version)?;
        Ok(Some(version))
    }

    fn apply(&self) -> Result<StackRelease> {
        let records = Record::all(&self.engine, &self.config.stack)?;
        self.refuse_stale(&records)?;
        let secrets = secrets::names(&self.engine, &self.config, self.artifact(), self.restored.as_ref())?;
        self.check_prerequisites(&secrets)?;
        let version = StackRelease { provenance: self.provenance(), secrets };
        Record::create(&self.engine, &self.config.stack, &version, &self.config.release)?;
        let Err(error) = self.bring(&version) else { return Ok(version) };
        let error = error.context(format!("can't apply release {}", version.provenance.release));
        Err(match self.undo(&version) {
            Ok(()) => error,
            Err(failure) => error.cause(format!("going back failed: {failure}")),
        })
    }

    fn describe(&self, version: &StackRelease) -> Described {
        Described {
            name: version.provenance.release.clone(),
            address: self.config.url.clone(),
            advice: "all tasks of the stack have to keep running, and to pass their health checks".to_owned(),
        }
    }

    fn observe(&self, version: &StackRelease) -> Result<Progress> {
        self.progress_of(&self.config.release, &version.secrets)
    }

    fn log_tail(&self, version: &StackRelease, lines: u32) -> Result<String> {
        for desired in self.desired(&self.config.release, &version.secrets).services(&Ids::new()) {
            let Some(service) = self.engine.service(&desired.name)? else { continue };
            let tasks = self.engine.tasks(&service.id)?;
            if progress(&desired, Some(&service), &tasks) == Progress::Running {
                continue;
            }
            if let Some(task) = failing_task(&desired, &tasks) {
                let log = self.engine.task_log_tail(&task.id, lines)?;
                return Ok(if log.trim().is_empty() { log } else { format!("{}:\n{log}", desired.name) });
            }
        }
        Ok(String::new())
    }

    /// The swarm gives requests to the tasks that run: an update shifts them.
    fn shift(&self, _version: &StackRelease, _weight: u32) -> Result<()> {
        Ok(())
    }

    fn finish(&self, version: &StackRelease) -> Result<()> {
        let stack = &self.config.stack;
        let records = Record::all(&self.engine, stack)?;
        self.refuse_stale(&records)?;
        self.prune(&self.config.release, |_| true)?;
        let (own, others): (Vec<Record>, Vec<Record>) = records
            .into_iter()
            .partition(|record| record.provenance.is_of_this_run() && record.provenance.artifact == self.artifact());
        let own = own.first().ok_or_else(|| {
            Error::failed(format!("the swarm has lost release {}", version.provenance.release))
                .help("check who else changes the stack, then deploy again")
        })?;
        own.mark(&self.engine, stack, version, true)?;
        // From here on the release serves. What others have left can be removed by the next deploy, too. The secrets of the
        // release before are kept for a rollback.
        let before = others.iter().filter(|record| record.is_serving()).map(Record::secrets);
        let kept: Vec<SecretNames> = std::iter::once(version.secrets.clone()).chain(before).collect();
        secrets::remove(&self.engine, stack, &kept, |_| true)?;
        others.iter().try_for_each(|record| record.remove(&self.engine))?;
        self.remove_unused_configs()
    }

    fn drift(&self, _serving: &Serving) -> Result<Vec<LiveDifference>> {
        let records = Record::all(&self.engine, &self.config.stack)?;
        let Some(record) = serving(&records) else { return Ok(Vec::new()) };
        let (release, secrets) = (record.release()?, record.secrets());
        let mut found = Vec::new();
        for name in secrets.values() {
            if self.engine.secret(name)?.is_none() {
                found.push(LiveDifference { what: format!("secret {name}"), expected: None, found: None });
            }
        }
        for desired in self.desired(&release, &secrets).services(&Ids::new()) {
            match self.engine.service(&desired.name)? {
                // Another deploy has changed it, whose token decides.
                Some(service)
                    if Provenance::of(&service.spec.labels).is_some_and(|of| of.run != record.provenance.run) => {}
                Some(service) => found.extend(drift::differences(&desired, &service)),
                None => {
                    let what = format!("service {}", desired.name);
                    found.push(LiveDifference { what, expected: None, found: None });
                }
            }
        }
        Ok(found)
    }

    fn undo(&self, version: &StackRelease) -> Result<()> {
        let records = Record::all(&self.engine, &self.config.stack)?;
        self.refuse_stale(&records)?;
        let is_own = |service: &Service| {
            Provenance::of(&service.spec.labels).is_some_and(|found| found.run == version.provenance.run)
        };
        match serving(&records) {
            Some(record) => {
                // What it restores has the newer token, so that it can't be overtaken by what was older than this deploy.
                let provenance = Provenance { fence: environment::fence(), ..record.provenance.clone() };
                let earlier = record.release()?;
                self.converge(&earlier, &record.secrets(), &provenance)?;
                self.prune(&earlier, is_own)?;
            }
            None => self.prune(&Release::from(serde_json::Value::Null), is_own)?,
        }
        let own = records.iter().filter(|record| record.provenance.is_of_this_run() && !record.is_serving());
        own.into_iter().try_for_each(|record| record.remove(&self.engine))?;
        let kept: Vec<SecretNames> = serving(&records).map(Record::secrets).into_iter().collect();
        let is_own = |of: &Provenance| of.run == version.provenance.run && of.artifact == version.provenance.artifact;
        secrets::remove(&self.engine, &self.config.stack, &kept, is_own)
    }
}

impl Stack {
    fn desired<'a>(&'a self, release: &'a Release, secrets: &'a SecretNames) -> Desired<'a> {
        Desired::new(&self.config.stack, self.config.update(), release, secrets)
    }

    /// Creates the secrets of a version of this release, and makes the stack what it says.
    fn bring(&self, version: &StackRelease) -> Result<()> {
        secrets::create_missing(&self.engine, &self.config, &version.secrets, &version.provenance)?;
        self.converge(&self.config.release, &version.secrets, &version.provenance)
    }

    fn provenance(&self) -> Provenance {
        Provenance::of_this_attempt(&self.config.stack, self.artifact())
    }

    fn services(&self) -> Result<Vec<Service>> {
        self.engine.services(NAMESPACE, &self.config.stack)
    }

    /// Refuses to act when the stack or one of its services was deployed under a newer token.
    fn refuse_stale(&self, records: &[Record]) -> Result<()> {
        let stack = &self.config.stack;
        records.iter().try_for_each(|record| record.provenance.refuse_newer(stack))?;
        let services = self.services()?;
        let deployed = services.iter().filter_map(|service| Provenance::of(&service.spec.labels));
        deployed.into_iter().try_for_each(|provenance| provenance.refuse_newer(stack))
    }

    /// Checks what the release needs, before anything is changed.
    fn check_prerequisites(&self, secrets: &SecretNames) -> Result<()> {
        let desired = self.desired(&self.config.release, secrets);
        secrets::check(&self.engine, &self.config, secrets)?;
        for image in self.config.release.images() {
            self.engine.check_image(image)?;
        }
        let missing = |kind: &str, name: &str, help: &str| {
            Error::new(ErrorCode::NotFound, format!("the swarm has no {kind} `{name}`")).help(help)
        };
        let is_created = |name: &String| secrets.values().any(|created| created == name);
        for name in desired.secrets().into_iter().filter(|name| !is_created(name)) {
            if self.engine.secret(&name)?.is_none() {
                let help = "create it with `docker secret create`, or name a secret of the pipeline in `secrets`";
                return Err(missing("secret", &name, help));
            }
        }
        for (name, body) in desired.configs() {
            if body.is_none() && self.engine.config(&name)?.is_none() {
                return Err(missing("config", &name, "create it with `docker config create`"));
            }
        }
        for (name, body) in desired.networks() {
            if body.is_none() && self.engine.networks(&name)?.is_empty() {
                return Err(missing("network", &name, "create it with `docker network create`"));
            }
        }
        for service in desired.services(&Ids::new()) {
            if let Some(found) = self.engine.service(&service.name)? {
                self.refuse_foreign(&found)?;
            }
        }
        Ok(())
    }

    /// Makes the stack what the release says: networks and configs, and then the services, each after those that it needs.
    fn converge(&self, release: &Release, secrets: &SecretNames, provenance: &Provenance) -> Result<()> {
        let desired = self.desired(release, secrets);
        for (name, body) in desired.networks() {
            if let Some(body) = body
                && self.engine.networks(&name)?.is_empty()
            {
                log::info(format!("creating the network {name}"));
                self.engine.create_network(&body)?;
            }
        }
        let ids = self.ids(&desired)?;
        desired.services(&ids).iter().try_for_each(|service| self.put(service, provenance))
    }

    /// The ids of the release's configs and secrets. Configs that are missing are created.
    fn ids(&self, desired: &Desired<'_>) -> Result<Ids> {
        let mut ids = Ids::new();
        for (name, body) in desired.configs() {
            let id = match (self.engine.config(&name)?, body) {
                (Some(config), _) => config.id,
                (None, Some(body)) => self.engine.create_config(&body)?,
                (None, None) => continue,
            };
            ids.insert(name, id);
        }
        for name in desired.secrets() {
            let secret = self.engine.secret(&name)?.ok_or_else(|| {
                let message = format!("the swarm doesn't have the secret {name} any more, which the release needs");
                Error::new(ErrorCode::NotFound, message).help("deploy a release again, which creates its secrets")
            })?;
            ids.insert(name, secret.id);
        }
        Ok(ids)
    }

    /// Creates or updates a service. Each try is based on the service as it was when its token was checked.
    fn put(&self, desired: &DesiredService, provenance: &Provenance) -> Result<()> {
        let body = desired.body(&self.config.stack, provenance);
        for _ in 0..TRIES {
            let Some(service) = self.engine.service(&desired.name)? else {
                log::info(format!("creating the service {}", desired.name));
                match self.engine.create_service(&body) {
                    // Another deploy has created it meanwhile.
                    Err(error) if error.code == ErrorCode::Aborted => continue,
                    result => return result,
                }
            };
            self.refuse_foreign(&service)?;
            let found = Provenance::of(&service.spec.labels);
            if let Some(found) = &found {
                found.refuse_newer(&self.config.stack)?;
            }
            if found.as_ref() == Some(provenance) {
                // An interrupted attempt with this token has updated it.
                return Ok(());
            }
            log::info(format!("updating the service {}", desired.name));
            if self.engine.update_service(&service.id, service.version, &body)? {
                return Ok(());
            }
        }
        Err(Error::failed(format!("the service {} changes all the time", desired.name))
            .help("check who else changes it, then deploy again"))
    }

    /// Refuses a service of this name that belongs to no stack, or to another one.
    fn refuse_foreign(&self, service: &Service) -> Result<()> {
        if service.spec.labels.get(NAMESPACE) == Some(&self.config.stack) {
            return Ok(());
        }
        let (name, stack) = (&service.spec.name, &self.config.stack);
        Err(Error::new(
            ErrorCode::FailedPrecondition,
            format!("the service {name} doesn't belong to the stack `{stack}`"),
        )
        .help("give the stack another name, or remove the service"))
    }

    /// Removes the services that deploys have created, that the release doesn't have, and that are meant.
    fn prune(&self, release: &Release, is_meant: impl Fn(&Service) -> bool) -> Result<()> {
        let kept = self.desired(release, &SecretNames::new()).service_names();
        for service in self.services()? {
            let Some(provenance) = Provenance::of(&service.spec.labels) else { continue };
            if kept.contains(&service.spec.name) || !is_meant(&service) {
                continue;
            }
            provenance.refuse_newer(&self.config.stack)?;
            log::info(format!("removing the service {}, which the release doesn't have", service.spec.name));
            self.engine.remove_service(&service.id)?;
        }
        Ok(())
    }

    /// Removes the configs of earlier releases. The swarm refuses to remove one that a service uses.
    fn remove_unused_configs(&self) -> Result<()> {
        let used: BTreeSet<String> =
            self.desired(&self.config.release, &SecretNames::new()).configs().into_keys().collect();
        let prefix = format!("{}_", self.config.stack);
        for config in self.engine.configs(NAMESPACE, &self.config.stack)? {
            if config.spec.name.starts_with(&prefix) && !used.contains(&config.spec.name) {
                self.engine.remove_config(&config.id)?;
            }
        }
        Ok(())
    }

    /// What the least advanced service of a release is.
    fn progress_of(&self, release: &Release, secrets: &SecretNames) -> Result<Progress> {
        let mut starting = None;
        for desired in self.desired(release, secrets).services(&Ids::new()) {
            let service = self.engine.service(&desired.name)?;
            let tasks = service.as_ref().map(|service| self.engine.tasks(&service.id)).transpose()?.unwrap_or_default();
            match progress(&desired, service.as_ref(), &tasks) {
                Progress::Running => {}
                Progress::Starting(reason) => starting = starting.or(Some(reason)),
                failed @ Progress::Failed(_) => return Ok(failed),
            }
        }
        Ok(starting.map_or(Progress::Running, Progress::Starting))
    }
}

/// The release that serves. Two of them are marked while the earlier one is being removed.
fn serving(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|record| record.is_serving())
}
