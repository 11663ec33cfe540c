//! Why a secret has no value.

/// Names the secret, where it was looked for, and what was found there instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// One line.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The same before anybody knows which secret it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Goes on after "the secret `NAME` ".
    what: String,
    /// None: to look at `from`.
    help: Option<String>,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }

    /// The source `source` belongs to the cargo feature `feature`, and this program was built without it.
    #[cfg(not(all(feature = "age", feature = "aws", feature = "kubernetes")))]
    pub(crate) fn not_built_in(source: &str, feature: &str) -> Fault {
        Fault::new(format!("can't be fetched: this build of stagewright doesn't support `{source}`")).help(format!(
            "build it with `cargo build --package stagewright-cli --features {feature}`; for `cargo xtask`, set \
                 STAGEWRIGHT_FEATURES={feature}"
        ))
    }

    /// About the secret `name`.
    pub(crate) fn of(self, name: &str) -> SourceError {
        let help = self.help.unwrap_or_else(|| format!("change `from` in [secrets.{name}]"));
        SourceError {
            message: format!("the secret `{name}` {}", self.what),
            help: help.replace("[secrets.*]", &format!("[secrets.{name}]")),
        }
    }
}
