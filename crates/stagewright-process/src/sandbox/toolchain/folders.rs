//! Folders of the machine that every program sees.

use std::path::Path;

/// Where every program may look: the system's programs and libraries, and the public parts of its configuration.
pub(super) const SYSTEM: [&str; 3] = ["/usr", "/nix/store", "/gnu/store"];
/// Links into `/usr` on a current system, folders on an older one.
pub(super) const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// The folders of the system, which every program sees.
pub fn system_folders() -> impl Iterator<Item = &'static str> {
    SYSTEM.into_iter().chain(MERGED)
}

/// Whether every program sees a path anyway.
pub(super) fn is_system(path: &Path) -> bool {
    system_folders().any(|folder| path.starts_with(folder))
}
