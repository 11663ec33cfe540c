//! What a stage may do: the permissions that its TOML grants, as checks.
//!
//! Everything is denied that isn't granted. A denial names what was asked for, and its help is the TOML that would
//! grant it.

use std::collections::BTreeSet;

use globset::{Glob, GlobSet, GlobSetBuilder};
use stagewright_model::{Permissions, SecretUse};

use crate::error::{CapabilityError, ErrorCode};
use crate::origin::{Origin, OriginRule};
use crate::path::{PathRules, WorkspacePath};

/// The token in `permissions.net` that stands for the hosts which cargo is configured with.
const CARGO: &str = "cargo";

/// A stage's permissions, ready to be asked.
#[derive(Debug)]
pub(crate) struct Policy {
    /// As in `stages.test`.
    table: String,
    permissions: Permissions,
    read: PathRules,
    write: PathRules,
    net: Vec<OriginRule>,
    registry: GlobSet,
    /// Below the workspace's root, and nobody's.
    reserved: Vec<WorkspacePath>,
}

/// See [`Policy::reaches_out`].
pub(crate) fn reaches_out(permissions: &Permissions) -> bool {
    permissions.net.iter().any(|rule| rule != CARGO)
        || permissions.secret_grants().any(|grant| grant.allows(SecretUse::Env))
}

impl Policy {
    /// `cargo_hosts` are origins; `reserved` are paths of the workspace that no grant opens.
    ///
    /// Fails when a permission doesn't mean anything.
    pub(crate) fn new(
        table: &str,
        permissions: &Permissions,
        cargo_hosts: &[String],
        reserved: &[String],
    ) -> Result<Policy, CapabilityError> {
        let invalid = |key: &str, why: &dyn std::fmt::Display| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("{why}"))
                .with_help(format!("correct `{key}` in [{table}.permissions]"))
        };
        let rules = |key: &str, rules: &[String]| PathRules::parse(rules).map_err(|error| invalid(key, &error));
        let mut net = Vec::new();
        for rule in &permissions.net {
            let expanded = if rule == CARGO { cargo_hosts } else { std::slice::from_ref(rule) };
            for rule in expanded {
                net.push(OriginRule::parse(rule).map_err(|why| invalid("net", &why))?);
            }
        }
        let mut registry = GlobSetBuilder::new();
        for rule in &permissions.registry {
            registry.add(Glob::new(rule).map_err(|error| invalid("registry", &error))?);
        }
        let reserved = reserved.iter().map(|path| WorkspacePath::parse(path)).collect::<Result<_, _>>()?;
        Ok(Policy {
            table: table.to_owned(),
            permissions: permissions.clone(),
            read: rules("read", &permissions.read)?,
            write: rules("write", &permissions.write)?,
            net,
            registry: registry.build().map_err(|error| invalid("registry", &error))?,
            reserved,
        })
    }

    /// Whether a program of the stage can have effects beyond this machine: it has a network, or something secret to
    /// use there. To fetch crates is no effect.
    pub(crate) fn reaches_out(&self) -> bool {
        reaches_out(&self.permissions)
    }

    /// `program` as the guest wrote it.
    pub(crate) fn program(&self, program: &str) -> Result<(), CapabilityError> {
        let granted = &self.permissions.process;
        if granted.iter().any(|rule| rule == "*" || rule == program) {
            return Ok(());
        }
        Err(self.deny(&format!("start the program `{program}`"), "process", granted, program))
    }

    pub(crate) fn read(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_reserved(path)?;
        if self.may_read(path) {
            return Ok(());
        }
        Err(self.deny(&format!("read `{path}`"), "read", &self.permissions.read, path.shown()))
    }

    pub(crate) fn write(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_reserved(path)?;
        if self.write.grant(path) {
            return Ok(());
        }
        Err(self.deny(&format!("write `{path}`"), "write", &self.permissions.write, path.shown()))
    }

    /// Without a reason: for listings, which show what may be read and pass over the rest.
    pub(crate) fn may_read(&self, path: &WorkspacePath) -> bool {
        !self.is_reserved(path) && (self.read.grant(path) || self.write.grant(path))
    }

    /// Whether a listing can find anything in `folder`.
    pub(crate) fn may_list(&self, folder: &WorkspacePath) -> bool {
        !self.is_reserved(folder) && (self.read.reach_into(folder) || self.write.reach_into(folder))
    }

    pub(crate) fn origin(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants(origin)) {
            return Ok(());
        }
        Err(self.deny(&format!("call {origin}"), "net", &self.permissions.net, &origin.to_string()))
    }

    /// `reference` with or without tag and digest.
    pub(crate) fn image(&self, reference: &str) -> Result<(), CapabilityError> {
        let repository = repository(reference);
        if self.registry.is_match(repository) {
            return Ok(());
        }
        let doing = format!("use the image repository `{repository}`");
        Err(self.deny(&doing, "registry", &self.permissions.registry, repository))
    }

    pub(crate) fn service(&self, name: &str) -> Result<(), CapabilityError> {
        let granted = &self.permissions.service;
        if granted.iter().any(|rule| rule == name) {
            return Ok(());
        }
        Err(self.deny(&format!("run the service `{name}`"), "service", granted, name))
    }

    /// Whether the guest may hold the secret, for whatever use.
    pub(crate) fn secret(&self, name: &str) -> Result<(), CapabilityError> {
        if self.permissions.secret_grants().any(|grant| grant.name == name) {
            return Ok(());
        }
        Err(self.deny(&format!("use the secret `{name}`"), "secrets", &self.permissions.secrets, name))
    }

    /// Whether the guest may use the secret in this way.
    pub(crate) fn secret_use(&self, name: &str, wanted: SecretUse) -> Result<(), CapabilityError> {
        if self.permissions.secret_grants().any(|grant| grant.name == name && grant.allows(wanted)) {
            return Ok(());
        }
        let doing = match wanted {
            SecretUse::Header => format!("attach the secret `{name}` to requests"),
            SecretUse::Env => format!("hand the secret `{name}` to processes"),
        };
        let missing = format!("{name}:{}", wanted.word());
        Err(self.deny(&doing, "secrets", &self.permissions.secrets, &missing))
    }

    /// Whether the guest may read the secret's value. It must be among its secrets, too.
    pub(crate) fn reveal(&self, name: &str) -> Result<(), CapabilityError> {
        self.secret(name)?;
        let granted = &self.permissions.reveal;
        if granted.iter().any(|rule| rule == name) {
            return Ok(());
        }
        Err(self.deny(&format!("read the value of the secret `{name}`"), "reveal", granted, name))
    }

    /// Variables of the engine's environment that processes inherit.
    pub(crate) fn inherited_variables(&self) -> &[String] {
        &self.permissions.env
    }

    fn is_reserved(&self, path: &WorkspacePath) -> bool {
        self.reserved.iter().any(|reserved| path.is_within(reserved))
    }

    fn not_reserved(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        if !self.is_reserved(path) {
            return Ok(());
        }
        let message = format!("`{path}` is the engine's own");
        Err(CapabilityError::new(ErrorCode::PermissionDenied, message)
            .with_help("choose another path: none grants this"))
    }

    fn deny(&self, doing: &str, key: &str, granted: &[String], missing: &str) -> CapabilityError {
        CapabilityError::new(ErrorCode::PermissionDenied, format!("the stage may not {doing}")).with_help(grant(
            &self.table,
            key,
            granted,
            missing,
        ))
    }
}

