//! What each reader shows of a few scripted runs.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test that called it")]

mod script;
mod terminal;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use script::Script;
use stagewright_engine::{Event, Observer, Outcome, Stream};
use stagewright_report::{Github, Graph, Json, Plain, RunView, junit};

/// A writer whose bytes can be looked at.
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

fn shown<R: Observer>(reader: impl FnOnce(Box<dyn Write + Send>) -> R, events: &[Event]) -> String {
    let bytes = Bytes::default();
    let mut reader = reader(Box::new(bytes.clone()));
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
    for (name, events) in [script::ALL[0], script::ALL[3]] {
        insta::assert_snapshot!(format!("json_{name}"), shown(Json::new, &events()));
    }
}

#[test]
fn github() {
    for (name, events) in [script::ALL[1], script::ALL[3], script::ALL[5]] {
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
}

#[test]
fn a_graph_without_stages_is_still_a_picture() {
    let graph = Graph::of_run(&RunView::of(&Script::of(Vec::new()).so_far()));
    assert!(graph.to_svg().ends_with("</svg>\n"));
    assert_eq!(graph.to_mermaid(), "flowchart LR\n");
}

#[test]
fn the_same_events_give_the_same_bytes() {
    for (name, events) in script::ALL {
        assert_eq!(shown(Plain::new, &events()), shown(Plain::new, &events()), "plain {name}");
        assert_eq!(shown(Json::new, &events()), shown(Json::new, &events()), "json {name}");
        assert_eq!(shown(Github::new, &events()), shown(Github::new, &events()), "github {name}");
        assert_eq!(junit(&RunView::of(&events())).unwrap(), junit(&RunView::of(&events())).unwrap(), "junit {name}");
    }
}

/// Every text field of an event may come from a stage.
#[test]
fn no_reader_lets_a_control_character_through() {
    const NASTY: &str = "a\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\r\u{202e}b";
    for (name, events) in script::ALL {
        let text = serde_json::to_string(&events()).unwrap();
        // Into the middle of all strings that people or stages write.
        let nasty = serde_json::to_string(NASTY).unwrap();
        let nasty = nasty.trim_matches('"');
        let text =
            ["release", "Friday", "signal", "alas", "unmaintained", "nobody", "good", "case_", "test (", "tests"]
                .iter()
                .fold(text, |text, word| text.replace(word, &format!("{nasty}{word}")));
        let events: Vec<Event> = serde_json::from_str(&text).unwrap();
        let all = [
            shown(Plain::new, &events),
            shown(Json::new, &events),
            shown(Github::new, &events),
            junit(&RunView::of(&events)).unwrap(),
            Graph::of_run(&RunView::of(&events)).to_svg(),
            Graph::of_run(&RunView::of(&events)).to_dot(),
        ];
        for text in all {
            let found = text.chars().find(|&character| character.is_control() && character != '\n');
            assert_eq!(found, None, "{name}: {}", text.escape_debug());
        }
    }
}

#[test]
fn a_log_line_cannot_become_a_workflow_command() {
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
fn a_resumed_stage_starts_afresh_and_counts_its_attempts_on() {
    let mut events = script::failure_with_retry();
    let again = vec![stagewright_model::StageIndex(0), stagewright_model::StageIndex(2)];
    let resumed = stagewright_engine::EventKind::RunResumed { reason: "asked for".to_owned(), again, changed: Vec::new() };
    events.push(Event { seq: 99, kind: resumed, ..events[0].clone() });
    let view = RunView::of(&events);
    assert_eq!((view.conclusion, view.done(), view.failed().count()), (None, 1, 0));
    assert_eq!((view.stages[0].attempt, view.stages[0].tail.len()), (2, 0));
}

#[test]
fn events_of_unknown_stages_are_left_out() {
    let events = Script::of(Vec::new())
        .start(7, 1)
        .log(7, Stream::Stdout, "lost")
        .conclude(7, Outcome::Succeeded, None)
        .run_ended(Outcome::Succeeded);
    let text = shown(Plain::new, &events);
    assert!(text.contains("0 stages"), "{text}");
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
fn a_writer_that_fails_is_told_of_once() {
    let mut plain = Plain::new(Box::new(Full));
    script::success().iter().for_each(|event| plain.on_event(event));
    assert_eq!(plain.take_result().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(plain.take_result().is_ok());
}
