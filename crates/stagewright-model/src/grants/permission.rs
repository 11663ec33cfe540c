//! The kinds of permissions: their keys, descriptions of their entries, and comparison of grants.

use serde::{Deserialize, Serialize};

use super::credential::{CredentialRule, CredentialUse};
use super::name::{SecretName, VariableName};
use super::path::PathRule;
use super::repository::RepositoryRule;
use super::secret::{SecretRule, SecretUse};
use super::service::ServiceRule;
use super::socket::SocketRule;
use super::{NetRule, Permissions, ProcessRule};
use crate::format_error::FormatError;

/// A key of `[stages.NAME.permissions]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// `process`
    Process,
    /// `read`
    Read,
    /// `write`
    Write,
    /// `exec`
    Exec,
    /// `net`
    Net,
    /// `secrets`
    Secrets,
    /// `reveal`
    Reveal,
    /// `credentials`
    Credentials,
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
    /// All permissions in display order.
    pub const ALL: [Permission; 12] = [
        Permission::Process,
        Permission::Read,
        Permission::Write,
        Permission::Exec,
        Permission::Net,
        Permission::Secrets,
        Permission::Reveal,
        Permission::Credentials,
        Permission::Registry,
        Permission::Service,
        Permission::Socket,
        Permission::Env,
    ];

    /// The key in TOML.
    pub fn key(self) -> &'static str {
        match self {
            Permission::Process => "process",
            Permission::Read => "read",
            Permission::Write => "write",
            Permission::Exec => "exec",
            Permission::Net => "net",
            Permission::Secrets => "secrets",
            Permission::Reveal => "reveal",
            Permission::Credentials => "credentials",
            Permission::Registry => "registry",
            Permission::Service => "service",
            Permission::Socket => "socket",
            Permission::Env => "env",
        }
    }
}

