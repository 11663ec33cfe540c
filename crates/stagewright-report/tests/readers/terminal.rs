//! The terminal, as pure frames and on a screen in memory.

use indicatif::InMemoryTerm;
use stagewright_engine::{Event, EventKind, Observer, Stream, Timestamp};
use stagewright_report::{ProgressDrawTarget, RunView, Terminal, TerminalOptions, frame};

use crate::script::{self, START, Script, stage};

/// The frame after each event that changes it.
pub(crate) fn frames(events: &[Event], columns: usize) -> String {
    let mut view = RunView::default();
    let mut shown = String::new();
    let mut last = Vec::new();
    for event in events {
        view.apply(event);
        let lines = frame(&view, event.at, columns, false);
        if lines != last {
            shown.push_str(&format!("── {} ms\n{}\n", event.at.0 - START, lines.join("\n")));
        }
        last = lines;
    }
    shown
}

#[test]
fn frames_show_the_running_stages() {
    insta::assert_snapshot!("frames_success", frames(&script::success(), 60));
    insta::assert_snapshot!("frames_failure", frames(&script::failure_with_retry(), 44));
    for (name, events) in script::ALL.into_iter().skip(6) {
        insta::assert_snapshot!(format!("frames_{name}"), frames(&events(), 80));
    }
}

#[test]
fn a_frame_never_exceeds_its_width() {
    for (name, events) in script::ALL {
        for columns in [1, 7, 20, 44] {
            let text = frames(&events(), columns);
            let lines = text.lines().filter(|line| !line.starts_with("──"));
            for line in lines {
                assert!(line.chars().count() <= columns, "{name} at {columns}: {line:?}");
            }
        }
    }
}

#[test]
fn a_frame_counts_the_stages_that_it_has_no_room_for() {
    let stages = (0..20).map(|number| stage(&format!("stage-{number}"), "noop", &[])).collect();
    let events = (0..20).fold(Script::of(stages), |script, number| script.start(number, 1)).so_far();
    let lines = frame(&RunView::of(&events), Timestamp(START + 1_000), 60, false);
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[12].as_str(), "  … and 8 more");
    assert_eq!(lines[13].as_str(), "release: 0/20 stages, 1.0 s");
}

pub(crate) fn terminal(verbose: bool, color: bool) -> (Terminal, InMemoryTerm) {
    let screen = InMemoryTerm::new(60, 80);
    // Without a rate limit: indicatif would drop frames depending on the wall clock.
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    (Terminal::new(target, TerminalOptions { width: 80, color, verbose }), screen)
}

pub(crate) fn screen_after(events: &[Event], verbose: bool) -> String {
    let (mut terminal, screen) = terminal(verbose, false);
    events.iter().for_each(|event| terminal.on_event(event));
    screen.contents()
}

#[test]
fn the_screen_at_the_end() {
    for (name, events) in script::ALL {
        insta::assert_snapshot!(format!("screen_{name}"), screen_after(&events(), false));
    }
    insta::assert_snapshot!("screen_success_verbose", screen_after(&script::success(), true));
}

#[test]
fn the_screen_while_stages_run() {
    let events = script::failure_with_retry();
    let (mut terminal, screen) = terminal(false, false);
    let until = events.iter().position(|event| matches!(event.kind, EventKind::RetryScheduled { .. })).unwrap();
    events[..=until].iter().for_each(|event| terminal.on_event(event));
    terminal.tick(Timestamp(START + 700));
    insta::assert_snapshot!("screen_while_running", screen.contents());
}

#[test]
fn lines_and_frames_are_held_while_a_question_is_open() {
    let events = script::failure_with_retry();
    let (mut terminal, screen) = terminal(true, false);
    events[..3].iter().for_each(|event| terminal.on_event(event));
    assert!(screen.contents().contains("0/3 stages"));
    let mut observer = terminal.clone();
    terminal.suspend(|| {
        events[3..6].iter().for_each(|event| observer.on_event(event));
        terminal.tick(Timestamp(START + 600));
        let meanwhile = screen.contents();
        assert!(!meanwhile.contains("0/3 stages") && !meanwhile.contains("flaky"), "{meanwhile}");
    });
    let after = screen.contents();
    assert!(after.contains("test ! flaky") && after.contains("0/3 stages"), "{after}");
}

#[test]
fn colours_are_shown_only_if_enabled_and_never_those_of_programs() {
    let events = Script::of(vec![stage("a", "noop", &[])]).start(0, 1).log(0, Stream::Stdout, "\u{1b}[31mred").so_far();
    let plain = frame(&RunView::of(&events), Timestamp(START), 60, false).join("\n");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let colored = frame(&RunView::of(&events), Timestamp(START), 60, true).join("\n");
    assert!(colored.contains("\u{1b}[2mred\u{1b}[0m"), "{colored:?}");
}
