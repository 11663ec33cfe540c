//! The one table of the host's interfaces: their names, the permissions that open them, the ways out that lie behind, and
//! the variables that programs inherit without a grant.

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

/// A row of the table.
struct Facts {
    name: &'static str,
    permissions: &'static [Permission],
    ways_out: &'static [WayOut],
    inherited: &'static [InheritedVariable],
}

/// Opened by nothing, and leading nowhere.
const ALWAYS_OPEN: Facts = Facts { name: "", permissions: &[], ways_out: &[], inherited: &[] };

/// A variable of the engine's environment that programs have without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedVariable {
    /// As in `PATH`.
    pub name: &'static str,
    /// Whether it names a place, so that a result depends on what is found there and not on the value: two machines that
    /// have the same programs in different folders can share results.
    pub is_place: bool,
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

    /// The table: all that is known of an interface before a plugin calls it.
    const fn facts(self) -> Facts {
        use Permission::{Env, Exec, Net, Process, Read, Registry, Reveal, Secrets, Service, Socket, Write};
        match self {
            Interface::Types => Facts { name: "types", ..ALWAYS_OPEN },
            Interface::Context => Facts { name: "context", ..ALWAYS_OPEN },
            Interface::Clock => Facts { name: "clock", ..ALWAYS_OPEN },
            Interface::Logging => Facts { name: "logging", ..ALWAYS_OPEN },
            Interface::Outputs => Facts { name: "outputs", ..ALWAYS_OPEN },
            Interface::Artifacts => Facts { name: "artifacts", ..ALWAYS_OPEN },
            Interface::Environment => Facts { name: "environment", ..ALWAYS_OPEN },
            Interface::Gate => Facts { name: "gate", ..ALWAYS_OPEN },
            Interface::Process => Facts {
                name: "process",
                // Programs have no more files and hosts than their stage.
                permissions: &[Process, Read, Write, Exec, Net, Socket, Env],
                ways_out: &[
                    WayOut::Connection,
                    WayOut::Socket,
                    WayOut::Secret,
                    WayOut::Variable,
                    WayOut::CredentialFile,
                ],
                // Where programs are, where toolchains keep their things, which language to speak.
                inherited: &[
                    InheritedVariable { name: "PATH", is_place: true },
                    InheritedVariable { name: "HOME", is_place: true },
                    InheritedVariable { name: "LANG", is_place: false },
                ],
            },
            Interface::Workspace => Facts { name: "workspace", permissions: &[Read, Write, Exec], ..ALWAYS_OPEN },
            Interface::Http => Facts { name: "http", permissions: &[Net], ways_out: &[WayOut::Request], ..ALWAYS_OPEN },
            // A handle alone goes nowhere; where one can be handed to is the interface that takes it.
            Interface::Secrets => Facts { name: "secrets", permissions: &[Secrets, Reveal], ..ALWAYS_OPEN },
            Interface::Registry => {
                Facts { name: "registry", permissions: &[Registry], ways_out: &[WayOut::Image], ..ALWAYS_OPEN }
            }
            Interface::Service => Facts {
                name: "service",
                permissions: &[Service],
                ways_out: &[WayOut::Service, WayOut::Secret],
                ..ALWAYS_OPEN
            },
        }
    }

    /// As in `stagewright:stage/NAME`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The interface of that name.
    pub fn named(name: &str) -> Option<Interface> {
        Interface::ALL.into_iter().find(|interface| interface.name() == name)
    }

    /// The permissions that a plugin with this interface can make use of; none for an interface that is always open.
    pub fn permissions(self) -> &'static [Permission] {
        self.facts().permissions
    }

    /// How a stage could reach beyond itself through the interface. What a rehearsal does with each of them is decided
    /// once, by [`WayOut::in_rehearsal`].
    pub fn ways_out(self) -> &'static [WayOut] {
        self.facts().ways_out
    }

    /// What the programs that are started by it have of the engine's own environment, whatever is granted.
    pub fn inherited_variables(self) -> &'static [InheritedVariable] {
        self.facts().inherited
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

    #[test]
    fn every_permission_opens_an_interface() {
        for permission in Permission::ALL {
            let opens = |interface: &Interface| interface.permissions().contains(&permission);
            assert!(Interface::ALL.iter().any(opens), "{permission:?}");
        }
    }
}
