//! A project of Docker Compose as a target.

use docker_engine::{Engine, Provenance};
use rollout::{Described, Progress, Serving, Target};
use stagewright_sdk::{Error, LiveDifference, Manifest, Requirement, Result, environment, log};

use crate::compose::Compose;
use crate::config::Config;
use crate::containers;
use crate::records::Record;

/// The requests to the engine that a deploy takes.
const REQUESTS: [(&str, &str, &str); 8] = [
    ("GET", "/containers/json", "finds the project's containers"),
    ("GET", "/containers/*/json", "observes the containers"),
    ("GET", "/containers/*/logs", "shows why a release failed"),
    ("GET", "/images/json", "looks whether the engine has the images"),
    ("POST", "/images/create", "pulls the images"),
    ("GET", "/volumes", "finds the releases"),
    ("POST", "/volumes/create", "keeps the release"),
    ("DELETE", "/volumes/*", "removes what earlier releases kept"),
];

/// A project of Docker Compose.
pub(crate) struct Project {
    config: Config,
    engine: Engine,
    compose: Compose,
}

/// A release that this run has applied.
#[derive(Clone, Debug)]
pub(crate) struct ProjectRelease {
    provenance: Provenance,
    /// Why its containers aren't ready, if Compose has waited for them in vain.
    failure: Option<String>,
}

impl Target for Project {
    type Config = Config;
    type Version = ProjectRelease;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let engine = Engine::at(&config.socket);
        let requests = REQUESTS.iter().map(|(method, path, reason)| engine.requirement(method, path).because(*reason));
        let checks = config.url.as_deref().and_then(Requirement::url).map(|net| net.because("checks the release"));
        let secrets = config.secrets.iter();
        let secrets =
            secrets.map(|(name, secret)| Requirement::secret_env(secret).because(format!("is the variable {name}")));
        Compose::of(config).requirements().into_iter().chain(requests).chain(checks).chain(secrets).collect()
    }

    /// The configuration has the whole release, so that one to restore needs nothing else.
    fn open(config: &Config, _restored: Option<&environment::Release>) -> Result<Project> {
        Ok(Project { config: config.clone(), engine: Engine::at(&config.socket), compose: Compose::of(config) })
    }

    fn artifact(&self) -> &str {
        self.config.release.artifact()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let records = self.records()?;
        let Some(record) = serving(&records) else { return Ok(None) };
        let progress = containers::progress(&self.engine, &self.config.project, &record.release()?)?;
        let Provenance { release, artifact, fence, run } = record.provenance.clone();
        Ok(Some(Serving {
            version: release,
            artifact,
            address: self.config.url.clone(),
            fence,
            run,
            is_running: progress == Progress::Running,
            has_failed: matches!(progress, Progress::Failed(_)),
        }))
    }

    fn unfinished(&self) -> Result<Option<ProjectRelease>> {
        let records = self.records()?;
        let own = |record: &&Record| {
            record.provenance.is_of_this_run() && record.provenance.artifact == self.artifact() && !record.is_serving()
        };
        if records.iter().find(own).is_none() {
            return Ok(None);
        }
        self.refuse_stale(&records)?;
        self.bring_up().map(Some)
    }

    fn apply(&self) -> Result<ProjectRelease> {
        self.refuse_stale(&self.records()?)?;
        // Before anything is stopped: a registry that is down changes nothing.
        self.config.release.images().into_iter().try_for_each(|image| self.engine.ensure_image(image))?;
        let version = ProjectRelease { provenance: self.provenance(), failure: None };
        self.bring_up().map_err(|error| {
            let error = error.context(format!("can't apply release {}", version.provenance.release));
            match self.undo(&version) {
                Ok(()) => error,
                Err(failure) => error.cause(format!("going back failed: {failure}")),
            }
        })
    }

    fn describe(&self, version: &ProjectRelease) -> Described {
        Described {
            name: version.provenance.release.clone(),
            address: self.config.url.clone(),
            advice:
                "all containers have to keep running, and to pass their health checks; if they need more time, raise \
                     `deadline`"
                    .to_owned(),
        }
    }

    fn observe(&self, version: &ProjectRelease) -> Result<Progress> {
        match &version.failure {
            Some(failure) => Ok(Progress::Failed(format!("didn't become ready ({failure})"))),
            None => containers::progress(&self.engine, &self.config.project, &self.config.release),
        }
    }

    fn log_tail(&self, _version: &ProjectRelease, lines: u32) -> Result<String> {
        containers::diagnosis(&self.engine, &self.config.project, &self.config.release, lines)
    }

    /// The containers have the project's ports from their start.
    fn shift(&self, _version: &ProjectRelease, _weight: u32) -> Result<()> {
        Ok(())
    }

    fn finish(&self, version: &ProjectRelease) -> Result<()> {
        let records = self.records()?;
        self.refuse_stale(&records)?;
        let (project, release) = (&self.config.project, &self.config.release);
        Record::create(&self.engine, project, &version.provenance, release, true)?;
        // From here on the release serves.
        let is_new = |record: &&Record| record.is_serving() && record.provenance == version.provenance;
        records.iter().filter(|record| !is_new(record)).try_for_each(|record| record.remove(&self.engine))
    }

    fn drift(&self, _serving: &Serving) -> Result<Vec<LiveDifference>> {
        // What an interrupted deploy has brought up wasn't changed by hand.
        match self.records()?.iter().all(Record::is_serving) {
            true => containers::drift(&self.engine, &self.config.project, &self.config.release),
            false => Ok(Vec::new()),
        }
    }

    fn undo(&self, _version: &ProjectRelease) -> Result<()> {
        let records = self.records()?;
        self.refuse_stale(&records)?;
        let failure = match serving(&records) {
            Some(record) => {
                log::info(format!("applying release {} again", record.provenance.release));
                self.compose.up(&record.release()?)?
            }
            None => self.compose.down(&self.config.release)?,
        };
        if let Some(failure) = failure {
            return Err(Error::failed(format!("`docker compose` failed: {failure}")));
        }
        let own = records.iter().filter(|record| record.provenance.is_of_this_run() && !record.is_serving());
        own.into_iter().try_for_each(|record| record.remove(&self.engine))
    }
}

impl Project {
    fn records(&self) -> Result<Vec<Record>> {
        Record::all(&self.engine, &self.config.project)
    }

    fn provenance(&self) -> Provenance {
        Provenance::of_this_attempt(&self.config.project, self.artifact())
    }

    /// Refuses to act when the project was deployed under a newer token.
    fn refuse_stale(&self, records: &[Record]) -> Result<()> {
        records.iter().try_for_each(|record| record.provenance.refuse_newer(&self.config.project))
    }

    /// Applies the release, under the token of this attempt.
    fn bring_up(&self) -> Result<ProjectRelease> {
        let (project, release, provenance) = (&self.config.project, &self.config.release, self.provenance());
        Record::create(&self.engine, project, &provenance, release, false)?;
        let failure = self.compose.up(release)?;
        Ok(ProjectRelease { provenance, failure })
    }
}

/// The release that serves. There are two of them while the earlier one is being removed.
fn serving(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|record| record.is_serving())
}
