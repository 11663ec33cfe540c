//! Gates as text: who may answer, when they open or expire without an answer, and the commands that answer or end them.

use indicatif::HumanBytes;
use stagewright_engine::{Capture, Gate, GateKind, Timestamp};
use stagewright_model::count;

use crate::printable::escaped;
use crate::text::{duration, first_line, shell_word};
use crate::view::{RunView, StageView};

/// Who may answer a gate, when it opens or expires without an answer, and which files an approval covers; a line each.
pub(crate) fn terms(stage: &StageView, gate: &Gate, now: Timestamp) -> Vec<String> {
    let mut terms = conditions(stage, gate, now);
    terms.extend(
        gate.capture
            .as_ref()
            .filter(|capture| capture.files > 0)
            .map(|capture| format!("covers {}", captured(capture))),
    );
    terms
}

/// The files that an approval covers: their number, size and digest.
pub fn captured(capture: &Capture) -> String {
    let files = count(capture.files, "file");
    format!("{files} ({}), {}", HumanBytes(capture.bytes), escaped(&capture.digest))
}

fn conditions(stage: &StageView, gate: &Gate, now: Timestamp) -> Vec<String> {
    let expires = gate.expires.map(|at| format!("; expires in {}", duration(at.since(now)))).unwrap_or_default();
    match gate.kind {
        GateKind::Approval if gate.approvals > 1 => {
            vec![format!("needs {} approvals by {}{expires}", gate.approvals, approvers(gate))]
        }
        GateKind::Approval => vec![format!("needs an answer by {}{expires}", approvers(gate))],
        GateKind::Environment => {
            vec![format!("{} requires an approval by {}{expires}", environment(stage), approvers(gate))]
        }
        GateKind::Freeze => {
            let opens = match gate.until {
                Some(until) => format!("at {}, in {}", utc_time(until), duration(until.since(now))),
                None => "when the freeze is lifted".to_owned(),
            };
            vec![
                format!("opens automatically {opens}"),
                format!("{} may override the freeze, with a reason", approvers(gate)),
            ]
        }
        GateKind::Wait => {
            let cause = if is_rollout(gate) { "when it is promoted" } else { "after a signal" };
            vec![match gate.until {
                Some(until) => format!("continues in {}, or {cause}", duration(until.since(now))),
                None => format!("continues {cause}"),
            }]
        }
        GateKind::Unresolved => {
            let intended = stage.intended.as_ref().map(|what| format!("it was about to: {}", first_line(what)));
            intended.into_iter().chain(["check the target, then record the outcome".to_owned()]).collect()
        }
    }
}

/// The commands that answer or end a stage's gate; those of `settle` with a comment that explains the outcome.
pub(crate) fn commands(view: &RunView, stage: &StageView, gate: &Gate) -> Vec<String> {
    let command =
        |verb: &str| format!("stagewright {verb} {} {}", shell_word(view.run_id()), shell_word(&stage.summary.id));
    match gate.kind {
        GateKind::Approval | GateKind::Environment => vec![command("approve"), command("reject")],
        GateKind::Freeze => vec![format!("{} --reason WHY", command("approve")), command("reject")],
        GateKind::Wait if is_rollout(gate) => {
            ["promote", "abort"].map(|verb| format!("stagewright rollout {verb} {}", environment(stage))).to_vec()
        }
        GateKind::Wait => {
            vec![format!("stagewright signal {} {}", shell_word(view.run_id()), shell_word(&gate.token))]
        }
        GateKind::Unresolved => [
            ("applied", "it took effect and works"),
            ("not-started", "it had no effect"),
            ("failed", "it took effect but doesn't work"),
        ]
        .map(|(finding, meaning)| format!("{} {finding:<11}  # {meaning}", command("settle")))
        .to_vec(),
    }
}

/// Whether a rollout is paused at the gate. Its plugin has recorded that, and waits for a token of this form.
fn is_rollout(gate: &Gate) -> bool {
    gate.kind == GateKind::Wait && gate.token.starts_with("rollout:")
}

/// The command that continues the run after a gate has opened without an answer, and when to run it. The gate opens
/// automatically, but a suspended run has no process that would notice.
pub(crate) fn resumption(view: &RunView, gate: &Gate) -> Option<String> {
    let when = match (gate.kind, gate.until) {
        (GateKind::Freeze, Some(until)) => format!("after {}", utc_time(until)),
        (GateKind::Freeze, None) => "after the freeze is lifted".to_owned(),
        _ => return None,
    };
    Some(format!("stagewright resume {}  # {when}", shell_word(view.run_id())))
}

/// The approvers, and the members of their teams in parentheses.
fn approvers(gate: &Gate) -> String {
    let approvers = escaped(&gate.approvers.join(", ")).into_owned();
    let has_team = gate.approvers.iter().any(|approver| approver.starts_with("team:"));
    match gate.approvers.is_empty() {
        true => "anyone".to_owned(),
        false if has_team && !gate.members.is_empty() => {
            format!("{approvers} ({})", escaped(&gate.members.join(", ")))
        }
        false => approvers,
    }
}

/// The environment that a stage acts on.
pub(crate) fn environment(stage: &StageView) -> String {
    stage.summary.environment.as_deref().map_or_else(|| "its environment".to_owned(), |name| escaped(name).into_owned())
}

/// A point in time, in UTC because the reader's time zone is unknown.
fn utc_time(at: Timestamp) -> String {
    let time = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    time.map_or_else(|| "a time out of range".to_owned(), |time| time.strftime("%a %F %H:%M UTC").to_string())
}
