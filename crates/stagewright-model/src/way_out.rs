//! Every way out of the engine, and what a rehearsal does with each.
//!
//! Two decisions are derived from this list. [`Reaches::effect_class`](crate::Reaches::effect_class) computes how far
//! the effects of a stage can reach, which determines what happens after a crash, whether a result may be cached, and
//! who has to approve. [`WayOut::in_rehearsal`] decides what really happens in a rehearsal. A way out that isn't listed
//! can't be granted, and adding one doesn't compile until both decisions are made for it.

use crate::grants::Permission;

/// A way by which something can leave the stage, the run or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WayOut {
    /// The environment that the stage names: users see what the stage does there.
    Environment,
    /// An HTTP request by the plugin, with any method: even a GET can trigger a deploy or transmit a secret.
    Request,
    /// A request by the plugin that the host signs with a credential.
    Credential,
    /// A request by a program that the proxy signs with a credential.
    ProxiedCredential,
    /// A command of the plugin on a host of a credential.
    RemoteCommand,
    /// A connection from a program to an origin in `net`.
    Connection,
    /// A connection from a program to a Unix socket.
    Socket,
    /// A secret that is passed to a program or a service.
    Secret,
    /// A variable of the engine's environment that programs inherit and that could hold a credential.
    Variable,
    /// A file with credentials for package hosts, if programs can read it and call package hosts.
    CredentialFile,
    /// A program without a sandbox, which can do everything that the user can.
    UnsandboxedProgram,
    /// A push to an image registry, and reading from one with credentials.
    Image,
    /// A service of the `process` target.
    Service,
    /// A native library, which can do everything that the engine can.
    NativeCode,
    /// Fetching the value of a secret, by a program outside of the sandbox or by a request with a token.
    SecretSource,
    /// The package hosts of a package manager in `net`.
    PackageHosts,
    /// Pulling a plugin from a registry.
    PluginPull,
    /// Reading from and writing to the shared cache.
    SharedCache,
}

/// What a rehearsal does with a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InRehearsal {
    /// It leads to a stand-in on this machine, described by this text.
    StandIn(&'static str),
    /// It isn't used: the run reports what would have been done, and the stage ends as rehearsed.
    Withheld,
    /// It isn't used, and this isn't reported, since no stage depends on it.
    Closed,
    /// It stays open within the limits described by this text. `--offline` closes it.
    Open(&'static str),
}

impl WayOut {
    /// All ways out.
    pub const ALL: [WayOut; 18] = [
        WayOut::Environment,
        WayOut::Request,
        WayOut::Credential,
        WayOut::ProxiedCredential,
        WayOut::RemoteCommand,
        WayOut::Connection,
        WayOut::Socket,
        WayOut::Secret,
        WayOut::Variable,
        WayOut::CredentialFile,
        WayOut::UnsandboxedProgram,
        WayOut::Image,
        WayOut::Service,
        WayOut::NativeCode,
        WayOut::SecretSource,
        WayOut::PackageHosts,
        WayOut::PluginPull,
        WayOut::SharedCache,
    ];

    /// What a rehearsal does with this way out, unless `[stages.NAME.rehearse]` grants it.
    pub fn in_rehearsal(self) -> InRehearsal {
        match self {
            WayOut::Environment => InRehearsal::StandIn("an environment of this rehearsal alone"),
            WayOut::Request
            | WayOut::Credential
            | WayOut::ProxiedCredential
            | WayOut::RemoteCommand
            | WayOut::Connection
            | WayOut::Socket
            | WayOut::Variable
            | WayOut::CredentialFile
            | WayOut::UnsandboxedProgram
            | WayOut::NativeCode => InRehearsal::Withheld,
            WayOut::Secret => InRehearsal::StandIn("a value of the secret's `shape`"),
            WayOut::Image => InRehearsal::StandIn("a registry in the state folder, without credentials"),
            WayOut::Service => InRehearsal::StandIn("a process with a network and a port of its own"),
            WayOut::SecretSource | WayOut::SharedCache => InRehearsal::Closed,
            WayOut::PackageHosts => InRehearsal::Open("for programs, without credentials"),
            WayOut::PluginPull => InRehearsal::Open("by digest, without credentials"),
        }
    }

    /// The key of `[stages.NAME.rehearse.permissions]` that opens this way out in a rehearsal; none if no grant does.
    pub fn opened_by(self) -> Option<Permission> {
        match self {
            // A credential file only matters together with a host, so granting the host opens it.
            WayOut::Request | WayOut::Connection | WayOut::CredentialFile => Some(Permission::Net),
            WayOut::Credential | WayOut::ProxiedCredential | WayOut::RemoteCommand => Some(Permission::Credentials),
            WayOut::Socket => Some(Permission::Socket),
            WayOut::Secret | WayOut::SecretSource => Some(Permission::Secrets),
            WayOut::Variable => Some(Permission::Env),
            WayOut::Image => Some(Permission::Registry),
            // There are no grants for native code, package hosts and programs without a sandbox. Stages don't use the
            // others, or only as stand-ins.
            WayOut::Environment
            | WayOut::Service
            | WayOut::UnsandboxedProgram
            | WayOut::NativeCode
            | WayOut::PackageHosts
            | WayOut::PluginPull
            | WayOut::SharedCache => None,
        }
    }
}
