//! Errors of fetching a secret, and of using a credential.

use stagewright_model::SigningError;

/// Why a secret could not be fetched. Names the secret, its source, and what is wrong there; never contains a value or
/// a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// A sentence on one line, without a full stop.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

/// A [`SourceError`] without the name of the secret, which the code that reads a source doesn't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The predicate of a sentence that begins with "the secret `NAME` ".
    what: String,
    /// How to fix it; none for the general advice to change `from`.
    help: Option<String>,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), help: None }
    }

    /// Sets the help. `[secrets.*]` in it is replaced with the table of the secret.
    pub(crate) fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }

    /// The error for the source `source`, which needs the cargo feature `feature`, in a program that was built without
    /// it.
    #[cfg(not(all(feature = "age", feature = "aws", feature = "kubernetes")))]
    pub(crate) fn not_built_in(source: &str, feature: &str) -> Fault {
        Fault::new(format!("can't be fetched: this build of stagewright doesn't support `{source}`")).help(format!(
            "build it with `cargo build --package stagewright-cli --features {feature}`; for `cargo xtask`, set \
                 STAGEWRIGHT_FEATURES={feature}"
        ))
    }

    /// Completes the error with the name of a credential, for which something had to be fetched.
    pub(crate) fn for_credential(self, name: &str) -> SigningError {
        let help = self.help.unwrap_or_else(|| format!("change [credentials.{name}], or the secrets that it names"));
        SigningError {
            // The same requests and files are used to fetch the values of secrets.
            message: format!("the credential `{name}` {}", self.what.replacen("can't be fetched", "can't be used", 1)),
            help: help.replace("[secrets.*]", &format!("the secrets of [credentials.{name}]")),
        }
    }

    /// Completes the error with the name of the secret.
    pub(crate) fn for_secret(self, name: &str) -> SourceError {
        let help = self.help.unwrap_or_else(|| format!("change `from` in [secrets.{name}]"));
        SourceError {
            message: format!("the secret `{name}` {}", self.what),
            help: help.replace("[secrets.*]", &format!("[secrets.{name}]")),
        }
    }
}
