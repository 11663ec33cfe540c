//! The history of the repository and of its environments, as a test sets it.

use serde_json::Value as Json;

use super::FakeHost;
use crate::history::Commit;

impl FakeHost {
    /// Sets the commits that lead to the run's, newest first. Each is taken to be the parent of the one before it.
    #[must_use]
    pub fn history(mut self, commits: impl IntoIterator<Item = Commit>) -> FakeHost {
        self.state.history = commits.into_iter().collect();
        self
    }

    /// Adds a tag, as in `v1.0`, at the commit with this full id.
    #[must_use]
    pub fn history_tag(mut self, tag: &str, commit: &str) -> FakeHost {
        self.state.history_tags.insert(tag.to_owned(), commit.to_owned());
        self
    }

    /// Adds a commit that doesn't lead to the run's, as after a force push.
    #[must_use]
    pub fn diverged(mut self, commit: &str) -> FakeHost {
        self.state.diverged.insert(commit.to_owned());
        self
    }

    /// Makes the repository a shallow clone: commits before those of [`FakeHost::history`] exist elsewhere.
    #[must_use]
    pub fn shallow(mut self) -> FakeHost {
        self.state.shallow = true;
        self
    }

    /// Sets the web address of the repository.
    #[must_use]
    pub fn repository(mut self, address: &str) -> FakeHost {
        self.state.repository = Some(address.to_owned());
        self
    }

    /// Adds an environment to the pipeline, with the newest known-good release of other runs, given as
    /// [`crate::environment::Release`].
    #[must_use]
    pub fn good_release(mut self, environment: &str, release: Option<Json>) -> FakeHost {
        self.state.good_releases.insert(environment.to_owned(), release);
        self
    }
}
