//! Images.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::{Error, Result, log};

use crate::{ANSWER, Engine, encoded};

/// A line of the answer to a pull.
#[derive(Deserialize)]
struct PullLine {
    #[serde(default)]
    error: Option<String>,
}

impl Engine {
    /// Pulls an image by digest, unless the engine has it.
    ///
    /// # Errors
    /// If it can't be pulled.
    pub fn ensure_image(&self, image: &str) -> Result<()> {
        if self.has_image(image)? {
            return Ok(());
        }
        log::info(format!("pulling {image}"));
        self.pull(image).map_err(|error| {
            let help = advice(image, &error.message);
            error.context(format!("the Docker engine can't pull {image}")).help(help)
        })
    }

    /// Checks that an image by digest can be had, without pulling it: the engine has it, or the registry does.
    ///
    /// # Errors
    /// If neither has it.
    pub fn check_image(&self, image: &str) -> Result<()> {
        if self.has_image(image)? {
            return Ok(());
        }
        let known: Result<Json> = self.get(&format!("/distribution/{image}/json"));
        known.map(drop).map_err(|error| {
            let help = "check that the registry is up, that it has the image, and that the engine may pull it";
            error.context(format!("neither the Docker engine nor its registry has {image}")).help(help)
        })
    }

    /// Whether the engine has an image by digest.
    fn has_image(&self, image: &str) -> Result<bool> {
        let filters = json!({ "reference": [image] });
        let found: Vec<Json> = self.get(&format!("/images/json?filters={}", encoded(&filters.to_string())))?;
        Ok(!found.is_empty())
    }

    fn pull(&self, image: &str) -> Result<()> {
        let (repository, digest) = image.split_once('@').unwrap_or((image, ""));
        let path = format!("/images/create?fromImage={}&tag={}", encoded(repository), encoded(digest));
        let mut response = self.send("POST", &path, None)?;
        // The status is sent before the pull begins, so that what fails later is in the body.
        let body = response.bytes(ANSWER)?;
        let lines = body.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<PullLine>(line).ok());
        match lines.filter_map(|line| line.error).next_back() {
            Some(error) => Err(Error::failed(error)),
            None => Ok(()),
        }
    }
}

/// What to do about a pull that failed, by the engine's reason. The engine has no code for it.
fn advice(image: &str, reason: &str) -> String {
    let registry = image.split('/').next().unwrap_or_default();
    let is_login = ["unauthorized", "authentication required", "no basic auth", "denied", "incorrect username"];
    match is_login.iter().any(|words| reason.to_lowercase().contains(words)) {
        true => format!(
            "renew the login for {registry}, which is missing, wrong or expired: the secret of the stage's \
             `docker-registry` credential, or the engine's own `docker login`; then deploy again"
        ),
        false => format!("check that the registry {registry} is up and has the image, then deploy again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_told_from_a_registry_that_is_down() {
        let of = |reason: &str| advice("registry.example.org:5000/app@sha256:1", reason);
        for reason in [
            "unauthorized: authentication required",
            "Head \"https://registry.example.org:5000/v2/app/manifests/sha256:1\": no basic auth credentials",
            "error from registry: access to the requested resource is denied",
        ] {
            assert!(of(reason).starts_with("renew the login for registry.example.org:5000"), "{reason}");
        }
        let down = of("dial tcp 127.0.0.1:5000: connect: connection refused");
        assert!(down.starts_with("check that the registry registry.example.org:5000 is up"), "{down}");
    }
}
