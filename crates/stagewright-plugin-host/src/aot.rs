//! A cache of compiled components, kept between runs of the engine.
//!
//! A file's name covers everything that its content depends on: the component's digest, this format's version, and
//! wasmtime's own compatibility hash, which covers wasmtime's version, the target, and every setting that changes code.
//! Loading a compiled component is equivalent to running native code, so the folder must belong to this user and be
//! accessible to no other; otherwise nothing is read from it or written to it.

use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::hex;

/// Increased when the content of the files changes in a way that wasmtime's hash doesn't cover.
const FORMAT: u32 = 1;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub(crate) struct AotCache {
    /// None when other users have access to it.
    folder: Option<PathBuf>,
}

impl AotCache {
    pub(crate) fn new(folder: &Path) -> AotCache {
        match private(folder) {
            Ok(()) => AotCache { folder: Some(folder.to_owned()) },
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled plugins are not stored");
                AotCache { folder: None }
            }
        }
    }

    /// The component with this digest, if it was compiled before. Takes a fraction of a millisecond.
    pub(crate) fn known(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let file = self.folder.as_ref()?.join(file_name(engine, digest));
        if !file.exists() {
            return None;
        }
        // SAFETY: the content of the file is run as native code. It was written by `compile`, by this user, into a folder
        // that no other user can access (`private`). Its name holds the digest of the component and the compatibility hash
        // of this engine, and it was renamed to that name only when it was complete and on disk.
        let known = unsafe { Component::deserialize_file(engine, &file) };
        known
            .inspect_err(|error| {
                tracing::warn!(file = %file.display(), %error, "could not load a compiled plugin; compiling it again");
            })
            .ok()
    }

    /// Compiles a component and stores the result. `digest` is that of `bytes`. Takes up to many seconds of CPU time.
    pub(crate) fn compile(&self, engine: &Engine, digest: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Some(folder) = &self.folder else { return Component::from_binary(engine, bytes) };
        let compiled = engine.precompile_component(bytes)?;
        let file = folder.join(file_name(engine, digest));
        if let Err(error) = keep(&file, &compiled) {
            tracing::warn!(file = %file.display(), %error, "could not store a compiled plugin");
        }
        // SAFETY: the bytes are what this engine's compiler returned above.
        unsafe { Component::deserialize(engine, &compiled) }
    }
}

/// Creates the folder if it doesn't exist; fails when it belongs to another user or others have access to it.
pub(crate) fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the folder belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("others have access to the folder: its mode must be 0700"));
    }
    Ok(())
}

fn keep(file: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(compiled)?;
    // Synchronised before it gets its name: after a power failure, a file with the right name and incomplete content would
    // be loaded as code.
    draft.as_file().sync_all()?;
    draft.persist(file)?;
    Ok(())
}

fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = StableHasher(Sha256::new());
    FORMAT.hash(&mut hasher);
    digest.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}.cwasm", hex(&hasher.0.finalize()))
}

/// A hasher whose result never changes. The standard library's may change with the compiler, and these names outlive the
/// process.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// An empty component: preamble, version 0x0d, layer 1.
    const EMPTY: &[u8] = &[0, b'a', b's', b'm', 0x0D, 0, 1, 0];

    fn engine() -> Engine {
        crate::wasm::engine(1).unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let mut files = fs::read_dir(folder).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        file
    }

    #[test]
    fn a_compiled_component_is_loaded_and_a_damaged_one_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("aot");
        let cache = AotCache::new(&folder);
        assert!(cache.known(&engine(), "sha256:1").is_none());
        cache.compile(&engine(), "sha256:1", EMPTY).unwrap();
        let file = only_file(&folder);
        let good = fs::read(&file).unwrap();
        assert!(cache.known(&engine(), "sha256:1").is_some());
        assert!(cache.known(&engine(), "sha256:2").is_none());
        assert!(cache.compile(&engine(), "sha256:2", b"not a component").is_err());

        fs::write(&file, b"damaged").unwrap();
        assert!(cache.known(&engine(), "sha256:1").is_none());
        cache.compile(&engine(), "sha256:1", EMPTY).unwrap();
        assert_eq!(fs::read(only_file(&folder)).unwrap(), good);
    }

    #[test]
    fn a_folder_that_others_can_reach_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
        AotCache::new(folder.path()).compile(&engine(), "sha256:1", EMPTY).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Tests nothing unless it runs as root: others can't change a folder's owner.
    #[test]
    fn a_folder_of_another_user_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if std::os::unix::fs::chown(folder.path(), Some(65534), None).is_ok() {
            AotCache::new(folder.path()).compile(&engine(), "sha256:1", EMPTY).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
