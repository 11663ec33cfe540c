//! Cached results: when they are restored, and when they aren't.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, binary, outcomes, text};

/// A stage that makes `out/made` from `src`, and one that prints the other's outputs.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "cached"

[stages.make]
uses = "command"
with = { run = "cat src/* > out/made; echo making; echo once more >> count/times" }
env = { MADE_FOR = "tests", LANG = "C" }
inputs = ["src/**"]
outputs = ["out/**"]
timeout = "1m"
[stages.make.permissions]
process = ["sh", "cat"]
read = ["."]
write = ["out", "count"]

[stages.use]
uses = "command"
needs = ["make"]
with = { run = "cat out/made; echo exit ${{ int(stages.make.outputs['exit-code']) }}" }
[stages.use.permissions]
process = ["sh", "cat"]
read = ["out"]
"#;

fn repository() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("src/a", "one\n");
    environment.write("src/b", "two\n");
    environment.write("other", "not an input");
    environment.write(".gitignore", "*.log\n");
    environment
}

/// How often the stage's program ran.
fn times(environment: &TestEnvironment) -> usize {
    environment.read("count/times").lines().count()
}

/// Runs the pipeline, which must succeed.
fn run(environment: &TestEnvironment, args: &[&str]) -> Ended {
    environment.run(&[&["run"], args].concat()).exits(0)
}

fn explained(environment: &TestEnvironment, stage: &str) -> Json {
    let ended = environment.run(&["explain", stage, "--json"]).exits(0);
    serde_json::from_str::<Json>(&ended.stdout).expect("JSON")[0].clone()
}

/// The changes that `explain` names, as in `file src/a`.
fn changes(environment: &TestEnvironment, stage: &str) -> Vec<String> {
    let explained = explained(environment, stage);
    assert_eq!(text(&explained["why"]), "changed", "{explained:#}");
    let changed = explained["changed"].as_array().expect("a list").iter();
    changed.map(|change| format!("{} {}", text(&change["part"]), text(&change["name"]))).collect()
}

#[test]
fn a_result_is_restored_completely() {
    let environment = repository();
    let first = run(&environment, &[]);
    assert_eq!(text(&explained(&environment, "make")["why"]), "first");
    std::fs::remove_dir_all(environment.root().join("out")).unwrap();
    let second = run(&environment, &[]);
    assert!(
        second.stdout.contains("make * cached: as in run") && second.stdout.contains("making"),
        "{}",
        second.stdout
    );
    assert!(second.stdout.contains("1 succeeded, 1 cached"), "{}", second.stdout);
    assert_eq!((environment.read("out/made"), times(&environment)), ("one\ntwo\n".to_owned(), 1));
    let shown = |ended: &Ended| ended.stdout.lines().filter(|line| line.contains("use  |")).count();
    assert_eq!((shown(&first), shown(&second)), (3, 3), "the outputs are restored");
    assert_eq!(text(&explained(&environment, "make")["why"]), "unchanged");
    assert_eq!(text(&explained(&environment, "use")["why"]), "not-cached");
    let log = environment.run(&["logs", "latest", "make"]).exits(0).stdout;
    assert_eq!(log.trim(), "making");
    // The replayed output says the same.
    assert!(environment.run(&["show", "latest"]).exits(0).stdout.contains("cached: as in run"));
}

