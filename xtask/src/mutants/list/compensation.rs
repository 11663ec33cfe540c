//! Compensation, what a resume runs again, and releases.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the first stage to end is compensated first",
        file: "scheduler/compensation.rs",
        search: "targets.into_iter().rev().map",
        replace: "targets.into_iter().map",
    },
    Mutant {
        name: "a failed stage is compensated",
        file: "scheduler/compensation.rs",
        search: "let did_it = matches!(state.status, StageStatus::Ended { outcome: Outcome::Succeeded, .. });",
        replace: "let did_it = matches!(state.status, StageStatus::Ended { .. });",
    },
    Mutant {
        name: "nothing is compensated",
        file: "scheduler/compensation.rs",
        search: "        if !outcome.is_failure() {\n            return;",
        replace: "        if !outcome.is_failure() || !self.plan.stage(because).compensate.is_empty() {\n            return;",
    },
    Mutant {
        name: "a success compensates something",
        file: "scheduler/compensation.rs",
        search: "        if !outcome.is_failure() {",
        replace: "        if !outcome.is_failure() && outcome != Outcome::Succeeded {",
    },
    Mutant {
        name: "finally stages come before the compensation",
        file: "scheduler.rs",
        search: "self.open > 0 && !self.is_compensating() {",
        replace: "self.open > 0 {",
    },
    Mutant {
        name: "a run ends before its compensation",
        file: "scheduler.rs",
        search: "let is_over = self.open == 0 && !self.is_compensating();",
        replace: "let is_over = self.open == 0;",
    },
    Mutant {
        name: "a killed run begins a compensation",
        file: "scheduler.rs",
        search: "if self.state.cancel != Some(Interrupt::Kill) || self.undoing.is_some() {",
        replace: "if self.state.cancel != Some(Interrupt::Kill) || self.undoing.is_none() {",
    },
    Mutant {
        name: "a graceful cancel stops a compensation",
        file: "scheduler/cancel.rs",
        search: "if how == Interrupt::Kill || self.undoing != Some(stage) {",
        replace: "if how == Interrupt::Kill || how == Interrupt::Graceful {",
    },
    Mutant {
        name: "a resume leaves an interrupted compensation as it is",
        file: "scheduler/resume.rs",
        search: "UndoState::Started => true,",
        replace: "UndoState::Started => false,",
    },
    Mutant {
        name: "a failed compensation succeeds",
        file: "scheduler/compensation.rs",
        search: "AttemptEnd::Unsuccessful(outcome, failure) => (outcome, Some(failure)),",
        replace: "AttemptEnd::Unsuccessful(_, failure) => (Outcome::Succeeded, Some(failure)),",
    },
    Mutant {
        name: "a stage named on resume is not run again",
        file: "scheduler/resume.rs",
        search: " || from.contains(&index);",
        replace: " || from.contains(&StageIndex(u32::MAX));",
    },
    Mutant {
        name: "a stage that depends on one that runs again keeps its result",
        file: "scheduler/resume.rs",
        search: "undone[index.get()] = must_repeat && succeeded;",
        replace: "undone[index.get()] = false;",
    },
    Mutant {
        name: "a stage that was left out runs after a resume",
        file: "scheduler/resume.rs",
        search: "let builds_on_undone = !left_out && ",
        replace: "let builds_on_undone = (!left_out || true) && ",
    },
    Mutant {
        name: "a release is confirmed before its dependents succeed",
        file: "scheduler/releases.rs",
        search: "if proven { self",
        replace: "if proven || true { self",
    },
    Mutant {
        name: "a release is never confirmed",
        file: "scheduler/end.rs",
        search: "        self.confirm_releases(index)?;\n",
        replace: "",
    },
];
