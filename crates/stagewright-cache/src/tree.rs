//! Sets of files with their content: the inputs of a result, and the files that it consists of.
//!
//! A tree records what a program can observe: for a file its path, its nine permission bits and its content; for a link
//! its target; for a folder its path and its permission bits with the sticky bit. Owners and times are not recorded.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};

/// The bits of a file's mode that are restored. The cache never restores set-user-id and set-group-id bits.
pub(crate) const BITS: u32 = 0o777;

/// The bits of a folder's mode that are restored. The sticky bit is included because it grants no access.
pub(crate) const FOLDER_BITS: u32 = BITS | 0o1000;

/// A file, link or folder of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TreeNode {
    /// A plain file.
    File { mode: u32, digest: Digest },
    /// A symbolic link, with the digest of its target's path.
    Link { digest: Digest },
    /// A folder, without its content.
    Folder { mode: u32 },
}

impl TreeNode {
    /// The digest of the content; none for a folder.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match *self {
            TreeNode::File { digest, .. } | TreeNode::Link { digest } => Some(digest),
            TreeNode::Folder { .. } => None,
        }
    }

    /// The form that an explanation shows.
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

/// The bits of the mode that a tree records.
pub(crate) fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & if metadata.is_dir() { FOLDER_BITS } else { BITS }
}

/// Files, links and folders by path, relative to the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, TreeNode>);

impl Tree {
    /// The digest of all paths, modes and contents.
    pub(crate) fn digest(&self) -> Digest {
        let mut hashing = Hashing::default();
        for (path, node) in &self.0 {
            hashing.field(path.as_bytes());
            hashing.update(&node.field());
        }
        hashing.finish()
    }

    /// The first few paths at which the two trees differ.
    pub(crate) fn differing(&self, other: &Tree) -> Vec<String> {
        const FEW: usize = 3;
        let own = self.0.iter().filter(|(path, node)| other.0.get(*path) != Some(node)).map(|(path, _)| path);
        let more = other.0.keys().filter(|path| !self.0.contains_key(*path));
        own.chain(more).take(FEW).cloned().collect()
    }
}

/// The digest of a set of files: names, kinds, modes and content. A program can't distinguish two sets with the same
/// digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TreeDigest(String);

impl TreeDigest {
    pub(crate) fn of(tree: &Tree) -> TreeDigest {
        TreeDigest(tree.digest().to_string())
    }

    /// The digest as `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
