//! What a stage may do: the permissions that its TOML grants, as checks.
//!
//! Everything is denied that isn't granted. A denial names what was asked for, and its help is the TOML that would
//! grant it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use stagewright_model::{NetRule, NetTarget, Origin, OriginRule, Permissions, ProcessRule, SecretUse};

use crate::error::{CapabilityError, ErrorCode};
use crate::net::AddressRefused;
use crate::packages::PackageHosts;
use crate::path::{PathRules, WorkspacePath};
use crate::reserved::Reservations;

mod reserved;

/// A longer command line is no help to anybody.
const MAX_ENTRY: usize = 500;

/// A stage's permissions, ready to be asked.
#[derive(Debug)]
pub(crate) struct Policy {
    /// As in `stages.test`.
    table: String,
    permissions: Permissions,
    read: PathRules,
    write: PathRules,
    /// See [`Policy::reading_only`].
    declared: Option<(Vec<String>, PathRules)>,
    process: Vec<ProcessRule>,
    net: Vec<OriginRule>,
    registry: GlobSet,
    /// Of the workspace, what no grant opens.
    reserved: Arc<Reservations>,
}

impl Policy {
    /// `package_hosts`: what words of `net` stand for; `reserved`: what no grant opens.
    ///
    /// Fails when a permission doesn't mean anything.
    pub(crate) fn new(
        table: &str,
        permissions: &Permissions,
        package_hosts: &PackageHosts,
        reserved: Arc<Reservations>,
    ) -> Result<Policy, CapabilityError> {
        let invalid = |key: &str, why: &dyn std::fmt::Display| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("{why}"))
                .with_help(format!("correct `{key}` in [{table}.permissions]"))
        };
        let rules = |key: &str, rules: &[String]| PathRules::parse(rules).map_err(|error| invalid(key, &error));
        let mut net = Vec::new();
        for rule in &permissions.net {
            match rule.target() {
                NetTarget::Origin(rule) => net.push(rule.clone()),
                NetTarget::Packages(manager) => {
                    net.extend(package_hosts.origins(*manager).into_iter().map(OriginRule::from));
                }
            }
        }
        let process = permissions
            .process
            .iter()
            .map(|rule| ProcessRule::parse(rule).map_err(|error| invalid("process", &format!("`{rule}` {error}"))));
        let mut registry = GlobSetBuilder::new();
        for rule in &permissions.registry {
            registry.add(Glob::new(rule).map_err(|error| invalid("registry", &error))?);
        }
        Ok(Policy {
            table: table.to_owned(),
            permissions: permissions.clone(),
            read: rules("read", &permissions.read)?,
            write: rules("write", &permissions.write)?,
            declared: None,
            process: process.collect::<Result<_, _>>()?,
            net,
            registry: registry.build().map_err(|error| invalid("registry", &error))?,
            reserved,
        })
    }

    /// Of what is granted to be read, only what these globs name is.
    pub(crate) fn reading_only(self, declared: Option<&[String]>) -> Result<Policy, CapabilityError> {
        let declared = declared.map(|globs| Ok::<_, CapabilityError>((globs.to_vec(), PathRules::parse(globs)?)));
        Ok(Policy { declared: declared.transpose()?, ..self })
    }

    /// `program` and `args` as the guest wrote them; `variables`: those that the guest itself gives the program.
    ///
    /// Where the arguments are bounded, so are the variables, to those that `permissions.env` names: with a
    /// `GIT_SSH_COMMAND` of the guest's, any arguments of git's would do.
    pub(crate) fn program<'a>(
        &self,
        program: &str,
        args: &[String],
        mut variables: impl Iterator<Item = &'a String>,
    ) -> Result<(), CapabilityError> {
        let granted = &self.permissions.process;
        let mut rules = self.process.iter().filter(|rule| rule.grants(program, args)).peekable();
        if rules.peek().is_none() {
            let knows_args = self.process.iter().any(|rule| rule.names(program));
            let (missing, with) = match ProcessRule::exactly(program, args) {
                exact if knows_args && exact.len() <= MAX_ENTRY => (exact, " with these arguments"),
                _ => (ProcessRule::exactly(program, &[]), ""),
            };
            return Err(self.deny(&format!("start the program `{program}`{with}"), "process", granted, &missing));
        }
        if !rules.all(ProcessRule::bounds_arguments) {
            return Ok(());
        }
        match variables.find(|name| !self.permissions.env.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let doing =
                    format!("set the variable `{name}` of the program `{program}`, whose arguments are bounded");
                Err(self.deny(&doing, "env", &self.permissions.env, name))
            }
        }
    }

    pub(crate) fn read(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_closed(path)?;
        if self.may_read(path) {
            return Ok(());
        }
        if self.read.grant(path) {
            let message = format!("the stage may not read `{path}`, which isn't one of its inputs: it is cached");
            return Err(CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(format!(
                "add it to `inputs` of [{}], or set `cache = false` there: a result may only depend on what is declared",
                self.table
            )));
        }
        Err(self.deny(&format!("read `{path}`"), "read", &self.permissions.read, path.shown()))
    }

    pub(crate) fn write(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_fixed(path)?;
        if self.write.grant(path) {
            return Ok(());
        }
        Err(self.deny(&format!("write `{path}`"), "write", &self.permissions.write, path.shown()))
    }

    /// Without a reason: for listings, which show what may be read and pass over the rest.
    pub(crate) fn may_read(&self, path: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|(_, declared)| declared.grant(path));
        !self.is_reserved(path) && (self.write.grant(path) || (self.read.grant(path) && is_declared()))
    }

    /// Whether a listing can find anything in `folder`.
    pub(crate) fn may_list(&self, folder: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|(_, declared)| declared.reach_into(folder));
        !self.is_reserved(folder) && (self.write.reach_into(folder) || (self.read.reach_into(folder) && is_declared()))
    }

    pub(crate) fn origin(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants(origin)) {
            return Ok(());
        }
        Err(self.deny(&format!("call {origin}"), "net", &self.net_as_written(), &origin.to_string()))
    }

    /// A connection in which nobody sees what is spoken: whatever grants the host and the port grants it.
    pub(crate) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants_tunnel(origin)) {
            return Ok(());
        }
        Err(self.deny(&format!("connect to {origin}"), "net", &self.net_as_written(), &origin.to_string()))
    }

    /// The denial of an origin that is granted, and whose name leads where no name may lead.
    pub(crate) fn deny_address(&self, origin: &Origin, refused: &AddressRefused) -> CapabilityError {
        let literal = origin.at(refused.address).to_string();
        let denied = self.deny(&format!("call {origin}: {refused}"), "net", &self.net_as_written(), &literal);
        let help = denied.help.unwrap_or_default();
        CapabilityError { help: Some(format!("if that is meant, call the address itself, and {help}")), ..denied }
    }

    /// The refusal of a connection to a Unix socket, by its absolute path.
    pub(crate) fn deny_socket(&self, path: &str) -> CapabilityError {
        self.deny(&format!("connect to the socket {path}"), "socket", &self.permissions.socket, path)
    }

    /// Whether any host is granted: without one, programs need no way out.
    pub(crate) fn has_network(&self) -> bool {
        !self.net.is_empty()
    }

    /// What of this machine's loopback is granted whatever its port, as in `http://127.0.0.1:*`.
    pub(crate) fn grants_any_loopback_port(&self) -> bool {
        self.net.iter().any(OriginRule::is_any_loopback_port)
    }

    /// As they are written.
    pub(crate) fn reads(&self) -> &[String] {
        &self.permissions.read
    }

    /// Globs that no read may leave, where the grants alone don't bound it.
    pub(crate) fn declared(&self) -> Option<&[String]> {
        self.declared.as_ref().map(|(globs, _)| globs.as_slice())
    }

    /// As they are written.
    pub(crate) fn writes(&self) -> &[String] {
        &self.permissions.write
    }

    pub(crate) fn programs(&self) -> &[ProcessRule] {
        &self.process
    }

    /// Absolute paths, or `docker`.
    pub(crate) fn sockets(&self) -> &[String] {
        &self.permissions.socket
    }

    /// The places on this machine's loopback that are granted with a definite port, each once.
    pub(crate) fn loopback_ports(&self) -> BTreeSet<SocketAddr> {
        self.net.iter().filter_map(OriginRule::on_loopback).collect()
    }

    /// What to change when `limit` requests or connections at a time aren't enough.
    pub(crate) fn raise_requests(&self, limit: usize) -> String {
        format!("close some, or raise in [{}.limits]: requests = {}", self.table, limit.saturating_mul(2))
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

    fn net_as_written(&self) -> Vec<&str> {
        self.permissions.net.iter().map(NetRule::as_str).collect()
    }

    fn deny(&self, doing: &str, key: &str, granted: &[impl AsRef<str>], missing: &str) -> CapabilityError {
        CapabilityError::new(ErrorCode::PermissionDenied, format!("the stage may not {doing}")).with_help(grant(
            &self.table,
            key,
            granted,
            missing,
        ))
    }
}

