use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, Report};
use stagewright_sdk::{Error, ErrorCode, Outcome, Permission, Position, Result, Severity};

use super::checks::{ADVISORIES, CRATES_IO, lock_text, tarball};
use crate::Audit;

const CLEAN: [(&str, &str, &str); 2] = [("mine", "0.1.0", ""), ("sound", "1.0.0", CRATES_IO)];
const LEAKY: [(&str, &str, &str); 2] = [("leaky-jar", "1.2.0", CRATES_IO), ("dusty-shelf", "0.1.0", CRATES_IO)];
const TARBALL: &str = "https://example.org/db.tar.gz";

fn host(packages: &[(&str, &str, &str)], with: Json) -> FakeHost {
    let mut config = json!({ "database": "path:advisories", "yanked": "off" });
    if let (Json::Object(config), Json::Object(with)) = (&mut config, with) {
        config.extend(with);
    }
    let host = FakeHost::new().config(config).file("Cargo.lock", lock_text(packages));
    ADVISORIES.iter().fold(host, |host, (path, text)| host.file(&format!("advisories/{path}"), *text))
}

fn run(packages: &[(&str, &str, &str)], with: Json) -> Report<Result<Outcome>> {
    host(packages, with).run::<Audit>()
}

fn codes<T>(report: &Report<T>) -> Vec<(Severity, &str)> {
    report.findings.iter().map(|finding| (finding.severity, finding.rule.as_str())).collect()
}

#[test]
fn a_clean_lock_file_passes_and_the_summary_counts_the_advisories() {
    let report = run(&CLEAN, json!({}));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["advisories"], 3);
    assert_eq!(report.outputs["vulnerabilities"], 0);
    assert_eq!(report.outputs["complete"], true);
    assert!(report.summaries[0].contains("2 packages against 3 advisories"), "{}", report.summaries[0]);
}

#[test]
fn a_vulnerability_fails_the_stage_and_suggests_an_update() {
    let report = run(&LEAKY, json!({}));
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.message, "1 problem in Cargo.lock");
    assert_eq!(error.causes, ["RUSTSEC-2099-0001: leaky-jar 1.2.0: Lids come off under load (high)"]);
    assert!(!error.is_retryable());
    assert_eq!(codes(&report), [(Severity::Error, "RUSTSEC-2099-0001"), (Severity::Warning, "RUSTSEC-2099-0002")]);
    let help = report.findings[0].help.as_deref().unwrap();
    assert!(help.contains("cargo update -p leaky-jar@1.2.0 --precise 1.3.9`") && help.contains(">=1.4.2"), "{help}");
    assert_eq!(report.findings[0].file.as_deref(), Some("Cargo.lock"));
    assert_eq!(report.findings[0].range, Some((Position::line(4), None)), "the line of its name");
    let found = &report.outputs["findings"][0];
    assert_eq!(found["patched"], json!([">=1.4.2", ">=1.3.9, <1.4.0"]));
    assert_eq!(found["kind"], "vulnerability");
    assert!(report.summaries[0].contains("| error | [RUSTSEC-2099-0001]("), "{}", report.summaries[0]);
}

#[test]
fn an_empty_or_unreadable_database_fails_the_stage() {
    let report = run(&CLEAN, json!({ "database": "path:elsewhere" }));
    let error = report.result.unwrap_err();
    assert!(error.message.contains("has no advisories"), "{error}");
    let broken = host(&CLEAN, json!({})).file("advisories/crates/sound/RUSTSEC-2099-0004.md", "not an advisory");
    let error = broken.run::<Audit>().result.unwrap_err();
    assert!(error.message.contains("crates/sound/RUSTSEC-2099-0004.md"), "{error}");
}

#[test]
fn ignore_entries_expire_by_the_date_of_the_run() {
    let with = json!({ "ignore": [{ "id": "RUSTSEC-2099-0001", "reason": "not reached", "expires": "2027-01-31" }] });
    // 2027-01-31T23:59:59Z, and a second later.
    for (second, passes) in [(1_801_439_999, true), (1_801_440_000, false)] {
        let report = host(&LEAKY, with.clone()).now(Duration::from_secs(second)).run::<Audit>();
        assert_eq!(report.result.is_ok(), passes, "{second}");
        assert_eq!(report.outputs["ignored"], u32::from(passes));
    }
}

