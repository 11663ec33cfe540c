//! A site in a bucket as a target.
//!
//! Applying a release brings its files into the bucket, where only a preview shows them. Shifting the requests writes the
//! pointer, in one step for those who read it, and then copies the files to the root, pages last.

use std::collections::BTreeSet;

use aws::Service;
use aws::s3::Bucket;
use rollout::{Described, Progress, Serving, Target, digest_of};
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, ErrorCode, Manifest, Requirement, Result, context, log};

use crate::cleanup;
use crate::config::Config;
use crate::distribution;
use crate::pointer::{Deployed, Known, Pointer};
use crate::release::FileList;

/// A site in a bucket.
pub(crate) struct Site {
    config: Config,
    bucket: Bucket,
}

impl Target for Site {
    type Config = Config;
    /// Its name.
    type Version = String;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let signs = Requirement::credential(&config.credential).because("signs the requests to the bucket");
        let scratch = Requirement::write(&config.scratch).because("has the files while they are sent");
        let invalidates = config.cloudfront.iter().map(|cloudfront| {
            Requirement::credential(&cloudfront.credential).because("signs the invalidation of the distribution")
        });
        let checks = config.preview.iter().filter_map(|url| Requirement::url(url));
        let checks = checks.map(|checks| checks.because("checks the release"));
        let analyses = config.strategy.iter().flat_map(rollout::Strategy::requirements);
        [signs, scratch].into_iter().chain(invalidates).chain(checks).chain(analyses).collect()
    }

    fn open(config: &Config, _restored: Option<&Release>) -> Result<Site> {
        let bucket = Bucket::new(Service::of_credential(&config.credential)?, &config.bucket);
        Ok(Site { config: config.clone(), bucket })
    }

    fn artifact(&self) -> &str {
        self.config.artifact()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        Ok(self.known()?.pointer.serving.map(|serving| Serving {
            version: serving.release,
            artifact: serving.artifact,
            address: self.config.url.clone(),
            fence: serving.fence,
            run: Some(serving.run),
            is_running: true,
            has_failed: false,
        }))
    }

    fn unfinished(&self) -> Result<Option<String>> {
        let candidate = self.known()?.pointer.candidate.filter(|candidate| self.is_own(candidate));
        let Some(candidate) = candidate else { return Ok(None) };
        let list = FileList::read(&self.bucket, &self.config, &candidate.release)?;
        Ok(list.filter(|list| list.is_complete).map(|_| candidate.release))
    }

    fn apply(&self) -> Result<String> {
        let (bucket, config) = (&self.bucket, &self.config);
        let own = Deployed::own(config);
        let release = own.release.clone();
        // Before anything is sent, so that from now on the bucket refuses an older deploy.
        let claimed = self.known()?.replace(bucket, config, |pointer| {
            let earlier = pointer.candidate.replace(own);
            let has_requests = earlier.is_some_and(|earlier| pointer.release.as_deref() == Some(&earlier.release));
            pointer.is_root_mixed |= has_requests;
        })?;
        let serving = claimed.pointer.serving.map(|serving| serving.release);
        FileList::provide(bucket, config, serving.as_deref())?;
        Ok(release)
    }

    fn describe(&self, release: &String) -> Described {
        let preview = self.config.preview.as_ref().map(|preview| {
            let path = self.config.key(&format!("releases/{release}"));
            format!("{}/{path}", preview.trim_end_matches('/'))
        });
        let advice =
            "the site has to have the file of the check, and the bucket has to be served at `preview`".to_owned();
        Described { name: release.clone(), address: preview, advice }
    }

    fn observe(&self, release: &String) -> Result<Progress> {
        let Pointer { candidate, serving, .. } = self.known()?.pointer;
        let is_known = candidate.iter().chain(&serving).any(|deployed| self.is_own(deployed));
        Ok(match is_known {
            true => Progress::Running,
            false => {
                Progress::Failed(format!("isn't deployed any more: something else replaced {release} in the pointer"))
            }
        })
    }

    fn log_tail(&self, _release: &String, _lines: u32) -> Result<String> {
        Err(Error::new(ErrorCode::Unimplemented, "a bucket keeps no log of a release"))
    }

    fn shift(&self, release: &String, weight: u32) -> Result<()> {
        if weight < 100 {
            return Ok(());
        }
        let (bucket, config) = (&self.bucket, &self.config);
        let known = self.known()?.replace(bucket, config, |pointer| pointer.release = Some(release.clone()))?;
        if config.root {
            let list = self.list(release)?;
            let present = self.at_root(&known.pointer)?;
            list.copy_to_root(bucket, config, release, present.as_ref())?;
        }
        self.invalidate(release)
    }

    fn finish(&self, release: &String) -> Result<()> {
        let known = self.known()?;
        let previous = known.pointer.serving.as_ref().map(|serving| serving.release.clone());
        known.replace(&self.bucket, &self.config, |pointer| {
            pointer.serving = pointer.candidate.take().or_else(|| pointer.serving.take());
            pointer.is_root_mixed = false;
        })?;
        // The release serves. What is left over is only in the way.
        if let Err(error) = cleanup::after_switch(&self.bucket, &self.config, release, previous.as_deref()) {
            log::warn(format!(
                "could not delete what earlier releases have left, the next deploy tries again: {error}"
            ));
        }
        Ok(())
    }

    fn undo(&self, release: &String) -> Result<()> {
        let (bucket, config) = (&self.bucket, &self.config);
        let known = self.known()?;
        known.refuse_stale(config)?;
        if !known.pointer.candidate.as_ref().is_some_and(|candidate| self.is_own(candidate)) {
            return Ok(());
        }
        let serving = known.pointer.serving.as_ref().map(|serving| serving.release.clone());
        let had_requests = known.pointer.is_root_mixed || known.pointer.release.as_deref() == Some(release);
        let known = known.replace(bucket, config, |pointer| {
            pointer.release.clone_from(&serving);
            pointer.is_root_mixed = had_requests;
        })?;
        let mut needed = BTreeSet::new();
        if let Some(serving) = &serving {
            let list = self.list(serving)?;
            if config.root && had_requests {
                list.copy_to_root(bucket, config, serving, None)?;
            }
            needed.extend(list.files.into_keys());
        }
        if had_requests {
            self.remove_from_root(release, &needed)?;
            self.invalidate(serving.as_deref().unwrap_or(release))?;
        }
        known.replace(bucket, config, |pointer| {
            pointer.candidate = None;
            pointer.is_root_mixed = false;
        })?;
        let is_new = FileList::read(bucket, config, release)?.is_some_and(|list| list.run == context::run_id());
        match is_new && serving.as_deref() != Some(release) {
            true => cleanup::remove(bucket, config, release, &self.needed(release)?),
            false => Ok(()),
        }
    }
}

