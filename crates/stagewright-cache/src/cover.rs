//! Computes the paths that a stage is given access to: the smallest set that contains its inputs and nothing else.

use std::io;

use crate::scan::WorkspaceScan;
use crate::tree::{Tree, TreeNode};

impl WorkspaceScan<'_> {
    /// The smallest set of paths that contains all of `tree` and nothing else. A folder stands for its whole content if
    /// all of that is in the tree. None if the set has more than `limit` paths.
    pub(crate) fn cover(&self, tree: &Tree, limit: usize) -> io::Result<Option<Vec<String>>> {
        let mut cover = Vec::new();
        self.cover_folder("", tree, &mut cover, limit)?;
        let within = cover.len() <= limit;
        Ok(within.then_some(cover))
    }

    /// Returns whether the whole content of the folder is in the tree. If it isn't, the parts that are in the tree are
    /// added to `cover`.
    fn cover_folder(&self, folder: &str, tree: &Tree, cover: &mut Vec<String>, limit: usize) -> io::Result<bool> {
        let (start, mut whole) = (cover.len(), true);
        for entry in std::fs::read_dir(self.root.join(folder))? {
            if cover.len() > limit {
                return Ok(false);
            }
            let entry = entry?;
            let name = entry.file_name();
            // Trees hold UTF-8 paths only.
            let Some(name) = name.to_str() else {
                whole = false;
                continue;
            };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            let is_covered = match tree.0.get(&path) {
                Some(TreeNode::Folder { .. }) if kind.is_dir() => {
                    !self.is_reserved(&path) && self.cover_folder(&path, tree, cover, limit)?
                }
                Some(TreeNode::File { .. }) => kind.is_file(),
                Some(TreeNode::Link { .. }) => kind.is_symlink(),
                _ => false,
            };
            // Mounting a link by itself mounts the file that it leads to, so that file must be declared as well.
            if is_covered && (!kind.is_symlink() || self.leads_into(&path, tree)) {
                cover.push(path);
            }
            whole &= is_covered;
        }
        // The root never stands for its whole content: the engine's own files there are never inputs.
        if whole && !folder.is_empty() {
            cover.truncate(start);
        }
        Ok(whole && !folder.is_empty())
    }

    fn leads_into(&self, link: &str, tree: &Tree) -> bool {
        let real = self.root.canonicalize().and_then(|root| Ok((self.root.join(link).canonicalize()?, root)));
        let real = real.ok().and_then(|(real, root)| Some(real.strip_prefix(root).ok()?.to_str()?.to_owned()));
        real.is_some_and(|real| matches!(tree.0.get(&real), Some(TreeNode::File { .. })))
    }
}
