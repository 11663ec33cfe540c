//! Rules for a single source file. Those on calls are a fast approximation; the exact ones are in clippy.toml.

use super::TidyFinding;

/// Files with more lines get a warning, and an error.
const LONG: usize = 500;
const TOO_LONG: usize = 800;

/// A program that works for cargo.
const BUILD_SCRIPT: &str = "crates/stagewright-builtin-plugins/build.rs";

/// Calls that only some parts of the tree may make.
struct Restriction {
    /// The paths of the functions, as they are written in code.
    calls: &'static [&'static str],
    /// Prefixes of the files that must not make the calls.
    within: &'static [&'static str],
    /// Prefixes of the files that may.
    except: &'static [&'static str],
    help: &'static str,
}

const RESTRICTIONS: [Restriction; 5] = [
    Restriction {
        calls: &["std::process::Command", "tokio::process::Command"],
        within: &[""],
        except: &["crates/stagewright-process/", "xtask/", BUILD_SCRIPT],
        help: "start processes through stagewright-process, which groups, limits and reaps them",
    },
    Restriction {
        calls: &[
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
            "env::current_dir",
            "env::current_exe",
            "env::home_dir",
            "env::temp_dir",
        ],
        within: &["crates/", "plugins/"],
        except: &["crates/stagewright-cli/", "crates/stagewright-plugin-build/", BUILD_SCRIPT],
        help: "only the cli reads the environment; take the value as an argument",
    },
    Restriction {
        calls: &[
            "NetRule::parse",
            "PathRule::parse",
            "ProcessRule::parse",
            "RepositoryRule::parse",
            "SecretRule::parse",
            "ServiceRule::parse",
            "SocketRule::parse",
            "VariableName::parse",
        ],
        within: &["crates/", "plugins/"],
        except: &["crates/stagewright-model/"],
        help: "the model parses grants, once: use the parsed ones in `Permissions`",
    },
    Restriction {
        calls: &["println!", "print!", "eprintln!", "eprint!"],
        within: &["crates/", "plugins/"],
        except: &["crates/stagewright-cli/", "crates/stagewright-plugin-build/examples/", BUILD_SCRIPT],
        help: "a library doesn't print: return the value, write to a given writer, or trace",
    },
    Restriction {
        calls: &["SystemTime::now", "Instant::now"],
        within: &["crates/stagewright-model/", "crates/stagewright-engine/", "crates/stagewright-report/"],
        except: &[],
        help: "get the time from outside: through the port `Clock`, or with the event",
    },
];

/// All findings of one file of the tree.
pub(super) fn check(path: &str, text: &str) -> Vec<TidyFinding> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    findings.extend(check_length(path, text));
    findings.extend(check_unfinished(path, text));
    findings.extend(check_crate_doc(path, text));
    if !is_test_or_example(path) {
        let code = code_only(text);
        findings.extend(RESTRICTIONS.iter().flat_map(|restriction| check_calls(restriction, path, &code)));
    }
    findings
}

fn check_length(path: &str, text: &str) -> Option<TidyFinding> {
    let lines = text.lines().count();
    let message = format!("{lines} lines");
    let help = format!("split it by topic; files stay under {LONG} lines");
    match lines {
        _ if lines > TOO_LONG => Some(TidyFinding::error(path, message, help)),
        _ if lines > LONG => Some(TidyFinding::warning(path, message, help)),
        _ => None,
    }
}

fn check_unfinished(path: &str, text: &str) -> Vec<TidyFinding> {
    // Written in two parts, so that this file passes its own check.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimplemented", "!")];
    let found = marks.iter().flat_map(|mark| word_positions(text, mark).map(move |at| (mark, at)));
    found
        .map(|(mark, at)| TidyFinding::error(place(path, text, at), format!("`{mark}`"), "finish it, or open an issue"))
        .collect()
}

/// The documentation of a crate must state its architecture invariant: what the crate never does.
fn check_crate_doc(path: &str, text: &str) -> Option<TidyFinding> {
    let within_crate = path.strip_prefix("crates/")?.split_once('/')?.1;
    if within_crate != "src/lib.rs" && within_crate != "src/main.rs" {
        return None;
    }
    let doc: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    if doc.join("\n").contains("Architecture invariant") {
        return None;
    }
    let help = "say what flows in and out and, after `Architecture invariant:`, what the crate may not do";
    Some(TidyFinding::error(path, "no module doc with an `Architecture invariant`", help))
}

fn check_calls(restriction: &Restriction, path: &str, code: &str) -> Vec<TidyFinding> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    if !starts(restriction.within) || starts(restriction.except) {
        return Vec::new();
    }
    let found = restriction.calls.iter().flat_map(|call| {
        let imported = import_positions(code, call);
        word_positions(code, call).chain(imported).map(move |at| (call, at))
    });
    found.map(|(call, at)| TidyFinding::error(place(path, code, at), format!("`{call}`"), restriction.help)).collect()
}

/// The positions at which `a::b::{…, c, …}` imports `a::b::c`.
fn import_positions(code: &str, call: &str) -> Vec<usize> {
    let Some((module, item)) = call.rsplit_once("::") else { return Vec::new() };
    let group = format!("{module}::{{");
    code.match_indices(&group)
        .filter(|(at, group)| {
            let items = code[at + group.len()..].split('}').next().unwrap_or_default();
            word_positions(items, item).next().is_some()
        })
        .map(|(at, _)| at)
        .collect()
}

