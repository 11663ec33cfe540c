//! The output of each reader for a few scripted runs.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test that called it")]

mod explanation;
mod production;
mod replay;
mod script;
mod terminal;
mod waits;
mod wire;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use quick_junit::Report;
use script::Script;
use stagewright_engine::{
    Event, EventKind, Failure, FailureKind, Finding, Level, Observer, Outcome, Problem, RunId, Stream,
};
use stagewright_model::StageIndex;
use stagewright_report::{Github, Graph, Json, Plain, Printer, RunReader, RunView, junit};

/// A writer that keeps its bytes for inspection.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shown<R: Observer>(reader: impl FnOnce(Printer) -> R, events: &[Event]) -> String {
    let bytes = Bytes::default();
    let mut reader = reader(Printer::new(bytes.clone()));
    events.iter().for_each(|event| reader.on_event(event));
    let bytes = bytes.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn plain() {
    for (name, events) in script::ALL {
        insta::assert_snapshot!(format!("plain_{name}"), shown(Plain::new, &events()));
    }
}

#[test]
fn json() {
    let some = ["success", "waiting", "shipped", "compensated"];
    for (name, events) in script::ALL.into_iter().filter(|(name, _)| some.contains(name)) {
        insta::assert_snapshot!(format!("json_{name}"), shown(Json::new, &events()));
    }
}

#[test]
fn github() {
    let some =
        ["failure_with_retry", "waiting", "matrix", "not_compensated", "found_in_place", "unresolved", "signalled"];
    for (name, events) in script::ALL.into_iter().filter(|(name, _)| some.contains(name)) {
        insta::assert_snapshot!(format!("github_{name}"), shown(Github::new, &events()));
    }
}

#[test]
fn junit_report() {
    for (name, events) in script::ALL {
        insta::assert_snapshot!(format!("junit_{name}"), junit(&RunView::of(&events())).unwrap());
    }
}

#[test]
fn graphs() {
    let graph = Graph::of_run(&RunView::of(&script::matrix()));
    insta::assert_snapshot!("graph_dot", graph.to_dot());
    insta::assert_snapshot!("graph_mermaid", graph.to_mermaid());
    insta::assert_snapshot!("graph_svg", graph.to_svg());
    insta::assert_snapshot!("graph_svg_waiting", Graph::of_run(&RunView::of(&script::waiting())).to_svg());
    insta::assert_snapshot!(
        "graph_mermaid_compensated",
        Graph::of_run(&RunView::of(&production::compensated())).to_mermaid()
    );
}

#[test]
fn a_graph_without_stages_is_a_valid_picture() {
    let graph = Graph::of_run(&RunView::of(&Script::of(Vec::new()).so_far()));
    assert!(graph.to_svg().ends_with("</svg>\n"));
    assert_eq!(graph.to_mermaid(), "flowchart LR\n");
}

/// Any text field of an event may come from a stage.
#[test]
fn no_reader_writes_a_control_character() {
    // Not `release` alone: it is also a key, and part of the names of event types.
    const WORDS: [&str; 24] = [
        "tests.xml",
        "application/",
        "release\",",
        "Friday",
        "killed by",
        "alas",
        "unmaintained",
        "no recipients",
        "good",
        "case_",
        "test (",
        " tests",
        "production",
        "local/app",
        "dashboard",
        "holidays",
        "of main",
        "r0",
        "http://127",
        "ada",
        "2222",
        "commit\"",
        "answers",
        "gone",
    ];
    const NASTY: &str = "a\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\r\u{202e}b";
    for (name, events) in script::ALL {
        let text = serde_json::to_string(&events()).unwrap();
        // Inserts control characters into all strings that people or stages write.
        let nasty = serde_json::to_string(NASTY).unwrap();
        let nasty = nasty.trim_matches('"');
        let text = WORDS.iter().fold(text, |text, word| text.replace(word, &format!("{nasty}{word}")));
        let events: Vec<Event> = serde_json::from_str(&text).unwrap();
        let all = [
            shown(Plain::new, &events),
            shown(Json::new, &events),
            shown(Github::new, &events),
            junit(&RunView::of(&events)).unwrap(),
            Graph::of_run(&RunView::of(&events)).to_svg(),
            Graph::of_run(&RunView::of(&events)).to_dot(),
            terminal::frames(&events, 200),
        ];
        for text in all {
            let found = text.chars().find(|&character| character.is_control() && character != '\n');
            assert_eq!(found, None, "{name}: {}", text.escape_debug());
        }
    }
}

