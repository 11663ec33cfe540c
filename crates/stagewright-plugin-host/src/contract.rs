//! The contract's versions: what a component imports and exports, compared with what this engine provides.
//!
//! Version 0.1 was one package, `stagewright:stage`, for all interfaces. Since 0.2 each interface is a package with a
//! version of its own. Versions are compatible within a minor version: a component that was built for 0.2.3 works with
//! every engine of 0.2, unless it imports a function that was added after the engine's version. Such a component is
//! refused when it is loaded, with the names of those functions.

use std::collections::BTreeSet;
use std::fmt;

use stagewright_model::{ImportedFunctions, Interface};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

use crate::plugin::PluginError;
use crate::{since_0_1, since_0_2};

/// The namespace of the contract's packages.
const NAMESPACE: &str = "stagewright:";

/// The package of the interfaces that plugins export. In 0.1 it has all other interfaces as well.
const STAGE: &str = "stage";

/// A minor version of the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Generation {
    #[default]
    Since01,
    Since02,
}

impl Generation {
    /// The version of a package that this engine provides.
    fn version(self, package: &str) -> &'static str {
        match self {
            Generation::Since01 => since_0_1::VERSION,
            Generation::Since02 => since_0_2::version_of(package),
        }
    }

    /// The generation that a version belongs to; none if this engine has none such.
    fn of(version: &str) -> Option<Generation> {
        let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
        [Generation::Since01, Generation::Since02].into_iter().find(|own| minor(own.version(STAGE)) == minor(version))
    }
}

/// An interface as a component names it: `stagewright:context/context@0.2.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InterfaceName<'a> {
    package: &'a str,
    interface: &'a str,
    version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// None if the interface is in none of the contract's packages.
    fn parse(name: &'a str) -> Option<InterfaceName<'a>> {
        let (name, version) = name.strip_prefix(NAMESPACE)?.split_once('@')?;
        let (package, interface) = name.split_once('/')?;
        Some(InterfaceName { package, interface, version })
    }

    /// The generation of the contract that has the interface; none if this engine's has no such interface.
    fn generation(self) -> Option<Generation> {
        let generation = Generation::of(self.version)?;
        let package = match (generation, self.interface) {
            (_, "plugin" | "reconcile") | (Generation::Since02, "requirements" | "drift") => STAGE,
            (Generation::Since01, name) => Interface::named(name).map(|_| STAGE)?,
            (Generation::Since02, name) => package_of(Interface::named(name)?),
        };
        (package == self.package).then_some(generation)
    }

    /// The same interface in this engine's version.
    fn own(self, generation: Generation) -> InterfaceName<'a> {
        InterfaceName { version: generation.version(self.package), ..self }
    }
}

impl fmt::Display for InterfaceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InterfaceName { package, interface, version } = self;
        write!(f, "{NAMESPACE}{package}/{interface}@{version}")
    }
}

/// The package of an interface since 0.2, without the namespace.
fn package_of(interface: Interface) -> &'static str {
    match interface {
        Interface::Reveal => Interface::Secrets.name(),
        other => other.name(),
    }
}

/// The short name of an interface, as in `context` for `stagewright:context/context@0.2.3`. None if this engine's contract
/// has no such interface.
pub fn contract_interface(name: &str) -> Option<&str> {
    let name = InterfaceName::parse(name)?;
    name.generation().map(|_| name.interface)
}

/// The full name of the interface that every plugin exports.
pub fn plugin_interface() -> String {
    InterfaceName { package: STAGE, interface: "plugin", version: since_0_2::version_of(STAGE) }.to_string()
}

/// The name of a function as in the WIT's text: `command.args` for `[method]command.args`, and `command` for
/// `[constructor]command`.
pub fn plain_function(function: &str) -> &str {
    function.split_once(']').map_or(function, |(_, name)| name)
}

/// How a component uses the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContractUse {
    /// What it imports, except for `types`, which has nothing but values.
    pub(crate) imports: ImportedFunctions,
    /// The version of the contract whose `plugin` it exports; none if it exports none.
    pub(crate) version: Option<String>,
    /// The generation of that version.
    pub(crate) generation: Generation,
    /// Other interfaces that it exports, such as `reconcile`.
    pub(crate) exports: BTreeSet<String>,
}

impl ContractUse {
    /// Reads a component's use of the contract. An error if it imports or exports interfaces of another contract.
    ///
    /// `name` is the plugin's, for the message.
    pub(crate) fn of(name: &str, component: &Component) -> Result<ContractUse, PluginError> {
        let engine = component.engine();
        let component = component.component_type();
        let (mut contract, mut foreign) = (ContractUse::default(), Vec::new());
        for (import, found) in component.imports(engine) {
            let parsed = InterfaceName::parse(import);
            if let Some(InterfaceName { version, .. }) = parsed.filter(|name| Generation::of(name.version).is_none()) {
                return Err(incompatible(name, version));
            }
            let Some(InterfaceName { interface, .. }) = parsed.filter(|name| name.generation().is_some()) else {
                foreign.push(format!("`{import}`"));
                continue;
            };
            let ComponentItem::ComponentInstance(instance) = found.ty else { continue };
            let functions = instance.exports(engine).filter(|(_, export)| is_function(&export.ty));
            let functions = functions.map(|(function, _)| plain_function(function).to_owned()).collect::<Vec<_>>();
            // A component that only passes a value on imports its type, and can't do anything with that.
            if interface != Interface::Types.name() && !functions.is_empty() {
                contract.imports.insert(interface, functions);
            }
        }
        for (export, _) in component.exports(engine) {
            let Some(exported) = InterfaceName::parse(export) else { continue };
            let Some(generation) = Generation::of(exported.version) else {
                return Err(incompatible(name, exported.version));
            };
            match exported.interface {
                // A component may have the exports of several versions, for engines that have only some of them.
                "plugin" if contract.version.is_none() || generation >= contract.generation => {
                    contract.version = Some(exported.version.to_owned());
                    contract.generation = generation;
                }
                _ => {}
            }
        }
        let own = |export: &str| {
            let exported = InterfaceName::parse(export)?;
            let is_used = exported.generation() == Some(contract.generation) && exported.interface != "plugin";
            is_used.then(|| exported.interface.to_owned())
        };
        contract.exports = component.exports(engine).filter_map(|(export, _)| own(export)).collect();
        if !foreign.is_empty() {
            let message = format!("plugin `{name}` imports what the host doesn't provide: {}", foreign.join(", "));
            return Err(PluginError::new(message).with_help("build it for wasm32-unknown-unknown, without WASI"));
        }
        Ok(contract)
    }

