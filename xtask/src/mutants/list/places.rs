//! Environments, freezes and concurrency groups.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a freeze is ignored",
        file: "scheduler/start.rs",
        search: "let override_freeze = self.overrides_freeze(index) || self.has_acted_on_environment(index);",
        replace: "let override_freeze = true;",
    },
    Mutant {
        name: "a manual freeze is ignored",
        file: "scheduler/environments.rs",
        search: "            override_freeze,\n            take_over",
        replace: "            override_freeze: override_freeze || true,\n            take_over",
    },
    Mutant {
        name: "a freeze is ignored after a resume",
        file: "scheduler/environments.rs",
        search: "state.attempt_fence.is_some() && state.status != StageStatus::Pending",
        replace: "state.attempt_fence.is_some()",
    },
    Mutant {
        name: "no approval overrides a freeze",
        file: "scheduler/environments.rs",
        search: "&& state.decisions.iter().any(|decision| decision.approved)",
        replace: "&& state.decisions.len() > 99",
    },
    Mutant {
        name: "a freeze that is over counts as overridden",
        file: "scheduler/environments.rs",
        search: "&& state.decisions.iter().any(|decision| decision.approved)",
        replace: "",
    },
    Mutant {
        name: "a run does not wait for its group",
        file: "scheduler/environments.rs",
        search: "if self.state.in_group || self.state.cancel.is_some() {",
        replace: "if true || self.state.in_group {",
    },
    Mutant {
        name: "a group is kept at a gate",
        file: "scheduler/environments.rs",
        search: "if idle && (ended || !hold) {",
        replace: "if ended {",
    },
    Mutant {
        name: "a group that is to be held is left at a gate",
        file: "scheduler/environments.rs",
        search: "if idle && (ended || !hold) {",
        replace: "if idle && (ended || !hold || true) {",
    },
    Mutant {
        name: "an environment is kept at a gate",
        file: "scheduler/environments.rs",
        search: "busy || (more && !waiting)",
        replace: "busy || more",
    },
    Mutant {
        name: "an environment is kept until the end",
        file: "scheduler/environments.rs",
        search: "busy || (more && !waiting)",
        replace: "!ended",
    },
    Mutant {
        name: "two attempts act on an environment",
        file: "scheduler/environments.rs",
        search: "self.needs_environment(stage) && (others.any(acts_on_it) ||",
        replace: "self.needs_environment(stage) && ((others.any(acts_on_it) && false) ||",
    },
    Mutant {
        name: "an idle run stays in the queue of its group",
        file: "scheduler/environments.rs",
        search: "} else if self.in_group_queue {",
        replace: "} else if ended && self.in_group_queue {",
    },
    Mutant {
        name: "cancel-in-progress is ignored",
        file: "scheduler/environments.rs",
        search: "cancel_in_progress: concurrency.cancel_in_progress,",
        replace: "cancel_in_progress: false,",
    },
    Mutant {
        name: "a run sends no heartbeat while it holds something",
        file: "drive.rs",
        search: "if self.scheduler.needs_heartbeat() {",
        replace: "if false && self.scheduler.needs_heartbeat() {",
    },
    Mutant {
        name: "a group is held across a resume",
        file: "state.rs",
        search: "        self.in_group = false;\n        for",
        replace: "        for",
    },
    Mutant {
        name: "a request for an environment is not repeated",
        file: "scheduler/environments.rs",
        search: "self.response.actions.push(Action::Wake { stage, attempt, after: POLL_INTERVAL });\n                if self.awaited",
        replace: "if self.awaited",
    },
];
