//! What git runs and trusts, wherever its directories, links and configuration place it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::reserved::{git_directory, link};
use super::{fails, holds, log, make_executable, repository, stage, tries, write_pipeline};
use crate::environment::text;

#[test]
fn links_in_a_git_directory_lead_to_what_no_stage_writes() {
    let environment = repository();
    std::fs::remove_dir_all(environment.root().join(".git/hooks")).expect("a folder");
    environment.write("githooks/commit-msg", "exit 0\n");
    environment.write("scripts/check", "exit 0\n");
    environment.write("conf/gitconfig", "[http]\n\textraHeader = hunter2\n");
    std::fs::remove_file(environment.root().join(".git/config")).expect("a file");
    link(&environment, "../githooks", ".git/hooks");
    link(&environment, "../conf/gitconfig", ".git/config");
    std::fs::create_dir_all(environment.root().join(".git/modules/m/hooks")).expect("a folder");
    link(&environment, "../../../../scripts/check", ".git/modules/m/hooks/pre-push");
    let script = r#"
        may put anywhere
        may cat githooks/commit-msg
        never put githooks/commit-msg
        never put githooks/pre-push
        never mv githooks elsewhere
        may put scripts/other
        never put scripts/check
        never rm -f scripts/check
        may put conf/other
        never grep hunter2 conf/gitconfig
        never put conf/gitconfig
        never mv conf elsewhere"#;
    tries(&environment, r#"write = ["."]"#, script);
    let failure = fails(&environment, "", r#"write = ["conf/gitconfig"]"#, "cat conf/gitconfig");
    assert!(text(&failure["message"]).contains("the configuration of git"), "{failure:#}");
}

#[test]
fn includes_count_whatever_their_condition_is() {
    let environment = repository();
    environment.write(".git/config", "[includeIf \"onbranch:other\"]\n\tpath = more\n");
    environment.write(".git/more", "[core]\n\thooksPath = .branch\n");
    let user = format!("[includeIf \"gitdir:{}/\"]\n\tpath = work\n", environment.root().display());
    environment.write("../home/.gitconfig", &user);
    environment.write("../home/work", "[core]\n\thooksPath = .user\n");
    for folder in [".branch", ".user"] {
        std::fs::create_dir(environment.root().join(folder)).expect("a folder");
    }
    let script = "may put anywhere; never put .branch/pre-push; never put .user/pre-push; never mv .user elsewhere";
    tries(&environment, r#"write = ["."]"#, script);
}

#[test]
fn hooks_of_clones_submodules_and_working_trees_are_reserved_with_them() {
    let environment = repository();
    git_directory(&environment, "vendor/x/.git");
    environment.write("vendor/x/.git/config", "[core]\n\thooksPath = .husky\n\tfsmonitor = tools/fs --fast\n");
    environment.write("vendor/x/.husky/commit-msg", "exit 0\n");
    environment.write("vendor/x/tools/fs", "exit 0\n");
    git_directory(&environment, ".git/modules/sub");
    environment.write(".git/modules/sub/config", "[core]\n\tworktree = ../../../sub\n\thooksPath = .h\n");
    environment.write("sub/.git", "gitdir: ../.git/modules/sub\n");
    environment.write(".git/worktrees/wt/gitdir", &format!("{}\n", environment.root().join("wt/.git").display()));
    environment.write(".git/worktrees/wt/config.worktree", "[core]\n\thooksPath = .hk\n");
    environment.write(".git/worktrees/wt/commondir", "../..\n");
    environment.write("wt/.git", "gitdir: ../.git/worktrees/wt\n");
    for folder in ["sub/.h", "wt/.hk"] {
        std::fs::create_dir(environment.root().join(folder)).expect("a folder");
    }
    let script = r#"
        may put vendor/x/own
        for folder in vendor/x/.husky sub/.h wt/.hk; do
          never put $folder/pre-commit
          never mv $folder elsewhere
        done
        never put vendor/x/tools/fs
        may put vendor/x/tools/other
        never put wt/.git"#;
    for write in [r#"write = ["."]"#, r#"write = ["vendor/x", "sub", "wt"]"#] {
        tries(&environment, write, script);
    }
    // The repository is above the granted folder.
    let failure = fails(&environment, "", r#"write = ["vendor/x/.husky"]"#, "true");
    assert!(text(&failure["message"]).contains("core.hooksPath"), "{failure:#}");
    tries(&environment, r#"write = ["vendor/x/tools"]"#, "never put vendor/x/tools/fs; may put vendor/x/tools/new");
}

#[test]
fn what_lies_below_a_repository_without_a_working_tree_is_not_granted() {
    let environment = repository();
    git_directory(&environment, "mirror/x.git");
    let failure = fails(&environment, "", r#"write = ["mirror/x.git/hooks"]"#, "true");
    assert!(text(&failure["message"]).contains("a git directory"), "{failure:#}");
    let script = "may put out/x; never put mirror/x.git/hooks/pre-receive";
    tries(&environment, r#"write = ["mirror/*/hooks", "out"]"#, script);
    assert!(!environment.root().join("mirror/x.git/hooks/pre-receive").exists());
}

#[test]
fn the_users_configuration_of_git_is_reserved_wherever_it_lies() {
    let mut environment = repository();
    let at = |path: &str| environment.root().join(path).display().to_string();
    let variables = [("XDG_CONFIG_HOME", at(".xdg")), ("GIT_CONFIG_GLOBAL", at("conf/gitconfig"))];
    environment.write("dotfiles/gitconfig", "[user]\n\tname = Ada\n");
    link(&environment, environment.root().join("dotfiles/gitconfig"), "../home/.gitconfig");
    variables.iter().for_each(|(name, value)| environment.set(name, value));
    std::fs::create_dir(environment.root().join("conf")).expect("a folder");
    let script = r#"
        may put anywhere
        never mkdir -p .xdg/git/new
        never put .xdg/git/config
        never put conf/gitconfig
        never put dotfiles/gitconfig
        may put dotfiles/other"#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(!environment.root().join("conf/gitconfig").exists() && !environment.root().join(".xdg").exists());
}

#[test]
fn programs_that_git_is_configured_to_run_cannot_be_written_and_no_folder_takes_their_place() {
    let environment = repository();
    for name in ["fs", "ssh", "clean", "pager", "helper"] {
        environment.write(&format!("tools/{name}"), "#!/bin/sh\n");
        make_executable(&environment, &format!("tools/{name}"));
    }
    let config = "[core]\n\tfsmonitor = \"tools/fs --fast\"\n\tsshCommand = ./tools/ssh\n\tpager = tools/new -x\n\
                  [filter \"x\"]\n\tclean = tools/clean %f\n[pager]\n\tlog = tools/pager\n\
                  [credential]\n\thelper = !sh tools/helper\n[alias]\n\tx = !tools/hostile\n";
    environment.write(".git/config", config);
    let script = r#"
        may put tools/other
        for name in fs ssh clean pager helper new; do
          never put tools/$name
          never rm -f tools/$name
        done
        never test -d "tools/fs --fast""#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(!environment.root().join("tools/fs --fast").exists() && !environment.root().join("tools/new").exists());
}

#[test]
fn a_repository_below_a_folder_that_is_not_utf8_is_closed() {
    let environment = repository();
    git_directory(&environment, "vendor/x/.git");
    environment.write("vendor/x/.git/config", "[core]\n\thooksPath = .husky\n[http]\n\textraHeader = hunter2\n");
    environment.write("vendor/x/.husky/commit-msg", "exit 0\n");
    let odd = environment.root().join(OsStr::from_bytes(b"ven\xffdor"));
    std::fs::rename(environment.root().join("vendor"), odd).expect("a folder with another name");
    let script = r#"
        may put anywhere
        for folder in ven*; do
          may put "$folder/own"
          never grep -r hunter2 "$folder"
          never put "$folder/x/.git/hooks/pre-push"
          never put "$folder/x/.husky/pre-push"
          never mv "$folder/x/.git" "$folder/x/.husky" elsewhere
          never rm -rf "$folder/x"
        done"#;
    tries(&environment, r#"write = ["."]"#, script);
    write_pipeline(&environment, &[stage("attack", "", r#"read = ["."]"#, "may true; never grep -r hunter2 ven*")]);
    environment.run(&["run"]).exits(0);
    holds(&log(&environment, "attack"));
}
