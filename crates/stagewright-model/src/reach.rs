//! What a stage can reach outside of the run, computed from its plugin's imports and its grants.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::grants::{
    CredentialRule, CredentialUse, NetRule, Permissions, RepositoryRule, SecretRule, SecretUse, ServiceRule,
    SocketRule, VariableName,
};
use crate::imports::Imports;
use crate::interface::Interface;
use crate::way_out::WayOut;

/// How far the effects of a stage can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectClass {
    /// Nothing outside of the run. After a crash, the stage can simply run again.
    Pure,
    /// Files and processes on this machine.
    Local,
    /// Networks, registries, services and environments. After a crash, the attempt's outcome has to be determined
    /// first.
    #[default]
    External,
}

/// How much of a stage really happens in a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// The stage does the same as in a real run.
    Real,
    /// The stage runs, but what it reaches outside of the run are stand-ins.
    StandIn,
    /// The rehearsal reports what the stage would do, without doing it.
    Rehearsed,
}

impl Fidelity {
    /// The word in JSON and in the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Fidelity::Real => "real",
            Fidelity::StandIn => "stand-in",
            Fidelity::Rehearsed => "rehearsed",
        }
    }
}

/// The kind of a plugin's code, which determines what the stage can do with its grants.
#[derive(Clone, Copy, Debug)]
pub enum PluginCode<'a> {
    /// A component, which can only use the interfaces that it imports.
    Component(&'a dyn Imports),
    /// A native library, which can do anything.
    Native,
}

/// Something outside of the run that a stage can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach<'a> {
    /// How the stage can reach it.
    pub way: WayOut,
    /// The name of the environment, or the entry of the permission.
    pub entry: &'a str,
}

/// A verb phrase for messages, after "may".
impl fmt::Display for Reach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reach { way, entry } = self;
        match way {
            WayOut::Environment => write!(f, "act on the environment `{entry}`"),
            WayOut::Request | WayOut::Connection | WayOut::PackageHosts => write!(f, "call {entry}"),
            WayOut::Credential => write!(f, "send requests that the credential `{entry}` signs"),
            WayOut::ProxiedCredential => {
                let name = entry.split_once(':').map_or(*entry, |(name, _)| name);
                write!(f, "let programs send requests that the credential `{name}` signs")
            }
            WayOut::RemoteCommand => write!(f, "run commands on the hosts of the credential `{entry}`"),
            WayOut::Socket => write!(f, "connect to the socket `{entry}`"),
            WayOut::Secret | WayOut::SecretSource => write!(f, "use the secret `{entry}`"),
            WayOut::Variable => write!(f, "inherit the variable `{entry}`, which could hold a credential"),
            WayOut::CredentialFile => write!(f, "publish with the credential in `{entry}`"),
            WayOut::UnsandboxedProgram => f.write_str("do anything: its programs run without a sandbox"),
            WayOut::Image => write!(f, "push to and resolve `{entry}`"),
            WayOut::Service => write!(f, "start the service `{entry}`"),
            WayOut::NativeCode => f.write_str("do anything: its plugin is a native library"),
            WayOut::PluginPull | WayOut::SharedCache => f.write_str(entry),
        }
    }
}

/// Everything outside of the run that a stage can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaches<'a> {
    /// Sorted by [`WayOut`].
    pub all: Vec<Reach<'a>>,
    /// Whether the stage can access files or start processes of this machine.
    is_local: bool,
}

