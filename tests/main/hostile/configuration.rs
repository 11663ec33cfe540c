//! Configuration with credentials: of git, of package managers, and of files next to a program.

use super::{holds, log, make_executable, repository, stage, tries, with_own_mounts, write_pipeline};
use crate::environment::TestEnvironment;

/// Credentials in each place where git keeps addresses and helpers, and in places where it doesn't.
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
        // The branch has no commits, because the test writes no valid objects.
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
fn programs_see_the_history_of_a_git_directory_without_credentials() {
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
fn copies_of_the_users_configuration_have_known_keys_only() {
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

/// The file is where every program may read.
#[test]
fn copies_of_the_machines_configuration_have_known_keys_only() {
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

/// A program in a home folder is visible alone, or with the files that belong to it.
#[test]
fn what_lies_beside_a_program_of_a_home_stays_there() {
    let mut environment = repository();
    for (path, text) in [
        ("../home/.fly/bin/flyctl", "#!/bin/sh\necho started\n"),
        ("../home/.fly/config.yml", "hunter2\n"),
        ("../home/.nvm/versions/node/v1/bin/nodule", "#!/bin/sh\ncat \"${0%/bin/*}/lib/part\"\n"),
        ("../home/.nvm/versions/node/v1/lib/part", "started\n"),
        ("../home/.nvm/versions/node/v1/etc/npmrc", "hunter2\n"),
        ("../home/.nvm/versions/node/v1/lib/node_modules/npm/npmrc", "registry=https://npm.test/\n_password=hunter2\n"),
        ("../home/.nvm/versions/node/v1/share/maven/conf/settings.xml", "<settings><!-- hunter2 --></settings>\n"),
        ("../home/.nvm/versions/node/v1/lib/.netrc", "machine h password hunter2\n"),
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
        may grep -rq https://npm.test/ "$HOME/.nvm/versions/node/v1/lib"
        may grep -rq "<settings/>" "$HOME/.nvm/versions/node/v1/share"
        never cat "$HOME/.fly/config.yml"
        never grep -rq hunter2 "$HOME""#;
    let said = tries(&environment, r#"process = ["sh", "tools/hostile", "flyctl", "nodule", "own"]"#, script);
    assert_eq!(said.matches("started").count(), 3, "{said}");
}

/// A stage that may write to a folder in `PATH` puts a link to a file of the user there, and the next stage reads it.
#[test]
fn a_program_of_the_workspace_brings_nothing_of_the_machine_along() {
    let mut environment = repository();
    environment.write("../outside/key", "hunter2\n");
    make_executable(&environment, "../outside/key");
    let root = environment.root().canonicalize().unwrap();
    let key = root.join("../outside/key").canonicalize().unwrap();
    let path = format!("{}:{}", root.join("out").display(), std::env::var("PATH").unwrap());
    environment.set("PATH", &path);
    let lay = format!(
        "ln -s {0} out/linked; printf '#!{0}\\n' > out/planted; chmod +x out/planted; may test -x out/planted; never cat {0}",
        key.display()
    );
    let look = format!(
        "may test -f out/planted; never cat {0}; never sh -c linked; never sh -c planted; never cat out/linked",
        key.display()
    );
    let programs = r#"process = ["sh", "tools/hostile", "linked", "planted", "*"]"#;
    let stages = [stage("lays", "", "", &lay), stage("looks", "needs = [\"lays\"]", programs, &look)];
    write_pipeline(&environment, &stages);
    environment.run(&["run"]).exits(0);
    for name in ["lays", "looks"] {
        holds(&log(&environment, name));
    }
}

/// `env` isn't part of the lock.
#[test]
fn variables_of_a_stage_open_nothing_and_folders_of_programs_show_programs_alone() {
    let mut environment = repository();
    for path in ["../outside/key", "../outside/bin/key", "../outside/toolchains/key", "../outside/.cargo/bin/key"] {
        environment.write(path, "hunter2\n");
        make_executable(&environment, path);
    }
    environment.write("../own/tool", "#!/bin/sh\necho started\n");
    environment.write("../own/notes", "hunter2\n");
    make_executable(&environment, "../own/tool");
    let [outside, own] = ["../outside", "../own"].map(|path| environment.root().join(path).canonicalize().unwrap());
    let machine = std::env::var("PATH").unwrap();
    environment.set("PATH", &format!("{machine}:{}", own.display()));
    let script =
        format!("may tool; never cat {0}/notes; never sh -c 'grep -rs hunter2 {1}'", own.display(), outside.display());
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "JAVA_HOME"] {
        let value = match name {
            "PATH" => format!("{machine}:{}:{}", own.display(), outside.display()),
            _ => outside.display().to_string(),
        };
        let permissions = r#"process = ["*"]"#;
        write_pipeline(
            &environment,
            &[stage("attack", &format!("env = {{ {name} = '{value}' }}"), permissions, &script)],
        );
        environment.run(&["run"]).exits(0);
        holds(&log(&environment, "attack"));
    }
}

/// `socket = ["docker"]` doesn't grant a socket that the pipeline names in `DOCKER_HOST`.
#[test]
fn a_variable_of_the_stage_names_no_socket() {
    let environment = repository();
    let path = environment.root().join("../outside").canonicalize().unwrap().join("agent");
    let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let settings = format!("env = {{ DOCKER_HOST = 'unix://{}' }}", path.display());
    let script = format!("may true; never test -e {}", path.display());
    write_pipeline(&environment, &[stage("attack", &settings, "socket = [\"docker\"]", &script)]);
    let (code, events) = environment.events(&["run"]);
    if code == 0 {
        holds(&log(&environment, "attack"));
    } else {
        // On a machine without docker.
        let failure = crate::environment::failure(&events, "attack");
        assert!(failure["message"].as_str().is_some_and(|text| text.contains("docker.sock")), "{failure:#}");
    }
}
