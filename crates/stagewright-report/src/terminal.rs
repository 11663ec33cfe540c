//! A terminal: the running stages, redrawn in place below the output of those that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stagewright_engine::{Event, EventKind, Finding, LogChunk, Observer, Outcome, RolloutPhase, Timestamp};

use crate::explanation::tests_without_finding;
use crate::frame::frame;
use crate::printable::{escaped, prose};
use crate::reader::{RunReader, past_summary};
use crate::style::{Painted, StyledLine, Tone, symbol};
use crate::summary::{closing, level_tone, problem_text, stream_mark};
use crate::text::{duration, first_line};
use crate::view::{RunView, StageStatus, StageView, stage_of};
use crate::{gate, markdown, measured, words};

/// The most lines that are held while a question has the terminal. Of more, the first ones are dropped.
const HELD_LINES: usize = 10_000;

/// How a [`Terminal`] shows a run.
#[derive(Clone, Copy, Debug)]
pub struct TerminalOptions {
    /// Width of the terminal in columns.
    pub width: usize,
    /// Whether to use colours.
    pub color: bool,
    /// Whether to show the log lines of all stages; otherwise only the last ones of stages that failed.
    pub verbose: bool,
}

/// Redraws the running stages in place, and lets the lines of events scroll by above them. Clones share the same
/// screen: one observes the run, another one ticks or asks questions.
#[derive(Clone)]
pub struct Terminal {
    screen: Arc<Mutex<ScreenState>>,
}

struct ScreenState {
    view: RunView,
    now: Timestamp,
    options: TerminalOptions,
    bar: ProgressBar,
    /// Lines that came while a question had the terminal; none when no question has it.
    held: Option<VecDeque<StyledLine>>,
}

impl Terminal {
    /// Draws on `target`.
    pub fn new(target: ProgressDrawTarget, options: TerminalOptions) -> Terminal {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        let screen = ScreenState { view: RunView::default(), now: Timestamp::default(), options, bar, held: None };
        Terminal { screen: Arc::new(Mutex::new(screen)) }
    }

    /// Redraws with the time `now`. The spinner has ten frames a second.
    pub fn tick(&self, now: Timestamp) {
        let mut screen = self.lock();
        screen.now = now;
        screen.draw();
    }

    /// Redraws for a new width, in columns.
    pub fn resize(&self, width: usize) {
        let mut screen = self.lock();
        if screen.options.width != width {
            screen.options.width = width;
            screen.draw();
        }
    }

    /// Runs `question` while nothing else writes to the terminal. The run continues meanwhile; its lines are held and
    /// shown afterwards.
    pub fn suspend<T>(&self, question: impl FnOnce() -> T) -> T {
        {
            let mut screen = self.lock();
            screen.bar.finish_and_clear();
            screen.held.get_or_insert_default();
        }
        let answer = question();
        let mut screen = self.lock();
        let held: Vec<StyledLine> = screen.held.take().into_iter().flatten().collect();
        screen.print(&held);
        screen.draw();
        answer
    }

