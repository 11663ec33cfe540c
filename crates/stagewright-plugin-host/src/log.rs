//! An attempt's log: bytes and text come in, complete lines go out, without terminal codes and without secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stagewright_engine::{AttemptOutput, Problem, Stream};

use crate::limits::Bytes;
use crate::mask::{MaskStream, Masker, Reader};
use crate::report::{masked_problem, masked_text};
use crate::stop::{Stopped, Switch};

/// Longer lines are split.
const LINE: usize = 64 * 1024;
/// Bytes of all findings of an attempt: they are kept in the journal.
const FINDINGS: u64 = 2 * 1024 * 1024;

/// Where everything goes that an attempt has to say; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AttemptLog {
    output: AttemptOutput,
    masker: Masker,
    switch: Switch,
    limit: u64,
    written: Arc<AtomicU64>,
    most_lines: u64,
    lines: Arc<AtomicU64>,
    findings: Arc<AtomicU64>,
}

impl AttemptLog {
    /// `limit`: bytes, line ends included. What goes beyond stops the attempt.
    pub(crate) fn new(output: AttemptOutput, masker: Masker, switch: Switch, limit: u64) -> AttemptLog {
        let (written, lines, findings) = Default::default();
        AttemptLog { output, masker, switch, limit, written, most_lines: u64::MAX, lines, findings }
    }

    /// At most so many lines, too.
    pub(crate) fn bounded(self, lines: u64) -> AttemptLog {
        AttemptLog { most_lines: lines, ..self }
    }

    /// Secrets to be masked.
    pub(crate) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// For effects, which are announced masked.
    pub(crate) fn output(&self) -> &AttemptOutput {
        &self.output
    }

    /// How far it is.
    pub(crate) fn progress(&self, message: &str, current: u32, total: Option<u32>) {
        self.output.progress(masked_text(message, &self.masker), current, total);
    }

    /// Markdown to be shown with the run.
    pub(crate) async fn summary(&self, markdown: String) {
        self.output.summary(self.masker.text(&markdown)).await;
    }

    /// A finding. Those of an attempt that come to more than [`FINDINGS`] are left out.
    pub(crate) async fn problem(&self, problem: Problem) {
        let problem = masked_problem(problem, &self.masker);
        let optional = [&problem.path, &problem.help].into_iter().flatten().map(String::len).sum::<usize>();
        let size = (problem.code.len() + problem.message.len() + optional) as u64;
        let before = self.findings.fetch_add(size, Ordering::Relaxed);
        if before + size <= FINDINGS {
            self.output.problem(problem).await;
        } else if before <= FINDINGS {
            self.engine(&format!("further findings are left out: those before come to {}", Bytes(FINDINGS))).await;
        }
    }

    /// Writes text of one or more lines.
    pub(crate) async fn text(&self, stream: Stream, text: &str) {
        let mut lines = self.lines(stream);
        lines.push(text.as_bytes()).await;
        lines.finish().await;
    }

    /// The engine's own words: not counted, since it is they that explain why a log ends.
    pub(crate) async fn engine(&self, line: &str) {
        self.output.lines(Stream::Engine, vec![self.masker.text(line)]).await;
    }

    /// For output that comes in pieces.
    pub(crate) fn lines(&self, stream: Stream) -> LineWriter {
        LineWriter {
            stream,
            stripper: Stripper::default(),
            mask: MaskStream::new(self.masker.clone(), Reader::Person),
            line: Vec::new(),
            log: self.clone(),
        }
    }

    async fn write(&self, stream: Stream, mut lines: Vec<String>) {
        let size = |line: &String| line.len() as u64 + 1;
        let total: u64 = lines.iter().map(size).sum();
        let before = self.written.fetch_add(total, Ordering::Relaxed);
        if before.saturating_add(total) > self.limit {
            let mut room = self.limit.saturating_sub(before);
            let fitting = lines.iter().take_while(|line| {
                let fits = size(line) <= room;
                room = room.saturating_sub(size(line));
                fits
            });
            let fitting = fitting.count();
            lines.truncate(fitting);
        }
        let count = lines.len() as u64;
        let before_lines = self.lines.fetch_add(count, Ordering::Relaxed);
        let room = self.most_lines.saturating_sub(before_lines);
        lines.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        if !lines.is_empty() {
            self.output.lines(stream, lines).await;
        }
        if count > room {
            self.switch.stop(Stopped::LogLines(self.most_lines));
        }
        if before.saturating_add(total) > self.limit {
            self.switch.stop(Stopped::LogLimit(self.limit));
        }
    }
}

