//! What a deploy changes, in comparison with the release that serves: for rehearsals, in which nothing is deployed.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use similar::{ChangeTag, TextDiff};
use stagewright_sdk::text::count;
use stagewright_sdk::{Result, context, environment, log};

use crate::target::{ReleaseConfig as _, Target};

/// The part that every release has: its `with` table.
const WITH: &str = "with";
/// The most bytes of all parts that are recorded. Larger parts are recorded by their digests.
const RECORDED: usize = 250 << 10;
/// How many unchanged lines are shown before and after a change.
const AROUND: usize = 2;
/// The most lines of a difference that are shown.
const SHOWN: usize = 100;

/// What the release of this stage consists of: that of its target, and its `with` table.
pub(crate) fn parts<T: Target>(config: &T::Config) -> Result<BTreeMap<String, String>> {
    let mut parts = T::parts(config)?;
    let with: serde_json::Value = serde_json::from_str(&context::config_json())?;
    parts.insert(WITH.to_owned(), serde_json::to_string_pretty(&with)?);
    Ok(parts)
}

/// The parts as they are recorded.
pub(crate) fn bounded(mut parts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let size =
        |parts: &BTreeMap<String, String>| parts.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
    while size(&parts) > RECORDED {
        let Some((_, longest)) = parts.iter_mut().max_by_key(|(_, text)| text.len()) else { break };
        let digest = digest(longest);
        if digest.len() >= longest.len() {
            // Names alone exceed the limit.
            return BTreeMap::new();
        }
        *longest = digest;
    }
    parts
}

/// Logs what a deploy of these parts would change, and says what the attempt would do.
///
/// # Errors
/// If the ledger can't be read.
pub(crate) fn show<T: Target>(config: &T::Config) -> Result<()> {
    let environment = context::environment().unwrap_or_default();
    let would = format!("would deploy {} to {environment}", config.service());
    let say = |what: &str| {
        if !T::HAS_STAND_IN {
            environment::would(what);
        }
    };
    // In case the parts can't be known without something that the rehearsal doesn't do.
    say(&would);
    let new = parts::<T>(config)?;
    let changes = match environment::standing()? {
        None => {
            log::info(format!("nothing is deployed to {environment} so far, as far as the ledger knows"));
            format!("{} new", count(new.len(), "part"))
        }
        Some(standing) => {
            log::info(format!("changes to {} in {environment}:", standing.artifact));
            let changes = Changes::between(&standing.parts, &new);
            changes.lines.iter().for_each(log::info);
            changes.to_string()
        }
    };
    say(&format!("{would}: {changes}"));
    Ok(())
}

/// How two releases differ.
#[derive(Debug, Default)]
struct Changes {
    new: usize,
    changed: usize,
    removed: usize,
    /// For people.
    lines: Vec<String>,
}

impl Changes {
    fn between(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Changes {
        let mut changes = Changes::default();
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            match (old.get(name), new.get(name)) {
                (None, _) => {
                    changes.new += 1;
                    changes.lines.push(format!("+ {name}"));
                }
                (_, None) => {
                    changes.removed += 1;
                    changes.lines.push(format!("- {name}"));
                }
                (Some(old), Some(new)) if old == new || *old == digest(new) => {}
                (Some(old), Some(new)) => {
                    changes.changed += 1;
                    changes.lines.push(format!("~ {name}"));
                    changes.lines.extend(difference(old, new));
                }
            }
        }
        changes
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [(self.changed, "changed"), (self.new, "new"), (self.removed, "removed")];
        let counts = counts.into_iter().filter(|(number, _)| *number > 0);
        let counts: Vec<String> = counts.map(|(number, what)| format!("{number} {what}")).collect();
        match counts.is_empty() {
            true => f.write_str("no change"),
            false => f.write_str(&counts.join(", ")),
        }
    }
}

/// The lines that differ, with those around them.
fn difference(old: &str, new: &str) -> Vec<String> {
    if old.starts_with(DIGEST) {
        return vec!["  (too large to be recorded, so its lines can't be compared)".to_owned()];
    }
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (index, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if index > 0 {
            lines.push("    …".to_owned());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            lines.push(format!("  {sign} {}", change.value().trim_end_matches('\n')));
        }
    }
    let rest = lines.len().saturating_sub(SHOWN);
    if rest > 0 {
        lines.truncate(SHOWN);
        lines.push(format!("  … and {}", count(rest, "more line")));
    }
    lines
}

const DIGEST: &str = "sha256:";

fn digest(text: &str) -> String {
    let digits = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{DIGEST}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<const N: usize>(parts: [(&str, &str); N]) -> BTreeMap<String, String> {
        parts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn a_difference_has_the_changed_lines_and_those_around_them() {
        let old =
            parts([("deployment/web", "a\nb\nc\nd\nreplicas: 2\ne\n"), ("service/web", "x\n"), ("job/old", "y\n")]);
        let new =
            parts([("deployment/web", "a\nb\nc\nd\nreplicas: 3\ne\n"), ("service/web", "x\n"), ("job/new", "y\n")]);
        let changes = Changes::between(&old, &new);
        let expected = [
            "~ deployment/web",
            "    c",
            "    d",
            "  - replicas: 2",
            "  + replicas: 3",
            "    e",
            "+ job/new",
            "- job/old",
        ];
        assert_eq!(changes.lines, expected);
        assert_eq!(changes.to_string(), "1 changed, 1 new, 1 removed");
        assert_eq!(Changes::between(&new, &new).to_string(), "no change");
    }

    #[test]
    fn large_parts_are_recorded_by_their_digests_and_still_compared() {
        let long = "line\n".repeat(60_000);
        let recorded = bounded(parts([("big", &long), ("small", "x")]));
        assert_eq!((recorded["big"].len(), recorded["small"].as_str()), (71, "x"));
        let same = Changes::between(&recorded, &parts([("big", &long), ("small", "x")]));
        assert!(same.lines.is_empty(), "{same:?}");
        let other = Changes::between(&recorded, &parts([("big", "short"), ("small", "x")]));
        assert_eq!(other.lines, ["~ big", "  (too large to be recorded, so its lines can't be compared)"]);
        assert!(difference(&"a\n".repeat(300), &"b\n".repeat(300)).len() <= SHOWN + 1);
    }
}
