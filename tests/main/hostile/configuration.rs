//! Configuration that holds credentials: git's, those of package managers, and what lies beside a program.

use super::{holds, log, make_executable, repository, stage, tries, with_own_mounts, write_pipeline};
use crate::environment::TestEnvironment;

/// In each place where git keeps an address or a helper, and where none is looked for.
const GIT: &str = r#"
[core]
	repositoryformatversion = 0
[remote "origin"]
	url = https://ada:hunter2@git.test/a
	pushurl = https://hunter2@git.test/a
[sendemail]
	smtpPass = hunter2
[http]
	extraHeader = Authorization: Basic \
		hunter2
	proxy = u:hunter2@proxy.test:1
[url "https://x:hunter2@git.test/"]
	insteadOf = https://git.test/
[submodule "lib"]
	url = https://u:hunter2@git.test/lib
[credential]
	helper = "!echo password=hunter2"
"#;

fn with_git() -> TestEnvironment {
    let environment = repository();
    for git in [".git", ".git/modules/deps/lib", ".git/worktrees/other"] {
        // A repository without a commit, as its objects are none.
        environment.write(&format!("{git}/HEAD"), "ref: refs/heads/unborn\n");
        environment.write(&format!("{git}/config"), GIT);
        environment.write(&format!("{git}/config.worktree"), GIT);
        for path in ["FETCH_HEAD", "logs/HEAD", "hooks/post-commit", "MERGE_MSG", "remotes/old", "lfs/cache/x"] {
            environment.write(&format!("{git}/{path}"), "https://u:hunter2@git.test/a\n");
        }
        environment.write(&format!("{git}/refs/heads/main"), "");
        environment.write(&format!("{git}/objects/info/x"), "");
    }
    environment
}

#[test]
fn of_a_git_directory_programs_see_history_and_no_credentials() {
    let environment = with_git();
    let script = r#"
        may test -d .git/objects/info
        may cat .git/refs/heads/main
        may grep -q https://git.test/a .git/config
        may grep -q https://git.test/lib .git/modules/deps/lib/config
        may grep -q https://git.test/a .git/worktrees/other/config.worktree
        never grep -rq hunter2 .git
        never cat .git/FETCH_HEAD
        never ls .git/hooks .git/logs
        never opens .git/config
        never opens .git/new
        never mkdir .git/hooks"#;
    for permissions in ["read = [\".\"]", "write = [\".\"]"] {
        tries(&environment, permissions, script);
    }
}

#[test]
fn copies_of_the_users_configuration_hold_nothing_that_is_not_known() {
    let environment = repository();
    environment.write("../home/.gitconfig", &GIT.replace("[core]", "[user]\n\tname = Ada\n[core]"));
    let npmrc = "registry=https://ada:hunter2@npm.test/\n//npm.test/:_authToken=hunter2\nmy-password=hunter2\n";
    environment.write("../home/.npmrc", npmrc);
    environment.write(
        "../home/.config/pip/pip.conf",
        "[global]\nindex-url = https://u:hunter2@pypi.test/simple\nproxy = u:hunter2@p\n",
    );
    let script = r#"
        may grep -q Ada "$HOME/.gitconfig"
        may grep -q https://npm.test/ "$HOME/.npmrc"
        may grep -q https://pypi.test/simple "$HOME/.config/pip/pip.conf"
        never grep -rq hunter2 "$HOME"
        never sh -c 'cat /etc/profile /etc/profile.d/* /etc/bash.bashrc | grep .'"#;
    tries(&environment, r#"process = ["sh", "tools/hostile", "git", "node", "python3"]"#, script);
}

/// It lies where every program may look.
#[test]
fn copies_of_the_machines_configuration_hold_nothing_that_is_not_known() {
    let environment = repository();
    environment.write("gitconfig", &GIT.replace("[core]", "[user]\n\tname = Ada\n[core]"));
    environment.write("npmrc", "registry=https://ada:hunter2@npm.test/\n//npm.test/:_authToken=hunter2\n");
    let script = r#"
        may grep -q Ada /usr/local/etc/gitconfig
        may grep -q https://npm.test/ /usr/local/etc/npmrc
        never grep -rq hunter2 /usr/local/etc"#;
    write_pipeline(&environment, &[stage("attack", "", "", script)]);
    let mounts = "mount -t tmpfs tmpfs /usr/local/etc; cp gitconfig npmrc /usr/local/etc; exec $S run";
    with_own_mounts(&environment, mounts).exits(0);
    holds(&log(&environment, "attack"));
}

/// A program of a home comes alone, or with what programs are made of.
#[test]
fn what_lies_beside_a_program_of_a_home_stays_there() {
    let mut environment = repository();
    for (path, text) in [
        ("../home/.fly/bin/flyctl", "#!/bin/sh\necho started\n"),
        ("../home/.fly/config.yml", "hunter2\n"),
        ("../home/.nvm/versions/node/v1/bin/nodule", "#!/bin/sh\ncat \"${0%/bin/*}/lib/part\"\n"),
        ("../home/.nvm/versions/node/v1/lib/part", "started\n"),
        ("../home/.nvm/versions/node/v1/etc/npmrc", "hunter2\n"),
        ("../home/bin/own", "#!/bin/sh\necho started\n"),
        ("../home/bin/token", "hunter2\n"),
    ] {
        environment.write(path, text);
    }
    let home = environment.root().join("../home").canonicalize().unwrap();
    let programs = [".fly/bin", ".nvm/versions/node/v1/bin", "bin"].map(|path| home.join(path));
    for path in ["../home/.fly/bin/flyctl", "../home/.nvm/versions/node/v1/bin/nodule", "../home/bin/own"] {
        make_executable(&environment, path);
    }
    let inherited = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&inherited))).unwrap();
    environment.set("PATH", path.to_str().unwrap());
    let script = r#"
        may flyctl
        may nodule
        may own
        never cat "$HOME/.fly/config.yml"
        never grep -rq hunter2 "$HOME""#;
    let said = tries(&environment, r#"process = ["sh", "tools/hostile", "flyctl", "nodule", "own"]"#, script);
    assert_eq!(said.matches("started").count(), 3, "{said}");
}
