//! Checks of pipelines against an operator's policy.

use std::time::Duration;

use stagewright_model::{
    Bounds, Diagnostic, NamedBy, OperatorPolicy, Origin, PackageManager, PackageOrigin, Permission, Sandbox,
};

use crate::{errors, file, plan, render};

const PIPELINE: &str = r#"
[secrets.token]
from = "env:TOKEN"
[stages.build]
uses = "exec"
limits = { processes = 8 }
[stages.build.permissions]
process = ["cargo"]
read = ["src", "target/report"]
write = ["target"]
net = ["https://ghcr.io"]
secrets = ["token"]
[finally.report]
uses = "noop"
memory = "1GiB"
"#;

fn policy(tables: &str) -> OperatorPolicy {
    let text = format!("schema = 1\n{tables}");
    OperatorPolicy::parse("/etc/policy.toml", &text).unwrap_or_else(|errors| panic!("{}", render(&errors)))
}

/// The lines and messages of the errors about the pipeline under a policy.
fn refused(tables: &str) -> Vec<(usize, String)> {
    let text = file(PIPELINE);
    let plan = plan(&text);
    let digests: Vec<String> = plan.stages.iter().map(|stage| format!("sha256:{}", stage.name)).collect();
    match policy(tables).check(&plan, "stagewright.toml", &text, &digests) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| (error.position().0, error.message().to_owned())).collect(),
    }
}

#[track_caller]
fn refuses(tables: &str, line: usize, part: &str) {
    let found = refused(tables);
    assert!(matches!(&found[..], [(at, message)] if *at == line && message.contains(part)), "{found:#?}");
}

#[test]
fn missing_keys_do_not_limit_anything() {
    assert_eq!(refused(""), []);
    let same = "[permissions]\nprocess = ['cargo']\nread = ['src']\nwrite = ['target']\nnet = ['*.io', 'ghcr.io']\n\
                secrets = ['token']\n[limits]\nprocesses = 8\nmemory = '1GiB'\n";
    assert_eq!(refused(same), []);
}

#[test]
fn excessive_grants_and_limits_are_rejected_at_their_place() {
    refuses("permissions.process = []", 11, "`build` may start `cargo` with any arguments");
    refuses("permissions.process = ['cargo test *']", 11, "start `cargo` with any arguments");
    refuses("permissions.read = ['src/a', 'target']", 12, "read `src`");
    refuses("permissions.net = ['https://ghcr.io:1']", 14, "call https://ghcr.io");
    refuses("permissions.secrets = ['token:env']", 15, "use the secret `token`");
    refuses("secret-sources = ['vault']", 6, "comes from `env:TOKEN`");
    refuses("limits.processes = 7", 9, "the limit `processes` to 8, but the policy allows at most 7");
    refuses("limits.memory = '512MiB'", 18, "the limit `memory` to 1GiB");
}

#[test]
fn rules_for_a_plugin_replace_the_general_ones() {
    let general = "[permissions]\nprocess = []\n";
    assert_eq!(refused(&format!("{general}[plugins.exec]\nprocess = ['cargo']\n")), []);
    assert_eq!(refused(&format!("{general}[plugins.'sha256:build']\nprocess = ['cargo']\n")), []);
    // A digest takes precedence over a name, and the general rules apply to keys that a plugin's table doesn't have.
    refuses(
        &format!("{general}[plugins.exec]\nprocess = ['*']\n[plugins.'sha256:build']\nprocess = ['x']\n"),
        11,
        "cargo",
    );
    refuses(&format!("{general}[plugins.exec]\nread = ['.']\n"), 11, "cargo");
    refuses(&format!("{general}[plugins.noop]\nprocess = ['*']\n"), 11, "cargo");
}

