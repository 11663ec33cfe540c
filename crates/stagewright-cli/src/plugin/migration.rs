//! What a new contract changed for plugin authors, and where a plugin's code is affected.
//!
//! Nothing here edits code. Each change needs a value that only the author knows, such as the type of an output, or depends
//! on what a name refers to, which tokens alone don't tell. The compiler finds all of these places as well, but not what to
//! write instead.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use stagewright_plugin_build::guest::{self, GuestCrate};

use super::PluginCommandError;

/// A change that code for an earlier contract doesn't compile with.
#[derive(Debug)]
struct BreakingChange {
    /// The tokens of affected code, separated by spaces. `"` is any text in quotes; `!(` matches where no parenthesis
    /// follows.
    tokens: &'static str,
    /// The code as it was.
    was: &'static str,
    /// What to write instead.
    instead: &'static str,
}

/// From contract 0.1 to 0.2. `docs/plugins.md` has the same rows.
const SINCE_0_1: [BreakingChange; 19] = [
    BreakingChange {
        tokens: "Diagnostic",
        was: "`Diagnostic`",
        instead: "`Problem::at(key, message)` in `validate`, and elsewhere `Finding::error(rule, message).file(path, None)`",
    },
    BreakingChange {
        tokens: "outputs :: report (",
        was: "`outputs::report(diagnostic)`",
        instead: "`finding.report()`",
    },
    BreakingChange {
        tokens: "Capability",
        was: "`.capability(Capability::Http)`",
        instead: "remove it: imports show what a plugin calls, and `requirements` says what must be granted",
    },
    BreakingChange {
        tokens: ". output ( \"",
        was: "`.output(name, description)`",
        instead: "`.output::<usize>(name, description)`, with the type of the value; `.open_outputs()` for others",
    },
    BreakingChange {
        tokens: "artifacts :: publish (",
        was: "`artifacts::publish(name, path, media_type)`",
        instead: "`artifacts::publish(name, path, Some(media_type))`",
    },
    BreakingChange {
        tokens: "log :: progress (",
        was: "`log::progress` with `u32`",
        instead: "`log::progress` with `u64`",
    },
    BreakingChange {
        tokens: "context :: trace_parent (",
        was: "`context::trace_parent()`, an `Option`",
        instead: "`context::trace_parent()`, always a `String`",
    },
    BreakingChange {
        tokens: "context :: stage (",
        was: "`context::stage()`, with the matrix values",
        instead: "`context::stage_id()`; `context::stage()` is the name without them",
    },
    BreakingChange {
        tokens: ". capture_limit (",
        was: "`command.capture_limit` with `u32`",
        instead: "`command.capture_limit` with `u64`",
    },
    BreakingChange { tokens: ". directory !(", was: "`entry.directory`", instead: "`entry.folder`" },
    BreakingChange {
        tokens: ". retryable !(",
        was: "`error.retryable`",
        instead: "`error.is_retryable()`; to set it: `error.retryable()`",
    },
    BreakingChange {
        tokens: "Suspension {",
        was: "`Suspension { token, reason, poll_after }`",
        instead: "`Suspension::new(token, reason).poll_after(delay)`; in tests, `report.suspended` has the values",
    },
    BreakingChange {
        tokens: ". result . clone (",
        was: "`report.result.clone()`",
        instead: "`report.result.as_ref()`: an `Outcome` can't be cloned",
    },
    BreakingChange {
        tokens: ". problems",
        was: "`report.problems`",
        instead: "`report.findings`, with `rule` for `code` and `file` for `path`",
    },
    BreakingChange {
        tokens: ". validate :: <",
        was: "`host.validate::<MyStage>()[0].path`",
        instead: "`host.validate::<MyStage>()[0].key`",
    },
    BreakingChange {
        tokens: ". deny ( \"",
        was: "`.deny(\"workspace\", path)`",
        instead: "`.deny(Permission::Read, path)`, by the key of `permissions`; listings omit what is denied",
    },
    BreakingChange {
        tokens: ". fail ( \"",
        was: "`.fail(\"http\", url, error)`",
        instead: "`.fail(Interface::Http, url, error)`",
    },
    BreakingChange {
        tokens: "] . content !(",
        was: "`report.published[0].content`",
        instead: "`report.published[0].content()`",
    },
    BreakingChange {
        tokens: ". fields [",
        was: "`gate.fields[0]`, a tuple",
        instead: "`gate.fields[0]`, a `GateField`",
    },
];

/// A place in a plugin's code that must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MigrationHint {
    /// The file, as an absolute path.
    pub(super) file: PathBuf,
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The code as it was, in general terms.
    pub(super) was: &'static str,
    /// What to write instead.
    pub(super) instead: &'static str,
}

