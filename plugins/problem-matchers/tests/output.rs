//! Reads the output of real programs, in `output/`, and compares what is found in it with snapshots.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test that called it")]

use std::path::Path;

use problem_matchers::{MatchedProblem, NAMES, OutputScanner, OutputStream, ScannedOutput};
use proptest::prelude::*;

/// The names and contents of the files in `output/`: what a program wrote to standard output or standard error.
fn outputs() -> Vec<(String, OutputStream, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/output");
    let mut outputs: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let stream = if path.extension().unwrap() == "err" { OutputStream::Stderr } else { OutputStream::Stdout };
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            #[expect(clippy::disallowed_methods, reason = "it is a file of this repository")]
            (name, stream, std::fs::read(path).unwrap())
        })
        .collect();
    outputs.sort_by(|one, other| one.0.cmp(&other.0));
    outputs
}

fn scan(stream: OutputStream, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> ScannedOutput {
    let mut scanner = OutputScanner::new(|_| true);
    pieces.into_iter().for_each(|piece| scanner.push(stream, piece.as_ref()));
    scanner.finish()
}

fn shown(output: &ScannedOutput) -> String {
    let line = |kind: &str, problem: &MatchedProblem| {
        let place = problem.place.as_ref().map(|place| {
            let numbers = [place.line, place.column].into_iter().flatten().map(|number| format!(":{number}"));
            let start = if place.is_partial { "…/" } else { "" };
            format!(" ({start}{}{})", place.path, numbers.collect::<String>())
        });
        let details = problem.details.iter().map(|line| format!("      {line}\n")).collect::<String>();
        format!("{kind} {}: {}{}\n{details}", problem.rule, problem.message, place.unwrap_or_default())
    };
    let errors = output.errors.iter().map(|problem| line("error", problem));
    let warnings = output.warnings.iter().map(|problem| line("warning", problem));
    let aftermath = output.aftermath.iter().map(|text| format!("then: {text}\n"));
    errors.chain(warnings).chain(aftermath).collect()
}

#[test]
fn problems_are_found_in_the_output_of_real_programs() {
    for (name, stream, text) in outputs() {
        let found = scan(stream, [&text]);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name.clone(), shown(&found));
        });
        assert!(!found.errors.is_empty() || EMPTY.contains(&name.as_str()), "{name}: nothing was found");
    }
}

/// Outputs without errors: those are on the other stream.
const EMPTY: [&str; 3] = ["cargo-test.err", "cmake.out", "make.out"];

#[test]
fn pieces_of_any_length_give_the_same_problems() {
    for (name, stream, text) in outputs() {
        let whole = scan(stream, [&text]);
        for length in [1, 7, 64] {
            assert_eq!(scan(stream, text.chunks(length)), whole, "{name} in pieces of {length}");
        }
    }
}

#[test]
fn a_matcher_that_is_off_finds_nothing() {
    for name in NAMES {
        assert_eq!(NAMES.iter().filter(|other| **other == name).count(), 1, "{name}");
    }
    let mut scanner = OutputScanner::new(|name| name != "tap");
    scanner.push(OutputStream::Stdout, b"not ok 1 - adds\nerror[E1]: x\n --> a.rs:1:2\n");
    let found = scanner.finish();
    assert_eq!(found.errors.iter().map(|problem| problem.rule.as_str()).collect::<Vec<_>>(), ["E1"]);
}

#[test]
fn the_output_of_make_names_the_folder_of_a_compiler() {
    let mut scanner = OutputScanner::new(|_| true);
    scanner.push(OutputStream::Stdout, b"make[1]: Entering directory '/home/me/app/sub'\n");
    scanner.push(OutputStream::Stderr, b"a.c:4:10: error: 'b' undeclared\n");
    scanner.push(OutputStream::Stdout, b"make[1]: Leaving directory '/home/me/app/sub'\n");
    scanner.push(OutputStream::Stderr, b"b.c:1: error: x\nmake: *** [Makefile:2: all] Error 2\n");
    let paths = scanner.finish().errors.into_iter().map(|problem| problem.place.unwrap().path);
    assert_eq!(paths.collect::<Vec<_>>(), ["/home/me/app/sub/a.c", "b.c"]);
}

#[test]
fn endless_output_takes_bounded_memory() {
    let mut scanner = OutputScanner::new(|_| true);
    for number in 0..20_000 {
        scanner.push(OutputStream::Stdout, format!("not ok {number} - case {number}\n  ---\n").as_bytes());
        scanner.push(OutputStream::Stdout, &[b'x'; 500]);
        scanner.push(OutputStream::Stdout, b"\n  ...\n");
    }
    let found = scanner.finish();
    assert_eq!((found.errors.len(), found.more_errors), (50, 20_000 - 50));
    assert!(found.errors.iter().all(|problem| problem.details.len() <= 12));
}

/// Lines that begin like those of some program.
fn fragments() -> impl Strategy<Value = String> {
    let known = outputs()
        .into_iter()
        .flat_map(|(_, _, text)| String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>());
    let known = known.collect::<Vec<_>>();
    let cut = (0..known.len(), 0..60_usize)
        .prop_map(move |(index, length)| known[index].chars().take(length).collect::<String>());
    prop_oneof![3 => cut, 1 => "\\PC{0,30}", 1 => "[ :.0-9()\\[\\]a-c'/#=_-]{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_output_causes_a_panic(lines in prop::collection::vec(fragments(), 0..60)) {
        let text = lines.join("\n");
        let found = scan(OutputStream::Stdout, [&text]);
        for problem in found.errors.iter().chain(&found.warnings) {
            prop_assert!(!problem.message.contains('\n') && problem.details.len() <= 13);
        }
    }
}
