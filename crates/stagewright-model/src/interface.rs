//! The one table of the host's interfaces: their names, the permissions that open them, and the ways out that lie behind.

use crate::grants::Permission;
use crate::way_out::WayOut;

/// An interface of the plugin contract. The plugin host links exactly these, so a capability that isn't here can't be
/// imported, and one that is here says by [`Interface::ways_out`] how a stage could reach beyond itself through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the interface of that name in the contract")]
pub enum Interface {
    Types,
    Context,
    Clock,
    Logging,
    Outputs,
    Artifacts,
    Environment,
    Gate,
    Process,
    Workspace,
    Http,
    Secrets,
    Registry,
    Service,
}

impl Interface {
    /// In the order in which an audit lists them.
    pub const ALL: [Interface; 14] = [
        Interface::Types,
        Interface::Context,
        Interface::Clock,
        Interface::Logging,
        Interface::Outputs,
        Interface::Artifacts,
        Interface::Environment,
        Interface::Gate,
        Interface::Process,
        Interface::Workspace,
        Interface::Http,
        Interface::Secrets,
        Interface::Registry,
        Interface::Service,
    ];

    /// As in `stagewright:stage/NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Types => "types",
            Interface::Context => "context",
            Interface::Clock => "clock",
            Interface::Logging => "logging",
            Interface::Outputs => "outputs",
            Interface::Artifacts => "artifacts",
            Interface::Environment => "environment",
            Interface::Gate => "gate",
            Interface::Process => "process",
            Interface::Workspace => "workspace",
            Interface::Http => "http",
            Interface::Secrets => "secrets",
            Interface::Registry => "registry",
            Interface::Service => "service",
        }
    }

    /// The interface of that name.
    pub fn named(name: &str) -> Option<Interface> {
        Interface::ALL.into_iter().find(|interface| interface.name() == name)
    }

    /// The permissions that a plugin with this interface can make use of; none for an interface that is always open.
    pub fn permissions(self) -> &'static [Permission] {
        use Permission::{Env, Net, Process, Read, Registry, Reveal, Secrets, Service, Socket, Write};
        match self {
            // Programs have no more files and hosts than their stage.
            Interface::Process => &[Process, Read, Write, Net, Socket, Env],
            Interface::Workspace => &[Read, Write],
            Interface::Http => &[Net],
            Interface::Secrets => &[Secrets, Reveal],
            Interface::Registry => &[Registry],
            Interface::Service => &[Service],
            Interface::Types
            | Interface::Context
            | Interface::Clock
            | Interface::Logging
            | Interface::Outputs
            | Interface::Artifacts
            | Interface::Environment
            | Interface::Gate => &[],
        }
    }

    /// How a stage could reach beyond itself through the interface. What a rehearsal does with each of them is decided
    /// once, by [`WayOut::in_rehearsal`].
    pub fn ways_out(self) -> &'static [WayOut] {
        match self {
            Interface::Process => {
                &[WayOut::Connection, WayOut::Socket, WayOut::Secret, WayOut::Variable, WayOut::CredentialFile]
            }
            Interface::Http => &[WayOut::Request],
            // A handle alone goes nowhere; where one can be handed to is the interface that takes it.
            Interface::Secrets => &[],
            Interface::Registry => &[WayOut::Image],
            Interface::Service => &[WayOut::Service, WayOut::Secret],
            Interface::Types
            | Interface::Context
            | Interface::Clock
            | Interface::Logging
            | Interface::Outputs
            | Interface::Artifacts
            | Interface::Environment
            | Interface::Gate
            | Interface::Workspace => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_interfaces() {
        for interface in Interface::ALL {
            assert_eq!(Interface::named(interface.name()), Some(interface));
        }
        assert_eq!(Interface::named("sockets"), None);
    }
}
