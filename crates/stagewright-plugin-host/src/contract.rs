//! The contract's versions: what a component imports and exports, compared with what this engine provides.
//!
//! Versions are compatible within a minor version: a component that was built for 0.1.3 works with every engine of 0.1,
//! unless it imports a function that was added after the engine's version. Such a component is refused when it is loaded,
//! with the names of those functions.

use std::collections::BTreeSet;
use std::fmt;

use stagewright_model::Interface;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

use crate::plugin::PluginError;
use crate::since_0_1;

/// The contract's package, with the `/` that separates it from an interface.
const PACKAGE: &str = "stagewright:stage/";

/// An interface as a component names it: `stagewright:stage/context@0.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InterfaceName<'a> {
    interface: &'a str,
    version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// None if the interface isn't one of the contract.
    fn parse(name: &'a str) -> Option<InterfaceName<'a>> {
        let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
        Some(InterfaceName { interface, version })
    }

    /// The interface in the engine's version.
    fn own(interface: &'a str) -> InterfaceName<'a> {
        InterfaceName { interface, version: since_0_1::VERSION }
    }

    /// Whether the interface's version is compatible with that of the engine.
    fn is_compatible(self) -> bool {
        let minor = |version: &'a str| version.rsplit_once('.').map(|(minor, _)| minor);
        minor(self.version) == minor(since_0_1::VERSION)
    }
}

impl fmt::Display for InterfaceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PACKAGE}{}@{}", self.interface, self.version)
    }
}

/// The short name of an interface, as in `context` for `stagewright:stage/context@0.1.3`. None if this engine's contract
/// has no such interface.
pub fn contract_interface(name: &str) -> Option<&str> {
    let name = InterfaceName::parse(name).filter(|name| name.is_compatible())?;
    let is_known = matches!(name.interface, "plugin" | "reconcile") || Interface::named(name.interface).is_some();
    is_known.then_some(name.interface)
}

/// The full name of the interface that every plugin exports.
pub fn plugin_interface() -> String {
    InterfaceName::own("plugin").to_string()
}

/// How a component uses the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContractUse {
    /// The interfaces that it imports, without package and version, except for `types`, which has no functions.
    pub(crate) interfaces: BTreeSet<String>,
    /// The version of the contract whose `plugin` it exports; none if it exports none.
    pub(crate) version: Option<String>,
    /// Whether it exports `reconcile`.
    pub(crate) reconciles: bool,
}

impl ContractUse {
    /// Reads a component's use of the contract. An error if it imports or exports interfaces of another contract.
    ///
    /// `name` is the plugin's, for the message.
    pub(crate) fn of(name: &str, component: &Component) -> Result<ContractUse, PluginError> {
        let engine = component.engine();
        let component = component.component_type();
        let (mut contract, mut foreign) = (ContractUse::default(), Vec::new());
        for (import, _) in component.imports(engine) {
            let Some(interface) = InterfaceName::parse(import) else {
                foreign.push(format!("`{import}`"));
                continue;
            };
            if !interface.is_compatible() {
                return Err(incompatible(name, interface.version));
            }
            if interface.interface != "types" {
                contract.interfaces.insert(interface.interface.to_owned());
            }
        }
        for (export, _) in component.exports(engine) {
            let Some(exported) = InterfaceName::parse(export) else { continue };
            if !exported.is_compatible() {
                return Err(incompatible(name, exported.version));
            }
            match exported.interface {
                "plugin" => contract.version = Some(exported.version.to_owned()),
                "reconcile" => contract.reconciles = true,
                _ => {}
            }
        }
        if !foreign.is_empty() {
            let message = format!("plugin `{name}` imports what the host doesn't provide: {}", foreign.join(", "));
            return Err(PluginError::new(message).with_help("build it for wasm32-unknown-unknown, without WASI"));
        }
        Ok(contract)
    }
}

fn incompatible(name: &str, version: &str) -> PluginError {
    let own = since_0_1::VERSION;
    PluginError::new(format!("plugin `{name}` was built for version {version} of the contract; this engine has {own}"))
        .with_help(format!("use a version of Stagewright with {version}, or build the plugin with an SDK for {own}"))
}

