//! An application in a namespace of a cluster as a target.
//!
//! A release is applied object by object, and the cluster itself replaces the pods. Until it is finished, the earlier one can
//! be restored from what the cluster keeps about it.

use std::collections::BTreeMap;

use kubernetes::{Cluster, Identity, Object, Origin, Owner, sha256};
use rollout::{Described, HeaderMatch, Progress, Serving, Strategy, Target};
use serde_json::Value as Json;
use stagewright_sdk::environment::Release as LedgerRelease;
use stagewright_sdk::{Error, LiveDifference, Manifest, Requirement, Result, context, log};

use crate::apply::{Applier, identity, marked, service_of};
use crate::beside::{is_late, is_own_deployment, replicas};
use crate::config::Config;
use crate::desired;
use crate::record::{Record, Records, Release, own_name};

/// The owner of the fields that a release sets.
const MANAGER: &str = "stagewright";
/// The owner of the images of a workload that isn't a release's own.
const IMAGES_MANAGER: &str = "stagewright-images";
/// Kinds that are never deleted, since data or objects of others go with them.
const NEVER_DELETED: [&str; 4] = ["Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"];

/// An application in a cluster.
pub(crate) struct Application {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) objects: Vec<Object>,
    pub(crate) artifact: String,
    /// Whether a release of the ledger is deployed again.
    pub(crate) is_restored: bool,
}

