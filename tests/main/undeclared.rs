//! Everything that a cached stage can read is an input or isn't visible, so a restored result is never outdated.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, eventually, text};

fn run(environment: &TestEnvironment, args: &[&str]) -> Ended {
    environment.run(&[&["run"], args].concat()).exits(0)
}

/// The stages of a run whose results were restored.
fn cached(environment: &TestEnvironment, args: &[&str]) -> Vec<String> {
    let (code, events) = environment.events(&[&["run"], args].concat());
    assert_eq!(code, 0, "{events:#?}");
    let taken = events.iter().filter(|event| event["type"] == "cache-asked" && !event["found"].is_null());
    taken.map(|event| text(&event["stage-id"])).collect()
}

/// The reason why the latest attempt's result isn't stored, or why the stage isn't cached.
fn not_kept(environment: &TestEnvironment) -> String {
    let shown = run(environment, &[]).stdout;
    let reason = shown.lines().find_map(|line| line.split_once("not cached: "));
    reason.unwrap_or_else(|| panic!("the result is stored: {shown}")).1.to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a file of its own");
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().expect("a file").permissions().mode() & 0o7777
}

/// A pipeline with one stage that runs `run`. `own` and `permissions` are additional lines of TOML.
fn pipeline(run: &str, own: &str, permissions: &str) -> String {
    format!(
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.a]\nuses = \"command\"\nwith = {{ run = '''{run}''' }}\n{own}\n\
         [stages.a.permissions]\nprocess = [\"sh\", \"cat\", \"ls\", \"git\", \"chmod\", \"mkdir\", \"go\"]\n{permissions}\n"
    )
}

#[test]
fn a_download_cache_belongs_to_one_tier_and_one_pipeline_file() {
    let tools = tempfile::tempdir().unwrap();
    std::fs::write(tools.path().join("go"), "#!/bin/sh\nexec /bin/sh \"$@\"\n").unwrap();
    set_mode(&tools.path().join("go"), 0o755);
    let text = pipeline(
        "go -c 'cat ~/go/pkg/mod/lib || echo nothing; mkdir -p ~/go/pkg/mod; cat content > ~/go/pkg/mod/lib'",
        "",
        "read = [\"content\"]",
    );
    let mut environment = TestEnvironment::with_pipeline(&text);
    environment.write("pipelines/other.toml", &text);
    environment.write("content", "sound\n");
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    environment.set("PATH", &path);
    let finds = |args: &[&str]| {
        let shown = run(&environment, args).stdout;
        let line = shown.lines().find(|line| line.contains("a |")).unwrap_or_else(|| panic!("{shown}"));
        line.rsplit_once("| ").unwrap().1.to_owned()
    };
    environment.write("content", "evil\n");
    assert_eq!(finds(&["--cache-tier", "pr-12"]), "nothing");
    assert_eq!(finds(&["--cache-tier", "pr-12"]), "evil", "its own");
    assert_eq!(finds(&["--cache-tier", "pr-13"]), "nothing");
    environment.write("content", "sound\n");
    assert_eq!(finds(&["--cache-tier", "trusted"]), "nothing");
    assert_eq!(finds(&["--cache-tier", "trusted"]), "sound");
    assert_eq!(
        finds(&["--cache-tier", "pr/12"]),
        "nothing",
        "a tier doesn't get the folder of another one, not even of one that it trusts, because it could write to it"
    );
    assert_eq!(
        finds(&["pipelines/other.toml", "--cache-tier", "trusted"]),
        "nothing",
        "another pipeline file with the same pipeline name"
    );
    let gc = |args: &[&str]| environment.run(&[&["gc", "--json"], args].concat()).exits(0).stdout;
    let caches = |json: &str| serde_json::from_str::<Json>(json).unwrap()["download-caches"].clone();
    assert_eq!(caches(&gc(&[])), 0);
    assert_eq!(caches(&gc(&["--days", "0"])), 5);
    assert_eq!(finds(&["--cache-tier", "trusted"]), "nothing");
}