/// The error for a component that imports functions which `linker` doesn't have, each named with the version that the
/// component was built for; none if it has them all.
pub(crate) fn missing_functions<T: 'static>(
    name: &str,
    component: &Component,
    linker: &Linker<T>,
) -> Option<PluginError> {
    let engine = linker.engine();
    // Asking whether the linker has a function defines the function, so that a copy is asked.
    let mut linker = linker.clone();
    let mut missing = Vec::new();
    for (import, found) in component.component_type().imports(engine) {
        let Some(InterfaceName { interface, version }) = InterfaceName::parse(import) else { continue };
        let ComponentItem::ComponentInstance(instance) = found.ty else { continue };
        let mut linked = linker.instance(&InterfaceName::own(interface).to_string()).ok()?;
        for (function, export) in instance.exports(engine) {
            let is_function = matches!(export.ty, ComponentItem::ComponentFunc(_));
            // A linker refuses to define a function twice.
            if is_function && linked.func_new(function, |_, _, _, _| Ok(())).is_ok() {
                missing.push(format!("`{interface}.{}` from {version}", plain_name(function)));
            }
        }
    }
    let own = since_0_1::VERSION;
    (!missing.is_empty()).then(|| {
        PluginError::new(format!("plugin `{name}` needs {}; this engine has {own}", missing.join(", ")))
            .with_help(format!("update Stagewright, or build the plugin with an SDK for {own}"))
    })
}

/// The name of a function as in the WIT's text: `command.args` for `[method]command.args`, and `command` for
/// `[constructor]command`.
fn plain_name(function: &str) -> &str {
    function.split_once(']').map_or(function, |(_, name)| name)
}

/// Defines the imports of a component, except for the interface `provided`, as functions that trap.
///
/// [`Linker::define_unknown_imports_as_traps`] isn't enough: it compares exact names, and would also define an interface
/// that the linker has in another compatible version.
pub(crate) fn trap_imports<T: 'static>(
    component: &Component,
    linker: &mut Linker<T>,
    provided: Option<Interface>,
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (import, found) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = found.ty else { continue };
        let interface = InterfaceName::parse(import).map_or(import, |name| name.interface);
        if provided.is_some_and(|provided| provided.name() == interface) {
            continue;
        }
        let mut linked = linker.instance(import)?;
        for (name, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface}.{}", plain_name(name));
                    linked
                        .func_new(name, move |_, _, _, _| wasmtime::bail!("`{called}` can only be called by `run`"))?;
                }
                ComponentItem::Resource(_) => linked.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_other_packages_and_versions_are_not_of_the_contract() {
        assert_eq!(contract_interface("stagewright:stage/http@0.1.7"), Some("http"));
        assert_eq!(contract_interface(&plugin_interface()), Some("plugin"));
        assert_eq!(contract_interface("stagewright:stage/sockets@0.1.0"), None);
        assert_eq!(contract_interface("stagewright:stage/http@0.2.0"), None);
        assert_eq!(contract_interface("wasi:cli/environment@0.2.0"), None);
    }

    #[test]
    fn patch_versions_are_compatible() {
        let is_compatible = |name| InterfaceName::parse(name).map(InterfaceName::is_compatible);
        assert_eq!(is_compatible("stagewright:stage/http@0.1.0"), Some(true));
        assert_eq!(is_compatible("stagewright:stage/http@0.1.17"), Some(true));
        assert_eq!(is_compatible("stagewright:stage/http@0.2.0"), Some(false));
        assert_eq!(is_compatible("stagewright:stage/http@1.1.0"), Some(false));
        assert_eq!(is_compatible("wasi:cli/environment@0.2.0"), None);
    }

    #[test]
    fn the_engine_has_the_version_of_the_wit() {
        let wit = include_str!("../../../plugins/wit/0.1/stage.wit");
        assert_eq!(wit.lines().next(), Some(format!("package stagewright:stage@{};", since_0_1::VERSION).as_str()));
    }
}
