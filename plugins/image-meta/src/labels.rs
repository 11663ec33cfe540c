//! The labels of the image specification's `org.opencontainers.image`.

use std::collections::BTreeMap;

use crate::config::Config;

/// What labels are made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// RFC 3339.
    pub(crate) created: &'a str,
    pub(crate) commit: &'a str,
    pub(crate) version: Option<&'a str>,
    /// The web address of the repository.
    pub(crate) repository: Option<&'a str>,
}

/// The labels by their whole names. What is unknown has none.
pub(crate) fn labels(config: &Config, facts: &Facts<'_>) -> BTreeMap<String, String> {
    let name = facts.repository.and_then(|address| address.rsplit('/').next());
    let own = [
        ("created", Some(facts.created)),
        ("revision", Some(facts.commit)),
        ("version", facts.version),
        ("source", facts.repository),
        ("url", config.url.as_deref().or(facts.repository)),
        ("title", config.title.as_deref().or(name)),
        ("description", config.description.as_deref()),
        ("licenses", config.licenses.as_deref()),
    ];
    let own = own.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((format!("org.opencontainers.image.{name}"), value.to_owned()))
    });
    own.chain(config.labels.clone()).collect()
}
