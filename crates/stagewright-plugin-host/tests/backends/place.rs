//! A folder with a workspace, an embedded registry, and its stand-in for rehearsals.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_plugin_host::registry::{CredentialSource, Registry, RegistryAccess, RegistryConfig};

use crate::image::Layout;

pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// The same user and password for every registry.
struct Login(Option<(&'static str, &'static str)>);

impl CredentialSource for Login {
    fn credentials(&self, _host: &str) -> Option<(String, String)> {
        self.0.map(|(user, password)| (user.to_owned(), password.to_owned()))
    }

    fn origin(&self) -> String {
        "the test's own table".to_owned()
    }
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("workspace")).unwrap();
        Place { folder }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A registry without credentials.
    pub(crate) fn registry(&self) -> Registry {
        self.registry_as(None)
    }

    pub(crate) fn registry_as(&self, login: Option<(&'static str, &'static str)>) -> Registry {
        Registry::new(RegistryConfig {
            embedded_root: self.path("embedded"),
            rehearsal_root: self.path("rehearsal"),
            credentials: Arc::new(Login(login)),
        })
    }

    /// An empty layout in the workspace.
    pub(crate) fn layout(&self, name: &str) -> Layout {
        Layout::new(self.path("workspace").join(name))
    }
}

pub(crate) fn real(workspace: &Path) -> RegistryAccess<'_> {
    RegistryAccess::real(workspace)
}

pub(crate) fn rehearsal(workspace: &Path) -> RegistryAccess<'_> {
    RegistryAccess::rehearsed(workspace, "run-1")
}
