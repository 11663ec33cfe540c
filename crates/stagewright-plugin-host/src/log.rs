//! An attempt's log: turns bytes and text into complete lines, without terminal codes and without secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::{memchr_iter, memrchr};
use stagewright_engine::{AttemptOutput, Lines, Problem, Stream};
use stagewright_model::{condensed, last_state, moves_cursor};

use crate::mask::{Audience, MaskStream, Masker};
use crate::report::{masked_problem, masked_words, secret_across_cursor_moves};
use crate::stop::{AttemptAborter, StopReason};
use crate::strip::Stripper;

/// The most bytes of a line; longer ones are split.
const LINE: usize = 64 * 1024;

/// The log, the findings and the progress of an attempt; clones write to the same attempt and share its limits.
#[derive(Clone, Debug)]
pub(crate) struct AttemptLog {
    output: AttemptOutput,
    masker: Masker,
    aborter: AttemptAborter,
    limit: u64,
    written: Arc<AtomicU64>,
    most_lines: u64,
    lines: Arc<AtomicU64>,
}

impl AttemptLog {
    /// `limit`: bytes, line ends included. Exceeding it aborts the attempt.
    pub(crate) fn new(output: AttemptOutput, masker: Masker, aborter: AttemptAborter, limit: u64) -> AttemptLog {
        let (written, lines) = Default::default();
        AttemptLog { output, masker, aborter, limit, written, most_lines: u64::MAX, lines }
    }

    /// Also limits the number of lines.
    pub(crate) fn bounded(self, lines: u64) -> AttemptLog {
        AttemptLog { most_lines: lines, ..self }
    }

    /// Masks the secrets of the attempt.
    pub(crate) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// The unmasked channel to the engine, for callers that mask by themselves.
    pub(crate) fn output(&self) -> &AttemptOutput {
        &self.output
    }

    /// Reports progress: step `current` of `total`.
    pub(crate) fn progress(&self, message: &str, current: u64, total: Option<u64>) {
        self.output.progress(masked_words(message, &self.masker), current, total);
    }

    /// Adds Markdown that is shown with the run.
    pub(crate) async fn summary(&self, markdown: String) {
        self.output.summary(self.masker.text(&markdown)).await;
    }

    /// Reports a finding, masked.
    pub(crate) async fn problem(&self, problem: Problem) {
        self.output.problem(masked_problem(problem, &self.masker)).await;
    }

    /// Writes text of one or more lines.
    pub(crate) async fn text(&self, stream: Stream, text: &str) {
        let mut lines = self.lines(stream);
        lines.push(text.as_bytes()).await;
        lines.finish().await;
    }

    /// Writes a line of the engine's own. It isn't counted against the limits, because it may be the one that explains why
    /// the log ends.
    pub(crate) async fn engine(&self, line: &str) {
        self.output.lines(Stream::Engine, Lines::new(self.masker.text(line))).await;
    }

    /// A writer for output that arrives in chunks.
    pub(crate) fn lines(&self, stream: Stream) -> LogLineWriter {
        LogLineWriter {
            stream,
            stripper: Stripper::default(),
            mask: MaskStream::new(self.masker.clone(), Audience::Person),
            unfinished: Vec::new(),
            log: self.clone(),
        }
    }

    async fn write(&self, stream: Stream, lines: Lines) {
        let total = lines.size() as u64;
        let before = self.written.fetch_add(total, Ordering::Relaxed);
        let fitting = lines.first(usize::MAX, cut(self.limit.saturating_sub(before)));
        let count = fitting.count() as u64;
        let room = self.most_lines.saturating_sub(self.lines.fetch_add(count, Ordering::Relaxed));
        let fitting = fitting.first(cut(room), usize::MAX);
        if fitting.count() > 0 {
            self.output.lines(stream, fitting).await;
        }
        if count > room {
            self.aborter.abort(StopReason::LogLines(self.most_lines));
        }
        if before.saturating_add(total) > self.limit {
            self.aborter.abort(StopReason::LogLimit(self.limit));
        }
    }
}

