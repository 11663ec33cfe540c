use jiff::civil::{Date, date};
use rustsec::Lockfile;

use crate::advisories::{self, Matches};
use crate::config::{Config, Ignore, Licenses, Sources};
use crate::database::Database;
use crate::finding::{Finding, Kind};
use crate::{licenses, policy, yanked};

const TODAY: Date = date(2099, 6, 1);
pub(crate) const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) const ADVISORIES: [(&str, &str); 3] = [
    (
        "crates/leaky-jar/RUSTSEC-2099-0001.md",
        include_str!("../../tests/advisories/crates/leaky-jar/RUSTSEC-2099-0001.md"),
    ),
    (
        "crates/dusty-shelf/RUSTSEC-2099-0002.md",
        include_str!("../../tests/advisories/crates/dusty-shelf/RUSTSEC-2099-0002.md"),
    ),
    (
        "crates/retracted/RUSTSEC-2099-0003.md",
        include_str!("../../tests/advisories/crates/retracted/RUSTSEC-2099-0003.md"),
    ),
];

/// A lock file with packages given as name, version and source. The source is empty for a package of the workspace.
pub(crate) fn lock_text(packages: &[(&str, &str, &str)]) -> String {
    let mut text = "version = 4\n".to_owned();
    for (name, version, source) in packages {
        text += &format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        if !source.is_empty() {
            text += &format!("source = \"{source}\"\n");
        }
    }
    text
}

fn lockfile(packages: &[(&str, &str, &str)]) -> Lockfile {
    lock_text(packages).parse().unwrap()
}

fn database() -> Database {
    let mut database = Database::default();
    for (path, text) in ADVISORIES {
        database.add(path, text).unwrap();
    }
    database
}

fn check(packages: &[(&str, &str, &str)], ignore: &[Ignore]) -> Matches {
    advisories::check(&lockfile(packages), &database(), ignore, false, TODAY)
}

fn codes(findings: &[Finding]) -> Vec<(&str, &str, bool)> {
    findings.iter().map(|finding| (finding.code.as_str(), finding.version.as_str(), finding.deny)).collect()
}

fn ignore(id: &str, expires: Option<Date>) -> Ignore {
    Ignore { id: id.parse().unwrap(), reason: "only reached in tests".to_owned(), expires }
}

#[test]
fn a_version_is_affected_unless_patched_or_unaffected() {
    let cases = [
        ("1.1.9", false),
        ("1.2.0", true),
        ("1.3.8", true),
        ("1.3.9", false),
        ("1.4.0", true),
        ("1.4.2", false),
        ("2.0.0", false),
    ];
    for (version, affected) in cases {
        let matches = check(&[("leaky-jar", version, CRATES_IO)], &[]);
        assert_eq!(matches.findings.len(), usize::from(affected), "{version}");
    }
    let matches = check(&[("leaky-jar", "1.2.0", CRATES_IO)], &[]);
    let finding = &matches.findings[0];
    assert_eq!((finding.kind, finding.code.as_str(), finding.deny), (Kind::Vulnerability, "RUSTSEC-2099-0001", true));
    assert_eq!(finding.message, "leaky-jar 1.2.0: Lids come off under load (high)");
    assert_eq!(finding.patched, [">=1.4.2", ">=1.3.9, <1.4.0"]);
    assert_eq!(finding.url.as_deref(), Some("https://rustsec.org/advisories/RUSTSEC-2099-0001"));
}

#[test]
fn only_crates_of_the_advisorys_registry_are_affected() {
    let matches = check(
        &[
            ("leaky-jar", "1.2.0", ""),
            ("leaky-jar", "1.2.1", "git+https://example.org/leaky-jar#0123456789abcdef0123456789abcdef01234567"),
            ("leaky-jar", "1.2.2", "registry+https://example.org/index"),
            ("leaky-jar", "1.2.3", "sparse+https://example.org/index/"),
            ("leaky-jar", "1.2.4", CRATES_IO),
        ],
        &[],
    );
    assert_eq!(codes(&matches.findings), [("RUSTSEC-2099-0001", "1.2.4", true)]);
}