/// Makes lines of pieces.
#[derive(Debug)]
pub(crate) struct LineWriter {
    stream: Stream,
    stripper: Stripper,
    mask: MaskStream,
    line: Vec<u8>,
    log: AttemptLog,
}

impl LineWriter {
    /// Writes the lines that `data` completes. Waits while the log's reader is behind.
    pub(crate) async fn push(&mut self, data: &[u8]) {
        let plain = self.stripper.strip(data);
        let masked = self.mask.push(&plain);
        let lines = self.complete(&masked);
        if !lines.is_empty() {
            self.log.write(self.stream, lines).await;
        }
    }

    /// Writes what is left, as a line.
    pub(crate) async fn finish(&mut self) {
        let masked = self.mask.finish();
        let mut lines = self.complete(&masked);
        if !self.line.is_empty() {
            lines.push(text(&std::mem::take(&mut self.line)));
        }
        if !lines.is_empty() {
            self.log.write(self.stream, lines).await;
        }
    }

    fn complete(&mut self, data: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            let (body, ended) = match piece.strip_suffix(b"\n") {
                Some(body) => (body, true),
                None => (piece, false),
            };
            self.line.extend_from_slice(body);
            while self.line.len() > LINE {
                let rest = self.line.split_off(character_end(&self.line, LINE));
                lines.push(text(&std::mem::replace(&mut self.line, rest)));
            }
            if ended {
                lines.push(text(&std::mem::take(&mut self.line)));
            }
        }
        lines
    }
}

/// Without the control characters of 0x80 to 0x9F, which command a terminal, too, and are two bytes each in UTF-8.
fn text(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line).into_owned();
    text.retain(|character| !matches!(character, '\u{80}'..='\u{9f}'));
    text
}

/// The last place at or before `at` that doesn't cut a UTF-8 character in two.
fn character_end(bytes: &[u8], at: usize) -> usize {
    let is_continuation = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|&index| !is_continuation(index)).unwrap_or(at)
}

/// Takes out terminal control: escape sequences, and control characters other than tab and line feed.
///
/// The shapes are those of ECMA-48: `ESC [ … final` (CSI), `ESC ] … BEL|ST` and its kin (strings), `ESC x`.
#[derive(Debug, Default)]
struct Stripper(Escape);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Began,
    /// Between `ESC (` or the like and its final byte.
    Intermediate,
    ControlSequence,
    String,
    /// An ESC within a string: the string ends if a backslash follows.
    StringEnd,
}

impl Stripper {
    fn strip(&mut self, data: &[u8]) -> Vec<u8> {
        data.iter().copied().filter(|&byte| self.keeps(byte)).collect()
    }

    fn keeps(&mut self, byte: u8) -> bool {
        let (next, keep) = match (self.0, byte) {
            (Escape::StringEnd, b'\\') => (Escape::None, false),
            // No sequence spans lines, whatever a program forgot to end.
            (_, b'\n') => (Escape::None, true),
            (Escape::String | Escape::StringEnd, 0x1B) => (Escape::StringEnd, false),
            (Escape::String, 0x07) => (Escape::None, false),
            (Escape::String | Escape::StringEnd, _) => (Escape::String, false),
            (_, 0x1B) => (Escape::Began, false),
            (Escape::Began, b'[') => (Escape::ControlSequence, false),
            (Escape::Began, b']' | b'P' | b'X' | b'^' | b'_') => (Escape::String, false),
            (Escape::Began | Escape::Intermediate, 0x20..=0x2F) => (Escape::Intermediate, false),
            (Escape::Began | Escape::Intermediate, _) => (Escape::None, false),
            (Escape::ControlSequence, 0x40..=0x7E) => (Escape::None, false),
            (Escape::ControlSequence, _) => (Escape::ControlSequence, false),
            (Escape::None, b'\t') => (Escape::None, true),
            (Escape::None, 0x00..=0x1F | 0x7F) => (Escape::None, false),
            (Escape::None, _) => (Escape::None, true),
        };
        self.0 = next;
        keep
    }
}

