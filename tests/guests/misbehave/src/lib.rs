//! A stage that goes wrong in the way that it is told to: what the engine's tests run.

use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, JsonSchema, Manifest, Outcome, Result, Stage, clock, http, log, outputs, workspace};

/// What to do wrong.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "stagewright_sdk::schemars")]
pub struct Config {
    /// The kind of misdeed.
    way: Way,
    /// For those that need one: a path, a program, a URL.
    #[serde(default)]
    target: String,
}

/// How to go wrong.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "stagewright_sdk::schemars")]
pub enum Way {
    /// Stop at an instruction that no guest survives.
    Trap,
    /// Compute for ever.
    Loop,
    /// Wait for ever, in the host.
    Sleep,
    /// Ask for memory until there is none.
    Eat,
    /// Log without end.
    Flood,
    /// Start the program `target`.
    Start,
    /// Read the file `target`.
    Read,
    /// Write the file `target`.
    Write,
    /// Call the URL `target`.
    Call,
    /// Start a shell that ignores SIGTERM and leaves a child behind; `target` is where it writes its process ids.
    Cling,
    /// Report an error of its own.
    Fail,
    /// Write control sequences to its log.
    Paint,
}

/// The stage.
pub struct Misbehave;

impl Stage for Misbehave {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("misbehave", env!("CARGO_PKG_VERSION")).description("Goes wrong on purpose")
    }

    fn run(config: Config) -> Result<Outcome> {
        let target = config.target.as_str();
        match config.way {
            Way::Trap => trap(),
            Way::Loop => spin(),
            Way::Sleep => clock::sleep(Duration::from_secs(3600))?,
            Way::Eat => eat(),
            Way::Flood => flood(),
            Way::Start => {
                Command::new(target).status()?;
            }
            Way::Read => {
                workspace::read(target)?;
            }
            Way::Write => workspace::write(target, "x")?,
            Way::Call => {
                http::Request::get(target).send()?;
            }
            Way::Cling => cling(target)?,
            Way::Fail => {
                return Err(Error::failed("it went wrong on purpose")
                    .cause("it was told to")
                    .help("tell it otherwise"));
            }
            Way::Paint => log::info("\u{1b}[2J\u{1b}]0;owned\u{7}painted\r\u{8}"),
        }
        outputs::set("survived", &true)?;
        Ok(Outcome::Succeeded)
    }
}

/// Without the machinery of a panic: the plain instruction.
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
