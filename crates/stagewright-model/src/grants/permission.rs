//! The kinds of permissions: what each grants in words, and what is within what.

use globset::GlobBuilder;

use super::glob::{covers, glob_covers, pattern_of};
use super::{NetRule, PackageManager, Permissions, ProcessRule};

/// A key of `[stages.NAME.permissions]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// `process`
    Process,
    /// `read`
    Read,
    /// `write`
    Write,
    /// `net`
    Net,
    /// `secrets`
    Secrets,
    /// `reveal`
    Reveal,
    /// `registry`
    Registry,
    /// `service`
    Service,
    /// `socket`
    Socket,
    /// `env`
    Env,
}

impl Permission {
    /// In the order in which they are shown.
    pub const ALL: [Permission; 10] = [
        Permission::Process,
        Permission::Read,
        Permission::Write,
        Permission::Net,
        Permission::Secrets,
        Permission::Reveal,
        Permission::Registry,
        Permission::Service,
        Permission::Socket,
        Permission::Env,
    ];

    /// As it is written in TOML.
    pub fn key(self) -> &'static str {
        match self {
            Permission::Process => "process",
            Permission::Read => "read",
            Permission::Write => "write",
            Permission::Net => "net",
            Permission::Secrets => "secrets",
            Permission::Reveal => "reveal",
            Permission::Registry => "registry",
            Permission::Service => "service",
            Permission::Socket => "socket",
            Permission::Env => "env",
        }
    }

    /// What an entry allows, as it goes on after "may".
    pub fn phrase(self, entry: &str) -> String {
        // The sign that sets entries off must not end one before its end.
        let quoted = entry.replace('`', "\\u{60}");
        let entry = quoted.as_str();
        match self {
            Permission::Process => match ProcessRule::parse(entry) {
                Ok(rule) if rule.program().is_none() => "start any program".to_owned(),
                Ok(rule) if !rule.bounds_arguments() => format!("start `{entry}` with any arguments"),
                _ => format!("start `{entry}`"),
            },
            Permission::Read if is_root(entry) => "read the whole workspace".to_owned(),
            Permission::Write if is_root(entry) => "write the whole workspace".to_owned(),
            Permission::Read | Permission::Write => format!("{} `{entry}`", self.key()),
            Permission::Net if PackageManager::of(entry).is_some() => format!("call the package hosts of {entry}"),
            Permission::Net => format!("call {entry}"),
            Permission::Secrets => match entry.split_once(':') {
                Some((name, "env")) => format!("hand the secret `{name}` to programs"),
                Some((name, "header")) => format!("send the secret `{name}` in requests"),
                _ => format!("use the secret `{entry}`"),
            },
            Permission::Reveal => format!("read the value of the secret `{entry}`"),
            Permission::Registry => format!("push to the image repository `{entry}`"),
            Permission::Service => format!("run the service `{entry}`"),
            Permission::Socket => format!("connect to the socket `{entry}`"),
            Permission::Env => format!("hand the engine's variable `{entry}` to programs"),
        }
    }

    /// Whether all that `entry` allows is allowed by `granted`, a list of the same kind. What can't be decided counts as
    /// no.
    pub fn is_within(self, entry: &str, granted: &[impl AsRef<str>]) -> bool {
        granted.iter().map(AsRef::as_ref).any(|rule| rule == entry || self.rule_covers(rule, entry))
    }

    fn rule_covers(self, rule: &str, entry: &str) -> bool {
        match self {
            Permission::Process => match (ProcessRule::parse(rule), ProcessRule::parse(entry)) {
                (Ok(rule), Ok(entry)) => entry.is_within(&rule),
                _ => false,
            },
            Permission::Read | Permission::Write => path_covers(rule, entry),
            Permission::Net => {
                NetRule::parse(rule).is_ok_and(|rule| NetRule::parse(entry).is_ok_and(|entry| rule.covers(&entry)))
            }
            // A name alone is every use of the secret.
            Permission::Secrets => entry.split_once(':').is_some_and(|(name, _)| name == rule),
            Permission::Registry => repository_covers(rule, entry),
            Permission::Reveal | Permission::Service | Permission::Socket | Permission::Env => false,
        }
    }
}

