//! Reads the files of the tree.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cargo::Result;

/// A file of the tree.
pub(super) struct File {
    /// From the root, with `/` as the separator.
    pub(super) path: String,
    pub(super) text: String,
}

/// All `.rs` and `.toml` files in these folders of the root, sorted by path. Hidden folders and target folders are skipped.
pub(super) fn read(root: &Path, folders: &[&str]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for folder in folders {
        read_folder(root, &root.join(folder), &mut files)
            .map_err(|error| format!("can't read {}: {error}", root.join(folder).display()))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The Markdown files at the root and in `docs/`, by path from the root.
pub(super) fn documents(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut documents = BTreeMap::new();
    for folder in [root.to_owned(), root.join("docs")] {
        let failed = |error| format!("can't read {}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                documents.insert(relative, std::fs::read_to_string(&path).map_err(failed)?);
            }
        }
    }
    Ok(documents)
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                read_folder(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(File { path: relative, text: std::fs::read_to_string(&path)? });
        }
    }
    Ok(())
}
