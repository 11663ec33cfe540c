//! A release of Helm as a target.
//!
//! Helm applies the objects of a revision and runs its hooks; the cluster replaces the pods. Until a deploy is finished, the
//! revision before it can be rolled back to.

use std::collections::BTreeMap;

use kubernetes::{Cluster, Identity, Owner, ServiceRecord, moving_images, none_of, problems, sha256};
use rollout::{Described, Progress, Serving, Target};
use serde_json::Value as Json;
use stagewright_sdk::environment::{self, Release as LedgerRelease};
use stagewright_sdk::{Error, LiveDifference, Manifest, Requirement, Result, context, log, workspace};

use crate::config::Config;
use crate::helm::Helm;
use crate::record::{Deployed, Record};
use crate::revision::{Revision, Stored, revisions, stored};

/// Helm, as the cluster records the fields that it sets.
const OWNER: Owner<'_> = Owner { manager: "helm", operation: "Update" };

/// A chart with its values, in a cluster.
pub(crate) struct Chart {
    config: Config,
    cluster: Cluster,
    artifact: String,
    /// The revision to go back to, for a release that was deployed before.
    restored: Option<u64>,
    /// The name of the ConfigMap with the record.
    record_name: String,
}

impl Target for Chart {
    type Config = Config;
    type Version = Deployed;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let chart = config.chart.as_str();
        let mut found = vec![
            Requirement::credential(&config.credential).because("watches the release in the cluster"),
            Requirement::credential_of_programs(&config.credential).because("lets helm reach the cluster"),
            Requirement::process("helm").because("installs and upgrades the release"),
            Requirement::read(if is_archive(chart) { chart.to_owned() } else { format!("{chart}/**") })
                .because("contains the chart"),
        ];
        let values =
            config.values.iter().map(|file| Requirement::read(file.as_str()).because("contains values of the chart"));
        found.extend(values);
        found
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        let chart = content(config)?.into_iter().map(|(file, digest)| format!("{digest} {file}\n")).collect::<String>();
        let values = config.values.iter();
        let values = values.map(|file| Ok((file.as_str().to_owned(), workspace::read_text(file.as_str())?)));
        values.chain([Ok(("chart".to_owned(), chart))]).collect()
    }

    fn open(config: &Config, restored: Option<&LedgerRelease>) -> Result<Chart> {
        let cluster = Cluster::of(&config.credential)?;
        let record_name = format!("stagewright-helm-{}", config.service);
        let mut chart = Chart { config: config.clone(), cluster, artifact: String::new(), restored: None, record_name };
        match restored {
            Some(restored) => {
                chart.restored = Some(chart.revision_of(restored)?);
                chart.artifact.clone_from(&restored.artifact);
            }
            None => chart.artifact = artifact(config)?,
        }
        Ok(chart)
    }

    fn artifact(&self) -> &str {
        &self.artifact
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let Some(serving) = self.record().read::<Record>()?.serving else { return Ok(None) };
        let progress = self.observe(&serving)?;
        Ok(Some(Serving {
            version: self.name(serving.revision),
            artifact: serving.artifact,
            address: None,
            fence: serving.fence,
            run: Some(serving.run),
            is_running: progress == Progress::Running,
            has_failed: matches!(progress, Progress::Failed(_)),
        }))
    }

    fn unfinished(&self) -> Result<Option<Deployed>> {
        let Some(begun) = self.record().read::<Record>()?.unfinished else { return Ok(None) };
        let is_own = begun.run == context::run_id() && begun.artifact == self.artifact;
        // Helm may have been killed with it.
        let is_deployed =
            || Ok::<_, Error>(self.revision(begun.revision)?.is_some_and(|revision| revision.is_deployed()));
        if !is_own || !is_deployed()? {
            return Ok(None);
        }
        // Takes over the token of this attempt.
        self.record().change(|_: &mut Record| {})?;
        Ok(Some(begun))
    }

    fn apply(&self) -> Result<Deployed> {
        let mut record: Record = self.record().read()?;
        self.record().refuse_stale(&mut record)?;
        self.clear(&record)?;
        if self.restored.is_none() {
            self.check(&self.helm().render()?)?;
        }
        let revisions = self.revisions()?;
        let restored = revisions.iter().find(|revision| Some(revision.number) == self.restored);
        let begun = Deployed {
            artifact: self.artifact.clone(),
            fence: environment::fence(),
            run: context::run_id(),
            revision: revisions.last().map_or(0, |last| last.number) + 1,
            label: restored.map_or_else(context::run_id, |restored| restored.run.clone()),
        };
        self.record().change(|record: &mut Record| record.unfinished = Some(begun.clone()))?;
        self.install().map_err(|error| match self.undo(&begun) {
            Ok(()) => error,
            Err(failure) => error.cause(format!("going back to the earlier revision failed: {failure}")),
        })?;
        self.put_newer_back()?;
        Ok(begun)
    }

    fn describe(&self, release: &Deployed) -> Described {
        let advice = "its pods have to start and to pass their probes".to_owned();
        Described { name: self.name(release.revision), address: None, advice }
    }

    fn observe(&self, release: &Deployed) -> Result<Progress> {
        let Some(revision) = self.revision(release.revision)? else {
            return Ok(Progress::Failed("was removed from the cluster".to_owned()));
        };
        if revision.is_pending() {
            return Ok(Progress::Starting(format!("Helm says that it is {}", revision.status)));
        }
        kubernetes::progress(&self.cluster, &self.identities(release.revision)?)
    }

    fn log_tail(&self, release: &Deployed, lines: u32) -> Result<String> {
        kubernetes::log_tail(&self.cluster, &self.identities(release.revision)?, lines)
    }

    /// The cluster itself shifts the requests, as pods become ready.
    fn shift(&self, _release: &Deployed, _weight: u32) -> Result<()> {
        Ok(())
    }

    fn finish(&self, _release: &Deployed) -> Result<()> {
        let history = usize::try_from(self.config.history).unwrap_or(usize::MAX);
        self.record().change(|record: &mut Record| record.finish(history)).map(drop)
    }

    fn drift(&self, serving: &Serving) -> Result<Vec<LiveDifference>> {
        let record: Record = self.record().read()?;
        let Some(deployed) = record.serving else { return Ok(Vec::new()) };
        let last = self.revisions()?.into_iter().rfind(Revision::is_deployed);
        // A deploy that was killed after Helm had made its revision is no change by others.
        let is_ours = |last: &Revision| {
            last.number == deployed.revision || record.unfinished.as_ref().is_some_and(|begun| begun.is(last))
        };
        match last {
            Some(last) if is_ours(&last) => kubernetes::drift(&self.cluster, &self.placed(last.number)?, OWNER),
            last => {
                let found = last.map(|last| self.name(last.number));
                let what = format!("the release {} of Helm", self.config.service);
                Ok(vec![LiveDifference { what, expected: Some(serving.version.clone()), found }])
            }
        }
    }

    fn undo(&self, release: &Deployed) -> Result<()> {
        let mut record: Record = self.record().read()?;
        self.record().refuse_stale(&mut record)?;
        self.go_back(&record, release)?;
        self.record().change(|record: &mut Record| record.unfinished = None).map(drop)
    }
}

