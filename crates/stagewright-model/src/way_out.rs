//! Every way out of the engine, and what a rehearsal does with each of them.
//!
//! Two questions are answered from this one list. How far the effects of a stage can reach ([`Reaches::effect_class`](crate::Reaches::effect_class))
//! decides what happens after a crash, whether a result may be cached, and who has to approve. What a rehearsal does
//! ([`WayOut::in_rehearsal`]) decides what of it happens for real. A way that isn't in the list can't be granted, and one
//! that is added to it doesn't compile before both questions are answered.

use crate::grants::Permission;

/// A way by which something can leave the stage, the run or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WayOut {
    /// The stage names an environment: whatever it does there is what people see.
    Environment,
    /// An HTTP request of the plugin's, whatever its method: a GET can trigger a deploy, and carries secrets.
    Request,
    /// A connection of a program's to a host or a port that `net` names.
    Connection,
    /// A Unix socket that a program may connect to.
    Socket,
    /// A secret that is handed to a program or a service.
    Secret,
    /// A variable of the engine's that programs inherit, and that could hold a credential.
    Variable,
    /// A file in reach of programs that holds a credential for package hosts, which are in their reach as well.
    CredentialFile,
    /// A push to an image registry, and everything that is read from one with credentials.
    Image,
    /// A service of the `process` target.
    Service,
    /// A native library, which can do all that the engine can.
    NativeCode,
    /// Fetching the value of a secret: a program that runs outside of any sandbox, or a request with a token.
    SecretSource,
    /// The package hosts that a word of `net` stands for.
    PackageHosts,
    /// A plugin that is pulled from a registry.
    PluginPull,
    /// Results of the cache that other machines share.
    SharedCache,
}

/// What a rehearsal does with a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InRehearsal {
    /// It leads to a stand-in on this machine.
    StandIn(&'static str),
    /// It isn't taken: the run says what would have been done, and the stage ends as rehearsed.
    Withheld,
    /// It is closed, without a word: nothing of the stage depends on it.
    Closed,
    /// It stays open, as far as this says; `--offline` closes it.
    Open(&'static str),
}

impl WayOut {
    /// Every one of them.
    pub const ALL: [WayOut; 14] = [
        WayOut::Environment,
        WayOut::Request,
        WayOut::Connection,
        WayOut::Socket,
        WayOut::Secret,
        WayOut::Variable,
        WayOut::CredentialFile,
        WayOut::Image,
        WayOut::Service,
        WayOut::NativeCode,
        WayOut::SecretSource,
        WayOut::PackageHosts,
        WayOut::PluginPull,
        WayOut::SharedCache,
    ];

    /// What becomes of it in a rehearsal, where no grant of `[stages.X.rehearse]` says otherwise.
    pub fn in_rehearsal(self) -> InRehearsal {
        match self {
            WayOut::Environment => InRehearsal::StandIn("an environment of this rehearsal alone"),
            WayOut::Request
            | WayOut::Connection
            | WayOut::Socket
            | WayOut::Variable
            | WayOut::CredentialFile
            | WayOut::NativeCode => InRehearsal::Withheld,
            WayOut::Secret => InRehearsal::StandIn("a value of the secret's `shape`"),
            WayOut::Image => InRehearsal::StandIn("a registry in the state folder, without credentials"),
            WayOut::Service => InRehearsal::StandIn("a process with a network and a port of its own"),
            WayOut::SecretSource | WayOut::SharedCache => InRehearsal::Closed,
            WayOut::PackageHosts => InRehearsal::Open("for programs, without credentials"),
            WayOut::PluginPull => InRehearsal::Open("by digest, without credentials"),
        }
    }

    /// The key of `[stages.X.rehearse.permissions]` that opens it; none for what no grant opens in a rehearsal.
    pub fn opened_by(self) -> Option<Permission> {
        match self {
            // A program that could publish is started where the stage says that it may reach the host.
            WayOut::Request | WayOut::Connection | WayOut::CredentialFile => Some(Permission::Net),
            WayOut::Socket => Some(Permission::Socket),
            WayOut::Secret | WayOut::SecretSource => Some(Permission::Secrets),
            WayOut::Variable => Some(Permission::Env),
            WayOut::Image => Some(Permission::Registry),
            // Native code and package hosts take no grant; the others are of the engine itself.
            WayOut::Environment
            | WayOut::Service
            | WayOut::NativeCode
            | WayOut::PackageHosts
            | WayOut::PluginPull
            | WayOut::SharedCache => None,
        }
    }
}
