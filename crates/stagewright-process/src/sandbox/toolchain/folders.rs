//! Folders of the machine that every program sees.

use std::path::Path;

/// Where every program may look: the system's programs and libraries, and the public parts of its configuration.
pub(super) const SYSTEM: [&str; 3] = ["/usr", "/nix/store", "/gnu/store"];
/// Links into `/usr` on a current system, folders on an older one.
pub(super) const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Whether every program sees a path anyway.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().chain(&MERGED).any(|folder| path.starts_with(folder))
}