impl Chart {
    fn record(&self) -> ServiceRecord<'_> {
        let Config { namespace, service, .. } = &self.config;
        ServiceRecord { cluster: &self.cluster, namespace, service, name: &self.record_name }
    }

    fn helm(&self) -> Helm<'_> {
        Helm { config: &self.config, server: self.cluster.server() }
    }

    /// As in `shop.v7`.
    fn name(&self, revision: u64) -> String {
        format!("{}.v{revision}", self.config.service)
    }

    fn revisions(&self) -> Result<Vec<Revision>> {
        revisions(&self.cluster, &self.config.namespace, &self.config.service)
    }

    fn revision(&self, number: u64) -> Result<Option<Revision>> {
        Ok(self.revisions()?.into_iter().find(|revision| revision.number == number))
    }

    fn stored(&self, revision: u64) -> Result<Stored> {
        stored(&self.cluster, &self.config.namespace, &self.config.service, revision)
    }

    /// The revision of a release of the ledger.
    fn revision_of(&self, restored: &LedgerRelease) -> Result<u64> {
        let record: Record = self.record().read()?;
        let known = record.release_of(&restored.artifact, restored.fence).map(|known| known.revision);
        let kept = self.revisions()?.into_iter().map(|revision| revision.number).find(|number| Some(*number) == known);
        kept.ok_or_else(|| {
            Error::failed(format!("Helm doesn't have the revision of {} any more", restored.artifact))
                .help("deploy its commit in a new run, and raise `history` to keep more revisions")
        })
    }

    fn install(&self) -> Result<()> {
        match self.restored {
            Some(revision) => self.helm().rollback(revision),
            None => self.helm().upgrade(&context::run_id()).map(drop),
        }
    }

    /// Refuses what would be a danger, before anything is changed.
    fn check(&self, rendered: &Stored) -> Result<()> {
        let mut found = Vec::new();
        for object in rendered.objects()?.iter().chain(&rendered.hooks()?) {
            found.extend(problems(object, &self.config.allow));
            if !self.config.allow_tags {
                found.extend(moving_images(object, |_| {
                    "name it by digest in the chart or by one of its values, or add to the stage: with.allow-tags = true"
                        .to_owned()
                }));
            }
        }
        none_of(found)
    }

    /// Makes Helm accept a change after one of ours was killed: until then it refuses all.
    fn clear(&self, record: &Record) -> Result<()> {
        let Some(last) = self.revisions()?.pop().filter(Revision::is_pending) else { return Ok(()) };
        let Some(begun) = record.unfinished.as_ref().filter(|begun| begun.is(&last)) else {
            let Revision { number, status, .. } = last;
            let message = format!(
                "someone else works on `{}`: Helm says that revision {number} is {status}",
                self.config.service
            );
            return Err(Error::failed(message).help(format!(
                "wait until that has ended; if its helm was killed, run `helm rollback {} --namespace {}`",
                self.config.service, self.config.namespace
            )));
        };
        log::info(format!("revision {} was interrupted, going back to the one before it", last.number));
        self.go_back(record, begun)
    }

    /// Rolls back to the revision that serves, or removes the first one, unless the revision was never made, or others have
    /// made one of its number.
    fn go_back(&self, record: &Record, release: &Deployed) -> Result<()> {
        if !self.revisions()?.iter().any(|revision| release.is(revision)) {
            return Ok(());
        }
        let Some(serving) = &record.serving else { return self.helm().uninstall() };
        self.helm().rollback(serving.revision)?;
        let now = self.revisions()?.pop().map_or(serving.revision, |last| last.number);
        self.record().change(|record: &mut Record| {
            record.serving.iter_mut().for_each(|serving| serving.revision = now);
        })?;
        let deadline = self.config.readiness.deadline.0;
        match kubernetes::wait_until_ready(&self.cluster, &self.identities(now)?, &self.name(now), deadline) {
            // A deploy that was cancelled doesn't wait for it.
            Err(error) if error.is_cancelled() => Ok(()),
            result => result,
        }
    }

    /// Helm doesn't know of tokens. If a newer deploy has acted between the check of the token and this one's change, its
    /// revision is put back.
    fn put_newer_back(&self) -> Result<()> {
        let mut record: Record = self.record().read()?;
        let Err(superseded) = self.record().refuse_stale(&mut record) else { return Ok(()) };
        if let Some(newer) = record.unfinished.or(record.serving) {
            let put_back = self.helm().rollback(newer.revision);
            put_back.map_err(|error| superseded.clone().cause(error.to_string()))?;
        }
        Err(superseded)
    }

    /// The objects of a revision with what identifies them in the cluster.
    fn placed(&self, revision: u64) -> Result<Vec<(Identity, Json)>> {
        let place = |object: kubernetes::Object| {
            let mut identity = object.identity();
            if identity.namespace.is_none() && self.cluster.is_namespaced(&identity.api_version, &identity.kind)? {
                identity.namespace = Some(self.config.namespace.clone());
            }
            Ok((identity, object.json))
        };
        self.stored(revision)?.objects()?.into_iter().map(place).collect()
    }

    fn identities(&self, revision: u64) -> Result<Vec<Identity>> {
        Ok(self.placed(revision)?.into_iter().map(|(identity, _)| identity).collect())
    }
}

fn is_archive(chart: &str) -> bool {
    [".tgz", ".tar.gz"].iter().any(|ending| chart.ends_with(ending))
}

/// What identifies the content of a release: its chart and all of its values.
fn artifact(config: &Config) -> Result<String> {
    let text = serde_json::to_string(&(content(config)?, &config.set))?;
    Ok(format!("{}@sha256:{}", config.service, sha256(text.as_bytes())))
}

/// The digests of the files of a release's chart, and of its values.
fn content(config: &Config) -> Result<Vec<(String, String)>> {
    let chart = config.chart.as_str();
    let mut files: Vec<String> = match is_archive(chart) {
        true => vec![chart.to_owned()],
        false => workspace::glob(&format!("{chart}/**"))?
            .into_iter()
            .filter(|entry| !entry.folder)
            .map(|entry| entry.path)
            .collect(),
    };
    if files.is_empty() {
        return Err(Error::invalid(format!("there is no chart in `{chart}`")).help("correct `chart`"));
    }
    files.sort();
    files.extend(config.values.iter().map(|file| file.as_str().to_owned()));
    let mut content = Vec::new();
    for file in files {
        content.push((file.clone(), workspace::digest(&file)?));
    }
    Ok(content)
}
