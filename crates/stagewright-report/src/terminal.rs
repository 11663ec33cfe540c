//! A terminal: what runs now, redrawn in place, below what has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stagewright_engine::{Event, EventKind, Observer, Outcome, Timestamp};

use crate::frame::frame;
use crate::plain::{cancelling, decided, opening};
use crate::style::{Line, Tone, paint, symbol};
use crate::summary::{closing, duration, first_line, gate_commands, gate_terms, level_tone, problem_text, stream_mark};
use crate::text::printable;
use crate::view::{RunView, StageView, Status, stage_of};

/// Lines that are held while somebody else has the terminal; of more, the last ones.
const HELD_LINES: usize = 10_000;

/// How a [`Terminal`] shows things.
#[derive(Clone, Copy, Debug)]
pub struct TerminalOptions {
    /// Columns.
    pub width: usize,
    /// Whether to colour.
    pub color: bool,
    /// Whether to show the log lines of every stage, not only the last ones of those that fail.
    pub verbose: bool,
}

/// Redraws what runs now, and lets what has ended scroll by. Clones show the same run: one observes it, another ticks
/// or asks questions.
#[derive(Clone)]
pub struct Terminal {
    screen: Arc<Mutex<Screen>>,
}

struct Screen {
    view: RunView,
    now: Timestamp,
    options: TerminalOptions,
    bar: ProgressBar,
    /// What was said while the terminal is somebody else's; none when it is ours.
    held: Option<VecDeque<Line>>,
}

impl Terminal {
    /// Onto `target`.
    pub fn new(target: ProgressDrawTarget, options: TerminalOptions) -> Terminal {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        let screen = Screen { view: RunView::default(), now: Timestamp::default(), options, bar, held: None };
        Terminal { screen: Arc::new(Mutex::new(screen)) }
    }

    /// Redraws for the time that has passed: ten times a second keeps the spinners turning.
    pub fn tick(&self, now: Timestamp) {
        let mut screen = self.lock();
        screen.now = now;
        screen.draw();
    }

    /// The terminal has been resized.
    pub fn resize(&self, width: usize) {
        let mut screen = self.lock();
        screen.options.width = width;
        screen.draw();
    }

    /// Runs `question` with the terminal to itself. The run goes on meanwhile, and what it says is shown afterwards.
    pub fn suspend<T>(&self, question: impl FnOnce() -> T) -> T {
        {
            let mut screen = self.lock();
            screen.bar.finish_and_clear();
            screen.held.get_or_insert_default();
        }
        let answer = question();
        let mut screen = self.lock();
        let held: Vec<Line> = screen.held.take().into_iter().flatten().collect();
        screen.say(&held);
        screen.draw();
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Terminal {
    fn on_event(&mut self, event: &Event) {
        let mut screen = self.lock();
        screen.view.apply(event);
        screen.now = screen.now.max(event.at);
        let lines = told(&screen.view, event, screen.options.verbose);
        screen.say(&lines);
        match event.kind {
            EventKind::RunEnded { .. } | EventKind::RunSuspended { .. } => {
                let lines = closing(&screen.view);
                screen.say(&lines);
                screen.bar.finish_and_clear();
            }
            _ => screen.draw(),
        }
    }
}

impl Screen {
    fn say(&mut self, lines: &[Line]) {
        if let Some(held) = &mut self.held {
            held.extend(lines.iter().cloned());
            held.drain(..held.len().saturating_sub(HELD_LINES));
        } else if !lines.is_empty() {
            let painted: Vec<String> =
                lines.iter().map(|line| paint(self.options.color, line.tone, &line.text)).collect();
            self.bar.println(painted.join("\n"));
        }
    }

    fn draw(&self) {
        let lines = frame(&self.view, self.now, self.options.width, self.options.color);
        if lines.is_empty() || self.held.is_some() {
            return;
        }
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_message(lines.join("\n"));
        self.bar.tick();
    }
}

/// The lines of an event that stay.
fn told(view: &RunView, event: &Event, verbose: bool) -> Vec<Line> {
    let stage = stage_of(&event.kind).and_then(|index| view.stage(index));
    let about = |stage: &StageView, text: &str| format!("{} {text}", printable(&stage.summary.id));
    match (&event.kind, stage) {
        (EventKind::RunStarted { .. }, _) => vec![Line::new(Tone::Strong, opening(view))],
        (EventKind::RunResumed { reason, .. }, _) => {
            vec![Line::new(Tone::Strong, format!("run {} resumed: {}", printable(view.run_id()), first_line(reason)))]
        }
        (EventKind::CancelRequested { how, reason }, _) => vec![Line::new(Tone::Warning, cancelling(*how, reason))],
        (EventKind::Log { stream, line, .. }, Some(stage)) if verbose => {
            let text = about(stage, &format!("{} {}", stream_mark(*stream), printable(line)));
            vec![Line::new(Tone::Muted, format!("  {text}"))]
        }
        (EventKind::Problem { problem, .. }, Some(stage)) => {
            vec![Line::new(level_tone(problem.level), format!("  {}", about(stage, &problem_text(problem))))]
        }
        (EventKind::Summary { markdown, .. }, Some(stage)) => markdown
            .lines()
            .map(|line| Line::new(Tone::Neutral, format!("  {}", about(stage, &printable(line)))))
            .collect(),
        (EventKind::GateOpened { gate, .. }, Some(stage)) => {
            let mut lines = vec![
                Line::new(Tone::Warning, format!("⏸ {}", about(stage, &first_line(&gate.message)))),
                Line::new(Tone::Muted, format!("  {}", gate_terms(gate, event.at))),
            ];
            lines.extend(gate_commands(view, stage).map(|command| Line::new(Tone::Muted, format!("  {command}"))));
            lines
        }
        (EventKind::GateDecided { decision, .. }, Some(stage)) => {
            let tone = if decision.approved { Tone::Good } else { Tone::Bad };
            vec![Line::new(tone, format!("⏸ {}", about(stage, &decided(decision))))]
        }
        (EventKind::RetryScheduled { attempt, after, .. }, Some(stage)) => {
            let why = stage.failure().map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
            let text = about(stage, &format!("attempt {attempt} in {}{why}", duration(*after)));
            vec![Line::new(Tone::Warning, format!("↻ {text}"))]
        }
        (EventKind::StageEnded { .. }, Some(stage)) => vec![ended(stage)],
        _ => Vec::new(),
    }
}

fn ended(stage: &StageView) -> Line {
    let (mark, tone) = symbol(&stage.status);
    let outcome = match stage.status {
        Status::Ended { outcome: Outcome::Succeeded, .. } => String::new(),
        Status::Ended { outcome, .. } => format!(" {}", outcome.as_str()),
        _ => String::new(),
    };
    let took = if stage.attempt > 0 { format!("  {}", duration(stage.busy)) } else { String::new() };
    let why = stage.failure().filter(|_| tone != Tone::Good).map(|failure| failure.message.as_str());
    let why = why.or(stage.reason.as_deref()).map(|why| format!("  {}", first_line(why))).unwrap_or_default();
    Line::new(tone, format!("{mark} {}{outcome}{took}{why}", printable(&stage.summary.id)))
}