#[test]
fn every_changed_input_invalidates_the_result_and_explain_names_it() {
    let mut environment = repository();
    // A variable that is inherited, then replaced by the stage's own.
    environment.set("LANG", "C.UTF-8");
    run(&environment, &[]);
    let mut done = 1;
    let mut changed = |what: &str, named: &[&str]| {
        run(&environment, &[]);
        done += 1;
        assert_eq!(times(&environment), done, "{what}");
        assert_eq!(changes(&environment, "make"), named, "{what}");
    };
    environment.write("src/a", "ONE\n");
    changed("content", &["file src/a"]);
    environment.write("src/c", "three\n");
    std::fs::remove_file(environment.root().join("src/b")).unwrap();
    changed("files that are new and gone", &["file src/b", "file src/c"]);
    let program = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(environment.root().join("src/a"), program).unwrap();
    changed("a mode", &["file src/a"]);
    let edits = [
        ("echo making", "echo making it", "config run"),
        ("MADE_FOR = \"tests\"", "MADE_FOR = \"others\"", "variable MADE_FOR"),
        ("LANG = \"C\"", "LANG = \"POSIX\"", "variable LANG"),
        ("timeout = \"1m\"", "timeout = \"2m\"", "limit timeout"),
        ("process = [\"sh\", \"cat\"]\nread = [\".\"]", "process = [\"sh\", \"cat\", \"ls\"]\nread = [\".\"]", ""),
    ];
    let mut pipeline = PIPELINE.to_owned();
    for (from, to, named) in edits {
        assert!(pipeline.contains(from), "{from}");
        pipeline = pipeline.replace(from, to);
        environment.write("stagewright.toml", &pipeline);
        match named {
            "" => {
                run(&environment, &[]);
                let changes = changes(&environment, "make");
                assert!(changes.contains(&"permission process = ls".to_owned()), "{changes:?}");
            }
            named => changed(named, &[named]),
        }
    }
}

#[test]
fn unrelated_changes_do_not_invalidate_a_result() {
    let environment = repository();
    run(&environment, &[]);
    environment.write("other", "changed");
    environment.write("src/noise.log", "ignored");
    environment.write("src/a", "one\n");
    environment.write("stagewright.toml", &PIPELINE.replace("name = \"cached\"", "name = \"renamed\""));
    let mut environment = environment;
    environment.set("UNGRANTED", "x");
    run(&environment, &["--jobs", "1"]);
    assert_eq!(times(&environment), 1);
}

#[test]
fn the_cache_can_be_read_only_refreshed_and_disabled() {
    let environment = repository();
    run(&environment, &["--cache", "read"]);
    run(&environment, &["--cache", "read"]);
    assert_eq!(times(&environment), 2, "no result was stored");
    run(&environment, &[]);
    run(&environment, &["--cache", "read"]);
    assert_eq!(times(&environment), 3);
    run(&environment, &["--cache", "refresh"]);
    assert_eq!(times(&environment), 4);
    run(&environment, &["--cache", "off"]);
    assert_eq!(times(&environment), 5);
    for (line, done) in [("cache = false", 6), ("cache = false", 7), ("cache = \"read\"", 7), ("cache = true", 7)] {
        environment
            .write("stagewright.toml", &PIPELINE.replace("timeout = \"1m\"", &format!("timeout = \"1m\"\n{line}")));
        run(&environment, &[]);
        assert_eq!(times(&environment), done, "{line}");
    }
}

#[test]
fn a_program_and_a_plugin_see_nothing_that_is_not_declared() {
    let environment = repository();
    let ignored = "src/noise.log";
    environment.write(ignored, "ignored");
    let tries = |run: &str| {
        environment.write("stagewright.toml", &PIPELINE.replace("cat src/* > out/made", run));
        environment.run(&["run"])
    };
    for undeclared in ["other", ignored, "stagewright.toml", ".gitignore"] {
        let ended = tries(&format!("cat {undeclared}")).exits(1);
        assert!(ended.stdout.contains("No such file"), "{undeclared}: {}", ended.stdout);
        assert!(ended.stdout.contains("add it to `inputs` of [stages.make]"), "{}", ended.stdout);
    }
    tries("cat src/a > out/made; cat src/b out/made").exits(0);
    tries("cat other").exits(1);
    // A glob that names what git ignores declares it.
    environment.write(
        "stagewright.toml",
        &PIPELINE.replace("cat src/*", &format!("cat {ignored}")).replace("\"src/**\"", &format!("\"{ignored}\"")),
    );
    environment.run(&["run"]).exits(0);
    let pipeline = |read: &str| {
        format!(
            "schema = 1\n[pipeline]\nname = \"p\"\n[stages.s]\nuses = \"stranger\"\ninputs = [\"src\"]\n\
             with.actions = [{{ do = \"read\", path = \"{read}\" }}, {{ do = \"glob\", pattern = \"*\" }}]\n\
             [stages.s.permissions]\nread = [\".\"]\n"
        )
    };
    for (path, answer) in [("src/a", "one\n"), ("other", "ErrorCode::PermissionDenied")] {
        environment.write("stagewright.toml", &pipeline(path));
        let (code, events) = environment.events(&["run"]);
        assert_eq!(code, 0);
        let ended = events.iter().find(|event| event["type"] == "attempt-ended").unwrap();
        assert_eq!(text(&ended["outputs"]["answers"][0]), answer, "{path}");
        assert!(!ended["outputs"]["answers"][1].to_string().contains("other"), "{ended:#}");
        let has_help = events.iter().any(|event| event["problem"]["help"].to_string().contains("add it to `inputs`"));
        assert_eq!(has_help, path == "other");
    }
}

