//! Announces effects beyond this machine, each of which may only happen once its intent is on disk.
//!
//! Every host function with such an effect calls [`Effects::announce`] first, and goes on only if that succeeds.

use std::sync::{Arc, OnceLock};

use stagewright_engine::{AttemptOutput, Call, EffectRefused, Failure, FailureKind, Rollout};

use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// The most bytes of an announcement, which is a line for people.
const SHOWN: usize = 200;

/// Announces the effects of one attempt; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    output: AttemptOutput,
    masker: Masker,
    call: Call,
    /// The environment, once an effect was refused because a newer attempt holds it.
    lost: Arc<OnceLock<String>>,
}

impl Effects {
    pub(crate) fn new(output: AttemptOutput, masker: Masker, call: Call) -> Effects {
        Effects { output, masker, call, lost: Arc::default() }
    }

    /// Whether the attempt looks at what an earlier one did, and may not have effects.
    pub(crate) fn is_observing(&self) -> bool {
        matches!(self.call, Call::Observe | Call::Compare)
    }

    /// Announces an effect such as `push local/app:1`. The caller may have the effect only if this succeeds.
    ///
    /// On success the intent is in the journal, on disk. If the engine dies before the effect is known to be complete,
    /// recovery therefore knows that it may have happened, and asks the plugin's `observe` before it runs the stage again.
    pub(crate) async fn announce(&self, what: &str) -> Result<(), CapabilityError> {
        if self.is_observing() {
            let name = if self.call == Call::Compare { "compare" } else { "observe" };
            let message = format!("`{name}` may not have effects: {what}");
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message));
        }
        let mut what = self.masker.text(what);
        if what.len() > SHOWN {
            what.truncate((0..=SHOWN).rev().find(|&at| what.is_char_boundary(at)).unwrap_or(0));
            what.push('…');
        }
        self.output.effect(what).await.map_err(|refused| self.refusal(&refused))
    }

    /// Records how far the attempt's rollout is. It is in the journal, on disk, once this succeeds.
    pub(crate) async fn record_rollout(&self, rollout: Rollout) -> Result<(), CapabilityError> {
        self.output.rollout(rollout).await.map_err(|refused| self.refusal(&refused))
    }

    fn refusal(&self, refused: &EffectRefused) -> CapabilityError {
        match refused {
            EffectRefused::Superseded(environment) => {
                let _ = self.lost.set(environment.clone());
                CapabilityError::new(ErrorCode::Superseded, refused.to_string())
            }
            EffectRefused::Unrecorded => CapabilityError::new(ErrorCode::Internal, refused.to_string()),
        }
    }

    /// The failure of an attempt one of whose effects was refused because it came too late. It replaces whatever the
    /// plugin returned, because the plugin may have ignored the refusal.
    pub(crate) fn superseded_failure(&self) -> Option<Failure> {
        let environment = self.lost.get()?;
        Some(Failure {
            help: Some(format!(
                "see `stagewright env status {environment}` for the run that holds it; start a new run"
            )),
            ..Failure::new(FailureKind::Superseded, EffectRefused::Superseded(environment.clone()).to_string(), false)
        })
    }
}

#[cfg(test)]
mod tests;
