//! `plugin upgrade`: a crate that was created for contract 0.1 moves to this engine's SDK, and its author's changes are safe.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use crate::environment::{Ended, TestEnvironment, binary};

/// The code that `plugin new count-lines` wrote for contract 0.1.
const CODE: &str = include_str!("../contract/0.1/count-lines.rs");

/// The contract in the copies of the SDK of that time.
const CONTRACT: &str = include_str!("../../plugins/wit/0.1/stage.wit");

const MANIFEST: &str = r#"
[workspace]

[package]
name = "count-lines"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
serde = { version = "1", features = ["derive"] }
stagewright-sdk = { path = "sdk" }

[dev-dependencies]
serde_json = "1"

[profile.guest]
inherits = "release"
panic = "abort"
"#;

/// The edits that an author makes by the hints.
const EDITS: [(&str, &str); 10] = [
    (
        "use stagewright_sdk::{Capability, Diagnostic, Error, JsonSchema, Manifest, Outcome, Result, Stage, log, outputs, \
         workspace};",
        "use stagewright_sdk::{Error, Finding, JsonSchema, Manifest, Outcome, Problem, Result, Stage, log, outputs, \
         workspace};",
    ),
    (".output(\"files\"", ".output::<usize>(\"files\""),
    (".output(\"longest\"", ".output::<usize>(\"longest\""),
    (".capability(Capability::Workspace)", ""),
    ("Vec<Diagnostic>", "Vec<Problem>"),
    (
        "Diagnostic::error(\"max-lines\", \"`max-lines` must not be 0\").at(\"max-lines\")",
        "Problem::at(\"max-lines\", \"`max-lines` must not be 0\")",
    ),
    ("!entry.directory", "!entry.folder"),
    (
        "outputs::report(Diagnostic::error(\"too-long\", message).at(&file.path));",
        "Finding::error(\"too-long\", message).file(&file.path, None).report();",
    ),
    ("report.problems[0].path", "report.findings[0].file"),
    (
        ".deny(\"workspace\", \"src/a.rs\").run::<CountLines>();\n        \
         assert!(report.result.unwrap_err().is_denied());",
        ".deny(stagewright_sdk::Permission::Read, \"src/a.rs\").run::<CountLines>();\n        \
         assert_eq!(report.outputs[\"files\"], 1);",
    ),
];

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// Writes what an upgrade reads of an SDK. It isn't compiled.
fn write_sdk(folder: &Path, version: &str) {
    write(&folder.join("Cargo.toml"), &format!("[package]\nname = \"stagewright-sdk\"\nversion = \"{version}\"\n"));
    write(&folder.join("wit/stage.wit"), CONTRACT);
    write(&folder.join("src/lib.rs"), "// 0.1");
    write(&folder.join("src/fake/imports/outside.rs"), "// removed in 0.2");
}

/// Writes a crate for contract 0.1.
fn write_crate(folder: &Path) {
    write(&folder.join("Cargo.toml"), MANIFEST);
    write(&folder.join("src/lib.rs"), CODE);
    write(&folder.join(".gitignore"), "/target\n/plugin.wasm\n");
    write_sdk(&folder.join("sdk"), "0.1.0");
}

fn program(environment: &TestEnvironment, folder: &Path, line: &[&str]) -> Output {
    environment.program(line[0]).args(&line[1..]).current_dir(folder).output().expect("the program starts")
}

#[track_caller]
fn commit(environment: &TestEnvironment, folder: &Path) {
    for line in [
        &["git", "init", "-q"][..],
        &["git", "config", "user.name", "Ada"],
        &["git", "config", "user.email", "ada@example.org"],
        &["git", "add", "--all"],
        &["git", "commit", "-q", "--message", "Start"],
    ] {
        Ended::of(&program(environment, folder, line)).exits(0);
    }
}

/// A repository with a crate for contract 0.1, all committed.
fn with_crate() -> TestEnvironment {
    let environment = TestEnvironment::new();
    write_crate(&environment.root());
    commit(&environment, &environment.root());
    environment
}

fn changes(environment: &TestEnvironment) -> String {
    Ended::of(&program(environment, &environment.root(), &["git", "status", "--porcelain"])).exits(0).stdout
}