#[test]
fn configured_package_origins_are_limited() {
    let text = file(&PIPELINE.replace("'https://ghcr.io'", "'x'").replace("\"https://ghcr.io\"", "\"npm\""));
    let plan = plan(&text);
    let mirror = |by| PackageOrigin {
        manager: PackageManager::Npm,
        origin: Origin::of_url("https://npm.acme.example/a").expect("an origin"),
        by,
        place: ".npmrc:3".to_owned(),
    };
    let check = |tables: &str, packages: &[PackageOrigin]| {
        let digests = vec![String::new(); plan.stages.len()];
        policy(tables).check_packages(&plan, "stagewright.toml", &text, &digests, packages)
    };
    for by in [NamedBy::Repository, NamedBy::Machine] {
        let mirror = [mirror(by)];
        let allowing = [
            "",
            "[permissions]\nprocess = []",
            "[permissions]\nnet = ['npm', '*.acme.example']",
            "package-hosts = ['https://npm.acme.example']\n[permissions]\nnet = ['npm']",
            "[permissions]\nnet = []\n[plugins.exec]\nnet = ['npm', 'npm.acme.example']",
        ];
        for tables in allowing {
            assert!(check(tables, &mirror).is_ok(), "{tables}");
        }
        for tables in
            ["[permissions]\nnet = ['npm']", "package-hosts = []", "package-hosts = ['http://npm.acme.example']"]
        {
            let errors = check(tables, &mirror).expect_err("it is beyond");
            let error = errors.iter().next().expect("an error");
            assert_eq!((error.position().0, error.code()), (14, "stagewright::beyond-policy"), "{tables}");
            assert!(error.message().contains("https://npm.acme.example, which .npmrc:3 sets for `npm`"), "{error}");
        }
    }
    let cargo = PackageOrigin { manager: PackageManager::Cargo, ..mirror(NamedBy::Machine) };
    assert!(check("package-hosts = []", &[cargo]).is_ok(), "no stage has `cargo` in `net`");
}

#[test]
fn native_libraries_can_be_forbidden() {
    let text =
        file(&format!("[stages.a]\nuses = 'path:a.so'\ntrust = 'native'\ndigest = 'sha256:{}'\n", "0".repeat(64)));
    let plan = plan(&text);
    let check = |tables| policy(tables).check(&plan, "x.toml", &text, &[String::new()]);
    assert!(check("native = true").is_ok());
    insta::assert_snapshot!(render(&check("native = false").expect_err("it is native")));
}

#[test]
fn error_names_both_files_and_the_remedy() {
    let text = file(PIPELINE);
    let plan = plan(&text);
    let digests = vec![String::new(); plan.stages.len()];
    let policy = policy("# Ours.\n[permissions]\nprocess = ['git fetch *', 'make']\n[limits]\nmemory = '1MB'\n");
    let errors = policy.check(&plan, "stagewright.toml", &text, &digests).expect_err("it asks for more");
    insta::assert_snapshot!(render(&errors));
}

#[test]
fn missing_limits_are_set_to_those_of_the_policy() {
    let mut plan = plan(&file(PIPELINE));
    let defaults = Bounds { memory: Some(256 << 20), log_limit: Some(64 << 20), ..Bounds::default() };
    policy("[limits]\nmemory = '4GiB'\nlog-limit = '1MiB'\ntimeout = '1h'\nprocesses = 100\n")
        .impose(&mut plan, &defaults);
    let (build, report) = (&plan.stages[0], &plan.stages[1]);
    assert_eq!((build.memory, build.log_limit), (Some(256 << 20), Some(1 << 20)), "the smaller of policy and default");
    assert_eq!((build.timeout, build.limits.processes), (Some(Duration::from_secs(3600)), Some(8)));
    assert_eq!((report.memory, report.limits.processes), (Some(1 << 30), Some(100)));
}

#[test]
fn policy_can_require_the_sandbox_but_not_relax_it() {
    let loose = file(PIPELINE).replace("pipeline.name", "pipeline.sandbox = 'preferred'\npipeline.name");
    let imposed = |tables: &str, text: &str| {
        let mut plan = plan(text);
        policy(tables).impose(&mut plan, &Bounds::default());
        plan.sandbox
    };
    assert_eq!(imposed("sandbox = 'required'", &loose), Sandbox::Required);
    assert_eq!(imposed("", &loose), Sandbox::Preferred);
    assert_eq!(imposed("sandbox = 'preferred'", &file(PIPELINE)), Sandbox::Required);
}

