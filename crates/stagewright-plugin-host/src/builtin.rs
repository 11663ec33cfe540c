//! The built-in plugins: components in folders, and components that are embedded in the program.
//!
//! Architecture invariant: an embedded component is identified by its digest like any other. It is unpacked only to be
//! compiled, and the result is verified against that digest.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::plugin::PLUGIN_BYTES;

/// Where built-in plugins are.
#[derive(Clone, Debug, Default)]
pub struct BuiltinPlugins {
    /// Folders with components, as `NAME.wasm`. The first folder that contains a plugin is used for it.
    pub folders: Vec<PathBuf>,
    /// The components in the program, for the plugins that no folder contains.
    pub embedded: Vec<EmbeddedPlugin>,
}

/// A component that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedPlugin {
    /// The name by which `uses` refers to the plugin.
    pub name: &'static str,
    /// `sha256:…` of the component.
    pub digest: &'static str,
    /// The component, compressed with gzip.
    pub gzip: &'static [u8],
}

/// The origin of a plugin's component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentOrigin {
    /// A file.
    File(PathBuf),
    /// The program itself.
    Embedded(EmbeddedPlugin),
}

impl BuiltinPlugins {
    /// The names of all built-in plugins, in order.
    pub fn names(&self) -> BTreeSet<String> {
        let in_folders = self.folders.iter().flat_map(|folder| names_in(folder));
        in_folders.chain(self.embedded.iter().map(|plugin| plugin.name.to_owned())).collect()
    }

    /// The component of a plugin; none if no built-in plugin has the name.
    pub fn find(&self, name: &str) -> Option<ComponentOrigin> {
        let mut files = self.folders.iter().map(|folder| folder.join(format!("{name}.wasm")));
        let embedded = || self.embedded.iter().find(|plugin| plugin.name == name);
        let file = files.find(|file| file.is_file()).map(ComponentOrigin::File);
        file.or_else(|| embedded().copied().map(ComponentOrigin::Embedded))
    }
}

impl ComponentOrigin {
    /// Reads the component, whose content must still be verified against its digest.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            ComponentOrigin::File(path) => stagewright_files::read(path, PLUGIN_BYTES),
            ComponentOrigin::Embedded(plugin) => {
                let mut component = Vec::new();
                GzDecoder::new(plugin.gzip).read_to_end(&mut component)?;
                Ok(component)
            }
        }
    }

    /// The component in messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            ComponentOrigin::File(path) => format!("`{}`", path.display()),
            ComponentOrigin::Embedded(_) => "the component in this program".to_owned(),
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_suffix(".wasm")?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn embedded(name: &'static str, content: &[u8]) -> EmbeddedPlugin {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        EmbeddedPlugin { name, digest: "sha256:0", gzip: encoder.finish().unwrap().leak() }
    }

    #[test]
    fn a_folder_precedes_the_program_for_the_plugins_that_it_contains() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("noop.wasm"), "from the folder").unwrap();
        fs::write(folder.path().join("noop.txt"), "").unwrap();
        let plugins = BuiltinPlugins {
            folders: vec![folder.path().join("absent"), folder.path().to_owned()],
            embedded: vec![embedded("noop", b"from the program"), embedded("command", b"command")],
        };
        let read = |name| plugins.find(name).map(|origin| origin.read().unwrap());
        assert_eq!(read("noop").as_deref(), Some(&b"from the folder"[..]));
        assert_eq!(read("command").as_deref(), Some(&b"command"[..]));
        assert_eq!(read("absent"), None);
        assert_eq!(plugins.names().into_iter().collect::<Vec<_>>(), ["command", "noop"]);
    }
}
