//! The transitions of a stage and of its compensation.

use super::{StageState, StageStatus, UndoState};
use crate::event::{EventKind, Finding, GateKind};

/// The status that an event leads to; none if the event isn't valid. The only definition of the transitions.
pub(super) fn next_status(state: &StageState, event: &EventKind) -> Option<StageStatus> {
    use EventKind as E;
    use StageStatus as S;
    Some(match (state.status, event) {
        (S::Pending, E::AttemptStarted { attempt, .. }) if *attempt == state.attempts + 1 => S::Running(*attempt),
        (S::Backoff(due), E::AttemptStarted { attempt, .. }) if *attempt == due => S::Running(due),
        (S::Approved(same), E::AttemptStarted { attempt, .. }) if *attempt == same => S::Running(same),
        (now, E::GateOpened { attempt, gate, .. }) => match (now, gate.kind) {
            (S::Running(now), GateKind::Approval | GateKind::Wait) if *attempt == now => S::Waiting(now),
            (S::Recovering(now), GateKind::Unresolved) if *attempt == now => S::Waiting(now),
            (S::Pending, GateKind::Environment | GateKind::Freeze) if *attempt == state.attempts + 1 => {
                S::Waiting(*attempt)
            }
            (S::Backoff(now) | S::Approved(now), GateKind::Environment | GateKind::Freeze) if *attempt == now => {
                S::Waiting(now)
            }
            _ => return None,
        },
        (S::Waiting(now), E::GateElapsed { .. }) => {
            let gate = state.current_gate()?;
            match gate.kind {
                GateKind::Freeze => S::Approved(now),
                GateKind::Wait if gate.until.is_some() => S::Approved(now),
                _ => return None,
            }
        }
        (S::Waiting(now), E::GateSignalled { stage, signal }) => {
            let wait = state.wait.as_ref()?;
            if signal.ends(*stage, &wait.token) { S::Approved(now) } else { return None }
        }
        (S::Waiting(now), E::GateDecided { decision, .. }) => {
            let gate = state.current_gate()?;
            if decision.token != gate.token {
                return None;
            }
            let approvals = 1 + state.decisions.iter().filter(|earlier| earlier.approved).count();
            match (gate.kind, &decision.finding) {
                (GateKind::Wait, _) | (GateKind::Unresolved, None) => return None,
                (GateKind::Unresolved, Some(_)) => S::Recovering(now),
                _ if !decision.approved => S::Refused(now),
                _ if approvals >= gate.approvals as usize => S::Approved(now),
                _ => S::Waiting(now),
            }
        }
        (S::Pending | S::Backoff(_), E::RecoveryStarted { attempt, .. })
            if state.unresolved_attempt == Some(*attempt) =>
        {
            S::Recovering(*attempt)
        }
        (S::Recovering(now), E::RecoveryStarted { attempt, .. }) if *attempt == now => S::Recovering(now),
        (S::Recovering(now), E::Recovered { attempt, finding, .. }) if *attempt == now => match finding {
            Finding::NotStarted => S::Pending,
            Finding::Applied(_) | Finding::Failed(_) => S::AttemptEnded(now),
        },
        (S::Running(now), E::AttemptEnded { attempt, .. }) if *attempt == now => S::AttemptEnded(now),
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::AttemptEnded { attempt, .. })
            if *attempt == now && state.has_begun(now) =>
        {
            S::AttemptEnded(now)
        }
        (S::AttemptEnded(now), E::RetryScheduled { attempt, .. }) if *attempt == now + 1 => S::Backoff(*attempt),
        (
            S::Pending | S::AttemptEnded(_) | S::Backoff(_) | S::Recovering(_),
            E::StageEnded { outcome, conclusion, .. },
        ) => S::Ended { outcome: *outcome, conclusion: *conclusion },
        (S::Waiting(now) | S::Approved(now) | S::Refused(now), E::StageEnded { outcome, conclusion, .. })
            if !state.has_begun(now) =>
        {
            S::Ended { outcome: *outcome, conclusion: *conclusion }
        }
        _ => return None,
    })
}

/// Like [`next_status`], for the compensation.
pub(super) fn next_undo(state: &StageState, event: &EventKind) -> Option<UndoState> {
    let StageStatus::Ended { .. } = state.status else { return None };
    match (state.undo, event) {
        (UndoState::NotStarted, EventKind::UndoStarted { .. }) => Some(UndoState::Started),
        // It ends without having started if the run was killed or the environment couldn't be acquired.
        (UndoState::NotStarted | UndoState::Started, EventKind::UndoEnded { outcome, .. }) => {
            Some(UndoState::Ended(*outcome))
        }
        _ => None,
    }
}
