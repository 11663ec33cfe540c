//! Compares what a run records about its repository with git's own answers.

use std::path::Path;

use crate::environment::{Ended, TestEnvironment, outcomes};

/// Which stages of the pipeline run shows what the engine recorded about the repository.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "git"
[inputs.commit]
type = "string"
[inputs.branch]
type = "string"
default = ""
[stages.commit]
uses = "noop"
if = "git.commit == inputs.commit"
[stages.branch]
uses = "noop"
if = "git.branch == inputs.branch"
[stages.dirty]
uses = "noop"
if = "git.dirty"
[stages.changed]
uses = "noop"
if = "git.changes != ''"
[stages.affected]
uses = "noop"
inputs = ["a/**", "b/**", "new/**", "new", "lib/**", "*.dat", "*.txt"]
"#;

/// Sets up a repository with the files `a/one`, `a/two`, `b/one` and `run` (executable), committed.
const START: &str = r"
mkdir a b && echo one > a/one && echo two > a/two && echo one > b/one && echo '#!/bin/sh' > run && chmod +x run
echo .stagewright > .gitignore
git add --all && git commit --quiet --message start
";

/// Changes to a repository, by name. The engine and git are asked about the result of each.
const CHANGES: &[(&str, &str)] = &[
    ("clean", ""),
    ("touched", "touch -d 2001-01-01 a/one"),
    ("modified", "echo x > a/one"),
    ("same size and time", "touch -r a/one t && echo eno > a/one && touch -r t a/one && rm t"),
    ("staged", "echo x > a/one && git add a/one"),
    ("staged and taken back", "echo x > a/one && git add a/one && echo one > a/one"),
    ("removed", "rm a/one"),
    ("removed from the index", "git rm --quiet --cached a/one"),
    ("renamed", "git mv a/one a/three"),
    ("untracked", "touch new"),
    ("untracked folder", "mkdir new && touch new/file"),
    ("empty folder", "mkdir new"),
    ("ignored", "echo 'new*' >> .git/info/exclude && touch new && mkdir new-folder && touch new-folder/x"),
    ("ignored and tracked", "echo a >> .git/info/exclude && echo x > a/one"),
    ("mode", "chmod +x a/one"),
    ("mode that isn't looked at", "git config core.fileMode false && chmod +x a/one"),
    ("file becomes a link", "rm a/one && ln -s two a/one"),
    ("link", "ln -s one a/link && git add a/link && git commit --quiet --message link"),
    ("link to elsewhere", "ln -s one a/link && git add a/link && git commit -qm link && ln -sfn two a/link"),
    ("link in the place of a folder", "mv a c && ln -s c a"),
    ("intent to add", "touch new && git add --intent-to-add new"),
    (
        "conflict",
        r"
        git checkout -qb other && echo other > a/one && git commit -qam other && git checkout -q main
        echo main > a/one && git commit -qam main && ! git merge -q other >/dev/null",
    ),
    ("detached", "git commit --quiet --allow-empty --message two && git checkout --quiet --detach HEAD~1"),
    (
        "eol",
        "printf '*.txt text eol=crlf\n' > .gitattributes && printf 'a\r\nb\r\n' > x.txt && git add -A && git commit -qm eol",
    ),
    (
        "eol, touched",
        r"
        printf '*.txt text eol=crlf\n' > .gitattributes && printf 'a\r\nb\r\n' > x.txt && git add -A && git commit -qm eol
        touch -d 2001-01-01 x.txt",
    ),
    (
        "autocrlf",
        r"
        git config core.autocrlf input && printf 'a\r\n' > x.txt && git add x.txt 2>/dev/null && git commit -qm crlf
        touch -d 2001-01-01 x.txt",
    ),
    (
        "encoding",
        r"
        printf '*.txt working-tree-encoding=UTF-16LE\n' > .gitattributes && printf 'a\0b\0' > x.txt
        git add -A && git commit -qm utf16 && touch -d 2001-01-01 x.txt",
    ),
    (
        "ident",
        r"
        printf '*.txt ident\n' > .gitattributes && echo '$Id$' > x.txt && git add -A && git commit -qm ident
        rm x.txt && git checkout -q x.txt && touch -d 2001-01-01 x.txt",
    ),
    (
        "filter",
        r"
        printf '*.dat filter=upper\n' > .gitattributes && git config filter.upper.clean 'tr a-z A-Z'
        git config filter.upper.smudge 'tr A-Z a-z' && echo text > x.dat && git add -A && git commit -qm filter
        touch -d 2001-01-01 x.dat",
    ),
    (
        "filter, modified",
        r"
        printf '*.dat filter=upper\n' > .gitattributes && git config filter.upper.clean 'tr a-z A-Z'
        echo text > x.dat && git add -A && git commit -qm filter && echo other > x.dat",
    ),
    ("case", "git mv a/one a/ONE && git commit -qm case"),
    ("ignoring case", "git config core.ignoreCase true && touch a/ONE"),
    (
        "file names",
        "touch \"a/new line\n\" 'a/\"quoted\"' a/Ünïcode \"$(printf 'a/\\377')\" && git add -A && git commit -qm names",
    ),
    (
        "file names, modified",
        "touch \"a/new line\n\" && git add -A && git commit -qm names && echo x > \"a/new line\n\"",
    ),
    ("worktree", "git worktree add -q ../linked 2>/dev/null && cd ../linked && echo x > a/one"),
    ("split index", "git update-index --split-index"),
    ("split index, modified", "git update-index --split-index && echo x > a/one"),
    ("split index, staged", "git update-index --split-index && echo x > a/one && git add a/one"),
    ("untracked cache", "git update-index --untracked-cache && git status >/dev/null && touch new"),
    ("index version 4", "git update-index --index-version 4 && echo x > a/one"),
    ("sparse checkout", "git sparse-checkout set --no-cone /b /stagewright.toml /.gitignore"),
    ("sparse checkout, modified", "git sparse-checkout set b && echo x > b/one"),
    ("sparse checkout, staged outside", "git sparse-checkout set b && git rm -q --cached --sparse a/one"),
    ("sparse checkout, cone", "git sparse-checkout set b"),
    ("sparse index", "git sparse-checkout set --sparse-index b"),
    ("sparse index, modified", "git sparse-checkout set --sparse-index b && echo x > b/one"),
    (
        "shallow",
        "git commit -q --allow-empty -m two && git clone -q --depth 1 file://$PWD ../linked && cd ../linked && echo x > a/one",
    ),
    (
        "shallow, clean",
        "git commit -q --allow-empty -m two && git clone -q --depth 1 file://$PWD ../linked && cd ../linked",
    ),
    (
        "partial",
        r"
        git config uploadpack.allowFilter true
        git clone -q --filter=blob:none file://$PWD ../linked && cd ../linked && touch -d 2001-01-01 a/one",
    ),
    ("alternates", "git clone -q --shared . ../linked && cd ../linked && echo x > a/one"),
    ("packed", "git gc -q && git pack-refs --all && echo x > a/one"),
    ("commit graph and midx", "git gc -q && git commit-graph write && git multi-pack-index write && echo x > a/one"),
    ("tag", "git tag -a v1 -m v1"),
    ("submodule", "SUB && git commit -qm lib"),
    ("submodule, staged", "SUB"),
    ("submodule, moved", "SUB && git commit -qm lib && git -C lib commit -q --allow-empty -m more"),
    (
        "submodule, moved and staged",
        "SUB && git commit -qm lib && git -C lib commit -q --allow-empty -m more && git add lib",
    ),
    ("submodule, modified", "SUB && git commit -qm lib && echo x > lib/l"),
    ("submodule, untracked", "SUB && git commit -qm lib && touch lib/new"),
    ("submodule, not checked out", "SUB && git commit -qm lib && git submodule --quiet deinit -f lib"),
    ("submodule, removed", "SUB && git commit -qm lib && rm -rf lib"),
    ("submodule that is ignored", "SUB && git commit -qm lib && git config submodule.lib.ignore all"),
    ("repository within", "git init -q new && touch new/file"),
    (
        "merge in progress",
        "git checkout -qb o && git commit -q --allow-empty -m o && git checkout -q main && git commit -q --allow-empty -m m && git merge -q --no-commit o 2>/dev/null",
    ),
    ("replaced", "git commit -q --allow-empty -m two && git replace HEAD HEAD~1"),
    ("empty .git above", "mkdir -p ../.git && echo x > a/one"),
    ("owned by another", "chown -R 12345:12345 . 2>/dev/null; true"),
    ("owned by another, modified", "echo x > a/one; chown -R 12345:12345 . 2>/dev/null; true"),
];

