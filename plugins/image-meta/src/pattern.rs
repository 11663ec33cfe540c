//! The pattern of a version's tag, as in `{{major}}.{{minor}}`.

use semver::Version;
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, schemars};

/// A pattern, and the text that it was written as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(with = "String")]
#[serde(try_from = "String")]
pub(crate) struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Raw,
    Version,
    Major,
    Minor,
    Patch,
}

impl Field {
    fn parse(name: &str) -> Result<Field, String> {
        match name {
            "raw" => Ok(Field::Raw),
            "version" => Ok(Field::Version),
            "major" => Ok(Field::Major),
            "minor" => Ok(Field::Minor),
            "patch" => Ok(Field::Patch),
            _ => Err(format!(
                "unknown `{{{{{name}}}}}` in a pattern; there are {{{{version}}}}, {{{{major}}}}, {{{{minor}}}}, \
                 {{{{patch}}}} and {{{{raw}}}}"
            )),
        }
    }

    /// `raw` is the name of the git tag.
    fn of(self, raw: &str, version: &Version) -> String {
        match self {
            Field::Raw => raw.to_owned(),
            // Without the metadata behind `+`, which a tag can't have.
            Field::Version => Version { build: semver::BuildMetadata::EMPTY, ..version.clone() }.to_string(),
            Field::Major => version.major.to_string(),
            Field::Minor => version.minor.to_string(),
            Field::Patch => version.patch.to_string(),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        let (mut parts, mut rest) = (Vec::new(), text.as_str());
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) =
                after.split_once("}}").ok_or_else(|| format!("`{text}` has a `{{{{` without `}}}}`"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(Field::parse(name.trim())?));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        if parts.is_empty() {
            return Err("a pattern must not be empty; write \"{{version}}\"".to_owned());
        }
        Ok(Pattern { text, parts })
    }
}

impl Pattern {
    /// The text of the pattern.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The tag of a version. A pre-release isn't `1.2` or `1`, which people take for stable: it is always its whole version, or
    /// the name of the git tag if the pattern is that.
    pub(crate) fn tag_of(&self, raw: &str, version: &Version) -> String {
        let is_raw = self.parts == [Part::Field(Field::Raw)];
        if !version.pre.is_empty() && !is_raw {
            return Field::Version.of(raw, version);
        }
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => field.of(raw, version),
        });
        texts.collect()
    }
}
