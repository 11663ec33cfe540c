//! Files with their content: what a result depends on, and what it consists of.
//!
//! Of a file counts all that a program can see of it: path, kind, the nine bits of its mode, content; of a link, where
//! it leads; of a folder, that it is there, and its mode with the sticky bit. Owner and times don't count.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};

/// Of a mode, what can be given back. To run as another user is nothing that a cache hands out.
pub(crate) const BITS: u32 = 0o777;

/// Of a folder's mode, what can be given back: the sticky bit grants no access.
pub(crate) const FOLDER_BITS: u32 = BITS | 0o1000;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TreeNode {
    /// A plain file.
    File { mode: u32, digest: Digest },
    /// A symbolic link; the digest is that of where it leads.
    Link { digest: Digest },
    /// A folder, whatever is in it.
    Folder { mode: u32 },
}

impl TreeNode {
    /// Of the content; a folder has none.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match *self {
            TreeNode::File { digest, .. } | TreeNode::Link { digest } => Some(digest),
            TreeNode::Folder { .. } => None,
        }
    }

    /// For people who compare two.
    pub(crate) fn shown(&self) -> String {
        match self {
            TreeNode::File { mode, digest } => format!("file {mode:03o} {digest}"),
            TreeNode::Link { digest } => format!("link {digest}"),
            TreeNode::Folder { mode } => format!("folder {mode:03o}"),
        }
    }

    fn field(&self) -> [u8; 37] {
        let (kind, mode) = match *self {
            TreeNode::File { mode, .. } => (0, mode),
            TreeNode::Link { .. } => (2, 0),
            TreeNode::Folder { mode } => (3, mode),
        };
        let mut field = [0; 37];
        field[0] = kind;
        field[1..5].copy_from_slice(&mode.to_le_bytes());
        if let Some(digest) = self.digest() {
            field[5..].copy_from_slice(digest.bytes());
        }
        field
    }
}

/// The bits of a mode that count.
pub(crate) fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & if metadata.is_dir() { FOLDER_BITS } else { BITS }
}

/// What is in the file system, by path relative to the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, TreeNode>);

impl Tree {
    /// Of all paths and contents.
    pub(crate) fn digest(&self) -> Digest {
        let mut hashing = Hashing::default();
        for (path, node) in &self.0 {
            hashing.field(path.as_bytes());
            hashing.update(&node.field());
        }
        hashing.finish()
    }

    /// Which of them are not the same in `other`, or in one of the two alone; the first few.
    pub(crate) fn differing(&self, other: &Tree) -> Vec<String> {
        const FEW: usize = 3;
        let own = self.0.iter().filter(|(path, node)| other.0.get(*path) != Some(node)).map(|(path, _)| path);
        let more = other.0.keys().filter(|path| !self.0.contains_key(*path));
        own.chain(more).take(FEW).cloned().collect()
    }
}

/// The digest of a set of files: names, kinds, modes and content, as a stage's result depends on them. Two sets with one
/// digest are the same to every program that looks at them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TreeDigest(String);

impl TreeDigest {
    pub(crate) fn of(tree: &Tree) -> TreeDigest {
        TreeDigest(tree.digest().to_string())
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