#[test]
fn the_database_can_be_fetched_over_http() {
    let files: Vec<(String, &str)> = ADVISORIES.iter().map(|(path, text)| (format!("db-main/{path}"), *text)).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let host = host(&LEAKY, json!({ "database": TARBALL })).http(HttpScript::get(TARBALL).body(tarball(&files)));
    let report = host.run::<Audit>();
    assert_eq!(report.outputs["advisories"], 3);
    assert!(report.result.is_err());
}

#[test]
fn an_unreachable_database_fails_unless_configured_to_warn() {
    let gone = || HttpScript::get(TARBALL).error(Error::new(ErrorCode::Unavailable, "connection refused"));
    let late = || HttpScript::get(TARBALL).status(503);
    for script in [gone(), late()] {
        let with = json!({ "database": TARBALL });
        let error = host(&CLEAN, with.clone()).http(script.clone()).run::<Audit>().result.unwrap_err();
        assert!(error.is_retryable() && error.message.starts_with("no advisory was checked"), "{error:?}");

        let mut with = with;
        with["unreachable"] = json!("warn");
        let report = host(&CLEAN, with).http(script).run::<Audit>();
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        assert_eq!(codes(&report), [(Severity::Warning, "unreachable")]);
        assert_eq!(report.outputs["complete"], false);
        assert!(report.summaries[0].contains("Incomplete"), "{}", report.summaries[0]);
    }
}

#[test]
fn a_refused_request_does_not_count_as_unreachable() {
    let with = json!({ "database": TARBALL, "unreachable": "warn" });
    let error = host(&CLEAN, with.clone()).deny(Permission::Net, TARBALL).run::<Audit>().result.unwrap_err();
    assert!(error.is_denied());
    let error =
        host(&CLEAN, with.clone()).http(HttpScript::get(TARBALL).status(404)).run::<Audit>().result.unwrap_err();
    assert!(error.message.contains("does not exist"), "{error}");
    let page = HttpScript::get(TARBALL).body("<html>sign in</html>");
    assert!(host(&CLEAN, with).http(page).run::<Audit>().result.is_err());
}

#[test]
fn yanked_versions_are_looked_up_once_per_crate() {
    let packages = [("sound", "1.0.0", CRATES_IO), ("sound", "1.1.0", CRATES_IO), ("mine", "0.1.0", "")];
    let url = "https://index.example.org/so/un/sound";
    let body = "{\"vers\":\"1.0.0\",\"yanked\":true}\n{\"vers\":\"1.1.0\",\"yanked\":false}\n";
    let with = |yanked: &str| json!({ "yanked": yanked, "index": "https://index.example.org/" });
    let report = host(&packages, with("warn")).http(HttpScript::get(url).body(body)).run::<Audit>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(codes(&report), [(Severity::Warning, "yanked")]);
    assert_eq!(report.sent.len(), 1);
    let help = report.findings[0].help.as_deref();
    assert_eq!(help, Some("run `cargo update -p sound@1.0.0 --precise 1.1.0`"));

    let report = host(&packages, with("error")).http(HttpScript::get(url).body(body)).run::<Audit>();
    assert!(report.result.unwrap_err().causes[0].contains("sound 1.0.0 was yanked"));
    let report = host(&packages, with("warn")).http(HttpScript::get(url).status(404)).run::<Audit>();
    assert_eq!(codes(&report), [(Severity::Warning, "not-in-index"), (Severity::Warning, "not-in-index")]);
    let error = host(&packages, with("warn")).deny(Permission::Net, url).run::<Audit>().result.unwrap_err();
    assert!(
        error.is_denied() && error.help.as_deref().is_some_and(|help| help.contains("yanked = \"off\"")),
        "{error:?}"
    );
}

#[test]
fn an_index_that_cannot_be_reached_is_an_error_or_a_warning() {
    let with = |unreachable: &str| json!({ "yanked": "warn", "index": "https://index.example.org", "unreachable": unreachable });
    let down = || HttpScript::get("https://index.example.org/so/un/sound").status(503);
    let report = host(&CLEAN, with("warn")).http(down()).run::<Audit>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(codes(&report), [(Severity::Warning, "unreachable")]);
    assert_eq!(report.findings[0].range, None, "it isn't about a crate");
    let error = host(&CLEAN, with("error")).http(down()).run::<Audit>().result.unwrap_err();
    assert!(error.is_retryable() && error.message.starts_with("yanked versions were not checked"), "{error:?}");
}

