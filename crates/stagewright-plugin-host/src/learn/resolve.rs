//! Resolves the paths that programs used to paths of the workspace.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use stagewright_model::WorkspacePath;

/// The most links that are followed for one path, as in the kernel.
const LINKS: usize = 40;

/// A resolved path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The links on the way. A grant follows no link: each of them has to be granted as well.
    pub(super) links: Vec<WorkspacePath>,
    /// Where the path leads; none if it leaves the workspace, or isn't UTF-8.
    pub(super) path: Option<WorkspacePath>,
    /// The absolute path to which a link leaves the workspace.
    pub(super) outside: Option<PathBuf>,
}

/// Resolves a path below the workspace. `files`: the folder with its files. `root`: its path, to which absolute links
/// refer. `follows`: whether a link at the very end is followed.
pub(super) fn resolve(files: &Path, root: &Path, below: &Path, follows: bool) -> Resolved {
    let mut left: VecDeque<OsString> = names(below).collect();
    let (mut at, mut links) = (WorkspacePath::default(), Vec::new());
    while let Some(name) = left.pop_front() {
        if name == ".." {
            let Some(parent) = at.parent() else { return Resolved { links, ..Resolved::default() } };
            at = parent;
            continue;
        }
        let Some(name) = name.to_str() else { return Resolved { links, ..Resolved::default() } };
        let next = at.join(name);
        let target = files.join(next.as_path()).read_link().ok().filter(|_| follows || !left.is_empty());
        let Some(target) = target else {
            at = next;
            continue;
        };
        links.push(next);
        let target = match target.strip_prefix(root) {
            Ok(below) => {
                at = WorkspacePath::default();
                below.to_owned()
            }
            Err(_) if links.len() > LINKS => return Resolved { links, ..Resolved::default() },
            Err(_) if target.is_absolute() => {
                let outside = left.iter().fold(target, |folder, name| folder.join(name));
                return Resolved { links, outside: Some(outside), path: None };
            }
            Err(_) => target,
        };
        names(&target).rev().for_each(|name| left.push_front(name));
    }
    Resolved { links, path: Some(at), outside: None }
}

/// The names of a relative path, with `..`.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let path = PathBuf::from(path);
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    names.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_workspace_and_noted() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path();
        std::fs::create_dir_all(files.join("pkg/bin")).unwrap();
        std::fs::write(files.join("pkg/bin/tool"), "").unwrap();
        symlink("pkg", files.join("near")).unwrap();
        symlink("/repo/pkg/bin", files.join("far")).unwrap();
        symlink("/usr/bin/env", files.join("out")).unwrap();
        symlink("loop", files.join("loop")).unwrap();
        let path = |text: &str| WorkspacePath::parse(text).unwrap();
        let resolved = |text: &str, follows| resolve(files, Path::new("/repo"), Path::new(text), follows);
        let led = |links: &[&str], to: Option<&str>| Resolved {
            links: links.iter().map(|link| path(link)).collect(),
            path: to.map(path),
            outside: None,
        };
        assert_eq!(resolved("near/bin/tool", true), led(&["near"], Some("pkg/bin/tool")));
        assert_eq!(resolved("near/../x", true), led(&["near"], Some("x")));
        assert_eq!(resolved("far/../bin/tool", true), led(&["far"], Some("pkg/bin/tool")));
        assert_eq!(resolved("far/tool", false), led(&["far"], Some("pkg/bin/tool")));
        assert_eq!(resolved("near", false), led(&[], Some("near")));
        let outside = Some(PathBuf::from("/usr/bin/env"));
        assert_eq!(resolved("out", true), Resolved { outside, ..led(&["out"], None) });
        assert_eq!(resolved("../x", true), led(&[], None));
        assert_eq!(resolved("loop", true).path, None);
    }
}
