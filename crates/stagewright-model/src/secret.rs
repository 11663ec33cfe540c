//! Secrets in pipeline files: where their values are stored, how stages may use them, and where they could be sent.

use std::collections::BTreeMap;

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::grants::{HostPattern, NetRule, Permissions, SecretUse, ServiceRule};
use crate::secret_value::SecretValue;
use crate::shape::check_variable;

/// `[secrets.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDeclaration {
    /// `from`: where the value is stored.
    pub from: SecretFrom,
    /// `hosts`: where the host may send the secret.
    pub hosts: Vec<HostPattern>,
    /// `programs`: which programs may get the secret in their environment. Empty for any program.
    pub programs: Vec<String>,
    /// `scheme`: how the proxy sends the secret.
    pub scheme: SecretScheme,
    /// `shape`: what the stand-in for the secret looks like in a rehearsal.
    pub shape: SecretShape,
}

/// `secrets.NAME.from`: where a secret's value is stored.
#[derive(Clone, Debug)]
pub struct SecretFrom {
    text: String,
    location: SecretLocation,
}

entry!(SecretFrom, FormatError);

/// A parsed [`SecretFrom`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretLocation {
    /// `env:NAME`: an environment variable of the engine.
    Env(String),
    /// `file:PATH`, relative to the repository.
    File(String),
    /// `dotenv:PATH#KEY`, or `PATH#KEY` if the file's name begins with `.env`: one value of a dotenv file.
    Dotenv {
        /// The file's path, relative to the repository or absolute.
        path: String,
        /// The name of the variable.
        key: String,
    },
    /// `command:WORDS`: the output of a program. The program's name and its arguments.
    Command(Vec<String>),
    /// `age:PATH` or `age:PATH#KEY`: an encrypted file, as a whole or one key of the TOML in it.
    Age {
        /// The file's path relative to the repository.
        path: String,
        /// A top-level key of the TOML document.
        key: Option<String>,
    },
    /// `vault:MOUNT/PATH#FIELD`: a field of a secret in a KV store, version 2.
    Vault {
        /// The store's mount: the first part of the path.
        mount: String,
        /// The secret's path within the mount.
        path: String,
        /// The name of the field.
        field: String,
    },
    /// `aws-sm:NAME` or `aws-sm:NAME#KEY`: a secret of AWS Secrets Manager, as a whole or one key of the JSON in it.
    AwsSecretsManager {
        /// The secret's name or ARN.
        name: String,
        /// A top-level key of the JSON object.
        key: Option<String>,
    },
    /// `kubernetes:NAMESPACE/NAME#KEY`: a key of a Secret.
    Kubernetes {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// The key in the Secret's `data`.
        key: String,
    },
}

/// The kind of source that a text without a kind has.
const DOTENV: &str = "dotenv";

/// All kinds of sources, for errors and for the JSON Schema.
pub(crate) const SOURCES: [&str; 8] = ["age", "aws-sm", "command", DOTENV, "env", "file", "kubernetes", "vault"];