#[test]
fn licences_come_from_cargo_metadata_or_vendored_manifests() {
    let with = json!({ "lockfile": "sub/Cargo.lock", "licenses": { "allow": ["MIT"] } });
    let metadata = r#"{ "packages": [{ "name": "sound", "version": "1.0.0", "license": "GPL-3.0-only" }] }"#;
    let run_with = |script: ProcessScript| {
        host(&CLEAN, with.clone()).file("sub/Cargo.lock", lock_text(&CLEAN)).process(script).run::<Audit>()
    };
    let report = run_with(ProcessScript::new("cargo", ["metadata"]).stdout(metadata));
    assert!(report.result.unwrap_err().causes[0].contains("GPL-3.0-only"));
    assert_eq!(report.spawned[0].args, ["metadata", "--format-version", "1", "--locked", "--offline"]);
    assert_eq!(report.spawned[0].current_dir.as_deref(), Some("sub"));
    let failed = run_with(ProcessScript::new("cargo", ["metadata"]).stderr("error: no matching package\n").exit(101));
    let error = failed.result.unwrap_err();
    assert_eq!(error.causes, ["error: no matching package"]);

    let vendored = host(&CLEAN, json!({ "licenses": { "allow": ["MIT"], "manifests": "vendor/" } }))
        .file("vendor/sound/Cargo.toml", "[package]\nname = \"sound\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\n");
    assert_eq!(vendored.run::<Audit>().result, Ok(Outcome::Succeeded));
}

#[test]
fn configuration_errors_name_their_key() {
    let host = |with: Json| FakeHost::new().config(with).validate::<Audit>();
    let path = |with: Json| host(with).into_iter().map(|found| found.key.unwrap_or_default()).collect::<Vec<_>>();
    for database in ["advisories", "path:", "path:/", "path:/usr/share/advisories", "path:../advisories"] {
        assert_eq!(path(json!({ "database": database })), ["database"], "{database}");
    }
    assert_eq!(path(json!({ "database": "path:a", "lockfile": "/Cargo.lock" })), ["lockfile"]);
    let licenses = json!({ "allow": ["MIT"], "manifests": "../vendor" });
    assert_eq!(path(json!({ "database": "path:a", "licenses": licenses })), ["licenses.manifests"]);
    assert_eq!(
        path(json!({ "database": "path:a", "ignore": [{ "id": "RUSTSEC-2099-0001", "reason": " " }] })),
        ["ignore[0].reason"]
    );
    assert_eq!(path(json!({ "database": "path:a", "licenses": { "allow": ["MIT", "Beer"] } })), ["licenses.allow"]);
    assert_eq!(path(json!({ "database": "path:a" })), [""; 0]);
    assert_eq!(
        path(
            json!({ "database": "path:a", "ignore": [{ "id": "RUSTSEC-2099-0001", "reason": "x", "expires": "soon" }] })
        ),
        ["ignore[0].expires"]
    );
}

#[test]
fn describe_includes_the_configuration_schema() {
    let manifest = FakeHost::describe::<Audit>();
    assert_eq!(manifest["name"], "audit");
    assert!(manifest["config"]["properties"]["deny-crates"].is_object());
    assert_eq!(manifest["config"]["required"], json!(["database"]));
    let outputs = &manifest["outputs"];
    assert_eq!(outputs["additionalProperties"], false);
    assert_eq!(outputs["properties"]["vulnerabilities"]["type"], "integer");
    let package = &outputs["properties"]["findings"]["items"]["properties"]["package"];
    assert_eq!(package["type"], "string", "schemas of nested types are inlined");
}

#[test]
fn the_files_and_the_origins_of_the_configuration_are_required() {
    let entries = |with: Json| -> Vec<String> {
        let required = FakeHost::new().config(with).requirements::<Audit>().into_iter();
        required.map(|needed| format!("{} {}", needed.permission.key(), needed.entry)).collect()
    };
    let local = json!({ "database": "path:db", "yanked": "off", "licenses": { "allow": [], "manifests": "vendor" } });
    assert_eq!(entries(local), ["read Cargo.lock", "read db", "read vendor"]);
    let cargo = "process cargo metadata --format-version 1 --locked --offline";
    let remote = json!({ "database": TARBALL, "licenses": { "allow": [] } });
    let expected = ["read Cargo.lock", "net https://example.org", "net https://index.crates.io", cargo];
    assert_eq!(entries(remote), expected);
}