/// The places in the guests, and in the crates that they depend on by path, which must change when their SDK, in the folder
/// `sdk`, is replaced.
pub(super) fn hints(
    contract: &str,
    guests: &[GuestCrate],
    sdk: &Path,
) -> Result<Vec<MigrationHint>, PluginCommandError> {
    if contract != "0.1" {
        return Ok(Vec::new());
    }
    let Some(first) = guests.first() else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for folder in guest::source_folders(&first.workspace, guests)? {
        if folder != sdk {
            rust_files(&folder, &mut files)?;
        }
    }
    let mut hints = Vec::new();
    for file in files {
        let text = stagewright_files::read_text(&file, stagewright_files::RECORD)
            .map_err(|source| PluginCommandError::Read { path: file.clone(), source })?;
        for (line, BreakingChange { was, instead, .. }) in affected(&text, &SINCE_0_1) {
            hints.push(MigrationHint { file: file.clone(), line, was, instead });
        }
    }
    Ok(hints)
}

/// The Rust files of a crate, its tests included, in order. Crates in folders inside of it are left out.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), PluginCommandError> {
    let unreadable = |source| PluginCommandError::Read { path: folder.to_owned(), source };
    let entries = folder.read_dir().and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| !path.is_symlink()) {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !is_hidden && !path.ends_with("target") && !path.join("Cargo.toml").exists() {
            rust_files(&path, files)?;
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The affected lines with their changes. Text that isn't Rust has none: the compiler says so.
fn affected<'c>(text: &str, changes: &'c [BreakingChange]) -> Vec<(usize, &'c BreakingChange)> {
    let Ok(stream) = text.parse::<TokenStream>() else { return Vec::new() };
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let mut found: Vec<(usize, &BreakingChange)> = Vec::new();
    for (index, (_, line)) in tokens.iter().enumerate() {
        for change in changes.iter().filter(|change| matches(change.tokens, &tokens[index..])) {
            let is_known = found.iter().any(|(known, other)| known == line && std::ptr::eq(*other, change));
            if !is_known {
                found.push((*line, change));
            }
        }
    }
    found
}

fn matches(pattern: &str, tokens: &[(String, usize)]) -> bool {
    let mut tokens = tokens.iter().map(|(token, _)| token.as_str());
    pattern.split(' ').all(|expected| match expected.strip_prefix('!') {
        Some(absent) => tokens.next() != Some(absent),
        None => tokens.next() == Some(expected),
    })
}

/// Lists tokens with their lines: brackets like any other, `::` as one, and texts as `"`.
fn flatten(stream: TokenStream, tokens: &mut Vec<(String, usize)>) {
    let mut is_path = false;
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push((open.to_owned(), line));
                flatten(group.stream(), tokens);
                tokens.push((close.to_owned(), group.span_close().start().line));
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && is_path => {
                is_path = false;
                tokens.push(("::".to_owned(), line));
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint => is_path = true,
            TokenTree::Literal(literal) if literal.to_string().ends_with(['"', '#']) => {
                tokens.push(("\"".to_owned(), line));
            }
            other => tokens.push((other.to_string(), line)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read files of the repository")]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, &'static str)> {
        affected(text, &SINCE_0_1).into_iter().map(|(line, change)| (line, change.was)).collect()
    }

    #[test]
    fn affected_code_is_found_across_lines_and_comments_and_texts_are_not() {
        let text = "//! A Diagnostic.\n/* .problems */\nfn f(r: R) -> Vec<Diagnostic> {\n    r\n        .problems\n        \
                    .len();\n    \"outputs::report(\";\n    m.output(\n        r#\"a\"#, \"b\")\n}\n";
        assert_eq!(lines(text), [(3, "`Diagnostic`"), (5, "`report.problems`"), (8, "`.output(name, description)`")]);
    }

    #[test]
    fn code_for_the_present_contract_is_not_affected() {
        let code = "fn f() { command.output()?; m.output::<u16>(\"a\", \"b\"); e.retryable(); host.deny(Permission::Net, \"*\"); \
                    published[0].content(); Suspension::new(\"a\", \"b\"); outputs::set(\"a\", &1)?; }";
        assert_eq!(lines(code), []);
        assert_eq!(lines("fn unbalanced( {"), []);
    }

    #[test]
    fn a_line_is_reported_once_for_each_change() {
        let found = lines("outputs::report(Diagnostic::error(Diagnostic::CODE, text));");
        assert_eq!(found, [(1, "`outputs::report(diagnostic)`"), (1, "`Diagnostic`")]);
    }

    #[test]
    fn the_documentation_lists_the_same_changes() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins.md")).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `") && line.contains(" | ")).collect();
        for BreakingChange { was, instead, .. } in &SINCE_0_1 {
            let row = format!("| {was} | {instead} |");
            assert!(rows.contains(&row.as_str()), "docs/plugins.md lacks the row\n{row}");
        }
    }
}