/// The positions of a word in `text`, except for those where it is part of a longer word.
pub(super) fn word_positions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && (word.ends_with('!') || !after.is_some_and(is_part))
    })
}

/// A location as `FILE:LINE`.
pub(super) fn place(path: &str, text: &str, at: usize) -> String {
    format!("{path}:{}", text[..at].matches('\n').count() + 1)
}

fn is_test_or_example(path: &str) -> bool {
    path.starts_with("tests/")
        || path.starts_with("pipelines/")
        || ["/tests/", "/examples/", "/benches/"].iter().any(|folder| path.contains(folder))
}

/// The code of a file up to its unit tests. Comments and literals are replaced by spaces, so that lines keep their
/// numbers.
pub(super) fn code_only(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = token_to_blank(rest);
        if length == 0 {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        } else {
            let (token, after) = rest.split_at(length);
            code.extend(token.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// The length of the comment or literal that begins here; 0 if none does.
fn token_to_blank(rest: &str) -> usize {
    let up_to = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return up_to(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return up_to(rest.find("*/").map(|at| at + 2));
    }
    if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
        return up_to(rest[1..].find('\'').map(|at| at + 2));
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            return up_to(rest[start..].find(&end).map(|at| start + at + end.len()));
        }
    }
    if rest.starts_with('"') {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|&(_, character)| {
            let closes = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            closes
        });
        return up_to(end.map(|(at, _)| at + 1));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(path, text).into_iter().map(|finding| format!("{} {}", finding.place, finding.message)).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn long_files_are_warnings_and_very_long_ones_errors() {
        let severity = |lines: usize| check("xtask/src/a.rs", &"\n".repeat(lines)).first().map(|found| found.severity);
        assert_eq!(severity(500), None);
        assert_eq!(severity(501), Some(super::super::FindingSeverity::Warning));
        assert_eq!(severity(801), Some(super::super::FindingSeverity::Error));
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_comments() {
        let text = concat!("fn a() {\n    to", "do!()\n}\n// FIX", "ME: later\nlet todos = 1;");
        let found = messages("xtask/src/a.rs", text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("xtask/src/a.rs:4 ") && found[1].starts_with("xtask/src/a.rs:2 "), "{found:?}");
    }

    #[test]
    fn a_crate_states_its_invariant() {
        let path = "crates/stagewright-model/src/lib.rs";
        assert_eq!(messages(path, "//! Reads.\n//!\n//! Architecture invariant: no I/O.\n"), NONE);
        assert_eq!(messages(path, "//! Reads.\n").len(), 1);
        assert_eq!(messages(path, "mod a; // Architecture invariant\n").len(), 1);
        assert_eq!(messages("crates/stagewright-model/src/plan.rs", "//! Reads.\n"), NONE);
    }

    #[test]
    fn only_one_crate_may_start_processes() {
        for text in [
            "let c = std::process::Command::new(\"a\");",
            "use tokio::process::Command;",
            "use std::process::{Child, Command};",
        ] {
            assert_eq!(messages("crates/stagewright-store/src/a.rs", text).len(), 1, "{text}");
            assert_eq!(messages("crates/stagewright-process/src/a.rs", text), NONE);
        }
        for text in
            ["use stagewright_process::Command;", "use std::process::{ExitCode, Stdio};", "std::process::exit(1)"]
        {
            assert_eq!(messages("crates/stagewright-store/src/a.rs", text), NONE);
        }
    }

    #[test]
    fn libraries_may_not_read_the_environment_or_print() {
        for text in [
            "std::env::var(\"HOME\")",
            "use std::env;\nenv::var_os(\"HOME\")",
            "std::env::temp_dir()",
            "println!()",
            "  eprintln!(\"a\")",
        ] {
            assert_eq!(messages("crates/stagewright-store/src/a.rs", text).len(), 1, "{text}");
            assert_eq!(messages("crates/stagewright-cli/src/a.rs", text), NONE);
        }
        assert_eq!(
            messages("crates/stagewright-store/src/a.rs", "env!(\"A\"); std::env::consts::OS; my_println!()"),
            NONE
        );
    }

    #[test]
    fn inner_crates_may_not_read_the_clock() {
        assert_eq!(messages("crates/stagewright-engine/src/a.rs", "SystemTime::now()").len(), 1);
        assert_eq!(messages("crates/stagewright-report/src/a.rs", "std::time::Instant::now()").len(), 1);
        assert_eq!(messages("crates/stagewright-process/src/a.rs", "Instant::now()"), NONE);
    }

    #[test]
    fn comments_literals_and_tests_are_not_code() {
        let text = r##"
            // println!() prints
            /* println!() */
            let a = "println!()"; let b = r#"say "println!()""#; let c = '"'; let d = "\"println!()";
#[cfg(test)]
mod tests {
    fn a() { println!() }
}"##;
        assert_eq!(messages("crates/stagewright-store/src/a.rs", text), NONE);
        assert_eq!(messages("crates/stagewright-store/tests/a.rs", "println!()"), NONE);
        assert_eq!(messages("crates/stagewright-store/src/a.rs", "let c = '\"'; println!()").len(), 1);
    }
}
