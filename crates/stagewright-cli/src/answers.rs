//! Who answers a gate while the run is under way: a rehearsal by itself, the person at the terminal, or somebody
//! elsewhere through the store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value as Json;
use stagewright_engine::{
    Control, Decision, Event, EventKind, Finding, Gate, GateKind, Interrupt, Observer, Piece, RunId, StageSummary,
};
use stagewright_model::StageIndex;
use stagewright_model::list;
use stagewright_report::{Block, Printable, Printer, captured, text};
use stagewright_store::Store;
use tokio::sync::mpsc;

use crate::command::decide::{digest_of_files, rehearsed, value};
use crate::screen::Screen;

/// How often the store is asked for answers from elsewhere while a gate is open.
const POLL: Duration = Duration::from_millis(300);

/// What happens when a gate opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answering {
    /// It is approved, marked as rehearsed.
    Rehearse,
    /// The person at the terminal is asked.
    Ask,
    /// The run waits for an answer from elsewhere.
    Wait,
    /// The run suspends when nothing else is left to do.
    Suspend,
}

/// Watches for gates.
pub(crate) struct Answers {
    answering: Answering,
    control: mpsc::Sender<Control>,
    questions: std::sync::mpsc::Sender<Question>,
    stages: Vec<Arc<StageSummary>>,
    open: OpenGates,
    /// What happened before isn't answered: others may have done so meanwhile.
    live: bool,
}

/// The gates that are open, by stage; shared with [`poll`].
pub(crate) type OpenGates = Arc<Mutex<BTreeMap<StageIndex, Gate>>>;

struct Question {
    stage: StageIndex,
    id: String,
    gate: Gate,
}

impl Answers {
    /// `by` is who sits at the terminal.
    pub(crate) fn new(
        answering: Answering,
        control: mpsc::Sender<Control>,
        screen: Arc<Screen>,
        by: String,
    ) -> Answers {
        let (questions, asked) = std::sync::mpsc::channel::<Question>();
        let (answers, open) = (control.clone(), OpenGates::default());
        let still_open = Arc::clone(&open);
        // Detached: nobody can take a read of standard input back, and the process ends without it.
        std::thread::spawn(move || {
            for question in asked {
                let is_wanted = || {
                    let open = still_open.lock().unwrap_or_else(PoisonError::into_inner);
                    open.get(&question.stage).is_some_and(|gate| gate.token == question.gate.token)
                };
                if !is_wanted() {
                    continue;
                }
                let answer = screen.ask(&is_wanted, |input, output| ask(&question, &by, input, output));
                if is_wanted() {
                    let _ = answers.blocking_send(answer);
                }
            }
        });
        Answers { answering, control, questions, stages: Vec::new(), open, live: false }
    }

    /// From here on gates are answered; first those that are open from before, but for those of which an answer has
    /// come meanwhile.
    pub(crate) fn begin(&mut self, answered: &BTreeSet<StageIndex>) {
        self.live = true;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.retain(|stage, _| !answered.contains(stage));
        open.iter().for_each(|(stage, gate)| self.answer(*stage, gate));
    }

    fn answer(&self, stage: StageIndex, gate: &Gate) {
        match self.answering {
            Answering::Rehearse => {
                for decision in rehearsed(gate) {
                    // The channel holds as many answers as a gate may ask for; see `conduct`.
                    let _ = self.control.try_send(Control::Decide { stage, decision });
                }
            }
            Answering::Ask => {
                let id = self.stages.get(stage.get()).map(|stage| stage.id.clone()).unwrap_or_default();
                let _ = self.questions.send(Question { stage, id, gate: gate.clone() });
            }
            Answering::Wait | Answering::Suspend => {}
        }
    }

    /// Which gates are open; for [`poll`].
    pub(crate) fn open(&self) -> OpenGates {
        Arc::clone(&self.open)
    }
}