#[test]
fn mistakes_in_a_policy_are_located() {
    let text = "schema = 1\nsandbox = 'always'\n[permissions]\nproces = []\nnet = 'x'\nread = ['/etc']\n[limits]\nprocesses = 0\n[plugins]\ndeploy = 1\n";
    let errors = OperatorPolicy::parse("/etc/policy.toml", text).expect_err("it is full of mistakes");
    let found: Vec<_> = errors.iter().map(|error: &Diagnostic| (error.code(), error.position().0)).collect();
    let expected = [
        ("bad-choice", 2),
        ("unknown-key", 4),
        ("wrong-type", 5),
        ("bad-path", 6),
        ("out-of-range", 8),
        ("wrong-type", 10),
    ];
    assert_eq!(found, expected.map(|(code, line)| (format!("stagewright::{code}").leak() as &str, line)));
    let empty = OperatorPolicy::parse("p", "").expect_err("it has no schema");
    assert_eq!(
        empty.iter().next().map(|error| error.message().to_owned()),
        Some("the policy lacks the key `schema`".to_owned())
    );
}

/// An entry that is silently ignored would grant less than its author thinks, or make a policy stricter or laxer.
#[test]
fn invalid_entry_of_each_permission_is_reported() {
    for key in Permission::ALL.map(Permission::key) {
        let lines = |errors: stagewright_model::Diagnostics| {
            errors.iter().map(|error: &Diagnostic| error.position().0).collect::<Vec<_>>()
        };
        let policy = format!("schema = 1\n[permissions]\n{key} = ['']\n");
        assert_eq!(lines(OperatorPolicy::parse("p", &policy).expect_err(key)), [3], "{key}");
        let pipeline = file(&format!("[stages.a]\nuses = 'noop'\n[stages.a.permissions]\n{key} = ['']\n"));
        assert_eq!(lines(errors(&pipeline)), [7], "{key}");
    }
}

#[test]
fn entries_of_sets_and_defaults_are_rejected_where_the_file_names_them() {
    let pipeline = "[permission-sets.api]\nnet = ['https://api.example.org']\n[defaults]\ntimeout = '2h'\n[defaults.permissions]\n\
                    use = ['api', 'rust']\n[stages.a]\nuses = 'noop'\n";
    let text = file(pipeline);
    let line = |part: &str| text.lines().position(|line| line.contains(part)).expect("the line") + 1;
    for (limits, place) in [
        ("[permissions]\nnet = ['cargo']\n", "net = ["),
        ("[permissions]\nprocess = ['sh']\n", "use = ["),
        ("[limits]\ntimeout = '1h'\n", "timeout ="),
    ] {
        let found = policy(limits).check(&plan(&text), "stagewright.toml", &text, &["sha256:a".to_owned()]);
        let lines: Vec<usize> = found.expect_err("refused").iter().map(|error| error.position().0).collect();
        assert_eq!(lines, [line(place)], "{limits}");
    }
}

#[test]
fn a_policy_with_a_sandbox_forbids_to_switch_it_off() {
    let text = file("[stages.a]\nuses = 'exec'\nsandbox = 'off'\npermissions = { process = ['make'] }\n");
    let line = text.lines().position(|line| line.starts_with("sandbox")).expect("the line") + 1;
    let check = |tables: &str| policy(tables).check(&plan(&text), "stagewright.toml", &text, &["sha256:a".to_owned()]);
    assert!(check("").is_ok());
    for tables in ["sandbox = 'required'\n", "sandbox = 'preferred'\n"] {
        let errors = check(tables).expect_err("refused");
        let found: Vec<_> = errors.iter().map(|error| (error.position().0, error.message().to_owned())).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, line);
        assert!(found[0].1.contains("`a` run without a sandbox"), "{found:?}");
    }
}