impl Site {
    fn known(&self) -> Result<Known> {
        Known::read(&self.bucket, &self.config)
    }

    /// Whether this run has deployed it.
    fn is_own(&self, deployed: &Deployed) -> bool {
        deployed.run == context::run_id() && digest_of(&deployed.artifact) == digest_of(self.config.artifact())
    }

    fn list(&self, release: &str) -> Result<FileList> {
        let list = FileList::read(&self.bucket, &self.config, release)?.filter(|list| list.is_complete);
        list.ok_or_else(|| {
            Error::failed(format!("release {release} isn't in the bucket any more"))
                .help("check who else changes the bucket, then deploy again")
        })
    }

    /// The files that the root is known to have; none if it may have others.
    fn at_root(&self, pointer: &Pointer) -> Result<Option<FileList>> {
        match &pointer.serving {
            Some(serving) if !pointer.is_root_mixed => FileList::read(&self.bucket, &self.config, &serving.release),
            _ => Ok(None),
        }
    }

    /// Deletes pages of a release from the root that are not `needed` there.
    fn remove_from_root(&self, release: &str, needed: &BTreeSet<String>) -> Result<()> {
        let Some(list) = FileList::read(&self.bucket, &self.config, release)?.filter(|_| self.config.root) else {
            return Ok(());
        };
        let pages = list.files.iter().filter(|(path, file)| file.is_page() && !needed.contains(*path));
        self.bucket.delete(&pages.map(|(path, _)| self.config.key(path)).collect::<Vec<_>>())
    }

    /// The paths of all releases but one.
    fn needed(&self, except: &str) -> Result<BTreeSet<String>> {
        let mut needed = BTreeSet::new();
        for release in cleanup::releases(&self.bucket, &self.config)?.iter().filter(|release| *release != except) {
            let list = FileList::read(&self.bucket, &self.config, release)?;
            needed.extend(list.into_iter().flat_map(|list| list.files.into_keys()));
        }
        Ok(needed)
    }

    fn invalidate(&self, release: &str) -> Result<()> {
        self.config.cloudfront.iter().try_for_each(|cloudfront| distribution::invalidate(cloudfront, release))
    }
}
