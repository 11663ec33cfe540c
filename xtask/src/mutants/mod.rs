//! `cargo xtask mutants`: whether the simulator and the engine's tests notice faults that are planted in the engine.
//!
//! In flows a list of faults that is kept by hand, each a change of one place of one file; out flows a table of who
//! noticed which. The working tree is never touched: every fault is planted in a copy below the target folder, which has
//! a target folder of its own, so that a fault costs a build of the engine and of what tests it.

mod list;
mod scratch;

use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use self::scratch::{MutantVerdict, Scratch};
use crate::cargo::{Result, root};

/// A fault to be planted: the text `search`, which is there once, becomes `replace`.
#[derive(Clone, Copy, Debug)]
struct Mutant {
    /// Says the fault.
    name: &'static str,
    /// Below the engine's `src`.
    file: &'static str,
    search: &'static str,
    replace: &'static str,
}

/// Which faults, and how they are looked for.
#[derive(Args)]
pub(crate) struct Options {
    /// Only mutants whose name contains this
    filter: Option<String>,
    /// Runs the simulator alone, without the engine's own tests
    #[arg(long)]
    simulator_only: bool,
    /// Prints JSON in place of the table
    #[arg(long)]
    json: bool,
    /// Worlds that the simulator tries for each mutant; it stops at the first one that goes wrong
    #[arg(long, default_value_t = 1500, value_name = "NUMBER")]
    seeds: u64,
}

/// Who noticed a mutant.
struct Noticed {
    mutant: Mutant,
    simulator: bool,
    /// None when they weren't run.
    tests: Option<bool>,
}

impl Noticed {
    fn is_alive(&self) -> bool {
        !self.simulator && self.tests != Some(true)
    }
}

/// An endless loop is noticed, too.
const LIMIT: Duration = Duration::from_secs(180);

/// Plants one fault after the other, and fails when one of them lives.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_chosen = |mutant: &&Mutant| options.filter.as_ref().is_none_or(|text| mutant.name.contains(text.as_str()));
    let chosen: Vec<Mutant> = list::all().iter().filter(is_chosen).copied().collect();
    if chosen.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        return Err(format!("no mutant has a name with `{filter}`\n  help: see xtask/src/mutants/list for the names"));
    }
    let scratch = Scratch::new(&root(), options.seeds, !options.simulator_only)?;
    scratch.expect_sound()?;
    let mut noticed = Vec::new();
    for (number, mutant) in chosen.iter().enumerate() {
        let one = try_one(&scratch, *mutant)?;
        let verdict = match (one.simulator, one.tests) {
            (true, Some(true)) => "killed by both",
            (true, _) => "killed by the simulator",
            (false, Some(true)) => "killed by tests",
            (false, _) => "alive",
        };
        eprintln!("{}/{} {}: {verdict}", number + 1, chosen.len(), mutant.name);
        noticed.push(one);
    }
    show(&noticed, options.json);
    match noticed.iter().filter(|one| one.is_alive()).count() {
        0 => Ok(()),
        1 => Err("1 mutant is alive".to_owned()),
        alive => Err(format!("{alive} mutants are alive")),
    }
}

fn try_one(scratch: &Scratch, mutant: Mutant) -> Result<Noticed> {
    let path = mutant.path();
    let sound = scratch.read(&path)?;
    let planted = mutant.plant(&sound)?;
    scratch.write(&path, &planted)?;
    let verdict = scratch.judge();
    scratch.write(&path, &sound)?;
    let MutantVerdict { simulator, tests } = verdict.map_err(|error| format!("mutant `{}`: {error}", mutant.name))?;
    Ok(Noticed { mutant, simulator, tests })
}

impl Mutant {
    fn path(&self) -> String {
        format!("crates/stagewright-engine/src/{}", self.file)
    }

    /// The file's text with the fault in it.
    fn plant(&self, text: &str) -> Result<String> {
        match text.matches(self.search).count() {
            1 => Ok(text.replacen(self.search, self.replace, 1)),
            count => Err(format!(
                "mutant `{}`: its text is {count} times in {}, and must be there once:\n{}\n  help: put the mutant right in \
                 xtask/src/mutants/list",
                self.name,
                self.path(),
                self.search
            )),
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn show(noticed: &[Noticed], as_json: bool) {
    if as_json {
        let all: Vec<Json> = noticed.iter().map(to_json).collect();
        println!("{}", Json::from(all));
        return;
    }
    println!("| mutant | killed by simulator | killed by tests | alive |\n|---|---|---|---|");
    for one in noticed {
        let tests = one.tests.map_or("not run", yes_or_no);
        println!("| {} | {} | {tests} | {} |", one.mutant.name, yes_or_no(one.simulator), yes_or_no(one.is_alive()));
    }
    let by_simulator = noticed.iter().filter(|one| one.simulator).count();
    println!("\n{by_simulator} of {} killed by the simulator alone", noticed.len());
}

fn to_json(one: &Noticed) -> Json {
    json!({
        "mutant": one.mutant.name,
        "file": one.mutant.path(),
        "simulator": one.simulator,
        "tests": one.tests,
        "alive": one.is_alive(),
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
        assert!(names.len() >= 40, "{} mutants are too few to tell how much the simulator sees", names.len());
    }

    #[test]
    fn a_mutant_whose_text_is_not_there_once_is_an_error_that_names_it() {
        let mutant = Mutant { name: "lost", file: "gate.rs", search: "a", replace: "b" };
        for text in ["", "a a"] {
            let error = mutant.plant(text).expect_err("it can't be planted");
            assert!(error.contains("`lost`") && error.contains("gate.rs"), "{error}");
        }
        assert_eq!(mutant.plant("xax"), Ok("xbx".to_owned()));
    }
}
