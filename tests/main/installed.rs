//! What people install: a program that needs neither this repository nor a network.
//!
//! Each test builds a release, which takes minutes, so they run by name only:
//! `cargo nextest run --package stagewright-tests --run-ignored only -E 'test(installed::)'`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::TestEnvironment;

const PIPELINE: &str = r#"
schema = 1
pipeline.name = "hello"

[stages.greet]
uses        = "command"
with        = { run = "echo hello > greeting.txt" }
permissions = { process = ["sh"], write = ["."] }

[stages.done]
uses  = "noop"
needs = ["greet"]
"#;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a pipeline of another repository with the program, without a network and without any plugin outside of it.
fn runs_anywhere(program: &Path) {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.git(&["init", "-q"]);
    environment.unset("STAGEWRIGHT_PLUGINS");
    environment.set("XDG_CACHE_HOME", &environment.root().with_file_name("cache").display().to_string());
    let offline = |args: &[&str]| {
        let mut command = environment.program("unshare");
        succeeds(command.args(["--map-root-user", "--net", "--"]).arg(program).args(args))
    };
    offline(&["run"]);
    assert_eq!(environment.read("greeting.txt"), "hello\n");
    let listed = offline(&["plugin", "list"]);
    assert_eq!(listed.lines().filter(|line| line.ends_with("(embedded)")).count(), 34, "{listed}");
    offline(&["lock"]);
    assert!(offline(&["lock", "--check"]).contains("up to date"));
}

#[test]
#[ignore = "builds a release"]
fn cargo_install_gives_a_program_that_runs_in_any_repository() {
    let root = tempfile::tempdir().expect("a folder");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository()).args([
        "install",
        "--quiet",
        "--locked",
        "--path",
        "crates/stagewright-cli",
        "--root",
    ]);
    succeeds(cargo.arg(root.path()).env_remove("STAGEWRIGHT_BUILTIN_PLUGINS"));
    runs_anywhere(&root.path().join("bin/stagewright"));
}

#[test]
#[ignore = "builds a release"]
fn archives_are_packed_to_the_same_bytes_again_and_their_program_runs_in_any_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let sums = ["one", "two"].map(|name| {
        let output = folder.path().join(name);
        let mut cargo = Command::new("cargo");
        succeeds(cargo.current_dir(repository()).args(["xtask", "dist", "--output"]).arg(&output));
        succeeds(Command::new("sha256sum").current_dir(&output).args(["--check", "SHA256SUMS"]));
        std::fs::read_to_string(output.join("SHA256SUMS")).expect("checksums")
    });
    assert_eq!(sums[0], sums[1]);
    let archives: Vec<&str> = sums[0].split_whitespace().filter(|word| word.ends_with(".tar.gz")).collect();
    assert!(!archives.is_empty());
    for archive in archives {
        succeeds(
            Command::new("tar").current_dir(folder.path()).arg("-xzf").arg(folder.path().join("one").join(archive)),
        );
        let unpacked = folder.path().join(archive.trim_end_matches(".tar.gz"));
        for file in [
            "README.md",
            "THIRD-PARTY-LICENSES.txt",
            "sbom.cdx.json",
            "share/man/man1/stagewright-run.1",
            "share/doc/stagewright/docs/getting-started.md",
        ] {
            assert!(unpacked.join(file).is_file(), "{archive} lacks {file}");
        }
        let program = unpacked.join("bin/stagewright");
        runs_anywhere(&program);
        if archive.contains("-musl") {
            refuses_native_plugins(&program);
        }
    }
}

/// A program for musl is static, and has no dynamic loader.
fn refuses_native_plugins(program: &Path) {
    let digest = "0".repeat(64);
    let stage = format!("[stages.a]\nuses = \"path:a.so\"\ntrust = \"native\"\ndigest = \"sha256:{digest}\"\n");
    let environment = TestEnvironment::with_pipeline(&format!("schema = 1\npipeline.name = \"native\"\n{stage}"));
    let output = environment.program(&program.display().to_string()).arg("run").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("linked statically") && error.contains("linked for glibc"), "{error}");
}
