//! Unresolved attempts, intents and stops: what prevents a deploy from happening twice.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "an unknown observation counts as not started",
        file: "scheduler/recovery.rs",
        search: "AttemptEnd::Observed(Observation::Unknown(why)) => why,",
        replace: "AttemptEnd::Observed(Observation::Unknown(_)) => {\n                return self.apply_finding(stage, attempt, Finding::NotStarted, None, report.outputs);\n            }",
    },
    Mutant {
        name: "a failed observation counts as not started",
        file: "scheduler/recovery.rs",
        search: "AttemptEnd::Unsuccessful(_, failure) => failure.message,",
        replace: "AttemptEnd::Unsuccessful(..) => {\n                return self.apply_finding(stage, attempt, Finding::NotStarted, None, report.outputs);\n            }",
    },
    Mutant {
        name: "an effect found in place counts as not started",
        file: "scheduler/recovery.rs",
        search: "return self.apply_finding(stage, attempt, finding, None, report.outputs);",
        replace: "return self.apply_finding(stage, attempt, Finding::NotStarted, None, report.outputs);",
    },
    Mutant {
        name: "the finding of a person counts as not started",
        file: "scheduler/recovery.rs",
        search: "self.apply_finding(stage, attempt, finding, Some(decision.by), BTreeMap::new())",
        replace: "self.apply_finding(stage, attempt, Finding::NotStarted, Some(decision.by), BTreeMap::new())",
    },
    Mutant {
        name: "a broken effect counts as success",
        file: "scheduler/recovery.rs",
        search: "Finding::Failed(detail) => Some((Outcome::Failed,",
        replace: "Finding::Failed(detail) => Some((Outcome::Succeeded,",
    },
    Mutant {
        name: "an effect in progress is not observed again",
        file: "scheduler/recovery.rs",
        search: "self.response.actions.push(Action::Wake { stage, attempt, after: OBSERVE_INTERVAL });",
        replace: "let _ = OBSERVE_INTERVAL;",
    },
    Mutant {
        name: "an answer is kept for the next gate",
        file: "state.rs",
        search: "self.step(*stage, event)?.decisions.clear();",
        replace: "self.step(*stage, event)?;",
    },
    Mutant {
        name: "an unresolved attempt is forgotten before a retry",
        file: "scheduler/start.rs",
        search: "StageStatus::Pending | StageStatus::Backoff(_) => state.unresolved_attempt,",
        replace: "StageStatus::Pending => state.unresolved_attempt,",
    },
    Mutant {
        name: "an unresolved attempt is forgotten on resume",
        file: "state.rs",
        search: "let StageState { attempts, unresolved_attempt, fence, attempt_fence, .. } = *state;",
        replace: "let StageState { attempts, fence, attempt_fence, .. } = *state; let unresolved_attempt = None;",
    },
    Mutant {
        name: "an unresolved attempt is not observed after a resume",
        file: "scheduler/start.rs",
        search: "StageStatus::Pending | StageStatus::Backoff(_) => state.unresolved_attempt,",
        replace: "StageStatus::Backoff(_) => state.unresolved_attempt,",
    },
    Mutant {
        name: "every end of an attempt is certain",
        file: "state.rs",
        search: "if has_reported && is_certain(*outcome, failure.as_ref()) {",
        replace: "if has_reported && (is_certain(*outcome, failure.as_ref()) || true) {",
    },
    Mutant {
        name: "the outcome of a trapped plugin is certain",
        file: "event/outcome.rs",
        search: "            FailureKind::Trapped\n            | FailureKind::OutOfMemory",
        replace: "            FailureKind::Trapped => false,\n            FailureKind::OutOfMemory",
    },
    Mutant {
        name: "an announced effect leaves no unresolved attempt",
        file: "state.rs",
        search: "state.unresolved_attempt = Some(*attempt);\n                state.acted = true;",
        replace: "state.acted = true;",
    },
    Mutant {
        name: "an interrupted compensation leaves no unresolved attempt",
        file: "state.rs",
        search: "state.fence = fence.or(state.fence);\n                        state.unresolved_attempt = Some(*attempt);",
        replace: "let _ = attempt;\n                        state.fence = fence.or(state.fence);",
    },
    Mutant {
        name: "an intent need not be durable",
        file: "drive/message.rs",
        search: "self.record(vec![intent])?;",
        replace: "self.uncommitted.push(intent);",
    },
    Mutant {
        name: "the start of a deploy need not be durable",
        file: "drive.rs",
        search: "EventKind::AttemptStarted { stage, .. } | EventKind::AttemptEnded { stage, .. } => self.is_external(*stage),",
        replace: "EventKind::AttemptStarted { .. } => false,\n            EventKind::AttemptEnded { stage, .. } => self.is_external(*stage),",
    },
    Mutant {
        name: "an attempt under a stale fence is allowed its effect",
        file: "drive/message.rs",
        search: "Ok(if holds { Ok(()) } else { Err(EffectRefused::Superseded(environment)) })",
        replace: "Ok(if holds || !environment.is_empty() { Ok(()) } else { Err(EffectRefused::Superseded(environment)) })",
    },
    Mutant {
        name: "an attempt that has ended is allowed its effect",
        file: "drive/message.rs",
        search: "let running = self.interrupts.get(&stage).filter(|running| running.launch == launch);",
        replace: "let running = self.interrupts.get(&stage);",
    },
    Mutant {
        name: "a plugin that ignores a graceful stop is never killed",
        file: "drive.rs",
        search: "self.interrupt(stage, Interrupt::Kill);\n                Ok(())",
        replace: "Ok(())",
    },
    Mutant {
        name: "the engine waits for a plugin that ignores a kill",
        file: "drive.rs",
        search: "                running.task.abort();\n                self.end(stage, running.attempt, abandoned())",
        replace: "                let _ = abandoned();\n                Ok(())",
    },
];