/// A result that was made without confinement isn't restored where programs are confined.
#[test]
fn a_result_says_whether_its_programs_were_confined() {
    let environment = repository();
    environment.write(
        "stagewright.toml",
        &PIPELINE.replace("name = \"cached\"", "name = \"cached\"\nsandbox = \"preferred\""),
    );
    let unconfined = |args: &str| {
        // In a user namespace that can't have nested ones, sandboxes can't be made.
        let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {} {args}", binary().display());
        let output = environment.program("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).output();
        Ended::of(&output.expect("unshare")).exits(0)
    };
    run(&environment, &[]);
    assert!(!environment.run(&["plan"]).exits(0).stdout.contains("can read other files undetected"));
    assert!(
        unconfined("plan").stdout.contains("inputs src/** (programs can read other files undetected); outputs out/**")
    );
    unconfined("run");
    assert_eq!((times(&environment), changes(&environment, "make")), (2, vec!["sandbox programs".to_owned()]));
    unconfined("run");
    assert_eq!(times(&environment), 2);
    run(&environment, &[]);
    assert_eq!(times(&environment), 2, "each one has its own result");
}

#[test]
fn restored_artifacts_are_published_and_are_inputs_of_later_stages() {
    let pipeline = |text: &str| {
        format!(
            "schema = 1\n[pipeline]\nname = \"p\"\n[stages.publish]\nuses = \"stranger\"\ninputs = [\"src\"]\n\
             with.actions = [{{ do = \"publish\", name = \"a.txt\", path = \"src/a\", media-type = \"text/plain\" }}]\n\
             [stages.publish.permissions]\nread = [\"src\"]\n\
             [stages.between]\nuses = \"noop\"\nneeds = [\"publish\"]\n\
             [stages.fetch]\nuses = \"stranger\"\nneeds = [\"between\"]\ncache = true\noutputs = [\"in\"]\n\
             with.actions = [{{ do = \"fetch\", name = \"a.txt\", path = \"in/a\" }}, {{ do = \"wait\", for-ms = {text} }}]\n\
             [stages.fetch.permissions]\nwrite = [\"in\"]\n"
        )
    };
    let environment = TestEnvironment::with_pipeline(&pipeline("1"));
    environment.write("src/a", "one");
    let ran = |environment: &TestEnvironment| -> Vec<String> {
        let (code, events) = environment.events(&["run"]);
        assert_eq!(code, 0, "{events:#?}");
        let published = events.iter().filter(|event| event["type"] == "artifact-published");
        let published: Vec<_> = published.map(|event| (text(&event["stage-id"]), &event["artifact"])).collect();
        assert!(
            matches!(published.as_slice(), [(stage, file)] if stage == "publish"
                && file["name"] == "a.txt" && file["media-type"] == "text/plain" && file["size"] == 3),
            "it is published in every run, from the cache as well: {published:?}"
        );
        let taken = events.iter().filter(|event| event["type"] == "cache-asked" && !event["found"].is_null());
        let taken: Vec<String> = taken.map(|event| text(&event["stage-id"])).collect();
        outcomes(&events).into_keys().filter(|stage| !taken.contains(stage)).collect()
    };
    assert_eq!(ran(&environment), ["between", "fetch", "publish"]);
    assert_eq!(ran(&environment), ["between"]);
    // Only the stage that fetches runs, and gets what the other one published in an earlier run.
    environment.write("stagewright.toml", &pipeline("2"));
    std::fs::remove_dir_all(environment.root().join("in")).unwrap();
    assert_eq!(ran(&environment), ["between", "fetch"]);
    assert_eq!(environment.read("in/a"), "one");
    environment.write("src/a", "two");
    assert_eq!(ran(&environment), ["between", "fetch", "publish"]);
    assert_eq!(
        (environment.read("in/a"), changes(&environment, "fetch")),
        ("two".into(), vec!["artifact a.txt".into()])
    );
}

/// The stage that publishes runs each time, and so does the one in between; only the last one is cached.
#[test]
fn artifacts_of_uncached_stages_are_inputs_too() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.publish]\nuses = \"stranger\"\n\
         with.actions = [{ do = \"publish\", name = \"a.txt\", path = \"src/a\" }]\n\
         [stages.publish.permissions]\nread = [\"src\"]\n\
         [stages.between]\nuses = \"noop\"\nneeds = [\"publish\"]\n\
         [stages.fetch]\nuses = \"stranger\"\nneeds = [\"between\"]\ncache = true\noutputs = [\"in\"]\n\
         with.actions = [{ do = \"fetch\", name = \"a.txt\", path = \"in/a\" }]\n\
         [stages.fetch.permissions]\nwrite = [\"in\"]\n",
    );
    for content in ["one", "two"] {
        environment.write("src/a", content);
        environment.run(&["run"]).exits(0);
        assert_eq!(environment.read("in/a"), content);
    }
}

