//! What a component imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::grants::Permission;
use crate::interface::Interface;

/// The interfaces that a component imports.
pub trait Imports: fmt::Debug {
    /// Whether the component imports `interface`.
    fn has(&self, interface: Interface) -> bool;
}

/// All interfaces: for a component that hasn't been inspected yet.
#[derive(Clone, Copy, Debug)]
pub struct AnyImports;

impl Imports for AnyImports {
    fn has(&self, _: Interface) -> bool {
        true
    }
}

/// The functions that a component imports, by interface. Compilers for some languages import a whole interface where one
/// function is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImportedFunctions(BTreeMap<String, BTreeSet<String>>);

impl ImportedFunctions {
    /// Adds an interface with these functions, named as in `read`, or as in `command.args` for a method.
    pub fn insert(&mut self, interface: &str, functions: impl IntoIterator<Item = String>) {
        self.0.entry(interface.to_owned()).or_default().extend(functions);
    }

    /// The names of the interfaces, sorted.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether the component imports a function of this interface.
    pub fn calls(&self, interface: Interface, function: &str) -> bool {
        self.0.get(interface.name()).is_some_and(|functions| functions.contains(function))
    }

    /// The permissions that could be of use to the component, by interface, in display order. Interfaces that need none
    /// are left out.
    pub fn permissions(&self) -> impl Iterator<Item = (Interface, Vec<Permission>)> {
        let imported = Interface::ALL.into_iter().filter(|interface| self.has(*interface));
        let needed =
            imported.map(|interface| (interface, interface.permissions_for(|name| self.calls(interface, name))));
        needed.filter(|(_, permissions)| !permissions.is_empty())
    }
}

impl Imports for ImportedFunctions {
    fn has(&self, interface: Interface) -> bool {
        self.0.contains_key(interface.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_only_read_need_no_permission_to_write() {
        let permissions = |functions: &[&str]| {
            let mut imports = ImportedFunctions::default();
            imports.insert("workspace", functions.iter().map(ToString::to_string));
            imports.permissions().flat_map(|(_, permissions)| permissions).collect::<Vec<_>>()
        };
        assert_eq!(permissions(&["read", "glob"]), [Permission::Read, Permission::Exec]);
        assert_eq!(permissions(&["write"]), [Permission::Write]);
        assert_eq!(permissions(&["gzip"]), [Permission::Read, Permission::Write, Permission::Exec]);
    }

    #[test]
    fn a_handle_of_a_secret_needs_no_permission_to_reveal_it() {
        let mut imports = ImportedFunctions::default();
        imports.insert("secrets", ["get".to_owned()]);
        assert_eq!(imports.permissions().collect::<Vec<_>>(), [(Interface::Secrets, vec![Permission::Secrets])]);
        imports.insert("reveal", ["reveal".to_owned()]);
        assert_eq!(imports.permissions().last(), Some((Interface::Reveal, vec![Permission::Reveal])));
    }
}
