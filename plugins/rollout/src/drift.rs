//! Changes to a release that weren't made by a deploy.
//!
//! A deploy would overwrite them, and what was lost would be seen too late. So it asks first.

use sha2::{Digest as _, Sha256};
use stagewright_sdk::environment::Release;
use stagewright_sdk::gate::{self, Approval};
use stagewright_sdk::text::count;
use stagewright_sdk::{LiveDifference, Result, Suspension, context, environment, log};

use crate::digest_of;
use crate::target::{ReleaseConfig, Serving, Target};

/// The field of the approval that says which changes are overwritten.
const FIELD: &str = "overwrite";
/// The most differences that a message lists.
const SHOWN: usize = 10;

/// How what is in place differs from the release of `config`, which the ledger has as current.
///
/// # Errors
/// If the target can't be asked.
pub(crate) fn compare<T: Target>(config: &T::Config) -> Result<Vec<LiveDifference>> {
    let target = T::open(config, environment::restored()?.as_ref())?;
    let Some(serving) = target.serving()? else {
        return Ok(vec![difference("release", Some(target.artifact()), None)]);
    };
    if !is_same(&target, &serving) {
        return Ok(vec![difference("release", Some(target.artifact()), Some(&serving.artifact))]);
    }
    let mut found = target.drift(&serving)?;
    if serving.has_failed {
        found.push(difference("state", Some("running"), Some("exited")));
    }
    Ok(found)
}

/// The request for approval of a deploy that would overwrite what others have changed; none if there is nothing of that
/// kind, or if exactly this was approved.
///
/// # Errors
/// If the gate can't be opened.
pub(crate) fn request_approval<T: Target>(config: &T::Config) -> Result<Option<Suspension>> {
    let changed = match overwritten::<T>(config, environment::current()?) {
        Ok(changed) => changed,
        Err(error) => {
            log::warn(format!("can't tell whether anyone has changed the release that serves: {error}"));
            return Ok(None);
        }
    };
    if changed.is_empty() {
        return Ok(None);
    }
    let mark = mark(&changed)?;
    if let Some(decision) = gate::decision()?.filter(|decision| decision.approved)
        && (decision.rehearsed || decision.fields.get(FIELD).is_some_and(|field| *field == mark))
    {
        changed.iter().for_each(|difference| log::warn(format!("overwriting {}", described(difference))));
        return Ok(None);
    }
    let environment = context::environment().unwrap_or_default();
    changed.iter().for_each(|difference| log::warn(format!("changed by someone else: {}", described(difference))));
    let lines: String = changed.iter().take(SHOWN).map(|difference| format!("\n{}", described(difference))).collect();
    let more = changed.len().saturating_sub(SHOWN);
    let rest = if more == 0 { String::new() } else { format!("\nand {more} more") };
    // The first line stands for the message where there is room for one only.
    let message = format!(
        "{environment} has {} that no deploy has made. To overwrite what was changed, approve with `--field {FIELD}={mark}`{lines}{rest}",
        count(changed.len(), "change")
    );
    Approval::new(message).choice(FIELD, &[mark], "stands for exactly these changes", true).open().map(Some)
}

/// In a rehearsal, logs what others have changed and a deploy would overwrite. Where the rehearsal may not ask the target, it
/// ends there.
///
/// # Errors
/// If the ledger can't be read.
pub(crate) fn report<T: Target>(config: &T::Config) -> Result<()> {
    match overwritten::<T>(config, environment::standing()?) {
        Ok(changed) => {
            changed
                .iter()
                .for_each(|difference| log::warn(format!("changed by someone else: {}", described(difference))));
        }
        Err(error) => log::warn(format!("can't tell whether anyone has changed the release that serves: {error}")),
    }
    Ok(())
}

/// Whether it was approved that this deploy overwrites what others have changed. A target that would refuse to do so doesn't
/// then.
///
/// # Errors
/// When the host's record of the approval can't be read.
pub fn is_overwriting_approved() -> Result<bool> {
    Ok(gate::decision()?.is_some_and(|decision| decision.approved && decision.fields.contains_key(FIELD)))
}

/// What others have changed of the current release, and a deploy would overwrite. What is missing isn't overwritten, and what
/// has exited wasn't changed.
fn overwritten<T: Target>(config: &T::Config, current: Option<Release>) -> Result<Vec<LiveDifference>> {
    let Some(current) = current else { return Ok(Vec::new()) };
    // One of another plugin, or of another version of this one.
    let Ok(earlier) = serde_json::from_value::<T::Config>(current.config.clone()) else { return Ok(Vec::new()) };
    if earlier.service() != config.service() {
        return Ok(Vec::new());
    }
    let target = T::open(&earlier, Some(&current))?;
    let Some(serving) = target.serving()? else { return Ok(Vec::new()) };
    // The release of a deploy whose end the ledger missed. The tokens decide about that.
    if serving.fence.is_some_and(|fence| fence > current.fence) || serving.run == Some(context::run_id()) {
        return Ok(Vec::new());
    }
    if !is_same(&target, &serving) {
        return Ok(vec![difference("release", Some(target.artifact()), Some(&serving.artifact))]);
    }
    let mut changed = target.drift(&serving)?;
    changed.retain(|difference| difference.found.is_some());
    Ok(changed)
}

fn is_same(target: &impl Target, serving: &Serving) -> bool {
    digest_of(&serving.artifact) == digest_of(target.artifact())
}

fn difference(what: &str, expected: Option<&str>, found: Option<&str>) -> LiveDifference {
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    LiveDifference { what: what.to_owned(), expected: owned(expected), found: owned(found) }
}

fn described(difference: &LiveDifference) -> String {
    let LiveDifference { what, expected, found } = difference;
    match (expected, found) {
        (Some(expected), Some(found)) => format!("{what}: {found} instead of {expected}"),
        (None, Some(found)) => format!("{what}: {found}, which the release doesn't have"),
        (_, None) => format!("{what}: missing"),
    }
}

/// A short text that stands for these differences and no others, so that an approval can't be used for later ones.
fn mark(differences: &[LiveDifference]) -> Result<String> {
    let digest = Sha256::digest(serde_json::to_vec(differences)?);
    Ok(digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}
