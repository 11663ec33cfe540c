//! Patterns of programs and their arguments: what starts under a granted name.

use super::{log, make_executable, repository};
use crate::environment::{TestEnvironment, failure, text};

/// Runs a stage with an argument pattern. Returns the exit code and the failure.
fn starts(environment: &TestEnvironment, process: &str, argv: &[&str], more: &str) -> (i32, String) {
    // A program that is known before the run would be refused before it.
    let program = format!("${{{{ '{}' }}}}", argv[0]);
    let argv: Vec<&str> = [program.as_str()].into_iter().chain(argv[1..].iter().copied()).collect();
    let text = format!(
        "schema = 1\n[pipeline]\nname = \"hostile\"\n[stages.attack]\nuses = \"command\"\n\
         with = {{ argv = {argv:?}{more} }}\n[stages.attack.permissions]\nprocess = ['{process}']\nread = [\".\"]\n\
         write = [\"out\"]\n"
    );
    environment.write("stagewright.toml", &text);
    let (code, events) = environment.events(&["run"]);
    match code {
        0 => (code, log(environment, "attack")),
        _ => (code, text_of(&failure(&events, "attack"))),
    }
}

fn text_of(failure: &serde_json::Value) -> String {
    format!("{}: {}", text(&failure["kind"]), text(&failure["message"]))
}

#[test]
fn arguments_cannot_be_smuggled_past_a_pattern() {
    let environment = repository();
    let git = |argv: &[&str]| starts(&environment, "git log *", argv, "");
    for argv in [
        &["git", "log", "--output=out/x"][..],
        &["git", "log", "-c"],
        &["git", "-c", "core.pager=sh", "log"],
        &["git", "log", "HEAD", "--output=out/x"],
        &["git", "--exec-path=out", "log"],
        &["/usr/bin/git", "log", "HEAD"],
        &["out/git", "log", "HEAD"],
    ] {
        let (code, said) = git(argv);
        assert!(code == 1 && said.starts_with("denied: "), "{argv:?}: {said}");
    }
    let (code, said) = starts(&environment, "git fetch origin *", &["git", "fetch", "origin", "--upload-pack=sh"], "");
    assert!(code == 1 && said.starts_with("denied: "), "{said}");
    let (code, said) = starts(&environment, "echo log *", &["echo", "log", "HEAD"], "");
    assert!(code == 0 && said.contains("log HEAD"), "{said}");
    assert!(!environment.root().join("out/x").exists());
}

#[test]
fn variables_cannot_undo_a_pattern() {
    let environment = repository();
    let says = |more: &str| starts(&environment, "env --null --", &["env", "--null", "--"], more);
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "GIT_SSH_COMMAND", "PATH", "BASH_ENV"] {
        let (code, said) = says(&format!(", env = {{ {name} = 'out/evil' }}"));
        assert!(code == 1 && said.starts_with("denied: ") && said.contains(name), "{name}: {said}");
    }
    let (code, said) = says("");
    assert!(code == 0 && said.contains("PATH="), "{said}");
}

#[test]
fn a_path_of_the_plugins_finds_no_other_program() {
    let environment = repository();
    environment.write("out/uname", "#!/bin/sh\necho impostor\n");
    make_executable(&environment, "out/uname");
    let path = format!(", env = {{ PATH = '{}' }}", environment.root().join("out").display());
    let (code, said) = starts(&environment, "uname", &["uname"], &path);
    assert!(code == 0 && said.contains("Linux") && !said.contains("impostor"), "{said}");
    let (code, said) = starts(&environment, "out/uname", &["out/uname"], "");
    assert!(code == 0 && said.contains("impostor"), "{said}");
}

#[test]
fn a_program_of_the_workspace_cannot_be_replaced_by_itself_nor_by_a_link() {
    let environment = repository();
    environment.write("src/lint", "#!/bin/sh\necho first; echo 'echo second' > src/lint; mv src/lint out/; :\n");
    make_executable(&environment, "src/lint");
    let before = environment.read("src/lint");
    for _ in 0..2 {
        let (code, said) = starts(&environment, "src/lint", &["./src/lint"], "");
        assert!(code == 0 && said.contains("first") && !said.contains("second\n"), "{said}");
    }
    assert_eq!(environment.read("src/lint"), before);
    std::fs::remove_file(environment.root().join("src/lint")).expect("a file to remove");
    environment.write("../outside/lint", "#!/bin/sh\necho stolen\n");
    make_executable(&environment, "../outside/lint");
    let outside = environment.root().join("../outside/lint").canonicalize().expect("a program");
    std::os::unix::fs::symlink(&outside, environment.root().join("src/lint")).expect("a link");
    let (code, said) = starts(&environment, "src/lint", &["src/lint"], "");
    assert!(code == 1 && said.contains("may not start the program") && !said.contains("stolen\n"), "{said}");
    // What every program may start isn't protected by a link, no more than from a script in its place.
    std::fs::remove_file(environment.root().join("src/lint")).expect("a link to remove");
    std::os::unix::fs::symlink("/bin/echo", environment.root().join("src/lint")).expect("a link");
    let (code, said) = starts(&environment, "src/lint", &["src/lint", "of the system"], "");
    assert!(code == 0 && said.contains("of the system"), "{said}");
}
