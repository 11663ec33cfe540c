//! Lock files: their text, invalid ones, and changes between locks.

use proptest::prelude::*;
use stagewright_model::{
    Bounds, Lock, LockedPipeline, NamedBy, Origin, PackageManager, PackageOrigin, Plan, PluginPin,
};

use crate::{file, plan, render};

const RELEASE: &str = r#"
[secrets.token]
from = "env:TOKEN"
hosts = ["ghcr.io"]
[environments.staging]
target = "process"
[stages.build]
uses = "exec"
timeout = "20m"
limits = { processes = 8, workspace = "1GiB" }
matrix = { os = ["a", "b"] }
[stages.build.permissions]
process = ["cargo", "git fetch origin *"]
read = ["."]
write = ["target"]
[stages.deploy]
uses = "path:plugins/my deploy"
environment = "staging"
permissions = { net = ["https://ghcr.io"], secrets = ["token"] }
"#;

fn pin(stage: &str) -> PluginPin {
    let imports = ["process", "workspace"].map(str::to_owned).into();
    PluginPin { digest: format!("sha256:{:0>64}", stage.len()), wit: Some("0.1.0".to_owned()), imports }
}

fn lock_of(plan: &Plan) -> LockedPipeline {
    LockedPipeline::of(plan, &plan.stages.iter().map(|stage| pin(&stage.uses.to_string())).collect::<Vec<_>>(), &[])
}

fn locked(tables: &str) -> LockedPipeline {
    lock_of(&plan(&file(tables)))
}

fn text(tables: &str) -> String {
    Lock { pipelines: [("release".to_owned(), locked(tables))].into() }.render()
}

/// The changes in the lock when `from` is replaced by `to` in the pipeline.
#[track_caller]
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(RELEASE.contains(from), "{from}");
    let (then, now) = (locked(RELEASE), locked(&RELEASE.replace(from, to)));
    then.changes(&now, &Bounds::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn lock_is_sorted_and_can_be_parsed() {
    let text = text(RELEASE);
    insta::assert_snapshot!(text);
    let again = Lock::parse("stagewright.lock", &text).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    assert_eq!(again.pipelines["release"], locked(RELEASE));
    assert_eq!(again.render(), text);
    assert_eq!(Lock::parse("stagewright.lock", &Lock::default().render()).ok(), Some(Lock::default()));
}

#[test]
fn long_lists_have_one_entry_per_line() {
    let many = (0..20).map(|number| format!("'folder-{number}'")).collect::<Vec<_>>().join(", ");
    let text = text(&RELEASE.replace("\".\"", &many));
    assert!(text.contains("\n    \"folder-0\",\n"), "{text}");
    assert!(Lock::parse("stagewright.lock", &text).is_ok());
}

#[test]
fn edited_merged_or_damaged_lock_is_invalid() {
    let text = text(RELEASE);
    let codes = |text: &str| match Lock::parse("stagewright.lock", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| (error.code(), error.position().0)).collect(),
    };
    assert_eq!(codes(&text), []);
    let line_of = |part: &str| text.lines().position(|line| line.contains(part)).expect("a line") + 1;
    let checksum = line_of("checksum");
    for (from, to) in [("\"cargo\"", "\"*\""), ("write = [\"target\"]\n", ""), ("20m", "30m"), ("component", "native")]
    {
        assert_eq!(codes(&text.replace(from, to)), [("stagewright::lock-edited", checksum)], "{from}");
    }
    let conflict =
        text.replacen("[pipelines.release.stages.build]", "<<<<<<< HEAD\n[x]\n=======\n[y]\n>>>>>>> other", 1);
    assert_eq!(codes(&conflict), [("stagewright::lock-conflict", line_of("[pipelines.release.stages.build]"))]);
    assert_eq!(codes(&text[..text.len() - 4])[0].0, "stagewright::syntax");
    assert_eq!(codes(&text.replace("schema = 1", "schema = 2"))[0].0, "stagewright::out-of-range");
    assert_eq!(codes(&text.replace("write =", "wirte ="))[0].0, "stagewright::unknown-key");
    assert_eq!(codes("")[0].0, "stagewright::missing-key");
    // The checksum includes the name, so that a section can't be used for another pipeline.
    assert_eq!(codes(&text.replace("[pipelines.release", "[pipelines.other"))[0].0, "stagewright::lock-edited");
}

