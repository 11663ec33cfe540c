//! Compares the table in docs/rehearsal.md with the list of ways out.

use stagewright_model::{InRehearsal, WayOut};

const DOCUMENT: &str = include_str!("../../../../docs/rehearsal.md");

/// The start of the row about a way out. A new way out doesn't compile without one.
fn row(way: WayOut) -> &'static str {
    match way {
        WayOut::Connection | WayOut::ProxiedCredential | WayOut::Socket | WayOut::Variable | WayOut::CredentialFile => {
            "a program that may reach further"
        }
        WayOut::Request => "an HTTP request of a plugin",
        WayOut::Credential => "a request of a plugin that the host signs",
        WayOut::RemoteCommand => "a command of a plugin on a host",
        WayOut::Secret | WayOut::SecretSource => "a secret",
        WayOut::Image => "a push to a registry",
        WayOut::Service => "a service of the `process` target",
        WayOut::Environment => "an environment",
        WayOut::UnsandboxedProgram => "programs of a stage with `sandbox = \"off\"`",
        WayOut::NativeCode => "a native plugin",
        WayOut::SharedCache => "the cache that machines share",
        WayOut::PackageHosts => "programs that fetch packages",
        WayOut::PluginPull => "plugins that aren't on this machine yet",
    }
}

#[test]
fn documented_table_matches_the_list() {
    let rows: Vec<Vec<&str>> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| way out"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for way in WayOut::ALL {
        let found: Vec<_> = rows.iter().filter(|row| row[0].starts_with(self::row(way))).collect();
        let [row] = &found[..] else { panic!("{way:?}: {} rows", found.len()) };
        let opened = row.get(2).copied().unwrap_or_default();
        match way.opened_by() {
            Some(key) => assert!(opened.contains(&format!("`{}`", key.key())), "{way:?} is opened by `{}`", key.key()),
            None => assert!(opened.trim_matches('|').trim().is_empty(), "{way:?} is opened by nothing: {opened}"),
        }
        let words: &[&str] = match way.in_rehearsal() {
            InRehearsal::StandIn(_) => &["stand-in", "a registry in the state folder", "one of this rehearsal alone"],
            InRehearsal::Withheld => &["isn't started", "aren't started", "isn't sent", "isn't called", "isn't run"],
            InRehearsal::Closed => &["neither read nor written", "its source isn't asked"],
            InRehearsal::Open(_) => &["do so, without credentials;", "are pulled by digest, without credentials"],
        };
        assert!(words.iter().any(|words| row[1].contains(words)), "{way:?}: {}", row[1]);
    }
    let documented = rows.iter().filter(|row| WayOut::ALL.iter().any(|&way| row[0].starts_with(self::row(way))));
    assert_eq!(documented.count(), rows.len(), "a row is about something else");
}
