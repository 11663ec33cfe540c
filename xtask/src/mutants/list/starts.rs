//! What starts, how often, and how it concludes.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one retry too many",
        file: "scheduler/retry.rs",
        search: "tries <= retry.max &&",
        replace: "tries <= retry.max + 1 &&",
    },
    Mutant {
        name: "one retry too few",
        file: "scheduler/retry.rs",
        search: "tries <= retry.max &&",
        replace: "tries < retry.max &&",
    },
    Mutant {
        name: "every cause is retried",
        file: "scheduler/retry.rs",
        search: "&& retry.on.contains(&cause);",
        replace: "&& (retry.on.contains(&cause) || true);",
    },
    Mutant {
        name: "attempts before a resume count as retries",
        file: "scheduler/retry.rs",
        search: "attempt - self.state.stage(index).attempts_before",
        replace: "attempt.max(self.state.stage(index).attempts_before)",
    },
    Mutant {
        name: "a denied attempt is tried again",
        file: "scheduler/retry.rs",
        search: "            | FailureKind::Denied\n",
        replace: "",
    },
    Mutant {
        name: "a retry does not wait",
        file: "scheduler/retry.rs",
        search: ".then(|| backoff(retry, tries))",
        replace: ".then(|| backoff(retry, tries) * 0)",
    },
    Mutant {
        name: "a retry waits as long as the one after it",
        file: "scheduler/retry.rs",
        search: "checked_pow(tries - 1)",
        replace: "checked_pow(tries)",
    },
    Mutant {
        name: "a cancelled run tries again",
        file: "scheduler/retry.rs",
        search: "(may && wanted && self.reason_to_stop(index).is_none())",
        replace: "(may && wanted)",
    },
    Mutant {
        name: "max-parallel is ignored",
        file: "scheduler/start.rs",
        search: "running >= max as usize",
        replace: "running >= max as usize && false",
    },
    Mutant {
        name: "one cell more than max-parallel",
        file: "scheduler/start.rs",
        search: "running >= max as usize",
        replace: "running > max as usize",
    },
    Mutant {
        name: "one attempt more than there are slots",
        file: "scheduler/start.rs",
        search: "self.running.len() + self.claiming.len() < self.jobs",
        replace: "self.running.len() + self.claiming.len() <= self.jobs",
    },
    Mutant {
        name: "a failed need does not block",
        file: "scheduler/start.rs",
        search: "if !own_say && let Some(reason) = self.blocking_need(index) {",
        replace: "if false && let Some(reason) = self.blocking_need(index) {",
    },
    Mutant {
        name: "a stage runs though its condition is false",
        file: "scheduler/start.rs",
        search: "            Ok(true) => {",
        replace: "            Ok(true | false) => {",
    },
    Mutant {
        name: "a cancelled run begins main stages",
        file: "scheduler/start.rs",
        search: "(needs.cancelled && !own_say && stage.kind == StageKind::Main)",
        replace: "(needs.cancelled && !own_say && stage.kind == StageKind::Main && false)",
    },
    Mutant {
        name: "a killed run runs its finally stages",
        file: "scheduler/start.rs",
        search: "if self.state.cancel == Some(Interrupt::Kill) || (needs",
        replace: "if (needs",
    },
    Mutant {
        name: "a failure is not seen behind a skipped stage",
        file: "scheduler/start.rs",
        search: "conclusion.is_some_and(is_failure) || self.upstream_failed[need.get()]\n            })",
        replace: "conclusion.is_some_and(is_failure)\n            })",
    },
    Mutant {
        name: "answers are not handed to the attempt",
        file: "scheduler/start.rs",
        search: "resumption: (!state.resumption.is_empty()).then",
        replace: "resumption: (state.resumption.len() > 99).then",
    },
    Mutant {
        name: "a rejected run succeeds",
        file: "scheduler/start.rs",
        search: "Outcome::Rejected if worst == Outcome::Succeeded => worst = Outcome::Rejected,",
        replace: "",
    },
    Mutant {
        name: "a cancelled run succeeds",
        file: "scheduler/start.rs",
        search: "Outcome::Cancelled => worst = Outcome::Cancelled,",
        replace: "",
    },
    Mutant {
        name: "fail-fast does nothing",
        file: "scheduler.rs",
        search: "if is_failure(conclusion) && plan.stage(index).matrix",
        replace: "if false && plan.stage(index).matrix",
    },
    Mutant {
        name: "fail-fast lets running cells go on",
        file: "scheduler/cancel.rs",
        search: "let how = Interrupt::Graceful;\n                    self.response.actions.push(Action::Interrupt { stage: sibling, how });",
        replace: "",
    },
    Mutant {
        name: "a graceful cancel stops nothing that runs",
        file: "scheduler/cancel.rs",
        search: "if how == Interrupt::Kill || self.undoing != Some(stage) {",
        replace: "if how == Interrupt::Kill {",
    },
    Mutant {
        name: "a cancelled run leaves its gates open",
        file: "scheduler/cancel.rs",
        search: "Status::Waiting(attempt) | Status::Approved(attempt) => {\n                    self.cancel_at_gate(index, attempt, CANCELLED)?;",
        replace: "Status::Approved(attempt) => {\n                    self.cancel_at_gate(index, attempt, CANCELLED)?;",
    },
    Mutant {
        name: "finally stages come before the main stages end",
        file: "scheduler.rs",
        search: "let is_due = plan.stage(dependent).kind == StageKind::Main || self.finally_resolved;",
        replace: "let is_due = true;",
    },
    Mutant {
        name: "a cancelled run stops before its finally stages",
        file: "scheduler.rs",
        search: "if self.unblocked.is_empty() && before == (self.open, self.undo_queue.len()) {",
        replace: "let _ = before;\n            if self.unblocked.is_empty() {",
    },
    Mutant {
        name: "continue-on-error does nothing",
        file: "scheduler.rs",
        search: "_ if is_failure(outcome) && self.plan.stage(stage).continue_on_error => Outcome::Succeeded,",
        replace: "",
    },
    Mutant {
        name: "a resumed run is still cancelled",
        file: "state.rs",
        search: "        self.cancel = None;\n",
        replace: "",
    },
    Mutant {
        name: "continue-on-error passes over an interrupted deploy",
        file: "scheduler/resume.rs",
        search: "let conclusion = if broke_off { outcome } else",
        replace: "let conclusion = if broke_off && false { outcome } else",
    },
];
