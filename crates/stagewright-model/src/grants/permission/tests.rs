use globset::GlobBuilder;
use proptest::prelude::*;

use super::*;

fn granted(kind: Permission, entry: &str) -> Permissions {
    let mut permissions = Permissions::default();
    permissions.insert(kind, entry).unwrap_or_else(|error| panic!("{entry} {error}"));
    permissions
}

fn is_within(kind: Permission, entry: &str, rule: &str) -> bool {
    granted(kind, entry).is_within(&granted(kind, rule))
}

#[track_caller]
fn check(kind: Permission, rule: &str, within: &[&str], beyond: &[&str]) {
    for entry in within {
        assert!(is_within(kind, entry, rule), "{entry} is within {rule}");
    }
    for entry in beyond {
        assert!(!is_within(kind, entry, rule), "{entry} is beyond {rule}");
    }
}

#[test]
fn path_is_within_its_parent_folders() {
    check(Permission::Read, ".", &["./", "a/**", "{a,b}", "**/x"], &[]);
    check(
        Permission::Write,
        "target",
        &["./target/", "target/a", "target/**/x", "target/[ab]"],
        &["targets", "t*", "."],
    );
    check(
        Permission::Read,
        "crates/*/src",
        &["crates/a/src", "crates/a/src/b", "crates/x*/src"],
        &["crates/**", "crates/*", "crates/a"],
    );
    check(Permission::Read, "**/*.lock", &["Cargo.lock", "a/b.lock", "a/b.lock/c", "**/*.lock"], &["**/a*", "**", "a"]);
    check(Permission::Read, "docs/**", &["docs/a", "docs/**/b", "docs/a/{b,c}"], &["docs", "{docs,src}/a"]);
    check(Permission::Read, "{a,b}", &["a", "b/c"], &["c", "*"]);
}

#[test]
fn origin_is_within_by_scheme_host_and_port() {
    check(
        Permission::Net,
        "example.org",
        &["https://EXAMPLE.org:443/"],
        &["http://example.org", "example.org:*", "a.example.org"],
    );
    check(
        Permission::Net,
        "https://*.b.c:*",
        &["a.b.c", "https://*.x.b.c:8443"],
        &["b.c", "*.c", "tcp://a.b.c:443", "xb.c"],
    );
    check(
        Permission::Net,
        "http://127.0.0.1:*",
        &["http://127.0.0.1:80"],
        &["https://127.0.0.1", "http://127.0.0.1.d:80"],
    );
    check(Permission::Net, "tcp://db:5432", &["tcp://db:5432"], &["tcp://db:*", "tcp://db:1", "db:5432"]);
    check(Permission::Net, "cargo", &["cargo"], &["https://index.crates.io", "npm", "https://cargo"]);
    check(Permission::Net, "https://cargo", &["https://cargo:443"], &["cargo"]);
}

#[test]
fn other_permissions_are_compared_by_their_own_rules() {
    check(Permission::Process, "git fetch *", &["git fetch origin"], &["git", "git fetch -x", "*"]);
    check(
        Permission::Registry,
        "ghcr.io/acme/*",
        &["ghcr.io/acme/a", "ghcr.io/acme/a*", "ghcr.io/acme/*/x"],
        &["ghcr.io/*", "ghcr.io/acmes/a"],
    );
    check(Permission::Registry, "ghcr.io/[ab]/x", &["ghcr.io/a/x"], &["ghcr.io/c/x", "ghcr.io/?/x"]);
    check(Permission::Secrets, "token", &["token:env", "token:header"], &["tokens", "token:proxy"]);
    check(Permission::Secrets, "token:env", &["token:env"], &["token", "token:header"]);
    check(Permission::Socket, "docker", &["docker"], &["/var/run/docker.sock"]);
    check(Permission::Env, "A", &["A"], &["B", "AB"]);
}

#[test]
fn write_includes_read() {
    let writer = granted(Permission::Write, "target");
    let reader = granted(Permission::Read, "target/a");
    assert!(reader.is_within(&writer) && !writer.is_within(&reader));
    assert_eq!(writer.beyond(&reader), [Grant::Write(&writer.write[0])]);
}

const PATTERNS: [&str; 16] = [
    ".", "a", "a/b", "a/*", "a/**", "*", "**", "**/b", "*/b", "a/**/b", "?", "a/b*", "{a,b}/b", "a/[bc]", "ab", "a/b/c",
];

/// Decides like the plugin host: the path itself or a folder that contains it must match.
fn grants(rule: &str, path: &str) -> bool {
    let glob = GlobBuilder::new(rule).literal_separator(true).build().unwrap().compile_matcher();
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    rule == "." || ends.into_iter().any(|end| glob.is_match(&path[..end]))
}

proptest! {
    #[test]
    fn path_rule_within_another_grants_nothing_more(
        narrow in prop::sample::select(&PATTERNS[..]),
        wide in prop::sample::select(&PATTERNS[..]),
        path in "[abc]{1,2}(/[abc]{1,2}){0,3}",
    ) {
        if is_within(Permission::Read, narrow, wide) && grants(narrow, &path) {
            prop_assert!(grants(wide, &path), "{narrow} is not within {wide}: {path}");
        }
    }

    #[test]
    fn repository_rule_within_another_grants_nothing_more(
        narrow in "[ab*?]{1,2}/[ab*?/]{1,3}",
        wide in "[ab*?]{1,2}/[ab*?/]{1,3}",
        name in "[ab]{1,2}/[ab/]{1,4}",
    ) {
        let matches = |rule: &str| globset::Glob::new(rule).is_ok_and(|glob| glob.compile_matcher().is_match(&name));
        let parses = [&narrow, &wide].into_iter().all(|rule| RepositoryRule::parse(rule).is_ok());
        if parses && is_within(Permission::Registry, &narrow, &wide) && matches(&narrow) {
            prop_assert!(matches(&wide), "{narrow} is not within {wide}: {name}");
        }
    }
}

#[test]
fn within_is_reflexive_and_transitive() {
    let within = |a: &str, b: &str| is_within(Permission::Read, a, b);
    for (a, b, c) in PATTERNS.iter().flat_map(|a| PATTERNS.iter().flat_map(move |b| PATTERNS.map(|c| (a, b, c)))) {
        assert!(within(a, a), "{a}");
        // With wildcards the comparison may answer no although a rule is within another, so transitivity can't be
        // required. That it never answers yes wrongly is tested above.
        assert!(!(within(a, b) && within(b, c)) || within(a, c) || a.contains(['*', '{', '[', '?']), "{a} < {b} < {c}");
    }
}
