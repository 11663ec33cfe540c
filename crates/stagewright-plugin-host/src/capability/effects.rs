//! Effects beyond this machine: none happens before the engine has its intent on disk.
//!
//! Every host function with such an effect calls [`Effects::announce`] first, and goes on only when that allows it.

use std::sync::{Arc, OnceLock};

use stagewright_engine::{AttemptOutput, Call, EffectRefused, Failure, FailureKind};

use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// What is announced is for people: one line of at most so many bytes.
const SHOWN: usize = 200;

/// Announces the effects of one attempt; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    output: AttemptOutput,
    masker: Masker,
    call: Call,
    /// The environment that another attempt has taken over.
    lost: Arc<OnceLock<String>>,
}

impl Effects {
    pub(crate) fn new(output: AttemptOutput, masker: Masker, call: Call) -> Effects {
        Effects { output, masker, call, lost: Arc::default() }
    }

    /// To be called before each effect, as in `push local/app:1`. The effect may follow only when this allows it.
    pub(crate) async fn announce(&self, what: &str) -> Result<(), CapabilityError> {
        if self.call == Call::Observe {
            let message = format!("`observe` may only look, and not {what}");
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message));
        }
        let mut what = self.masker.text(what);
        if what.len() > SHOWN {
            what.truncate((0..=SHOWN).rev().find(|&at| what.is_char_boundary(at)).unwrap_or(0));
            what.push('…');
        }
        self.output.effect(what).await.map_err(|refused| match &refused {
            EffectRefused::Superseded(environment) => {
                let _ = self.lost.set(environment.clone());
                CapabilityError::new(ErrorCode::Other("superseded".to_owned()), refused.to_string())
            }
            EffectRefused::Unrecorded => CapabilityError::new(ErrorCode::Internal, refused.to_string()),
        })
    }

    /// How the attempt ended, whatever its plugin made of it, when an effect was refused because it came too late.
    pub(crate) fn too_late(&self) -> Option<Failure> {
        let environment = self.lost.get()?;
        Some(Failure {
            kind: FailureKind::Superseded,
            message: EffectRefused::Superseded(environment.clone()).to_string(),
            causes: Vec::new(),
            help: Some(format!("`stagewright env status {environment}` says who has it; start a new run")),
            retryable: false,
        })
    }
}

#[cfg(test)]
mod tests;