impl Target for Application {
    type Config = Config;
    type Version = Release;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let credential = Requirement::credential(&config.credential).because("applies the release to the cluster");
        let mut found = vec![credential];
        let read = |path: &str, reason: &str| Requirement::read(path).because(reason);
        let secrets =
            config.secrets.iter().flat_map(|(name, keys)| keys.iter().map(move |(key, secret)| (name, key, secret)));
        found.extend(secrets.map(|(name, key, secret)| {
            Requirement::secret_header(secret).because(format!("the release gets it as {key} of secret/{name}"))
        }));
        found.extend(config.manifests.iter().map(|pattern| read(pattern, "reads the release's objects")));
        found.extend(config.schema.iter().map(|file| read(file, "checks the release's objects against it")));
        if let Some(folder) = &config.kustomize {
            found.push(Requirement::process("kubectl").because("renders the kustomization"));
            found.push(read(&format!("{folder}/**"), "contains the kustomization"));
        }
        if let Some(helm) = &config.helm {
            found.push(Requirement::process("helm").because("renders the chart"));
            found.push(read(&format!("{}/**", helm.chart), "contains the chart"));
            found.extend(helm.values.iter().map(|file| read(file, "contains values of the chart")));
        }
        found
    }

    fn parts(config: &Config) -> Result<BTreeMap<String, String>> {
        desired::parts(config)
    }

    fn check(config: &Config) -> Result<()> {
        desired::check(config, &Cluster::of(&config.credential)?)
    }

    fn open(config: &Config, restored: Option<&LedgerRelease>) -> Result<Application> {
        let cluster = Cluster::of(&config.credential)?;
        let (objects, artifact) = match restored {
            Some(restored) => stored(config, &cluster, restored)?,
            None => {
                let objects = desired::objects(config, &cluster)?;
                let artifact = artifact(config, &objects);
                (objects, artifact)
            }
        };
        Ok(Application { config: config.clone(), cluster, objects, artifact, is_restored: restored.is_some() })
    }

    fn artifact(&self) -> &str {
        &self.artifact
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let Some(name) = self.records().read()?.serving else { return Ok(None) };
        let release = self.records().release(&name)?;
        let progress = self.progress(&release)?;
        Ok(Some(Serving {
            version: release.name,
            artifact: release.artifact,
            address: None,
            fence: release.fence,
            run: Some(release.run),
            is_running: progress == Progress::Running,
            has_failed: matches!(progress, Progress::Failed(_)),
        }))
    }

    fn unfinished(&self) -> Result<Option<Release>> {
        let record = self.records().read()?;
        for name in record.unfinished.iter().rev() {
            let release = self.records().release(name)?;
            if release.run == context::run_id() && release.artifact == self.artifact {
                // It may have been interrupted between two objects.
                self.records().change(|_| {})?;
                self.begin(&release)?;
                return Ok(Some(release));
            }
        }
        Ok(None)
    }

    fn apply(&self) -> Result<Release> {
        let records = self.records();
        let record = records.read()?;
        records.refuse_stale(&record)?;
        let release = self.prepare(&record)?;
        records.keep(&release)?;
        records.change(|record| {
            record.unfinished.retain(|name| *name != release.name);
            record.unfinished.push(release.name.clone());
        })?;
        self.begin(&release).map_err(|error| match self.undo(&release) {
            Ok(()) => error.context(format!("the release {} was removed again", release.name)),
            Err(failure) => error.cause(format!("restoring the earlier release failed: {failure}")),
        })?;
        Ok(release)
    }

    fn describe(&self, release: &Release) -> Described {
        let advice = "its pods have to start and to pass their probes".to_owned();
        Described { name: release.name.clone(), address: None, advice }
    }

    fn observe(&self, release: &Release) -> Result<Progress> {
        self.progress(release)
    }

    fn log_tail(&self, release: &Release, lines: u32) -> Result<String> {
        kubernetes::log_tail(&self.cluster, &self.identities(release), lines)
    }

    fn shift(&self, release: &Release, weight: u32) -> Result<()> {
        self.shift_matching(release, weight, &[])
    }

    fn shift_matching(&self, release: &Release, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        if !runs_beside(release) {
            // The cluster itself shifts the requests, as pods become ready.
            return Ok(());
        }
        if self.config.traffic.is_some() {
            self.divide(release, weight, conditions)?;
        } else if matches!(self.config.strategy, Some(Strategy::Canary(_))) {
            self.share(release, weight)?;
        }
        // A route that was divided is the release's own when it is finished, after its Services have switched.
        let is_route = |object: &Json| self.config.traffic.as_ref().is_some_and(|traffic| traffic.is(object));
        match weight {
            100 => self.apply_each(release, |object| is_late(object) && !is_route(object)),
            _ => Ok(()),
        }
    }

    fn finish(&self, release: &Release) -> Result<()> {
        let records = self.records();
        let record = records.read()?;
        records.refuse_stale(&record)?;
        self.direct_all(release)?;
        let earlier = record.serving.iter().chain(&record.unfinished).filter(|name| **name != release.name);
        for name in earlier {
            self.delete_unless_in(&records.release(name)?, Some(release))?;
        }
        records.change(|record| {
            record.serving = Some(release.name.clone());
            record.unfinished.clear();
        })?;
        let history = usize::try_from(self.config.history).unwrap_or(usize::MAX);
        records.forget(history.saturating_add(1), &[&release.name])
    }

    fn drift(&self, serving: &Serving) -> Result<Vec<LiveDifference>> {
        let release = self.records().release(&serving.version)?;
        let of_release = |object| {
            let identity = identity(object, &self.config.service, &release.name);
            (identity, marked(object, &self.config.service, &release.name))
        };
        let objects: Vec<(Identity, Json)> = release.objects.iter().map(of_release).collect();
        let owner = Owner { manager: self.applier(false).manager, operation: "Apply" };
        kubernetes::drift(&self.cluster, &objects, owner)
    }

    fn undo(&self, release: &Release) -> Result<()> {
        let records = self.records();
        let record = records.read()?;
        records.refuse_stale(&record)?;
        let earlier = record.serving.iter().find(|name| **name != release.name);
        let earlier = earlier.map(|name| records.release(name)).transpose()?;
        match &earlier {
            Some(earlier) => self.restore(earlier)?,
            None => self.apply_forced(&release.before, &release.name)?,
        }
        self.withdraw(release, earlier.as_ref())?;
        self.delete_unless_in(release, earlier.as_ref())?;
        records.change(|record| record.unfinished.retain(|name| *name != release.name))?;
        records.remove(&release.name)
    }
}

