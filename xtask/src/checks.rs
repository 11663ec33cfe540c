//! `cargo xtask test`: runs every check of this repository. Cheap checks come first, and the tests last, so that their
//! summary is the end of the output.

use std::process::Command;

use crate::cargo::{Result, capture, cargo, describe, root, run as run_command};
use crate::cluster::TestCluster;
use crate::{packages, pipeline, schema, tidy};

/// Where the tests are run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// On a developer's machine.
    Local,
    /// In CI: nextest uses its profile `ci`, which writes a JUnit report.
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
    announce("schema");
    schema::check()?;
    step(cargo().args(["test", "--quiet", "--workspace", "--all-features", "--doc"]))?;
    step(&mut documentation())?;
    without_features()?;
    sample()?;
    on_a_cluster()?;
    step(&mut tests(profile)?)
}

/// The tests that need a Kubernetes, if they are asked for, and this machine has one or can start it at once. Otherwise they
/// are reported as not run.
fn on_a_cluster() -> Result<()> {
    if std::env::var_os("STAGEWRIGHT_TEST_CLUSTER").is_none() {
        announce("not run: the tests on Kubernetes, which STAGEWRIGHT_TEST_CLUSTER=1 includes");
        return Ok(());
    }
    let cluster = match TestCluster::find() {
        Ok(Some(cluster)) if has_nextest() => cluster,
        Ok(_) => {
            announce("not run: the tests on Kubernetes, which need cargo-nextest and `cargo xtask cluster up`");
            return Ok(());
        }
        Err(reason) => {
            announce(&format!("not run: the tests on Kubernetes, which can't be started: {reason}"));
            return Ok(());
        }
    };
    let mut command = cargo();
    command.args(["nextest", "run", "--package", "stagewright-tests", "--all-features", "--run-ignored", "only"]);
    command.args(["--filterset", "test(kubernetes::)"]).envs(cluster.variables());
    let tested = step(&mut command);
    tested.and(cluster.end())
}

/// Builds the documentation, which finds broken links in comments. Links to private items are permitted: they are for
/// readers of the source.
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
    step(cargo().args([
        "test",
        "--quiet",
        "--package",
        "stagewright-cache",
        "--package",
        "stagewright-secrets",
        "--lib",
    ]))
}

/// Checks the sample service, which is a workspace of its own like a user's project.
fn sample() -> Result<()> {
    let folder = root().join("pipelines/greeter");
    // `CARGO_TARGET_DIR` is for the main workspace. The release pipeline expects the service in the service's own target
    // folder.
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
        return Err("`ci` writes a JUnit report, which requires cargo-nextest, and that isn't installed\n  \
                    help: cargo install --locked cargo-nextest, or use `cargo xtask test`"
            .to_owned());
    } else {
        // `--all-targets` doesn't include documentation tests, which are a separate step.
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