#[test]
fn the_history_of_the_repository_is_there_once_inputs_name_it() {
    let environment = TestEnvironment::new();
    let with = |inputs: &str, grants: &str| {
        let text = pipeline(
            "git -c safe.directory='*' log -1 --format=%s",
            &format!("inputs = [{inputs}]"),
            &format!("{grants}\nwrite = [\"out\"]"),
        );
        environment.write("stagewright.toml", &text);
    };
    environment.write("in", "in");
    environment.write(".gitignore", ".stagewright\n");
    environment.git(&["init", "--quiet"]);
    let commit = |text: &str| {
        environment.git(&["add", "--all"]);
        environment.git(&["commit", "--quiet", "--allow-empty", "--message", text]);
    };
    with("\"in\"", "read = [\".\"]");
    commit("first");
    let refused = environment.run(&["run"]).exits(1).stdout;
    assert!(refused.contains("not a git repository") && refused.contains("and no `.git`"), "{refused}");
    // A wildcard doesn't match git's files.
    with("\"**\"", "read = [\".\"]");
    environment.run(&["run"]).exits(1);
    with("\"in\", \".git\"", "read = [\".\"]");
    commit("second");
    assert!(run(&environment, &[]).stdout.contains("| second"));
    assert_eq!(cached(&environment, &[]), ["a"]);
    commit("third");
    assert!(run(&environment, &[]).stdout.contains("| third"));
    // Of git's files, only the declared ones are visible.
    let parts = pipeline(
        "cat .git/HEAD .git/config; cat .git/index",
        "inputs = [\".git/HEAD\", \".git/config\"]",
        "read = [\".\"]",
    );
    environment.write("stagewright.toml", &parts);
    environment.git(&["config", "remote.origin.url", "https://me:hidden@example.org/x"]);
    let shown = environment.run(&["run"]).exits(1).stdout;
    assert!(shown.contains("a | ref: refs/heads/") && shown.contains("https://example.org/x"), "{shown}");
    assert!(shown.contains(".git/index: No such file") && !shown.contains("hidden"), "{shown}");
    // Without the cache, all of them are visible.
    with("\"in\"", "read = [\".\"]");
    environment
        .write("stagewright.toml", &environment.read("stagewright.toml").replace("inputs", "cache = false\ninputs"));
    assert!(run(&environment, &[]).stdout.contains("| third"));
}

#[test]
fn inputs_changed_and_restored_prevent_caching() {
    let environment = TestEnvironment::new();
    let why = |run: &str, writes: &str| {
        for (path, content) in [("src/a", "one\n"), ("src/b", "two\n")] {
            environment.write(path, content);
        }
        let permissions = format!("read = [\".\"]\nwrite = [\"out\", {writes}]");
        environment
            .write("stagewright.toml", &pipeline(run, "inputs = [\"src/**\"]\noutputs = [\"out/**\"]", &permissions));
        not_kept(&environment)
    };
    let changed = "its inputs changed while it ran: `src/a`";
    assert_eq!(why("echo other > src/a; cat src/a > out/made; echo one > src/a", "\"src/a\""), changed);
    assert_eq!(why("chmod 600 src/a; ls -l src > out/made; chmod 644 src/a", "\"src/a\""), changed);
}