impl<'a> Reaches<'a> {
    /// What a stage with this environment, these grants and this plugin can reach.
    pub fn of(environment: Option<&'a str>, grants: &'a Permissions, code: PluginCode<'_>) -> Reaches<'a> {
        let mut all = Vec::new();
        all.extend(environment.map(|entry| Reach { way: WayOut::Environment, entry }));
        let imports = match code {
            // Nothing else needs to be listed for a native library: it runs in the engine's process, so the permissions
            // don't restrict it.
            PluginCode::Native => {
                all.push(Reach { way: WayOut::NativeCode, entry: "" });
                return Reaches { all, is_local: true };
            }
            PluginCode::Component(imports) => imports,
        };
        for interface in
            Interface::ALL.into_iter().filter(|&interface| imports.has(interface) && is_open(interface, grants))
        {
            for &way in interface.ways_out() {
                all.extend(entries(way, interface, grants).map(|entry| Reach { way, entry }));
            }
        }
        if grants.unsandboxed && imports.has(Interface::Process) && is_open(Interface::Process, grants) {
            all.push(Reach { way: WayOut::UnsandboxedProgram, entry: "" });
        }
        all.sort_unstable();
        all.dedup();
        let is_local = (imports.has(Interface::Process) && !grants.process.is_empty())
            || (imports.has(Interface::Workspace) && grants.has_files());
        Reaches { all, is_local }
    }

    /// What programs that the stage starts can reach. This includes the stage's environment, which a program may act
    /// on.
    pub fn of_programs(environment: Option<&'a str>, grants: &'a Permissions) -> Reaches<'a> {
        #[derive(Debug)]
        struct Programs;
        impl Imports for Programs {
            fn has(&self, interface: Interface) -> bool {
                interface == Interface::Process
            }
        }
        Reaches::of(environment, grants, PluginCode::Component(&Programs))
    }

    /// The effect class of the stage.
    pub fn effect_class(&self) -> EffectClass {
        match (self.all.is_empty(), self.is_local) {
            (false, _) => EffectClass::External,
            (true, true) => EffectClass::Local,
            (true, false) => EffectClass::Pure,
        }
    }
}

/// Whether the interface has any effect with these grants. Without a granted program, for example, no program can be
/// started, so other grants to programs don't matter.
fn is_open(interface: Interface, grants: &Permissions) -> bool {
    match interface {
        Interface::Process => !grants.process.is_empty(),
        Interface::Service => !grants.service.is_empty(),
        _ => true,
    }
}

/// The entries of `grants` that open a way out through an interface.
fn entries<'a>(way: WayOut, interface: Interface, grants: &'a Permissions) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    match way {
        // A grant of package hosts counts for the plugin, whose own requests could upload something. For programs it
        // doesn't count by itself: they need it to download packages, and an upload requires credentials, which are
        // ways out of their own (`Secret`, `Variable` and `CredentialFile`).
        WayOut::Request => Box::new(grants.net.iter().map(NetRule::as_str)),
        WayOut::Credential | WayOut::RemoteCommand => Box::new(credentials(grants, CredentialUse::Plugin)),
        WayOut::ProxiedCredential => Box::new(credentials(grants, CredentialUse::Programs)),
        WayOut::Connection => Box::new(grants.net.iter().filter(|rule| rule.origin().is_some()).map(NetRule::as_str)),
        WayOut::Socket => Box::new(grants.socket.iter().map(SocketRule::as_str)),
        WayOut::Secret => {
            debug_assert!(matches!(interface, Interface::Process | Interface::Service));
            Box::new(grants.secrets.iter().filter(|rule| rule.allows(SecretUse::Env)).map(SecretRule::name))
        }
        WayOut::Variable => Box::new(grants.env.iter().filter(|name| !name.is_harmless()).map(VariableName::as_str)),
        WayOut::CredentialFile if grants.net.iter().any(|rule| rule.packages().is_some()) => {
            Box::new(grants.credential_files.iter().map(String::as_str))
        }
        WayOut::Image => Box::new(grants.registry.iter().map(RepositoryRule::as_str)),
        WayOut::Service => Box::new(grants.service.iter().map(ServiceRule::as_str)),
        // A credential for package hosts can't be used without a package host. Interfaces don't open the others.
        WayOut::Environment
        | WayOut::CredentialFile
        | WayOut::UnsandboxedProgram
        | WayOut::NativeCode
        | WayOut::SecretSource
        | WayOut::PackageHosts
        | WayOut::PluginPull
        | WayOut::SharedCache => Box::new(std::iter::empty()),
    }
}

fn credentials(grants: &Permissions, usage: CredentialUse) -> impl Iterator<Item = &str> {
    grants.credentials.iter().filter(move |rule| rule.usage() == usage).map(CredentialRule::as_str)
}
