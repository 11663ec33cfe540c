//! Gates in words: what is asked of whom, what happens by itself, and what to type.

use indicatif::HumanBytes;
use stagewright_engine::{Capture, Gate, GateKind, Timestamp};
use stagewright_model::count;

use crate::printable::escaped;
use crate::text::{duration, first_line, shell_word};
use crate::view::{RunView, StageView};

/// Who may answer a gate, what happens without an answer and until when.
pub(crate) fn terms(stage: &StageView, gate: &Gate, now: Timestamp) -> Vec<String> {
    let mut terms = conditions(stage, gate, now);
    terms.extend(
        gate.capture.as_ref().filter(|capture| capture.files > 0).map(|capture| format!("for {}", captured(capture))),
    );
    terms
}

/// The files that an approval is given for.
pub fn captured(capture: &Capture) -> String {
    let files = count(capture.files, "file");
    format!("{files} ({}), {}", HumanBytes(capture.bytes), escaped(&capture.digest))
}

fn conditions(stage: &StageView, gate: &Gate, now: Timestamp) -> Vec<String> {
    let lapses = gate.expires.map(|at| format!(", lapses in {}", duration(at.since(now)))).unwrap_or_default();
    match gate.kind {
        GateKind::Approval if gate.approvals > 1 => {
            vec![format!("{} approvals by {}{lapses}", gate.approvals, who(gate))]
        }
        GateKind::Approval => vec![format!("to be answered by {}{lapses}", who(gate))],
        GateKind::Environment => {
            vec![format!("{} asks for an approval by {}{lapses}", environment(stage), who(gate))]
        }
        GateKind::Freeze => {
            let opens = match gate.until {
                Some(until) => format!("at {}, in {}", moment(until), duration(until.since(now))),
                None => "once the freeze is lifted".to_owned(),
            };
            vec![format!("opens by itself {opens}"), format!("{} may override the freeze, with a reason", who(gate))]
        }
        GateKind::Unresolved => {
            let intended = stage.intended.as_ref().map(|what| format!("it was about to: {}", first_line(what)));
            intended.into_iter().chain(["see what is there, then settle it".to_owned()]).collect()
        }
    }
}

/// The commands that answer a stage's gate, with what they mean where that isn't plain.
pub(crate) fn commands(view: &RunView, stage: &StageView, gate: &Gate) -> Vec<String> {
    let command =
        |verb: &str| format!("stagewright {verb} {} {}", shell_word(view.run_id()), shell_word(&stage.summary.id));
    match gate.kind {
        GateKind::Approval | GateKind::Environment => vec![command("approve"), command("reject")],
        GateKind::Freeze => vec![format!("{} --reason WHY", command("approve")), command("reject")],
        GateKind::Unresolved => [
            ("applied", "it is there and works"),
            ("not-started", "it never happened"),
            ("failed", "it is there and broken"),
        ]
        .map(|(finding, meaning)| format!("{} {finding:<11}  # {meaning}", command("settle")))
        .to_vec(),
    }
}

/// What goes on by itself, and only needs somebody to be there for the run then.
pub(crate) fn resumption(view: &RunView, gate: &Gate) -> Option<String> {
    let when = match (gate.kind, gate.until) {
        (GateKind::Freeze, Some(until)) => format!("from {} on", moment(until)),
        (GateKind::Freeze, None) => "once the freeze is lifted".to_owned(),
        _ => return None,
    };
    Some(format!("stagewright resume {}  # {when}", shell_word(view.run_id())))
}

/// The approvers, and who is in their teams.
fn who(gate: &Gate) -> String {
    let approvers = escaped(&gate.approvers.join(", ")).into_owned();
    let has_team = gate.approvers.iter().any(|approver| approver.starts_with("team:"));
    match gate.approvers.is_empty() {
        true => "anybody".to_owned(),
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

/// A point in time for people, who may be anywhere.
fn moment(at: Timestamp) -> String {
    let time = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    time.map_or_else(|| "a time out of all calendars".to_owned(), |time| time.strftime("%a %F %H:%M UTC").to_string())
}
