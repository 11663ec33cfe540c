//! Waits for a time or a signal.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a wait that is due is forgotten after a resume",
        file: "scheduler/resume.rs",
        search: "                    self.set_gate_timer(index, attempt);\n                    if self",
        replace: "                    if !self.state.stage(index).is_between_calls() {\n                        self.set_gate_timer(index, attempt);\n                    }\n                    if self",
    },
    Mutant {
        name: "a wait doesn't notice that the clock is set",
        file: "scheduler/gates.rs",
        search: ".min(CLOCK_INTERVAL)",
        replace: ".min(Duration::MAX)",
    },
    Mutant {
        name: "a kept signal is lost",
        file: "scheduler/waits.rs",
        search: "        self.open_prepared(stage, attempt, gate)?;\n        self.end_wait_at_once(stage)",
        replace: "        self.open_prepared(stage, attempt, gate)",
    },
    Mutant {
        name: "a kept signal ends every wait",
        file: "state.rs",
        search: "self.signals.retain(|kept| kept != signal);",
        replace: "",
    },
    Mutant {
        name: "a signal that comes too early is dropped",
        file: "scheduler/waits.rs",
        search: "None => self.record(EventKind::SignalKept { signal }),",
        replace: "None => Ok(()),",
    },
    Mutant {
        name: "a signal to one stage ends the wait of another",
        file: "event/wait.rs",
        search: "self.token == token && self.stage.is_none_or(|only| only == stage)",
        replace: "self.token == token && (stage.0 < 1000 || self.stage.is_none())",
    },
    Mutant {
        name: "a wait holds its slot",
        file: "scheduler.rs",
        search: "            Input::Ended { stage, attempt, report } => self.on_attempt_end(stage, attempt, report)?,",
        replace: "            Input::Ended { stage, attempt, report } => {\n                let waits = matches!(report.end, crate::port::AttemptEnd::Waiting(_));\n                self.on_attempt_end(stage, attempt, report)?;\n                if waits {\n                    self.running.insert(stage);\n                }\n            }",
    },
    Mutant {
        name: "a wait releases its environment while another one is awaited",
        file: "scheduler/environments.rs",
        search: "|| (!lacks_group && self.between_calls().any(|stage| of_it(&stage)));",
        replace: ";",
    },
    Mutant {
        name: "a timed wait is idle, and releases its environment",
        file: "scheduler.rs",
        search: "stage.is_between_calls() || matches!(stage.status,",
        replace: "matches!(stage.status,",
    },
    Mutant {
        name: "a resumed run doesn't hold the environment of its wait",
        file: "scheduler/environments.rs",
        search: "if is_open && self.needs_environment(stage) && !self.acquiring.contains(&stage) {",
        replace: "if false && is_open {",
    },
    Mutant {
        name: "another stage acts on the environment during a wait",
        file: "scheduler/environments.rs",
        search: "(others.any(acts_on_it) || between_calls.any(|other| acts_on_it(&other)))",
        replace: "(others.any(acts_on_it) || (self.jobs > 99 && between_calls.any(|other| acts_on_it(&other))))",
    },
    Mutant {
        name: "a wait lapses when an input changes",
        file: "scheduler/resume.rs",
        search: "        if state.wait.is_some() {\n            return false;\n        }\n",
        replace: "",
    },
    Mutant {
        name: "an approval is lost in a wait",
        file: "state.rs",
        search: "self.step(*stage, event)?.wait = Some(Box::new(gate.clone()));",
        replace: "let state = self.step(*stage, event)?;\n                state.approved_gates.clear();\n                state.wait = Some(Box::new(gate.clone()));",
    },
    Mutant {
        name: "the end of a wait resolves the effect before it",
        file: "state.rs",
        search: "if has_reported && is_certain(",
        replace: "if (has_reported || true) && is_certain(",
    },
    Mutant {
        name: "a wait doesn't count for max-parallel",
        file: "scheduler/start.rs",
        search: "is_between_calls || is_under_way",
        replace: "(is_between_calls && self.jobs > 99) || is_under_way",
    },
    Mutant {
        name: "a gate that is being prepared doesn't count for max-parallel",
        file: "scheduler/start.rs",
        search: "is_under_way || self.opening.contains_key(cell)",
        replace: "is_under_way",
    },
    Mutant {
        name: "a wait can be answered",
        file: "gate.rs",
        search: "    if gate.kind == GateKind::Wait {",
        replace: "    if false && gate.kind == GateKind::Wait {",
    },
    Mutant {
        name: "an invalid wait is accepted",
        file: "scheduler/end.rs",
        search: "AttemptEnd::Waiting(wait) => match wait.check() {",
        replace: "AttemptEnd::Waiting(wait) => match wait.check().or(Ok::<_, crate::event::WaitError>(())) {",
    },
    Mutant {
        name: "a wait that expired before its time came is polled",
        file: "scheduler/gates.rs",
        search: "        let until = until.filter(|until| expires.is_none_or(|expires| *until <= expires));\n",
        replace: "",
    },
    Mutant {
        name: "a plugin forgets the decisions before a wait",
        file: "state.rs",
        search: "Resumption::after_poll(wait, state.resumption.take())",
        replace: "Resumption::after_poll(wait, None)",
    },
    Mutant {
        name: "a due wait doesn't hold its environment after a resume",
        file: "scheduler/environments.rs",
        search: "matches!(self.state.stage(stage).status, StageStatus::Waiting(_) | StageStatus::Approved(_))",
        replace: "matches!(self.state.stage(stage).status, StageStatus::Waiting(_))",
    },
];
