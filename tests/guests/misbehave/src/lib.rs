//! A stage that fails in a configurable manner, for the engine's tests.

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{
    Error, JsonSchema, Manifest, Outcome, Result, Stage, clock, http, log, outputs, schemars, workspace,
};

/// The stage's `with` table.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The failure to cause.
    way: Misbehaviour,
    /// A path, a program or a URL, for failures that need one.
    #[serde(default)]
    target: String,
}

/// A failure.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Misbehaviour {
    /// Execute an instruction that traps.
    Trap,
    /// Loop forever.
    Loop,
    /// Block forever in a call of the host.
    Sleep,
    /// Allocate memory until none is left.
    Eat,
    /// Log forever.
    Flood,
    /// Start the program `target`.
    Start,
    /// Read the file `target`.
    Read,
    /// Write the file `target`.
    Write,
    /// Call the URL `target`.
    Call,
    /// Start a shell that ignores SIGTERM and leaves a child behind. It writes their process ids to the file `target`.
    Cling,
    /// Return an error.
    Fail,
    /// Log control sequences.
    Paint,
}

/// The stage.
pub struct Misbehave;

impl Stage for Misbehave {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("misbehave", env!("CARGO_PKG_VERSION"))
            .description("Goes wrong on purpose")
            .output::<bool>("survived", "Set when nothing went wrong")
    }

    fn run(config: Config) -> Result<Outcome> {
        let target = config.target.as_str();
        match config.way {
            Misbehaviour::Trap => trap(),
            Misbehaviour::Loop => spin(),
            Misbehaviour::Sleep => clock::sleep(Duration::from_secs(3600))?,
            Misbehaviour::Eat => eat(),
            Misbehaviour::Flood => flood(),
            Misbehaviour::Start => {
                Command::new(target).status()?;
            }
            Misbehaviour::Read => {
                workspace::read(target)?;
            }
            Misbehaviour::Write => workspace::write(target, "x")?,
            Misbehaviour::Call => {
                http::Request::get(target).send()?;
            }
            Misbehaviour::Cling => cling(target)?,
            Misbehaviour::Fail => {
                return Err(Error::failed("it went wrong on purpose")
                    .cause("the configuration asks for it")
                    .help("configure another failure"));
            }
            Misbehaviour::Paint => log::info("\u{1b}[2J\u{1b}]0;owned\u{7}painted\r\u{8}"),
        }
        outputs::set("survived", &true)?;
        Ok(Outcome::Succeeded)
    }
}

/// Executes the trapping instruction directly, without a panic.
fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn eat() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn flood() {
    let line = "x".repeat(1000);
    loop {
        log::info(&line);
    }
}

fn cling(pids: &str) -> Result<()> {
    let script = format!("trap '' TERM; sleep 1000 & echo $$ $! > {pids}; while :; do sleep 1; done");
    Command::new("sh").args(["-c", &script]).status()?;
    Ok(())
}

stagewright_sdk::export_stage!(Misbehave);
