//! Files: those of the user, of the machine and of the engine, and files of the workspace that aren't granted.

use super::{fails, holds, log, make_executable, repository, stage, tries, write_pipeline};
use crate::environment::{TestEnvironment, text};

/// Checks that a file has its previous content.
#[track_caller]
fn unchanged(environment: &TestEnvironment, path: &str, before: &str) {
    assert_eq!(environment.read(path), before, "{path} was changed");
}

#[test]
fn the_users_keys_cannot_be_read_and_the_home_is_the_stages_own() {
    let environment = repository();
    let script = r#"
        may put "$HOME/note"
        may cat "$HOME/note"
        never cat "$HOME/.ssh/id_ed25519"
        never cat ../home/.ssh/id_ed25519
        never ls /root/.ssh
        never ls /home/"#;
    tries(&environment, "", script);
    assert!(!environment.root().join("../home/note").exists());
}

#[test]
fn write_on_everything_does_not_open_the_journal() {
    let environment = repository();
    let script = r#"
        may put anywhere
        never sh -c "find .stagewright -mindepth 1 | grep ."
        never put .stagewright/x
        never rm -rf .stagewright
        never mv .stagewright elsewhere
        never ln -s ../outside .stagewright/x"#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(environment.run(&["runs"]).exits(0).stdout.contains("hostile"), "the journal is whole");
}

#[test]
fn a_file_of_the_workspace_that_was_not_granted_is_not_there() {
    let environment = repository();
    let script = r#"
        may cat src/open
        may ls src
        never cat closed
        never cat "$PWD/closed"
        never cat stagewright.toml
        never cat .git/config
        never sh -c 'cp closed out/'"#;
    tries(&environment, "", script);
}

#[test]
fn secrets_in_etc_are_hidden_and_public_files_visible() {
    let environment = repository();
    let script = r#"
        may grep -q root /etc/passwd
        never cat /etc/shadow
        never cat /etc/gshadow
        never cat /etc/pam.conf
        never ls /etc
        never ls /etc/pam.d
        never ls /var/lib
        never ls /sys/kernel/debug
        never opens /etc/passwd"#;
    tries(&environment, "", script);
}

#[test]
fn files_outside_of_write_cannot_be_written() {
    let environment = repository();
    let script = r#"
        may put out/new
        may put /tmp/scratch
        never put new
        never put ../outside/prize
        put ../new
        never opens /new
        never opens /usr/bin/new
        never opens /usr/local/bin/new
        never opens /var/new
        never opens /run/new
        never opens /dev/new
        never mkdir /opt"#;
    tries(&environment, "", script);
    unchanged(&environment, "../outside/prize", "hunter2\n");
    unchanged(&environment, "out/new", "changed\n");
    assert!(!environment.root().join("../new").exists());
}

#[test]
fn read_only_files_cannot_be_changed() {
    let environment = repository();
    let script = r#"
        may cat src/open
        never put src/open
        never put src/new
        never rm -f src/open
        never mv src/open out/
        never chmod 777 src/open
        never touch src/open
        never sh -c 'exec 3< src/open; echo changed > /proc/self/fd/3'
        never truncate -s 0 src/open
        never ln src/open out/again
        never mv src elsewhere"#;
    tries(&environment, "", script);
    unchanged(&environment, "src/open", "for all\n");
}

/// A stage that could write these files could run code outside the sandbox, or grant itself everything in the next run.
#[test]
fn hooks_pipeline_and_lock_cannot_be_written_from_a_folder_beside_them() {
    let environment = repository();
    let script = r#"
        may put out/new
        never put .git/hooks/pre-push
        never put .git/config
        never put stagewright.toml
        never put stagewright.lock
        never mkdir pipelines
        never sh -c 'cd out && echo changed > ../stagewright.toml'"#;
    tries(&environment, "", script);
    assert!(!environment.read("stagewright.toml").contains("changed\n["));
    assert!(!environment.root().join(".git/hooks/pre-push").exists());
    assert!(!environment.root().join("stagewright.lock").exists());
}

#[test]
fn write_on_everything_does_not_allow_hooks() {
    let environment = repository();
    let script = r#"
        may put anywhere
        may cat .git/HEAD
        never put .git/hooks/pre-push
        never put .git/config
        never grep hunter2 .git/config
        never mv .git old
        never rm -rf .git"#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(environment.read(".git/config").contains("hunter2"));
    assert!(!environment.root().join(".git/hooks/pre-push").exists());
}

