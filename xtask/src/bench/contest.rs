//! Times commands in turn, with hyperfine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::cargo::{Result, capture};

/// The prefix of the names of our own contenders. A failure of one of these is an error; other tools that fail are left
/// out.
pub(super) const OURS: &str = "stagewright";

/// A command to be timed.
pub(super) struct Contender {
    pub(super) name: String,
    /// Program and arguments; they are run without a shell.
    pub(super) command: Vec<String>,
    /// A shell command to be run before each run, which isn't timed.
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

/// The times of a contender, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Time {
    pub(super) name: String,
    pub(super) median: f64,
    /// The fastest and the slowest run.
    pub(super) range: (f64, f64),
}

/// Times the contenders in `folder`. `environment` is added to the environment of this program.
pub(super) fn contest(
    folder: &Path,
    environment: &BTreeMap<String, OsString>,
    runs: u32,
    contenders: &[Contender],
) -> Result<Vec<Time>> {
    let mut measured: Vec<(&Contender, Vec<f64>)> = Vec::new();
    for contender in contenders {
        // The first run warms up caches, and shows whether the tool works at all.
        match once(folder, environment, contender) {
            Ok(_) => measured.push((contender, Vec::new())),
            Err(error) if contender.name.starts_with(OURS) => return Err(error),
            Err(error) => eprintln!("{} is left out: {error}", contender.name),
        }
    }
    // In each round every contender runs once, so that other load on the machine affects all of them alike. With all
    // runs of one contender in a row, a slow minute would change the ratios, which are the result.
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
    // A file that is left behind does no harm, so a failure is ignored.
    let _ = std::fs::remove_file(&export);
    let results: Json =
        serde_json::from_slice(&text).map_err(|error| format!("hyperfine wrote invalid JSON: {error}"))?;
    results["results"][0]["median"].as_f64().ok_or_else(|| "hyperfine reported no median".to_owned())
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
