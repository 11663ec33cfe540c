//! What a deploy writes into the descriptions of the versions and of the alias: which run it belongs to, and how far it is.

use std::fmt;

use stagewright_sdk::{context, environment};

const PREFIX: &str = "stagewright";

/// A description as in `stagewright fence=7 run=01J… digest=sha256:… version=12 phase=begun`. Lambda allows 256 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) fence: Option<u64>,
    pub(crate) run: String,
    /// Of the code.
    pub(crate) digest: String,
    /// Only on an alias.
    pub(crate) rollout: Option<(String, Phase)>,
}

/// How far the deploy of a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The version may have a share of the requests.
    Begun,
    /// As `Begun`; the alias didn't exist before.
    First,
    /// The version serves.
    Finished,
    /// The version before it serves.
    Undone,
}

impl Phase {
    const NAMES: [(Phase, &str); 4] =
        [(Phase::Begun, "begun"), (Phase::First, "first"), (Phase::Finished, "finished"), (Phase::Undone, "undone")];

    fn parse(text: &str) -> Option<Phase> {
        Phase::NAMES.iter().find(|(_, name)| *name == text).map(|(phase, _)| *phase)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Phase::NAMES.iter().find(|(phase, _)| phase == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl Mark {
    /// Of the deploy of code by this run.
    pub(crate) fn own(digest: &str) -> Mark {
        Mark { fence: environment::fence(), run: context::run_id(), digest: digest.to_owned(), rollout: None }
    }

    /// On an alias, for the deploy of a version.
    pub(crate) fn at(self, version: &str, phase: Phase) -> Mark {
        Mark { rollout: Some((version.to_owned(), phase)), ..self }
    }

    pub(crate) fn is_of_this_run(&self) -> bool {
        self.run == context::run_id()
    }

    /// None for a description that isn't of a deploy.
    pub(crate) fn parse(description: &str) -> Option<Mark> {
        let mut words = description.split(' ');
        words.next().filter(|word| *word == PREFIX)?;
        let (mut mark, mut version, mut phase) = (Mark::default(), None, None);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "fence" => mark.fence = value.parse().ok(),
                "run" => mark.run = value.to_owned(),
                "digest" => mark.digest = value.to_owned(),
                "version" => version = Some(value.to_owned()),
                "phase" => phase = Phase::parse(value),
                _ => {}
            }
        }
        mark.rollout = version.zip(phase);
        Some(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        if let Some(fence) = self.fence {
            write!(f, " fence={fence}")?;
        }
        write!(f, " run={} digest={}", self.run, self.digest)?;
        match &self.rollout {
            Some((version, phase)) => write!(f, " version={version} phase={phase}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let of_version = Mark { fence: Some(7), run: "r1".into(), digest: "sha256:00".into(), rollout: None };
        for mark in [of_version.clone(), of_version.clone().at("12", Phase::First), Mark { fence: None, ..of_version }]
        {
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
    }

    #[test]
    fn other_descriptions_are_no_marks() {
        for description in ["", "Orders of the shop", "stagewrightfence=7"] {
            assert_eq!(Mark::parse(description), None, "{description}");
        }
    }
}