#[test]
fn an_upgraded_crate_builds_and_passes_its_tests_once_every_hint_is_followed() {
    let mut environment = TestEnvironment::new();
    environment.set("CARGO_NET_OFFLINE", "true");
    // The folder is always the same, so that Cargo compiles the dependencies once.
    let folder = binary().with_file_name("test-upgrade").join("count-lines");
    let _ = std::fs::remove_dir_all(&folder);
    write_crate(&folder);
    // The versions that the workspace has downloaded.
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"), folder.join("Cargo.lock")).expect("a copy");
    commit(&environment, &folder);

    let path = folder.display().to_string();
    let upgraded = environment.run(&["plugin", "upgrade", &path]).exits(0);
    assert!(upgraded.stdout.contains("count-lines: SDK 0.1.0 (contract 0.1) -> 0.2.3 (contract 0.2)"), "{upgraded:?}");
    assert!(!folder.join("sdk/src/fake/imports/outside.rs").exists());

    let place = format!("  {path}/src/lib.rs:");
    let places = upgraded.stdout.lines().filter_map(|line| line.strip_prefix(&place)?.split(':').next()?.parse().ok());
    let hinted: BTreeSet<usize> = places.collect();
    let line_of = |text: &str| 1 + CODE[..CODE.find(text).expect("an edited text")].matches('\n').count();
    assert_eq!(hinted, EDITS.iter().map(|(old, _)| line_of(old)).collect(), "{}", upgraded.stdout);

    let migrated = EDITS.iter().fold(CODE.to_owned(), |code, (old, new)| code.replace(old, new));
    write(&folder.join("src/lib.rs"), &migrated);
    environment.set("CARGO_TARGET_DIR", &folder.with_file_name("target").display().to_string());
    let tested = Ended::of(&program(&environment, &folder, &["cargo", "test", "--quiet"])).exits(0);
    assert!(tested.stdout.contains("3 passed"), "{tested:?}");
    environment.run(&["plugin", "build", &path]).exits(0);
    let checked = environment.run(&["plugin", "check", &path]).exits(0);
    assert!(checked.stdout.contains("context, findings, logging, outputs, workspace"), "{}", checked.stdout);
}

#[test]
fn a_new_plugin_is_up_to_date() {
    let environment = TestEnvironment::new();
    environment.run(&["plugin", "new", "mine"]).exits(0);
    for args in [&["plugin", "upgrade", "mine"][..], &["plugin", "upgrade", "--check", "mine"]] {
        assert_eq!(environment.run(args).exits(0).stdout, "mine: up to date, SDK 0.2.3 (contract 0.2)\n");
    }
}

#[test]
fn check_shows_the_same_and_changes_nothing() {
    let environment = with_crate();
    let checked = environment.run(&["plugin", "upgrade", "--check"]).exits(4);
    assert!(checked.stderr.contains("1 copy of the SDK is out of date"), "{}", checked.stderr);
    assert_eq!(changes(&environment), "");
    let upgraded = environment.run(&["plugin", "upgrade"]).exits(0);
    assert!(upgraded.stdout.starts_with(&checked.stdout), "{}\n{}", checked.stdout, upgraded.stdout);
    assert!(changes(&environment).contains(" D sdk/src/fake/imports/outside.rs\n"));
    environment.run(&["plugin", "upgrade", "--check"]).exits(0);
}

