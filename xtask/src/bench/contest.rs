//! Commands that are timed side by side, in turn, with hyperfine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::cargo::{Result, capture};

/// How the names of our own begin; whoever else doesn't work is left out.
pub(super) const OURS: &str = "stagewright";

/// One way to do something.
pub(super) struct Contender {
    pub(super) name: String,
    /// Words; no shell takes part.
    pub(super) command: Vec<String>,
    /// Done before each run, and not timed.
    pub(super) before: Option<String>,
}

impl Contender {
    pub(super) fn new(name: &str, command: &[&str]) -> Contender {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Contender { name: name.to_owned(), command, before: None }
    }

    pub(super) fn after(self, before: &str) -> Contender {
        Contender { before: Some(before.to_owned()), ..self }
    }
}

/// How long each contender took: seconds.
#[derive(Clone, Debug)]
pub(super) struct Time {
    pub(super) name: String,
    pub(super) median: f64,
    /// Between the fastest and the slowest run.
    pub(super) range: (f64, f64),
}

/// Times the contenders in `folder`. `environment` is added to that of this program.
pub(super) fn contest(
    folder: &Path,
    environment: &BTreeMap<String, OsString>,
    runs: u32,
    contenders: &[Contender],
) -> Result<Vec<Time>> {
    let mut measured: Vec<(&Contender, Vec<f64>)> = Vec::new();
    for contender in contenders {
        // Once to warm up, and to see whether it works at all.
        match once(folder, environment, contender) {
            Ok(_) => measured.push((contender, Vec::new())),
            Err(error) if contender.name.starts_with(OURS) => return Err(error),
            Err(error) => eprintln!("{} is left out: {error}", contender.name),
        }
    }
    // One round for each run, so that whatever the machine does meanwhile is done to all of them.
    for _ in 0..runs {
        for (contender, times) in &mut measured {
            times.push(once(folder, environment, contender)?);
        }
    }
    Ok(measured.into_iter().map(|(contender, times)| summary(&contender.name, times)).collect())
}

fn once(folder: &Path, environment: &BTreeMap<String, OsString>, contender: &Contender) -> Result<f64> {
    let export = std::env::temp_dir().join(format!("stagewright-hyperfine-{}.json", std::process::id()));
    let mut command = Command::new("hyperfine");
    command.current_dir(folder).envs(environment).args(["-N", "--runs", "1", "--style", "none", "--export-json"]);
    command.arg(&export);
    if let Some(before) = &contender.before {
        command.args(["--prepare", &format!("sh -c '{before}'")]);
    }
    let bound = if contender.name.starts_with(OURS) { "" } else { "timeout 60 " };
    let words = contender.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    command.arg(format!("{bound}{words}"));
    capture(&mut command)?;
    let text = std::fs::read(&export).map_err(|error| format!("can't read {}: {error}", export.display()))?;
    // What it leaves is of no use to anybody else.
    let _ = std::fs::remove_file(&export);
    let results: Json = serde_json::from_slice(&text).map_err(|error| format!("hyperfine wrote no JSON: {error}"))?;
    results["results"][0]["median"].as_f64().ok_or_else(|| "hyperfine told no time".to_owned())
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,".contains(letter);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn summary(name: &str, mut times: Vec<f64>) -> Time {
    times.sort_by(f64::total_cmp);
    let range = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    Time { name: name.to_owned(), median: times.get(times.len() / 2).copied().unwrap_or_default(), range }
}
