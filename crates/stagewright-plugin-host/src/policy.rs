//! What a stage may do: the permissions that its TOML grants, as checks.
//!
//! Everything is denied that isn't granted. A denial names what was asked for, and its help is the TOML that would
//! grant it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use stagewright_model::{
    NetTarget, Origin, OriginRule, PathPattern, Permissions, ProcessRule, SecretUse, SocketRule, VariableName,
    WorkspacePath,
};

use crate::error::{CapabilityError, ErrorCode};
use crate::net::AddressRefused;
use crate::packages::PackageHosts;
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
    /// What may be read, for whatever purpose, and not written.
    read: Vec<PathPattern>,
    write: Vec<PathPattern>,
    exec: Vec<PathPattern>,
    /// See [`Policy::reading_only`].
    declared: Option<Vec<PathPattern>>,
    /// With the hosts that words of `net` stand for.
    net: Vec<OriginRule>,
    /// Of the workspace, what no grant opens.
    reserved: Arc<Reservations>,
}

impl Policy {
    /// `package_hosts`: what words of `net` stand for; `reserved`: what no grant opens.
    pub(crate) fn new(
        table: &str,
        permissions: &Permissions,
        package_hosts: &PackageHosts,
        reserved: Arc<Reservations>,
    ) -> Policy {
        let mut net = Vec::new();
        for rule in &permissions.net {
            match rule.target() {
                NetTarget::Origin(rule) => net.push(rule.clone()),
                NetTarget::Packages(manager) => {
                    net.extend(package_hosts.origins(*manager).into_iter().map(OriginRule::from));
                }
            }
        }
        Policy {
            table: table.to_owned(),
            permissions: permissions.clone(),
            read: permissions.read_only(),
            write: permissions.writable(),
            exec: permissions.exec.iter().map(|rule| rule.pattern().clone()).collect(),
            declared: None,
            net,
            reserved,
        }
    }

    /// Of what is granted to be read, only what these patterns match is.
    pub(crate) fn reading_only(self, declared: Option<&[PathPattern]>) -> Policy {
        Policy { declared: declared.map(<[PathPattern]>::to_vec), ..self }
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
        let mut rules = self.permissions.process.iter().filter(|rule| rule.grants(program, args)).peekable();
        if rules.peek().is_none() {
            let knows_args = self.permissions.process.iter().any(|rule| rule.names(program));
            let (missing, with) = match ProcessRule::exactly(program, args) {
                exact if knows_args && exact.len() <= MAX_ENTRY => (exact, " with these arguments"),
                _ => (ProcessRule::exactly(program, &[]), ""),
            };
            return Err(self.deny(&format!("start the program `{program}`{with}"), "process", granted, &missing));
        }
        if !rules.all(ProcessRule::bounds_arguments) {
            return Ok(());
        }
        let is_granted = |name: &String| self.permissions.env.iter().any(|granted| granted.as_str() == name);
        match variables.find(|name| !is_granted(name)) {
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
        if grant(&self.read, path) {
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
        if grant(&self.write, path) {
            return Ok(());
        }
        Err(self.deny(&format!("write `{path}`"), "write", &self.permissions.write, path.shown()))
    }

    /// Without a reason: for listings, which show what may be read and pass over the rest.
    pub(crate) fn may_read(&self, path: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|declared| grant(declared, path));
        !self.is_reserved(path) && (grant(&self.write, path) || (grant(&self.read, path) && is_declared()))
    }

    /// Whether a listing can find anything in `folder`.
    pub(crate) fn may_list(&self, folder: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|declared| reach_into(declared, folder));
        !self.is_reserved(folder)
            && (reach_into(&self.write, folder) || (reach_into(&self.read, folder) && is_declared()))
    }

    pub(crate) fn origin(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants(origin)) {
            return Ok(());
        }
        Err(self.deny(&format!("call {origin}"), "net", &self.permissions.net, &origin.to_string()))
    }

    /// A connection whose content isn't inspected: whatever grants the host and the port grants it.
    pub(crate) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants_tunnel(origin)) {
            return Ok(());
        }
        Err(self.deny(&format!("connect to {origin}"), "net", &self.permissions.net, &origin.to_string()))
    }

    /// The denial of an origin that is granted, and whose name leads where no name may lead.
    pub(crate) fn deny_address(&self, origin: &Origin, refused: &AddressRefused) -> CapabilityError {
        let literal = origin.at(refused.address).to_string();
        let denied = self.deny(&format!("call {origin}: {refused}"), "net", &self.permissions.net, &literal);
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

    /// What `read` and `exec` name.
    pub(crate) fn reads(&self) -> &[PathPattern] {
        &self.read
    }

    /// What no read may leave, where the grants alone don't bound it.
    pub(crate) fn declared(&self) -> Option<&[PathPattern]> {
        self.declared.as_deref()
    }

    /// Whether programs may be started from the path, if it may be read.
    pub(crate) fn may_start(&self, path: &WorkspacePath) -> bool {
        grant(&self.exec, path)
    }

    /// What `exec` names, of which programs may be started as far as it may be read.
    pub(crate) fn starts(&self) -> &[PathPattern] {
        &self.exec
    }

    /// What `write` names.
    pub(crate) fn writes(&self) -> &[PathPattern] {
        &self.write
    }

    pub(crate) fn programs(&self) -> &[ProcessRule] {
        &self.permissions.process
    }

    pub(crate) fn sockets(&self) -> &[SocketRule] {
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
        if self.permissions.registry.iter().any(|rule| rule.grants(repository)) {
            return Ok(());
        }
        let doing = format!("use the image repository `{repository}`");
        Err(self.deny(&doing, "registry", &self.permissions.registry, repository))
    }

    pub(crate) fn service(&self, name: &str) -> Result<(), CapabilityError> {
        let granted = &self.permissions.service;
        if granted.iter().any(|granted| granted.as_str() == name) {
            return Ok(());
        }
        Err(self.deny(&format!("run the service `{name}`"), "service", granted, name))
    }

    /// Whether the guest may hold the secret, for whatever use.
    pub(crate) fn secret(&self, name: &str) -> Result<(), CapabilityError> {
        if self.permissions.secrets.iter().any(|rule| rule.name() == name) {
            return Ok(());
        }
        Err(self.deny(&format!("use the secret `{name}`"), "secrets", &self.permissions.secrets, name))
    }

    /// Whether the guest may use the secret in this way.
    pub(crate) fn secret_use(&self, name: &str, wanted: SecretUse) -> Result<(), CapabilityError> {
        if self.permissions.secrets.iter().any(|rule| rule.name() == name && rule.allows(wanted)) {
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
        if granted.iter().any(|granted| granted.as_str() == name) {
            return Ok(());
        }
        Err(self.deny(&format!("read the value of the secret `{name}`"), "reveal", granted, name))
    }

    /// Variables of the engine's environment that processes inherit.
    pub(crate) fn inherited_variables(&self) -> &[VariableName] {
        &self.permissions.env
    }

    fn deny(&self, doing: &str, key: &str, granted: &[impl AsRef<str>], missing: &str) -> CapabilityError {
        CapabilityError::new(ErrorCode::PermissionDenied, format!("the stage may not {doing}")).with_help(remedy(
            &self.table,
            key,
            granted,
            missing,
        ))
    }
}

/// Whether a path is granted, by itself or with a folder that it is in.
fn grant(patterns: &[PathPattern], path: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| pattern.matches_within(path))
}

