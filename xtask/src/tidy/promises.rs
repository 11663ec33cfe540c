//! The table of promises, `docs/promises.md`: sentences that users rely on, and the tests that fail if one doesn't hold.
//!
//! ```text
//! ## SECURITY.md                                   the document that promises
//! | promise | tests |
//! | A stage ends within its limits. | `tests/main/hostile/limits.rs::name`, … |
//! ```
//!
//! A promise is quoted verbatim, so that it can't be changed or removed without reviewing its tests. Every row of the
//! table in SECURITY.md must be included; of other documents, selected sentences are.

use std::collections::{BTreeMap, BTreeSet};

use super::TidyFinding;
use super::tree::File;

/// The table of promises.
pub(super) const TABLE: &str = "docs/promises.md";
/// The document and section in which every row of the table is a promise.
const COMPLETE: (&str, &str) = ("SECURITY.md", "## What is promised");

/// A row of the table.
struct Row<'a> {
    line: usize,
    document: &'a str,
    promise: &'a str,
    tests: Vec<&'a str>,
}

/// Checks the table. `documents` are Markdown files by path, including the table; `files` are sources.
pub(super) fn check(documents: &BTreeMap<String, String>, files: &[File]) -> Vec<TidyFinding> {
    let Some(table) = documents.get(TABLE) else {
        return vec![TidyFinding::error(TABLE, "it is missing", "write the table of promises and their tests")];
    };
    let rows = rows(table);
    let mut findings = rows.iter().flat_map(|row| check_row(row, documents, files)).collect::<Vec<_>>();
    findings.extend(without_row(documents, &rows));
    findings
}

fn check_row(row: &Row<'_>, documents: &BTreeMap<String, String>, files: &[File]) -> Vec<TidyFinding> {
    let place = format!("{TABLE}:{}", row.line);
    let mut findings = Vec::new();
    match documents.get(row.document) {
        None => findings.push(TidyFinding::error(
            &place,
            format!("the document {} does not exist", row.document),
            "correct the heading, or remove the section",
        )),
        Some(text) if !one_line(text).contains(&one_line(row.promise)) => findings.push(TidyFinding::error(
            &place,
            format!("{} doesn't contain: {}", row.document, row.promise),
            "quote the sentence verbatim, and check that the tests still cover it",
        )),
        Some(_) => {}
    }
    if row.tests.is_empty() {
        let help = "name a test as `path/of/file.rs::function`, or remove the promise from its document";
        findings.push(TidyFinding::error(&place, "a promise without a test", help));
    }
    let missing = row.tests.iter().filter(|test| !is_test(test, files));
    findings.extend(missing.map(|test| {
        let help = "name a test that exists as `path/of/file.rs::function`";
        TidyFinding::error(&place, format!("the test `{test}` does not exist"), help)
    }));
    findings
}

/// Promises in SECURITY.md that have no row.
fn without_row(documents: &BTreeMap<String, String>, rows: &[Row<'_>]) -> Vec<TidyFinding> {
    let (document, heading) = COMPLETE;
    let Some(text) = documents.get(document) else {
        return vec![TidyFinding::error(document, "it is missing", "write what is promised, and against whom")];
    };
    let kept = rows.iter().filter(|row| row.document == document).map(|row| one_line(row.promise));
    let kept = kept.collect::<BTreeSet<_>>();
    let section = text.split_once(heading).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
    let promised = section.lines().filter_map(cells).map(|cells| cells[0]);
    let promised = promised.filter(|cell| *cell != "promise" && !cell.chars().all(|letter| "-: ".contains(letter)));
    let missing = promised.filter(|promise| !kept.contains(&one_line(promise)));
    missing
        .map(|promise| {
            TidyFinding::error(document, format!("promised without a test: {promise}"), format!("add a row to {TABLE}"))
        })
        .collect()
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let mut document = "";
    let mut rows = Vec::new();
    for (number, line) in table.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            document = heading.trim();
        }
        let Some(cells) = cells(line).filter(|_| !document.is_empty()) else { continue };
        let [promise, tests] = cells[..] else { continue };
        if promise == "promise" || promise.chars().all(|letter| "-: ".contains(letter)) {
            continue;
        }
        let tests = tests.split('`').skip(1).step_by(2).collect();
        rows.push(Row { line: number + 1, document, promise, tests });
    }
    rows
}

/// The cells of a table's row, trimmed.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Whether a source file has a test function by this name.
fn is_test(reference: &str, files: &[File]) -> bool {
    let Some((path, name)) = reference.split_once("::") else { return false };
    let Some(file) = files.iter().find(|file| file.path == path) else { return false };
    let lines = file.text.lines().map(str::trim).collect::<Vec<_>>();
    let declares = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let at = lines.iter().position(|line| declares(line));
    // The `#[test]` attribute may be followed by others.
    at.is_some_and(|at| {
        lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
    })
}

/// Joins the lines of a paragraph, which may be wrapped differently in the two files.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURITY: &str = "# Security\n\n## What is promised\n\n| promise | held by |\n|---|---|\n\
                            | A stage ends. | Limits. |\n\n## What is not promised\n\n| x | y |\n";

    fn found(table: &str) -> Vec<String> {
        let documents = [
            (TABLE, table),
            ("SECURITY.md", SECURITY),
            ("docs/sandbox.md", "A program sees the files\nthat were granted."),
        ];
        let documents = documents.map(|(path, text)| (path.to_owned(), text.to_owned())).into_iter().collect();
        let text = "#[test]\nfn it_ends() {}\n\n#[tokio::test]\n#[ignore]\nasync fn it_sees() {}\n\nfn helper() {}\n";
        let files = [File { path: "tests/main/a.rs".to_owned(), text: text.to_owned() }];
        check(&documents, &files).into_iter().map(|finding| finding.message).collect()
    }

    const WHOLE: &str = "## SECURITY.md\n\n| promise | tests |\n|---|---|\n| A stage ends. | `tests/main/a.rs::it_ends` |\n\
                         \n## docs/sandbox.md\n\n| promise | tests |\n|---|---|\n\
                         | A program sees the files that were granted. | `tests/main/a.rs::it_sees` |\n";

    #[test]
    fn quoted_promises_with_tests_are_accepted() {
        assert_eq!(found(WHOLE), Vec::<String>::new());
    }

    #[test]
    fn a_reference_to_anything_but_a_test_is_found() {
        for test in ["tests/main/a.rs::helper", "tests/main/a.rs::it", "tests/main/b.rs::it_ends", "it_ends"] {
            let table = WHOLE.replace("tests/main/a.rs::it_ends", test);
            assert_eq!(found(&table), [format!("the test `{test}` does not exist")]);
        }
    }

    #[test]
    fn a_promise_without_a_test_or_with_other_words_than_its_document_is_found() {
        assert_eq!(found(&WHOLE.replace("`tests/main/a.rs::it_ends`", "")), ["a promise without a test"]);
        let changed = found(&WHOLE.replace("that were granted", "that exist"));
        assert_eq!(changed, ["docs/sandbox.md doesn't contain: A program sees the files that exist."]);
        let elsewhere = found(&WHOLE.replace("docs/sandbox.md", "docs/box.md"));
        assert_eq!(elsewhere, ["the document docs/box.md does not exist"]);
    }

    #[test]
    fn a_promise_of_the_security_page_without_a_row_is_found() {
        let table = WHOLE.replace("| A stage ends. | `tests/main/a.rs::it_ends` |\n", "");
        assert_eq!(found(&table), ["promised without a test: A stage ends."]);
    }
}
