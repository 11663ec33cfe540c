//! The values of the release's secrets in AWS Secrets Manager, from which ECS gives them to containers.
//!
//! Each deploy stores the values of its time as versions of their own, and its task definition refers to exactly these: so a
//! release that is restored has its values back, whatever is current by then. The name of a version follows from the run, so
//! that a repeated attempt stores none a second time.

use aws::{Answered, Failure, Service};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{Error, ErrorCode, Result, context, environment, log, secrets};

use crate::config::Config;

const API: &str = "secretsmanager";
/// The tag with the service whose deploys write to a secret.
const OWNER: &str = "stagewright.service";
/// How many digits the name of a version has; the service takes 32 to 64.
const DIGITS: usize = 32;

/// The secrets of one service.
pub(crate) struct Vault {
    api: Service,
    /// What their names begin with.
    prefix: String,
    /// As in `main/api`.
    owner: String,
}

/// A secret, without its value.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

/// A value that was stored.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "ARN")]
    arn: String,
    #[serde(rename = "VersionId")]
    version: String,
}

impl Vault {
    /// Those of the service of `config`; none if it has no secrets.
    pub(crate) fn of(config: &Config) -> Result<Option<Vault>> {
        let Some(credential) = config.secrets_credential.as_ref().filter(|_| !config.secret_env.is_empty()) else {
            return Ok(None);
        };
        let api = Service::of_credential(credential)?;
        let owner = format!("{}/{}", config.cluster, config.service);
        Ok(Some(Vault { api, prefix: config.secrets_prefix.clone().unwrap_or_else(|| owner.clone()), owner }))
    }

    /// Stores the value that a secret of the pipeline has now, and returns what a task definition refers to it by.
    pub(crate) fn store(&self, variable: &str, secret: &str) -> Result<String> {
        let name = format!("{}/{variable}", self.prefix);
        self.claim(&name)?;
        let stored = match self.put(&name, &version(&name, None), secret) {
            // An interrupted attempt of this run has stored a value, and the secret has another one by now.
            Err(failure) if failure.is("ResourceExistsException") => {
                self.put(&name, &version(&name, environment::fence()), secret)
            }
            stored => stored,
        };
        let Stored { arn, version } = stored?;
        log::info(format!("stored {name} in Secrets Manager as version {version}"));
        Ok(format!("{arn}:::{version}"))
    }

    /// Makes sure that a secret of this name belongs to the service.
    fn claim(&self, name: &str) -> Result<()> {
        let described: Answered<Described> = self.api.call(API, "DescribeSecret", &json!({ "SecretId": name }));
        match described {
            Ok(described) if described.tags.iter().any(|tag| tag.key == OWNER && tag.value == self.owner) => Ok(()),
            Ok(_) => {
                let message =
                    format!("the secret `{name}` exists in Secrets Manager, and isn't of the service {}", self.owner);
                let help = format!(
                    "set another `secrets-prefix`; or let deploys write to it by the tag {OWNER} = {}",
                    self.owner
                );
                Err(Error::new(ErrorCode::FailedPrecondition, message).help(help))
            }
            Err(failure) if failure.is("ResourceNotFoundException") => self.create(name),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Creates a secret that has no value yet.
    fn create(&self, name: &str) -> Result<()> {
        let input = json!({
            "Name": name,
            "Description": format!("Written by deploys of the ECS service {}", self.owner),
            "ClientRequestToken": version(&format!("{name} without a value"), None),
            "Tags": [{ "Key": OWNER, "Value": self.owner }],
        });
        self.api.call::<Json>(API, "CreateSecret", &input).map(drop).map_err(Failure::into)
    }

    fn put(&self, name: &str, version: &str, secret: &str) -> Answered<Stored> {
        let input = json!({
            "SecretId": name,
            "ClientRequestToken": version,
            "SecretString": secrets::placeholder(secret),
        });
        self.api.call_with_secrets(API, "PutSecretValue", &input, &[secrets::get(secret)?])
    }
}

/// The name of the version that this run stores; with a token, of the one that the attempt with this token does.
fn version(name: &str, fence: Option<u64>) -> String {
    let digest = Sha256::digest(format!("{}\n{}\n{name}", context::run_id(), fence.unwrap_or_default()));
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..DIGITS].to_owned()
}