    /// Whether a question has the terminal.
    pub fn is_suspended(&self) -> bool {
        self.lock().held.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, ScreenState> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunReader for Terminal {
    fn catch_up(&mut self, past: &[Event]) {
        let mut screen = self.lock();
        let lines = past_summary(&mut screen.view, past);
        let (first, rest) = lines.split_at(lines.len().min(1));
        let first = first.iter().map(|line| StyledLine::new(Tone::Strong, line));
        let lines: Vec<StyledLine> =
            first.chain(rest.iter().map(|line| StyledLine::new(Tone::Muted, format!("  {line}")))).collect();
        screen.print(&lines);
    }
}

impl Observer for Terminal {
    fn on_event(&mut self, event: &Event) {
        let mut screen = self.lock();
        screen.view.apply(event);
        screen.now = screen.now.max(event.at);
        let lines = event_lines(&screen.view, event, screen.options.verbose);
        screen.print(&lines);
        match event.kind {
            EventKind::RunEnded { .. } | EventKind::RunSuspended { .. } => {
                let lines = closing(&screen.view);
                screen.print(&lines);
                screen.bar.finish_and_clear();
            }
            _ => screen.draw(),
        }
    }

    fn on_lines(&mut self, chunk: &LogChunk<'_>) {
        let mut screen = self.lock();
        screen.view.apply_lines(chunk);
        screen.now = screen.now.max(chunk.at);
        if screen.options.verbose {
            let lines: Vec<StyledLine> =
                chunk.events().flat_map(|event| event_lines(&screen.view, &event, true)).collect();
            screen.print(&lines);
        }
        screen.draw();
    }
}

impl ScreenState {
    fn print(&mut self, lines: &[StyledLine]) {
        if let Some(held) = &mut self.held {
            held.extend(lines.iter().cloned());
            held.drain(..held.len().saturating_sub(HELD_LINES));
        } else if !lines.is_empty() {
            let painted = lines.iter().flat_map(|line| line.wrapped(self.options.width));
            let painted: Vec<Painted> = painted.map(|line| line.painted(self.options.color)).collect();
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

/// The lines of an event that scroll by.
fn event_lines(view: &RunView, event: &Event, verbose: bool) -> Vec<StyledLine> {
    match stage_of(&event.kind) {
        Some(index) => view.stage(index).map(|stage| stage_lines(view, stage, event, verbose)).unwrap_or_default(),
        None => run_lines(view, &event.kind),
    }
}

fn run_lines(view: &RunView, event: &EventKind) -> Vec<StyledLine> {
    match event {
        EventKind::RunStarted { .. } => vec![StyledLine::new(Tone::Strong, words::opening(view))],
        EventKind::RunResumed { reason, changed, .. } => {
            let resumed = format!("run {} resumed: {}", escaped(view.run_id()), first_line(reason));
            let changes =
                changed.iter().map(|change| StyledLine::new(Tone::Warning, format!("  {}", words::changed(change))));
            [StyledLine::new(Tone::Strong, resumed)].into_iter().chain(changes).collect()
        }
        EventKind::CancelRequested { how, reason } => {
            vec![StyledLine::new(Tone::Warning, words::cancelling(*how, reason))]
        }
        EventKind::GroupAwaited { group, holder } => {
            vec![StyledLine::new(Tone::Warning, format!("⏸ {}", words::group_awaited(group, holder)))]
        }
        EventKind::GroupJoined { group, replaced } if !replaced.is_empty() => {
            vec![StyledLine::new(Tone::Warning, words::group_joined(group, replaced))]
        }
        EventKind::SignalKept { signal } => vec![StyledLine::new(Tone::Neutral, words::signal_kept(signal))],
        EventKind::SignalRefused { token, by, reason } => {
            vec![StyledLine::new(Tone::Bad, words::signal_refused(token, by, reason))]
        }
        _ => Vec::new(),
    }
}

fn stage_lines(view: &RunView, stage: &StageView, event: &Event, verbose: bool) -> Vec<StyledLine> {
    let name = escaped(&stage.summary.id);
    let line = match &event.kind {
        EventKind::Log { .. }
        | EventKind::EffectIntended { .. }
        | EventKind::OutputsInherited { .. }
        | EventKind::ArtifactPublished { .. }
            if !verbose =>
        {
            return Vec::new();
        }
        EventKind::Log { stream, line, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} {} {}", stream_mark(*stream), prose(line)))
        }
        EventKind::EffectIntended { what, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} about to: {}", first_line(what)))
        }
        EventKind::ArtifactPublished { artifact, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} {}", words::published(artifact)))
        }
        EventKind::OutputsInherited { from, outputs, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} {}", words::inherited(from, outputs.keys())))
        }
        EventKind::TestsSelected { from, tests, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} {}", words::tests_selected(from, tests.len())))
        }
        EventKind::Problem { problem, .. } => {
            StyledLine::new(level_tone(problem.level), format!("  {name} {}", problem_text(problem)))
        }
        EventKind::TestsReported { cases, .. } => {
            let lines =
                tests_without_finding(stage, cases).map(|case| format!("  {name} {}", measured::failed_test(case)));
            return lines.map(|line| StyledLine::new(Tone::Bad, line)).collect();
        }
        EventKind::MetricsReported { metrics, .. } => {
            StyledLine::new(Tone::Muted, format!("  {name} {}", measured::metrics(metrics)))
        }
        EventKind::Summary { markdown, .. } => {
            let lines = markdown::lines(markdown).into_iter().map(|line| format!("  {name} {line}"));
            return lines.map(|line| StyledLine::new(Tone::Neutral, line)).collect();
        }
        EventKind::EnvironmentAwaited { environment, holder, .. } => {
            StyledLine::new(Tone::Warning, format!("⏸ {name} {}", words::environment_awaited(environment, holder)))
        }
        EventKind::GateOpened { .. } if stage.repeats_wait() => return Vec::new(),
        EventKind::GateOpened { gate, .. } => {
            let question = StyledLine::new(Tone::Warning, format!("⏸ {name} {}", first_line(&gate.message)));
            let terms = gate::terms(stage, gate, event.at).into_iter().chain(gate::commands(view, stage, gate));
            let terms = terms.map(|text| StyledLine::new(Tone::Muted, format!("  {text}")));
            return [question].into_iter().chain(terms).collect();
        }
        EventKind::GateElapsed { .. } if stage.wait.is_some() => return Vec::new(),
        EventKind::GateSignalled { signal, .. } => {
            StyledLine::new(Tone::Neutral, format!("⏸ {name} {}", words::signalled(signal)))
        }
        EventKind::GateElapsed { .. } => StyledLine::new(Tone::Neutral, format!("⏸ {name} the freeze has ended")),
        EventKind::GateDecided { decision, .. } => {
            let tone = if decision.approved || decision.finding.is_some() { Tone::Good } else { Tone::Bad };
            StyledLine::new(tone, format!("⏸ {name} {}", words::decided(decision)))
        }
        EventKind::DecisionRefused { by, reason, .. } => {
            StyledLine::new(Tone::Bad, format!("⏸ {name} {}", words::decision_refused(by, reason)))
        }
        EventKind::RetryScheduled { attempt, after, .. } => {
            let why = stage.failure().map(|failure| format!(": {}", first_line(&failure.message))).unwrap_or_default();
            StyledLine::new(Tone::Warning, format!("↻ {name} attempt {attempt} in {}{why}", duration(*after)))
        }
        EventKind::RecoveryStarted { attempt, .. } => {
            StyledLine::new(Tone::Warning, format!("? {name} {}", words::recovery_started(*attempt)))
        }
        EventKind::Recovered { attempt, finding, by, .. } => {
            let tone = match finding {
                Finding::NotStarted => Tone::Neutral,
                Finding::Applied(_) => Tone::Good,
                Finding::Failed(_) => Tone::Bad,
            };
            StyledLine::new(tone, format!("? {name} {}", words::recovered(*attempt, finding, by.as_deref())))
        }
        // The wait that follows says it.
        EventKind::RolloutProgressed { rollout, .. } if rollout.phase == RolloutPhase::Paused => return Vec::new(),
        EventKind::RolloutProgressed { rollout, .. } => {
            let tone = match rollout.phase {
                RolloutPhase::Progressing | RolloutPhase::Paused | RolloutPhase::Completed => Tone::Neutral,
                RolloutPhase::Aborted => Tone::Warning,
                RolloutPhase::Degraded => Tone::Bad,
            };
            StyledLine::new(tone, format!("  {name} {}", words::rollout(rollout)))
        }
        EventKind::ReleaseRecorded { release, .. } => {
            StyledLine::new(Tone::Strong, format!("▲ {}", words::release(view, release)))
        }
        EventKind::UndoStarted { .. } => {
            let why = words::undo_cause(view, stage).map(|why| format!(" because {why}")).unwrap_or_default();
            StyledLine::new(Tone::Warning, format!("↶ compensating {name}{why}"))
        }
        EventKind::UndoEnded { outcome, failure, .. } => {
            let (mark, tone) = symbol(stage);
            let text = words::undo_ended(*outcome, failure.as_ref(), words::undo_took(stage, event.at));
            StyledLine::new(tone, format!("{mark} {name} {text}"))
        }
        EventKind::StageEnded { .. } => end_line(stage),
        _ => return Vec::new(),
    };
    vec![line]
}

fn end_line(stage: &StageView) -> StyledLine {
    let (mark, tone) = symbol(stage);
    let outcome = match stage.status {
        StageStatus::Ended { outcome: Outcome::Succeeded, .. } if stage.is_cached().is_some() => " cached".to_owned(),
        StageStatus::Ended { outcome: Outcome::Succeeded, .. } => String::new(),
        StageStatus::Ended { outcome, .. } => format!(" {}", outcome.as_str()),
        _ => String::new(),
    };
    let took = if stage.has_run { format!("  {}", duration(stage.busy)) } else { String::new() };
    let why = stage
        .failure()
        .filter(|failure| tone != Tone::Good && !stage.reports(failure))
        .map(|failure| failure.message.as_str());
    let why = why.or(stage.reason.as_deref()).map(|why| format!("  {}", first_line(why))).unwrap_or_default();
    StyledLine::new(tone, format!("{mark} {}{outcome}{took}{why}", escaped(&stage.summary.id)))
}
