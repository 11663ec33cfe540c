//! Finds the component or library of the plugin that `uses` names.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use stagewright_model::{PluginRef, list};

use crate::builtin::{BuiltinPlugins, ComponentOrigin};
use crate::digest::sha256;
use crate::error::causes_of;
use crate::plugin::{PLUGIN_BYTES, PluginError};
use crate::registry::{ImageLocation, ImageReference, OciError, Registry, RegistryAccess};

mod image;

/// The file that `plugin build` writes into a plugin's folder.
const FILE: &str = "plugin.wasm";

/// Finds the files of plugins, for all runs. What it caches is keyed by absolute paths and by digests, which mean the same
/// in every run.
pub(crate) struct PluginResolver {
    builtin: BuiltinPlugins,
    /// The folder of plugins that were pulled from registries.
    pulled: PathBuf,
    /// Digests of files, so that an unchanged file isn't hashed again.
    known: Mutex<HashMap<PathBuf, KnownDigest>>,
    /// Files of pulled components, by the digests of their manifests.
    verified: Mutex<HashMap<String, PathBuf>>,
}

/// Where one run looks for plugins, beyond the built-in ones.
#[derive(Clone, Copy)]
pub(crate) struct PluginSource<'a> {
    /// The folder that `path:…` is relative to.
    pub(crate) workspace: &'a Path,
    /// The access to registries for `oci:…`.
    pub(crate) registry: &'a Registry,
    pub(crate) pulls: Pulls,
}

/// How plugins that aren't on this machine yet are pulled from registries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pulls {
    /// With the user's credentials for the registry.
    #[default]
    WithCredentials,
    /// Without credentials, as in a rehearsal.
    Anonymous,
    /// Not at all, as with `--offline`.
    Never,
}

/// The state of a file when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownDigest {
    modified: SystemTime,
    size: u64,
    digest: String,
}

impl PluginResolver {
    pub(crate) fn new(builtin: BuiltinPlugins, pulled: PathBuf) -> PluginResolver {
        PluginResolver { builtin, pulled, known: Mutex::default(), verified: Mutex::default() }
    }

    /// Finds the component.
    pub(crate) async fn component(
        &self,
        uses: &PluginRef,
        source: PluginSource<'_>,
    ) -> Result<ComponentOrigin, PluginError> {
        match uses {
            PluginRef::Builtin(name) => self.builtin(name),
            PluginRef::Path(path) => component_in(source.workspace, path).map(ComponentOrigin::File),
            PluginRef::Oci(reference) => self.pulled(reference, source).await.map(ComponentOrigin::File),
        }
    }

    /// A native library's file.
    pub(crate) fn library(&self, uses: &PluginRef, source: PluginSource<'_>) -> Result<PathBuf, PluginError> {
        let PluginRef::Path(path) = uses else {
            return Err(PluginError::new(format!("plugin `{uses}` can't be native"))
                .with_help("a native plugin is named by its file: `uses = \"path:target/release/libmine.so\"`"));
        };
        let file = source.workspace.join(path);
        if file.is_file() {
            return Ok(file);
        }
        Err(PluginError::new(format!("plugin `{uses}`: the library `{}` does not exist", file.display()))
            .with_help("build the library, or correct the path"))
    }

    /// `sha256:…` of a component.
    pub(crate) fn digest(&self, component: &ComponentOrigin) -> io::Result<String> {
        match component {
            ComponentOrigin::File(file) => self.digest_of_file(file),
            ComponentOrigin::Embedded(plugin) => Ok(plugin.digest.to_owned()),
        }
    }

    /// A file with the same size and time of modification as before isn't read again.
    fn digest_of_file(&self, file: &Path) -> io::Result<String> {
        let metadata = fs::metadata(file)?;
        let (modified, size) = (metadata.modified()?, metadata.len());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(file).cloned();
        if let Some(known) = known.filter(|known| known.modified == modified && known.size == size) {
            return Ok(known.digest);
        }
        let digest = sha256(&stagewright_files::read(file, PLUGIN_BYTES)?);
        let known = KnownDigest { modified, size, digest: digest.clone() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), known);
        Ok(digest)
    }

    fn builtin(&self, name: &str) -> Result<ComponentOrigin, PluginError> {
        self.builtin.find(name).ok_or_else(|| {
            let names = self.builtin.names();
            let help = if names.is_empty() {
                "no built-in plugins are installed; build them with `stagewright plugin build`".to_owned()
            } else {
                format!("built-in plugins: {}; name a plugin of your own as `path:FOLDER`", list(names))
            };
            PluginError::new(format!("built-in plugin `{name}` not found")).with_help(help)
        })
    }

    async fn pulled(&self, text: &str, source: PluginSource<'_>) -> Result<PathBuf, PluginError> {
        let bad = |why: String| PluginError::new(format!("plugin `oci:{text}`: {why}"));
        let reference: ImageReference =
            text.parse().map_err(|error: OciError| PluginError { help: error.help, ..bad(error.message) })?;
        let Some(digest) = reference.digest.clone() else {
            return Err(bad("is not pinned".to_owned()).with_help("add the digest: `…@sha256:…`"));
        };
        if matches!(reference.location, ImageLocation::Layout { .. }) {
            return Err(bad("is a folder, not an image in a registry".to_owned()));
        }
        let kept = self.pulled.join(digest.replace(':', "-"));
        if let Some(file) = self.verified(&kept, &digest) {
            return Ok(file);
        }
        let failed = |error: io::Error| bad(format!("can't be stored in `{}`: {error}", self.pulled.display()));
        fs::create_dir_all(&self.pulled).map_err(failed)?;
        let layout = tempfile::tempdir_in(&self.pulled).map_err(failed)?;
        if source.pulls == Pulls::Never {
            return Err(bad("isn't on this machine, and `--offline` prevents pulling it".to_owned())
                .with_help("pull it first, by running `stagewright plan` online"));
        }
        let anonymous = source.pulls == Pulls::Anonymous;
        let access = RegistryAccess { anonymous, ..RegistryAccess::real(source.workspace) };
        source.registry.pull(&reference, layout.path(), access).await.map_err(|error| PluginError {
            causes: causes_of(&error),
            message: bad(error.message).message,
            help: error.help,
        })?;
        image::component(layout.path(), &digest)
            .map_err(|why| bad(why).with_help("push an image with one layer of the media type application/wasm"))?;
        image::keep(layout.path(), &digest, &kept).map_err(failed)?;
        // Verified where it was stored, and not in the temporary folder: several processes may store the same plugin at the
        // same time, and the file that is there in the end is the one that will be loaded.
        self.verified(&kept, &digest)
            .ok_or_else(|| bad(format!("was changed in `{}` while it was pulled", self.pulled.display())))
    }
}

impl PluginResolver {
    /// The stored component, verified once by this process.
    fn verified(&self, kept: &Path, manifest: &str) -> Option<PathBuf> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if !verified.contains_key(manifest) {
            verified.insert(manifest.to_owned(), image::kept(kept, manifest)?);
        }
        verified.get(manifest).cloned()
    }
}

fn component_in(workspace: &Path, path: &str) -> Result<PathBuf, PluginError> {
    let place = workspace.join(path);
    let file = if place.is_dir() { place.join(FILE) } else { place };
    if file.is_file() {
        return Ok(file);
    }
    Err(PluginError::new(format!("plugin `path:{path}`: the component `{}` does not exist", file.display()))
        .with_help(format!("build it with `stagewright plugin build {path}`, or correct the path")))
}

#[cfg(test)]
mod tests;
