//! The output of a run on various kinds of terminals, with the binary on a real pseudo-terminal.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::environment::{Ended, TestEnvironment, binary};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "seen"
[inputs.end]
type = "string"
default = "good"
[stages.compile]
uses = "command"
with = { run = "echo compiling the first part and the second part of it" }
permissions = { process = ["sh"] }
[stages.check]
uses = "command"
needs = ["compile"]
if = "inputs.end == 'bad'"
with = { run = "printf '10%%\\r20%%\\r\\033[31mthe reason of it\\033[0m\\n' >&2; exit 3" }
permissions = { process = ["sh"] }
[stages.gate]
uses = "approve"
needs = ["compile"]
if = "inputs.end == 'gate'"
with = { message = "Shall it be released to everybody who uses it, today and not tomorrow?" }
[stages.publish]
uses = "noop"
needs = ["check"]
"#;

/// `TERM`, the number of columns, and another variable.
type Kind = (Option<&'static str>, usize, Option<(&'static str, &'static str)>);

const KINDS: [Kind; 7] = [
    (Some("dumb"), 80, None),
    (None, 80, None),
    (Some("xterm"), 20, None),
    (Some("xterm"), 80, None),
    (Some("xterm"), 120, None),
    (Some("xterm"), 80, Some(("NO_COLOR", "1"))),
    (Some("xterm"), 80, Some(("CI", "true"))),
];

/// Runs the binary on a terminal with util-linux's `script`. Returns everything that was sent to the terminal.
fn on_terminal(environment: &TestEnvironment, (term, columns, other): Kind, args: &str) -> Ended {
    let line = format!("stty cols {columns} rows 50 -onlcr; exec '{}' {args}", binary().display());
    let mut command = environment.program("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).env("SHELL", "/bin/sh");
    command.envs(term.map(|term| ("TERM", term))).envs(other);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("`script` of util-linux starts");
    let mut keyboard = child.stdin.take().expect("a pipe");
    let mut screen = child.stdout.take().expect("a pipe");
    let (mut sent, mut piece, mut is_answered) = (Vec::new(), [0; 4096], false);
    loop {
        let length = screen.read(&mut piece).expect("`script` writes");
        if length == 0 {
            break;
        }
        sent.extend_from_slice(&piece[..length]);
        if !is_answered && String::from_utf8_lossy(&sent).contains("[l]ater? ") {
            is_answered = true;
            keyboard.write_all(b"l\n").expect("`script` reads");
        }
    }
    let ended = Ended::of(&child.wait_with_output().expect("`script` ends"));
    Ended { stdout: String::from_utf8(sent).expect("UTF-8"), ..ended }
}

/// The final rows of a terminal with this number of columns, including those that scrolled out.
fn rows(sent: &str, columns: usize) -> Vec<String> {
    let (mut rows, mut row, mut column) = (vec![Vec::new()], 0_usize, 0_usize);
    let mut rest = sent.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' => column = 0,
            '\n' => (row, column) = (row + 1, 0),
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['), "only CSI sequences are sent");
                let sequence = rest.as_str();
                let end = sequence.find(|one: char| one.is_ascii_alphabetic()).expect("a whole sequence");
                rest = sequence[end + 1..].chars();
                match &sequence[end..=end] {
                    "A" => row = row.saturating_sub(sequence[..end].parse().unwrap_or(1)),
                    "K" => rows[row].clear(),
                    "J" => rows.truncate(row + 1),
                    _ => {}
                }
            }
            _ => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                rows.resize(rows.len().max(row + 1), Vec::new());
                let length = rows[row].len().max(column + 1);
                rows[row].resize(length, ' ');
                rows[row][column] = character;
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), Vec::new());
    }
    rows.into_iter().map(|row| row.into_iter().collect()).collect()
}