#[test]
fn unchanged_outputs_are_not_rewritten() {
    let environment = repository();
    let modified = || environment.root().join("out/made").metadata().unwrap().modified().unwrap();
    run(&environment, &[]);
    let made = modified();
    for _ in 0..2 {
        assert!(run(&environment, &[]).stdout.contains("1 cached"));
        assert_eq!(modified(), made);
    }
}

/// A declared link doesn't make an undeclared file readable: next to one, only the link itself is visible.
#[test]
fn a_link_shows_nothing_that_is_not_declared() {
    let environment = repository();
    environment.write("src/noise.log", "ignored");
    std::os::unix::fs::symlink("../other", environment.root().join("src/link")).unwrap();
    std::os::unix::fs::symlink("a", environment.root().join("src/to-a")).unwrap();
    let tries = |file: &str| {
        environment.write("stagewright.toml", &PIPELINE.replace("cat src/*", &format!("cat {file}")));
        environment.run(&["run"])
    };
    tries("src/link").exits(1);
    tries("src/to-a").exits(0);
    std::fs::remove_file(environment.root().join("src/noise.log")).unwrap();
    tries("src/link").exits(1);
}

#[test]
fn failures_and_results_of_changed_inputs_are_not_stored() {
    let environment = repository();
    environment.write("stagewright.toml", &PIPELINE.replace("echo making;", "echo once more >> count/times; false;"));
    let sh_e = environment.run(&["run"]);
    let done = times(&environment);
    sh_e.exits(1);
    environment.run(&["run"]).exits(1);
    assert!(times(&environment) > done, "a failure was restored");
    let changing = PIPELINE
        .replace("cat src/* > out/made", "echo more >> src/a; cat src/* > out/made")
        .replace("write = [\"out\", \"count\"]", "write = [\"out\", \"count\", \"src\"]");
    environment.write("stagewright.toml", &changing);
    let ended = run(&environment, &[]);
    assert!(ended.stdout.contains("not cached: its inputs changed while it ran"), "{}", ended.stdout);
}

/// A run has the same result, however the folder of results was damaged.
#[test]
fn a_damaged_cache_costs_time_and_nothing_else() {
    let environment = repository();
    run(&environment, &[]);
    let results = environment.root().join(".stagewright/cache/results");
    let damages = [
        ("entries", Some("{")),
        ("blobs", Some("damaged")),
        ("blobs", None),
        ("manifests", Some("{")),
        ("files", Some("x")),
    ];
    for (part, damage) in damages {
        for file in files(&results.join(part)) {
            match damage {
                Some(text) => std::fs::write(file, text).unwrap(),
                None => std::fs::remove_file(file).unwrap(),
            }
        }
        std::fs::remove_dir_all(environment.root().join("out")).unwrap();
        run(&environment, &[]);
        assert_eq!(environment.read("out/made"), "one\ntwo\n", "{part}");
        // The next run has repaired it.
        std::fs::remove_dir_all(environment.root().join("out")).unwrap();
        assert!(run(&environment, &[]).stdout.contains("1 cached"), "{part}");
    }
    std::fs::remove_dir_all(&results).unwrap();
    run(&environment, &[]);
    assert_eq!(text(&explained(&environment, "make")["why"]), "first");
}