#[test]
fn pipes_and_names_that_are_not_utf8_are_reported_and_not_cached() {
    let environment = TestEnvironment::new();
    environment.write("src/a", "one\n");
    let text = pipeline(
        "ls src > out/made",
        "inputs = [\"src/**\"]\noutputs = [\"out/**\"]",
        "read = [\"src\"]\nwrite = [\"out\"]",
    );
    environment.write("stagewright.toml", &text);
    let pipe = environment.root().join("src/pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(not_kept(&environment), "`src/pipe` is a pipe");
    assert_eq!(environment.read("out/made"), "a\npipe\n", "the stage runs without the cache");
    std::fs::remove_file(pipe).unwrap();
    run(&environment, &[]);
    assert_eq!(cached(&environment, &[]), ["a"]);
}

#[test]
fn modes_and_empty_folders_come_back_as_they_were_left() {
    let environment = TestEnvironment::new();
    environment.write("src", "");
    let made = "mkdir -p out/in/empty out/shut; cd out; echo k > key; chmod 600 key; echo r > readonly; chmod 444 readonly\n\
                echo x > tool; chmod 775 tool; echo s > suid; chmod 4755 suid || chmod 755 suid; echo i > shut/i\n\
                chmod 750 in; chmod 555 shut";
    let own = "inputs = [\"src\"]\noutputs = [\"out/**\"]";
    environment.write("stagewright.toml", &pipeline(made, own, "read = [\"src\"]\nwrite = [\"out\"]"));
    run(&environment, &[]);
    let out = environment.root().join("out");
    let modes = || {
        let paths = ["key", "readonly", "tool", "in", "in/empty", "shut", "shut/i"];
        paths.map(|path| (path, format!("{:o}", mode(&out.join(path)))))
    };
    let left = modes();
    for round in 0..2 {
        set_mode(&out.join("shut"), 0o755);
        if round == 0 {
            std::fs::remove_dir_all(&out).unwrap();
        } else {
            std::fs::remove_file(out.join("shut/i")).unwrap();
            set_mode(&out.join("shut"), 0o555);
        }
        assert_eq!(cached(&environment, &[]), ["a"]);
        assert_eq!(modes(), left);
    }
    assert_eq!(mode(&out.join("suid")), 0o755, "the set-user-id bit is not restored");
}

/// `install` makes a tool, and `test` runs it, from a folder that it may write.
const TOOL: &str = r#"
schema = 1
[pipeline]
name = "tool"

[stages.install]
uses = "command"
with = { run = '''mkdir -p vendor; printf '#!/bin/sh\necho tool %s\n' "$(cat version)" > vendor/tool; chmod +x vendor/tool''' }
inputs = ["version"]
outputs = ["vendor/tool"]
permissions = { process = ["sh", "cat", "mkdir", "chmod"], read = ["version"], write = ["vendor"] }

[stages.between]
uses = "noop"
needs = ["install"]

[stages.test]
uses = "command"
needs = ["between"]
with = { run = "vendor/tool > out/said; cat out/said src" }
inputs = ["src"]
outputs = ["out/said"]
permissions = { process = ["sh", "cat"], read = ["src"], write = ["vendor", "out"] }
"#;

#[test]
fn programs_made_by_earlier_stages_are_inputs() {
    let variants = [
        ("declared", "", ""),
        ("not declared", "outputs = [\"vendor/tool\"]\n", ""),
        ("not cached", "inputs = [\"version\"]\noutputs = [\"vendor/tool\"]\n", ""),
        ("run by its path", "write = [\"vendor\", \"out\"] }", "write = [\"out\"] }"),
    ];
    for ignored in ["", "vendor\n"] {
        for (what, from, to) in variants {
            let mut text = TOOL.replace(from, to);
            if what == "run by its path" {
                text = text.replace(
                    "[\"sh\", \"cat\"], read = [\"src\"]",
                    "[\"sh\", \"cat\", \"vendor/tool\"], read = [\"src\"]",
                );
            }
            let environment = TestEnvironment::with_pipeline(&text);
            environment.write(".gitignore", ignored);
            environment.write("src", "s\n");
            for version in ["1", "2", "1", "3"] {
                environment.write("version", version);
                run(&environment, &[]);
                let there = environment.program("vendor/tool").output().unwrap().stdout;
                let said = environment.read("out/said");
                assert_eq!(said.as_bytes(), there, "{what}, ignored: {ignored:?}");
                // Files that aren't declared aren't restored.
                let is_given_back = what != "not declared";
                assert!(!is_given_back || said == format!("tool {version}\n"), "{what}, ignored: {ignored:?}");
            }
            // Nothing has changed: the tool was made again with the same content.
            assert!(cached(&environment, &[]).contains(&"test".to_owned()), "{what}, ignored: {ignored:?}");
        }
    }
}

#[test]
fn a_persons_files_in_writable_folders_are_inputs_and_the_stages_own_are_not() {
    let environment = TestEnvironment::with_pipeline(&pipeline(
        "cat lib/extra || true; echo once more >> lib/count; cat lib/count > out/made",
        "inputs = [\"src\"]\noutputs = [\"out/**\"]",
        "read = [\"src\"]\nwrite = [\"out\", \"lib\"]",
    ));
    environment.write("src", "");
    assert!(cached(&environment, &[]).is_empty());
    assert_eq!(cached(&environment, &[]), ["a"]);
    environment.write("lib/extra", "one\n");
    let explained = |environment: &TestEnvironment| environment.run(&["explain", "a"]).exits(0).stdout;
    assert!(run(&environment, &[]).stdout.contains("a | one"));
    assert!(explained(&environment).contains("the file lib/extra"), "{}", explained(&environment));
    assert_eq!(cached(&environment, &[]), ["a"]);
    environment.write("lib/extra", "two\n");
    assert!(run(&environment, &[]).stdout.contains("a | two"));
    std::fs::remove_file(environment.root().join("lib/extra")).unwrap();
    assert!(!run(&environment, &[]).stdout.contains("a | two"));
    // A person changed a file that the stage also writes, so a change while it ran can't be excluded.
    environment.write("lib/count", "");
    assert_eq!(not_kept(&environment), "a file that it could read and write changed while it ran: `lib/count`");
    assert_eq!(cached(&environment, &[]), ["a"], "now the stage has written it itself");
}

#[test]
fn inputs_open_for_writing_prevent_caching() {
    let environment = TestEnvironment::new();
    environment.write("src", "one\n");
    let own = "inputs = [\"src\"]\noutputs = [\"out/**\"]";
    environment.write("stagewright.toml", &pipeline("cat src > out/made", own, "read = [\"src\"]\nwrite = [\"out\"]"));
    let open = std::fs::File::options().write(true).open(environment.root().join("src")).unwrap();
    let why = "another process has its input `src` open for writing, so changes may go undetected";
    assert_eq!(not_kept(&environment), why);
    drop(open);
    run(&environment, &[]);
    assert_eq!(cached(&environment, &[]), ["a"]);
}

#[test]
fn concurrent_runs_of_a_stage_do_not_store_each_others_results() {
    let environment = TestEnvironment::new();
    environment.write("src", "");
    environment.write(".gitignore", "lib\n");
    let text = |value: &str| {
        let run = "echo $VALUE >> lib/started; while [ ! -e lib/go ]; do sleep 0.05; done; echo $VALUE > out/made";
        let own = format!("env = {{ VALUE = \"{value}\" }}\ninputs = [\"src\"]\noutputs = [\"out/**\"]");
        pipeline(run, &own, "read = [\"src\"]\nwrite = [\"out\", \"lib\"]").replace("\"cat\"", "\"cat\", \"sleep\"")
    };
    let started = |count: usize| {
        eventually("it starts", || {
            let started = std::fs::read_to_string(environment.root().join("lib/started")).unwrap_or_default();
            (started.lines().count() == count).then_some(())
        });
    };
    environment.write("stagewright.toml", &text("one"));
    let first = environment.start(&["run"]);
    started(1);
    environment.write("stagewright.toml", &text("two"));
    let second = environment.start(&["run"]);
    started(2);
    environment.write("lib/go", "");
    let [first, second] = [first, second].map(|child| Ended::of(&child.wait_with_output().unwrap()).exits(0).stdout);
    // One of them may also notice that the other writes while it reads.
    for said in [first, second] {
        assert!(said.contains("its result was not cached: "), "{said}");
    }
    for value in ["one", "two"] {
        environment.write("stagewright.toml", &text(value));
        run(&environment, &[]);
        assert_eq!(environment.read("out/made"), format!("{value}\n"));
    }
}

/// Two stages start the same program, and a stage between them replaces it.
const EXCHANGED: &str = r#"
schema = 1
[pipeline]
name = "exchanged"

[stages.before]
uses = "command"
with = { argv = ["vendor/tool"] }
inputs = ["src"]
permissions = { process = ["sh", "vendor/tool"], read = ["src"] }

[stages.install]
uses = "command"
needs = ["before"]
with = { run = '''printf '#!/bin/sh\necho tool %s\n' "$(cat version)" > vendor/tool''' }
permissions = { process = ["sh", "cat"], read = ["version"], write = ["vendor"] }

[stages.after]
uses = "command"
needs = ["install"]
with = { argv = ["vendor/tool"] }
inputs = ["src"]
permissions = { process = ["sh", "vendor/tool"], read = ["src"] }
"#;

#[test]
fn a_workspace_program_is_an_input_with_its_content_at_the_start() {
    let environment = TestEnvironment::with_pipeline(EXCHANGED);
    environment.write("src", "");
    environment.write("vendor/tool", "#!/bin/sh\necho tool 0\n");
    set_mode(&environment.root().join("vendor/tool"), 0o755);
    for version in ["1", "2", "1", "3"] {
        environment.write("version", version);
        let shown = run(&environment, &[]).stdout;
        let line = shown.lines().rfind(|line| line.contains("| tool ")).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains("after ") && line.ends_with(&format!("tool {version}")), "{shown}");
    }
}

