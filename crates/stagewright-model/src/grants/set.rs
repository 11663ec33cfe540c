//! The built-in sets of permissions: what the tools of a technology usually need.

use super::{Permission, Permissions};

/// A set of permissions that pipelines can use by name.
#[derive(Debug)]
pub struct PermissionSet {
    /// Its name in `permissions.use`.
    pub name: &'static str,
    entries: &'static [(Permission, &'static [&'static str])],
}

/// A set of permissions that a stage uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedPermissionSet {
    /// Its name.
    pub name: String,
    /// Whether it is built in, and not declared by the pipeline file.
    pub is_built_in: bool,
}

/// All built-in sets, by name. They contain a shell, since the tools start programs of the repository anyway, and are
/// therefore no weaker without one. Of paths that don't exist, `write` contains only those that every project of the kind
/// has: the sandbox creates them.
static BUILT_IN: [PermissionSet; 5] = [
    PermissionSet {
        name: "docker",
        entries: &[
            (Permission::Process, &["docker", "sh"]),
            (Permission::Read, &["."]),
            (Permission::Socket, &["docker"]),
        ],
    },
    PermissionSet {
        name: "go",
        entries: &[
            (Permission::Process, &["go", "sh"]),
            (Permission::Read, &["."]),
            (Permission::Net, &["proxy.golang.org", "sum.golang.org"]),
        ],
    },
    PermissionSet {
        name: "node",
        entries: &[
            (Permission::Process, &["corepack", "node", "npm", "npx", "pnpm", "sh", "yarn"]),
            (Permission::Read, &["."]),
            (Permission::Write, &["node_modules"]),
            (Permission::Net, &["npm"]),
        ],
    },
    PermissionSet {
        name: "python",
        entries: &[
            (Permission::Process, &["pip", "python", "python3", "sh", "uv"]),
            (Permission::Read, &["."]),
            (Permission::Write, &[".pytest_cache", ".venv"]),
            (Permission::Net, &["pip"]),
        ],
    },
    PermissionSet {
        name: "rust",
        entries: &[
            (Permission::Process, &["cargo", "sh"]),
            (Permission::Read, &["."]),
            (Permission::Write, &["target"]),
            (Permission::Net, &["cargo"]),
            (Permission::Env, &["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"]),
        ],
    },
];

impl PermissionSet {
    /// All built-in sets, by name.
    pub fn built_in() -> &'static [PermissionSet] {
        &BUILT_IN
    }

    /// The built-in set with this name.
    pub fn named(name: &str) -> Option<&'static PermissionSet> {
        BUILT_IN.iter().find(|set| set.name == name)
    }

    /// What the set grants.
    pub fn permissions(&self) -> Permissions {
        let mut permissions = Permissions::default();
        for (kind, entries) in self.entries {
            for entry in *entries {
                // That every entry is valid is tested.
                let _ = permissions.insert(*kind, entry);
            }
        }
        permissions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_sets_are_sorted_and_consist_of_valid_entries() {
        assert!(BUILT_IN.is_sorted_by_key(|set| set.name));
        for set in PermissionSet::built_in() {
            let written: usize = set.entries.iter().map(|(_, entries)| entries.len()).sum();
            assert_eq!(set.permissions().entries().count(), written, "{}", set.name);
            assert!(PermissionSet::named(set.name).is_some_and(|named| std::ptr::eq(named, set)));
        }
    }
}