/// A forged entry names files that the stage isn't allowed to write.
#[test]
fn a_result_writes_nothing_that_its_stage_may_not() {
    let environment = repository();
    // Otherwise the planted files would be inputs.
    environment.write(".gitignore", "out\n");
    run(&environment, &[]);
    let entry = files(&environment.root().join(".stagewright/cache/results/entries")).remove(0);
    let good = std::fs::read_to_string(&entry).unwrap();
    let outside = environment.root().join("../outside");
    std::os::unix::fs::symlink("..", environment.root().join("out/way")).unwrap();
    for path in ["other", "../outside", "/tmp/outside", "out/../other", ".git/hooks/pre-commit", "out/way/other"] {
        std::fs::write(&entry, good.replace("out/made", path)).unwrap();
        let ended = run(&environment, &[]);
        assert!(!ended.stdout.contains("1 cached") || path == "out/way/other", "{path}: {}", ended.stdout);
        assert_eq!(environment.read("other"), "not an input", "{path}");
        assert!(!outside.exists() && !environment.root().join(".git/hooks").exists(), "{path}");
        std::fs::write(&entry, &good).unwrap();
    }
}

#[test]
fn resume_from_a_stage_runs_it_again_despite_its_result() {
    let environment = repository();
    run(&environment, &[]);
    environment.run(&["resume", "latest", "--from", "make"]).exits(0);
    assert_eq!(times(&environment), 2);
}

#[test]
fn stages_with_external_effects_cannot_be_cached() {
    let environment = repository();
    for (line, named) in [
        ("net = [\"https://example.org\"]", "may call https://example.org"),
        ("registry = [\"local/app\"]", "may push to and resolve `local/app`"),
    ] {
        let text = PIPELINE
            .replace("timeout = \"1m\"", "cache = true")
            .replace("read = [\".\"]", &format!("read = [\".\"]\n{line}"));
        environment.write("stagewright.toml", &text);
        let refused = environment.run(&["run"]).exits(3);
        assert!(refused.stderr.contains(named), "{}", refused.stderr);
        // Without `cache`, such a stage just isn't cached.
        environment.write("stagewright.toml", &text.replace("cache = true\n", ""));
        let (code, events) = environment.events(&["run"]);
        assert_eq!(code, 0, "{events:#?}");
        assert!(events.iter().all(|event| event["type"] != "cache-asked"));
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| files(&path)).collect()
}

/// The output of `find`: kind, mode, path, and the target of a link.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let metadata = entry.metadata().expect("an entry");
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
            found.push(format!("{mode:o} {} {}", entry.path().display(), target.display()));
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn modes_links_and_empty_folders_are_restored() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\n[pipeline]\nname = \"modes\"\n[stages.a]\nuses = \"command\"\ninputs = [\"make.sh\"]\n\
         outputs = [\"dist/**\"]\nwith = { argv = [\"sh\", \"make.sh\"] }\n\
         permissions = { process = [\"sh\"], read = [\"make.sh\"], write = [\"dist\"] }\n",
    );
    environment.write(
        "make.sh",
        "cd dist; for m in 600 444 000 640 664 755; do echo $m > f$m; chmod $m f$m; done\n\
         mkdir -p empty/deep d700 d1777 ro sub; chmod 700 d700; chmod 1777 d1777; echo x > ro/x; chmod 500 ro; echo x > sub/x\n\
         ln -s f600 link; ln -s nowhere dangling; ln -s /etc/hosts absolute; ln -s d700 folder\n",
    );
    let dist = environment.root().join("dist");
    environment.run(&["run"]).exits(0);
    let built = listing(&dist);
    assert!(built.iter().any(|line| line.starts_with("41777 ")) && built.len() >= 18, "{built:?}");
    std::fs::set_permissions(dist.join("ro"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a folder");
    std::fs::remove_dir_all(&dist).expect("a folder");
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    assert!(events.iter().any(|event| event.to_string().contains("\"found\":")), "{events:#?}");
    assert_eq!(listing(&dist), built);
}