/// One entry of a stage's permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is an entry of the permission of that name")]
pub enum Grant<'a> {
    Process(&'a ProcessRule),
    Read(&'a PathRule),
    Write(&'a PathRule),
    Exec(&'a PathRule),
    Net(&'a NetRule),
    Secrets(&'a SecretRule),
    Reveal(&'a SecretName),
    Credentials(&'a CredentialRule),
    Registry(&'a RepositoryRule),
    Service(&'a ServiceRule),
    Socket(&'a SocketRule),
    Env(&'a VariableName),
}

impl AsRef<str> for Grant<'_> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<'a> Grant<'a> {
    /// The permission that this is an entry of.
    pub fn permission(self) -> Permission {
        match self {
            Grant::Process(_) => Permission::Process,
            Grant::Read(_) => Permission::Read,
            Grant::Write(_) => Permission::Write,
            Grant::Exec(_) => Permission::Exec,
            Grant::Net(_) => Permission::Net,
            Grant::Secrets(_) => Permission::Secrets,
            Grant::Reveal(_) => Permission::Reveal,
            Grant::Credentials(_) => Permission::Credentials,
            Grant::Registry(_) => Permission::Registry,
            Grant::Service(_) => Permission::Service,
            Grant::Socket(_) => Permission::Socket,
            Grant::Env(_) => Permission::Env,
        }
    }

    /// The entry as written.
    pub fn as_str(self) -> &'a str {
        match self {
            Grant::Process(rule) => rule.as_str(),
            Grant::Read(rule) | Grant::Write(rule) | Grant::Exec(rule) => rule.as_str(),
            Grant::Net(rule) => rule.as_str(),
            Grant::Secrets(rule) => rule.as_str(),
            Grant::Reveal(name) => name.as_str(),
            Grant::Credentials(rule) => rule.as_str(),
            Grant::Registry(rule) => rule.as_str(),
            Grant::Service(rule) => rule.as_str(),
            Grant::Socket(rule) => rule.as_str(),
            Grant::Env(name) => name.as_str(),
        }
    }

    /// What the entry allows, as a verb phrase after "may".
    pub fn phrase(self) -> String {
        // Backticks delimit the entry in the phrase. An entry that contains one could otherwise end the quotation early
        // and continue with text that looks like part of the message.
        let entry = self.as_str().replace('`', "\\u{60}");
        match self {
            Grant::Process(rule) if rule.program().is_none() => "start any program".to_owned(),
            Grant::Process(rule) if !rule.bounds_arguments() => format!("start `{entry}` with any arguments"),
            Grant::Process(_) => format!("start `{entry}`"),
            Grant::Read(rule) if rule.is_root() => "read the whole workspace".to_owned(),
            Grant::Write(rule) if rule.is_root() => "write the whole workspace".to_owned(),
            Grant::Read(_) | Grant::Write(_) => format!("{} `{entry}`", self.permission().key()),
            Grant::Exec(rule) if rule.is_root() => "read the whole workspace and start any program in it".to_owned(),
            Grant::Exec(_) => format!("read `{entry}` and start programs in it"),
            Grant::Net(rule) if rule.packages().is_some() => format!("call the package hosts of {entry}"),
            Grant::Net(_) => format!("call {entry}"),
            Grant::Secrets(rule) => match rule.only() {
                Some(SecretUse::Env) => format!("pass the secret `{}` to programs", rule.name()),
                Some(SecretUse::Header) => format!("send the secret `{}` in requests", rule.name()),
                Some(SecretUse::Proxy) => {
                    format!("authenticate downloads of programs with the secret `{}`", rule.name())
                }
                None => format!("use the secret `{entry}`"),
            },
            Grant::Reveal(_) => format!("read the value of the secret `{entry}`"),
            Grant::Credentials(rule) => match rule.usage() {
                CredentialUse::Plugin => format!("let the host sign requests with the credential `{entry}`"),
                CredentialUse::Programs => {
                    format!("let the proxy sign requests of programs with the credential `{}`", rule.name())
                }
            },
            Grant::Registry(_) => format!("push to the image repository `{entry}`"),
            Grant::Service(rule) => rule.doing(),
            Grant::Socket(_) => format!("connect to the socket `{entry}`"),
            Grant::Env(_) => format!("pass the engine's variable `{entry}` to programs"),
        }
    }

    /// Whether an entry of the same permission in `granted` allows everything that this entry allows. No if that can't
    /// be decided.
    pub fn is_listed(self, granted: &Permissions) -> bool {
        match self {
            Grant::Process(rule) => granted.process.iter().any(|other| rule == other || rule.is_within(other)),
            Grant::Read(rule) => granted.read.iter().any(|other| rule == other || other.covers(rule)),
            Grant::Write(rule) => granted.write.iter().any(|other| rule == other || other.covers(rule)),
            Grant::Exec(rule) => granted.exec.iter().any(|other| rule == other || other.covers(rule)),
            Grant::Net(rule) => granted.net.iter().any(|other| rule == other || other.covers(rule)),
            Grant::Secrets(rule) => granted.secrets.iter().any(|other| other.covers(rule)),
            Grant::Reveal(name) => granted.reveal.contains(name),
            Grant::Credentials(rule) => granted.credentials.contains(rule),
            Grant::Registry(rule) => granted.registry.iter().any(|other| other.covers(rule)),
            Grant::Service(rule) => granted.service.iter().any(|other| other.covers(rule)),
            Grant::Socket(rule) => granted.socket.contains(rule),
            Grant::Env(name) => granted.env.contains(name),
        }
    }

    /// Whether `granted` allows everything that this entry allows. No if that can't be decided.
    pub fn is_within(self, granted: &Permissions) -> bool {
        // `write` includes `exec` and `read`, and `exec` includes `read`.
        let implied = || match self {
            Grant::Read(rule) => Grant::Exec(rule).is_listed(granted) || Grant::Write(rule).is_listed(granted),
            Grant::Exec(rule) => Grant::Write(rule).is_listed(granted),
            _ => false,
        };
        self.is_listed(granted) || implied()
    }
}

impl Permissions {
    /// All entries in display order.
    pub fn entries(&self) -> impl Iterator<Item = Grant<'_>> {
        Permission::ALL.into_iter().flat_map(|kind| self.of(kind))
    }

    /// The entries of one permission.
    pub fn of(&self, kind: Permission) -> Vec<Grant<'_>> {
        match kind {
            Permission::Process => self.process.iter().map(Grant::Process).collect(),
            Permission::Read => self.read.iter().map(Grant::Read).collect(),
            Permission::Write => self.write.iter().map(Grant::Write).collect(),
            Permission::Exec => self.exec.iter().map(Grant::Exec).collect(),
            Permission::Net => self.net.iter().map(Grant::Net).collect(),
            Permission::Secrets => self.secrets.iter().map(Grant::Secrets).collect(),
            Permission::Reveal => self.reveal.iter().map(Grant::Reveal).collect(),
            Permission::Credentials => self.credentials.iter().map(Grant::Credentials).collect(),
            Permission::Registry => self.registry.iter().map(Grant::Registry).collect(),
            Permission::Service => self.service.iter().map(Grant::Service).collect(),
            Permission::Socket => self.socket.iter().map(Grant::Socket).collect(),
            Permission::Env => self.env.iter().map(Grant::Env).collect(),
        }
    }

    /// Parses and adds an entry of one permission.
    ///
    /// # Errors
    /// If the text isn't a valid entry of that permission.
    pub fn insert(&mut self, kind: Permission, entry: &str) -> Result<(), FormatError> {
        match kind {
            Permission::Process => self.process.push(ProcessRule::parse(entry)?),
            Permission::Read => self.read.push(PathRule::parse(entry)?),
            Permission::Write => self.write.push(PathRule::parse(entry)?),
            Permission::Exec => self.exec.push(PathRule::parse(entry)?),
            Permission::Net => self.net.push(NetRule::parse(entry)?),
            Permission::Secrets => self.secrets.push(SecretRule::parse(entry)?),
            Permission::Reveal => self.reveal.push(SecretName::parse(entry)?),
            Permission::Credentials => self.credentials.push(CredentialRule::parse(entry)?),
            Permission::Registry => self.registry.push(RepositoryRule::parse(entry)?),
            Permission::Service => self.service.push(ServiceRule::parse(entry)?),
            Permission::Socket => self.socket.push(SocketRule::parse(entry)?),
            Permission::Env => self.env.push(VariableName::parse(entry)?),
        }
        Ok(())
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, grant: Grant<'_>) {
        match grant {
            Grant::Process(rule) => self.process.push(rule.clone()),
            Grant::Read(rule) => self.read.push(rule.clone()),
            Grant::Write(rule) => self.write.push(rule.clone()),
            Grant::Exec(rule) => self.exec.push(rule.clone()),
            Grant::Net(rule) => self.net.push(rule.clone()),
            Grant::Secrets(rule) => self.secrets.push(rule.clone()),
            Grant::Reveal(name) => self.reveal.push(name.clone()),
            Grant::Credentials(rule) => self.credentials.push(rule.clone()),
            Grant::Registry(rule) => self.registry.push(rule.clone()),
            Grant::Service(rule) => self.service.push(rule.clone()),
            Grant::Socket(rule) => self.socket.push(rule.clone()),
            Grant::Env(name) => self.env.push(name.clone()),
        }
    }

    /// Adds the entries of `more`, without duplicates.
    pub(crate) fn add_all(&mut self, more: &Permissions) {
        let Permissions {
            process,
            read,
            write,
            exec,
            net,
            secrets,
            reveal,
            credentials,
            registry,
            service,
            socket,
            env,
            unsandboxed,
            credential_files: _,
        } = more;
        self.unsandboxed |= unsandboxed;
        add(&mut self.process, process);
        add(&mut self.read, read);
        add(&mut self.write, write);
        add(&mut self.exec, exec);
        add(&mut self.net, net);
        add(&mut self.secrets, secrets);
        add(&mut self.reveal, reveal);
        add(&mut self.credentials, credentials);
        add(&mut self.registry, registry);
        add(&mut self.service, service);
        add(&mut self.socket, socket);
        add(&mut self.env, env);
    }

    /// Sorts the entries, and removes duplicates and `credential_files`.
    pub(crate) fn sorted(&self) -> Permissions {
        let mut sorted = Permissions { credential_files: Vec::new(), ..self.clone() };
        let Permissions {
            process,
            read,
            write,
            exec,
            net,
            secrets,
            reveal,
            credentials,
            registry,
            service,
            socket,
            env,
            unsandboxed: _,
            credential_files: _,
        } = &mut sorted;
        sort(process);
        sort(read);
        sort(write);
        sort(exec);
        sort(net);
        sort(secrets);
        sort(reveal);
        sort(credentials);
        sort(registry);
        sort(service);
        sort(socket);
        sort(env);
        sorted
    }

    /// The entries that aren't [within](Grant::is_within) `other`, without `unsandboxed`.
    pub fn beyond<'a>(&'a self, other: &Permissions) -> Vec<Grant<'a>> {
        self.entries().filter(|grant| !grant.is_within(other)).collect()
    }

    /// Whether all entries are [within](Grant::is_within) `other`, and `unsandboxed` too.
    pub fn is_within(&self, other: &Permissions) -> bool {
        (other.unsandboxed || !self.unsandboxed) && self.entries().all(|grant| grant.is_within(other))
    }
}

/// Adds the entries of `more` that `to` doesn't contain.
pub(crate) fn add<T: Clone + PartialEq>(to: &mut Vec<T>, more: &[T]) {
    for entry in more {
        if !to.contains(entry) {
            to.push(entry.clone());
        }
    }
}

fn sort<T: Ord>(entries: &mut Vec<T>) {
    entries.sort_unstable();
    entries.dedup();
}

#[cfg(test)]
mod tests;