#[test]
fn changes_are_described() {
    assert_eq!(changed("", ""), [""; 0]);
    assert_eq!(changed("\"cargo\", ", "\"cargo\", \"curl\", "), ["+ `build` may now start `curl` with any arguments"]);
    assert_eq!(
        changed("\"cargo\", ", "\"cargo test *\", "),
        ["- `build` may no longer start `cargo` with any arguments"]
    );
    assert_eq!(
        changed("origin *", "*"),
        ["+ `build` may now start `git fetch *`", "- `build` may no longer start `git fetch origin *`"],
    );
    assert_eq!(changed("https://ghcr.io", "https://ghcr.io:*"), ["+ `deploy` may now call https://ghcr.io:*"]);
    assert_eq!(changed("read = [\".\"]", "read = []"), ["- `build` may no longer read the whole workspace"]);
    assert_eq!(changed("\"target\"", "\"target\", \"target/a\""), [""; 0], "it is within what was granted");
    assert_eq!(changed("env:TOKEN", "file:x"), ["+ the secret `token` is now read from file:x"]);
    assert_eq!(changed("[\"ghcr.io\"]", "[\"evil.example\"]").len(), 2);
    assert_eq!(changed("environment = \"staging\"\n", ""), ["- `deploy` no longer acts on the environment `staging`"]);
    assert_eq!(changed("processes = 8", "processes = 9"), ["+ `build` has a larger limit `processes`: 8 -> 9"]);
    assert_eq!(changed("processes = 8, ", ""), ["+ `build` has a larger limit `processes`: 8 -> no limit"]);
    assert_eq!(changed("20m", "1m30s"), ["- `build` has a smaller limit `timeout`: 20m -> 1m30s"]);
    assert_eq!(
        changed("uses = \"exec\"", "uses = \"noop\""),
        [
            "+ plugin `noop` is new: sha256:000000000000, imports process, workspace",
            "- plugin `exec` is no longer used",
            "+ `build` now uses `noop` instead of `exec`"
        ],
    );
    assert_eq!(
        changed("[stages.deploy]", "[stages.ship]").first().map(String::as_str),
        Some("+ stage `ship` is new: it uses `path:plugins/my deploy`")
    );
}

fn named(manager: PackageManager, url: &str, by: NamedBy) -> PackageOrigin {
    PackageOrigin { manager, origin: Origin::of_url(url).expect("an origin"), by, place: ".npmrc:1".to_owned() }
}

