//! `cargo xtask test`: every check of this repository, the cheap ones first, the tests' own summary last.

use std::process::Command;

use crate::cargo::{Result, capture, cargo, describe, root, run as run_command};
use crate::{packages, pipeline, tidy};

/// How the tests are run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For a person who waits.
    Local,
    /// Writes JUnit.
    Ci,
}

/// Runs all checks; stops at the first that fails.
pub(crate) fn run(profile: Profile) -> Result<()> {
    packages::require_for_tests()?;
    step(cargo().args(["fmt", "--all", "--check"]))?;
    step(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-features",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    announce("tidy");
    tidy::run()?;
    announce("plugins");
    pipeline::build_for_tests()?;
    step(cargo().args(["test", "--quiet", "--workspace", "--all-features", "--doc"]))?;
    step(&mut documentation())?;
    without_features()?;
    sample()?;
    step(&mut tests(profile)?)
}

/// Links in comments lead somewhere. Those to private items are for readers of the source.
fn documentation() -> Command {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--workspace", "--all-features", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    command
}

/// The engine as `cargo xtask pipeline` builds it: what it leaves out is refused, and nothing else is missing. All other
/// checks are made with every feature.
fn without_features() -> Result<()> {
    step(cargo().args(["check", "--quiet", "--package", "stagewright-cli"]))?;
    step(cargo().args(["test", "--quiet", "--package", "stagewright-secrets", "--lib"]))
}

/// The sample service is a workspace of its own, as a user's would be.
fn sample() -> Result<()> {
    let folder = root().join("pipelines/greeter");
    // Its own target folder also when this workspace's was moved: the release pipeline looks for it there.
    let cargo = || {
        let mut command = cargo();
        command.current_dir(&folder).env_remove("CARGO_TARGET_DIR");
        command
    };
    step(cargo().args(["fmt", "--check"]))?;
    step(cargo().args(["clippy", "--quiet", "--locked", "--all-targets", "--", "--deny", "warnings"]))?;
    step(cargo().args(["test", "--quiet", "--locked"]))
}

fn tests(profile: Profile) -> Result<Command> {
    let mut command = cargo();
    if has_nextest() {
        command.args(["nextest", "run", "--workspace", "--all-features"]);
        if profile == Profile::Ci {
            command.args(["--profile", "ci"]);
        }
    } else if profile == Profile::Ci {
        return Err("`ci` writes JUnit, and cargo-nextest, which does that, isn't installed\n  \
                    help: cargo install --locked cargo-nextest, or use `cargo xtask test`"
            .to_owned());
    } else {
        // Documentation tests were a step of their own.
        command.args(["test", "--workspace", "--all-features", "--all-targets"]);
    }
    Ok(command)
}

fn has_nextest() -> bool {
    capture(cargo().args(["--list"])).is_ok_and(|list| {
        String::from_utf8_lossy(&list).lines().any(|line| line.split_whitespace().next() == Some("nextest"))
    })
}

fn step(command: &mut Command) -> Result<()> {
    announce(&describe(command));
    run_command(command)
}

fn announce(what: &str) {
    eprintln!("\n==> {what}");
}