/// If a stage could make a git repository of the workspace, the user's next git command would run its hooks.
#[test]
fn no_stage_makes_a_repository_of_a_workspace() {
    let environment = repository();
    std::fs::remove_dir_all(environment.root().join(".git")).expect("a folder to remove");
    let script = r#"
        may put anywhere
        never mkdir -p .git/hooks
        never put .git"#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(!environment.root().join(".git/hooks").exists());
}

#[test]
fn files_that_are_only_readable_cannot_be_executed() {
    let environment = repository();
    std::fs::copy("/bin/true", environment.root().join("src/native")).expect("a program");
    let script = r#"
        cp src/native src/tool out/
        may out/native
        may out/tool
        never src/native
        never src/tool
        never sh -c '$(ls /lib64/ld-linux* /lib/ld-linux* 2> /dev/null | head -1) src/native'"#;
    tries(&environment, "", script);
}

#[test]
fn a_granted_path_that_is_a_link_to_the_outside_is_refused() {
    let environment = repository();
    for (link, target) in [("src/link", "../../outside"), ("src/absolute", "/etc")] {
        std::os::unix::fs::symlink(target, environment.root().join(link)).expect("a link");
        let failure = fails(&environment, "", &format!("read = [\"{link}\"]"), "ls src/link/");
        assert!(text(&failure["message"]).contains("leads out of the workspace"), "{failure:#}");
    }
    std::os::unix::fs::symlink("open", environment.root().join("src/inside")).expect("a link");
    let failure = fails(&environment, "", r#"read = ["src/inside"]"#, "cat src/inside");
    assert!(text(&failure["help"]).contains("grant `src/open`"), "{failure:#}");
    tries(&environment, r#"read = ["src/inside", "src/open"]"#, "may cat src/inside; never cat src/tool");
}

#[test]
fn a_link_made_during_the_run_is_not_followed() {
    let environment = repository();
    let (home, outside) = (environment.root().join("../home"), environment.root().join("../outside"));
    let script = format!(
        r#"
        ln -s {0} out/home; ln -s ../../outside/prize out/prize; ln -s ../closed out/closed; ln -s mine out/fine
        ln -s {1}/new out/new
        may cat out/fine
        never cat out/home/.ssh/id_ed25519
        never cat out/prize
        never cat out/closed
        never put out/new"#,
        home.display(),
        outside.display()
    );
    tries(&environment, "", &script);
    assert!(!outside.join("new").exists());
}

/// The plugin reads that file through the engine, which can read everything on the machine.
#[test]
fn the_engine_does_not_follow_a_link_that_a_program_left_for_it() {
    let environment = repository();
    let pipeline = |link: &str| {
        let with = format!("run = 'ln -sf {link} out/values', outputs-file = 'out/values'");
        format!(
            "schema = 1\n[pipeline]\nname = \"hostile\"\n[stages.attack]\nuses = \"command\"\nwith = {{ {with} }}\n\
             [stages.attack.permissions]\nprocess = [\"sh\"]\nwrite = [\"out\"]\n"
        )
    };
    environment.write("../outside/prize", "stolen=hunter2\n");
    environment.write("out/said", "said=for-all\n");
    for link in ["../../outside/prize", "/etc/hostname", "../closed"] {
        environment.write("stagewright.toml", &pipeline(link));
        let ended = environment.run(&["run", "--format", "json"]).exits(1);
        assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
    }
    environment.write("stagewright.toml", &pipeline("said"));
    let ended = environment.run(&["run", "--format", "json"]).exits(0);
    assert!(ended.stdout.contains("for-all"), "{}", ended.stdout);
}

/// One stage keeps replacing a folder by a link to the outside, while other stages start that are granted the folder.
#[test]
fn a_link_that_flips_while_sandboxes_are_made_never_leads_outside() {
    let environment = repository();
    environment.write("out/box/prize", "as granted\n");
    let flips = "ln -s ../../outside out/link
        i=0
        until test -e out/stop; do
          mv out/box out/real && mv out/link out/box && mv out/box out/link && mv out/real out/box
          i=$((i + 1))
        done
        may test $i -gt 5
        never cat ../outside/prize";
    let reads = "read = [\"out/box\"]\nwrite = []";
    let reader = |number: usize| {
        let settings = "continue-on-error = true\ntimeout = \"1m\"";
        stage(&format!("reader-{number}"), settings, reads, "cat out/box/prize; :")
    };
    let readers = 24;
    let mut stages = vec![stage("flips", "timeout = \"2m\"", "", flips)];
    stages.extend((0..readers).map(reader));
    let needs = (0..readers).map(|number| format!("\"reader-{number}\"")).collect::<Vec<_>>().join(", ");
    stages.push(stage("stops", &format!("needs = [{needs}]"), "", "put out/stop"));
    write_pipeline(&environment, &stages);
    let ended = environment.run(&["run", "--jobs", "2"]).exits(0);
    assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
    holds(&log(&environment, "flips"));
    let read = (0..readers).filter(|number| log(&environment, &format!("reader-{number}")).contains("as granted"));
    assert!(read.count() > 0, "no reader ever got what it was granted:\n{}", ended.stdout);
}

#[test]
fn a_link_that_flips_during_reads_shows_no_file_outside() {
    let environment = repository();
    let script = r#"
        (until test -e out/stop; do ln -sfn ../../outside/prize out/door; ln -sfn mine out/door; done) &
        end=$(($(date +%s) + 2)); good=0; bad=0
        while test "$(date +%s)" -lt "$end"; do
          case "$(cat out/door 2> /dev/null)" in mine) good=$((good + 1));; hunter2) bad=$((bad + 1));; esac
        done
        put out/stop; wait
        may test "$good" -gt 0
        never test "$bad" -gt 0"#;
    tries(&environment, "", script);
}