impl Observer for Answers {
    fn on_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { stages, .. } => self.stages.clone_from(stages),
            EventKind::GateOpened { stage, gate, .. } => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(*stage, gate.clone());
                if self.live {
                    self.answer(*stage, gate);
                }
            }
            // Whoever sits here may have given that answer, and is asked again.
            EventKind::DecisionRefused { stage, .. } if self.answering == Answering::Ask => {
                let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(stage).cloned();
                open.iter().for_each(|gate| self.answer(*stage, gate));
            }
            EventKind::RunResumed { again, .. } => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|stage, _| !again.contains(stage));
            }
            EventKind::AttemptStarted { stage, .. }
            | EventKind::Recovered { stage, .. }
            | EventKind::GateElapsed { stage }
            | EventKind::StageEnded { stage, .. } => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(stage);
            }
            _ => {}
        }
    }

    fn on_lines(&mut self, _: &Piece<'_>) {}
}

/// Brings wishes that others left in the store: to cancel, and answers to gates while one is open.
pub(crate) async fn poll(mut store: Store, run: RunId, open: OpenGates, control: mpsc::Sender<Control>) {
    loop {
        match store.take_cancels(&run) {
            Ok(reasons) => {
                for reason in reasons {
                    let _ = control.send(Control::Cancel { how: Interrupt::Graceful, reason }).await;
                }
            }
            Err(error) => tracing::warn!(%error, "can't read wishes to cancel from the store"),
        }
        let waits = !open.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if waits {
            match store.take_decisions(&run) {
                Ok(decisions) => {
                    for (stage, decision) in decisions {
                        let _ = control.send(Control::Decide { stage, decision }).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "can't read answers from the store"),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// One question at the terminal. No answer, or the end of input, means: later.
fn ask(question: &Question, by: &str, input: &mut dyn BufRead, output: &mut Printer) -> Control {
    let gate = &question.gate;
    let _ = output.block(&introduction(question));
    if gate.kind == GateKind::Doubt {
        return ask_what_became(question, by, input, output);
    }
    let mut say = |text: Printable| {
        let _ = output.prompt(&text);
    };
    let approved = loop {
        say(text!("  [a]pprove, [r]eject, or [l]ater? "));
        match line(input).as_deref().map(str::trim) {
            Some("a" | "approve" | "y" | "yes") => break true,
            Some("r" | "reject" | "n" | "no") => break false,
            Some("l" | "later") | None => return Control::Suspend,
            Some(_) => {}
        }
    };
    let mut fields: BTreeMap<String, Json> = BTreeMap::new();
    for field in gate.fields.iter().filter(|_| approved) {
        loop {
            let optional = if field.required { "" } else { ", may be empty" };
            say(text!("  {} ({}{optional}): ", field.name, field.description));
            let Some(text) = line(input) else { return Control::Suspend };
            match text.trim() {
                "" if field.required => {}
                "" => break,
                text => {
                    fields.insert(field.name.clone(), value(field.kind, text));
                    break;
                }
            }
        }
    }
    say(text!("  reason (may be empty): "));
    let reason = line(input).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let decision = Decision {
        token: gate.token.clone(),
        capture: digest_of_files(gate),
        approved,
        by: by.to_owned(),
        reason,
        fields,
        ..Decision::default()
    };
    Control::Decide { stage: question.stage, decision }
}

/// Who asks what, and of whom. A message may have several lines, of which none can be taken for one of ours.
fn introduction(question: &Question) -> Block {
    let Question { id, gate, .. } = question;
    let mut lines = gate.message.lines();
    let mut block = Block::default();
    block.push(&text!(""));
    block.push(&text!("{id} asks: {}", Printable::prose(lines.next().unwrap_or_default())));
    block.extend(lines.map(|line| text!("  | {}", Printable::prose(line))));
    if !gate.approvers.is_empty() {
        block.push(&text!("  approvers: {}", list(&gate.approvers)));
    }
    if let Some(capture) = gate.capture.as_ref().filter(|capture| capture.files > 0) {
        block.push(&text!("  for: {}", captured(capture)));
    }
    block
}

/// The question after a crash, when the plugin can't tell.
fn ask_what_became(question: &Question, by: &str, input: &mut dyn BufRead, output: &mut Printer) -> Control {
    let mut say = |text: Printable| {
        let _ = output.prompt(&text);
    };
    let finding: fn(String) -> Finding = loop {
        say(text!("  what became of it? [d]one, [n]ot done (it runs again), done but [b]roken, or [l]ater? "));
        match line(input).as_deref().map(str::trim) {
            Some("d" | "done") => break Finding::Applied,
            Some("n" | "not done") => break |_| Finding::NotStarted,
            Some("b" | "broken") => break Finding::Failed,
            Some("l" | "later") | None => return Control::Suspend,
            Some(_) => {}
        }
    };
    say(text!("  how do you know (may be empty)? "));
    let reason = line(input).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let detail = reason.clone().unwrap_or_else(|| format!("{by} says so"));
    let decision = Decision {
        token: question.gate.token.clone(),
        approved: true,
        by: by.to_owned(),
        reason,
        finding: Some(finding(detail)),
        ..Decision::default()
    };
    Control::Decide { stage: question.stage, decision }
}

fn line(input: &mut dyn BufRead) -> Option<String> {
    let mut text = String::new();
    match input.read_line(&mut text) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;
    use stagewright_engine::{Field, FieldKind};

    use super::*;

    fn question() -> Question {
        let field = |name: &str, kind, required| Field {
            name: name.to_owned(),
            kind,
            description: "for the record".to_owned(),
            required,
        };
        let gate = Gate {
            token: "t1".to_owned(),
            message: "Deploy?".to_owned(),
            approvers: vec!["ada".to_owned()],
            approvals: 1,
            fields: vec![field("ticket", FieldKind::Number, true), field("note", FieldKind::Text, false)],
            expires: None,
            ..Gate::default()
        };
        Question { stage: StageIndex(3), id: "approve".to_owned(), gate }
    }

    fn answer(typed: &str) -> (Control, String) {
        answer_to(&question(), typed)
    }

    fn answer_to(question: &Question, typed: &str) -> (Control, String) {
        let (mut shown, writer) = std::io::pipe().unwrap();
        let control = ask(question, "ada", &mut typed.as_bytes(), &mut Printer::new(writer));
        let mut text = String::new();
        shown.read_to_string(&mut text).unwrap();
        (control, text)
    }

    #[test]
    fn a_question_adds_no_line_of_ours() {
        let mut question = question();
        question.id = "a\u{1b}c".to_owned();
        question.gate.message = "Deploy?\n  approvers: you\u{202e}".to_owned();
        question.gate.approvers = vec!["ada\nbob".to_owned()];
        question.gate.fields[0].description = "d\r\u{9b}".to_owned();
        let (_, shown) = answer_to(&question, "a\n1\n\n\n");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1..4], [r"a\u{1b}c asks: Deploy?", r"  |   approvers: you\u{202e}", r"  approvers: ada\nbob"]);
        assert!(shown.contains(r"d\r\u{9b}"), "{shown}");
    }

    #[test]
    fn an_approval_asks_for_what_the_form_requires_until_it_is_there() {
        let (control, shown) = answer("what?\na\n\n42\n\nlooks good\n");
        let Control::Decide { stage: StageIndex(3), decision } = control else { panic!("{control:?}") };
        assert!(decision.approved && decision.token == "t1" && decision.by == "ada");
        assert_eq!(decision.fields, BTreeMap::from([("ticket".to_owned(), json!(42))]));
        assert_eq!(decision.reason.as_deref(), Some("looks good"));
        assert_eq!(shown.matches("[a]pprove").count(), 2);
        assert_eq!(shown.matches("ticket (for the record)").count(), 2);
    }

    #[test]
    fn a_rejection_asks_for_no_form() {
        let (control, shown) = answer("r\n\n");
        let Control::Decide { decision, .. } = control else { panic!("{control:?}") };
        assert!(!decision.approved && decision.reason.is_none() && !shown.contains("ticket"));
    }

    #[test]
    fn later_and_the_end_of_input_leave_the_gate_open() {
        for typed in ["l\n", "", "a\n"] {
            assert_eq!(answer(typed).0, Control::Suspend, "{typed:?}");
        }
    }
}