/// Whether a script succeeds.
fn shell(environment: &TestEnvironment, script: &str) -> bool {
    run_script(environment, script).is_ok()
}

/// Runs a script. The error is its output.
fn run_script(environment: &TestEnvironment, script: &str) -> Result<(), String> {
    let sub = r"git init -q -b main ../up && echo l > ../up/l && git -C ../up add l && git -C ../up commit -qm l &&
        git -c protocol.file.allow=always submodule --quiet add ../up lib";
    let script = format!("set -e\n{}\n", script.replace("SUB", sub));
    let mut command = environment.program("sh");
    let output = command.args(["-c", &script]).output().expect("sh starts");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn say(environment: &TestEnvironment, folder: &Path, args: &[&str]) -> String {
    let mut command = environment.program("git");
    let command = command.current_dir(folder).args(["--no-optional-locks", "-c", "safe.directory=*"]).args(args);
    let output = Ended::of(&command.output().expect("git starts"));
    output.stdout.trim_end_matches('\n').to_owned()
}

/// The differences between the engine's and git's view of a repository.
fn differences(format: &str, change: &str) -> Vec<String> {
    let mut environment = TestEnvironment::new();
    environment.write(
        "../gitconfig",
        "[user]\nname = tester\nemail = tester@example.org\n[protocol \"file\"]\nallow = always\n",
    );
    let config = environment.root().join("../gitconfig").canonicalize().expect("a file");
    environment.set("GIT_CONFIG_GLOBAL", &config.display().to_string());
    if !shell(&environment, &format!("git init -q -b main {format} .")) {
        return Vec::new();
    }
    environment.write("stagewright.toml", PIPELINE);
    assert!(shell(&environment, START), "{format}");
    if let Err(error) = run_script(&environment, change) {
        return vec![format!("the test's own script: {error}")];
    }
    let linked = environment.root().join("../linked");
    let folder = if linked.is_dir() { linked } else { environment.root() };
    let commit = say(&environment, &folder, &["rev-parse", "HEAD"]);
    let branch = say(&environment, &folder, &["symbolic-ref", "--quiet", "--short", "HEAD"]);
    let status = say(&environment, &folder, &["status", "--porcelain"]);
    let dirty = !status.is_empty();
    let tracked = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=untracked"];
    let changed = !say(&environment, &folder, &tracked).is_empty();
    let inputs = [format!("commit={commit}"), format!("branch={branch}")];
    let mut command = environment.program(&crate::environment::binary().display().to_string());
    let args = ["run", "--format", "json", "--input", &inputs[0], "--input", &inputs[1]];
    let ended = Ended::of(&command.current_dir(&folder).args(args).output().expect("the binary starts"));
    if ended.code != 0 {
        return vec![format!("exit {}: {}", ended.code, ended.stderr)];
    }
    let events: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let outcomes = outcomes(&events);
    let ran = |stage: &str| outcomes.get(stage).is_some_and(|outcome| outcome == "succeeded");
    let mut wrong = Vec::new();
    let mut check = |what: &str, is: bool, ought: bool| {
        if is != ought {
            wrong.push(format!("{what}: {is}, and git says {ought}: {status:?}"));
        }
    };
    check("commit", ran("commit"), true);
    check("branch", ran("branch"), !branch.is_empty());
    check("dirty", ran("dirty"), dirty);
    check("changed", ran("changed"), changed);
    let mut command = environment.program(&crate::environment::binary().display().to_string());
    let args = ["run", "--affected", "--base", "HEAD", "--input", &inputs[0]];
    let ended = Ended::of(&command.current_dir(&folder).args(args).output().expect("the binary starts"));
    let unaffected = (ended.stdout + &ended.stderr).contains("is affected");
    check("affected", !unaffected, dirty);
    wrong
}

#[track_caller]
fn check_all(format: &str, changes: impl Iterator<Item = &'static (&'static str, &'static str)>) {
    let wrong = changes
        .flat_map(|(name, change)| differences(format, change).into_iter().map(move |one| format!("{name}: {one}")));
    let wrong = wrong.collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_and_git_agree_on_a_repository() {
    check_all("", CHANGES.iter());
}

/// Formats that libgit2 can't read, so that the engine runs git. The comparison of files is covered by the other test.
#[test]
fn a_repository_of_another_format_is_taken_for_what_git_says_it_is() {
    const KINDS: [&str; 9] =
        ["clean", "conflict", "detached", "file names", "intent", "renamed", "submodule", "tag", "worktree"];
    let is_tried = |name: &str| KINDS.iter().any(|kind| name.starts_with(kind));
    check_all("--object-format=sha256", CHANGES.iter().filter(|(name, _)| is_tried(name)));
}

/// A repository for which the engine runs git, because libgit2 doesn't run filters. Its file is unchanged if the filter
/// prints the committed content.
fn filtered(clean: &str, committed: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    let config = "[user]\nname = tester\nemail = tester@example.org\n";
    environment.write("../gitconfig", config);
    let path = environment.root().join("../gitconfig").canonicalize().expect("a file");
    environment.set("GIT_CONFIG_GLOBAL", &path.display().to_string());
    environment.write("x.dat", committed);
    assert!(shell(&environment, "git init -q -b main . && mkdir a b && echo .stagewright > .gitignore"));
    assert!(shell(&environment, "git add -A && git commit -qm start"));
    // Git doesn't run the filter for a file of another size.
    environment.write("x.dat", &"x".repeat(committed.len()));
    environment.write(".git/info/attributes", "*.dat filter=own\n");
    environment.write("../gitconfig", &format!("{config}[filter \"own\"]\nclean = {clean}\n"));
    environment
}

fn is_dirty(environment: &TestEnvironment) -> bool {
    let (code, events) = environment.events(&["run", "--input", "commit=none"]);
    assert_eq!(code, 0, "{events:#?}");
    outcomes(&events)["dirty"] == "succeeded"
}

#[test]
fn a_filter_of_the_users_configuration_runs_and_reaches_nothing() {
    assert!(!is_dirty(&filtered("echo committed", "committed\n")), "the filter isn't run");
    assert!(is_dirty(&filtered("echo other", "committed\n")));
    // Outside the sandbox, each filter would print something else.
    let mut environment = filtered("\"printenv CANARY_TOKEN | wc -l\"", "0\n");
    environment.set("CANARY_TOKEN", "CANARY");
    assert!(!is_dirty(&environment), "the filter sees the engine's environment");
    let environment = filtered("\"touch pwned .git/pwned 2>/dev/null; ls -A . .git | grep -c pwned; true\"", "0\n");
    assert!(!is_dirty(&environment), "the filter writes to the repository");
    assert!(!environment.root().join("pwned").exists());
    let environment = filtered("\"cat /proc/net/route | grep -c 0; true\"", "0\n");
    assert!(!is_dirty(&environment), "the filter has a network");
}

#[test]
fn files_of_git_lfs_are_unchanged_until_they_change() {
    let environment = filtered("git-lfs clean -- %f", "");
    assert!(shell(
        &environment,
        "echo large > x.dat && git add x.dat && git commit -qm lfs && touch -d 2001-01-01 x.dat"
    ));
    assert!(!is_dirty(&environment));
    environment.write("x.dat", "other");
    assert!(is_dirty(&environment));
}

#[test]
fn a_repository_that_cannot_be_read_is_an_error() {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    assert!(shell(&environment, "git init -q -b main --object-format=sha256 ."));
    let path = environment.root().join("../no-programs");
    std::fs::create_dir(&path).expect("a folder");
    let mut ended = environment.run(&["run", "--input", "commit="]).exits(0);
    assert!(ended.stderr.is_empty() || !ended.stderr.contains("repository"), "{}", ended.stderr);
    environment.set("PATH", &path.display().to_string());
    ended = environment.run(&["run", "--input", "commit="]).exits(4);
    assert!(ended.stderr.contains("sha256") && ended.stderr.contains("git: not installed"), "{}", ended.stderr);
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    assert!(shell(&environment, "git init -q -b main ."));
    environment.write(".git/HEAD", "nothing\n");
    let ended = environment.run(&["run", "--input", "commit="]).exits(4);
    assert!(ended.stderr.contains("can't read the git repository"), "{}", ended.stderr);
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write(".git", "gitdir: ../gone\n");
    environment.run(&["run", "--input", "commit="]).exits(4);
}

#[test]
fn a_missing_home_is_not_created() {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    let home = environment.root().join("../no-home");
    environment.set("HOME", &home.display().to_string());
    environment.set("XDG_CACHE_HOME", "");
    environment.run(&["run", "--input", "commit="]).exits(0);
    assert!(!home.exists());
}

#[test]
fn an_empty_part_of_a_group_name_is_warned_of() {
    let group = |text: &str| format!("{PIPELINE}[concurrency]\ngroup = \"{text}\"\n");
    let environment = TestEnvironment::with_pipeline(&group("ci-${{ git.branch }}"));
    assert!(shell(
        &environment,
        "git init -q -b main . && git config user.name x && git config user.email x@y && git add -A && git commit -q -m one"
    ));
    let run = |environment: &TestEnvironment| environment.run(&["run", "--input", "commit="]).exits(0).stderr;
    assert!(!run(&environment).contains("group"), "a branch is checked out");
    environment.git(&["checkout", "--quiet", "--detach"]);
    let warned = run(&environment);
    assert!(warned.contains("the concurrency group is `ci-`, because `git.branch` is empty"), "{warned}");
    environment.write("stagewright.toml", &group("ci-${{ git.branch == null ? git.commit : git.branch }}"));
    assert!(!run(&environment).contains("group"), "the suggested change removes the warning");
}

#[test]
fn a_group_without_a_value_is_an_error_before_anything_starts() {
    let environment = TestEnvironment::with_pipeline(&format!(
        "{PIPELINE}[concurrency]\ngroup = \"${{{{ from_json(inputs.commit).name }}}}\"\n"
    ));
    let refused = environment.run(&["run", "--input", "commit={}"]).exits(3);
    assert!(refused.stderr.contains("stagewright.toml: `concurrency.group` has no value"), "{}", refused.stderr);
    assert!(!environment.run(&["runs"]).stdout.contains("git"), "no run was recorded");
}