#[test]
fn a_log_line_never_becomes_a_workflow_command() {
    let text = shown(Github::new, &script::failure_with_retry());
    let allowed = ["::group::", "::endgroup::", "::error ", "::warning "];
    for line in text.lines().filter(|line| line.trim_start().starts_with("::")) {
        assert!(allowed.iter().any(|command| line.starts_with(command)), "{line}");
    }
    assert!(!text.contains("##["), "{text}");
    assert!(text.contains("::set-output"), "the line itself is still shown");
}

#[test]
fn a_view_keeps_the_last_twenty_lines_of_the_last_attempt() {
    let view = RunView::of(&script::failure_with_retry());
    let tail: Vec<&str> = view.stages[0].tail.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(tail.len(), 20);
    assert_eq!(tail[0], "test case_8 ... ok");
    assert_eq!(view.stages[0].problems.len(), 1);
    assert_eq!(view.stages[0].busy, 750);
}

#[test]
fn a_resumed_stage_forgets_its_result_and_keeps_counting_attempts() {
    let mut events = script::failure_with_retry();
    let again = vec![StageIndex(0), StageIndex(2)];
    let resumed = EventKind::RunResumed { reason: "asked for".to_owned(), again, changed: Vec::new(), pipeline: None };
    events.push(Event { seq: 99, kind: resumed, ..events[0].clone() });
    let view = RunView::of(&events);
    assert_eq!((view.conclusion, view.done(), view.failed().count()), (None, 1, 0));
    assert_eq!((view.stages[0].attempt, view.stages[0].tail.len()), (2, 0));
}

#[test]
fn a_determined_outcome_replaces_the_result_of_an_interrupted_attempt() {
    let again = EventKind::RetryScheduled { stage: StageIndex(0), attempt: 2, after: 0 };
    let outputs = BTreeMap::from([("url".to_owned(), "http://here".into())]);
    let finding = Finding::Applied("it answers".to_owned());
    let found = EventKind::Recovered { stage: StageIndex(0), attempt: 1, finding, by: None, outputs: outputs.clone() };
    let events = Script::of(vec![script::stage("deploy", "deploy", &[])])
        .start(0, 1)
        .end(0, 1, Outcome::Lost, None)
        .then(again)
        .then(EventKind::RecoveryStarted { stage: StageIndex(0), attempt: 1 })
        .then(found)
        .conclude(0, Outcome::Succeeded, Some("found in place: it answers"))
        .run_ended(Outcome::Succeeded);
    let view = RunView::of(&events);
    assert_eq!((view.stages[0].unsuccessful.len(), &view.stages[0].outputs), (0, &outputs));
    assert!(!junit(&view).unwrap().contains("flaky"));
}

