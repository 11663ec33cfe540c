//! Labels that say which deploy an object of the engine comes from.

use std::collections::BTreeMap;

use stagewright_sdk::{Error, ErrorCode, Result, context, environment};

/// The release's name.
pub const RELEASE: &str = "stagewright.release";
/// What the release was deployed from, by digest.
pub const ARTIFACT: &str = "stagewright.artifact";
/// The fencing token of the deploy.
pub const FENCE: &str = "stagewright.fence";
/// The run of the deploy.
pub const RUN: &str = "stagewright.run";

/// Which deploy an object comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The release's name.
    pub release: String,
    /// What the release was deployed from, by digest.
    pub artifact: String,
    /// The fencing token of the deploy; none if its stage had no environment.
    pub fence: Option<u64>,
    /// The run of the deploy.
    pub run: Option<String>,
}

impl Provenance {
    /// That of the attempt that is running, for a release of `service`.
    pub fn of_this_attempt(service: &str, artifact: &str) -> Provenance {
        let fence = environment::fence();
        let mark = fence.map_or_else(context::run_id, |fence| fence.to_string());
        let (release, run) = (format!("{service}.{mark}"), Some(context::run_id()));
        Provenance { release, artifact: artifact.to_owned(), fence, run }
    }

    /// A name for what keeps this release: another release of the same run and token has another one.
    pub fn object_name(&self) -> String {
        let run = self.run.as_deref().unwrap_or_default();
        let digest = self.artifact.rsplit_once(':').map_or("", |(_, digest)| digest);
        // Some letters of each are enough beside the token, and the names of a swarm's objects have at most 64.
        let run: String = run.rsplit('-').next().unwrap_or_default().chars().take(8).collect();
        let digest: String = digest.chars().take(8).collect();
        format!("{}.{run}.{digest}", self.release)
    }

    /// What labels say; none for an object that no deploy has created.
    pub fn of(labels: &BTreeMap<String, String>) -> Option<Provenance> {
        let label = |name: &str| labels.get(name).cloned();
        Some(Provenance {
            release: label(RELEASE)?,
            artifact: label(ARTIFACT)?,
            fence: label(FENCE).and_then(|fence| fence.parse().ok()),
            run: label(RUN),
        })
    }

    /// As labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            (RELEASE, Some(self.release.clone())),
            (ARTIFACT, Some(self.artifact.clone())),
            (FENCE, self.fence.map(|fence| fence.to_string())),
            (RUN, self.run.clone()),
        ];
        labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Whether it comes from the run that is running.
    pub fn is_of_this_run(&self) -> bool {
        self.run == Some(context::run_id())
    }

    /// Refuses to act on `service`, of which this is a release, if it was deployed under a newer token than this attempt's.
    ///
    /// # Errors
    /// If it was.
    pub fn refuse_newer(&self, service: &str) -> Result<()> {
        let (Some(own), Some(fence)) = (environment::fence(), self.fence) else { return Ok(()) };
        if fence <= own {
            return Ok(());
        }
        let release = &self.release;
        let message = format!("release {release} of `{service}` has the token {fence}, which is newer than {own}");
        Err(Error::new(ErrorCode::Superseded, message).help("start a new run"))
    }
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    #[test]
    fn labels_are_read_as_they_were_written() {
        let host = FakeHost::new().environment("production").fence(7);
        let (own, _) = host.with(|| Provenance::of_this_attempt("shop", "app@sha256:1"));
        assert_eq!((own.release.as_str(), own.fence), ("shop.7", Some(7)));
        assert_eq!(Provenance::of(&own.labels()), Some(own));
        assert_eq!(Provenance::of(&BTreeMap::new()), None);
    }

    #[test]
    fn each_release_of_a_run_has_a_name_of_its_own() {
        let name = |run: &str, artifact: &str| {
            let (run, artifact) = (Some(run.to_owned()), artifact.to_owned());
            Provenance { release: "shop.7".into(), artifact, fence: Some(7), run }.object_name()
        };
        assert_eq!(name("20261130-091457-tgpq", "a@sha256:0123456789"), "shop.7.tgpq.01234567");
        assert_ne!(name("x-1", "a@sha256:0"), name("x-1", "a@sha256:1"));
        assert_ne!(name("x-1", "a@sha256:0"), name("x-2", "a@sha256:0"));
    }

    #[test]
    fn only_a_newer_token_is_refused() {
        let refused = |fence| {
            let other = Provenance { release: "shop.8".into(), artifact: "a".into(), fence, run: None };
            FakeHost::new().environment("production").fence(7).with(|| other.refuse_newer("shop")).0.is_err()
        };
        assert_eq!([None, Some(6), Some(7), Some(8)].map(refused), [false, false, false, true]);
    }
}
