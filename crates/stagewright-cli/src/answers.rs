//! Asks the person at the terminal to answer gates, while the run continues.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_engine::{Decision, Finding, GateKind, RunCommand};
use stagewright_model::list;
use stagewright_report::{Block, Printable, Printer, captured, text};
use stagewright_session::{Prompter, Question, captured_digest, field_value};

use crate::screen::Screen;
use crate::{console, signals};

/// The person at the terminal.
pub(crate) struct AtTerminal {
    /// Where the run is shown.
    pub(crate) screen: Arc<Screen>,
    /// The person's name.
    pub(crate) by: String,
}

impl Prompter for AtTerminal {
    fn ask(&self, question: &Question, is_open: &dyn Fn() -> bool) -> RunCommand {
        self.screen.ask(is_open, |input, output| ask(question, &self.by, input, output))
    }

    fn close(&self) {
        self.screen.close_question();
    }
}

/// Asks one question at the terminal. The end of input counts as "later".
fn ask(question: &Question, by: &str, input: &mut dyn BufRead, output: &mut Printer) -> RunCommand {
    let gate = &question.gate;
    let _ = output.block(&introduction(question));
    if gate.kind == GateKind::Unresolved {
        return ask_outcome(question, by, input, output);
    }
    let mut say = |text: Printable| {
        let _ = output.prompt(&text);
    };
    let approved = loop {
        say(text!("  [a]pprove, [r]eject, or [l]ater? "));
        match line(input).as_deref().map(str::trim) {
            Some("a" | "approve" | "y" | "yes") => break true,
            Some("r" | "reject" | "n" | "no") => break false,
            Some("l" | "later") | None => return RunCommand::Suspend,
            Some(_) => {}
        }
    };
    let mut fields: BTreeMap<String, Json> = BTreeMap::new();
    for field in gate.fields.iter().filter(|_| approved) {
        loop {
            let optional = if field.required { "" } else { ", may be empty" };
            let choices = if field.choices.is_empty() { "" } else { "; " };
            let choices = format!("{choices}{}", field.choices.join(" | "));
            say(text!("  {} ({}{choices}{optional}): ", field.name, field.description));
            let Some(text) = line(input) else { return RunCommand::Suspend };
            match text.trim() {
                "" if field.required => {}
                "" => break,
                text if !field.choices.is_empty() && !field.choices.iter().any(|choice| choice == text) => {}
                text => {
                    fields.insert(field.name.clone(), field_value(field.kind, text));
                    break;
                }
            }
        }
    }
    say(text!("  reason (may be empty): "));
    let reason = line(input).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let decision = Decision {
        token: gate.token.clone(),
        capture: captured_digest(gate),
        approved,
        by: by.to_owned(),
        reason,
        fields,
        ..Decision::default()
    };
    RunCommand::Decide { stage: question.stage, decision }
}

/// The stage, its question, the approvers and the captured files. The further lines of a question with several lines are
/// marked, so that none of them looks like a line of this program.
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
        block.push(&text!("  files: {}", captured(capture)));
    }
    block
}

/// Asks for the outcome of an interrupted attempt that its plugin can't determine.
fn ask_outcome(question: &Question, by: &str, input: &mut dyn BufRead, output: &mut Printer) -> RunCommand {
    let mut say = |text: Printable| {
        let _ = output.prompt(&text);
    };
    let finding: fn(String) -> Finding = loop {
        say(text!("  outcome: [d]one, [n]ot done (it runs again), done but [b]roken, or [l]ater? "));
        match line(input).as_deref().map(str::trim) {
            Some("d" | "done") => break Finding::Applied,
            Some("n" | "not done") => break |_| Finding::NotStarted,
            Some("b" | "broken") => break Finding::Failed,
            Some("l" | "later") | None => return RunCommand::Suspend,
            Some(_) => {}
        }
    };
    say(text!("  how was it checked (may be empty)? "));
    let reason = line(input).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let detail = reason.clone().unwrap_or_else(|| format!("recorded by {by}"));
    let decision = Decision {
        token: question.gate.token.clone(),
        approved: true,
        by: by.to_owned(),
        reason,
        finding: Some(finding(detail)),
        ..Decision::default()
    };
    RunCommand::Decide { stage: question.stage, decision }
}

/// Asks the person at the terminal for agreement. None if a signal came before the answer: once a run has been driven,
/// signals no longer end the process by themselves.
pub(crate) async fn confirm(question: Printable) -> Option<bool> {
    // A person who doesn't see the question doesn't agree.
    let _ = console::err().prompt(&question);
    let answer = tokio::task::spawn_blocking(|| line(&mut std::io::stdin().lock()));
    tokio::select! {
        given = answer => {
            let given = given.ok().flatten();
            Some(given.is_some_and(|given| matches!(given.trim(), "y" | "Y" | "yes")))
        }
        () = signals::any() => None,
    }
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
    use stagewright_engine::{Field, FieldKind, Gate};
    use stagewright_model::StageIndex;

    use super::*;

    fn question() -> Question {
        let field = |name: &str, kind, required| Field {
            name: name.to_owned(),
            kind,
            description: "for the record".to_owned(),
            required,
            choices: Vec::new(),
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

    fn answer(typed: &str) -> (RunCommand, String) {
        answer_to(&question(), typed)
    }

    fn answer_to(question: &Question, typed: &str) -> (RunCommand, String) {
        let (mut shown, writer) = std::io::pipe().unwrap();
        let control = ask(question, "ada", &mut typed.as_bytes(), &mut Printer::new(writer));
        let mut text = String::new();
        shown.read_to_string(&mut text).unwrap();
        (control, text)
    }

    #[test]
    fn untrusted_text_in_a_question_cannot_imitate_our_lines() {
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
    fn an_approval_repeats_the_prompt_until_a_required_field_is_filled_in() {
        let (control, shown) = answer("what?\na\n\n42\n\nlooks good\n");
        let RunCommand::Decide { stage: StageIndex(3), decision } = control else { panic!("{control:?}") };
        assert!(decision.approved && decision.token == "t1" && decision.by == "ada");
        assert_eq!(decision.fields, BTreeMap::from([("ticket".to_owned(), json!(42))]));
        assert_eq!(decision.reason.as_deref(), Some("looks good"));
        assert_eq!(shown.matches("[a]pprove").count(), 2);
        assert_eq!(shown.matches("ticket (for the record)").count(), 2);
    }

    #[test]
    fn a_choice_is_asked_for_until_it_is_one_of_them() {
        let mut question = question();
        question.gate.fields.truncate(1);
        let field = &mut question.gate.fields[0];
        (field.kind, field.choices) = (FieldKind::Text, vec!["eu".to_owned(), "us".to_owned()]);
        let (control, shown) = answer_to(&question, "a\nasia\nus\n\n");
        let RunCommand::Decide { decision, .. } = control else { panic!("{control:?}") };
        assert_eq!(decision.fields, BTreeMap::from([("ticket".to_owned(), json!("us"))]));
        assert_eq!(shown.matches("eu | us").count(), 2, "{shown}");
    }

    #[test]
    fn a_rejection_skips_the_form() {
        let (control, shown) = answer("r\n\n");
        let RunCommand::Decide { decision, .. } = control else { panic!("{control:?}") };
        assert!(!decision.approved && decision.reason.is_none() && !shown.contains("ticket"));
    }

    #[test]
    fn the_gate_stays_open_after_later_and_at_the_end_of_input() {
        for typed in ["l\n", "", "a\n"] {
            assert_eq!(answer(typed).0, RunCommand::Suspend, "{typed:?}");
        }
    }
}