#[test]
fn package_origins_of_the_repository_are_locked_and_those_of_the_machine_are_not() {
    let plan = plan(&file(&RELEASE.replace("write = [\"target\"]", "write = [\"target\"]\nnet = [\"npm\"]")));
    let pins = plan.stages.iter().map(|stage| pin(&stage.uses.to_string())).collect::<Vec<_>>();
    let of = |packages: &[PackageOrigin]| LockedPipeline::of(&plan, &pins, packages);
    let npm = |by| named(PackageManager::Npm, "https://npm.acme.example/a", by);
    let (then, now) = (of(&[]), of(&[npm(NamedBy::Repository)]));
    assert_eq!(of(&[npm(NamedBy::Machine)]), then);
    assert_eq!(
        of(&[named(PackageManager::Pip, "https://a.example", NamedBy::Repository)]),
        then,
        "no stage has `pip` in `net`"
    );
    let changes = |then: &LockedPipeline, now| {
        then.changes(now, &Bounds::default()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let added =
        "+ `npm` in `net` now includes https://npm.acme.example, which is configured in a file of the repository";
    assert_eq!(changes(&then, &now), [added]);
    assert_eq!(changes(&now, &then), ["- `npm` in `net` no longer includes https://npm.acme.example"]);
    let lock = Lock { pipelines: [("release".to_owned(), now)].into() };
    let text = lock.render();
    assert!(text.contains("[pipelines.release.package-hosts]\nnpm = [\"https://npm.acme.example\"]\n"), "{text}");
    assert_eq!(Lock::parse("stagewright.lock", &text).map_err(|errors| render(&errors)), Ok(lock));
    // Without package hosts, the lock has no such table, as in earlier versions. An edited table invalidates the lock.
    assert!(!Lock { pipelines: [("release".to_owned(), then)].into() }.render().contains("package-hosts"));
    assert!(Lock::parse("stagewright.lock", &text.replace("npm.acme", "evil")).is_err());
}

#[test]
fn changed_digest_and_imports_of_a_plugin_are_wider() {
    let then = locked(RELEASE);
    let mut now = then.clone();
    let plugin = now.plugins.get_mut("exec").expect("it is used");
    plugin.digest = format!("sha256:{}", "a".repeat(64));
    plugin.imports.insert("http".to_owned());
    plugin.imports.remove("process");
    let changes = then.changes(&now, &Bounds::default());
    let text = "plugin `exec` changed: sha256:000000000000 -> sha256:aaaaaaaaaaaa, and now imports http, and no longer \
                imports process";
    assert_eq!(
        changes.iter().map(|change| (change.is_wider, change.text.as_str())).collect::<Vec<_>>(),
        [(true, text)]
    );
}

#[test]
fn missing_limits_are_compared_by_the_defaults() {
    let defaults = Bounds { memory: Some(256 << 20), ..Bounds::default() };
    let (then, now) = (locked(RELEASE), locked(&RELEASE.replace("timeout", "memory = '1GiB'\ntimeout")));
    let changes = |then: &LockedPipeline, now, defaults| -> Vec<String> {
        then.changes(now, defaults).iter().map(ToString::to_string).collect()
    };
    assert_eq!(changes(&then, &now, &defaults), ["+ `build` has a larger limit `memory`: 256MiB -> 1GiB"]);
    assert_eq!(changes(&then, &now, &Bounds::default()), ["- `build` has a smaller limit `memory`: no limit -> 1GiB"]);
}

#[test]
fn the_limits_of_a_new_stage_are_changes_only_above_the_defaults() {
    let defaults = Bounds { memory: Some(256 << 20), ..Bounds::default() };
    let limits = |memory: &str| {
        let now = locked(&RELEASE.replace("timeout", &format!("memory = '{memory}'\ntimeout")));
        let changes = LockedPipeline::default().changes(&now, &defaults);
        changes.iter().map(ToString::to_string).filter(|change| change.contains("limit")).collect::<Vec<_>>()
    };
    assert_eq!(limits("64MiB"), Vec::<String>::new());
    assert_eq!(limits("1GiB"), ["+ `build` has a larger limit `memory`: 256MiB -> 1GiB"]);
}

proptest! {
    #[test]
    fn any_rendered_lock_parses_to_the_same_lock(program in "[ -~é\\n\\x7f]{1,12}", folder in "[a-z *\"'\\\\]{1,8}", uses in "[a-zA-Z:./ \"']{1,8}") {
        let mut one = locked(RELEASE);
        let mut stage = one.stages.remove("build").expect("a stage");
        let Ok(service) = program.parse() else { return Ok(()) };
        stage.permissions.service = vec![service];
        stage.permissions.secrets = vec![folder.parse().unwrap()];
        stage.uses = uses.clone();
        one.stages.insert(uses, stage);
        let lock = Lock { pipelines: [("release".to_owned(), one)].into() };
        let text = lock.render();
        prop_assert_eq!(Lock::parse("x", &text).map_err(|errors| render(&errors)), Ok(lock));
    }
}

#[test]
fn a_stage_without_a_sandbox_is_wider_and_survives_the_file() {
    let (stage, off) = ("timeout = \"20m\"", "timeout = \"20m\"\nsandbox = \"off\"");
    assert_eq!(changed(stage, off), ["+ the programs of `build` now run without a sandbox"]);
    let tables = RELEASE.replace(stage, off);
    let lock = Lock::parse("stagewright.lock", &text(&tables)).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    let narrower = lock.pipelines["release"].changes(&locked(RELEASE), &Bounds::default());
    assert_eq!(
        narrower.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["- the programs of `build` are sandboxed again"]
    );
}
