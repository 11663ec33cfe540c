//! Replays the seeds of the fuzz targets without a fuzzer.

#![expect(clippy::disallowed_methods, reason = "tests read files of the repository")]
#![allow(missing_docs, reason = "tests")]

use std::path::Path;

use stagewright_properties::{expression, lock, pipeline, process};
#[cfg(feature = "host")]
use stagewright_properties::{http, mask};

/// Prints each seed before its check, so that the output of a failed test ends with the seed that failed.
#[track_caller]
#[expect(clippy::print_stdout, reason = "only seen when the test fails")]
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        folder.read_dir().expect("seeds in the repository").map(|entry| entry.expect("an entry").path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 5, "{} has {} seeds", folder.display(), seeds.len());
    for seed in seeds {
        println!("{}", seed.display());
        check(&std::fs::read(&seed).expect("a seed that can be read"));
    }
}

#[test]
fn pipelines() {
    replay("pipeline", pipeline::check);
}

#[test]
fn locks_and_policies() {
    replay("lock", lock::check);
}

#[test]
fn expressions() {
    replay("expression", expression::check);
}

#[test]
fn command_lines() {
    replay("process", process::check);
}

#[cfg(feature = "host")]
#[test]
fn requests() {
    replay("http", http::check);
}

#[cfg(feature = "host")]
#[test]
fn secrets() {
    replay("mask", mask::check);
}
