//! Applies the rules to what the run is for.

use semver::Version;
use stagewright_sdk::{Error, Result, log, source};

use crate::config::{Config, Flavor, Kind, Latest, Rule};
use crate::tag;

/// The digits of a short commit id.
const SHORT: usize = 7;

/// What a run is for.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The full name of the branch, tag or pull request; empty if none is checked out.
    pub(crate) reference: String,
    pub(crate) commit: String,
    /// Whether a pull request started the run. Without its number, `reference` is then its branch.
    pub(crate) is_pull_request: bool,
}

impl Subject {
    pub(crate) fn of_run(commit: String) -> Subject {
        Subject {
            reference: source::reference().unwrap_or_default(),
            commit,
            is_pull_request: source::trigger() == "pull-request",
        }
    }

    /// Not for a pull request: its branch may be called `main`, and must not replace the image of the real one.
    fn branch(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/heads/").filter(|_| !self.is_pull_request)
    }

    fn tag(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/tags/")
    }

    fn pull_request(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/pull/")?.split('/').next().filter(|number| !number.is_empty())
    }
}

/// The tag of a rule before its prefix and suffix, and whether the image is then the latest one.
struct Candidate {
    text: String,
    is_latest: bool,
}

/// The tags, the first of which is the version. Empty if no rule gives one.
pub(crate) fn tags(config: &Config, subject: &Subject) -> Result<Vec<String>> {
    let mut rules: Vec<(usize, &Rule)> = config.tags.iter().enumerate().filter(|(_, rule)| rule.enable).collect();
    rules.sort_by_key(|(_, rule)| rule.kind.rank());
    let (mut tags, mut is_latest) = (Vec::new(), None);
    for (index, rule) in rules {
        let Some(found) = candidate(rule, subject) else { continue };
        let tag = decorated(rule, &config.flavor, &found.text);
        if tag.is_empty() {
            continue;
        }
        let tag = valid(&tag).map_err(|message| refused(&message, index, rule))?;
        // The first tag decides, as it is the version.
        is_latest.get_or_insert(found.is_latest);
        add(&mut tags, tag);
    }
    let is_latest = match config.flavor.latest {
        Latest::Auto => is_latest == Some(true),
        Latest::Always => is_latest.is_some(),
        Latest::Never => false,
    };
    if is_latest {
        let latest = valid(&latest(&config.flavor)).map_err(|message| {
            Error::invalid(format!("`flavor`: {message}")).help("change `prefix`, or remove `prefix-latest`")
        })?;
        add(&mut tags, latest);
    }
    Ok(tags)
}

fn add(tags: &mut Vec<String>, tag: String) {
    if !tags.contains(&tag) {
        tags.push(tag);
    }
}

fn candidate(rule: &Rule, subject: &Subject) -> Option<Candidate> {
    let never_latest = |text: &str| Candidate { text: text.to_owned(), is_latest: false };
    match rule.kind {
        Kind::Semver => version(rule, subject),
        Kind::Branch => subject.branch().map(never_latest),
        Kind::Tag => subject.tag().map(|tag| Candidate { text: tag.to_owned(), is_latest: true }),
        Kind::Pr => {
            if subject.is_pull_request && subject.pull_request().is_none() {
                log::warn("the number of the pull request is unknown: start the run with `--pull-request`");
            }
            subject.pull_request().map(never_latest)
        }
        Kind::Raw => rule.value.as_deref().filter(|value| !value.is_empty()).map(never_latest),
        Kind::Sha => {
            let digits = if rule.format.unwrap_or_default() == Default::default() { SHORT } else { usize::MAX };
            Some(never_latest(subject.commit.get(..digits).unwrap_or(&subject.commit)))
        }
    }
}

fn version(rule: &Rule, subject: &Subject) -> Option<Candidate> {
    let given = rule.value.as_deref().filter(|value| !value.is_empty());
    let raw = given.or_else(|| subject.tag())?;
    let Ok(version) = Version::parse(raw.strip_prefix('v').unwrap_or(raw)) else {
        log::warn(format!("`{raw}` isn't a semantic version, so it has no tag of `type = \"semver\"`"));
        return None;
    };
    let pattern = rule.pattern.as_ref()?;
    Some(Candidate { text: pattern.tag_of(raw, &version), is_latest: version.pre.is_empty() })
}

fn decorated(rule: &Rule, flavor: &Flavor, text: &str) -> String {
    let own = match rule.kind {
        Kind::Pr => Some("pr-"),
        Kind::Sha => Some("sha-"),
        _ => None,
    };
    let prefix = rule.prefix.as_deref().or(own).unwrap_or(&flavor.prefix);
    let suffix = rule.suffix.as_deref().unwrap_or(&flavor.suffix);
    format!("{prefix}{text}{suffix}")
}

fn latest(flavor: &Flavor) -> String {
    let prefix = if flavor.prefix_latest { flavor.prefix.as_str() } else { "" };
    let suffix = if flavor.suffix_latest { flavor.suffix.as_str() } else { "" };
    format!("{prefix}latest{suffix}")
}

fn valid(text: &str) -> std::result::Result<String, String> {
    let tag = tag::sanitised(text);
    match tag::mistake(&tag) {
        None => Ok(tag),
        Some(message) => Err(message),
    }
}

/// The error for a rule that gives an invalid tag.
fn refused(message: &str, index: usize, rule: &Rule) -> Error {
    let pattern = rule.pattern.as_ref().map(|pattern| format!(", pattern = \"{}\"", pattern.as_str()));
    let rule = format!("type = \"{}\"{}", rule.kind.name(), pattern.unwrap_or_default());
    Error::invalid(format!("`tags[{index}]` ({rule}): {message}"))
        .help("set `prefix` of this rule, or `enable = false` where it doesn't apply")
}
