//! The checks of a stage's permissions.
//!
//! Everything that isn't granted is denied. A denial names what was requested, and its help is the TOML that would grant
//! it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use stagewright_model::{
    CredentialRule, CredentialUse, MissingGrant, NetTarget, Origin, OriginRule, PackageManager, PathPattern,
    Permission, Permissions, ProcessRule, SecretRule, SecretUse, ServiceRule, SocketRoute, SocketRule, SocketUrl,
    VariableName, WorkspacePath, granting_lines,
};

use crate::error::{CapabilityError, ErrorCode};
use crate::learner::Learner;
use crate::net::AddressRefused;
use crate::packages::PackageHosts;
use crate::reserved::Reservations;

mod reserved;

/// The most bytes of a command line that is suggested as a grant.
const MAX_ENTRY: usize = 500;

/// A stage's permissions, prepared for checks.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The stage's table, as in `stages.test`.
    table: String,
    permissions: Permissions,
    /// The patterns of `read` and `exec`, all of which may be read.
    read: Vec<PathPattern>,
    write: Vec<PathPattern>,
    exec: Vec<PathPattern>,
    /// See [`Policy::reading_only`].
    declared: Option<Vec<PathPattern>>,
    /// Including the hosts that keywords of `net` open.
    net: Vec<OriginRule>,
    /// The requests over Unix sockets that are granted to the plugin.
    sockets: Vec<SocketRoute>,
    /// The origins that keywords open, granted or not.
    package_origins: Vec<(Origin, PackageManager)>,
    /// The paths of the workspace that no grant opens.
    reserved: Arc<Reservations>,
    /// Hears of what was allowed; none unless the run learns.
    learner: Option<(Learner, PolicyUser)>,
}

/// Who a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyUser {
    /// The plugin, each of whose requests is checked.
    Plugin,
    /// Its programs. Their files are checked when their sandbox is built, whether they use them or not.
    Programs,
}

impl Policy {
    /// `package_hosts`: the hosts that keywords of `net` open. `reserved`: the paths that no grant opens.
    pub(crate) fn new(
        table: &str,
        permissions: &Permissions,
        package_hosts: &PackageHosts,
        reserved: Arc<Reservations>,
    ) -> Policy {
        let (mut net, mut sockets) = (Vec::new(), Vec::new());
        for rule in &permissions.net {
            match rule.target() {
                NetTarget::Origin(rule) => net.push(rule.clone()),
                NetTarget::Socket(route) => sockets.push(route.clone()),
                NetTarget::Packages(manager) => {
                    net.extend(package_hosts.origins(*manager).into_iter().map(OriginRule::from));
                }
            }
        }
        let origins_of = |manager| package_hosts.origins(manager).into_iter().map(move |origin| (origin, manager));
        let package_origins = PackageManager::ALL.into_iter().flat_map(origins_of).collect();
        Policy {
            table: table.to_owned(),
            permissions: permissions.clone(),
            read: permissions.read_only(),
            write: permissions.writable(),
            exec: permissions.exec.iter().map(|rule| rule.pattern().clone()).collect(),
            declared: None,
            net,
            sockets,
            package_origins,
            reserved,
            learner: None,
        }
    }

    /// Reports to `learner` what is allowed to `user`.
    pub(crate) fn observed(self, learner: Option<Learner>, user: PolicyUser) -> Policy {
        Policy { learner: learner.map(|learner| (learner, user)), ..self }
    }

    /// Notes a request of the plugin that was allowed.
    fn note(&self, add: impl FnOnce(&Learner)) {
        if let Some((learner, PolicyUser::Plugin)) = &self.learner {
            add(learner);
        }
    }

    fn note_origin(&self, origin: &Origin) {
        if let Some((learner, _)) = &self.learner {
            learner.called(origin);
        }
    }

    /// Restricts reading to paths that these patterns match: the declared inputs of a cached stage.
    pub(crate) fn reading_only(self, declared: Option<&[PathPattern]>) -> Policy {
        Policy { declared: declared.map(<[PathPattern]>::to_vec), ..self }
    }