/// The TOML that grants `missing` beside what is granted already.
fn grant(table: &str, key: &str, granted: &[String], missing: &str) -> String {
    let all: BTreeSet<&str> = granted.iter().map(String::as_str).chain([missing]).collect();
    let all: Vec<String> = all.into_iter().map(|entry| serde_json::Value::from(entry).to_string()).collect();
    let verb = if granted.is_empty() { "add to" } else { "change in" };
    format!("{verb} [{table}.permissions]: {key} = [{}]", all.join(", "))
}

/// The image reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rfind(':') {
        // A colon before the last slash belongs to the host's port.
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut Permissions)) -> Policy {
        let mut permissions = Permissions::default();
        change(&mut permissions);
        let cargo = ["https://index.crates.example".to_owned()];
        Policy::new("stages.test", &permissions, &cargo, &[".stagewright".to_owned()]).unwrap()
    }

    fn help(denied: Result<(), CapabilityError>) -> String {
        let error = denied.unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        error.help.unwrap()
    }

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    fn origin(url: &str) -> Origin {
        Origin::of(&reqwest::Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let policy = policy(|_| {});
        let table = "add to [stages.test.permissions]: ";
        assert_eq!(help(policy.program("cargo")), format!("{table}process = [\"cargo\"]"));
        assert_eq!(help(policy.read(&path("src"))), format!("{table}read = [\"src\"]"));
        assert_eq!(help(policy.write(&path("."))), format!("{table}write = [\".\"]"));
        assert_eq!(help(policy.origin(&origin("https://a.b/c"))), format!("{table}net = [\"https://a.b\"]"));
        assert_eq!(help(policy.image("ghcr.io/a/b:1")), format!("{table}registry = [\"ghcr.io/a/b\"]"));
        assert_eq!(help(policy.service("api")), format!("{table}service = [\"api\"]"));
        assert_eq!(help(policy.secret("token")), format!("{table}secrets = [\"token\"]"));
        assert_eq!(help(policy.reveal("token")), format!("{table}secrets = [\"token\"]"));
    }

    #[test]
    fn a_secret_is_granted_for_both_uses_or_for_one() {
        let policy = policy(|permissions| {
            permissions.secrets = vec!["any".into(), "sent:header".into(), "handed:env".into()];
            permissions.reveal = vec!["sent".into(), "foreign".into()];
        });
        for name in ["any", "sent", "handed"] {
            assert!(policy.secret(name).is_ok());
        }
        assert!(
            policy.secret_use("any", SecretUse::Header).is_ok() && policy.secret_use("any", SecretUse::Env).is_ok()
        );
        assert!(
            policy.secret_use("sent", SecretUse::Header).is_ok() && policy.secret_use("handed", SecretUse::Env).is_ok()
        );
        let table = "change in [stages.test.permissions]: secrets = [\"any\", \"handed:env\", \"sent:";
        assert_eq!(help(policy.secret_use("sent", SecretUse::Env)), format!("{table}env\", \"sent:header\"]"));
        assert!(policy.secret_use("handed", SecretUse::Header).is_err() && policy.secret("handed:env").is_err());
        assert!(policy.reveal("sent").is_ok() && policy.reveal("foreign").is_err() && policy.reveal("any").is_err());
    }

    #[test]
    fn a_program_reaches_out_with_a_network_or_a_secret_of_its_own() {
        let reaches = |secret: &str| policy(|permissions| permissions.secrets = vec![secret.into()]).reaches_out();
        assert!(reaches("token") && reaches("token:env") && !reaches("token:header"));
    }

    #[test]
    fn help_keeps_what_is_granted_already() {
        let policy = policy(|permissions| permissions.process = vec!["git".into()]);
        assert!(policy.program("git").is_ok());
        assert_eq!(
            help(policy.program("cargo")),
            "change in [stages.test.permissions]: process = [\"cargo\", \"git\"]"
        );
    }

    #[test]
    fn writing_implies_reading_and_not_the_other_way() {
        let policy = policy(|permissions| {
            permissions.read = vec!["src".into()];
            permissions.write = vec!["target".into()];
        });
        assert!(policy.read(&path("src/lib.rs")).is_ok() && policy.read(&path("target/a")).is_ok());
        assert!(policy.write(&path("target/a")).is_ok() && policy.write(&path("src/lib.rs")).is_err());
        assert!(policy.may_list(&path(".")) && !policy.may_list(&path("docs")));
    }

    #[test]
    fn what_is_reserved_is_granted_to_nobody() {
        let policy = policy(|permissions| permissions.write = vec![".".into()]);
        assert!(policy.read(&path(".stagewright/journal")).is_err() && policy.write(&path(".stagewright")).is_err());
        assert!(!policy.may_list(&path(".stagewright")) && policy.write(&path(".stagewrights")).is_ok());
    }

    #[test]
    fn the_cargo_token_grants_the_hosts_that_cargo_uses() {
        let policy = policy(|permissions| permissions.net = vec!["cargo".into()]);
        assert!(policy.origin(&origin("https://index.crates.example/config.json")).is_ok());
        assert!(policy.origin(&origin("https://cargo/")).is_err());
    }

    #[test]
    fn repositories_are_matched_without_tag_and_digest() {
        let policy = policy(|permissions| permissions.registry = vec!["local/app".into(), "host:5000/acme/*".into()]);
        for image in ["local/app", "local/app:1.2", "local/app@sha256:ab", "host:5000/acme/api:2@sha256:ab"] {
            assert!(policy.image(image).is_ok(), "{image}");
        }
        for image in ["local/app2", "local/apps:1", "host:5000/other/api", "ghcr.io/local/app"] {
            assert!(policy.image(image).is_err(), "{image}");
        }
    }

    #[test]
    fn a_permission_that_means_nothing_is_an_error() {
        let mut permissions = Permissions { net: vec!["ftp://x".into()], ..Permissions::default() };
        let error = Policy::new("finally.clean", &permissions, &[], &[]).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("correct `net` in [finally.clean.permissions]"));
        permissions = Permissions { read: vec!["../up".into()], ..Permissions::default() };
        assert!(Policy::new("stages.test", &permissions, &[], &[]).is_err());
    }
}
