//! What a stage is given to see: the fewest paths that hold its inputs and nothing else.

use std::io;

use crate::scan::WorkspaceScan;
use crate::tree::{Tree, TreeNode};

impl WorkspaceScan<'_> {
    /// The fewest paths that hold all of `tree` and nothing else: a folder where all that is in it is in the tree. None
    /// when they are more than `limit`.
    pub(crate) fn cover(&self, tree: &Tree, limit: usize) -> io::Result<Option<Vec<String>>> {
        let mut cover = Vec::new();
        self.cover_folder("", tree, &mut cover, limit)?;
        let within = cover.len() <= limit;
        Ok(within.then_some(cover))
    }

    /// Whether all that is in the folder is in the tree; otherwise `cover` has the parts that are.
    fn cover_folder(&self, folder: &str, tree: &Tree, cover: &mut Vec<String>, limit: usize) -> io::Result<bool> {
        let (start, mut whole) = (cover.len(), true);
        for entry in std::fs::read_dir(self.root.join(folder))? {
            if cover.len() > limit {
                return Ok(false);
            }
            let entry = entry?;
            let name = entry.file_name();
            // A name that is no text is in no tree.
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
            // A link that is given by itself is given as what it leads to, which has to be declared, too.
            if is_covered && (!kind.is_symlink() || self.leads_into(&path, tree)) {
                cover.push(path);
            }
            whole &= is_covered;
        }
        // The root isn't named as a whole: the engine's own files there are never an input.
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