#[test]
fn what_git_cannot_restore_is_only_replaced_on_request_and_kept() {
    let environment = with_crate();
    environment.write("sdk/src/lib.rs", "// mine");
    environment.write("sdk/src/mine.rs", "");
    let refused = environment.run(&["plugin", "upgrade"]).exits(4);
    for expected in ["sdk/src/lib.rs\n", "sdk/src/mine.rs\n", "--allow-dirty"] {
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
    assert_eq!(environment.read("sdk/src/lib.rs"), "// mine");
    let upgraded = environment.run(&["plugin", "upgrade", "--allow-dirty"]).exits(0);
    assert!(upgraded.stdout.contains("Kept sdk as sdk.orig"), "{}", upgraded.stdout);
    assert_eq!(environment.read("sdk.orig/src/lib.rs"), "// mine");
    assert!(environment.root().join("sdk.orig/src/mine.rs").exists());
    environment.run(&["plugin", "upgrade", "--check"]).exits(0);
    // A second upgrade doesn't replace what the first has kept.
    environment.write("sdk/src/lib.rs", "// again");
    let refused = environment.run(&["plugin", "upgrade", "--allow-dirty"]).exits(4);
    assert!(refused.stderr.contains("sdk.orig exists"), "{}", refused.stderr);
    assert_eq!(environment.read("sdk/src/lib.rs"), "// again");
}

#[test]
fn a_copy_that_git_ignores_or_does_not_know_is_not_replaced() {
    let environment = TestEnvironment::new();
    write_crate(&environment.root());
    let refused = environment.run(&["plugin", "upgrade"]).exits(4);
    assert!(refused.stderr.contains("can't determine whether"), "{}", refused.stderr);
    environment.write(".gitignore", "/sdk\n");
    commit(&environment, &environment.root());
    let refused = environment.run(&["plugin", "upgrade"]).exits(4);
    assert!(refused.stderr.contains("uncommitted changes"), "{}", refused.stderr);
    assert_eq!(environment.read("sdk/src/lib.rs"), "// 0.1");
}

#[test]
fn an_upgrade_that_was_killed_is_completed() {
    let environment = with_crate();
    environment.write("sdk/LICENSE", "text");
    environment.write(".sdk.upgrade/src/lib.rs", "// partial");
    environment.run(&["plugin", "upgrade"]).exits(0);
    assert_eq!(environment.read("sdk/LICENSE"), "text");
    // Killed after the exchange: what the author added is still with the earlier copy.
    std::fs::create_dir(environment.root().join(".sdk.upgrade")).expect("a folder");
    std::fs::rename(environment.root().join("sdk/LICENSE"), environment.root().join(".sdk.upgrade/LICENSE")).unwrap();
    let completed = environment.run(&["plugin", "upgrade"]).exits(0);
    assert!(completed.stdout.contains("up to date"), "{}", completed.stdout);
    assert_eq!(environment.read("sdk/LICENSE"), "text");
    assert!(!environment.root().join(".sdk.upgrade").exists());
}

#[test]
fn guests_of_a_workspace_share_one_upgrade_and_an_sdk_outside_of_it_stays() {
    let environment = TestEnvironment::new();
    let member = |name: &str, sdk: &str| {
        let package =
            format!("[package]\nname = \"{name}\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\n{sdk}\n");
        environment.write(&format!("plugins/{name}/Cargo.toml"), &package);
        environment.write(&format!("plugins/{name}/src/lib.rs"), "fn f(_: Diagnostic) {}");
    };
    environment.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"plugins/*\"]\n[workspace.dependencies]\nstagewright-sdk = { path = \"sdk\" }\n",
    );
    member("one", "stagewright-sdk.workspace = true");
    member("two", "stagewright-sdk = { path = \"../../sdk\" }");
    member("three", "stagewright-sdk = { path = \"../../../outside\" }");
    member("four", "wit-bindgen = \"0.61\"");
    write_sdk(&environment.root().join("sdk"), "0.1.0");
    write_sdk(&environment.root().join("../outside"), "0.1.0");
    commit(&environment, &environment.root());
    let upgraded = environment.run(&["plugin", "upgrade"]).exits(0);
    assert_eq!(upgraded.stdout.matches("-> 0.2.3").count(), 1, "{}", upgraded.stdout);
    for expected in ["one, two: SDK 0.1.0", "plugins/two/src/lib.rs:1:", "three: unchanged", "four: unchanged"] {
        assert!(upgraded.stdout.contains(expected), "{expected}: {}", upgraded.stdout);
    }
    assert_eq!(environment.read("../outside/src/lib.rs"), "// 0.1");
}

#[test]
fn a_newer_copy_and_a_folder_without_an_sdk_are_refused() {
    let environment = with_crate();
    write_sdk(&environment.root().join("sdk"), "9.0.0");
    let refused = environment.run(&["plugin", "upgrade"]).exits(4);
    assert!(refused.stderr.contains("newer than that of this program, 0.2.3 (contract 0.2)"), "{}", refused.stderr);
    environment.write("sdk/Cargo.toml", "[package]\nname = \"other\"\n");
    let refused = environment.run(&["plugin", "upgrade"]).exits(4);
    assert!(
        refused.stderr.contains("is not a copy of the SDK: Cargo.toml names another package"),
        "{}",
        refused.stderr
    );
}