impl SecretFrom {
    /// Parses the value of `from`.
    ///
    /// # Errors
    /// If the kind of source is unknown, or a required part is missing.
    pub fn parse(text: &str) -> Result<SecretFrom, FormatError> {
        Ok(SecretFrom { text: text.to_owned(), location: SecretLocation::parse(text)? })
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parsed location.
    pub fn location(&self) -> &SecretLocation {
        &self.location
    }

    /// The kind of source: the text up to the colon, as in `vault`. `dotenv` for `.env#KEY`.
    pub fn source(&self) -> &str {
        self.text.split_once(':').map_or(DOTENV, |(kind, _)| kind)
    }
}

impl SecretLocation {
    fn parse(text: &str) -> Result<SecretLocation, FormatError> {
        const CODE: &str = "stagewright::bad-secret-source";
        let bad = |message: &str, help: &str| refuse(CODE, message, help);
        let kind = if is_dotenv(text) { DOTENV } else { "" };
        let (scheme, rest) = text.split_once(':').unwrap_or((kind, text));
        let (before, after) = match rest.rsplit_once('#') {
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (rest, None),
        };
        let key = after.as_deref();
        match scheme {
            "env" => match check_variable(rest) {
                Ok(()) => Ok(SecretLocation::Env(rest.to_owned())),
                Err(error) => Err(FormatError { code: CODE, ..error }),
            },
            "file" if rest.is_empty() => bad("doesn't name a file", "write `file:PATH`"),
            "file" => Ok(SecretLocation::File(rest.to_owned())),
            DOTENV => match key {
                Some(key) if !before.is_empty() && check_variable(key).is_ok() => {
                    Ok(SecretLocation::Dotenv { path: before.to_owned(), key: key.to_owned() })
                }
                _ => bad(
                    "doesn't name a variable of a dotenv file",
                    "write `dotenv:PATH#KEY`, as in `dotenv:.env#TOKEN`",
                ),
            },
            "command" => match shlex::split(rest) {
                None => bad("has an unclosed quote", "quote words as in a shell: `command:pass show 'my token'`"),
                Some(words) if words.first().is_none_or(String::is_empty) => bad(
                    "doesn't name a program",
                    "write `command:PROGRAM ARGUMENTS`, as in `command:pass show ci/token`",
                ),
                Some(words) => Ok(SecretLocation::Command(words)),
            },
            "age" if before.is_empty() || key == Some("") => {
                bad("lacks a file or a key", "write `age:PATH`, or `age:PATH#KEY` for one key of the TOML in it")
            }
            "age" => Ok(SecretLocation::Age { path: before.to_owned(), key: after }),
            "vault" => match (split_path(before), after) {
                (Some((mount, path)), Some(field)) if !field.is_empty() => {
                    Ok(SecretLocation::Vault { mount: mount.to_owned(), path: path.to_owned(), field })
                }
                _ => bad(
                    "doesn't name a field of a secret",
                    "write `vault:MOUNT/PATH#FIELD`, as in `vault:secret/ci#token`",
                ),
            },
            "aws-sm" if before.is_empty() || key == Some("") => bad(
                "lacks a secret or a key",
                "write `aws-sm:NAME`, or `aws-sm:NAME#KEY` for one key of the JSON in it",
            ),
            "aws-sm" => Ok(SecretLocation::AwsSecretsManager { name: before.to_owned(), key: after }),
            "kubernetes" => match (split_path(before), after) {
                (Some((namespace, name)), Some(key)) if !key.is_empty() && !name.contains('/') => {
                    Ok(SecretLocation::Kubernetes { namespace: namespace.to_owned(), name: name.to_owned(), key })
                }
                _ => bad("doesn't name a key of a Secret", "write `kubernetes:NAMESPACE/NAME#KEY`"),
            },
            _ => bad(
                "isn't a source of secrets",
                &format!(
                    "begin with one of {}, as in `env:NAME` or `file:PATH`",
                    SOURCES.map(|name| format!("`{name}:`")).join(", ")
                ),
            ),
        }
    }
}

/// Whether a text without a kind is a key of a file whose name begins with `.env`.
fn is_dotenv(text: &str) -> bool {
    let path = text.rsplit_once('#').map_or(text, |(path, _)| path);
    path.rsplit('/').next().is_some_and(|name| name.starts_with(".env"))
}

/// Splits a path at its first slash. None if a part of it is empty, `.` or `..`.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let fits = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    path.split_once('/').filter(|_| fits)
}

/// `secrets.NAME.scheme`: the value of `Authorization` in requests that the proxy adds the secret to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretScheme {
    /// `Bearer VALUE` (RFC 6750), as npm sends it.
    #[default]
    Bearer,
    /// `Basic BASE64` (RFC 7617) of the value, which is a user and a password: `USER:PASSWORD`. As pip sends it.
    Basic,
    /// The value alone, as cargo sends it.
    Plain,
}

impl SecretScheme {
    /// The values in TOML.
    pub(crate) const NAMES: [&str; 3] = ["basic", "bearer", "plain"];

