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
mod tests {
    use super::*;
    use crate::testing::TestLog;

    #[tokio::test]
    async fn an_effect_is_told_without_secrets_and_in_a_few_words() {
        let log = TestLog::new();
        log.log.masker().add("hunter22", false);
        let (effects, told) = log.judged_effects(Call::Run, Ok(()));
        effects.announce("POST https://hunter22@x").await.unwrap();
        effects.announce(&"é".repeat(SHOWN)).await.unwrap();
        assert_eq!(told.lock().unwrap()[0], "POST https://***@x");
        assert!(told.lock().unwrap()[1].len() <= SHOWN + "…".len());
        assert_eq!(effects.too_late(), None);
    }

    #[tokio::test]
    async fn looking_changes_nothing() {
        let (effects, told) = TestLog::new().judged_effects(Call::Observe, Ok(()));
        assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::FailedPrecondition);
        assert!(told.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_that_comes_too_late_ends_the_attempt_whatever_the_plugin_makes_of_it() {
        let superseded = EffectRefused::Superseded("production".into());
        let (effects, _) = TestLog::new().judged_effects(Call::Run, Err(superseded));
        effects.announce("push local/app").await.unwrap_err();
        let failure = effects.too_late().unwrap();
        assert_eq!((failure.kind, failure.retryable), (FailureKind::Superseded, false));
        assert!(failure.message.contains("`production`") && failure.help.unwrap().contains("env status production"));

        let (effects, _) = TestLog::new().judged_effects(Call::Run, Err(EffectRefused::Unrecorded));
        assert_eq!(effects.announce("push local/app").await.unwrap_err().code, ErrorCode::Internal);
        assert_eq!(effects.too_late(), None);
    }
}
