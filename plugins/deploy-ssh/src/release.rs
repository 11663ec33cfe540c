//! What a release consists of: its name, its files, and the text of its variables.

use rollout::Deliverable;
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{Error, Result, artifacts};

use crate::config::Config;

/// Archives that `tar` unpacks.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"];

/// The name of the release: of its content, its variables, and what is linked into it, so that it is the same whenever these
/// are.
pub(crate) fn name(config: &Config) -> String {
    let mut digest = Sha256::new_with_prefix(config.artifact.as_str());
    for (kind, table) in [("variable", &config.variables), ("secret", &config.secrets)] {
        for (name, value) in table {
            digest.update(format!("\n{kind}\t{name}\t{}\t{value}", value.len()));
        }
    }
    if !config.secrets.is_empty() {
        digest.update(format!("\nsecrets\t{}", config.secrets_folder.as_deref().unwrap_or_default()));
    }
    for folder in &config.shared {
        digest.update(format!("\nshared\t{folder}"));
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// `archive`, or the name of the file that the artifact becomes.
///
/// # Errors
/// If no earlier stage of the run has published it.
pub(crate) fn kind_of(deliverable: &Deliverable) -> Result<String> {
    let name = deliverable.name();
    let artifact = artifacts::published()?.into_iter().find(|artifact| artifact.name == name).ok_or_else(|| {
        Error::failed(format!("the release needs the artifact {}, which isn't on all hosts", deliverable.as_str()))
            .help("start a new run, which builds the artifact")
    })?;
    if artifact.digest != deliverable.digest() {
        let message = format!("the artifact `{name}` has the digest {}, not {}", artifact.digest, deliverable.digest());
        return Err(Error::failed(message).help("deploy the artifact that this run has published"));
    }
    let is_archive = artifact.folder || ARCHIVES.iter().any(|ending| name.ends_with(ending));
    Ok(if is_archive { "archive".to_owned() } else { name.to_owned() })
}

/// The text of `variables.env`: a file of environment for systemd, and a script for POSIX shells.
pub(crate) fn variables(config: &Config) -> String {
    config.variables.iter().map(|(name, value)| format!("{name}=\"{}\"\n", quoted(value))).collect()
}

/// A text as double quotes have it between them.
fn quoted(text: &str) -> String {
    text.chars().fold(String::new(), |mut quoted, letter| {
        if matches!(letter, '"' | '\\' | '`' | '$') {
            quoted.push('\\');
        }
        quoted.push(letter);
        quoted
    })
}