    /// Whether it exports `reconcile`.
    pub(crate) fn reconciles(&self) -> bool {
        self.exports.contains("reconcile")
    }

    /// Whether it exports `drift`.
    pub(crate) fn compares(&self) -> bool {
        self.exports.contains("drift")
    }

    /// Whether it exports `requirements`.
    pub(crate) fn has_requirements(&self) -> bool {
        self.exports.contains("requirements")
    }
}

fn is_function(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::ComponentFunc(_))
}

fn incompatible(name: &str, version: &str) -> PluginError {
    let own = since_0_2::version_of(STAGE);
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
    let (mut missing, mut oldest) = (Vec::new(), BTreeSet::new());
    let component = component.component_type();
    for (import, found) in component.imports(engine) {
        let Some(import) = InterfaceName::parse(import) else { continue };
        let Some(generation) = import.generation() else { continue };
        let ComponentItem::ComponentInstance(instance) = found.ty else { continue };
        let own = import.own(generation);
        let mut linked = linker.instance(&own.to_string()).ok()?;
        for (function, export) in instance.exports(engine) {
            // A linker refuses to define a function twice.
            if is_function(&export.ty) && linked.func_new(function, |_, _, _, _| Ok(())).is_ok() {
                let InterfaceName { interface, version, .. } = import;
                missing.push(format!("`{interface}.{}` from {version}", plain_function(function)));
                oldest.insert(own.version);
            }
        }
    }
    let own = oldest.into_iter().collect::<Vec<_>>().join(" and ");
    (!missing.is_empty()).then(|| {
        PluginError::new(format!("plugin `{name}` needs {}; this engine has {own}", missing.join(", ")))
            .with_help(format!("update Stagewright, or build the plugin with an SDK for {own}"))
    })
}

/// Defines the imports of a component, except for the `provided` interfaces, as functions that trap.
///
/// [`Linker::define_unknown_imports_as_traps`] isn't enough: it compares exact names, and would also define an interface
/// that the linker has in another compatible version.
pub(crate) fn trap_imports<T: 'static>(
    component: &Component,
    linker: &mut Linker<T>,
    provided: &[Interface],
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (import, found) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = found.ty else { continue };
        let interface = InterfaceName::parse(import).map_or(import, |name| name.interface);
        if provided.iter().any(|provided| provided.name() == interface) {
            continue;
        }
        let mut linked = linker.instance(import)?;
        for (name, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface}.{}", plain_function(name));
                    linked
                        .func_new(name, move |_, _, _, _| wasmtime::bail!("`{called}` can only be called by `run`"))?;
                }
                ComponentItem::Resource(_) => {
                    // An interface that uses a resource of `types` has to have the same type for it.
                    let shared = since_0_2::shared_resource(name).filter(|_| provided.contains(&Interface::Types));
                    linked.resource(name, shared.unwrap_or(ResourceType::host::<()>()), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test reads the contract of the repository")]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_other_packages_and_versions_are_not_of_the_contract() {
        for (name, short) in [
            ("stagewright:stage/http@0.1.7", Some("http")),
            ("stagewright:http/http@0.2.7", Some("http")),
            ("stagewright:secrets/reveal@0.2.0", Some("reveal")),
            ("stagewright:stage/requirements@0.2.0", Some("requirements")),
            ("stagewright:stage/requirements@0.1.0", None),
            ("stagewright:http/http@0.1.0", None),
            ("stagewright:stage/http@0.2.0", None),
            ("stagewright:reveal/reveal@0.2.0", None),
            ("stagewright:stage/sockets@0.1.0", None),
            ("stagewright:http/http@0.3.0", None),
            ("stagewright:http/http@1.1.0", None),
            ("wasi:cli/environment@0.2.0", None),
        ] {
            assert_eq!(contract_interface(name), short, "{name}");
        }
        assert_eq!(contract_interface(&plugin_interface()), Some("plugin"));
    }

    #[test]
    fn every_package_of_the_wit_has_the_engines_version() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/wit");
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
        let package = |text: &str| text.lines().find_map(|line| line.strip_prefix("package ")).unwrap().to_owned();
        let old = package(&read(&std::path::Path::new(folder).join("0.1/stage.wit")));
        assert_eq!(old, format!("stagewright:stage@{};", since_0_1::VERSION));
        let mut packages = BTreeSet::from([package(&read(&std::path::Path::new(folder).join("0.2/stage.wit")))]);
        for file in std::fs::read_dir(std::path::Path::new(folder).join("0.2/deps")).unwrap() {
            packages.insert(package(&read(&file.unwrap().path())));
        }
        let own = Interface::ALL.into_iter().map(package_of).chain([STAGE]);
        let own = own.map(|package| format!("{NAMESPACE}{package}@{};", since_0_2::version_of(package)));
        assert_eq!(packages, own.collect());
    }
}
