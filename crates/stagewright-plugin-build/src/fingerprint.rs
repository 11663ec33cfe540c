//! Determines whether a component is up to date with its sources, without starting Cargo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::PluginBuildError;

/// Names of files and folders that aren't compiled into the component.
const EXCLUDED: [&str; 6] = ["target", "tests", "examples", "benches", "plugin.wasm", "README.md"];

/// The fingerprint of everything that is compiled into the guests of a workspace, as a hexadecimal SHA-256.
pub(crate) fn of_sources(
    workspace: &Path,
    folders: &BTreeSet<PathBuf>,
    profile: &str,
    toolchain: &str,
) -> Result<String, PluginBuildError> {
    let mut hash = Sha256::new();
    for part in ["1", env!("CARGO_PKG_VERSION"), profile, toolchain] {
        field(&mut hash, part.as_bytes());
    }
    let mut files = BTreeSet::new();
    for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml", ".cargo/config.toml"] {
        let file = workspace.join(name);
        if file.is_file() {
            files.insert(file);
        }
    }
    for folder in folders {
        collect(folder, &mut files)?;
    }
    for file in files {
        let content = stagewright_files::read(&file, stagewright_files::RECORD)
            .map_err(|source| PluginBuildError::Read { path: file.clone(), source })?;
        // The path is relative, so that components stay up to date when the checkout is moved.
        field(&mut hash, file.strip_prefix(workspace).unwrap_or(&file).to_string_lossy().as_bytes());
        field(&mut hash, &content);
    }
    Ok(hex(&hash.finalize()))
}

/// Whether `component` exists and is unchanged since [`stamp`] was called with the same fingerprint.
pub(crate) fn is_current(component: &Path, fingerprint: &str) -> bool {
    let (Ok(stamp), Ok(content)) = (
        stagewright_files::read_text(&stamp_path(component), 1 << 10),
        stagewright_files::read(component, stagewright_files::RECORD),
    ) else {
        return false;
    };
    stamp == stamp_text(fingerprint, &content)
}

/// Records beside `component` the fingerprint that it was built from, and its own digest.
pub(crate) fn stamp(component: &Path, content: &[u8], fingerprint: &str) -> Result<(), PluginBuildError> {
    write_whole(&stamp_path(component), stamp_text(fingerprint, content).as_bytes())
}

/// Replaces the file atomically: a run that loads it at the same time sees the old content or the new one.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), PluginBuildError> {
    let root = std::env::current_dir().unwrap_or_default();
    let failed = |source| PluginBuildError::Write { path: path.to_owned(), source };
    stagewright_files::replace(&root, path, content).map_err(failed)
}

/// The digest of `content`, as `sha256:…`.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

fn stamp_text(fingerprint: &str, content: &[u8]) -> String {
    format!("sources {fingerprint}\ncomponent {}\n", digest(content))
}

fn stamp_path(component: &Path) -> PathBuf {
    let name = component.file_name().unwrap_or_default().to_string_lossy();
    component.with_file_name(format!(".{name}.stamp"))
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), PluginBuildError> {
    let unreadable = |source| PluginBuildError::Read { path: folder.to_owned(), source };
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || EXCLUDED.contains(&&*name) {
            continue;
        }
        // A link to a folder is followed: sources may be shared by one.
        let path = entry.path();
        if path.is_dir() {
            let leads_back = || Ok(folder.canonicalize()?.starts_with(path.canonicalize()?));
            if !entry.file_type().map_err(unreadable)?.is_symlink() || !leads_back().map_err(unreadable)? {
                collect(&path, files)?;
            }
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// Hashes a field with its length before it, so that different lists of fields can't yield the same bytes.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fingerprint(root: &Path, toolchain: &str) -> String {
        of_sources(root, &BTreeSet::from([root.join("one")]), "guest", toolchain).unwrap()
    }

    #[test]
    fn the_fingerprint_changes_only_with_what_is_compiled_into_the_component() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("one/src")).unwrap();
        fs::create_dir_all(root.join("one/target")).unwrap();
        fs::write(root.join("one/src/lib.rs"), "a").unwrap();
        let before = fingerprint(root, "rustc 1");
        assert_eq!(before, fingerprint(root, "rustc 1"));
        assert_ne!(before, fingerprint(root, "rustc 2"));

        fs::write(root.join("one/target/lib.wasm"), "b").unwrap();
        fs::write(root.join("one/plugin.wasm"), "b").unwrap();
        assert_eq!(before, fingerprint(root, "rustc 1"));

        fs::write(root.join("Cargo.lock"), "").unwrap();
        let locked = fingerprint(root, "rustc 1");
        assert_ne!(before, locked);
        fs::write(root.join("one/src/lib.rs"), "b").unwrap();
        assert_ne!(locked, fingerprint(root, "rustc 1"));
    }

    #[test]
    fn linked_folders_are_sources_and_links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("one")).unwrap();
        fs::create_dir_all(root.join("shared")).unwrap();
        fs::write(root.join("shared/stage.wit"), "a").unwrap();
        std::os::unix::fs::symlink("../shared", root.join("one/wit")).unwrap();
        std::os::unix::fs::symlink("..", root.join("one/back")).unwrap();
        let before = fingerprint(root, "rustc 1");
        fs::write(root.join("shared/stage.wit"), "b").unwrap();
        assert_ne!(before, fingerprint(root, "rustc 1"));
    }

    #[test]
    fn a_component_changed_after_its_build_is_out_of_date() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("plugin.wasm");
        assert!(!is_current(&component, "abc"));
        fs::write(&component, "wasm").unwrap();
        stamp(&component, b"wasm", "abc").unwrap();
        assert!(is_current(&component, "abc"));
        assert!(!is_current(&component, "abd"));
        fs::write(&component, "other").unwrap();
        assert!(!is_current(&component, "abc"));
    }
}
