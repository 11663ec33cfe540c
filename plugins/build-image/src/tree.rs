//! The content of a layer: maps paths of the image to files of the workspace.
//!
//! An image must not depend on where and when it is built. So owners, times and order are fixed, and permission bits are
//! 0755 or 0644 unless the configuration sets others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::config::FileSpec;

const FOLDER_MODE: u32 = 0o755;
const PROGRAM_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
/// Links have no permissions of their own; this is the mode that Linux reports for them.
const LINK_MODE: u32 = 0o777;
/// A file whose name has this prefix deletes a file of the layers below: OCI image specification, "Whiteouts".
const WHITEOUT: &str = ".wh.";
/// How many links are followed for one path: Linux's limit.
const MAX_LINKS: usize = 40;

/// A layer's entries by path, without a leading or trailing `/`. A folder sorts before its content.
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
    Link {
        /// Its path in the workspace.
        source: String,
        /// Its target, unchanged.
        leads_to: String,
    },
}

impl Entry {
    pub(crate) fn mode(&self) -> u32 {
        match self {
            Entry::Folder => FOLDER_MODE,
            Entry::File { mode, .. } => *mode,
            Entry::Link { .. } => LINK_MODE,
        }
    }

    /// For errors: "a folder", "the file `x`".
    fn shown(&self) -> String {
        match self {
            Entry::Folder => "a folder".to_owned(),
            Entry::File { source, .. } => format!("the file `{source}`"),
            Entry::Link { source, .. } => format!("the link `{source}`"),
        }
    }

    pub(crate) fn is_program(&self) -> bool {
        matches!(self, Entry::File { mode, .. } if mode & 0o111 != 0)
    }
}

impl Tree {
    /// Adds a file. Two files for one path are an error, so that the order of `files` makes no difference.
    pub(crate) fn add_file(&mut self, target: &str, source: &str, size: u64, mode: u32) -> Result<(), String> {
        self.add(target, source, Entry::File { source: source.to_owned(), size, mode })
    }

    /// Adds a link. Its target is a path of the image and isn't checked.
    pub(crate) fn add_link(&mut self, target: &str, source: &str, leads_to: &str) -> Result<(), String> {
        self.add(target, source, Entry::Link { source: source.to_owned(), leads_to: leads_to.to_owned() })
    }

    fn add(&mut self, target: &str, source: &str, entry: Entry) -> Result<(), String> {
        let path = normalise(target)?;
        refuse_whiteout(&path, source)?;
        match self.entries.entry(path) {
            Slot::Occupied(slot) => match slot.get() {
                Entry::File { source: other, .. } | Entry::Link { source: other, .. } if other == source => Ok(()),
                Entry::File { source: other, .. } | Entry::Link { source: other, .. } => Err(format!(
                    "/{} would come from `{other}` and from `{source}`; give one of them a `to`",
                    slot.key()
                )),
                Entry::Folder => Err(format!("/{} would be a folder and {}", slot.key(), entry.shown())),
            },
            Slot::Vacant(slot) => {
                slot.insert(entry);
                Ok(())
            }
        }
    }

    /// Adds an entry for a folder.
    pub(crate) fn add_folder(&mut self, target: &str) -> Result<(), String> {
        let path = normalise(target)?;
        refuse_whiteout(&path, &path)?;
        match self.entries.get(&path) {
            Some(other @ (Entry::File { .. } | Entry::Link { .. })) => {
                Err(format!("/{path} would be a folder and {}", other.shown()))
            }
            _ if path.is_empty() => Ok(()),
            _ => {
                self.entries.insert(path, Entry::Folder);
                Ok(())
            }
        }
    }

    /// Refuses entries below a link: unpacking them would write to the link's target.
    pub(crate) fn check_links(&self) -> Result<(), String> {
        for path in self.entries.keys() {
            for (end, _) in path.match_indices('/') {
                if let Some(link @ Entry::Link { .. }) = self.entries.get(&path[..end]) {
                    return Err(format!("/{path} would be below {}; give one of them another `to`", link.shown()));
                }
            }
        }
        Ok(())
    }

    /// Links whose target isn't an entry: path, source and target.
    pub(crate) fn dangling(&self) -> Vec<(&str, &str, &str)> {
        let links = self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::Link { source, leads_to } if !self.leads_somewhere(path, leads_to) => {
                Some((path.as_str(), source.as_str(), leads_to.as_str()))
            }
            _ => None,
        });
        links.collect()
    }

    /// Resolves a link as the kernel does in the image's root, where `..` at the top stays at the top.
    fn leads_somewhere(&self, link: &str, leads_to: &str) -> bool {
        let folder_of = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let mut at = folder_of(link);
        let mut names: Vec<String> = leads_to.rsplit('/').map(str::to_owned).collect();
        if leads_to.starts_with('/') {
            at.clear();
        }
        let mut followed = 1;
        while let Some(name) = names.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    at = folder_of(&at);
                    continue;
                }
                name if at.is_empty() => at = name.to_owned(),
                name => at = format!("{at}/{name}"),
            }
            match self.entries.get(&at) {
                Some(Entry::Link { leads_to, .. }) if followed < MAX_LINKS => {
                    followed += 1;
                    at = if leads_to.starts_with('/') { String::new() } else { folder_of(&at) };
                    names.extend(leads_to.rsplit('/').map(str::to_owned));
                }
                Some(Entry::Link { .. }) | None => return false,
                Some(Entry::File { .. } | Entry::Folder) => {}
            }
        }
        true
    }

    /// Adds entries for the parent folders of all entries. Must not be used for a layer on top of a base: there `bin`, for
    /// example, may be a link, which a folder entry would replace.
    pub(crate) fn add_parents(&mut self) -> Result<(), String> {
        let parents: Vec<String> = self
            .entries
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(end, _)| path[..end].to_owned()))
            .collect();
        parents.iter().try_for_each(|parent| self.add_folder(parent))
    }

    /// Total size of the files, in bytes.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match entry {
            Entry::File { size, .. } => *size,
            Entry::Folder | Entry::Link { .. } => 0,
        });
        sizes.sum()
    }
}

/// A file's permission bits: the configured ones, or else 0755 or 0644 depending on whether it is executable.
pub(crate) fn file_mode(spec: &FileSpec, executable: bool) -> u32 {
    let by_kind = if spec.executable.unwrap_or(executable) { PROGRAM_MODE } else { FILE_MODE };
    spec.mode.map_or(by_kind, |mode| mode.0)
}

/// The path in the image of the file `found`, depending on how `from` named it: by its path, by a glob, or by a folder
/// above it.
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

/// How the `from` of a [`FileSpec`] names files.
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

fn refuse_whiteout(path: &str, source: &str) -> Result<(), String> {
    let marker = path.split('/').find(|name| name.starts_with(WHITEOUT));
    marker.map_or(Ok(()), |name| {
        Err(format!(
            "`{source}` can't be added to an image as /{path}: a name that begins with `{WHITEOUT}`, as `{name}`, deletes files \
             of the layers below; rename it, or leave it out of `files`"
        ))
    })
}

fn normalise(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("`{path}` leaves the image's root; write a path without `..`"));
    }
    Ok(parts.join("/"))
}
