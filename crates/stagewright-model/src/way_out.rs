//! Every way out of the engine, and what a rehearsal does with each of them.
//!
//! Two questions are answered from this one list. How far the effects of a stage can reach ([`Reaches::effect_class`])
//! decides what happens after a crash, whether a result may be cached, and who has to approve. What a rehearsal does
//! ([`WayOut::in_rehearsal`]) decides what of it happens for real. A way that isn't in the list can't be granted, and one
//! that is added to it doesn't compile before both questions are answered.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::grants::{NetRule, Permission, Permissions, is_harmless_variable};
use crate::interface::Interface;
use crate::secret::SecretUse;

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

/// Every interface: for a component that nobody has looked at yet.
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
            || (imports.has(Interface::Workspace) && !(grants.read.is_empty() && grants.write.is_empty()));
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
    let all = |entries: &'a [String]| Box::new(entries.iter().map(String::as_str));
    match way {
        // The plugin itself can upload to package hosts. Programs can, too, and what they would need for that are
        // credentials, which are ways of their own.
        WayOut::Request => Box::new(grants.net.iter().map(NetRule::as_str)),
        WayOut::Connection => Box::new(grants.net.iter().filter(|rule| rule.packages().is_none()).map(NetRule::as_str)),
        WayOut::Socket => all(&grants.socket),
        WayOut::Secret => {
            debug_assert!(matches!(interface, Interface::Process | Interface::Service));
            Box::new(grants.secret_grants().filter(|grant| grant.allows(SecretUse::Env)).map(|grant| grant.name))
        }
        WayOut::Variable => Box::new(grants.env.iter().map(String::as_str).filter(|name| !is_harmless_variable(name))),
        WayOut::CredentialFile if grants.net.iter().any(|rule| rule.packages().is_some()) => {
            all(&grants.credential_files)
        }
        WayOut::Image => all(&grants.registry),
        WayOut::Service => all(&grants.service),
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
