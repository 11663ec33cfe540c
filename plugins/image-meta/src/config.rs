//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, schemars};

use crate::pattern::Pattern;
use crate::tag;

/// Which tags and labels an image gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "tags": [{ "type": "branch" }, { "type": "pr" }, { "type": "semver", "pattern": "{{version}}" }, { "type": "semver", "pattern": "{{major}}.{{minor}}" }] }))]
pub struct Config {
    /// The rules, each of which gives one tag or none. Default: the types `branch`, `tag` and `pr`.
    #[serde(default = "default_rules")]
    pub(crate) tags: Vec<Rule>,
    /// What applies to all tags.
    #[serde(default)]
    pub(crate) flavor: Flavor,
    /// Repositories for the output `references`, without a tag. Capital letters become small ones.
    #[serde(default)]
    pub(crate) images: Vec<String>,
    /// The label `title`. Default: the last part of the repository's address.
    pub(crate) title: Option<String>,
    /// The label `description`.
    pub(crate) description: Option<String>,
    /// The label `licenses`: an SPDX expression, as in `MIT OR Apache-2.0`.
    pub(crate) licenses: Option<String>,
    /// The label `url`. Default: the repository's address.
    pub(crate) url: Option<String>,
    /// Further labels with their whole names. They take precedence over those that the stage makes.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// A rule for a tag.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Rule {
    /// What the tag is made of.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// `semver`: the tag, with `{{version}}`, `{{major}}`, `{{minor}}`, `{{patch}}` and `{{raw}}`.
    pub(crate) pattern: Option<Pattern>,
    /// `raw`: the tag. `semver`: the version, instead of that of the git tag.
    pub(crate) value: Option<String>,
    /// `sha`: seven digits of the commit, or all of them.
    pub(crate) format: Option<ShaFormat>,
    /// Whether the rule counts. Default: `true`.
    #[serde(default = "enabled")]
    pub(crate) enable: bool,
    /// Text before the tag, instead of that of `flavor`. Default for `pr`: `pr-`; for `sha`: `sha-`.
    pub(crate) prefix: Option<String>,
    /// Text after the tag, instead of that of `flavor`.
    pub(crate) suffix: Option<String>,
}

impl Rule {
    fn of(kind: Kind) -> Rule {
        Rule { kind, pattern: None, value: None, format: None, enable: true, prefix: None, suffix: None }
    }
}

/// What a tag is made of. The order is that of the tags: the first one is the image's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The version in the name of the git tag, as in `v1.2.3`.
    Semver,
    /// The branch, for a run that is for one.
    Branch,
    /// The git tag, for a run that is for one.
    Tag,
    /// The number of the pull request, for a run that is for one: `stagewright run --event pull-request --pull-request 7`.
    Pr,
    /// The text in `value`.
    Raw,
    /// The commit.
    Sha,
}

impl Kind {
    /// The name in the pipeline file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Semver => "semver",
            Kind::Branch => "branch",
            Kind::Tag => "tag",
            Kind::Pr => "pr",
            Kind::Raw => "raw",
            Kind::Sha => "sha",
        }
    }

    /// Its place among the tags. Branches, git tags and pull requests exclude each other, and keep the order of the rules.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Kind::Semver => 0,
            Kind::Branch | Kind::Tag | Kind::Pr => 1,
            Kind::Raw => 2,
            Kind::Sha => 3,
        }
    }
}

/// How much of the commit's id the tag has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ShaFormat {
    #[default]
    Short,
    Long,
}

/// What applies to all tags.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Flavor {
    /// Whether the image is also `latest`. `auto`: if its version comes from a git tag and isn't a pre-release.
    pub(crate) latest: Latest,
    /// Text before each tag.
    pub(crate) prefix: String,
    /// Text after each tag.
    pub(crate) suffix: String,
    /// Whether `prefix` is also before `latest`.
    pub(crate) prefix_latest: bool,
    /// Whether `suffix` is also after `latest`.
    pub(crate) suffix_latest: bool,
}

/// The key `latest`: `"auto"`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "LatestForm")]
pub(crate) enum Latest {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"auto\", true or false")]
enum LatestForm {
    Flag(bool),
    Text(String),
}

impl TryFrom<LatestForm> for Latest {
    type Error = String;

    fn try_from(form: LatestForm) -> Result<Latest, String> {
        match form {
            LatestForm::Flag(true) => Ok(Latest::Always),
            LatestForm::Flag(false) => Ok(Latest::Never),
            LatestForm::Text(text) if text == "auto" => Ok(Latest::Auto),
            LatestForm::Text(text) => Err(format!("invalid value `{text}`; write \"auto\", true or false")),
        }
    }
}

fn default_rules() -> Vec<Rule> {
    [Kind::Branch, Kind::Tag, Kind::Pr].map(Rule::of).into()
}

fn enabled() -> bool {
    true
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, rule) in config.tags.iter().enumerate() {
        let key = |name: &str| format!("tags[{index}].{name}");
        let kind = rule.kind.name();
        let keys = [
            ("pattern", rule.pattern.is_some(), rule.kind == Kind::Semver),
            ("value", rule.value.is_some(), matches!(rule.kind, Kind::Semver | Kind::Raw)),
            ("format", rule.format.is_some(), rule.kind == Kind::Sha),
        ];
        for (name, ..) in keys.iter().filter(|(_, is_set, is_allowed)| *is_set && !is_allowed) {
            let message = format!("doesn't apply to `type = \"{kind}\"`");
            found.push(Problem::at(key(name), message).help("remove it"));
        }
        if rule.kind == Kind::Semver && rule.pattern.is_none() {
            let help = "add the tag, as in pattern = \"{{version}}\"";
            found.push(Problem::at(key("pattern"), "is missing for `type = \"semver\"`").help(help));
        }
        match &rule.value {
            None if rule.kind == Kind::Raw => {
                found.push(Problem::at(key("value"), "is missing for `type = \"raw\"`").help("add the tag"));
            }
            // An empty value is that of an expression, for a rule that doesn't count this time.
            Some(value) if rule.kind == Kind::Raw && !value.is_empty() => {
                found.extend(tag::mistake(&tag::sanitised(value)).map(|message| Problem::at(key("value"), message)));
            }
            _ => {}
        }
    }
    found
}
