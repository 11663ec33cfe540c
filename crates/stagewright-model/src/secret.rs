//! Secrets as pipeline files have them: where one comes from, what a stage may use it for, and where it could get to.

use std::collections::BTreeMap;

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::grants::{HostPattern, NetRule, Permissions, SecretUse, ServiceName};
use crate::secret_value::SecretValue;
use crate::shape::check_variable;

/// `[secrets.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDeclaration {
    /// Where the value is kept.
    pub from: SecretFrom,
    /// Hosts that it may be sent to.
    pub hosts: Vec<HostPattern>,
    /// Programs that it may be handed to in their environment.
    pub programs: Vec<String>,
    /// What stands in for it in a rehearsal.
    pub shape: SecretShape,
}

/// `secrets.NAME.from`: where a secret's value is kept.
#[derive(Clone, Debug)]
pub struct SecretFrom {
    text: String,
    location: SecretLocation,
}

entry!(SecretFrom, FormatError);

/// A [`SecretFrom`], taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretLocation {
    /// `env:NAME`: an environment variable of the engine.
    Env(String),
    /// `file:PATH`, relative to the repository.
    File(String),
    /// `command:WORDS`: what a program prints. At least the program's name.
    Command(Vec<String>),
    /// `age:PATH` or `age:PATH#KEY`: an encrypted file, all of it or one key of the TOML in it.
    Age {
        /// Relative to the repository.
        path: String,
        /// A key of the document's first level.
        key: Option<String>,
    },
    /// `vault:MOUNT/PATH#FIELD`: a field of a secret in a KV store, version 2.
    Vault {
        /// The store's mount, which is the path's first part.
        mount: String,
        /// Within the mount.
        path: String,
        /// Of the secret.
        field: String,
    },
    /// `aws-sm:NAME` or `aws-sm:NAME#KEY`: a secret of AWS Secrets Manager, all of it or one key of the JSON in it.
    AwsSecretsManager {
        /// Its name or ARN.
        name: String,
        /// A key of the JSON object's first level.
        key: Option<String>,
    },
    /// `kubernetes:NAMESPACE/NAME#KEY`: a key of a Secret.
    Kubernetes {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// Of its `data`.
        key: String,
    },
}

/// Every kind of source, for errors and for the JSON Schema.
pub(crate) const SOURCES: [&str; 7] = ["age", "aws-sm", "command", "env", "file", "kubernetes", "vault"];

impl SecretFrom {
    /// Reads the text of `from`.
    ///
    /// # Errors
    /// When it names no source, or names it without a part that it needs.
    pub fn parse(text: &str) -> Result<SecretFrom, FormatError> {
        Ok(SecretFrom { text: text.to_owned(), location: SecretLocation::parse(text)? })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where to look the value up.
    pub fn location(&self) -> &SecretLocation {
        &self.location
    }

    /// The kind of source: the text up to the colon, as in `vault`.
    pub fn source(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }
}

impl SecretLocation {
    fn parse(text: &str) -> Result<SecretLocation, FormatError> {
        const CODE: &str = "stagewright::bad-secret-source";
        let bad = |message: &str, help: &str| refuse(CODE, message, help);
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
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
            "file" if rest.is_empty() => bad("names no file", "write `file:PATH`"),
            "file" => Ok(SecretLocation::File(rest.to_owned())),
            "command" => match shlex::split(rest) {
                None => {
                    bad("has a quote that isn't closed", "quote words as in a shell: `command:pass show 'my token'`")
                }
                Some(words) if words.first().is_none_or(String::is_empty) => {
                    bad("names no program", "write `command:PROGRAM ARGUMENTS`, as in `command:pass show ci/token`")
                }
                Some(words) => Ok(SecretLocation::Command(words)),
            },
            "age" if before.is_empty() || key == Some("") => {
                bad("names no file or no key", "write `age:PATH`, or `age:PATH#KEY` for one key of the TOML in it")
            }
            "age" => Ok(SecretLocation::Age { path: before.to_owned(), key: after }),
            "vault" => match (split_path(before), after) {
                (Some((mount, path)), Some(field)) if !field.is_empty() => {
                    Ok(SecretLocation::Vault { mount: mount.to_owned(), path: path.to_owned(), field })
                }
                _ => bad("names no field of a secret", "write `vault:MOUNT/PATH#FIELD`, as in `vault:secret/ci#token`"),
            },
            "aws-sm" if before.is_empty() || key == Some("") => bad(
                "names no secret or no key",
                "write `aws-sm:NAME`, or `aws-sm:NAME#KEY` for one key of the JSON in it",
            ),
            "aws-sm" => Ok(SecretLocation::AwsSecretsManager { name: before.to_owned(), key: after }),
            "kubernetes" => match (split_path(before), after) {
                (Some((namespace, name)), Some(key)) if !key.is_empty() && !name.contains('/') => {
                    Ok(SecretLocation::Kubernetes { namespace: namespace.to_owned(), name: name.to_owned(), key })
                }
                _ => bad("names no key of a Secret", "write `kubernetes:NAMESPACE/NAME#KEY`"),
            },
            _ => bad(
                "isn't a place that secrets can be read from",
                &format!(
                    "it begins with one of {}, as in `env:NAME` or `file:PATH`",
                    SOURCES.map(|name| format!("`{name}:`")).join(", ")
                ),
            ),
        }
    }
}