#[test]
fn replacing_a_workspace_program_while_it_runs_prevents_caching() {
    let tool = "#!/bin/sh\necho tool > out/made\nwhile [ ! -e out/go ]; do sleep 0.05; done\n";
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.a]\nuses = \"command\"\nwith = { argv = [\"vendor/tool\"] }\n\
         inputs = [\"src\"]\noutputs = [\"out/made\"]\n[stages.a.permissions]\n\
         process = [\"sh\", \"sleep\", \"vendor/tool\"]\nread = [\"src\"]\nwrite = [\"out\"]\n",
    );
    environment.write("src", "");
    environment.write("vendor/tool", tool);
    let path = environment.root().join("vendor/tool");
    set_mode(&path, 0o755);
    let running = environment.start(&["run"]);
    eventually("it starts", || environment.root().join("out/made").exists().then_some(()));
    environment.write("vendor/next", &format!("{tool}# another\n"));
    set_mode(&environment.root().join("vendor/next"), 0o755);
    std::fs::rename(environment.root().join("vendor/next"), &path).expect("a file");
    environment.write("out/go", "");
    let shown = Ended::of(&running.wait_with_output().unwrap()).exits(0).stdout;
    assert!(shown.contains("not cached: ") && shown.contains("`vendor/tool`"), "{shown}");
}

