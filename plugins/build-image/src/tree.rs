//! What stands in one layer: which path of the image is which file of the workspace.
//!
//! Nothing of where and when an image is built may show in it, so owners, times and order are fixed, and permission
//! bits are 0755 or 0644 unless the configuration says otherwise.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::config::FileSpec;

const FOLDER_MODE: u32 = 0o755;
const PROGRAM_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A layer's entries by path, without `/` at either end. A folder sorts before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// One path of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Folder,
    File {
        /// Its path in the workspace.
        source: String,
        size: u64,
        mode: u32,
    },
}

impl Entry {
    pub(crate) fn mode(&self) -> u32 {
        match self {
            Entry::Folder => FOLDER_MODE,
            Entry::File { mode, .. } => *mode,
        }
    }

    pub(crate) fn is_program(&self) -> bool {
        matches!(self, Entry::File { mode, .. } if mode & 0o111 != 0)
    }
}

impl Tree {
    /// Adds a file. Two files for one path are an error: the order in which they are named must not matter.
    pub(crate) fn add_file(&mut self, target: &str, source: &str, size: u64, mode: u32) -> Result<(), String> {
        let path = normalise(target)?;
        match self.entries.entry(path) {
            Slot::Occupied(slot) => match slot.get() {
                Entry::File { source: other, .. } if other == source => Ok(()),
                Entry::File { source: other, .. } => Err(format!(
                    "/{} would come from `{other}` and from `{source}`; give one of them a `to`",
                    slot.key()
                )),
                Entry::Folder => Err(format!("/{} would be a folder and the file `{source}`", slot.key())),
            },
            Slot::Vacant(slot) => {
                slot.insert(Entry::File { source: source.to_owned(), size, mode });
                Ok(())
            }
        }
    }

    /// Adds a folder, empty or not.
    pub(crate) fn add_folder(&mut self, target: &str) -> Result<(), String> {
        let path = normalise(target)?;
        match self.entries.get(&path) {
            Some(Entry::File { source, .. }) => Err(format!("/{path} would be a folder and the file `{source}`")),
            _ if path.is_empty() => Ok(()),
            _ => {
                self.entries.insert(path, Entry::Folder);
                Ok(())
            }
        }
    }

    /// Adds the folders above all entries. Not for a layer on top of a base, where `bin` may be a link that a folder
    /// entry would replace.
    pub(crate) fn add_parents(&mut self) -> Result<(), String> {
        let parents: Vec<String> = self
            .entries
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(end, _)| path[..end].to_owned()))
            .collect();
        parents.iter().try_for_each(|parent| self.add_folder(parent))
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match entry {
            Entry::File { size, .. } => *size,
            Entry::Folder => 0,
        });
        sizes.sum()
    }
}

/// The permission bits of a file: what the configuration says, or else by whether it can be executed.
pub(crate) fn file_mode(spec: &FileSpec, executable: bool) -> u32 {
    let by_kind = if spec.executable.unwrap_or(executable) { PROGRAM_MODE } else { FILE_MODE };
    spec.mode.map_or(by_kind, |mode| mode.0)
}

/// Where a file goes whose path is `found`, when `from` named it: as a file, by a glob, or as the folder it is in.
pub(crate) fn target(spec: &FileSpec, dest: &str, found: &str, form: Form) -> String {
    let name = found.rsplit('/').next().unwrap_or(found);
    match (form, spec.to.as_deref()) {
        (Form::File, None) => join(dest, name),
        (Form::File, Some(to)) if to.ends_with('/') => join(&join(dest, to), name),
        (Form::File, Some(to)) => join(dest, to),
        (Form::Glob, to) => join(&join(dest, to.unwrap_or_default()), name),
        (Form::Folder, to) => {
            let from = if spec.from == "." { "" } else { spec.from.as_str() };
            let below = found.strip_prefix(from).unwrap_or(found).trim_start_matches('/');
            let folder = to.unwrap_or_else(|| from.rsplit('/').next().unwrap_or(from));
            join(&join(dest, folder), below)
        }
    }
}

/// What the `from` of a [`FileSpec`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    File,
    Folder,
    Glob,
}

fn join(folder: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", folder.trim_end_matches('/'))
}

fn normalise(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("`{path}` leaves the image's root; write a path without `..`"));
    }
    Ok(parts.join("/"))
}