    /// The scheme with this name.
    pub(crate) fn named(name: &str) -> Option<SecretScheme> {
        match name {
            "bearer" => Some(SecretScheme::Bearer),
            "basic" => Some(SecretScheme::Basic),
            "plain" => Some(SecretScheme::Plain),
            _ => None,
        }
    }
}

/// `secrets.NAME.shape`: the format of the value. A rehearsal generates a stand-in of the same format, which programs
/// can parse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretShape {
    /// One word.
    #[default]
    Token,
    /// A JSON object.
    Json,
    /// A private key in PEM.
    Pem,
    /// A URL with a user and a password.
    Url,
}

impl SecretShape {
    /// The values in TOML.
    pub(crate) const NAMES: [&str; 4] = ["token", "json", "pem", "url"];

    /// The shape with this name.
    pub(crate) fn named(name: &str) -> Option<SecretShape> {
        match name {
            "token" => Some(SecretShape::Token),
            "json" => Some(SecretShape::Json),
            "pem" => Some(SecretShape::Pem),
            "url" => Some(SecretShape::Url),
            _ => None,
        }
    }

    /// The stand-in for the secret `name`: well-formed, always the same, and without any access.
    pub fn stand_in(self, name: &str) -> SecretValue {
        let token = format!("stand-in-{name}-of-a-rehearsal");
        let value = match self {
            SecretShape::Token => token,
            SecretShape::Json => serde_json::json!({ "stand-in": name, "token": token }).to_string(),
            SecretShape::Pem => format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"),
            // RFC 2606 reserves `.invalid`: the host never exists.
            SecretShape::Url => format!("https://stand-in:{token}@{}.invalid/", name.to_lowercase().replace('_', "-")),
        };
        value.as_str().into()
    }
}

/// An Ed25519 key (RFC 8410) whose seed is 32 zero bytes: a valid key that no server trusts.
const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Who has both a secret's value and access to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretHolder {
    /// Programs that the stage starts with the secret in their environment.
    Process,
    /// The plugin itself, which may read the value because of `reveal`.
    Plugin,
}

/// A secret that a stage could send to hosts other than the secret's own `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReach<'a> {
    /// The secret's name: a key of `[secrets]`.
    pub secret: &'a str,
    /// Who could send the secret.
    pub holder: SecretHolder,
    /// The entries of `permissions.net` that the secret's `hosts` don't cover; never empty.
    pub origins: Vec<&'a str>,
}

impl Permissions {
    /// The secrets that could be sent to hosts other than their own `hosts`, by secret, programs before the plugin.
    ///
    /// The engine attaches a secret only to requests to the secret's `hosts`. But a program that has the secret in its
    /// environment, and a plugin that may read it, can send it to every origin in the stage's `net`.
    pub fn secrets_beyond_hosts<'a>(
        &'a self,
        declared: &'a BTreeMap<String, SecretDeclaration>,
    ) -> Vec<SecretReach<'a>> {
        let mut found = Vec::new();
        for (name, declaration) in declared {
            let beyond = || self.net.iter().filter(|rule| !declaration.covers(rule));
            let origins = beyond().map(NetRule::as_str).collect::<Vec<_>>();
            // Requests over Unix sockets are the plugin's alone.
            let of_programs = beyond().filter(|rule| rule.socket().is_none());
            let of_programs = of_programs.map(NetRule::as_str).collect::<Vec<_>>();
            let handed = self.secrets.iter().any(|rule| rule.name() == name && rule.allows(SecretUse::Env));
            let programs = &declaration.programs;
            // `programs` lists who may get the secret; without entries, every program may. A rule for any program (none
            // here) includes the listed ones.
            let may_have = |program: Option<&str>| {
                programs.is_empty() || program.is_none_or(|program| programs.iter().any(|allowed| allowed == program))
            };
            let mut rules = self.process.iter();
            let mut services = self.service.iter().map(ServiceRule::name);
            let started = rules.any(|rule| may_have(rule.program())) || services.any(|service| may_have(Some(service)));
            if handed && started && !of_programs.is_empty() {
                found.push(SecretReach { secret: name, holder: SecretHolder::Process, origins: of_programs });
            }
            if !origins.is_empty() && self.reveal.iter().any(|reveal| reveal.as_str() == name) {
                found.push(SecretReach { secret: name, holder: SecretHolder::Plugin, origins });
            }
        }
        found
    }
}

