//! The table of the host's interfaces: their names, the permissions that open them, the ways out that they offer, and
//! the variables that programs inherit without a grant. All that the engine decides by interface is derived from it.

use crate::grants::Permission;
use crate::way_out::WayOut;

/// An interface of the plugin contract. The plugin host links exactly these, so a plugin can't import a capability that
/// isn't listed here, and every listed one declares in [`Interface::ways_out`] what a stage can reach through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the interface of that name in the contract")]
pub enum Interface {
    Types,
    Context,
    Source,
    Clock,
    Random,
    Poll,
    Logging,
    Outputs,
    Findings,
    TestReports,
    Metrics,
    Artifacts,
    Environment,
    Gate,
    Process,
    Workspace,
    Http,
    Secrets,
    Reveal,
    Registry,
    Service,
    Ssh,
}

/// A row of the table.
struct Facts {
    name: &'static str,
    permissions: &'static [Permission],
    /// The permissions that only some functions need, with the names of these functions.
    needed_by: &'static [(Permission, &'static [&'static str])],
    ways_out: &'static [WayOut],
    inherited: &'static [InheritedVariable],
}

/// An interface that needs no permission and has no way out.
const ALWAYS_OPEN: Facts = Facts { name: "", permissions: &[], needed_by: &[], ways_out: &[], inherited: &[] };

/// A variable of the engine's environment that programs have without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedVariable {
    /// The variable's name, such as `PATH`.
    pub name: &'static str,
    /// Whether the value is the location of files. A result then depends on the files rather than on the value: two
    /// machines that have the same programs in different folders can share results.
    pub is_place: bool,
}

impl Interface {
    /// All interfaces in display order.
    pub const ALL: [Interface; 22] = [
        Interface::Types,
        Interface::Context,
        Interface::Source,
        Interface::Clock,
        Interface::Random,
        Interface::Poll,
        Interface::Logging,
        Interface::Outputs,
        Interface::Findings,
        Interface::TestReports,
        Interface::Metrics,
        Interface::Artifacts,
        Interface::Environment,
        Interface::Gate,
        Interface::Process,
        Interface::Workspace,
        Interface::Http,
        Interface::Secrets,
        Interface::Reveal,
        Interface::Registry,
        Interface::Service,
        Interface::Ssh,
    ];

    /// The row of an interface.
    const fn facts(self) -> Facts {
        use Permission::{
            Credentials, Env, Exec, Net, Process, Read, Registry, Reveal, Secrets, Service, Socket, Write,
        };
        match self {
            Interface::Types => Facts { name: "types", ..ALWAYS_OPEN },
            Interface::Context => Facts { name: "context", ..ALWAYS_OPEN },
            Interface::Source => Facts { name: "source", ..ALWAYS_OPEN },
            Interface::Clock => Facts { name: "clock", ..ALWAYS_OPEN },
            Interface::Random => Facts { name: "random", ..ALWAYS_OPEN },
            Interface::Poll => Facts { name: "poll", ..ALWAYS_OPEN },
            Interface::Logging => Facts { name: "logging", ..ALWAYS_OPEN },
            Interface::Outputs => Facts { name: "outputs", ..ALWAYS_OPEN },
            Interface::Findings => Facts { name: "findings", ..ALWAYS_OPEN },
            Interface::TestReports => Facts { name: "test-reports", ..ALWAYS_OPEN },
            Interface::Metrics => Facts { name: "metrics", ..ALWAYS_OPEN },
            Interface::Artifacts => Facts { name: "artifacts", ..ALWAYS_OPEN },
            Interface::Environment => Facts { name: "environment", ..ALWAYS_OPEN },
            Interface::Gate => Facts { name: "gate", ..ALWAYS_OPEN },
            Interface::Process => Facts {
                name: "process",
                // Programs can access the files and hosts that are granted to their stage, and no others.
                permissions: &[Process, Read, Write, Exec, Net, Credentials, Socket, Env],
                ways_out: &[
                    WayOut::Connection,
                    WayOut::ProxiedCredential,
                    WayOut::Socket,
                    WayOut::Secret,
                    WayOut::Variable,
                    WayOut::CredentialFile,
                ],
                // Programs are found by `PATH`, toolchains keep their files in `HOME`, and `LANG` sets the language.
                inherited: &[
                    InheritedVariable { name: "PATH", is_place: true },
                    InheritedVariable { name: "HOME", is_place: true },
                    InheritedVariable { name: "LANG", is_place: false },
                ],
                ..ALWAYS_OPEN
            },
            Interface::Workspace => Facts {
                name: "workspace",
                permissions: &[Read, Write, Exec],
                needed_by: &[
                    (Read, &["read", "read-at", "glob", "locate", "digest", "executable", "gzip"]),
                    (Write, &["write", "append", "remove", "gzip"]),
                    // Files of `exec` can be read.
                    (Exec, &["read", "read-at", "glob", "locate", "digest", "executable", "gzip"]),
                ],
                ..ALWAYS_OPEN
            },
            Interface::Http => Facts {
                name: "http",
                permissions: &[Net, Credentials],
                ways_out: &[WayOut::Request, WayOut::Credential],
                ..ALWAYS_OPEN
            },
            // A handle by itself can't leave the stage. The ways out are those of the interfaces that accept handles.
            Interface::Secrets => Facts {
                name: "secrets",
                permissions: &[Secrets, Reveal],
                // In version 0.1 of the contract; later ones have an interface for it.
                needed_by: &[(Secrets, &["get"]), (Reveal, &["secret.reveal"])],
                ..ALWAYS_OPEN
            },
            Interface::Reveal => Facts { name: "reveal", permissions: &[Reveal], ..ALWAYS_OPEN },
            Interface::Registry => {
                Facts { name: "registry", permissions: &[Registry], ways_out: &[WayOut::Image], ..ALWAYS_OPEN }
            }
            Interface::Service => Facts {
                name: "service",
                permissions: &[Service],
                ways_out: &[WayOut::Service, WayOut::Secret],
                ..ALWAYS_OPEN
            },
            Interface::Ssh => {
                Facts { name: "ssh", permissions: &[Credentials], ways_out: &[WayOut::RemoteCommand], ..ALWAYS_OPEN }
            }
        }
    }

    /// The name in the contract.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The interface with this name.
    pub fn named(name: &str) -> Option<Interface> {
        Interface::ALL.into_iter().find(|interface| interface.name() == name)
    }

    /// The permissions that take effect through this interface; empty if it is always open.
    pub fn permissions(self) -> &'static [Permission] {
        self.facts().permissions
    }

    /// The permissions that take effect through this interface for a component that imports only some of its functions.
    /// `function` as in `read`, or `command.args` for a method.
    pub fn permissions_for(self, imports: impl Fn(&str) -> bool) -> Vec<Permission> {
        let Facts { permissions, needed_by, .. } = self.facts();
        let is_needed = |permission: &&Permission| {
            let mut rows = needed_by.iter().filter(|(of, _)| of == *permission).peekable();
            rows.peek().is_none() || rows.any(|(_, functions)| functions.iter().any(|function| imports(function)))
        };
        permissions.iter().filter(is_needed).copied().collect()
    }

    /// What a stage can reach through the interface. [`WayOut::in_rehearsal`] decides what a rehearsal does with each.
    pub fn ways_out(self) -> &'static [WayOut] {
        self.facts().ways_out
    }

    /// The variables that programs started through this interface inherit without a grant.
    pub fn inherited_variables(self) -> &'static [InheritedVariable] {
        self.facts().inherited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name() {
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
