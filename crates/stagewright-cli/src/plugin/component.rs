//! Reads the imports and exports of a component from its binary.

use stagewright_model::{EffectClass, ImportedFunctions, Interface, Permission, Permissions, PluginCode, Reaches};
use stagewright_plugin_host::{contract_interface, plain_function, plugin_interface};
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

/// The header of a core module by the core specification: magic, version 1, layer 0.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The interfaces of a component, by the contract's short names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    /// Imported functions of the contract.
    pub(super) imports: ImportedFunctions,
    /// Imported interfaces that the contract doesn't have, by their full names.
    pub(super) foreign: Vec<String>,
    /// Exported interfaces of the contract.
    pub(super) exports: Vec<String>,
}

impl Interfaces {
    /// Reads a component. The error says why the bytes aren't one.
    pub(super) fn of(component: &[u8]) -> Result<Interfaces, String> {
        if component.starts_with(CORE_MODULE) {
            return Err("it is a core module, not a component".to_owned());
        }
        let (resolve, world) = match wit_component::decode(component) {
            Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
            Ok(DecodedWasm::WitPackage(..)) => return Err("it is a WIT package, not a component".to_owned()),
            Err(error) => return Err(format!("it is not a valid component: {error:#}")),
        };
        let world = &resolve.worlds[world];
        let mut interfaces = Interfaces::default();
        for (key, item) in &world.imports {
            let name = resolve.name_world_key(key);
            let Some(short) = contract_interface(&name) else {
                interfaces.foreign.push(name);
                continue;
            };
            let WorldItem::Interface { id, .. } = item else { continue };
            let functions = resolve.interfaces[*id].functions.keys();
            let functions = functions.map(|name| plain_function(name).to_owned()).collect::<Vec<_>>();
            if short != Interface::Types.name() && !functions.is_empty() {
                interfaces.imports.insert(short, functions);
            }
        }
        let exports = world.exports.keys().map(|key| resolve.name_world_key(key));
        interfaces.exports.extend(exports.filter_map(|name| contract_interface(&name).map(str::to_owned)));
        Ok(interfaces)
    }

    /// The permissions that the plugin can use, each with the interface that requires it.
    pub(super) fn permissions(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.imports.permissions().map(|(interface, needed)| {
            let keys = needed.into_iter().map(Permission::key).collect::<Vec<_>>().join(", ");
            // The interface also has the permissions of the programs it starts, such as `net`. A plugin that needs
            // `process` doesn't necessarily need those.
            let key = if interface == Interface::Process { "process".to_owned() } else { keys };
            (interface.name(), key)
        })
    }

    /// The effect class of the plugin if everything were granted to it. The grants of a pipeline can only lower it.
    pub(super) fn reach(&self) -> &'static str {
        let mut everything = Permissions::default();
        // One grant of each kind is enough: the effect class doesn't depend on how many there are.
        for (kind, entry) in [
            (Permission::Process, "*"),
            (Permission::Read, "."),
            (Permission::Net, "example.org"),
            (Permission::Registry, "local/*"),
            (Permission::Service, "service"),
        ] {
            everything.insert(kind, entry).unwrap_or_else(|error| unreachable!("{entry} {error}"));
        }
        match Reaches::of(None, &everything, PluginCode::Component(&self.imports)).effect_class() {
            EffectClass::Pure => "pure",
            EffectClass::Local => "local",
            EffectClass::External => "external",
        }
    }

    /// The reasons why a host of this contract can't run the component.
    pub(super) fn problems(&self) -> Vec<String> {
        let foreign = self.foreign.iter().map(|name| format!("imports `{name}`, which stages are not given"));
        let missing = (!self.exports.iter().any(|export| export == "plugin"))
            .then(|| format!("doesn't export `{}`", plugin_interface()));
        foreign.chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces(imports: &[&str]) -> Interfaces {
        Interfaces {
            imports: {
                let mut functions = ImportedFunctions::default();
                imports.iter().for_each(|name| functions.insert(name, ["any".to_owned()]));
                functions
            },
            exports: vec!["plugin".to_owned()],
            ..Interfaces::default()
        }
    }

    #[test]
    fn reach_is_the_widest_of_all_imports() {
        assert_eq!(interfaces(&["context", "gate"]).reach(), "pure");
        assert_eq!(interfaces(&["context", "workspace"]).reach(), "local");
        assert_eq!(interfaces(&["context", "process"]).reach(), "external", "programs can be granted a network");
        assert_eq!(interfaces(&["process", "http"]).reach(), "external");
    }

    #[test]
    fn bytes_other_than_a_component_are_refused_with_a_reason() {
        assert_eq!(Interfaces::of(CORE_MODULE).unwrap_err(), "it is a core module, not a component");
        assert!(Interfaces::of(b"text").unwrap_err().starts_with("it is not a valid component"));
        let lacking = Interfaces { foreign: vec!["wasi:cli/exit@0.2.0".to_owned()], ..Interfaces::default() };
        assert_eq!(lacking.problems().len(), 2);
    }
}
