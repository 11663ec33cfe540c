//! What a stage could reach beyond itself, from its plugin's imports and its grants.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::grants::{
    NetRule, Permissions, RepositoryRule, SecretRule, SecretUse, ServiceName, SocketRule, VariableName,
};
use crate::interface::Interface;
use crate::way_out::WayOut;

/// How far the effects of a stage can reach. Computed from what its plugin imports and what it is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectClass {
    /// Nothing outside of the run: after a crash it can simply run again.
    Pure,
    /// This machine: files and processes.
    Local,
    /// Beyond: networks, registries, services, environments. After a crash somebody has to find out what happened.
    #[default]
    External,
}

/// How much of a rehearsed stage is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// It does what it does in a real run.
    Real,
    /// It does its work, and what it reaches are stand-ins.
    StandIn,
    /// What it would have done is said, and not done.
    Rehearsed,
}

impl Fidelity {
    /// As it stands in JSON and in the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Fidelity::Real => "real",
            Fidelity::StandIn => "stand-in",
            Fidelity::Rehearsed => "rehearsed",
        }
    }
}

/// The code of a stage, as far as it bounds what the stage's grants are good for.
#[derive(Clone, Copy, Debug)]
pub enum Code<'a> {
    /// A component that imports these interfaces, and can use no other.
    Component(&'a dyn Imports),
    /// A native library.
    Native,
}

/// Knows the interfaces that a component imports.
pub trait Imports: fmt::Debug {
    /// Whether it is one of them.
    fn has(&self, interface: Interface) -> bool;
}

/// Every interface: for a component that wasn't inspected yet.
#[derive(Clone, Copy, Debug)]
pub struct AnyImports;

impl Imports for AnyImports {
    fn has(&self, _: Interface) -> bool {
        true
    }
}

impl Imports for std::collections::BTreeSet<String> {
    fn has(&self, interface: Interface) -> bool {
        self.contains(interface.name())
    }
}

/// One thing beyond the stage that it could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach<'a> {
    /// By which way.
    pub way: WayOut,
    /// The environment, or the entry of the grant.
    pub entry: &'a str,
}

/// What a message says of it, as it goes on after "may" and "it".
impl fmt::Display for Reach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reach { way, entry } = self;
        match way {
            WayOut::Environment => write!(f, "act on the environment `{entry}`"),
            WayOut::Request | WayOut::Connection | WayOut::PackageHosts => write!(f, "call {entry}"),
            WayOut::Socket => write!(f, "connect to the socket `{entry}`"),
            WayOut::Secret | WayOut::SecretSource => write!(f, "use the secret `{entry}`"),
            WayOut::Variable => write!(f, "inherit the variable `{entry}`, which could hold a credential"),
            WayOut::CredentialFile => write!(f, "publish with the credential in `{entry}`"),
            WayOut::Image => write!(f, "push to and resolve `{entry}`"),
            WayOut::Service => write!(f, "start the service `{entry}`"),
            WayOut::NativeCode => f.write_str("do anything: its plugin is a native library"),
            WayOut::PluginPull | WayOut::SharedCache => f.write_str(entry),
        }
    }
}

/// All that a stage could reach beyond itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaches<'a> {
    /// In the order of [`WayOut`].
    pub all: Vec<Reach<'a>>,
    is_local: bool,
}

impl<'a> Reaches<'a> {
    /// Of a stage that names this environment and is granted this much.
    pub fn of(environment: Option<&'a str>, grants: &'a Permissions, code: Code<'_>) -> Reaches<'a> {
        let mut all = Vec::new();
        all.extend(environment.map(|entry| Reach { way: WayOut::Environment, entry }));
        let imports = match code {
            Code::Native => {
                all.push(Reach { way: WayOut::NativeCode, entry: "" });
                return Reaches { all, is_local: true };
            }
            Code::Component(imports) => imports,
        };
        for interface in
            Interface::ALL.into_iter().filter(|&interface| imports.has(interface) && is_open(interface, grants))
        {
            for &way in interface.ways_out() {
                all.extend(entries(way, interface, grants).map(|entry| Reach { way, entry }));
            }
        }
        all.sort_unstable();
        all.dedup();
        let is_local = (imports.has(Interface::Process) && !grants.process.is_empty())
            || (imports.has(Interface::Workspace) && grants.has_files());
        Reaches { all, is_local }
    }

    /// What the programs of the stage could reach, and what it means to start one: the environment that the stage acts
    /// on is reached by them, too.
    pub fn of_programs(environment: Option<&'a str>, grants: &'a Permissions) -> Reaches<'a> {
        #[derive(Debug)]
        struct Programs;
        impl Imports for Programs {
            fn has(&self, interface: Interface) -> bool {
                interface == Interface::Process
            }
        }
        Reaches::of(environment, grants, Code::Component(&Programs))
    }

    /// The class that follows.
    pub fn effect_class(&self) -> EffectClass {
        match (self.all.is_empty(), self.is_local) {
            (false, _) => EffectClass::External,
            (true, true) => EffectClass::Local,
            (true, false) => EffectClass::Pure,
        }
    }
}

/// Whether a plugin with the interface can do anything with it: programs, for one, have to be granted by name.
fn is_open(interface: Interface, grants: &Permissions) -> bool {
    match interface {
        Interface::Process => !grants.process.is_empty(),
        Interface::Service => !grants.service.is_empty(),
        _ => true,
    }
}

/// The entries of `grants` that open a way through an interface.
fn entries<'a>(way: WayOut, interface: Interface, grants: &'a Permissions) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    match way {
        // The plugin itself can upload to package hosts. Programs can, too, and what they would need for that are
        // credentials, which are ways of their own.
        WayOut::Request => Box::new(grants.net.iter().map(NetRule::as_str)),
        WayOut::Connection => Box::new(grants.net.iter().filter(|rule| rule.packages().is_none()).map(NetRule::as_str)),
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
        WayOut::Service => Box::new(grants.service.iter().map(ServiceName::as_str)),
        // Without a package host a credential for one is of no use; the others aren't opened by an interface.
        WayOut::Environment
        | WayOut::CredentialFile
        | WayOut::NativeCode
        | WayOut::SecretSource
        | WayOut::PackageHosts
        | WayOut::PluginPull
        | WayOut::SharedCache => Box::new(std::iter::empty()),
    }
}
