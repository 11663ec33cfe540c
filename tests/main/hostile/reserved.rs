//! Reserved paths, which the engine runs or trusts: not reachable by links, other spellings, parent folders or mounts.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::{fails, holds, log, make_executable, repository, stage, tries, with_own_mounts, write_pipeline};
use crate::environment::{TestEnvironment, text};

const CONFIG: &str =
    "[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = https://ada:hunter2@git.test/a\n";

pub(super) fn link(environment: &TestEnvironment, target: impl AsRef<Path>, path: &str) {
    symlink(target, environment.root().join(path)).expect("a link");
}

/// A folder that the sandbox recognises as a git directory.
pub(super) fn git_directory(environment: &TestEnvironment, path: &str) {
    for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", CONFIG), ("hooks/pre-push.sample", "exit 0\n")]
    {
        environment.write(&format!("{path}/{name}"), text);
    }
    for folder in ["objects", "refs/heads"] {
        std::fs::create_dir_all(environment.root().join(path).join(folder)).expect("a folder");
    }
}

#[test]
fn the_state_folder_is_closed_however_it_is_named() {
    let attacks = r#"
        may put anywhere
        never sh -c "find st -mindepth 1 | grep ."
        never put st/planted
        never mv st elsewhere
        never rm -rf st"#;
    for state in ["st", "sub/../st", "../again/st", "to-st"] {
        let mut environment = repository();
        std::fs::create_dir(environment.root().join("sub")).expect("a folder");
        link(&environment, environment.root(), "../again");
        link(&environment, "st", "to-st");
        std::fs::create_dir(environment.root().join("st")).expect("a folder");
        environment.set("STAGEWRIGHT_STATE", &environment.root().join(state).display().to_string());
        // Changing a folder or a link in the path would make the next run use another state folder.
        let way = match state {
            "sub/../st" => "never mv sub elsewhere; never rm -rf sub; may put sub/own",
            "to-st" => "never mv to-st elsewhere; never rm -f to-st; never ln -sfn out to-st",
            _ => "",
        };
        tries(&environment, r#"write = ["."]"#, &format!("{attacks}\n{way}"));
        assert!(environment.root().join("st/stagewright.db").exists(), "{state}: the state folder was moved");
    }
}

#[test]
fn a_folder_around_the_state_folder_can_be_written_and_not_moved() {
    let mut environment = repository();
    environment.set("STAGEWRIGHT_STATE", &environment.root().join("out/deep/st").display().to_string());
    let script = r#"
        may put out/deep/own
        may mv out/deep/own out/other
        never mv out/deep out/moved
        never mv out/deep/st out/st
        never rm -rf out/deep
        never put out/deep/st/planted
        never sh -c "find out/deep/st -mindepth 1 | grep .""#;
    tries(&environment, "", script);
    assert!(environment.root().join("out/deep/st/stagewright.db").exists());
}

#[test]
fn a_plugin_can_neither_reach_nor_move_the_state_folder() {
    let environment = repository();
    link(&environment, "var/state", ".stagewright");
    environment.write("var/state/canary", "kept");
    for path in ["var/state/canary", ".stagewright/canary", "var"] {
        let pipeline = format!(
            "schema = 1\n[pipeline]\nname = \"hostile\"\n[stages.attack]\nuses = \"command\"\n\
             with = {{ argv = [\"true\"], outputs-file = \"{path}\" }}\n\
             permissions = {{ process = [\"true\"], read = [\".\"], write = [\".\"] }}\n"
        );
        environment.write("stagewright.toml", &pipeline);
        environment.run(&["run"]).exits(1);
        assert_eq!(environment.read("var/state/canary"), "kept", "{path}");
    }
    let script = r#"
        may put var/own
        never rm -f .stagewright
        never ln -sfn out .stagewright
        never mv var/state out/state
        never mv var out/var
        never put var/state/planted"#;
    tries(&environment, r#"write = ["."]"#, script);
}

#[test]
fn reserved_paths_are_closed_in_a_second_mount() {
    let environment = repository();
    std::fs::create_dir(environment.root().join("mirror")).expect("a folder");
    let script = r#"
        may put mirror/own
        never sh -c "find mirror/.stagewright -mindepth 1 | grep ."
        never put mirror/.stagewright/planted
        never mv mirror/.stagewright mirror/elsewhere
        never put mirror/.git/hooks/pre-push"#;
    write_pipeline(&environment, &[stage("attack", "", r#"write = ["mirror"]"#, script)]);
    with_own_mounts(&environment, "mount --bind . mirror; exec $S run").exits(0);
    holds(&log(&environment, "attack"));
    for planted in [".stagewright/planted", ".git/hooks/pre-push"] {
        assert!(!environment.root().join(planted).exists(), "{planted}");
    }
}

#[test]
fn a_link_that_is_granted_leads_only_to_what_is_granted_as_well() {
    let environment = repository();
    std::fs::create_dir(environment.root().join(".stagewright")).expect("a folder");
    let targets = [(".git", "a git directory"), (".stagewright", "the engine's state folder"), ("closed", "`closed`")];
    for (target, named) in targets {
        link(&environment, target, "dist");
        for grant in [r#"write = ["dist"]"#, r#"read = ["dist"]"#] {
            let failure = fails(&environment, "", grant, "cat dist/config dist; echo x > dist/hooks/x");
            let said = format!("{failure:#}");
            assert!(said.contains("`dist` is a link to") && said.contains(target) && said.contains(named), "{said}");
        }
        std::fs::remove_file(environment.root().join("dist")).expect("a link");
    }
    link(&environment, "src", "dist");
    tries(&environment, r#"read = ["dist", "src"]"#, "may cat dist/open; may readlink dist; never put dist/open");
    let failure = fails(&environment, "", r#"read = ["dist/open", "src"]"#, "cat dist/open");
    let said = format!("{failure:#}");
    assert!(
        said.contains("leads through the link `dist`") && said.contains("grant its real path `src/open`"),
        "{said}"
    );
    let failure = fails(&environment, "", r#"write = ["dist/new"]"#, ":");
    assert!(!environment.root().join("src/new").exists(), "created through a link: {failure:#}");
}

#[test]
fn a_link_of_one_stage_leads_the_next_one_nowhere() {
    let environment = repository();
    let lay =
        "ln -sfn ../closed out/file; ln -sfn ../src out/folder; ln -sfn ../closed out/deep-link; may test -L out/file
        never cat closed";
    let continues = "needs = [\"lays\"]\ncontinue-on-error = true";
    let reads = |name: &str, grant: &str| {
        stage(
            name,
            continues,
            &format!("read = [\"{grant}\"]\nwrite = []"),
            "cat out/file out/folder/open; echo read on",
        )
    };
    let stages = [
        stage("lays", "", "", lay),
        reads("file", "out/file"),
        reads("folder", "out/folder"),
        reads("through", "out/folder/open"),
        reads("glob", "out/*"),
        reads("all", "out"),
    ];
    write_pipeline(&environment, &stages);
    environment.run(&["run"]);
    holds(&log(&environment, "lays"));
    for name in ["file", "folder", "through", "glob", "all"] {
        let said = log(&environment, name);
        assert!(!said.contains("not granted") && !said.contains("for all"), "{name}: {said}");
    }
    assert!(log(&environment, "glob").contains("read on") && log(&environment, "all").contains("read on"));
}

#[test]
fn a_program_that_is_a_link_is_started_as_one() {
    let environment = repository();
    environment.write("pkg/tool", "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/words\"\n");
    environment.write("pkg/words", "words beside it\n");
    make_executable(&environment, "pkg/tool");
    std::fs::create_dir(environment.root().join(".bin")).expect("a folder");
    link(&environment, "../pkg/tool", ".bin/tool");
    link(&environment, "../tool", ".bin/through");
    link(&environment, "./pkg/tool", "tool");
    let run = |program: &str, read: &str| {
        environment.write(
            "stagewright.toml",
            &format!(
                "schema = 1\n[pipeline]\nname = \"hostile\"\n[stages.attack]\nuses = \"command\"\n\
                 with = {{ argv = [\"{program}\"] }}\n\
                 permissions = {{ process = [\"{program}\", \"sh\"], read = [{read}] }}\n"
            ),
        );
        environment.run(&["run"])
    };
    // The last one is a link to a link that isn't granted itself.
    for (program, read) in [(".bin/tool", "\".\""), (".bin/tool", "\"pkg\""), (".bin/through", "\"pkg\"")] {
        let ended = run(program, read).exits(0);
        assert!(log(&environment, "attack").contains("words beside it"), "{}", ended.stdout);
    }
    let refused = run(".bin/tool", "").exits(1);
    assert!(refused.stdout.contains("grant `pkg/tool`"), "{}", refused.stdout);
}

/// The place of the git directory, and how the workspace refers to it.
type Layout = (&'static str, fn(&TestEnvironment));

const LAYOUTS: [Layout; 3] = [
    (".bare", |environment| environment.write(".git", "gitdir: ./.bare\n")),
    ("real.git", |environment| link(environment, "real.git", ".git")),
    ("main/.git", |environment| {
        environment.write(".git", "gitdir: main/.git/worktrees/this\n");
        environment.write("main/.git/worktrees/this/commondir", "../..\n");
        environment.write("main/.git/worktrees/this/HEAD", "ref: refs/heads/other\n");
    }),
];

fn laid_out(directory: &str, lay: fn(&TestEnvironment)) -> TestEnvironment {
    let environment = repository();
    std::fs::remove_dir_all(environment.root().join(".git")).expect("a folder");
    git_directory(&environment, directory);
    lay(&environment);
    environment
}

/// Hooks run outside any sandbox, wherever their folder is.
#[test]
fn git_directories_and_hooks_elsewhere_are_closed_like_the_usual_ones() {
    let attacks = |directory: &str| {
        format!(
            "may put anywhere
            may cat {directory}/HEAD
            never grep hunter2 {directory}/config
            never put {directory}/hooks/pre-push
            never put {directory}/config
            never mv {directory} elsewhere
            never rm -rf .git
            never mv .git elsewhere"
        )
    };
    for (directory, lay) in LAYOUTS {
        let environment = laid_out(directory, lay);
        tries(&environment, r#"write = ["."]"#, &attacks(directory));
        assert!(!environment.root().join(directory).join("hooks/pre-push").exists(), "{directory}");
    }
}

const HOOKS: &str = "
    may put anywhere
    may cat .hooks/commit-msg
    never put .hooks/commit-msg
    never put .hooks/pre-push
    never mv .hooks elsewhere";

#[test]
fn hooks_that_a_git_directory_elsewhere_names_cannot_be_written() {
    for (directory, lay) in LAYOUTS {
        let environment = laid_out(directory, lay);
        environment.write(&format!("{directory}/config"), &format!("{CONFIG}[core]\n\thooksPath = .hooks\n"));
        environment.write(".hooks/commit-msg", "exit 0\n");
        tries(&environment, r#"write = ["."]"#, HOOKS);
    }
}

#[test]
fn hooks_that_the_users_own_configuration_names_cannot_be_written() {
    let environment = repository();
    environment.write("../home/.gitconfig", "[core]\n\thooksPath = .hooks\n");
    environment.write(".hooks/commit-msg", "exit 0\n");
    tries(&environment, r#"write = ["."]"#, HOOKS);
}

#[test]
fn what_gits_configuration_names_in_the_workspace_cannot_be_written() {
    let environment = repository();
    let config =
        format!("{CONFIG}[core]\n\thooksPath = .hooks\n\tfsmonitor = tools/watch\n[include]\n\tpath = ../tools/more\n");
    environment.write(".git/config", &config);
    environment.write(".hooks/commit-msg", "exit 0\n");
    let script = r#"
        may put anywhere
        may cat .hooks/commit-msg
        never put .hooks/commit-msg
        never put .hooks/pre-push
        never mv .hooks elsewhere
        may put tools/other
        never put tools/more
        never put tools/watch
        never mv tools elsewhere"#;
    tries(&environment, r#"write = ["."]"#, script);
    tries(&environment, r#"write = [".hooks", ".git"]"#, "may put .hooks/commit-msg; may put .git/x; never put closed");
    let failure = fails(&environment, "", r#"write = [".hooks"]"#, "echo x > .hooks/commit-msg");
    assert!(text(&failure["message"]).contains("core.hooksPath"), "{failure:#}");
}

#[test]
fn a_repository_in_the_workspace_is_closed_and_one_that_a_stage_makes_is_reported() {
    let environment = repository();
    git_directory(&environment, "vendor/x/.git");
    git_directory(&environment, "vendor/bare");
    let first = r#"
        may put vendor/own
        may cat vendor/x/.git/HEAD
        never grep hunter2 vendor/x/.git/config
        for directory in vendor/x/.git vendor/bare; do
          never put $directory/hooks/pre-push
          never rm -rf $directory
        done
        never rm -rf vendor/x
        never rm -rf vendor
        may mkdir -p made/.git/hooks made/bare/refs made/bare/objects
        may put made/bare/HEAD"#;
    write_pipeline(&environment, &[stage("attack", "", r#"write = ["."]"#, first)]);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    holds(&log(&environment, "attack"));
    let reported = |events: &[serde_json::Value]| {
        let problems = events.iter().filter(|event| event["problem"]["code"] == "nested-repository");
        problems.map(|event| text(&event["problem"]["message"])).collect::<Vec<_>>()
    };
    let first = reported(&events);
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first[0].contains("`made/.git`") && first[1].contains("`made/bare`"), "{first:?}");
    // A repository that the stage made is reported once and stays writable; one of a person isn't writable.
    let again = "may put made/.git/hooks/pre-push; may put made/bare/HEAD; never put vendor/bare/HEAD";
    write_pipeline(&environment, &[stage("attack", "", r#"write = ["."]"#, again)]);
    let (code, events) = environment.events(&["run"]);
    assert_eq!((code, reported(&events)), (0, Vec::new()));
    holds(&log(&environment, "attack"));
}

#[test]
fn a_home_in_the_workspace_is_closed() {
    let mut environment = repository();
    environment.write("home/.config/secret", "hunter2\n");
    environment.set("HOME", &environment.root().join("home").display().to_string());
    let script = r#"
        may put anywhere
        may put "$HOME/note"
        never cat home/.config/secret
        never mv home elsewhere"#;
    tries(&environment, r#"write = ["."]"#, script);
    assert!(!environment.root().join("home/note").exists());
    let failure = fails(&environment, "", r#"write = ["home/.config"]"#, "cat home/.config/secret");
    assert!(text(&failure["message"]).contains("your home folder"), "{failure:#}");
}

#[test]
fn what_is_private_in_a_home_that_is_the_workspace_is_closed() {
    let mut environment = repository();
    environment.write(".ssh/id_ed25519", "hunter2\n");
    environment.set("HOME", &environment.root().display().to_string());
    let script = r#"
        may put anywhere
        never cat .ssh/id_ed25519
        never mv .ssh elsewhere
        for file in .gitconfig .bashrc .bash_profile .profile .zshrc .npmrc .cargo/config.toml; do
          never put $file
          never rm -f $file
        done
        for folder in .config .config/git .local/bin .docker .ssh; do
          never mkdir -p $folder/new
        done
        may test ! -d .gitconfig"#;
    tries(&environment, r#"write = ["."]"#, script);
    // Placeholders for missing paths are removed.
    for path in [".gitconfig", ".bash_profile", ".config", ".local", ".cargo", ".docker"] {
        assert!(!environment.root().join(path).exists(), "{path} is left");
    }
    assert!(environment.root().join(".ssh/id_ed25519").exists() && environment.root().join("anywhere").exists());
}

#[test]
fn the_operators_policy_in_the_workspace_is_read_and_not_written() {
    let mut environment = repository();
    environment.write("ops/policy.toml", "schema = 1\n[permissions]\nsocket = []\n");
    environment.set("STAGEWRIGHT_POLICY", &environment.root().join("ops/policy.toml").display().to_string());
    let script = r#"
        may put ops/own
        may cat ops/policy.toml
        never put ops/policy.toml
        never rm -f ops/policy.toml
        never mv ops elsewhere"#;
    tries(&environment, r#"write = ["."]"#, script);
    let failure = fails(&environment, "", r#"write = ["ops/policy.toml"]"#, "put ops/policy.toml");
    assert!(text(&failure["message"]).contains("the operator's policy"), "{failure:#}");
    // A stage that may write the git directory can make git's configuration, or a link, lead to the policy.
    environment.git(&["init", "-q"]);
    environment.git(&["config", "include.path", "../ops/policy.toml"]);
    std::os::unix::fs::symlink("../ops/policy.toml", environment.root().join(".git/linked")).expect("a link");
    tries(&environment, r#"write = [".git", "ops"]"#, "may put ops/own; never put ops/policy.toml");
}

/// Programs can read a version manager's folder, but not the engine's folders in it.
#[test]
fn the_engines_folders_among_those_of_a_toolchain_are_closed() {
    let mut environment = repository();
    let tool = "../home/.nvm/versions/node/v1";
    environment.write(&format!("{tool}/bin/nodule"), "#!/bin/sh\ncat \"${0%/bin/*}/lib/part\"\n");
    environment.write(&format!("{tool}/lib/part"), "started\n");
    make_executable(&environment, &format!("{tool}/bin/nodule"));
    let tool = environment.root().join(tool).canonicalize().expect("a folder");
    let path = format!("{}:{}", tool.join("bin").display(), std::env::var("PATH").expect("a list of folders"));
    environment.set("PATH", &path);
    environment.set("STAGEWRIGHT_STATE", &tool.join("lib/st").display().to_string());
    let script = format!(
        "may nodule
        never sh -c 'find {}/lib/st -mindepth 1 | grep .'",
        tool.display()
    );
    tries(&environment, r#"process = ["sh", "tools/hostile", "nodule"]"#, &script);
    assert!(tool.join("lib/st/stagewright.db").exists());
}

/// Compiled code is loaded without checks: a stage that can write it has the engine's rights.
#[test]
fn compiled_plugins_are_kept_where_no_stage_may_write() {
    let mut environment = repository();
    for name in ["XDG_CACHE_HOME", "HOME"] {
        environment.set(name, &environment.root().join("out/home").display().to_string());
    }
    tries(&environment, r#"write = ["."]"#, "may put anywhere; never sh -c 'find . -name \"*.cwasm\" | grep .'");
    let compiled = environment.root().join(".stagewright/cache/compiled");
    assert!(std::fs::read_dir(compiled).expect("a folder").count() > 0);
    assert!(!environment.root().join("out/home/stagewright").exists());
}

#[test]
fn a_pipeline_name_never_selects_a_file_in_the_working_folder() {
    let environment = repository();
    let pipeline = |name: &str| format!("schema = 1\n[pipeline]\nname = \"{name}\"\n[stages.s]\nuses = \"noop\"\n");
    environment.write("pipelines/release.toml", &pipeline("reviewed"));
    environment.write("release", &pipeline("planted"));
    let shown = environment.run(&["plan", "release"]).exits(0).stdout;
    assert!(shown.contains("reviewed") && !shown.contains("planted"), "{shown}");
    assert!(environment.run(&["plan", "./release"]).exits(0).stdout.contains("planted"));
    std::fs::remove_file(environment.root().join("pipelines/release.toml")).expect("a file");
    let refused = environment.run(&["plan", "release"]).exits(4);
    assert!(refused.stderr.contains("use `./release`"), "{}", refused.stderr);
    let noted = |write: &str| {
        let grant = format!("permissions.write = [\"{write}\"]\n");
        environment.write("stagewright.toml", &(pipeline("main") + &grant));
        environment.run(&["plan"]).exits(0).stdout
    };
    environment.write("pipelines/other.toml", &pipeline("other"));
    assert!(noted("pipelines/other.toml").contains("can change what runs next: it may write `pipelines/other.toml`"));
    assert!(noted("pipelines/new.toml").contains("can change what runs next: it may write `pipelines/new.toml`"));
}
