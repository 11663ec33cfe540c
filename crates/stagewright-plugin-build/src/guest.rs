//! Finds guest crates, and the folders with their sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::PluginBuildError;

/// The package of the SDK.
const SDK: &str = "stagewright-sdk";

/// The crates that give a guest access to its host. A dependency on one of them distinguishes guests from native plugins.
const HOST_BINDINGS: [&str; 2] = [SDK, "wit-bindgen"];

/// A crate that compiles to a WebAssembly plugin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestCrate {
    /// The package's name.
    pub name: String,
    /// Its folder, as an absolute path.
    pub folder: PathBuf,
    /// The folder of its workspace; its own folder if it isn't part of one.
    pub workspace: PathBuf,
}

/// The guests at the paths, each of which is the folder of a guest or a folder that contains such folders.
pub fn find(paths: &[PathBuf]) -> Result<Vec<GuestCrate>, PluginBuildError> {
    let mut guests = BTreeSet::new();
    for path in paths {
        let folder = path.canonicalize().map_err(|source| PluginBuildError::Read { path: path.clone(), source })?;
        match guest_in(&folder)? {
            Some(guest) => {
                guests.insert(guest);
            }
            None => {
                let inside = guests_below(&folder)?;
                if inside.is_empty() {
                    return Err(PluginBuildError::NoPlugin(path.clone()));
                }
                guests.extend(inside);
            }
        }
    }
    Ok(guests.into_iter().collect())
}

/// The paths to use if none is given: the current folder if it is a guest, else its subfolder `plugins` if that exists.
pub fn default_paths() -> Result<Vec<PathBuf>, PluginBuildError> {
    let here = PathBuf::from(".");
    let folder = here.canonicalize().map_err(|source| PluginBuildError::Read { path: here.clone(), source })?;
    let plugins = PathBuf::from("plugins");
    Ok(vec![if guest_in(&folder)?.is_none() && plugins.is_dir() { plugins } else { here }])
}

/// All guests of a workspace.
///
/// They are always built together. Cargo unifies the features of dependencies across the packages of one call, so a
/// plugin's bytes, and thus its digest, would otherwise depend on which other plugins were requested.
pub fn all_of(workspace: &Path) -> Result<Vec<GuestCrate>, PluginBuildError> {
    let manifest = read_manifest(workspace)?;
    let mut guests: BTreeSet<GuestCrate> = guest_in(workspace)?.into_iter().collect();
    let members = manifest.get("workspace").and_then(|table| table.get("members")).and_then(Value::as_array);
    for member in members.into_iter().flatten().filter_map(Value::as_str) {
        match member.strip_suffix("/*") {
            Some(parent) => guests.extend(guests_below(&workspace.join(parent))?),
            None => guests.extend(guest_in(&workspace.join(member))?),
        }
    }
    Ok(guests.into_iter().filter(|guest| guest.workspace == workspace).collect())
}

/// The folders with sources of the guests: their own, and those of direct and indirect path dependencies.
pub fn source_folders(workspace: &Path, guests: &[GuestCrate]) -> Result<BTreeSet<PathBuf>, PluginBuildError> {
    let mut folders = BTreeSet::new();
    let mut open: Vec<PathBuf> = guests.iter().map(|guest| guest.folder.clone()).collect();
    while let Some(folder) = open.pop() {
        if folders.insert(folder.clone()) {
            open.extend(path_dependencies(workspace, &folder)?.into_iter().map(|(_, path)| path));
        }
    }
    Ok(folders)
}

/// The folder of the SDK that a guest depends on by its path; none if it depends on no such SDK.
pub fn sdk(guest: &GuestCrate) -> Result<Option<PathBuf>, PluginBuildError> {
    let dependencies = path_dependencies(&guest.workspace, &guest.folder)?;
    Ok(dependencies.into_iter().find(|(name, _)| name == SDK).map(|(_, path)| path))
}

/// The dependencies of a crate on folders, with their absolute paths.
fn path_dependencies(workspace: &Path, folder: &Path) -> Result<Vec<(String, PathBuf)>, PluginBuildError> {
    let root = read_manifest(workspace)?;
    let inherited = root.get("workspace").and_then(|table| table.get("dependencies")).and_then(Value::as_table);
    let mut found = Vec::new();
    for (name, dependency) in dependencies(&read_manifest(folder)?) {
        let own = dependency.get("path").and_then(Value::as_str).map(|path| folder.join(path));
        let from_workspace = || {
            dependency.get("workspace")?;
            Some(workspace.join(inherited?.get(&name)?.get("path")?.as_str()?))
        };
        if let Some(path) = own.or_else(from_workspace) {
            found.push((name, path.canonicalize().map_err(|source| PluginBuildError::Read { path, source })?));
        }
    }
    Ok(found)
}

/// The dependencies that are compiled into the guest, or are needed to build it. Development dependencies are left out.
fn dependencies(manifest: &Table) -> Vec<(String, Table)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let holders = targets.filter_map(Value::as_table).chain([manifest]);
    let tables = holders.flat_map(|holder| ["dependencies", "build-dependencies"].map(|key| holder.get(key)));
    let entries = tables.flatten().filter_map(Value::as_table).flatten();
    entries.map(|(name, value)| (name.clone(), value.as_table().cloned().unwrap_or_default())).collect()
}