#[test]
fn informational_advisories_warn_unless_denied_and_withdrawn_ones_are_ignored() {
    let packages = [("dusty-shelf", "0.1.0", CRATES_IO), ("retracted", "1.0.0", CRATES_IO)];
    assert_eq!(codes(&check(&packages, &[]).findings), [("RUSTSEC-2099-0002", "0.1.0", false)]);
    let denied = advisories::check(&lockfile(&packages), &database(), &[], true, TODAY);
    assert_eq!(codes(&denied.findings), [("RUSTSEC-2099-0002", "0.1.0", true)]);
    assert!(denied.findings[0].message.contains("[unmaintained] This shelf"), "{}", denied.findings[0].message);
}

#[test]
fn an_ignore_entry_holds_through_its_last_day() {
    let packages = [("leaky-jar", "1.2.0", CRATES_IO)];
    for expires in [None, Some(TODAY), TODAY.tomorrow().ok()] {
        let matches = check(&packages, &[ignore("RUSTSEC-2099-0001", expires)]);
        assert_eq!(matches.findings, [], "{expires:?}");
        assert_eq!(matches.ignored, [("RUSTSEC-2099-0001".to_owned(), "only reached in tests".to_owned())]);
    }
    let matches = check(&packages, &[ignore("RUSTSEC-2099-0001", TODAY.yesterday().ok())]);
    assert_eq!(codes(&matches.findings), [("RUSTSEC-2099-0001", "1.2.0", true), ("ignore-expired", "", true)]);
    assert!(matches.ignored.is_empty());
}

#[test]
fn an_unused_ignore_entry_warns_and_an_expired_one_fails() {
    let entries = [ignore("RUSTSEC-2099-0001", None), ignore("RUSTSEC-2099-0002", TODAY.yesterday().ok())];
    let matches = check(&[("other", "1.0.0", CRATES_IO)], &entries);
    assert_eq!(codes(&matches.findings), [("ignore-unused", "", false), ("ignore-expired", "", true)]);
}

#[test]
fn a_database_refuses_advisories_that_do_not_parse_or_are_misplaced() {
    let mut database = Database::default();
    let (path, text) = ADVISORIES[0];
    assert!(
        database
            .add("crates/leaky-jar/RUSTSEC-2099-0009.md", text)
            .unwrap_err()
            .contains("belongs in crates/leaky-jar")
    );
    assert!(database.add("crates/other/RUSTSEC-2099-0001.md", text).is_err());
    assert!(database.add(path, "# no front matter").unwrap_err().starts_with(path));
    database.add("rust/std/RUSTSEC-2099-0001.md", "not an advisory of a crate").unwrap();
    database.add("README.md", "not an advisory").unwrap();
    assert_eq!(database.len(), 0);
}

pub(crate) fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_tarballs_top_folder_may_have_any_name_and_damage_is_detected() {
    let files: Vec<(String, &str)> = ADVISORIES.iter().map(|(path, text)| (format!("db-main/{path}"), *text)).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let bytes = tarball(&files);
    assert_eq!(Database::from_tarball(bytes.as_slice()).unwrap().len(), 3);

    for length in [bytes.len() / 2, bytes.len() - 1] {
        assert!(Database::from_tarball(&bytes[..length]).is_err(), "cut to {length}");
    }
    let mut flipped = bytes.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    assert!(Database::from_tarball(flipped.as_slice()).unwrap_err().contains("damaged"));
    assert!(Database::from_tarball(&b"<html>not found</html>"[..]).is_err());
    let broken = tarball(&[("crates/leaky-jar/RUSTSEC-2099-0001.md", "not an advisory")]);
    assert!(Database::from_tarball(broken.as_slice()).unwrap_err().contains("crates/leaky-jar"));
}

#[test]
fn sources_are_covered_up_to_a_separator() {
    let lockfile = lockfile(&[
        ("mine", "0.1.0", ""),
        ("a", "1.0.0", CRATES_IO),
        ("b", "1.0.0", "git+https://example.org/acme/b?branch=main#0123456789abcdef0123456789abcdef01234567"),
        ("c", "1.0.0", "git+https://example.org/acme-evil/c#0123456789abcdef0123456789abcdef01234567"),
    ]);
    let denied = |allow: &[&str]| -> Vec<String> {
        let sources = Sources { allow: allow.iter().map(ToString::to_string).collect() };
        policy::check_sources(&lockfile, &sources).into_iter().map(|finding| finding.package).collect()
    };
    assert_eq!(denied(&["crates-io"]), ["b", "c"]);
    assert_eq!(denied(&["crates-io", "git+https://example.org/acme"]), ["c"]);
    assert_eq!(denied(&["git+https://example.org/acme/b"]), ["a", "c"]);
    assert_eq!(denied(&["git+https://example.org/acme-evil/"]), ["a", "b"]);
}