impl SecretDeclaration {
    /// Whether `hosts` covers everything that an entry of `permissions.net` grants. Never true for a package manager,
    /// whose hosts depend on the machine.
    fn covers(&self, rule: &NetRule) -> bool {
        rule.origin().is_some_and(|rule| self.hosts.iter().any(|pattern| pattern.covers(rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_into_their_parts() {
        let words = |words: &[&str]| SecretLocation::Command(words.iter().map(|word| (*word).to_owned()).collect());
        let key = |key: &str| Some(key.to_owned());
        for (text, location) in [
            ("env:TOKEN", SecretLocation::Env("TOKEN".into())),
            ("file:/run/a#b", SecretLocation::File("/run/a#b".into())),
            (".env#TOKEN", SecretLocation::Dotenv { path: ".env".into(), key: "TOKEN".into() }),
            ("dotenv:/srv/a#b#T", SecretLocation::Dotenv { path: "/srv/a#b".into(), key: "T".into() }),
            ("app/.env.local#T", SecretLocation::Dotenv { path: "app/.env.local".into(), key: "T".into() }),
            ("command:pass show 'my token#1'", words(&["pass", "show", "my token#1"])),
            ("age:ci.age", SecretLocation::Age { path: "ci.age".into(), key: None }),
            ("age:a/ci.age#token", SecretLocation::Age { path: "a/ci.age".into(), key: key("token") }),
            (
                "vault:secret/ci/deploy#token",
                SecretLocation::Vault { mount: "secret".into(), path: "ci/deploy".into(), field: "token".into() },
            ),
            (
                "aws-sm:arn:aws:secretsmanager:eu-west-1:1:secret:ci#k",
                SecretLocation::AwsSecretsManager {
                    name: "arn:aws:secretsmanager:eu-west-1:1:secret:ci".into(),
                    key: key("k"),
                },
            ),
            (
                "kubernetes:ci/registry#.dockerconfigjson",
                SecretLocation::Kubernetes {
                    namespace: "ci".into(),
                    name: "registry".into(),
                    key: ".dockerconfigjson".into(),
                },
            ),
        ] {
            assert_eq!(SecretFrom::parse(text).unwrap().location(), &location, "{text}");
        }
    }

    #[test]
    fn the_kind_of_a_source_is_the_one_that_a_policy_names() {
        for (text, kind) in [(".env#TOKEN", "dotenv"), ("dotenv:a#TOKEN", "dotenv"), ("env:TOKEN", "env")] {
            assert_eq!(SecretFrom::parse(text).unwrap().source(), kind, "{text}");
        }
    }

    #[test]
    fn incomplete_sources_are_rejected() {
        for text in [
            "",
            "TOKEN",
            "env:",
            "env:A-B",
            "file:",
            ".env",
            ".env#",
            ".env#A-B",
            "settings#A",
            "dotenv:#A",
            "command:",
            "command:'a",
            "command:''",
            "age:",
            "age:#k",
            "age:a#",
            "vault:x",
            "vault:secret/a",
            "vault:secret/a#",
            "vault:secret/../sys#a",
            "vault:/a#b",
            "aws-sm:",
            "aws-sm:a#",
            "kubernetes:a",
            "kubernetes:a/b",
            "kubernetes:a/b/c#d",
            "gcp:x",
        ] {
            assert!(SecretFrom::parse(text).is_err(), "{text}");
        }
    }

    fn rule(entry: &str) -> NetRule {
        NetRule::parse(entry).unwrap()
    }

    fn declared(hosts: &[&str], programs: &[&str]) -> BTreeMap<String, SecretDeclaration> {
        let declaration = SecretDeclaration {
            from: "env:T".parse().unwrap(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            programs: programs.iter().map(|program| (*program).to_owned()).collect(),
            scheme: SecretScheme::Bearer,
            shape: SecretShape::Token,
        };
        BTreeMap::from([("token".to_owned(), declaration)])
    }

    fn reach(secrets: &[&str], reveal: &[&str], hosts: &[&str], programs: &[&str]) -> Vec<(SecretHolder, Vec<String>)> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let permissions = Permissions {
            process: vec!["gh".parse().unwrap()],
            net: ["https://api.example.org", "cargo", "http://mirror.example.net:8080"].map(rule).into(),
            secrets: secrets.iter().map(|entry| entry.parse().unwrap()).collect(),
            reveal: reveal.iter().map(|entry| entry.parse().unwrap()).collect(),
            ..Permissions::default()
        };
        let declared = declared(hosts, programs);
        let found = permissions.secrets_beyond_hosts(&declared);
        found.into_iter().map(|reach| (reach.holder, owned(&reach.origins))).collect()
    }

    #[test]
    fn secrets_of_programs_can_reach_all_granted_origins() {
        let beyond = vec!["cargo".to_owned(), "http://mirror.example.net:8080".to_owned()];
        let hosts = ["API.example.org"];
        assert_eq!(reach(&["token"], &[], &hosts, &[]), [(SecretHolder::Process, beyond.clone())]);
        assert_eq!(reach(&["token:env"], &[], &hosts, &["gh"]), [(SecretHolder::Process, beyond.clone())]);
        assert_eq!(reach(&["token:header"], &[], &hosts, &[]), []);
        assert_eq!(reach(&["token"], &[], &hosts, &["git"]), []);
        assert_eq!(reach(&["token:header"], &["token"], &hosts, &[]), [(SecretHolder::Plugin, beyond)]);
    }

    #[test]
    fn host_pattern_covers_matching_rules() {
        let covered = |entry: &str, entry_of_net: &str| declared(&[entry], &[])["token"].covers(&rule(entry_of_net));
        assert!(covered("a.org", "https://a.org") && covered("a.org", "a.org:*") && covered("a.org:443", "a.org"));
        assert!(
            covered("*.a.org", "https://x.a.org") && covered("*.a.org", "*.a.org") && covered("a.org:*", "a.org:*")
        );
        assert!(
            !covered("a.org:443", "a.org:*") && !covered("a.org:443", "http://a.org") && !covered("x.a.org", "*.a.org")
        );
        assert!(!covered("*.a.org", "a.org") && !covered("*.a.org", "https://eviltwin-a.org"));
        let hosts = ["a.org:8443", "*.b.org", "[::1]:80"].map(|host| HostPattern::parse(host).unwrap());
        let admits = |host, port| hosts.iter().any(|pattern| pattern.admits(host, port));
        assert!(admits("a.org", 8443) && admits("x.b.org", 1) && admits("[::1]", 80));
        assert!(!admits("a.org", 443) && !admits("b.org", 443) && !admits("[::1]", 81));
    }

    #[test]
    fn every_scheme_can_be_written() {
        let schemes = SecretScheme::NAMES.map(|name| SecretScheme::named(name).unwrap());
        assert_eq!(schemes, [SecretScheme::Basic, SecretScheme::Bearer, SecretScheme::Plain]);
        assert_eq!(SecretScheme::named("digest"), None);
    }

    #[test]
    fn stand_in_has_the_shape_of_its_secret() {
        assert_eq!(SecretShape::Token.stand_in("api").expose(), "stand-in-api-of-a-rehearsal");
        let json: serde_json::Value = serde_json::from_str(SecretShape::Json.stand_in("a\"b").expose()).unwrap();
        assert_eq!(json["stand-in"], "a\"b");
        assert!(SecretShape::Pem.stand_in("key").expose().lines().all(|line| line.len() <= 64));
        assert_eq!(
            SecretShape::Url.stand_in("Data_Base").expose(),
            "https://stand-in:stand-in-Data_Base-of-a-rehearsal@data-base.invalid/"
        );
        for name in SecretShape::NAMES {
            assert!(SecretShape::named(name).is_some(), "{name}");
        }
    }
}