#[test]
fn a_hard_link_to_a_file_that_is_not_granted_cannot_be_made() {
    let environment = repository();
    let script = r#"
        may ln out/mine out/twice
        never ln ../outside/prize out/prize
        never ln closed out/closed
        never ln src/open out/open
        never ln /etc/passwd out/passwd"#;
    tries(&environment, "", script);
}

#[test]
fn paths_with_dots_do_not_leave_the_workspace() {
    let environment = repository();
    let script = r#"
        may cat src/../src/open
        never cat out/../closed
        never cat src/../../outside/prize
        never sh -c 'cd out && cd .. && cat closed'
        never cat /proc/self/cwd/closed
        never cat /proc/self/root/etc/shadow
        never sh -c 'cd / && cat ../../../../etc/shadow'"#;
    tries(&environment, "", script);
    environment.write("tools/ok", "#!/bin/sh\nexit 0\n");
    make_executable(&environment, "tools/ok");
    let pipeline = |with: &str| {
        let text = format!(
            "schema = 1\n[pipeline]\nname = \"hostile\"\n[stages.attack]\nuses = \"command\"\nwith = {{ {with} }}\n\
             [stages.attack.permissions]\nprocess = [\"tools/ok\"]\nread = [\"src\"]\n"
        );
        environment.write("stagewright.toml", &text);
        environment.run(&["run"])
    };
    pipeline("argv = ['tools/ok']").exits(0);
    pipeline("argv = ['./tools//ok'], cwd = 'src'").exits(0);
    pipeline("argv = ['src/../tools/ok']").exits(1);
    pipeline("argv = ['tools/ok'], cwd = '..'").exits(3);
}

#[test]
fn programs_are_started_only_where_exec_or_write_grants_it() {
    let environment = repository();
    environment.write("web/lib/index.js", "// a file beside it\n");
    environment.write("web/node_modules/.bin/tool", "#!/bin/sh\necho started\n");
    make_executable(&environment, "web/node_modules/.bin/tool");
    let script = r#"
        may cat web/lib/index.js
        may sh -c 'test "$(web/node_modules/.bin/tool)" = started'
        may sh -c 'cp src/tool out/tool && out/tool'
        never src/tool
        never sh -c 'echo changed >> web/node_modules/.bin/tool'
        never sh -c 'cp src/tool web/node_modules/.bin/other'"#;
    tries(&environment, "read = [\"src\", \"web\"]\nexec = [\"web/node_modules\"]\n", script);
    tries(&environment, "exec = [\"web\"]\nread = [\"src\", \"web/node_modules\"]\n", script);
    // A cached stage can start only programs that it declares.
    environment.write("web/node_modules/.bin/undeclared", "#!/bin/sh\n");
    make_executable(&environment, "web/node_modules/.bin/undeclared");
    let permissions = "read = [\"src\"]\nexec = [\"web\"]\n";
    let inputs = "inputs = ['src', 'tools', 'web/lib', 'web/node_modules/.bin/tool']";
    let more = "\n        may sh -c '! test -e web/node_modules/.bin/undeclared'";
    write_pipeline(&environment, &[stage("attack", inputs, permissions, &format!("{script}{more}"))]);
    environment.run(&["run"]).exits(0);
    holds(&log(&environment, "attack"));
}