    /// Checks that a program may be started. `program` and `args`: as the guest wrote them. `variables`: those that the
    /// guest itself sets for the program.
    ///
    /// Where a grant restricts the arguments, the guest may only set variables that `permissions.env` names. Otherwise it
    /// could run any program through a harmless `git fetch`, by a `GIT_SSH_COMMAND` of its own.
    pub(crate) fn program<'a>(
        &self,
        program: &str,
        args: &[String],
        mut variables: impl Iterator<Item = &'a String>,
    ) -> Result<(), CapabilityError> {
        let mut rules = self.permissions.process.iter().filter(|rule| rule.grants(program, args)).peekable();
        if rules.peek().is_none() {
            let knows_args = self.permissions.process.iter().any(|rule| rule.names(program));
            let (missing, with) = match ProcessRule::exactly(program, args) {
                exact if knows_args && exact.len() <= MAX_ENTRY => (exact, " with these arguments"),
                _ => (ProcessRule::exactly(program, &[]), ""),
            };
            return Err(self.deny(&format!("start the program `{program}`{with}"), Permission::Process, &missing));
        }
        self.note(|learner| learner.started(program));
        if !rules.all(ProcessRule::bounds_arguments) {
            return Ok(());
        }
        let is_granted = |name: &String| self.permissions.env.iter().any(|granted| granted.as_str() == name);
        match variables.find(|name| !is_granted(name)) {
            None => Ok(()),
            Some(name) => {
                let doing =
                    format!("set the variable `{name}` of the program `{program}`, whose arguments are restricted");
                Err(self.deny(&doing, Permission::Env, name))
            }
        }
    }

    pub(crate) fn read(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_closed(path)?;
        if self.may_read(path) {
            self.note(|learner| learner.read(path));
            return Ok(());
        }
        if grant(&self.read, path) {
            let message = format!("the stage may not read `{path}`, which isn't one of its inputs: it is cached");
            return Err(CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(format!(
                "add it to `inputs` of [{}], or set `cache = false` there: a cached result may only depend on its inputs",
                self.table
            )));
        }
        Err(self.deny(&format!("read `{path}`"), Permission::Read, path.shown()))
    }

    pub(crate) fn write(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_fixed(path)?;
        if grant(&self.write, path) {
            self.note(|learner| learner.written(path));
            return Ok(());
        }
        Err(self.deny(&format!("write `{path}`"), Permission::Write, path.shown()))
    }

    /// Notes a file whose existence the plugin was shown, in a listing.
    pub(crate) fn saw(&self, path: &WorkspacePath) {
        self.note(|learner| learner.read(path));
    }

    /// Whether a path may be read; for listings, which omit the rest without an error.
    pub(crate) fn may_read(&self, path: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|declared| grant(declared, path));
        !self.is_reserved(path) && (grant(&self.write, path) || (grant(&self.read, path) && is_declared()))
    }

    /// Whether the stage may learn that a file was removed. It is no longer among the declared inputs of a cached stage.
    pub(crate) fn may_miss(&self, path: &WorkspacePath) -> bool {
        !self.is_reserved(path) && (grant(&self.write, path) || grant(&self.read, path))
    }

    /// Whether a folder can contain anything that may be read.
    pub(crate) fn may_list(&self, folder: &WorkspacePath) -> bool {
        let is_declared = || self.declared.as_ref().is_none_or(|declared| reach_into(declared, folder));
        !self.is_reserved(folder)
            && (reach_into(&self.write, folder) || (reach_into(&self.read, folder) && is_declared()))
    }

    pub(crate) fn origin(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants(origin)) {
            self.note_origin(origin);
            return Ok(());
        }
        Err(self.deny(&format!("call {origin}"), Permission::Net, &self.net_entry(origin)))
    }

    /// Checks a connection whose content isn't inspected. A grant of the host and the port is enough, whatever its scheme.
    pub(crate) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.net.iter().any(|rule| rule.grants_tunnel(origin)) {
            self.note_origin(origin);
            return Ok(());
        }
        Err(self.deny(&format!("connect to {origin}"), Permission::Net, &self.net_entry(origin)))
    }

    /// Checks a request of the plugin over a Unix socket.
    pub(crate) fn socket_request(&self, method: &str, url: &SocketUrl) -> Result<(), CapabilityError> {
        if self.sockets.iter().any(|route| route.grants(method, url)) {
            return Ok(());
        }
        let request = format!("{method} {}", url.shown());
        Err(self.deny(&format!("send {request}"), Permission::Net, &request))
    }

    /// The denial of a granted origin whose name resolves to an address that no name may resolve to.
    pub(crate) fn deny_address(&self, origin: &Origin, refused: &AddressRefused) -> CapabilityError {
        let literal = origin.at(refused.address).to_string();
        let denied = self.deny(&format!("call {origin}: {refused}"), Permission::Net, &literal);
        let help = denied.help.unwrap_or_default();
        CapabilityError { help: Some(format!("if this is intended, call the address itself, and {help}")), ..denied }
    }

    /// The denial of a connection to a Unix socket, by its absolute path.
    pub(crate) fn deny_socket(&self, path: &str) -> CapabilityError {
        self.deny(&format!("connect to the socket {path}"), Permission::Socket, path)
    }

    /// The denial of a variable of the engine's environment.
    pub(crate) fn deny_variable(&self, name: &str) -> CapabilityError {
        self.deny(&format!("use the variable {name}"), Permission::Env, name)
    }

    /// Whether any port of the host is granted.
    pub(crate) fn grants_host(&self, origin: &Origin) -> bool {
        self.net.iter().any(|rule| rule.is_for_host(origin))
    }

    /// The entry of `net` for an origin: the keyword of the package manager that uses it, if there is one.
    fn net_entry(&self, origin: &Origin) -> String {
        let uses = |manager: &PackageManager| {
            self.package_origins.iter().any(|(known, of)| of == manager && known.is_same_place(origin))
        };
        match PackageManager::ALL.into_iter().find(uses) {
            Some(manager) => manager.word().to_owned(),
            None => origin.to_string(),
        }
    }

    /// The entries of `net` that allow these origins.
    pub(crate) fn used_origins<'a>(&self, origins: impl Iterator<Item = &'a Origin>) -> BTreeSet<String> {
        origins.map(|origin| self.net_entry(origin)).collect()
    }

    /// The stage's table, as in `stages.test`.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Whether any host is granted.
    pub(crate) fn has_network(&self) -> bool {
        !self.net.is_empty()
    }

    /// Whether all ports of this machine's loopback are granted, as by `http://127.0.0.1:*`.
    pub(crate) fn grants_any_loopback_port(&self) -> bool {
        self.net.iter().any(OriginRule::is_any_loopback_port)
    }

    /// The patterns of `read` and `exec`.
    pub(crate) fn reads(&self) -> &[PathPattern] {
        &self.read
    }

    /// The declared inputs of a cached stage, to which its reads are restricted.
    pub(crate) fn declared(&self) -> Option<&[PathPattern]> {
        self.declared.as_deref()
    }

    /// Whether `exec` matches a path. Programs there may be started if it may also be read.
    pub(crate) fn may_start(&self, path: &WorkspacePath) -> bool {
        grant(&self.exec, path)
    }

    /// Checks that programs in a path may be started.
    pub(crate) fn start(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.not_closed(path)?;
        if self.may_start(path) || grant(&self.write, path) {
            return Ok(());
        }
        Err(self.deny(&format!("start `{path}`"), Permission::Exec, path.shown()))
    }

    /// The patterns of `exec`.
    pub(crate) fn starts(&self) -> &[PathPattern] {
        &self.exec
    }

    /// The patterns of `write`.
    pub(crate) fn writes(&self) -> &[PathPattern] {
        &self.write
    }

    pub(crate) fn programs(&self) -> &[ProcessRule] {
        &self.permissions.process
    }

    pub(crate) fn sockets(&self) -> &[SocketRule] {
        &self.permissions.socket
    }

    /// The addresses on this machine's loopback that are granted with a definite port.
    pub(crate) fn loopback_ports(&self) -> BTreeSet<SocketAddr> {
        self.net.iter().filter_map(OriginRule::on_loopback).collect()
    }

    /// The ports of other hosts that are granted for any protocol, with a definite host and port.
    pub(crate) fn connections(&self) -> BTreeSet<Origin> {
        self.net.iter().filter_map(OriginRule::on_other_host).collect()
    }

    /// The help for an attempt that reached its limit of requests or connections at a time.
    pub(crate) fn raise_requests(&self, limit: usize) -> String {
        format!("close some, or raise in [{}.limits]: requests = {}", self.table, limit.saturating_mul(2))
    }

    /// Checks an image reference, with or without tag and digest.
    pub(crate) fn image(&self, reference: &str) -> Result<(), CapabilityError> {
        let repository = repository(reference);
        if self.permissions.registry.iter().any(|rule| rule.grants(repository)) {
            return Ok(());
        }
        let doing = format!("use the image repository `{repository}`");
        Err(self.deny(&doing, Permission::Registry, repository))
    }

    pub(crate) fn service(&self, name: &str) -> Result<(), CapabilityError> {
        if self.permissions.service.iter().any(|granted| granted.name() == name) {
            return Ok(());
        }
        Err(self.deny(&format!("run the service `{name}`"), Permission::Service, name))
    }

    /// Checks that the proxy of a service may accept requests at an address.
    pub(crate) fn service_address(&self, name: &str, address: SocketAddr) -> Result<(), CapabilityError> {
        let mut granted = self.permissions.service.iter();
        if granted.any(|granted| granted.name() == name && granted.address() == Some(address)) {
            return Ok(());
        }
        let doing = format!("accept requests for the service `{name}` at {address}");
        Err(self.deny(&doing, Permission::Service, &ServiceRule::entry(name, address)))
    }

    /// Checks that the guest may have a handle of the secret, for any use.
    pub(crate) fn secret(&self, name: &str) -> Result<(), CapabilityError> {
        if self.permissions.secrets.iter().any(|rule| rule.name() == name && rule.opens_handle()) {
            return Ok(());
        }
        Err(self.deny(&format!("use the secret `{name}`"), Permission::Secrets, name))
    }

    /// The names of the secrets that the proxy adds to downloads, in the order of the grants.
    pub(crate) fn proxy_secrets(&self) -> impl Iterator<Item = &str> {
        self.permissions.secrets.iter().filter(|rule| rule.allows(SecretUse::Proxy)).map(SecretRule::name)
    }

    /// The origins that are granted on a port of this machine's loopback, by http or https.
    pub(crate) fn origins_on_loopback(&self, address: SocketAddr) -> impl Iterator<Item = Origin> {
        let rules = self.net.iter().filter(move |rule| rule.on_loopback() == Some(address));
        rules.filter_map(|rule| Origin::parse(&rule.to_string()))
    }

    /// Checks that the guest may use the secret in this way.
    pub(crate) fn secret_use(&self, name: &str, usage: SecretUse) -> Result<(), CapabilityError> {
        if self.permissions.secrets.iter().any(|rule| rule.name() == name && rule.allows(usage)) {
            return Ok(());
        }
        let doing = match usage {
            SecretUse::Header => format!("attach the secret `{name}` to requests"),
            SecretUse::Env => format!("pass the secret `{name}` to processes"),
            SecretUse::Proxy => format!("let the proxy send the secret `{name}`"),
        };
        let missing = format!("{name}:{}", usage.word());
        Err(self.deny(&doing, Permission::Secrets, &missing))
    }

    /// Checks that the guest may read the secret's value. This takes a grant of the secret itself too.
    pub(crate) fn reveal(&self, name: &str) -> Result<(), CapabilityError> {
        self.secret(name)?;
        if self.permissions.reveal.iter().any(|granted| granted.as_str() == name) {
            return Ok(());
        }
        Err(self.deny(&format!("read the value of the secret `{name}`"), Permission::Reveal, name))
    }

    /// The credentials with which the host signs requests of the plugin, or of its programs.
    pub(crate) fn credentials(&self, usage: CredentialUse) -> impl Iterator<Item = &str> {
        self.permissions.credentials.iter().filter(move |rule| rule.usage() == usage).map(CredentialRule::name)
    }

    /// Checks that the host may sign requests of the plugin with the credential.
    pub(crate) fn credential(&self, name: &str) -> Result<(), CapabilityError> {
        if self.credentials(CredentialUse::Plugin).any(|granted| granted == name) {
            return Ok(());
        }
        Err(self.deny(&format!("use the credential `{name}`"), Permission::Credentials, name))
    }

    /// The variables of the engine's environment that programs inherit.
    pub(crate) fn inherited_variables(&self) -> &[VariableName] {
        &self.permissions.env
    }

    /// The change to the stage's table that gives it all of these grants.
    pub(crate) fn remedy(&self, missing: &[MissingGrant]) -> String {
        match missing {
            [grant] => grant.remedy(&self.permissions),
            _ => {
                format!(
                    "set in [{}.permissions]: {}",
                    self.table,
                    granting_lines(&self.permissions, missing).join("; ")
                )
            }
        }
    }

    fn deny(&self, doing: &str, permission: Permission, missing: &str) -> CapabilityError {
        let grant =
            MissingGrant { table: format!("{}.permissions", self.table), permission, entry: missing.to_owned() };
        let denied = CapabilityError::new(ErrorCode::PermissionDenied, format!("the stage may not {doing}"));
        let help = Some(grant.remedy(&self.permissions));
        CapabilityError { help, grant: Some(Box::new(grant)), ..denied }
    }
}

/// Whether a pattern matches a path, or a folder that contains it.
fn grant(patterns: &[PathPattern], path: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| pattern.matches_within(path))
}

/// Whether a pattern can match anything in a folder.
fn reach_into(patterns: &[PathPattern], folder: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| folder.is_within(pattern.base()) || pattern.base().is_within(folder))
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
mod tests;