impl Application {
    pub(crate) fn records(&self) -> Records<'_> {
        Records { cluster: &self.cluster, namespace: &self.config.namespace, service: &self.config.service }
    }

    pub(crate) fn applier(&self, force: bool) -> Applier<'_> {
        let changes_images_alone = self.config.workload.is_some();
        Applier {
            cluster: &self.cluster,
            service: &self.config.service,
            manager: if changes_images_alone { IMAGES_MANAGER } else { MANAGER },
            // The fields are the images, and to change these is what was asked for.
            force: force || changes_images_alone,
        }
    }

    /// Whether fields are taken over that others have set.
    pub(crate) fn takes_over(&self) -> Result<bool> {
        Ok(self.config.force_conflicts || rollout::is_overwriting_approved()?)
    }

    /// The release of this attempt, after the server has accepted all of its objects.
    fn prepare(&self, record: &Record) -> Result<Release> {
        let name = own_name(&self.config.service);
        let (records, is_first) = (self.records(), record.serving.is_none());
        // Also what interrupted deploys have created, and what the serving release doesn't know of.
        let known = record.serving.iter().chain(&record.unfinished).map(|name| records.release(name));
        let created: Vec<Identity> =
            known.collect::<Result<Vec<_>>>()?.into_iter().flat_map(|earlier| earlier.created).collect();
        let mut release = Release {
            fence: stagewright_sdk::environment::fence(),
            run: context::run_id(),
            artifact: self.artifact.clone(),
            objects: self.objects.iter().map(|object| object.json.clone()).collect(),
            created: Vec::new(),
            before: Vec::new(),
            name,
        };
        let namespaces: Vec<&str> =
            self.objects.iter().filter(|object| object.kind() == "Namespace").map(Object::name).collect();
        let mut problems = Vec::new();
        for object in &self.objects {
            let identity = identity(&object.json, &self.config.service, &release.name);
            let live = self.cluster.get(&identity)?;
            let was_created = created.iter().any(|created| created.is(&identity));
            match &live {
                None if self.config.workload.is_some() => return Err(self.no_workload(&identity)),
                None => release.created.push(identity.clone()),
                Some(_) if was_created => release.created.push(identity.clone()),
                Some(live) if is_first => release.before.extend(self.images_before(live)),
                Some(_) => {}
            }
            // Its namespace doesn't exist before the release is applied.
            if namespaces.iter().any(|namespace| identity.namespace.as_deref() == Some(namespace)) && live.is_none() {
                continue;
            }
            problems.extend(self.applier(self.takes_over()?).check(object, &release.name).err());
        }
        if self.config.workload.is_some() {
            // What an earlier release created otherwise stays its own.
            release.created = created;
        }
        kubernetes::none_of(problems)?;
        if let Some(serving) = record.serving.as_ref().filter(|_| !self.is_restored) {
            self.check_division(&release, &records.release(serving)?)?;
        }
        Ok(release)
    }

    /// The images that the containers had before the first release.
    fn images_before(&self, live: &Json) -> Option<Json> {
        self.config.workload.as_ref()?;
        let mut before = self.objects.first()?.json.clone();
        let live = kubernetes::containers(live);
        for container in before.pointer_mut("/spec/template/spec/containers")?.as_array_mut()? {
            let (_, same) = live.iter().find(|(_, live)| live["name"] == container["name"])?;
            container["image"] = same["image"].clone();
        }
        Some(before)
    }

    fn no_workload(&self, identity: &Identity) -> Error {
        Error::failed(format!("there is no {identity} in the namespace {}", self.config.namespace))
            .help("correct `workload`, or deploy it with `manifests` first")
    }

    /// Applies what a release consists of before it gets requests of its own accord.
    fn begin(&self, release: &Release) -> Result<()> {
        if !runs_beside(release) {
            return self.apply_each(release, |_| true);
        }
        self.detach(release)?;
        let is_canary = matches!(self.config.strategy, Some(Strategy::Canary(_))) && self.config.traffic.is_none();
        self.apply_each(release, |object| !(is_late(object) || is_canary && is_own_deployment(object)))?;
        if !is_canary {
            return Ok(());
        }
        // Its pods get requests as soon as they are ready. After an interruption, it keeps those that it has.
        let of_canary = release.objects.iter().filter(|object| is_own_deployment(object));
        of_canary.into_iter().try_for_each(|object| {
            let live = self.cluster.get(&identity(object, &self.config.service, &release.name))?;
            self.scale(release, object, live.and_then(|live| live["spec"]["replicas"].as_u64()).unwrap_or(0))
        })
    }

    /// Divides the replicas between a canary and the release that serves, and waits until those of the canary are ready.
    fn share(&self, release: &Release, weight: u32) -> Result<()> {
        let record = self.records().read()?;
        self.records().refuse_stale(&record)?;
        let earlier = record.serving.iter().find(|name| **name != release.name);
        let earlier = earlier.map(|name| self.records().release(name)).transpose()?;
        let wanted = |object: &Json| object["spec"]["replicas"].as_u64().unwrap_or(1);
        for object in release.objects.iter().filter(|object| is_own_deployment(object)) {
            let (new, rest) = match (weight, &earlier) {
                (100, _) | (_, None) => (wanted(object), 0),
                _ => replicas(wanted(object), weight),
            };
            self.scale(release, object, new)?;
            let share = 100 * new / (new + rest).max(1);
            let shown = format!("{new} of {} replicas are of the release {}: {share}%", new + rest, release.name);
            if share > u64::from(weight) {
                log::warn(format!("{shown}, which is more than {weight}%, since no less than one can run"));
            } else {
                log::info(shown);
            }
        }
        self.wait_until_ready(release)?;
        let Some(earlier) = earlier else { return Ok(()) };
        earlier.objects.iter().filter(|object| object["kind"] == "Deployment").try_for_each(|object| {
            let rest = if weight == 100 { 0 } else { replicas(wanted(object), weight).1 };
            self.scale(&earlier, object, rest)
        })
    }

    fn scale(&self, release: &Release, deployment: &Json, replicas: u64) -> Result<()> {
        let mut scaled = deployment.clone();
        scaled["spec"]["replicas"] = replicas.into();
        self.applier(true).apply(&scaled, &release.name)
    }

    fn apply_each(&self, release: &Release, is_meant: impl Fn(&Json) -> bool) -> Result<()> {
        let applier = self.applier(self.takes_over()?);
        let meant = release.objects.iter().filter(|object| is_meant(object));
        meant.into_iter().try_for_each(|object| applier.apply(object, &release.name))
    }

    fn apply_forced(&self, objects: &[Json], release: &str) -> Result<()> {
        objects.iter().try_for_each(|object| self.applier(true).apply(object, release))
    }

    /// Applies an earlier release again, and waits until it is ready. Its jobs have run.
    fn restore(&self, earlier: &Release) -> Result<()> {
        self.apply_forced(&without_jobs(earlier.objects.clone()), &earlier.name)?;
        match self.wait_until_ready(earlier) {
            // A deploy that was cancelled doesn't wait for it.
            Err(error) if error.is_cancelled() => Ok(()),
            result => result,
        }
    }

    fn wait_until_ready(&self, release: &Release) -> Result<()> {
        kubernetes::wait_until_ready(&self.cluster, &self.identities(release), &release.name, self.config.deadline())
    }

    /// How far the workloads of a release are. One that has failed decides, and otherwise the first that isn't ready.
    fn progress(&self, release: &Release) -> Result<Progress> {
        kubernetes::progress(&self.cluster, &self.identities(release))
    }

    /// The objects of a release, as they are in the cluster.
    fn identities(&self, release: &Release) -> Vec<Identity> {
        let of = |object| identity(object, &self.config.service, &release.name);
        release.objects.iter().map(of).collect()
    }

    /// Deletes what a release has created and another one doesn't have. Only objects of this service are, and never those with
    /// data.
    fn delete_unless_in(&self, release: &Release, other: Option<&Release>) -> Result<()> {
        if self.config.workload.is_some() {
            // Such a release has no objects of its own.
            return Ok(());
        }
        let kept: Vec<Identity> = other
            .iter()
            .flat_map(|other| other.objects.iter().map(|object| identity(object, &self.config.service, &other.name)))
            .collect();
        let deletable = |created: &&Identity| {
            !NEVER_DELETED.contains(&created.kind.as_str()) && !kept.iter().any(|kept| kept.is(created))
        };
        // The last applied first, so that nothing runs without what it needs.
        for created in release.created.iter().rev().filter(deletable) {
            let live = self.cluster.get(created)?;
            let Some(live) = live.filter(|live| service_of(live) == Some(&self.config.service)) else { continue };
            log::info(format!("deleting {created}, which the release doesn't have any more"));
            let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
            self.cluster.delete(created, uid).map_err(|error| error.context(format!("{created} can't be deleted")))?;
        }
        Ok(())
    }
}