/// The text that was sent, without control sequences and line breaks.
fn said(sent: &str) -> String {
    let mut parts = sent.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let after = |part: &str| part.find(|one: char| one.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1);
    let text = parts.fold(first, |text, part| text + &part[after(part)..]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Words that runs show. Each run shows some of them.
const VOCABULARY: [&str; 16] = [
    "approve",
    "attempts",
    "check",
    "compile",
    "duration",
    "everybody",
    "failed",
    "inputs.end",
    "publish",
    "reject",
    "released",
    "result",
    "resume",
    "skipped",
    "stagewright",
    "succeeded",
];

fn check(kind: Kind, sent: &str) {
    let (term, columns, other) = kind;
    for pair in rows(sent, columns).windows(2) {
        // After a line that fills the terminal's width, the next one may begin without a blank.
        let last = pair[0].split(' ').next_back().filter(|_| pair[0].chars().count() == columns).unwrap_or_default();
        let broken = format!("{last}{}", pair[1].split(' ').next().unwrap_or_default());
        let is_broken = !last.is_empty() && broken != last && VOCABULARY.contains(&broken.as_str());
        assert!(!is_broken, "{kind:?}: `{broken}` is broken\n{sent}");
    }
    let is_plain = term != Some("xterm");
    assert!(!(is_plain && sent.contains('\u{1b}')), "{kind:?} was sent sequences: {sent:?}");
    let is_colored = sent.contains("\u{1b}[1m") || sent.contains("\u{1b}[32m") || sent.contains("\u{1b}[31m");
    assert_eq!(is_colored, !is_plain && other.is_none_or(|(name, _)| name != "NO_COLOR"), "{kind:?}: {sent:?}");
}

/// The words on the terminal, regardless of line breaks.
fn words(sent: &str, columns: usize) -> String {
    rows(sent, columns).join("\n").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_terminal_shows_why_a_run_failed() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for kind in KINDS {
        for args in ["run -i end=bad", "resume latest"] {
            let ended = on_terminal(&environment, kind, args).exits(1);
            check(kind, &ended.stdout);
            let words = words(&ended.stdout, kind.1);
            assert!(
                words.contains("because: the reason of it") && words.contains("skipped"),
                "{kind:?} {args}: {words}"
            );
            assert!(!words.contains("10%") && !words.contains("[31m"), "{kind:?} {args}: {words}");
        }
    }
    let ended = environment.run(&["run", "-i", "end=bad"]).exits(1);
    assert!(ended.stdout.contains("because: the reason of it"), "{}", ended.stdout);
}

#[test]
fn every_terminal_shows_success_and_questions() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for kind in KINDS {
        let good = on_terminal(&environment, kind, "run").exits(0);
        check(kind, &good.stdout);
        assert!(words(&good.stdout, kind.1).contains("seen succeeded after"), "{kind:?}: {}", good.stdout);
        let gate = on_terminal(&environment, kind, "run -i end=gate").exits(5);
        let words = said(&gate.stdout);
        assert!(words.contains("gate asks: Shall it be released") && words.contains("stagewright approve"), "{words}");
        check(kind, &gate.stdout);
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.run(&["run"]).exits(0);
    let full = || std::fs::File::create("/dev/full").expect("Linux has /dev/full");
    for args in [
        vec!["run"],
        vec!["run", "--format", "json"],
        vec!["run", "--format", "github"],
        vec!["show", "latest"],
        vec!["runs"],
        vec!["plan"],
        vec!["plan", "--json"],
        vec!["graph"],
        vec!["logs", "latest"],
        vec!["validate", "--json"],
        vec!["env", "list", "--json"],
        vec!["explain", "compile"],
        vec!["completions", "bash"],
        vec!["--help"],
        vec!["--version"],
    ] {
        let output = environment.program(&binary().display().to_string()).args(&args).stdout(full()).output();
        let ended = Ended::of(&output.expect("the binary starts")).exits(7);
        assert!(ended.stderr.contains("can't write the output"), "{args:?}: {}", ended.stderr);
    }
    // The exit code of a failed run takes precedence.
    let mut failing = environment.program(&binary().display().to_string());
    let ended = Ended::of(&failing.args(["run", "-i", "end=bad"]).stdout(full()).output().expect("the binary starts"));
    assert!(ended.exits(1).stderr.contains("can't write the output"));
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for args in ["run", "plan", "--help"] {
        let line = format!("'{}' {args} | true; exit ${{PIPESTATUS[0]}}", binary().display());
        let ended = Ended::of(&environment.program("bash").args(["-c", &line]).output().expect("bash starts"));
        let stderr = ended.exits(0).stderr;
        assert!(!stderr.contains("error"), "{args}: {stderr}");
    }
}