#[test]
fn a_declared_folder_is_visible_only_as_far_as_it_is_granted() {
    let environment = repository();
    for path in ["given/a", "given/deep/b", "given/kept.key"] {
        environment.write(path, "text\n");
    }
    let script = r#"
        may cat given/a
        may cat given/deep/b
        may sh -c '! test -e given/kept.key'
        may sh -c '! test -e closed'"#;
    let permissions = "read = [\"given/?\", \"given/deep/**\", \"closed\"]\n";
    write_pipeline(&environment, &[stage("attack", "inputs = ['given', 'tools']", permissions, script)]);
    environment.run(&["run"]).exits(0);
    let said = log(&environment, "attack");
    assert!(said.contains("tried it all") && !said.contains("WRONG"), "{said}");
}

/// A stage could put programs into a shared cache that another stage would run.
#[test]
fn caches_that_are_kept_belong_to_one_stage() {
    let environment = repository();
    let permissions = r#"process = ["sh", "tools/hostile", "cargo"]"#;
    let first = "may mkdir -p $HOME/.cargo/registry/mine; never ls $HOME/.cargo/registry/other";
    let other = "never ls $HOME/.cargo/registry/mine; may mkdir -p $HOME/.cargo/registry/other";
    let stages = [stage("first", "", permissions, first), stage("other", "needs = [\"first\"]", permissions, other)];
    write_pipeline(&environment, &stages);
    environment.run(&["run"]).exits(0);
    for stage in ["first", "other"] {
        holds(&log(&environment, stage));
    }
    let again = "may ls $HOME/.cargo/registry/mine; never ls $HOME/.cargo/registry/other";
    write_pipeline(&environment, &[stage("first", "", permissions, again)]);
    environment.run(&["run"]).exits(0);
    holds(&log(&environment, "first"));
    assert!(!environment.root().join("../home/.cargo").exists());
}

#[test]
fn scratch_folders_are_gone_with_their_run_and_hidden_from_others() {
    let environment = repository();
    let leave = "may put /tmp/left; may put $HOME/left; may put /dev/shm/left; may put out/ready
        until test -e out/done; do sleep 0.05; done; never test -e /tmp/theirs";
    let look = "until test -e out/ready; do sleep 0.05; done
        never cat /tmp/left; never cat $HOME/left; never cat /dev/shm/left; never cat /var/tmp/left
        may put /tmp/theirs; may put out/done";
    let settings = "timeout = \"1m\"";
    write_pipeline(&environment, &[stage("leaves", settings, "", leave), stage("looks", settings, "", look)]);
    environment.run(&["run", "--jobs", "2"]).exits(0);
    holds(&log(&environment, "leaves"));
    holds(&log(&environment, "looks"));
    tries(&environment, "", "never cat /tmp/left; never cat $HOME/left; may cat out/ready");
    let left = std::fs::read_dir(environment.root().join(".stagewright/scratch")).into_iter().flatten().count();
    assert_eq!(left, 0, "a scratch folder is left");
}

/// A stage's variables can name a toolchain's folder, which must not grant arbitrary folders.
#[test]
fn a_toolchain_variable_grants_no_other_folder() {
    let environment = repository();
    let outside = std::fs::canonicalize(environment.root().join("../outside")).expect("a folder");
    for variable in ["RUSTUP_HOME", "CARGO_HOME"] {
        let settings = format!("env = {{ {variable} = \"{}\" }}", outside.display());
        let script = format!("may cat src/open; never cat {}/prize; never ls /etc/pam.d", outside.display());
        let permissions = r#"process = ["sh", "tools/hostile", "cargo"]"#;
        write_pipeline(&environment, &[stage("attack", &settings, permissions, &script)]);
        environment.run(&["run"]).exits(0);
        holds(&log(&environment, "attack"));
    }
}

/// The reader of a named pipe acts on what is written to it.
#[test]
fn a_named_pipe_that_may_be_read_is_not_written_to() {
    let environment = repository();
    for path in ["src/control", "src/deep/control", "out/pipe", "alone"] {
        let path = environment.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    }
    // Opened for reading and writing, a pipe doesn't wait for its other end.
    let script = r#"
        both() { (exec 3<> "$1"); }
        may both out/pipe
        may timeout 5 cat src/control
        never both src/control
        never both src/deep/control
        never both alone
        never both /proc/self/cwd/src/control"#;
    tries(&environment, r#"read = ["src", "alone"]"#, script);
}