/// Whether a release has Deployments of its own, beside those of the earlier one.
fn runs_beside(release: &Release) -> bool {
    release.objects.iter().any(is_own_deployment)
}

/// The objects and the artifact of a release of the ledger, as the cluster has kept them.
fn stored(config: &Config, cluster: &Cluster, restored: &LedgerRelease) -> Result<(Vec<Object>, String)> {
    let records = Records { cluster, namespace: &config.namespace, service: &config.service };
    let release = records.release_of(&restored.artifact, restored.fence)?.ok_or_else(|| {
        Error::failed(format!("the cluster doesn't have the objects of {} any more", restored.artifact))
            .help("deploy its commit in a new run, and raise `history` to keep more releases")
    })?;
    let objects = without_jobs(release.objects).into_iter().map(|json| Object { json, origin: Origin::default() });
    Ok((objects.collect(), release.artifact))
}

/// A release that is restored doesn't run its jobs again: they have done their work, such as migrating a database.
fn without_jobs(objects: Vec<Json>) -> Vec<Json> {
    objects.into_iter().filter(|object| object["kind"] != "Job").collect()
}

/// What identifies the content of a release: its image, if it has a single one, and otherwise all of its objects.
fn artifact(config: &Config, objects: &[Object]) -> String {
    let mut images = config.images.values();
    match (images.next(), images.next()) {
        (Some(image), None) => image.as_str().to_owned(),
        _ => {
            let all: Vec<&Json> = objects.iter().map(|object| &object.json).collect();
            let text = serde_json::to_string(&all).unwrap_or_default();
            format!("{}@sha256:{}", config.service, sha256(text.as_bytes()))
        }
    }
}
