//! Gates: whose answers count, for what, and until when.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "an expired gate accepts an answer",
        file: "gate.rs",
        search: "if gate.expires.is_some_and(",
        replace: "if false && gate.expires.is_some_and(",
    },
    Mutant {
        name: "an answer before the expiry is refused as late",
        file: "gate.rs",
        search: "decision.at.unwrap_or(now)",
        replace: "decision.at.map_or(now, |at| at.max(now))",
    },
    Mutant {
        name: "any person may answer",
        file: "gate.rs",
        search: "if !gate.approvers.is_empty() && !is_among(&gate.members) {",
        replace: "if false && !is_among(&gate.members) {",
    },
    Mutant {
        name: "one person counts twice",
        file: "gate.rs",
        search: "        if same_person(&earlier.by, &decision.by) {",
        replace: "        if false && same_person(&earlier.by, &decision.by) {",
    },
    Mutant {
        name: "an answer to an earlier gate counts",
        file: "gate.rs",
        search: "if gate.token != decision.token {",
        replace: "if false && gate.token != decision.token {",
    },
    Mutant {
        name: "one approval is enough",
        file: "state/transition.rs",
        search: "_ if approvals >= gate.approvals as usize =>",
        replace: "_ if approvals >= 1 =>",
    },
    Mutant {
        name: "a rejection counts as an approval",
        file: "state/transition.rs",
        search: "_ if !decision.approved => S::Refused(now),",
        replace: "",
    },
    Mutant {
        name: "an approval stays valid after its binding changes",
        file: "scheduler/resume.rs",
        search: "must_repeat || self.has_lapsed(index) || ",
        replace: "must_repeat || ",
    },
    Mutant {
        name: "an approval of another binding counts",
        file: "scheduler/gates.rs",
        search: "let counts = |gate: &Gate| self.binds(gate) && is_for_it(gate)",
        replace: "let counts = |gate: &Gate| is_for_it(gate)",
    },
    Mutant {
        name: "an approval outlives a deploy of another run",
        file: "scheduler/environments.rs",
        search: "if self.undoing != Some(stage) && self.approval_lapsed(stage, current.as_ref()) =>",
        replace: "if false && self.approval_lapsed(stage, current.as_ref()) =>",
    },
    Mutant {
        name: "an approval lapses by a deploy of its own run",
        file: "scheduler/gates.rs",
        search: "== current || current.is_some_and(is_own)",
        replace: "== current || current.is_some_and(|fence| is_own(fence) && fence == 0)",
    },
    Mutant {
        name: "an environment needs no approval",
        file: "scheduler/start.rs",
        search: "if self.lacks_approval(index) {",
        replace: "if false && self.lacks_approval(index) {",
    },
    Mutant {
        name: "an environment accepts the approval of a person who may not approve",
        file: "scheduler/gates.rs",
        search: "let is_approver = |by: &str| members.iter().any(|member| same_person(member, by));",
        replace: "let is_approver = |by: &str| members.iter().any(|member| !member.is_empty() || same_person(member, by));",
    },
    Mutant {
        name: "a later gate makes a stage ask for its environment again",
        file: "state.rs",
        search: "state.approved_gates.extend(gate.map(|gate| ApprovedGate { gate, answers }));",
        replace: "state.approved_gates = gate.map(|gate| ApprovedGate { gate, answers }).into_iter().collect();",
    },
    Mutant {
        name: "an approval of one environment counts for another",
        file: "scheduler/gates.rs",
        search: "counts(&approved.gate) && answers.any",
        replace: "state.approved_gates.iter().any(|other| counts(&other.gate)) && answers.any",
    },
    Mutant {
        name: "a gate has no list of members who may answer",
        file: "scheduler/gates.rs",
        search: "gate.members = self.plan.members_of(&gate.approvers);",
        replace: "",
    },
    Mutant {
        name: "a gate of a stage ignores the approvers of its environment",
        file: "scheduler/gates.rs",
        search: "        if gate.approvers.is_empty() {\n            gate.approvers = self.environment_approvers(stage);",
        replace: "        if gate.approvers.is_empty() {\n            gate.approvers = Vec::new();",
    },
    Mutant {
        name: "a gate that was reached by a failure stays open",
        file: "scheduler/resume.rs",
        search: "let premature = conclusion.is_none() && ",
        replace: "let premature = false && ",
    },
];