#[cfg(test)]
mod tests {
    use stagewright_engine::LiveKind;
    use stagewright_model::StageIndex;
    use tokio::sync::mpsc;

    use super::*;

    fn log(limit: u64) -> (AttemptLog, Switch, mpsc::Receiver<stagewright_engine::Live>) {
        let (sender, receiver) = mpsc::channel(1000);
        let switch = Switch::default();
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        (AttemptLog::new(output, Masker::default(), switch.clone(), limit), switch, receiver)
    }

    fn lines(receiver: &mut mpsc::Receiver<stagewright_engine::Live>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(live) = receiver.try_recv() {
            match live.kind {
                LiveKind::Lines(_, lines) => all.extend(lines),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn pieces_become_lines() {
        let (log, _, mut receiver) = log(1000);
        let mut writer = log.lines(Stream::Stdout);
        for piece in ["fir", "st\r\nsec", "ond\n\nlast"] {
            writer.push(piece.as_bytes()).await;
        }
        writer.finish().await;
        assert_eq!(lines(&mut receiver), ["first", "second", "", "last"]);
    }

    #[tokio::test]
    async fn findings_have_a_bound_and_its_end_is_told_once() {
        let (log, _, mut receiver) = log(1000);
        let message = "x".repeat(64 * 1024 - 100);
        for _ in 0..100 {
            let (code, path, help) = ("long".to_owned(), None, None);
            let level = stagewright_engine::Level::Error;
            log.problem(Problem { level, code, message: message.clone(), path, help }).await;
        }
        let (mut findings, mut told) = (0, Vec::new());
        while let Ok(live) = receiver.try_recv() {
            match live.kind {
                LiveKind::Problem(_) => findings += 1,
                LiveKind::Lines(Stream::Engine, lines) => told.extend(lines),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((findings, told), (32, vec!["further findings are left out: those before come to 2MiB".to_owned()]));
    }

    #[tokio::test]
    async fn terminal_codes_are_taken_out_across_pieces() {
        let (log, _, mut receiver) = log(1000);
        let mut writer = log.lines(Stream::Stdout);
        writer.push(b"\x1b[1;3").await;
        writer.push(b"2mgreen\x1b[0m \x1b]0;title\x07tab\there\x08 \x1b]8;;http://x\x1b\\link\n").await;
        writer.push(b"\x1b]unended\nnext \xc3\xa9\xc2\x9b\n").await;
        assert_eq!(lines(&mut receiver), ["green tab\there link", "", "next é"]);
    }

    #[tokio::test]
    async fn a_secret_in_two_pieces_with_a_colour_in_it_is_masked() {
        let (log, _, mut receiver) = log(1000);
        log.masker().add("hunter2hunter2", false);
        let mut writer = log.lines(Stream::Stderr);
        writer.push(b"is hunter2\x1b[1").await;
        writer.push(b"mhunter2!\n").await;
        assert_eq!(lines(&mut receiver), ["is ***!"]);
    }

    #[tokio::test]
    async fn a_long_line_is_split_between_characters_and_its_secret_is_masked_first() {
        let (log, _, mut receiver) = log(u64::MAX);
        log.masker().add("a-secret-value", false);
        let start = "é".repeat(LINE / 2 - 3);
        log.text(Stream::Plugin, &format!("x{start}a-secret-value end")).await;
        let lines = lines(&mut receiver);
        assert_eq!(lines.concat(), format!("x{start}*** end"));
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() <= LINE));
    }

    #[tokio::test]
    async fn what_goes_beyond_the_limit_stops_the_attempt() {
        let (log, switch, mut receiver) = log(10);
        log.text(Stream::Plugin, "12345").await;
        assert_eq!(switch.reason(), None);
        log.text(Stream::Plugin, "abc\ndef").await;
        assert_eq!(switch.reason(), Some(Stopped::LogLimit(10)));
        assert_eq!(lines(&mut receiver), ["12345", "abc"]);
    }
}
