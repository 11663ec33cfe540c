//! Artifacts of the run by digest.

use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Result, artifacts, schemars};

use crate::image::is_digest;

/// An artifact that an earlier stage has published, by digest: `NAME@sha256:…`.
///
/// As [`crate::Image`], it can be read from any text; [`Deliverable::problem`] says whether it is valid.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Deliverable(String);

impl Deliverable {
    /// The whole reference.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The artifact's name.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or(&self.0, |(name, _)| name)
    }

    /// As in `sha256:…`; empty if the reference is invalid.
    pub fn digest(&self) -> &str {
        crate::digest_of(&self.0)
    }

    /// Why it isn't an artifact by digest, as a mistake at this key of `with`.
    pub fn problem(&self, key: &str) -> Option<Problem> {
        let is_valid = !self.name().is_empty() && is_digest(self.digest());
        let message = format!("`{}` isn't of the form NAME@sha256: and 64 hexadecimal digits", self.0);
        let help = "use the reference that the stage which published the artifact confirmed, as in \
                    \"${{ stages.build.outputs.artifacts.site }}\"";
        (!is_valid).then(|| Problem::at(key, message).help(help))
    }

    /// Writes its content to a file of the workspace, or to a folder if it is one.
    ///
    /// # Errors
    /// If no earlier stage of the run has published it, or has published other content under its name.
    pub fn fetch(&self, path: &str) -> Result<()> {
        let artifact = artifacts::fetch(self.name(), path).map_err(|error| {
            let message = format!("can't get the artifact {}, which isn't on the target any more", self.0);
            match error.is_not_found() {
                true => error.context(message).help("start a new run, which builds the artifact"),
                false => error,
            }
        })?;
        if artifact.digest != self.digest() {
            let message =
                format!("the artifact `{}` has the digest {}, not {}", self.name(), artifact.digest, self.digest());
            return Err(Error::failed(message).help("deploy the artifact that this run has published"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn deliverable(text: &str) -> Deliverable {
        Deliverable(text.to_owned())
    }

    #[test]
    fn only_references_by_digest_are_valid() {
        let digest = "0".repeat(64);
        assert_eq!(deliverable(&format!("site@sha256:{digest}")).problem("artifact"), None);
        for wrong in ["site", "site@sha256:1", "", &format!("@sha256:{digest}"), &format!("site@{digest}")] {
            assert!(deliverable(wrong).problem("artifact").is_some(), "{wrong}");
        }
    }

    #[test]
    fn other_content_under_the_name_is_refused() {
        let other = deliverable(&format!("site@sha256:{}", "0".repeat(64)));
        let (result, _) = FakeHost::new().artifact("site", "new").with(|| other.fetch("site"));
        let error = result.unwrap_err();
        assert!(error.message.starts_with("the artifact `site` has the digest sha256:"), "{error}");
        let (missing, _) = FakeHost::new().with(|| other.fetch("site"));
        assert!(missing.unwrap_err().message.contains("isn't on the target any more"));
    }
}
