//! A problem in a line that begins with its place: `path:line:column: error: message` of gcc, clang, mypy and many others,
//! and without a word for the level as of Go, ruff and flake8; also the errors of linkers.

use crate::place::at_start;
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};

/// The problem that a line begins.
pub(crate) fn head(line: &str) -> Option<MatchedProblem> {
    diagnostic(line).or_else(|| linker(line))
}

/// A line of code with its marks, or a note about the problem.
pub(crate) fn is_continuation(line: &str) -> bool {
    let is_note = at_start(line).is_some_and(|(_, rest)| rest.trim_start().starts_with("note: "));
    is_note || (line.starts_with(' ') && !line.trim().is_empty())
}

fn diagnostic(line: &str) -> Option<MatchedProblem> {
    let (place, rest) = at_start(line.strip_prefix("vet: ").unwrap_or(line))?;
    let text = rest.strip_prefix(' ')?.trim_start();
    const LEVELS: [(&str, ProblemLevel); 5] = [
        ("fatal error", ProblemLevel::Error),
        ("internal compiler error", ProblemLevel::Error),
        ("error", ProblemLevel::Error),
        ("warning", ProblemLevel::Warning),
        ("Error", ProblemLevel::Error),
    ];
    for (word, level) in LEVELS {
        let Some(rest) = text.strip_prefix(word) else { continue };
        if let Some(message) = rest.strip_prefix(": ") {
            let (message, rule) = trailing_rule(message);
            let usual = if level == ProblemLevel::Error { "compile-error" } else { "compile-warning" };
            return Some(MatchedProblem::new(level, rule.unwrap_or(usual), message, Some(place)));
        }
        // rustc's short format.
        if let Some((code, message)) = rest.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            return Some(MatchedProblem::new(level, code, message, Some(place)));
        }
    }
    if text.starts_with("note: ") {
        return None;
    }
    unlabelled(text, place)
}

/// A message without a word for its level: `F401 message`, `message [Error/no-undef]`, or of a file of Go any text.
fn unlabelled(text: &str, place: SourcePlace) -> Option<MatchedProblem> {
    let is_go = place.path.ends_with(".go");
    place.column.filter(|_| !text.is_empty()).or(is_go.then_some(0))?;
    if let Some((message, rule)) = text.strip_suffix(']').and_then(|text| text.rsplit_once(" [")) {
        let (level, rule) = rule.split_once('/').map_or(("", rule), |(level, rule)| match level {
            "Error" | "Warning" => (level, rule),
            _ => ("", rule),
        });
        let level = if level == "Warning" { ProblemLevel::Warning } else { ProblemLevel::Error };
        return Some(MatchedProblem::new(level, rule, message, Some(place)));
    }
    let (code, message) = text.split_once(' ')?;
    let letters = code.bytes().take_while(u8::is_ascii_uppercase).count();
    let is_code = (1..=4).contains(&letters) && code[letters..].trim_end_matches(':').parse::<u32>().is_ok();
    let is_rule = code.ends_with(':')
        && code.contains('-')
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || b"-:".contains(&byte));
    if is_code || is_rule {
        let message = message.strip_prefix("[*] ").unwrap_or(message);
        return Some(MatchedProblem::error(code.trim_end_matches(':'), message, Some(place)));
    }
    Some(MatchedProblem::error(if is_go { "go" } else { "lint" }, text, Some(place)))
}

/// The rule at the end of a message: `[-Wunused-variable]`, `[return-value]`.
fn trailing_rule(message: &str) -> (&str, Option<&str>) {
    let parts = message.strip_suffix(']').and_then(|text| text.rsplit_once('['));
    let is_rule = |rule: &str| !rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_graphic());
    match parts.filter(|(before, rule)| before.ends_with(' ') && is_rule(rule)) {
        Some((before, rule)) => (before.trim_end(), Some(rule)),
        None => (message, None),
    }
}

/// `l.c:(.text+0x5): undefined reference to `x'`, or `/usr/bin/ld: cannot find -lx`.
fn linker(line: &str) -> Option<MatchedProblem> {
    if let Some(at) = line.find("undefined reference to ") {
        let object = line[..at].split(":(").next().unwrap_or_default();
        let path = object.rsplit(": ").next().unwrap_or(object).trim();
        let path = path.strip_suffix(':').unwrap_or(path);
        let place = crate::place::is_path(path).then(|| SourcePlace::new(path, None, None));
        return Some(MatchedProblem::error("ld", &line[at..], place));
    }
    let (program, message) = line.split_once(": ")?;
    let is_linker = matches!(program.rsplit('/').next(), Some("ld" | "ld.lld" | "ld.gold" | "mold" | "lld"));
    let says_why = message.starts_with("cannot find ") || message.starts_with("error: ");
    (is_linker && says_why)
        .then(|| MatchedProblem::error("ld", message.strip_prefix("error: ").unwrap_or(message), None))
}
