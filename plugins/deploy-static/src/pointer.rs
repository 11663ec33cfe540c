//! The object that says which release serves, and which one is being rolled out.

use aws::s3::{Bucket, Condition};
use serde::{Deserialize, Serialize};
use stagewright_sdk::{Error, ErrorCode, Result, context, environment};

use crate::config::Config;

/// `releases/current.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pointer {
    /// The release to serve, for those who read the pointer.
    pub(crate) release: Option<String>,
    /// The newest token that a deploy had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<u64>,
    /// What the last deploy that finished has deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serving: Option<Deployed>,
    /// What is being deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) candidate: Option<Deployed>,
    /// Whether the root may have files of several releases, after an interruption.
    #[serde(default)]
    pub(crate) is_root_mixed: bool,
}

/// A release with the deploy that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) release: String,
    /// By digest.
    pub(crate) artifact: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<u64>,
    pub(crate) run: String,
}

impl Deployed {
    /// The release of this run.
    pub(crate) fn own(config: &Config) -> Deployed {
        Deployed {
            release: config.release(),
            artifact: config.artifact().to_owned(),
            fence: environment::fence(),
            run: context::run_id(),
        }
    }
}

/// A pointer as it was read, so that it is replaced only if it is still that.
pub(crate) struct Known {
    pub(crate) pointer: Pointer,
    etag: Option<String>,
}

impl Known {
    /// Reads the pointer; one that doesn't exist points to nothing.
    pub(crate) fn read(bucket: &Bucket, config: &Config) -> Result<Known> {
        let Some((body, etag)) = bucket.get(&key(config))? else {
            return Ok(Known { pointer: Pointer::default(), etag: None });
        };
        let pointer = serde_json::from_slice(&body).map_err(|error| {
            Error::failed(format!("`{}` in the bucket isn't a pointer to a release: {error}", key(config)))
                .help("restore the object, or choose another `prefix` for the site")
        })?;
        Ok(Known { pointer, etag: Some(etag) })
    }

    /// Refuses to act when a deploy with a newer token has written the pointer.
    pub(crate) fn refuse_stale(&self, config: &Config) -> Result<()> {
        let (Some(own), Some(fence)) = (environment::fence(), self.pointer.fence) else { return Ok(()) };
        if fence <= own {
            return Ok(());
        }
        let message = format!("a deploy to `{}` has the token {fence}, which is newer than {own}", config.bucket);
        Err(Error::new(ErrorCode::Superseded, message).help("start a new run"))
    }

    /// Replaces the pointer. Carries this run's token from then on.
    ///
    /// # Errors
    /// If something else has replaced it meanwhile.
    pub(crate) fn replace(self, bucket: &Bucket, config: &Config, change: impl FnOnce(&mut Pointer)) -> Result<Known> {
        self.refuse_stale(config)?;
        let mut pointer = self.pointer;
        change(&mut pointer);
        pointer.fence = environment::fence().or(pointer.fence);
        let condition = match self.etag {
            Some(etag) => Condition::Unchanged(etag),
            None => Condition::New,
        };
        match bucket.put(&key(config), &serde_json::to_vec(&pointer)?, &condition) {
            Ok(etag) => Ok(Known { pointer, etag: Some(etag) }),
            Err(failure) if failure.has_status(412) || failure.has_status(409) => {
                Known::read(bucket, config)?.refuse_stale(config)?;
                Err(Error::from(failure)
                    .context(format!("something else changed `{}` in the bucket", key(config)))
                    .help("check who else deploys the site, then deploy again"))
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

fn key(config: &Config) -> String {
    config.key("releases/current.json")
}
