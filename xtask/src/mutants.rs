//! `cargo xtask mutants`: checks whether the simulator and the engine's tests detect faults in the engine.
//!
//! The input is a list of faults that is maintained by hand, each a change at one position of one file; the output is a
//! table of what detected which. The working tree is never modified: faults are planted in a copy in the target folder.
//! The copy has a target folder of its own, so that a fault costs only a build of the engine and of its tests.

mod list;
mod scratch;

use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use self::scratch::{MutantVerdict, Scratch};
use crate::cargo::{Result, root};

/// A fault: the text `search`, which occurs exactly once in the file, is replaced by `replace`.
#[derive(Clone, Copy, Debug)]
struct Mutant {
    /// Describes the fault.
    name: &'static str,
    /// Relative to the engine's `src`.
    file: &'static str,
    search: &'static str,
    replace: &'static str,
}

/// The faults to plant, and how to detect them.
#[derive(Args)]
pub(crate) struct Options {
    /// Only mutants whose name contains this
    filter: Option<String>,
    /// Run only the simulator, without the engine's own tests
    #[arg(long)]
    simulator_only: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// The number of worlds that the simulator tries for each mutant; it stops at the first failure
    #[arg(long, default_value_t = 1500, value_name = "NUMBER")]
    seeds: u64,
}

/// What detected a mutant.
struct Detection {
    mutant: Mutant,
    simulator: bool,
    /// None if the tests weren't run.
    tests: Option<bool>,
}

impl Detection {
    fn is_alive(&self) -> bool {
        !self.simulator && self.tests != Some(true)
    }
}

/// The time limit for each test program. A mutant that exceeds it, such as an endless loop, counts as detected.
const LIMIT: Duration = Duration::from_secs(180);

/// Plants one fault after the other, and fails if one of them survives.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_chosen = |mutant: &&Mutant| options.filter.as_ref().is_none_or(|text| mutant.name.contains(text.as_str()));
    let chosen: Vec<Mutant> = list::all().iter().filter(is_chosen).copied().collect();
    if chosen.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        return Err(format!("no mutant has a name with `{filter}`\n  help: see xtask/src/mutants/list for the names"));
    }
    let scratch = Scratch::new(&root(), options.seeds, !options.simulator_only)?;
    scratch.expect_sound()?;
    let mut detections = Vec::new();
    for (number, mutant) in chosen.iter().enumerate() {
        let detection = detect(&scratch, *mutant)?;
        let verdict = match (detection.simulator, detection.tests) {
            (true, Some(true)) => "killed by both",
            (true, _) => "killed by the simulator",
            (false, Some(true)) => "killed by tests",
            (false, _) => "alive",
        };
        eprintln!("{}/{} {}: {verdict}", number + 1, chosen.len(), mutant.name);
        detections.push(detection);
    }
    show(&detections, options.json);
    match detections.iter().filter(|detection| detection.is_alive()).count() {
        0 => Ok(()),
        1 => Err("1 mutant is alive".to_owned()),
        alive => Err(format!("{alive} mutants are alive")),
    }
}

fn detect(scratch: &Scratch, mutant: Mutant) -> Result<Detection> {
    let path = mutant.path();
    let original = scratch.read(&path)?;
    let planted = mutant.plant(&original)?;
    scratch.write(&path, &planted)?;
    let verdict = scratch.judge();
    scratch.write(&path, &original)?;
    let MutantVerdict { simulator, tests } = verdict.map_err(|error| format!("mutant `{}`: {error}", mutant.name))?;
    Ok(Detection { mutant, simulator, tests })
}

impl Mutant {
    fn path(&self) -> String {
        format!("crates/stagewright-engine/src/{}", self.file)
    }

    /// The text of the file with the fault planted.
    fn plant(&self, text: &str) -> Result<String> {
        match text.matches(self.search).count() {
            1 => Ok(text.replacen(self.search, self.replace, 1)),
            count => Err(format!(
                "mutant `{}`: its text occurs {count} times in {}, and must occur once:\n{}\n  help: update the mutant in \
                 xtask/src/mutants/list",
                self.name,
                self.path(),
                self.search
            )),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output of the command")]
fn show(detections: &[Detection], as_json: bool) {
    if as_json {
        let all: Vec<Json> = detections.iter().map(to_json).collect();
        println!("{}", Json::from(all));
        return;
    }
    println!("| mutant | killed by simulator | killed by tests | alive |\n|---|---|---|---|");
    for detection in detections {
        let Detection { mutant, simulator, tests } = detection;
        let tests = tests.map_or("not run", yes_or_no);
        println!("| {} | {} | {tests} | {} |", mutant.name, yes_or_no(*simulator), yes_or_no(detection.is_alive()));
    }
    let by_simulator = detections.iter().filter(|detection| detection.simulator).count();
    println!("\n{by_simulator} of {} killed by the simulator alone", detections.len());
}

fn to_json(detection: &Detection) -> Json {
    json!({
        "mutant": detection.mutant.name,
        "file": detection.mutant.path(),
        "simulator": detection.simulator,
        "tests": detection.tests,
        "alive": detection.is_alive(),
    })
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_applies_exactly_once() {
        let mut names = BTreeSet::new();
        for mutant in list::all() {
            let path = root().join(mutant.path());
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let planted = mutant.plant(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(planted, text, "{} changes nothing", mutant.name);
            assert!(names.insert(mutant.name), "two mutants are called {}", mutant.name);
        }
        assert!(names.len() >= 40, "{} mutants are too few to judge the simulator by", names.len());
    }

    /// Cargo also succeeds if a filter matches no test, and then every mutant would seem to go unnoticed.
    #[test]
    fn the_simulators_test_exists() {
        let text = std::fs::read_to_string(root().join("tests/simulator/main.rs")).expect("the simulator's tests");
        assert!(text.contains(&format!("#[test]\nfn {}()", scratch::WORLDS)), "{} is not a test", scratch::WORLDS);
    }

    #[test]
    fn a_mutant_that_does_not_apply_exactly_once_is_reported_by_name() {
        let mutant = Mutant { name: "lost", file: "gate.rs", search: "a", replace: "b" };
        for text in ["", "a a"] {
            let error = mutant.plant(text).expect_err("it can't be planted");
            assert!(error.contains("`lost`") && error.contains("gate.rs"), "{error}");
        }
        assert_eq!(mutant.plant("xax"), Ok("xbx".to_owned()));
    }
}