impl Permissions {
    /// The entries of one kind, as they were written.
    pub fn of(&self, kind: Permission) -> Vec<&str> {
        let texts = match kind {
            Permission::Process => &self.process,
            Permission::Read => &self.read,
            Permission::Write => &self.write,
            Permission::Net => return self.net.iter().map(NetRule::as_str).collect(),
            Permission::Secrets => &self.secrets,
            Permission::Reveal => &self.reveal,
            Permission::Registry => &self.registry,
            Permission::Service => &self.service,
            Permission::Socket => &self.socket,
            Permission::Env => &self.env,
        };
        texts.iter().map(String::as_str).collect()
    }

    /// Adds the entries of `more` that aren't there yet.
    pub(crate) fn add_all(&mut self, more: &Permissions) {
        add(&mut self.net, &more.net);
        for (own, more) in [
            (&mut self.process, &more.process),
            (&mut self.read, &more.read),
            (&mut self.write, &more.write),
            (&mut self.secrets, &more.secrets),
            (&mut self.reveal, &more.reveal),
            (&mut self.registry, &more.registry),
            (&mut self.service, &more.service),
            (&mut self.socket, &more.socket),
            (&mut self.env, &more.env),
        ] {
            add(own, more);
        }
    }

    /// Everything that these allow and `other` doesn't.
    pub fn beyond<'a>(&'a self, other: &Permissions) -> Vec<(Permission, &'a str)> {
        let allows = |kind: Permission, entry: &str| {
            kind.is_within(entry, &other.of(kind))
                // What may be written may be read.
                || (kind == Permission::Read && kind.is_within(entry, &other.write))
        };
        let entries =
            Permission::ALL.into_iter().flat_map(|kind| self.of(kind).into_iter().map(move |entry| (kind, entry)));
        entries.filter(|(kind, entry)| !allows(*kind, entry)).collect()
    }

    /// Whether nothing is [beyond](Self::beyond) `other`.
    pub fn is_within(&self, other: &Permissions) -> bool {
        self.beyond(other).is_empty()
    }
}

/// Adds the entries that aren't there yet.
pub(crate) fn add<T: Clone + PartialEq>(to: &mut Vec<T>, more: &[T]) {
    for entry in more {
        if !to.contains(entry) {
            to.push(entry.clone());
        }
    }
}

/// Whether a path is the workspace's root.
fn is_root(path: &str) -> bool {
    names(path).is_empty()
}

/// The names of a path; `.` and doubled `/` don't count.
fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).collect()
}

fn is_literal(text: &str) -> bool {
    !text.contains(['*', '?', '[', '{', '\\'])
}

/// A grant of a path is one of all below it, so a rule covers whatever begins with names that its own cover.
fn path_covers(rule: &str, entry: &str) -> bool {
    let (rule_names, entry_names) = (names(rule), names(entry));
    if rule_names.is_empty() {
        return true;
    }
    // Braces can hold a `/`: names don't end where they seem to.
    let is_plain = |path: &str| !path.contains(['{', '[', '\\']);
    if is_plain(rule) && is_plain(entry) {
        let pairs = rule_names.iter().zip(&entry_names);
        if rule_names.len() <= entry_names.len() && pairs.into_iter().all(|(rule, entry)| glob_covers(rule, entry)) {
            return true;
        }
    }
    // The folder below which all of the entry lies.
    let base: Vec<&str> = entry_names.iter().take_while(|name| is_literal(name)).copied().collect();
    let Ok(glob) = GlobBuilder::new(&rule_names.join("/")).literal_separator(true).build() else { return false };
    let matcher = glob.compile_matcher();
    (1..=base.len()).any(|length| matcher.is_match(base[..length].join("/")))
}