/// Two stages that run cargo share `target`: files that one leaves there don't make the other one run again.
#[test]
fn ignored_working_files_of_other_stages_do_not_invalidate_results() {
    let stage = |name: &str, needs: &str| {
        format!(
            "[stages.{name}]\nuses = \"command\"\nneeds = [{needs}]\ninputs = [\"src\"]\noutputs = [\"target/{name}\"]\n\
             with = {{ run = \"echo more >> target/state; echo more >> target/{name}.state; cat src > target/{name}\" }}\n\
             permissions = {{ process = [\"sh\", \"cat\"], read = [\"src\"], write = [\"target\"] }}\n"
        )
    };
    let text = format!("schema = 1\n[pipeline]\nname = \"p\"\n{}{}", stage("build", ""), stage("test", "\"build\""));
    let environment = TestEnvironment::with_pipeline(&text);
    environment.write(".gitignore", "target\n");
    for content in ["one", "two"] {
        environment.write("src", content);
        assert!(cached(&environment, &[]).is_empty());
        assert_eq!(cached(&environment, &[]), ["build", "test"]);
        // The same applies to a person's own builds.
        environment.write("target/state", "");
        assert_eq!(cached(&environment, &[]), ["build", "test"]);
    }
    // Files left by runs of an untrusted tier do count.
    environment.write("src", "three");
    run(&environment, &["--cache-tier", "pr-1"]);
    environment.write("src", "two");
    assert!(cached(&environment, &["--cache-tier", "trusted"]).is_empty());
}

#[test]
fn a_result_under_another_key_is_not_used() {
    let environment = TestEnvironment::new();
    environment.write("src", "one\n");
    let own = "inputs = [\"src\"]\noutputs = [\"out/**\"]";
    environment.write("stagewright.toml", &pipeline("cat src > out/made", own, "read = [\"src\"]\nwrite = [\"out\"]"));
    run(&environment, &["--cache-tier", "pr-1"]);
    std::fs::remove_dir_all(environment.root().join("out")).unwrap();
    let results = environment.root().join(".stagewright/cache/results");
    let entry = || {
        let folders = std::fs::read_dir(results.join("entries")).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
        files.collect::<Vec<_>>()
    };
    let untrusted = entry().remove(0);
    std::fs::remove_file(results.join("tiers")).unwrap();
    std::fs::remove_dir_all(results.join("left")).unwrap();
    run(&environment, &[]);
    let trusted = entry().into_iter().find(|path| *path != untrusted).expect("another key");
    let text = std::fs::read_to_string(&untrusted).unwrap();
    std::fs::write(&trusted, text).unwrap();
    assert!(cached(&environment, &[]).is_empty());
}