fn cut(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Assembles chunks into masked lines.
#[derive(Debug)]
pub(crate) struct LogLineWriter {
    stream: Stream,
    stripper: Stripper,
    mask: MaskStream,
    /// The masked beginning of a line that hasn't ended yet.
    unfinished: Vec<u8>,
    log: AttemptLog,
}

impl LogLineWriter {
    /// Writes the lines that `data` completes. Waits while the log's reader is behind.
    pub(crate) async fn push(&mut self, data: &[u8]) {
        self.mask.push(&self.stripper.strip(data), &mut self.unfinished);
        self.write().await;
    }

    /// Writes the rest as a last line.
    pub(crate) async fn finish(&mut self) {
        self.mask.push(self.stripper.finish(), &mut self.unfinished);
        self.mask.finish(&mut self.unfinished);
        if self.unfinished.last().is_some_and(|&byte| byte != b'\n') {
            self.unfinished.push(b'\n');
        }
        self.write().await;
    }

    /// Reduces each complete line to what a terminal would finally show of it, and shortens an incomplete one that is
    /// redrawn: a progress meter may redraw its line for hours.
    fn resolve(&mut self) {
        if !is_redrawn(&self.unfinished) {
            return;
        }
        let end = memrchr(b'\n', &self.unfinished).map_or(0, |end| end + 1);
        let rest = self.unfinished.split_off(end);
        let whole = text(std::mem::take(&mut self.unfinished));
        for line in whole.lines() {
            if is_redrawn(line.as_bytes()) {
                let masker = &self.log.masker;
                // The stream was masked as it was written. A program that moves the cursor can still assemble a secret from
                // parts, which only shows in the final state of the line, or leave a part of one visible. So the line is
                // checked once more, without its cursor movements and in its final state.
                let shown = secret_across_cursor_moves(line, masker).unwrap_or_else(|| masker.text(&last_state(line)));
                self.unfinished.extend(shown.into_bytes());
            } else {
                self.unfinished.extend_from_slice(line.as_bytes());
            }
            self.unfinished.push(b'\n');
        }
        match rest.len() > LINE && is_redrawn(&rest) {
            true => self.unfinished.extend_from_slice(condensed(&String::from_utf8_lossy(&rest)).as_bytes()),
            false => self.unfinished.extend_from_slice(&rest),
        }
    }

    async fn write(&mut self) {
        self.resolve();
        break_lines(&mut self.unfinished);
        let Some(end) = memrchr(b'\n', &self.unfinished) else { return };
        let rest = self.unfinished.split_off(end + 1);
        let lines = Lines::new(text(std::mem::replace(&mut self.unfinished, rest)));
        self.log.write(self.stream, lines).await;
    }
}

/// Whether a terminal would have redrawn a part of the text.
fn is_redrawn(text: &[u8]) -> bool {
    text.iter().any(|&byte| moves_cursor(char::from(byte)))
}

/// Splits lines that are longer than [`LINE`].
fn break_lines(text: &mut Vec<u8>) {
    let mut start = 0;
    let ends = memchr_iter(b'\n', text).chain([text.len()]);
    let is_long = |end: usize| end - std::mem::replace(&mut start, end + 1) > LINE;
    if text.len() <= LINE || !ends.into_iter().any(is_long) {
        return;
    }
    let mut broken = Vec::with_capacity(text.len() + text.len() / LINE + 1);
    for mut line in text.split_inclusive(|&byte| byte == b'\n') {
        while line.strip_suffix(b"\n").unwrap_or(line).len() > LINE {
            let (first, rest) = line.split_at(character_end(line, LINE));
            broken.extend_from_slice(first);
            broken.push(b'\n');
            line = rest;
        }
        broken.extend_from_slice(line);
    }
    *text = broken;
}

/// The bytes as text. Masking keeps UTF-8 valid, since only whole characters are replaced, so nothing should be lost.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The last index at or before `at` that doesn't split a UTF-8 character.
fn character_end(bytes: &[u8], at: usize) -> usize {
    let is_continuation = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|&index| !is_continuation(index)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use stagewright_engine::{AttemptMessageKind, Delivery};
    use stagewright_model::StageIndex;
    use tokio::sync::mpsc;

    use super::*;

    fn log(limit: u64) -> (AttemptLog, AttemptAborter, mpsc::Receiver<Delivery>) {
        let (sender, receiver) = mpsc::channel(1000);
        let aborter = AttemptAborter::default();
        let output = AttemptOutput::new(StageIndex(0), 1, sender);
        (AttemptLog::new(output, Masker::default(), aborter.clone(), limit), aborter, receiver)
    }

    fn lines(receiver: &mut mpsc::Receiver<Delivery>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(delivery) = receiver.try_recv() {
            match delivery.message.kind {
                AttemptMessageKind::Lines(_, lines) => all.extend(lines.iter().map(str::to_owned)),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn chunks_are_assembled_into_lines() {
        let (log, _, mut receiver) = log(1000);
        let mut writer = log.lines(Stream::Stdout);
        for piece in ["fir", "st\r\nsec", "ond\n\nlast"] {
            writer.push(piece.as_bytes()).await;
        }
        writer.finish().await;
        assert_eq!(lines(&mut receiver), ["first", "second", "", "last"]);
    }

    #[tokio::test]
    async fn terminal_codes_are_removed_even_when_split_between_chunks() {
        let (log, _, mut receiver) = log(1000);
        let mut writer = log.lines(Stream::Stdout);
        writer.push(b"\x1b[1;3").await;
        writer.push(b"2mgreen\x1b[0m \x1b]0;title\x07tab\there\x08 \x1b]8;;http://x\x1b\\link\n").await;
        writer.push(b"\x1b]unended\nnext \xc3\xa9\xc2\x9b\n").await;
        assert_eq!(lines(&mut receiver), ["green tab\ther link", "", "next é"]);
    }

    #[tokio::test]
    async fn only_the_last_state_of_a_progress_meter_is_kept() {
        let meter: String = (0..=100).map(|percent| format!("{percent:>3}%\r")).collect();
        let text = format!("a\r\n{meter}\n{meter}\u{1b}[Kdone\nb\u{8}bo\u{8}old");
        for size in [1, 7, text.len()] {
            let (log, _, mut receiver) = log(1000);
            let mut writer = log.lines(Stream::Stdout);
            for piece in text.as_bytes().chunks(size) {
                writer.push(piece).await;
            }
            writer.finish().await;
            assert_eq!(lines(&mut receiver), ["a", "100%", "done", "bold"], "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_meter_that_never_ends_its_line_uses_bounded_memory() {
        let (log, _, mut receiver) = log(1000);
        let mut writer = log.lines(Stream::Stdout);
        for count in 0..30_000 {
            writer.push(format!("{count} of 30000\r").as_bytes()).await;
        }
        assert!(writer.unfinished.len() < 2 * LINE, "{}", writer.unfinished.len());
        writer.finish().await;
        assert_eq!(lines(&mut receiver), ["29999 of 30000"]);
    }

    #[tokio::test]
    async fn a_secret_is_masked_before_and_after_it_is_overwritten() {
        let (log, _, mut receiver) = log(1000);
        log.masker().add("hunter2horse", false);
        for redrawn in [
            "hunter2horse\rhun",
            "hunter2\rhorse",
            "hunter2\u{8}\rhorse",
            "XXXXXXXhorse\rhunter2",
            "hunter2hXrse\u{8}\u{8}\u{8}\u{8}o",
        ] {
            log.text(Stream::Stdout, redrawn).await;
        }
        let lines = lines(&mut receiver);
        assert!(lines.iter().all(|line| !line.contains("nter2") && !line.contains("horse")), "{lines:?}");
        let failure = masked_words("XXXXXXXhorse\rhunter2\nhunter2horse\rhun\nhunter2\rhorse", log.masker());
        assert!(!failure.contains("nter2") && !failure.contains("horse"), "{failure}");
    }

    #[tokio::test]
    async fn a_secret_split_by_a_colour_code_and_between_chunks_is_masked() {
        let (log, _, mut receiver) = log(1000);
        log.masker().add("hunter2hunter2", false);
        let mut writer = log.lines(Stream::Stderr);
        writer.push(b"is hunter2\x1b[1").await;
        writer.push(b"mhunter2!\n").await;
        assert_eq!(lines(&mut receiver), ["is ***!"]);
    }

    #[tokio::test]
    async fn a_secret_with_invisible_characters_in_between_is_masked() {
        let hidden = [
            "\u{80}",
            "\u{1b}[1m",
            "\u{ad}",
            "\0",
            "\u{200b}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{202e}",
            "\u{e0041}",
            "\u{2028}",
        ];
        let hidden = hidden.iter().map(|text| text.as_bytes()).chain([&b"\xef"[..], b"\xff", b"\xe2\x80", b"\xfd"]);
        for between in hidden {
            let (log, _, mut receiver) = log(10_000);
            log.masker().add("hunter2horse", false);
            for size in 1..30 {
                let mut writer = log.lines(Stream::Stdout);
                for piece in [b"is hunter2", between, b"horse!\n"].concat().chunks(size) {
                    writer.push(piece).await;
                }
                writer.finish().await;
                assert_eq!(lines(&mut receiver), ["is ***!"], "{between:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_secret_that_contains_invisible_characters_is_masked_without_them_too() {
        let (log, _, mut receiver) = log(1000);
        log.masker().add("hunter\u{1}\u{200b}2\u{1b}[1mhorse", false);
        log.text(Stream::Stdout, "is hunter\u{1}\u{200b}2\u{1b}[1mhorse and hunter2horse").await;
        assert_eq!(lines(&mut receiver), ["is *** and ***"]);
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
    async fn exceeding_the_log_limit_aborts_the_attempt() {
        let (log, aborter, mut receiver) = log(10);
        log.text(Stream::Plugin, "12345").await;
        assert_eq!(aborter.reason(), None);
        log.text(Stream::Plugin, "abc\ndef").await;
        assert_eq!(aborter.reason(), Some(StopReason::LogLimit(10)));
        assert_eq!(lines(&mut receiver), ["12345", "abc"]);
    }
}
