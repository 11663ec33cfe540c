//! Changes infrastructure with Terraform, or OpenTofu, in two stages: one plans, and one applies exactly that plan.
//!
//! Input: the configuration; for `apply`, the plan by digest. Output of `plan`: the plan as an artifact, and what it would do. A
//! gate between both stages shows it to people, who so approve this plan and no other.
//!
//! A plan has the state's number with it. It isn't applied to a state that has changed since, be it by another run, or because it
//! was applied already: the program itself notices that only if there was a state before. An interrupted `apply` is for a
//! person to decide, with what the state says about it.

mod commands;
mod config;
mod planned;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_sdk::process::Command;
use stagewright_sdk::{
    Error, ErrorCode, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, artifacts, log,
    outputs, secrets, workspace,
};

use crate::commands::Commands;
use crate::config::{Action, Config};
use crate::planned::Planned;
use crate::state::State;

/// The name of the artifact, behind the folder's name.
const ARTIFACT: &str = "tfplan";
/// The most bytes of a plan or a state as JSON.
const JSON: u64 = 64 << 20;
/// What `plan` exits with if something would change.
const CHANGES: i32 = 2;

/// The plugin.
#[derive(Debug)]
pub struct Terraform;

impl Stage for Terraform {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("plan", "The plan as an artifact by digest, for a stage with `action = \"apply\"`")
            .output::<bool>("changes", "Whether the plan changes anything")
            .output::<usize>(
                "added",
                "How many resources the plan adds; one that is replaced counts as added and as destroyed",
            )
            .output::<usize>("changed", "How many resources the plan changes in place")
            .output::<usize>("destroyed", "How many resources the plan destroys")
            .output::<BTreeMap<String, Json>>(
                "outputs",
                "After `apply`: the configuration's outputs, without sensitive ones",
            )
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        Commands::new(config).requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let commands = Commands::new(&config);
        workspace::remove(&commands.scratch())?;
        let done = match config.action {
            Action::Plan => plan(&config, &commands),
            Action::Apply => apply(&config, &commands),
        };
        // A plan has the values of its variables in it, also those that are secrets.
        let removed = workspace::remove(&commands.scratch());
        done.and_then(|outcome| removed.map(|()| outcome))
    }
}

impl Reconcile for Terraform {
    fn observe(config: Config) -> Result<Observation> {
        if config.action == Action::Plan {
            return Ok(Observation::NotStarted);
        }
        let commands = Commands::new(&config);
        let planned = fetch(&config, &commands)?;
        let now = state(&config, &commands)?;
        workspace::remove(&commands.scratch())?;
        if now == planned {
            let reason =
                "the state is as it was before, but a resource may have been changed before the state was written";
            return Ok(Observation::Unknown(reason.to_owned()));
        }
        let reason =
            format!("the state has changed since the plan ({now} instead of {planned}), by this run or by another one");
        Ok(Observation::Unknown(reason))
    }

    fn undo(config: Config) -> Result<()> {
        match config.action {
            Action::Plan => Ok(()),
            Action::Apply => Err(Error::failed("what Terraform has applied can't be undone")
                .help("plan and apply the earlier configuration in a run of its own")),
        }
    }
}

stagewright_sdk::export_effectful_stage!(Terraform);

fn plan(config: &Config, commands: &Commands<'_>) -> Result<Outcome> {
    workspace::write(&format!("{}/.gitignore", commands.scratch()), "*\n")?;
    run(config, &commands.init(), &[0])?;
    let before = state(config, commands)?;
    let code = run(config, &commands.plan(), &[0, CHANGES])?;
    let shown = read(config, &commands.show())?;
    let planned = Planned::parse(&shown)?;
    workspace::write(&state::path(&commands.scratch()), serde_json::to_vec(&before)?)?;
    let name = format!("{}-{ARTIFACT}", commands.dir().replace('/', "-"));
    let artifact = artifacts::publish(&name, &commands.scratch(), None)?;
    outputs::set("plan", &format!("{}@{}", artifact.name, artifact.digest))?;
    outputs::set("changes", &(code == CHANGES))?;
    outputs::set("added", &planned.added)?;
    outputs::set("changed", &planned.changed)?;
    outputs::set("destroyed", &planned.destroyed)?;
    outputs::summary(planned.to_markdown());
    log::info(planned.described());
    Ok(Outcome::Succeeded)
}

fn apply(config: &Config, commands: &Commands<'_>) -> Result<Outcome> {
    let planned = fetch(config, commands)?;
    run(config, &commands.init(), &[0])?;
    let now = state(config, commands)?;
    if now != planned {
        let message = "the state has changed since the plan was made";
        return Err(Error::new(ErrorCode::FailedPrecondition, message)
            .cause(format!("the plan is for {planned}, and there is {now}"))
            .help("plan again in a new run, and have that plan approved")
            .never_retry());
    }
    run(config, &commands.apply(), &[0])?;
    let shown: BTreeMap<String, Json> = serde_json::from_slice(&read(config, &commands.output())?)?;
    let plain = shown.iter().filter(|(_, output)| output["sensitive"] == false);
    let plain: BTreeMap<&String, &Json> = plain.map(|(name, output)| (name, &output["value"])).collect();
    outputs::set("outputs", &plain)?;
    Ok(Outcome::Succeeded)
}

/// Writes the plan to the scratch folder, and returns the state that it is for.
fn fetch(config: &Config, commands: &Commands<'_>) -> Result<State> {
    let plan = config.plan.as_deref().unwrap_or_default();
    let (name, digest) = plan.split_once('@').ok_or_else(|| Error::invalid(format!("`{plan}` has no digest")))?;
    let artifact = artifacts::fetch(name, &commands.scratch())?;
    if artifact.digest != digest {
        let message = format!("the artifact `{name}` has the digest {} instead of {digest}", artifact.digest);
        return Err(Error::failed(message).help("apply the output `plan` of the stage that has planned").never_retry());
    }
    Ok(serde_json::from_slice(&workspace::read(&state::path(&commands.scratch()))?)?)
}

fn state(config: &Config, commands: &Commands<'_>) -> Result<State> {
    State::parse(&read(config, &commands.state())?)
}

/// Runs the program, whose output goes to the log, and returns its exit code.
fn run(config: &Config, args: &[String], expected: &[i32]) -> Result<i32> {
    let status = command(config, args)?.status()?;
    match status.code {
        Some(code) if expected.contains(&code) => Ok(code),
        _ => {
            let action = args.get(1).map_or("", String::as_str);
            Err(Error::failed(format!("`{} {action}` ended with {status}", config.program)))
        }
    }
}

/// Runs the program, which only reads, and returns what it prints.
fn read(config: &Config, args: &[String]) -> Result<Vec<u8>> {
    let output = command(config, args)?.read_only().capture_limit(JSON).quiet().output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let lines =
                said.lines().map(|line| line.trim_start_matches(['│', '╷', '╵', ' '])).filter(|line| !line.is_empty());
            let message = format!("`{} {}` ended with {}", config.program, args[1..].join(" "), output.status);
            Err(Error::failed(message).causes(lines.take(8)))
        }
    }
}

fn command(config: &Config, args: &[String]) -> Result<Command> {
    let mut command = Command::new(&config.program);
    command.args(args.iter().map(String::as_str));
    for (variable, secret) in &config.secrets {
        command.secret_env(variable, &secrets::get(secret)?);
    }
    Ok(command)
}