#[test]
fn crates_are_denied_by_name_and_version() {
    let config: Config = serde_json::from_str(
        r#"{ "database": "path:db", "deny-crates": [
            { "name": "openssl", "reason": "we use rustls" },
            { "name": "left", "version": "<2", "reason": "slow" } ] }"#,
    )
    .unwrap();
    let lockfile =
        lockfile(&[("openssl", "0.10.1", CRATES_IO), ("left", "1.9.0", CRATES_IO), ("left", "2.0.0", CRATES_IO)]);
    let findings = policy::check_denied(&lockfile, &config.deny_crates);
    assert_eq!(codes(&findings), [("crate-denied", "0.10.1", true), ("crate-denied", "1.9.0", true)]);
    assert!(findings[0].message.ends_with("we use rustls"));
}

#[test]
fn licenses_are_evaluated_and_missing_ones_denied() {
    let lockfile = lockfile(&[
        ("mine", "0.1.0", ""),
        ("either", "1.0.0", CRATES_IO),
        ("both", "1.0.0", CRATES_IO),
        ("old-style", "1.0.0", CRATES_IO),
        ("copyleft", "1.0.0", CRATES_IO),
        ("none", "1.0.0", CRATES_IO),
        ("nonsense", "1.0.0", CRATES_IO),
        ("absent", "1.0.0", CRATES_IO),
    ]);
    let metadata = br#"{ "packages": [
        { "name": "either", "version": "1.0.0", "license": "MIT OR GPL-3.0-only" },
        { "name": "both", "version": "1.0.0", "license": "MIT AND ISC" },
        { "name": "old-style", "version": "1.0.0", "license": "MIT/Apache-2.0" },
        { "name": "copyleft", "version": "1.0.0", "license": "GPL-3.0-only" },
        { "name": "none", "version": "1.0.0", "license": null },
        { "name": "nonsense", "version": "1.0.0", "license": "do what you like" } ] }"#;
    let manifests = licenses::from_metadata(metadata).unwrap();
    let found = |json: &str| -> Vec<String> {
        let licenses: Licenses = serde_json::from_str(json).unwrap();
        licenses::check(&lockfile, &manifests, &licenses).into_iter().map(|finding| finding.package).collect()
    };
    assert_eq!(found(r#"{ "allow": ["MIT"] }"#), ["both", "copyleft", "none", "nonsense", "absent"]);
    assert_eq!(
        found(r#"{ "allow": ["MIT", "ISC"], "exceptions": { "copyleft": ["GPL-3.0-only"], "none": ["MIT"] } }"#),
        ["none", "nonsense", "absent"]
    );
    assert!(licenses::from_metadata(b"error: no such command").is_err());
}

#[test]
fn licences_are_read_from_vendored_manifests() {
    let mut manifests = licenses::Manifests::new();
    let text = "[package]\nname = \"a\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\n[dependencies]\nb = \"1\"\n";
    licenses::add_manifest(&mut manifests, "vendor/a/Cargo.toml", text).unwrap();
    assert_eq!(manifests[&("a".to_owned(), "1.0.0".to_owned())].as_deref(), Some("MIT"));
    let error = licenses::add_manifest(&mut manifests, "vendor/b/Cargo.toml", "[workspace]").unwrap_err();
    assert!(error.starts_with("vendor/b/Cargo.toml"), "{error}");
}

#[test]
fn the_index_is_read_in_the_cargo_books_format() {
    for (name, path) in [("a", "1/a"), ("ab", "2/ab"), ("abc", "3/a/abc"), ("Serde_json", "se/rd/serde_json")] {
        assert_eq!(yanked::index_path(name), path);
    }
    let file =
        b"{\"name\":\"a\",\"vers\":\"1.0.0\",\"yanked\":false}\n{\"name\":\"a\",\"vers\":\"1.0.1\",\"yanked\":true}\n";
    assert_eq!(yanked::versions(file), Ok(vec![("1.0.0".to_owned(), false), ("1.0.1".to_owned(), true)]));
    assert!(yanked::versions(b"<html>").is_err());
}