/// Repositories are matched whole, and `*` crosses `/`.
fn repository_covers(rule: &str, entry: &str) -> bool {
    if is_literal(entry) {
        return globset::Glob::new(rule).is_ok_and(|glob| glob.compile_matcher().is_match(entry));
    }
    pattern_of(rule).zip(pattern_of(entry)).is_some_and(|(rule, entry)| covers(&rule, &entry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(kind: Permission, rule: &str, within: &[&str], beyond: &[&str]) {
        for entry in within {
            assert!(kind.is_within(entry, &[rule.to_owned()]), "{entry} is within {rule}");
        }
        for entry in beyond {
            assert!(!kind.is_within(entry, &[rule.to_owned()]), "{entry} is beyond {rule}");
        }
    }

    #[test]
    fn paths_are_within_the_folders_that_they_are_in() {
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
        check(
            Permission::Read,
            "**/*.lock",
            &["Cargo.lock", "a/b.lock", "a/b.lock/c", "**/*.lock"],
            &["**/a*", "**", "a"],
        );
        check(Permission::Read, "docs/**", &["docs/a", "docs/**/b", "docs/a/{b,c}"], &["docs", "{docs,src}/a"]);
        check(Permission::Read, "{a,b}", &["a", "b/c"], &["c", "*"]);
    }

    #[test]
    fn origins_are_within_by_scheme_host_and_port() {
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
    fn the_rest_is_within_by_its_own_rules() {
        check(Permission::Process, "git fetch *", &["git fetch origin"], &["git", "git fetch -x", "*"]);
        check(
            Permission::Registry,
            "ghcr.io/acme/*",
            &["ghcr.io/acme/a", "ghcr.io/acme/a*", "ghcr.io/acme/*/x"],
            &["ghcr.io/*", "ghcr.io/acmes/a"],
        );
        check(Permission::Registry, "ghcr.io/[ab]/x", &["ghcr.io/a/x"], &["ghcr.io/c/x", "ghcr.io/?/x"]);
        check(Permission::Secrets, "token", &["token:env", "token:header"], &["tokens", "other:env"]);
        check(Permission::Secrets, "token:env", &["token:env"], &["token", "token:header"]);
        check(Permission::Socket, "docker", &["docker"], &["/var/run/docker.sock"]);
        check(Permission::Env, "A", &["A"], &["B", "AB"]);
    }

    #[test]
    fn what_may_be_written_may_be_read() {
        let writer = Permissions { write: vec!["target".into()], ..Permissions::default() };
        let reader = Permissions { read: vec!["target/a".into()], ..Permissions::default() };
        assert!(reader.is_within(&writer) && !writer.is_within(&reader));
        assert_eq!(writer.beyond(&reader), [(Permission::Write, "target")]);
    }

    const PATTERNS: [&str; 16] = [
        ".", "a", "a/b", "a/*", "a/**", "*", "**", "**/b", "*/b", "a/**/b", "?", "a/b*", "{a,b}/b", "a/[bc]", "ab",
        "a/b/c",
    ];

    /// As the plugin host decides: by the path, or a folder that it is in.
    fn granted(rule: &str, path: &str) -> bool {
        let glob = GlobBuilder::new(rule).literal_separator(true).build().unwrap().compile_matcher();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        rule == "." || ends.into_iter().any(|end| glob.is_match(&path[..end]))
    }

    proptest! {
        #[test]
        fn what_is_within_a_path_grants_nothing_more(
            narrow in prop::sample::select(&PATTERNS[..]),
            wide in prop::sample::select(&PATTERNS[..]),
            path in "[abc]{1,2}(/[abc]{1,2}){0,3}",
        ) {
            if Permission::Read.is_within(narrow, &[wide.to_owned()]) && granted(narrow, &path) {
                prop_assert!(granted(wide, &path), "{narrow} is not within {wide}: {path}");
            }
        }

        #[test]
        fn what_is_within_a_repository_grants_nothing_more(
            narrow in "[ab*?]{1,2}/[ab*?/]{1,3}",
            wide in "[ab*?]{1,2}/[ab*?/]{1,3}",
            name in "[ab]{1,2}/[ab/]{1,4}",
        ) {
            let matches = |rule: &str| globset::Glob::new(rule).is_ok_and(|glob| glob.compile_matcher().is_match(&name));
            if Permission::Registry.is_within(&narrow, std::slice::from_ref(&wide)) && matches(&narrow) {
                prop_assert!(matches(&wide), "{narrow} is not within {wide}: {name}");
            }
        }
    }

    #[test]
    fn within_is_reflexive_and_transitive() {
        let within = |a: &str, b: &str| Permission::Read.is_within(a, &[b.to_owned()]);
        for (a, b, c) in PATTERNS.iter().flat_map(|a| PATTERNS.iter().flat_map(move |b| PATTERNS.map(|c| (a, b, c)))) {
            assert!(within(a, a), "{a}");
            // What is within can be missed, and must not be found where it isn't: see the samples above.
            assert!(
                !(within(a, b) && within(b, c)) || within(a, c) || a.contains(['*', '{', '[', '?']),
                "{a} < {b} < {c}"
            );
        }
    }
}