fn guests_below(folder: &Path) -> Result<Vec<GuestCrate>, PluginBuildError> {
    let unreadable = |source| PluginBuildError::Read { path: folder.to_owned(), source };
    let mut guests = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        guests.extend(guest_in(&entry.map_err(unreadable)?.path())?);
    }
    Ok(guests)
}

fn guest_in(folder: &Path) -> Result<Option<GuestCrate>, PluginBuildError> {
    if !folder.join("Cargo.toml").is_file() {
        return Ok(None);
    }
    let manifest = read_manifest(folder)?;
    // The crate type `cdylib` isn't enough, since native plugins have it as well.
    let is_guest = dependencies(&manifest).iter().any(|(name, _)| HOST_BINDINGS.contains(&name.as_str()));
    let kinds = manifest.get("lib").and_then(|lib| lib.get("crate-type")).and_then(Value::as_array);
    if !is_guest || !kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.as_str() == Some("cdylib"))) {
        return Ok(None);
    }
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let name = name.ok_or_else(|| PluginBuildError::Manifest {
        path: folder.join("Cargo.toml"),
        reason: "`package.name` is missing".to_owned(),
    })?;
    Ok(Some(GuestCrate { name: name.to_owned(), folder: folder.to_owned(), workspace: workspace_of(folder)? }))
}

fn workspace_of(folder: &Path) -> Result<PathBuf, PluginBuildError> {
    for ancestor in folder.ancestors().filter(|ancestor| ancestor.join("Cargo.toml").is_file()) {
        if read_manifest(ancestor)?.contains_key("workspace") {
            return Ok(ancestor.to_owned());
        }
    }
    Ok(folder.to_owned())
}

fn read_manifest(folder: &Path) -> Result<Table, PluginBuildError> {
    let path = folder.join("Cargo.toml");
    let text = stagewright_files::read_text(&path, stagewright_files::CONFIGURATION)
        .map_err(|source| PluginBuildError::Read { path: path.clone(), source })?;
    text.parse().map_err(|error: toml::de::Error| PluginBuildError::Manifest { path, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]\n";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn workspace() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        write(
            &root,
            "Cargo.toml",
            "[workspace]\nmembers = [\"plugins/*\", \"sdk\"]\n[workspace.dependencies]\nstagewright-sdk = { path = \"sdk\" }\n",
        );
        write(
            &root,
            "sdk/Cargo.toml",
            "[package]\nname = \"stagewright-sdk\"\n[dependencies]\ndeep = { path = \"../deep\" }\n",
        );
        write(
            &root,
            "deep/Cargo.toml",
            "[package]\nname = \"deep\"\n[dev-dependencies]\nnot = { path = \"../not\" }\n",
        );
        write(
            &root,
            "plugins/one/Cargo.toml",
            &format!("[package]\nname = \"one\"\n[dependencies]\nstagewright-sdk.workspace = true\n{CDYLIB}"),
        );
        let two = format!("[package]\nname = \"two\"\n[dependencies]\nwit-bindgen = \"0.61\"\n{CDYLIB}");
        write(&root, "plugins/two/Cargo.toml", &two);
        write(&root, "plugins/native/Cargo.toml", &format!("[package]\nname = \"native\"\n{CDYLIB}"));
        write(&root, "plugins/wit/stage.wit", "");
        (dir, root)
    }

    fn names(guests: &[GuestCrate]) -> Vec<&str> {
        guests.iter().map(|guest| guest.name.as_str()).collect()
    }

    #[test]
    fn only_cdylibs_with_host_bindings_are_guests() {
        let (_dir, root) = workspace();
        let guests = find(&[root.join("plugins")]).unwrap();
        assert_eq!(names(&guests), ["one", "two"]);
        assert!(guests.iter().all(|guest| guest.workspace == root));
        assert!(matches!(find(&[root.join("sdk")]), Err(PluginBuildError::NoPlugin(_))));
    }

    #[test]
    fn all_guests_of_a_workspace_are_found() {
        let (_dir, root) = workspace();
        assert_eq!(names(&all_of(&root).unwrap()), ["one", "two"]);
    }

    #[test]
    fn sources_are_followed_through_path_dependencies() {
        let (_dir, root) = workspace();
        let folders = source_folders(&root, &find(&[root.join("plugins/one")]).unwrap()).unwrap();
        let expected = ["deep", "plugins/one", "sdk"].map(|folder| root.join(folder));
        assert_eq!(folders.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_sdk_is_found_through_the_dependencies_of_the_workspace() {
        let (_dir, root) = workspace();
        let sdks: Vec<_> = find(&[root.join("plugins")]).unwrap().iter().map(|guest| sdk(guest).unwrap()).collect();
        assert_eq!(sdks, [Some(root.join("sdk")), None]);
    }

    #[test]
    fn a_guest_outside_of_a_workspace_is_its_own_workspace() {
        let (_dir, root) = workspace();
        let alone = root.join("plugins/two");
        fs::remove_file(root.join("Cargo.toml")).unwrap();
        assert_eq!(find(std::slice::from_ref(&alone)).unwrap()[0].workspace, alone);
    }
}
