//! Publishes what the program made.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use stagewright_sdk::artifacts::{self, Artifact};
use stagewright_sdk::{JsonSchema, Problem, Requirement, Result, WorkspacePath, log, outputs, schemars};

/// An entry of `artifacts`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a path, or a table such as `{ name = \"site\", path = \"dist\" }`")]
pub enum Publication {
    /// A file or folder, published under its own name after a success.
    Path(WorkspacePath),
    /// The same, with more properties.
    Named(NamedPublication),
}

/// A file or folder to publish.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NamedPublication {
    /// The file or folder.
    pub path: WorkspacePath,
    /// The artifact's name. Default: the last part of the path.
    pub name: Option<String>,
    /// The media type of a file.
    pub media_type: Option<String>,
    /// After which end of the program it is published. Default: `success`.
    #[serde(default)]
    pub when: PublishedWhen,
}

/// After which end of the program an artifact is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PublishedWhen {
    /// After a success. The stage fails if the path doesn't exist.
    #[default]
    Success,
    /// After a failure, if the path exists.
    Failure,
    /// After both.
    Always,
}

impl Publication {
    fn path(&self) -> &WorkspacePath {
        match self {
            Publication::Path(path) | Publication::Named(NamedPublication { path, .. }) => path,
        }
    }

    fn name(&self) -> &str {
        match self {
            Publication::Named(NamedPublication { name: Some(name), .. }) => name,
            _ => self.path().split('/').rfind(|part| !matches!(*part, "" | ".")).unwrap_or_default(),
        }
    }

    fn media_type(&self) -> Option<&str> {
        match self {
            Publication::Named(named) => named.media_type.as_deref(),
            Publication::Path(_) => None,
        }
    }

    fn when(&self) -> PublishedWhen {
        match self {
            Publication::Named(named) => named.when,
            Publication::Path(_) => PublishedWhen::default(),
        }
    }

    pub(crate) fn requirement(&self) -> Requirement {
        Requirement::read(self.path().as_str()).because(format!("is published as the artifact `{}`", self.name()))
    }
}

/// Names that the host would refuse once the program has ended, and those that are given twice.
pub(crate) fn problems(publications: &[Publication]) -> Vec<Problem> {
    let mut names = BTreeSet::new();
    let problem = |(index, publication): (usize, &Publication)| {
        let (key, name) = (format!("artifacts[{index}]"), publication.name());
        let is_valid = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.starts_with('.') || name.len() > 128 || !name.chars().all(is_valid) {
            let message = format!("`{name}` can't be the name of an artifact");
            let help = "set `name` to at most 128 letters, digits, `-`, `_` and `.`, not beginning with a dot";
            return Some(Problem::at(key, message).help(help));
        }
        let is_new = names.insert(name.to_owned());
        (!is_new).then(|| {
            Problem::at(key, format!("two artifacts have the name `{name}`")).help("give each a `name` of its own")
        })
    };
    publications.iter().enumerate().filter_map(problem).collect()
}

/// Publishes after a success. The output `artifacts` has a reference by digest to each.
pub(crate) fn after_success(publications: &[Publication]) -> Result<()> {
    let published: BTreeMap<String, String> = publications
        .iter()
        .filter(|publication| publication.when() != PublishedWhen::Failure)
        .map(|publication| {
            let Artifact { name, digest, .. } = publish(publication)?;
            Ok((name.clone(), format!("{name}@{digest}")))
        })
        .collect::<Result<_>>()?;
    match published.is_empty() {
        true => Ok(()),
        false => outputs::set("artifacts", &published),
    }
}

/// Publishes after a failure what is there. What can't be published is logged, so that it doesn't hide the failure.
pub(crate) fn after_failure(publications: &[Publication]) {
    for publication in publications.iter().filter(|publication| publication.when() != PublishedWhen::Success) {
        if let Err(error) = publish(publication) {
            log::warn(format!("artifact `{}` wasn't published: {error}", publication.name()));
        }
    }
}

fn publish(publication: &Publication) -> Result<Artifact> {
    artifacts::publish(publication.name(), publication.path(), publication.media_type())
}