/// The TOML that grants `missing` beside what is granted already.
fn grant(table: &str, key: &str, granted: &[impl AsRef<str>], missing: &str) -> String {
    let all: BTreeSet<&str> = granted.iter().map(AsRef::as_ref).chain([missing]).collect();
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
    use stagewright_model::PackageManager;

    use super::*;
    use crate::net::Kind;

    fn policy(change: impl FnOnce(&mut Permissions)) -> Policy {
        let mut permissions = Permissions::default();
        change(&mut permissions);
        let cargo = PackageHosts::with(PackageManager::Cargo, "https://index.crates.example/i/");
        Policy::new("stages.test", &permissions, &cargo, Arc::new(Reservations::of(&[".stagewright"]))).unwrap()
    }

    fn help(denied: Result<(), CapabilityError>) -> String {
        let error = denied.unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        error.help.unwrap()
    }

    fn start(policy: &Policy, call: &[&str], variables: &[&str]) -> Result<(), CapabilityError> {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        policy.program(call[0], &owned(&call[1..]), owned(variables).iter())
    }

    fn net(entries: &[&str]) -> Vec<NetRule> {
        entries.iter().map(|entry| NetRule::parse(entry).unwrap()).collect()
    }

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    fn origin(url: &str) -> Origin {
        Origin::of_url(url).unwrap()
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let policy = policy(|_| {});
        let table = "add to [stages.test.permissions]: ";
        assert_eq!(help(start(&policy, &["cargo", "test"], &[])), format!("{table}process = [\"cargo\"]"));
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
    fn help_keeps_what_is_granted_already() {
        let policy = policy(|permissions| permissions.process = vec!["git".into()]);
        assert!(start(&policy, &["git", "push", "--force"], &["GIT_SSH_COMMAND"]).is_ok());
        assert_eq!(
            help(start(&policy, &["cargo"], &[])),
            "change in [stages.test.permissions]: process = [\"cargo\", \"git\"]"
        );
    }

    #[test]
    fn a_denied_command_line_is_named_as_the_entry_that_grants_it() {
        let policy = policy(|permissions| permissions.process = vec!["git fetch origin *".into()]);
        assert!(start(&policy, &["git", "fetch", "origin", "main"], &[]).is_ok());
        let call = ["git", "commit", "-m", "a *", "--", "it's"];
        let denied = start(&policy, &call, &[]);
        assert_eq!(
            denied.as_ref().unwrap_err().message,
            "the stage may not start the program `git` with these arguments"
        );
        let entry = "git commit -m 'a *' -- 'it'\\''s'";
        assert!(
            help(denied).ends_with(&format!("process = [\"{}\", \"git fetch origin *\"]", entry.replace('\\', "\\\\")))
        );
        let long = "x".repeat(MAX_ENTRY);
        assert!(help(start(&policy, &["git", &long], &[])).ends_with("process = [\"git\", \"git fetch origin *\"]"));
    }

    #[test]
    fn bounded_arguments_bound_the_variables_too() {
        let policy = policy(|permissions| {
            permissions.process = vec!["git fetch origin *".into()];
            permissions.env = vec!["GIT_TRACE".into()];
        });
        let call = ["git", "fetch", "origin", "main"];
        assert!(start(&policy, &call, &["GIT_TRACE"]).is_ok());
        let help = help(start(&policy, &call, &["GIT_TRACE", "GIT_SSH_COMMAND"]));
        assert_eq!(help, "change in [stages.test.permissions]: env = [\"GIT_SSH_COMMAND\", \"GIT_TRACE\"]");
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
        let policy = policy(|permissions| permissions.net = net(&["cargo"]));
        assert!(policy.origin(&origin("https://index.crates.example/config.json")).is_ok());
        assert!(policy.origin(&origin("https://cargo/")).is_err());
    }

    #[test]
    fn a_name_that_leads_astray_is_denied_with_the_address_to_grant() {
        let policy = policy(|permissions| permissions.net = net(&["https://a.b:8443"]));
        let refused = AddressRefused { name: "a.b".into(), address: [127, 0, 0, 1].into(), kind: Kind::Loopback };
        let denied = policy.deny_address(&origin("https://a.b:8443"), &refused);
        assert_eq!(
            denied.message,
            "the stage may not call https://a.b:8443: `a.b` leads to 127.0.0.1, which is this machine's loopback"
        );
        assert_eq!(
            help(Err(denied)),
            "if that is meant, call the address itself, and change in [stages.test.permissions]: \
             net = [\"https://127.0.0.1:8443\", \"https://a.b:8443\"]"
        );
    }

    #[test]
    fn tunnels_are_granted_by_place_and_loopback_by_port() {
        let policy = policy(|permissions| {
            permissions.net = net(&["tcp://db.example.org:5432", "http://localhost:80", "a.b"]);
        });
        assert!(policy.has_network() && !super::tests::policy(|_| {}).has_network());
        let tunnel = |authority| policy.tunnel(&Origin::of_tunnel(authority).unwrap());
        assert!(tunnel("db.example.org:5432").is_ok() && tunnel("a.b:443").is_ok() && tunnel("localhost:80").is_ok());
        assert!(help(tunnel("a.b:22")).contains("\"tcp://a.b:22\""));
        assert_eq!(policy.loopback_ports(), ["127.0.0.1:80".parse().unwrap()].into());
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
        let mut permissions = Permissions { process: vec!["'x".into()], ..Permissions::default() };
        let error = Policy::new("finally.clean", &permissions, &Default::default(), Arc::default()).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("correct `process` in [finally.clean.permissions]"));
        permissions = Permissions { read: vec!["../up".into()], ..Permissions::default() };
        assert!(Policy::new("stages.test", &permissions, &Default::default(), Arc::default()).is_err());
    }
}