#[test]
fn a_stage_whose_compensation_waits_for_the_environment_stays_ended() {
    let holder = RunId("r0".to_owned());
    let awaited = EventKind::EnvironmentAwaited { stage: StageIndex(1), environment: "production".to_owned(), holder };
    let mut events = production::compensated();
    let undo = events.iter().position(|event| matches!(event.kind, EventKind::UndoStarted { .. })).unwrap();
    events.truncate(undo);
    events.push(Event { kind: awaited, ..events[undo - 1].clone() });
    assert_eq!(RunView::of(&events).stages[1].conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn events_of_unknown_stages_are_ignored() {
    let events = Script::of(Vec::new())
        .start(7, 1)
        .log(7, Stream::Stdout, "lost")
        .conclude(7, Outcome::Succeeded, None)
        .run_ended(Outcome::Succeeded);
    let text = shown(Plain::new, &events);
    assert!(text.contains("0 stages"), "{text}");
}

#[test]
fn the_summary_names_the_state_of_an_environment_after_a_compensation() {
    let release_line = |events: &[Event]| {
        let text = shown(Plain::new, events);
        text.lines().rfind(|line| line.contains("production") && line.contains("compensated")).unwrap().to_owned()
    };
    let is_after =
        |event: &Event| matches!(event.kind, EventKind::ReleaseRecorded { ref release, .. } if release.fence == 8);
    let mut events = production::compensated();
    events.retain(|event| !is_after(event));
    assert_eq!(release_line(&events), "the deploy of this run to production was compensated");
    let unknown = release_line(&production::not_compensated());
    assert!(unknown.starts_with("the state of production is unknown: local/app@sha256:bbbb"), "{unknown}");
}

#[test]
fn releases_of_a_rehearsal_are_marked_as_rehearsed() {
    let mut events = production::shipped();
    if let EventKind::RunStarted { rehearsal, .. } = &mut events[0].kind {
        *rehearsal = true;
    }
    let text = shown(Plain::new, &events);
    let mut releases = text.lines().filter(|line| line.contains("production now runs"));
    assert!(releases.all(|line| line.contains("rehearsed: production now runs")), "{text}");
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_error_of_a_failed_writer_is_returned_once() {
    let mut plain = Plain::new(Printer::new(Full));
    script::success().iter().for_each(|event| plain.on_event(event));
    assert_eq!(plain.take_result().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(plain.take_result().is_ok());
}

/// A run that failed, with text in which programs wrote control sequences for a terminal.
fn colourful() -> Vec<Event> {
    let failure = Failure {
        causes: vec!["10%\r\u{1b}[K\u{1b}]8;;https://a.example\u{1b}\\link\u{1b}]8;;\u{7} 20%".to_owned()],
        help: Some("\u{1b}(Btry again\u{9b}0m".to_owned()),
        ..Failure::new(FailureKind::Reported, "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: it is broken", false)
    };
    Script::of(vec![script::stage("a", "command", &[])])
        .start(0, 1)
        .log(0, Stream::Stderr, "\u{1b}[32mgood\u{1b}[0m 1%\r\u{1b}[32mbest\u{1b}[0m 2%")
        .end(0, 1, Outcome::Failed, Some(failure))
        .conclude(0, Outcome::Failed, None)
        .run_ended(Outcome::Failed)
}

#[test]
fn every_reader_shows_text_as_a_terminal_would_display_it() {
    let events = colourful();
    let view = RunView::of(&events);
    let all = [
        shown(Plain::new, &events),
        shown(Github::new, &events),
        junit(&view).unwrap(),
        terminal::screen_after(&events, true),
        terminal::frames(&events, 200),
    ];
    for text in &all[..4] {
        assert!(
            text.contains("error: it is broken") && text.contains("link 20%") && text.contains("try again"),
            "{text}"
        );
    }
    for text in &all {
        let rest = ["[31m", "[32m", "[0m", "1b}", "a.example", "10%", "good", "(B"];
        assert_eq!(rest.iter().find(|rest| text.contains(**rest)), None, "{text}");
        assert!(text.contains("best 2%"), "{text}");
    }
}

#[test]
fn no_character_makes_a_junit_report_invalid() {
    let all: String = (char::MIN..=char::MAX).filter(|&character| character != '\n').collect();
    // Each character is on a line of its own, because a control sequence would swallow what follows it.
    let all: String = all.chars().flat_map(|character| ['\n', character, 'x']).collect();
    let failure = Failure {
        causes: vec![all.clone()],
        help: Some(all.clone()),
        ..Failure::new(FailureKind::Reported, all.clone(), false)
    };
    let mut script = Script::of(vec![script::stage(&all, &all, &[])]).start(0, 1);
    for line in all.lines().filter(|line| !line.starts_with(char::is_alphanumeric)).take(10_000) {
        script = script.log(0, Stream::Stdout, line);
    }
    let events =
        script.end(0, 1, Outcome::Failed, Some(failure)).conclude(0, Outcome::Failed, None).run_ended(Outcome::Failed);
    let report = junit(&RunView::of(&events)).unwrap();
    // XML 1.0, production 2.
    let is_allowed = |character: char| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(report.chars().find(|&character| !is_allowed(character)), None);
    let read = Report::deserialize_from_str(&report).unwrap();
    assert_eq!(read.test_suites[0].test_cases.len(), 1);
}

#[test]
fn a_failure_repeats_neither_log_lines_nor_findings() {
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
    let failure = Failure { causes: lines.clone(), ..Failure::new(FailureKind::Reported, "it ended", false) };
    let mut script = Script::of(vec![script::stage("a", "command", &[])]).start(0, 1).log(0, Stream::Stdout, "first");
    for line in &lines[5..] {
        script = script.log(0, Stream::Stderr, line);
    }
    let events =
        script.end(0, 1, Outcome::Failed, Some(failure)).conclude(0, Outcome::Failed, None).run_ended(Outcome::Failed);
    let text = terminal::screen_after(&events, false);
    assert_eq!(text.matches("line 20").count(), 1, "{text}");
    assert!(text.contains("without the lines above:\n    | first"), "{text}");

    let message = "the stage may not start the program `curl`";
    let problem = Problem {
        help: Some("change in [stages.a.permissions]: process = [\"curl\"]".to_owned()),
        ..Problem::new(Level::Error, "permission-denied", message)
    };
    let failure = Failure { help: problem.help.clone(), ..Failure::new(FailureKind::Reported, message, false) };
    let events = Script::of(vec![script::stage("a", "command", &[])])
        .start(0, 1)
        .then(EventKind::Problem { stage: StageIndex(0), problem })
        .end(0, 1, Outcome::Errored, Some(failure))
        .conclude(0, Outcome::Errored, None)
        .run_ended(Outcome::Failed);
    // Once when it happens, and once in the summary.
    for text in [terminal::screen_after(&events, false), shown(Plain::new, &events)] {
        assert_eq!(text.matches("may not start").count(), 2, "{text}");
    }
    assert_eq!(junit(&RunView::of(&events)).unwrap().matches("may not start").count(), 2, "as message and description");
    let annotations = shown(Github::new, &events);
    assert_eq!(annotations.lines().filter(|line| line.starts_with("::error")).count(), 1, "{annotations}");
}

#[test]
fn the_past_of_a_resumed_run_is_summarised() {
    let stages = vec![script::stage("build", "command", &[]), script::stage("test", "command", &[0])];
    let past = Script::of(stages)
        .start(0, 1)
        .log(0, Stream::Stdout, "compiling")
        .end(0, 1, Outcome::Succeeded, None)
        .conclude(0, Outcome::Succeeded, None)
        .start(1, 1)
        .end(1, 1, Outcome::Failed, None)
        .conclude(1, Outcome::Failed, None)
        .run_ended(Outcome::Failed);
    let bytes = Bytes::default();
    let mut plain = Plain::new(Printer::new(bytes.clone()));
    plain.catch_up(&past);
    let text = String::from_utf8(bytes.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.split_once("* ").unwrap().1).collect();
    assert_eq!(lines, ["run r1 of release (stagewright.toml): 2 stages", "1 stage already succeeded: build"]);

    let (mut live, screen) = terminal::terminal(true, false);
    live.catch_up(&past);
    assert_eq!(screen.contents(), "run r1 of release (stagewright.toml): 2 stages\n  1 stage already succeeded: build");
}

#[test]
fn every_edge_has_an_arrowhead() {
    let svg = Graph::of_run(&RunView::of(&script::matrix())).to_svg();
    assert_eq!(svg.matches("class=\"arrow\"").count(), svg.matches("<path d=").count());
}