/// At the first slash; no part of either may be empty, or lead elsewhere.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let fits = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    path.split_once('/').filter(|_| fits)
}

/// `secrets.NAME.shape`: what the value looks like, for those who parse it. A rehearsal makes up a value of that shape.
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
    /// As they are written in TOML.
    pub(crate) const NAMES: [&str; 4] = ["token", "json", "pem", "url"];

    /// The shape of that name.
    pub(crate) fn named(name: &str) -> Option<SecretShape> {
        match name {
            "token" => Some(SecretShape::Token),
            "json" => Some(SecretShape::Json),
            "pem" => Some(SecretShape::Pem),
            "url" => Some(SecretShape::Url),
            _ => None,
        }
    }

    /// The value that stands in for the secret `name`: the same each time, well-formed, and good for nothing.
    pub fn stand_in(self, name: &str) -> SecretValue {
        let token = format!("stand-in-{name}-of-a-rehearsal");
        let value = match self {
            SecretShape::Token => token,
            SecretShape::Json => serde_json::json!({ "stand-in": name, "token": token }).to_string(),
            SecretShape::Pem => format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"),
            // No host has this name: RFC 2606.
            SecretShape::Url => format!("https://stand-in:{token}@{}.invalid/", name.to_lowercase().replace('_', "-")),
        };
        value.as_str().into()
    }
}

/// An Ed25519 key whose seed is 32 zeros, by RFC 8410: what parses keys takes it, and no server knows it.
const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Who holds a secret's value and has a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretHolder {
    /// Programs that the stage starts with the secret in their environment.
    Process,
    /// The plugin itself, which `reveal` lets read it.
    Plugin,
}

/// A secret that a stage could send to places that the secret itself doesn't name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReach<'a> {
    /// A key of `[secrets]`.
    pub secret: &'a str,
    /// Who could send it.
    pub holder: SecretHolder,
    /// The entries of `permissions.net` that are not covered by the secret's `hosts`; never empty.
    pub origins: Vec<&'a str>,
}

impl Permissions {
    /// Which secrets could leave for places beyond their own `hosts`. The host attaches a secret to a request only where
    /// the secret may go; a program that was handed one, and a plugin that may read one, send it wherever their network
    /// reaches. By secret, programs before the plugin.
    pub fn secrets_beyond_hosts<'a>(
        &'a self,
        declared: &'a BTreeMap<String, SecretDeclaration>,
    ) -> Vec<SecretReach<'a>> {
        let mut found = Vec::new();
        for (name, declaration) in declared {
            let origins = self.net.iter().filter(|rule| !declaration.covers(rule));
            let origins = origins.map(NetRule::as_str).collect::<Vec<_>>();
            if origins.is_empty() {
                continue;
            }
            let handed = self.secrets.iter().any(|rule| rule.name() == name && rule.allows(SecretUse::Env));
            let programs = &declaration.programs;
            let may_have = |program: Option<&str>| {
                programs.is_empty() || program.is_none_or(|program| programs.iter().any(|one| one == program))
            };
            let mut rules = self.process.iter();
            let mut services = self.service.iter().map(ServiceName::as_str);
            let started = rules.any(|rule| may_have(rule.program())) || services.any(|service| may_have(Some(service)));
            if handed && started {
                found.push(SecretReach { secret: name, holder: SecretHolder::Process, origins: origins.clone() });
            }
            if self.reveal.iter().any(|reveal| reveal.as_str() == name) {
                found.push(SecretReach { secret: name, holder: SecretHolder::Plugin, origins });
            }
        }
        found
    }
}

impl SecretDeclaration {
    /// Whether all that an entry of `permissions.net` opens is covered by `hosts`. A word for package hosts never is: which
    /// hosts it stands for is the machine's business.
    fn covers(&self, rule: &NetRule) -> bool {
        rule.origin().is_some_and(|rule| self.hosts.iter().any(|pattern| pattern.covers(rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_taken_apart() {
        let words = |words: &[&str]| SecretLocation::Command(words.iter().map(|word| (*word).to_owned()).collect());
        let key = |key: &str| Some(key.to_owned());
        for (text, location) in [
            ("env:TOKEN", SecretLocation::Env("TOKEN".into())),
            ("file:/run/a#b", SecretLocation::File("/run/a#b".into())),
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
    fn half_a_source_is_none() {
        for text in [
            "",
            "TOKEN",
            "env:",
            "env:A-B",
            "file:",
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
    fn a_program_takes_a_secret_wherever_its_network_reaches() {
        let beyond = vec!["cargo".to_owned(), "http://mirror.example.net:8080".to_owned()];
        let hosts = ["API.example.org"];
        assert_eq!(reach(&["token"], &[], &hosts, &[]), [(SecretHolder::Process, beyond.clone())]);
        assert_eq!(reach(&["token:env"], &[], &hosts, &["gh"]), [(SecretHolder::Process, beyond.clone())]);
        assert_eq!(reach(&["token:header"], &[], &hosts, &[]), []);
        assert_eq!(reach(&["token"], &[], &hosts, &["git"]), []);
        assert_eq!(reach(&["token:header"], &["token"], &hosts, &[]), [(SecretHolder::Plugin, beyond)]);
    }

    #[test]
    fn hosts_cover_what_they_name() {
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
    fn a_stand_in_has_the_shape_of_its_secret_and_is_long_enough_to_be_masked() {
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