/// Whether a folder may hold anything that is granted.
fn reach_into(patterns: &[PathPattern], folder: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| folder.is_within(pattern.base()) || pattern.base().is_within(folder))
}

/// The TOML that grants `missing` beside what is granted already.
fn remedy(table: &str, key: &str, granted: &[impl AsRef<str>], missing: &str) -> String {
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
    use stagewright_model::{NetRule, PackageManager};

    use super::*;
    use crate::net::Kind;

    fn policy(change: impl FnOnce(&mut Permissions)) -> Policy {
        let mut permissions = Permissions::default();
        change(&mut permissions);
        let cargo = PackageHosts::with(PackageManager::Cargo, "https://index.crates.example/i/");
        Policy::new("stages.test", &permissions, &cargo, Arc::new(Reservations::of(&[".stagewright"])))
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
        entries.iter().map(|entry| entry.parse().unwrap()).collect()
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
            permissions.secrets =
                vec!["any".parse().unwrap(), "sent:header".parse().unwrap(), "handed:env".parse().unwrap()];
            permissions.reveal = vec!["sent".parse().unwrap(), "foreign".parse().unwrap()];
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
        let policy = policy(|permissions| permissions.process = vec!["git".parse().unwrap()]);
        assert!(start(&policy, &["git", "push", "--force"], &["GIT_SSH_COMMAND"]).is_ok());
        assert_eq!(
            help(start(&policy, &["cargo"], &[])),
            "change in [stages.test.permissions]: process = [\"cargo\", \"git\"]"
        );
    }

    #[test]
    fn a_denied_command_line_is_named_as_the_entry_that_grants_it() {
        let policy = policy(|permissions| permissions.process = vec!["git fetch origin *".parse().unwrap()]);
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
            permissions.process = vec!["git fetch origin *".parse().unwrap()];
            permissions.env = vec!["GIT_TRACE".parse().unwrap()];
        });
        let call = ["git", "fetch", "origin", "main"];
        assert!(start(&policy, &call, &["GIT_TRACE"]).is_ok());
        let help = help(start(&policy, &call, &["GIT_TRACE", "GIT_SSH_COMMAND"]));
        assert_eq!(help, "change in [stages.test.permissions]: env = [\"GIT_SSH_COMMAND\", \"GIT_TRACE\"]");
    }

    #[test]
    fn writing_implies_reading_and_not_the_other_way() {
        let policy = policy(|permissions| {
            permissions.read = vec!["src".parse().unwrap()];
            permissions.write = vec!["target".parse().unwrap()];
        });
        assert!(policy.read(&path("src/lib.rs")).is_ok() && policy.read(&path("target/a")).is_ok());
        assert!(policy.write(&path("target/a")).is_ok() && policy.write(&path("src/lib.rs")).is_err());
        assert!(policy.may_list(&path(".")) && !policy.may_list(&path("docs")));
    }

    #[test]
    fn what_is_reserved_is_granted_to_nobody() {
        let policy = policy(|permissions| permissions.write = vec![".".parse().unwrap()]);
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
        let refused =
            AddressRefused { name: "a.b".parse().unwrap(), address: [127, 0, 0, 1].into(), kind: Kind::Loopback };
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
        let policy = policy(|permissions| {
            permissions.registry = vec!["local/app".parse().unwrap(), "host:5000/acme/*".parse().unwrap()];
        });
        for image in ["local/app", "local/app:1.2", "local/app@sha256:ab", "host:5000/acme/api:2@sha256:ab"] {
            assert!(policy.image(image).is_ok(), "{image}");
        }
        for image in ["local/app2", "local/apps:1", "host:5000/other/api", "ghcr.io/local/app"] {
            assert!(policy.image(image).is_err(), "{image}");
        }
    }
}
